"""`hensa explain` and `hensa next-step`."""

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

import pyarrow as pa
import pyarrow.compute as pc

import hensa
from hensa import audit
from hensa.audit import COHORTS, Fingerprints, RecordedPopulation, Rules
from hensa.cli.options import (
    DEFAULT,
    DEFAULT_ID,
    AnyMonth,
    AsJson,
    By,
    MonthThatHolds,
    Source,
    Target,
    check_ids,
    check_record,
    in_groups,
    keep_apart,
    program_by_default,
    run_of,
    stored_population,
)
from hensa.counts import Count
from hensa.errors import HensaError
from hensa.files import naming, read, replacing, write
from hensa.fragments import directory_columns
from hensa.manifest import Manifest
from hensa.population import Population
from hensa.program import Program
from hensa.scoring import of_month
from hensa.terminal import Run, explanation_chart, print_text, printer, say, typer

__all__ = ["explain", "next_step"]


PaidBy = Annotated[
    str | None,
    typer.Option(
        "--program",
        "-p",
        metavar="NAME|FILE",
        help="A built-in program or a TOML file.",
        show_default=f"the one that IN was scored by, as its record says; without one, {DEFAULT}",
    ),
]


class Lang(StrEnum):
    """The language of an explanation."""

    en = "en"
    ja = "ja"


@program_by_default
def explain(
    source: Source,
    id: Annotated[str, typer.Option("--id", metavar="ID", help="The row to explain.")],
    id_column: Annotated[str, typer.Option(metavar="NAME", help="The column of ids.")] = DEFAULT_ID,
    program: PaidBy = None,
    lang: Annotated[Lang, typer.Option(help="Language of the text.")] = Lang.en,
    rate: Annotated[
        str | None, typer.Option(metavar="RATE", help="Also what it takes to get this rate, such as 27.5 for 27.5%.")
    ] = None,
    by: By = None,
    population: Annotated[
        str | None, typer.Option(metavar="FILE.json", help="Explain against this population instead of the rows' own.")
    ] = None,
    included: Annotated[
        bool | None,
        typer.Option(
            "--included/--apart",
            help="Whether the row is one of the population's.",
            show_default="--apart with --population",
        ),
    ] = None,
    month: MonthThatHolds = None,
    any_month: AnyMonth = False,
    as_json: AsJson = False,
) -> None:
    """Explain one row of IN: its score, rate, points and next step.

    Rows that `score` wrote are explained as they were paid: by the program, cohorts, population and month of the record
    in the file, beside it or in the manifest of its dataset, unless other ones are named.
    """
    stored = stored_population(population, by)
    basis = basis_of(source, program, by, stored, lambda rules: rules.whole_columns(rules.results), directories=True)
    rules, by = basis.program, basis.by
    if basis.run is not None and month is None:
        month, any_month = basis.run.month, basis.run.any_month
    check_record(source, month, any_month)
    check_ids(source, basis.rows, id_column)
    with naming(source):
        rows = of_month(basis.rows, rules, month, any_month)
        index = row_of(rows, id_column, id)
        row = {name: rows[name][index].as_py() for name in (*rules.columns, *(by or ())) if name in rows.column_names}
        found = hensa.explain(
            row,
            rules,
            basis.population,
            lang.value,
            rate=rate,
            included=basis.is_among if included is None else included,
            by=by,
            month=month,
            any_month=any_month,
        )
    if as_json:
        print(json.dumps(found.to_dict(), ensure_ascii=False, indent=2))
    else:
        print_text(str(found))
        if printer.is_terminal and (chart := explanation_chart(found.to_dict(), rules, lang.value)) is not None:
            printer.print("", chart)


@program_by_default
def next_step(
    source: Source,
    output: Target,
    program: PaidBy = None,
    own_effect: Annotated[
        bool,
        typer.Option(
            "--own-effect",
            help="Let each row's own number move the mean and SD too, as the second number of explain does.",
        ),
    ] = False,
    by: By = None,
    population: Annotated[
        str | None, typer.Option(metavar="FILE.json", help="Score against this population instead of the rows' own.")
    ] = None,
    rate: Annotated[
        str | None, typer.Option(metavar="RATE", help="Also what it takes to get this rate, such as 27.5 for 27.5%.")
    ] = None,
) -> None:
    """Tell for each row of IN what takes it to its next step.

    OUT has the rows and how many more of each measure it takes, with the mean and SD held fixed; with --own-effect, as
    each row's own number moves them too. With --by, those of the row's own cohort.

    Rows that `score` wrote go by the program, cohorts and population of their record, as in `explain`.
    """
    keep_apart(output, source, program, population)
    run, stored = Run(), stored_population(population, by)
    with Fingerprints(source, population) as prints, replacing(output) as file, run.progress:
        with run.stage("read"):
            basis = basis_of(source, program, by, stored)
        rows, rules, used, by = basis.rows, basis.program, basis.population, basis.by
        with run.stage("next step"), naming(source):
            found = hensa.to_next_step(rows, rules, used, by, own_effect=own_effect, rate=rate)
        counted = RecordedPopulation.of(used, not basis.is_own)
        made = audit.NextStep(
            program=Rules.of(rules), population=counted, by=tuple(by or ()), own_effect=own_effect, rate=rate
        )
        record = prints.record(made, (source, rows.num_rows), *counted.file(population))
        with run.stage("write", total=found.num_rows) as advance:
            write(file, output, record.on(found.schema), in_groups(found), advance)
    say(f"{Count(found.num_rows):row}")
    run.report(found.num_rows)


@dataclass(frozen=True)
class Basis:
    """What the rows of a file are explained by.

    Parameters
    ----------
    rows : pyarrow.Table
        All of them.
    program : Program
        The rules.
    population : Population
        What they are scored against.
    by : list of str, optional
        Its cohort columns.
    is_own : bool
        Whether it is that of these very rows.
    is_among : bool
        Whether the rows are among those it was taken of.
    run : audit.Score, optional
        The run that paid the rows by all this.
    """

    rows: pa.Table
    program: Program
    population: Population
    by: list[str] | None
    is_own: bool
    is_among: bool
    run: audit.Score | None = None


def basis_of(
    source: str,
    program: str | None,
    by: list[str] | None,
    stored: Population | None,
    whole: Callable[[Program], Collection[str]] = lambda rules: (),
    directories: bool = False,
) -> Basis:
    """Rows and what is named; the rest is as the record of the rows says, if they were scored by this program.

    The rows of a part of a dataset may get the columns that are in the names of its directories.
    """
    named = None if program is None else Program.load(program)
    rows = read(source, ()) if source == "-" else None  # a stream comes but once, and its record with it
    try:
        run = run_of(source, rows)
    except HensaError:
        if named is None:
            raise
        run = None  # a record of another version, say, which is not needed
    if named is not None:
        rules = named
    else:
        with naming(source):
            rules = Program.load(DEFAULT) if run is None else run.program.program
    if run is not None and named is not None and Rules.of(named) != run.program:
        paid_by = run.program.program.name
        which = f"another program named {paid_by}" if paid_by == named.name else f"{paid_by}, and not by {named.name}"
        say(f"{'standard input' if source == '-' else source} was scored by {which}.")
        run = None
    if rows is None:
        rows = read(source, rules.columns, whole(rules))
        if directories:
            rows = with_directories(source, rows)
    if stored is not None:
        return Basis(rows, rules, stored, by, is_own=False, is_among=False)
    with naming(source):
        if run is None or (by is not None and tuple(by) != run.by):
            return Basis(rows, rules, hensa.population(rows, rules, by=by), by, is_own=True, is_among=True)
        is_among, by = run.population.source == "rows", list(run.by) or None
        if is_among:
            own = hensa.population(rows, rules, by=by)
            if RecordedPopulation.of(own) == run.population:
                return Basis(rows, rules, own, by, is_own=True, is_among=True, run=run)
        if run.population.cohorts > COHORTS:
            raise HensaError(
                f"the rows were scored against another population than their own, and its {run.population.cohorts:,} "
                "cohorts are not in the record; name the file that has them with --population"
            )
        return Basis(rows, rules, run.population.stored(None), by, is_own=False, is_among=is_among, run=run)


def with_directories(source: str, rows: pa.Table) -> pa.Table:
    """The rows of a part of a dataset with the columns that are in the names of its directories; others as they are."""
    listed = Manifest.listing(source)
    if listed is not None:
        _, manifest, part = listed
        place = manifest.parts.index(part)
        for name, values in directory_columns([each.file for each in manifest.parts]).items():
            rows = rows.append_column(name, pa.repeat(values[place], rows.num_rows))
    return rows


def row_of(rows: pa.Table, name: str, id: str) -> int:
    """The one row with this id, as it would be written."""
    found = pc.indices_nonzero(pc.equal(rows[name].cast(pa.string()), id))
    if len(found) != 1:
        other = "; --id-column names another column of ids" if len(found) else ""
        raise HensaError(f"found {Count(len(found)):row} whose {name} is {id}; exactly one is needed{other}")
    return int(found[0].as_py())
