"""In memory: every contestant over the same rows, and pass 1 alone for each kind of moments, next to the bandwidth."""

import math
import statistics
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numba
import numpy as np
import pyarrow as pa

import hensa

from . import data, page, peers, roofline
from .data import MEASURES
from .peers import REGISTRY, Hensa, Peer
from .roofline import Bandwidth
from .timing import THREADS, Settings, in_turn, progress, shuffled, timed


@dataclass(frozen=True)
class Timing:
    """Medians in seconds, the least time of both passes, and in how many tie populations some rate is wrong."""

    peer: Peer
    pass1: float
    pass2: float
    job: float
    least_job: float
    wrong_ties: int


@dataclass(frozen=True)
class Reading:
    """Pass 1 alone, or what it is held against: its median in seconds, and the bytes that it reads."""

    name: str
    column: str
    seconds: float
    bytes: int
    bound: float  # seconds in which Numba's sum read as many bytes, at best
    textbook: float  # seconds of the textbook loop over the same columns


@dataclass(frozen=True)
class Contest:
    """All that one run found out."""

    rows: int
    rounds: int
    ties: int
    undecidable: int  # rows of the population that a float score may put on either side of a threshold
    timings: list[Timing]
    readings: list[Reading]
    measured: list[Bandwidth]
    reading: list[float]  # bytes per second on all threads, once in each round

    @property
    def base(self) -> Timing:
        return next((t for t in self.timings if t.peer.name == "hensa"), self.timings[0])

    @property
    def bound(self) -> Bandwidth:
        return next(b for b in self.measured if b.threads == THREADS)


def measure(given: Settings) -> Contest:
    rows = given.rows or (1_000_000 if given.quick else 10_000_000)
    if rows < 1_000:
        raise SystemExit("--rows: at least 1,000, so that both measures vary")
    rounds = given.rounds or (3 if given.quick else 7)
    return contest(list(given.only or REGISTRY), rows, rounds, range(0) if given.quick else range(2, 31))


def contest(names: list[str], rows: int, rounds: int, ties: range) -> Contest:
    """Check every contestant, then time them all in turn, in another order each round."""
    contestants = [REGISTRY[name] for name in names]
    progress("measuring memory bandwidth")
    before = bandwidths(rows)
    progress(f"checking {len(contestants)} contestants on {rows:,} rows")
    table = data.population(rows)
    truth = peers.exact(table)
    for peer in contestants:
        peers.check(peer, table, truth)
    undecidable = int(truth.undecidable.sum())
    wrong_ties = dict.fromkeys(names, 0)
    for z in ties:
        tie = data.tie(z)
        truth = peers.exact(tie)
        for peer in contestants:
            wrong_ties[peer.name] += peers.check(peer, tie, truth).wrong > 0
    prepared = [(peer, peer.prepare(table)) for peer in contestants]
    seconds: dict[str, tuple[list[float], ...]] = {name: ([], [], []) for name in names}
    during = []
    for number, order in enumerate(shuffled(prepared, rounds), 1):
        progress(f"round {number} of {rounds}")
        during.append(roofline.measure(rows * roofline.PASS2_BYTES, THREADS, rounds=1))
        for peer, native in order:
            for times, duration in zip(seconds[peer.name], turn(peer, native), strict=True):
                times.append(duration)
    del prepared, table
    progress("measuring pass 1 alone")
    readings = pass1_alone(rows, rounds)
    progress("measuring memory bandwidth again")
    after = bandwidths(rows)
    measured = [
        reduce(
            Bandwidth.best, (b for b in (*after, *during) if (b.size, b.threads) == (first.size, first.threads)), first
        )
        for first in before
    ]
    timings = [
        Timing(peer, *map(statistics.median, seconds[peer.name]), min(seconds[peer.name][-1]), wrong_ties[peer.name])
        for peer in contestants
    ]
    return Contest(rows, rounds, len(ties), undecidable, timings, readings, measured, [b.read for b in during])


def turn(peer: Peer, native: Any) -> tuple[float, float, float]:
    """Time pass 1, pass 2 and both, after one run of both that does not count; results are dropped outside the timing.

    The first run brings the contestant's code, data and, as far as its allocator keeps any, output pages back to where
    they are when it is called over and over, which is where the contestant before has driven them from.
    """
    peer.job(native)
    pass1, population = timed(peer.pass1, native)
    pass2, _ = timed(peer.pass2, native, population)
    del _
    job, _ = timed(peer.job, native)
    return pass1, pass2, job


def bandwidths(rows: int) -> list[Bandwidth]:
    sizes = dict.fromkeys((rows * roofline.PASS2_BYTES, roofline.LARGE))
    return [roofline.measure(size, threads) for size in sizes for threads in dict.fromkeys((1, THREADS))]


# Pass 1 alone

READING, TEXTBOOK = "reading alone", "textbook Welford, 1 thread"


@numba.njit(error_model="numpy")
def textbook_welford(values):
    """Welford (1962), one value at a time: the loop that every textbook prints, as compiled as C would be."""
    mean = m2 = 0.0
    for row in range(len(values)):
        delta = values[row] - mean
        mean += delta / (row + 1)
        m2 += delta * (values[row] - mean)
    return mean, math.sqrt(m2 / len(values))


def measures(rows: int) -> dict[str, pa.Table]:
    """The two measures alone, by the type of their columns; the floats have no short binary form."""
    counts = data.population(rows).select(MEASURES)
    floats = {name: pa.array(counts[name].to_numpy() * 1.1) for name in MEASURES}
    int64 = counts.cast(pa.schema([(name, pa.int64()) for name in MEASURES]))
    return {"int32": counts, "int64": int64, "float64": pa.table(floats)}


def pass1_contestants(tables: dict[str, pa.Table]) -> dict[tuple[str, str], Any]:
    """By name and type of column, calls without arguments; all but the reading return (mean, SD) of both measures."""
    program = Hensa().program

    def ours(table: pa.Table, method: str) -> list[tuple[float, float]]:
        population = hensa.population(table, program, method=method)
        return [(population[name].mean, population[name].sd) for name in MEASURES]

    calls: dict[tuple[str, str], Any] = {}
    for column, table in tables.items():
        arrays = [table[name].combine_chunks().to_numpy() for name in MEASURES]
        memory = np.ones(table.num_rows * 2 * arrays[0].itemsize // 8, dtype=np.int64)
        calls["hensa, exact", column] = lambda table=table: ours(table, "exact")
        calls["hensa, Welford's method", column] = lambda table=table: ours(table, "welford")
        calls[TEXTBOOK, column] = lambda arrays=arrays: [textbook_welford(values) for values in arrays]
        calls[READING, column] = lambda memory=memory: roofline.read(memory)
    return calls


def pass1_alone(rows: int, rounds: int) -> list[Reading]:
    tables = measures(rows)
    seconds = in_turn(pass1_contestants(tables), rounds)
    readings = []
    for (name, column), times in seconds.items():
        width = pa.type_for_alias(column).bit_width // 8
        textbook = statistics.median(seconds[TEXTBOOK, column])
        bound = min(seconds[READING, column])
        readings.append(Reading(name, column, statistics.median(times), rows * 2 * width, bound, textbook))
    return readings


# The page


def results_table(timings: list[Timing], bound: Bandwidth, rows: int, base: Timing) -> str:
    def line(t: Timing) -> list[str]:
        return [
            t.peer.name,
            f"{t.pass1 * 1e3:.2f}",
            f"{t.pass2 * 1e3:.2f}",
            f"{t.job * 1e3:.2f}",
            f"{t.least_job * 1e3:.2f}",
            f"{rows / t.job / 1e6:.0f} M",
            f"{rows * roofline.JOB_BYTES / t.job / 1e9:.1f}",
            f"{bound.pass1_seconds(rows) / t.pass1:.0%}",
            f"{bound.job_seconds(rows) / t.job:.0%}",
            f"{t.job / base.job:.2f}",
        ]

    times = ["pass 1 ms", "pass 2 ms", "both ms", "least ms", "rows/s", "GB/s"]
    header = ["contestant", *times, "pass 1 of bound", "both of bound", "time / hensa"]
    return page.table(header, map(line, sorted(timings, key=lambda t: t.job)))


def pass1_table(readings: list[Reading]) -> str:
    header = ["pass 1 alone", "columns", "ms", "GB/s", "of reading", "× textbook"]
    rows = (
        [
            r.name,
            r.column,
            f"{r.seconds * 1e3:.2f}",
            f"{r.bytes / r.seconds / 1e9:.1f}",
            f"{r.bound / r.seconds:.0%}",
            "" if r.name == READING else f"{r.textbook / r.seconds:.1f}",
        ]
        for r in sorted(readings, key=lambda r: (r.column, r.seconds))
    )
    return page.table(header, rows, text=2)


def bandwidth_table(measured: list[Bandwidth], rows: int) -> str:
    header = "memory, threads, read, write, write past the caches, copy, bound of the job ms"
    lines = (
        [f"{b.size / 2**20:,.0f} MiB", str(b.threads)]
        + [f"{rate / 1e9:.1f}" for rate in (b.read, b.write, b.write_past_cache, b.copy)]
        + [f"{b.job_seconds(rows) * 1e3:.2f}"]
        for b in measured
    )
    return page.table(header.split(", "), lines)


def contestants_table(timings: list[Timing], ties: int) -> str:
    header = ["contestant", "version", "how"] + (["ties wrong"] if ties else [])
    lines = (
        [t.peer.name, t.peer.version, t.peer.note] + ([f"{t.wrong_ties} of {ties}"] if ties else []) for t in timings
    )
    return page.table(header, lines, text=3)


def chart(run: Contest) -> str:
    """Both passes as bars, the fastest on top, with the memory bound as a line."""
    entries = [
        (
            t.peer.name,
            t.job,
            f"{t.job * 1e3:.1f} ms" + ("" if t is run.base else f", {t.job / run.base.job:.1f}×"),
            t.peer.package == "hensa",
        )
        for t in sorted(run.timings, key=lambda t: t.job)
    ]
    bound = run.bound.job_seconds(run.rows)
    title = f"Both passes over {run.rows:,} rows, × {run.base.peer.name}"
    return page.bars(title, entries, (bound, f"memory bound {bound * 1e3:.1f} ms"))


def render(run: Contest) -> page.Page:
    rows, bound = run.rows, run.bound
    tie_text = (
        f"\n\n*Ties wrong*: of {run.ties} populations whose exact scores are whole numbers (2,000 ones and 2,000·z²"
        f" zeros, z from 2 to {run.ties + 1}, shuffled, as both measures: the ones score exactly 50 + z), those in"
        " which some row got another rate or reward than exact arithmetic gives."
        if run.ties
        else ""
    )
    body = f"""\
## {rows:,} rows in memory

{page.provenance(f"memory --rows {rows}")}

The job: two int32 measures and an int64 base; mean and SD of the measures (pass 1), then score, rate and reward of
every row, 24 bytes in row order (pass 2). Outputs are fresh unless the name says otherwise. Medians of {run.rounds}
rounds and the least time for both passes; in each round all contestants take their turn, in another order, and run
once before they are timed. Set-up (conversion to the contestant's own form, compilation) is outside the timing.

![Time for both passes](benchmarks.svg)

{results_table(run.timings, bound, rows, run.base)}

GB/s counts the {roofline.JOB_BYTES} bytes per row that must move: {roofline.PASS1_BYTES} read in pass 1, 16 read and
24 written in pass 2. *Of bound* is the share of what the machine's memory allows for these bytes
({bound.job_seconds(rows) * 1e3:.2f} ms for both passes), from the first line of all threads below: pass 1 at the speed
of reading, then 16 bytes copied to 16 and 8 bytes written at the faster of the two ways to write. It holds for memory
that is mapped already. Fresh outputs of NumPy and Numba are new pages of the system in each call, whose cost varies
from run to run; hensa, Polars, DuckDB and pyarrow have allocators that keep pages for the next call.

### Pass 1 alone

{pass1_table(run.readings)}

Mean and SD of two columns, medians of {run.rounds} rounds in turn. *Of reading* compares with the best time in which
Numba's sum over int64 read as many bytes on all threads; its median is a line of its own, which shows how steady the
machine was. *Textbook Welford* is the loop of one update per value (Welford 1962) over the same columns, compiled by
Numba without fast-math, on one thread, since each of its steps waits for the one before.

### Memory bandwidth

{bandwidth_table(run.measured, rows)}

GB/s, the best of all runs: five before and five after the contest, and for its size one in each round on all threads.
Numba loops over int64: a sum, a constant into each element with ordinary and with non-temporal stores, and a copy (the
faster of the two stores). An ordinary store first fetches the cache line that it overwrites; that traffic is not
counted as bytes moved. Pages are touched beforehand. The smaller memory is the size of the job's inputs and outputs
together, the larger one is far beyond most caches.
Between the rounds the machine read at a median of {statistics.median(run.reading) / 1e9:.1f} GB/s (best
{bound.read / 1e9:.1f}): much less means that it was busy with other work, and the times above are too long.

### The contestants

Each is written as its own good users would write it, with integer arithmetic for the rewards, and is checked row by
row against exact arithmetic before it is timed (`bench/peers.py`): scores within {peers.BOUND:g} of
(|t₁| + |t₂| + 50), rates and rewards equal, except in rows whose exact score lies so near a threshold that a float
score may fall on either side. Of the {rows:,} rows timed here, {run.undecidable:,} are such rows.{tie_text}

{contestants_table(run.timings, run.ties)}"""
    readme = f"""\
## Speed

![Both passes over {rows:,} rows: hensa and others](docs/benchmarks.svg)

{rows:,} rows in memory, both passes, on {THREADS} CPUs; the red line is what the memory of the machine allows for the
bytes that must move. [docs/benchmarks.md](docs/benchmarks.md) has the figures and says how to measure them."""
    return page.Page(body, readme, {"benchmarks.svg": chart(run)})
