"""Many small cohorts: most of their rows tie with a threshold, and every step is that of exact fractions; how rows are
told apart and added up."""

import random
import re
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from functools import cache
from math import isqrt

import numpy as np
import pyarrow as pa
import pytest
from making import exact_moments, program
from pyarrow import compute

import hensa
from hensa import Population, kernels, reference
from hensa.cohorts import encode
from hensa.columns import key_view
from hensa.judge import CohortJudge
from hensa.threads import UNIT

pytestmark = pytest.mark.usefixtures("build")

COHORTS = 800
STEPS = [(Decimal(quarters) / 4, 1) for quarters in range(4 * 47, 4 * 53 + 1)]


def sign(x):
    return (x > 0) - (x < 0)


def reaches(a, b, t):
    """Whether the roots of |a| and |b|, with the signs of a and b, add up to t or more."""
    roots = sign(a + b)
    if roots != sign(t):
        return roots > sign(t)
    rest = t * t - abs(a) - abs(b)
    squares = sign(4 * a * b - rest * abs(rest))  # of the sum and of t, compared
    return squares >= 0 if roots >= 0 else squares <= 0


def exact_steps(columns, keys, ddof):
    """By the squares of half the standard scores, with their signs."""
    rows = {}
    for row, key in enumerate(keys):
        rows.setdefault(key, []).append(row)
    halves = [[Fraction(0)] * len(keys) for _ in columns]
    for own in rows.values():
        for column, into in zip(columns, halves, strict=True):
            mean, variance = exact_moments([Fraction(column[row]) for row in own], ddof)
            for row in own if variance else ():
                deviation = Fraction(column[row]) - mean
                into[row] = deviation * abs(deviation) / variance / 4
    return [step_of(a, b) for a, b in zip(*halves, strict=True)]


@cache
def step_of(a, b):
    """The step below the first threshold is 0."""
    return max(sum(reaches(a, b, Fraction(threshold) - 50) for threshold, _ in STEPS) - 1, 0)


def small(draw):
    return draw.choice([0, 0, 0, 1, 1, 2, 5])


def spread(draw):
    return draw.choice([-3, -3, 7, 40])


VALUES = {
    "int32": (pa.int32(), small),
    "uint8": (pa.uint8(), small),
    "negative int64": (pa.int64(), spread),
    "int64 beyond 32 bits": (pa.int64(), lambda draw: 2**33 * spread(draw)),
    "int64 of full range": (pa.int64(), lambda draw: draw.choice([-(2**63), -(2**63), 2**63 - 1, 0, 2**62])),
    "uint64 beyond int64": (pa.uint64(), lambda draw: draw.choice([2**64 - 1, 2**63, 5])),
    "decimals": (pa.decimal128(9, 2), lambda draw: Decimal(spread(draw)) / 4),
    "decimals beyond int64": (pa.decimal128(38, 1), lambda draw: Decimal(spread(draw)) * 10**20),
    "narrow and wide": (pa.int64(), lambda draw: draw.choice([1, 1, 2, 2**40])),
}


@cache
def case(name, ddof):
    """Cohorts of 2 to 6 rows (and of 1, if ddof allows) in random order: columns, keys and exact steps."""
    type_, value = VALUES[name]
    draw = random.Random(f"{name} {ddof}")
    keys = [key for key in range(COHORTS) for _ in range(draw.choice([1 + ddof, 2, 2, 3, 5, 6]))]
    draw.shuffle(keys)
    columns = [[value(draw) for _ in keys] for _ in "xy"]
    rows = {"x": pa.array(columns[0], type_), "y": pa.array(columns[1], type_), "k": pa.array(keys, pa.int32())}
    return pa.table(rows), exact_steps(columns, keys, ddof)


@pytest.mark.parametrize("ddof", [0, 1])
@pytest.mark.parametrize("name", VALUES)
def test_every_row_of_so_many_tiny_cohorts_is_on_the_exact_step(name, ddof):
    rows, expected = case(name, ddof)
    rules = program(steps=STEPS, base=None, rule={"ddof": ddof})
    assert hensa.score(rows, rules, by="k", columns=["step"])["step"].to_pylist() == expected


@pytest.mark.parametrize("name", VALUES)
def test_tiny_cohorts_have_the_bits_of_the_reference_and_of_stored_populations(name):
    rows, _ = case(name, 1)
    rows = rows.filter(compute.less(rows["k"], 150))
    rules = program([("x", 2), ("y", 1)], STEPS, None, rule={"ddof": 1, "scale": "2/3"})
    columns = ["score", "step", "rate", "x_score"]
    found = hensa.score(rows, rules, by="k", columns=columns).select(columns).to_pydict()
    expected = reference.score(rows.to_pydict(), rules, by="k", columns=columns)
    assert found == {column: expected[column] for column in columns}
    stored = Population.from_json(hensa.population(rows, rules, by="k").to_json())
    again = hensa.score(rows, rules, by="k", columns=columns, population=stored).select(columns)
    assert again.to_pydict() == found


@pytest.mark.parametrize("unit", [1, -(2**20), Decimal("0.01")], ids=str)
def test_rows_of_equal_standard_scores_are_decided_once_whatever_their_cohorts(unit, monkeypatch):
    asked = []
    decide = CohortJudge.decide
    monkeypatch.setattr(CohortJudge, "decide", lambda judge, row: asked.append(row) or decide(judge, row))
    draw = random.Random(1)
    keys = [key for key in range(COHORTS) for _ in range(2)]
    starts, gaps = ([draw.randrange(1, 100) for _ in range(COHORTS)] for _ in "sg")
    x = [(starts[key] + gaps[key] * (row % 2)) * unit for row, key in enumerate(keys)]
    found = hensa.score({"x": x, "k": keys}, program("x", base=None), by="k", columns=["score", "step"], threads=1)
    signs = [1 if (row % 2) == (unit > 0) else -1 for row in range(len(x))]
    assert found["score"].to_pylist() == [50.0 + z for z in signs]
    assert found["step"].to_pylist() == [50 + z for z in signs]
    assert len(asked) == 2


@pytest.mark.parametrize(("weights", "asked"), [([1, 1, 2], 1), ([1, 2, 1], None)], ids=["equal", "different"])
def test_opposite_scores_of_equal_weights_are_decided_once_and_others_each(weights, asked, monkeypatch):
    decided = []
    decide = CohortJudge.decide
    monkeypatch.setattr(CohortJudge, "decide", lambda judge, row: decided.append(row) or decide(judge, row))
    draw = random.Random(2)
    keys = [draw.randrange(20) for _ in range(600)]
    x = [draw.randrange(-50, 1_000) for _ in keys]
    rows = {"x": x, "y": [10**6 - value for value in x], "z": [7] * len(x), "k": keys}
    rules = program(list(zip("xyz", weights, strict=True)), STEPS, base=None)
    found = hensa.score(rows, rules, by="k", columns=["score", "step"], threads=1)
    if asked:
        assert found["score"].to_pylist() == [50.0] * len(x)
        assert len(decided) == asked
    assert found["step"].to_pylist() == reference.score(rows, rules, by="k", columns=["step"])["step"]


@pytest.mark.parametrize("nulls", [False, True], ids=["dense", "with nulls"])
@pytest.mark.parametrize("name", VALUES)
def test_moments_by_cohort_are_exact(name, nulls):
    type_, value = VALUES[name]
    draw = random.Random(name)
    keys = [draw.randrange(40) for _ in range(2_000)]
    x = [None if nulls and draw.random() < 0.3 else value(draw) for _ in keys]
    found = hensa.population({"x": pa.array(x, type_), "k": keys}, program("x", base=None), by="k").cohorts
    for key in range(40):
        own = [Fraction(cell) for cell, of in zip(x, keys, strict=True) if of == key and cell is not None]
        moments = found[key,]["x"]
        assert (moments.count, moments.mean_exact, moments.variance_exact) == (len(own), *exact_moments(own))


@pytest.mark.parametrize("floats", [False, True], ids=["same type", "floats"])
@pytest.mark.parametrize("name", VALUES)
def test_other_rows_score_against_cohorts_as_against_a_population_of_each(name, floats):
    rows, _ = case(name, 1)
    rules = program([("x", 2), ("y", 1)], STEPS, None, rule={"ddof": 1})
    earlier = hensa.population(rows, rules, by="k")
    type_ = pa.float64() if floats else rows["x"].type
    x, y = (rows[column].cast(type_, safe=False) for column in "yx")
    later = pa.table({"y": y, "x": x, "k": rows["k"].cast(pa.int64())}).slice(7)
    columns = ["score", "step", "y_score"]
    expected = hensa.score(later, rules, replace(earlier, cohorts=dict(earlier.cohorts)), by="k", columns=columns)
    for stored in earlier, Population.from_json(earlier.to_json()):
        assert hensa.score(later, rules, stored, by="k", columns=columns).equals(expected)
    for key in COHORTS, "0":
        strange = {"x": [1, 1], "y": [1, 1], "k": [key, key]}
        with pytest.raises(hensa.DataError, match=f"cohort {key!r}, of row 0, is not there; {COHORTS} others are"):
            hensa.score(strange, rules, earlier, by="k", columns=columns)


@pytest.mark.parametrize("name", VALUES)
def test_cohorts_of_parts_merge_into_those_of_the_whole(name):
    rows, _ = case(name, 0)
    rules = program(steps=STEPS, base=None)
    parts = [rows.slice(0, 900), rows.slice(900, 5), rows.slice(905)]
    populations = [hensa.population(part.select(["k", "x", "y"]), rules, by="k") for part in parts]
    together = populations[0] + populations[1] + populations[2]
    whole = hensa.population(rows, rules, by="k")
    assert together == whole
    assert Population.from_json(populations[2].to_json()) + populations[1] + populations[0] == whole
    assert hensa.score(rows, rules, together, by="k").equals(hensa.score(rows, rules, by="k"))


@pytest.mark.parametrize("squares", [2**63 - 1, 2**63, 2**64, 2**126])
@pytest.mark.parametrize("sign", [1, -1])
def test_moments_by_cohort_are_exact_on_both_sides_of_63_bits(squares, sign):
    most = min(isqrt(squares // 3), 2**63 - 1)
    x = [sign * most, sign * most, sign * (most - 1)]
    found = hensa.population({"x": x, "k": ["a"] * 3}, program("x", base=None), by="k")
    for times, population in (1, found), (2, found + found), (3, found + found + found):
        moments = population.cohorts["a",]["x"]
        assert (moments.mean_exact, moments.variance_exact) == exact_moments([Fraction(cell) for cell in x] * times)


@pytest.mark.parametrize("unit", [1, -(2**40)])
@pytest.mark.parametrize("threads", [1, 3])
def test_moments_by_cohort_are_those_of_all_parts_of_the_rows(threads, unit):
    n = 3 * UNIT + 5
    draw = np.random.default_rng(7)
    k, x, valid = draw.integers(0, 3, n), draw.integers(-5, 100, n), draw.random(n) < 0.8
    keys = pa.array(np.array(["one", "two", "three"])[k])
    rows = {"k": keys, "j": k % 2, "x": pa.array(x * unit, mask=~valid)}
    found = hensa.population(rows, program("x", base=None), by=["k", "j"], threads=threads).cohorts
    assert len(found) == 3
    for number, name in enumerate(["one", "two", "three"]):
        own = x[valid & (k == number)].tolist()
        cohort = found[name, number % 2]
        mean = unit * Fraction(sum(own), len(own))
        squares = unit**2 * Fraction(sum(value * value for value in own), len(own))
        assert (cohort.count, cohort.count + cohort.nulls) == (len(own), int((k == number).sum()))
        assert (cohort["x"].mean_exact, cohort["x"].variance_exact) == (mean, squares - mean * mean)


def test_values_that_grow_after_they_were_looked_at_count_as_the_greatest_seen():
    column = key_view(pa.chunked_array([[5, -9, 2**63 - 1, -(2**63), 1]])).column
    totals, counts = np.zeros((2, 1, 2), dtype=np.int64), np.zeros(2, dtype=np.int64)
    codes = np.array([0, 0, 1, 1, 1], dtype=np.int32)
    kernels.active.small_moments_by([column], [], codes, 0, 5, 6, totals, counts)
    assert counts.tolist() == [2, 3]
    assert totals.tolist() == [[[5 - 6, 25 + 36]], [[6 - 6 + 1, 36 + 36 + 1]]]


KEYS = {
    "int8": pa.array([-128, 127, 0, -128], pa.int8()),
    "near": pa.array([10**12, 10**12 + 7, 10**12, 10**12 + 3]),
    "far": pa.array([-(2**63), 2**63 - 1, 0, 2**63 - 1]),
    "far, as others": pa.array([5, 10**17, 10**17, 10**18]),
    "apart": pa.array([0, 60_000, 7, 60_000], pa.int32()),
    "uint64 beyond int64": pa.array([2**64 - 1, 2**63, 2**64 - 1, 0], pa.uint64()),
    "text": pa.array(["b", "", "b", "ä"]),
    "dictionary": pa.array(["b", "a", "b", "c"]).dictionary_encode(),
    "large text": pa.array(["b", "", "b", "ä"], pa.large_string()),
    "binary": pa.array([b"\xff", b"", b"\xff", b"\xff\xff"]),
    "dictionary with a value twice, and one unused": pa.DictionaryArray.from_arrays([3, 1, 0, 2], ["a", "b", "?", "a"]),
    "dictionary of integers": pa.array([2**40, 5, 2**40, -7]).dictionary_encode(),
    "bool": pa.array([True, False, False, True]),
    "decimals": pa.array([Decimal("1.5"), Decimal("-1.5"), Decimal(0), Decimal("1.5")]),
    "decimals of 32 bits": pa.array([Decimal("1.5"), Decimal("-1.5"), Decimal(0), Decimal("1.5")], pa.decimal32(3, 1)),
    "times": pa.array([10**15, 10**15 + 1, 0, 10**15]).view(pa.timestamp("us", "Asia/Tokyo")),
    "dates": pa.array([date(2019, 10, 1), date(1969, 1, 1), date(2019, 10, 1), date(1969, 1, 1) + timedelta(1)]),
}


@pytest.mark.parametrize("second", [None, *KEYS])
@pytest.mark.parametrize("first", KEYS)
def test_rows_have_one_code_where_their_keys_are_equal(first, second):
    names = ("first",) if second is None else ("first", "second")
    chosen = KEYS[first].take(pa.array([0, 1, 2, 3, 3, 2, 1, 0, 0]))
    crossed = KEYS[second or first].take(pa.array([0, 1, 2, 3, 0, 1, 2, 3, 0]))
    keys = encode(pa.table({"first": pa.chunked_array([chosen[:4], chosen[4:]]), "second": crossed}), names)
    expected = list(zip(*[chosen.to_pylist(), crossed.to_pylist()][: len(names)], strict=True))
    rows = list(zip(*(column.to_pylist() for column in keys.table.columns), strict=True))
    assert [rows[code] for code in keys.codes] == expected
    assert len(set(rows)) == len(rows)
    assert set(rows) == set(expected)


def test_a_null_in_the_dictionary_of_a_key_is_refused_as_a_null():
    key = pa.DictionaryArray.from_arrays(pa.array([0, 1, 0]), pa.array(["a", None]))
    with pytest.raises(hensa.DataError, match="Cohort column 'k' is null in row 1; every row needs a cohort"):
        hensa.population({"x": [1, 2, 3], "k": key}, program("x", base=None), by="k")


def mixed_texts():
    """Texts of every length up to 40 bytes, alike but for one byte, at each place."""
    texts = ["", *("x" * n for n in range(1, 41))]
    texts += [text[:place] + "y" + text[place + 1 :] for text in texts for place in range(len(text))]
    return random.Random(7).choices(texts, k=4_000)


@pytest.mark.parametrize("kind", ["string", "large_string", "binary", "large_binary", "string_view", "binary_view"])
def test_texts_of_every_kind_and_length_are_told_apart(kind):
    texts = mixed_texts()
    column = pa.array(["before", *texts], getattr(pa, kind)())
    chunks = [column.slice(1, 1), column.slice(2, 0), column.slice(2, 2_000), column.slice(2_002)]
    keys = encode(pa.table({"k": pa.chunked_array(chunks)}), ("k",))
    expected = [text.encode() for text in texts] if "binary" in kind else texts
    assert keys.table["k"].to_pylist() == list(dict.fromkeys(expected))
    assert np.array(keys.table["k"].to_pylist(), dtype=object)[keys.codes].tolist() == expected


def test_texts_in_parts_by_several_threads_have_the_codes_of_one_thread():
    # so many that tables grow, and both parts have texts that the other has not
    numbers = np.arange(2 * UNIT + 5) * 7919 % 100_003 + np.arange(2 * UNIT + 5) // 100
    table = pa.table({"k": pa.array(numbers).cast(pa.string())})
    one, two = (encode(table, ("k",), threads) for threads in (1, 2))
    assert one.table.equals(two.table)
    assert one.codes.tolist() == two.codes.tolist()
    assert np.array_equal(one.table["k"].cast(pa.int64()).to_numpy()[one.codes], numbers)


@pytest.mark.parametrize("offsets", [[0, 5, 2], [0, 2**31 - 1, 2], [0, -1, 2], [1, 0, 2]])
def test_a_text_that_does_not_lie_within_its_buffer_is_refused(offsets):
    buffers = [None, pa.py_buffer(np.array(offsets, dtype=np.int32)), pa.py_buffer(b"abcd")]
    table = pa.table({"k": pa.Array.from_buffers(pa.string(), 2, buffers)})
    with pytest.raises(hensa.DataError, match=r"'k' is not a valid Arrow array: the text of row . does not lie within"):
        encode(table, ("k",))


def test_a_text_that_is_not_utf_8_is_refused():
    table = pa.table(
        {"k": pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\1\0\0\0"), pa.py_buffer(b"\xff")])}
    )
    with pytest.raises(hensa.DataError, match=r"Column 'k' is not a valid Arrow array: .*UTF8"):
        encode(table, ("k",))


UNKEYED = {
    "uuid": pa.ExtensionArray.from_storage(pa.uuid(), pa.array([b"\1" * 16], pa.binary(16))),
    "bool8": pa.ExtensionArray.from_storage(pa.bool8(), pa.array([1], pa.int8())),
    "float": pa.array([1.5]),
    "list": pa.array([[1]]),
    "run ends": pa.RunEndEncodedArray.from_arrays([1], [1]),
}


@pytest.mark.parametrize("kind", UNKEYED)
def test_keys_and_ids_of_a_type_that_does_not_tell_rows_apart_are_refused(kind):
    rows = pa.table({"x": [1], "b": [1], "k": UNKEYED[kind]})
    allowed = re.escape(f" of type {UNKEYED[kind].type}; ") + "{} of integers, text, bool, dates or decimals"
    with pytest.raises(hensa.DataError, match="Cohort column 'k' is" + allowed.format("it must be")):
        hensa.population(rows, program("x"), by="k")
    with pytest.raises(hensa.DataError, match="Column 'k' is" + allowed.format("ids must be")):
        hensa.restate(rows, rows, id="k", points="b")
