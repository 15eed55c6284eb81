"""What the targets share: documents with edits, and results that must be equal bit for bit."""

import re
from typing import Any
from unittest.mock import patch

import pyarrow as pa
from hypothesis import strategies as st
from strategies import examples

import hensa
from hensa import HensaError, kernels, reference

SHORT = examples(15)
"""For targets that are slow, as the reference decides floats of any bits by fractions of thousands of digits."""

BUILDS = [kernels.load(build) for build in kernels.builds]


NUMBERS = [
    "0",
    "-0",
    "-1",
    "1",
    "2",
    "7",
    "1e5",
    "0.25",
    "1e-49",
    "1e999999999",
    "1e400",
    "9" * 40,
    "9" * 60,
    "9" * 5000,
]


@st.composite
def edited(draw: st.DrawFn, texts: list[str], tokens: list[str]) -> str:
    """A text with some edits: a number is another one, or a part is cut out, doubled or replaced."""
    text = draw(st.sampled_from(texts))
    for _ in range(draw(st.sampled_from([1, 1, 1, 1, 2, 3, 6]))):
        digits = list(re.finditer(r"\d+", text))
        if digits and draw(st.integers(0, 3)):
            start, stop = draw(st.sampled_from(digits)).span()
            inserted = draw(st.sampled_from(NUMBERS) | st.integers(0, 99).map(str))
        else:
            start = draw(st.integers(0, len(text)))
            stop = start + draw(st.integers(0, 30) | st.integers(0, len(text)))
            inserted = draw(st.sampled_from([*tokens, text[start:stop] * 2]) | st.text(max_size=4))
        text = text[:start] + inserted + text[stop:]
    return text


def outcome(call: Any) -> Any:
    """The result, or the type of the error, which must be hensa's own and one sentence."""
    try:
        return call()
    except HensaError as error:
        found = error
    assert "\n" not in str(found)
    return type(found)


def bits(values: list[Any]) -> list[Any]:
    """Floats as text that tells every bit."""
    return [value.hex() if isinstance(value, float) else value for value in values]


def agree(rows: pa.Table, program: hensa.Program, columns: list[str], by: str | None = None, **stored: Any) -> None:
    """Every build and the reference give the same results, or all of them an error of the same type.

    ``population`` and ``expected_population`` are what the rows are scored against, if not their own.
    """
    population, expected_population = stored.get("population"), stored.get("expected_population")
    expected = outcome(
        lambda: reference.score(rows, program, population=expected_population, by=by, columns=columns),
    )
    for build in BUILDS:
        with patch.object(kernels, "active", build):
            found = outcome(lambda: hensa.score(rows, program, population=population, by=by, columns=columns))
        if isinstance(found, type) or isinstance(expected, type):
            assert found == expected
            continue
        for name in columns:
            assert (name, bits(found[name].to_pylist())) == (name, bits(expected[name]))
