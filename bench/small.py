"""Small batches: one row and a thousand, next to NumPy; and what `import hensa` takes, next to `import pyarrow`."""

import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import hensa

from . import data, page
from .peers import Hensa, NumPy, numpy_columns
from .timing import Settings, medians, process, progress, repeated, shuffled

NEW, GIVEN = "both passes", "against a stored population"
CALLS = 200  # timed as one
IMPORT = """\
import time
start = time.perf_counter()
import {}
print(time.perf_counter() - start)
"""


@dataclass(frozen=True)
class Small:
    """Medians in seconds: of one call by (rows, what, contestant), and of an import by package."""

    calls: dict[tuple[int, str, str], float]
    imports: dict[str, float]


def contestants(rows: int) -> dict[tuple[int, str, str], Callable[[], Any]]:
    """Calls on the same few rows. NumPy does not score a single row against itself: its SD is 0."""
    table, program, peer = data.population(max(rows, 2)), Hensa().program, NumPy()
    stored = hensa.population(data.population(1_000), program)
    moments = peer.pass1(peer.prepare(data.population(1_000)))
    table = table.slice(0, rows)
    arrays = numpy_columns(table)
    named = dict(zip(table.column_names, arrays, strict=True))
    calls: dict[tuple[int, str, str], Callable[[], Any]] = {}
    for name, form in (("hensa, Arrow table", table), ("hensa, dict of arrays", named)):
        calls[rows, NEW, name] = partial(hensa.score, form, program)
        calls[rows, GIVEN, name] = partial(hensa.score, form, program, population=stored)
    if rows > 1:
        calls[rows, NEW, peer.name] = partial(peer.job, arrays)
    calls[rows, GIVEN, peer.name] = partial(peer.pass2, arrays, moments)
    return calls


def imports(rounds: int) -> dict[str, float]:
    """Import each package in fresh interpreters, in turn."""
    seconds: dict[str, list[float]] = {package: [] for package in ("hensa", "pyarrow", "numpy")}
    for order in shuffled(seconds, rounds):
        for package in order:
            seconds[package].append(float(process([sys.executable, "-c", IMPORT.format(package)]).output))
    return {package: statistics.median(times) for package, times in seconds.items()}


def measure(given: Settings) -> Small:
    rounds = given.rounds or (5 if given.quick else 25)
    calls = {key: repeated(call, CALLS) for rows in (1, 1_000) for key, call in contestants(rows).items()}
    seconds = {key: duration / CALLS for key, duration in medians(calls, rounds).items()}
    progress("importing in fresh interpreters")
    imports(1)  # reads the files for the first time
    return Small(seconds, imports(rounds))


def render(found: Small) -> page.Page:
    def line(key: tuple[int, str, str]) -> list[str]:
        rows, what, name = key
        numpy = found.calls.get((rows, what, "NumPy"))
        ratio = f"{found.calls[key] / numpy:.2f}" if numpy else "NumPy divides by 0"
        return [f"{rows:,}", what, name, f"{found.calls[key] * 1e6:.1f}", ratio]

    calls = page.table(["rows", "job", "contestant", "µs", "time / NumPy"], map(line, found.calls), text=3)
    pyarrow = found.imports["pyarrow"]
    lines = ([f"`import {name}`", f"{s * 1e3:.1f}", f"{s / pyarrow:.2f}"] for name, s in found.imports.items())
    return page.Page(f"""\
## Small batches, and the import

{page.provenance("small", "numpy", "pyarrow")}

{calls}

Medians of rounds in turn; each time is that of {CALLS} calls over {CALLS}.

{page.table(["in a fresh interpreter", "ms", "time / pyarrow"], lines)}""")
