"""Explanations: the numbers they give against brute force over exact populations, and what they say."""

import json
import string
import subprocess
import sys
from decimal import Decimal
from fractions import Fraction

import oracle
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from making import exact_moments, program
from msgspec.structs import replace
from strategies import examples

import hensa
from hensa import DataError, Program
from hensa.explanation import NAMES, WORDS
from hensa.next_step import Further
from hensa.program import Criterion, RateTable, Stages

HAPITAS = Program.load("hapitas-friend")
WORKED = {"new_referrals": [10] * 99 + [5000], "ad_users": [7] * 100, "friend_points": [100_005] * 100}
"""The domain's example. The mean is 59.9 and the variance 99 * 49.9^2 / 100 + 4940.1^2 / 100 = 246,510.99."""


def row_at(rows, index):
    return {name: values[index] for name, values in rows.items()}


def explained(rows, index, rules=HAPITAS, **options):
    return hensa.explain(row_at(rows, index), rules, hensa.population(rows, rules), **options)


# --- brute force: the number of thresholds that a score reaches, by the independent oracle ---------------------------


def reached(parts, rules):
    """How many thresholds centre + Σ factor/√variance reaches."""
    step = oracle._row(parts, rules).step
    off_table = step == 0 and not oracle._reaches(parts, rules.rule.centre - rules.rates.thresholds[0])
    return 0 if step is None or off_table else step + 1


def parts_of(rows, index, rules, measured):
    """(factor, variance) of each measure that is not constant, in the population of `measured`."""
    rule = rules.rule
    total = sum(measure.weight for measure in rule.measures)
    found = []
    for measure in rule.measures:
        mean, variance = exact_moments([Fraction(x) for x in measured[measure.column]], rule.ddof)
        if variance:
            x = Fraction(rows[measure.column][index])
            found.append((rule.scale * measure.weight / total * (x - mean), variance))
    return found


def with_further(rows, index, column, number):
    values = list(rows[column])
    values[index] += number
    return {**rows, column: values}


def target_of(rows, index, rules):
    """How many thresholds the next step takes; None on the highest."""
    count = max(reached(parts_of(rows, index, rules, rows), rules), rules.rates.below == "first")
    return None if count == len(rules.rates.steps) else count + 1


def brute_force(rows, index, rules, column, own, numbers):
    """The first of some numbers that reaches the next step."""
    target = target_of(rows, index, rules)
    for number in numbers if target else ():
        changed = with_further(rows, index, column, number)
        if reached(parts_of(changed, index, rules, changed if own else rows), rules) >= target:
            return number
    return None


MOST = 25
FAR = [10**2, 10**3, 10**6, 10**12]


def check(rows, index, rules, column, own, number):
    by_force = brute_force(rows, index, rules, column, own, range(1, MOST + 1))
    if number is not None and number > MOST:
        assert by_force is None
        assert brute_force(rows, index, rules, column, own, [number - 1]) is None
        assert brute_force(rows, index, rules, column, own, [number]) == number
    else:
        assert number == by_force
    if number is None:
        assert brute_force(rows, index, rules, column, own, FAR) is None


weights = st.one_of(st.sampled_from([1, 1, 2, "1/3", 0, -1]), st.fractions(-3, 3, max_denominator=9))


@st.composite
def cases(draw):
    names = "xyz"[: draw(st.integers(1, 3))]
    length = draw(st.integers(2, 7))
    largest = draw(st.sampled_from([1, 3, 20, 1000]))
    column = st.lists(st.integers(-1, largest), min_size=length, max_size=length)
    alike = st.integers(0, largest).map(lambda x: [x] * length)
    rows = {name: draw(st.one_of(column, column, column, alike)) for name in names}
    far = draw(st.sampled_from([0, 0, 10**9, 10**15, 2**61]))  # where float64 loses the last digits
    rows = {name: [far + x for x in values] for name, values in rows.items()}
    given_weights = [draw(weights) for _ in names]
    total = sum(map(Fraction, given_weights))
    if not total:
        given_weights[0] = Fraction(given_weights[0]) + 1
    thresholds = draw(
        st.lists(
            st.one_of(st.integers(45, 56), st.decimals(45, 56, places=1)), min_size=1, max_size=8, unique=True
        ).map(sorted)
    )
    rules = program(
        list(zip(names, given_weights, strict=True)),
        [(threshold, place) for place, threshold in enumerate(thresholds)],
        None,
        rule={"scale": draw(st.sampled_from([1, 10, -1, "1/2"])), "ddof": draw(st.integers(0, 1))},
        rates={"below": draw(st.sampled_from(["first", "zero"]))},
    )
    return rows, rules


@examples(60)
@given(cases())
def test_the_columns_give_the_first_number_that_brute_force_finds(case):
    rows, rules = case
    for own in (False, True):
        found = hensa.to_next_step(rows, rules, own_effect=own)
        for column in rows:
            for index, number in enumerate(found[f"to_next_step_{column}"].to_pylist()):
                check(rows, index, rules, column, own, number)


@examples(30)
@given(cases())
def test_an_explanation_gives_the_numbers_of_the_columns(case):
    rows, rules = case
    fixed, own = (hensa.to_next_step(rows, rules, own_effect=effect) for effect in (False, True))
    for index in range(fixed.num_rows):
        target = explained(rows, index, rules).to_dict()["next_step"]
        for column in rows:
            numbers = target["further"][column] if target else {"population_fixed": None, "own_effect": None}
            name = f"to_next_step_{column}"
            assert numbers == {"population_fixed": fixed[name][index].as_py(), "own_effect": own[name][index].as_py()}


def test_worked_example_takes_50_more_or_51_as_the_members_own_number_moves_the_mean():
    # z >= 0 takes 60 >= 59.9; but then the mean is 60.4, and 61 >= 60.41.
    further = explained(WORKED, 0).to_dict()["next_step"]["further"]
    assert further["new_referrals"] == {"population_fixed": 50, "own_effect": 51}


def test_what_every_member_has_takes_one_more_and_lifts_the_score_by_half_the_root_of_99():
    # The only one with 8: z = sqrt(99) = 9.9499, and (49.8995 + 59.9499) / 2 >= 50. With the SD held at 0 nothing does.
    further = explained(WORKED, 0).to_dict()["next_step"]["further"]
    assert further["ad_users"] == {"population_fixed": None, "own_effect": 1}


def test_the_outlier_gets_no_further_by_its_own_number():
    # Fixed: z >= 10 takes x >= 59.9 + 10 * 496.49873 = 5024.8873, 25 more. But no z in 100 rows is above sqrt(99) < 10.
    assert (5024 - Fraction("59.9")) ** 2 < 100 * Fraction("246510.99") <= (5025 - Fraction("59.9")) ** 2
    further = explained(WORKED, 99).to_dict()["next_step"]["further"]
    assert further["new_referrals"] == {"population_fixed": 25, "own_effect": None}


def test_a_limit_that_is_a_threshold_is_reached_only_if_all_other_rows_are_alike():
    # No z among 5 rows is above sqrt(4) = 2, and it is 2 for one against four equal ones.
    rules = program("x", [(0, 1), (52, 2)], None)
    alike, unlike = {"x": [3, 3, 3, 3, 0]}, {"x": [3, 3, 3, 4, 0]}
    for rows, number in ((alike, 4), (unlike, None)):
        assert hensa.to_next_step(rows, rules, own_effect=True)["to_next_step_x"][4].as_py() == number
        assert explained(rows, 4, rules).to_dict()["next_step"]["further"]["x"]["own_effect"] == number


def test_just_below_the_limit_a_large_number_is_found():
    # d, 0, 0, 0, 1 have the mean (d + 1)/5 and the variance (d^2 + 1)/5 - (d + 1)^2/25 = (4d^2 - 2d + 4)/25,
    # and z = (4d - 1)/sqrt(4d^2 - 2d + 4) >= 1.999999.
    share = Fraction("1.999999") ** 2
    least = next(d for d in range(1, 2000) if (4 * d - 1) ** 2 >= share * (4 * d * d - 2 * d + 4))
    rules = program("x", [(0, 1), ("51.999999", 2)], None)
    rows = {"x": [0, 0, 0, 0, 1]}
    assert hensa.to_next_step(rows, rules, own_effect=True)["to_next_step_x"][0].as_py() == least


@pytest.mark.parametrize("below", range(29_999_990, 30_000_010, 3))
def test_a_row_far_below_alike_rows_of_large_numbers_is_not_decided_by_rounded_ones(below):
    # float64 holds the mean to about 1e-4; times a deviation of 3e7 that is more than the spread of the others
    others = [10**12, 10**12 + 1] * 5000
    rows = {"x": [10**12 - below, *others]}
    found = hensa.to_next_step(rows, program("x", [(0, 1), (90, 2)], None), own_effect=True)["to_next_step_x"][
        0
    ].as_py()

    def reaches(number):  # 40 SDs
        mean, variance = exact_moments([10**12 - below + number, *others])
        deviation = 10**12 - below + number - mean
        return deviation > 0 and deviation**2 >= 40**2 * variance

    assert reaches(found)
    assert not reaches(found - 1)


@pytest.mark.parametrize("constant", ["null", "error"])
def test_a_number_that_makes_all_rows_alike_reaches_nothing_where_these_have_no_score(constant):
    # 3 more make five threes: z = 0 reaches 50 by "centre"; else it takes one more still.
    rows = {"x": [3, 3, 3, 3, 0]}
    steps = [(0, 1), (50, 2)]
    numbers = [
        hensa.to_next_step(rows, program("x", steps, None, rule={"constant": rule}), own_effect=True)
        for rule in ("centre", constant)
    ]
    assert [found["to_next_step_x"][4].as_py() for found in numbers] == [3, 4]


def test_decimal_and_float_measures_are_counted_up_exactly():
    # means 1 and SDs 1
    rows = {"x": pa.array([Decimal("0.0"), Decimal("2.0")], pa.decimal128(9, 1)), "y": pa.array([0.0, 2.0])}
    found = hensa.to_next_step(rows, program("xy", [(0, 1), (50, 2)], None))
    assert found["to_next_step_x"].to_pylist() == [2, None]  # the other measure's z is -1, so this one's must be 1
    assert found["to_next_step_y"].to_pylist() == [2, None]


def test_a_number_beyond_int64_is_an_error_that_names_the_row():
    rows = {"x": pa.array([-(2**63), 2**63 - 1, 0])}
    with pytest.raises(DataError, match=r"Row 0 takes \d+ further units of column 'x'.*beyond int64"):
        hensa.to_next_step(rows, program("x", [(0, 1), (60, 2)], None))


def test_integers_beyond_float64_are_decided_by_integers():
    # mean 2^62, so 50 is reached from there; float64 cannot tell 2^62 - 1 from it
    rows = {"x": [2**62 - 1, 2**62 + 1, 2**62 - 3, 2**62 + 3]}
    found = hensa.to_next_step(rows, program("x", [(0, 1), (50, 2)], None))
    assert found["to_next_step_x"].to_pylist() == [1, None, 3, None]


def test_rows_whose_variance_is_beyond_float64_are_decided_by_integers():
    # One of four is s and the others 0: these are 1/√3 SDs below the mean, and z = -0.1 is at (1/4 - √3/40)s = 0.21s.
    rules = program("x", [(0, 1), ("49.9", 2), (51, 3)], None)
    with pytest.raises(DataError, match=r"Row 0 takes \d+ further units of column 'x'.*beyond int64"):
        hensa.to_next_step({"x": [0.0, 0.0, 0.0, 2.0**600]}, rules)
    found = hensa.to_next_step({"x": [0.0, 0.0, 0.0, 2.0**-600]}, rules)
    assert found["to_next_step_x"].to_pylist() == [1, 1, 1, None]


def test_rows_without_a_score_and_on_the_highest_step_have_no_number():
    rows = {"x": [0, 2, None, 9, 1], "b": [1, 1, 1, None, 1], "other": list("abcde")}
    found = hensa.to_next_step(rows, program("x", [(0, 1), (50, 2)], "b"))
    assert found.column_names == ["x", "b", "other", "to_next_step_x"]  # mean 1
    assert found["to_next_step_x"].to_pylist() == [1, None, None, None, None]


def test_a_population_of_another_month_is_held_fixed():
    month = {"new_referrals": [0, 20], "ad_users": [0, 20]}  # mean 10, SD 10
    row = {"new_referrals": 10, "ad_users": 10, "friend_points": 100}
    facts = hensa.explain(row, HAPITAS, hensa.population(month, HAPITAS), included=False).to_dict()
    # from 50 to 51: (10 + d - 10) / 10 = 2
    assert facts["next_step"]["further"]["new_referrals"] == {"population_fixed": 20}


def test_a_row_that_cannot_be_in_the_population_is_an_error_unless_apart():
    month = hensa.population({"new_referrals": [0, 20], "ad_users": [0, 20]}, HAPITAS)
    row = {"new_referrals": 500, "ad_users": 10, "friend_points": 100}
    with pytest.raises(DataError, match="Column 'new_referrals' is 500, and no population of 2 rows"):
        hensa.explain(row, HAPITAS, month)
    with pytest.raises(DataError, match="Column 'new_referrals' is 500"):
        hensa.to_next_step({name: [value] for name, value in row.items()}, HAPITAS, month, own_effect=True)


def test_welfords_moments_are_taken_as_they_are():
    rows = {name: values * 3 for name, values in WORKED.items()}
    exact, rounded = (
        hensa.explain(row_at(rows, 0), HAPITAS, hensa.population(rows, HAPITAS, method=method)).to_dict()
        for method in ("exact", "welford")
    )
    assert exact["next_step"] == rounded["next_step"]


def test_nearly_all_rows_of_a_sample_are_decided_without_integers(monkeypatch):
    asked = []
    for name in ("fixed", "own"):
        monkeypatch.setattr(Further, name, lambda *args: asked.append(args))
    for own in (False, True):
        hensa.to_next_step(hensa.sample(20_000), HAPITAS, own_effect=own)
    assert len(asked) < 20


@examples(80)
@given(cases(), st.data())
def test_the_columns_of_a_rate_give_the_first_number_that_brute_force_finds(case, data):
    rows, rules = case
    n = len(rules.rates.steps)
    paid = data.draw(st.lists(st.integers(0, 3), min_size=n, max_size=n))  # rates that need not rise
    steps = [(step.threshold, rate) for step, rate in zip(rules.rates.steps, paid, strict=True)]
    rules = replace(rules, rates=replace(rules.rates, steps=steps))
    wanted = data.draw(st.integers(0, 3))

    def is_paid(parts, above):
        count = max(reached(parts, rules), rules.rates.below == "first")
        return (paid[count - 1] if count else 0) >= wanted and count > above

    for own in (False, True):
        found = hensa.to_next_step(rows, rules, own_effect=own, rate=wanted)
        for column in rows:
            for index, number in enumerate(found[f"to_rate_{column}"].to_pylist()):
                parts = parts_of(rows, index, rules, rows)
                above = max(reached(parts, rules), rules.rates.below == "first")
                if is_paid(parts, -1):
                    assert number == 0
                    continue

                def by_force(numbers, column=column, index=index, above=above, own=own):
                    for number in numbers:
                        changed = with_further(rows, index, column, number)
                        if is_paid(parts_of(changed, index, rules, changed if own else rows), above):
                            return number
                    return None

                first = by_force(range(1, MOST + 1))
                if number is not None and number > MOST:
                    assert first is None
                    assert by_force([number - 1, number]) == number
                else:
                    assert number == first


@examples(30)
@given(cases(), st.integers(0, 8))
def test_an_explanation_gives_the_numbers_of_the_columns_of_a_rate(case, wanted):
    rows, rules = case
    fixed, own = (hensa.to_next_step(rows, rules, own_effect=effect, rate=wanted) for effect in (False, True))
    for index in range(fixed.num_rows):
        named = explained(rows, index, rules, rate=wanted).to_dict()["named_rate"]
        nothing = dict.fromkeys(("population_fixed", "own_effect"), 0 if named["is_paid"] else None)
        for column in rows:
            numbers = named["further"][column] if "further" in named else nothing
            name = f"to_rate_{column}"
            assert numbers == {"population_fixed": fixed[name][index].as_py(), "own_effect": own[name][index].as_py()}


# --- cohorts ----------------------------------------------------------------------------------------------------------


@st.composite
def cases_of_cohorts(draw):
    """A case, the site of each of its rows, and the rows of each site."""
    rows, rules = draw(cases())
    n = len(next(iter(rows.values())))
    sites = draw(st.lists(st.sampled_from("abc"), min_size=n, max_size=n))
    indices = {site: [i for i in range(n) if sites[i] == site] for site in set(sites)}
    assume(all(len(own) > rules.rule.ddof for own in indices.values()))
    return rows, rules, sites, indices


@examples(40)
@given(cases_of_cohorts(), st.booleans(), st.booleans())
def test_the_columns_by_cohort_give_the_first_number_that_brute_force_finds_in_the_cohort(case, own, is_stored):
    rows, rules, sites, indices = case
    table = {**rows, "site": sites}
    stored = hensa.population(table, rules, by="site") if is_stored else None
    found = hensa.to_next_step(table, rules, stored, by="site", own_effect=own)
    for site, at in indices.items():
        own_rows = {name: [values[i] for i in at] for name, values in rows.items()}
        for column in rows:
            numbers = found[f"to_next_step_{column}"]
            for index, row in enumerate(at):
                assert table["site"][row] == site
                check(own_rows, index, rules, column, own, numbers[row].as_py())


@examples(30)
@given(cases_of_cohorts(), st.integers(0, 8))
def test_an_explanation_by_cohort_gives_the_numbers_of_the_columns(case, wanted):
    rows, rules, sites, _ = case
    table = {**rows, "site": sites}
    population = hensa.population(table, rules, by="site")
    fixed, own = (
        hensa.to_next_step(table, rules, by="site", own_effect=effect, rate=wanted).to_pylist()
        for effect in (False, True)
    )
    for index, numbers in enumerate(zip(fixed, own, strict=True)):
        facts = hensa.explain(row_at(table, index), rules, population, by="site", rate=wanted).to_dict()
        for key, to in (("next_step", "to_next_step"), ("named_rate", "to_rate")):
            target = facts[key] or {"is_paid": False}
            nothing = dict.fromkeys(("population_fixed", "own_effect"), 0 if target.get("is_paid") else None)
            for column in rows:
                expected = target["further"][column] if "further" in target else nothing
                assert [expected["population_fixed"], expected["own_effect"]] == [
                    each[f"{to}_{column}"] for each in numbers
                ]


def test_by_cohort_rows_without_a_score_have_no_number_and_a_cohort_of_none_is_no_error():
    # a: mean 1, SD 1, so 50 takes one more; b has one row, whose 50 only falls; no row of c counts
    rows = {"site": ["a", "a", "b", "c", "a"], "x": [0, 2, 7, None, None]}
    found = hensa.to_next_step(rows, program("x", [(0, 1), (50, 2), (51, 3)], None), by="site")
    assert found.column_names == ["site", "x", "to_next_step_x"]
    assert found["to_next_step_x"].to_pylist() == [1, None, None, None, None]


def test_a_row_whose_cohort_the_population_lacks_has_no_next_step():
    rows, rules = {"site": ["a", "a", "b"], "x": [0, 2, 7]}, program("x", [(0, 1), (50, 2)], None)
    stored = hensa.population({name: values[:2] for name, values in rows.items()}, rules, by="site")
    with pytest.raises(DataError, match="The population of cohort 'b', of row 2, is not there"):
        hensa.to_next_step(rows, rules, stored, by="site")
    with pytest.raises(DataError, match="'country'"):
        hensa.to_next_step(rows, rules, by="country")


def test_stages_take_the_same_in_every_cohort():
    rows = {"site": ["a", "b"], "cumulative_referrals": [2, 3], "own_points": [0, 0]}
    found = hensa.to_next_step(rows, HAPI_TOMO, by="site")
    assert found["to_next_step_cumulative_referrals"].to_pylist() == [1, 7]  # stages begin at 3 and at 10


# --- a named rate -----------------------------------------------------------------------------------------------------


def test_a_named_rate_is_reached_at_its_threshold():
    # 12% from step 52. Fixed: z >= 4 takes 59.9 + 4 * 496.49873 = 2045.895, so 2046 - 10 more. With the own effect,
    # x + d, 98 tens and 5000: mean (5980 + x + d)/100.
    def z_squared(x):
        values = [x] + [10] * 98 + [5000]
        mean, variance = exact_moments(values)
        return (x - mean) ** 2 / variance

    least = next(d for d in range(2000, 3000) if z_squared(10 + d) >= 16)
    named = explained(WORKED, 0, rate="12").to_dict()["named_rate"]
    assert (named["step"], named["threshold"], named["rate"]) == (52, "52", "12.0")
    assert named["further"]["new_referrals"] == {"population_fixed": 2036, "own_effect": least}


@pytest.mark.parametrize(("rate", "is_paid"), [("9.8", True), (Decimal("9.80"), True), (3, True), (46, False)])
def test_a_rate_that_is_paid_already_or_nowhere_takes_nothing(rate, is_paid):
    named = explained(WORKED, 0, rate=rate).to_dict()["named_rate"]
    assert named == {"wanted": str(rate), "is_paid": is_paid}


def test_a_step_that_every_number_jumps_over_is_not_reached_and_a_later_one_is():
    # mean 1, SD 1: 3 more give 53, 4 more 54. Rates of 5% or more: from 52.5 to below 52.9, and from 53.5 on.
    rows = {"x": [0, 2]}
    steps = [(0, 1), ("52.5", 5), ("52.9", 2), ("53.5", 6)]
    further = explained(rows, 0, program("x", steps, None), rate=5).to_dict()["named_rate"]["further"]
    assert further["x"]["population_fixed"] == 5  # -1 + 5 = 4 >= 3.5
    further = explained(rows, 0, program("x", steps[:3], None), rate=5).to_dict()["named_rate"]["further"]
    assert further["x"]["population_fixed"] is None


@pytest.mark.parametrize("rate", [27.5, "much", "nan", b"1"])
def test_a_rate_that_is_no_decimal_is_refused(rate):
    with pytest.raises(DataError, match="it must be a decimal number in the unit of the rate table"):
        explained(WORKED, 0, rate=rate)


# --- what is said ----------------------------------------------------------------------------------------------------

ENGLISH = """\
Hapitas Friend (ハピタスフレンド)
Your rate is 9.8% and your reward 9,800 points.
You are compared with a population of 100 members.
New referrals: you have 10. The mean is 59.9 and the standard deviation 496.49873, so your standard score is \
(10 - 59.9) / 496.49873 + 50 = 49.8995.
Ad users: you have 7, as has every one of them, so your standard score is 50.
Your score is the mean of these standard scores: 49.9497.
A score from 49 to below 50 is on step 49, which pays 9.8%.
Friend points: 100,005 x 9.8% = 9,800.49, rounded down, so your reward is 9,800 points.
The next step, 50, starts at a score of 50 and pays 10%. All else being equal, it takes:
- New referrals: 50 more if the mean and the standard deviation stay as they are; 51 more when your own number moves \
them too.
- Ad users: no number reaches it if the mean and the standard deviation stay as they are; 1 more when your own number \
moves them too.
Not published, and filled in by us: that the variance divides by n, the standard score where all members have the \
same, how points are rounded."""

JAPANESE = """\
ハピタスフレンド
ポイント率は9.8%、付与ポイントは9,800ポイントです。
集計対象の100人と比べています。
新規紹介登録者数は10人です。平均は59.9、標準偏差は496.49873なので、偏差値は（10 - 59.9）÷ 496.49873 + 50 = 49.8995です。
広告利用者数は7人で、全員が同じ値なので、偏差値は50です。
スコアはこれらの偏差値の平均で、49.9497です。
スコア49以上50未満はステップ49で、ポイント率は9.8%です。
有効ポイント100,005ポイント × 9.8% = 9,800.49、端数切り捨てなので、付与ポイントは9,800ポイントです。
次のステップ50はスコア50以上で、ポイント率は10%です。ほかの数値が同じ場合に必要な数は次のとおりです。
・新規紹介登録者数：平均と標準偏差が変わらなければ、あと50人。ご自身の数による平均と標準偏差の変化も含めると、あと51人。
・広告利用者数：平均と標準偏差が変わらなければ、いくつ増えても届きません。\
ご自身の数による平均と標準偏差の変化も含めると、あと1人。
次の点は公表されておらず、当方で補ったものです：分散をnで割ること、全員が同じ値のときの偏差値、ポイントの端数処理。"""


@pytest.mark.parametrize(("lang", "text"), [("en", ENGLISH), ("ja", JAPANESE)])
def test_worked_example_in_words(lang, text):
    # SD sqrt(246,510.99) = 496.498731; z = -49.9 / 496.498731 = -0.100504; score 50 - 0.050252
    assert str(explained(WORKED, 0, lang=lang)) == text


def test_a_reconstructed_rate_is_said_to_be_one():
    # the outlier: 50 + sqrt(99)/2 is on step 54, and 54 and 55 are fill-ins
    assert explained(WORKED, 99).to_dict()["standing"]["rates.steps[54]"] == "reconstructed"
    assert "filled in by us: the rate of step 54, the rate of step 55, " in explained(WORKED, 99).text
    assert (
        "当方で補ったものです：ステップ54のポイント率、ステップ55のポイント率、"
        in explained(WORKED, 99, lang="ja").text
    )


def test_both_languages_have_the_same_sentences_about_the_same_facts():
    fields = {
        lang: {
            key: {field for _, field, _, _ in string.Formatter().parse(text) if field} for key, text in words.items()
        }
        for lang, words in WORDS.items()
    }
    assert fields["en"] == fields["ja"]
    assert NAMES["en"].keys() == NAMES["ja"].keys()


def test_the_facts_are_those_of_the_score_and_are_json():
    rows = hensa.sample(300).read_all()
    columns = ("score", "step", "reward", "new_referrals_score")
    scored = hensa.score(rows, HAPITAS, columns=columns).to_pylist()
    population = hensa.population(rows, HAPITAS)
    for row in scored[::50]:
        facts = hensa.explain({name: row[name] for name in rows.column_names}, HAPITAS, population).to_dict()
        assert json.loads(json.dumps(facts)) == facts
        assert [facts["score"], facts["step"], facts["reward"]["points"]] == [row[name] for name in columns[:3]]
        assert facts["measures"][0]["standard_score"] == row["new_referrals_score"]


def test_a_score_just_below_a_threshold_does_not_look_like_it():
    rows = {"x": [1_000_000] * 2 + [0, 2_000_001], "b": [1] * 4}
    text = explained(rows, 0, program("x", [(0, 1), (50, 2)])).text
    # mean 1,000,000.25, SD sqrt((2 * 0.25^2 + 1,000,000.25^2 + 1,000,000.75^2) / 4) = 707,107.13; z = -3.5355e-7
    assert "Your score is this standard score: 49.9999996." in text


def test_one_point_is_told_in_the_singular():
    rows = {name: [1, 1] for name in HAPITAS.columns} | {"friend_points": [15, 15]}  # 10% of 15, rounded down
    assert "your reward 1 point." in explained(rows, 0).text
    assert "rounded down, so your reward is 1 point." in explained(rows, 0).text
    assert "付与ポイントは1ポイントです。" in explained(rows, 0, lang="ja").text


@pytest.mark.parametrize(
    ("values", "told"),
    [
        # mean 2^27 + 1/4 and SD 2^27 - 1/4: of the value all digits, of the others those before the point
        ((0.5, 2.0**28), "you have 0.5. The mean is 134,217,728 and the standard deviation 134,217,728, so"),
        ((1234567.875, 1234569.875), "you have 1,234,567.875. The mean is 1,234,568.9 and the standard deviation 1, "),
        ((0.0, 2.0**-16), "you have 0. The mean is 0.0000076293945 and the standard deviation 0.0000076293945, so"),
        ((300.0, 100.0), "you have 300. The mean is 200 and the standard deviation 100, so"),
    ],
)
def test_large_and_small_numbers_are_told_without_exponents(values, told):
    assert told in explained({"x": list(values)}, 0, program("x", [(0, 1), (50, 2)], None)).text


def test_weights_scale_and_a_share_are_told():
    rules = program(
        [("x", 2), ("y", 1)], [(0, "0.01"), (50, "0.5")], rule={"scale": 10, "ddof": 1}, rates={"unit": "share"}, cap=3
    )
    text = explained({"x": [0, 2], "y": [1, 3], "b": [8, 8]}, 1, rules).text
    # SD with ddof 1: sqrt(2); z = 1/sqrt(2) = 0.70711, times 10, and 50
    assert "(2 - 1) / 1.4142136 x 10 + 50 = 57.0711." in text
    assert "Your score is the mean of these standard scores with the weights 2, 1: 57.0711." in text
    assert "b: 8 x 50% = 4, at most 3, so your reward is 3 points." in text
    assert "There is no higher step." in text


def test_a_product_has_the_same_sign_throughout_a_text():
    rules = program("x", [(0, 1), (50, 2)], rule={"scale": 10})
    rows = {"x": [0, 2], "b": [100, 100]}
    english, japanese = (explained(rows, 1, rules, lang=lang).text for lang in ("en", "ja"))
    # mean 1, SD 1: z = 1, times 10, and 50
    assert "(2 - 1) / 1 x 10 + 50 = 60.0000" in english
    assert "100 x 2% = 2" in english
    assert "（2 - 1）÷ 1 × 10 + 50 = 60.0000" in japanese
    assert "100 × 2% = 2" in japanese


@pytest.mark.parametrize(
    ("rows", "rates", "sentence"),
    [
        ([0, 2], {}, "A score below 60 is on step 0, the lowest, which pays 1%."),
        ([0, 2], {"below": "zero"}, "A score below 40 is on no step and pays nothing."),
    ],
)
def test_a_score_below_the_table_is_told(rows, rates, sentence):
    rules = program("x", [(40, 1), (60, 2)], rule={"scale": 20}, rates=rates)
    assert sentence in explained({"x": rows, "b": [1, 1]}, 0, rules).text


def test_a_measure_that_does_not_raise_the_score_is_told():
    rules = program([("x", 2), ("y", -1)], [(0, 1), (52, 2)], None)
    found = explained({"x": [0, 2, 5], "y": [1, 3, 4]}, 0, rules)
    assert "- y: more does not raise your score." in found.text
    assert found.to_dict()["next_step"]["further"]["y"] == {"population_fixed": None, "own_effect": None}


def test_a_row_without_a_score_says_what_is_missing():
    rows = {"x": [1, 2, None], "b": [1, 1, 1]}
    assert str(explained(rows, 2, program("x"))) == "test\nYou have no score.\nx: not known."
    alike = {"x": [1, 1], "b": [1, 1]}
    rules = program("x", rule={"constant": "null"})
    assert str(explained(alike, 0, rules)) == "test\nYou have no score.\nx: the same for all of them."


def test_another_language_is_refused():
    with pytest.raises(DataError, match='lang is \'fr\'; it must be "en" or "ja"'):
        explained(WORKED, 0, lang="fr")


# --- stages -----------------------------------------------------------------------------------------------------------

HAPI_TOMO = Program.load("hapi-tomo")
NOBODY = hensa.Population(0, 0)


def staged(friends, own_points, before=0, points=1001, **options):
    row = {"cumulative_referrals": friends, "own_points": own_points, "friend_points": points, "stage_before": before}
    return hensa.explain(row, HAPI_TOMO, NOBODY, **options)


def test_a_stage_in_words():
    # 505 friends are on stage 7 of 500, at 40%: floor(400.4) + 5,000 for reaching it; stage 8 takes 1,000
    text = """\
Hapi-tomo (ハピ友)
Your rate is 40% and your reward 5,400 points.
Friends: you have 505, which reaches stage 7.
Own points: you have 100, which reaches no stage.
You are on the highest of these, stage 7, which pays 40%.
Stages that you reach for the first time pay 5,000 points once.
Friend points: 1,001 x 40% = 400.4, rounded down; with what is paid once, your reward is 5,400 points.
The next stage, 8, pays 40%, and 10,000 points once when it is first reached. \
Any one of these reaches it or a higher one:
- Friends: 495 more.
- Own points: no number does.
Not published, and filled in by us: how points are rounded, which stage counts as the one before."""
    assert str(staged(505, 100, None)) == text
    first = "次のステージ8のポイント率は40%、初めて届いたときのボーナスは10,000ポイント（1回限り）です。"
    assert first in str(staged(505, 100, lang="ja"))
    assert "次のステージ6のポイント率は40%です。" in str(staged(50, 100, lang="ja"))
    assert "・ハピ友の人数：あと495人。" in str(staged(505, 100, lang="ja"))


@pytest.mark.parametrize(
    ("friends", "own_points", "further"),
    [
        (0, 0, (1, 3000)),  # stage 1 takes a friend; own points reach stage 4 at 3,000 and no stage below
        (2, 2999, (1, 1)),
        (0, 3000, (50, None)),  # stage 4 by own points: stage 5 takes 50 friends
        (999, 0, (1, None)),
    ],
)
def test_the_next_stage_takes_friends_or_own_points(friends, own_points, further):
    facts = staged(friends, own_points, 8).to_dict()
    assert tuple(facts["next_step"]["further"].values()) == further


@pytest.mark.parametrize(
    ("friends", "before", "named", "bonuses"),
    [
        (99, 0, 40, (0, 0)),  # stage 6 pays nothing once
        (100, 6, 40, (5_000, None)),  # 40% is paid already
        (500, 6, 40, (10_000, None)),  # the 5,000 of stage 7 are of this month
        (100, 7, 40, (0, None)),  # stage 7 was reached before
        (100, 8, 40, (0, None)),
        (500, 8, 40, (0, None)),
        (100, ..., 40, (5_000, None)),  # nothing tells which stage was reached before
    ],
)
def test_what_a_stage_pays_once_is_told_of_the_next_one(friends, before, named, bonuses):
    row = {"cumulative_referrals": friends, "own_points": 0, "friend_points": 1} | {"stage_before": before}
    row = {name: value for name, value in row.items() if value is not ...}
    found = hensa.explain(row, HAPI_TOMO, NOBODY, rate=named)
    facts = found.to_dict()
    assert (facts["next_step"]["bonus"], facts["named_rate"].get("bonus")) == bonuses
    assert ("points once when it is first reached." in found.text) == any(bonuses)
    assert ("which stage counts as the one before" in found.text) == bool(bonuses[0] or facts["reward"]["bonus"])


def test_what_stages_pay_once_is_told_of_all_that_a_named_rate_takes():
    toml = (
        HAPI_TOMO.to_toml()
        .replace("[8, 40, ", "[8, 45, ")
        .replace('[8, 10000, "public"]', '[8, 10000, "reconstructed"]')
    )
    rules = Program.parse(toml)
    row = {"cumulative_referrals": 50, "own_points": 0, "friend_points": 1, "stage_before": 5}
    found = hensa.explain(row, rules, NOBODY, rate=45)
    assert found.to_dict()["named_rate"]["bonus"] == 15_000
    assert "is paid from stage 8 on, and 15,000 points once when it is first reached. Any one" in found.text
    assert "what stages pay once" in found.text.splitlines()[-1]
    said = hensa.explain(row, rules, NOBODY, "ja", rate=45).text
    assert "45%以上のポイント率はステージ8から、初めて届いたときのボーナスは15,000ポイント（1回限り）です。" in said


def test_there_is_no_stage_above_the_highest():
    assert staged(1000, 0, 8).to_dict()["next_step"] is None
    assert "There is no higher stage." in staged(1000, 0, 8).text


def test_a_rate_of_stages_is_named():
    named = staged(2, 0, rate="27.5").to_dict()["named_rate"]  # 30% from stage 4
    assert (named["stage"], named["rate"], named["further"]) == (
        4,
        "30",
        {"cumulative_referrals": 8, "own_points": 3000},
    )
    assert staged(2, 0, rate=15).to_dict()["named_rate"] == {"wanted": "15", "is_paid": True}
    assert "No higher stage pays 41% or more." in staged(2, 0, rate=41).text


def test_stages_are_the_facts_of_the_score():
    for friends, own_points, before in [(0, 0, 0), (3, 3000, 0), (700, 1, 6), (1000, 0, None)]:
        facts = staged(friends, own_points, before).to_dict()
        rows = {"cumulative_referrals": [friends], "own_points": [own_points], "friend_points": [1001]}
        paid = hensa.score({**rows, "stage_before": pa.array([before], pa.int8())}, HAPI_TOMO)
        assert (facts["stage"], facts["reward"]["points"]) == (paid["stage"][0].as_py(), paid["reward"][0].as_py())
        product, bonus = Fraction(facts["reward"]["product"]), facts["reward"]["bonus"]
        assert product // 1 + bonus == facts["reward"]["points"]
        assert json.loads(json.dumps(facts)) == facts


def test_a_row_without_a_stage_says_what_is_missing():
    assert str(staged(3, None)).splitlines()[1:] == ["Own points: not known."]


@st.composite
def stage_cases(draw):
    """Rows of two columns of some type, stages with rates that need not rise, and a rate to reach."""
    kind = draw(st.sampled_from(["int", "float", "decimal", "uint64"]))
    n = draw(st.integers(1, 4))
    steps = draw(st.lists(st.integers(0, 4), min_size=n, max_size=n))
    if kind in ("int", "uint64"):
        of, array = st.integers(0, 12), pa.int16() if kind == "int" else pa.uint64()
    elif kind == "float":
        of, array = st.sampled_from([0.0, 0.1, 0.5, 1.25, 2.0, 3.75, 8.0, 1e-20, -1e-20]), pa.float64()
    else:
        of, array = st.decimals(-2, 12, places=2), pa.decimal128(9, 2)
    length = draw(st.integers(1, 6))
    rows = {name: draw(st.lists(of, min_size=length, max_size=length)) for name in "xy"}
    minimum = st.one_of(st.integers(0, 10).map(Decimal), st.decimals(0, 10, places=1))
    criteria = []
    for stages in ([*range(1, n + 1)], draw(st.lists(st.integers(1, n), unique=True, min_size=1).map(sorted))):
        minimums = draw(st.lists(minimum, min_size=len(stages), max_size=len(stages), unique=True).map(sorted))
        criteria.append(list(zip(stages, minimums, strict=True)))
    rules = Program(
        name="stages",
        rule=Stages(criteria=[Criterion(name, each) for name, each in zip("xy", criteria, strict=True)]),
        rates=RateTable(below="zero", steps=[(stage, rate) for stage, rate in enumerate(steps, start=1)]),
    )
    table = pa.table({name: pa.array(values, array) for name, values in rows.items()})
    return rows, table, rules, draw(st.integers(0, 4))


@examples(150)
@given(stage_cases())
def test_the_columns_of_stages_give_the_first_number_that_brute_force_finds(case):
    rows, table, rules, wanted = case
    found = hensa.to_next_step(table, rules, rate=wanted)
    names = ["to_next_step_x", "to_next_step_y", "to_rate_x", "to_rate_y"]
    assert found.column_names == ["x", "y", *names]
    criteria = {criterion.column: criterion.minimums for criterion in rules.rule.criteria}

    def stage(values):
        reached = (e.stage for name in "xy" for e in criteria[name] if Fraction(values[name]) >= Fraction(e.minimum))
        return max(reached, default=0)

    def rate(values):
        return rules.rates.steps[stage(values) - 1].rate if stage(values) else 0

    def first(row, column, fits):
        # from 15 on the values are beyond all minimums
        changed = ({**row, column: Fraction(row[column]) + number} for number in range(16))
        return next((number for number, values in enumerate(changed) if fits(values)), None)

    for index in range(table.num_rows):
        row = row_at(rows, index)
        for column in "xy":
            assert found[f"to_next_step_{column}"][index].as_py() == first(
                row, column, lambda values, row=row: stage(values) > stage(row)
            )
            assert found[f"to_rate_{column}"][index].as_py() == first(
                row,
                column,
                lambda values, row=row: rate(values) >= wanted and (stage(values) > stage(row) or values == row),
            )
        facts = hensa.explain(table.slice(index, 1).to_pylist()[0], rules, NOBODY, rate=wanted).to_dict()
        for key, to in (("next_step", "to_next_step"), ("named_rate", "to_rate")):
            further = (facts[key] or {}).get("further")
            paid = key == "named_rate" and facts[key]["is_paid"]
            expected = further or dict.fromkeys("xy", 0 if paid else None)
            assert expected == {column: found[f"{to}_{column}"][index].as_py() for column in "xy"}


def test_the_columns_of_hapi_tomo():
    rows = {
        "cumulative_referrals": [0, 2, 3, 999, 1000, None],
        "own_points": [0, 2999, 3000, 0, 0, 0],
        "friend_points": [1] * 6,
    }
    found = hensa.to_next_step(rows, HAPI_TOMO, rate=30).to_pydict()
    # by friends to 1, 3, 50 (stage 4 is reached by own points), 1,000; 30% is paid from stage 4 on, of 10 friends
    assert found["to_next_step_cumulative_referrals"] == [1, 1, 47, 1, None, None]
    assert found["to_next_step_own_points"] == [3000, 1, None, None, None, None]
    assert found["to_rate_cumulative_referrals"] == [10, 8, 0, 0, 0, None]
    assert found["to_rate_own_points"] == [3000, 1, 0, 0, 0, None]


def test_what_a_stage_takes_beyond_int64_is_an_error_that_names_the_row():
    rules = HAPI_TOMO.to_toml().replace("[4, 3000,", "[4, 9223372036854775807,")
    rows = {"cumulative_referrals": [1, 1], "own_points": [0, -1], "friend_points": [1, 1]}
    with pytest.raises(DataError, match="Row 1 takes 9223372036854775808 further units of column 'own_points'"):
        hensa.to_next_step(rows, Program.parse(rules))
    rows["own_points"] = [0, 1]
    found = hensa.to_next_step(rows, Program.parse(rules))["to_next_step_own_points"].to_pylist()
    assert found == [2**63 - 1, 2**63 - 2]


def test_what_a_decimal_of_any_scale_takes_is_exact():
    own_points = pa.array([Decimal(-1), Decimal(0)], pa.decimal128(38, 0)).view(pa.decimal128(38, 60))
    rows = {"cumulative_referrals": [1, 1], "own_points": own_points, "friend_points": [1, 1]}
    found = hensa.to_next_step(rows, HAPI_TOMO)["to_next_step_own_points"].to_pylist()
    assert found == [3001, 3000]  # -1e-60 and 0


def test_events_have_no_next_step():
    with pytest.raises(DataError, match="Program 'share-hapi' pays fixed amounts per event, so there is no next step"):
        hensa.to_next_step({}, Program.load("share-hapi"))


# --- events -----------------------------------------------------------------------------------------------------------

CAMPAIGN = Program.parse("""
    name = "campaign"
    [rule]
    kind = "per-event"
    events = [
      { column = "registrations", referrer = 100, friend = 100, standing = "stated" },
      { column = "visits", referrer = 5, standing = "reconstructed" },
    ]
    [[rule.campaigns]]
    column = "registrations"
    effective_from = 2018-12-01
    effective_until = 2018-12-31
    referrer = 700
    friend = 650
    standing = "public"
""")


def test_share_hapi_in_words():
    # 3 x 100 + 12 x 100 points each
    row = {"registrations": 3, "first_valid_ads": 12}
    text = """\
Share-hapi (シェアハピ), 2019-09
The referrer is paid 1,500 points.
Friends are paid 1,500 points.
Registrations: 3; 100 points each to the referrer, 300 in all; 100 points each to the friend, 300 in all.
First valid ads: 12; 100 points each to the referrer, 1,200 in all; 100 points each to the friend, 1,200 in all."""
    found = hensa.explain(row, Program.load("share-hapi"), NOBODY, month="2019-09")
    assert found.text == text
    japanese = hensa.explain(row, Program.load("share-hapi"), NOBODY, "ja", month="2019-09").text
    assert "新規登録は3件です。紹介者には1件につき100ポイント、計300ポイント" in japanese


def test_the_month_says_which_amounts_are_explained():
    row = {"registrations": 2, "visits": 7}
    in_campaign, after = (hensa.explain(row, CAMPAIGN, NOBODY, month=month) for month in ("2018-12", "2019-01"))
    assert in_campaign.to_dict() == {
        "program": "campaign",
        "title": "campaign",
        "kind": "per-event",
        "month": "2018-12",
        "cohort": None,
        "events": [
            {"column": "registrations", "count": 2, "referrer": 700, "friend": 650},
            {"column": "visits", "count": 7, "referrer": 5, "friend": 0},
        ],
        "reward": 2 * 700 + 7 * 5,
        "friend_reward": 2 * 650,
        "standing": {"rule.campaigns[registrations]": "public", "rule.events[visits]": "reconstructed"},
    }
    assert in_campaign.text.endswith("Not published, and filled in by us: the points for visits.")
    assert (after.to_dict()["reward"], after.to_dict()["friend_reward"]) == (2 * 100 + 7 * 5, 2 * 100)
    with pytest.raises(DataError, match="The program has campaigns, and no month is named"):
        hensa.explain(row, CAMPAIGN, NOBODY)


def test_an_event_that_pays_nothing_in_the_month_is_told():
    row = {"registrations": 1, "early_first_ads": 1, "first_exchanges": 0}
    friend_benefit = Program.load("friend-benefit")
    text = """\
The referrer is paid 0 points.
Friends are paid 400 points.
Registrations: 1; nothing is paid for these.
First exchanges: 0; nothing is paid for these.
Early first ads: 1; 400 points each to the friend, 400 in all."""
    assert hensa.explain(row, friend_benefit, NOBODY, month="2019-10").text.partition("\n")[2] == text
    japanese = hensa.explain(row, friend_benefit, NOBODY, "ja", month="2019-10").text
    assert "新規登録は1件です。ポイントは付きません。" in japanese


def test_a_count_that_is_not_known_is_told():
    found = hensa.explain({"registrations": None, "visits": 7}, CAMPAIGN, NOBODY, month="2019-01")
    assert found.text == "campaign, 2019-01\nIt is not known what is paid.\nRegistrations: not known."


def test_only_a_program_that_pays_friends_speaks_of_them():
    rules = Program.parse(
        'name = "own"\nrule = { kind = "per-event", events = [{ column = "registrations", referrer = 9 }] }'
    )
    found = hensa.explain({"registrations": 2}, rules, NOBODY)
    assert found.text == (
        "own\nThe referrer is paid 18 points.\nRegistrations: 2; 9 points each to the referrer, 18 in all."
    )


# --- months and cohorts -----------------------------------------------------------------------------------------------


def test_a_month_outside_the_dates_is_refused_unless_any_is_allowed():
    with pytest.raises(hensa.ProgramError, match="'hapitas-friend' holds from 2019-10-01 to 2020-12-31, not in all of"):
        explained(WORKED, 0, month="2019-09")
    found = explained(WORKED, 0, month="2019-09", any_month=True)
    assert found.to_dict()["month"] == "2019-09"
    assert found.text.splitlines()[0] == "Hapitas Friend (ハピタスフレンド), 2019-09"


SITES = {
    "site": ["north", "north", "south", "south"],
    "year": [2019, 2019, 2019, 2019],
    "new_referrals": [1, 3, 10, 30],
    "ad_users": [0, 4, 5, 5],
    "friend_points": [1000] * 4,
}


def test_a_row_is_explained_against_its_own_cohort_which_is_named():
    population = hensa.population(SITES, HAPITAS, by=["site", "year"])
    found = hensa.explain(row_at(SITES, 2), HAPITAS, population, by=["site", "year"])
    own = {name: values[2:] for name, values in SITES.items()}
    alone = explained(own, 0).to_dict()
    assert found.to_dict() == alone | {"cohort": {"site": "south", "year": 2019}}
    assert "You are compared with the 2 members of site south, year 2019." in found.text
    japanese = hensa.explain(row_at(SITES, 2), HAPITAS, population, "ja", by=["site", "year"]).text
    assert "site south、year 2019の2人と比べています。" in japanese


def test_a_row_of_no_cohort_is_an_error():
    population = hensa.population(SITES, HAPITAS, by="site")
    with pytest.raises(DataError, match="The population has no cohort of site 'east'; it has 2 cohorts"):
        hensa.explain(row_at(SITES, 0) | {"site": "east"}, HAPITAS, population, by="site")
    with pytest.raises(DataError, match="The row has no 'country', which by names; it has 'site', "):
        hensa.explain(row_at(SITES, 0), HAPITAS, population, by="country")


# --- the commands -----------------------------------------------------------------------------------------------------


@pytest.fixture
def month(tmp_path):
    rows = ["referrer_id,new_referrals,ad_users,friend_points", *(f"{i:03},10,7,100005" for i in range(99))]
    path = tmp_path / "month.csv"
    path.write_text("\n".join([*rows, "099,5000,7,100005", "x,1,,1", "x,1,,1"]) + "\n")
    return path


def hensa_command(*args):
    from typer import testing

    from hensa import cli

    return testing.CliRunner().invoke(cli.app, [str(arg) for arg in args])


@pytest.mark.parametrize(("lang", "text"), [("en", ENGLISH), ("ja", JAPANESE)])
def test_the_command_prints_the_text(month, lang, text):
    result = hensa_command("explain", month, "--id", "000", "--lang", lang)
    assert (result.exit_code, result.stdout, result.stderr) == (0, text + "\n", "")


def test_the_command_prints_the_facts_against_a_population_that_the_row_is_not_part_of(month, tmp_path):
    stored = tmp_path / "population.json"
    assert hensa_command("population", month, "-o", stored).exit_code == 0
    options = ("--id", "099", "--json", "--rate", "27.5", "--population", stored, "--apart")
    facts = json.loads(hensa_command("explain", month, *options).stdout)
    assert facts == explained(WORKED, 99, rate="27.5", included=False).to_dict()


def test_the_command_explains_a_row_among_its_cohort(tmp_path):
    path = tmp_path / "sites.csv"
    path.write_text("id,site,new_referrals,ad_users,friend_points\n1,a,0,0,9\n2,a,2,2,9\n3,b,50,50,9\n4,b,70,70,9\n")
    facts = json.loads(hensa_command("explain", path, "--id", 3, "--id-column", "id", "--by", "site", "--json").stdout)
    assert [measure["mean"] for measure in facts["measures"]] == [60, 60]
    text = hensa_command("explain", path, "--id", 3, "--id-column", "id", "--by", "site").stdout
    assert "You are compared with the 2 members of site b." in text


def test_the_command_explains_a_month(month, tmp_path):
    options = ("explain", month, "--id", "000", "--month")
    assert hensa_command(*options, "2019-10").stdout.splitlines()[0] == "Hapitas Friend (ハピタスフレンド), 2019-10"
    japanese = hensa_command(*options, "2019-10", "--lang", "ja").stdout
    assert japanese.splitlines()[0] == "ハピタスフレンド、2019-10"
    refused = hensa_command(*options, "2019-09")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "Program 'hapitas-friend' holds from 2019-10-01" in refused.stderr
    assert hensa_command(*options, "2019-09", "--any-month").exit_code == 0
    rows = pa.table({"referrer_id": [1], "registrations": [2], "visits": [0]})
    path, rules = tmp_path / "rows.parquet", tmp_path / "campaign.toml"
    pq.write_table(rows.replace_schema_metadata({"hensa.ledger": json.dumps({"month": "2018-12"})}), path)
    rules.write_text(CAMPAIGN.to_toml())
    options = ("explain", path, "--id", "1", "-p", rules, "--month")
    assert "The referrer is paid 1,400 points." in hensa_command(*options, "2018-12").stdout
    assert (
        "The rows were counted for 2018-12, and the month of the run is 2019-01; any_month (--any-month) allows it."
        in hensa_command(*options, "2019-01").stderr
    )


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--id", "100"), "found 0 rows whose referrer_id is 100; exactly one is needed"),
        (("--id", "x"), "found 2 rows whose referrer_id is x; exactly one is needed"),
        (
            ("--id", "1", "--id-column", "member"),
            "There is no column 'member'; the columns are 'referrer_id', ",
        ),
    ],
)
def test_a_row_that_is_not_found_once_is_an_error(month, options, sentence):
    result = hensa_command("explain", month, *options)
    assert (result.exit_code, result.stdout) == (1, "")
    assert sentence in result.stderr


def test_the_command_next_step_writes_the_columns(month, tmp_path):
    for options, numbers in (((), [50, None]), (("--own-effect",), [51, 1])):
        out = tmp_path / "out.parquet"
        assert hensa_command("next-step", month, "-o", out, *options).exit_code == 0
        row = pq.read_table(out).slice(0, 1).to_pylist()[0]
        assert [row["to_next_step_new_referrals"], row["to_next_step_ad_users"]] == numbers
    assert hensa_command("next-step", month, "-o", out, "--rate", "12").exit_code == 0
    assert pq.read_table(out)["to_rate_new_referrals"][0].as_py() == 2036


def test_the_command_next_step_takes_each_row_among_its_cohort(tmp_path):
    path, stored = tmp_path / "sites.csv", tmp_path / "population.json"
    path.write_text("site,new_referrals,ad_users,friend_points\na,0,0,9\na,2,0,9\nb,50,0,9\nb,70,0,9\n")
    assert hensa_command("population", path, "-o", stored, "--by", "site").exit_code == 0
    for options in ((), ("--population", stored)):
        out = tmp_path / "out.parquet"
        assert hensa_command("next-step", path, "-o", out, "--by", "site", *options).exit_code == 0
        # The score is the mean of z + 50 and 50: 49.5 and 50.5, so the next one takes z = 0 and z = 2.
        assert pq.read_table(out)["to_next_step_new_referrals"].to_pylist() == [1, 1, 10, 10]
    assert hensa_command("next-step", path, "-o", out, "--population", stored).exit_code == 2


# --- rows that were scored: as they were paid -------------------------------------------------------------------------

OWN = """
name = "own"
[rule]
kind = "standard-score"
measures = [{ column = "new_referrals" }]
[rates]
steps = [[0, 1.0], [50, 20.0], [60, 30.0]]
[reward]
base = "friend_points"
"""


@pytest.fixture
def scored(tmp_path):
    """The domain's example as `hensa score` pays it by the program OWN, into a file of a name, by further options."""
    rows = [f"{i:03},{5000 if i == 99 else 10},7,100000,{'ab'[i % 2]}" for i in range(100)]
    source, program = tmp_path / "rows.csv", tmp_path / "own.toml"
    source.write_text("\n".join(["referrer_id,new_referrals,ad_users,friend_points,site", *rows, ""]))
    program.write_text(OWN)

    def score(name, *options):
        result = hensa_command("score", source, "-o", tmp_path / name, "-p", program, *options)
        assert result.exit_code == 0, result.stderr
        return tmp_path / name

    return score


def told(*args):
    """The facts of row 000, and what is said besides."""
    result = hensa_command("explain", *args, "--id", "000", "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout), " ".join(result.stderr.split())


@pytest.mark.parametrize("suffix", ["csv", "parquet", "arrow"])
def test_a_scored_row_is_explained_by_the_program_that_paid_it(scored, suffix):
    # 10 is below the mean of 59.9, so the score is below 50, which pays 1% of 100,000.
    facts, said = told(scored(f"paid.{suffix}"))
    assert (facts["program"], facts["reward"]["points"], said) == ("own", 1000, "")


def test_a_scored_row_of_a_stream_is_explained_by_the_program_that_paid_it(scored):
    rows = pa.ipc.open_file(scored("paid.arrow")).read_all()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as stream:
        stream.write_table(rows)
    command = [sys.executable, "-c", "from hensa.cli import main; main()", "explain", "-", "--id", "000", "--json"]
    done = subprocess.run(command, input=sink.getvalue().to_pybytes(), capture_output=True, check=True)
    assert json.loads(done.stdout)["program"] == "own"


def test_another_program_than_the_one_that_paid_is_told(scored, tmp_path):
    source = scored("paid.parquet")
    facts, said = told(source, "-p", "hapitas-friend")
    assert facts["program"] == "hapitas-friend"
    assert said == f"{source} was scored by own, and not by hapitas-friend."
    (tmp_path / "own.toml").write_text(OWN.replace("30.0", "40.0"))
    assert told(source, "-p", tmp_path / "own.toml")[1] == f"{source} was scored by another program named own."


def test_a_record_that_cannot_be_read_is_in_the_way_of_nothing_but_its_own_program(scored):
    source = scored("paid.csv")
    source.with_name("paid.csv.hensa.json").write_text("{}")
    refused = hensa_command("explain", source, "--id", "000")
    assert refused.exit_code == 1
    assert "its record is not one that hensa" in refused.stderr
    assert told(source, "-p", "hapitas-friend")[0]["program"] == "hapitas-friend"


def test_a_scored_row_is_explained_against_the_stored_population_that_it_was_paid_by(scored, tmp_path):
    # Last month everybody brought 10 but one, who brought 8: 10 is above that mean.
    last = tmp_path / "last.csv"
    last.write_text("new_referrals,friend_points\n8,1\n10,1\n10,1\n10,1\n")
    stored = tmp_path / "last.json"
    assert hensa_command("population", last, "-o", stored, "-p", tmp_path / "own.toml").exit_code == 0
    source = scored("paid.parquet", "--population", stored)
    stored.unlink()
    facts, _ = told(source)
    assert (facts["count"], facts["reward"]["points"]) == (4, 20_000)
    assert "own_effect" not in facts["next_step"]["further"]["new_referrals"]


def test_some_of_the_scored_rows_are_explained_against_all(scored):
    source = scored("paid.parquet")
    pq.write_table(pq.read_table(source).slice(0, 2), source)
    facts, _ = told(source)
    assert (facts["count"], facts["reward"]["points"]) == (100, 1000)
    assert facts["next_step"]["further"]["new_referrals"] == {"population_fixed": 50, "own_effect": 51}


def test_a_scored_row_is_explained_in_the_cohort_and_the_month_that_it_was_paid_in(scored):
    source = scored("paid.parquet", "--by", "site", "--month", "2019-10")
    facts, _ = told(source)
    assert (facts["cohort"], facts["count"], facts["month"]) == ({"site": "a"}, 50, "2019-10")
    assert told(source, "-p", "hapitas-friend")[0]["cohort"] is None


def test_the_next_steps_of_scored_rows_are_those_of_the_program_and_population_that_paid(scored, tmp_path):
    source = scored("paid.parquet")
    pq.write_table(pq.read_table(source).slice(0, 2), source)
    result = hensa_command("next-step", source, "-o", tmp_path / "next.parquet")
    assert result.exit_code == 0, result.stderr
    # The mean of the month is 59.9: with 50 more a member with 10 is above it.
    assert pq.read_table(tmp_path / "next.parquet")["to_next_step_new_referrals"].to_pylist() == [50, 50]
    assert hensa_command("verify", tmp_path / "next.parquet").exit_code == 0
