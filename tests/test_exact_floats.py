"""Exact moments of floats: equal to those of fractions for every exponent, in any order, chunks and parts."""

import random
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest
from making import exact_moments, nearest_root, program
from oracle import solve

import hensa
from hensa import Population

pytestmark = pytest.mark.usefixtures("build")

X = program("x", base=None)
BLOCK = 4096  # rows that a kernel takes at a time
PIECE = 2**18  # rows of a piece of work
RNG = np.random.default_rng(11)


def any_bits(n, seed=0):
    """Finite float64 of any sign and exponent, subnormals and zeros among them."""
    draw = np.random.default_rng(seed)
    values = draw.integers(0, 2**64, 2 * n, dtype=np.uint64).view(np.float64)
    return values[np.isfinite(values)][:n]


VALUES = {
    "one": [0.1],
    "zeros": [0.0, -0.0, 0.0],
    "minus zero and one": [-0.0, 1.0],
    "largest": [1.7976931348623157e308] * 3 + [-1.7976931348623157e308],
    "smallest": [5e-324, -5e-324, 1.5e-323],
    "subnormals": (np.arange(5000) * 5e-324).tolist(),
    "1e308 and 1e-308": [1e308, 1e-308, -1e-308, 3e-308, -1e308],
    "normal": RNG.normal(5, 2, 3 * BLOCK + 5).tolist(),
    "heavy tail": RNG.lognormal(0, 8, 2 * BLOCK).tolist(),
    "any bits": any_bits(2 * BLOCK + 3).tolist(),
    "28 binades apart": [1.0, 2.0**-27, 2.0**-28, 2.0**-29, -(2.0**-28) * (1 - 2**-53)],
    "cancels": [1e300, 1.0, -1e300] * 1500,
    "full block": [-1.0 + 2**-53] * BLOCK,
    "cents": (np.round(RNG.lognormal(3, 2, BLOCK), 2)).tolist(),
    "frozen Welford": [1e16] + [1e16 + 2] * 3000,
}


def exact(values, type_=None, **options):
    return hensa.population(pa.table({"x": pa.array(values, type_ or pa.float64())}), X, **options)


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_sums_equal_those_of_fractions(values):
    found = exact(values)["x"]
    assert found.state.sum == sum(map(Fraction, values))
    assert found.state.sum_of_squares == sum(Fraction(x) ** 2 for x in values)


@pytest.mark.parametrize("name", [name for name in VALUES if name != "any bits"])
def test_mean_and_sd_are_the_nearest_float64(name):
    found, (mean, variance) = exact(VALUES[name])["x"], exact_moments(VALUES[name])
    assert (found.mean, found.sd) == (float(mean), nearest_root(variance))


@pytest.mark.parametrize("n", [1, 2, 7, 8, 9, 15, 16, 17, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 7])
def test_every_length_around_a_lane_and_a_block_is_exact(n):
    values = RNG.normal(size=n).tolist()
    assert exact(values)["x"].state.sum_of_squares == sum(Fraction(x) ** 2 for x in values)


def test_float32_are_exact():
    values = RNG.lognormal(0, 20, 10_000).astype(np.float32)
    found = exact(values, pa.float32())["x"]
    assert found.state.sum_of_squares == sum(Fraction(float(x)) ** 2 for x in values)


def test_nulls_and_what_lies_under_them_are_left_out():
    values = np.where(np.arange(9000) % 3 == 0, np.nan, RNG.normal(size=9000))
    column = pa.array(values, mask=np.arange(9000) % 3 == 0)
    kept = [x for x in column.to_pylist() if x is not None]
    assert exact(column)["x"].state.sum_of_squares == sum(Fraction(x) ** 2 for x in kept)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("row", [0, BLOCK - 1, BLOCK, 2 * BLOCK + 1])
def test_nan_and_infinity_are_errors_that_name_column_and_row(value, row):
    values = RNG.normal(size=2 * BLOCK + 5)
    values[row] = value
    with pytest.raises(hensa.DataError, match=rf"^Column 'x' is .* in row {row};"):
        exact(values)


def test_order_chunks_and_threads_change_nothing():
    values = np.concatenate([any_bits(PIECE), RNG.normal(size=PIECE + 17)])
    expected = exact(values, threads=1)
    shuffled = RNG.permutation(values)
    chunks = pa.chunked_array(np.array_split(shuffled, sorted(RNG.choice(len(values), 40, replace=False))))
    for threads in 1, 2, 5:
        assert hensa.population(pa.table({"x": chunks}), X, threads=threads) == expected


def test_parts_merge_into_the_whole_and_json_loses_nothing():
    values = any_bits(10_000)
    whole, parts = exact(values), [exact(part) for part in np.array_split(values, 7)]
    random.Random(5).shuffle(parts)
    merged = sum(parts[1:], parts[0])
    assert merged == whole
    assert Population.from_json(merged.to_json()) == whole


def test_cohorts_of_floats_equal_each_scored_alone():
    n = 5000
    rows = pa.table({"k": RNG.integers(0, 40, n), "x": RNG.normal(size=n)})
    together = hensa.score(rows, X, by="k", columns=("score", "step"))
    for k in range(40):
        own = rows.filter(pa.compute.equal(rows["k"], k))
        alone = hensa.score(own, X, columns=("score", "step"))
        assert together.filter(pa.compute.equal(together["k"], k)).equals(alone)


def test_steps_of_floats_are_those_of_exact_arithmetic():
    # Floats with few digits, so that many rows lie exactly on a threshold: z = (x - mean) / SD.
    rules = program(["x", "y"], base=None)
    draw = random.Random(7)
    for _ in range(200):
        n = draw.randint(2, 12)
        rows = {name: [draw.randint(-4, 4) / 4 for _ in range(n)] for name in ("x", "y")}
        expected = [row.step for row in solve(rows, rules).rows]
        assert hensa.score(rows, rules, columns="step")["step"].to_pylist() == expected
