"""What the commands have in common: their arguments and options, and the checks of these."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from pathlib import Path
from typing import Annotated, ParamSpec

import pyarrow as pa

from hensa.audit import Record, Rows, Score, read_population
from hensa.columns import named
from hensa.errors import ColumnError, DataError, HensaError
from hensa.files import FORMATS, ROW_GROUP, format_of, naming, record_path
from hensa.manifest import Manifest
from hensa.population import Population
from hensa.program import days_of
from hensa.scoring import check_counted
from hensa.terminal import typer

__all__ = [
    "DEFAULT",
    "DEFAULT_ID",
    "AnyMonth",
    "AsJson",
    "By",
    "EventFile",
    "Month",
    "MonthThatHolds",
    "ProgramName",
    "Source",
    "Target",
    "Threads",
    "check_columns",
    "check_ids",
    "check_record",
    "in_groups",
    "keep_apart",
    "keep_stdout",
    "monthly",
    "naming_each",
    "not_like_a_table",
    "piped",
    "piped_each",
    "program_by_default",
    "readable",
    "readable_or_none",
    "run_of",
    "stored_population",
    "there",
    "with_format",
    "writable",
    "writable_if_any",
]


_Arguments = ParamSpec("_Arguments")

DEFAULT = "hapitas-friend"
"""The program of a command that is given none."""
DEFAULT_ID = "referrer_id"
"""The column of ids of a command that is given none."""


def with_format(path: str) -> str:
    try:
        format_of(path)
    except HensaError as error:
        raise typer.BadParameter(str(error)) from None
    return path


def there(path: str) -> str:
    """The path, unless it is neither there nor has a suffix that tells what it would be."""
    if path != "-" and not path.lower().endswith(tuple(FORMATS)) and not os.path.exists(path):
        raise typer.BadParameter(f"{path}: there is no such file or directory")
    return path


def piped(path: str) -> str:
    if path == "-" and sys.stdin.isatty():
        raise typer.BadParameter("standard input is a terminal; name a file or pipe an Arrow stream in")
    return path


def piped_each(paths: list[str] | None) -> list[str] | None:
    return None if paths is None else [piped(path) for path in paths]


def readable(path: str) -> str:
    if path != "-" and os.path.isdir(path):
        raise typer.BadParameter(f"{path} is a directory; this command takes one file")
    return with_format(there(piped(path)))


def readable_or_none(path: str | None) -> str | None:
    return None if path is None else readable(path)


def writable(path: str) -> str:
    if path == "-" and sys.stdout.isatty():
        raise typer.BadParameter("standard output is a terminal; name a file or pipe the Arrow stream on")
    return with_format(path)


def writable_if_any(path: str | None) -> str | None:
    return None if path is None else writable(path)


def monthly(month: str | None) -> str | None:
    try:
        if month is not None:
            days_of(month)
    except HensaError as error:
        raise typer.BadParameter(str(error)) from None
    return month


Source = Annotated[
    str, typer.Argument(metavar="IN", callback=readable, help="FILE.csv[.gz], .parquet or .arrow[s]; - is stdin.")
]
Target = Annotated[str, typer.Option("--output", "-o", metavar="OUT", callback=writable, help="Like IN; - is stdout.")]
ProgramName = Annotated[
    str | None,
    typer.Option(
        "--program", "-p", metavar="NAME|FILE", help=f"A built-in program or a TOML file; by default {DEFAULT}."
    ),
]
By = Annotated[list[str] | None, typer.Option(metavar="NAME", help="A cohort column; may be given several times.")]
Month = Annotated[
    str | None,
    typer.Option(metavar="YYYY-MM", callback=monthly, help="The month that is paid; kept in OUT's metadata."),
]
MonthThatHolds = Annotated[
    str | None, typer.Option(metavar="YYYY-MM", callback=monthly, help="A month that the program must hold in.")
]
AnyMonth = Annotated[bool, typer.Option("--any-month", help="Allow a month outside of the program's dates.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout instead of text.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Default: the CPUs this process may use.")]
EventFile = Annotated[str, typer.Option("--event", "-e", metavar="FILE", help="The rules of the event, in TOML.")]


def program_by_default(command: Callable[_Arguments, None]) -> Callable[_Arguments, None]:
    """Make an error about a column that the default program reads say that it is the default."""

    @wraps(command)
    def telling(*args: _Arguments.args, **options: _Arguments.kwargs) -> None:
        try:
            command(*args, **options)
        except HensaError as error:
            cause: BaseException | None = error
            while cause is not None and not isinstance(cause, ColumnError):
                cause = cause.__cause__
            if cause is None or cause.program != DEFAULT or options["program"] is not None:
                raise
            told = f"{DEFAULT} is the default program, and --program (-p) names another"
            raise HensaError(f"{str(error).rstrip('.')}; {told}.") from error

    return telling


def check_columns(path: str, rows: pa.Table, names: Iterable[str], option: str) -> None:
    """Refuse rows without the columns that an option names, and say what it does."""
    with naming(path):
        try:
            for name in names:
                named(rows, name)
        except ColumnError as error:
            raise HensaError(f"{str(error).rstrip('.')}; {option}.") from error


def check_ids(path: str, rows: pa.Table, *names: str) -> None:
    """Refuse rows without the columns that tell them apart."""
    check_columns(path, rows, names, f"--id-column names the column of ids, by default {DEFAULT_ID}")


def not_like_a_table(path: str, what: str) -> str:
    """The path, unless it is named like what it will not be."""
    if path.lower().endswith(tuple(FORMATS)):
        raise typer.BadParameter(f"{path} is named like a table, and {what}")
    return path


def keep_apart(output: str, *inputs: str | None) -> None:
    for written in (output, str(record_path(Path(output).resolve()))):
        for path in inputs:
            if path and os.path.exists(path) and os.path.exists(written) and os.path.samefile(path, written):
                raise typer.BadParameter(f"{written} is also an input; write to another file")


def keep_stdout(output: str | None, as_json: bool) -> None:
    if as_json and output == "-":
        raise typer.BadParameter("--json and the rows both want standard output; name a file with -o")


def stored_population(path: str | None, by: list[str] | None) -> Population | None:
    """The population of a file; one with cohorts is for rows of the same cohorts."""
    if path is None:
        return None
    stored = read_population(path)
    if stored.by and not by:
        wanted = " ".join(f"--by {name}" for name in stored.by)
        raise typer.BadParameter(f"{path} has cohorts; it is for {wanted}, and without that take one without --by")
    return stored


def check_record(path: str, month: str | None, any_month: bool) -> None:
    """Refuse CSV that `hensa rows` counted for another month, by the record beside it; other files have it inside."""
    if month is None or format_of(path) != "csv":
        return
    record = None
    with suppress(HensaError):  # of a record of another version, say, which is not needed
        record = Record.find(path)
    if record is not None and isinstance(record.run, Rows):
        with naming(path):
            check_counted(record.run.month, month, any_month)


def run_of(source: str, rows: pa.Table | None) -> Score | None:
    """The run that scored a file, or the rows of a stream, if it or its dataset has a record of one."""
    with naming(source):
        record = Record.find(source) if rows is None else Record.within(rows.schema)
        if record is None and rows is None and (listed := Manifest.listing(source)) is not None:
            record = listed[1].record
    return record.run if record is not None and isinstance(record.run, Score) else None


@contextmanager
def naming_each(**paths: str | None) -> Iterator[None]:
    """Make errors that start with the name of an argument start with its file instead."""
    try:
        yield
    except DataError as error:
        argument, _, message = str(error).partition(": ")
        path = paths.get(argument)
        if path is None:
            raise
        with naming(path):
            raise DataError(message) from error


def in_groups(table: pa.Table) -> Iterator[pa.Table]:
    return (table.slice(start, ROW_GROUP) for start in range(0, table.num_rows, ROW_GROUP))
