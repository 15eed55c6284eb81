"""Any text is a population that is read back as it was written and can be used, or a DataError."""

import copy
import json
import math
from decimal import Decimal

import pyarrow as pa
from fuzzing import agree, edited, outcome
from hypothesis import given
from hypothesis import strategies as st

import hensa
from hensa import DataError, Population, Program, reference

PROGRAM = Program.parse("""
name = "small"
[rule]
kind = "standard-score"
measures = [{ column = "x" }, { column = "y" }]
[rates]
steps = [[0, 1], [50, 2], [51.5, 3]]
[reward]
base = "b"
""")
ROWS = pa.table({"x": [1, 2, 2, None, 9], "y": [4.5, 2.0, -1e300, 0.0, 9.0], "b": [1, 2, 3, 4, 5], "c": list("aabba")})
DECIMALS = ROWS.set_column(1, "y", pa.array(map(Decimal, ["0.05", "1e9", "-7", "0", "1"]), pa.decimal128(20, 2)))
TABLES = [ROWS, DECIMALS]
TEXTS = [
    hensa.population(rows, PROGRAM, by=by, method=method).to_json()
    for rows, by, method in [
        (ROWS.slice(0, 2), None, "auto"),
        (ROWS.slice(3, 1), None, "auto"),
        (ROWS.slice(0, 2), None, "welford"),
        (DECIMALS, None, "auto"),
        (DECIMALS, None, "welford"),
        (DECIMALS, ["c", "b"], "auto"),
        (ROWS.slice(0, 2), "c", "welford"),
    ]
]
TOKENS = [
    *("{", "}", "[", "]", ",", ":", '"', "null", "true", "NaN", "Infinity", "-1", "0", "1", "1e400", "9" * 5000, "-"),
    *('"1/3"', '"1/0"', '"-5"', '"' + "9" * 9999 + '"', '"0x1p+1023"', '"0x1p-1074"', '"nan"', '"-inf"', "\\ud800"),
    *('"exact"', '"welford"', '"date"', '"datetime"', '"decimal"', '"count"', '"key"', '"by"', "\0", "[" * 10_000),
]
texts = (
    st.sampled_from(["exact", "welford", "c", "x", "y", "a", "0", "-1", "7/3", "9" * 400, "1/" + "9" * 400, "7" * 40])
    | st.sampled_from(["0x1p+1023", "-0x1.8p+0", "0x1p-1074", "inf", "nan", "0x0p+0", "1e5", "\ud800", ""])
    | st.integers().map(str)
    | st.floats().map(float.hex)
    | st.text(max_size=3)
)
scalars = st.none() | st.booleans() | st.integers() | st.integers(-1, 9) | st.floats() | texts
replacements = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["date", "datetime", "decimal", "x", "count"]), inner, max_size=2)
    ),
    max_leaves=4,
)


def alike(value):
    """Values of the same type."""
    return (
        texts if isinstance(value, str) else st.integers(0, 9) | st.integers(0) if isinstance(value, int) else scalars
    )


def places(value):
    """Every container of a document, with the key or index of each of its items."""
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield value, key
            yield from places(item)


@st.composite
def altered(draw):
    """A population whose document has other values, or none, in some places."""
    document = copy.deepcopy(draw(st.sampled_from([json.loads(text) for text in TEXTS])))
    for _ in range(draw(st.sampled_from([1, 1, 2, 3]))):
        container, key = draw(st.sampled_from(list(places(document)) or [({"": 0}, "")]))
        if isinstance(container[key], str | int) and draw(st.integers(0, 3)):
            container[key] = draw(alike(container[key]))
        elif draw(st.integers(0, 4)):
            container[key] = draw(replacements)
        else:
            del container[key]
    return json.dumps(document)


def reads_or_refuses(text):
    population = outcome(lambda: Population.from_json(text))
    if population is DataError:
        return
    again = Population.from_json(population.to_json())
    assert again == population
    assert again.to_json() == population.to_json()
    assert isinstance(repr(population), str)
    for moments in population.measures.values():
        assert all(isinstance(number, float) for number in (moments.mean, moments.variance, moments.sd))
        assert not moments.sd < 0
    outcome(lambda: population + population)
    for rows in TABLES:
        for options in {}, {"by": "c"}, {"by": ["c", "b"]}:
            outcome(lambda rows=rows, options=options: hensa.score(rows, PROGRAM, population=population, **options))
    stored = as_reference(population)
    if stored:
        for rows in TABLES:
            agree(rows, PROGRAM, ["score", "step", "reward"], population=population, expected_population=stored)


def as_reference(population):
    """An exact population in the reference's own form."""
    measures = {}
    for name, moments in population.measures.items():
        if moments.method != "exact" or math.isnan(moments.sd):
            return None
        mean, m2 = moments.mean_exact, moments.variance_exact * (moments.count - moments.ddof)
        measures[name] = reference.Moments(
            moments.count, mean * moments.count, m2 + mean**2 * moments.count, moments.ddof
        )
    return reference.Population(population.count, population.nulls, measures)


@given(edited(TEXTS, TOKENS))
def test_any_edit_of_a_population_is_a_population_or_a_data_error(text):
    reads_or_refuses(text)


@given(altered())
def test_any_alteration_of_a_population_is_a_population_or_a_data_error(text):
    reads_or_refuses(text)
