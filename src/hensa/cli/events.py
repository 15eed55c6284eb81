"""`hensa rank`, `hensa restate` and `hensa compensate`."""

import json
from contextlib import suppress
from enum import StrEnum
from typing import Annotated

import pyarrow as pa

import hensa
from hensa import audit
from hensa.audit import Fingerprints, Record, Rules
from hensa.cli.options import (
    DEFAULT_ID,
    AsJson,
    EventFile,
    Source,
    Target,
    check_columns,
    check_ids,
    in_groups,
    keep_apart,
    keep_stdout,
    naming_each,
    readable,
    readable_or_none,
)
from hensa.counts import Count
from hensa.errors import HensaError
from hensa.events import Event, entered_by
from hensa.files import naming, read, replacing, write
from hensa.program import Program
from hensa.scoring import MONTH
from hensa.terminal import Run, boards_of, boards_table, restatement_table, say, show, totals_table, typer
from hensa.totals import total_of

__all__ = ["compensate", "rank", "restate"]


class PolicyName(StrEnum):
    """What is due after a restatement."""

    top_up = "top_up"
    net = "net"


def rank(
    source: Source,
    output: Target,
    event: EventFile,
    top: Annotated[int | None, typer.Option(min=1, metavar="N", help="Only the ranks up to N of each board.")] = None,
    as_json: AsJson = False,
) -> None:
    """Rank the entrants of an event, the rows of IN, on its boards.

    OUT has a row for each board and entrant, with the prizes.

    The event file names the columns and states the boards, the cut-off of entries, the rule for ties and the prizes.
    """
    rules = Event.load(event)
    keep_apart(output, source, event)
    keep_stdout(output, as_json)
    run = Run()
    with Fingerprints(source) as prints, replacing(output) as file, run.progress:
        with run.stage("read"):
            rows = read(source, rules.numbers, rules.numbers)
        with run.stage("rank"), naming(source):
            boards = hensa.rank(rows, rules, top)
            entrants = int(entered_by(rows, rules, rules.entry_until).sum())
        record = prints.record(audit.Rank(event=Rules.read(event), top=top), (source, rows.num_rows))
        with run.stage("write", total=boards.num_rows) as advance:
            write(file, output, record.on(boards.schema), in_groups(boards), advance)
    found = boards_of(boards, [board.name for board in rules.boards])
    if as_json:
        facts = {"event": rules.name, "rows": rows.num_rows, "entered": entrants, "boards": found}
        print(json.dumps(facts, ensure_ascii=False, indent=2))
    else:
        until = f" by {rules.entry_until}" if rules.entry_until else ""
        say(f"{rules.name}: {Count(rows.num_rows):row}, {entrants:,} entered{until}")
        show(boards_table(found))
    run.report(rows.num_rows)


def restate(
    before: Annotated[str, typer.Argument(metavar="BEFORE", callback=readable, help="The run that was paid.")],
    after: Annotated[str, typer.Argument(metavar="AFTER", callback=readable, help="The run on corrected rows.")],
    output: Target,
    policy: Annotated[
        PolicyName, typer.Option(help="top_up: nobody pays back; net: whoever was overpaid does.")
    ] = PolicyName.top_up,
    id_column: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help=f"A column of ids, by default {DEFAULT_ID}; may be given several times."),
    ] = None,
    points: Annotated[str, typer.Option(metavar="NAME", help="The column of points.")] = "reward",
    as_json: AsJson = False,
) -> None:
    """Compare two runs id by id: who was paid too much or little.

    OUT has those rows, and what is due to each.

    Ids are matched over all the columns of --id-column together. A row that is missing on one side counts as 0 points
    there.
    """
    if before == after == "-":
        raise typer.BadParameter("BEFORE and AFTER are both standard input; name a file for one")
    keep_stdout(output, as_json)
    keep_apart(output, before, after)
    run, id = Run(), tuple(id_column or [DEFAULT_ID])
    with Fingerprints(before, after) as prints, replacing(output) as file, run.progress:
        with run.stage("read"):
            (paid, paid_by), (corrected, corrected_by) = (_run(path, points) for path in (before, after))
        for path, rows in ((before, paid), (after, corrected)):
            check_ids(path, rows, *id)
            check_columns(path, rows, [points], "--points names the column of points, by default reward")
        with run.stage("restate"), naming_each(before=before, after=after):
            restatement = hensa.restate(paid, corrected, policy.value, id=id, points=points)
        found = restatement.table
        made = audit.Restate(policy=policy.value, id=id, points=points)
        record = prints.record(made, (before, paid.num_rows), (after, corrected.num_rows))
        with run.stage("write", total=found.num_rows) as advance:
            write(file, output, record.on(found.schema), in_groups(found), advance)
    if as_json:
        summary = {"policy": restatement.policy, "counts": restatement.counts, "totals": restatement.totals}
        print(json.dumps(summary, indent=2))
    else:
        say(restatement.title)
        show(restatement_table(restatement))
    if paid_by and corrected_by and paid_by != corrected_by:
        names = [run.name for run in (paid_by, corrected_by)]
        which = f"two that are named {names[0]}" if names[0] == names[1] else f"{names[0]} before and {names[1]} after"
        say(f"The runs are by different rules: {which}")
    run.report(sum(restatement.counts.values()))


def _run(path: str, points: str) -> tuple[pa.Table, Program | Event | None]:
    """A run with its month, if it has one, and the rules that it was made by, if its record says."""
    table = read(path, [points], [points])
    with suppress(HensaError):  # of a record of another version, say, which is not needed
        record = Record.within(table.schema) if path == "-" else Record.find(path)
        match record and record.run:
            case audit.Score(program=rules, month=month):
                if month is not None:
                    table = table.replace_schema_metadata({**(table.schema.metadata or {}), MONTH: month})
                return table, rules.program
            case audit.Rank(event=rules):
                return table, rules.event
    return table, None


def compensate(
    source: Source,
    output: Target,
    event: EventFile,
    boards: Annotated[
        str | None,
        typer.Option(metavar="FILE", callback=readable_or_none, help="The standing that counts, from `hensa rank`."),
    ] = None,
) -> None:
    """Pay the compensation of an event to the rows of IN.

    OUT has a row for everyone who is paid.

    Those who entered in time are paid a flat sum, and those at the top of a board a sum for each such board, on top.
    """
    rules = Event.load(event)
    if source == boards == "-":
        raise typer.BadParameter("IN and --boards are both standard input; name a file for one")
    keep_apart(output, source, event, boards)
    run = Run()
    with Fingerprints(source, boards) as prints, replacing(output) as file, run.progress:
        with run.stage("read"):
            rows = read(source, ())
            standing = None if boards is None else read(boards, ["rank"], ["rank"])
        with run.stage("compensate"), naming_each(rows=source, boards=boards):
            paid = hensa.compensate(rows, rules, standing)
        inputs = [(source, rows.num_rows), *([(boards, standing.num_rows)] if boards and standing is not None else [])]
        record = prints.record(audit.Compensate(event=Rules.read(event)), *inputs)
        with run.stage("write", total=paid.num_rows) as advance:
            write(file, output, record.on(paid.schema), in_groups(paid), advance)
    say(f"{Count(rows.num_rows):row}, {Count(paid.num_rows):id is|ids are} paid")
    show(totals_table({name: total_of(paid[name]) for name in ("flat", "points")}))
    run.report(rows.num_rows)
