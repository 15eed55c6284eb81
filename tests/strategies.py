"""Hypothesis strategies for Arrow columns: any type that hensa reads, any values, laid out in memory in any legal way.

A column is drawn as Python values first, so that a test can work on these, and then laid out as Arrow buffers by
`layouts`: cut into chunks (empty ones too), each chunk a slice at any offset into buffers that hold other values before
and after it and garbage under its nulls, with or without a validity bitmap where nothing is null.
"""

import math
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from hypothesis import settings
from hypothesis import strategies as st
from making import program

from hensa import Program

INTEGERS = [getattr(pa, f"{sign}int{bits}")() for sign in ("", "u") for bits in (8, 16, 32, 64)]
DECIMALS = [
    pa.decimal32(9, 2),
    pa.decimal64(18, 0),
    pa.decimal128(38, 38),
    pa.decimal128(20, 5),
    pa.decimal128(20, -2),
]
EXACT = [*INTEGERS, pa.bool_(), *DECIMALS]
FLOATS = [pa.float32(), pa.float64()]
MEASURES = EXACT + FLOATS


def examples(n: int) -> settings:
    """So many examples where Hypothesis makes 100, and in proportion with another profile."""
    return settings(max_examples=max(n * settings.default.max_examples // 100, 1), deadline=None)


class Column(NamedTuple):
    """Values, None for null, and their Arrow type; of decimals the digits, without the scale."""

    type: pa.DataType
    cells: list[Any]

    @property
    def unit(self) -> Fraction:
        return Fraction(10) ** -self.type.scale if pa.types.is_decimal(self.type) else Fraction(1)

    @property
    def values(self) -> list[Any]:
        """As `to_pylist` has them."""
        if not pa.types.is_decimal(self.type):
            return self.cells
        return [None if cell is None else decimal(cell, self.type.scale) for cell in self.cells]

    def take(self, rows: list[int]) -> "Column":
        return Column(self.type, [self.cells[row] for row in rows])

    def plain(self) -> pa.ChunkedArray:
        """One chunk that begins at offset 0 and has zeros under its nulls."""
        return pa.chunked_array([chunk(self, 0, 0, bytes(16), bool(self.cells.count(None)))], self.type)


def decimal(digits: int, scale: int) -> Decimal:
    """digits / 10**scale, whatever the precision of the context."""
    return Decimal((digits < 0, tuple(map(int, str(abs(digits)))), -scale))


def limits(type_: pa.DataType) -> tuple[int, int]:
    """The smallest and the largest integer of a type; of decimals, of their digits."""
    if pa.types.is_decimal(type_):
        return 1 - 10**type_.precision, 10**type_.precision - 1
    if pa.types.is_boolean(type_):
        return 0, 1
    low = -(2 ** (type_.bit_width - 1)) if pa.types.is_signed_integer(type_) else 0
    return low, low + 2**type_.bit_width - 1


def chunk(column: Column, before: int, after: int, garbage: bytes, has_bitmap: bool) -> pa.Array:
    """An array of these cells over buffers of our own; `garbage` is what lies around them and under the nulls."""
    type_, cells = column
    length = before + len(cells) + after
    valid = np.array([True] * before + [cell is not None for cell in cells] + [False] * after, dtype=bool)
    if pa.types.is_boolean(type_):
        bits = [garbage[i % len(garbage)] & 1 for i in range(length)]
        bits[before : before + len(cells)] = [
            bits[before + i] if cell is None else cell for i, cell in enumerate(cells)
        ]
        data = np.packbits(np.array(bits, dtype=np.uint8), bitorder="little").tobytes()
    else:
        width = type_.bit_width // 8
        other = (garbage * width)[:width]
        values = b"".join(other if cell is None else as_bytes(type_, cell) for cell in cells)
        data = other * before + values + other * after
    bitmap = pa.py_buffer(np.packbits(valid, bitorder="little").tobytes() + garbage) if has_bitmap else None
    whole = pa.Array.from_buffers(type_, length, [bitmap, pa.py_buffer(data + bytes(1))])
    return whole.slice(before, len(cells))


def as_bytes(type_: pa.DataType, cell: Any) -> bytes:
    if pa.types.is_floating(type_):
        return np.array(cell, dtype=type_.to_pandas_dtype()).tobytes()
    return int(cell).to_bytes(type_.bit_width // 8, "little", signed=not pa.types.is_unsigned_integer(type_))


# Garbage: zeros, all ones (-1, NaN, true), an infinity in the high bytes of little-endian floats, other bytes.
GARBAGE = st.sampled_from([bytes(16), b"\xff" * 16, b"\x00\x00\x80\x7f" * 4, bytes(6) + b"\xf0\x7f"]) | st.binary(
    min_size=16, max_size=16
)


@st.composite
def layouts(draw: st.DrawFn, column: Column) -> pa.ChunkedArray:
    """The column in some chunks at some offsets."""
    length = len(column.cells)
    cuts = sorted(draw(st.lists(st.integers(0, length), max_size=4)))
    chunks = []
    for start, stop in pairwise([0, *cuts, length]):
        part = column.take(list(range(start, stop)))
        has_bitmap = None in part.cells or draw(st.booleans())
        chunks.append(chunk(part, draw(st.integers(0, 70)), draw(st.integers(0, 9)), draw(GARBAGE), has_bitmap))
    return pa.chunked_array(chunks, column.type)


@st.composite
def dictionaries(draw: st.DrawFn, column: Column) -> pa.ChunkedArray:
    """A column without nulls, encoded: each chunk is a slice at any offset and has a dictionary of its own, in which
    values may come twice or be of no use."""
    length = len(column.cells)
    cuts = sorted(draw(st.lists(st.integers(0, length), max_size=3)))
    index_type = draw(st.sampled_from([pa.int8(), pa.uint16(), pa.int32(), pa.int64()]))
    chunks = []
    for start, stop in pairwise([0, *cuts, length]):
        part = column.cells[start:stop]
        others = draw(st.lists(st.sampled_from(column.cells), min_size=1, max_size=3))
        values = draw(st.permutations([*dict.fromkeys(part), *others]))
        places = {cell: [place for place, value in enumerate(values) if value == cell] for cell in part}
        before = draw(st.integers(0, 9))
        indices = [len(values) - 1] * before + [draw(st.sampled_from(places[cell])) for cell in part]
        whole = pa.DictionaryArray.from_arrays(pa.array(indices, index_type), pa.array(values, column.type))
        chunks.append(whole.slice(before))
    return pa.chunked_array(chunks, pa.dictionary(index_type, column.type))


def integers(low: int, high: int) -> st.SearchStrategy[int]:
    """Within the limits, small ones often, so that values meet."""
    return st.integers(max(low, -4), min(high, 4)) | st.integers(low, high)


def floats(type_: pa.DataType) -> st.SearchStrategy[float]:
    """Finite, of any exponent, small multiples of 1/4 often."""
    width = type_.bit_width
    return st.integers(-8, 8).map(lambda n: n / 4) | st.floats(allow_nan=False, allow_infinity=False, width=width)


@st.composite
def columns(
    draw: st.DrawFn, length: int, types: list[pa.DataType] = MEASURES, nulls: bool = True, reach: int | None = None
) -> Column:
    """A column of `length` cells; `reach` bounds the integers. Some have two values in turn, so that in rows of an even
    number each lies one SD from the mean, which float64 often misses by an ulp."""
    type_ = draw(st.sampled_from(types))
    if pa.types.is_floating(type_):
        cells = floats(type_)
    else:
        low, high = limits(type_)
        cells = integers(low, high) if reach is None else integers(max(low, -reach), min(high, reach))
    if draw(st.integers(0, 3)) == 0:
        pair = draw(st.lists(cells, min_size=2, max_size=2))
        return Column(type_, [pair[row % 2] for row in range(length)])
    if nulls and draw(st.booleans()):
        cells = st.none() | cells
    return Column(type_, draw(st.lists(cells, min_size=length, max_size=length)))


@st.composite
def rows(
    draw: st.DrawFn,
    types: list[pa.DataType] = MEASURES,
    *,
    nulls: bool = True,
    reach: int | None = None,
    most: int = 24,
) -> dict[str, Column]:
    """1 to 3 measures x, y, z and a base b small enough to be paid. A measure may copy or mirror the one before, so
    that its SD is a multiple of the other's and rows tie."""
    length = draw(st.integers(1, most))
    found: dict[str, Column] = {}
    for name in "xyz"[: draw(st.integers(1, 3))]:
        if found and draw(st.booleans()):
            before = found[draw(st.sampled_from(sorted(found)))]
            found[name] = before if draw(st.booleans()) else mirrored(before)
        else:
            found[name] = draw(columns(length, types, nulls, reach))
    found["b"] = draw(columns(length, [pa.int32(), pa.int64(), pa.decimal128(20, 2)], nulls, reach=10**9))
    return found


def mirrored(column: Column) -> Column:
    """The largest value less each value: of the same type, and of the same SD."""
    if pa.types.is_floating(column.type):
        return Column(column.type, [None if cell is None else -cell for cell in column.cells])
    present = [cell for cell in column.cells if cell is not None]
    low, high = limits(column.type)
    ends = min(present, default=0) + max(present, default=0)
    if any(not low <= ends - cell <= high for cell in present):  # never: ends - cell lies among the cells' range
        raise AssertionError
    return Column(column.type, [None if cell is None else ends - cell for cell in column.cells])


def plain(found: dict[str, Column]) -> pa.Table:
    return pa.table({name: column.plain() for name, column in found.items()})


@st.composite
def laid_out(draw: st.DrawFn, found: dict[str, Column]) -> pa.Table:
    """The rows as a table, with a layout of its own for each column."""
    return pa.table({name: draw(layouts(column)) for name, column in found.items()})


def numbers() -> st.SearchStrategy[Fraction]:
    """Small integers and rationals."""
    return st.integers(-3, 5).map(Fraction) | st.fractions(-3, 3, max_denominator=9)


@st.composite
def programs(draw: st.DrawFn, found: dict[str, Column], **fixed: Any) -> Program:
    """Rules for these rows: any rational scale and weights, often equal ones, so that rows tie at the centre; and a
    table whose thresholds lie where scores do."""
    names = [name for name in found if name in "xyz"]
    weights = draw(
        st.just([1] * len(names)) | st.lists(numbers(), min_size=len(names), max_size=len(names)).filter(sum)
    )
    rule = {
        "scale": draw(numbers().filter(bool)),
        "centre": draw(st.sampled_from([50, 0, 0, Fraction(1, 3)])),
        "ddof": draw(st.integers(0, 1)),
        "constant": "centre",
    } | fixed
    around = st.integers(-4, 4) | st.decimals(-4, 4, places=2) | st.decimals(-(10**6), 10**6, places=1)
    offsets = draw(st.lists(around, min_size=1, max_size=7)) + draw(st.sampled_from([[], [0]]))
    thresholds = sorted({float(t): t for t in (Decimal(math.floor(rule["centre"])) + o for o in offsets)}.items())
    return program(
        list(zip(names, weights, strict=True)),
        [(threshold, Decimal(i) * Decimal("7.3")) for i, (_, threshold) in enumerate(thresholds)],
        rule=rule,
        rates={"below": draw(st.sampled_from(["first", "zero"]))},
        rounding=draw(st.sampled_from(["floor", "half_up", "ceil"])),
        cap=draw(st.none() | st.integers(0, 10**6)),
    )
