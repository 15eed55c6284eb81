"""Synthetic referrers and ledgers to try things on: seeded, heavy-tailed, of any number."""

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hensa.errors import DataError

__all__ = ["sample", "sample_ledger"]

SCHEMA = pa.schema(
    [
        ("referrer_id", pa.int64()),
        ("new_referrals", pa.int32()),
        ("ad_users", pa.int32()),
        ("friend_points", pa.int64()),
    ]
)
BLOCK = 1 << 20  # rows made at a time; part of what a seed means

_TIME = pa.timestamp("ms", "UTC")
_WORD = pa.dictionary(pa.int8(), pa.string())
MEMBERS = pa.schema([("member_id", pa.int64()), ("referrer_id", pa.int64()), ("registered_at", _TIME)])
PASSBOOK = pa.schema(
    [
        ("member_id", pa.int64()),
        ("kind", _WORD),
        ("points", pa.int64()),
        ("status", _WORD),
        ("used_at", _TIME),
        ("entered_at", _TIME),
        ("judged_at", _TIME),
    ]
)
LEDGER_BLOCK = 1 << 16  # members made at a time; part of what a seed means
KINDS = ["ad", "content", "bonus", "exchange"]
STATUSES = ["pending", "valid", "rejected"]
# In seconds since 1970: registrations of two years and a month, entries of the last three months, until November 2019.
_JAPAN = timezone(timedelta(hours=9))
FIRST_REGISTRATION, FIRST_USE, END = (
    int(datetime(year, month, 1, tzinfo=_JAPAN).timestamp()) for year, month in ((2017, 10), (2019, 8), (2019, 11))
)
DAY = 86_400


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
    _check(n, seed)
    return pa.RecordBatchReader.from_batches(SCHEMA, _blocks(n, seed))


def _check(n: int, seed: int) -> None:
    for name, value in (("n", n), ("seed", seed)):
        if not isinstance(value, int) or value < 0:
            raise DataError(f"sample: {name} is {value!r:.80}, where a whole number from 0 on is allowed")


def _blocks(n: int, seed: int) -> Iterator[pa.RecordBatch]:
    for index, start in enumerate(range(0, n, BLOCK)):
        rows = min(BLOCK, n - start)
        uniform = _uniform(seed, (index,), rows, 4)
        new: npt.NDArray[np.int32] = _tail(uniform[:, 0], 1.0)
        friends = new + 1 + _tail(uniform[:, 1], 4.0)
        users = ((friends + 1) * uniform[:, 2]).astype(np.int32)  # 0 to friends, each as likely
        points = (users * (50 / np.sqrt(1e-4 + (1 - 1e-4) * uniform[:, 3]))).astype(np.int64)
        ids = np.arange(start + 1, start + rows + 1, dtype=np.int64)
        yield pa.record_batch([ids, new, users, points], schema=SCHEMA)


def _uniform(seed: int, key: tuple[int, ...], rows: int, draws: int) -> npt.NDArray[np.float64]:
    """Uniform numbers in [0, 1); a row takes consecutive draws.

    Raw bits, division and square roots are the same everywhere; Generator's distributions and libm's pow are not.
    """
    bits = np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key)).random_raw(draws * rows)
    return ((bits >> np.uint64(11)).astype(np.float64) * 2.0**-53).reshape(rows, draws)


def _tail(uniform: npt.NDArray[np.float64], scale: float) -> npt.NDArray[np.int32]:
    """Counts with P(count >= k) about (1 + k/scale)**(-4/3), a Lomax law cut off at 10,000 times the scale."""
    lowest = 4.641588833612779e-06  # 10_000 ** (-4/3)
    share = lowest + (1 - lowest) * uniform
    root = np.sqrt(share)
    return (scale / (root * np.sqrt(root)) - scale).astype(np.int32)


def sample_ledger(n: int, seed: int = 0) -> tuple[pa.RecordBatchReader, pa.RecordBatchReader]:
    """Make the synthetic ledger of a site of `n` members as it stands at the end of October 2019, Japanese time.

    Six of ten members were brought by an earlier one; nearly all bring nobody or a few, and a handful bring thousands.
    A member has five entries in the passbook on average. Both tables come in blocks, so that any number of members
    passes through a bounded amount of memory, and are the same on every machine and with every version of NumPy.

    Parameters
    ----------
    n : int
        Number of members, 0 or more.
    seed : int
        Which ledger, 0 or more.

    Returns
    -------
    members : pyarrow.RecordBatchReader
        ``member_id`` (int64, 1 to `n`), ``referrer_id`` (int64 or null) and ``registered_at`` (UTC; 2017-10-01 to
        2019-10-31 in Japan).
    passbook : pyarrow.RecordBatchReader
        ``member_id``, ``kind`` (ad, content, bonus, exchange), ``points`` (int64, negative for an exchange),
        ``status`` (pending, valid, rejected), ``used_at`` (from 2019-08-01), ``entered_at`` (within 5 days) and
        ``judged_at`` (within 60 days, null while pending). Each reader can be read once.

    Raises
    ------
    DataError
        If `n` or `seed` is negative.

    Examples
    --------
    >>> members, passbook = sample_ledger(1000, seed=1)
    >>> members.read_all().num_rows, passbook.schema.names[:4]
    (1000, ['member_id', 'kind', 'points', 'status'])
    """
    _check(n, seed)
    return (
        pa.RecordBatchReader.from_batches(MEMBERS, _member_blocks(n, seed)),
        pa.RecordBatchReader.from_batches(PASSBOOK, _passbook_blocks(n, seed)),
    )


def _member_blocks(n: int, seed: int) -> Iterator[pa.RecordBatch]:
    for index, start in enumerate(range(0, n, LEDGER_BLOCK)):
        ids = np.arange(start + 1, min(start + LEDGER_BLOCK, n) + 1)
        uniform = _uniform(seed, (index, 1), len(ids), 2)
        # P(referrer <= j) = (j/earlier)**(1/4): member j brings about 0.2 (n/j)**(3/4), so P(friends >= k) falls as
        # k**(-4/3). The product is below the number of earlier members, as uniform is at most 1 - 2**-53.
        square = uniform[:, 0] * uniform[:, 0]
        referrers = 1 + ((ids - 1) * (square * square)).astype(np.int64)
        brought = (uniform[:, 1] < 0.6) & (ids > 1)
        yield pa.record_batch([ids, pa.array(referrers, mask=~brought), _instants(_registered(ids, n))], schema=MEMBERS)


def _passbook_blocks(n: int, seed: int) -> Iterator[pa.RecordBatch]:
    for index, start in enumerate(range(0, n, LEDGER_BLOCK)):
        members = np.arange(start + 1, min(start + LEDGER_BLOCK, n) + 1)
        entries = (11 * _uniform(seed, (index, 2), len(members), 1)[:, 0]).astype(np.int64)  # 0 to 10, each as likely
        ids = np.repeat(members, entries)
        uniform = _uniform(seed, (index, 3), len(ids), 6)
        kinds = np.searchsorted([0.6, 0.85, 0.95], uniform[:, 0], side="right").astype(np.int8)
        points = (50 / np.sqrt(1e-4 + (1 - 1e-4) * uniform[:, 1])).astype(np.int64)  # 50 to 5,000
        points = np.where(kinds == KINDS.index("exchange"), -points, points)
        earliest = np.maximum(_registered(ids, n), FIRST_USE)
        used = earliest + (uniform[:, 2] * (END - earliest)).astype(np.int64)
        entered = used + (uniform[:, 3] * np.minimum(5 * DAY, END - used)).astype(np.int64)
        judged = entered + (uniform[:, 4] * (60 * DAY)).astype(np.int64)
        pending = judged >= END
        statuses = np.where(pending, 0, np.where(uniform[:, 5] < 0.85, 1, 2)).astype(np.int8)
        yield pa.record_batch(
            [
                ids,
                pa.DictionaryArray.from_arrays(kinds, KINDS),
                points,
                pa.DictionaryArray.from_arrays(statuses, STATUSES),
                _instants(used),
                _instants(entered),
                _instants(judged, mask=pending),
            ],
            schema=PASSBOOK,
        )


def _registered(ids: npt.NDArray[np.int64], n: int) -> npt.NDArray[np.int64]:
    """Seconds since 1970; members register one after another, in equal steps."""
    return FIRST_REGISTRATION + (ids - 1) * (END - FIRST_REGISTRATION) // n


def _instants(seconds: npt.NDArray[np.int64], mask: npt.NDArray[np.bool_] | None = None) -> pa.Array:
    return pa.array(seconds * 1000, mask=mask).cast(_TIME)
