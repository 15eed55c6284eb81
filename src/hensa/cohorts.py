"""Cohorts: every row's code, and the sums of each cohort side by side in arrays."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hensa import kernels
from hensa.columns import Views, column_of
from hensa.errors import DataError

__all__ = [
    "INTEGERS",
    "SUPER",
    "WELFORD",
    "Keys",
    "Sums",
    "add_up_by",
    "dense",
    "encode",
    "integers_of_words",
    "names_of",
]

INTEGERS, WELFORD, SUPER = range(3)
"""How a measure is added up, as the kernel numbers it."""

Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Keys:
    """The cohort of every row."""

    names: tuple[str, ...]
    codes: npt.NDArray[np.int32]
    """Of every row: the row of `table` that holds its key."""
    table: pa.Table
    """The distinct keys."""


@dataclass(frozen=True)
class Sums:
    """What is added up for each cohort."""

    rows: Int64s
    """All rows."""
    counts: Int64s
    """Rows that count."""
    totals: npt.NDArray[np.uint64]
    """Shape (cohorts, exact measures, 8): sum in 3 words of two's complement, sum of squares in 5 words."""
    states: dict[int, npt.NDArray[np.float64]]
    """By place, of measures by Welford's method: shape (cohorts, 5)."""
    floats: dict[int, list[tuple[int, int]]]
    """By place, of exact floats: sum and sum of squares in units of `SUPER_UNIT`."""


def integers_of_words(words: npt.NDArray[np.uint64]) -> tuple[int, int]:
    """Sum and sum of squares from one measure's words in `Sums.totals`."""
    data = words.astype("<u8").tobytes()
    return int.from_bytes(data[:24], "little", signed=True), int.from_bytes(data[24:], "little")


def names_of(by: str | Sequence[str] | None) -> tuple[str, ...]:
    """The cohort columns as a tuple."""
    names = () if by is None else (by,) if isinstance(by, str) else tuple(by)
    if len(set(names)) < len(names) or not all(isinstance(name, str) for name in names):
        raise DataError(f"by is {by!r}; it must be the name of a column, or several different names.")
    return names


def encode(table: pa.Table, names: tuple[str, ...]) -> Keys:
    """Give every row the code of its key.

    Raises
    ------
    DataError
        A column is missing, null in some row, or of floats or a nested type.
    """
    codes, parts = np.zeros(table.num_rows, dtype=np.int64), []
    for name in names:
        column = column_of(table, name)
        if column.null_count:
            row = column.is_null().index(True).as_py()
            raise DataError(f"Cohort column {name!r} is null in row {row}; every row needs a cohort.")
        own, values = _encode_column(column, name)
        parts.append(values)
        # A pair of codes is one number below 2^31 * 2^31.
        codes, pairs = dense(codes * len(values) + own)
        parts = [part.take(pa.array(pairs // len(values))) for part in parts[:-1]] + [
            values.take(pa.array(pairs % len(values)))
        ]
    return Keys(names, codes.astype(np.int32), pa.table(parts, names=list(names)))


def _encode_column(column: pa.ChunkedArray, name: str) -> tuple[Int64s, pa.Array]:
    """Codes and distinct values of one column."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kind = column.type
    if pa.types.is_floating(kind) or pa.types.is_nested(kind) or pa.types.is_null(kind):
        raise DataError(
            f"Cohort column {name!r} is of type {kind}; it must be of integers, text, bool, dates or decimals."
        )
    if pa.types.is_integer(kind) and len(column):
        values = np.array(column.to_numpy())  # a copy: whoever owns the rows may change them meanwhile
        low, high = int(values.min()), int(values.max())
        if high - low < max(4 * len(values), 2**16) and high < 2**63:
            codes, distinct = dense(values.astype(np.int64) - low)
            return codes, pa.array(distinct + low).cast(kind)
    encoded = column.combine_chunks().dictionary_encode()
    return encoded.indices.to_numpy().astype(np.int64), encoded.dictionary


def dense(numbers: Int64s) -> tuple[Int64s, Int64s]:
    """Codes without gaps for numbers >= 0, and the number of each code."""
    if not len(numbers):
        return numbers, numbers
    span = int(numbers.max()) + 1
    if span > max(4 * len(numbers), 2**16):
        encoded = pa.array(numbers).dictionary_encode()
        return encoded.indices.to_numpy().astype(np.int64), encoded.dictionary.to_numpy()
    present = np.zeros(span, dtype=bool)
    present[numbers] = True
    distinct = np.flatnonzero(present)
    if len(distinct) == span:
        return numbers, distinct
    return (np.cumsum(present) - 1)[numbers], distinct


def add_up_by(views: Views, keys: Keys, ways: Sequence[int]) -> Sums:
    """Pass 1 for every cohort; `ways` says how each measure is added up."""
    n, exact = keys.table.num_rows, [i for i, way in enumerate(ways) if way == INTEGERS]
    totals = np.zeros((n, len(exact), 8), dtype=np.uint64)
    counts = np.zeros(n, dtype=np.int64)
    measures = [views.measures[i].column for i in exact]
    others = [view.column for view in views.all if view.column not in measures]
    kernels.active.moments_by(measures, others, keys.codes, 0, views.n_rows, totals, counts)
    states, floats = {}, {}
    for i, way in enumerate(ways):
        if way == WELFORD:
            runs = kernels.active.welford_by(*_runs(views, i, keys, n))
            states[i] = np.array(runs, dtype=np.float64).reshape(-1, 5)
        elif way == SUPER:
            floats[i] = kernels.active.exact_floats_by(*_runs(views, i, keys, n))
    return Sums(np.bincount(keys.codes, minlength=n), counts, totals, states, floats)


def _runs(views: Views, place: int, keys: Keys, n: int) -> tuple[npt.NDArray[np.float64], Int64s]:
    """The values of one measure brought together by cohort, in the order of rows, and where each cohort begins."""
    view = views.measures[place]
    counted = np.ones(views.n_rows, dtype=bool)
    for other in views.all:
        counted &= other.array.is_valid().to_numpy()
    values = np.empty(views.n_rows)
    kernels.active.doubles(view.column, values)
    bad = counted & ~np.isfinite(values)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise DataError(f"Column {view.name!r} is {values[row]} in row {row}; measures must be finite numbers.")
    order = np.argsort(keys.codes[counted], kind="stable")
    offsets = np.zeros(n + 1, dtype=np.int64)
    np.cumsum(np.bincount(keys.codes[counted], minlength=n), out=offsets[1:])
    return values[counted][order], offsets
