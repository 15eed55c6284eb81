"""The command `hensa`: arguments in, library calls, tables and bars out.

Data goes to standard output, messages to standard error. Exit codes: 0 done, 1 the data or the run failed, 2 bad usage.
"""

import csv
import gzip
import os
import platform
import re
import secrets
import signal
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from functools import partial
from io import TextIOWrapper
from itertools import chain, pairwise
from math import ceil
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any, BinaryIO, TextIO, cast

try:
    import typer
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.table import Table
    from typer.core import TyperGroup
except ModuleNotFoundError as missing:
    raise SystemExit(f'hensa: the command needs {missing.name}; install it with: pip install "hensa[cli]"') from missing

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq

import hensa
from hensa import kernels
from hensa.errors import HensaError
from hensa.program import Program, RateTable, Step
from hensa.sample import sample as make_sample

__all__ = ["app", "main"]

FORMATS = {".csv": "csv", ".csv.gz": "csv", ".parquet": "parquet", ".arrow": "arrow", ".feather": "arrow"}
ROW_GROUP = 1 << 20
NUMBER = re.compile(r"([+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?|0x[0-9a-f]+|true|false|)", re.I)
"""What Arrow reads as a number in CSV; nothing is a null."""
BANDS = 11  # so that a table of the steps 0 to 100 falls into tens

console = Console(stderr=True, highlight=False, markup=False, emoji=False)


@contextmanager
def ending() -> Iterator[None]:
    """Whatever goes wrong becomes one sentence and an exit code."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has seen enough
        give_up_stdout()
        raise typer.Exit(1) from None
    except (KeyboardInterrupt, pa.ArrowCancelled):
        say("hensa: interrupted.")
        raise typer.Exit(130) from None
    except (HensaError, OSError, pa.ArrowException, MemoryError) as error:
        say(f"hensa: {sentence(error)}")
        give_up_stdout()
        raise typer.Exit(1) from None


class Commands(TyperGroup):
    """Commands that end like that."""

    def invoke(self, ctx: Any) -> Any:
        with ending():
            return super().invoke(ctx)


app = typer.Typer(
    cls=Commands, add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True, rich_markup_mode=None
)
programs = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="List, show and check programs (the rules).")
app.add_typer(programs, name="programs")


def readable(path: str) -> str:
    if path == "-" and sys.stdin.isatty():
        raise typer.BadParameter("standard input is a terminal; name a file or pipe an Arrow stream in")
    format_of(path)
    return path


def writable(path: str) -> str:
    if path == "-" and sys.stdout.isatty():
        raise typer.BadParameter("standard output is a terminal; name a file or pipe the Arrow stream on")
    format_of(path)
    return path


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
Rules = Annotated[str, typer.Option("--program", "-p", metavar="NAME|FILE", help="A built-in program or a TOML file.")]
By = Annotated[list[str] | None, typer.Option(metavar="NAME", help="A cohort column; may be given several times.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Default: the CPUs this process may use.")]


class Method(StrEnum):
    """How the moments are computed."""

    auto = "auto"
    exact = "exact"
    welford = "welford"


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", callback=version, is_eager=True)] = False,
) -> None:
    """Score populations: the mean and SD over all rows give every row a score, a rate and reward points."""


@app.command()
def score(
    source: Source,
    output: Target,
    program: Rules = "hapitas-friend",
    columns: Annotated[
        str | None,
        typer.Option(metavar="NAME,...", help="Of score, step, rate, reward, MEASURE_score; else score,rate,reward."),
    ] = None,
    by: By = None,
    threads: Threads = None,
    population: Annotated[
        str | None, typer.Option(metavar="FILE.json", help="Score against this population instead of the rows' own.")
    ] = None,
) -> None:
    """Score the rows of IN and write them to OUT with the new columns added.

    From CSV, columns that the program does not read pass through unchanged, as text unless they are plain integers.
    With --by, each row is scored against the rows of its own cohort.
    """
    rules = Program.load(program)
    default = "score,rate,reward" if rules.reward else "score,rate"
    wanted = [name.strip() for name in (columns or default).split(",")]
    keep_apart(output, source, program, population)
    run = Run()
    with replacing(output) as file, run.progress:
        with run.stage("read"):
            stored = read_population(population) if population else None
            rows = read(source, rules)
        with run.stage("score"), naming(source):
            used = stored if stored is not None else hensa.population(rows, rules, by=by, threads=threads)
            # Cohorts of the rows themselves are scored faster when score() takes them itself.
            given = None if by and stored is None else used
            paid = hensa.score(rows, rules, population=given, by=by, columns=wanted, threads=threads)
        with run.stage("write", total=paid.num_rows) as advance:
            parts = (paid.slice(start, ROW_GROUP) for start in range(0, paid.num_rows, ROW_GROUP))
            write(file, output, paid.schema, parts, advance)
    nulls = min(paid[name].null_count for name in wanted)
    say(f"{paid.num_rows:,} rows, {nulls:,} of them null{cohorts(used)}")
    tables = [moments_table(used)]
    if "rate" in wanted:
        tables.append(bands_table(rules.rates, paid["rate"]))
    if "reward" in wanted and rules.reward is not None:
        base = paid[rules.reward.base].filter(pc.is_valid(paid["reward"]))
        tables.append(totals_table({rules.reward.base: base, "reward": paid["reward"]}))
    for table in tables:
        console.print(table, "")
    run.report(paid.num_rows)


@app.command()
def population(
    source: Source,
    output: Annotated[str, typer.Option("--output", "-o", metavar="FILE.json", help="Default: stdout.")] = "-",
    program: Rules = "hapitas-friend",
    by: By = None,
    method: Annotated[Method, typer.Option(help="How the moments are computed.")] = Method.auto,
    threads: Threads = None,
) -> None:
    """Take the count, mean and SD of each measure over the rows of IN, as JSON that `score --population` reads."""
    rules = Program.load(program)
    keep_apart(output, source, program)
    run = Run()
    with replacing(output) as file:
        with run.progress:
            with run.stage("read"):
                rows = read(source, rules)
            with run.stage("population"), naming(source):
                taken = hensa.population(rows, rules, by=by, method=method.value, threads=threads)
        file.write(f"{taken.to_json()}\n".encode())
    say(f"{rows.num_rows:,} rows, {taken.nulls:,} of them null{cohorts(taken)}")
    console.print(moments_table(taken), "")
    run.report(rows.num_rows)


@app.command()
def sample(
    n: Annotated[int, typer.Option("-n", min=0, help="Number of rows, such as 10_000_000.")],
    output: Target,
    seed: Annotated[int, typer.Option(min=0, help="Which population.")] = 0,
) -> None:
    """Write a synthetic population of N referrers: nearly all bring a few friends, a handful bring thousands."""
    run = Run()
    with replacing(output) as file, run.progress, run.stage("write", total=n) as advance:
        rows = make_sample(n, seed)
        write(file, output, rows.schema, (pa.Table.from_batches([batch]) for batch in rows), advance)
    say(f"{n:,} rows")
    run.report(n)


@programs.command("list")
def list_programs() -> None:
    """List the built-in programs."""
    for name in Program.names():
        print(f"{name}\t{Program.load(name).title}")


@programs.command()
def check(file: Annotated[str, typer.Argument(metavar="FILE")]) -> None:
    """Check a program: exit code 0 if it is valid, else one sentence on what is wrong."""
    program = Program.load(file)
    measures, steps = len(program.rule.measures), len(program.rates.steps)
    print(f"{file}: {program.name} is valid, with {measures} measures and {steps} steps")


@programs.command()
def show(name: Annotated[str, typer.Argument(metavar="NAME|FILE")]) -> None:
    """Print a program: its rule, its rates, and in brackets the standing of each part."""
    program = Program.load(name)
    rule, rates, reward = program.rule, program.rates, program.reward
    parts: dict[str, object] = {
        "title": program.title,
        "effective_from": program.effective_from,
        "effective_until": program.effective_until,
        "rule.kind": "standard-score",
        "rule.measures": ", ".join(
            f"{measure.column} (weight {measure.weight}{', negative: error' * (measure.negative == 'error')})"
            for measure in rule.measures
        ),
        "rule.scale": rule.scale,
        "rule.centre": rule.centre,
        "rule.ddof": rule.ddof,
        "rule.constant": rule.constant,
        "rates.unit": rates.unit,
        "rates.below": rates.below,
        "rates.outside": rates.outside,
        "rates.steps": f"{len(rates.steps):,}, as follows",
    }
    if reward is not None:
        parts |= {f"reward.{key}": getattr(reward, key) for key in ("base", "rounding", "cap", "negative")}
    print(program.name)
    for key, value in parts.items():
        print(f"{key:<16} {'none' if value is None else value}{mark(program.standing.get(key))}")
    print(f"\n{'score from':<16} rate")
    unit = "%" if rates.unit == "percent" else ""
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
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # an exception, so that unfinished files are removed
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # titles are in any script, terminals are not
    app(prog_name="hensa")


# Arguments


def format_of(path: str) -> str:
    if path == "-":
        return "stream"
    for suffix, name in FORMATS.items():
        if path.lower().endswith(suffix):
            return name
    raise typer.BadParameter(f"{path} ends in none of {', '.join(FORMATS)}")


def keep_apart(output: str, *inputs: str | None) -> None:
    for path in inputs:
        if path and os.path.exists(path) and os.path.exists(output) and os.path.samefile(path, output):
            raise typer.BadParameter(f"{output} is also an input; write to another file")


# Messages


def say(message: str) -> None:
    console.print(message, soft_wrap=True)


def give_up_stdout() -> None:
    """Drop what standard output does not take, or the flush at exit would complain once more."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def sentence(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    elif isinstance(error, UnicodeDecodeError):
        text = f"found the byte 0x{error.object[error.start]:02x}, which is not UTF-8"
    return f"{text.rstrip('.')}."


@contextmanager
def naming(path: str) -> Iterator[None]:
    """Make errors start with the input that they are about."""
    try:
        yield
    except (HensaError, OSError, pa.ArrowException, UnicodeError, csv.Error, EOFError, zlib.error) as error:
        if isinstance(error, pa.ArrowCancelled):
            raise
        label, message = "standard input" if path == "-" else path, sentence(error)
        raise HensaError(message if message.startswith(label) else f"{label}: {message}") from error


class Run:
    """The stages of a run: a bar on a terminal while they last, their times at the end."""

    def __init__(self) -> None:
        self.times: dict[str, float] = {}
        self.progress = Progress(
            TextColumn("{task.description:<10}"),
            BarColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        started = perf_counter()
        task = self.progress.add_task(name, total=total)
        yield partial(self.progress.advance, task)
        self.progress.update(task, total=total or 1, completed=total or 1)
        self.times[name] = perf_counter() - started

    def report(self, rows: int) -> None:
        seconds = sum(self.times.values())
        stages = ", ".join(f"{name} {time:.2f}" for name, time in self.times.items())
        say(f"{seconds:.2f} s ({stages}), {rows / seconds:,.0f} rows/s")


def cohorts(population: hensa.Population) -> str:
    return f", in {len(population.cohorts):,} cohorts by {', '.join(population.by)}" if population.by else ""


def moments_table(population: hensa.Population) -> Table:
    table = plain_table("measure", "mean", "SD", "moments")
    for column, moments in population.measures.items():
        table.add_row(column, f"{moments.mean:,.8g}", f"{moments.sd:,.8g}", moments.method)
    return table


def bands_table(rates: RateTable, paid: pa.ChunkedArray) -> Table:
    counts = {pair["values"]: pair["counts"] for pair in pc.value_counts(paid.drop_null()).to_pylist()}
    shares = sorted({*rates.shares, *([Fraction(0)] if rates.below == "zero" else [])})
    size = -(-len(shares) // BANDS)
    bands = [shares[start : start + size] for start in range(0, len(shares), size)]
    rows = [sum(counts.get(float(share), 0) for share in band) for band in bands]
    table = plain_table("rate", "rows", "", *([""] if console.is_terminal else []))
    for band, count in zip(bands, rows, strict=True):
        low, high = (f"{float(share * 100):g}%" for share in (band[0], band[-1]))
        part = count / (sum(rows) or 1)
        bar = ["█" * ceil(24 * part)] if console.is_terminal else []
        table.add_row(low if low == high else f"{low} to {high}", f"{count:,}", f"{part:.2%}", *bar)
    return table


def plain_table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for index, heading in enumerate(headings):
        table.add_column(heading, justify="right" if index in (1, 2) else "left", overflow="fold")
    return table


def totals_table(columns: dict[str, pa.ChunkedArray]) -> Table:
    table = plain_table("points", "total")
    for name, column in columns.items():
        if pa.types.is_integer(column.type):
            lowest, highest = (extreme or 0 for extreme in pc.min_max(column).as_py().values())
            if max(-lowest, highest) * len(column) >= 2**63:  # the sum of integers would wrap around
                column = column.cast(pa.decimal128(38, 0))
        elif pa.types.is_decimal(
            column.type
        ):  # as wide as no sum fills; Arrow adds up no narrower ones than decimal128
            column = column.cast(pa.decimal256(76, column.type.scale))
        table.add_row(name, f"{pc.sum(column).as_py() or 0:,}")
    return table


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


# Files


@contextmanager
def replacing(path: str) -> Iterator[BinaryIO]:
    """A file that takes the place of `path` when the block completes and vanishes when it does not."""
    if path == "-":
        try:
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise HensaError(f"standard output: {error.strerror or error}") from error
        return
    target = Path(path).resolve()
    if target.exists() and not target.is_file():
        raise HensaError(f"{path}: not a file that can be replaced")
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            yield file
        temporary.replace(target)
    except OSError as error:
        raise HensaError(f"{path}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def read(path: str, program: Program) -> pa.Table:
    with naming(path):
        format = format_of(path)
        if format != "stream":
            Path(path).open("rb").close()  # says why a file cannot be read more briefly than pyarrow
        if format == "csv":
            return read_csv(path, program)
        try:
            if format == "parquet":
                return pq.ParquetFile(path, page_checksum_verification=True).read()
            stream = pa.ipc.open_stream(sys.stdin.buffer) if format == "stream" else pa.ipc.open_file(pa.OSFile(path))
            rows = stream.read_all()
            rows.validate(full=True)  # buffers come as they lie in the file: offsets must not point beyond them
            return rows
        except (pa.ArrowException, OSError) as error:
            if isinstance(error, pa.ArrowCancelled):
                raise
            kind = {"parquet": "Parquet", "arrow": "an Arrow file", "stream": "an Arrow stream"}[format]
            raise HensaError(f"cannot be read as {kind}: {sentence(error)}") from error


def read_population(path: str) -> hensa.Population:
    with naming(path):
        return hensa.Population.from_json(Path(path).read_text(encoding="utf-8"))


def read_csv(path: str, program: Program) -> pa.Table:
    """Read what the program reads as the numbers it is, and the rest as text that stays as it is."""
    with open_text(path) as file:
        header = next(csv.reader(file), [])
    try:
        options = arrow_csv.ConvertOptions(
            column_types={name: pa.string() for name in header if name not in program.columns},
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        )
        table = arrow_csv.read_csv(path, convert_options=options)
    except (pa.ArrowInvalid, UnicodeError) as error:
        raise HensaError(csv_fault(path, program) or sentence(error)) from error
    for index, (name, column) in enumerate(zip(table.column_names, table.columns, strict=True)):
        if name not in program.columns:
            table = table.set_column(index, name, as_integers(column))
        elif column.type == pa.null():  # no rows, or all of them empty
            table = table.set_column(index, name, column.cast(pa.int64()))
        elif is_doubtful(column) and (fault := csv_fault(path, program)):
            raise HensaError(fault)
    return table


def as_integers(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The text as int64, if writing that gives the same text again: 007 stays as it is."""
    with suppress(pa.ArrowInvalid):
        integers = column.cast(pa.int64())
        if integers.cast(pa.string()).equals(column):
            return integers
    return column


def is_doubtful(column: pa.ChunkedArray) -> bool:
    """Whether a column of a CSV file may hold what is not a number, or an integer that was rounded."""
    if column.type == pa.float64():
        return not pc.all(pc.less(pc.abs(column), 2.0**63)).as_py()  # nor is nan less
    return column.type not in (pa.int64(), pa.bool_())


def csv_fault(path: str, program: Program) -> str | None:
    """The first line of a CSV file that is ragged, not UTF-8 or no number where the program reads one."""
    with open_text(path) as file:
        lines = csv.reader(file)
        header = next(lines, [])
        for cells in chain([header], filter(None, lines)):
            line = f"line {lines.line_num}"
            for cell in cells:
                if re.search("[\udc80-\udcff]", cell):
                    return f"{line}: {cell.encode(errors='surrogateescape')!r:.80} is not UTF-8"
            if len(cells) != len(header):
                return f"{line}: found {len(cells)} cells, where the header has {len(header)}"
            for name, cell in zip(header, cells, strict=True):
                if name not in program.columns or cells is header:
                    continue
                place = f"{line}, column {name}: {cell!r:.80}"
                if not NUMBER.fullmatch(cell.strip(" \t") or cell):
                    return f"{place} is not a number; leave a null empty"
                if re.fullmatch("-?[0-9]+", cell) and not -(2**63) <= Decimal(cell) < 2**63:
                    return f"{place} is an integer beyond int64"
    return None


def open_text(path: str) -> TextIO:
    opener: Any = gzip.open if path.lower().endswith(".gz") else open
    return cast(TextIO, opener(path, "rt", encoding="utf-8-sig", errors="surrogateescape", newline=""))


def write(
    file: BinaryIO, path: str, schema: pa.Schema, parts: Iterable[pa.Table], advance: Callable[[int], None]
) -> None:
    with ExitStack() as stack:
        if path.lower().endswith(".gz"):
            file = stack.enter_context(pa.CompressedOutputStream(file, "gzip"))
        writer = {
            "stream": pa.ipc.new_stream,
            "arrow": pa.ipc.new_file,
            "csv": arrow_csv.CSVWriter,
            "parquet": partial(pq.ParquetWriter, compression="zstd", write_page_checksum=True),
        }[format_of(path)]
        sink = stack.enter_context(writer(file, schema))
        for part in parts:
            sink.write_table(part)
            advance(part.num_rows)
