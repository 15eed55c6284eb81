"""`hensa rows` and `hensa sample`."""

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Literal

import pyarrow as pa

from hensa import audit
from hensa.audit import Fingerprints, Record, Rules
from hensa.cli.options import Target, Threads, keep_apart, monthly, readable, writable
from hensa.counts import Count
from hensa.files import FORMATS, naming, replacing, write
from hensa.ledger import FINDINGS, FriendLedger, Ledger
from hensa.sample import sample as make_sample
from hensa.sample import sample_ledger
from hensa.terminal import Run, plain_table, say, show, typer

__all__ = ["rows", "sample"]


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
    """Count rows for `score` from registrations and a passbook.

    There is one for each referrer. Memory is bounded.

    With --friends it is one for each friend, as the programs share-hapi and friend-benefit pay for them.

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
    say(f"{Count(ledger.counts[ledger.counted]):row} of {month} in {zone}")
    counted = plain_table("counted", "")
    for name, count in ledger.counts.items():
        counted.add_row(name, f"{count:,}")
    show(counted)
    if ledger.findings:
        messy = plain_table("found", "", "", numbers=1)
        for name, finding in ledger.findings.items():
            example = "" if finding.example is None else f" (such as {finding.example})"
            messy.add_row(name, f"{finding.count:,}", FINDINGS[name] + example)
        show(messy)
    run.report(ledger.counts["entries"])


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
    """Write a synthetic population of N referrers.

    Nearly all bring a few friends, a handful bring thousands.

    With --ledger, write what `rows` reads instead: the registrations and the passbook of N members.
    """
    run = Run()
    if ledger:
        if output == "-":
            raise typer.BadParameter("a ledger is two files; name a directory")
        with naming(output):
            Path(output).mkdir(parents=True, exist_ok=True)
        tables: list[Literal["members", "passbook"]] = ["members", "passbook"]
        paths = [str(Path(output, f"{name}.parquet")) for name in tables]
        with ExitStack() as both:  # neither file takes its place before both are whole
            files = [both.enter_context(replacing(path)) for path in paths]
            both.enter_context(run.progress)
            for name, path, file, reader in zip(tables, paths, files, sample_ledger(n, seed), strict=True):
                record = Record.of(audit.SampleLedger(n=n, seed=seed, table=name))
                parts = (pa.Table.from_batches([batch]) for batch in reader)
                with naming(path), run.stage(name, total=n if name == "members" else None) as advance:
                    write(file, path, record.on(reader.schema), parts, advance)
                    file.flush()
        say(f"{Count(n):member}")
        run.report(n)
        return
    writable(output)
    with replacing(output) as file, run.progress, run.stage("write", total=n) as advance:
        rows = make_sample(n, seed)
        record = Record.of(audit.Sample(n=n, seed=seed))
        write(file, output, record.on(rows.schema), (pa.Table.from_batches([batch]) for batch in rows), advance)
    say(f"{Count(n):row}")
    run.report(n)
