"""Comparisons and budgets: totals against the rows they are made of, and scaled rates against brute force."""

import json
from decimal import Decimal
from fractions import Fraction
from math import floor

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from making import flat, program
from strategies import examples

import hensa
from hensa import DataError, HensaError, Program, reference

HAPITAS = Program.load("hapitas-friend")


def named(name, rules):
    return Program.parse(rules.to_toml().replace(f'name = "{rules.name}"', f'name = "{name}"', 1))


def rates(name, *steps, **options):
    return named(name, program("x", steps, **options))


LOW = rates("low", (0, 10), (50, 20), (51, 60))
HIGH = rates("high", (0, 30), (50, 20), (51, 50))
ROWS = {"x": [0, 2, 4, None, 2], "b": [100, 200, 300, 400, 55], "friends": [1, 5, 2000, 5, None]}
"""The mean is 2 and the SD sqrt(2): scores 48.6, 50, 51.4, none, 50."""


# --- compare ----------------------------------------------------------------------------------------------------------


def test_every_row_has_its_reward_under_each_program_and_the_difference():
    found = hensa.compare(ROWS, [LOW, HIGH]).rows
    assert found.column_names == ["x", "b", "friends", "low_reward", "high_reward", "high_difference"]
    assert found["low_reward"].to_pylist() == [10, 40, 180, None, 11]
    assert found["high_reward"].to_pylist() == [30, 40, 150, None, 11]
    assert found["high_difference"].to_pylist() == [20, 0, -30, None, 0]
    assert found["high_difference"].type == pa.int64()


def test_winners_and_losers_are_counted_with_their_points_and_the_costs():
    found = hensa.compare(ROWS, [LOW, HIGH])
    assert found.costs == {"low": 241, "high": 231}
    assert found.totals["high"].to_dict() == {
        "band": "all",
        "rows": 5,
        "gains": 1,
        "loses": 1,
        "stays": 2,
        "missing": 1,
        "gained": 20,
        "lost": 30,
        "before": 241,
        "after": 231,
        "difference": -10,
    }


def test_bands_begin_at_the_edges_and_unknown_is_a_band_of_its_own():
    found = hensa.compare(ROWS, [LOW, HIGH], band="friends").bands["high"]
    assert {tally.band: tally.rows for tally in found if tally.rows} == {"1": 1, "3 to 9": 2, "1,000+": 1, "unknown": 1}
    assert [tally.difference for tally in found if tally.rows] == [20, 0, -30, 0]
    bands = hensa.compare(ROWS, [LOW, HIGH], band="friends", edges=[2, 5, 6]).bands["high"]
    assert [(tally.band, tally.rows) for tally in bands] == [
        ("below 2", 1),
        ("2 to 4", 0),
        ("5", 2),
        ("6+", 1),
        ("unknown", 1),
    ]


def test_rows_that_only_one_program_pays_are_not_compared_but_cost_what_they_cost():
    other = named("other", program("y", [(0, 50)]))
    found = hensa.compare({"x": [1, 1, None], "y": [None, 1, 1], "b": [10, 10, 10]}, [rates("one", (0, 10)), other])
    assert found.costs == {"one": 2, "other": 10}
    total = found.totals["other"]
    assert (total.missing, total.gains, total.before, total.after, total.difference) == (2, 1, 1, 5, 4)


def test_programs_are_given_by_name_path_or_as_they_are(tmp_path):
    path = tmp_path / "generous.toml"
    path.write_text(named("generous", HAPITAS).to_toml(), encoding="utf-8")
    rows = hensa.sample(50).read_all()
    found = hensa.compare(rows, ["hapitas-friend", path, named("third", HAPITAS)])
    assert list(found.costs) == ["hapitas-friend", "generous", "third"]
    assert found.totals["generous"].stays == found.totals["third"].stays == 50


def test_hapi_tomo_against_hapitas_friend():
    # 99 members of 10 friends: stage 4, 30% of 1000 points; step 49, 9.8%. One of 5000: stage 8, 40%; step 54, 14%.
    rows = {
        "new_referrals": [10] * 99 + [5000],
        "ad_users": [7] * 100,
        "friend_points": [1000] * 100,
        "cumulative_referrals": [10] * 99 + [5000],
        "own_points": [0] * 100,
        "stage_before": [4] * 99 + [8],
    }
    found = hensa.compare(rows, ["hapi-tomo", "hapitas-friend"], band="cumulative_referrals")
    assert found.costs == {"hapi-tomo": 99 * 300 + 400, "hapitas-friend": 99 * 98 + 140}
    total = found.totals["hapitas-friend"]
    assert (total.gains, total.loses, total.lost) == (0, 100, 99 * 202 + 260)
    assert {tally.band: tally.lost for tally in found.bands["hapitas-friend"] if tally.rows} == {
        "10 to 49": 99 * 202,
        "1,000+": 260,
    }


def test_rates_of_stages_are_scaled_and_bonuses_are_not():
    rows = {"cumulative_referrals": [1000, 1], "own_points": [0, 0], "friend_points": [1000, 1000]}
    rows["stage_before"] = [7, 1]  # reaching stage 8 pays 10,000 once; 40% and 10% of 1000 points
    # 10,000 + floor(400 f) + floor(100 f) <= 10,250 for f < 201/400 = 0.5025
    found = hensa.solve(rows, "hapi-tomo", 10_250, places=1)
    assert (found.factor, found.total) == (Decimal("0.502499"), 10_250)
    with pytest.raises(DataError, match="'hapi-tomo' pays 10000 points at rates of 0; it must be that or more"):
        hensa.solve(rows, "hapi-tomo", 9_999)


def test_amounts_per_event_have_no_rates_to_scale():
    with pytest.raises(DataError, match="Program 'share-hapi' has no rates to scale"):
        hensa.solve({}, "share-hapi", 1)


CAMPAIGN = Program.parse("""
    name = "campaign"
    [rule]
    kind = "per-event"
    events = [{ column = "registrations", referrer = 100, friend = 100 }]
    [[rule.campaigns]]
    column = "registrations"
    effective_from = 2018-12-01
    effective_until = 2018-12-31
    referrer = 700
    friend = 50
""")


def test_the_month_says_what_a_program_with_campaigns_pays():
    # share-hapi pays 100 points to each side for a registration and for a first valid ad
    rows = {"registrations": [2, 0, 1], "first_valid_ads": [1, 3, 6]}
    for month, each, friend in (("2018-12", 700, 50), ("2019-01", 100, 100)):
        found = hensa.compare(rows, ["share-hapi", CAMPAIGN], month=month)
        assert found.rows["campaign_difference"].to_pylist() == [2 * each - 300, -300, each - 700]
        assert found.costs == {"share-hapi": 1300, "campaign": 3 * each}
        assert found.friend_costs == {"share-hapi": 1300, "campaign": 3 * friend}
        assert found.rows.schema.metadata == {b"hensa.month": month.encode()}
    with pytest.raises(DataError, match="The program has campaigns, and no month is named"):
        hensa.compare(rows, ["share-hapi", CAMPAIGN])


def test_a_month_outside_the_dates_of_one_program_is_refused_unless_any_is_allowed():
    rows = {"cumulative_referrals": [3, 10], "own_points": [0, 0], "friend_points": [1000, 1000]}
    rows |= {"new_referrals": [1, 1], "ad_users": [1, 1]}
    programs = ["hapi-tomo", "hapitas-friend"]
    with pytest.raises(hensa.ProgramError, match="'hapi-tomo' holds from any day to 2019-09-30, not in all of 2019-10"):
        hensa.compare(rows, programs, month="2019-10")
    # 25% and 30% of 1,000; both scores are 50: 10%
    found = hensa.compare(rows, programs, month="2019-10", any_month=True)
    assert found.rows["hapitas-friend_difference"].to_pylist() == [-150, -200]
    assert found.friend_costs == {}


def test_rows_that_a_ledger_counted_for_another_month_are_not_compared():
    rows = pa.table({"registrations": [1], "first_valid_ads": [0]})
    rows = rows.replace_schema_metadata({"hensa.ledger": json.dumps({"month": "2018-11"})})
    with pytest.raises(DataError, match="The rows were counted for 2018-11, and the month of the run is 2018-12"):
        hensa.compare(rows, ["share-hapi", CAMPAIGN], month="2018-12")


def test_rows_read_once_and_their_own_reward_column_are_no_obstacle():
    rows = pa.table({"x": [0, 2], "b": [100, 100], "reward": ["kept", "too"]})
    found = hensa.compare(rows.to_reader(), [LOW, HIGH]).rows
    assert found["reward"].to_pylist() == ["kept", "too"]
    assert found["high_difference"].to_pylist() == [20, -10]  # scores 49 and 51


def test_sums_beyond_int64_are_exact():
    most = 2**63 - 1
    found = hensa.compare({"x": [0] * 5, "b": [most] * 4 + [-most]}, [named("none", flat(0)), named("all", flat(1))])
    assert found.costs == {"none": 0, "all": 3 * most}
    assert (found.totals["all"].gained, found.totals["all"].lost) == (4 * most, most)


def test_a_difference_beyond_int64_is_an_error_that_names_the_row():
    with pytest.raises(DataError, match="in row 1 are -9223372036854775807 and 9223372036854775807"):
        hensa.compare({"x": [0, 0], "b": [0, 2**63 - 1]}, [named("plus", flat(1)), named("minus", flat(-1))])


def test_no_rows_are_no_winners():
    found = hensa.compare({"x": pa.array([], pa.int64()), "b": pa.array([], pa.int64())}, [LOW, HIGH], band="x")
    assert found.costs == {"low": 0, "high": 0}
    assert {tally.rows for tally in (found.totals["high"], *found.bands["high"])} == {0}


@pytest.mark.parametrize(
    ("programs", "options", "sentence"),
    [
        ([LOW], {}, "compare got 1 program; it takes two or more"),
        ([LOW, HIGH, LOW], {}, "Two of the programs are named 'low'"),
        ([LOW, HIGH], {"band": "word"}, "Band column 'word' is of type string; it must be of integers, such as "),
        ([LOW, HIGH], {"band": "none"}, "There is no column 'none'"),
        ([LOW, HIGH], {"band": "x", "edges": [1, 1]}, r"edges is \[1, 1\]; it must be ascending whole numbers"),
        ([LOW, HIGH], {"band": "x", "edges": [2**63]}, r"it must be ascending whole numbers within int64"),
        ([LOW, HIGH], {"band": "x", "edges": []}, "edges is"),
        ([LOW, HIGH], {"band": "x", "edges": [1.5]}, "edges is"),
        ([LOW, "hapitas-fiend"], {}, "did you mean hapitas-friend"),
        ([LOW, rates("unpaid", (0, 1), base=None)], {}, "has no \\[reward\\]"),
        ([LOW, named("taken", LOW)], {}, "The rows already have a column 'taken_reward'"),
    ],
)
def test_what_cannot_be_compared_is_an_error_that_says_why(programs, options, sentence):
    rows = {"x": [1, 2], "b": [1, 2], "word": ["a", "b"], "taken_reward": [1, 2]}
    with pytest.raises(HensaError, match=sentence):
        hensa.compare(rows, programs, **options)


counts = st.one_of(st.none(), st.integers(0, 30), st.integers(-(2**40), 2**40))


@st.composite
def tables(draw):
    length = draw(st.integers(1, 30))
    return {name: draw(st.lists(counts, min_size=length, max_size=length)) for name in ("x", "y", "b", "friends")}


@st.composite
def tables_and_programs(draw):
    found = []
    for name, measures in (("first", "x"), ("second", "xy"), ("third", "y")):
        values = draw(st.lists(st.integers(0, 100), min_size=3, max_size=3))
        found.append(named(name, program(measures, list(zip((0, 50, 51), values, strict=True)))))
    return draw(tables()), found


@examples(100)
@given(tables_and_programs())
def test_totals_and_bands_are_the_sums_of_the_rows(case):
    rows, programs = case
    table = pa.table({name: pa.array(values, pa.int64()) for name, values in rows.items()})
    found = hensa.compare(table, programs, band="friends")
    paid = {rules.name: reference.score(rows, rules, columns=["reward"])["reward"] for rules in programs}
    for name, rewards in paid.items():
        assert found.rows[f"{name}_reward"].to_pylist() == rewards
        assert found.costs[name] == sum(points for points in rewards if points is not None)
    for name in ("second", "third"):
        pairs = list(zip(paid["first"], paid[name], rows["friends"], strict=True))
        compared = [(a, b) for a, b, _ in pairs if a is not None and b is not None]
        total = found.totals[name]
        assert total.gains == sum(b > a for a, b in compared)
        assert total.loses == sum(b < a for a, b in compared)
        assert total.stays == sum(b == a for a, b in compared)
        assert total.missing == len(pairs) - len(compared)
        assert total.gained == sum(b - a for a, b in compared if b > a)
        assert total.lost == sum(a - b for a, b in compared if b < a)
        assert (total.before, total.after) == (sum(a for a, _ in compared), sum(b for _, b in compared))
        differences = found.rows[f"{name}_difference"].drop_null().to_pylist()
        assert total.difference == total.after - total.before == sum(differences)
        bands = found.bands[name]
        for field in ("rows", "gains", "loses", "stays", "missing", "gained", "lost", "before", "after", "difference"):
            assert sum(getattr(band, field) for band in bands) == getattr(total, field)
        ten = next(band for band in bands if band.band == "10 to 49")
        assert ten.rows == sum(friends is not None and 10 <= friends <= 49 for _, _, friends in pairs)


@examples(30)
@given(tables_and_programs())
def test_a_program_against_itself_changes_nothing_and_the_other_way_round_changes_signs(case):
    rows, (first, second, _) = case
    table = pa.table({name: pa.array(values, pa.int64()) for name, values in rows.items()})
    same = hensa.compare(table, [first, named("again", first)]).totals["again"]
    assert (same.gains, same.loses, same.gained, same.lost) == (0, 0, 0, 0)
    there = hensa.compare(table, [first, second]).totals["second"]
    back = hensa.compare(table, [second, first]).totals["first"]
    assert (there.gains, there.gained, there.difference) == (back.loses, back.lost, -back.difference)


# --- solve ------------------------------------------------------------------------------------------------------------


def scaled_by_hand(rules, factor, places):
    """Rates in the unit of the table, rounded down, as fractions."""
    return [Fraction(floor(Fraction(step.rate) * factor * 10**places), 10**places) for step in rules.rates.steps]


def total_by_hand(rows, steps, rules, scaled):
    """What these rates pay on these steps."""
    unit = 100 if rules.rates.unit == "percent" else 1
    total = 0
    for step, base in zip(steps, rows["b"], strict=True):
        if step is not None:
            exact = base * scaled[step] / unit
            half = Fraction(1, 2) if rules.reward.rounding == "half_up" else 0
            points = -floor(-exact) if rules.reward.rounding == "ceil" else floor(exact + half)
            total += points if rules.reward.cap is None else min(points, rules.reward.cap)
    return total


@st.composite
def budgets(draw):
    length = draw(st.integers(1, 12))
    rows = {
        "x": draw(st.lists(st.one_of(st.none(), st.integers(0, 9)), min_size=length, max_size=length)),
        "b": draw(st.lists(st.integers(0, 5000), min_size=length, max_size=length)),
    }
    # one rate of 5 percent or more, so that there are few factors up to 100 percent
    steps = [(t, draw(st.decimals(least, 60, places=2))) for t, least in ((0, 0), (49, 0), (50, 5), (51, 0))]
    rules = program(
        "x",
        steps,
        rates={"below": draw(st.sampled_from(["first", "zero"]))},
        rounding=draw(st.sampled_from(["floor", "half_up", "ceil"])),
        cap=draw(st.sampled_from([None, 0, 300])),
    )
    return rows, rules, draw(st.integers(0, 12_000)), draw(st.sampled_from([None, 0, 1, 4]))


@examples(60)
@given(budgets())
def test_the_factor_is_the_largest_whose_total_is_within_the_budget(case):
    rows, rules, budget, places = case
    found = hensa.solve(rows, rules, budget, digits=2, places=places)
    places = 2 if places is None else places
    steps = reference.score(rows, rules, columns=["step"])["step"]
    most = floor(100 * 100 / max(Fraction(step.rate) for step in rules.rates.steps))
    scaled = [scaled_by_hand(rules, Fraction(units, 100), places) for units in range(most + 1)]
    totals = [total_by_hand(rows, steps, rules, rates) for rates in scaled]
    assert totals == sorted(totals)
    best = max(units for units, total in enumerate(totals) if total <= budget)
    assert (found.factor, found.total) == (Decimal(best) / 100, totals[best])
    assert found.next_total == (totals[best + 1] if best < most else None)
    rates = [Fraction(step.rate) for step in found.program.rates.steps]
    assert rates == scaled[best]
    assert sum(filter(None, reference.score(rows, found.program, columns=["reward"])["reward"])) == found.total


@pytest.mark.parametrize("budget", [0, 1, 999_999, 5_000_000, 10**12])
def test_scaled_rates_are_decimals_of_the_table_that_rise_as_it_does(budget):
    found = hensa.solve(hensa.sample(3000), HAPITAS, budget)
    scaled = [step.rate for step in found.program.rates.steps]
    assert scaled == sorted(scaled)
    assert all(rate.as_tuple().exponent == -1 for rate in scaled)
    assert max(scaled) <= 100
    assert Program.parse(found.program.to_toml()) == found.program
    assert found.program.name == "hapitas-friend-scaled"


def test_scaled_rates_of_the_worked_example():
    # 99 members on step 49 and one on 54, 1000 points each: 99 floor(98 f) + floor(140 f) <= 5000. floor(98 f) is 49 at
    # most, so f < 50/98 = 0.5102041, where floor(140 f) is 71: 99 * 49 + 71 = 4922.
    rows = {"new_referrals": [10] * 99 + [5000], "ad_users": [7] * 100, "friend_points": [1000] * 100}
    found = hensa.solve(rows, HAPITAS, 5000)
    # With one more, 50 * 99 + 71.
    assert found[1:] == (Decimal("0.510204"), 4922, 5021)


def test_a_budget_beyond_what_100_percent_pays_gives_rates_up_to_100_percent():
    rows = {"x": [0, 2], "b": [1000, 1000]}
    found = hensa.solve(rows, rates("small", (0, 10), (50, 30)), 10**6)
    # 100/30 = 3.333333, 10 * 3.333333 = 33 and 30 * 3.333333 = 99 rounded down
    assert found[1:] == (Decimal("3.333333"), 1320, None)


def test_a_table_above_100_percent_is_not_scaled_up():
    rules = rates("large", (0, 150), rates={"outside": "allow"})
    assert hensa.solve({"x": [1], "b": [10]}, rules, 10**6)[1:] == (Decimal("1.000000"), 15, None)


def test_rates_of_zero_stay_zero():
    assert hensa.solve({"x": [1], "b": [10]}, rates("nothing", (0, 0)), 5).total == 0


@pytest.mark.parametrize(
    ("rules", "rows", "options", "sentence"),
    [
        (LOW, {"x": [1, 2], "b": [3, -1]}, {}, "Column 'b' is -1 in row 1; solve needs bases of 0 or more"),
        (
            rates("minus", (0, 1), (50, -2), rates={"outside": "allow"}),
            {"x": [1], "b": [3]},
            {},
            r"rates.steps\[1\] of 'minus' pays -2; solve needs rates of 0 or more",
        ),
        (LOW, {"x": [1], "b": [3]}, {"budget": -1}, "budget is -1; it must be a whole number of 0 or more"),
        (LOW, {"x": [1], "b": [3]}, {"budget": 1.5}, "budget is 1.5; it must be a whole number"),
        (LOW, {"x": [1], "b": [3]}, {"digits": 13}, "digits is 13; it must be a whole number from 0 to 12"),
        (LOW, {"x": [1], "b": [3]}, {"places": True}, "places is True; it must be a whole number from 0 to 12"),
        (rates("unpaid", (0, 1), base=None), {"x": [1]}, {}, r"has no \[reward\]"),
    ],
)
def test_what_cannot_be_solved_is_an_error_that_says_why(rules, rows, options, sentence):
    with pytest.raises(DataError, match=sentence):
        hensa.solve(rows, rules, **{"budget": 100, **options})


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def month(tmp_path):
    path = tmp_path / "month.csv"
    path.write_text("id,x,b,friends,note\n1,0,100,1,a\n2,2,200,5,b\n3,4,300,2000,c\n4,,400,5,d\n5,2,55,,e\n")
    for rules in (LOW, HIGH):
        (tmp_path / f"{rules.name}.toml").write_text(rules.to_toml())
    return path


def hensa_command(*args):
    from typer import testing

    from hensa import cli

    return testing.CliRunner(env={"COLUMNS": "80"}).invoke(cli.app, [str(arg) for arg in args])


def compared(month, *options):
    return hensa_command(
        "compare", month, "-p", month.with_name("low.toml"), "-p", month.with_name("high.toml"), *options
    )


def test_the_command_prints_costs_winners_and_losers(month):
    result = compared(month, "--band", "friends")
    assert result.exit_code == 0
    assert [line.split() for line in result.stdout.splitlines()] == [
        ["program", "points", "difference"],
        ["low", "241", "0"],
        ["high", "231", "-10"],
        [],
        ["high", "against", "low,", "in", "points"],
        ["rows", "gain", "lose", "stay", "gained", "lost"],
        ["1", "1", "0", "0", "+20", "0"],
        ["3", "to", "9", "0", "0", "1", "0", "0"],
        ["1,000+", "0", "1", "0", "0", "-30"],
        ["unknown", "0", "0", "1", "0", "0"],
        ["all", "1", "1", "2", "+20", "-30"],
    ]
    assert "1 row has no reward under low or high: not compared" in result.stderr


def test_winners_and_losers_of_a_hundred_million_rows_fit_80_columns():
    from rich import console

    from hensa import terminal

    total = hensa.Tally("100 to 499", 99_999_999, 99_999_999, 99_999_999, 0, 10**10 - 1, 10**10 - 1, 0, 0)
    screen = console.Console(width=80)
    with screen.capture() as shown:
        screen.print(terminal.winners_table(total, [total], bars=True))
    assert shown.get().split() == [
        *("rows", "gain", "lose", "stay", "gained", "lost"),
        *("100", "to", "499", *["99,999,999"] * 3, "+9,999,999,999", "-9,999,999,999") * 2,
    ]


def test_the_command_compares_the_programs_of_a_month(tmp_path):
    path, rules, out = tmp_path / "events.csv", tmp_path / "campaign.toml", tmp_path / "out.parquet"
    path.write_text("referrer_id,registrations,first_valid_ads\n1,2,1\n2,0,3\n")
    rules.write_text(CAMPAIGN.to_toml())
    options = ("-p", "share-hapi", "-p", rules, "-o", out)
    result = hensa_command("compare", path, *options, "--month", "2018-12")
    assert result.exit_code == 0
    assert pq.read_table(out)["campaign_difference"].to_pylist() == [2 * 700 - 300, -300]
    assert pq.read_schema(out).metadata[b"hensa.month"] == b"2018-12"
    assert "share-hapi pays 600 points to friends besides\ncampaign pays 100 points to friends besides" in result.stderr
    refused = hensa_command("compare", path, *options, "--month", "2019-10")
    assert refused.exit_code == 1
    refusal = "Program 'share-hapi' holds from 2018-01-01 to 2019-09-30, not in all of 2019-10; any_month "
    assert refusal in refused.stderr
    assert hensa_command("compare", path, *options, "--month", "2019-10", "--any-month").exit_code == 0
    assert hensa_command("compare", path, *options, "--month", "2019-13").exit_code == 2


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_rows_that_were_scored_in_cohorts_are_compared_as_one_population_which_is_said(month, tmp_path, suffix):
    paid = tmp_path / f"paid.{suffix}"
    said = f"{paid} was scored in cohorts by note; here all its rows are one population.\n"
    for options, is_said in (("--by", "note"), True), ((), False):
        rules = tmp_path / "low.toml"
        assert hensa_command("score", month, "-o", paid, "-p", rules, *options).exit_code == 0
        assert (said in compared(paid).stderr) == is_said


def test_the_command_prints_json_and_writes_the_rows_and_the_scaled_program(month, tmp_path):
    out, scaled = tmp_path / "out.parquet", tmp_path / "scaled.toml"
    result = compared(month, "--json", "-o", out, "--budget", "100", "--scaled", scaled)
    facts = json.loads(result.stdout)
    solution = hensa.solve(ROWS, HIGH, 100)
    assert facts["costs"] == {"low": 241, "high": 231, "high-scaled": solution.total}
    assert facts["solution"] == {
        "factor": str(solution.factor),
        "total": solution.total,
        "next_total": solution.next_total,
        "program": solution.program.to_toml(),
    }
    assert Program.load(scaled) == solution.program
    assert pq.read_table(out)["high_difference"].to_pylist() == [20, 0, -30, None, 0]
    assert pq.read_table(out)["note"].to_pylist() == list("abcde")


@pytest.mark.parametrize(
    ("steps", "budget", "told"),
    [
        # of 3,000 points 0% pay nothing and 1% pay 30; 0.8% pay 24 and 0.9% pay 27
        (
            [(0, 10)],
            26,
            "0.099999 It pays 26 points less than the budget: the next factor pays 30, as rates have 0 decimal places",
        ),
        (
            [(0, "10.0")],
            25,
            "It pays 1 point less than the budget: the next factor pays 27, as rates have 1 decimal place",
        ),
        ([(0, 10)], 5000, "times 10.000000 It pays 2,000 points less than the budget: no rate may be above 100%"),
        ([(0, 150)], 4600, "times 1.000000 It pays 100 points less than the budget: no rate may be above 150%"),
        ([(0, 0)], 7, "It pays 7 points less than the budget: all rates are 0"),
        ([(0, 10)], 300, "high-scaled has the rates of high times 1.099999 "),
    ],
)
def test_the_command_says_what_leaves_points_of_a_budget_over(tmp_path, steps, budget, told):
    pq.write_table(pa.table({"x": [1, 2, 3], "b": [1000] * 3}), tmp_path / "rows.parquet")
    for name in ("low", "high"):
        (tmp_path / f"{name}.toml").write_text(rates(name, *steps, rates={"outside": "allow"}).to_toml())
    programs = ("-p", tmp_path / "low.toml", "-p", tmp_path / "high.toml")
    result = hensa_command("compare", tmp_path / "rows.parquet", *programs, "--budget", budget)
    assert told in " ".join(result.stderr.split())
    assert ("than the budget" in result.stderr) == (budget != 300)


def test_tables_leave_standard_output_to_the_rows(month):
    result = compared(month, "-o", "-")
    assert result.exit_code == 0
    assert pa.ipc.open_stream(result.stdout_bytes).read_all()["low_reward"].to_pylist() == [10, 40, 180, None, 11]
    assert "high against low, in points" in result.stderr


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--edges", "1;2"), "it must be whole numbers such as 1,10,100"),
        (("--scaled", "new.toml"), "give both"),
        (("--json", "-o", "-"), "both want standard output"),
    ],
)
def test_bad_usage_is_exit_code_2(month, options, sentence):
    result = compared(month, *options)
    assert result.exit_code == 2
    assert sentence in " ".join(result.stderr.split())


def test_a_comparison_that_fails_leaves_no_files(month, tmp_path):
    result = compared(month, "-o", tmp_path / "out.csv", "--band", "note")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "line 2, column note: 'a' is not a number" in result.stderr
    assert not (tmp_path / "out.csv").exists()
