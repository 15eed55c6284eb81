"""`hensa explain` and `hensa next-step`."""

import json
from enum import StrEnum
from typing import Annotated

import pyarrow as pa
import pyarrow.compute as pc

import hensa
from hensa import audit
from hensa.audit import Fingerprints, RecordedPopulation, Rules
from hensa.cli.options import (
    AnyMonth,
    AsJson,
    By,
    MonthThatHolds,
    ProgramName,
    Source,
    Target,
    in_groups,
    keep_apart,
    stored_population,
)
from hensa.counts import Count
from hensa.errors import HensaError
from hensa.files import naming, read, replacing, write
from hensa.program import Program
from hensa.scoring import of_month
from hensa.terminal import Run, explanation_chart, print_text, printer, say, typer

__all__ = ["explain", "next_step"]


class Lang(StrEnum):
    """The language of an explanation."""

    en = "en"
    ja = "ja"


def explain(
    source: Source,
    id: Annotated[str, typer.Option("--id", metavar="ID", help="The row to explain.")],
    id_column: Annotated[str, typer.Option(metavar="NAME", help="The column that --id is in.")] = "referrer_id",
    program: ProgramName = "hapitas-friend",
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
    """Explain one row of IN: its score, rate, points and next step."""
    rules = Program.load(program)
    stored = stored_population(population, by)
    rows = read(source, rules.columns, rules.whole_columns(rules.results))
    with naming(source):
        rows = of_month(rows, rules, month, any_month)
        index = row_of(rows, id_column, id)
        row = {name: rows[name][index].as_py() for name in (*rules.columns, *(by or ())) if name in rows.column_names}
        used = stored if stored is not None else hensa.population(rows, rules, by=by)
        found = hensa.explain(
            row,
            rules,
            used,
            lang.value,
            rate=rate,
            included=population is None if included is None else included,
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


def next_step(
    source: Source,
    output: Target,
    program: ProgramName = "hapitas-friend",
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
    """
    rules = Program.load(program)
    keep_apart(output, source, program, population)
    run, stored = Run(), stored_population(population, by)
    with Fingerprints(source, population) as prints, replacing(output) as file, run.progress:
        with run.stage("read"):
            rows = read(source, rules.columns)
        with run.stage("next step"), naming(source):
            used = stored if stored is not None else hensa.population(rows, rules, by=by)
            found = hensa.to_next_step(rows, rules, used, by, own_effect=own_effect, rate=rate)
        counted = RecordedPopulation.of(used, stored is not None)
        made = audit.NextStep(
            program=Rules.of(rules), population=counted, by=tuple(by or ()), own_effect=own_effect, rate=rate
        )
        record = prints.record(made, (source, rows.num_rows), *counted.file(population))
        with run.stage("write", total=found.num_rows) as advance:
            write(file, output, record.on(found.schema), in_groups(found), advance)
    say(f"{Count(found.num_rows):row}")
    run.report(found.num_rows)


def row_of(rows: pa.Table, name: str, id: str) -> int:
    """The one row with this id, as it would be written."""
    if name not in rows.column_names:
        raise HensaError(
            f"there is no column {name!r} to find a row by; the columns are {', '.join(rows.column_names)}"
        )
    found = pc.indices_nonzero(pc.equal(rows[name].cast(pa.string()), id))
    if len(found) != 1:
        raise HensaError(f"found {Count(len(found)):row} whose {name} is {id}; exactly one is needed")
    return int(found[0].as_py())
