"""What the command shows on a terminal: messages, progress, tables and bars, all on standard error."""

import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Context, Decimal
from fractions import Fraction
from math import ceil
from threading import Lock
from time import perf_counter
from typing import Any, TypeAlias

try:
    import typer
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.table import Table
    from typer.core import TyperGroup
except ModuleNotFoundError as missing:
    raise SystemExit(f'hensa: the command needs {missing.name}; install it with: pip install "hensa[cli]"') from missing

import pyarrow as pa
import pyarrow.compute as pc

from hensa.columns import exact_sum
from hensa.comparison import Tally
from hensa.errors import HensaError
from hensa.files import sentence
from hensa.population import Population
from hensa.program import PerEvent, Program, RateTable

__all__ = [
    "Commands",
    "Run",
    "Stop",
    "Summary",
    "bands_table",
    "boards_table",
    "cohorts",
    "console",
    "costs_table",
    "ending",
    "moments_table",
    "plain_table",
    "printer",
    "say",
    "total_of",
    "totals_table",
    "typer",
    "winners_table",
]

Total: TypeAlias = int | Decimal
EXACT = Context(prec=100)  # the sums of Arrow have at most 76 digits

BANDS = 11  # so that a table of the steps 0 to 100 falls into tens

console = Console(stderr=True, highlight=False, markup=False, emoji=False)
printer = Console(highlight=False, markup=False, emoji=False)
"""For tables that are what was asked for, so that they go to standard output."""


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
        give_up_stdout()
        raise typer.Exit(1) from None
    except (KeyboardInterrupt, pa.ArrowCancelled):
        say("hensa: interrupted.")
        raise typer.Exit(130) from None
    except (HensaError, OSError, pa.ArrowException, MemoryError) as error:
        give_up_stdout()  # what was printed comes before the error that ends it
        say(f"hensa: {sentence(error)}")
        raise typer.Exit(1) from None


class Commands(TyperGroup):
    """Commands that end like that."""

    def invoke(self, ctx: Any) -> Any:
        with ending():
            return super().invoke(ctx)


def say(message: str) -> None:
    console.print(message, soft_wrap=True)


def give_up_stdout() -> None:
    """Drop what standard output does not take, or the flush at exit would complain once more."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


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

    def share(self, name: str, seconds: float, of: str) -> None:
        """Count some seconds of a stage as another's."""
        self.times[name] += seconds
        self.times[of] -= seconds

    def report(self, rows: int) -> None:
        seconds = sum(self.times.values())
        stages = ", ".join(f"{name} {time:.2f}" for name, time in self.times.items())
        say(f"{seconds:.2f} s ({stages}), {rows / seconds:,.0f} rows/s")


def cohorts(population: Population) -> str:
    return f", in {len(population.cohorts):,} cohorts by {', '.join(population.by)}" if population.by else ""


def moments_table(population: Population) -> Table:
    table = plain_table("measure", "mean", "SD", "moments")
    for column, moments in population.measures.items():
        table.add_row(column, f"{moments.mean:,.8g}", f"{moments.sd:,.8g}", moments.method)
    return table


class Summary:
    """What is told of scored rows in the end; they may come in parts, from several threads."""

    def __init__(self, program: Program, columns: Sequence[str]) -> None:
        self._nulls = Counter(dict.fromkeys(columns, 0))
        self._has_rate = "rate" in columns
        self._base = program.reward.base if "reward" in columns and program.reward is not None else None
        self._paid = columns if isinstance(program.rule, PerEvent) else ["reward"] if self._base else []
        self._lock = Lock()
        self.n_rows = 0
        self.columns: list[str] = []
        self.rates: Counter[float] = Counter()
        self.totals: dict[str, Total] = {}

    def add(self, paid: pa.Table) -> None:
        nulls = {name: paid[name].null_count for name in self._nulls}
        rates = pc.value_counts(paid["rate"].drop_null()).to_pylist() if self._has_rate else []
        totals = {name: total_of(paid[name]) for name in self._paid}
        if self._base is not None:
            base = paid[self._base]
            if paid["reward"].null_count:
                base = base.filter(pc.is_valid(paid["reward"]))
            totals = {self._base: total_of(base), **totals}
        with self._lock:
            self.n_rows += paid.num_rows
            self.columns = paid.column_names
            self._nulls.update(nulls)
            self.rates.update({pair["values"]: pair["counts"] for pair in rates})
            for name, total in totals.items():
                self.totals[name] = _sum(self.totals[name], total) if name in self.totals else total

    @property
    def nulls(self) -> int:
        return min(self._nulls.values())


def _sum(a: Total, b: Total) -> Total:
    """The sum with all digits; the operator rounds decimals to 28."""
    return EXACT.add(a, b) if isinstance(a, Decimal) or isinstance(b, Decimal) else a + b


def bands_table(rates: RateTable, counts: Mapping[float, int]) -> Table:
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


def boards_table(boards: pa.Table, names: list[str]) -> Table:
    """How many are ranked on each board, and the points of its prizes."""
    table = plain_table("board", "ranked", "points")
    numbers, prizes = boards["board"].combine_chunks().indices, boards["prize"]
    for number, name in enumerate(names):
        own = prizes.filter(pc.equal(numbers, number)).to_numpy()
        table.add_row(name, f"{len(own):,}", f"{exact_sum(own):,}")
    return table


def plain_table(*headings: str, numbers: int = 2) -> Table:
    """A table without lines, whose columns after the first are numbers, as many as `numbers`."""
    table = Table(box=None, pad_edge=False)
    for index, heading in enumerate(headings):
        table.add_column(heading, justify="right" if 1 <= index <= numbers else "left", overflow="fold")
    return table


def costs_table(costs: Mapping[str, int]) -> Table:
    """What each program pays, and how much more than the first."""
    first, *_ = costs.values()
    table = plain_table("program", "points", "difference")
    for name, cost in costs.items():
        table.add_row(name, f"{cost:,}", f"{cost - first:+,}" if cost != first else "0")
    return table


def winners_table(total: Tally, bands: Sequence[Tally]) -> Table:
    """Who gains and who loses: rows and points."""
    table = plain_table("rows", "gain", "lose", "stay", "gained", "lost", numbers=5)
    for tally in (*(band for band in bands if band.rows), total):
        counts = (tally.gains, tally.loses, tally.stays, tally.gained, tally.lost)
        table.add_row(tally.band, *(f"{count:,}" for count in counts))
    return table


def totals_table(totals: Mapping[str, Total]) -> Table:
    table = plain_table("points", "total")
    for name, total in totals.items():
        table.add_row(name, f"{total:,}")
    return table


def total_of(column: pa.ChunkedArray) -> Total:
    if pa.types.is_integer(column.type):
        lowest, highest = (extreme or 0 for extreme in pc.min_max(column).as_py().values())
        if max(-lowest, highest) * len(column) >= 2**63:  # the sum of integers would wrap around
            column = column.cast(pa.decimal128(38, 0))
    elif pa.types.is_decimal(column.type):  # as wide as no sum fills; Arrow adds up no narrower ones than decimal128
        column = column.cast(pa.decimal256(76, column.type.scale))
    total: Total = pc.sum(column).as_py() or 0
    return total
