"""Arrow in and out: tables from whatever speaks Arrow, checked views of their buffers, results as Arrow arrays."""

from collections.abc import Mapping
from fractions import Fraction
from math import isfinite
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from hensa import kernels
from hensa.errors import DataError
from hensa.program import Program

__all__ = ["KINDS", "View", "Views", "allocate", "array_of", "column_of", "null_view", "rows_views", "table_of"]

KINDS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float32", "float64", "bool",
         "decimal128"]  # fmt: skip
"""What the kernels read, in the order of their enumeration; decimal32 and decimal64 are read as int32 and int64."""

_WIDTH = {"int8": 1, "int16": 2, "int32": 4, "int64": 8, "uint8": 1, "uint16": 2, "uint32": 4, "uint64": 8,
          "float32": 4, "float64": 8, "bool": 1, "decimal128": 16}  # fmt: skip


class View(NamedTuple):
    """A column as the kernels read it."""

    name: str
    kind: str
    unit: Fraction | None
    """The value of the integer 1 (decimals: 10**-scale); None for floats."""
    column: Any
    """A ``Column`` of the kernel in use."""
    array: pa.ChunkedArray
    """Keeps the buffers alive."""
    has_bitmap: bool
    """Whether any chunk has a validity bitmap."""

    def value(self, row: int) -> Fraction:
        """One value, exactly; for measures, which must be finite."""
        value = self.array[row].as_py()
        if isinstance(value, float) and not isfinite(value):
            raise DataError(f"Column {self.name!r} is {value} in row {row}; measures must be finite numbers.")
        return Fraction(value)


def table_of(rows: Any) -> pa.Table:
    """The rows as a pyarrow Table, without copying Arrow data.

    Parameters
    ----------
    rows : object
        With ``__arrow_c_stream__`` or ``__arrow_c_array__``, or a mapping of names to arrays.

    Raises
    ------
    DataError
        If it is neither, or its producer fails.
    """
    if isinstance(rows, pa.Table):
        return rows
    if not (hasattr(rows, "__arrow_c_stream__") or hasattr(rows, "__arrow_c_array__") or isinstance(rows, Mapping)):
        raise DataError(
            f"rows is a {type(rows).__name__}; it must have __arrow_c_stream__ or __arrow_c_array__ (pyarrow, Polars, "
            "pandas, DuckDB, nanoarrow ...) or be a mapping of names to arrays."
        )
    try:
        return pa.table(dict(rows) if isinstance(rows, Mapping) else rows)
    except (pa.ArrowException, TypeError, ValueError, OverflowError, OSError) as error:
        raise DataError(f"rows cannot be read as an Arrow table: {str(error).strip().splitlines()[0]}") from error


def column_of(table: pa.Table, name: str) -> pa.ChunkedArray:
    """The one column of that name."""
    found = table.schema.get_all_field_indices(name)
    if len(found) != 1:
        have = ", ".join(map(repr, table.column_names[:20])) or "none"
        raise DataError(
            f"The rows have {len(found)} columns named {name!r}; the program needs exactly one (they have {have})."
        )
    return table.column(found[0])


class Views(NamedTuple):
    """The columns that a program reads of some rows."""

    n_rows: int
    measures: list[View]
    base: View | None
    """The base of the reward, if it is to be paid."""
    others: list[View]
    """Further columns, whose nulls leave a row out."""

    @property
    def all(self) -> list[View]:
        return [*self.measures, *([self.base] if self.base else []), *self.others]


def rows_views(table: pa.Table, program: Program, paid: bool) -> Views:
    """Views of a program's columns: measures are integers, bool, floats or decimals; the base is no float, as points
    are exact. Unless it is to be paid on, the base may be missing, and only its nulls are read."""
    measures = [_view(table, measure.column, "a measure", KINDS) for measure in program.rule.measures]
    base, others = None, []
    if program.reward is not None:
        name = program.reward.base
        if paid:
            base = _view(
                table, name, "the base of the reward", [kind for kind in KINDS if not kind.startswith("float")]
            )
        elif name in table.column_names:
            others = [_view(table, name, "the base of the reward", KINDS)]
    return Views(table.num_rows, measures, base, others)


def null_view(array: pa.Array) -> View:
    """A view whose nulls leave rows out."""
    return _view(pa.table({"": array}), "", "", KINDS)


def _kind(type_: pa.DataType) -> tuple[str, int]:
    """The kind as which a type is read, and its decimal scale."""
    if pa.types.is_decimal32(type_):
        return "int32", type_.scale
    if pa.types.is_decimal64(type_):
        return "int64", type_.scale
    if pa.types.is_decimal128(type_):
        return "decimal128", type_.scale
    return {"halffloat": "float16", "float": "float32", "double": "float64"}.get(str(type_), str(type_)), 0


def _view(table: pa.Table, name: str, role: str, kinds: list[str]) -> View:
    array = column_of(table, name)
    if pa.types.is_null(array.type):
        array = array.cast(pa.int64())  # what a list of None becomes
    kind, scale = _kind(array.type)
    if kind not in kinds:
        raise DataError(
            f"Column {name!r} is of type {array.type}; {role} must be of an integer, bool"
            f"{', float32, float64' if 'float64' in kinds else ''} or decimal type up to decimal128; cast it first."
        )
    chunks = [_checked(chunk, name, _WIDTH[kind]) for chunk in array.chunks if len(chunk)]
    places = np.zeros((len(chunks), 4), dtype=np.int64)
    start = 0
    for place, chunk in zip(places, chunks, strict=True):
        validity, values = chunk.buffers()
        place[:] = start, values.address, validity.address if validity and chunk.null_count else 0, chunk.offset
        start += len(chunk)
    unit = None if kind.startswith("float") else Fraction(10) ** -scale
    column = kernels.active.Column(KINDS.index(kind), start, places)
    return View(name, kind, unit, column, pa.chunked_array(chunks, array.type), bool(places[:, 2].any()))


def _checked(chunk: pa.Array, name: str, width: int) -> pa.Array:
    """The chunk, whose buffers hold what it says; copied only if its values are not aligned to their size."""
    try:
        chunk.validate()
    except pa.ArrowException as error:
        raise DataError(f"Column {name!r} is not a valid Arrow array: {str(error).splitlines()[0]}") from error
    validity, values = chunk.buffers()
    if values is None or not values.is_cpu or (validity is not None and not validity.is_cpu):
        raise DataError(f"Column {name!r} has no values in the memory of the CPU; copy it there first.")
    if values.address % min(width, 8):
        values = pa.py_buffer(values.to_pybytes())
        return pa.Array.from_buffers(chunk.type, len(chunk), [validity, values], offset=chunk.offset)
    return chunk


def allocate(n_bytes: int) -> pa.Buffer:
    """A buffer of Arrow's memory pool, which hands the same pages to the next call."""
    return pa.allocate_buffer(n_bytes)


def array_of(type_: pa.DataType, length: int, validity: pa.Buffer | None, values: pa.Buffer, nulls: int) -> pa.Array:
    """An Arrow array over buffers of ours."""
    return pa.Array.from_buffers(type_, length, [validity if nulls else None, values], null_count=nulls)
