"""Programs: what is read, what is refused and how, what is written, and the built-in rules."""

import copy
import datetime
import doctest
import os
import pickle
import re
import string
import tomllib
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given
from strategies import examples

import hensa.program
from hensa.errors import ProgramError
from hensa.program import Measure, Program, RateTable, Reward, StandardScore, Step

BASE = """\
name = "cdnow-loyalty"
title = "Customers by orders and CDs"
effective_from = 1997-01-01
effective_until = 1997-12-31
[rule]
kind = "standard-score"
scale = 1
centre = 50
ddof = 0
constant = "centre"
measures = [{ column = "orders", weight = 1 }, { column = "cds", weight = 1, negative = "error" }]
[rates]
unit = "percent"
below = "first"
outside = "error"
steps = [[0, 0.1], [50, 10.0], [100, 45.0]]
[reward]
base = "cents"
rounding = "floor"
cap = 100
negative = "error"
[standing]
"rule.ddof" = "reconstructed"
"""
NUMBER = 'a number of at most 50 digits: an integer, a decimal, or a string such as "1/3"'
DECIMAL = "a decimal of at most 50 digits"
ASCENDING = "thresholds that ascend without repeats (compared as float64)"
MEASURES = 'measures = [{ column = "orders", weight = 1 }, { column = "cds", weight = 1, negative = "error" }]'
STEPS = "steps = [[0, 0.1], [50, 10.0], [100, 45.0]]"
LONG = "9" * 5000
KINDS = '"standard-score", "stage" or "per-event"'
KEYS = (
    "effective_from, effective_until, rule.kind, rule.measures, rule.scale, rule.centre, rule.ddof, rule.constant, "
    "rates.unit, rates.below, rates.outside, rates.steps, reward.base, reward.rounding, reward.cap, reward.negative"
)


def edited(old: str, new: str) -> str:
    assert BASE.count(old) == 1
    return BASE.replace(old, new)


def measures(*items: str) -> str:
    return edited(MEASURES, f"measures = [{', '.join(items)}]")


def steps(*items: str) -> str:
    return edited(STEPS, f"steps = [{', '.join(items)}]")


def rule(**changes: object) -> StandardScore:
    return StandardScore(**{"measures": [Measure("x")], **changes})


def table(**changes: object) -> RateTable:
    return RateTable(**{"steps": [(0, 1)], **changes})


def program(**changes: object) -> Program:
    return Program(**{"name": "p", "rule": rule(), "rates": table(), **changes})


# What is read


def test_a_program_file_is_read_field_by_field():
    assert Program.parse(BASE) == Program(
        name="cdnow-loyalty",
        title="Customers by orders and CDs",
        effective_from=datetime.date(1997, 1, 1),
        effective_until=datetime.date(1997, 12, 31),
        rule=StandardScore(
            measures=(Measure("orders", Fraction(1), "allow"), Measure("cds", Fraction(1), "error")),
            scale=Fraction(1),
            centre=Fraction(50),
            ddof=0,
            constant="centre",
        ),
        rates=RateTable(
            unit="percent",
            below="first",
            outside="error",
            steps=(
                Step(Decimal(0), Decimal("0.1")),
                Step(Decimal(50), Decimal("10.0")),
                Step(Decimal(100), Decimal("45.0")),
            ),
        ),
        reward=Reward(base="cents", rounding="floor", cap=100, negative="error"),
        standing={"rule.ddof": "reconstructed"},
    )


def test_what_a_file_leaves_out_takes_its_default():
    read = Program.parse(
        'name = "p"\n[rule]\nkind = "standard-score"\nmeasures = [{ column = "x" }]\n[rates]\nsteps = [[0, 1]]'
    )
    assert (read.title, read.effective_from, read.effective_until, read.reward, read.standing) == (
        "",
        None,
        None,
        None,
        {},
    )
    assert read.rule.measures == (Measure("x", Fraction(1), "allow"),)
    assert (read.rule.scale, read.rule.centre, read.rule.ddof, read.rule.constant) == (1, 50, 0, "centre")
    assert (read.rates.unit, read.rates.below, read.rates.outside) == ("percent", "first", "error")
    assert read.rates.steps[0].standing is None
    assert Reward(base="b") == Reward(base="b", rounding="floor", cap=None, negative="allow")


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("3", Fraction(3)),
        ("-3", Fraction(-3)),
        ("0.1", Fraction(1, 10)),
        ("1e-3", Fraction(1, 1000)),
        ('"1/3"', Fraction(1, 3)),
        ('"-2/6"', Fraction(-1, 3)),
        ('"0.1"', Fraction(1, 10)),
        ("9" * 50, Fraction(10**50 - 1)),
        ("1e-49", Fraction(1, 10**49)),
        (f'"1/{10**50 - 1}"', Fraction(1, 10**50 - 1)),
    ],
)
def test_numbers_are_read_exactly(written, value):
    assert Program.parse(edited("scale = 1", f"scale = {written}")).rule.scale == value


def test_decimals_of_a_table_are_read_exactly_where_a_float_would_differ():
    read = Program.parse(steps("[0.1, 9.8]", '["0.3", "12.3"]')).rates
    assert read.thresholds == (Fraction(1, 10), Fraction(3, 10))
    assert read.shares == (Fraction(98, 1000), Fraction(123, 1000))
    assert Fraction(0.098) != Fraction(98, 1000)


def test_shares_follow_the_unit():
    assert table(steps=[(0, "9.8")], unit="percent").shares == (Fraction(49, 500),)
    assert table(steps=[(0, "0.098")], unit="share").shares == (Fraction(49, 500),)


def test_columns_are_the_measures_in_order_and_then_the_base_each_once():
    two = rule(measures=[Measure("b"), Measure("a")])
    assert program(rule=two).columns == ("b", "a")
    assert program(rule=two, reward=Reward(base="c")).columns == ("b", "a", "c")
    assert program(rule=two, reward=Reward(base="b")).columns == ("b", "a")


def test_python_values_are_converted_when_built():
    built = program(
        effective_from="2019-10-01",
        rule={"kind": "standard-score", "measures": [{"column": "x", "weight": "1/3"}, Measure("y", Decimal("0.5"))]},
        rates={"steps": [[0, 1], (1, "2.5", "stated"), Step(2, Decimal(3))]},
    )
    assert built.effective_from == datetime.date(2019, 10, 1)
    assert built.rule.measures == (Measure("x", Fraction(1, 3)), Measure("y", Fraction(1, 2)))
    assert built.rates.steps == (
        Step(Decimal(0), Decimal(1)),
        Step(Decimal(1), Decimal("2.5"), "stated"),
        Step(Decimal(2), Decimal(3)),
    )
    kept = [built.rule.scale, built.rule.measures, built.rates.steps, built.rates.steps[0].threshold]
    assert [type(value) for value in kept] == [Fraction, tuple, tuple, Decimal]


def test_limits_are_inclusive():
    most = table(steps=[(i, 1) for i in range(65_535)])
    assert len(most.thresholds) == len(most.shares) == 65_535
    assert table(steps=[(0, 0), (1, 100)]).shares == (0, 1)
    assert table(steps=[(0, 0), (1, 1)], unit="share").shares == (0, 1)
    assert (Reward(base="b", cap=0).cap, Reward(base="b", cap=2**63 - 1).cap) == (0, 2**63 - 1)
    one_day = datetime.date(2020, 1, 1)
    assert program(effective_from=one_day, effective_until=one_day).effective_until == one_day


def test_rates_outside_are_read_where_the_program_says_so():
    assert table(steps=[(0, -5), (1, 250)], outside="allow").shares == (Fraction(-1, 20), Fraction(5, 2))


def test_a_program_is_frozen_and_survives_copy_and_pickle():
    read = Program.parse(BASE)
    with pytest.raises(AttributeError):
        read.name = "other"
    assert copy.deepcopy(read) == read
    assert pickle.loads(pickle.dumps(read)) == read


# What is refused: the whole sentence but for its full stop, so that key, what was found and what is allowed are pinned

REFUSED = {
    "name is empty": (
        edited("cdnow-loyalty", ""),
        "name: found an empty string; allowed: a string of at least one character",
    ),
    "name is missing": (
        edited('name = "cdnow-loyalty"', ""),
        "name: found nothing; allowed: a string, and it is required",
    ),
    "name is a number": (edited('"cdnow-loyalty"', "5"), "name: found 5; allowed: a string"),
    "unknown key at the top": (
        "nane = 1\n" + BASE,
        "nane: found an unknown key; "
        "allowed: only name, title, title_ja, effective_from, effective_until, rule, rates, reward, standing",
    ),
    "unknown key with a line break": (
        '"na\\nme" = 1\n' + BASE,
        '"na\\nme": found an unknown key; '
        "allowed: only name, title, title_ja, effective_from, effective_until, rule, rates, reward, standing",
    ),
    "date is text": (
        edited("1997-01-01", '"soon"'),
        "effective_from: found 'soon'; allowed: a date such as 2019-10-01",
    ),
    "date has a time": (
        edited("1997-01-01", "1997-01-01T00:00:00"),
        "effective_from: found 1997-01-01 00:00:00; allowed: a date such as 2019-10-01",
    ),
    "ends before it begins": (
        edited("1997-12-31", "1996-12-31"),
        "effective_until: found 1996-12-31; allowed: a date from 1997-01-01 (effective_from) on",
    ),
    "rule is missing": (
        'name = "p"\n[rates]\nsteps = [[0, 1]]',
        "rule: found nothing; allowed: a table, and it is required",
    ),
    "rule is a number": ('name = "p"\nrule = 1.5', "rule: found 1.5; allowed: a table"),
    "kind is missing": (
        edited('kind = "standard-score"', ""),
        f"rule.kind: found nothing; allowed: {KINDS}, and it is required",
    ),
    "kind is unknown": (edited('"standard-score"', '"stages"'), f"rule.kind: found 'stages'; allowed: {KINDS}"),
    "kind is a number": (edited('"standard-score"', "1"), f"rule.kind: found 1; allowed: {KINDS}"),
    "unknown key of the rule": (
        edited("ddof = 0", "dof = 0"),
        "rule.dof: found an unknown key; allowed: only measures, scale, centre, ddof, constant",
    ),
    "ddof is two": (edited("ddof = 0", "ddof = 2"), "rule.ddof: found 2; allowed: 0 or 1"),
    "ddof is a boolean": (edited("ddof = 0", "ddof = true"), "rule.ddof: found true; allowed: 0 or 1"),
    "ddof is a decimal": (edited("ddof = 0", "ddof = 1.0"), "rule.ddof: found 1.0; allowed: 0 or 1"),
    "constant is unknown": (
        edited('constant = "centre"', 'constant = "zero"'),
        'rule.constant: found \'zero\'; allowed: "centre", "null" or "error"',
    ),
    "scale is zero": (edited("scale = 1", "scale = 0.0"), "rule.scale: found 0; allowed: any number but 0"),
    "scale is a boolean": (edited("scale = 1", "scale = true"), f"rule.scale: found true; allowed: {NUMBER}"),
    "scale is text": (edited("scale = 1", 'scale = "ten"'), f"rule.scale: found 'ten'; allowed: {NUMBER}"),
    "scale divides by zero": (edited("scale = 1", 'scale = "1/0"'), f"rule.scale: found '1/0'; allowed: {NUMBER}"),
    "scale is infinite": (edited("scale = 1", "scale = inf"), f"rule.scale: found Infinity; allowed: {NUMBER}"),
    "centre is not a number": (edited("centre = 50", "centre = nan"), f"rule.centre: found NaN; allowed: {NUMBER}"),
    "centre is an array": (
        edited("centre = 50", "centre = [50]"),
        f"rule.centre: found an array of 1; allowed: {NUMBER}",
    ),
    "centre is too large": (edited("centre = 50", "centre = 1e50"), f"rule.centre: found 1E+50; allowed: {NUMBER}"),
    "centre is too small": (edited("centre = 50", "centre = 1e-50"), f"rule.centre: found 1E-50; allowed: {NUMBER}"),
    "centre would be a huge integer": (
        edited("centre = 50", "centre = 1e999999999"),
        f"rule.centre: found 1E+999999999; allowed: {NUMBER}",
    ),
    "centre would be a huge text": (
        edited("centre = 50", f'centre = "{LONG}/7"'),
        f"rule.centre: found '{'9' * 76}...; allowed: {NUMBER}",
    ),
    "centre is a huge integer": (
        edited("centre = 50", f"centre = 0x{LONG}"),
        f"rule.centre: found an integer of more than 50 digits; allowed: {NUMBER}",
    ),
    "measures are missing": (
        edited(MEASURES, ""),
        "rule.measures: found nothing; allowed: an array, and it is required",
    ),
    "measures are empty": (
        measures(),
        "rule.measures: found an empty array; allowed: at least one measure, { column, weight }",
    ),
    "measures are a string": (edited(MEASURES, 'measures = "x"'), "rule.measures: found 'x'; allowed: an array"),
    "measure is a string": (measures('"orders"'), "rule.measures[0]: found 'orders'; allowed: a table"),
    "measure has no column": (
        measures('{ column = "x" }', "{ weight = 1 }"),
        "rule.measures[1].column: found nothing; allowed: a string, and it is required",
    ),
    "measure has an empty column": (
        measures('{ column = "" }'),
        "rule.measures[0].column: found an empty string; allowed: a string of at least one character",
    ),
    "measure has an unknown key": (
        measures('{ column = "x", wieght = 1 }'),
        "rule.measures[0].wieght: found an unknown key; allowed: only column, weight, negative",
    ),
    "negative values of a measure are neither allowed nor errors": (
        measures('{ column = "x", negative = "null" }'),
        'rule.measures[0].negative: found \'null\'; allowed: "allow" or "error"',
    ),
    "measure is repeated": (
        measures('{ column = "x" }', '{ column = "y" }', '{ column = "x" }'),
        "rule.measures[2].column: found 'x' again; allowed: each column once",
    ),
    "weight is not a number": (
        measures('{ column = "x" }', '{ column = "y", weight = -nan }'),
        f"rule.measures[1].weight: found -NaN; allowed: {NUMBER}",
    ),
    "weights cancel": (
        measures('{ column = "x", weight = "1/3" }', '{ column = "y", weight = "-1/3" }'),
        "rule.measures: found weights that sum to 0; allowed: weights whose sum is not zero",
    ),
    "weights all but cancel": (
        measures(f'{{ column = "x", weight = "1/{10**30}" }}', f'{{ column = "y", weight = "-1/{10**30 + 1}" }}'),
        f"rule.measures: found weights that sum to 1/{10**30 * (10**30 + 1)}; allowed: weights whose sum is not zero",
    ),
    "rates are missing": (
        'name = "p"\n[rule]\nkind = "standard-score"\nmeasures = [{ column = "x" }]',
        "rates: found nothing; allowed: a table, and it is required",
    ),
    "unit is unknown": (
        edited('unit = "percent"', 'unit = "permille"'),
        'rates.unit: found \'permille\'; allowed: "percent" or "share"',
    ),
    "below is unknown": (
        edited('below = "first"', 'below = "none"'),
        'rates.below: found \'none\'; allowed: "first" or "zero"',
    ),
    "outside is unknown": (
        edited('outside = "error"', "outside = true"),
        'rates.outside: found true; allowed: "error" or "allow"',
    ),
    "unknown key of the rates": (
        edited("[rates]", "[rates]\nrounding = 1"),
        "rates.rounding: found an unknown key; allowed: only unit, below, outside, steps",
    ),
    "steps are missing": (edited(STEPS, ""), "rates.steps: found nothing; allowed: an array, and it is required"),
    "steps are empty": (steps(), "rates.steps: found 0 steps; allowed: 1 to 65,535 steps"),
    "steps are a table": (edited(STEPS, "steps = { a = 1 }"), "rates.steps: found a table; allowed: an array"),
    "one step too many": (
        steps(*(f"[{i}, 1]" for i in range(65_536))),
        "rates.steps: found 65,536 steps; allowed: 1 to 65,535 steps",
    ),
    "step is a number": (
        steps("[0, 1]", "5"),
        "rates.steps[1]: found 5; allowed: [threshold, rate] or [threshold, rate, standing]",
    ),
    "step is too short": (
        steps("[0]"),
        "rates.steps[0]: found an array of 1; allowed: [threshold, rate] or [threshold, rate, standing]",
    ),
    "step is too long": (
        steps("[0, 1]", '[1, 2, "stated", 4]'),
        "rates.steps[1]: found an array of 4; allowed: [threshold, rate] or [threshold, rate, standing]",
    ),
    "threshold is text": (steps('["low", 1]'), f"rates.steps[0].threshold: found 'low'; allowed: {DECIMAL}"),
    "threshold is a boolean": (steps("[true, 1]"), f"rates.steps[0].threshold: found true; allowed: {DECIMAL}"),
    "threshold is infinite": (steps("[-inf, 1]"), f"rates.steps[0].threshold: found -Infinity; allowed: {DECIMAL}"),
    "rate is not a number": (steps("[0, 1]", "[1, nan]"), f"rates.steps[1].rate: found NaN; allowed: {DECIMAL}"),
    "rate is text that is not a number": (steps('[0, "NaN"]'), f"rates.steps[0].rate: found NaN; allowed: {DECIMAL}"),
    "rate is zero with a huge exponent": (
        steps("[0, 0e-999999]"),
        f"rates.steps[0].rate: found 0E-999999; allowed: {DECIMAL}",
    ),
    "standing of a step is unknown": (
        steps('[0, 1, "guessed"]'),
        'rates.steps[0].standing: found \'guessed\'; allowed: "stated", "public" or "reconstructed"',
    ),
    "thresholds descend": (
        steps("[0, 1]", "[50, 2]", "[49.5, 3]"),
        f"rates.steps[2]: found the threshold 49.5 after 50; allowed: {ASCENDING}",
    ),
    "thresholds repeat": (
        steps("[50, 1]", "[50.0, 2]"),
        f"rates.steps[1]: found the threshold 50.0 after 50; allowed: {ASCENDING}",
    ),
    "thresholds are one float64": (
        steps("[50, 1]", "[50.0000000000000001, 2]"),
        f"rates.steps[1]: found the threshold 50.0000000000000001 after 50; allowed: {ASCENDING}",
    ),
    "percent above 100": (
        steps("[0, 1]", "[1, 100.1]"),
        'rates.steps[1]: found the rate 100.1; allowed: 0 to 100, or any rate with outside = "allow"',
    ),
    "percent below 0": (
        steps("[0, -0.1]"),
        'rates.steps[0]: found the rate -0.1; allowed: 0 to 100, or any rate with outside = "allow"',
    ),
    "share above 1": (
        edited('unit = "percent"', 'unit = "share"'),
        'rates.steps[1]: found the rate 10.0; allowed: 0 to 1, or any rate with outside = "allow"',
    ),
    "base is missing": (
        edited('base = "cents"', ""),
        "reward.base: found nothing; allowed: a string, and it is required",
    ),
    "base is empty": (
        edited('"cents"', '""'),
        "reward.base: found an empty string; allowed: a string of at least one character",
    ),
    "rounding is unknown": (
        edited('rounding = "floor"', 'rounding = "half_even"'),
        'reward.rounding: found \'half_even\'; allowed: "floor", "half_up" or "ceil"',
    ),
    "cap is a decimal": (edited("cap = 100", "cap = 1.5"), "reward.cap: found 1.5; allowed: a whole number"),
    "cap is negative": (
        edited("cap = 100", "cap = -1"),
        "reward.cap: found -1; allowed: a whole number from 0 to 9223372036854775807",
    ),
    "cap is beyond int64": (
        edited("cap = 100", "cap = 9223372036854775808"),
        "reward.cap: found 9223372036854775808; allowed: a whole number from 0 to 9223372036854775807",
    ),
    "negative bases are neither allowed nor errors": (
        edited('cap = 100\nnegative = "error"', "negative = false"),
        'reward.negative: found false; allowed: "allow" or "error"',
    ),
    "unknown key of the reward": (
        edited("cap = 100", "limit = 100"),
        "reward.limit: found an unknown key; allowed: only base, rounding, cap, negative",
    ),
    "standing is unknown": (
        edited('"reconstructed"', '"assumed"'),
        'standing."rule.ddof": found \'assumed\'; allowed: "stated", "public" or "reconstructed"',
    ),
    "standing of an unquoted key": (
        edited('"rule.ddof" =', "rule.ddof ="),
        'standing.rule: found a table; allowed: "stated", "public" or "reconstructed"',
    ),
    "standing of an unknown key": (
        edited('"rule.ddof"', '"rule.dof"'),
        f'standing."rule.dof": found an unknown key; allowed: keys of this program: {KEYS}',
    ),
}


@pytest.mark.parametrize(("text", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_a_refused_file_names_the_key_what_was_found_and_what_is_allowed(text, message):
    with pytest.raises(ProgramError) as caught:
        Program.parse(text)
    assert str(caught.value) == f"{message}."


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('name = "p"\nrule', "line 2"),
        ('name = "p"\n\n[rates]\nsteps = [[0, 1]', "line 4"),
        ('name = "p"\nname = "q"', "line 2"),
        ("a = 1\nb = 1979-13-45", "line 2"),
        ("a = '\x00'", "line 1"),
    ],
)
def test_broken_toml_is_refused_with_its_line(text, line):
    with pytest.raises(ProgramError, match=rf"^found text that is not TOML: .*{line}\b.*; allowed: TOML 1\.0\.$"):
        Program.parse(text)


@pytest.mark.parametrize("text", [f"a = {LONG}", "a = 1e99999999999999999999", "a = " + "[" * 100_000])
def test_toml_beyond_what_python_reads_is_refused(text):
    with pytest.raises(ProgramError, match=r"^found (text that is not TOML|TOML that is nested too deeply)"):
        Program.parse(text)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Measure(3), "column: found 3; allowed: a string"),
        (lambda: Measure("x", True), f"weight: found true; allowed: {NUMBER}"),
        (lambda: Measure("x", None), f"weight: found None; allowed: {NUMBER}"),
        (lambda: Measure("x", Decimal("inf")), f"weight: found Infinity; allowed: {NUMBER}"),
        (lambda: Measure("x", Fraction(1, 10**50)), f"weight: found 1/1{'0' * 50}; allowed: {NUMBER}"),
        (
            lambda: Measure("x", 0.1),
            "weight: found the float 0.1, which is not exact; "
            "allowed: an int, a Decimal or a string where a number is wanted",
        ),
        (
            lambda: table(steps=[(0, 1), (1, 0.1)]),
            "steps[1][1]: found the float 0.1, which is not exact; "
            "allowed: an int, a Decimal or a string where a number is wanted",
        ),
        (lambda: Measure("\ud800"), "column: found '\\ud800'; allowed: text without lone surrogates"),
        (lambda: Step(0, Decimal("sNaN")), f"rate: found sNaN; allowed: {DECIMAL}"),
        (lambda: Step(0, 1, "guess"), 'standing: found \'guess\'; allowed: "stated", "public" or "reconstructed"'),
        (
            lambda: rule(measures=[]),
            "measures: found an empty array; allowed: at least one measure, { column, weight }",
        ),
        (lambda: rule(measures="x"), "measures: found 'x'; allowed: an array"),
        (lambda: rule(measures=[Measure("x"), 5]), "measures[1]: found 5; allowed: a table"),
        (lambda: rule(measures=[{"column": "x", "weight": "z"}]), f"measures[0].weight: found 'z'; allowed: {NUMBER}"),
        (lambda: rule(ddof=True), "ddof: found true; allowed: 0 or 1"),
        (lambda: rule(constant=" - at `$.x`"), 'constant: found \' - at `$.x`\'; allowed: "centre", "null" or "error"'),
        (lambda: table(steps=[]), "steps: found 0 steps; allowed: 1 to 65,535 steps"),
        (lambda: table(steps=[(1, 1), (0, 1)]), f"steps[1]: found the threshold 0 after 1; allowed: {ASCENDING}"),
        (lambda: table(steps=[(0, 1), (1, "x")]), f"steps[1].rate: found 'x'; allowed: {DECIMAL}"),
        (lambda: Reward(base="b", cap="5"), "cap: found '5'; allowed: a whole number"),
        (
            lambda: program(effective_from="\ud800"),
            "effective_from: found '\\ud800'; allowed: a date such as 2019-10-01",
        ),
        (lambda: program(rates=5), "rates: found 5; allowed: a table"),
        (
            lambda: program(rule={"kind": "standard-score", "measures": [{"column": "x"}], "ddof": 3}),
            "rule.ddof: found 3; allowed: 0 or 1",
        ),
        (
            lambda: program(rule={"measures": [{"column": "x"}]}),
            f"rule.kind: found nothing; allowed: {KINDS}, and it is required",
        ),
        (
            lambda: program(rule=Measure("x")),
            "rule: found Measure(column='x', weight=Fraction(1, 1), negative='allow'); allowed: a table",
        ),
        (lambda: program(standing={1: "stated"}), "standing: found the key 1; allowed: keys that are strings"),
        (
            lambda: program(standing={"reward.base": "stated"}),
            'standing."reward.base": found an unknown key; allowed: keys of this program: '
            + KEYS[: KEYS.index(", reward.base")],
        ),
        (
            lambda: program(effective_from=datetime.datetime(2020, 1, 1)),
            "effective_from: found 2020-01-01 00:00:00; allowed: a date such as 2019-10-01",
        ),
    ],
)
def test_what_python_builds_is_checked_alike(build, message):
    with pytest.raises(ProgramError) as caught:
        build()
    assert str(caught.value) == f"{message}."
    assert str(pickle.loads(pickle.dumps(caught.value))) == f"{message}."


# Names and files


def test_every_built_in_program_loads_under_its_own_name():
    assert "hapitas-friend" in Program.names()
    for name in Program.names():
        assert Program.load(name).name == name


def test_an_unknown_name_is_refused_with_the_names_and_the_nearest():
    names = ", ".join(Program.names())
    with pytest.raises(ProgramError) as caught:
        Program.load("hapitas-freind")
    assert str(caught.value) == (
        "found no built-in program 'hapitas-freind' (did you mean hapitas-friend?); "
        f"allowed: {names}, or the path of a TOML file."
    )
    with pytest.raises(ProgramError) as caught:
        Program.load("")
    assert str(caught.value) == f"found no built-in program ''; allowed: {names}, or the path of a TOML file."


def test_a_string_with_the_suffix_or_a_separator_and_a_path_are_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("hapitas-friend.toml", "hapitas-friend"):
        Path(name).write_text(BASE, encoding="utf-8")
    read = [Program.load(p) for p in ("hapitas-friend.toml", f".{os.sep}hapitas-friend", Path("hapitas-friend"))]
    assert read == [Program.parse(BASE)] * 3
    assert Program.load("hapitas-friend").name == "hapitas-friend"


@pytest.mark.parametrize("data", [BASE.encode("utf-8-sig"), BASE.replace("\n", "\r\n").encode()], ids=["bom", "crlf"])
def test_a_file_with_a_byte_order_mark_or_windows_line_ends_is_read(tmp_path, data):
    file = tmp_path / "p.toml"
    file.write_bytes(data)
    assert Program.load(file) == Program.parse(BASE)


def test_an_error_in_a_file_names_the_file(tmp_path):
    file = tmp_path / "p.toml"
    file.write_text(edited("ddof = 0", "ddof = 2"), encoding="utf-8")
    with pytest.raises(ProgramError) as caught:
        Program.load(file)
    assert str(caught.value) == f"{file}: rule.ddof: found 2; allowed: 0 or 1."
    file.write_text("name =", encoding="utf-8")
    with pytest.raises(ProgramError) as caught:
        Program.load(str(file))
    assert str(caught.value).startswith(f"{file}: found text that is not TOML: ")


def test_a_file_that_is_not_utf8_is_refused_with_its_line(tmp_path):
    file = tmp_path / "p.toml"
    file.write_bytes(BASE.encode().replace(b"CDs", "ハピ".encode("shift-jis")))
    with pytest.raises(ProgramError) as caught:
        Program.load(file)
    assert str(caught.value) == f"{file}: found the byte 0x83 at line 2, which is not UTF-8; allowed: TOML in UTF-8."


def test_what_cannot_be_read_as_a_file_is_refused(tmp_path):
    for path in (tmp_path / "missing.toml", tmp_path, Path("a\0b.toml")):
        with pytest.raises(ProgramError) as caught:
            Program.load(path)
        assert str(caught.value).startswith(f"{path}: found no readable file (")
        assert str(caught.value).endswith("); allowed: a TOML file.")


# What is written

numbers = st.one_of(
    st.fractions(max_denominator=10**6),
    st.integers(1 - 10**50, 10**50 - 1).map(Fraction),
    st.builds(lambda n, k: Fraction(n, 10**k), st.integers(-(10**30), 10**30), st.integers(0, 30)),
    st.builds(lambda n, k: Fraction(n, 2**k), st.integers(-(10**9), 10**9), st.integers(0, 160)),
).filter(lambda number: max(abs(number.numerator), number.denominator) < 10**50)
decimals = st.builds(lambda n, k: Decimal(f"{n}E{k}"), st.integers(-(10**25), 10**25), st.integers(-20, 20))
names = st.text(min_size=1, max_size=20)
standings = st.sampled_from(["stated", "public", "reconstructed"])
negatives = st.sampled_from(["allow", "error"])
dates = st.none() | st.dates()


@st.composite
def programs(draw: st.DrawFn) -> Program:
    columns = draw(st.lists(names, min_size=1, max_size=3, unique=True))
    weights = draw(st.lists(numbers, min_size=len(columns), max_size=len(columns)))
    if abs(sum(weights)) < Fraction(1, 10**50):
        weights = [Fraction(1, 3)] * len(columns)
    thresholds = sorted(draw(st.lists(decimals, min_size=1, max_size=5, unique_by=float)))
    first, last = draw(dates), draw(dates)
    if first and last:
        first, last = sorted([first, last])
    reward = draw(
        st.none()
        | st.builds(
            Reward,
            base=names,
            rounding=st.sampled_from(["floor", "half_up", "ceil"]),
            cap=st.none() | st.integers(0, 2**63 - 1),
            negative=negatives,
        )
    )
    keys = [f"rule.{key}" for key in ("kind", "scale", "measures")] + ["rates.steps", "effective_from"]
    return Program(
        name=draw(names),
        title=draw(st.text()),
        title_ja=draw(st.text()),
        effective_from=first,
        effective_until=last,
        rule=StandardScore(
            measures=[Measure(*pair, draw(negatives)) for pair in zip(columns, weights, strict=True)],
            scale=draw(numbers.filter(bool)),
            centre=draw(numbers),
            ddof=draw(st.sampled_from([0, 1])),
            constant=draw(st.sampled_from(["centre", "null", "error"])),
        ),
        rates=RateTable(
            unit=draw(st.sampled_from(["percent", "share"])),
            below=draw(st.sampled_from(["first", "zero"])),
            outside="allow",
            steps=[Step(threshold, draw(decimals), draw(st.none() | standings)) for threshold in thresholds],
        ),
        reward=reward,
        standing=draw(st.dictionaries(st.sampled_from(keys + ["reward.cap"] * (reward is not None)), standings)),
    )


@given(programs())
@examples(100)
def test_every_program_is_read_back_as_it_was_written(written):
    text = written.to_toml()
    read = Program.parse(text.encode("utf-8").decode("utf-8"))
    assert read == written
    assert read.to_toml() == text


def test_every_character_of_a_string_is_written_so_that_toml_reads_it():
    text = "".join(map(chr, range(0x100))) + '"""\\\u2028\ufeff偏差\U0001f600\r\n'
    assert tomllib.loads(program(name=text).to_toml())["name"] == text


@pytest.mark.parametrize(
    ("number", "written"),
    [
        (Fraction(2), "2"),
        (Fraction(-1, 8), "-0.125"),
        (Fraction(1, 3), '"1/3"'),
        (Fraction(1, 10**20), "0.00000000000000000001"),
        (Fraction(2**63 - 1), "9223372036854775807"),
        (Fraction(2**63), "9223372036854775808.0"),
        (Fraction(1, 2**100), f"0.{5**100:0100d}"),
    ],
)
def test_a_number_is_written_as_a_decimal_where_it_is_one(number, written):
    assert f"\nscale = {written}\n" in program(rule=rule(scale=number)).to_toml()


def test_the_table_of_a_written_program_keeps_its_decimals_and_standings():
    written = program(rates=table(steps=[(0, "0.10", "public"), ("1e1", 10)])).to_toml()
    assert 'steps = [\n  [0, 0.10, "public"],\n  [10, 10],\n]\n' in written


# Whatever is put in, a program or a ProgramError comes out

junk = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.decimals()
    | st.fractions()
    | st.text(st.characters(codec=None), max_size=5)
    | st.binary(max_size=3)
    | st.dates()
    | st.datetimes(),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(names | st.integers(), inner, max_size=3) | st.tuples(inner)
    ),
    max_leaves=6,
)
PLACES = [
    (
        Program,
        ["name", "title", "title_ja", "effective_from", "effective_until", "rule", "rates", "reward", "standing"],
    ),
    (StandardScore, ["measures", "scale", "centre", "ddof", "constant"]),
    (RateTable, ["unit", "below", "outside", "steps"]),
    (Reward, ["base", "rounding", "cap", "negative"]),
]


@given(st.sampled_from([(build, field) for build, names in PLACES for field in names]), junk)
@examples(100)
def test_any_value_in_any_place_gives_a_checked_object_or_a_program_error(place, value):
    build, field = place
    whole = {
        Program: {"name": "p", "rule": rule(), "rates": table()},
        StandardScore: {"measures": [Measure("x")]},
        RateTable: {"steps": [(0, 1)]},
        Reward: {"base": "b"},
    }
    message = f"{field}."
    try:
        build(**{**whole[build], field: value})
    except ProgramError as error:
        message = str(error)
    assert message.startswith(field)
    assert message.endswith(".")
    assert "\n" not in message


@given(st.integers(0, len(BASE) - 1), st.integers(0, 8), st.text(string.printable + "ハ\0", max_size=4))
@examples(300)
def test_any_edit_of_a_file_gives_a_program_or_a_program_error(at, removed, inserted):
    try:
        read = Program.parse(BASE[:at] + inserted + BASE[at + removed :])
    except ProgramError as error:
        refused = str(error)
        assert re.fullmatch(r".*found .*; allowed: .+\.", refused)
    else:
        assert Program.parse(read.to_toml()) == read


# The built-in program


def test_hapitas_friend_has_the_published_and_reconstructed_table():
    ten, top = Fraction(10), Fraction("41.1")
    expected = {0: (Fraction("0.1"), "public")}
    expected |= {step: (Fraction(2, 10) * step, "reconstructed") for step in range(1, 49)}
    expected |= {49: (Fraction("9.8"), "stated"), 50: (ten, "stated")}
    for step in range(51, 81):
        line = ten + (top - ten) * (step - 50) / (81 - 50)
        tenths_half_up = (line * 10 + Fraction(1, 2)).__floor__()
        expected[step] = (Fraction(tenths_half_up, 10), "reconstructed")
    expected |= {step: (33 + Fraction(step, 10), "public") for step in range(81, 100)}
    expected[100] = (Fraction(45), "stated")
    read = Program.load("hapitas-friend")
    table = {int(step.threshold): (Fraction(step.rate), step.standing) for step in read.rates.steps}
    assert table == expected
    assert read.rates.thresholds == tuple(map(Fraction, range(101)))
    assert read.rates.shares == tuple(rate / 100 for rate, _ in expected.values())
    assert read.rates.shares[81] == Fraction("0.411")
    assert read.rates.shares[99] == Fraction("0.429")


def test_hapitas_friend_scores_and_pays_by_the_published_rule():
    read = Program.load("hapitas-friend")
    assert read.rule == StandardScore(
        measures=[Measure("new_referrals"), Measure("ad_users")], scale=1, centre=50, ddof=0, constant="centre"
    )
    assert read.rates.below == "first"
    assert read.reward == Reward(base="friend_points", rounding="floor")
    assert (read.effective_from, read.effective_until) == (datetime.date(2019, 10, 1), datetime.date(2020, 12, 31))
    assert read.standing["rule.ddof"] == read.standing["rule.constant"] == "reconstructed"
    assert read.standing["reward.rounding"] == "reconstructed"


def test_the_examples_of_the_module_run():
    outcome = doctest.testmod(hensa.program)
    assert outcome.attempted > 0
    assert outcome.failed == 0


def test_a_title_is_that_of_the_language_and_else_the_other_or_the_name():
    for titles, english, japanese in [
        ({"title": "Loyalty: by orders", "title_ja": "優待：注文数による"}, "Loyalty: by orders", "優待：注文数による"),
        ({"title": "Loyalty: by orders"}, "Loyalty: by orders", "Loyalty: by orders"),
        ({"title_ja": "優待：注文数による"}, "loyalty", "優待：注文数による"),
        ({}, "loyalty", "loyalty"),
    ]:
        rules = Program(
            name="loyalty", rule=StandardScore(measures=[Measure("x")]), rates=RateTable(steps=[(0, 1)]), **titles
        )
        assert (rules.title_in("en"), rules.title_in("ja")) == (english, japanese)
        short = [text.split(mark)[0] for text, mark in ((english, ":"), (japanese, "：" if "：" in japanese else ":"))]
        assert [rules.short_title("en"), rules.short_title("ja")] == short


@pytest.mark.parametrize("name", Program.names())
def test_built_in_programs_have_a_title_in_japanese(name):
    assert re.match(r"[ぁ-ヿ一-鿿]+：", Program.load(name).title_ja)
