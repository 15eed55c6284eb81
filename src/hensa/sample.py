"""Synthetic referrers to try things on: seeded, heavy-tailed, of any number."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hensa.errors import DataError

__all__ = ["sample"]

SCHEMA = pa.schema(
    [
        ("referrer_id", pa.int64()),
        ("new_referrals", pa.int32()),
        ("ad_users", pa.int32()),
        ("friend_points", pa.int64()),
    ]
)
BLOCK = 1 << 20  # rows made at a time; part of what a seed means


def sample(n: int, seed: int = 0) -> pa.RecordBatchReader:
    """Make a synthetic month of `n` referrers.

    Nearly all bring a few friends and a handful bring thousands. The rows come in blocks, so that any number of
    them passes through a bounded amount of memory, and depend on the seed and their position alone: the first rows of
    a larger sample are the rows of a smaller one, on every machine and with every version of NumPy.

    Parameters
    ----------
    n : int
        Number of rows, 0 or more.
    seed : int
        Which population, 0 or more.

    Returns
    -------
    pyarrow.RecordBatchReader
        Columns ``referrer_id`` (int64, 1 to `n`), ``new_referrals`` (int32, friends who registered in the month),
        ``ad_users`` (int32, friends to date who used an ad in the month) and ``friend_points`` (int64, points of
        those friends, at least 50 for each ad user). It can be read once; ``.read_all()`` gives a table.

    Raises
    ------
    DataError
        If `n` or `seed` is negative.

    Examples
    --------
    >>> rows = sample(3, seed=1).read_all()
    >>> rows.num_rows, rows.column_names
    (3, ['referrer_id', 'new_referrals', 'ad_users', 'friend_points'])
    """
    for name, value in (("n", n), ("seed", seed)):
        if value < 0:
            raise DataError(f"sample: {name} is {value}, where 0 or more is allowed")
    return pa.RecordBatchReader.from_batches(SCHEMA, _blocks(n, seed))


def _blocks(n: int, seed: int) -> Iterator[pa.RecordBatch]:
    for index, start in enumerate(range(0, n, BLOCK)):
        rows = min(BLOCK, n - start)
        # Raw bits, division and square roots are the same everywhere; Generator's distributions and libm's pow are not.
        bits = np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(index,))).random_raw(4 * rows)
        uniform = ((bits >> np.uint64(11)).astype(np.float64) * 2.0**-53).reshape(
            rows, 4
        )  # a row takes 4 consecutive draws
        new: npt.NDArray[np.int32] = _tail(uniform[:, 0], 1.0)
        friends = new + 1 + _tail(uniform[:, 1], 4.0)
        users = ((friends + 1) * uniform[:, 2]).astype(np.int32)  # 0 to friends, each as likely
        points = (users * (50 / np.sqrt(1e-4 + (1 - 1e-4) * uniform[:, 3]))).astype(np.int64)
        ids = np.arange(start + 1, start + rows + 1, dtype=np.int64)
        yield pa.record_batch([ids, new, users, points], schema=SCHEMA)


def _tail(uniform: npt.NDArray[np.float64], scale: float) -> npt.NDArray[np.int32]:
    """Counts with P(count >= k) about (1 + k/scale)**(-4/3), a Lomax law cut off at 10,000 times the scale."""
    lowest = 4.641588833612779e-06  # 10_000 ** (-4/3)
    share = lowest + (1 - lowest) * uniform
    root = np.sqrt(share)
    return (scale / (root * np.sqrt(root)) - scale).astype(np.int32)
