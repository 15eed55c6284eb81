"""The stage rule: the highest stage that either criterion reaches, its rate, and bonuses paid once."""

import itertools
import random
import re
from decimal import Decimal
from fractions import Fraction
from math import inf, nan, nextafter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_differential import (
    BLOCKS,
    CHUNKING,
    DECIMALS,
    FLOATS,
    INTEGERS,
    LANES,
    NULLS,
    OFFSETS,
    column,
    engines,
    pairwise,
)
from typer.testing import CliRunner

import hensa
from hensa import Criterion, DataError, Program, ProgramError, RateTable, Reward, Stages, reference
from hensa.cli import app

HAPI_TOMO = Program.load("hapi-tomo")
RESULTS = ["stage", "step", "rate", "reward"]


def stages(*criteria, n=None, bonuses=(), previous=None, rates=None, **reward):
    """A program; the criteria are {stage: minimum} for the columns x, y, ..."""
    n = n or max(max(minimums) for minimums in criteria)
    previous = previous or ("before" if bonuses else None)
    return Program(
        name="test",
        rule=Stages(
            criteria=[Criterion(name, list(minimums.items())) for name, minimums in zip("xyz", criteria, strict=False)],
            bonuses=bonuses,
            previous=previous,
        ),
        rates=RateTable(below="zero", steps=[(s, (rates or {}).get(s, min(s, 100))) for s in range(1, n + 1)]),
        reward=Reward(base="b", **reward),
    )


def run(*args):
    return CliRunner().invoke(app, [str(arg) for arg in args])


def paid(rows, program, columns=RESULTS):
    """The results of every build, which must be those of the reference; what it gives below is worked by hand."""
    rows = pa.table(rows)
    found = engines.each(lambda: hensa.score(rows, program, columns=columns))
    expected = reference.score(rows, program, columns=columns)
    assert found.to_pydict() == expected
    return {name: expected[name] for name in columns}


# --- the built-in program --------------------------------------------------------------------------------------------

HAPI_TOMO_TABLE = [  # friends, own points, stage, rate in percent, of domain.md
    (0, 0, 0, 0),
    (0, 2999, 0, 0),
    (0, 3000, 4, 30),
    (0, 10**9, 4, 30),  # own points never reach beyond stage 4
    (1, 0, 1, 10),
    (1, 2999, 1, 10),
    (1, 3000, 4, 30),
    (2, 0, 2, 15),
    (3, 0, 3, 25),
    (9, 0, 3, 25),
    (9, 3000, 4, 30),
    (10, 0, 4, 30),
    (49, 3000, 4, 30),
    (50, 0, 5, 35),
    (99, 5000, 5, 35),
    (100, 0, 6, 40),
    (499, 0, 6, 40),
    (500, 0, 7, 40),
    (999, 0, 7, 40),
    (1000, 0, 8, 40),
    (10**9, 0, 8, 40),
]


def test_hapi_tomo_pays_the_published_stages():
    friends, own, stage, percent = map(list, zip(*HAPI_TOMO_TABLE, strict=True))
    rows = {
        "cumulative_referrals": friends,
        "own_points": own,
        "friend_points": [12_345] * len(friends),
        "stage_before": stage,
    }
    assert paid(rows, HAPI_TOMO) == {
        "stage": stage,
        "step": [s - 1 if s else None for s in stage],
        "rate": [p / 100 for p in percent],
        "reward": [12_345 * p // 100 for p in percent],
    }


@pytest.mark.parametrize(
    ("friends", "before", "bonus"),
    [
        (499, 6, 0),
        (500, 6, 5_000),
        (500, 7, 0),
        (500, None, 5_000),
        (500, 0, 5_000),
        (500, 8, 0),  # a stage lost and reached again pays no second time
        (1000, 7, 10_000),
        (1000, 6, 15_000),  # both stages are first reached
        (1000, None, 15_000),
        (1000, 8, 0),
        (0, 8, 0),
    ],
)
def test_hapi_tomo_pays_the_bonus_of_a_stage_once(friends, before, bonus):
    rows = {
        "cumulative_referrals": [friends],
        "own_points": [0],
        "friend_points": [1_001],
        "stage_before": pa.array([before], pa.int8()),
    }
    share = 400 if friends >= 100 else 0  # floor(1001 * 40%)
    assert paid(rows, HAPI_TOMO)["reward"] == [share + bonus]


def test_hapi_tomo_ends_in_september_2019():
    HAPI_TOMO.check_month("2019-09")
    with pytest.raises(ProgramError, match="holds from any day to 2019-09-30, not in all of 2019-10"):
        HAPI_TOMO.check_month("2019-10")


# --- the rule --------------------------------------------------------------------------------------------------------


def test_the_stage_of_one_month_is_the_stage_before_of_the_next():
    program = stages({1: 1, 2: 5, 3: 9}, bonuses=[(1, 10), (2, 200), (3, 3000)])
    month = {"x": [0, 1, 9, 9], "b": [0] * 4, "before": pa.nulls(4, pa.uint16())}
    first = hensa.score(month, program)
    assert first["reward"].to_pylist() == [0, 10, 3210, 3210]
    later = {"x": [5, 5, 5, 9], "b": [0] * 4, "before": first["stage"]}
    assert paid(later, program)["reward"] == [210, 200, 0, 0]


def test_a_null_leaves_a_row_out_but_for_the_stage_before():
    rows = {
        "x": [9, None, 9, 9],
        "y": pa.array([0, 0, None, 0]),
        "b": [100, 100, 100, None],
        "before": pa.array([None, 1, 1, 1], pa.int64()),
    }
    program = stages({1: 1}, {1: 1}, bonuses=[(1, 5)])
    assert paid(rows, program) == {
        "stage": [1, None, None, None],
        "step": [0, None, None, None],
        "rate": [0.01, None, None, None],
        "reward": [6, None, None, None],
    }
    population = hensa.population(rows, program)
    assert (population.count, population.nulls, dict(population.measures)) == (1, 3, {})
    assert reference.population(pa.table(rows), program).count == 1


def test_the_cap_is_on_the_reward_with_its_bonus():
    rows = {"x": [1, 1, 1], "b": [100, 400, 10_000], "before": [0, 0, 0]}
    assert paid(rows, stages({1: 1}, bonuses=[(1, 50)], rates={1: 10}, cap=80))["reward"] == [60, 80, 80]


@pytest.mark.parametrize(("rounding", "reward"), [("floor", 3), ("half_up", 4), ("ceil", 4)])
def test_the_rounding_is_that_of_the_program(rounding, reward):
    rows = {"x": [1], "b": [35]}
    assert paid(rows, stages({1: 1}, rates={1: 10}, rounding=rounding))["reward"] == [reward]


def test_a_negative_reward_and_a_bonus_are_added():
    rows = {"x": [1, 1], "b": [-1000, -10], "before": [0, 1]}
    assert paid(rows, stages({1: 1}, bonuses=[(1, 30)], rates={1: 5}))["reward"] == [-20, -1]


def test_the_bonus_may_bring_the_reward_to_the_end_of_int64_and_not_beyond():
    program = stages({1: 1}, bonuses=[(1, 5)], rates={1: 100})
    rows = {"x": [1, 0, 1], "b": [2**63 - 6, 2**63 - 1, 2**63 - 1], "before": [0, 0, 1]}
    assert paid(rows, program)["reward"] == [2**63 - 1, 0, 2**63 - 1]
    rows["before"] = [0, 0, 0]
    failed = engines.each(lambda: outcome(lambda: hensa.score(rows, program)))
    assert failed == f"Column 'b' is {2**63 - 1} in row 2; its reward of {2**63 + 4} points is beyond int64."
    assert failed == outcome(lambda: reference.score(rows, program))


def outcome(call):
    try:
        return call()
    except hensa.HensaError as error:
        return str(error)


def test_a_wide_base_is_paid_with_its_bonus():
    wide = pa.array([Decimal(10**25), Decimal(7)], pa.decimal128(38, 0))
    rows = {"x": [1, 1], "b": wide, "before": [0, 0]}
    assert paid(rows, stages({1: 1}, bonuses=[(1, 5)], cap=10**6))["reward"] == [10**6, 5]


def test_a_wide_base_on_a_lower_stage_than_before_gives_no_bonus_back():
    wide = pa.array([Decimal(10**25), Decimal(7)], pa.decimal128(38, 0))
    rows = {"x": [1, 1], "b": wide, "before": [2, 2]}
    assert paid(rows, stages({1: 1, 2: 2}, bonuses=[(1, 5), (2, 7)], rates={1: 0}))["reward"] == [0, 0]


@pytest.mark.parametrize("before", [-1, 4, 2**63, 2**64 - 1])
def test_a_stage_before_that_there_is_not_is_refused_by_its_row(before):
    type_ = pa.uint64() if before > 0 else pa.int64()
    program = stages({1: 1, 2: 2, 3: 3}, bonuses=[(1, 5)])
    rows = pa.table({"x": [1] * 3, "b": [1, 1, None], "before": pa.array([0, before, before], type_)})
    message = f"Column 'before' is {before} in row 1; a stage is 0, for none, to 3."
    assert engines.each(lambda: outcome(lambda: hensa.score(rows, program))) == message
    assert outcome(lambda: reference.score(rows, program)) == message
    # it is not read in a row that is left out, under a null, or where no reward is asked for
    rest = pa.table({"x": [1] * 3, "b": [1, 1, None], "before": pa.array([0, 1, before], type_)})
    assert paid(rest, program)["reward"] == [5, 0, None]
    assert hensa.score(rows, program, columns="stage")["stage"].to_pylist() == [1, 1, None]


def test_a_stage_before_under_a_null_is_not_read():
    values = pa.array(np.array([99, -5, 1], dtype=np.int64), mask=np.array([True, True, False]))
    program = stages({1: 1}, bonuses=[(1, 5)])
    assert paid({"x": [1] * 3, "b": [0] * 3, "before": values}, program)["reward"] == [5, 5, 0]


@pytest.mark.parametrize("value", [nan, inf, -inf])
@pytest.mark.parametrize("type_", FLOATS, ids=str)
def test_a_float_that_is_not_finite_is_refused_by_its_row(value, type_):
    rows = pa.table({"x": pa.array([1.0, value, value], type_), "y": [1, None, 1], "b": [1, 1, 1]})
    message = rf"^Column 'x' is {value} in row 2; "
    program = stages({1: 1}, {1: 5})
    assert re.search(message, engines.each(lambda: outcome(lambda: hensa.score(rows, program))))
    assert re.search(message, outcome(lambda: reference.score(rows, program)))


def test_a_negative_value_is_refused_where_the_program_says_so():
    rule = Stages(criteria=[Criterion("x", [(1, 1)], "error")])
    program = Program(name="p", rule=rule, rates=RateTable(below="zero", steps=[(1, 1)]))
    message = "Column 'x' is -1 in row 1; it must be 0 or more, as the program says negative = \"error\" of it."
    for score in (hensa.score, reference.score):
        assert outcome(lambda score=score: score({"x": [0, -1]}, program)) == message


def test_a_population_and_cohorts_bear_on_nothing():
    rows = {"x": [0, 1, 2], "b": [100] * 3, "site": ["a", "b", "b"]}
    program = stages({1: 1, 2: 2})
    plain = hensa.score(rows, program)
    population = hensa.population(rows, program, by="site")
    assert {key: cohort.count for key, cohort in population.cohorts.items()} == {("a",): 1, ("b",): 2}
    assert hensa.Population.from_json(population.to_json()) == population
    assert hensa.score(rows, program, population=population, by="site").equals(plain)
    with pytest.raises(DataError, match="no column 'country'"):
        hensa.score(rows, program, by="country")


def test_a_stage_has_no_score():
    rows, program = {"x": [1], "b": [1]}, stages({1: 1})
    assert hensa.score(rows, program).column_names == ["x", "b", "stage", "rate", "reward"]
    message = "columns names 'score'; it may name each of stage, rate, step, reward once, as stages have no scores."
    assert outcome(lambda: hensa.score(rows, program, columns="score")) == message
    with pytest.raises(DataError, match="'x_score'"):
        hensa.score(rows, program, columns="x_score")
    with pytest.raises(DataError, match="'stage'"):
        hensa.score({"new_referrals": [1], "ad_users": [1]}, Program.load("hapitas-friend"), columns="stage")


def test_no_rows_have_no_stages():
    rows = {"x": pa.array([], pa.int64()), "b": pa.array([], pa.int64())}
    assert paid(rows, stages({1: 1})) == {name: [] for name in RESULTS}


def test_out_is_reused():
    rows, program = {"x": [1, 5], "b": [100, 100]}, stages({1: 1, 2: 5})
    first = hensa.score(rows, program)
    address = first["stage"].chunk(0).buffers()[1].address
    again = hensa.score({"x": [5, 0], "b": [100, 100]}, program, out=first)
    assert again["stage"].chunk(0).buffers()[1].address == address
    assert again["stage"].to_pylist() == [2, 0]


# --- exact comparisons -----------------------------------------------------------------------------------------------

EDGES = {
    pa.int8(): [-128, -1, 0, 1, 127],
    pa.uint8(): [0, 1, 255],
    pa.int64(): [-(2**63), -(2**53) - 1, -(2**53), 2**51, 2**52, 2**53 - 1, 2**53, 2**53 + 1, 2**62, 2**63 - 1],
    pa.uint64(): [0, 2**53 - 1, 2**53, 2**53 + 1, 2**63 - 1, 2**63, 2**63 + 1, 2**64 - 1],
    pa.decimal128(38, 0): [-(10**38) + 1, -(2**53) - 1, 2**53 + 1, 2**64, 10**30, 10**30 + 1, 10**38 - 1],
}


@pytest.mark.parametrize("type_", EDGES, ids=str)
def test_a_value_reaches_a_minimum_that_it_equals_and_none_that_is_one_more(type_):
    lowest, highest = min(EDGES[type_]), max(EDGES[type_])
    values = sorted({v + d for v in EDGES[type_] for d in (-1, 0, 1) if lowest <= v + d <= highest})
    array = pa.array([Decimal(v) for v in values] if pa.types.is_decimal(type_) else values, type_)
    for edge in EDGES[type_]:
        for minimum in (edge, edge + 1, Decimal(edge) + Decimal("0.5") if abs(edge) < 10**20 else edge - 1):
            expected = [int(value >= Fraction(minimum)) for value in values]
            assert paid({"x": array, "b": [0] * len(values)}, stages({1: minimum}), ["stage"]) == {"stage": expected}


@pytest.mark.parametrize(("scale", "minimum"), [(2, "0.005"), (18, "3000"), (37, "1.5"), (-3, "2500"), (38, "1e49")])
def test_decimals_are_compared_by_their_value(scale, minimum):
    unit = Decimal(10) ** -scale
    at = -(-Fraction(minimum) // Fraction(unit))  # the first whole number of units that reaches it
    digits = [d for d in (0, at - 1, at, at + 1) if abs(d) < 10**38]
    array = pa.array([Decimal(int(d)) for d in digits], pa.decimal128(38, 0)).view(pa.decimal128(38, scale))
    found = hensa.score({"x": array, "b": [0] * len(digits)}, stages({1: minimum}), columns="stage")["stage"]
    assert found.to_pylist() == [int(d >= at) for d in digits]


def test_floats_are_compared_with_the_decimal_itself():
    tenth = 0.1  # a little more than 1/10
    values = [nextafter(tenth, 0), tenth, nextafter(tenth, 1)]
    assert paid({"x": values, "b": [0] * 3}, stages({1: "0.1"}), ["stage"])["stage"] == [0, 1, 1]
    third = 0.3  # a little less than 3/10
    values = [third, nextafter(third, 1)]
    assert paid({"x": values, "b": [0] * 2}, stages({1: "0.3"}), ["stage"])["stage"] == [0, 1]
    single = pa.array([0.1, 0.3], pa.float32())  # a little more than 1/10, a little more than 3/10
    assert paid({"x": single, "b": [0] * 2}, stages({1: "0.1", 2: "0.3"}), ["stage"])["stage"] == [1, 2]


def test_more_stages_than_one_loop_compares():
    n = 256
    program = stages({s: 3 * s for s in range(1, n + 1)}, {s: s * s for s in range(1, n + 1, 5)})
    x = [0, 2, 3, 5, 6, 767, 768, 10**6, -5]
    y = [0, 1, 0, 36, 35, 65536, 0, 63001, 0]
    # by y the stages are 1, 6, 11 ... 256; 251² = 63001
    assert paid({"x": x, "y": y, "b": [0] * len(x)}, program, ["stage"])["stage"] == [
        *(0, 1, 1, 6, 2, 256, 256, 256, 0)
    ]


# --- the matrix ------------------------------------------------------------------------------------------------------

PROGRAMS = [
    stages({1: 1, 2: 4, 3: 30}, {2: -3, 3: 7}, bonuses=[(2, 500), (3, 10**6)], rates={1: "0.1", 2: "33.3", 3: 100}),
    stages({1: -9, 2: 3, 3: 4, 4: 5, 5: 2**32, 6: 2**54}, {1: "0.5", 6: 10**30}, rounding="half_up", cap=1000),
    stages({s: 2 * s - 20 for s in range(1, 21)}, {20: 8}, bonuses=[(s, s) for s in range(1, 21)], rounding="ceil"),
]
CASES = list(pairwise(INTEGERS + DECIMALS + FLOATS, [0, 1, 2, *LANES, *BLOCKS], NULLS, OFFSETS, CHUNKING, range(3)))


@pytest.mark.parametrize(("type_", "length", "nulls", "offset", "chunking", "rules"), CASES, ids=str)
def test_builds_and_reference_agree_over_the_matrix(type_, length, nulls, offset, chunking, rules):
    rng = random.Random(f"{type_} {length} {nulls} {offset} {chunking} {rules}")
    program = PROGRAMS[rules]

    def other(types, span=None, nulls=NULLS[:3]):
        return column(
            rng.choice(types), rng.choice(nulls), rng.choice(OFFSETS), rng.choice(CHUNKING), length, rng, span
        )

    rows = pa.table(
        {
            "x": column(type_, nulls, offset, chunking, length, rng),
            "y": other(INTEGERS + DECIMALS + FLOATS),
            "b": other(INTEGERS + DECIMALS, (-9, 10**9)),
            "before": other(INTEGERS[:8], (0, len(program.rates.steps)), NULLS),
            "other": pa.array(range(length)),
        }
    )
    found = engines.each(lambda: hensa.score(rows, program, columns=RESULTS, threads=2))
    expected = reference.score(rows, program, columns=RESULTS)
    assert {name: found[name].to_pylist() for name in RESULTS} == {name: expected[name] for name in RESULTS}
    assert found.select(rows.column_names).equals(rows)
    assert [found[name].type for name in RESULTS] == [pa.uint16(), pa.uint16(), pa.float64(), pa.int64()]
    assert expected["step"][:100] == reference.exact_steps(rows.slice(0, 100), program)


def test_threads_and_pieces_of_work_change_nothing():
    rng = np.random.default_rng(0)
    n = 2 * 2**18 + 3
    rows = pa.table(
        {
            "x": rng.integers(0, 40, n, dtype=np.int32),
            "y": rng.integers(-9, 9, n),
            "b": rng.integers(0, 10**6, n),
            "before": rng.integers(0, 4, n, dtype=np.uint8),
        }
    )
    program = PROGRAMS[0]
    one, two = (hensa.score(rows, program, columns=RESULTS, threads=threads) for threads in (1, 2))
    assert one.equals(two)
    at = [*range(300), *range(2**18 - 9, 2**18 + 9), *range(n - 9, n)]
    assert one.take(at).select(RESULTS).to_pydict() == {
        name: reference.score(rows.take(at), program, columns=RESULTS)[name] for name in RESULTS
    }


# --- what is refused -------------------------------------------------------------------------------------------------

BASE = """
name = "p"
[rule]
kind = "stage"
previous = "before"
criteria = [{ column = "x", minimums = [[1, 1], [2, 5, "stated"]] }, { column = "y", minimums = [[2, 0.5]] }]
bonuses = [[2, 100, "public"]]
[rates]
below = "zero"
steps = [[1, 10], [2, 20]]
[reward]
base = "b"
"""
REFUSED = {
    'criteria: found an empty array; allowed: at least one criterion, { column, minimums }': (
        re.compile(r"criteria = .*"), "criteria = []"),
    "criteria[1].column: found 'x' again; allowed: each column once": ('"y"', '"x"'),
    'criteria[0].minimums: found an empty array; allowed: at least one [stage, minimum]': (
        '[[1, 1], [2, 5, "stated"]]', "[]"),
    "criteria[0].minimums[1].stage: found 1; allowed: stages from 1 to 256 that ascend without repeats": (
        '[2, 5, "stated"]', "[1, 5]"),
    "criteria[0].minimums[0].stage: found 0; allowed: stages from 1 to 256 that ascend without repeats": (
        "[1, 1]", "[0, 1]"),
    "criteria[0].minimums[1].stage: found 257; allowed: stages from 1 to 256 that ascend without repeats": (
        '[2, 5, "stated"]', "[257, 5]"),
    "criteria[0].minimums[1].stage: found 3; allowed: the stages of rates.steps, 1 to 2": (
        '[2, 5, "stated"]', "[3, 5]"),
    "criteria[0].minimums[1]: found the minimum 1 after 1; allowed: minimums that ascend without repeats": (
        '[2, 5, "stated"]', "[2, 1]"),
    "criteria[0].minimums[0].minimum: found 'one'; allowed: a decimal of at most 50 digits": ("[1, 1]", '[1, "one"]'),
    "criteria[0].minimums[0].stage: found 1.5; allowed: a whole number": ("[1, 1]", "[1.5, 1]"),
    "criteria[0].minimums[0]: found an array of 1; allowed: [stage, minimum] or [stage, minimum, standing]": (
        "[1, 1]", "[1]"),
    'criteria[0].minimums[1].standing: found \'sure\'; allowed: "stated", "public" or "reconstructed"': (
        '"stated"', '"sure"'),
    "criteria: found no minimum for stage 1; allowed: one or more for every stage of rates.steps": ("[1, 1], ", ""),
    "bonuses[0].points: found 0; allowed: a whole number from 1 to 9223372036854775807": ("100", "0"),
    "bonuses[0].stage: found 3; allowed: the stages of rates.steps, 1 to 2": ("[2, 100", "[3, 100"),
    "bonuses: found 9223372036854775808 points in all; allowed: at most 9223372036854775807": (
        'bonuses = [[2, 100, "public"]]', "bonuses = [[1, 1], [2, 9223372036854775807]]"),
    "previous: found nothing; allowed: the column of the stage reached before, and bonuses require it": (
        'previous = "before"', ""),
    "previous: found 'before'; allowed: nothing without bonuses": ('bonuses = [[2, 100, "public"]]', ""),
    "bonuses: found an array of 1; allowed: none without [reward]": ('[reward]\nbase = "b"', ""),
    "scale: found an unknown key; allowed: only criteria, previous, bonuses": ("previous", "scale = 1\nprevious"),
    'kind: found \'step\'; allowed: "standard-score", "stage" or "per-event"': ('"stage"', '"step"'),
    "rates.below: found 'first'; allowed: \"zero\" with a stage rule": ('"zero"', '"first"'),
    "rates.steps[0]: found the threshold 0; allowed: the stages 1, 2 and so on, up to 256": ("[1, 10]", "[0, 10]"),
    "rates.steps[1]: found the threshold 2.5; allowed: the stages 1, 2 and so on, up to 256": ("[2, 20]", "[2.5, 20]"),
}  # fmt: skip


@pytest.mark.parametrize("message", REFUSED)
def test_a_refused_file_names_the_key_what_was_found_and_what_is_allowed(message):
    old, new = REFUSED[message]
    text, edits = old.subn(new, BASE) if isinstance(old, re.Pattern) else (BASE.replace(old, new), BASE.count(old))
    assert edits == 1
    with pytest.raises(ProgramError) as error:
        Program.parse(text)
    assert str(error.value) == f"{message if message.startswith('rates') else f'rule.{message}'}."


@pytest.mark.parametrize("text", [BASE, HAPI_TOMO.to_toml()])
def test_a_program_is_read_back_as_it_was_written(text):
    program = Program.parse(text)
    assert Program.parse(program.to_toml()) == program
    assert program.to_toml() == Program.parse(program.to_toml()).to_toml()


def test_a_program_names_the_columns_it_reads():
    assert Program.parse(BASE).columns == ("x", "y", "b", "before")
    assert Program.parse(BASE).results == ("stage", "rate", "reward")
    assert HAPI_TOMO.columns == ("cumulative_referrals", "own_points", "friend_points", "stage_before")


INTEGER = "the stage before must be of an integer type; cast it first."
NUMBER = "a criterion must be of an integer, bool, float32, float64 or decimal type up to decimal128; cast it first."


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("before", [1.0], f"Column 'before' is of type double; {INTEGER}"),
        ("before", [True], f"Column 'before' is of type bool; {INTEGER}"),
        ("x", ["1"], f"Column 'x' is of type string; {NUMBER}"),
    ],
)
def test_a_column_of_another_type_is_refused(column, values, message):
    rows = {"x": [1], "b": [1], "before": [1]} | {column: values}
    assert outcome(lambda: hensa.score(rows, stages({1: 1}, bonuses=[(1, 5)]))) == message
    assert isinstance(outcome(lambda: reference.score(rows, stages({1: 1}, bonuses=[(1, 5)]))), str)


def test_rows_without_the_stage_before_are_paid_no_bonus(build):
    rules = stages({1: 1, 2: 5}, bonuses=[(1, 30), (2, 70)], rates={1: 10, 2: 20})
    rows = {"x": [0, 1, 7, None], "b": [100, 100, 100, 100]}
    assert hensa.score(rows, rules)["reward"].to_pylist() == [0, 10, 20, None]
    assert reference.score(rows, rules, columns=["reward"])["reward"] == [0, 10, 20, None]
    before = {**rows, "before": [0, 0, 1, 0]}
    assert hensa.score(before, rules)["reward"].to_pylist() == [0, 40, 90, None]
    assert "20 points" in hensa.explain({"x": 7, "b": 100}, rules, hensa.population(rows, rules)).text


# --- the command -----------------------------------------------------------------------------------------------------


def test_the_command_scores_shows_and_checks_stages(tmp_path):
    source, out = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text(
        "referrer_id,cumulative_referrals,own_points,friend_points,stage_before\n"
        "a,9,3000,1001,3\nb,500,0,1001,6\nc,500,0,1001,\nd,0,0,77,0\n"
    )
    run_ = run("score", source, "-o", out, "-p", "hapi-tomo", "--month", "2019-09")
    assert run_.exit_code == 0, run_.output
    assert [line.split(",")[5:] for line in out.read_text().splitlines()[1:]] == [
        ["4", "0.3", "300"],
        ["7", "0.4", "5400"],
        ["7", "0.4", "5400"],
        ["0", "0", "0"],
    ]
    assert "4 rows, 0 of them null\n" in run_.stderr
    assert re.search(r"40% +2 +50\.00%", run_.stderr)
    assert re.search(r"reward +11,100", run_.stderr)
    assert "measure" not in run_.stderr
    population = run("population", source, "-p", "hapi-tomo")
    assert hensa.Population.from_json(population.stdout).count == 4
    checked = run("programs", "check", "hapi-tomo")
    assert checked.stdout == "hapi-tomo: hapi-tomo is valid, with 2 criteria and 8 stages\n"


def test_show_marks_the_standing_of_every_minimum_rate_and_bonus():
    lines = [re.split(r"  +", line) for line in run("programs", "show", "hapi-tomo").stdout.splitlines()]
    assert ["rule.criteria", "cumulative_referrals or own_points [stated]"] in lines
    assert ["4", "30% [stated] from cumulative_referrals 10 [stated] or own_points 3,000 [public]"] in lines
    assert ["8", "40% [stated] from cumulative_referrals 1,000 [stated], once 10,000 points [public]"] in lines


def test_the_command_writes_stages_to_parquet(tmp_path):
    rows = pa.table(dict.fromkeys(HAPI_TOMO.columns, pa.array(itertools.repeat(1, 10), pa.int16())))
    pq.write_table(rows, tmp_path / "in.parquet")
    run("score", tmp_path / "in.parquet", "-o", tmp_path / "out.parquet", "-p", "hapi-tomo", "--columns", "stage")
    assert pq.read_table(tmp_path / "out.parquet")["stage"].to_pylist() == [1] * 10
