"""`hensa score` and `hensa verify` where the rows are in many files."""

import json
import os
import re
from collections.abc import Collection, Sequence

from hensa.counts import Count
from hensa.dataset import MEMORY, Plan, plan, score_dataset, verify
from hensa.errors import HensaError
from hensa.files import FORMATS, schema_of
from hensa.manifest import Manifest, Staging
from hensa.population import Population
from hensa.program import Program
from hensa.terminal import Run, Summary, plain_table, printer, say, say_no_bonuses, show, typer

__all__ = ["are_files", "bytes_of", "score_files", "tell", "verify_files"]

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "KI": 2**10, "MI": 2**20, "GI": 2**30}


def are_files(source: str, output: str) -> bool:
    """Whether a run is over a dataset: IN is a directory, a pattern or a URI, or OUT is a directory."""
    pattern = bool(re.search(r"[*?\[]", source)) and not os.path.exists(source)
    folder = output.endswith("/") or (os.path.isdir(output) and not is_file_name(output))
    return pattern or os.path.isdir(source) or "://" in source or folder


def is_file_name(path: str) -> bool:
    return path == "-" or path.lower().endswith(tuple(FORMATS))


def bytes_of(text: str | None) -> int | None:
    """A number of bytes, such as 800M, 2GB or 1GiB."""
    if text is None:
        return None
    found = re.fullmatch(r"([0-9][0-9_]*)\s*([KMG]?I?)B?", text.strip().upper())
    if not found or found[2] not in _UNITS or not int(found[1]):
        raise typer.BadParameter(f"{text!r} is no number of bytes such as 800MB or 2GiB")
    return int(found[1]) * _UNITS[found[2]]


def score_files(
    source: str,
    output: str,
    program: Program,
    *,
    columns: Sequence[str] | None,
    by: Sequence[str] | None,
    population: Population | None,
    month: str | None,
    any_month: bool,
    threads: int | None,
    memory: int | None,
    overwrite: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Score a dataset, or show what that would read and write."""
    if is_file_name(output):
        raise HensaError(f"{source}: many files go into a directory, and {output} is the name of one file.")
    if dry_run:
        planned = plan(source, program, by, columns, population=population, month=month, any_month=any_month)
        show_plan(planned, threads, memory)
        return
    run = Run()
    try:
        with run.progress:
            manifest = score_dataset(
                source,
                output,
                program,
                by,
                columns,
                population=population,
                month=month,
                any_month=any_month,
                threads=threads,
                overwrite=overwrite,
                memory=MEMORY if memory is None else memory,
                progress=run.follow,
            )
    except (KeyboardInterrupt, SystemExit):
        if Staging(output).root.exists():
            say(f"What is done is kept beside {output}; the same command goes on from there.")
        raise
    is_new = "score" in run.times
    if not is_new:
        say(f"{output} has the result of this very run already.")
    recorded = manifest.scored.population
    whole = Population.from_json(json.dumps(recorded.moments))
    names = schema_of(manifest.paths(output)[0]).names
    tell(Summary(program, whole, manifest, by or (), recorded.cohorts), names, as_json)
    run.report(manifest.rows if is_new else None)


def tell(summary: Summary, names: Collection[str], as_json: bool) -> None:
    """What rows were paid: as text on standard error, or as data on standard output.

    `names` are the columns that were written.
    """
    say_no_bonuses(summary.program, names)
    if as_json:
        print(json.dumps(summary.to_dict(), ensure_ascii=False, indent=2))
    else:
        say(summary.line)
        show(*summary.tables())


def show_plan(planned: Plan, threads: int | None, memory: int | None) -> None:
    """What a run would read and write, on standard output."""
    is_packed = planned.task.source.format == "parquet"
    parts = plain_table("part", "rows", "bytes, decompressed" if is_packed else "bytes to read")
    for fragment in planned.fragments:
        parts.add_row(fragment.part, f"{fragment.rows:,}", f"{fragment.bytes:,}")
    columns = plain_table("column", "type", "", numbers=0)
    for field in planned.schema:
        read = field.name in planned.task.program.columns or field.name in planned.task.by
        note = "new" if field.name in planned.task.columns else "is scored" if read else ""
        columns.add_row(field.name, str(field.type), note)
    for key in planned.task.source.keys:
        columns.add_row(key.name, str(key.type), "in the names of directories")
    on_disk = sum(seen.file.bytes for seen in planned.surveys)
    allowed = MEMORY if memory is None else memory
    used = planned.threads(allowed, threads)
    printer.print(parts, "", columns, "", sep="\n")
    printer.print(f"{Count(planned.rows):row} in {Count(len(planned.surveys)):file} of {on_disk:,} bytes")
    printer.print(
        f"{Count(len(planned.fragments)):part} to write, {used} at a time, in up to {planned.takes:,} bytes each"
    )


def verify_files(output: str, inputs: Sequence[str]) -> None:
    """Make a dataset again and compare."""
    recorded = Manifest.load(output).scored.population
    if len(inputs) > 1 + recorded.is_input:
        raise typer.BadParameter(
            f"--input is given {Count(len(inputs)):time}; {output} was made from one source"
            + " and the file of a population" * recorded.is_input
        )
    source, population = [*inputs, None, None][:2]
    run = Run()
    with run.progress:
        for line in verify(output, source, population, run.follow):
            run.print(line)
