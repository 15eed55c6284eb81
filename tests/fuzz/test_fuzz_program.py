"""Any text is a program that is read back as it was written and scores as the reference does, or a ProgramError."""

import json
from decimal import Decimal
from importlib import resources

import pyarrow as pa
from fuzzing import agree, edited, outcome
from hypothesis import example, given
from hypothesis import strategies as st

from hensa import Program, ProgramError

FILES = [
    file.read_text("utf-8") for file in (resources.files("hensa") / "programs").iterdir() if file.suffix == ".toml"
]
SMALL = """name = "small"
title = "ポイント"
effective_from = 1997-01-01
[rule]
kind = "standard-score"
measures = [{ column = "x", weight = "1/3" }, { column = "y", weight = 2.5, negative = "error" }]
scale = 10
centre = 50
ddof = 1
constant = "null"
[rates]
unit = "share"
below = "zero"
outside = "allow"
steps = [[-1e1, 0.1, "stated"], [50, "2/7"], [50.25, 1]]
[reward]
base = "b"
rounding = "half_up"
cap = 1000
negative = "allow"
[standing]
"rule.ddof" = "public"
"""
TOKENS = [
    *("=", "[", "]", "[[", "{", "}", ",", ".", "'", '"', '"""', "'''", "#", "\n", "\r\n", "\\", "\\u0000", "\\uD800"),
    *("0", "-0", "1", "-1", "0.1", "1e-50", "1e51", "1e999999999", "-1E-999999999", "nan", "inf", "-inf", "true"),
    *("9" * 49, "9" * 51, "9" * 5000, "0x10", "1_000", '"1/3"', '"1/0"', '"-7/2"', '"nan"', '"1e400"', "1997-02-30"),
    *("1979-05-27T07:32:00Z", "07:32:00", "[[0, 1]]", "[]", "{}", "kind", "[rule]", "[rates]", "[reward]", "weight"),
    *('"centre"', '"null"', '"error"', '"floor"', '"ceil"', '"allow"', '"zero"', '"x"', '"score"', "\0", "\ufeff"),
    *("a." * 3000, "[" * 3000, "{a=" * 3000),
]

values = st.recursive(
    st.integers()
    | st.integers(-3, 60)
    | st.decimals(allow_nan=False, allow_infinity=False).map(lambda number: Decimal(str(number)))
    | st.sampled_from(["standard-score", "centre", "null", "error", "floor", "half_up", "zero", "share", "percent"])
    | st.sampled_from(["x", "y", "b", "1/3", "-2/7", "stated", "rule.ddof", "0.5", ""])
    | st.booleans()
    | st.dates()
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=6,
)
numbers = st.integers(-3, 60) | st.decimals(-9, 60, places=2) | st.sampled_from(["1/3", "-2/7", "0.5", "1e-9"])
steps = st.builds(
    lambda thresholds, rates: [list(step) for step in zip(sorted(thresholds), rates, strict=False)],
    st.lists(st.integers(-3, 60) | st.decimals(-9, 60, places=2), min_size=1, max_size=5, unique_by=float),
    st.lists(numbers, min_size=5, max_size=5),
)


def either(field):
    """Seldom a value of any kind."""
    return st.integers(0, 24).flatmap(lambda number: values if number == 7 else field)


def table(required, **fields):
    """The required fields and some of the others."""
    return st.fixed_dictionaries(
        {name: either(field) for name, field in required.items()},
        optional={name: either(field) for name, field in fields.items()},
    )


measures = st.lists(
    table({"column": st.sampled_from("xyz")}, weight=numbers),
    min_size=1,
    max_size=3,
    unique_by=lambda m: str(m["column"]),
)
documents = table(
    {
        "name": st.just("made"),
        "rule": table(
            {"kind": st.just("standard-score"), "measures": measures},
            scale=numbers,
            centre=numbers,
            ddof=st.integers(0, 1),
            constant=st.sampled_from(["centre", "null", "error"]),
        ),
        "rates": table(
            {"steps": steps, "outside": st.just("allow")},
            unit=st.sampled_from(["percent", "share"]),
            below=st.sampled_from(["first", "zero"]),
        ),
    },
    reward=table(
        {"base": st.sampled_from("xb")},
        rounding=st.sampled_from(["floor", "half_up", "ceil"]),
        cap=st.integers(0, 9),
        negative=st.just("error"),
    ),
)


def toml(value):
    """A value as TOML, tables inline."""
    match value:
        case str():
            return json.dumps(value).replace("\x7f", "\\u007f")
        case bool():
            return str(value).lower()
        case dict():
            return f"{{{', '.join(f'{json.dumps(name)} = {toml(item)}' for name, item in value.items())}}}"
        case list():
            return f"[{', '.join(map(toml, value))}]"
    return str(value)


ROWS = {name: [0, 1, 2, None, 7, 7, 60] for name in "xyzb"}


def reads_or_refuses(text):
    program = outcome(lambda: Program.parse(text))
    if program is ProgramError:
        return
    again = Program.parse(program.to_toml())
    assert again == program
    assert again.to_toml() == program.to_toml()
    paid = ["reward"] if program.reward else []
    rows = pa.table({name: ROWS.get(name, ROWS["x"]) for name in {**dict.fromkeys(program.columns), **ROWS}})
    agree(rows, program, ["score", "step", "rate", *paid])
    assert program.name in repr(program) or "\\" in repr(program)


@given(edited([SMALL, *FILES], TOKENS))
@example(SMALL)
def test_any_edit_of_a_program_is_a_program_or_a_program_error(text):
    reads_or_refuses(text)


@given(documents)
def test_any_document_is_a_program_or_a_program_error(document):
    reads_or_refuses("\n".join(f"{name} = {toml(value)}" for name, value in document.items()))


@given(st.binary(max_size=200))
def test_any_file_is_a_program_or_a_program_error(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "program.toml"
    path.write_bytes(data)
    assert isinstance(outcome(lambda: Program.load(path)), Program | type)
