"""Timing in one place: contestants take turns; calls are timed without garbage collection, processes from outside."""

import gc
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

ROOT = Path(__file__).parents[1]
THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Settings:
    """What the command line asks of every section; a section has its own rows and rounds when they are None."""

    rows: int | None = None
    rounds: int | None = None
    large: bool = False
    quick: bool = False
    only: tuple[str, ...] = ()


def progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def shuffled(contestants: Iterable[T], rounds: int) -> Iterator[list[T]]:
    """Yield all contestants once for each round, in another order each time, the same in every run."""
    order, contestants = random.Random(2019), list(contestants)
    for _ in range(rounds):
        order.shuffle(contestants)
        yield list(contestants)


def timed(function: Callable[..., T], *arguments: Any) -> tuple[float, T]:
    """Call a function once; return its seconds and its result."""
    gc.collect()
    gc.disable()
    try:
        start = time.perf_counter()
        result = function(*arguments)
        return time.perf_counter() - start, result
    finally:
        gc.enable()


def in_turn(calls: Mapping[str, Callable[[], Any]], rounds: int, *, warm: bool = True) -> dict[str, list[float]]:
    """Time every call once in each round, and return the seconds of each.

    In the first round, or with `warm` in each, every call first runs once untimed: it brings its code, its data and, as
    far as its allocator keeps any, its output pages back from where the call before has driven them. Results are
    dropped outside the timing.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for number, order in enumerate(shuffled(calls, rounds)):
        for name in order:
            if warm or number == 0:
                calls[name]()
            duration, result = timed(calls[name])
            del result
            seconds[name].append(duration)
    return seconds


def medians(calls: Mapping[str, Callable[[], Any]], rounds: int, *, warm: bool = True) -> dict[str, float]:
    return {name: statistics.median(seconds) for name, seconds in in_turn(calls, rounds, warm=warm).items()}


def repeated(function: Callable[[], Any], calls: int) -> Callable[[], None]:
    """Make one call of many, for what takes microseconds."""

    def run() -> None:
        for _ in range(calls):
            function()

    return run


@dataclass(frozen=True)
class Process:
    """What a process took, from its start to its end."""

    seconds: float
    peak: int  # bytes of memory resident at most
    output: str
    messages: str


# A process inherits the peak of the one that started it, so a small one stands between.
LAUNCHER = """
import json, os, sys, time
start = time.perf_counter()
os.environ.pop('PYTHONDONTWRITEBYTECODE', None)  # modules are compiled once, as of installed packages
pid = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ)
_, status, usage = os.wait4(pid, 0)
seconds = time.perf_counter() - start
unit = 1 if sys.platform == "darwin" else 1024
result = dict(seconds=seconds, peak=usage.ru_maxrss * unit, status=os.waitstatus_to_exitcode(status))
sys.stderr.write("\\n" + json.dumps(result))
"""


def process(command: Sequence[str]) -> Process:
    """Run a command to its end in the folder of the project.

    Raises
    ------
    RuntimeError
        The command failed; the text has its messages.

    Examples
    --------
    >>> process([sys.executable, "-c", "print(6 * 7)"]).output
    '42\\n'
    """
    run = subprocess.run(
        [sys.executable, "-I", "-S", "-c", LAUNCHER, *command], capture_output=True, text=True, cwd=ROOT, check=True
    )
    messages, _, last = run.stderr.rpartition("\n")
    result = json.loads(last)
    if result["status"]:
        raise RuntimeError(f"{' '.join(command[:4])} ...: exit code {result['status']}\n{messages}")
    return Process(result["seconds"], result["peak"], run.stdout, messages)
