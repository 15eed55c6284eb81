"""Bad input, in one registry of cases: what each gets in Python and on the command line, word for word.

``python tests/test_bad_input.py --write`` writes docs/bad-input.md from the cases.
"""

import ctypes
import errno
import gzip
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from functools import cache
from io import BytesIO
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer import testing as typer_testing

import hensa
from hensa import (
    DataError,
    HensaError,
    Measure,
    Population,
    Program,
    ProgramError,
    cli,
    columns,
    reference,
)

DOCUMENT = Path(__file__).parents[1] / "docs" / "bad-input.md"
CODE = "from hensa.cli import main; main()"
posix = pytest.mark.skipif(os.name != "posix", reason="signals, rights and limits as POSIX has them")

# --- what the cases are made of --------------------------------------------------------------------------------------

TOML = """\
name = "three"
[rule]
kind = "standard-score"
measures = [{ column = "x" }, { column = "y" }]
[rates]
steps = [[0, 0.1], [50, 10.0], [100, 45.0]]
[reward]
base = "b"
"""
PROGRAM = Program.parse(TOML)
ROWS = {"x": [1, 2, 3], "y": [1, 5, 3], "b": [10, 20, 30]}
CSV = "x,y,b\n1,1,10\n2,5,20\n3,3,30\n"
SCORE = "score in.csv -o out.csv -p three.toml"


def toml(old: str, new: str) -> str:
    assert TOML.count(old) == 1
    return TOML.replace(old, new)


def arrow(**changes: Any) -> pa.Table:
    return pa.table({**ROWS, **changes})


def parquet(rows: pa.Table, **options: Any) -> bytes:
    file = BytesIO()
    pq.write_table(rows, file, **options)
    return file.getvalue()


def ipc(rows: pa.Table, new: Callable[..., Any]) -> bytes:
    file = BytesIO()
    with new(file, rows.schema) as writer:
        writer.write_table(rows)
    return file.getvalue()


def astray(rows: int) -> pa.Array:
    """Text whose offsets point beyond its characters."""
    offsets = np.array([0, 2**30, *range(rows - 1)], dtype=np.int32)
    return pa.Array.from_buffers(pa.string(), rows, [None, pa.py_buffer(offsets), pa.py_buffer(b"abc")])


@dataclass(frozen=True)
class Case:
    """What is given, through what, and what it gets; "…" stands for words of pyarrow, Python or the system."""

    given: str
    through: str
    gets: type[Exception] | int | None
    """The error or the exit code; None: it is no error."""
    sentence: str

    def says(self, text: str) -> bool:
        """Whether the text is the sentence."""
        pattern = ".*".join(map(re.escape, self.sentence.split("…")))
        return re.fullmatch(pattern, text) is not None

    def __str__(self) -> str:
        return self.given


@dataclass(frozen=True)
class InPython(Case):
    """A call that raises."""

    call: Callable[[], object] = field(repr=False)


def raises(
    given: str, sentence: str, rows: Any = ROWS, rules: str = TOML, gets: type[Exception] = DataError, **options: Any
) -> InPython:
    """A case of `score`; rows that can be read once are made by a function."""

    def call() -> object:
        made = rows() if callable(rows) else rows
        return hensa.score(made, Program.parse(rules), **options)

    return InPython(given, "`hensa.score`", gets, sentence, call)


@dataclass(frozen=True)
class Command(Case):
    """A command in a folder with these files, run in this process."""

    lines: tuple[str, ...]
    files: dict[str, Any] = field(repr=False)
    """Text, bytes, a function that makes bytes, or None for a folder."""


def command(given: str, sentence: str, *lines: str, files: dict[str, Any] | None = None, gets: int = 1) -> Command:
    """A case of the command line; all lines get the same."""
    lines = lines or (SCORE,)
    through = " and ".join(f"`hensa {line}`" for line in lines)
    return Command(given, through, gets, sentence, lines, {"three.toml": TOML, "in.csv": CSV, **(files or {})})


@dataclass(frozen=True)
class Process(Case):
    """A command that needs a process of its own; returns its exit code and what it wrote to standard error."""

    run: Callable[[], tuple[int, str]] = field(repr=False)


@dataclass(frozen=True)
class Hostile(Case):
    """Arrow structs that are wrong; tried in another process, which must survive them."""

    rows: Callable[[], Any] = field(repr=False)
    options: dict[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Fine(Case):
    """What may look like bad input and is none."""

    check: Callable[[], bool] = field(repr=False)


# --- in Python -------------------------------------------------------------------------------------------------------


class Failing:
    """Rows whose producer fails at once."""

    def __arrow_c_array__(self, requested_schema: object = None) -> object:
        raise RuntimeError("the data is on a GPU")


class DeviceRows:
    """Rows with the interface for devices alone."""

    def __arrow_c_device_array__(self, requested_schema: object = None) -> object:
        raise AssertionError("not to be asked for")


def midway(error: Exception) -> pa.RecordBatchReader:
    batch = pa.record_batch(ROWS)

    def batches() -> Iterator[pa.RecordBatch]:
        yield batch
        raise error

    return pa.RecordBatchReader.from_batches(batch.schema, batches())


NOT_ROWS = (
    "it must have __arrow_c_stream__ or __arrow_c_array__ (pyarrow, Polars, pandas, DuckDB, nanoarrow ...) or be a "
    "mapping of names to arrays."
)
UNREADABLE = "rows cannot be read as an Arrow table: "
NONE = [
    raises("a list of rows", f"rows is a list; {NOT_ROWS}", [{"x": 1}]),
    raises("nothing", f"rows is a NoneType; {NOT_ROWS}", None),
    raises("the name of a file", f"rows is a str; {NOT_ROWS}", "rows.parquet"),
    raises("rows with the interface for devices alone", f"rows is a DeviceRows; {NOT_ROWS}", DeviceRows()),
    raises(
        "a column with the interface for devices alone",
        f"{UNREADABLE}column 'x': a DeviceRows is in the memory of a device; copy it to the CPU first.",
        {**ROWS, "x": DeviceRows()},
    ),
    raises("a producer that raises at once", f"{UNREADABLE}the data is on a GPU.", Failing()),
    raises(
        "a producer that raises midway", f"{UNREADABLE}the disk is gone.", lambda: midway(OSError("the disk is gone"))
    ),
    raises("a producer that raises without a word", f"{UNREADABLE}ValueError.", lambda: midway(ValueError())),
    raises("columns of different lengths", f"{UNREADABLE}…b expected length 3 but got length 1.", {**ROWS, "b": [1]}),
    raises("numbers and text in one column", f"{UNREADABLE}column 'x': ….", {**ROWS, "x": [1, "two", 3]}),
    raises("an integer beyond 64 bits in a list", f"{UNREADABLE}column 'x': ….", {**ROWS, "x": [1, 2, 2**64]}),
    raises("an array of two dimensions", f"{UNREADABLE}column 'x': ….", {**ROWS, "x": np.zeros((3, 2))}),
]

RESULTS = "it may name each of score, rate, step, reward, x_score, y_score once."
COLUMNS = [
    raises(
        "a missing measure",
        "There is no column 'y', a measure of three; the columns are 'x', 'b'.",
        {"x": [1, 2], "b": [1, 2]},
    ),
    raises(
        "a missing base of the reward",
        "There is no column 'b', the base of the reward of three; the columns are 'x', 'y'.",
        {"x": [1, 2], "y": [1, 2]},
    ),
    raises(
        "a measure that is there twice",
        "The rows have 2 columns named 'x'; exactly one is needed (they have 'x', 'x', 'y', 'b').",
        pa.Table.from_arrays([pa.array([1, 2])] * 4, names=["x", "x", "y", "b"]),
    ),
    raises(
        "a column that is named like a result",
        "The rows already have a column 'rate'; rename it, or leave it out of columns.",
        {**ROWS, "rate": [1, 2, 3]},
    ),
    raises("a result that there is not", f"columns names 'grade'; {RESULTS}", columns=["grade"]),
    raises("a result twice", f"columns names 'step' twice; {RESULTS}", columns=["step", "step"]),
    raises(
        "a reward that the program does not pay",
        "Program 'three' has no [reward]; ask for score, step and rate only.",
        rules=toml('[reward]\nbase = "b"\n', ""),
        columns=["reward"],
    ),
    raises("buffers that are no result", "out is a dict; it must be an earlier result with 3 rows.", out={}),
    raises(
        "no threads",
        "threads is 0; it must be a whole number from 1 on, or None for all CPUs.",
        gets=HensaError,
        threads=0,
    ),
    InPython(
        "a method that there is not",
        "`hensa.population`",
        DataError,
        'method is \'textbook\'; it must be "auto", "exact" or "welford".',
        lambda: hensa.population(ROWS, PROGRAM, method="textbook"),
    ),
]


def typed(given: str, type_name: str, column: Any) -> InPython:
    allowed = "an integer, bool, float32, float64 or decimal type up to decimal128; cast it first."
    sentence = f"Column 'x' is of type {type_name}; a measure must be of {allowed}"
    return raises(f"{given} as a measure", sentence, lambda: arrow(x=column))


def typed_base(given: str, type_name: str, column: Any) -> InPython:
    allowed = "an integer, bool or decimal type up to decimal128; cast it first."
    sentence = f"Column 'b' is of type {type_name}; the base of the reward must be of {allowed}"
    return raises(f"{given} as the base of the reward", sentence, lambda: arrow(b=column))


DICTIONARY = pa.array([1, 2, 3]).dictionary_encode()
TYPES = [
    typed("text", "string", ["1", "2", "3"]),
    typed("lists", "list<…>", [[1], [2], [3]]),
    typed("structs", "struct<…>", [{"a": 1}] * 3),
    typed("a dictionary", "dictionary<…>", DICTIONARY),
    typed("timestamps", "timestamp[s]", pa.array([1, 2, 3], pa.timestamp("s"))),
    typed("dates", "date32[day]", pa.array([1, 2, 3], pa.date32())),
    typed("durations", "duration[s]", pa.array([1, 2, 3], pa.duration("s"))),
    typed("float16", "halffloat", pa.array([1.0, 2.0, 3.0], pa.float16())),
    typed("decimal256", "decimal256(40, 0)", pa.array([Decimal(1)] * 3, pa.decimal256(40, 0))),
    raises(
        "decimals of scale 1001 as a measure",
        "Column 'x' is of type decimal128(38, 1001); scales go from -1,000 to 1,000.",
        lambda: arrow(x=pa.array([Decimal("1e-1001")] * 3, pa.decimal128(38, 1001))),
    ),
    typed_base("floats", "double", [1.0, 2.0, 3.0]),
    typed_base("text", "string", ["1", "2", "3"]),
]

COUNTS = toml('{ column = "x" }', '{ column = "x", negative = "error" }')
REFUSED = 'it must be 0 or more, as the program says negative = "error" of it.'
VALUES = [
    raises(
        "a NaN",
        "Column 'x' is nan in row 1; measures must be finite numbers.",
        {**ROWS, "x": np.array([1.0, np.nan, 3.0])},
    ),
    raises(
        "infinity", "Column 'y' is inf in row 2; measures must be finite numbers.", {**ROWS, "y": [1.0, 2.0, np.inf]}
    ),
    raises(
        "an SD too small for the score of one measure",
        "The population's SD of 'x' is 9.42809e-161; the standard score of one measure needs one from 1e-150 to "
        "1e250, of fewer than 1e100 rows.",
        {**ROWS, "x": [0.0, 0.0, 2e-160]},
        columns=["score", "x_score"],
    ),
    raises(
        "a NaN in a later chunk",
        "Column 'x' is nan in row 4; measures must be finite numbers.",
        pa.concat_tables([arrow(x=[1.0, 2.0, 3.0]), arrow(x=pa.array([1.0, np.nan, 3.0], from_pandas=False))]),
    ),
    raises(
        "a NaN in one cohort",
        "Column 'x' is nan in row 1; measures must be finite numbers.",
        {**ROWS, "x": np.array([1.0, np.nan, 3.0]), "site": ["a", "b", "a"]},
        by="site",
    ),
    raises(
        "a negative count that the program refuses",
        f"Column 'x' is -2 in row 1; {REFUSED}",
        {**ROWS, "x": [1, -2, -3]},
        COUNTS,
    ),
    raises(
        "a negative base that the program refuses",
        f"Column 'b' is -0.05 in row 2; {REFUSED}",
        {**ROWS, "b": [Decimal(1), None, Decimal("-0.05")]},
        toml('base = "b"', 'base = "b"\nnegative = "error"'),
    ),
    raises(
        "one row, with ddof 1",
        "The population has 1 row, and an SD with ddof 1 needs more.",
        {"x": [1], "y": [1], "b": [1]},
        toml("[rates]", "ddof = 1\n[rates]"),
    ),
    raises(
        "a constant measure that the program refuses",
        "Column 'y' is the same in every row, and the program says constant = \"error\".",
        {**ROWS, "y": [7, 7, 7]},
        toml("[rates]", 'constant = "error"\n[rates]'),
    ),
    raises(
        "a reward beyond int64",
        # Of x = 3, 3 and y = 5, 3 the last row has the higher score, so it is on step 50 and paid a tenth.
        f"Column 'b' is {10**22} in row 2; its reward of {10**21} points is beyond int64.",
        {"x": [1, 2, 3], "y": [1, 1, 5], "b": pa.array([1, 2, Decimal(10) ** 22], pa.decimal128(38, 0))},
    ),
]

POPULATION = hensa.population(ROWS, PROGRAM)
ONLY_X = hensa.population({"x": [1, 2]}, Program.parse(toml(', { column = "y" }', "")))
BY_SITE = hensa.population({**ROWS, "site": ["a", "b", "b"]}, PROGRAM, by="site")


def merged(given: str, sentence: str, other: Population) -> InPython:
    return InPython(given, "`Population + Population`", DataError, sentence, lambda: POPULATION + other)


def stored(given: str, text: str, reason: str) -> InPython:
    sentence = f"The text is not a population as to_json writes it ({reason})."
    return InPython(given, "`Population.from_json`", DataError, sentence, lambda: Population.from_json(text))


POPULATIONS = [
    raises(
        "a cohort column that is missing",
        "There is no column 'site'; the columns are 'x', 'y', 'b'.",
        by="site",
    ),
    raises(
        "a null in a cohort column",
        "Cohort column 'site' is null in row 1; every row needs a cohort.",
        {**ROWS, "site": ["a", None, "b"]},
        by="site",
    ),
    raises(
        "floats as cohorts",
        "Cohort column 'site' is of type double; it must be of integers, text, bool, dates or decimals.",
        {**ROWS, "site": [1.0, 2.0, 3.0]},
        by="site",
    ),
    raises(
        "a cohort column twice",
        "by is ['x', 'x']; it must be the name of a column, or several different names.",
        by=["x", "x"],
    ),
    raises(
        "a cohort that the stored population lacks",
        "The population of cohort 'c', of row 2, is not there; 2 others are.",
        {**ROWS, "site": ["a", "b", "c"]},
        population=BY_SITE,
        by="site",
    ),
    raises(
        "a stored population that lacks a measure",
        "The population has no measure 'y'; it has x.",
        population=ONLY_X,
    ),
    raises(
        "an empty stored population",
        "The population is empty; scores need a population of at least one row.",
        population=hensa.population({"x": [], "y": []}, PROGRAM),
    ),
    merged(
        "populations of different measures",
        "Populations of the measures x, y and x cannot be merged; compute both with one program and the same cohort "
        "columns.",
        ONLY_X,
    ),
    merged(
        "populations by different methods",
        "Moments by exact with ddof 0 and by welford with ddof 0 cannot be merged; compute both with one program and "
        "one method.",
        hensa.population(ROWS, PROGRAM, method="welford"),
    ),
    stored("text that is not JSON", "count: 3", "JSONDecodeError: …"),
    stored("JSON of something else", "[1, 2]", "TypeError: …"),
    stored("a population without its count", "{}", "KeyError: 'count'"),
    stored("a negative number of rows", '{"count": -1, "nulls": 0}', "ValueError: -1 is not a count"),
    stored(
        "sums that no numbers have",
        POPULATION.to_json().replace('"sum": "6"', '"sum": "7"'),
        "ValueError: no population has these sums",
    ),
    stored("JSON that is nested too deeply", "[" * 100_000, "RecursionError: …"),
]
WEIGHED = [
    InPython(
        "a float where a number must be exact",
        "`hensa.Measure`",
        ProgramError,
        "weight: found the float 0.1, which is not exact; allowed: an int, a Decimal or a string where a number is "
        "wanted.",
        lambda: Measure("x", 0.1),
    )
]

# --- programs --------------------------------------------------------------------------------------------------------

NUMBER = 'a number of at most 50 digits: an integer, a decimal, or a string such as "1/3".'
OUTSIDE = '0 to 100, or any rate with outside = "allow".'
KINDS = '"standard-score", "stage" or "per-event"'
KEYS = "kind, measures, scale, centre, ddof, constant"


def broken(given: str, text: str | bytes, sentence: str) -> Command:
    """A program file that is refused."""
    lines = ("programs check p.toml", "score in.csv -o out.csv -p p.toml")
    return command(given, f"p.toml: {sentence}", *lines, files={"p.toml": text})


def not_toml(given: str, text: str | bytes, reason: str) -> Command:
    return broken(given, text, f"found text that is not TOML: {reason}; allowed: TOML 1.0.")


PROGRAMS = [
    not_toml("a string that is not closed", toml('"three"', '"three'), "…line 1…"),
    not_toml("an array that is not closed", toml("45.0]]", "45.0]"), "…line 7…"),
    not_toml("a word without quotes", toml('"three"', "three"), "…line 1…"),
    not_toml("a key twice", toml("[rule]", 'name = "four"\n[rule]'), "…line 2…"),
    not_toml("a table twice", f"{TOML}[rule]\nddof = 1\n", "…line 9…"),
    not_toml("a day that there is not", f"effective_from = 2019-02-30\n{TOML}", "…line 1…"),
    not_toml("a NUL", toml("three", "\0"), "…line 1…"),
    not_toml("JSON", json.dumps({"name": "three"}), "…line 1…"),
    not_toml(
        "a number out of every range",
        toml("45.0", "1e99999999999999999999"),
        "the number '1e99999999999999999999' is out of range",
    ),
    broken("an empty file", "", "name: found nothing; allowed: a string, and it is required."),
    broken(
        "arrays in arrays, ten thousand deep",
        "a = " + "[" * 10_000,
        "found TOML that is nested too deeply; allowed: the tables of a program.",
    ),
    broken(
        "text in Shift-JIS",
        toml("three", "三").encode("shift-jis"),
        "found the byte 0x8e at line 1, which is not UTF-8; allowed: TOML in UTF-8.",
    ),
    broken(
        "a key that there is not",
        toml("kind", "knid = 1\nkind"),
        "rule.knid: found an unknown key; allowed: only measures, scale, centre, ddof, constant.",
    ),
    broken(
        "the rules of an event",
        'name = "spring"\nid_column = "member"\ncount_column = "friends"\n',
        "found the rules of an event, which hensa rank takes; allowed: those of a program.",
    ),
    broken("no rates", TOML.split("[rates]")[0], "rates: found nothing; allowed: a table, and it is required."),
    broken("no base", toml('base = "b"', ""), "reward.base: found nothing; allowed: a string, and it is required."),
    broken(
        "a rule that there is not",
        toml("standard-score", "standard"),
        f"rule.kind: found 'standard'; allowed: {KINDS}.",
    ),
    broken(
        "no measures",
        toml('{ column = "x" }, { column = "y" }', ""),
        "rule.measures: found an empty array; allowed: at least one measure, { column, weight }.",
    ),
    broken(
        "a measure twice",
        toml('"y"', '"x"'),
        "rule.measures[1].column: found 'x' again; allowed: each column once.",
    ),
    broken(
        "text for a weight",
        toml('"y"', '"y", weight = "much"'),
        f"rule.measures[1].weight: found 'much'; allowed: {NUMBER}",
    ),
    broken("a NaN for the scale", toml("[rates]", "scale = nan\n[rates]"), f"rule.scale: found NaN; allowed: {NUMBER}"),
    broken("a scale of 0", toml("[rates]", "scale = 0\n[rates]"), "rule.scale: found 0; allowed: any number but 0."),
    broken("a ddof of 2", toml("[rates]", "ddof = 2\n[rates]"), "rule.ddof: found 2; allowed: 0 or 1."),
    broken(
        "a word for what negative counts are",
        toml('"y"', '"y", negative = "null"'),
        'rule.measures[1].negative: found \'null\'; allowed: "allow" or "error".',
    ),
    broken(
        "no steps",
        toml("[[0, 0.1], [50, 10.0], [100, 45.0]]", "[]"),
        "rates.steps: found 0 steps; allowed: 1 to 65,535 steps.",
    ),
    broken(
        "thresholds that do not ascend",
        toml("[100,", "[50.0,"),
        "rates.steps[2]: found the threshold 50.0 after 50; allowed: thresholds that ascend without repeats (compared "
        "as float64).",
    ),
    broken("a rate above 100 percent", toml("45.0", "145"), f"rates.steps[2]: found the rate 145; allowed: {OUTSIDE}"),
    broken("a negative rate", toml("0.1", "-0.1"), f"rates.steps[0]: found the rate -0.1; allowed: {OUTSIDE}"),
    broken(
        "a cap below 0",
        f"{TOML}cap = -1\n",
        "reward.cap: found -1; allowed: a whole number from 0 to 9223372036854775807.",
    ),
    broken(
        "an end before the beginning",
        f"effective_from = 2020-01-01\neffective_until = 2019-12-31\n{TOML}",
        "effective_until: found 2019-12-31; allowed: a date from 2020-01-01 (effective_from) on.",
    ),
    command(
        "a program file that is not there",
        "gone.toml: found no readable file (No such file or directory); allowed: a TOML file.",
        "programs check gone.toml",
        "score in.csv -o out.csv -p gone.toml",
    ),
    command(
        "a folder for a program file",
        "folder.toml: found no readable file (…); allowed: a TOML file.",
        "programs check folder.toml",
        "score in.csv -o out.csv -p folder.toml",
        files={"folder.toml": None},
    ),
    command(
        "a built-in program that there is not",
        "found no built-in program 'hapitas-freind' (did you mean hapitas-friend?); allowed: …, or the path of a "
        "TOML file.",
        "score in.csv -o out.csv -p hapitas-freind",
    ),
]

# --- files -----------------------------------------------------------------------------------------------------------


def csv_case(given: str, text: str | bytes, sentence: str) -> Command:
    return command(given, f"in.csv: {sentence}", files={"in.csv": text})


NOT_A_NUMBER = "is not a number; leave a null empty."
CSV_FILES = [
    csv_case("a word for a number", f"{CSV}many,1,2\n", f"line 5, column x: 'many' {NOT_A_NUMBER}"),
    csv_case(
        "a word after numbers of every form",
        f"{CSV} 7 ,+1,0x10\n,TRUE,\n1e3,.5,-2\n?,1,1\n",
        f"line 8, column x: '?' {NOT_A_NUMBER}",
    ),
    csv_case("a word in the first row", "x,y,b\nn/a,1,2\n", f"line 2, column x: 'n/a' {NOT_A_NUMBER}"),
    csv_case("a word in the base", f"{CSV}1,2,ten\n", f"line 5, column b: 'ten' {NOT_A_NUMBER}"),
    csv_case("a word after blank lines", f"{CSV}\n\n1,?,2\n", f"line 7, column y: '?' {NOT_A_NUMBER}"),
    csv_case("a cell of blanks", f"{CSV}1, ,2\n", f"line 5, column y: ' ' {NOT_A_NUMBER}"),
    csv_case("a decimal comma", f'{CSV}"1,5",1,2\n', f"line 5, column x: '1,5' {NOT_A_NUMBER}"),
    csv_case("a date", "x,y,b\n1997-03-01,1,2\n", f"line 2, column x: '1997-03-01' {NOT_A_NUMBER}"),
    csv_case("a NaN", f"{CSV}nan,1,2\n", f"line 5, column x: 'nan' {NOT_A_NUMBER}"),
    csv_case("infinity", f"{CSV}1,-inf,2\n", f"line 5, column y: '-inf' {NOT_A_NUMBER}"),
    csv_case(
        "an integer that float64 would round",
        f"{CSV}9223372036854775808,1,2\n",
        "line 5, column x: '9223372036854775808' is an integer beyond int64.",
    ),
    csv_case("a cell too few", f"{CSV}1,2\n", "line 5: found 2 cells, where the header has 3."),
    csv_case("a cell too many", f"{CSV}1,2,3,4\n", "line 5: found 4 cells, where the header has 3."),
    csv_case(
        "semicolons between the cells",
        CSV.replace(",", ";"),
        "There is no column 'x', a measure of three (are the cells separated by semicolons? it must be commas); the "
        "columns are 'x;y;b'.",
    ),
    csv_case(
        "no header",
        "1,2,3\n4,5,6\n",
        "There is no column 'x', a measure of three; the columns are '1', '2', '3'.",
    ),
    csv_case(
        "a column twice",
        "x,x,y,b\n1,1,1,1\n",
        "The rows have 2 columns named 'x'; exactly one is needed (they have 'x', 'x', 'y', 'b').",
    ),
    csv_case(
        "a base with a fraction",
        f"{CSV}1,2,10.5\n",
        "line 5, column b: '10.5' is not a whole number, such as 10 or 10.0.",
    ),
    csv_case("an empty file", "", "Empty CSV file."),
    csv_case("bytes of any kind", bytes(range(256)) * 100, "line 3: … is not UTF-8."),
    csv_case("text in Shift-JIS", "member,x,y,b\n三,1,1,1\n".encode("shift-jis"), r"line 2: b'\x8eO' is not UTF-8."),
    command(
        "gzip that is cut off",
        "in.csv.gz: ….",
        "score in.csv.gz -o out.csv -p three.toml",
        files={"in.csv.gz": lambda: gzip.compress(CSV.encode() * 1000)[:40]},
    ),
    command(
        "text instead of gzip",
        "in.csv.gz: Not a gzipped file (b'x,').",
        "score in.csv.gz -o out.csv -p three.toml",
        files={"in.csv.gz": CSV},
    ),
    command(
        "a null in a cohort column",
        "in.csv: Cohort column 'site' is null in row 1 (line 3); every row needs a cohort.",
        "score in.csv -o out.csv -p three.toml --by site",
        files={"in.csv": "x,y,b,site\n1,1,1,a\n2,2,2,\n"},
    ),
]


def damaged(given: str, name: str, content: Any, reason: str = "…") -> Command:
    kind = "Parquet" if name == "in.parquet" else "an Arrow file"
    return file_case(given, name, content, f"cannot be read as {kind}: {reason}.")


def file_case(given: str, name: str, content: Any, sentence: str) -> Command:
    return command(given, f"{name}: {sentence}", f"score {name} -o out.csv -p three.toml", files={name: content})


def without_middle(data: bytes) -> bytes:
    """The file with zeros in its data pages."""
    return data[:100] + bytes(200) + data[300:]


LARGE = {"x": list(range(0, 9000, 3)), "y": list(range(3000)), "b": [7] * 3000}
BINARY_FILES = [
    damaged("an empty Parquet file", "in.parquet", b""),
    damaged("Parquet without its end", "in.parquet", lambda: parquet(arrow())[:-20]),
    damaged("Parquet cut in the middle", "in.parquet", lambda: parquet(pa.table(LARGE))[:5000]),
    damaged(
        "Parquet with zeros in its data, and checksums",
        "in.parquet",
        lambda: without_middle(parquet(pa.table(LARGE), write_page_checksum=True)),
    ),
    damaged("CSV named like Parquet", "in.parquet", CSV),
    file_case(
        "an Arrow file named like a stream",
        "in.arrows",
        lambda: ipc(arrow(), pa.ipc.new_file),
        "found an Arrow file; only an Arrow stream can be named .arrows.",
    ),
    file_case(
        "a file of an Arrow stream that was cut off between two batches",
        "in.arrows",
        lambda: ipc(arrow(), pa.ipc.new_stream)[:-8],
        "the stream has no end, so it may have been cut off.",
    ),
    file_case(
        "a file of two Arrow streams, one behind the other",
        "in.arrows",
        lambda: 2 * ipc(arrow(), pa.ipc.new_stream),
        "more follows the end of the stream; exactly one stream is read.",
    ),
    file_case(
        "Parquet without a measure",
        "in.parquet",
        lambda: parquet(pa.table({"x": [1], "b": [1]})),
        "There is no column 'y', a measure of three; the columns are 'x', 'b'.",
    ),
    file_case(
        "Parquet with a NaN",
        "in.parquet",
        lambda: parquet(arrow(x=pa.array([1.0, np.nan, 2.0]))),
        "Column 'x' is nan in row 1; measures must be finite numbers.",
    ),
    damaged("an empty Arrow file", "in.arrow", b""),
    damaged("an Arrow file cut off", "in.arrow", lambda: ipc(pa.table(LARGE), pa.ipc.new_file)[:-1000]),
    damaged(
        "an Arrow file whose text points beyond its end",
        "in.arrow",
        lambda: ipc(arrow(note=astray(3)), pa.ipc.new_file),
    ),
    command(
        "rows for a stored population",
        "in.parquet: found no population (found the byte 0x… is not UTF-8); `hensa population` writes such a file.",
        f"{SCORE} --population in.parquet",
        files={"in.parquet": lambda: parquet(arrow())},
    ),
    command(
        "a population that is named like rows",
        "Invalid value for '--output' / '-o': p.parquet is named like a table, and a population is JSON; name it "
        "FILE.json",
        "population in.csv -o p.parquet -p three.toml",
        gets=2,
    ),
    command(
        "a program that is named like rows",
        "Invalid value: p.csv is named like a table, and --scaled writes a program; name it FILE.toml",
        "compare in.csv -p three.toml -p hapi-tomo --budget 1 --scaled p.csv",
        gets=2,
    ),
    command(
        "runs without the column of points",
        "in.csv: There is no column 'reward'; the columns are 'x', 'y', 'b'; --points names the column of points, by "
        "default reward.",
        "restate in.csv in.csv -o out.csv --id-column x",
    ),
    command("a file that is not there", "gone.csv: No such file or directory.", "score gone.csv -o out.csv"),
    command("a folder", "folder.csv: ….", "score folder.csv -o out.csv", files={"folder.csv": None}),
    command(
        "a stored population that is not there",
        "gone.json: No such file or directory.",
        "score in.csv -o out.csv -p three.toml --population gone.json",
    ),
    command(
        "a stored population that is cut off",
        "p.json: found no population (Expecting ',' delimiter: line 17 column 1 (char 259)); `hensa population` writes "
        "such a file.",
        "score in.csv -o out.csv -p three.toml --population p.json",
        files={"p.json": lambda: POPULATION.to_json()[:-5].encode()},
    ),
    command(
        "a stored population in UTF-16",
        "p.json: ….",
        "score in.csv -o out.csv -p three.toml --population p.json",
        files={"p.json": lambda: POPULATION.to_json().encode("utf-16")},
    ),
    command(
        "a stored population without cohorts",
        "in.csv: The population of cohort 1, of row 0 (line 2), is not there; 0 others are.",
        "score in.csv -o out.csv -p three.toml --population p.json --by x",
        files={"p.json": lambda: POPULATION.to_json().encode()},
    ),
]

# --- other calls -----------------------------------------------------------------------------------------------------


def asks(
    through: str, given: str, sentence: str, call: Callable[[], object], gets: type[Exception] = DataError
) -> InPython:
    """A case of another function of hensa."""
    return InPython(given, f"`hensa.{through}`", gets, sentence, call)


ROW = {"x": 1, "y": 2, "b": 10}
OTHER = Program.parse(toml('"three"', '"other"'))


def explained(row: dict[str, Any] = ROW, program: Program = PROGRAM, **options: Any) -> object:
    return hensa.explain(row, program, POPULATION, **options)


EXPLANATIONS = [
    asks(
        "explain",
        "a row without a measure",
        "There is no column 'y', a measure of three; the columns are 'x', 'b'.",
        lambda: explained({"x": 1, "b": 10}),
    ),
    asks(
        "explain",
        "a row with text for a number",
        "Column 'x' is of type string; a measure must be of an integer, bool, float32, float64 or decimal type up to "
        "decimal128; cast it first.",
        lambda: explained({**ROW, "x": "1"}),
    ),
    asks(
        "explain",
        "a row with a NaN",
        "Column 'x' is nan in row 0; measures must be finite numbers.",
        lambda: explained({**ROW, "x": float("nan")}),
    ),
    asks(
        "explain",
        "a language that there is not",
        'lang is \'fr\'; it must be "en" or "ja".',
        lambda: explained(lang="fr"),
    ),
    asks(
        "explain",
        "the population of other measures",
        "The population has no measure 'z'; it has x, y.",
        lambda: explained(
            {"z": 1, "b": 1}, Program.parse(toml('{ column = "x" }, { column = "y" }', '{ column = "z" }'))
        ),
    ),
    asks("to_next_step", "rows that are none", f"rows is a list; {NOT_ROWS}", lambda: hensa.to_next_step([1], PROGRAM)),
    asks(
        "to_next_step",
        "a column that is named like a result",
        "The rows already have a column 'to_next_step_x'; rename it.",
        lambda: hensa.to_next_step({**ROWS, "to_next_step_x": [1, 2, 3]}, PROGRAM),
    ),
    asks(
        "to_next_step",
        "a NaN",
        "Column 'x' is nan in row 1; measures must be finite numbers.",
        lambda: hensa.to_next_step({**ROWS, "x": np.array([1.0, np.nan, 2.0])}, PROGRAM),
    ),
    asks(
        "compare",
        "one program",
        "compare got 1 program; it takes two or more.",
        lambda: hensa.compare(ROWS, [PROGRAM]),
    ),
    asks(
        "compare",
        "two programs of one name",
        "Two of the programs are named 'three'; each needs a name of its own.",
        lambda: hensa.compare(ROWS, [PROGRAM, PROGRAM]),
    ),
    asks(
        "compare",
        "bands of a column that there is not",
        "There is no column 'z'; the columns are 'x', 'y', 'b'.",
        lambda: hensa.compare(ROWS, [PROGRAM, OTHER], band="z"),
    ),
    asks(
        "compare",
        "bands of fractions",
        "Band column 'z' is of type double; it must be of integers, such as a number of friends.",
        lambda: hensa.compare({**ROWS, "z": [1.5, 2.0, 3.0]}, [PROGRAM, OTHER], band="z"),
    ),
    asks(
        "compare",
        "edges that do not ascend",
        "edges is [3, 1]; it must be ascending whole numbers within int64, one or more.",
        lambda: hensa.compare(ROWS, [PROGRAM, OTHER], band="x", edges=[3, 1]),
    ),
    asks(
        "solve",
        "a budget below 0",
        "budget is -1; it must be a whole number of 0 or more.",
        lambda: hensa.solve(ROWS, PROGRAM, -1),
    ),
    command(
        "an id that no row has",
        "in.csv: found 0 rows whose x is 7; exactly one is needed.",
        "explain in.csv -p three.toml --id 7 --id-column x",
    ),
    command(
        "an id that two rows have",
        "in.csv: found 2 rows whose x is 1; exactly one is needed; --id-column names another column of ids.",
        "explain in.csv -p three.toml --id 1 --id-column x",
        files={"in.csv": CSV + "1,2,30\n"},
    ),
    command(
        "one program to compare",
        "in.csv: compare got 1 program; it takes two or more.",
        "compare in.csv -p three.toml",
    ),
    command(
        "a file without a record",
        "in.csv: there is no record beside it of how it was made.",
        "verify in.csv",
    ),
    command("a file that is not there", "gone.csv: No such file or directory.", "verify gone.csv"),
]

EVENT = hensa.Event(name="spring", id_column="id", count_column="n", prizes=[hensa.Prize(first=1, points=500)])
OUTAGE = hensa.Event(
    name="outage",
    id_column="id",
    count_column="n",
    entry_column="entered",
    compensation=hensa.Compensation(entry_until=datetime(2020, 1, 18), points=100),
)
PAID = {"referrer_id": [1, 2], "reward": [10, 20]}


def restated(before: dict[str, Any] = PAID, after: dict[str, Any] = PAID) -> object:
    return hensa.restate(before, after)


EVENTS = [
    asks("rank", "rows that are none", f"rows is a list; {NOT_ROWS}", lambda: hensa.rank([1], EVENT)),
    asks(
        "rank",
        "a null id",
        "Column 'id' is null in row 1; every row needs an id.",
        lambda: hensa.rank({"id": [1, None], "n": [1, 2]}, EVENT),
    ),
    asks(
        "rank",
        "an id twice",
        "Row 1 has the id of row 0 again (id 1); every id may stand once.",
        lambda: hensa.rank({"id": [1, 1], "n": [1, 2]}, EVENT),
    ),
    asks(
        "rank",
        "fractions as counts",
        "Column 'n' is of type double; it must be of integers or whole decimals.",
        lambda: hensa.rank({"id": [1], "n": [1.5]}, EVENT),
    ),
    asks(
        "rank",
        "a negative count",
        "Column 'n' is -2 in row 1; it must be 0 or more.",
        lambda: hensa.rank({"id": [1, 2], "n": [1, -2]}, EVENT),
    ),
    asks(
        "rank",
        "the first none",
        "top is 0; it must be a whole number from 1 on.",
        lambda: hensa.rank({"id": [1], "n": [1]}, EVENT, top=0),
    ),
    asks(
        "compensate",
        "an event that compensates nobody",
        "Event 'spring' has no [compensation].",
        lambda: hensa.compensate({"id": [1], "n": [1]}, EVENT),
    ),
    asks(
        "compensate",
        "a null id",
        "rows: Column 'id' is null in row 1; every row needs an id.",
        lambda: hensa.compensate({"id": [1, None], "entered": ["2019-12-20"] * 2}, OUTAGE),
    ),
    asks(
        "compensate",
        "an id twice",
        "rows: Row 1 has the id of row 0 again (id 1); every id may stand once.",
        lambda: hensa.compensate({"id": [1, 1], "entered": ["2019-12-20"] * 2}, OUTAGE),
    ),
    asks(
        "restate",
        "a null id",
        "before: Column 'referrer_id' is null in row 1; every row needs an id.",
        lambda: restated(before={**PAID, "referrer_id": [1, None]}),
    ),
    asks(
        "restate",
        "an id twice",
        "after: Row 1 has the id of row 0 again (referrer_id 2); every id may stand once.",
        lambda: restated(after={**PAID, "referrer_id": [2, 2]}),
    ),
    asks(
        "restate",
        "ids of two types",
        "Column 'referrer_id' is of type large_string and int64; ids must be of one type to be matched.",
        lambda: restated(before={**PAID, "referrer_id": ["1", "2"]}),
    ),
    asks(
        "restate",
        "fractions as ids",
        "before: Column 'referrer_id' is of type double; ids must be of integers, text, bool, dates or decimals.",
        lambda: restated(before={**PAID, "referrer_id": [1.0, 2.0]}),
    ),
    asks(
        "restate",
        "fractions as points",
        "after: Column 'reward' is of type double; it must be of integers or whole decimals.",
        lambda: restated(after={**PAID, "reward": [1.0, 2.0]}),
    ),
    asks(
        "restate",
        "points too far apart",
        f"The points of referrer_id 1 are {-(2**63)} before and {2**63 - 1} after, too far for int64.",
        lambda: restated({**PAID, "reward": [-(2**63), 2]}, {**PAID, "reward": [2**63 - 1, 2]}),
    ),
]

MEMBERS = {"member_id": [1, 2], "referrer_id": [None, 1], "registered_at": ["2019-01-01", "2019-09-02"]}
PASSBOOK = {
    "member_id": [2],
    "kind": ["ad"],
    "points": [100],
    "status": ["valid"],
    "used_at": ["2019-09-10"],
    "judged_at": ["2019-10-10"],
}


def ledger(
    given: str,
    sentence: str,
    members: Any = MEMBERS,
    passbook: Any = PASSBOOK,
    gets: type[Exception] = DataError,
    **options: Any,
) -> InPython:
    """A case of `referrer_rows`."""

    def call() -> object:
        pytest.importorskip("duckdb")
        return hensa.referrer_rows(members, passbook, **{"month": "2019-10", **options})

    return asks("referrer_rows", given, sentence, call, gets)


TIMES = "dates and times such as 2019-10-01, 2019-10-01 09:00:00 or 2019-10-01T09:00:00+09:00"
LEDGERS = [
    ledger("members that are none", f"members: rows is a list; {NOT_ROWS}", [1]),
    ledger(
        "members without referrers",
        "members: found 0 columns named 'referrer_id', where exactly one is needed (there are 'member_id'); a mapping "
        "may name another.",
        {"member_id": [1]},
    ),
    ledger(
        "a day that there is not",
        f"members: row 1, column 'registered_at': found '2019-02-30'; allowed: {TIMES}.",
        {**MEMBERS, "registered_at": ["2019-01-01", "2019-02-30"]},
    ),
    ledger(
        "a status that there is not",
        "passbook: row 0, column 'status': found 'vaild'; allowed: 'pending', 'valid', 'rejected', or others that a "
        "mapping names.",
        passbook={**PASSBOOK, "status": ["vaild"]},
    ),
    ledger(
        "points that are not whole",
        "passbook: row 0, column 'points': found '1.5'; allowed: whole numbers within int64.",
        passbook={**PASSBOOK, "points": [1.5]},
    ),
    ledger(
        "points whose sum is beyond int64",
        f"ledger: friend_points of the referrer 1 is {2**62 + 2**63 - 1}, which is beyond int64.",
        passbook={**{name: cells * 2 for name, cells in PASSBOOK.items()}, "points": [2**62, 2**63 - 1]},
    ),
    ledger(
        "a registration twice, strictly",
        "members: a strict run ends at what is messy: 1 duplicate_members (such as 2).",
        {name: [*cells, cells[1]] for name, cells in MEMBERS.items()},
        strict=True,
    ),
    ledger(
        "a null id, strictly",
        "members: a strict run ends at what is messy: 1 members_without_id.",
        {**MEMBERS, "member_id": [1, None]},
        strict=True,
    ),
    ledger(
        "a month that there is not",
        "month is '2019-13'; it must be a year and a month from 1000-02 to 9999-11, such as 2019-10.",
        gets=HensaError,
        month="2019-13",
    ),
    ledger(
        "a time zone that there is not",
        "zone is 'Mars/Olympus'; it must be a name of the IANA database, such as Asia/Tokyo.",
        gets=HensaError,
        zone="Mars/Olympus",
    ),
]

# --- outputs ---------------------------------------------------------------------------------------------------------


def run(
    line: str, give: bytes | None = None, environment: dict[str, str] | None = None, **options: Any
) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-c", CODE, *shlex.split(line)],
        input=give,
        stdin=None if give is not None else subprocess.DEVNULL,
        stdout=options.pop("stdout", subprocess.DEVNULL),
        stderr=subprocess.PIPE,
        env={**os.environ, **(environment or {})},
        timeout=120,
        **options,
    )
    return done.returncode, done.stderr.decode()


def of_bounded_size() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))


def without_privileges() -> None:
    """Root loses the right to read and write every file (CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH), also when it runs
    another program; other users do not have it."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        for capability in (1, 2):
            libc.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP


def forbidden(line: str, path: str) -> tuple[int, str]:
    """Run it while nobody may read or write there."""
    before = Path(path).stat().st_mode
    Path(path).chmod(0o500 if Path(path).is_dir() else 0)
    try:
        return run(line, preexec_fn=without_privileges)
    finally:
        Path(path).chmod(before)


def into_full_device() -> tuple[int, str]:
    if not Path("/dev/full").exists():
        pytest.skip("a device that is always full, as Linux has it")
    with Path("/dev/full").open("wb") as full:
        return run("sample -n 1000 -o -", stdout=full)


def with_closed_pipe() -> tuple[int, str]:
    with subprocess.Popen(
        [sys.executable, "-c", CODE, *shlex.split("sample -n 20_000_000 -o -")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(1000)
        process.stdout.close()
        said = process.stderr.read().decode()
        return process.wait(60), said


def stopped(number: int) -> tuple[int, str]:
    """Run it on a stream that does not end, and send it a signal once its output has begun."""
    with subprocess.Popen(
        [sys.executable, "-c", CODE, *shlex.split("score - -o out.parquet -p three.toml")],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(ipc(pa.table(ROWS), pa.ipc.new_stream)[:200])
        process.stdin.flush()
        deadline = time.monotonic() + 60
        while not list(Path().glob(".*.tmp")) and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(number)
        try:
            return process.wait(60), process.stderr.read().decode()
        finally:
            process.kill()


OUTPUTS = [
    command(
        "a folder for the output",
        "folder.csv: not a file that can be replaced.",
        "score in.csv -o folder.csv -p three.toml",
        files={"folder.csv": None},
    ),
    command(
        "an output in a folder that is not there",
        "gone/out.csv: there is no directory gone.",
        "score in.csv -o gone/out.csv -p three.toml",
    ),
    command(
        "an output that is the input",
        "Invalid value: in.csv is also an input; write to another file",
        "score in.csv -o in.csv -p three.toml",
        gets=2,
    ),
    command(
        "a suffix that says nothing",
        "Invalid value for 'IN': in.xlsx ends in none of .csv, .csv.gz, .parquet, .arrow, .arrows, .feather",
        "score in.xlsx -o out.csv",
        gets=2,
        files={"in.xlsx": "x"},
    ),
    command(
        "a directory where one file is taken",
        "Invalid value for 'IN': . is a directory; this command takes one file",
        "explain . --id 1",
        "compare . -p hapitas-friend -p hapi-tomo",
        gets=2,
    ),
    command("no threads", "Invalid value for '--threads': …", "score in.csv -o out.csv --threads 0", gets=2),
    command("an option that there is not", "No such option: --speed…", "score in.csv -o out.csv --speed 9", gets=2),
    *(
        Process(
            f"an output that may not grow, as on a full disk, for {suffix[1:]}",
            f"`hensa sample -n 300_000 -o out{suffix}`",
            1,
            f"out{suffix}: File too large.",
            lambda suffix=suffix: run(f"sample -n 300_000 -o out{suffix}", preexec_fn=of_bounded_size),
        )
        for suffix in (".csv", ".csv.gz", ".parquet", ".arrow")
    ),
    Process(
        "a device that is full",
        "`hensa sample -n 1000 -o - > /dev/full`",
        1,
        "standard output: No space left on device.",
        into_full_device,
    ),
    Process("a closed pipe", "`hensa sample -n 20_000_000 -o - | head`", 1, "", with_closed_pipe),
    Process(
        "Ctrl-C", "`hensa score - -o out.parquet -p three.toml`", 130, "interrupted.", lambda: stopped(signal.SIGINT)
    ),
    Process(
        "the signal TERM", "`hensa score - -o out.parquet -p three.toml`", 143, "", lambda: stopped(signal.SIGTERM)
    ),
    Process(
        "an input without rights",
        "`hensa score in.csv -o out.csv -p three.toml`",
        1,
        "in.csv: Permission denied.",
        lambda: forbidden("score in.csv -o out.csv -p three.toml", "in.csv"),
    ),
    Process(
        "a program without rights",
        "`hensa score in.csv -o out.csv -p three.toml`",
        1,
        "three.toml: found no readable file (Permission denied); allowed: a TOML file.",
        lambda: forbidden("score in.csv -o out.csv -p three.toml", "three.toml"),
    ),
    Process(
        "a folder without the right to write",
        "`hensa score in.csv -o out.csv -p three.toml`",
        1,
        "out.csv: Permission denied.",
        lambda: forbidden("score in.csv -o out.csv -p three.toml", "."),
    ),
    Process(
        "nothing on standard input",
        "`hensa score - -o out.csv -p three.toml`",
        1,
        "standard input: cannot be read as an Arrow stream: ….",
        lambda: run("score - -o out.csv -p three.toml", b""),
    ),
    Process(
        "CSV on standard input",
        "`hensa score - -o out.csv -p three.toml < in.csv`",
        1,
        "standard input: found text; only an Arrow stream can be piped in, so name the file instead.",
        lambda: run("score - -o out.csv -p three.toml", CSV.encode()),
    ),
    Process(
        "Parquet on standard input",
        "`hensa score - -o out.csv -p three.toml < in.parquet`",
        1,
        "standard input: found Parquet; only an Arrow stream can be piped in, so name the file instead.",
        lambda: run("score - -o out.csv -p three.toml", parquet(arrow())),
    ),
    Process(
        "an Arrow stream that ends too early",
        "`hensa score - -o out.csv -p three.toml`",
        1,
        "standard input: cannot be read as an Arrow stream: ….",
        lambda: run("score - -o out.csv -p three.toml", ipc(pa.table(LARGE), pa.ipc.new_stream)[:5000]),
    ),
    Process(
        "an Arrow stream that was cut off between two batches",
        "`hensa score - -o out.csv -p three.toml`",
        1,
        "standard input: the stream has no end, so it may have been cut off.",
        lambda: run("score - -o out.csv -p three.toml", ipc(pa.table(ROWS), pa.ipc.new_stream)[:-8]),
    ),
    Process(
        "two Arrow streams, one behind the other",
        "`hensa score - -o out.csv -p three.toml`",
        1,
        "standard input: more follows the end of the stream; exactly one stream is read.",
        lambda: run("score - -o out.csv -p three.toml", 2 * ipc(pa.table(ROWS), pa.ipc.new_stream)),
    ),
    Process(
        "a build of the kernels that there is not",
        "`HENSA_KERNEL=x86-64-v9 hensa --version`",
        1,
        "HENSA_KERNEL is 'x86-64-v9', but this CPU runs only ….",
        lambda: run("--version", environment={"HENSA_KERNEL": "x86-64-v9"}),
    ),
]

# --- the structs of the Arrow C interface ----------------------------------------------------------------------------

KEPT: list[Any] = []  # what the structs point to


def pointers(*addresses: int | None) -> Any:
    KEPT.append((ctypes.c_void_p * len(addresses))(*addresses))
    return KEPT[-1]


def releaser(struct: Any) -> int | None:
    """The address of a callback that marks such a struct as released."""

    @ctypes.CFUNCTYPE(None, ctypes.c_void_p)
    def release(address: int) -> None:
        struct.from_address(address).release = None

    KEPT.append(release)
    return ctypes.cast(release, ctypes.c_void_p).value


Schema, Array, Stream = columns._Schema, columns._Array, columns._Stream
RELEASE = {struct: releaser(struct) for struct in (Schema, Array, Stream)}
new_capsule = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)(
    ("PyCapsule_New", ctypes.pythonapi)
)


class Structs:
    """The rows as C structs by name: "rows" and "x" are arrays, "rows schema" and "x schema" their schemas."""

    def __init__(self) -> None:
        schemas, arrays = [], []
        for name, values in ROWS.items():
            data = (ctypes.c_int64 * 3)(*values)
            KEPT.append(data)
            schemas.append(Schema(format=b"l", name=name.encode(), flags=2, release=RELEASE[Schema]))
            buffers = pointers(None, ctypes.addressof(data))
            arrays.append(Array(length=3, n_buffers=2, buffers=buffers, release=RELEASE[Array]))
        inner = pointers(*map(ctypes.addressof, schemas)), pointers(*map(ctypes.addressof, arrays))
        schema = Schema(format=b"+s", name=b"", n_children=3, children=inner[0], release=RELEASE[Schema])
        array = Array(
            length=3, n_buffers=1, n_children=3, buffers=pointers(None), children=inner[1], release=RELEASE[Array]
        )
        self.parts = {"rows": array, "x": arrays[0], "y": arrays[1], "rows schema": schema, "x schema": schemas[0]}
        KEPT.append((self, schemas, arrays))

    def __arrow_c_array__(self, requested_schema: object = None) -> tuple[Any, Any]:
        parts = (self.parts["rows schema"], b"arrow_schema"), (self.parts["rows"], b"arrow_array")
        schema, array = (new_capsule(ctypes.addressof(struct), name, None) for struct, name in parts)
        return schema, array


def spoiled(part: str, **changes: Any) -> Structs:
    structs = Structs()
    for name, value in changes.items():
        setattr(structs.parts[part], name, value)
    return structs


def without_child(part: str) -> Structs:
    structs = Structs()
    structs.parts[part].children[0] = None
    return structs


def within_itself() -> Structs:
    structs = Structs()
    for part in ("rows", "rows schema"):
        structs.parts[part].children[0] = ctypes.addressof(structs.parts[part])
    return structs


def with_buffers(*buffers: bytes | None, **changes: Any) -> Structs:
    """The rows with these buffers for x, the data at an odd address."""
    addresses: list[int | None] = []
    for content in buffers:
        if content is not None:
            memory = ctypes.create_string_buffer(len(content) + 16)
            KEPT.append(memory)
            start = (ctypes.addressof(memory) | 7) + 2
            ctypes.memmove(start, content, len(content))
        addresses.append(start if content is not None else None)
    return spoiled("x", buffers=pointers(*addresses), **changes)


class Streamed:
    """A stream of these arrays; an integer instead of an array is an error."""

    def __init__(self, *items: Structs | int, text: bytes | None = None, **changes: Any) -> None:
        remaining = list(items)

        @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
        def get_schema(stream: int, address: int) -> int:
            ctypes.memmove(address, ctypes.addressof(Structs().parts["rows schema"]), ctypes.sizeof(Schema))
            return 0

        @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
        def get_next(stream: int, address: int) -> int:
            item = remaining.pop(0) if remaining else None
            if isinstance(item, int):
                return item
            array = item.parts["rows"] if item else Array()
            ctypes.memmove(address, ctypes.addressof(array), ctypes.sizeof(Array))
            return 0

        @ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)
        def get_last_error(stream: int) -> int | None:
            return text and ctypes.cast(text, ctypes.c_void_p).value

        callbacks = {"get_schema": get_schema, "get_next": get_next, "get_last_error": get_last_error}
        addresses = {name: ctypes.cast(callback, ctypes.c_void_p) for name, callback in callbacks.items()}
        self.stream = Stream(**{**addresses, "release": RELEASE[Stream], **changes})
        KEPT.append((self, callbacks, text))

    def __arrow_c_stream__(self, requested_schema: object = None) -> Any:
        return new_capsule(ctypes.addressof(self.stream), b"arrow_array_stream", None)


def hostile(given: str, sentence: str, rows: Callable[[], Any], **options: Any) -> Hostile:
    through = "`__arrow_c_stream__`" if "stream" in given else "`__arrow_c_array__`"
    return Hostile(given, through, DataError, f"{UNREADABLE}{sentence}.", rows, options)


def right(given: str, rows: Callable[[], Any]) -> Hostile:
    return Hostile(given, "`__arrow_c_array__`", None, "the right result", rows)


def wrong_capsules(*made: Any) -> Any:
    return SimpleNamespace(__arrow_c_array__=lambda requested_schema=None: made)


WORDS = np.array([1, 2, 3]).tobytes()
RELEASED = "an ArrowSchema or ArrowArray is released"
X, ALL = "the column 'x' of format 'l'", "the array of format '+s'"
CHILD = f"{ALL} has a null pointer where it must have a child"
HOSTILE = [
    hostile("a released array", RELEASED, lambda: spoiled("rows", release=None)),
    hostile("a released column", RELEASED, lambda: spoiled("x", release=None)),
    hostile("a released schema", RELEASED, lambda: spoiled("rows schema", release=None)),
    hostile("no buffers", f"{X} has no buffers", lambda: spoiled("x", buffers=None)),
    hostile("no buffers of the rows", f"{ALL} has no buffers", lambda: spoiled("rows", buffers=None)),
    hostile("a null pointer for the values", "…null data pointer…", lambda: spoiled("x", buffers=pointers(None, None))),
    hostile("a buffer too few", "Expected 2 buffers…1", lambda: spoiled("x", n_buffers=1)),
    hostile("a buffer too many", "Expected 2 buffers…3", lambda: spoiled("x", n_buffers=3)),
    hostile("a negative number of buffers", f"{X} has n_buffers -1", lambda: spoiled("x", n_buffers=-1)),
    hostile("a negative length", f"{X} has length -1", lambda: spoiled("x", length=-1)),
    hostile("rows of a negative length", f"{ALL} has length -1", lambda: spoiled("rows", length=-1)),
    hostile("a negative offset", f"{X} has offset -1", lambda: spoiled("x", offset=-1)),
    hostile("an offset beyond every memory", "…", lambda: spoiled("x", offset=2**63 - 1)),
    hostile("an offset of the rows", "…", lambda: spoiled("rows", offset=1)),
    hostile(
        "a length beyond every memory",
        "…x expected length 3 but got length 2305843009213693952",
        lambda: spoiled("x", length=2**61),
    ),
    hostile("a column shorter than the rows", "…x expected length 3 but got length 2", lambda: spoiled("x", length=2)),
    hostile(
        "a column longer than the rows", "…x expected length 2 but got length 3", lambda: spoiled("rows", length=2)
    ),
    hostile("more nulls than rows", f"{X} has null_count 4, and length 3", lambda: spoiled("x", null_count=4)),
    hostile("less nulls than unknown", f"{X} has null_count -2, and length 3", lambda: spoiled("x", null_count=-2)),
    hostile("nulls without a bitmap", "…null_count 2", lambda: spoiled("x", null_count=2)),
    hostile("a child of a number", f"{X} has n_children 0 and 1", lambda: spoiled("x", n_children=1)),
    hostile("a child too few", f"{ALL} has n_children 3 and 2", lambda: spoiled("rows", n_children=2)),
    hostile("a child too many", f"{ALL} has n_children 3 and 4", lambda: spoiled("rows", n_children=4)),
    hostile(
        "a negative number of children",
        f"{ALL} has n_children -1 and 3",
        lambda: spoiled("rows schema", n_children=-1),
    ),
    hostile("a null pointer for the children", CHILD, lambda: spoiled("rows", children=None)),
    hostile("a null pointer for a child", CHILD, lambda: without_child("rows")),
    hostile("a null pointer for a child's schema", CHILD, lambda: without_child("rows schema")),
    hostile("rows within themselves", "an ArrowSchema is nested too deeply", within_itself),
    hostile("no format", "an ArrowSchema has no format", lambda: spoiled("x schema", format=None)),
    hostile("a format that there is not", "…'???'", lambda: spoiled("x schema", format=b"???")),
    hostile("text that has the buffers of a number", "Expected 3 buffers…2", lambda: spoiled("x schema", format=b"u")),
    hostile("a name that is not UTF-8", "…", lambda: spoiled("x schema", name=b"\xff")),
    hostile(
        "a dictionary that the array lacks",
        f"{X} has a null pointer where it must have a child",
        lambda: spoiled("x schema", dictionary=ctypes.addressof(Structs().parts["x schema"])),
    ),
    hostile("something else than capsules", "…", lambda: wrong_capsules(1, 2)),
    hostile("no pair of capsules", "…", lambda: wrong_capsules()),
    hostile("capsules in the wrong order", "…", lambda: wrong_capsules(*reversed(Structs().__arrow_c_array__()))),
    hostile(
        "a column of a mapping with a negative offset",
        "column 'x': the array of format '+s' has offset -1",
        lambda: {**ROWS, "x": spoiled("rows", offset=-1)},
    ),
    Hostile(
        "a pyarrow array with a negative offset",
        "`pyarrow`",
        DataError,
        "Column 'x' is not a valid Arrow array: its offset is -1.",
        lambda: arrow(x=pa.Array.from_buffers(pa.int64(), 3, [None, pa.py_buffer(bytes(64))], offset=-1)),
    ),
    Hostile(
        "a cohort column whose text points beyond its end",
        "`pyarrow`",
        DataError,
        "Column 'site' is not a valid Arrow array: ….",
        lambda: arrow(site=astray(3)),
        {"by": "site"},
    ),
    hostile(
        "a released stream", "the ArrowArrayStream is released or has no callbacks", lambda: Streamed(release=None)
    ),
    hostile(
        "a stream without callbacks",
        "the ArrowArrayStream is released or has no callbacks",
        lambda: Streamed(get_next=None),
    ),
    hostile(
        "a stream that fails midway",
        "the disk is gone",
        lambda: Streamed(Structs(), errno.EIO, text=b"the disk is gone"),
    ),
    hostile("a stream that fails without a word", "Input/output error", lambda: Streamed(Structs(), errno.EIO)),
    hostile(
        "a stream that cannot say why it fails",
        "Input/output error",
        lambda: Streamed(errno.EIO, get_last_error=None),
    ),
    hostile(
        "a stream with a negative offset midway",
        f"{X} has offset -1",
        lambda: Streamed(Structs(), spoiled("x", offset=-1)),
    ),
    hostile(
        "a stream with a child less midway",
        f"{ALL} has n_children 3 and 2",
        lambda: Streamed(Structs(), spoiled("rows", n_children=2)),
    ),
    right("sound structs", Structs),
    right("an unknown number of nulls", lambda: spoiled("x", null_count=-1)),
    right("values that are not aligned", lambda: with_buffers(None, WORDS)),
    right("values that are not aligned, with an offset", lambda: with_buffers(None, bytes(8) + WORDS, offset=1)),
    right("a bitmap that is not aligned", lambda: with_buffers(b"\x1c", bytes(16) + WORDS, offset=2, null_count=-1)),
]

# --- what is no error ------------------------------------------------------------------------------------------------


def gives(rows: Any, rules: str = TOML, **expected: list[Any]) -> bool:
    """Whether these columns come out, and the same results from the reference."""
    wanted = ["score", "step", "rate", "reward"]
    found = hensa.score(rows, Program.parse(rules), columns=wanted).to_pydict()
    same = reference.score(pa.table(rows), Program.parse(rules), columns=wanted)
    return all(found[name] == expected[name] for name in expected) and all(found[name] == same[name] for name in wanted)


FINE = [
    Fine(
        "no rows",
        "`hensa.score`",
        None,
        "no rows",
        lambda: gives(pa.table({"x": [], "y": [], "b": []}, SCHEMA), score=[]),
    ),
    Fine(
        "a measure that is null in every row",
        "`hensa.score`",
        None,
        "every result is null, and the rows are counted as nulls",
        lambda: (
            gives({**ROWS, "x": [None] * 3}, score=[None] * 3, reward=[None] * 3)
            and hensa.population({**ROWS, "x": [None] * 3}, PROGRAM).nulls == 3
        ),
    ),
    Fine(
        "a null in a measure or in the base",
        "`hensa.score`",
        None,
        "the results of the row are null, and the row is left out of the population",
        # Of x = 1, 3 and y = 1, 3 the mean is 2 and the SD 1.
        lambda: gives({"x": [1, None, 3, 9], "y": [1, 9, 3, 9], "b": [1, 1, 1, None]}, score=[49.0, None, 51.0, None]),
    ),
    Fine(
        "a NaN under a null, or in a row that a null leaves out",
        "`hensa.score`",
        None,
        "it is not read",
        lambda: gives(
            {
                "x": pa.array([1.0, np.nan, 3.0], mask=np.array([False, True, False])),
                "y": [1.0, np.nan, 3.0],
                "b": [1] * 3,
            },
            score=[49.0, None, 51.0],
        ),
    ),
    Fine(
        "negative counts",
        "`hensa.score`",
        None,
        'they are numbers like others, as a deviation of any sign is a legitimate statistic; negative = "error" on the '
        "measure refuses them",
        lambda: gives({"x": [-3, -1], "y": [-1, 1], "b": [0, 0]}, score=[49.0, 51.0]),
    ),
    Fine(
        "a negative base",
        "`hensa.score`",
        None,
        'its reward is negative and rounded like others, as it may correct an earlier one; negative = "error" in '
        "[reward] refuses it",
        # floor(-1001 / 1000) and floor(-15 / 10)
        lambda: gives({"x": [1, 3], "y": [1, 3], "b": [-1001, -15]}, reward=[-2, -2]),
    ),
    Fine(
        "-0.0 where the program refuses what is negative",
        "`hensa.score`",
        None,
        "it is 0",
        lambda: gives({"x": [-0.0, 2.0], "y": [0, 2], "b": [0, 0]}, COUNTS, score=[49.0, 51.0]),
    ),
    Fine(
        "null and repeated ids where rows are scored",
        "`hensa.score`",
        None,
        "no column is an id to hensa: rows are told apart by their place, two rows of one id are two rows, and the "
        "column is passed on as it is",
        lambda: gives(
            {"member": ["a", "a", None, None], "x": [1, 1, 3, 3], "y": [1, 1, 3, 3], "b": [0] * 4},
            member=["a", "a", None, None],
            score=[49.0, 49.0, 51.0, 51.0],
        ),
    ),
    Fine(
        "a measure without variation",
        "`hensa.score`",
        None,
        'it adds the centre; constant = "null" or "error" in [rule] make the scores null or refuse it',
        lambda: gives({"x": [7, 7], "y": [1, 3], "b": [0, 0]}, score=[49.5, 50.5]),
    ),
]
SCHEMA = pa.schema({"x": pa.int64(), "y": pa.int64(), "b": pa.int64()})

# --- the registry ----------------------------------------------------------------------------------------------------

REGISTRY: dict[str, tuple[str, list[Case]]] = {
    "What is no error": ("", FINE),
    "Rows that are none": ("", NONE),
    "Columns and arguments": ("", COLUMNS),
    "Types": ("", TYPES),
    "Values": ("Rows are counted from 0 over all chunks; of a CSV file, the command adds the line.", VALUES),
    "Populations and cohorts": ("", POPULATIONS),
    "Programs": ("", [*WEIGHED, *PROGRAMS]),
    "CSV files": ("Lines are counted from 1, and the header is one.", CSV_FILES),
    "Other files": ("", BINARY_FILES),
    "Explanations and comparisons": ("", EXPLANATIONS),
    "Events and restatements": ("Here ids matter: every row has one of its own.", EVENTS),
    "Ledgers": (
        "What is messy is counted, and kept or dropped by the rules of docs/ledger.md; a strict run refuses it.",
        LEDGERS,
    ),
    "Outputs, pipes and signals": ("", OUTPUTS),
    "Arrow's C structs": (
        "What pyarrow would follow to where there is no memory is refused first. The structs do not say how large the "
        "buffers are: there, and in the contents of metadata, producers are believed.",
        HOSTILE,
    ),
}
INTRODUCTION = """\
# Bad input

What hensa makes of input that is wrong. This file is written by `python tests/test_bad_input.py --write` from the cases
that the same file tests, {count} of them.

- In Python every error is a `HensaError`: a `ProgramError` for rules, a `DataError` for rows and populations. Its text
  is one sentence that names the column, row or key, what was found and what is allowed.
- The command writes that sentence, after `hensa: ` and the name of the file, to standard error. The exit code is 1; it
  is 2 for bad usage, in the words of the usage message, 130 after Ctrl-C and 143 after the signal TERM. There is no
  traceback. (In the first half second Python imports libraries; Ctrl-C then ends it in its own way, with one.)
- An output is written whole or not at all: it takes its place when it is complete. After an error, an earlier file of
  that name is as it was, and nothing else is left behind.

`…` stands for words of pyarrow, Python or the operating system.
"""


def document() -> str:
    """docs/bad-input.md."""
    parts = [INTRODUCTION.format(count=sum(len(cases) for _, cases in REGISTRY.values()))]
    for title, (note, cases) in REGISTRY.items():
        fine = cases is FINE
        rows = ["| given | through | what it gives |" if fine else "| given | through | gets | what is said |"]
        rows.append("| --- " * (3 if fine else 4) + "|")
        for case in cases:
            gets = (
                case.gets.__name__
                if isinstance(case.gets, type)
                else "no error"
                if case.gets is None
                else f"exit {case.gets}"
            )
            said = case.sentence if case.gets is None else f"`{case.sentence}`" if case.sentence else "nothing"
            cells = [case.given, case.through, *([] if fine else [gets]), said]
            rows.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
        parts.append("\n".join([f"## {title}", "", *([note, ""] if note else []), *rows, ""]))
    return "\n".join(parts)


def of(kind: type[Case]) -> Any:
    cases = [case for _, section in REGISTRY.values() for case in section if type(case) is kind]
    return pytest.mark.parametrize("case", cases, ids=str)


def contents(folder: Path) -> dict[str, Any]:
    """Every file below, and how to tell that it was not touched."""
    files = {path: path.stat() for path in folder.rglob("*")}
    return {str(path): path.is_file() and (s.st_ino, s.st_size, s.st_mtime_ns) for path, s in files.items()}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def fill(files: dict[str, Any]) -> None:
    for name, content in files.items():
        made = content() if callable(content) else content
        if made is None:
            Path(name).mkdir()
        else:
            Path(name).write_bytes(made.encode() if isinstance(made, str) else made)


def test_the_document_is_what_the_cases_say():
    assert DOCUMENT.read_text(encoding="utf-8") == document()


def test_every_sentence_is_one_and_ends_with_a_full_stop():
    cases = [case for _, section in REGISTRY.values() for case in section]
    for case in cases:
        assert "\n" not in case.sentence
        assert case.gets in (None, 2) or not case.sentence or re.search(r"[^.]\.$", case.sentence), case
    assert len(cases) >= 50


@of(InPython)
def test_a_call_raises_what_the_document_says(case, build):
    with pytest.raises(HensaError) as error:
        case.call()
    assert type(error.value).__mro__[:-1].count(case.gets) == 1
    assert case.says(str(error.value)), str(error.value)


@of(Fine)
def test_what_is_no_error_gives_what_the_document_says(case, build):
    assert case.check()


@of(Command)
def test_a_command_ends_as_the_document_says_and_leaves_no_trace(case, folder):
    fill(case.files)
    for line, earlier in product(case.lines, (False, True)):
        if earlier:
            fill({"out.csv": "an earlier result\n"})
        before = contents(folder)
        result = typer_testing.CliRunner().invoke(cli.app, shlex.split(line))
        *usage, said = result.stderr.splitlines()
        assert (result.exit_code, result.stdout) == (case.gets, "")
        assert bool(usage) == (case.gets == 2)
        prefix = "Error: " if usage else "hensa: "
        assert said.startswith(prefix)
        assert case.says(said.removeprefix(prefix)), said
        assert contents(folder) == before


@posix
@of(Process)
def test_a_process_ends_as_the_document_says_and_leaves_no_trace(case, folder):
    fill({"three.toml": TOML, "in.csv": CSV, "out.csv": "earlier"})
    before = contents(folder)
    code, said = case.run()
    assert (code, said.count("\n")) == (case.gets, bool(case.sentence))
    assert case.says(said.strip().removeprefix("hensa: ")), said
    assert contents(folder) == before


@cache
def survived() -> dict[str, list[str]]:
    """What each hostile case got, in one other process, as far as that came."""
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", __file__, "--hostile"], capture_output=True, text=True, timeout=300
    )
    got = {given: rest for given, *rest in map(json.loads, done.stdout.splitlines())}
    return got if done.returncode == 0 else {**got, "died": [str(done.returncode), done.stderr]}


def survive() -> None:
    for case in HOSTILE:
        try:
            result = hensa.score(case.rows(), PROGRAM, **case.options).to_pydict()
            outcome = ["", "the right result" if result == reference.score(ROWS, PROGRAM) else str(result)]
        except HensaError as error:
            outcome = [type(error).__name__, str(error)]
        print(json.dumps([case.given, *outcome]), flush=True)


@of(Hostile)
def test_a_hostile_struct_gets_what_the_document_says_and_kills_nobody(case):
    kind, said = survived().get(case.given, survived().get("died", []))
    assert kind == (case.gets.__name__ if case.gets else "")
    assert case.says(said), said


def test_no_hostile_struct_ends_the_process():
    assert "died" not in survived()


def test_rows_in_the_memory_of_a_device_are_refused(monkeypatch):
    far = SimpleNamespace(validate=lambda: None, is_cpu=False)
    monkeypatch.setattr(columns, "_table", lambda rows: far)
    with pytest.raises(
        DataError, match=r"^rows cannot be read .*: they are in the memory of a device; copy them to the"
    ):
        hensa.score(ROWS, PROGRAM)


@pytest.mark.parametrize(
    "type_", [pa.int8(), pa.int64(), pa.float32(), pa.decimal32(9, 2), pa.decimal128(38, 5)], ids=str
)
def test_the_first_negative_value_is_named_whatever_the_type_and_the_chunks(type_, build):
    parts = [[0, 1, None], [], [2, None, -1, -9]]
    rows = pa.table({"x": pa.chunked_array([pa.array(part, pa.int8()).cast(type_) for part in parts], type_)})
    rows = rows.append_column("y", pa.array(range(7))).append_column("b", pa.array(range(7)))
    for call in hensa.population, hensa.score, reference.population, reference.score:
        with pytest.raises(DataError) as error:
            call(rows, Program.parse(COUNTS))
        assert re.fullmatch(rf"Column 'x' is -1(\.0+)? in row 5; {re.escape(REFUSED)}", str(error.value))


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        DOCUMENT.parent.mkdir(exist_ok=True)
        DOCUMENT.write_text(document(), encoding="utf-8")
    elif sys.argv[1:] == ["--hostile"]:
        survive()
    else:
        sys.exit("usage: python tests/test_bad_input.py --write")
