"""Every kernel build against the reference, on the same rows: equal results, and equal errors.

Integers and decimals must agree bit for bit. The SD of floats must lie within 2 ulp of the nearest float64; scores
of floats must agree bit for bit with the reference on the population that the kernel found.
"""

import itertools
import math
import random
import re
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import examples

import hensa
from hensa import HensaError, Measure, Program, RateTable, Reward, StandardScore, kernels, reference

RESULTS = {"score": pa.float64(), "step": pa.uint16(), "rate": pa.float64(), "reward": pa.int64()}
WHOLE = [(threshold, threshold) for threshold in range(101)]


# --- all engines as one ----------------------------------------------------------------------------------------------


class Engines:
    """Runs a call on every build and on the reference; they must agree on the result or on the error."""

    builds = tuple(kernels.load(build) for build in kernels.builds)  # a build that is missing is an ImportError here

    def each(self, call):
        """The outcome of `call` on every build, which must be one and the same."""
        outcomes = []
        for build in self.builds:
            with patch.object(kernels, "active", build):
                outcomes.append(outcome(call))
        for other in outcomes[1:]:
            assert same(outcomes[0], other)
        return outcomes[0]

    def population(self, rows, program, **options):
        found = self.each(lambda: hensa.population(rows, program, **options))
        expected = outcome(lambda: reference.population(rows, program))
        if isinstance(found, Failure) or isinstance(expected, Failure):
            assert isinstance(found, Failure)
            assert found.agrees(expected)
            return found
        assert (found.count, found.nulls) == (expected.count, expected.nulls)
        for name, moments in found.measures.items():
            exact = expected[name]
            if moments.method == "exact" and found.count:
                assert moments.mean_exact == exact.mean
                assert moments.mean == float(exact.mean)
            if moments.method == "exact" and exact.variance is not None:
                assert moments.variance_exact == exact.variance
                assert moments.variance == float(exact.variance)
                assert moments.sd == exact.sd
            if moments.method == "welford" and exact.variance is not None:
                assert abs(moments.sd - exact.sd) <= 2 * math.ulp(exact.sd)
            assert math.isnan(moments.sd) == (exact.variance is None)
        return found

    def score(self, rows, program, columns=tuple(RESULTS), population=None):
        """The result on `rows`, whose own columns must come first and unchanged."""
        found = self.each(lambda: hensa.score(rows, program, population=population, columns=columns, threads=2))
        if population is None and not isinstance(found, Failure):
            population = hensa.population(rows, program)
        if population is not None:
            population = as_reference(population)
        expected = outcome(lambda: reference.score(rows, program, population=population, columns=columns))
        if isinstance(found, Failure) or isinstance(expected, Failure):
            assert isinstance(found, Failure)
            assert found.agrees(expected)
            return found
        assert found.column_names == [*rows.column_names, *columns]
        assert found.select(rows.column_names).equals(rows)
        for name in columns:
            assert found.schema.field(name).type == RESULTS.get(name, pa.float64())
            pairs = zip(bits(found[name].to_pylist()), bits(expected[name]), strict=True)
            assert [(name, row, *pair) for row, pair in enumerate(pairs) if pair[0] != pair[1]] == []
            assert found[name].null_count == expected[name].count(None)
        return found


engines = Engines()


class Failure(NamedTuple):
    """An error: its type, and the column and the row that it names."""

    type: type
    column: str | None
    row: int | None

    def agrees(self, other):
        """Types and columns are equal; so are the rows, but that of a wrong type, which only the reference names."""
        return isinstance(other, Failure) and self[:2] == other[:2] and self.row in (None, other.row)


def outcome(call):
    try:
        return call()
    except HensaError as error:
        column = re.search(r"^(?:Column|Result|There is no column|The rows[^']*|columns names) '([^']*)'", str(error))
        row = re.search(r"\brow (\d+)", str(error))
        return Failure(type(error), column and column[1], row and int(row[1]))


def same(a, b):
    if isinstance(a, pa.Table) and isinstance(b, pa.Table):
        return a.schema == b.schema and all(bits(a[n].to_pylist()) == bits(b[n].to_pylist()) for n in a.column_names)
    return a == b


def bits(values):
    """Floats as text that tells every bit (and -0.0 from 0.0)."""
    return [value.hex() if isinstance(value, float) else value for value in values]


def as_reference(population):
    """The population in the reference's own form; of Welford states, their exact value."""
    measures = {}
    for name, m in population.measures.items():
        mean = m.mean_exact if m.count else Fraction(0)
        m2 = m.variance_exact * (m.count - m.ddof) if m.count > m.ddof else Fraction(0)
        measures[name] = reference.Moments(m.count, mean * m.count, m2 + mean**2 * m.count, m.ddof)
    return reference.Population(population.count, population.nulls, measures)


def test_every_build_takes_part_and_must_agree():
    used = []
    engines.each(lambda: used.append(kernels.active))
    assert [build.__name__ for build in used] == [f"hensa.kernels._{b.replace('-', '_')}" for b in kernels.builds]
    assert len({build.__file__ for build in used}) == len(kernels.builds)
    with pytest.raises(AssertionError):
        engines.each(iter([pa.table({"x": [0.0]}), *[pa.table({"x": [-0.0]})] * len(used)]).__next__)


# --- tables ----------------------------------------------------------------------------------------------------------

INTEGERS = [
    pa.int8(),
    pa.int16(),
    pa.int32(),
    pa.int64(),
    pa.uint8(),
    pa.uint16(),
    pa.uint32(),
    pa.uint64(),
    pa.bool_(),
]
DECIMALS = [pa.decimal32(9, 2), pa.decimal64(18, 0), pa.decimal128(38, 5), pa.decimal128(20, -2)]
FLOATS = [pa.float32(), pa.float64()]
NULLS = ["none", "all valid", "1%", "50%", "all null"]
OFFSETS = [0, 1, 3, 7, 8, 13, 64]
CHUNKING = ["one", "many", "blocks", "empty"]
LANES = [length + around for length in (8, 16, 64) for around in (-1, 0, 1)]
BLOCKS = [length + around for length in (512, 4096) for around in (-1, 0, 1)]
PROGRAMS = [
    ({}, {"steps": WHOLE}, {}),
    (
        {"weights": ["1/3", 2], "scale": 10, "ddof": 1},
        {"steps": [(Decimal(t) / 4, Decimal(t) / 8) for t in range(190, 210)], "below": "zero"},
        {"rounding": "half_up", "cap": 1000},
    ),
    (
        {"weights": [2, -1], "scale": "-2.5", "centre": "0.1"},
        {"steps": [("-0.5", "0.001"), ("0.1", "0.35"), (1, 1)], "unit": "share"},
        {"rounding": "ceil"},
    ),
]


def make(names="xy", weights=(1, 1), rates=None, pays=None, **rule):
    measures = [Measure(name, weight) for name, weight in zip(names, weights, strict=False)]
    return Program(
        name="test",
        rule=StandardScore(measures=measures, **rule),
        rates=RateTable(**(rates or {"steps": WHOLE})),
        reward=Reward(base="b", **(pays or {})),
    )


def integers(type_, size, rng, span=None):
    """Integers of a type (of decimals, the digits); the span is chosen from few values to the type's whole range."""
    if pa.types.is_boolean(type_):
        return [rng.randrange(2) for _ in range(size)]
    if pa.types.is_decimal(type_):
        low, high = 1 - 10**type_.precision, 10**type_.precision - 1
    else:
        low, high = (-(2 ** (type_.bit_width - 1)), 2 ** (type_.bit_width - 1) - 1)
        if pa.types.is_unsigned_integer(type_):
            low, high = 0, 2**type_.bit_width - 1
    first, last = span or rng.choice([(0, 9), (-9, 40), (low, high), (high - 50, high), (low, low + 50), (0, 2**33)])
    first, last = max(first, low), min(last, high)
    return [rng.randint(first, last) for _ in range(size)]


def chunk(type_, valid, offset, rng, span):
    """An array by way of its buffers: a slice at `offset`, with values (NaN too) under the nulls."""
    size = offset + len(valid) + 2
    if type_ in FLOATS:
        width = np.float32 if type_ == pa.float32() else np.float64
        middle, spread = rng.choice([(0, 1), (5, 2), (1e6, 1e-2), (-3, 1e12)])
        values = np.array([rng.choice([rng.gauss(middle, spread), middle]) for _ in range(size)], dtype=width)
        hidden = [offset + row for row, is_valid in enumerate(valid or []) if not is_valid]
        values[hidden] = np.nan
        data = values.tobytes()
    elif pa.types.is_boolean(type_):
        data = np.packbits(integers(type_, size, rng), bitorder="little").tobytes()
    else:
        digits, signed = integers(type_, size, rng, span), not pa.types.is_unsigned_integer(type_)
        data = b"".join(n.to_bytes(type_.bit_width // 8, "little", signed=signed) for n in digits)
    everything = [True] * offset + list(valid) + [False, True]
    bitmap = pa.py_buffer(np.packbits(everything, bitorder="little").tobytes()) if valid.has_bitmap else None
    whole = pa.Array.from_buffers(type_, size, [bitmap, pa.py_buffer(data)])
    return whole.slice(offset, len(valid))


class Validity(list):
    has_bitmap = False


def column(type_, nulls, offset, chunking, length, rng, span=None):
    share = {"none": 0, "all valid": 0, "1%": 0.01, "50%": 0.5, "all null": 1}[nulls]
    cuts = {
        "one": [],
        "many": list(itertools.accumulate(rng.randint(1, 90) for _ in range(length // 40))),
        "blocks": [cut for cut in BLOCKS if rng.random() < 0.7],
        "empty": [0, 0, length // 3, length // 3, length],
    }[chunking]
    edges = [0, *(cut for cut in cuts if cut <= length), length]
    chunks = []
    for start, stop in itertools.pairwise(edges):
        valid = Validity(rng.random() >= share for _ in range(stop - start))
        valid.has_bitmap = nulls != "none"
        chunks.append(chunk(type_, valid, offset, rng, span))
    return pa.chunked_array(chunks, type_)


def pairwise(*factors):
    """Combinations in which every two values of every two factors meet (greedily, so not the fewest)."""
    rng = random.Random(0)
    pairs = {
        (i, j, a, b)
        for (i, first), (j, second) in itertools.combinations(enumerate(factors), 2)
        for a in range(len(first))
        for b in range(len(second))
    }
    while pairs:
        i, j, a, b = min(pairs)
        candidates = []
        for _ in range(40):
            picks = [rng.randrange(len(factor)) for factor in factors]
            picks[i], picks[j] = a, b
            met = {(i, j, a, b) for (i, a), (j, b) in itertools.combinations(enumerate(picks), 2)} & pairs
            candidates.append((len(met), picks, met))
        _, picks, met = max(candidates, key=lambda candidate: candidate[0])
        pairs -= met
        yield tuple(factor[pick] for factor, pick in zip(factors, picks, strict=True))


TYPES = INTEGERS + DECIMALS + FLOATS
LENGTHS = [0, 1, 2, *LANES, *BLOCKS]
CASES = list(pairwise(TYPES, LENGTHS, NULLS, OFFSETS, CHUNKING, range(len(PROGRAMS))))
LONG = [
    pytest.param(*case, marks=pytest.mark.long)
    for case in (
        (pa.int32(), 100_003, "none", 0, "one", 0),
        (pa.uint64(), 100_003, "1%", 3, "many", 1),
        (pa.decimal128(38, 5), 100_003, "all valid", 13, "blocks", 2),
        (pa.float64(), 100_003, "1%", 7, "many", 0),
    )
]


@pytest.mark.parametrize(("type_", "length", "nulls", "offset", "chunking", "rules"), CASES + LONG, ids=str)
def test_builds_and_reference_agree_over_the_matrix(type_, length, nulls, offset, chunking, rules):
    rng = random.Random(f"{type_} {length} {nulls} {offset} {chunking} {rules}")
    other, base = rng.choice(TYPES), rng.choice(INTEGERS + DECIMALS)
    rows = pa.table(
        {
            "x": column(type_, nulls, offset, chunking, length, rng),
            "y": column(other, rng.choice(NULLS[:3]), rng.choice(OFFSETS), rng.choice(CHUNKING), length, rng),
            "b": column(
                base, rng.choice(NULLS[:3]), rng.choice(OFFSETS), rng.choice(CHUNKING), length, rng, (-9, 10**9)
            ),
            "other": pa.array(range(length)),
        }
    )
    rule, rates, pays = PROGRAMS[rules]
    program = make(rates=rates, pays=pays, **rule)
    engines.population(rows, program)
    engines.score(rows, program, columns=[*RESULTS, "y_score", "x_score"])


def test_rows_of_several_pieces_of_work_agree(monkeypatch):
    monkeypatch.setattr(hensa.threads, "UNIT", 4096)
    rng = random.Random(0)
    length = 2 * 4096 + 3
    x, y, b = (
        pa.chunked_array([pa.array(rng.choices(range(top), k=size), pa.int32()) for size in (length - cut, cut)])
        for top, cut in ((30, 1), (7, 1000), (10**6, 4096))
    )
    rows = pa.table({"x": x, "y": y, "b": b})
    engines.population(rows, make())
    engines.score(rows, make(), columns=["step", "reward"])


# --- ties ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("z", range(2, 31))
@pytest.mark.parametrize("type_", [pa.int8(), pa.uint64(), pa.bool_(), pa.decimal128(38, 3)], ids=str)
def test_a_one_among_z_squared_zeros_is_exactly_on_step_50_plus_z(type_, z):
    values = pa.array([1] * 2 + [0] * (2 * z * z)).cast(type_)
    rows = pa.table({"x": values, "y": values, "b": pa.array([100] * len(values))})
    result = engines.score(rows, make())
    assert result["step"].to_pylist() == [50 + z] * 2 + [49] * (2 * z * z)


@pytest.mark.parametrize(
    ("y", "weights"),
    [
        (lambda x: 10**6 - x, (1, 1)),
        (lambda x: 10**12 - 10**6 * x, (1, 1)),
        (lambda x: 7 * x, (1, -2)),
        (lambda x: x, (0, 0)),
        (lambda x: 3 - 2 * x, ("1/3", "0.333")),
    ],
)
@pytest.mark.parametrize("type_", [pa.int64(), pa.decimal128(38, 2), pa.float64()], ids=str)
def test_measures_of_proportional_sd_agree_when_rows_are_ties(type_, y, weights):
    rng = random.Random(1)
    x = [rng.randrange(10**6) for _ in range(600)]
    z = [rng.randrange(3) for _ in x]
    third = 1 if weights == (0, 0) else 0
    rows = pa.table({"x": x, "y": list(map(y, x)), "z": z, "b": x})
    if type_ != pa.int64():
        rows = rows.cast(pa.schema([*((name, type_) for name in "xyz"), ("b", pa.int64())]))
    engines.score(rows, make("xyz", [*weights, third]))


def test_a_score_that_rounds_onto_a_threshold_it_does_not_reach_is_below_it():
    root = 50 * 10**40 + math.isqrt(2 * 10**80)  # 50 + sqrt(2), cut: the last score of the rows (variance 1/2)
    rows = pa.table({"x": [-1, 0, 0, 1], "b": [100] * 4})
    for last, step in ((root, 1), (root + 1, 0)):
        program = make("x", rates={"steps": [(0, 1), (Decimal(f"{last}e-40"), 2)]})
        assert engines.score(rows, program)["step"][3].as_py() == step


# --- values ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("middle", [0, 2**31, 2**32, 2**63, 2**64 - 2**32, 2**64 - 2**31, 2**64])
@pytest.mark.parametrize("sign", [1, -1])
def test_long_integers_around_every_power_that_the_kernel_splits_at(middle, sign):
    near = [sign * middle + around for around in range(-3, 4)]
    for type_, low, high in ((pa.int64(), -(2**63), 2**63), (pa.uint64(), 0, 2**64)):
        values = [value for value in near if low <= value < high]
        for extra in ([], [0], [1, high - 1], [low, 5]):
            rows = pa.table({"x": pa.array([*values, *extra], type_)})
            engines.population(rows, make("x"))
            engines.score(rows, make("x"), columns=["score", "step", "x_score"])


def test_decimals_of_38_digits_and_sums_past_2_to_the_127():
    largest = Decimal(10**38 - 1)
    values = [largest, largest.copy_negate(), *[largest] * 3, Decimal(0), Decimal(1), Decimal(2**64), Decimal(-(2**64))]
    rows = pa.table({"x": pa.array(values, pa.decimal128(38, 0))})
    engines.population(rows, make("x"))
    engines.score(rows, make("x"), columns=["score", "step", "x_score"])


@pytest.mark.parametrize("scale", [-3, -1, 0, 2, 5])
@pytest.mark.parametrize("rounding", ["floor", "half_up", "ceil"])
def test_decimal_bases_of_any_scale(scale, rounding):
    digits = [*range(-30, 31), 10**9 - 1, 1 - 10**9]
    base = pa.array([Decimal(n).scaleb(-scale) for n in digits], pa.decimal128(12, scale))
    rows = pa.table({"x": pa.array(range(len(digits))), "b": base})
    for steps in ([(0, 100)], [(0, 10), (51, 20)], [(0, "0.7"), (50, "12.5"), (51, 100)]):
        for cap in (None, 3):
            engines.score(rows, make("x", rates={"steps": steps}, pays={"rounding": rounding, "cap": cap}))


@pytest.mark.parametrize("rounding", ["floor", "half_up", "ceil"])
@pytest.mark.parametrize("rate", ["0.1", "33.3333333", "12.5", "100", "-7", "250.5", "0.00000000000000000000000001"])
def test_rewards_of_integer_bases_up_to_the_ends_of_int64(rate, rounding):
    ends = [sign * (1 << bits) + around for bits in range(0, 64, 7) for sign in (1, -1) for around in (-1, 0, 1)]
    base = [n for n in [*ends, 2**63 - 1, -(2**63)] if -(2**63) <= n < 2**63]
    rates = {"steps": [(0, rate)], "outside": "allow"}
    small = [n for n in base if abs(n * Fraction(rate) / 100) < 2**62]
    for cap in (None, 0, 2**62):
        rules = make("x", rates=rates, pays={"rounding": rounding, "cap": cap})
        engines.score(pa.table({"x": range(len(small)), "b": small}), rules, columns=["reward"])
        for n in set(base) - set(small):  # one at a time, as one that does not fit stops the whole
            engines.score(pa.table({"x": [1, 2], "b": [5, n]}), rules, columns=["reward"])


@pytest.mark.parametrize("steps", [1, 2, 3, 100, 5000])
def test_tables_of_any_length_and_spacing(steps):
    rng = random.Random(steps)
    thresholds = sorted(
        {
            Decimal(round(50 + rng.gauss(0, 1) ** 3 * 10 ** rng.randint(-6, 1), 9)).quantize(Decimal("1e-9"))
            for _ in range(steps)
        }
    )
    rates = {"steps": [(t, Decimal(i) / 100) for i, t in enumerate(thresholds)], "below": "zero"}
    rows = pa.table({"x": np.array([rng.gauss(0, 9) ** 3 for _ in range(1100)]).astype(int), "b": np.arange(1100)})
    engines.score(rows, make("x", rates=rates))


def test_a_measure_may_also_be_the_base():
    engines.score(pa.table({"b": pa.array([1, 2, None, 4])}), make("b"))


@pytest.mark.parametrize("size", [1e-150, 1e-20, 1e20, 1e150])
def test_the_sd_of_floats_of_any_size_is_within_2_ulp(size):
    rng = random.Random(5)
    rows = pa.table({"x": [rng.gauss(1, 2) * size for _ in range(100)]})
    engines.population(rows, make("x"))
    engines.score(rows, make("x"), columns=["score", "step"])


@pytest.mark.parametrize("type_", TYPES, ids=str)
def test_welford_of_every_type_is_within_2_ulp(type_):
    rng = random.Random(3)
    x = column(type_, "1%", 7, "many", 9000, rng, (-(2**52), 2**52))  # all are float64
    assert engines.population(pa.table({"x": x}), make("x"), method="welford")["x"].method == "welford"


# --- stored populations, nulls, errors -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "stored",
    [[0, 2], [2**64 - 1, 2**64 - 9], [Decimal(10**33 - 1), Decimal(5)], [1.5, 1e9], [Decimal("0.05"), Decimal(9)]],
)
@pytest.mark.parametrize("type_", TYPES, ids=str)
def test_rows_of_every_type_are_scored_against_a_stored_population(stored, type_):
    program = make("x")
    type_of_stored = {int: pa.uint64(), float: pa.float64(), Decimal: None}[type(stored[0])]
    population = hensa.population(pa.table({"x": pa.array(stored, type_of_stored)}), program)
    rng = random.Random(2)
    rows = pa.table({"x": column(type_, "1%", 3, "many", 200, rng)})
    engines.score(rows, program, columns=["score", "step", "x_score"], population=population)


def nan_at(row, length=5000):
    x = np.arange(length, dtype=float)
    x[row] = np.nan
    return x


ROWS = {"x": [1, 2, 3], "y": [5, 1, 0], "b": [1, 2, 3]}
PAYS_ALL = {"rates": {"steps": [(0, 100)]}}
FAILING = {  # rows, rules, options of the call; column and row that the error names
    "float base": (ROWS | {"b": [1.0, 2.0, 3.0]}, {}, {}, "b", None),
    "string measure": (ROWS | {"y": ["1", "2", "3"]}, {}, {}, "y", None),
    "result exists": (ROWS | {"step": [1, 2, 3]}, {}, {}, "step", None),
    "unknown result": (ROWS, {}, {"columns": ["fee"]}, "fee", None),
    "result twice": (ROWS, {}, {"columns": ["step", "step"]}, "step", None),
    "one row, ddof 1": ({"x": [1], "y": [2], "b": [3]}, {"ddof": 1}, {}, None, None),
    "one row that counts, ddof 1": (ROWS | {"x": [1, None, None]}, {"ddof": 1}, {}, None, None),
    "constant": (ROWS | {"y": [7, 7, 7]}, {"constant": "error"}, {}, "y", None),
    "one row": ({"x": [1], "y": [2], "b": [3]}, {"constant": "error"}, {}, "x", None),
    "reward beyond int64": (ROWS | {"b": pa.array([1, 2**63, 2**64 - 1], pa.uint64())}, PAYS_ALL, {}, "b", 1),
    "reward below int64": (ROWS | {"b": [Decimal(1), None, Decimal(-(2**63) - 1)]}, PAYS_ALL, {}, "b", 2),
    "nan in the first row": ({"x": nan_at(0), "y": nan_at(0) * 0 + 1, "b": range(5000)}, {}, {}, "x", 0),
    "nan in the last row of a block": ({"x": nan_at(4095), "y": range(5000), "b": range(5000)}, {}, {}, "x", 4095),
    "nan in the last row": ({"x": range(5000), "y": nan_at(4999), "b": range(5000)}, {}, {}, "y", 4999),
    "infinity": (ROWS | {"y": [1.0, math.inf, -math.inf]}, {}, {}, "y", 1),
    "infinity in float32": (ROWS | {"y": pa.array([1.0, 2.0, -math.inf], pa.float32())}, {}, {}, "y", 2),
    "nan after nulls": (ROWS | {"y": [None, None, math.nan]}, {}, {}, "y", 2),
}


@pytest.mark.parametrize(("rows", "rules", "options", "column", "row"), FAILING.values(), ids=FAILING)
def test_builds_and_reference_raise_the_same_error(rows, rules, options, column, row):
    error = engines.score(pa.table(rows), make(**rules), **options)
    assert error == Failure(hensa.DataError, column, row)


@pytest.mark.parametrize("missing", ["x", "y", "b"])
def test_builds_and_reference_raise_the_same_error_where_a_column_is_missing(missing):
    rows = pa.table({name: column for name, column in ROWS.items() if name != missing})
    assert engines.score(rows, make()) == Failure(hensa.ColumnError, missing, None)


@pytest.mark.parametrize("row", [0, 1023, 1024, 2999])
def test_a_value_that_is_not_finite_is_an_error_against_a_stored_population_too(row):
    for value in (math.nan, math.inf, -math.inf):
        x = np.arange(3000.0)
        x[row] = value
        rows = pa.table({"x": x, "b": range(3000)})
        stored = hensa.population({"x": [1, 2]}, make("x"))
        assert engines.score(rows, make("x"), population=stored)[1:] == ("x", row)


@pytest.mark.parametrize("refused", ["x", "b", "xb", ""])
@pytest.mark.parametrize("type_", TYPES, ids=str)
def test_negative_values_are_refused_where_the_program_says_so(type_, refused):
    rng = random.Random(f"{type_} {refused}")
    other = rng.choice(INTEGERS + DECIMALS)
    rows = pa.table(
        {n: column(t, "1%", 3, "many", 300, rng, (-2, 90)) for n, t in zip("xb", (type_, other), strict=True)}
    )
    negative = {name: "error" if name in refused else "allow" for name in "xb"}
    rule = StandardScore(measures=[Measure("x", 1, negative["x"])])
    program = Program(
        name="t", rule=rule, rates=RateTable(steps=WHOLE), reward=Reward(base="b", negative=negative["b"])
    )
    first = {n: next((i for i, v in enumerate(rows[n].to_pylist()) if v is not None and v < 0), None) for n in refused}
    expected = next((Failure(hensa.DataError, name, row) for name, row in first.items() if row is not None), None)
    for found in engines.population(rows, program), engines.score(rows, program):
        assert found == expected if expected else not isinstance(found, Failure)


def test_a_duplicate_column_is_an_error():
    rows = pa.table([pa.array([1, 2])] * 2, names=["x", "x"])
    assert isinstance(engines.population(rows, make("x")), Failure)


def test_an_empty_population_scores_nothing():
    nothing = pa.table({"x": pa.array([None] * 3, pa.int64())})
    stored = hensa.population(nothing, make("x"))
    engines.score(nothing, make("x"), columns=["score"])
    engines.score(nothing, make("x"), columns=["score"], population=stored)
    assert isinstance(
        engines.score(pa.table({"x": [1, 2, 3]}), make("x"), columns=["score"], population=stored), Failure
    )


@pytest.mark.parametrize("below", ["first", "zero"])
def test_a_score_below_the_first_threshold_among_nulls(below):
    rows = pa.table({"x": [1, 2, 3, None], "b": [1000] * 4})
    result = engines.score(rows, make("x", rates={"steps": [(50, 10), (51, 20)], "below": below}))
    assert result["step"].to_pylist() == [0 if below == "first" else None, 0, 1, None]


@pytest.mark.parametrize("constant", ["centre", "null"])
def test_a_constant_measure_agrees(constant):
    rows = pa.table({"x": [1, 2, 4, None], "y": [7, 7, 7, 9], "b": [1, 2, 3, 4]})
    engines.score(rows, make(constant=constant), columns=[*RESULTS, "x_score", "y_score"])


# --- tables that hypothesis makes ------------------------------------------------------------------------------------


def values_of(type_):
    if type_ in FLOATS:
        width = 32 if type_ == pa.float32() else 64
        return st.integers(-4, 4).map(lambda n: n / 4) | st.floats(-1e9, 1e9, width=32).filter(lambda x: width or x)
    if pa.types.is_boolean(type_):
        return st.booleans()
    if pa.types.is_decimal(type_):
        few, many = st.integers(-3, 3), st.integers(1 - 10**type_.precision, 10**type_.precision - 1)
        return (few | many).map(lambda digits: Decimal((digits < 0, tuple(map(int, str(abs(digits)))), -type_.scale)))
    low = -(2 ** (type_.bit_width - 1)) if pa.types.is_signed_integer(type_) else 0
    high = low + 2**type_.bit_width - 1
    return st.integers(max(low, -3), 3) | st.integers(low, high)


@st.composite
def made_tables(draw):
    length = draw(st.integers(0, 20))
    columns = {}
    for name in "xyzw"[: draw(st.integers(1, 4))]:
        if columns and draw(st.integers(0, 3)) == 0:
            columns[name] = columns[draw(st.sampled_from(sorted(columns)))]
            continue
        type_ = draw(st.sampled_from(TYPES))
        cells = st.none() | values_of(type_) if draw(st.booleans()) else values_of(type_)
        cut = draw(st.integers(0, length))
        values = draw(st.lists(cells, min_size=length, max_size=length))
        columns[name] = pa.chunked_array([pa.array(values[:cut], type_), pa.array(values[cut:], type_)])
    columns["b"] = pa.array(draw(st.lists(st.integers(-(10**6), 10**6), min_size=length, max_size=length)), pa.int64())
    return pa.table(columns)


@st.composite
def made_programs(draw, names):
    few = st.integers(-3, 3) | st.fractions(-2, 2, max_denominator=7)
    weights = draw(st.lists(few, min_size=len(names), max_size=len(names)).filter(sum))
    centre = draw(st.sampled_from([50, 0, -1, Fraction(1, 3)]))
    thresholds = draw(
        st.lists(st.integers(-3, 53) | st.decimals(-60, 60, places=1), min_size=1, max_size=9, unique_by=float)
    )
    steps = [(Decimal(t), index * Decimal("7.3")) for index, t in enumerate(sorted(thresholds))]
    return make(
        names,
        weights,
        rates={"steps": steps, "below": draw(st.sampled_from(["first", "zero"]))},
        pays={
            "rounding": draw(st.sampled_from(["floor", "half_up", "ceil"])),
            "cap": draw(st.none() | st.integers(0, 10**5)),
        },
        scale=draw(few.filter(bool)),
        centre=centre,
        ddof=draw(st.integers(0, 1)),
        constant=draw(st.sampled_from(["centre", "null", "error"])),
    )


@examples(300)
@given(st.data(), made_tables())
def test_builds_and_reference_agree_on_made_tables(data, rows):
    names = [name for name in rows.column_names if name != "b"]
    program = data.draw(made_programs(names))
    engines.population(rows, program)
    engines.score(rows, program, columns=[*RESULTS, *(f"{name}_score" for name in names)])
