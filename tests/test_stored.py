"""Scores against a stored population at the ends of what numbers can be: kernel and reference agree, and only
scores of single measures may be refused."""

import json
import math
from decimal import Decimal
from fractions import Fraction
from itertools import product

import pyarrow as pa
import pytest
from making import program

import hensa
from hensa import DataError, Population, reference

pytestmark = pytest.mark.usefixtures("build")

TINY, HUGE = 5e-324, 1.7976931348623157e308


def stored(count, total, squares, ddof=0):
    """One population of the measure x, for the kernels and for the reference."""
    state = {"method": "exact", "ddof": ddof, "sum": str(Fraction(total)), "sum_of_squares": str(Fraction(squares))}
    text = json.dumps({"count": count, "nulls": 0, "measures": {"x": state}})
    moments = reference.Moments(count, Fraction(total), Fraction(squares), ddof)
    return Population.from_json(text), reference.Population(count, 0, {"x": moments})


def agree(rows, rules, pair, names=("score", "step", "reward", "x_score")):
    given, expected = pair
    kind = rows.schema.field("x").type
    usual = 1e-150 <= given["x"].sd <= 1e300 and (pa.types.is_floating(kind) or given.count < 10**100)
    if "x_score" in names and not usual:
        for score, population in (hensa.score, given), (reference.score, expected):
            with pytest.raises(DataError, match=r"^The population's SD of 'x' is "):
                score(rows, rules, population=population, columns=["x_score"])
        names = [name for name in names if name != "x_score"]
    found = hensa.score(rows, rules, population=given, columns=names)
    wanted = reference.score(rows, rules, population=expected, columns=names)
    for name in names:
        same = [a == b or (a != a and b != b) for a, b in zip(found[name].to_pylist(), wanted[name], strict=True)]
        assert all(same), (name, found[name].to_pylist(), wanted[name])
    return found


RANGE = [0.0, -0.0, TINY, -TINY, 3 * TINY, 2.0**-1022, 1e-308, -1e-308, 1e-160, 1.0, 1e160, 1e308, HUGE, -HUGE]


def test_a_score_beyond_float64_is_infinite_and_has_its_step():
    pair = stored(2, 1, Fraction(5, 8))  # 0.25 and 0.75: an SD of 0.25
    rules = program("x", [(0, 1), (50, 2), (100, 3)])
    found = agree(pa.table({"x": [1e308, -1e308, 0.5], "b": [100, 100, 100]}), rules, pair)
    assert found["score"].to_pylist() == [math.inf, -math.inf, 50.0]
    assert found["step"].to_pylist() == [2, 0, 1]
    assert found["reward"].to_pylist() == [3, 1, 2]


@pytest.mark.parametrize("sd", [TINY, 1e-310, 1e-160, 1.0, 1e160, 1e300])
@pytest.mark.parametrize("mean", [0.0, TINY, -1e-308, 1.0, 1e300])
def test_floats_of_any_size_against_a_population_of_any_size_score_as_the_reference_says(mean, sd):
    total, squares = 2 * Fraction(mean), 2 * (Fraction(mean) ** 2 + Fraction(sd) ** 2)
    rows = pa.table({"x": RANGE, "b": list(range(100, 100 + len(RANGE)))})
    agree(rows, program("x"), stored(2, total, squares))


@pytest.mark.parametrize("weight", ["1e-40", "-1e-40", "1e40"])
def test_a_coefficient_that_underflows_leaves_the_row_to_integers(weight):
    rules = program([("x", Decimal(weight)), ("y", 1)])
    values = [-1e300, 1e300, 3e299, 0.0]
    rows = {"x": values, "y": [1.0, 2.0, 2.0, 5.0], "b": [100] * 4}
    found = hensa.score(pa.table(rows), rules, columns=["score", "step", "reward"])
    expected = reference.score(rows, rules, columns=["score", "step", "reward"])
    assert {name: found[name].to_pylist() for name in ("score", "step", "reward")} == {
        name: expected[name] for name in ("score", "step", "reward")
    }


@pytest.mark.parametrize("count", [2, 10**20, 10**40, 10**160, 10**400])
@pytest.mark.parametrize("kind", [pa.float64(), pa.int64()])
def test_any_number_of_rows_may_have_been_counted(count, kind):
    pair = stored(count, 3, 5)
    agree(pa.table({"x": pa.array([0, 1, 2, 7], kind), "b": [100] * 4}), program("x"), pair)
    assert "Population" in repr(pair[0] + pair[0])


@pytest.mark.parametrize("exponent", [330, 600, 1000])
def test_moments_beyond_float64_are_infinite(exponent):
    moments = stored(2, 10**exponent, 10 ** (2 * exponent))[0]["x"]
    assert (moments.mean, moments.variance, moments.sd) == (math.inf, math.inf, math.inf)
    assert (-1 * stored(2, -(10**exponent), 10 ** (2 * exponent))[0]["x"].mean) == math.inf
    assert "inf" in repr(moments)


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("mean", [HUGE.hex(), HUGE.hex()]),
        ("m2", [HUGE.hex(), (1e300).hex()]),
        ("mean", [(1.0).hex(), (0.5).hex()]),
        ("by", [None]),
        ("by", ["a", "a"]),
        ("by", [["a"]]),
    ],
)
def test_json_that_no_population_wrote_is_refused(part, value):
    rows = {"x": [1.0, 2.0], "b": [1, 2]}
    data = json.loads(hensa.population(rows, program("x"), method="welford").to_json())
    (data if part == "by" else data["measures"]["x"])[part] = value
    with pytest.raises(DataError, match="not a population as to_json writes it"):
        Population.from_json(json.dumps(data))


@pytest.mark.parametrize(
    ("mistake", "method"),
    [("sum", "exact"), *product(["count", "nulls", "twice", "lost", "measures"], ["exact", "welford"])],
)
def test_cohorts_that_do_not_add_up_to_the_whole_are_refused(mistake, method):
    rows = {"x": [1.0, 2.0, 4.0, None], "b": [1, 2, 3, 4], "k": [1, 1, 2, 2]}
    data = json.loads(hensa.population(rows, program("x"), by="k", method=method).to_json())
    assert Population.from_json(json.dumps(data)).count == 3
    if mistake in ("count", "nulls"):
        data[mistake] += 1
    elif mistake == "sum":
        data["measures"]["x"]["sum"] = "6"
    elif mistake == "measures":
        data["cohorts"][0]["measures"] = {}
    elif mistake == "lost":
        del data["cohorts"][0]
    else:
        data["cohorts"][1]["key"] = data["cohorts"][0]["key"]
    with pytest.raises(DataError, match="not a population as to_json writes it"):
        Population.from_json(json.dumps(data))


def test_populations_by_welfords_method_that_merge_beyond_float64_are_refused():
    data = json.loads(hensa.population({"x": [1.0, 2.0], "b": [1, 2]}, program("x"), method="welford").to_json())
    ends = []
    for mean in (HUGE, -HUGE):
        data["measures"]["x"]["mean"] = [mean.hex(), (0.0).hex()]
        ends.append(Population.from_json(json.dumps(data)))
    with pytest.raises(DataError, match="beyond float64"):
        ends[0] + ends[1]
