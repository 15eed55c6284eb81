"""Run every contestant in turn, next to the memory bandwidth of the machine, and render docs/benchmarks.md.

    python -m bench                    10 million rows, 7 rounds
    python -m bench --rows 1000000     another size
    python -m bench --quick            1 million rows, 3 rounds, printed only

Whatever stands in docs/benchmarks.md outside the two marker lines is kept.
"""

import argparse
import gc
import os
import platform
import random
import statistics
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from functools import reduce
from html import escape
from pathlib import Path
from typing import Any

from . import data, peers, roofline
from .peers import REGISTRY, THREADS, Peer
from .roofline import Bandwidth

BEGIN, END = "<!-- rendered by python -m bench: begin -->", "<!-- rendered by python -m bench: end -->"
NEW_PAGE = f"# Benchmarks\n\n{BEGIN}\n{END}\n\n## Tried and did not pay\n\nNothing yet.\n"


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
class Contest:
    """All that one run found out."""

    rows: int
    rounds: int
    ties: int
    undecidable: int  # rows of the population that a float score may put on either side of a threshold
    timings: list[Timing]
    measured: list[Bandwidth]
    reading: list[float]  # bytes per second on all threads, once in each round

    @property
    def base(self) -> Timing:
        return next((t for t in self.timings if t.peer.name == "hensa"), self.timings[0])

    @property
    def bound(self) -> Bandwidth:
        return next(b for b in self.measured if b.threads == THREADS)


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
    seconds = {name: ([], [], []) for name in names}
    during = []
    order = random.Random(data.SEED)
    for number in range(1, rounds + 1):
        progress(f"round {number} of {rounds}")
        during.append(roofline.measure(rows * roofline.PASS2_BYTES, THREADS, rounds=1))
        order.shuffle(prepared)
        for peer, native in prepared:
            for times, duration in zip(seconds[peer.name], turn(peer, native), strict=True):
                times.append(duration)
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
    return Contest(rows, rounds, len(ties), undecidable, timings, measured, [b.read for b in during])


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


def timed(function, *arguments):
    gc.collect()
    gc.disable()
    try:
        start = time.perf_counter()
        result = function(*arguments)
        return time.perf_counter() - start, result
    finally:
        gc.enable()


def bandwidths(rows: int) -> list[Bandwidth]:
    sizes = dict.fromkeys((rows * roofline.PASS2_BYTES, roofline.LARGE))
    return [roofline.measure(size, threads) for size in sizes for threads in dict.fromkeys((1, THREADS))]


def progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def memory_gib() -> str:
    try:
        return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB of memory, "
    except (AttributeError, ValueError, OSError):
        return ""


def markdown_table(header: list[str], lines: Iterable[list[str]], *, text: int = 1) -> str:
    """Lay out a table whose first `text` columns are words and the others numbers."""
    rule = ["---"] * text + ["---:"] * (len(header) - text)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, rule, *lines))


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
    return markdown_table(header, map(line, sorted(timings, key=lambda t: t.job)))


def bandwidth_table(measured: list[Bandwidth], rows: int) -> str:
    header = "memory, threads, read, write, write past the caches, copy, bound of the job ms"
    lines = (
        [f"{b.size / 2**20:,.0f} MiB", str(b.threads)]
        + [f"{rate / 1e9:.1f}" for rate in (b.read, b.write, b.write_past_cache, b.copy)]
        + [f"{b.job_seconds(rows) * 1e3:.2f}"]
        for b in measured
    )
    return markdown_table(header.split(", "), lines)


def contestants_table(timings: list[Timing], ties: int) -> str:
    header = ["contestant", "version", "how"] + (["ties wrong"] if ties else [])
    lines = (
        [t.peer.name, t.peer.version, t.peer.note] + ([f"{t.wrong_ties} of {ties}"] if ties else []) for t in timings
    )
    return markdown_table(header, lines, text=3)


def section(run: Contest) -> str:
    """Write what stands between the markers."""
    rows, bound = run.rows, run.bound
    tie_text = (
        f"\n\n*Ties wrong*: of {run.ties} populations whose exact scores are whole numbers (2,000 ones and 2,000·z²"
        f" zeros, z from 2 to {run.ties + 1}, shuffled, as both measures: the ones score exactly 50 + z), those in"
        " which some row got another rate or reward than exact arithmetic gives."
        if run.ties
        else ""
    )
    return f"""\
Measured on {date.today().isoformat()} by `python -m bench --rows {rows}`: {cpu_name()}, {THREADS} CPUs, {memory_gib()}\
{platform.system()} {platform.release()}, Python {platform.python_version()}.

## {rows:,} rows in memory

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

## Memory bandwidth

{bandwidth_table(run.measured, rows)}

GB/s, the best of all runs: five before and five after the contest, and for its size one in each round on all threads.
Numba loops over int64: a sum, a constant into each element with ordinary and with non-temporal stores, and a copy (the
faster of the two stores). An ordinary store first fetches the cache line that it overwrites; that traffic is not
counted as bytes moved. Pages are touched beforehand. The smaller memory is the size of the job's inputs and outputs
together, the larger one is far beyond most caches.
Between the rounds the machine read at a median of {statistics.median(run.reading) / 1e9:.1f} GB/s (best
{bound.read / 1e9:.1f}): much less means that it was busy with other work, and the times above are too long.

## The contestants

Each is written as its own good users would write it, with integer arithmetic for the rewards, and is checked row by
row against exact arithmetic before it is timed (`bench/peers.py`): scores within {peers.BOUND:g} of
(|t₁| + |t₂| + 50), rates and rewards equal, except in rows whose exact score lies so near a threshold that a float
score may fall on either side. Of the {rows:,} rows timed here, {run.undecidable:,} are such rows.{tie_text}

{contestants_table(run.timings, run.ties)}"""


def merged(page: str, body: str) -> str:
    """Put a new body between the markers of a page, leaving the rest as it is."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"the page has no lines {BEGIN} and {END} to write between; add them where the tables belong")
    return f"{before}{BEGIN}\n{body}\n{END}{after}"


def chart(run: Contest) -> str:
    """Draw both passes as horizontal bars, the fastest on top, with the memory bound as a line."""
    timings = sorted(run.timings, key=lambda t: t.job)
    bound_seconds = run.bound.job_seconds(run.rows)
    left, width, step, top = 190, 440, 26, 44
    height = top + step * len(timings) + 26
    scale = width / max(t.job for t in timings)
    bound = left + bound_seconds * scale
    bars = []
    for number, t in enumerate(timings):
        y = top + step * number
        ours = ' class="ours"' if t.peer.package == "hensa" else ""
        label = f"{t.job * 1e3:.1f} ms" + ("" if t is run.base else f", {t.job / run.base.job:.1f}×")
        bars.append(
            f'<text x="{left - 8}" y="{y + 14}" text-anchor="end">{escape(t.peer.name)}</text>'
            f'<rect{ours} x="{left}" y="{y}" width="{max(t.job * scale, 1):.1f}" height="18" rx="2"/>'
            f'<text x="{left + t.job * scale + 6:.1f}" y="{y + 14}">{label}</text>'
        )
    end = top + step * len(timings)
    title = f"Both passes over {run.rows:,} rows"
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 780 {height}" role="img" font-family="sans-serif" font-size="13">
<title>{title}</title>
<style>text{{fill:#24292f}} rect{{fill:#9aa4b2}}
.ours{{fill:#0a7d5a}}.page{{fill:#fff}}line{{stroke:#b3261e}}
.note{{fill:#b3261e;font-size:11px}}</style>
<rect class="page" width="780" height="{height}"/>
<text x="{left}" y="24" font-size="15" font-weight="bold">{title}, × {run.base.peer.name}</text>
{chr(10).join(bars)}
<line x1="{bound:.1f}" x2="{bound:.1f}" y1="{top - 6}" y2="{end}"/>
<text class="note" x="{bound:.1f}" y="{end + 14}">memory bound {bound_seconds * 1e3:.1f} ms</text>
</svg>
"""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--rows", type=int, help="rows of the population (default: 10 million, or 1 million with --quick)"
    )
    parser.add_argument("--rounds", type=int, help="rounds that count (default: 7, or 3 with --quick)")
    parser.add_argument("--quick", action="store_true", help="a smaller run without ties, printed and not written")
    parser.add_argument(
        "--only", action="append", choices=list(REGISTRY), metavar="NAME", help="take only this one; may be repeated"
    )
    parser.add_argument("--docs", type=Path, help="folder of benchmarks.md and benchmarks.svg (default: docs, or none)")
    given = parser.parse_args()
    given.rows = given.rows or (1_000_000 if given.quick else 10_000_000)
    if given.rows < 1_000:
        parser.error("--rows: at least 1,000, so that both measures vary")
    given.rounds = given.rounds or (3 if given.quick else 7)
    given.docs = given.docs or (None if given.quick or given.only else Path("docs"))
    return given


def main() -> None:
    given = arguments()
    run = contest(given.only or list(REGISTRY), given.rows, given.rounds, range(0) if given.quick else range(2, 31))
    body = section(run)
    print(body)
    if given.docs:
        given.docs.mkdir(parents=True, exist_ok=True)
        page = given.docs / "benchmarks.md"
        page.write_text(merged(page.read_text(encoding="utf-8") if page.exists() else NEW_PAGE, body), encoding="utf-8")
        page.with_suffix(".svg").write_text(chart(run), encoding="utf-8")
        progress(f"wrote {page} and {page.with_suffix('.svg')}")


if __name__ == "__main__":
    main()
