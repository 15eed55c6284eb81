"""The reference against hand-derived answers and against the independent oracle."""

import math
from bisect import bisect_right
from decimal import Decimal
from fractions import Fraction

import oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import examples

from hensa import reference
from hensa.errors import DataError
from hensa.program import Measure, Program, RateTable, Reward, StandardScore

WHOLE = [(threshold, threshold) for threshold in range(101)]  # threshold t pays t percent
ALL = ("score", "step", "rate", "reward")


def make(measures="xy", steps=WHOLE, reward=True, rule=None, rates=None, **pays):
    """A program; `measures` are column names or (name, weight) pairs."""
    return Program(
        name="test",
        rule=StandardScore(measures=[Measure(*([m] if isinstance(m, str) else m)) for m in measures], **(rule or {})),
        rates=RateTable(steps=steps, **(rates or {})),
        reward=Reward(base="b", **pays) if reward else None,
    )


def ones_and_zeros(z, many):
    """`many` ones and many*z^2 zeros: mean 1/(1+z^2), SD z/(1+z^2), so that a one lies exactly z SDs above the mean."""
    return [1] * many + [0] * (many * z * z)


# --- the worked example and other populations with known answers -----------------------------------------------------


def test_99_members_with_10_are_on_step_49_and_the_one_with_5000_on_step_54():
    rows = {"new_referrals": [10] * 99 + [5000], "ad_users": [7] * 100, "friend_points": [100_000] * 100}
    result = reference.score(rows, Program.load("hapitas-friend"), columns=ALL)
    assert result["step"] == [49] * 99 + [54]
    assert result["rate"][:99] == [float(Fraction(98, 1000))] * 99
    assert result["reward"][:99] == [9800] * 99
    # z of the one is (5000 - 59.9) / sqrt(99 * 49.9**2 / 100 + 4940.1**2 / 100) = sqrt(99); the other measure adds 50.
    assert result["score"][99] == pytest.approx(50 + math.sqrt(99) / 2, abs=1e-13)
    assert 54.97 < result["score"][99] < 54.98


@pytest.mark.parametrize(("z", "many"), [*((z, 2) for z in range(2, 31)), (2, 2000)])
def test_a_one_among_z_squared_zeros_is_exactly_on_step_50_plus_z(z, many):
    values = ones_and_zeros(z, many)
    rows = {"x": values, "y": values}
    program = make(reward=False)
    result = reference.score(rows, program, columns=["score", "step"])
    assert set(result["step"][:many]) == {50 + z}
    assert set(result["score"][:many]) == {50.0 + z}
    assert set(result["step"][many:]) == {49}
    assert reference.exact_steps(rows, program) == result["step"]


def test_variance_of_two_far_off_integers_is_exactly_4050():
    low, high = 40000008000000400, 40000008000000490  # 90 apart: variance 90**2 / 2 with ddof 1
    program = make("x", reward=False, rule={"ddof": 1})
    parts = [reference.population({"x": [value]}, program) for value in (high, low)]
    for pop in (parts[0] + parts[1], reference.population({"x": [high, low]}, program)):
        assert pop["x"].variance == 4050
        assert pop["x"].sd == math.sqrt(4050)


def test_moments_of_four_integers_are_the_fractions_of_their_definition():
    moments = reference.population({"x": [0, 1, 2, 3]}, make("x", reward=False))["x"]
    assert (moments.count, moments.sum, moments.sum_of_squares) == (4, 6, 14)
    assert (moments.mean, moments.variance) == (Fraction(3, 2), Fraction(5, 4))


@pytest.mark.parametrize(
    "square", [Fraction(2), Fraction(1, 3), Fraction(9, 4), Fraction(10**40 + 1), Fraction(7) ** -60]
)
def test_the_sd_is_the_float_nearest_to_the_root_of_the_variance(square):
    sd = reference.Moments(count=1, sum=Fraction(0), sum_of_squares=square, ddof=0).sd
    below, above = ((Fraction(sd) + Fraction(math.nextafter(sd, end))) / 2 for end in (0, math.inf))
    assert below**2 <= square <= above**2


# --- steps, rates and rewards ----------------------------------------------------------------------------------------


def three_scores(**options):
    """Rows that score 50 - sqrt(2), 50, 50 and 50 + sqrt(2): the mean is 0 and the variance 1/2."""
    rows = {"x": [-1, 0, 0, 1], "b": [100, 100, 100, 100]}
    return reference.score(rows, make("x", **options), columns=ALL)


def test_below_first_is_on_the_first_step():
    result = three_scores(steps=[(50, 10), (51, 20)])
    assert result["step"] == [0, 0, 0, 1]
    assert result["reward"] == [10, 10, 10, 20]


def test_below_zero_has_no_step_and_is_paid_nothing():
    result = three_scores(steps=[(50, 10), (51, 20)], rates={"below": "zero"})
    assert result["step"] == [None, 0, 0, 1]
    assert result["rate"] == [0.0, 0.1, 0.1, 0.2]
    assert result["reward"] == [0, 10, 10, 20]


def test_a_share_table_pays_shares():
    result = three_scores(steps=[(0, "0.1"), (51, "0.25")], rates={"unit": "share"})
    assert result["rate"] == [0.1, 0.1, 0.1, 0.25]
    assert result["reward"] == [10, 10, 10, 25]


@pytest.mark.parametrize(
    ("rounding", "expected"),
    [("floor", [-1, -1, 0, 0, 0, 1, 1]), ("half_up", [-1, 0, 0, 0, 1, 1, 2]), ("ceil", [-1, 0, 0, 1, 1, 1, 2])],
)
def test_rewards_are_rounded_as_the_program_says(rounding, expected):
    bases = [-10, -5, 0, 4, 5, 10, 15]  # a tenth of each is -1, -0.5, 0, 0.4, 0.5, 1, 1.5
    rows = {"x": range(7), "b": bases}
    result = reference.score(rows, make("x", steps=[(0, 10)], rounding=rounding))
    assert result["reward"] == expected


def test_a_decimal_base_is_paid_exactly():
    rows = {"x": [0, 1], "b": [Decimal("9.99"), Decimal("10.00")]}
    assert reference.score(rows, make("x", steps=[(0, 10)]))["reward"] == [0, 1]


def test_the_cap_holds_after_rounding():
    rows = {"x": [0, 1, 2], "b": [94, 95, 10**30]}
    result = reference.score(rows, make("x", steps=[(0, 10)], rounding="half_up", cap=10))
    assert result["reward"] == [9, 10, 10]


@pytest.mark.parametrize(("base", "fits"), [(2**63 - 1, True), (2**63, False), (-(2**63), True), (-(2**63) - 1, False)])
def test_a_reward_beyond_int64_is_an_error_that_names_the_row(base, fits):
    rows = {"x": [0, 1], "b": [0, base]}
    program = make("x", steps=[(0, 100)])
    if fits:
        assert reference.score(rows, program)["reward"] == [0, base]
    else:
        with pytest.raises(DataError, match="row 1"):
            reference.score(rows, program)


def test_a_score_that_rounds_onto_a_threshold_it_does_not_reach_is_put_just_below():
    root = 50 * 10**40 + math.isqrt(2 * 10**80)  # the last score of three_scores, cut after 40 decimals
    result = three_scores(steps=[(0, 1), (Decimal(f"{root + 1}e-40"), 2)])
    assert result["step"][3] == 0
    assert result["score"][3] == math.nextafter(root / 10**40, 0)
    below = three_scores(steps=[(0, 1), (Decimal(f"{root}e-40"), 2)])
    assert below["step"][3] == 1
    assert below["score"][3] == root / 10**40


def test_floats_at_the_end_of_their_range_are_on_their_exact_steps():
    # One in four lies 3 times as far from the mean as the others: z = -sqrt(1/3) and sqrt(3), times the scale.
    program = make("x", steps=[(-1, 0), ("1.7e-30", 1)], reward=False, rule={"centre": 0, "scale": "1e-30"})
    for size in (5e307, 1e-320):
        assert reference.score({"x": [-size] * 3 + [size]}, program, columns="step")["step"] == [0, 0, 0, 1]


# --- constant measures, nulls, cohorts, stored populations -----------------------------------------------------------


def test_a_constant_measure_adds_the_centre():
    rows = {"x": [0, 0, 0, 0, 1], "y": [3] * 5}  # x = 1 lies 2 SDs above the mean: half of that
    assert reference.score(rows, make(reward=False), columns=["score"])["score"][4] == 51.0


def test_a_constant_measure_makes_every_result_null():
    result = reference.score({"x": [0, 1], "y": [3, 3], "b": [1, 1]}, make(rule={"constant": "null"}), columns=ALL)
    assert all(result[name] == [None, None] for name in ALL)


def test_a_constant_measure_is_an_error_when_the_program_says_so():
    with pytest.raises(DataError, match="'y'"):
        reference.score({"x": [0, 1], "y": [3, 3], "b": [1, 1]}, make(rule={"constant": "error"}))


def test_the_standard_score_of_one_measure_is_a_result():
    rows = {"x": [0, 0, 0, 0, 1], "y": [3] * 5}
    result = reference.score(rows, make(reward=False, rule={"scale": 10}), columns=["y_score", "x_score"])
    assert list(result) == ["x", "y", "y_score", "x_score"]
    assert result["y_score"] == [50.0] * 5
    assert result["x_score"] == [45.0] * 4 + [70.0]


def test_a_row_with_a_null_that_the_program_reads_is_left_out_and_null():
    rows = {"x": [0, 2, None, 9, 9], "y": [0, 2, 9, None, 9], "b": [100, 100, 9, 9, None], "id": [None, 1, 2, 3, 4]}
    program = make(steps=[(0, 1), (51, 51)])
    pop = reference.population(rows, program)
    assert (pop.count, pop.nulls, pop["x"].sum) == (2, 3, 2)
    result = reference.score(rows, program, columns=ALL)
    assert result["score"] == [49.0, 51.0, None, None, None]
    assert result["step"] == [0, 1, None, None, None]
    assert result["rate"] == [0.01, 0.51, None, None, None]
    assert result["reward"] == [1, 51, None, None, None]
    assert result["id"] == rows["id"]


def test_rows_without_the_base_have_a_population_and_a_score_but_no_reward():
    rows = {"x": [0, 1], "y": [0, 1]}
    assert reference.population(rows, make()).count == 2
    assert reference.score(rows, make(), columns=["score"])["score"] == [49.0, 51.0]
    with pytest.raises(DataError, match="'b'"):
        reference.score(rows, make())


def test_all_null_and_empty_rows_give_null_and_empty_results():
    program = make("x", reward=False, rule={"ddof": 1})
    assert reference.score({"x": [None, None]}, program, columns=["score"])["score"] == [None, None]
    assert reference.score({"x": []}, program, columns=["score", "step"]) == {"x": [], "score": [], "step": []}
    moments = reference.population({"x": []}, program)["x"]
    assert (moments.count, moments.mean, moments.variance) == (0, None, None)
    assert math.isnan(moments.sd)


def test_one_row_with_ddof_1_has_no_sd():
    program = make("x", reward=False, rule={"ddof": 1})
    assert math.isnan(reference.population({"x": [5]}, program)["x"].sd)
    with pytest.raises(DataError, match="ddof 1"):
        reference.score({"x": [5]}, program, columns=["score"])


COHORTS = {"month": ["a", "b", "a", "b", "a"], "site": [1, 1, 1, 1, 2], "x": [0, 10, 2, None, 7], "b": [100] * 5}


def test_every_cohort_is_scored_against_its_own_population():
    program = make("x", steps=[(0, 1), (51, 51)])
    pop = reference.population(COHORTS, program, by=["month", "site"])
    assert {key: (cohort.count, cohort.nulls) for key, cohort in pop.cohorts.items()} == {
        ("a", 1): (2, 0),
        ("b", 1): (1, 1),
        ("a", 2): (1, 0),
    }
    assert (pop.count, pop.nulls, pop["x"].sum, pop.by) == (4, 1, 19, ("month", "site"))
    result = reference.score(COHORTS, program, by=["month", "site"], columns=("score", "reward"))
    assert result["score"] == [49.0, 50.0, 51.0, None, 50.0]
    assert result["reward"] == [1, 1, 51, None, 1]


def test_one_cohort_column_may_be_named_by_a_string():
    pop = reference.population(COHORTS, make("x"), by="month")
    assert set(pop.cohorts) == {("a",), ("b",)}


def test_a_null_cohort_is_an_error_that_names_column_and_row():
    with pytest.raises(DataError, match=r"'month'.* 1\b"):
        reference.population({"month": ["a", None], "x": [1, 2]}, make("x"), by="month")


def test_a_cohort_that_the_population_lacks_is_an_error():
    pop = reference.population({"month": ["a", "a"], "x": [1, 2], "b": [1, 1]}, make("x"), by="month")
    with pytest.raises(DataError, match="'b'"):
        reference.score(COHORTS, make("x"), population=pop, by="month")


def test_scores_need_a_population_that_is_not_empty():
    empty = reference.population({"x": [None]}, make("x"))
    with pytest.raises(DataError, match="0 rows"):
        reference.score({"x": [1]}, make("x"), population=empty, columns=["score"])


def test_rows_can_be_scored_against_a_stored_population():
    stored = reference.population({"x": [0, 2]}, make("x"))
    result = reference.score({"x": [4, 1]}, make("x"), population=stored, columns=["score"])
    assert result["score"] == [53.0, 50.0]


@given(st.lists(st.tuples(st.sampled_from("ab"), st.none() | st.integers()), max_size=12), st.integers(0, 12))
def test_merging_parts_gives_the_population_of_the_whole(rows, cut):
    columns = {"k": [k for k, _ in rows], "x": [x for _, x in rows]}
    first, second = ({name: cells[part] for name, cells in columns.items()} for part in (slice(cut), slice(cut, None)))
    program = make("x")
    merged = reference.population(first, program, "k") + reference.population(second, program, "k")
    assert merged == reference.population(columns, program, "k")


def test_populations_of_different_programs_are_not_merged():
    pop = reference.population({"x": [1], "y": [1]}, make("x"))
    for other in (make("y"), make("x", rule={"ddof": 1})):
        with pytest.raises(DataError, match="merged"):
            pop + reference.population({"x": [1], "y": [1]}, other)


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, Decimal("nan"), "7", [7], 1j])
def test_a_measure_that_is_not_a_finite_number_is_an_error_that_names_column_and_row(bad):
    for call in (reference.population, reference.score):
        with pytest.raises(DataError, match=r"'y'.*row 2\b"):
            call({"x": [1, 2, 3, None], "y": [1, None, bad, 4], "b": [1] * 4}, make())


@pytest.mark.parametrize("bad", [0.5, math.nan, "7"])
def test_a_base_that_is_not_exact_is_an_error(bad):
    with pytest.raises(DataError, match=r"'b'.*row 1\b"):
        reference.score({"x": [1, 2], "b": [1, bad]}, make("x"))


def test_missing_repeated_and_uneven_columns_are_errors():
    class Repeated:
        schema = type("Schema", (), {"names": ["x", "x"]})

        def to_pydict(self):
            return {"x": [1]}

    for rows, match in [({"x": [1]}, "'y'"), ({"x": [1], "y": [1, 2]}, "length"), (Repeated(), "'x'")]:
        with pytest.raises(DataError, match=match):
            reference.population(rows, make())
    with pytest.raises(DataError, match="'month'"):
        reference.population({"x": [1]}, make("x"), by="month")


def test_a_result_that_the_rows_have_already_or_that_is_not_known_is_an_error():
    for name in ("score", "x_score", "fee", "y_score"):
        with pytest.raises(DataError, match=name):
            reference.score({"x": [1, 2], "score": [0, 0], "x_score": [0, 0]}, make("x"), columns=[name])


def test_a_reward_without_a_rule_for_it_is_an_error():
    with pytest.raises(DataError, match="reward"):
        reference.score({"x": [1, 2]}, make("x", reward=False), columns="reward")
    assert list(reference.score({"x": [1, 2]}, make("x", reward=False))) == ["x", "score", "rate"]


# --- against the oracle ----------------------------------------------------------------------------------------------

MANY = examples(150)
small = st.integers(-3, 3)
cells = st.one_of(
    st.just(st.booleans()),
    st.just(st.integers(0, 1)),
    st.just(small),
    st.just(st.integers(-(2**63), 2**64 - 1)),
    st.integers(0, 4).map(lambda places: small.map(lambda n: Decimal(n).scaleb(-places))),
    st.just(st.decimals(-1000, 1000, places=2)),
    st.just(small.map(lambda n: n / 4)),
    st.just(st.floats(-1e6, 1e6)),
)
numbers = st.one_of(st.integers(-3, 3), st.fractions(-2, 2, max_denominator=7))


@st.composite
def tables(draw):
    """Up to four measures and a base; a measure may be an affine image of another, so that roots cancel."""
    length = draw(st.integers(2, 12))
    columns = {}
    for name in "xyzw"[: draw(st.integers(1, 4))]:
        if columns and draw(st.booleans()):
            source = columns[draw(st.sampled_from(sorted(columns)))]
            a, b = draw(st.sampled_from([-2, -1, 1, 2, 3])), draw(small)
            columns[name] = [None if x is None else a * x + b for x in source]
        else:
            kind = draw(cells)
            columns[name] = draw(st.lists(kind, min_size=length, max_size=length))
    for name in columns:
        if draw(st.integers(0, 4)) == 0:
            gone = draw(st.sets(st.integers(0, length - 1), max_size=2))
            columns[name] = [None if row in gone else x for row, x in enumerate(columns[name])]
    columns["b"] = draw(st.lists(st.integers(-1000, 10**6), min_size=length, max_size=length))
    return columns


@st.composite
def programs(draw, names):
    weights = draw(st.lists(numbers, min_size=len(names), max_size=len(names)).filter(sum))
    scale, centre = draw(numbers.filter(bool)), draw(st.sampled_from([50, 0, -1, Fraction(1, 3)]))
    near = st.sampled_from([0, Fraction(1, 2), 1, Fraction(-1, 2), -1, 2, -2, 3]).map(lambda z: centre + z * scale)
    exact = near.filter(lambda t: 10**6 % t.denominator == 0).map(lambda t: Decimal(t.numerator) / t.denominator)
    thresholds = draw(st.lists(exact | st.decimals(-60, 60, places=1), min_size=1, max_size=8, unique_by=float))
    return make(
        list(zip(names, weights, strict=True)),
        steps=[(threshold, index * Decimal("7.3")) for index, threshold in enumerate(sorted(thresholds))],
        rule={"scale": scale, "centre": centre, "ddof": draw(st.integers(0, 1))},
        rates={"below": draw(st.sampled_from(["first", "zero"]))},
        rounding=draw(st.sampled_from(["floor", "half_up", "ceil"])),
        cap=draw(st.none() | st.integers(0, 1000)),
    )


def counted(columns):
    return sum(None not in row for row in zip(*columns.values(), strict=True))


@MANY
@given(st.data(), tables().filter(lambda columns: counted(columns) > 1))
def test_moments_steps_and_rewards_are_those_of_the_oracle(data, columns):
    program = data.draw(programs([name for name in columns if name != "b"]))
    answer = oracle.solve(columns, program)
    pop = reference.population(columns, program)
    result = reference.score(columns, program, columns=ALL)
    assert pop.count == answer.count
    assert [moments.mean for moments in pop.measures.values()] == answer.means
    assert [moments.variance for moments in pop.measures.values()] == answer.variances
    assert result["step"] == [row.step for row in answer.rows]
    assert result["reward"] == [row.reward for row in answer.rows]
    assert reference.exact_steps(columns, program) == result["step"]
    thresholds = [float(threshold) for threshold in program.rates.thresholds]
    for s, row in zip(result["score"], answer.rows, strict=True):
        assert (s is None) == (row.score is None)
        if s is not None:
            reached = bisect_right(thresholds, s)
            assert row.step == (reached - 1 if reached else 0 if program.rates.below == "first" else None)


@MANY
@given(st.data(), tables().filter(lambda columns: counted(columns) > 1))
def test_the_float_score_is_within_its_bound_of_the_oracle(data, columns):
    program = data.draw(programs([name for name in columns if name != "b"]))
    answer = oracle.solve(columns, program)
    given_rows = reference._Input(columns, program, None)
    scorer = reference._Scorer(given_rows, reference.population(columns, program))
    for row, counts in enumerate(given_rows.counts):
        if counts:
            cells = tuple(column.cells[row] for column in given_rows.measures)
            s, bound = scorer.approximate(cells)
            exact = Fraction(answer.rows[row].score)
            assert abs(Fraction(s) - exact) <= Fraction(bound)
            nearest = scorer.exact(cells).nearest()
            assert abs(Fraction(nearest) - exact) <= Fraction(math.ulp(nearest)) / 2 + Fraction(1, 10**100)


@examples(60)
@given(st.lists(st.tuples(small, small), min_size=1, max_size=4), st.fractions(-9, 9, max_denominator=9))
def test_a_sum_of_roots_is_compared_with_zero_as_the_oracle_does(pairs, rest):
    pairs = [(Fraction(factor), Fraction(abs(n) + 1, 2)) for factor, n in pairs]  # radicands 1/2, 1, 3/2, 2
    total = reference._RootSum(rest, [(factor, 1 / v) for factor, v in pairs])
    assert (total.compare(Fraction(0)) >= 0) == oracle._reaches(pairs, rest)
