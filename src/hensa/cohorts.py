"""Cohorts: every row's code, and the sums of each cohort side by side in arrays."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hensa import kernels
from hensa.columns import Views, array_of, check_key_type, column_of, key_view, named, reason
from hensa.errors import DataError
from hensa.threads import UNIT, cpus, share_out

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
Codes = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Keys:
    """The cohort of every row."""

    names: tuple[str, ...]
    codes: Codes
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
    totals: Int64s
    """Shape (cohorts, exact measures, 8): sum in 3 words of two's complement, sum of squares in 5 words; or, where
    a word is enough for each, shape (cohorts, exact measures, 2)."""
    states: dict[int, npt.NDArray[np.float64]]
    """By place, of measures by Welford's method: shape (cohorts, 5)."""
    floats: dict[int, list[tuple[int, int]]]
    """By place, of exact floats: sum and sum of squares in units of `SUPER_UNIT`."""

    @property
    def of_integers(self) -> bool:
        """Whether there are `totals` alone."""
        return not self.states and not self.floats

    def at(self, places: Int64s, measures: list[int]) -> "Sums":
        """The sums of integers of these cohorts and measures; of place -1, none."""
        known = (places >= 0).astype(np.int64)
        totals = self.totals[:, measures][places] * known[:, np.newaxis, np.newaxis]
        return Sums(self.rows[places] * known, self.counts[places] * known, totals, {}, {})

    def merged(self, other: "Sums", places: Int64s) -> "Sums":
        """With sums of integers added to the cohorts at these different places, which may go on behind the last."""
        n = max(len(self.rows), int(places.max(initial=-1)) + 1)
        rows, counts = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
        for mine, own, others in (rows, self.rows, other.rows), (counts, self.counts, other.counts):
            mine[: len(own)] = own
            mine[places] += others
        most = sum(int(sums.totals[:, :, -1].max(initial=0)) for sums in (self, other))
        small = self.totals.shape[2] == other.totals.shape[2] == 2 and most < 2**63
        own, others = (sums.totals if small else _wide(sums.totals) for sums in (self, other))
        totals = np.zeros((n, *own.shape[1:]), dtype=np.int64)
        totals[: len(own)] = own
        if small:
            totals[places] += others
        else:
            totals[places] = _added(totals[places], others)
        return Sums(rows, counts, totals, {}, {})


def _wide(totals: Int64s) -> Int64s:
    """Totals of 8 words from those of 2 or 8."""
    if totals.shape[2] == 8:
        return totals
    wide = np.zeros((*totals.shape[:2], 8), dtype=np.int64)
    wide[:, :, 0], wide[:, :, 3] = totals[:, :, 0], totals[:, :, 1]
    wide[:, :, 1] = wide[:, :, 2] = totals[:, :, 0] >> 63
    return wide


def _added(one: Int64s, other: Int64s) -> Int64s:
    """The sums of totals of 8 words: sums of 3 words, and squares of 5."""
    a, b = one.view(np.uint64), other.view(np.uint64)
    total, carry = a + b, np.zeros(a.shape[:2], dtype=np.uint64)
    for word in range(8):
        over = total[:, :, word] < a[:, :, word]
        total[:, :, word] += carry
        over |= total[:, :, word] < carry
        carry = over.astype(np.uint64) if word != 2 else np.zeros_like(carry)
    return total.view(np.int64)


def integers_of_words(words: Int64s) -> tuple[int, int]:
    """Sum and sum of squares from one measure's words in `Sums.totals`."""
    if len(words) == 2:
        return int(words[0]), int(words[1])
    data = words.astype("<i8").tobytes()
    return int.from_bytes(data[:24], "little", signed=True), int.from_bytes(data[24:], "little")


def words_of(totals: Iterable[tuple[int, int]]) -> Int64s:
    """The words, 8 each, of sums and sums of squares; OverflowError if they do not fit."""
    data = b"".join(
        total.to_bytes(24, "little", signed=True) + squares.to_bytes(40, "little") for total, squares in totals
    )
    return np.frombuffer(data, dtype="<i8").astype(np.int64)


def names_of(by: str | Sequence[str] | None) -> tuple[str, ...]:
    """The cohort columns as a tuple."""
    if by is None:
        return ()
    names = (by,) if isinstance(by, str) else tuple(by)
    if len(set(names)) < len(names) or not all(isinstance(name, str) for name in names):
        raise DataError(f"by is {by!r}; it must be the name of a column, or several different names.")
    return names


@dataclass(frozen=True)
class _Digits:
    """Every row's number, 0 <= number < span, by one column or by some together."""

    low_bits: Codes
    """Number + `low`, modulo 2^32."""
    low: int
    span: int
    values: Callable[[Int64s], list[pa.Array]]
    """The values of the columns that numbers stand for."""

    def add_to(self, codes: Codes, threads: int | None) -> None:
        """Make each code code · span + number."""
        add = partial(kernels.active.add_digits, self.low_bits, self.low & 0xFFFFFFFF, self.span, codes)
        share_out(add, len(codes), threads)


def encode(table: pa.Table, names: tuple[str, ...], threads: int | None = None) -> Keys:
    """Give every row the code of its key.

    Raises
    ------
    DataError
        A column is missing, null in some row, or of floats or a nested type.
    """
    limit = min(max(4 * table.num_rows, 2**16), 2**31)
    codes, span, digits = np.zeros(table.num_rows, dtype=np.int32), 1, list[_Digits]()
    for name in names:
        own = _digits_of(table, name, limit, threads)
        if span * own.span > limit:
            codes, distinct = dense(codes, span, threads)
            digits, span = [_numbered(codes, _values(digits, distinct))], len(distinct)
            numbers = np.zeros_like(codes)
            own.add_to(numbers, threads)
            numbers, distinct = dense(numbers, own.span, threads)
            own = _numbered(numbers, own.values(distinct))
        if span * own.span > limit:
            pairs = _integers(codes * np.int64(own.span) + own.low_bits).dictionary_encode()
            codes = pairs.indices.to_numpy().copy()
            digits = [_numbered(codes, _values([*digits, own], pairs.dictionary.to_numpy()))]
            span = digits[0].span
        else:
            own.add_to(codes, threads)
            digits.append(own)
            span *= own.span
    codes, distinct = dense(codes, span, threads)
    return Keys(names, codes, pa.table(_values(digits, distinct), names=list(names)))


def _digits_of(table: pa.Table, name: str, limit: int, threads: int | None) -> _Digits:
    """Numbers by one column: its integers, less the least of them, if they lie close together, and else its distinct
    values as they come."""
    column = named(table, name)
    if column.type.id not in _TEXTS:  # where texts lie is checked as they are read
        column = column_of(table, name)
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if column.null_count:
        row = column.is_null().index(True).as_py()
        raise DataError(f"Cohort column {name!r} is null in row {row}; every row needs a cohort.")
    kind = column.type
    check_key_type(kind, f"Cohort column {name!r}", "it must be")
    if pa.types.is_null(kind):  # of no rows
        column, kind = column.cast(pa.int64()), pa.int64()
    stored = _stored(kind)
    if stored is not None:
        column = pa.chunked_array([chunk.view(stored) for chunk in column.chunks], stored)
        low_bits, span = _low_bits(column, threads)
        if span is not None and span[1] - span[0] < limit:
            low, high = span
            return _Digits(
                low_bits, low, high - low + 1, lambda numbers: [_integers(numbers + low).cast(stored).view(kind)]
            )
    # As few parts as threads: each of them may hold most of the distinct values.
    rows = max(UNIT, -(-len(column) // (threads or cpus())))
    if kind.id in _TEXTS:
        return _digits_of_texts(column, name, rows, threads)

    def encode_part(start: int, stop: int) -> pa.DictionaryArray:
        return column.slice(start, stop - start).combine_chunks().dictionary_encode()

    parts = share_out(encode_part, len(column), threads, rows)
    encoded = pa.concat_arrays([pa.nulls(0, column.type), *(part.dictionary for part in parts)]).dictionary_encode()
    known = np.split(encoded.indices.to_numpy(), np.cumsum([len(part.dictionary) for part in parts]))
    numbers = [own[part.indices.to_numpy()] for own, part in zip(known, parts, strict=False)]
    return _numbered(np.concatenate([np.empty(0, dtype=np.int32), *numbers]), [encoded.dictionary.view(kind)])


def _stored(kind: pa.DataType) -> pa.DataType | None:
    """The integers that values of a type are kept as; None for other types."""
    if pa.types.is_integer(kind):
        return kind
    if pa.types.is_temporal(kind) and not pa.types.is_interval(kind):
        return pa.int32() if kind.bit_width == 32 else pa.int64()
    return None


def _low_bits(integers: pa.ChunkedArray, threads: int | None) -> tuple[Codes, tuple[int, int] | None]:
    """The lower 32 bits of every value, and the least and the greatest; None if there is none, or one is too large."""
    view, low_bits = key_view(integers), np.empty(len(integers), dtype=np.int32)

    def read(start: int, stop: int) -> tuple[int, int] | None:
        found: tuple[int, int] | None = kernels.active.span_of(view.column, start, stop, low_bits)
        return found

    spans = share_out(read, len(integers), threads)
    known = [span for span in spans if span is not None]
    if not known or len(known) < len(spans):
        return low_bits, None
    return low_bits, (min(low for low, _ in known), max(high for _, high in known))


_TEXTS = {
    kind.id: (width, large)
    for large, kinds in (
        (pa.large_string(), (pa.string(), pa.large_string(), pa.string_view())),
        (pa.large_binary(), (pa.binary(), pa.large_binary(), pa.binary_view())),
    )
    for width, kind in zip((4, 8, 0), kinds, strict=True)
}
"""The widths of offsets, as `Texts` of the kernels has them, and the type with those of 64 bits."""


def _digits_of_texts(column: pa.ChunkedArray, name: str, rows: int, threads: int | None) -> _Digits:
    """Numbers by a column of texts, in parts of so many rows."""
    width, large = _TEXTS[column.type.id]
    numbers = np.empty(len(column), dtype=np.int32)
    chunks = [kernels.active.Texts(width, chunk) for chunk in column.chunks]

    def number(start: int, stop: int) -> pa.Array:
        offsets, data = kernels.active.number_texts(chunks, start, stop, numbers)
        return pa.Array.from_buffers(large, len(offsets) // 8 - 1, [None, pa.py_buffer(offsets), pa.py_buffer(data)])

    try:
        parts = share_out(number, len(column), threads, rows)
        values = pa.concat_arrays([pa.nulls(0, large), *parts])
        values.validate(full=True)  # as to UTF-8
    except (ValueError, pa.ArrowException) as error:
        raise DataError(f"Column {name!r} is not a valid Arrow array: {reason(error)}.") from error
    if len(parts) > 1:  # a text may have a number in each
        again = _digits_of_texts(pa.chunked_array([values]), name, len(values), threads)
        places = np.split(again.low_bits, np.cumsum([len(part) for part in parts]))

        def renumber(start: int, stop: int) -> None:
            kernels.active.renumber(numbers, places[start // rows], start, stop)

        share_out(renumber, len(column), threads, rows)
        (values,) = again.values(np.arange(again.span))
    return _numbered(numbers, [values.cast(column.type) if width else values])  # Arrow can hardly handle views


def _numbered(numbers: Codes, values: list[pa.Array]) -> _Digits:
    """Digits of known numbers; `values` are those of each number."""
    return _Digits(numbers, 0, len(values[0]), lambda chosen: [column.take(_integers(chosen)) for column in values])


def _integers(numbers: Int64s) -> pa.Array:
    """The same as an Arrow array. `pa.array` imports pandas where it is installed: a fifth of a second."""
    return array_of(pa.int64(), len(numbers), None, pa.py_buffer(numbers), 0)


def _values(digits: list[_Digits], numbers: Int64s) -> list[pa.Array]:
    """The values of all columns that numbers of several digits stand for."""
    found: list[pa.Array] = []
    for part in reversed(digits):
        numbers, digit = np.divmod(numbers, part.span)
        found = part.values(digit) + found
    return found


def dense(codes: Codes, span: int, threads: int | None = None) -> tuple[Codes, Int64s]:
    """Codes without gaps for codes below `span`, in place, and what each stood for."""
    present = np.zeros(span, dtype=np.uint8)
    share_out(partial(kernels.active.mark, codes, present), len(codes), threads)
    distinct = np.flatnonzero(present)
    if len(distinct) < span:
        numbers = np.cumsum(present, dtype=np.int32) - np.int32(1)
        share_out(partial(kernels.active.renumber, codes, numbers), len(codes), threads)
    return codes, distinct


def add_up_by(views: Views, keys: Keys, ways: Sequence[int], threads: int | None = None) -> Sums:
    """Pass 1 for every cohort; `ways` says how each measure is added up."""
    n, exact = keys.table.num_rows, [i for i, way in enumerate(ways) if way == INTEGERS]
    measures = [views.measures[i].column for i in exact]
    others = [view.column for view in views.all if view.column not in measures]
    most = _greatest(measures, views.n_rows, threads)
    if _squares_are_small(most, keys):
        add = partial(kernels.active.small_moments_by, measures, others, most=int(most))
        totals, counts = _add_up(add, keys, len(measures), 2, threads)
    else:
        add = partial(kernels.active.moments_by, measures, others)
        totals, counts = _add_up(add, keys, len(measures), 8, threads)
    states, floats = {}, {}
    for i, way in enumerate(ways):
        if way == WELFORD:
            runs = kernels.active.welford_by(*_runs(views, i, keys, n))
            states[i] = np.array(runs, dtype=np.float64).reshape(-1, 5)
        elif way == SUPER:
            floats[i] = kernels.active.exact_floats_by(*_runs(views, i, keys, n))
    masked = any(view.column.has_bitmap for view in views.all)
    rows = np.bincount(keys.codes, minlength=n) if masked else counts
    return Sums(rows, counts, totals, states, floats)


def _greatest(measures: list[Any], n_rows: int, threads: int | None) -> int | float:
    """The greatest size of a value of these measures; infinite if some do not fit int64."""

    def spans_of(start: int, stop: int) -> list[tuple[int, int] | None]:
        return [kernels.active.span_of(measure, start, stop) for measure in measures]

    spans = [span for part in share_out(spans_of, n_rows, threads) for span in part]
    return max((inf if span is None else max(-span[0], span[1]) for span in spans), default=0)


def _squares_are_small(most: int | float, keys: Keys) -> bool:
    """Whether the squares of values up to `most` add up to less than 2^63 in every cohort; then so do their sizes."""
    if len(keys.codes) * most**2 < 2**63:
        return True
    return most < 2**32 and int(np.bincount(keys.codes).max()) * most**2 < 2**63


def _add_up(
    add: Callable[..., None], keys: Keys, n_measures: int, words: int, threads: int | None
) -> tuple[Int64s, Int64s]:
    """Totals and counts: each thread has its own, if cohorts are far fewer than rows."""
    n, n_rows = keys.table.num_rows, len(keys.codes)
    tables: list[tuple[Int64s, Int64s]] = []
    idle: list[tuple[Int64s, Int64s]] = []

    def work(start: int, stop: int) -> None:
        try:
            totals, counts = idle.pop()
        except IndexError:
            totals, counts = np.zeros((n, n_measures, words), dtype=np.int64), np.zeros(n, dtype=np.int64)
            tables.append((totals, counts))
        add(codes=keys.codes, start=start, stop=stop, totals=totals, counts=counts)
        idle.append((totals, counts))

    threads = min(threads or cpus(), max(n_rows // (4 * n), 1)) if n else 1
    share_out(work, n_rows, threads)
    if not tables:
        work(0, 0)
    totals, counts = tables[0]
    for other_totals, other_counts in tables[1:]:
        totals = totals + other_totals if words == 2 else _added(totals, other_totals)
        counts += other_counts
    return totals, counts


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
