"""Pass 2: scores, steps, rates and rewards against fractions, the oracle and the reference."""

import math
import random
from bisect import bisect_right
from decimal import Decimal
from fractions import Fraction
from functools import cache

import numpy as np
import oracle
import pyarrow as pa
import pytest
from making import WHOLE, exact_moments, flat, program

import hensa
from hensa import DataError, HensaError, Program, reference

pytestmark = pytest.mark.usefixtures("build")

ALL = ("score", "step", "rate", "reward")
TYPES = {"score": pa.float64(), "step": pa.uint16(), "rate": pa.float64(), "reward": pa.int64()}
PROGRAM = program()
ROWS = {"x": [1, 2, 3, 9], "y": [4, 4, 1, 0], "b": [100, 200, 300, 400]}


def points(result):
    return result["reward"].to_pylist()


def agree(rows, rules, columns=ALL, **options):
    """The compiled results, which must be those of the reference."""
    result = hensa.score(pa.table(rows), rules, columns=columns, **options)
    lists = {name: column.to_pylist() for name, column in zip(rows, pa.table(rows).columns, strict=True)}
    expected = reference.score(lists, rules, columns=columns)
    assert result.to_pydict() == expected
    return result


# --- populations with known answers ----------------------------------------------------------------------------------


def test_99_members_with_10_are_on_step_49_at_9_8_percent_and_the_one_with_5000_on_step_54():
    rows = {"new_referrals": [10] * 99 + [5000], "ad_users": [7] * 100, "friend_points": [100_000] * 100}
    result = agree(rows, Program.load("hapitas-friend"))
    assert result["step"].to_pylist() == [49] * 99 + [54]
    assert result["rate"].to_pylist()[:99] == [float(Fraction(98, 1000))] * 99
    assert points(result)[:99] == [9800] * 99
    # The standard score of one among n - 1 equals is sqrt(n - 1); the other measure adds 50.
    assert result["score"][99].as_py() == pytest.approx(50 + math.sqrt(99) / 2, abs=1e-13)
    assert 54.97 < result["score"][99].as_py() < 54.98


@pytest.mark.parametrize("z", range(2, 31))
def test_a_one_among_z_squared_zeros_is_exactly_on_step_50_plus_z(z):
    # mean 1/(1+z^2), SD z/(1+z^2): a one lies exactly z SDs above the mean, a zero 1/z below it
    x = np.zeros(2000 * (1 + z * z), dtype=np.int32)
    x[:2000] = 1
    np.random.default_rng(z).shuffle(x)
    result = hensa.score({"x": x, "y": x.astype(np.int64)}, program(base=None), columns=["score", "step"])
    ones = x == 1
    step, score = result["step"].to_numpy(), result["score"].to_numpy()
    assert set(step[ones].tolist()) == {50 + z}
    assert set(step[~ones].tolist()) == {49}
    assert set(score[ones].tolist()) == {50.0 + z}


@pytest.mark.parametrize("factor", [1, 2, 7])
@pytest.mark.parametrize("type_", [np.int32, np.int64])
def test_measures_that_mirror_each_other_cancel_to_exactly_50(factor, type_):
    x = np.minimum(np.random.default_rng(6).pareto(1.1, 300_000) * 3, 10**6).astype(type_)
    result = hensa.score({"x": x, "y": 10**7 - factor * x}, program(base=None), columns=["score", "step"])
    assert set(result["score"].to_numpy().tolist()) == {50.0}
    assert set(result["step"].to_numpy().tolist()) == {50}


def test_decimals_tie_like_the_integers_they_are_made_of():
    cents = [Decimal(n).scaleb(-2) for n in [1] * 20 + [0] * 180]  # z = 3
    result = hensa.score({"x": cents, "y": cents}, program(base=None), columns=["score", "step"])
    assert result["step"].to_pylist() == [53] * 20 + [49] * 180
    assert result["score"].to_pylist()[:20] == [53.0] * 20


def test_an_exact_tie_at_a_threshold_that_is_no_float64_is_on_the_upper_step():
    # mean 0, SD 1: the score of a one is 50 + 1/10 x 1, whose float64 is not it
    rules = program("x", [(0, 1), ("50.1", 2)], None, rule={"scale": Decimal("0.1")})
    result = hensa.score({"x": [-1, 1]}, rules, columns=["score", "step"])
    assert result["step"].to_pylist() == [0, 1]
    assert result["score"].to_pylist() == [49.9, 50.1]


# --- every step against the oracle -----------------------------------------------------------------------------------


@cache
def oracle_case(seed, size):
    """A random small population, its program and the exact answer."""
    draw = random.Random(seed)
    n = draw.randrange(2, size)
    reach = draw.choice([2, 3, 6, 30, 1000, 2**31])
    x = [draw.randrange(reach) for _ in range(n)]
    shape = draw.choice(["free", "mirror", "copy", "wide"])
    y = {
        "free": [draw.randrange(reach) for _ in range(n)],
        "mirror": [3 * reach - v for v in x],
        "copy": [2 * v + 1 for v in x],
        "wide": [draw.randrange(-(2**62), 2**62) for _ in range(n)],
    }[shape]
    rows = {"x": x, "y": y, "b": [draw.randrange(-(10**9), 10**9) for _ in range(n)]}
    if draw.random() < 0.3:
        rows = {name: [None if draw.random() < 0.1 else v for v in column] for name, column in rows.items()}
    near = sorted({Fraction(50) + Fraction(draw.randrange(-40, 41), 8) for _ in range(6)})
    steps = [(Decimal(t.numerator) / Decimal(t.denominator), i * 7) for i, t in enumerate(near)]
    rules = program(
        [("x", draw.choice([1, 2, "1/3"])), ("y", draw.choice([1, 1, 5]))],
        steps,
        rule={"ddof": draw.randrange(2), "scale": draw.choice([1, 10])},
        rates={"below": draw.choice(["first", "zero"])},
        rounding=draw.choice(["floor", "half_up", "ceil"]),
    )
    counted = sum(None not in row for row in zip(*rows.values(), strict=True))
    return (rows, rules, oracle.solve(rows, rules)) if counted > rules.rule.ddof else oracle_case(seed + 10**6, size)


def assert_agrees_with_oracle(seed, size):
    rows, rules, answer = oracle_case(seed, size)
    result = hensa.score({name: pa.array(column, pa.int64()) for name, column in rows.items()}, rules, columns=ALL)
    assert result["step"].to_pylist() == [row.step for row in answer.rows]
    assert points(result) == [row.reward for row in answer.rows]
    for found, row in zip(result["score"].to_pylist(), answer.rows, strict=True):
        assert (found is None) == (row.score is None)
        assert found is None or abs(Decimal(found) - row.score) < Decimal("1e-12") * (1 + abs(row.score))
    return len(answer.rows)


def test_random_small_populations_agree_with_the_oracle_on_every_row():
    rows = seed = 0
    while rows < 20_000:
        rows += assert_agrees_with_oracle(seed, 60)
        seed += 1


def tables():
    draw = random.Random(8)
    fine = sorted({Decimal(draw.randrange(40_000, 60_000)) / 1000 for _ in range(6000)})[:5000]
    tight = [Decimal(50) + Decimal(n).scaleb(-12) for n in range(-50, 51)]
    return {
        "one step": [50],
        "two steps": [49, 51],
        "whole": [t for t, _ in WHOLE],
        "5,000 steps": fine,
        "clustered about 50": tight,
        "clustered and far": [Decimal(-(10**40)), *tight, Decimal(10**40)],
        "far apart": [-(10**9), -1, 0, 49, 50, Decimal("50.000001"), 10**9],
        "halving": [50 - Decimal(2) ** -n for n in range(45)],
        "all below": range(-10, 0),
        "all above": range(1000, 1010),
        "tiny": [Decimal("-1e-45"), 0, Decimal("1e-45"), Decimal("2e-45")],
    }


@pytest.mark.parametrize("name", list(tables()))
@pytest.mark.parametrize("below", ["first", "zero"])
@pytest.mark.parametrize("centre", [50, 0])
def test_the_step_is_found_in_tables_of_every_kind(name, below, centre):
    thresholds = tables()[name]
    steps = [(t, Decimal(i) / 100) for i, t in enumerate(thresholds)]
    rules = program(steps=steps, base=None, rule={"centre": centre}, rates={"below": below})
    draw = random.Random(1)
    x = [draw.randrange(20) for _ in range(300)]
    rows = {"x": x, "y": [draw.randrange(20) if i % 3 else 40 - v for i, v in enumerate(x)]}
    result = agree(rows, rules, columns=["score", "step", "rate"])
    assert result["step"].to_pylist() == reference.exact_steps(rows, rules)


@pytest.mark.parametrize("name", list(tables()))
def test_bisecting_the_thresholds_with_the_score_gives_the_step(name):
    thresholds = [float(t) for t in tables()[name]]
    rules = program(steps=[(t, 1) for t in tables()[name]], base=None, rates={"below": "zero"})
    draw = np.random.default_rng(2)
    rows = {"x": draw.integers(0, 30, 50_000), "y": draw.integers(0, 30, 50_000)}
    result = hensa.score(rows, rules, columns=["score", "step"])
    reached = [bisect_right(thresholds, s) for s in result["score"].to_pylist()]
    assert result["step"].to_pylist() == [r - 1 if r else None for r in reached]


@cache
def longest():
    return program("x", [(n, 0) for n in range(65_535)], None, rule={"centre": 32767, "scale": 32767})


def test_65535_steps_are_numbered_to_the_last():
    # mean 1, SD 1: the scores are 32767 - 32767 and 32767 + 32767
    assert hensa.score({"x": [0, 2]}, longest(), columns=["step"])["step"].to_pylist() == [0, 65_534]


# --- the rule --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", [(1, 1), (3, 1), (0, 1), ("1/3", "2/3"), (-1, 3)], ids=str)
def test_weights_share_out_the_score(weights):
    agree(ROWS, program([("x", weights[0]), ("y", weights[1])]))


def test_measures_of_weight_zero_add_nothing():
    rows = {"x": [1, 2, 4], "y": [4, 1, 2], "w": [1, 5, 8]}
    both = program([("x", 0), ("y", 0), ("w", 1)], base=None)
    alone = program("w", base=None)
    found, expected = (hensa.score(rows, rules, columns=["score", "step"]) for rules in (both, alone))
    assert found["score"].to_pylist() == expected["score"].to_pylist()
    assert found["step"].to_pylist() == expected["step"].to_pylist()


def test_five_measures_agree_with_the_reference():
    draw = random.Random(3)
    rows = {name: [draw.randrange(50) for _ in range(400)] for name in "vwxyz"}
    agree(rows | {"b": [100] * 400}, program("vwxyz"))


@pytest.mark.parametrize("ddof", [0, 1])
def test_ddof_is_that_of_the_program(ddof):
    # x = 0 and 2: SD 1 or sqrt(2)
    result = hensa.score({"x": [0, 2]}, program("x", base=None, rule={"ddof": ddof}), columns=["score"])
    assert result["score"].to_pylist() == [50 - 2 ** (-ddof / 2), 50 + 2 ** (-ddof / 2)]


def test_scale_and_centre_are_those_of_the_program():
    rules = program("x", base=None, rule={"scale": 10, "centre": "1/2"})
    assert hensa.score({"x": [0, 2]}, rules, columns=["score"])["score"].to_pylist() == [-9.5, 10.5]


def test_the_standard_score_of_one_measure_can_be_asked_for():
    result = agree(ROWS, PROGRAM, columns=["y_score", "x_score", "score"])
    for name in "xy":
        mean, variance = exact_moments(ROWS[name])
        for x, found in zip(ROWS[name], result[f"{name}_score"].to_pylist(), strict=True):
            assert found == pytest.approx(50 + float(x - mean) / math.sqrt(variance), rel=1e-15)


@pytest.mark.parametrize("type_", [pa.int32(), pa.float64(), pa.bool_(), pa.decimal128(5, 1)], ids=str)
def test_a_constant_measure_adds_the_centre_or_makes_null_or_raises(type_):
    rows = {"x": pa.array([1, 1, 1]).cast(pa.int8()).cast(type_), "y": [0, 0, 3], "b": [10, 10, 10]}
    result = agree(rows, program(rule={"constant": "centre"}))
    assert result["score"].to_pylist()[2] == pytest.approx((50 + 50 + math.sqrt(2)) / 2)
    result = agree(rows, program(rule={"constant": "null"}))
    assert [result[name].null_count for name in ALL] == [3] * 4
    assert [result[name].type for name in ALL] == list(TYPES.values())
    with pytest.raises(DataError, match=r"^Column 'x' is the same in every row"):
        hensa.score(rows, program(rule={"constant": "error"}))


@pytest.mark.parametrize("below", ["first", "zero"])
def test_a_null_row_leaves_the_steps_of_the_others_alone(below):
    rules = program("x", [(50, 20), (51, 30)], rates={"below": below})
    result = agree({"x": [0, 2, None], "b": [100, 100, 100]}, rules)
    assert result["step"].to_pylist() == [0 if below == "first" else None, 1, None]
    assert result["step"].null_count == (1 if below == "first" else 2)


@pytest.mark.parametrize("below", ["first", "zero"])
def test_a_score_below_the_first_threshold_takes_the_first_step_or_none(below):
    rules = program("x", [(50, 20), (51, 30)], rates={"below": below})
    result = agree({"x": [0, 2], "b": [100, 100]}, rules)
    assert result["step"].to_pylist() == [0 if below == "first" else None, 1]
    assert result["rate"].to_pylist() == [0.2 if below == "first" else 0.0, 0.3]
    assert points(result) == [20 if below == "first" else 0, 30]


# --- rewards ---------------------------------------------------------------------------------------------------------

ROUNDINGS = {
    "floor": math.floor,
    "half_up": lambda x: math.floor(x + Fraction(1, 2)),
    "ceil": math.ceil,
}
RATES = ["0", "0.098", "0.5", "1", "0.001", "0.333333333333", "1e-20", "0." + "9" * 49, "-0.25", "3.75", "-1"]
BASES = [0, 1, -1, 5, -5, 10**6 + 1, -(10**6) - 1, 2**31, 2**44 + 3, -(2**44) - 3, 2**51, 2**53 + 1, 10**15 + 1]


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("rate", RATES)
def test_rewards_are_the_exact_product_rounded(rounding, rate):
    bases = [*BASES, *(n * sign for n in range(1, 60) for sign in (1, -1))]
    expected = [ROUNDINGS[rounding](base * Fraction(rate)) for base in bases]
    result = hensa.score({"x": [1] * len(bases), "b": bases}, flat(rate, rounding=rounding))
    assert points(result) == expected


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("rate", ["0.098", "0.5", "1e-20", "-0.25", "1"])
@pytest.mark.parametrize("bases", [[2**62, -(2**63), 2**63 - 1], [2**51 - 1, 2**52], [-(2**51), 7]], ids=str)
def test_rewards_of_huge_bases_are_exact(rounding, rate, bases):
    expected = [ROUNDINGS[rounding](base * Fraction(rate)) for base in bases]
    assert points(hensa.score({"x": [1] * len(bases), "b": bases}, flat(rate, rounding=rounding))) == expected


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("rate", ["0.098", "0.0001", "0.333333", "-0.7", "0.000000003", "3.14159265"])
def test_rewards_as_near_to_a_whole_or_half_point_as_can_be_are_exact_for_bases_of_every_size(rounding, rate):
    share = Fraction(rate)
    a, c = share.numerator, share.denominator
    nearest = [0, 1, -1, c // 2, (c + 1) // 2]  # base * share, less a whole number, in units of 1/c
    residues = [residue * pow(a, -1, c) % c for residue in nearest]
    rules = flat(rate, rounding=rounding)
    for bits in range(61):  # one large base would take the others off the fast path
        bases = [sign * 2**bits // c * c + residue for residue in residues for sign in (1, -1)]
        expected = [ROUNDINGS[rounding](base * share) for base in bases]
        assert points(hensa.score({"x": [1] * len(bases), "b": bases}, rules)) == expected


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_rewards_of_random_bases_of_every_size_are_exact(rounding):
    draw = random.Random(rounding)
    bases = [draw.randrange(-(2**63), 2**63) >> draw.randrange(63) for _ in range(3000)]
    for rate in "0.429", "0.27543", "0.999999999":
        expected = [ROUNDINGS[rounding](base * Fraction(rate)) for base in bases]
        assert points(hensa.score({"x": [1] * 3000, "b": bases}, flat(rate, rounding=rounding))) == expected


@pytest.mark.parametrize(
    ("type_", "bases"),
    [
        *(
            (pa.type_for_alias(f"int{bits}"), [-(2 ** (bits - 1)), -3, 0, 2 ** (bits - 1) - 1])
            for bits in (8, 16, 32, 64)
        ),
        *((pa.type_for_alias(f"uint{bits}"), [0, 3, 2**bits - 1]) for bits in (8, 16, 32, 64)),
        (pa.bool_(), [False, True]),
        (pa.decimal32(9, 2), [Decimal("9999999.99"), Decimal("-0.01")]),
        (pa.decimal64(18, 4), [Decimal("99999999999999.9999"), Decimal("-0.0001")]),
        (pa.decimal128(38, 2), [Decimal("12345678901234567890.12"), Decimal("0.05"), Decimal("-33.33")]),
        (pa.decimal128(38, 38), [Decimal("0." + "9" * 38), Decimal("-1e-38")]),
    ],
    ids=str,
)
@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_every_type_of_base_is_paid_exactly(type_, bases, rounding):
    for rate in "0.098", "0.45", "0.333":
        expected = [ROUNDINGS[rounding](Fraction(base) * Fraction(rate)) for base in bases]
        rows = {"x": [1] * len(bases), "b": pa.array(bases, type_)}
        assert points(hensa.score(rows, flat(rate, rounding=rounding))) == expected


@pytest.mark.parametrize("rate", ["1", "0.5", "0.01", "0.001"])
@pytest.mark.parametrize("type_", [pa.decimal32, pa.decimal64, pa.decimal128])
def test_a_decimal_base_of_negative_scale_is_paid_exactly(rate, type_):
    digits = pa.array([Decimal(12), Decimal(-3), Decimal(1)], type_(5, 0))
    bases = pa.Array.from_buffers(type_(5, -2), 3, digits.buffers())  # 1200, -300, 100
    result = hensa.score({"x": [1, 1, 1], "b": bases}, flat(rate))
    assert points(result) == [math.floor(base * Fraction(rate)) for base in (1200, -300, 100)]


def test_a_row_is_paid_at_most_the_cap():
    bases = [0, 99, 100, 101, 10**12, 2**63 - 1, -500]
    result = hensa.score({"x": [1] * 7, "b": bases}, flat("1", cap=100))
    assert points(result) == [0, 99, 100, 100, 100, 100, -500]


@pytest.mark.parametrize("cap", [0, 2**51, 2**52 + 1, 2**63 - 1])
def test_caps_of_any_size_hold(cap):
    bases = [0, 5, 2**50, 2**52, 2**62, 2**63 - 1]
    result = hensa.score({"x": [1] * 6, "b": bases}, flat("1", cap=cap))
    assert points(result) == [min(base, cap) for base in bases]


@pytest.mark.parametrize(
    ("type_", "base", "rate"),
    [
        (pa.int64(), 2**62, "2"),
        (pa.int64(), -(2**63), "-1"),
        (pa.int64(), -(2**62) - 1, "2"),
        (pa.uint64(), 2**64 - 1, "1"),
        (pa.uint64(), 2**63, "1"),
        (pa.decimal128(38, 0), Decimal(10**37), "0.098"),
        (pa.int8(), 100, "1e18"),
    ],
    ids=str,
)
def test_a_reward_beyond_int64_is_an_error_that_names_the_row(type_, base, rate):
    rows = {"x": [1] * 5, "b": pa.array([0, 0, 0, base, 0], type_)}
    with pytest.raises(DataError, match=rf"^Column 'b' is {base} in row 3; its reward of -?\d+ points is beyond int64"):
        hensa.score(rows, flat(rate))


def test_the_row_of_an_error_counts_from_the_first_of_all_rows():
    bases = np.zeros(2**18 + 10, dtype=np.int64)
    bases[-3] = 2**62
    chunks = pa.chunked_array([bases[:7], bases[7:100_000], bases[100_000:]])
    rows = pa.table({"x": np.ones(len(bases), dtype=np.int8), "b": chunks})
    with pytest.raises(DataError, match=f"in row {2**18 + 7};"):
        hensa.score(rows, flat("2"), threads=2)


@pytest.mark.parametrize(("base", "rate"), [(2**63 - 1, "1"), (-(2**63), "1"), (2**62, "-2"), (-(2**62), "2")])
def test_a_reward_at_the_ends_of_int64_is_paid(base, rate):
    assert points(hensa.score({"x": [1], "b": [base]}, flat(rate))) == [int(base * int(rate))]


def test_a_cap_makes_a_reward_beyond_int64_payable():
    rows = {"x": [1], "b": pa.array([Decimal(10**37)], pa.decimal128(38, 0))}
    assert points(hensa.score(rows, flat("1", cap=7))) == [7]


def test_a_measure_can_also_be_the_base():
    agree({"x": [1, 2, 9], "y": [100, 3, 50]}, program(base="y"))


# --- nulls -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("column", ["x", "y", "b"])
def test_a_null_in_a_measure_or_base_makes_every_result_of_the_row_null(column):
    rows = {
        name: pa.array([None if name == column and i == 1 else v for i, v in enumerate(ROWS[name])]) for name in ROWS
    }
    result = agree(rows, PROGRAM, columns=(*ALL, "x_score", "y_score"))
    for name in result.column_names[3:]:
        assert result[name].is_null().to_pylist() == [False, True, False, False]


def test_a_null_base_leaves_the_row_out_even_when_no_reward_is_asked_for():
    rows = ROWS | {"b": [100, None, 300, 400]}
    result = agree(rows, PROGRAM, columns=["score"])
    assert result["score"].null_count == 1


def test_a_missing_base_leaves_no_row_out_when_no_reward_is_asked_for():
    rows = {"x": ROWS["x"], "y": ROWS["y"]}
    assert agree(rows, PROGRAM, columns=["score", "step"])["score"].null_count == 0


def test_without_nulls_a_result_has_no_bitmap():
    result = hensa.score(ROWS, PROGRAM, columns=ALL)
    assert [result[name].chunk(0).buffers()[0] for name in ALL] == [None] * 4


@pytest.mark.parametrize("type_", [pa.int32(), pa.float64()], ids=str)
@pytest.mark.parametrize("length", [0, 5])
def test_without_rows_that_count_results_are_typed_nulls(type_, length):
    rows = pa.table({"x": pa.nulls(length, type_), "y": pa.nulls(length, type_), "b": pa.nulls(length, pa.int64())})
    result = hensa.score(rows, PROGRAM, columns=ALL)
    assert [result[name].type for name in ALL] == list(TYPES.values())
    assert [result[name].null_count for name in ALL] == [length] * 4


# --- which columns ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "columns", [ALL, ["reward"], ("step", "score"), ["rate"], [], ["reward", "x_score", "step"], ("y_score",)], ids=str
)
def test_the_results_are_those_asked_for_in_that_order_after_the_rows_own(columns):
    result = agree(ROWS, PROGRAM, columns=columns)
    assert result.column_names == ["x", "y", "b", *columns]
    assert [result[name].type for name in columns] == [TYPES.get(name, pa.float64()) for name in columns]


def test_score_rate_and_reward_are_the_default():
    assert hensa.score(ROWS, PROGRAM).column_names == ["x", "y", "b", "score", "rate", "reward"]


def test_one_name_may_be_given_as_a_string():
    assert hensa.score(ROWS, PROGRAM, columns="step").column_names == ["x", "y", "b", "step"]


def test_unknown_or_repeated_results_are_refused():
    with pytest.raises(DataError, match=r"'points'.*score, rate, step, reward, x_score, y_score"):
        hensa.score(ROWS, PROGRAM, columns=["points"])
    with pytest.raises(DataError, match=r"'score' twice"):
        hensa.score(ROWS, PROGRAM, columns=["score", "score"])


@pytest.mark.parametrize("name", [*ALL, "x_score"])
def test_a_column_of_the_rows_named_like_an_asked_result_is_refused(name):
    with pytest.raises(DataError, match=rf"^The rows already have a column '{name}'"):
        hensa.score(ROWS | {name: [0] * 4}, PROGRAM, columns=[*ALL, "x_score"])
    others = [other for other in ALL if other != name]
    assert hensa.score(ROWS | {name: [0] * 4}, PROGRAM, columns=others).num_columns == 4 + len(others)


def test_a_program_without_a_reward_pays_none():
    with pytest.raises(HensaError, match=r"no \[reward\]"):
        hensa.score(ROWS, program(base=None), columns="reward")
    assert hensa.score(ROWS, program(base=None)).column_names == ["x", "y", "b", "score", "rate"]


@pytest.mark.parametrize("name", ["x", "y", "b"])
def test_a_missing_or_repeated_column_is_refused_by_its_name(name):
    table = pa.table(ROWS)
    with pytest.raises(DataError, match=rf"^There is no column '{name}'"):
        hensa.score(table.drop_columns(name), PROGRAM)
    with pytest.raises(DataError, match=rf"^The rows have 2 columns named '{name}'; exactly one"):
        hensa.score(table.append_column(name, table[name]), PROGRAM)


def test_repeated_columns_that_the_program_does_not_read_are_passed_on():
    table = pa.table(ROWS).append_column("note", pa.array("abcd")).append_column("note", pa.array("efgh"))
    assert hensa.score(table, PROGRAM).column_names == ["x", "y", "b", "note", "note", "score", "rate", "reward"]


# --- a stored population ---------------------------------------------------------------------------------------------


def test_rows_are_scored_against_a_stored_population():
    stored = hensa.population(ROWS, PROGRAM)
    rows = {"x": [5, 9, -1], "y": [0, 2, 2**40], "b": [10**6] * 3}
    result = hensa.score(rows, PROGRAM, population=stored, columns=ALL)
    expected = reference.score(rows, PROGRAM, population=reference.population(ROWS, PROGRAM), columns=ALL)
    assert result.to_pydict() == expected


EDGES = [0, 1, 2**31, 2**32 - 1, 2**32, 2**53 + 1, 2**62, 2**62 + 1, 2**63 - 1, 2**63, 2**64 - 1]
EDGES += [-x for x in EDGES]


@pytest.mark.parametrize("mean", [*EDGES[1:], 2**64, -(2**64), 2**64 + 1, 2**65])
@pytest.mark.parametrize(("type_", "least", "most"), [("int64", -(2**63), 2**63), ("uint64", 0, 2**64)])
def test_values_of_64_bits_less_a_mean_of_any_size_are_rounded_once(type_, least, most, mean):
    known = {"x": [mean - 2**40, mean, mean + 2**40 + 3], "b": [1] * 3}
    population = hensa.population({**known, "x": pa.array(map(Decimal, known["x"]), pa.decimal128(38, 0))}, flat(1))
    x = [
        value
        for value in {*EDGES, *known["x"], *(mean + odd for odd in (-(2**63), 5, 2**53 + 1))}
        if least <= value < most
    ]
    x = [*x, *x] * 3  # more than a vector
    rows = {"x": x, "b": [7] * len(x)}
    columns = ("score", "x_score", "step")
    found = hensa.score({**rows, "x": pa.array(x, getattr(pa, type_)())}, flat(1), population, columns=columns)
    expected = reference.score(rows, flat(1), reference.population(known, flat(1)), columns=columns)
    assert found.select(columns).to_pydict() == {name: expected[name] for name in columns}


def test_a_row_alone_scores_as_it_does_among_all():
    stored = hensa.population(ROWS, PROGRAM)
    whole = hensa.score(ROWS, PROGRAM, columns=ALL).select(ALL).to_pylist()
    for i, expected in enumerate(whole):
        row = {name: [column[i]] for name, column in ROWS.items()}
        assert hensa.score(row, PROGRAM, population=stored, columns=ALL).select(ALL).to_pylist() == [expected]


@pytest.mark.parametrize("type_", [pa.int16(), pa.uint64(), pa.float32(), pa.float64(), pa.decimal128(9, 1)], ids=str)
def test_rows_of_another_type_score_against_a_stored_population(type_):
    stored = hensa.population(ROWS, PROGRAM)
    rows = pa.table({"x": pa.array([5, 9, 2], pa.int8()).cast(type_), "y": [0, 2, 2], "b": [100] * 3})
    found = hensa.score(rows, PROGRAM, population=stored, columns=["step", "score"])
    expected = hensa.score({"x": [5, 9, 2], "y": [0, 2, 2], "b": [100] * 3}, PROGRAM, population=stored)
    for one, other in zip(found["score"].to_pylist(), expected["score"].to_pylist(), strict=True):
        assert one == pytest.approx(other, rel=1e-14)


def test_the_ddof_of_the_program_holds_for_a_stored_population_too():
    stored = hensa.population(ROWS, PROGRAM)
    sample = program(rule={"ddof": 1})
    assert hensa.score(ROWS, sample, population=stored).equals(hensa.score(ROWS, sample))


def test_a_stored_population_without_a_measure_is_refused():
    with pytest.raises(DataError, match=r"^The population has no measure 'y'; it has x"):
        hensa.score(ROWS, PROGRAM, population=hensa.population(ROWS, program("x")))


def test_rows_cannot_be_scored_against_an_empty_population():
    empty = hensa.population({name: pa.array([], pa.int64()) for name in "xyb"}, PROGRAM)
    with pytest.raises(DataError, match=r"^The population is empty"):
        hensa.score(ROWS, PROGRAM, population=empty)


@pytest.mark.parametrize("length", [1, 2])
def test_rows_cannot_be_scored_against_a_population_of_nulls_alone(length):
    nulls = {name: pa.nulls(length, pa.int64()) for name in "xyb"}
    rows = {name: column[:length] for name, column in ROWS.items()}
    with pytest.raises(DataError, match=r"^The population is empty"):
        hensa.score(rows, PROGRAM, population=hensa.population(nulls, PROGRAM))


def test_one_row_has_no_sample_sd():
    rows = {name: column[:1] for name, column in ROWS.items()}
    with pytest.raises(DataError, match=r"^The population has 1 row, and an SD with ddof 1 needs more"):
        hensa.score(rows, program(rule={"ddof": 1}))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_nan_and_infinity_are_errors_against_a_stored_population_too(value):
    stored = hensa.population(ROWS, PROGRAM)
    rows = {"x": [1.0, 2.0, value, 3.0], "y": ROWS["y"], "b": ROWS["b"]}
    with pytest.raises(DataError, match=rf"^Column 'x' is {value} in row 2; "):
        hensa.score(rows, PROGRAM, population=stored)


# --- reused buffers --------------------------------------------------------------------------------------------------


def addresses(table, columns):
    return [table[name].chunk(0).buffers()[1].address for name in columns]


@pytest.mark.parametrize("columns", [ALL, ["reward"], ["step", "x_score"]], ids=str)
def test_out_is_overwritten_and_returned(columns):
    other = {"x": [7, 1, 1, 1], "y": [2, 2, 3, 3], "b": [10**6] * 4}
    out = hensa.score(other, PROGRAM, columns=columns)
    result = hensa.score(ROWS, PROGRAM, columns=columns, out=out)
    assert addresses(result, columns) == addresses(out, columns)
    assert result.equals(hensa.score(ROWS, PROGRAM, columns=columns))


def test_out_may_have_more_columns_than_are_asked_for():
    out = hensa.score(ROWS, PROGRAM, columns=ALL)
    result = hensa.score(ROWS, PROGRAM, columns=["reward", "score"], out=out)
    assert result.equals(hensa.score(ROWS, PROGRAM, columns=["reward", "score"]))


def test_nulls_come_and_go_in_reused_buffers():
    with_nulls = ROWS | {"x": [None, 2, None, 9]}
    plain, holed = hensa.score(ROWS, PROGRAM, columns=ALL), hensa.score(with_nulls, PROGRAM, columns=ALL)
    expected = plain.to_pydict(), holed.to_pydict()
    again = hensa.score(with_nulls, PROGRAM, columns=ALL, out=plain)
    assert again.to_pydict() == expected[1]
    assert hensa.score(ROWS, PROGRAM, columns=ALL, out=again).to_pydict() == expected[0]


def test_a_result_of_nulls_alone_can_be_reused():
    nulls = {name: pa.nulls(4, pa.int64()) for name in "xyb"}
    out = hensa.score(nulls, PROGRAM, columns=ALL)
    assert hensa.score(ROWS, PROGRAM, columns=ALL, out=out).to_pydict() == agree(ROWS, PROGRAM).to_pydict()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda out: out.to_pydict(),
        lambda out: out.to_batches()[0],
        lambda out: out.slice(0, 3),
        lambda out: pa.concat_tables([out.slice(0, 2), out.slice(2)]),
        lambda out: out.drop_columns("rate"),
        lambda out: out.set_column(3, "score", out["score"].cast(pa.float32())),
        lambda out: out.set_column(3, "score", pa.Array.from_buffers(pa.float64(), 4, [None, pa.py_buffer(bytes(32))])),
        lambda out: pa.concat_tables([out, out]).combine_chunks().slice(4),
        lambda out: out.append_column("score", out["score"]),
        lambda out: "out",
    ],
    ids=["dict", "batch", "too short", "chunks", "no rate", "type", "immutable", "slice", "two", "string"],
)
def test_an_out_that_is_no_earlier_result_is_refused(spoil):
    with pytest.raises(DataError, match="out"):
        hensa.score(ROWS, PROGRAM, out=spoil(hensa.score(ROWS, PROGRAM)))


def test_a_program_that_is_none_is_refused():
    for call in (hensa.score, hensa.population):
        with pytest.raises(hensa.HensaError, match=r"program is 'hapitas-friend'; it must be a hensa\.Program"):
            call({"x": [1]}, "hapitas-friend")
