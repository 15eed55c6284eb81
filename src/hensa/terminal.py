"""What the command shows on a terminal: messages, progress, tables and bars, all on standard error."""

import os
import re
import signal
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from fractions import Fraction
from math import ceil, isfinite
from time import perf_counter
from typing import Any, TextIO

try:
    import typer
    from rich.bar import Bar
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.measure import Measurement
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn, TimeElapsedColumn
    from rich.table import Table
    from rich.text import Text
    from typer.core import TyperGroup
except ModuleNotFoundError as missing:
    raise SystemExit(
        f'hensa: the command needs {missing.name}; install it with: pip install "hensa[cli]".'
    ) from missing

import pyarrow as pa
import pyarrow.compute as pc

from hensa.columns import exact_sum
from hensa.comparison import Tally
from hensa.counts import Count, percent
from hensa.errors import HensaError
from hensa.explanation import NAMES, WORDS, Lang
from hensa.files import sentence
from hensa.manifest import Manifest
from hensa.population import Population
from hensa.program import PerEvent, Program, RateTable, Stages, StandardScore
from hensa.restatement import Restatement
from hensa.totals import Total, Totals

__all__ = [
    "Commands",
    "Run",
    "Stop",
    "Summary",
    "boards_of",
    "boards_table",
    "cohorts",
    "console",
    "costs_table",
    "ending",
    "explanation_chart",
    "moments_table",
    "none_counts",
    "plain_table",
    "print_text",
    "printer",
    "restatement_table",
    "say",
    "say_no_bonuses",
    "show",
    "show_cursor",
    "totals_table",
    "typer",
    "winners_table",
]

LINE_AFTER = 10.0  # seconds between two lines on a long stage
GAP, LEAST_TEXT, LEAST_BAR, MOST_BAR = 2, 10, 4, 24  # cells: between the columns of a table, and in them
BANDS = 11  # so that a table of the steps 0 to 100 falls into tens

# The colours of the pages of HTML: safe for colour-blind readers, readable on light and on dark.
GAIN, LOSE = "color(32)", "color(166)"  # blue, orange


class WholeTable(Table):
    """A table that cuts nothing off.

    Where it is wider than the terminal its bars go first, then text is folded, and the names in the first column last.
    Numbers stay in one piece, even if the terminal has to break the line.
    """

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        room = options.max_width - GAP * (len(self.columns) - 1)
        wide = options.update(max_width=10_000)
        lengths = [
            max(Measurement.get(console, wide, cell).maximum for cell in (column.header, *column.cells))
            for column in self.columns
        ]
        if any(isinstance(cell, Bar) for cell in self.columns[-1].cells):
            lengths[-1] = min(MOST_BAR, room - sum(lengths[:-1]))
            if lengths[-1] < LEAST_BAR:
                self.columns.pop()
                lengths.pop()
                room += GAP
        columns = list(zip(self.columns, lengths, strict=True))
        widths = [length if column.no_wrap else min(length, LEAST_TEXT) for column, length in columns]
        for index, (column, length) in enumerate(columns):
            widths[index] += max(0, min(length - widths[index], room - sum(widths)))
            column.min_width = column.max_width = widths[index]
        yield from super().__rich_console__(console, wide)


class Lines(Console):
    """A console whose lines end where their text ends, unless it is a terminal."""

    def print(self, *objects: Any, **options: Any) -> None:
        options.setdefault("crop", not any(isinstance(each, WholeTable) for each in objects))
        if self.is_terminal:
            super().print(*objects, **options)
            return
        with self.capture() as printed:
            super().print(*objects, **options)
        try:
            self.file.write(re.sub(" +$", "", printed.get(), flags=re.M))
            self.file.flush()
        except BrokenPipeError:
            if not self.stderr:
                raise
            give_up(sys.stderr)  # nobody reads the messages any more, which is no reason to end the run


def console_on(stream: TextIO, stderr: bool) -> Console:
    """A console that fits its terminal; where there is none, lines are as long as they are."""
    width = None if stream.isatty() else 10_000
    return Lines(stderr=stderr, highlight=False, markup=False, emoji=False, width=width)


console = console_on(sys.stderr, stderr=True)
printer = console_on(sys.stdout, stderr=False)
"""For what was asked for, so that it goes to standard output."""


class Stop:
    """A signal that ends the run, by an exception, so that unfinished files are removed.

    Where no exception can be raised, as in callbacks and in some modules while they are imported, it gets lost. So
    it is kept, and `check` raises it again.
    """

    _raised: BaseException | None = None

    @classmethod
    def at(cls, number: signal.Signals, error: BaseException) -> None:
        def stop(*_: object) -> None:
            cls._raised = error
            raise error

        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, stop)

    @classmethod
    def check(cls) -> None:
        if cls._raised is not None:
            raise cls._raised


@contextmanager
def ending() -> Iterator[None]:
    """Whatever goes wrong becomes one sentence and an exit code."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has seen enough
        give_up(sys.stdout)
        raise SystemExit(1) from None
    except (KeyboardInterrupt, pa.ArrowCancelled):
        say("hensa: interrupted.")
        raise SystemExit(130) from None
    except (HensaError, OSError, pa.ArrowException, MemoryError) as error:
        give_up(sys.stdout)  # what was printed comes before the error that ends it
        say(f"hensa: {sentence(error)}")
        raise SystemExit(1) from None


PLAIN = {
    "^Value error, ": "",
    "^Input should be a valid integer.*": "it must be a whole number",
    "^Input should be greater than or equal to ": "it must be at least ",
}
"""What is said of a value that is not allowed, in place of the words of Typer's parser."""


class Commands(TyperGroup):
    """Commands that end like that."""

    def make_context(self, *args: Any, **options: Any) -> Any:
        with ending():
            return super().make_context(*args, **options)

    def invoke(self, ctx: Any) -> Any:
        with ending():
            try:
                return super().invoke(ctx)
            except typer.BadParameter as error:
                for found, said in PLAIN.items():
                    error.message = re.sub(found, said, error.message)
                raise


def say(message: str) -> None:
    console.print(message, soft_wrap=True)


def say_no_bonuses(program: Program, columns: Collection[str]) -> None:
    """That no bonuses are paid, if rows with these columns do not tell what would be reached for the first time."""
    if previous := program.lacks_previous(columns):
        say(f"{program.name} pays no bonuses here: there is no column {previous}, which tells the stage before.")


def show_cursor() -> None:
    """Show the cursor again, wherever a run was interrupted that had hidden it."""
    if console.is_terminal:
        sys.stderr.write("\x1b[?25h")
        sys.stderr.flush()


def show(*tables: Table) -> None:
    """Tables of a summary, each with an empty line below."""
    for table in tables:
        console.print(table, "")


def print_text(text: str) -> None:
    """Lines of text on standard output, each whole, so that it can be copied; on a terminal the first is bold."""
    if printer.is_terminal:
        first, *others = text.splitlines()
        printer.print(Text(first, "bold"), *others, sep="\n", soft_wrap=True)
    else:
        print(text)


def signed(text: str) -> Text:
    """Text whose gains and losses (+1, -1) are coloured."""
    coloured = Text(text)
    coloured.highlight_regex(r"(?<!\S)\+[1-9][\d,]*", GAIN)
    coloured.highlight_regex(r"(?<!\S)-[1-9][\d,]*", LOSE)
    return coloured


def bar(value: float, most: float, color: str = GAIN) -> Bar:
    """A bar that is as long as its column for `most`, and to be seen for whatever is more than nothing."""
    return Bar(most or 1, 0, max(value, most / 100) if value else 0, color=color)


def give_up(stream: TextIO) -> None:
    """Drop what a stream does not take, or the flush at exit would complain once more."""
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class _Rate(ProgressColumn):
    """Rows per second and, as soon as it can be told, the time that is left."""

    def render(self, task: Task) -> Text:
        left = "" if task.time_remaining is None else f", {ceil(task.time_remaining):,} s left"
        return Text(f"{task.speed:,.0f} rows/s{left}" if task.speed and not task.finished else "")


class Bars(Progress):
    """Bars that are gone, too, if the run is interrupted while they are shown for the first time."""

    def start(self) -> None:
        try:
            super().start()
        except BaseException:
            self.stop()
            raise


class Run:
    """The stages of a run: a bar on a terminal while they last, their times at the end."""

    def __init__(self) -> None:
        self.times: dict[str, float] = {}
        self._task, self._started, self._told = TaskID(0), 0.0, 0.0
        self.progress = Bars(
            TextColumn("{task.description:<10}"),
            BarColumn(),
            TimeElapsedColumn(),
            _Rate(),
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

        def advance(rows: int) -> None:
            self.progress.advance(task, rows)
            Stop.check()

        yield advance
        Stop.check()
        self.progress.update(task, total=total or 1, completed=total or 1)
        self.times[name] = perf_counter() - started

    @contextmanager
    def sized_stage(self, name: str) -> Iterator[Callable[[int | None], Callable[[int], None]]]:
        """A stage that learns how many rows there are when it begins to read them, perhaps more than once."""
        with self.stage(name) as advance:

            def started(total: int | None) -> Callable[[int], None]:
                self.progress.update(self.progress.task_ids[-1], total=total, completed=0)
                return advance

            yield started

    def follow(self, name: str, done: int, total: int) -> None:
        """The progress of a library call: a bar on a terminal, and a line now and then elsewhere."""
        now = perf_counter()
        if name not in self.times:
            self._task, self._started, self._told = self.progress.add_task(name, total=total), now, now
        self.times[name] = seconds = now - self._started
        self.progress.update(self._task, completed=done)
        if not console.is_terminal and now - self._told >= LINE_AFTER:
            self._told, rate = now, done / seconds
            left = f", {ceil((total - done) / rate):,} s left" if rate else ""
            say(f"{name}: {done:,} of {total:,} rows, {rate:,.0f} rows/s{left}")
        Stop.check()

    def print(self, line: str) -> None:
        """Print a line on standard output; bars on the same terminal give way to it."""
        if console.is_terminal:
            self.progress.stop()
        print(line)
        if console.is_terminal:
            self.progress.start()

    def share(self, name: str, seconds: float, of: str) -> None:
        """Count some seconds of a stage as another's."""
        self.times[name] += seconds
        self.times[of] -= seconds

    def report(self, rows: int | None) -> None:
        """The times and, of rows that were worked on, how many there were each second."""
        seconds = sum(self.times.values())
        stages = ", ".join(f"{name} {time:.2f}" for name, time in self.times.items())
        say(f"{seconds:.2f} s ({stages})" + (f", {rows / seconds:,.0f} rows/s" if rows is not None else ""))


def none_counts(rows: int, nulls: int) -> str:
    return "; no row counts" if nulls == rows else ""


def cohorts(by: Sequence[str], count: int) -> str:
    return f", in {Count(count):cohort} by {', '.join(by)}" if by else ""


def moments_table(population: Population) -> Table:
    table = plain_table("measure", "mean", "SD", "moments")
    for column, moments in population.measures.items():
        mean, sd = (f"{value:,.8g}" if isfinite(value) else "-" for value in (moments.mean, moments.sd))
        table.add_row(column, mean, sd, moments.method)
    return table


class Summary:
    """What is told of scored rows in the end.

    Parameters
    ----------
    program : Program
        That scored them.
    population : Population
        That they were scored against.
    counted : Totals or Manifest
        What they add up to.
    by : sequence of str
        The cohort columns.
    cohorts : int
        How many cohorts there are.
    """

    def __init__(
        self, program: Program, population: Population, counted: Totals | Manifest, by: Sequence[str], cohorts: int
    ) -> None:
        self.program, self.population, self.counted, self.by, self.cohorts = program, population, counted, by, cohorts
        self.totals: dict[str, Total] = dict(counted.points)
        if counted.base is not None and program.reward is not None:
            self.totals = {program.reward.base: counted.base, **self.totals}

    @property
    def line(self) -> str:
        """The program, and how many rows there are."""
        counted = self.counted
        files = f" in {Count(len(counted.parts)):file}" if isinstance(counted, Manifest) else ""
        rows = f"{Count(counted.rows):row}{files}, {counted.nulls:,} of them null"
        return f"{self.program.name}: {rows}{cohorts(self.by, self.cohorts)}{none_counts(counted.rows, counted.nulls)}"

    def tables(self) -> Iterator[Table]:
        """The population, the rates and the points."""
        if self.program.measures:
            yield moments_table(self.population)
        if self.counted.rates is not None:
            yield bands_table(self.program.rate_table, self.counted.rates)
        if self.totals:
            yield totals_table(self.totals, self.counted.rows - self.counted.nulls if self.counted.nulls else None)

    def to_dict(self) -> dict[str, Any]:
        """The same as data: means, SDs and rates as float, points as int, decimal totals as str; of a dataset also its
        run, and the number and the bytes of its parts."""
        counted = self.counted
        facts: dict[str, Any] = {"program": self.program.name, "rows": counted.rows, "nulls": counted.nulls}
        if self.by:
            facts |= {"by": list(self.by), "cohorts": self.cohorts}
        facts["measures"] = {
            name: {
                "mean": moments.mean if isfinite(moments.mean) else None,
                "sd": moments.sd if isfinite(moments.sd) else None,
                "moments": moments.method,
            }
            for name, moments in self.population.measures.items()
        }
        if counted.rates is not None:
            bands = bands_of(self.program.rate_table, counted.rates)
            facts["bands"] = [{"from": float(low), "to": float(high), "rows": rows} for low, high, rows in bands]
        facts["totals"] = {
            name: str(total) if isinstance(total, Decimal) else total for name, total in self.totals.items()
        }
        if isinstance(counted, Manifest):
            facts |= {"run": counted.run, "parts": len(counted.parts), "bytes": counted.bytes}
        return facts


def bands_of(rates: RateTable, counts: Mapping[float, int]) -> Iterator[tuple[Fraction, Fraction, int]]:
    """Neighbouring rates, at most `BANDS` groups of them: the lowest and the highest of each, and its rows."""
    shares = sorted({*rates.shares, *([Fraction(0)] if rates.below == "zero" else [])})
    size = -(-len(shares) // BANDS)
    for start in range(0, len(shares), size):
        band = shares[start : start + size]
        yield band[0], band[-1], sum(counts.get(float(share), 0) for share in band)


def bands_table(rates: RateTable, counts: Mapping[float, int]) -> Table:
    bands = list(bands_of(rates, counts))
    rows = [count for _, _, count in bands]
    table = plain_table("rate", "rows", "", bars=console.is_terminal)
    for *ends, count in bands:
        low, high = (f"{float(share * 100):g}%" for share in ends)
        share = percent(count, sum(rows) or 1)
        add_row(table, low if low == high else f"{low} to {high}", f"{count:,}", share, bar=bar(count, max(rows)))
    return table


def boards_of(boards: pa.Table, names: Sequence[str]) -> list[dict[str, Any]]:
    """How many are ranked on each board, and the points of its prizes."""
    numbers, prizes = boards["board"].combine_chunks().indices, boards["prize"]
    own = (prizes.filter(pc.equal(numbers, number)).to_numpy() for number in range(len(names)))
    return [
        {"board": name, "ranked": len(prizes), "points": exact_sum(prizes)}
        for name, prizes in zip(names, own, strict=True)
    ]


def boards_table(boards: Sequence[Mapping[str, Any]]) -> Table:
    most = max(board["points"] for board in boards)
    table = plain_table("board", "ranked", "points", bars=console.is_terminal)
    for board in boards:
        row = board["board"], f"{board['ranked']:,}", f"{board['points']:,}"
        add_row(table, *row, bar=bar(board["points"], most))
    return table


def plain_table(*headings: str, numbers: int = 2, bars: bool = False) -> Table:
    """A table without lines, whose columns after the first are numbers, as many as `numbers`.

    With `bars` it has a last column that is as wide as is left, up to `MOST_BAR`.
    """
    table = WholeTable(box=None, pad_edge=False, padding=(0, GAP // 2))
    for index, heading in enumerate(headings):
        number = 1 <= index <= numbers
        table.add_column(heading, justify="right" if number else "left", no_wrap=number, overflow="fold")
    if bars:
        table.add_column("", no_wrap=True)
    return table


def add_row(table: Table, *cells: str | Text, bar: Bar) -> None:
    table.add_row(*cells, *([bar] if len(table.columns) > len(cells) else []))


def costs_table(costs: Mapping[str, int], bars: bool) -> Table:
    """What each program pays, and how much more than the first."""
    first, *_ = costs.values()
    table = plain_table("program", "points", "difference", bars=bars)
    for name, cost in costs.items():
        difference = signed(f"{cost - first:+,}" if cost != first else "0")
        add_row(table, name, f"{cost:,}", difference, bar=bar(cost, max(costs.values())))
    return table


def winners_table(total: Tally, bands: Sequence[Tally], bars: bool) -> Table:
    """Who gains and who loses: rows and points, and of each band a bar of what it gains or loses on the whole."""
    shown = [band for band in bands if band.rows]
    most = max((abs(band.difference) for band in shown), default=0)
    table = plain_table("rows", "gain", "lose", "stay", "gained", "lost", numbers=5, bars=bars and bool(shown))
    for tally in (*shown, total):
        counts = (f"{count:,}" for count in (tally.gains, tally.loses, tally.stays))
        points = signed(f"{tally.gained:+,}" if tally.gained else "0"), signed(f"{-tally.lost:,}")
        color = GAIN if tally.difference > 0 else LOSE
        value = abs(tally.difference) if tally is not total else 0
        add_row(table, tally.band, *counts, *points, bar=bar(value, most, color))
    return table


def restatement_table(restatement: Restatement) -> Table:
    """The ids and points of each status, before and after, and what is due; of the differences also a bar."""
    lines = list(restatement.lines())
    most = max(abs(points) for _, _, points, is_difference in lines if is_difference)
    table = plain_table("status", "ids", "points", bars=console.is_terminal)
    for name, n, points, is_difference in lines:
        text = signed(f"{points:+,}" if points else "0") if is_difference else f"{points:,}"
        length = bar(abs(points) if is_difference else 0, most, GAIN if points > 0 else LOSE)
        add_row(table, name, f"{n:,}", text, bar=length)
    return table


def explanation_chart(facts: Mapping[str, Any], program: Program, lang: Lang) -> Table | None:
    """A bar for each thing that decided what a row is paid; None if it is not paid.

    How far above or below the centre each standard score and the score are, which stage each criterion reaches, or the
    points for each event.
    """
    rows: list[tuple[str, Text, Bar]] = []
    match program.rule:
        case StandardScore(centre=centre) if facts["score"] is not None:
            scores = [(each["column"], each["standard_score"]) for each in facts["measures"]]
            scores.append((WORDS[lang]["score_name"], facts["score"]))
            far = [(name, score - float(centre)) for name, score in scores]
            most = max(abs(distance) for _, distance in far) or 1
            for name, distance in far:
                color = GAIN if distance > 0 else LOSE
                length = Bar(2 * most, most + min(distance, 0), most + max(distance, 0), color=color)
                rows.append((name, Text(f"{distance:+,.4f}", color), length))
        case Stages() if facts["stage"] is not None:
            n_stages = len(program.rate_table.steps)
            rows = [
                (each["column"], Text(f"{each['stage']}"), bar(each["stage"], n_stages)) for each in facts["criteria"]
            ]
        case PerEvent() if facts["reward"] is not None:
            points = [(each["column"], each["count"] * each["referrer"]) for each in facts["events"]]
            most = max(each for _, each in points)
            rows = [(name, Text(f"{each:,}"), bar(each, most)) for name, each in points]
    if not rows:
        return None
    chart = plain_table("", "", numbers=1, bars=True)
    chart.show_header = False
    for name, number, length in rows:
        chart.add_row(NAMES[lang].get(name, (name, ""))[0], number, length)
    return chart


def totals_table(totals: Mapping[str, Total], scored: int | None = None) -> Table:
    """Totals of columns of points; `scored` is of how many rows, if not of all."""
    table = plain_table("points" if scored is None else f"points of {Count(scored):scored row}", "total")
    for name, total in totals.items():
        table.add_row(name, f"{total:,}")
    return table
