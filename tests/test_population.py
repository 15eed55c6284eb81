"""Pass 1: exact moments are equal to those of fractions, Welford's within 2 ulp; populations merge and travel."""

import itertools
import json
import math
import random
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest
from making import exact_moments, nearest_root, program

import hensa
from hensa import DataError, HensaError, Population, kernels

pytestmark = pytest.mark.usefixtures("build")

X = program("x", base=None)
X1 = program("x", base=None, rule={"ddof": 1})
WITH_BASE = program("x")
BLOCK = 4096
PIECE = 2**18  # rows that a thread takes at a time
LENGTHS = (1, 2, 15, 16, 17, 65, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 5)

INTEGERS = {
    **{f"int{bits}": (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": (0, 2**bits - 1) for bits in (8, 16, 32, 64)},
}
DECIMALS = {"decimal32": (pa.decimal32, 9), "decimal64": (pa.decimal64, 18), "decimal128": (pa.decimal128, 38)}


def moments(values, type_=None, rules=X, **options):
    """The moments of one column; `values` may be a list of chunks."""
    column = values if isinstance(values, pa.ChunkedArray) else pa.array(values, type_)
    return hensa.population(pa.table({"x": column}), rules, **options)["x"]


def assert_exact(found, values, ddof=0):
    mean, variance = exact_moments(values, ddof)
    assert (found.count, found.method) == (len(values), "exact")
    assert (found.mean_exact, found.variance_exact) == (mean, variance)
    assert (found.mean, found.variance, found.sd) == (float(mean), float(variance), nearest_root(variance))


def within_ulps(found, values, ulps=2, ddof=0):
    """Whether a SD is that close to the correctly rounded one."""
    expected = nearest_root(exact_moments(values, ddof)[1])
    return abs(Fraction(found) - Fraction(expected)) <= ulps * Fraction(math.ulp(expected))


# --- exact -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", INTEGERS)
@pytest.mark.parametrize("count", LENGTHS)
def test_integers_at_the_extremes_of_their_type_are_exact(name, count):
    low, high = INTEGERS[name]
    for ends in (low,), (high,), (low, high), (low, low + 1, 0, high - 1, high):
        values = list(itertools.islice(itertools.cycle(ends), count))
        assert_exact(moments(values, pa.type_for_alias(name)), values)


@pytest.mark.parametrize("name", INTEGERS)
def test_random_integers_of_every_type_are_exact(name):
    low, high = INTEGERS[name]
    draw = random.Random(name)
    values = [draw.randint(low, high) >> draw.randrange(64) for _ in range(2 * BLOCK + 77)]
    assert_exact(moments(values, pa.type_for_alias(name)), values)


def test_a_block_of_small_int64_beside_one_with_a_large_value_is_exact():
    for odd in (2**31, -(2**31) - 1, 2**31 - 1, -(2**31), 2**63 - 1, -(2**63)):
        values = [7] * BLOCK + [7] * 100 + [odd] + [-7] * (BLOCK - 101) + [3]
        assert_exact(moments(values, pa.int64()), values)


def test_uint64_next_to_its_maximum_are_not_taken_for_small_negative_numbers():
    for values in [2**64 - 1] * 5, [2**64 - 2**31, 0, 2**31 - 1], [2**64 - 2**31 - 1, 3]:
        assert_exact(moments(values, pa.uint64()), values)


@pytest.mark.parametrize("count", LENGTHS)
def test_booleans_count_as_0_and_1(count):
    values = [i % 3 == 0 for i in range(count)]
    assert_exact(moments(values, pa.bool_()), [int(value) for value in values])


@pytest.mark.parametrize("name", DECIMALS)
@pytest.mark.parametrize("scale", [0, 2, "all", -2])
def test_decimals_are_exact_in_their_own_unit(name, scale):
    make, digits = DECIMALS[name]
    type_ = make(digits, digits if scale == "all" else scale)
    draw = random.Random(f"{name} {scale}")
    extreme = 10**digits - 1
    large = [extreme, -extreme, *(draw.randrange(-extreme, extreme) for _ in range(BLOCK))]
    for whole in large, list(range(-50, 50)):
        raw = pa.array([Decimal(n) for n in whole], make(digits, 0))
        column = pa.Array.from_buffers(type_, len(raw), raw.buffers())
        # from the digits, as multiplying would round to the precision of the context
        values = [Decimal((n < 0, tuple(map(int, str(abs(n)))), -type_.scale)) for n in whole]
        assert_exact(moments(column), values)


def test_decimals_that_fit_64_bits_beside_those_that_do_not_are_exact():
    for odd in (2**63, -(2**63) - 1, 2**63 - 1, -(2**63), 2**64, -(2**64), 2**96 + 1, 10**38 - 1, 1 - 10**38):
        values = [Decimal(7)] * BLOCK + [Decimal(odd), Decimal(-7)]
        assert_exact(moments(values, pa.decimal128(38, 0)), values)


NEAR = (40_000_008_000_000_490, 40_000_008_000_000_400)


@pytest.mark.parametrize("type_", [pa.int64(), pa.uint64(), pa.decimal128(38, 0)], ids=str)
@pytest.mark.parametrize("chunks", [[[NEAR[0]], [NEAR[1]]], [[*NEAR]], [[], [NEAR[0]], [], [NEAR[1]], []]], ids=str)
def test_the_variance_of_two_near_large_numbers_is_4050(type_, chunks):
    # They differ by 90; the sample variance of two numbers is half their squared difference.
    column = pa.chunked_array([pa.array(map(Decimal if pa.types.is_decimal(type_) else int, c), type_) for c in chunks])
    found = moments(column, rules=X1)
    assert found.variance == 4050.0
    assert found.variance_exact == 4050


def test_the_variance_of_two_merged_populations_is_4050_too():
    one, other = (hensa.population({"x": [value]}, X1) for value in NEAR)
    assert (one + other)["x"].variance_exact == 4050


@pytest.mark.parametrize("ddof", [0, 1])
def test_the_divisor_is_the_count_less_ddof(ddof):
    values = [1, 2, 4, 8, 100]
    assert_exact(moments(values, rules=X1 if ddof else X), values, ddof)


def test_a_constant_column_has_a_variance_of_exactly_zero():
    for values in [2**63 - 1] * 5000, [Decimal("0.1")] * 5000, [True] * 5000:
        assert moments(values).variance_exact == 0


# --- which rows count ------------------------------------------------------------------------------------------------


def test_rows_that_are_null_in_a_measure_or_in_the_base_are_left_out():
    rows = {"x": [1, None, 3, 1000, None], "b": [1, 2, 3, None, None]}
    found = hensa.population(rows, WITH_BASE)
    assert (found.count, found.nulls) == (2, 3)
    assert_exact(found["x"], [1, 3])


def test_a_missing_base_column_leaves_no_row_out():
    found = hensa.population({"x": [1, None, 3]}, WITH_BASE)
    assert (found.count, found.nulls) == (2, 1)


@pytest.mark.parametrize("type_", ["int8", "uint16", "int32", "int64", "uint64", "float", "double", "bool"])
def test_whatever_lies_under_a_null_is_not_read(type_):
    type_ = pa.type_for_alias(type_)
    count = BLOCK + 100
    garbage = np.full(count * 8, 0xFF, dtype=np.uint8)  # -1, the largest unsigned, NaN, true
    valid = np.arange(count) % 3 > 0
    bitmap = pa.py_buffer(np.packbits(valid, bitorder="little"))
    column = pa.Array.from_buffers(type_, count, [bitmap, pa.py_buffer(garbage)])
    clean = pa.array(np.where(valid, 1, 0)).cast(type_)
    values = clean.buffers()[1].to_pybytes()
    if type_ != pa.bool_():
        width = type_.bit_width // 8
        raw = np.frombuffer(values, dtype=np.uint8)[: count * width].reshape(count, width).copy()
        raw[~valid] = 0xFF
        column = pa.Array.from_buffers(type_, count, [bitmap, pa.py_buffer(raw.tobytes())])
    found = hensa.population(pa.table({"x": column}), X)
    assert (found.count, found.nulls) == (int(valid.sum()), int((~valid).sum()))
    assert (found["x"].mean, found["x"].sd) == (1.0, 0.0)


@pytest.mark.parametrize("type_", [pa.int32(), pa.float64(), pa.bool_(), pa.decimal128(10, 2)], ids=str)
@pytest.mark.parametrize("chunks", ["no chunk", "an empty chunk", "nulls"])
def test_without_rows_that_count_the_moments_are_nan(type_, chunks):
    arrays = {
        "no chunk": [],
        "an empty chunk": [pa.array([], type_)],
        "nulls": [pa.nulls(3, type_), pa.nulls(2, type_)],
    }
    found = hensa.population(pa.table({"x": pa.chunked_array(arrays[chunks], type_)}), X)
    assert (found.count, found.nulls) == (0, 5 if chunks == "nulls" else 0)
    assert all(map(math.isnan, (found["x"].mean, found["x"].variance, found["x"].sd)))


def test_one_row_has_a_mean_but_no_sample_variance():
    found = moments([7], rules=X1)
    assert found.mean == 7
    assert math.isnan(found.variance)
    assert math.isnan(found.sd)


@pytest.mark.parametrize("seed", range(4))
def test_chunks_of_different_layouts_at_any_offset_make_no_difference(seed):
    draw = random.Random(seed)
    count = 2 * BLOCK + 1000
    columns = {name: [draw.choice([None, draw.randrange(-(2**62), 2**62)]) for _ in range(count)] for name in "xyb"}

    def in_chunks(values):
        cuts = sorted({0, count, *(draw.randrange(count) for _ in range(draw.randrange(12)))})
        pads = [draw.randrange(9) for _ in cuts]
        chunks = [
            pa.array([1] * pad + values[a:b]).slice(pad)
            for pad, (a, b) in zip(pads, itertools.pairwise(cuts), strict=False)
        ]
        return pa.chunked_array(chunks, pa.int64())

    found = hensa.population(pa.table({name: in_chunks(values) for name, values in columns.items()}), program())
    counted = [row for row in zip(*columns.values(), strict=True) if None not in row]
    assert (found.count, found.nulls) == (len(counted), count - len(counted))
    for i, name in enumerate("xy"):
        assert_exact(found[name], [row[i] for row in counted])


# --- Welford ---------------------------------------------------------------------------------------------------------

# National Institute of Standards and Technology, Statistical Reference Datasets, univariate summary statistics:
# NumAcc1 to NumAcc4, their values and certified mean and (sample) SD.
NIST = {
    "NumAcc1": (["10000001", "10000003", "10000002"], "10000002", "1"),
    "NumAcc2": (["1.2", *["1.1", "1.3"] * 500], "1.2", "0.1"),
    "NumAcc3": (["1000000.2", *["1000000.1", "1000000.3"] * 500], "1000000.2", "0.1"),
    "NumAcc4": (["10000000.2", *["10000000.1", "10000000.3"] * 500], "10000000.2", "0.1"),
}


@pytest.mark.parametrize("name", NIST)
def test_the_nist_series_as_float64_have_a_sd_within_2_ulp(name):
    values = [float(text) for text in NIST[name][0]]
    found = moments(values, rules=X1, method="welford")
    assert found.method == "welford"
    assert within_ulps(found.sd, values, ddof=1)


@pytest.mark.parametrize("name", NIST)
def test_the_nist_series_as_decimals_have_the_certified_moments_exactly(name):
    texts, mean, sd = NIST[name]
    found = moments([Decimal(text) for text in texts], rules=X1)
    assert (found.mean_exact, found.variance_exact) == (Fraction(mean), Fraction(sd) ** 2)


def textbook(values):
    """Welford 1962, one value at a time."""
    mean = m2 = 0.0
    for n, x in enumerate(values, 1):
        delta = x - mean
        mean += delta / n
        m2 += delta * (x - mean)
    return math.sqrt(m2 / len(values))


def test_data_that_freeze_the_mean_of_textbook_welford_are_within_2_ulp():
    # From the third value on, delta/n = 2/n is less than half an ulp of the mean, which stays where it is.
    values = [1e16] + [1e16 + 2] * 3000
    expected = nearest_root(exact_moments(values)[1])
    assert textbook(values) > 10 * expected
    assert within_ulps(moments(values, method="welford").sd, values)


@pytest.mark.parametrize("mean", [0.0, 1.0, -1e3, 1e8, -1e12, 1e15, 1e16])
@pytest.mark.parametrize("count", [*LENGTHS[1:], 20_011])
def test_the_sd_is_within_2_ulp_up_to_a_mean_of_1e16_sd(mean, count):
    values = (mean + np.random.default_rng(count).standard_normal(count)).tolist()
    if len(set(values)) == 1:
        values[0] = math.nextafter(mean, math.inf)
    assert within_ulps(moments(values, method="welford").sd, values)


@pytest.mark.parametrize("count", [PIECE - 1, PIECE, PIECE + 1])
def test_the_sd_is_within_2_ulp_where_the_pieces_of_threads_meet(count):
    values = (1e9 + np.random.default_rng(count).standard_normal(count)).tolist()
    for threads in (1, 2):
        assert within_ulps(moments(values, threads=threads).sd, values)


@pytest.mark.parametrize(
    "values",
    [
        [1e150, -1e150, 3e149],
        [5e-130, 1e-130, 0.0],
        [1e16, *[1.0] * 5000],
        [*[0.0] * 10_000, 1e-8],
        [*[1e16] * 5000, *[-1e16] * 5000, 1.0],
        [0.1 * i for i in range(10_000)],
        [2.0 ** (i % 100) for i in range(10_000)],
        [1.0, math.nextafter(1.0, 2.0)] * 3000,
    ],
    ids=[
        "large",
        "small",
        "an outlier first",
        "an outlier last",
        "two blocks far apart",
        "a ramp",
        "powers",
        "one ulp",
    ],
)
def test_the_sd_of_awkward_floats_is_within_2_ulp(values):
    assert within_ulps(moments(values, method="welford").sd, values)


def test_float32_are_added_up_in_float64():
    column = np.random.default_rng(1).normal(1000, 1, 10_000).astype(np.float32)
    assert within_ulps(moments(column, method="welford").sd, column.astype(np.float64).tolist())


def test_the_mean_of_floats_is_the_nearest_float64():
    values = (1e6 + np.random.default_rng(2).standard_normal(3 * BLOCK + 1)).tolist()
    assert moments(values, method="welford").mean == float(exact_moments(values)[0])


@pytest.mark.parametrize("value", [0.0, 0.1, -1e300, 5e-324, 1e16])
def test_equal_floats_have_a_sd_of_exactly_zero(value):
    assert moments([value] * (2 * BLOCK + 3), method="welford").variance_exact == 0


@pytest.mark.parametrize("values", [[1e-170, 2e-170, 4e-170], [0.0, 5e-324], [0.0] * BLOCK + [1e-200]], ids=len)
def test_floats_whose_squared_deviations_vanish_in_float64_are_not_taken_for_equal(values):
    with pytest.raises(DataError, match=r"^Column 'x' has .* squares are beyond float64"):
        moments(values, method="welford")


def test_a_constant_float_is_constant_whatever_the_rows_hold_that_are_left_out():
    found = hensa.population({"x": [2.5, 2.5, 7.0, None], "b": [1, 1, None, 1]}, WITH_BASE, method="welford")
    assert (found.count, found["x"].mean, found["x"].variance_exact) == (2, 2.5, 0)


@pytest.mark.parametrize("at", [0, 1, BLOCK - 1, BLOCK, 2 * BLOCK + 5])
def test_nulls_among_floats_are_skipped(at):
    count = 2 * BLOCK + 6
    values = (1e10 + np.random.default_rng(at).standard_normal(count)).tolist()
    mask = np.arange(count) % 5 == at % 5
    kept = [value for value, null in zip(values, mask, strict=True) if not null]
    column = np.where(mask, np.nan, values)
    assert within_ulps(moments(pa.chunked_array([pa.array(column, mask=mask)]), method="welford").sd, kept)


@pytest.mark.parametrize("name", [*INTEGERS, "bool"])
def test_welford_of_integers_is_within_2_ulp(name):
    low, high = INTEGERS.get(name, (0, 1))
    low, high = max(low, -(2**53)), min(high, 2**53)
    draw = random.Random(name)
    values = [draw.randint(low, high) for _ in range(BLOCK + 100)]
    column = pa.array(values, pa.int64()).cast(pa.type_for_alias(name))
    found = moments(column, method="welford")
    assert found.method == "welford"
    assert within_ulps(found.sd, values)
    assert abs(Fraction(found.mean) - exact_moments(values)[0]) <= Fraction(math.ulp(max(abs(found.mean), found.sd)))


def test_welford_of_decimals_is_within_2_ulp():
    values = [Decimal(n * n).scaleb(-2) for n in range(1000)]
    for type_ in pa.decimal32(9, 2), pa.decimal64(18, 2), pa.decimal128(30, 2):
        assert within_ulps(moments(values, type_, method="welford").sd, values)


@pytest.mark.parametrize("type_", [pa.int64(), pa.float64(), pa.decimal128(20, 3)])
def test_welford_of_whole_numbers_has_their_exact_moments(type_):
    numbers = [int(x) for x in np.random.default_rng(5).geometric(0.01, 20_011)]
    unit = Fraction(1, 1000) if pa.types.is_decimal(type_) else Fraction(1)
    column = pa.array([Decimal(x).scaleb(-3) for x in numbers], type_) if unit < 1 else pa.array(numbers).cast(type_)
    found = hensa.population({"x": column}, program("x", base=None), method="welford")["x"]
    assert (found.mean_exact, found.variance_exact) == exact_moments([x * unit for x in numbers])


def test_welford_of_values_far_below_1_is_not_taken_for_that_of_whole_numbers():
    found = hensa.population({"x": [0.0, 2.0**-100]}, program("x", base=None), method="welford")["x"]
    assert (found.mean_exact, found.variance_exact) == (Fraction(1, 2**101), Fraction(1, 2**202))


def test_welford_by_hand_on_a_small_block():
    # mean 5, M2 = 9 + 1 + 1 + 1 + 0 + 0 + 4 + 16 = 32 (eight values, SD 2)
    found = moments([2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0], method="welford")
    assert (found.mean, found.variance, found.sd) == (5.0, 4.0, 2.0)


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("row", [0, 5, BLOCK, PIECE + 3])
@pytest.mark.parametrize("type_", [np.float32, np.float64])
def test_nan_and_infinity_are_errors_that_name_column_and_row(value, row, type_):
    values = np.ones(PIECE + 10, dtype=type_)
    values[row] = value
    chunks = pa.chunked_array([values[:3], values[3:5000], values[5000:]])
    with pytest.raises(DataError, match=rf"^Column 'x' is {value} in row {row}; "):
        hensa.population(pa.table({"x": chunks}), X, threads=2)


def test_a_nan_in_a_row_that_does_not_count_is_no_error():
    rows = {"x": [1.0, math.nan, 3.0], "b": [1, None, 3]}
    assert hensa.population(rows, WITH_BASE)["x"].mean == 2


def test_the_named_row_is_the_first_bad_one_that_counts():
    rows = {"x": [1.0, math.nan, math.inf, math.nan], "b": [1, None, 3, 4]}
    with pytest.raises(DataError, match=r"^Column 'x' is inf in row 2; "):
        hensa.population(rows, WITH_BASE)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_the_named_row_is_the_first_of_all_pieces_with_any_number_of_threads(threads):
    values = np.ones(6 * PIECE)
    values[[PIECE - 1, PIECE + 3, 4 * PIECE]] = math.nan  # the last is the first that its piece comes to
    for _ in range(10):
        with pytest.raises(DataError, match=f"^Column 'x' is nan in row {PIECE - 1}; "):
            hensa.population({"x": values}, X, threads=threads)


def test_floats_whose_squares_are_beyond_float64_are_an_error_that_names_the_column():
    with pytest.raises(DataError, match=r"^Column 'x' has .* squares are beyond float64"):
        moments([1e200, -1e200], method="welford")


def test_a_method_that_is_not_known_is_refused():
    with pytest.raises(DataError, match=r"""^method is 'naive'; it must be "auto", "exact" or "welford"\.$"""):
        moments([1, 2], method="naive")


# --- merging ---------------------------------------------------------------------------------------------------------


def parts_of(values, cuts):
    ends = itertools.pairwise([0, *cuts, len(values)])
    rows = pa.table({"x": pa.array(values, pa.int64()), "b": [1] * len(values)})
    return [hensa.population(rows.slice(a, b - a), WITH_BASE) for a, b in ends]


@pytest.mark.parametrize("cuts", [[0], [1], [5, 5, 5], [100, 4096, 5000], [*range(0, 6000, 7)]], ids=len)
def test_exact_populations_of_parts_merge_into_that_of_the_whole(cuts):
    draw = random.Random(9)
    values = [draw.choice([None, draw.randrange(-(2**63), 2**63)]) for _ in range(6000)]
    (whole,) = parts_of(values, [])
    parts = parts_of(values, cuts)
    random.Random(0).shuffle(parts)
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    assert total == whole
    assert total.to_json() == whole.to_json()


def test_welford_populations_of_parts_merge_within_2_ulp():
    values = (1e12 + np.random.default_rng(4).standard_normal(10_000)).tolist()
    one, other = (hensa.population({"x": part}, X, method="welford") for part in (values[:2345], values[2345:]))
    merged = (one + other)["x"]
    assert merged.count == 10_000
    assert within_ulps(merged.sd, values)
    assert merged.mean == float(exact_moments(values)[0])


@pytest.mark.parametrize("type_", [pa.int64(), pa.float64(), pa.decimal128(15, 2)], ids=str)
@pytest.mark.parametrize("method", ["auto", "welford"])
def test_an_empty_population_changes_nothing(type_, method):
    some = hensa.population(pa.table({"x": pa.array([1, 2, 5, None], pa.int32()).cast(type_)}), X, method=method)
    none = hensa.population(pa.table({"x": pa.array([], type_)}), X, method=method)
    assert some + none == none + some == some
    assert none + none == none


def test_populations_that_differ_in_measures_ddof_or_method_do_not_merge():
    one = hensa.population({"x": [1.0, 2.0]}, X, method="welford")
    others = {
        "measures": hensa.population({"y": [1, 2]}, program("y", base=None)),
        "ddof": hensa.population({"x": [1.0, 2.0]}, X1, method="welford"),
        "method": hensa.population({"x": [1, 2]}, X),
    }
    for name, other in others.items():
        with pytest.raises(DataError, match="merged; compute both with one program") as error:
            one + other
        assert name != "measures" or "x and y" in str(error.value)


TENS = [10, -30, 0, 120]
IN_UNITS = [
    pa.array(TENS),
    pa.array(map(float, TENS)),
    pa.array(map(Decimal, TENS), pa.decimal128(5, 2)),
    pa.array(map(Decimal, TENS), pa.decimal128(20, 9)),
    pa.array(map(Decimal, TENS), pa.decimal64(3, -1)),
]


@pytest.mark.parametrize("one", IN_UNITS, ids=lambda column: str(column.type))
@pytest.mark.parametrize("other", IN_UNITS, ids=lambda column: str(column.type))
def test_exact_populations_of_equal_values_are_equal_and_merge_whatever_the_types(one, other):
    one, other = moments(one), moments(other)
    assert one == other
    assert hash(one) == hash(other)
    assert_exact(one + other, TENS * 2)


def test_a_population_and_something_else_do_not_add():
    found = hensa.population({"x": [1, 2]}, X)
    for other in (1, None, "x"):
        with pytest.raises(TypeError, match="unsupported operand"):
            found + other
        with pytest.raises(TypeError, match="unsupported operand"):
            found["x"] + other


# --- JSON and repr ---------------------------------------------------------------------------------------------------


def populations():
    huge = [2**64 - 1, 0, 2**63] * 1000
    return {
        "integers": hensa.population({"x": pa.array(huge, pa.uint64())}, X),
        "decimals": hensa.population({"x": [Decimal("0.00000000000000000000000000000000000001"), Decimal("9e-38")]}, X),
        "floats": hensa.population({"x": [0.1, 0.2, 1e100, None]}, X1),
        "Welford of decimals": hensa.population({"x": [Decimal("0.1"), Decimal("0.3")]}, X, method="welford"),
        "no rows": hensa.population({"x": pa.array([], pa.int64())}, X),
        "no rows of floats": hensa.population({"x": pa.array([], pa.float64())}, X),
        "all null": hensa.population({"x": pa.nulls(4, pa.int8())}, X1),
        "names": hensa.population({'"新規"': [1], "\\": [2]}, program(['"新規"', "\\"], base=None)),
    }


@pytest.mark.parametrize("name", list(populations()))
def test_json_loses_nothing(name):
    found = populations()[name]
    again = Population.from_json(found.to_json())
    assert again == found
    assert again.to_json() == found.to_json()
    for column, of_column in found.measures.items():
        assert again[column].sd == of_column.sd or math.isnan(of_column.sd)


def test_a_population_from_json_merges_and_scores_as_before():
    rows = {"x": [1, 2, 9], "b": [100, 100, 100]}
    found = hensa.population(rows, WITH_BASE)
    again = Population.from_json(found.to_json())
    assert again + again == found + found
    assert hensa.score(rows, WITH_BASE, population=again).equals(hensa.score(rows, WITH_BASE))


def test_every_truncated_json_is_a_data_error():
    text = populations()["floats"].to_json()
    for end in range(len(text) - 1):
        with pytest.raises(DataError, match=r"^The text is not a population as to_json writes it"):
            Population.from_json(text[:end])


@pytest.mark.parametrize("text", ["", "null", "[]", "3", '"x"', "{}", "\ufeff{}", "[" * 100_000, '{"count": 1e9999}'])
def test_json_of_something_else_is_a_data_error(text):
    with pytest.raises(DataError, match=r"^The text is not a population as to_json writes it"):
        Population.from_json(text)


CORRUPTIONS = [
    ("count", -1),
    ("count", 1.5),
    ("count", "3"),
    ("count", True),
    ("count", 1),  # no number is 12 and has the square 86
    ("nulls", None),
    ("measures", []),
    ("measures", None),
    ("ddof", 2),
    ("ddof", 1.0),
    ("ddof", True),
    ("method", "naive"),
    ("method", None),
    ("method", "welford"),
    ("sum", None),
    ("sum", "nan"),
    ("sum", "1/0"),
    ("sum", "twelve"),
    ("sum", True),
    ("sum", "100"),
    ("sum", "1e400"),
    ("sum_of_squares", "-86"),
    ("sum_of_squares", [86]),
]


@pytest.mark.parametrize(("key", "value"), CORRUPTIONS, ids=str)
def test_a_corrupted_value_in_json_is_a_data_error(key, value):
    data = json.loads(hensa.population({"x": [1, 2, 9]}, X).to_json())  # sum 12, sum of squares 86
    (data if key in data else data["measures"]["x"])[key] = value
    with pytest.raises(DataError, match=r"^The text is not a population as to_json writes it"):
        Population.from_json(json.dumps(data))


@pytest.mark.parametrize("key", ["count", "nulls", "measures", "ddof", "method", "sum", "sum_of_squares"])
def test_a_missing_key_in_json_is_a_data_error(key):
    data = json.loads(hensa.population({"x": [1, 2, 9]}, X).to_json())
    del (data if key in data else data["measures"]["x"])[key]
    with pytest.raises(DataError, match=r"^The text is not a population as to_json writes it"):
        Population.from_json(json.dumps(data))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("mean", ["nan", "0x0p+0"]),
        ("mean", ["inf", "0x0p+0"]),
        ("mean", ["0x1p+0"]),
        ("mean", [1.0, 0.0]),
        ("m2", ["-0x1p+0", "0x0p+0"]),
        ("m2", None),
        ("unit", "x"),
        ("unit", "0"),
        ("unit", "-1"),
    ],
    ids=str,
)
def test_a_corrupted_welford_state_in_json_is_a_data_error(key, value):
    data = json.loads(hensa.population({"x": [1.0, 2.0, 9.0]}, X, method="welford").to_json())
    data["measures"]["x"][key] = value
    with pytest.raises(DataError, match=r"^The text is not a population as to_json writes it"):
        Population.from_json(json.dumps(data))


def test_repr_says_counts_means_sds_and_methods():
    rows = {"orders": [1, 1, 3, 3, None], "spent": [2.5, 2.5, 2.5, 2.5, 0.0]}
    assert repr(hensa.population(rows, program(["orders", "spent"], base=None))) == (
        "Population of 4 rows (1 left out)\n  orders  mean 2  SD 1  (exact)\n  spent   mean 2.5  SD 0  (exact)"
    )


def test_repr_of_moments_is_readable():
    rows = {"x": pa.array([0, 2] * 1000)}
    assert repr(hensa.population(rows, X)["x"]) == "Moments(count=2,000, mean=1, sd=1, exact)"


def test_a_measure_that_is_not_there_is_a_key_error():
    with pytest.raises(KeyError, match="y"):
        hensa.population({"x": [1]}, X)["y"]


def test_cohorts_are_not_ignored_in_silence():
    try:
        found = hensa.population({"x": [1, 2], "site": ["a", "b"]}, X, by="site")
    except HensaError as error:
        assert "by" in str(error)  # noqa: PT017
    else:
        assert set(found.cohorts) == {("a",), ("b",)}


def test_every_build_gives_the_same_population(monkeypatch):
    draw = np.random.default_rng(11)
    rows = {
        "x": pa.array(draw.normal(1e6, 3, 3 * BLOCK + 7), mask=draw.random(3 * BLOCK + 7) < 0.1),
        "y": draw.integers(-(2**63), 2**63, 3 * BLOCK + 7, endpoint=False),
    }
    texts = set()
    for name in kernels.builds:
        monkeypatch.setattr(kernels, "active", kernels.load(name))
        texts.add(hensa.population(rows, program(base=None)).to_json())
    assert len(texts) == 1


@pytest.mark.parametrize("type_", [pa.decimal32(9, 2), pa.decimal64(15, 2), pa.decimal128(30, 2), pa.int8()])
def test_a_constant_column_of_any_type_has_an_sd_of_zero_by_either_method(type_, build):
    rows = pa.table({"x": pa.array([Decimal(1)] * 3, type_), "b": [1, 2, 3]})
    for method in ("exact", "welford"):
        moments = hensa.population(rows, program("x"), method=method)["x"]
        assert (moments.mean, moments.sd) == (1.0, 0.0)
