"""How cost grows: time per row and peak memory from 10,000 rows to a billion, in memory and as a stream of batches.

python -m bench.growth memory|stream ROWS    one measurement, as JSON, in a process of its own
"""

import json
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

import hensa

from . import data, page
from .timing import Settings, process, progress

BATCH = 1 << 20
LARGEST, LARGEST_IN_MEMORY = 10**9, 10**8


def batches(rows: int) -> Iterator[pa.RecordBatch]:
    """Make rows on the fly: a million seeded ones over and over, each time rotated by another number of rows."""
    template = data.population(min(rows, BATCH))
    columns = [(name, template[name].to_numpy()) for name in template.column_names]
    for number, start in enumerate(range(0, rows, BATCH)):
        kept = min(BATCH, rows - start)
        arrays = {name: pa.array(np.roll(values, number * 7919)[:kept]) for name, values in columns}
        yield pa.record_batch(arrays)


def in_memory(rows: int) -> Iterator[float]:
    """Score all rows at once; yield the seconds of one run after another."""
    program = hensa.Program.load("hapitas-friend")
    table = pa.Table.from_batches(batches(rows))
    hensa.score(table.slice(0, BATCH), program)
    while True:
        start = time.perf_counter()
        scored = hensa.score(table, program)
        yield time.perf_counter() - start
        del scored


def stream(rows: int) -> Iterator[float]:
    """Score batch by batch, in two passes; yield the seconds that hensa took, without the making of the batches."""
    program = hensa.Program.load("hapitas-friend")
    while True:
        yield sum(seconds for seconds, _ in scored_stream(rows, program))


def scored_stream(rows: int, program: hensa.Program) -> Iterator[tuple[float, pa.Table | None]]:
    """Take both passes over the batches; yield the seconds of each call, and in pass 2 its result."""
    population = None
    for batch in batches(rows):
        start = time.perf_counter()
        part = hensa.population(batch, program)
        population = part if population is None else population + part
        yield time.perf_counter() - start, None
    for batch in batches(rows):
        start = time.perf_counter()
        scored = hensa.score(batch, program, population=population)
        yield time.perf_counter() - start, scored


MODES = {"memory": in_memory, "stream": stream}


def repetitions(rows: int) -> int:
    """As many runs as go into a few seconds; a single one of a billion rows."""
    return max(1, min(101, 3 * 10**8 // rows))


@dataclass(frozen=True)
class Growth:
    """Seconds and peak bytes by mode and rows."""

    seconds: dict[tuple[str, int], float]
    peaks: dict[tuple[str, int], int]


def measure(given: Settings) -> Growth:
    largest = given.rows or (10**6 if given.quick else LARGEST)
    found = Growth({}, {})
    for mode in MODES:
        rows = 10_000
        while rows <= (min(largest, LARGEST_IN_MEMORY) if mode == "memory" else largest):
            progress(f"{rows:,} rows, {mode}")
            run = process([sys.executable, "-m", "bench.growth", mode, str(rows)])
            found.seconds[mode, rows] = json.loads(run.output)
            found.peaks[mode, rows] = run.peak
            rows *= 10
    return found


def render(found: Growth) -> page.Page:
    names = {"memory": "in memory", "stream": "streamed"}
    every = sorted({rows for _, rows in found.seconds})

    def cell(figures: dict[tuple[str, int], float], mode: str, rows: int, scale: float, form: str) -> str:
        return format(figures[mode, rows] * scale, form) if (mode, rows) in figures else ""

    table = page.table(
        ["rows", "in memory ns/row", "streamed ns/row", "in memory peak MiB", "streamed peak MiB"],
        (
            [f"{rows:,}"]
            + [cell(found.seconds, mode, rows, 1e9 / rows, ".2f") for mode in MODES]
            + [cell(found.peaks, mode, rows, 2**-20, ",.0f") for mode in MODES]
            for rows in every
        ),
    )
    panels = [
        (
            label,
            {
                names[mode]: [(rows, figures[m, rows] * scale(rows)) for m, rows in figures if m == mode]
                for mode in MODES
            },
        )
        for label, figures, scale in (
            ("ns per row, both passes", found.seconds, lambda rows: 1e9 / rows),
            ("peak memory of the process, MiB", found.peaks, lambda rows: 2**-20),
        )
    ]
    title = "Time per row and peak memory by number of rows"
    body = f"""\
## How cost grows

{page.provenance("growth", "numpy", "pyarrow")}

![{title}](growth.svg)

{table}

Both passes, each size in a process of its own; medians of up to 101 runs, a single one for a billion rows. *In memory*
scores one table, whose rows (16 bytes each) and results (24 bytes) are in memory at once. *Streamed* takes batches of
{BATCH:,} rows that are made on the fly and dropped: their populations are merged with `+`, then each batch is scored
against the sum; making the rows is not counted. Peak memory is that of the whole process, imports included."""
    readme = f"""\
![{title}](docs/growth.svg)

Both passes over 10,000 to {every[-1]:,} rows, in memory and streamed in batches, on logarithmic scales."""
    return page.Page(body, readme, {"growth.svg": page.lines(title, panels)})


def main() -> None:
    mode, rows = sys.argv[1], int(sys.argv[2])
    runs = MODES[mode](rows)
    print(json.dumps(statistics.median(next(runs) for _ in range(repetitions(rows)))))


if __name__ == "__main__":
    main()
