"""The promise on hard rows: every step is that of infinitely precise arithmetic, and nothing overflows.

Kernel, reference and oracle on random rules; populations in which every row is a tie; scores closer to a threshold
than float64 can tell; thresholds of 40 digits around irrational scores; integers, sums and counts of any size.
"""

import itertools
import json
import math
import random
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal, localcontext
from fractions import Fraction
from functools import cache

import numpy as np
import oracle
import pyarrow as pa
import pytest
from bounds import bounds
from making import program

import hensa
from hensa import DataError, Population, reference
from hensa.threads import UNIT
from hensa.tiers import Tiers

pytestmark = pytest.mark.usefixtures("build")

ALL = ("score", "step", "rate", "reward")
PIECES = 3  # of work


def decimal(x):
    return Decimal(x.numerator) / Decimal(x.denominator)


@pytest.fixture
def decisions(monkeypatch):
    """Which rows integers decided."""
    seen = []
    decide = Tiers.decide

    def spy(tiers, values):
        seen.append(tuple(values))
        return decide(tiers, values)

    monkeypatch.setattr(Tiers, "decide", spy)
    return seen


# --- three oracles ---------------------------------------------------------------------------------------------------

TYPES = [pa.int64(), pa.int32(), pa.decimal128(38, 3), pa.decimal64(18, 0), pa.float64()]


def next_measure(draw, before, n):
    """Digits of one more measure: often one whose SD is a rational multiple of another's, so that rows tie."""
    shape = draw.choice(["free", "free", "mirror", "line", "shuffled", "halves", "constant", "wide"])
    if before and shape in ("mirror", "line", "shuffled"):
        x = draw.choice(before)
        if shape == "mirror":
            return [min(x) + max(x) - v for v in x]
        if shape == "line":
            return [3 * v - 7 for v in x]
        return draw.sample(x, n)
    if shape == "halves":
        return draw.sample([i % 2 for i in range(n)], n)
    reach = {"constant": 1, "wide": 2**20}.get(shape) or draw.choice([2, 3, 5, 40])
    return [draw.randrange(reach) for _ in range(n)]


@cache
def case(seed):
    """Rows, rules and the oracle's answer: 1 to 5 measures, any rational scale and weights, decimal thresholds."""
    draw = random.Random(seed)
    n, names = draw.randrange(2, 150), "vwxyz"[: draw.choice([1, 2, 2, 3, 4, 5])]
    digits, types = [], {}
    for name in names:
        digits.append(next_measure(draw, digits, n))
        types[name] = draw.choice(TYPES)
    rows = {
        name: [
            Decimal(v).scaleb(-3) if types[name] == TYPES[2] else v / 4 if types[name] == pa.float64() else v for v in x
        ]
        for name, x in zip(names, digits, strict=True)
    }
    rows["b"] = [draw.randrange(-(10**9), 10**9) for _ in range(n)]
    if draw.random() < 0.2 and n > 9:
        rows["b"][draw.randrange(n)] = rows[names[0]][draw.randrange(n)] = None
    weights = [draw.choice([1, 1, 2, "1/3", "-5/7", "0.125"]) for _ in names]
    centre = draw.choice([50, 50, 0, "-1/3"])
    around = {Fraction(draw.randrange(-24, 25), draw.choice([1, 1, 2, 8])) for _ in range(5)}
    thresholds = sorted(math.floor(Fraction(centre)) + t for t in around)
    rules = program(
        [*zip(names, weights, strict=True)] if sum(map(Fraction, weights)) else names,
        [(decimal(t), Decimal(7 * i) / 2) for i, t in enumerate(thresholds)],
        rule={"ddof": draw.randrange(2), "scale": draw.choice([1, 1, 10, "22/7", "-2.5"]), "centre": centre},
        rates={"below": draw.choice(["first", "zero"])},
        rounding=draw.choice(["floor", "half_up", "ceil"]),
    )
    table = pa.table({name: pa.array(cells, types.get(name, pa.int64())) for name, cells in rows.items()})
    return rows, table, rules, oracle.solve(rows, rules)


@pytest.mark.parametrize("enough", [10_000, pytest.param(100_000, marks=pytest.mark.long)])
def test_kernel_and_oracle_agree_on_every_step_of_so_many_rows_of_1_to_5_measures(enough):
    n_rows, seeds = 0, itertools.count()
    while n_rows < enough:
        seed = next(seeds)
        _, table, rules, answer = case(seed)
        found = hensa.score(table, rules, columns=ALL)
        assert found["step"].to_pylist() == [row.step for row in answer.rows], seed
        assert found["reward"].to_pylist() == [row.reward for row in answer.rows], seed
        n_rows += len(answer.rows)


def test_reference_gives_the_same_bits_and_every_score_lies_within_its_bound():
    units = {pa.decimal128(38, 3): Fraction(1, 1000), pa.float64(): None}
    for seed in range(100):
        rows, table, rules, answer = case(seed)
        found = hensa.score(table, rules, columns=ALL).select(ALL).to_pydict()
        assert found == {name: reference.score(rows, rules, columns=ALL)[name] for name in ALL}
        assert found["step"] == reference.exact_steps(rows, rules)
        of_column = {name: units.get(table.schema.field(name).type, Fraction(1)) for name in rows}
        exact = bounds(rows, rules, {name: unit for name, unit in of_column.items() if unit})
        for score, limits, row in zip(found["score"], exact, answer.rows, strict=True):
            if limits is not None:
                assert abs(Decimal(score) - limits[0]) <= limits[1]
                assert abs(row.score - limits[0]) <= Decimal("1e-50") * (1 + abs(row.score))


# --- ties ------------------------------------------------------------------------------------------------------------


@cache
def ones_and_zeros(z):
    """2,000 ones and 2,000 z^2 zeros: mean 1/(1 + z^2), SD z/(1 + z^2), so that a one lies z SDs above the mean."""
    x = np.zeros(2000 * (1 + z * z), dtype=np.int8)
    x[:2000] = 1
    np.random.default_rng(z).shuffle(x)
    return x


PAIRS = [
    (pa.bool_(), pa.uint64()),
    (pa.int16(), pa.float32()),
    (pa.float64(), pa.decimal128(38, 10)),
    (pa.decimal32(9, 2), pa.decimal64(18, 0)),
]


@pytest.mark.parametrize("z", range(2, 31))
def test_a_one_among_z_squared_zeros_is_on_step_50_plus_z_whatever_the_types(z):
    x = pa.array(ones_and_zeros(z))
    columns = {}
    for type_ in itertools.chain(*PAIRS):
        if pa.types.is_decimal(type_):  # the digits 0 and 1, of 10**-scale each
            width = type_.bit_width // 32
            digits = np.zeros(len(x) * width, dtype=np.int32)
            digits[::width] = ones_and_zeros(z)
            columns[type_] = pa.Array.from_buffers(type_, len(x), [None, pa.py_buffer(digits)])
        else:
            columns[type_] = x.cast(type_)
    for pair in PAIRS:
        rows = {name: columns[type_] for name, type_ in zip("xy", pair, strict=True)}
        found = hensa.score(rows, program(base=None), columns=["score", "step"])
        step, score = found["step"].to_numpy(), found["score"].to_numpy()
        ones = ones_and_zeros(z) == 1
        assert (step[ones] == 50 + z).all()
        assert (score[ones] == 50 + z).all()
        assert (step[~ones] == 49).all()


@pytest.mark.parametrize("z", range(2, 31))
@pytest.mark.parametrize("type_", [np.int32, np.float64, np.float32])
def test_by_welfords_method_a_one_among_z_squared_zeros_is_on_step_50_plus_z(z, type_):
    x, rules = ones_and_zeros(z).astype(type_), program(base=None)
    population = hensa.population({"x": x, "y": x}, rules, method="welford")
    found = hensa.score({"x": x[:4000], "y": x[:4000]}, rules, population=population, columns=["score", "step"])
    step, score = found["step"].to_numpy(), found["score"].to_numpy()
    ones = x[:4000] == 1
    assert (step[ones] == 50 + z).all()
    assert (score[ones] == 50 + z).all()
    assert (step[~ones] == 49).all()


def halves(n, type_=np.int32):
    """0 and 1, as many of each: exactly one SD below and above the mean."""
    x = np.arange(n) % 2
    np.random.default_rng(n).shuffle(x)
    return x.astype(type_)


N = 2 * UNIT + 1000  # rows of three pieces of work
WIDE = np.random.default_rng(1).integers(0, 10**6, N)
# Measures, weights and further rules; the scores that the rows must have.
EVERY_ROW_TIES = {
    "two values": ({"x": halves(N)}, [1], {}, (49, 51)),
    "two values of bool": ({"x": halves(N) == 1}, [1], {}, (49, 51)),
    "two values of decimals": ({"x": pa.array(halves(N)).cast(pa.decimal128(11, 0))}, [1], {"scale": 2}, (48, 52)),
    "two values of floats": ({"x": halves(N, float) / 4}, [1], {"scale": "1/2"}, (49.5, 50.5)),
    "two values twice": ({"x": halves(N), "y": 7 - halves(N, np.int64) * 3}, [2, 1], {"scale": 3}, (49, 51)),
    "y = c - x": ({"x": WIDE, "y": 10**6 - WIDE}, [1, 1], {}, (50,)),
    "y = c - x, ddof 1": ({"x": WIDE.astype(np.int32), "y": 10**6 - WIDE}, [1, 1], {"ddof": 1}, (50,)),
    "y = 2x, weights 1 and -1, and a third measure of two values": (
        {"x": WIDE, "y": 2 * WIDE, "z": halves(N)},
        [1, -1, 1],
        {},
        (49, 51),
    ),
    "four measures of two roots": (
        {"w": WIDE, "x": -3 * WIDE, "y": WIDE**2, "z": 5 - WIDE**2},
        [1, 1, "2/7", "2/7"],
        {},
        (50,),
    ),
}


@pytest.mark.parametrize("name", EVERY_ROW_TIES)
def test_a_population_in_which_every_row_is_a_tie_is_on_the_upper_steps_and_decided_once(name, decisions):
    rows, weights, rule, scores = EVERY_ROW_TIES[name]
    thresholds = sorted({s + around for s in scores for around in (Fraction(-1, 10), 0, Fraction(1, 10))})
    rules = program(
        [*zip(rows, weights, strict=True)], [(decimal(Fraction(t)), 1) for t in thresholds], None, rule=rule
    )
    for threads in (1, 2):
        found = hensa.score(rows, rules, columns=["score", "step"], threads=threads)
        step, score = found["step"].to_numpy(), found["score"].to_numpy()
        assert set(score.tolist()) == set(scores)
        assert (step == [thresholds.index(s) for s in sorted(scores)][-1])[score == scores[-1]].all()
        assert {thresholds[i] for i in step.tolist()} == set(scores)
    assert len(decisions) <= 2 * PIECES * len(scores)  # each score once in each piece of work


@pytest.mark.parametrize("weights", [(1, 1), (3, "1/7"), (-1, 3)], ids=str)
@pytest.mark.parametrize("ddof", [0, 1])
def test_every_row_of_two_measures_of_equal_variance_agrees_with_the_oracle(weights, ddof):
    draw = random.Random(f"{weights} {ddof}")
    x = [draw.randrange(6) for _ in range(400)]
    rows = {"x": x, "y": draw.sample(x, len(x))}
    rules = program([*zip("xy", weights, strict=True)], base=None, rule={"ddof": ddof, "scale": 10})
    found = hensa.score(rows, rules, columns=["step"])["step"].to_pylist()
    assert found == [row.step for row in oracle.solve(rows, rules).rows]


# --- scores that float64 cannot tell from a threshold ----------------------------------------------------------------


def convergents(d):
    """The convergents p/q of the root of d, by its continued fraction: p^2 - d q^2 is small, and of either sign."""
    root = math.isqrt(d)
    a, m, k = root, 0, 1
    p, q, p_before, q_before = a, 1, 1, 0
    while True:
        yield p, q
        m = a * k - m
        k = (d - m * m) // k
        a = (root + m) // k
        p, p_before = a * p + p_before, p
        q, q_before = a * q + q_before, q


def near_ties():
    """(d, q, T): among d zeros, a one scores 50 + q sqrt(d), closer to T = 50 + p than 2^-53 of it, but not on it."""
    for d in range(2, 60):
        if math.isqrt(d) ** 2 < d:
            close = ((p, q) for p, q in convergents(d) if abs(p * p - d * q * q) << 53 < (p + 50) * p)
            yield from ((d, q, 50 + p) for p, q in itertools.islice(close, 2))


NEAR_TIES = list(near_ties())


def test_there_are_enough_near_ties_on_both_sides():
    above = sum(d * q * q > (t - 50) ** 2 for d, q, t in NEAR_TIES)
    assert len(NEAR_TIES) >= 100
    assert min(above, len(NEAR_TIES) - above) >= 30
    for d, q, t in NEAR_TIES:
        with localcontext(prec=80):
            score = 50 + q * Decimal(d).sqrt()
            assert 0 < abs(score - t) < t * Decimal(2) ** -53


@pytest.mark.parametrize("type_", [pa.int32(), pa.int64(), pa.decimal128(22, 2), pa.float64()], ids=str)
def test_a_near_tie_is_flagged_and_gets_the_exact_step(type_, decisions):
    for d, q, t in NEAR_TIES:
        x = pa.array([1] + [0] * d).cast(type_)
        rules = program("x", [(0, 1), (t, 2)], None, rule={"scale": q})
        decisions.clear()
        found = hensa.score({"x": x}, rules, columns=["score", "step"])
        reached = d * q * q >= (t - 50) ** 2
        assert found["step"][0].as_py() == reached, (d, q, t)
        assert (found["score"][0].as_py() >= t) == reached
        assert (1,) in decisions
        assert found["score"][1].as_py() == pytest.approx(50 - q / math.sqrt(d))


def units():
    """(b, c, d, -a) with a + b sqrt 2 + c sqrt 3 + d sqrt 6 = +-(1 - sqrt 2)^i (2 - sqrt 3)^j, which is almost zero."""
    for i, j in itertools.product(range(1, 24), range(1, 14)):
        a, b = (1, 0)
        for _ in range(i):
            a, b = a - 2 * b, b - a
        e, f = (1, 0)
        for _ in range(j):
            e, f = 2 * e - 3 * f, 2 * f - e
        # (a + b sqrt 2)(e + f sqrt 3)
        if a * e < 0:  # the threshold lies above the centre
            yield b * e, a * f, b * f, -a * e
        else:
            yield -b * e, -a * f, -b * f, a * e


def test_a_near_tie_of_three_roots_is_flagged_and_gets_the_exact_step(decisions):
    # Shares 1/3, 1/4 and 1/7 of ones: z of a one is sqrt 2, sqrt 3 and sqrt 6.
    n = 84
    rows = {name: [int(i % share == 0) for i in range(n)] for name, share in zip("xyz", (3, 4, 7), strict=True)}
    tried = 0
    for b, c, d, p in units():
        with localcontext(prec=100):
            score = 50 + b * Decimal(2).sqrt() + c * Decimal(3).sqrt() + d * Decimal(6).sqrt()
        t = 50 + p
        if not b + c + d or abs(score - t) > t * Decimal(2) ** -53 or t > 2**80:
            continue
        rules = program([("x", b), ("y", c), ("z", d)], [(0, 1), (t, 2)], None, rule={"scale": b + c + d})
        decisions.clear()
        found = hensa.score(rows, rules, columns=["score", "step"])
        assert found["step"][0].as_py() == (score > t)
        assert (1, 1, 1) in decisions
        tried += 1
    assert tried >= 50


@pytest.mark.parametrize("ddof", [0, 1])
@pytest.mark.parametrize("n_measures", [1, 2, 3, 5])
def test_thresholds_of_40_digits_around_irrational_scores_are_told_apart(n_measures, ddof):
    draw = random.Random(f"{n_measures} {ddof}")
    for _ in range(40):
        names = "vwxyz"[:n_measures]
        rows = {name: [draw.randrange(30) for _ in range(12)] for name in names}
        measures = [(name, draw.choice([1, 2, "1/3"])) for name in names]
        rule = {"ddof": ddof, "scale": draw.choice([1, "7/3"])}
        exact = oracle.solve(rows, program(measures, [(0, 1)], None, rule=rule)).rows
        for row in draw.sample(range(12), 2):
            with localcontext(prec=40):
                low, high = (exact[row].score.quantize(Decimal("1e-37"), way) for way in (ROUND_FLOOR, ROUND_CEILING))
            if low == high:
                continue  # the score is a decimal itself
            for threshold, reached in ((low, 1), (high, 0)):
                rules = program(measures, [(Decimal("-1000"), 1), (threshold, 2)], None, rule=rule)
                found = hensa.score(rows, rules, columns=["score", "step"])
                assert found["step"][row].as_py() == reached
                assert (found["score"][row].as_py() >= float(threshold)) == reached


def test_more_rows_than_float64_has_digits_bring_a_score_nearer_to_a_threshold_than_it_can_tell():
    # With ddof 1, z of a one among four zeros, all repeated, is 2 sqrt((n - 1)/n): below 2 for every n.
    for ddof, step in ((0, 52), (1, 51)):
        rules = program("x", base=None, rule={"ddof": ddof})
        population = hensa.population({"x": [1, 0, 0, 0, 0]}, rules)
        for _ in range(60):
            population = population + population
        assert population.count == 5 * 2**60
        found = hensa.score({"x": [1, 0]}, rules, population=population, columns=["step"])
        assert found["step"].to_pylist() == [step, 49]


def exact_population(column, count, total, squares):
    state = {"method": "exact", "ddof": 0, "sum": str(total), "sum_of_squares": str(squares)}
    return Population.from_json(json.dumps({"count": count, "nulls": 0, "measures": {column: state}}))


def test_a_row_is_not_at_the_mean_because_float64_rounds_the_mean_to_it():
    # The mean is 1 - 2^-54; the score of a one is 50 less 2^-54 SDs, an SD being about 2^-27.
    n = 2**54
    rules = program("x", [(0, 1), (50, 2)], None, rule={"scale": -1})
    found = hensa.score({"x": [1]}, rules, population=exact_population("x", n, n - 1, n - 1), columns=["step"])
    assert found["step"].to_pylist() == [0]


def test_integers_are_not_at_the_mean_of_decimals_that_float64_rounds_to_them():
    rules = program("x", [(0, 1), (50, 2)], None, rule={"scale": -1})
    decimals = pa.array([Decimal("0.4"), Decimal("1.59999999999999999998")], pa.decimal128(38, 20))  # mean 1 - 10^-20
    population = hensa.population({"x": decimals}, rules)
    for type_ in (pa.int64(), pa.int8(), pa.decimal128(38, 20)):
        ones = pa.array([1, 1]).cast(pa.decimal128(20, 0)).cast(type_) if pa.types.is_decimal(type_) else [1, 1]
        rows = {"x": pa.array(ones, type_)}
        assert hensa.score(rows, rules, population=population, columns=["step"])["step"].to_pylist() == [0, 0]
        stored = Population(2, 0, population.measures, ("k",), {(0,): population})
        rows["k"] = [0, 0]
        found = hensa.score(rows, rules, population=stored, by="k", columns=["step"])
        assert found["step"].to_pylist() == [0, 0]


TINY = 5e-324  # the smallest float64; SDs of a few of it are rounded to a multiple of it


@pytest.mark.parametrize(
    ("x", "steps", "rule"),
    [
        ([TINY] + [0.0] * 10, [(0, 1), (52, 2)], {}),  # the SD rounds to 0, z is sqrt 10
        ([150 * TINY] + [0.0] * 9999, [(0, 1), ("1.2e-18", 2)], {"scale": "1e-20", "centre": 0}),  # SD 1.5 TINY
        ([1.7e308, -1.7e308], [(0, 1), (50, 2)], {"ddof": 1}),  # the SD is beyond float64
        ([1e-170, 2e-170, 4e-170], [(0, 1), (50, 2), (51, 3)], {}),  # the variance underflows
        ([1e300, -1e300, 3e300], [(0, 1), (50, 2), (51, 3)], {}),  # the variance overflows
        ([1e308, -1e308, 3e307, 0.0, TINY], [(49, 1), (50, 2), (51, 3)], {}),  # so do differences from the mean
        ([1e-308, 2e-308, 5e-308, -1e-308], [(49, 1), (50, 2), (51, 3)], {}),
        ([3 * TINY, 7 * TINY, 50 * TINY, -TINY, 0.0], [(49, 1), (50, 2), (51, 3)], {}),
    ],
    ids=[
        *("SD 0", "SD subnormal", "SD infinite", "variance 0", "variance infinite"),
        *("largest", "around the smallest normal", "subnormal"),
    ],
)
def test_floats_at_the_ends_of_their_range_are_on_the_exact_step(x, steps, rule):
    rules = program("x", steps, None, rule=rule)
    exact = [row.step for row in oracle.solve({"x": x}, rules).rows]
    expected = reference.score({"x": x}, rules, columns=["score", "step"])
    assert expected["step"] == exact
    stored = hensa.population({"x": x, "k": [0] * len(x)}, rules, by="k")
    for population in None, stored:
        for by in None, "k":
            rows = {"x": x, "k": [0] * len(x)}
            found = hensa.score(rows, rules, columns=["score", "step"], population=population, by=by)
            assert found["step"].to_pylist() == exact
            assert found["score"].to_pylist() == expected["score"]


@pytest.mark.parametrize(
    ("x", "rule", "sd"),
    [
        ([TINY, 0.0, 0.0], {}, "0"),  # that is, 2.3e-324, rounded
        ([1e-308, 0.0, 0.0], {}, "4.71405e-309"),  # 1 / SD is beyond float64
        ([1e-151, -1e-151], {}, "1e-151"),
        ([1.7e308, -1.7e308], {"ddof": 1}, "inf"),
        ([1e300, -1e300], {"scale": "1e-10"}, "1e+300"),  # scale / SD is no normal float64
    ],
    ids=["0", "subnormal", "near 0", "infinite", "large"],
)
def test_the_score_of_a_measure_whose_sd_float64_cannot_divide_by_is_refused(x, rule, sd):
    rules = program("x", [(0, 1), (50, 2)], None, rule=rule)
    rows = {"x": x, "k": [0] * len(x)}
    message = (
        f"The population's SD of 'x' is {sd}; the standard score of one measure needs one from 1e-150 to 1e250, "
        "of fewer than 1e100 rows."
    )
    for score in hensa.score, reference.score:
        for by in None, "k":
            with pytest.raises(DataError) as caught:
                score(rows, rules, by=by, columns=["score", "x_score"])
            assert str(caught.value) == message
    with pytest.raises(DataError, match=r"^The population's SD of 'x' is "):
        hensa.explain({"x": x[0]}, rules, hensa.population(rows, rules))


@pytest.mark.parametrize("size", [1e-150, 1e-30, 1.0, 1e250])
def test_the_score_of_a_measure_is_right_for_every_sd_that_float64_can_divide_by(size):
    rules = program("x", [(0, 1), (50, 2)], None)
    rows = {"x": [size, -size, 0.0, 0.0]}
    found = reference.score(rows, rules, columns=["x_score"])["x_score"]
    assert found == pytest.approx([50 + math.sqrt(2), 50 - math.sqrt(2), 50, 50], rel=1e-15)
    assert hensa.score(rows, rules, columns=["x_score"])["x_score"].to_pylist() == found


def test_integers_have_no_score_of_a_measure_by_a_population_of_floats_whose_squares_underflow():
    rules = program("x", base=None)
    population = hensa.population({"x": [2.0**-560, 3 * 2.0**-560]}, rules)
    with pytest.raises(DataError, match=r"^The population's SD of 'x' is 2\.64973e-169;"):
        hensa.score({"x": [0, 1]}, rules, population=population, columns=["x_score"])


def test_moments_beyond_float64_are_infinite():
    moments = hensa.population({"x": [1e300, -1e300, 1.7e308, -1.7e308]}, program("x", base=None))["x"]
    assert (moments.mean, moments.variance) == (0.0, math.inf)
    assert moments.sd == pytest.approx(1.7e308 / math.sqrt(2))
    assert hensa.population({"x": [1.7e308, -1.7e308]}, program("x", base=None, rule={"ddof": 1}))["x"].sd == math.inf


@pytest.mark.parametrize("type_", [pa.int8(), pa.int64(), pa.decimal128(38, 0), pa.float64()], ids=str)
def test_any_rows_against_a_population_of_floats_whose_squares_underflow_are_on_the_exact_step(type_):
    # mean 2^-559 and SD 2^-560, so that 0 scores 48
    rules = program("x", base=None)
    population = hensa.population({"x": [2.0**-560, 3 * 2.0**-560]}, rules)
    rows = {"x": pa.array([0, 1, -1]).cast(pa.decimal128(19, 0)).cast(type_)}
    found = hensa.score(rows, rules, population=population, columns=["score", "step"])
    assert found["score"].to_pylist() == [48.0, 2.0**560, -(2.0**560)]
    assert found["step"].to_pylist() == [48, 100, 0]


def test_a_row_is_not_at_the_mean_because_its_distance_underflows():
    # 0 lies 2^-1000 below the mean, which is 2^-1100 SDs.
    mean, variance = Fraction(1, 2**1000), 2**200
    rules = program("x", [(0, 1), (50, 2)], None)
    population = exact_population("x", 2, 2 * mean, 2 * (variance + mean**2))
    stored = Population(2, 0, population.measures, ("k",), {(0,): population})
    rows = {"x": [0, 1], "k": [0, 0]}
    for by in None, "k":
        found = hensa.score(rows, rules, population=population if by is None else stored, by=by, columns=["step"])
        assert found["step"].to_pylist() == [0, 1]


def test_a_score_too_near_to_0_for_float64_is_0_without_a_sign():
    # z is -2^-1200; the SD is so large that integers decide
    rules = program("x", [(1, 1)], None, rule={"centre": 0})
    population = hensa.population({"x": [2.0**1000, -(2.0**1000)]}, rules)
    found = hensa.score({"x": [-(2.0**-200)]}, rules, population=population, columns=["score"])
    assert found["score"][0].as_py().hex() == (0.0).hex()


def test_floats_against_a_mean_beyond_float64_are_refused():
    rules = program("x", base=None)
    raw = pa.array(map(Decimal, [1, 2]), pa.decimal128(38, 0))
    population = hensa.population({"x": pa.Array.from_buffers(pa.decimal128(38, -400), 2, raw.buffers())}, rules)
    moments = reference.Moments(2, Fraction(3 * 10**400), Fraction(5 * 10**800), 0)
    for score, stored in (hensa.score, population), (reference.score, reference.Population(2, 0, {"x": moments})):
        with pytest.raises(DataError, match=r"^The population's mean of 'x' is beyond the range of float64\.$"):
            score({"x": [1.0]}, rules, population=stored, columns=["step"])


def test_a_score_beyond_float64_is_infinite_and_on_the_last_step():
    rules = program("x", base=None)
    population = hensa.population({"x": [1e-140, 3e-140]}, rules)
    found = hensa.score({"x": [1e200, -1e200]}, rules, population=population, columns=["score", "step"])
    assert found["score"].to_pylist() == [math.inf, -math.inf]
    assert found["step"].to_pylist() == [100, 0]


# --- overflow --------------------------------------------------------------------------------------------------------

ENDS = [-(2**63), 2**64 - 1, 2**63, -1, 0, 2**63 - 1, 1]


def agree(rows, rules, columns=ALL, **options):
    """The bits of the reference, and the steps of the oracle."""
    table = pa.table(rows)
    found = hensa.score(table, rules, columns=columns, **options).select(columns).to_pydict()
    lists = table.to_pydict()
    expected = reference.score(lists, rules, columns=columns)
    assert found == {name: expected[name] for name in columns}
    assert found["step"] == [row.step for row in oracle.solve(lists, rules).rows]
    return found


def test_the_ends_of_int64_and_uint64_in_one_column_of_decimals_are_exact():
    column = pa.array(map(Decimal, ENDS), pa.decimal128(38, 0))
    agree({"x": column}, program("x", base=None), ["score", "step", "x_score"])
    moments = hensa.population({"x": column}, program("x", base=None))["x"]
    assert (moments.state.sum, moments.state.sum_of_squares) == (sum(ENDS), sum(x * x for x in ENDS))


def test_int64_and_uint64_merge_into_the_population_of_both():
    rules = program("x", base=None)
    parts = {
        pa.int64(): [x for x in ENDS if x < 2**63],
        pa.uint64(): [x for x in ENDS if x >= 2**63],
    }
    one, other = (hensa.population({"x": pa.array(x, type_)}, rules) for type_, x in parts.items())
    together = hensa.population({"x": pa.array(map(Decimal, ENDS), pa.decimal128(38, 0))}, rules)
    assert one + other == together
    exact = dict(zip(ENDS, oracle.solve({"x": ENDS}, rules).rows, strict=True))
    for type_, values in parts.items():
        rows = {"x": pa.array(values, type_)}
        found = hensa.score(rows, rules, population=together, columns=["step"])["step"].to_pylist()
        assert found == [exact[x].step for x in values]


LARGEST = 10**38 - 1


@pytest.mark.parametrize("scale", [0, 38, -38])
@pytest.mark.parametrize(
    "digits",
    [
        [LARGEST] * 4100 + [0],  # sums past 2^127
        [LARGEST] * 99 + [-LARGEST],  # a difference from the mean past 2^127
        [-LARGEST] * 99 + [LARGEST],
        [LARGEST, LARGEST - 1, -LARGEST] * 50,
        [LARGEST - 90, LARGEST],
    ],
    ids=len,
)
def test_decimals_of_38_digits_are_exact_whatever_their_scale(digits, scale):
    rules = program("x", base=None)
    raw = pa.array(map(Decimal, digits), pa.decimal128(38, 0))
    column = pa.Array.from_buffers(pa.decimal128(38, scale), len(raw), raw.buffers())
    moments, unit = hensa.population({"x": column}, rules)["x"], Fraction(10) ** -scale
    assert moments.state.sum == sum(digits) * unit
    assert moments.state.sum_of_squares == sum(x * x for x in digits) * unit**2
    found = hensa.score({"x": column}, rules, columns=["score", "step"])
    assert found["step"].to_pylist() == [row.step for row in oracle.solve({"x": digits}, rules).rows]
    assert found["score"].to_pylist() == reference.score({"x": digits}, rules, columns=["score"])["score"]


@pytest.mark.parametrize("scale", [-1000, -77, -39, -38, -1, 1, 38, 39, 77, 1000])
def test_the_scale_of_decimals_changes_no_score_and_no_step(scale):
    # Every row is a tie, which integers decide, and none is at the mean.
    rules = program("xy", [(49, 1), (50, 2), (51, 3)], None)
    plain, scaled = {}, {}
    for name, digits in ("x", [1, 2, 3, 5]), ("y", [9, 8, 7, 5]):
        plain[name] = pa.array(map(Decimal, digits), pa.decimal128(38, 0))
        scaled[name] = pa.Array.from_buffers(pa.decimal128(38, scale), 4, plain[name].buffers())
    found, plain = (hensa.score(rows, rules, columns=["score", "step"]) for rows in (scaled, plain))
    assert found["step"].to_pylist() == [1] * 4
    assert found.select(["score", "step"]).equals(plain.select(["score", "step"]))


def test_a_base_of_any_scale_is_paid_exactly():
    rules = program("x", [(0, 25)], "b")
    for scale in (-20, -3, 0, 3, 38, 60):
        raw = pa.array(map(Decimal, [8 * 10**30, -(10**5) - 1, 7]), pa.decimal128(38, 0))
        column = pa.Array.from_buffers(pa.decimal128(38, scale), len(raw), raw.buffers())
        rows = {"x": [1, 1, 1], "b": column}
        expected = [math.floor(n * Fraction(10) ** -scale / 4) for n in (8 * 10**30, -(10**5) - 1, 7)]
        if max(map(abs, expected)) < 2**63:
            assert hensa.score(rows, rules)["reward"].to_pylist() == expected
        else:
            with pytest.raises(
                DataError, match=r"^Column 'b' is .* in row 0; its reward of \d+ points is beyond int64"
            ):
                hensa.score(rows, rules)


@pytest.mark.parametrize("scale", [-1000, -39, 0, 39, 1000])
def test_a_negative_decimal_of_any_scale_is_named(scale):
    rules = program("x", [(0, 25)], "b", negative="error")
    raw = pa.array(map(Decimal, [0, -105, 7]), pa.decimal128(38, 0))
    column = pa.Array.from_buffers(pa.decimal128(38, scale), len(raw), raw.buffers())
    with pytest.raises(DataError, match=r"^Column 'b' is (\S+) in row 1; it must be 0 or more") as error:
        hensa.score({"x": [1, 1, 1], "b": column}, rules)
    assert Fraction(str(error.value).split()[3]) == -105 * Fraction(10) ** -scale
    assert hensa.score({"x": [], "b": column.slice(3)}, rules).num_rows == 0


@pytest.mark.parametrize("threads", [1, 2])
def test_the_first_reward_beyond_int64_is_named_however_many_there_are(threads):
    base = np.zeros(2 * UNIT + 9, dtype=np.uint64)
    base[[UNIT + 5, UNIT + 6, 2 * UNIT + 1]] = 2**64 - 1
    rules = program("x", [(0, 100)], "b")
    for by in (None, "k"):
        rows = {"x": np.ones(len(base), dtype=np.int8), "b": base, "k": np.zeros(len(base), dtype=np.int8)}
        with pytest.raises(DataError, match=rf"^Column 'b' is {2**64 - 1} in row {UNIT + 5};"):
            hensa.score(rows, rules, by=by, threads=threads)


@pytest.mark.parametrize("doublings", [10, 33, 64, 200])
def test_counts_and_sums_of_merged_populations_never_overflow(doublings):
    rules = program("x", base=None)
    values = [2**64 - 1, 2**63, 0, 1]
    population = hensa.population({"x": pa.array(values, pa.uint64())}, rules)
    for _ in range(doublings):
        population = population + population
    times = 2**doublings
    assert population.count == 4 * times
    state = population["x"].state
    assert (state.sum, state.sum_of_squares) == (sum(values) * times, sum(x * x for x in values) * times)
    assert Population.from_json(population.to_json()) == population
    # With ddof 0 the copies change nothing.
    rows = {"x": pa.array(values, pa.uint64())}
    found = hensa.score(rows, rules, population=population, columns=["score", "step"])
    assert found.equals(hensa.score(rows, rules, columns=["score", "step"]))


def test_more_rows_than_float64_can_count_leave_steps_exact():
    rules = program("x", base=None)
    population = hensa.population({"x": [1, 0, 0, 0, 0]}, rules)  # z of a one is 2, of a zero -1/2
    for _ in range(1100):
        population = population + population
    found = hensa.score({"x": [1, 0]}, rules, population=population, columns=["score", "step"])
    assert found["score"].to_pylist() == [52.0, 49.5]
    assert found["step"].to_pylist() == [52, 49]


def test_populations_of_different_sizes_past_2_to_the_32_rows_merge_exactly():
    rules = program("x", base=None)
    sizes = [2**32 + 1, 7, 2**40 - 3]
    parts = [exact_population("x", n, 3 * n, 9 * n + n % 5) for n in sizes]
    merged = parts[2] + parts[0] + parts[1]
    n, squares = sum(sizes), sum(9 * n + n % 5 for n in sizes)
    moments = merged["x"]
    assert (merged.count, moments.mean_exact) == (n, 3)
    assert moments.variance_exact == Fraction(n * squares - (3 * n) ** 2, n * n)
    found = hensa.score({"x": [3, 4, 2]}, rules, population=merged, columns=["score", "step"])
    z = 1 / math.sqrt(moments.variance_exact)
    assert found["score"].to_pylist() == pytest.approx([50, 50 + z, 50 - z], rel=1e-14)
    assert found["step"].to_pylist() == [50, 100, 0]


def test_welford_populations_of_more_than_2_to_the_53_rows_keep_their_sd():
    population = hensa.population({"x": [1.5, 2.5, 4.0, 9.75]}, program("x", base=None), method="welford")
    sd = population["x"].sd
    for _ in range(70):
        population = population + population
    assert population.count == 4 * 2**70
    assert abs(population["x"].sd - sd) <= 2 * math.ulp(sd)
