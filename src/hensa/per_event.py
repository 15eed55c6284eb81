"""Fixed amounts for counted events: whole columns at once, in int64 where no sum can be beyond it."""

from collections.abc import Iterable

import pyarrow as pa

from hensa.columns import View
from hensa.errors import DataError

__all__ = ["pay_events"]

_INT64 = range(-(2**63), 2**63)


def pay_events(views: list[View], amounts: Iterable[int]) -> pa.ChunkedArray:
    """Σ count · amount of every row, as int64; null where a count is.

    Parameters
    ----------
    views : list of View
        The counts, of integer types.
    amounts : iterable of int
        The points for one of each.

    Raises
    ------
    DataError
        A sum is beyond int64; names the row.
    """
    import pyarrow.compute as pc  # slow to import, seldom needed

    amounts = list(amounts)
    ends = [pc.min_max(view.array).as_py() for view in views]
    largest = [max(-(end["min"] or 0), end["max"] or 0) for end in ends]
    if sum(count * amount for count, amount in zip(largest, amounts, strict=True)) not in _INT64:
        return _in_integers_of_any_size(views, amounts)  # some sum may be beyond int64
    # No product and no partial sum is larger than that; an unsigned count beyond int64 is only ever taken 0 times.
    counts = [view.array.cast(pa.int64(), safe=False) for view in views]
    total, *rest = (pc.multiply(count, amount) for count, amount in zip(counts, amounts, strict=True))
    for points in rest:
        total = pc.add(total, points)
    return total


def _in_integers_of_any_size(views: list[View], amounts: list[int]) -> pa.ChunkedArray:
    rewards: list[int | None] = []
    for row, counts in enumerate(zip(*(view.array.to_pylist() for view in views), strict=True)):
        if None in counts:
            rewards.append(None)
            continue
        points = sum(count * amount for count, amount in zip(counts, amounts, strict=True))
        if points not in _INT64:
            found = ", ".join(f"{view.name!r} is {count}" for view, count in zip(views, counts, strict=True))
            raise DataError(f"Column {found} in row {row}; the reward of {points} points is beyond int64.")
        rewards.append(points)
    return pa.chunked_array([pa.array(rewards, pa.int64())])
