"""Rows shared out to threads."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import TypeVar

from hensa.errors import HensaError

__all__ = ["UNIT", "share_out"]

T = TypeVar("T")

UNIT = 2**18
"""Rows of one piece of work; pieces start at multiples of it, whatever the number of threads."""


def share_out(work: Callable[[int, int], T], n_rows: int, threads: int | None) -> list[T]:
    """Call ``work(start, stop)`` for every piece of the rows, on threads, and return the results in order.

    Threads take the next piece when they are done with one, so that a busy core delays nobody. With one piece, or
    one thread, all runs in the caller.
    """
    if threads is None:
        threads = _cpus()
    elif not isinstance(threads, int) or threads < 1:
        raise HensaError(f"threads is {threads!r}; it must be a whole number from 1 on, or None for all CPUs.")
    starts = range(0, n_rows, UNIT)
    results: dict[int, T] = {}
    pieces = count()

    def take() -> None:
        # next() on a count is atomic
        while (piece := next(pieces)) < len(starts):
            results[piece] = work(starts[piece], min(starts[piece] + UNIT, n_rows))

    helpers = min(threads, len(starts)) - 1
    if helpers <= 0:
        take()
    else:
        with ThreadPoolExecutor(helpers) as pool:
            futures = [pool.submit(take) for _ in range(helpers)]
            try:
                take()
            finally:
                pieces = iter(range(len(starts), len(starts) + helpers + 1))  # an error or Ctrl-C: no further pieces
            for future in futures:
                future.result()
    return [results[piece] for piece in range(len(starts))]


def _cpus() -> int:
    """The CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
