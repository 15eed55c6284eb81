"""Rows shared out to threads."""

import os
from collections.abc import Callable
from functools import cache
from threading import Lock
from typing import TYPE_CHECKING, TypeVar

from hensa.errors import HensaError

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

__all__ = ["UNIT", "check_threads", "cpus", "share_out"]

T = TypeVar("T")

UNIT = 2**18
"""Rows of one piece of work; pieces start at multiples of it, whatever the number of threads."""


def share_out(work: Callable[[int, int], T], n_rows: int, threads: int | None, unit: int = UNIT) -> list[T]:
    """Call ``work(start, stop)`` for every piece of `unit` rows, on threads, and return the results in order.

    Threads take the next piece when they are done with one, so that a busy core delays nobody. With one piece, or
    one thread, all runs in the caller.
    """
    check_threads(threads)
    pieces = range(0, n_rows, unit)
    helpers = min(threads or cpus(), len(pieces)) - 1 if len(pieces) > 1 else 0
    if not helpers:
        return [work(start, min(start + unit, n_rows)) for start in pieces]
    starts = iter(pieces)
    job = [work]
    results: dict[int, T] = {}
    errors: dict[int, BaseException] = {}
    lock = Lock()

    def take() -> None:
        while not errors:
            with lock:
                start = next(starts, None)
            if start is None:
                return
            try:
                results[start] = job[0](start, min(start + unit, n_rows))
            except BaseException as error:  # also Ctrl-C: the other threads stop at the end of their piece
                errors[start] = error

    others: list[Future[None]] = []
    try:
        others += [_pool().submit(take) for _ in range(helpers)]
        take()
        _finish(others)
    except BaseException as error:  # Ctrl-C between two pieces
        errors[-1] = error
        _finish(others)
    job.clear()  # a thread may hold on to `take` for a moment, but not to what the work is about
    if errors:
        # The pieces before it were all begun, so the first error is the same whatever the threads.
        raise errors[min(errors)]
    return [results[start] for start in pieces]


def _finish(others: "list[Future[None]]") -> None:
    """Wait for those that have begun; no others are needed, and their threads may be at work for another caller."""
    for other in others:
        if not other.cancel():
            other.result()


@cache
def _pool() -> "ThreadPoolExecutor":
    """Threads that stay, up to a number beyond use: to start one takes as long as to score 100,000 rows."""
    from concurrent.futures import ThreadPoolExecutor  # slow to import, and few rows need no threads

    return ThreadPoolExecutor(1024, thread_name_prefix="hensa")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # a forked process has none of them


def check_threads(threads: int | None) -> None:
    """Refuse what is no number of threads."""
    if threads is not None and (not isinstance(threads, int) or threads < 1):
        raise HensaError(f"threads is {threads!r}; it must be a whole number from 1 on, or None for all CPUs.")


def cpus() -> int:
    """The CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
