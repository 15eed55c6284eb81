"""Fixed amounts for counted events: whole columns at once, in checked integers."""

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
    try:
        counts = [view.array.cast(pa.int64()) for view in views]
        total, *rest = (pc.multiply_checked(count, amount) for count, amount in zip(counts, amounts, strict=True))
        for points in rest:
            total = pc.add_checked(total, points)
    except pa.ArrowInvalid:  # something is beyond int64, though perhaps no sum
        return _in_integers_of_any_size(views, amounts)
    # A view has no chunks without rows; an array that is null in a row of any column is null in the sum.
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
