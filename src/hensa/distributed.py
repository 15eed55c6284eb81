"""The steps of a dataset on a dask cluster: fragments are mapped to its workers, not rows."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, repeat
from typing import Any, TypeVar

from distributed import CancelledError, Client, Future, KilledWorker, wait

import hensa
from hensa.errors import HensaError

__all__ = ["Cluster"]

T = TypeVar("T")
R = TypeVar("R")
TICK = 0.1  # seconds between two calls of `progress`


class Cluster:
    """Work shared out to the workers of a cluster, which see the files under the same paths.

    A worker that dies is replaced by another that does its work again: each piece of work may be done any number of
    times, at the same time too.

    Parameters
    ----------
    client : distributed.Client
        Connected to the scheduler.
    progress : callable, optional
        As in `hensa.score_dataset`.

    Raises
    ------
    HensaError
        It is no such client, or the cluster has no workers.
    """

    def __init__(self, client: Client, progress: Callable[[str, int, int], None] | None) -> None:
        if not isinstance(client, Client) or client.asynchronous:
            raise HensaError(f"client is {client!r:.80}; it must be a distributed.Client that is not asynchronous.")
        self._client, self._progress = client, progress
        self._workers = [worker for worker, threads in client.nthreads().items() for _ in range(threads)]
        if not self._workers:
            raise HensaError("The cluster of client has no workers; start some: dask worker SCHEDULER.")

    def run(self, stage: str, rows: int, work: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
        """As `map`, and tell `progress` how many rows of all items are done."""
        done = 0

        def tell() -> None:
            if self._progress is not None:
                self._progress(stage, done, rows)

        tell()
        for item, result in zip(items, self.map(work, items, tell), strict=True):
            done += item.rows  # type: ignore[attr-defined]
            tell()
            yield result

    def map(self, work: Callable[[T], R], items: Sequence[T], tell: Callable[[], None] | None = None) -> Iterator[R]:
        """Call ``work(item)`` for every item on some worker, and give the results in order; calls `tell` meanwhile.

        Twice as many items as the workers have threads are with them at a time. If anything goes wrong here or there,
        those are waited for, so that nobody writes any more when the error is raised.
        """
        # Kept by one worker, which passes it on to the others. As the result of a task it is made again if that worker
        # dies, which what is scattered is not.
        shared = self._client.submit(_same, work, pure=False)
        # The scheduler gives work to those who have what it needs, which at first is that one, and is slow to share it
        # out before it knows how long it takes. So the first items are dealt to all workers that are still there.
        places = chain(self._workers, self._workers, repeat(None))
        waiting: deque[Future] = deque()
        try:
            for item, place in zip(items, places, strict=False):
                how = {"pure": False, "workers": place, "allow_other_workers": place is not None}
                waiting.append(self._client.submit(_do, shared, item, hensa.__version__, **how))
                while len(waiting) >= 2 * len(self._workers):
                    yield self._result(waiting[0], tell)
                    waiting.popleft()
            while waiting:
                yield self._result(waiting[0], tell)
                waiting.popleft()
        except BaseException:
            wait(list(waiting))
            raise

    @staticmethod
    def _result(future: Future, tell: Callable[[], None] | None) -> Any:
        while not future.done():
            try:
                wait(future, timeout=TICK)
            except TimeoutError:
                if tell is not None:
                    tell()
        try:
            return future.result()
        except ModuleNotFoundError as error:
            raise HensaError(f"The scheduler or a worker lacks {error.name}; install hensa there, too.") from error
        except KilledWorker as error:
            raise HensaError(f"Workers died at the same work, again and again: {error}.") from error
        except CancelledError as error:
            raise HensaError(f"The cluster gave the work up: {error}.") from error


def _same(work: T) -> T:
    return work


def _do(work: Callable[[T], R], item: T, version: str) -> R:
    if hensa.__version__ != version:
        raise HensaError(f"A worker has hensa {hensa.__version__} and the client {version}; install the same.")
    return work(item)
