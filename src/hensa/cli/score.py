"""`hensa score` and `hensa population`."""

from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from functools import partial, reduce
from operator import add
from time import perf_counter
from typing import Annotated, TypeAlias

import pyarrow as pa

import hensa
from hensa import audit
from hensa.audit import Fingerprints, RecordedPopulation, Rules
from hensa.cli.dataset import are_files, bytes_of, is_file_name, score_files, tell
from hensa.cli.options import (
    DEFAULT,
    AnyMonth,
    AsJson,
    By,
    Month,
    ProgramName,
    Source,
    Threads,
    check_record,
    in_groups,
    keep_apart,
    keep_stdout,
    not_like_a_table,
    piped,
    program_by_default,
    readable,
    stored_population,
    writable,
)
from hensa.counts import Count
from hensa.errors import HensaError
from hensa.files import RowGroups, format_of, naming, read, replacing, write
from hensa.program import Program
from hensa.terminal import Run, Summary, cohorts, moments_table, none_counts, say, show, typer
from hensa.threads import cpus
from hensa.totals import Totals

__all__ = ["population", "score"]


Done: TypeAlias = tuple[hensa.Population, Totals, list[str]]
"""What a run over one file used and found, and the columns that it wrote."""


class Method(StrEnum):
    """How the moments are computed."""

    auto = "auto"
    exact = "exact"
    welford = "welford"


@program_by_default
def score(
    source: Annotated[
        str,
        typer.Argument(
            metavar="IN",
            callback=piped,
            help="FILE.csv[.gz], .parquet or .arrow[s], a directory or a pattern of such files; - is stdin.",
        ),
    ],
    output: Annotated[
        str,
        typer.Option("--output", "-o", metavar="OUT", help="Like IN; a directory if IN is many files; - is stdout."),
    ],
    program: ProgramName = None,
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
    as_json: AsJson = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the dataset of another run in OUT, a directory.")
    ] = False,
    memory: Annotated[
        str | None,
        typer.Option(
            metavar="BYTES", help="What rows in work may take where IN is many files, such as 2GB; by default 512MiB."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be read and written where IN is many files.")
    ] = False,
) -> None:
    """Score the rows of IN and write them to OUT with new columns.

    From CSV, columns that the program does not read pass through unchanged, as text unless they are plain integers.
    With --by, each row is scored against the rows of its own cohort.

    Many files (a directory, a pattern, or any IN into a directory OUT) are scored as one population, in bounded memory,
    into as many files and a manifest, which appear in one step. The same command goes on with a run that was stopped.
    """
    rules = Program.load(program or DEFAULT)
    if month is not None:
        with naming(source):
            rules.check_month(month, any_month)
    if are_files(source, output):
        keep_apart(output, program, population)
        if source == "-":
            raise typer.BadParameter(
                "standard input is no file, and OUT is a directory of as many files as IN; name one"
            )
        score_files(
            source,
            output,
            rules,
            columns=[name.strip() for name in columns.split(",")] if columns else None,
            by=by,
            population=stored_population(population, by),
            month=month,
            any_month=any_month,
            threads=threads,
            memory=bytes_of(memory),
            overwrite=overwrite,
            dry_run=dry_run,
            as_json=as_json,
        )
        return
    if overwrite or dry_run or memory is not None:
        raise typer.BadParameter("--overwrite, --memory and --dry-run are for many files; IN and OUT are one")
    for check, path, named in ((readable, source, "'IN'"), (writable, output, "'--output' / '-o'")):
        try:
            check(path)
        except typer.BadParameter as error:
            error.param_hint = named
            if path == output and path != "-" and not is_file_name(path):
                error.message += f"; a directory is named {path}/"
            raise
    wanted = [name.strip() for name in columns.split(",")] if columns else list(rules.results)
    keep_apart(output, source, program, population)
    keep_stdout(output, as_json)
    check_record(source, month, any_month)
    run, stored = Run(), stored_population(population, by)
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

    def pay_whole() -> Done:
        with run.stage("read"):
            rows = read(source, rules.columns, rules.whole_columns(wanted))
        with run.stage("score"), naming(source):
            used = stored if stored is not None else hensa.population(rows, rules, by=by, threads=threads)
            # Cohorts of the rows themselves are scored faster when score() takes them itself.
            paid = pay(rows, population=None if by and stored is None else used, threads=threads)
        with run.stage("write", total=paid.num_rows) as advance:
            write(file, output, recorded(used, paid.schema, paid.num_rows), in_groups(paid), advance, threads)
        totals = Totals(rules, wanted)
        totals.add(paid)
        return used, totals, paid.column_names

    def pay_parts(groups: RowGroups) -> Done:
        """In bounded memory: every thread reads, adds up, scores and encodes parts of its own."""

        def add_up(span: list[int]) -> hensa.Population:
            return hensa.population(groups.part(span, rules.columns), rules, threads=1)

        with run.stage("score"):
            if stored is None:
                with ThreadPoolExecutor(threads or cpus()) as pool:
                    used = reduce(add, pool.map(add_up, groups.spans))
            else:
                used = stored
            schema = recorded(
                used, pay(pa.Table.from_batches([], groups.schema), population=used).schema, groups.num_rows
            )
        totals, seconds = Totals(rules, wanted), []

        def part(span: list[int]) -> pa.Table:
            started = perf_counter()
            own = groups.part(span)
            scoring = perf_counter()
            paid = pay(own, population=used, threads=1)
            seconds.append((scoring - started, perf_counter() - scoring))
            totals.add(paid)
            return paid

        with run.stage("write", total=groups.num_rows) as advance:
            write(file, output, schema, (partial(part, span) for span in groups.spans), advance, threads)
        # The threads did all three side by side: of each, its share of the time that passed.
        for name, spent in zip(("read", "score"), zip(*seconds, strict=True), strict=True):
            run.share(name, sum(spent) / (threads or cpus()), of="write")
        return used, totals, schema.names

    with Fingerprints(source, population) as prints, replacing(output) as file, run.progress:
        done = None
        if rules.measures and not by and format_of(source) == format_of(output) == "parquet":
            with run.stage("read"):
                groups = RowGroups(source)
            # Fewer parts keep the threads busy less evenly than single columns do.
            if len(groups.spans) >= 4 * (threads or cpus()):
                try:
                    done = pay_parts(groups)
                except HensaError:  # names a row by its place in a part; what all rows raise names it in the file
                    file.seek(0)
                    file.truncate()
        used, totals, names = done or pay_whole()
    tell(Summary(rules, used, totals, by or (), len(used.cohorts)), names, as_json)
    run.report(totals.rows)


@program_by_default
def population(
    source: Source,
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE.json",
            callback=lambda path: not_like_a_table(path, "a population is JSON; name it FILE.json"),
            help="Default: stdout.",
        ),
    ] = "-",
    program: ProgramName = None,
    by: By = None,
    method: Annotated[Method, typer.Option(help="How the moments are computed.")] = Method.auto,
    threads: Threads = None,
) -> None:
    """Take the count, mean and SD of each measure of IN.

    They are written as JSON that `score --population` reads.
    """
    rules = Program.load(program or DEFAULT)
    keep_apart(output, source, program)
    run = Run()
    with Fingerprints(source) as prints, replacing(output) as file:
        with run.progress:
            with run.stage("read"):
                rows = read(source, rules.columns, rules.whole_columns(()))
            with run.stage("population"), naming(source):
                taken = hensa.population(rows, rules, by=by, method=method.value, threads=threads)
        file.write(f"{taken.to_json()}\n".encode())
        made = audit.TakePopulation(program=Rules.of(rules), by=tuple(by or ()), method=method.value)
        prints.record(made, (source, rows.num_rows)).beside(file, output)
    told = f"{Count(rows.num_rows):row}, {taken.nulls:,} of them null{cohorts(taken.by, len(taken.cohorts))}"
    say(f"{rules.name}: {told}{none_counts(rows.num_rows, taken.nulls)}")
    if rules.measures:
        show(moments_table(taken))
    run.report(rows.num_rows)
