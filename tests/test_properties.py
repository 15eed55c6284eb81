"""What must not change when the rows do: properties through the public interface, on every build.

Where the fixed sequence of float64 operations meets the same numbers, results are equal bit for bit. Elsewhere algebra
alone says that the exact scores are equal: then so are the steps, which are exact, and the scores lie within their
error bounds of one number. Each test says which of the two it is, and why; docs/exactness.md has the sequence.
"""

import math
from decimal import Decimal
from fractions import Fraction

import pyarrow as pa
import pytest
from bounds import bounds
from hypothesis import assume, given
from hypothesis import strategies as st
from making import program
from strategies import (
    EXACT,
    FLOATS,
    INTEGERS,
    MEASURES,
    Column,
    columns,
    dictionaries,
    examples,
    laid_out,
    layouts,
    limits,
    plain,
    programs,
    rows,
)

import hensa
from hensa import DataError, HensaError, Population, Program, RateTable, kernels, reference, threads

BUILDS = [kernels.load(name) for name in kernels.builds]
RESULTS = ("score", "step", "rate", "reward")
REACH = 10**6  # digits within this, whose sums and multiples fit their types
FAR = 2**63 - 1 - REACH  # and so do sums with this
FINITE = [pa.int16(), pa.int64(), pa.uint32(), pa.bool_(), pa.decimal128(20, 2), *FLOATS]

properties = examples(60)
slow_properties = examples(20)


def on_every_build(call):
    """The outcome, which must be one and the same: a value, or the class of an error."""
    outcomes = []
    for build in BUILDS:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(kernels, "active", build)
            try:
                outcomes.append(call())
            except HensaError as error:
                outcomes.append(type(error))
    assert all(outcome == outcomes[0] for outcome in outcomes)
    return outcomes[0]


def scored(table, rules, names=None, **options):
    """Of every result its cells, floats as text that tells every bit."""
    names = names or [*RESULTS, *(f"{measure.column}_score" for measure in rules.rule.measures)]

    def call():
        found = hensa.score(table, rules, columns=names, **options)
        return {name: [bits(cell) for cell in found[name].to_pylist()] for name in names}

    return on_every_build(call)


def bits(cell):
    return cell.hex() if isinstance(cell, float) else cell


def populated(table, rules, **options):
    return on_every_build(lambda: hensa.population(table, rules, **options).to_json())


def at(outcome, order):
    """The rows of an outcome in another order, or some of them."""
    if isinstance(outcome, type):
        return outcome
    return {name: [cells[row] for row in order] for name, cells in outcome.items()}


def take(found, order):
    return {name: column.take(order) for name, column in found.items()}


def mapped(column, change, type_=None):
    return Column(type_ or column.type, [None if cell is None else change(cell) for cell in column.cells])


def with_measures(found, change):
    """The rows with every measure changed."""
    return {name: column if name == "b" else change(column) for name, column in found.items()}


def counted(found):
    """The rows that count."""
    return [row for row, cells in enumerate(zip(*(c.cells for c in found.values()), strict=True)) if None not in cells]


def within_bounds(outcome, found, rules):
    """Whether every score is as near to the exact one as proved."""
    values = {name: column.values for name, column in found.items()}
    units = {name: column.unit for name, column in found.items() if column.type not in FLOATS}
    return all(
        exact is None or abs(Decimal(float.fromhex(score)) - exact[0]) <= exact[1]
        for score, exact in zip(outcome["score"], bounds(values, rules, units), strict=True)
    )


def assert_equal_by_algebra(found, rules, others, other_rules, order=None):
    """Equal steps, rates and rewards; scores within their bounds, so that they differ by two bounds at most."""
    one, other = scored(plain(found), rules, RESULTS), scored(plain(others), other_rules, RESULTS)
    if isinstance(one, type):
        assert other == one
        return
    assert within_bounds(one, found, rules)
    assert within_bounds(other, others, other_rules)
    for name in ("step", "rate", "reward"):
        assert at(other, order or range(len(one[name])))[name] == one[name]


def changed(rules, **rule):
    """The program with another rule."""
    old = {name: getattr(rules.rule, name) for name in ("measures", "scale", "centre", "ddof", "constant")}
    return Program(name="changed", rule=type(rules.rule)(**(old | rule)), rates=rules.rates, reward=rules.reward)


@st.composite
def cases(draw, types=MEASURES, *, nulls=True, reach=None, **fixed):
    found = draw(rows(types, nulls=nulls, reach=reach))
    return found, draw(programs(found, **fixed))


# --- where the values lie --------------------------------------------------------------------------------------------


@properties
@given(st.data(), cases())
def test_chunks_offsets_and_garbage_under_nulls_change_no_bit(data, case):
    found, rules = case
    table = data.draw(laid_out(found))
    assert scored(table, rules) == scored(plain(found), rules)
    assert populated(table, rules) == populated(plain(found), rules)


@properties
@given(st.data(), cases(FINITE, reach=REACH))
def test_chunks_offsets_and_garbage_change_no_bit_of_welford(data, case):
    found, rules = case
    table = data.draw(laid_out(found))
    expected = populated(plain(found), rules, method="welford")
    assert populated(table, rules, method="welford") == expected
    if isinstance(expected, str):
        stored = Population.from_json(expected)
        assert scored(table, rules, population=stored) == scored(plain(found), rules, population=stored)


ROWS = 2 * 4096 + 77  # three pieces of work of 4,096 rows, the block of both passes


def raw(table, rules, **options):
    """Every buffer of the results, and the populations, on every build."""

    def call():
        found = hensa.score(table, rules, columns=RESULTS, **options)
        buffers = [buffer and buffer.to_pybytes() for name in RESULTS for buffer in found[name].chunk(0).buffers()]
        welford = hensa.population(table, rules, method="welford", **options)
        return buffers, hensa.population(table, rules, **options).to_json(), welford.to_json()

    return on_every_build(call)


@slow_properties
@given(cases(FINITE, reach=REACH))
def test_threads_change_no_bit(case):
    found, rules = case
    times = -(-ROWS // len(found["b"].cells))
    table = pa.concat_tables([plain(found)] * times).slice(0, ROWS).combine_chunks()
    expected = raw(table, rules, threads=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threads, "UNIT", 4096)
        for number in 1, 2, 5:
            assert raw(table, rules, threads=number) == expected


@properties
@given(st.data(), st.sampled_from([float("nan"), float("inf"), -float("inf")]))
def test_nan_and_infinity_are_errors_that_name_column_and_row_in_any_layout(data, value):
    length = data.draw(st.integers(1, 24))
    column = data.draw(columns(length, FLOATS))
    row = data.draw(st.integers(0, length - 1))
    column.cells[row] = value
    other = data.draw(columns(length, EXACT, nulls=False))
    rules = program("yx", base=None)
    table = pa.table({"x": data.draw(layouts(column)), "y": data.draw(layouts(other))})
    stored = hensa.population({"x": [1, 2], "y": [1, 2]}, rules)
    for call in (
        lambda: hensa.population(table, rules),
        lambda: hensa.population(table, rules, method="welford"),
        lambda: hensa.score(table, rules, columns=["step"]),
        lambda: hensa.score(table, rules, columns=["step"], population=stored),
    ):
        with pytest.raises(DataError, match=rf"^Column 'x' is {value} in row {row};"):
            call()


@properties
@given(st.data(), cases(FLOATS + INTEGERS))
def test_nan_and_infinity_in_a_row_that_does_not_count_change_nothing(data, case):
    found, rules = case
    left_out = sorted(set(range(len(found["b"].cells))) - set(counted(found)))
    assume(left_out)
    expected = scored(plain(found), rules)
    for name, column in found.items():
        if column.type in FLOATS:
            cells = list(column.cells)
            for row in left_out:
                if cells[row] is not None:
                    cells[row] = data.draw(st.sampled_from([float("nan"), float("inf"), -float("inf")]))
            found = found | {name: Column(column.type, cells)}
    assert scored(plain(found), rules) == expected


@properties
@given(st.data(), cases(nulls=False))
def test_a_dictionary_is_refused_as_a_measure_and_as_the_base(data, case):
    found, rules = case
    table = data.draw(laid_out(found))
    name = data.draw(st.sampled_from(sorted(found)))
    values = table[name].combine_chunks()
    encoded = pa.DictionaryArray.from_arrays(pa.array(range(len(values)), pa.int32()), values)
    encoded = table.set_column(table.column_names.index(name), name, encoded)
    with pytest.raises(DataError, match=rf"^Column '{name}' is of type dictionary<.*cast it first"):
        hensa.score(encoded, rules)


# --- the rows themselves ---------------------------------------------------------------------------------------------


@properties
@given(st.data(), cases())
def test_the_order_of_the_rows_changes_no_bit(data, case):
    found, rules = case
    order = data.draw(st.permutations(range(len(found["b"].cells))))
    permuted = take(found, order)
    assert scored(plain(permuted), rules) == at(scored(plain(found), rules), order)
    assert populated(plain(permuted), rules) == populated(plain(found), rules)


@properties
@given(st.data(), cases())
def test_parts_merge_in_any_order_into_the_population_of_the_whole(data, case):
    found, rules = case
    length = len(found["b"].cells)
    parts = data.draw(st.lists(st.integers(0, 3), min_size=length, max_size=length))
    chosen = [[row for row in range(length) if parts[row] == part] for part in data.draw(st.permutations(range(4)))]
    one, *others = (hensa.population(plain(take(found, part)), rules) for part in chosen)
    for other in others:
        one = one + Population.from_json(other.to_json())
    assert one.to_json() == populated(plain(found), rules)
    expected = scored(plain(found), rules)
    assume(not isinstance(expected, type) and counted(found))
    for part in chosen:
        assert scored(plain(take(found, part)), rules, population=one) == at(expected, part)


@properties
@given(cases())
def test_rows_that_do_not_count_change_nothing_for_the_others(case):
    found, rules = case
    kept = counted(found)
    assert scored(plain(take(found, kept)), rules) == at(scored(plain(found), rules), kept)


@properties
@given(cases(FINITE, reach=REACH, ddof=0), st.sampled_from([2, 4, 8]))
def test_two_four_or_eight_copies_of_the_population_change_no_bit(case, copies):
    # n^2 and P = n sum(x^2) - sum(x)^2 both grow by a power of four, which rounds alike
    found, rules = case
    order = list(range(len(found["b"].cells))) * copies
    assert scored(plain(take(found, order)), rules) == at(scored(plain(found), rules), order)


@properties
@given(cases(FINITE, reach=REACH, ddof=0), st.sampled_from([3, 5, 7]))
def test_any_number_of_copies_of_the_population_changes_no_step(case, copies):
    found, rules = case
    length = len(found["b"].cells)
    several = take(found, list(range(length)) * copies)
    assert_equal_by_algebra(found, rules, several, rules, range(length))


@properties
@given(cases(FINITE, reach=REACH), st.integers(1, 5))
def test_copies_add_up_like_populations(case, copies):
    found, rules = case
    one = hensa.population(plain(found), rules)
    several = one
    for _ in range(copies - 1):
        several = several + one
    order = list(range(len(found["b"].cells))) * copies
    assert several.to_json() == populated(plain(take(found, order)), rules)


# --- the values ------------------------------------------------------------------------------------------------------


@properties
@given(cases([*INTEGERS, pa.bool_()], reach=REACH), st.integers(-9, 9) | st.integers(-FAR, FAR))
def test_adding_an_integer_to_every_value_changes_no_bit(case, shift):
    # k = floor(mean) moves by the same integer; x - k, the rest of the mean and P stay
    found, rules = case
    shifted = with_measures(found, lambda column: mapped(column, lambda x: int(x) + shift, pa.int64()))
    assert scored(plain(shifted), rules) == scored(plain(found), rules)


@properties
@given(cases([pa.decimal128(20, 3), pa.decimal64(18, 0)], reach=REACH), st.integers(-(10**15), 10**15))
def test_adding_a_decimal_to_every_value_changes_no_bit(case, shift):
    found, rules = case
    shifted = with_measures(found, lambda column: mapped(column, lambda x: x + shift))
    assert scored(plain(shifted), rules) == scored(plain(found), rules)


@properties
@given(cases(EXACT, reach=REACH), st.integers(-38, 38))
def test_the_digits_alone_make_the_score_whatever_the_integer_or_decimal_type(case, scale):
    found, rules = case
    decimals = with_measures(found, lambda column: mapped(column, int, pa.decimal128(38, scale)))
    assert scored(plain(decimals), rules) == scored(plain(found), rules)


@properties
@given(cases([*INTEGERS, pa.bool_(), pa.decimal128(20, 3)], reach=REACH), st.integers(2, 10**6))
def test_multiplying_every_value_by_a_positive_integer_changes_no_step(case, factor):
    found, rules = case

    def times(column):
        type_ = column.type if pa.types.is_decimal(column.type) else pa.int64()
        return mapped(column, lambda x: x * factor, type_)

    assert_equal_by_algebra(found, rules, with_measures(found, times), rules)


def moderate(x):
    """A float like it, but far from the ends of float64, so that nothing underflows."""
    mantissa, exponent = math.frexp(x)
    return math.ldexp(mantissa, exponent % 400 - 200)


@properties
@given(cases([pa.float64()]), st.integers(-60, 60))
def test_multiplying_floats_by_a_power_of_two_changes_no_bit(case, exponent):
    found, rules = case
    found = with_measures(found, lambda column: mapped(column, moderate))
    scaled = with_measures(found, lambda column: mapped(column, lambda x: x * 2.0**exponent))
    assert scored(plain(scaled), rules) == scored(plain(found), rules)


def reversed_sign(column):
    type_ = column.type if pa.types.is_floating(column.type) or pa.types.is_decimal(column.type) else pa.int64()
    return mapped(column, lambda x: -x, type_)


@properties
@given(cases(EXACT, reach=REACH))
def test_reversing_the_sign_of_the_measures_and_of_the_scale_changes_no_step(case):
    # floor(-mean) is not -floor(mean), so that the rest of the mean rounds differently
    found, rules = case
    mirror = changed(rules, scale=-rules.rule.scale)
    assert_equal_by_algebra(found, rules, with_measures(found, reversed_sign), mirror)


@properties
@given(cases(EXACT, nulls=False, reach=REACH), st.integers(0, 4))
def test_reversing_the_sign_among_a_power_of_two_of_rows_changes_no_bit(case, power):
    # The mean then has few bits, so that x - k - f is exact on both sides. The error bounds differ, as f does, and with
    # them the rows that integers decide: the one threshold lies below any score, so that there are none.
    found, rules = case
    order = [row % len(found["b"].cells) for row in range(2**power)]
    found = take(found, order)
    rules = Program(
        name="flat", rule=rules.rule, rates=RateTable(steps=[(-(10**9), 1)], outside="allow"), reward=rules.reward
    )
    mirror = changed(rules, scale=-rules.rule.scale)
    names = RESULTS  # the standard score of one measure is reversed itself
    expected = scored(plain(found), rules, names)
    assert scored(plain(with_measures(found, reversed_sign)), mirror, names) == expected


@properties
@given(cases([pa.float64()], reach=REACH))
def test_reversing_the_sign_of_floats_and_of_the_scale_changes_no_bit(case):
    found, rules = case
    mirror = changed(rules, scale=-rules.rule.scale)
    expected = scored(plain(found), rules, RESULTS)
    assert scored(plain(with_measures(found, reversed_sign)), mirror, RESULTS) == expected


# --- the rule --------------------------------------------------------------------------------------------------------


@properties
@given(cases(), st.integers(-9, 9).filter(bool) | st.fractions(-2, 2, max_denominator=7).filter(bool))
def test_multiplying_all_weights_by_a_number_changes_no_bit(case, factor):
    found, rules = case
    measures = [type(m)(m.column, m.weight * Fraction(factor)) for m in rules.rule.measures]
    assert scored(plain(found), changed(rules, measures=measures)) == scored(plain(found), rules)


@properties
@given(st.data(), cases(FINITE, reach=REACH))
def test_the_order_of_the_measures_changes_no_step(data, case):
    found, rules = case
    measures = data.draw(st.permutations(rules.rule.measures))
    assert_equal_by_algebra(found, rules, found, changed(rules, measures=measures))


@properties
@given(st.data(), cases(FINITE, reach=REACH))
def test_a_measure_of_weight_zero_changes_no_step(data, case):
    found, rules = case
    more = found | {"w": data.draw(columns(len(found["b"].cells), FINITE, nulls=False, reach=REACH))}
    measures = [*rules.rule.measures, type(rules.rule.measures[0])("w", 0)]
    assert_equal_by_algebra(found, rules, more, changed(rules, measures=measures))


@properties
@given(cases(FINITE, reach=REACH), st.integers(-20, 20))
def test_moving_the_centre_and_the_thresholds_together_changes_no_step(case, shift):
    found, rules = case
    steps = [(step.threshold + shift, step.rate) for step in rules.rates.steps]
    assume(len({float(threshold) for threshold, _ in steps}) == len(steps))
    moved = changed(rules, centre=rules.rule.centre + shift)
    rates = type(rules.rates)(steps=steps, below=rules.rates.below)
    moved = Program(name="moved", rule=moved.rule, rates=rates, reward=rules.reward)
    assert_equal_by_algebra(found, rules, found, moved)


# --- cohorts ---------------------------------------------------------------------------------------------------------


def cohort_keys(length, keys=(3, -1, 7)):
    return st.lists(st.sampled_from(keys), min_size=length, max_size=length)


@properties
@given(st.data(), cases())
def test_chunks_offsets_and_dictionaries_of_the_keys_change_no_bit(data, case):
    found, rules = case
    length = len(found["b"].cells)
    number = Column(pa.int32(), data.draw(cohort_keys(length)))
    text = Column(pa.string(), data.draw(cohort_keys(length, ["a", "", "ハピ友"])))
    expected = plain(found).append_column("n", pa.array(number.cells, number.type)).append_column("t", [text.cells])
    table = data.draw(laid_out(found))
    table = table.append_column("n", data.draw(layouts(number) | dictionaries(number)))
    table = table.append_column("t", data.draw(dictionaries(text)))
    for by in "n", "t", ["t", "n"]:
        assert scored(table, rules, by=by) == scored(expected, rules, by=by)
        assert populated(table, rules, by=by) == populated(expected, rules, by=by)


@properties
@given(st.data(), cases())
def test_one_cohort_of_all_rows_equals_no_cohort(data, case):
    found, rules = case
    table = data.draw(laid_out(found)).append_column("month", pa.array(["05"] * len(found["b"].cells)))
    assert scored(table, rules, by="month") == scored(plain(found), rules)


@properties
@given(st.data(), cases())
def test_cohorts_of_stored_populations_give_the_bits_of_their_own_rows(data, case):
    found, rules = case
    table = plain(found).append_column("k", pa.array(data.draw(cohort_keys(len(found["b"].cells)))))
    stored = Population.from_json(hensa.population(table, rules, by="k").to_json())
    assert scored(table, rules, by="k", population=stored) == scored(table, rules, by="k")


@properties
@given(st.data(), cases())
def test_cohorts_add_up_to_the_population_of_all_rows(data, case):
    found, rules = case
    table = plain(found).append_column("k", pa.array(data.draw(cohort_keys(len(found["b"].cells)))))
    whole = hensa.population(table, rules, by="k")
    one, *others = whole.cohorts.values()
    for other in others:
        one = one + other
    assert (one.count, one.nulls, one.measures) == (whole.count, whole.nulls, whole.measures)


@properties
@given(st.data(), cases(), st.sampled_from(EXACT))
def test_rows_of_another_type_in_cohorts_score_as_they_do_alone(data, case, type_):
    found, rules = case
    assume(counted(found))
    low, high = limits(type_)
    stored = hensa.population(plain(found).append_column("k", pa.array([0] * len(found["b"].cells))), rules, by="k")
    length = data.draw(st.integers(1, 9))
    names = [measure.column for measure in rules.rule.measures]
    others = {name: data.draw(columns(length, [type_], reach=min(-low if low else high, high))) for name in names}
    others["b"] = Column(pa.int64(), [1] * length)
    assume(counted(others))  # without a row that counts, a cohort's population is not looked at
    table = plain(others)
    expected = scored(table, rules, population=stored.cohorts[0,])
    assert scored(table.append_column("k", pa.array([0] * length)), rules, population=stored, by="k") == expected


def test_a_stored_cohort_without_rows_that_count_is_refused_like_an_empty_population():
    rules = program("x", base=None)
    stored = hensa.population({"x": pa.array([None], pa.int64()), "k": [0]}, rules, by="k")
    with pytest.raises(DataError, match="is empty"):
        hensa.score({"x": [1]}, rules, population=stored.cohorts[0,], columns=["step"])
    rows = {"x": [None, 1], "k": [0, 0]}
    with pytest.raises(DataError, match=r"^The population of cohort 0, of row 1, is empty;"):
        hensa.score(rows, rules, population=stored, by="k", columns=["step"])


def test_a_population_whose_constant_measure_makes_scores_null_needs_no_other_constants():
    # The mean of x is beyond decimal128, which is of no matter.
    rules = program(base=None, rule={"constant": "null"})
    stored = hensa.population({"x": [1e39, 2e39], "y": [7, 7], "k": [0, 0]}, rules, by="k")
    for by in None, "k":
        found = hensa.score({"x": [1], "y": [2], "k": [0]}, rules, population=stored, by=by, columns=["score"])
        assert found["score"].to_pylist() == [None]
    exact = reference.population({"x": [1e39, 2e39], "y": [7, 7]}, rules)
    assert reference.score({"x": [1], "y": [2]}, rules, population=exact, columns="score")["score"] == [None]


@pytest.mark.parametrize("keys", [[0, 0], [5, 0], [5, 5]], ids=["empty", "not there and empty", "not there"])
def test_a_stored_cohort_is_not_needed_for_rows_that_do_not_count(keys):
    rules = program("x", base=None)
    stored = hensa.population({"x": pa.array([None, 1], pa.int64()), "k": [0, 1]}, rules, by="k")
    rows = {"x": pa.array([None, None, 1], pa.int64()), "k": [*keys, 1]}
    found = hensa.score(rows, rules, population=stored, by="k", columns=["score", "step"])
    assert found["score"].to_pylist() == [None, None, 50]
    assert found["step"].to_pylist() == [None, None, 50]


def test_narrow_integers_in_a_cohort_whose_mean_is_beyond_2_to_the_53_score_as_they_do_alone():
    # x - k has to be one rounded difference: float(k) is not k
    rules = program("x", base=None, rule={"centre": 0})
    near = [2**53 + shift for shift in (4, 3, 3)]
    stored = hensa.population({"x": near, "k": [0] * 3}, rules, by="k")
    table = pa.table({"x": pa.array([-1, 0, 5, 7, -3], pa.int32()), "k": [0] * 5})
    alone = scored(table, rules, ["score"], population=stored.cohorts[0,])
    assert scored(table, rules, ["score"], population=stored, by="k") == alone
