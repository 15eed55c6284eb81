"""The command `hensa`: arguments in, library calls, tables and bars out.

Data goes to standard output, messages to standard error. Exit codes: 0 done, 1 the data or the run failed, 2 bad usage.
"""

import gc
import json
import os
import platform
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from decimal import Decimal
from enum import StrEnum
from functools import partial
from io import TextIOWrapper
from itertools import pairwise
from json import dumps
from pathlib import Path
from time import perf_counter
from typing import Annotated, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

import hensa
from hensa import audit, kernels
from hensa.audit import Fingerprints, Record, RecordedPopulation, Rules, read_population
from hensa.comparison import EDGES
from hensa.errors import DataError, HensaError
from hensa.events import Event, entered_by
from hensa.files import FORMATS, ROW_GROUP, RowGroups, format_of, naming, read, record_path, replacing, write
from hensa.ledger import FINDINGS, FriendLedger, Ledger
from hensa.program import PerEvent, Program, RateTable, Rule, Stages, StandardScore, Step, days_of
from hensa.sample import sample as make_sample
from hensa.sample import sample_ledger
from hensa.terminal import (
    Commands,
    Run,
    Stop,
    Summary,
    bands_table,
    boards_table,
    cohorts,
    console,
    costs_table,
    ending,
    moments_table,
    plain_table,
    printer,
    say,
    total_of,
    totals_table,
    typer,
    winners_table,
)
from hensa.threads import cpus

__all__ = ["app", "main"]


app = typer.Typer(
    cls=Commands, add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True, rich_markup_mode=None
)
programs = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="List, show and check programs (the rules).")
app.add_typer(programs, name="programs")


def readable(path: str) -> str:
    return with_format(piped(path))


def piped(path: str) -> str:
    if path == "-" and sys.stdin.isatty():
        raise typer.BadParameter("standard input is a terminal; name a file or pipe an Arrow stream in")
    return path


def piped_each(paths: list[str] | None) -> list[str] | None:
    return None if paths is None else [piped(path) for path in paths]


def readable_or_none(path: str | None) -> str | None:
    return None if path is None else readable(path)


def writable(path: str) -> str:
    if path == "-" and sys.stdout.isatty():
        raise typer.BadParameter("standard output is a terminal; name a file or pipe the Arrow stream on")
    return with_format(path)


def monthly(month: str | None) -> str | None:
    try:
        if month is not None:
            days_of(month)
    except HensaError as error:
        raise typer.BadParameter(str(error)) from None
    return month


def writable_if_any(path: str | None) -> str | None:
    return None if path is None else writable(path)


def version(wanted: bool) -> None:
    if wanted:
        with ending():
            print(f"hensa {hensa.__version__}, kernel {kernels.name}")
            print(f"Python {platform.python_version()}, pyarrow {pa.__version__}, numpy {np.__version__}")
        raise typer.Exit


Source = Annotated[
    str, typer.Argument(metavar="IN", callback=readable, help="FILE.csv[.gz], .parquet or .arrow; - is stdin.")
]
Target = Annotated[str, typer.Option("--output", "-o", metavar="OUT", callback=writable, help="Like IN; - is stdout.")]
ProgramName = Annotated[
    str, typer.Option("--program", "-p", metavar="NAME|FILE", help="A built-in program or a TOML file.")
]
By = Annotated[list[str] | None, typer.Option(metavar="NAME", help="A cohort column; may be given several times.")]
Month = Annotated[
    str | None,
    typer.Option(metavar="YYYY-MM", callback=monthly, help="The month that is paid; kept in OUT's metadata."),
]
AnyMonth = Annotated[bool, typer.Option("--any-month", help="Allow a month outside of the program's dates.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Default: the CPUs this process may use.")]


EventFile = Annotated[str, typer.Option("--event", "-e", metavar="FILE", help="The rules of the event, in TOML.")]


class PolicyName(StrEnum):
    """What is due after a restatement."""

    top_up = "top_up"
    net = "net"


class Method(StrEnum):
    """How the moments are computed."""

    auto = "auto"
    exact = "exact"
    welford = "welford"


class Lang(StrEnum):
    """The language of an explanation."""

    en = "en"
    ja = "ja"


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", callback=version, is_eager=True)] = False,
) -> None:
    """Score populations: the mean and SD over all rows give every row a score, a rate and reward points."""


@app.command()
def score(
    source: Source,
    output: Target,
    program: ProgramName = "hapitas-friend",
    columns: Annotated[
        str | None,
        typer.Option(metavar="NAME,...", help="Of score, step, rate, reward, MEASURE_score or stage."),
    ] = None,
    by: By = None,
    threads: Threads = None,
    population: Annotated[
        str | None, typer.Option(metavar="FILE.json", help="Score against this population instead of the rows' own.")
    ] = None,
    month: Month = None,
    any_month: AnyMonth = False,
) -> None:
    """Score the rows of IN and write them to OUT with the new columns added.

    From CSV, columns that the program does not read pass through unchanged, as text unless they are plain integers.
    With --by, each row is scored against the rows of its own cohort.
    """
    rules = Program.load(program)
    if month is not None:
        rules.check_month(month, any_month)
    wanted = [name.strip() for name in columns.split(",")] if columns else list(rules.results)
    keep_apart(output, source, program, population)
    run, stored = Run(), read_population(population) if population else None
    pay = partial(hensa.score, program=rules, by=by, columns=wanted, month=month, any_month=any_month)

    def recorded(used: hensa.Population, schema: pa.Schema, n_rows: int) -> pa.Schema:
        counted = RecordedPopulation.of(used, stored is not None)
        made = audit.Score(
            program=Rules.of(rules),
            columns=tuple(wanted),
            by=tuple(by or ()),
            month=month,
            any_month=any_month,
            population=counted,
        )
        return prints.record(made, (source, n_rows), *counted.file(population)).on(schema)

    def pay_whole() -> tuple[hensa.Population, Summary]:
        with run.stage("read"):
            rows = read(source, rules.columns)
        with run.stage("score"), naming(source):
            used = stored if stored is not None else hensa.population(rows, rules, by=by, threads=threads)
            # Cohorts of the rows themselves are scored faster when score() takes them itself.
            paid = pay(rows, population=None if by and stored is None else used, threads=threads)
        with run.stage("write", total=paid.num_rows) as advance:
            write(file, output, recorded(used, paid.schema, paid.num_rows), in_groups(paid), advance, threads)
        summary = Summary(rules, wanted)
        summary.add(paid)
        return used, summary

    def pay_parts(groups: RowGroups) -> tuple[hensa.Population, Summary]:
        """In bounded memory, but for the columns that the program reads while the population is taken.

        Every thread reads, scores and encodes parts of its own.
        """
        with run.stage("read"):
            rows = groups.columns(rules.columns) if stored is None else None
        with run.stage("score"):
            used = stored if stored is not None else hensa.population(rows, rules, threads=threads)
            del rows
            schema = recorded(
                used, pay(pa.Table.from_batches([], groups.schema), population=used).schema, groups.num_rows
            )
        summary, seconds = Summary(rules, wanted), []

        def part(span: list[int]) -> pa.Table:
            started = perf_counter()
            own = groups.part(span)
            scoring = perf_counter()
            paid = pay(own, population=used, threads=1)
            seconds.append((scoring - started, perf_counter() - scoring))
            summary.add(paid)
            return paid

        with run.stage("write", total=groups.num_rows) as advance:
            write(file, output, schema, (partial(part, span) for span in groups.spans), advance, threads)
        # The threads did all three side by side: of each, its share of the time that passed.
        for name, spent in zip(("read", "score"), zip(*seconds, strict=True), strict=True):
            run.share(name, sum(spent) / (threads or cpus()), of="write")
        return used, summary

    with Fingerprints(source, population) as prints, replacing(output) as file, run.progress:
        done = None
        if rules.measures and not by and format_of(source) == format_of(output) == "parquet":
            groups = RowGroups(source)
            # Fewer parts keep the threads busy less evenly than single columns do.
            if len(groups.spans) >= 4 * (threads or cpus()):
                try:
                    done = pay_parts(groups)
                except HensaError:  # names a row by its place in a part; what all rows raise names it in the file
                    file.seek(0)
                    file.truncate()
        used, summary = done or pay_whole()
    say(f"{summary.n_rows:,} rows, {summary.nulls:,} of them null{cohorts(used)}")
    if isinstance(rules.rule, Stages) and rules.rule.bonuses and rules.rule.previous not in summary.columns:
        say(f"No bonuses: there is no column {rules.rule.previous}, which tells the stage before.")
    tables = [moments_table(used)] if rules.measures else []
    if "rate" in wanted:
        tables.append(bands_table(rules.rate_table, summary.rates))
    if summary.totals:
        tables.append(totals_table(summary.totals))
    for table in tables:
        console.print(table, "")
    run.report(summary.n_rows)


@app.command()
def population(
    source: Source,
    output: Annotated[str, typer.Option("--output", "-o", metavar="FILE.json", help="Default: stdout.")] = "-",
    program: ProgramName = "hapitas-friend",
    by: By = None,
    method: Annotated[Method, typer.Option(help="How the moments are computed.")] = Method.auto,
    threads: Threads = None,
) -> None:
    """Take the count, mean and SD of each measure over the rows of IN, as JSON that `score --population` reads."""
    rules = Program.load(program)
    keep_apart(output, source, program)
    run = Run()
    with Fingerprints(source) as prints, replacing(output) as file:
        with run.progress:
            with run.stage("read"):
                rows = read(source, rules.columns)
            with run.stage("population"), naming(source):
                taken = hensa.population(rows, rules, by=by, method=method.value, threads=threads)
        file.write(f"{taken.to_json()}\n".encode())
        made = audit.TakePopulation(program=Rules.of(rules), by=tuple(by or ()), method=method.value)
        prints.record(made, (source, rows.num_rows)).beside(file, output)
    say(f"{rows.num_rows:,} rows, {taken.nulls:,} of them null{cohorts(taken)}")
    if rules.measures:
        console.print(moments_table(taken), "")
    run.report(rows.num_rows)


@app.command()
def rank(
    source: Source,
    output: Target,
    event: EventFile,
    top: Annotated[int | None, typer.Option(min=1, metavar="N", help="Only the ranks up to N of each board.")] = None,
) -> None:
    """Rank the entrants of an event (the rows of IN) on its boards: one row of OUT per board and entrant, with prizes.

    The event file names the columns and states the boards, the cut-off of entries, the rule for ties and the prizes.
    """
    rules = Event.load(event)
    keep_apart(output, source, event)
    run = Run()
    with Fingerprints(source) as prints, replacing(output) as file, run.progress:
        with run.stage("read"):
            rows = read(source, rules.numbers)
        with run.stage("rank"), naming(source):
            boards = hensa.rank(rows, rules, top)
            entrants = int(entered_by(rows, rules, rules.entry_until).sum())
        record = prints.record(audit.Rank(event=Rules.read(event), top=top), (source, rows.num_rows))
        with run.stage("write", total=boards.num_rows) as advance:
            write(file, output, record.on(boards.schema), in_groups(boards), advance)
    until = f" by {rules.entry_until}" if rules.entry_until else ""
    say(f"{rows.num_rows:,} rows, {entrants:,} entered{until}")
    console.print(boards_table(boards, [board.name for board in rules.boards]), "")
    run.report(rows.num_rows)


@app.command()
def restate(
    before: Annotated[str, typer.Argument(metavar="BEFORE", callback=readable, help="The run that was paid.")],
    after: Annotated[str, typer.Argument(metavar="AFTER", callback=readable, help="The run on corrected rows.")],
    output: Target,
    policy: Annotated[
        PolicyName, typer.Option(help="top_up: nobody pays back; net: whoever was overpaid does.")
    ] = PolicyName.top_up,
    id: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A column of ids; may be given several times.", show_default="referrer_id"),
    ] = None,
    points: Annotated[str, typer.Option(metavar="NAME", help="The column of points.")] = "reward",
    json: Annotated[bool, typer.Option("--json", help="The summary on stdout, as JSON.")] = False,
) -> None:
    """Compare two runs id by id: OUT has those who were paid too little or too much, and what is due to each.

    Ids are matched over all the columns of --id together. A row that is missing on one side counts as 0 points there.
    """
    if before == after == "-":
        raise typer.BadParameter("BEFORE and AFTER are both standard input; name a file for one")
    if json and output == "-":
        raise typer.BadParameter("--json and the rows both want standard output; name a file with -o")
    keep_apart(output, before, after)
    run = Run()
    with Fingerprints(before, after) as prints, replacing(output) as file, run.progress:
        with run.stage("read"):
            paid, corrected = (read(path, [points]) for path in (before, after))
        with run.stage("restate"), naming_each(before=before, after=after):
            restatement = hensa.restate(paid, corrected, policy.value, id=id or "referrer_id", points=points)
        found = restatement.table
        made = audit.Restate(policy=policy.value, id=tuple(id or ["referrer_id"]), points=points)
        record = prints.record(made, (before, paid.num_rows), (after, corrected.num_rows))
        with run.stage("write", total=found.num_rows) as advance:
            write(file, output, record.on(found.schema), in_groups(found), advance)
    say(repr(restatement))
    if json:
        summary = {"policy": restatement.policy, "counts": restatement.counts, "totals": restatement.totals}
        print(dumps(summary, indent=2))
    run.report(sum(restatement.counts.values()))


@app.command()
def compensate(
    source: Source,
    output: Target,
    event: EventFile,
    boards: Annotated[
        str | None,
        typer.Option(metavar="FILE", callback=readable_or_none, help="The standing that counts, from `hensa rank`."),
    ] = None,
) -> None:
    """Pay the compensation of an event to the entrants (the rows of IN): one row of OUT for everyone who is paid.

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
            standing = None if boards is None else read(boards, ["rank"])
        with run.stage("compensate"), naming_each(rows=source, boards=boards):
            paid = hensa.compensate(rows, rules, standing)
        inputs = [(source, rows.num_rows), *([(boards, standing.num_rows)] if boards and standing is not None else [])]
        record = prints.record(audit.Compensate(event=Rules.read(event)), *inputs)
        with run.stage("write", total=paid.num_rows) as advance:
            write(file, output, record.on(paid.schema), in_groups(paid), advance)
    say(f"{rows.num_rows:,} rows, {paid.num_rows:,} ids are paid")
    console.print(totals_table({name: total_of(paid[name]) for name in ("flat", "points")}), "")
    run.report(rows.num_rows)


@app.command()
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
    as_json: AsJson = False,
) -> None:
    """Explain one row of IN in plain sentences: its score, rate and points, and what the next step takes."""
    rules = Program.load(program)
    rows = read(source, rules.columns)
    with naming(source):
        index = row_of(rows, id_column, id)
        row = {name: rows[name][index].as_py() for name in (*rules.columns, *(by or ())) if name in rows.column_names}
        used = read_population(population) if population else hensa.population(rows, rules, by=by)
        if by:
            key = tuple(row.get(name) for name in by)
            if key not in used.cohorts:
                raise HensaError(f"the population has no cohort {', '.join(map(str, key))}")
            used = used.cohorts[key]
        found = hensa.explain(
            row, rules, used, lang.value, rate=rate, included=population is None if included is None else included
        )
    print(json.dumps(found.to_dict(), ensure_ascii=False, indent=2) if as_json else found)


@app.command()
def next_step(
    source: Source,
    output: Target,
    program: ProgramName = "hapitas-friend",
    own_effect: Annotated[
        bool, typer.Option("--own-effect", help="Let each row's own number move the mean and SD too.")
    ] = False,
    population: Annotated[
        str | None, typer.Option(metavar="FILE.json", help="Score against this population instead of the rows' own.")
    ] = None,
) -> None:
    """Write the rows of IN to OUT with how many more of each measure take them to their next step."""
    rules = Program.load(program)
    keep_apart(output, source, program, population)
    run = Run()
    with Fingerprints(source, population) as prints, replacing(output) as file, run.progress:
        with run.stage("read"):
            stored = read_population(population) if population else None
            rows = read(source, rules.columns)
        with run.stage("next step"), naming(source):
            used = stored if stored is not None else hensa.population(rows, rules)
            found = hensa.to_next_step(rows, rules, used, own_effect)
        counted = RecordedPopulation.of(used, stored is not None)
        made = audit.NextStep(program=Rules.of(rules), own_effect=own_effect, population=counted)
        record = prints.record(made, (source, rows.num_rows), *counted.file(population))
        with run.stage("write", total=found.num_rows) as advance:
            write(file, output, record.on(found.schema), in_groups(found), advance)
    say(f"{found.num_rows:,} rows")
    run.report(found.num_rows)


@app.command()
def compare(
    source: Source,
    program: Annotated[
        list[str],
        typer.Option("--program", "-p", metavar="NAME|FILE", help="Give two or more; the first is compared with."),
    ],
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="OUT", callback=writable_if_any, help="The rows, with each reward."),
    ] = None,
    band: Annotated[
        str | None, typer.Option(metavar="NAME", help="Also by bands of this column, such as a number of friends.")
    ] = None,
    edges: Annotated[str, typer.Option(metavar="N,...", help="Where the bands begin.")] = ",".join(map(str, EDGES)),
    budget: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Also the last program, its rates scaled to N points.")
    ] = None,
    scaled: Annotated[str | None, typer.Option(metavar="FILE.toml", help="Write that program to a file.")] = None,
    as_json: AsJson = False,
    threads: Threads = None,
) -> None:
    """Pay the rows of IN under several programs: who gains, who loses, by how much, and the cost of each."""
    if not re.fullmatch("-?[0-9]+(,-?[0-9]+)*", edges):
        raise typer.BadParameter(f"--edges is {edges}; it must be whole numbers such as 1,10,100")
    if as_json and output == "-":
        raise typer.BadParameter("--json and --output - both write to standard output; give one")
    if scaled and budget is None:
        raise typer.BadParameter("--scaled writes what --budget finds; give both")
    rules = [Program.load(name) for name in program]
    for written in filter(None, (output, scaled)):
        keep_apart(written, source, *program)
    solution = None
    with ExitStack() as stack:
        run = Run()
        prints = stack.enter_context(Fingerprints(source))
        file = stack.enter_context(replacing(output)) if output else None
        scaled_file = stack.enter_context(replacing(scaled)) if scaled else None
        stack.enter_context(run.progress)
        with run.stage("read"):
            rows = read(source, [*(column for rule in rules for column in rule.columns), *([band] if band else [])])
        with run.stage("compare"), naming(source):
            if budget is not None:
                solution = hensa.solve(rows, rules[-1], budget, threads=threads)
                rules.append(solution.program)
            found = hensa.compare(rows, rules, band, [int(edge) for edge in edges.split(",")], threads)
        if solution is not None and scaled_file is not None and scaled is not None and budget is not None:
            scaled_file.write(solution.program.to_toml().encode())
            solved = audit.Solve(program=Rules.of(rules[-2]), budget=budget)
            prints.record(solved, (source, rows.num_rows)).beside(scaled_file, scaled)
        if file is not None and output is not None:
            given = rules[: len(program)]
            made = audit.Compare(
                programs=tuple(map(Rules.of, given)),
                populations=tuple(RecordedPopulation.of(hensa.population(rows, each)) for each in given),
                band=band,
                budget=budget,
            )
            record = prints.record(made, (source, rows.num_rows))
            with run.stage("write", total=rows.num_rows) as advance:
                write(file, output, record.on(found.rows.schema), in_groups(found.rows), advance)
    if as_json:
        facts = found.to_dict()
        if solution is not None:
            facts["solution"] = {"factor": str(solution.factor), "program": solution.program.to_toml()}
        print(json.dumps(facts, ensure_ascii=False, indent=2))
    else:
        target = console if output == "-" else printer
        first, *others = found.costs
        target.print(costs_table(found.costs))
        for name in others:
            target.print(f"\n{name} against {first}, in points", soft_wrap=True)
            target.print(winners_table(found.totals[name], found.bands[name]))
    if solution is not None:
        say(f"{solution.program.name} has the rates of {rules[-2].name} times {solution.factor}")
    for name, total in found.totals.items():
        if total.missing:
            say(f"{total.missing:,} rows have no reward under {next(iter(found.costs))} or {name}: not compared")
    run.report(rows.num_rows)


@app.command()
def rows(
    members: Annotated[
        str, typer.Option(metavar="IN", callback=readable, help="member_id, referrer_id, registered_at; a file or -.")
    ],
    passbook: Annotated[
        str,
        typer.Option(
            metavar="IN",
            callback=readable,
            help="member_id, kind, points, status, used_at, entered_at, judged_at; a file or -.",
        ),
    ],
    month: Annotated[
        str, typer.Option(metavar="YYYY-MM", callback=monthly, help="The month that is paid, such as 2019-10.")
    ],
    output: Target,
    friends: Annotated[
        bool, typer.Option("--friends", help="One row for each friend of whom an event is paid for.")
    ] = False,
    zone: Annotated[str, typer.Option(metavar="NAME", help="The time zone of the month.")] = "Asia/Tokyo",
    mapping: Annotated[
        str | None, typer.Option(metavar="FILE.toml", help="How the columns and values are named otherwise.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at messy input instead of reporting it.")] = False,
    threads: Threads = None,
) -> None:
    """Count the rows that `score` reads from registrations and a passbook: one for each referrer, in bounded memory.

    With --friends it is one for each friend, as the program friend-benefit pays for them.

    What is found in messy input is kept or dropped by a rule, and reported.
    """
    if members == passbook == "-":
        raise typer.BadParameter("standard input is one of the two; name a file for the other")
    keep_apart(output, members, passbook, mapping)
    run = Run()
    with (
        (FriendLedger if friends else Ledger)(
            month, zone=zone, mapping=mapping, strict=strict, threads=threads
        ) as ledger,
        Fingerprints(members, passbook) as prints,
        replacing(output) as file,
        run.progress,
    ):
        with run.sized_stage("members") as started:
            ledger.read_members(members, started)
        with run.sized_stage("passbook") as started:
            ledger.read_passbook(passbook, started)
        with run.stage("count"):
            ledger.count()
        given = None if mapping is None else Rules.read(mapping)
        made = audit.Rows(month=month, zone=zone, mapping=given, strict=strict, friends=friends)
        counts = [(members, ledger.counts["registrations"]), (passbook, ledger.counts["entries"])]
        record = prints.record(made, *counts)
        with run.stage("write", total=ledger.counts[ledger.counted]) as advance:
            found = ledger.rows()
            write(file, output, record.on(found.schema), (pa.Table.from_batches([part]) for part in found), advance)
    say(f"{ledger.counts[ledger.counted]:,} rows of {month} in {zone}")
    counted = plain_table("counted", "")
    for name, count in ledger.counts.items():
        counted.add_row(name, f"{count:,}")
    console.print(counted, "")
    if ledger.findings:
        messy = plain_table("found", "", "")
        messy.columns[2].justify = "left"
        for name, finding in ledger.findings.items():
            messy.add_row(name, f"{finding.count:,}", FINDINGS[name])
        console.print(messy, "")
    run.report(ledger.counts["entries"])


@app.command()
def sample(
    n: Annotated[int, typer.Option("-n", min=0, help="Number of rows, or of members, such as 10_000_000.")],
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="OUT", help=f"FILE{'|'.join(FORMATS)}, or -; with --ledger, DIR.")
    ],
    seed: Annotated[int, typer.Option(min=0, help="Which population.")] = 0,
    ledger: Annotated[
        bool, typer.Option("--ledger", help="Write DIR/members.parquet and DIR/passbook.parquet instead.")
    ] = False,
) -> None:
    """Write a synthetic population of N referrers: nearly all bring a few friends, a handful bring thousands.

    With --ledger, write what `rows` reads instead: the registrations and the passbook of N members.
    """
    run = Run()
    if ledger:
        if output == "-":
            raise typer.BadParameter("a ledger is two files; name a directory")
        with naming(output):
            Path(output).mkdir(parents=True, exist_ok=True)
        tables: list[Literal["members", "passbook"]] = ["members", "passbook"]
        for name, reader in zip(tables, sample_ledger(n, seed), strict=True):
            path = str(Path(output, f"{name}.parquet"))
            total = n if name == "members" else None
            record = Record.of(audit.SampleLedger(n=n, seed=seed, table=name))
            with replacing(path) as file, run.progress, run.stage(name, total=total) as advance:
                write(
                    file, path, record.on(reader.schema), (pa.Table.from_batches([batch]) for batch in reader), advance
                )
        say(f"{n:,} members")
        run.report(n)
        return
    writable(output)
    with replacing(output) as file, run.progress, run.stage("write", total=n) as advance:
        rows = make_sample(n, seed)
        record = Record.of(audit.Sample(n=n, seed=seed))
        write(file, output, record.on(rows.schema), (pa.Table.from_batches([batch]) for batch in rows), advance)
    say(f"{n:,} rows")
    run.report(n)


@app.command()
def verify(
    output: Annotated[
        str, typer.Argument(metavar="OUT", callback=piped, help="A file that hensa wrote; - is an Arrow stream.")
    ],
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            metavar="IN",
            callback=piped_each,
            help="Where an input is now; give all that the record names, in its order.",
        ),
    ] = None,
) -> None:
    """Make OUT again as its record says, from the same inputs, and say whether it is the same: exit code 0, or 1.

    The record is in the metadata of Parquet and Arrow files, and in OUT.hensa.json beside others. Inputs are found by
    the names of the record, from here or from where OUT is.
    """
    given = inputs or []
    if [output, *given].count("-") > 1:
        raise typer.BadParameter("standard input can be one file only; name the others")
    kept = audit.Kept.open(output)
    if given and len(given) != len(kept.record.inputs):
        raise typer.BadParameter(f"--input is given {len(given)} times; {output} has {len(kept.record.inputs)} inputs")
    for line in kept.verify(given):
        print(line)


@programs.command("list")
def list_programs() -> None:
    """List the built-in programs."""
    for name in Program.names():
        print(f"{name}\t{Program.load(name).title}")


@programs.command()
def check(file: Annotated[str, typer.Argument(metavar="FILE")]) -> None:
    """Check a program: exit code 0 if it is valid, else one sentence on what is wrong."""
    program = Program.load(file)
    match program.rule:
        case StandardScore():
            what = f"{len(program.measures)} measures and {len(program.rate_table.steps)} steps"
        case Stages():
            what = f"{len(program.rule.criteria)} criteria and {len(program.rate_table.steps)} stages"
        case PerEvent():
            what = f"{len(program.rule.events)} events and {len(program.rule.campaigns)} campaigns"
    print(f"{file}: {program.name} is valid, with {what}")


@programs.command()
def show(name: Annotated[str, typer.Argument(metavar="NAME|FILE")]) -> None:
    """Print a program: its rule, its rates, and in brackets the standing of each part."""
    program = Program.load(name)
    rates, reward = program.rates, program.reward
    parts: dict[str, object] = {
        "title": program.title,
        "effective_from": program.effective_from,
        "effective_until": program.effective_until,
        **rule_parts(program.rule),
    }
    if rates is not None:
        parts |= {f"rates.{key}": getattr(rates, key) for key in ("unit", "below", "outside")}
        parts["rates.steps"] = f"{len(rates.steps):,}, as follows"
    if reward is not None:
        parts |= {f"reward.{key}": getattr(reward, key) for key in ("base", "rounding", "cap", "negative")}
    print(program.name)
    for key, value in parts.items():
        print(f"{key:<16} {'none' if value is None else value}{mark(program.standing.get(key))}")
    match program.rule:
        case StandardScore():
            show_steps(program.rate_table)
        case Stages():
            show_stages(program.rule, program.rate_table)
        case PerEvent():
            show_events(program.rule)


def rule_parts(rule: Rule) -> dict[str, object]:
    """What a rule says, key by key, but for the minimums and bonuses of stages."""
    match rule:
        case StandardScore():
            measures = (
                f"{measure.column} (weight {measure.weight}{', negative: error' * (measure.negative == 'error')})"
                for measure in rule.measures
            )
            return {
                "rule.kind": "standard-score",
                "rule.measures": ", ".join(measures),
                **{f"rule.{key}": getattr(rule, key) for key in ("scale", "centre", "ddof", "constant")},
            }
        case Stages():
            criteria = (f"{c.column}{' (negative: error)' * (c.negative == 'error')}" for c in rule.criteria)
            return {
                "rule.kind": "stage",
                "rule.criteria": " or ".join(criteria),
                "rule.previous": rule.previous,
                "rule.bonuses": f"{len(rule.bonuses)}, as follows" if rule.bonuses else None,
            }
        case PerEvent():
            return {
                "rule.kind": "per-event",
                "rule.events": f"{len(rule.events)}, as follows",
                "rule.campaigns": f"{len(rule.campaigns)}, as follows" if rule.campaigns else None,
            }


def show_events(rule: PerEvent) -> None:
    width = max(16, *(len(event.column) for event in rule.events))
    print(f"\n{'event':<{width}} points to the referrer and to the friend")
    for event in rule.events:
        negative = ", negative: allow" * (event.negative == "allow")
        print(f"{event.column:<{width}} {event.referrer:,} and {event.friend:,}{negative}{mark(event.standing)}")
    for campaign in rule.campaigns:
        when = f"from {campaign.effective_from} to {campaign.effective_until}"
        amounts = f"{campaign.referrer:,} and {campaign.friend:,}"
        print(f"{campaign.column:<{width}} {amounts} {when}{mark(campaign.standing)}")


def show_stages(rule: Stages, rates: RateTable) -> None:
    print(f"\n{'stage':<16} rate")
    bonuses = {bonus.stage: f", once {bonus.points:,} points{mark(bonus.standing)}" for bonus in rule.bonuses}
    for stage, step in enumerate(rates.steps, start=1):
        minimums = " or ".join(
            f"{criterion.column} {entry.minimum:,}{mark(entry.standing)}"
            for criterion in rule.criteria
            for entry in criterion.minimums
            if entry.stage == stage
        )
        rate = f"{step.rate}{unit_of(rates)}{mark(step.standing)}"
        print(f"{stage:<16} {rate} from {minimums}{bonuses.get(stage, '')}")


def unit_of(rates: RateTable) -> str:
    return "%" if rates.unit == "percent" else ""


def show_steps(rates: RateTable) -> None:
    print(f"\n{'score from':<16} rate")
    unit = unit_of(rates)
    for run in step_runs(rates):
        first, last = run[0], run[-1]
        if len(run) > 2:
            rises = sorted({after.rate - before.rate for before, after in pairwise(run)})
            rise = " or ".join(f"{rise:+}" for rise in rises)
            steps = f"{first.threshold} to {last.threshold}", f"{first.rate}{unit} to {last.rate}{unit}, {rise} a step"
            print(f"{steps[0]:<16} {steps[1]}{mark(first.standing)}")
        else:
            for step in run:
                print(f"{step.threshold!s:<16} {step.rate}{unit}{mark(step.standing)}")


def main() -> None:
    """Run the command `hensa`."""
    Stop.at(signal.SIGINT, KeyboardInterrupt())
    Stop.at(signal.SIGTERM, SystemExit(143))
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # titles are in any script, terminals are not
    # Arrow's own choice gives pages back within milliseconds, and every part of a file would have them cleared again.
    if "ARROW_DEFAULT_MEMORY_POOL" not in os.environ and "jemalloc" in pa.supported_memory_backends():
        pa.set_memory_pool(pa.jemalloc_memory_pool())
    gc.freeze()  # what is imported stays: going through it again and again is a sixth of a small run
    app(prog_name="hensa")


def keep_apart(output: str, *inputs: str | None) -> None:
    for written in (output, str(record_path(Path(output).resolve()))):
        for path in inputs:
            if path and os.path.exists(path) and os.path.exists(written) and os.path.samefile(path, written):
                raise typer.BadParameter(f"{written} is also an input; write to another file")


def in_groups(table: pa.Table) -> Iterator[pa.Table]:
    return (table.slice(start, ROW_GROUP) for start in range(0, table.num_rows, ROW_GROUP))


def with_format(path: str) -> str:
    try:
        format_of(path)
    except HensaError as error:
        raise typer.BadParameter(str(error)) from None
    return path


def row_of(rows: pa.Table, name: str, id: str) -> int:
    """The one row with this id, as it would be written."""
    if name not in rows.column_names:
        raise HensaError(
            f"there is no column {name!r} to find a row by; the columns are {', '.join(rows.column_names)}"
        )
    found = pc.indices_nonzero(pc.equal(rows[name].cast(pa.string()), id))
    if len(found) != 1:
        raise HensaError(f"found {len(found):,} rows whose {name} is {id}; exactly one is needed")
    return int(found[0].as_py())


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


def mark(standing: str | None) -> str:
    return f" [{standing}]" if standing else ""


def step_runs(rates: RateTable) -> list[list[Step]]:
    """The steps, together while standing and spacing are the same and the rates rise alike up to their rounding."""
    last_digit = min(Decimal((0, (1,), int(step.rate.as_tuple().exponent))) for step in rates.steps)
    runs: list[list[Step]] = []
    for step in rates.steps:
        run = runs[-1] if runs else []
        fits = bool(run) and step.standing == run[0].standing
        if fits and len(run) > 1:
            spacing, rise = run[1].threshold - run[0].threshold, run[1].rate - run[0].rate
            fits = step.threshold - run[-1].threshold == spacing and abs(step.rate - run[-1].rate - rise) <= last_digit
        if fits:
            run.append(step)
        else:
            runs.append([step])
    return runs
