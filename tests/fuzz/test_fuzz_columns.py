"""Any bytes in columns of any type, sliced, chunked and with any nulls, score as the reference says in every build."""

import itertools
import os

import numpy as np
import pyarrow as pa
from fuzzing import SHORT, agree, outcome
from guarded import array_of, guarded, values_of
from hypothesis import given
from hypothesis import strategies as st
from making import program

import hensa
from hensa import DataError, kernels, reference

TYPES = [
    *(pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64(), pa.bool_()),
    *(pa.float32(), pa.float64(), pa.decimal32(9, 2), pa.decimal64(18, -3), pa.decimal128(38, 0), pa.decimal128(20, 7)),
]
REFUSED = [
    pa.float16(),
    pa.date32(),
    pa.timestamp("us"),
    pa.duration("s"),
    pa.decimal256(50, 2),
    pa.month_day_nano_interval(),
]
PAID = [type_ for type_ in TYPES if not pa.types.is_floating(type_)]
LENGTHS = st.integers(0, 70) | st.sampled_from([511, 512, 513])
RESULTS = ["score", "step", "rate", "reward", "x_score"]


def place(data, before):
    return guarded(data, True, before) if os.name == "posix" else pa.py_buffer(data)


@st.composite
def chunks(draw, type_, length):
    """A slice at any offset of a buffer that ends with its last row; few bytes are drawn and then repeated."""
    offset = draw(st.integers(0, 9) | st.sampled_from([63, 64]))
    total = offset + length
    if draw(st.booleans()):
        few = draw(st.lists(st.integers(-9, 99), min_size=1, max_size=9))
        values = values_of(type_, np.resize(np.array(few), total)) if type_ in TYPES else b"\1"
    else:
        values = draw(st.binary(min_size=1, max_size=40))
    n_bytes = -(-total * type_.bit_width // 8)
    values = (values * (n_bytes // len(values) + 1))[:n_bytes] if values else b""
    valid = draw(st.none() | st.binary(min_size=1, max_size=9))
    if valid is not None:
        valid = (valid * (total // 8 + 1))[: (total + 7) // 8]
    return array_of(type_, values, valid, offset, length, place)


@st.composite
def columns(draw, length, types):
    type_ = draw(types)
    cuts = sorted(draw(st.lists(st.integers(0, length), max_size=3)))
    edges = [0, *cuts, length]
    return pa.chunked_array([draw(chunks(type_, stop - start)) for start, stop in itertools.pairwise(edges)], type_)


@st.composite
def tables(draw, measures=TYPES, bases=PAID):
    length = draw(LENGTHS)
    table = {"x": draw(columns(length, st.sampled_from(measures)))}
    table["y"] = table["x"] if draw(st.integers(0, 5)) == 0 else draw(columns(length, st.sampled_from(measures)))
    table["b"] = draw(columns(length, st.sampled_from(bases)))
    cut = draw(st.integers(0, length))
    table["c"] = pa.array([draw(st.integers(0, 2))] * cut + [7] * (length - cut), pa.int64())
    return pa.table(table)


numbers = st.integers(-3, 3) | st.fractions(-2, 2, max_denominator=7)


@st.composite
def programs(draw):
    weights = draw(st.lists(numbers, min_size=1, max_size=2).filter(sum))
    thresholds = sorted(set(draw(st.lists(st.integers(0, 99), min_size=1, max_size=5))))
    pays = {
        "cap": draw(st.none() | st.integers(0, 10**6)),
        "rounding": draw(st.sampled_from(["floor", "half_up", "ceil"])),
    }
    return program(
        list(zip("xy", weights, strict=False)),
        [(threshold, 7 * i) for i, threshold in enumerate(thresholds)],
        rule={
            "scale": draw(numbers.filter(bool)),
            "ddof": draw(st.integers(0, 1)),
            "constant": draw(st.sampled_from(["centre", "null", "error"])),
        },
        rates={"below": draw(st.sampled_from(["first", "zero"])), "outside": "allow"},
        **pays,
    )


asked = st.lists(st.sampled_from(RESULTS), min_size=1, unique=True)


@SHORT
@given(tables(), programs(), asked, st.sampled_from([None, None, "c"]))
def test_any_bytes_are_scored_as_the_reference_says(rows, rules, names, by):
    agree(rows, rules, names, by=by)


@SHORT
@given(tables(), tables(), programs(), asked)
def test_any_bytes_are_scored_against_any_population_as_the_reference_says(rows, others, rules, names):
    population = outcome(lambda: hensa.population(others, rules))
    expected = outcome(lambda: reference.population(others, rules))
    if isinstance(population, type):
        assert expected == population
        return
    agree(rows, rules, names, population=population, expected_population=expected)


@given(tables(REFUSED) | tables(TYPES, [*REFUSED, pa.float64()]))
def test_any_bytes_of_a_type_that_is_no_number_are_refused(rows):
    assert outcome(lambda: hensa.score(rows, program())) is DataError


@SHORT
@given(tables(), st.sampled_from([None, "c"]), st.sampled_from(["auto", "exact", "welford"]))
def test_any_bytes_have_one_population_in_every_build(rows, by, method):
    found = []
    usual = kernels.active
    try:
        for build in kernels.builds:
            kernels.active = kernels.load(build)
            found.append(outcome(lambda: hensa.population(rows, program(), by=by, method=method)))
    finally:
        kernels.active = usual
    assert all(population == found[0] for population in found)
    if not isinstance(found[0], type):
        assert hensa.Population.from_json(found[0].to_json()) == found[0]
