"""Arrow in and out: tables from whatever speaks Arrow, checked views of their buffers, results as Arrow arrays."""

import ctypes
import os
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache, partial
from math import isfinite
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hensa import kernels
from hensa.errors import ColumnError, DataError
from hensa.program import PerEvent, Program, Stages

__all__ = [
    "KINDS",
    "View",
    "Views",
    "allocate",
    "array_of",
    "cast_column",
    "check_key_type",
    "column_of",
    "exact_sum",
    "integers_of",
    "named",
    "null_view",
    "plain_rows",
    "plain_schema",
    "plain_type",
    "reason",
    "rows_views",
    "table_of",
]

KINDS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float32", "float64", "bool",
         "decimal128"]  # fmt: skip
"""What the kernels read, in the order of their enumeration; decimal32 and decimal64 are read as int32 and int64."""

_KIND_OF = {
    **{getattr(pa, kind)().id: kind for kind in KINDS[:10]},
    pa.bool_().id: "bool",
    pa.decimal32(1).id: "int32",
    pa.decimal64(1).id: "int64",
    pa.decimal128(1).id: "decimal128",
    pa.null().id: "null",
}
"""By the id of the Arrow type."""

_COUNTS = KINDS[:8]
_EXACT = [kind for kind in KINDS if not kind.startswith("float")]


class View(NamedTuple):
    """A column as the kernels read it."""

    name: str
    kind: str
    unit: Fraction | None
    """The value of the integer 1 (decimals: 10**-scale); None for floats."""
    column: Any
    """A ``Column`` of the kernel in use."""
    array: pa.ChunkedArray
    """The same as Arrow has it."""

    def value(self, row: int) -> Fraction:
        """One value, exactly; for measures, which must be finite."""
        value = self.cell(row)
        if isinstance(value, float) and not isfinite(value):
            raise DataError(f"Column {self.name!r} is {value} in row {row}; measures must be finite numbers.")
        return Fraction(value)

    def cell(self, row: int) -> Any:
        """One value as Python has it."""
        return _cell(self.array, row)

    def keys(self, rows: npt.NDArray[np.int64]) -> list[Any]:
        """Of some rows numbers that are equal where the values are."""
        array = self.array
        if pa.types.is_decimal(array.type) and array.num_chunks:
            array = pa.chunked_array([_digits(chunk) for chunk in array.chunks])
        return array.take(pa.array(rows)).to_pylist()  # type: ignore[no-any-return]


def _cell(array: pa.ChunkedArray, row: int) -> Any:
    """One value as Python has it; of decimals by way of their digits, as Arrow writes out no scale beyond 38."""
    if not pa.types.is_decimal(array.type) or not array[row].is_valid:
        return array[row].as_py()
    sign, digits, _ = Decimal(_digits(array.slice(row, 1).chunk(0))[0].as_py()).as_tuple()
    return Decimal((sign, digits, -array.type.scale))


def _digits(decimals: pa.Array) -> pa.Array:
    """The same buffers as integers, or as decimals of scale 0."""
    return decimals.view({32: pa.int32(), 64: pa.int64(), 128: pa.decimal128(38, 0)}[decimals.type.bit_width])


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
    if not (hasattr(rows, "__arrow_c_stream__") or hasattr(rows, "__arrow_c_array__") or isinstance(rows, Mapping)):
        raise DataError(
            f"rows is a {type(rows).__name__}; it must have __arrow_c_stream__ or __arrow_c_array__ (pyarrow, Polars, "
            "pandas, DuckDB, nanoarrow ...) or be a mapping of names to arrays."
        )
    try:
        table = _table(rows)
        table.validate()  # only lengths, types and the sizes of buffers
        if not table.is_cpu:
            raise ValueError("they are in the memory of a device; copy them to the CPU first")
    except MemoryError:
        raise
    except Exception as error:  # of the producer, which may raise anything
        raise DataError(f"rows cannot be read as an Arrow table: {reason(error)}.") from error
    return table


def _table(rows: Any) -> pa.Table:
    match rows:
        case pa.Table():
            return rows
        case pa.RecordBatchReader():
            return rows.read_all()
        case Mapping():
            return pa.table({name: _array(name, values) for name, values in rows.items()})
    return pa.Table.from_batches(*_imported(rows, pa.RecordBatch, pa.Schema))


def _array(name: object, values: Any) -> Any:
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return values
    try:
        if hasattr(values, "__arrow_c_stream__") or hasattr(values, "__arrow_c_array__"):
            return pa.chunked_array(*_imported(values, pa.Array, pa.DataType))
        if hasattr(values, "__arrow_c_device_array__"):
            raise TypeError(f"a {type(values).__name__} is in the memory of a device; copy it to the CPU first")
        return pa.array(values)
    except MemoryError:
        raise
    except Exception as error:
        raise ValueError(f"column {name!r}: {reason(error)}") from error


def reason(error: Exception) -> str:
    """The first line of what an error says."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(" .")


def column_of(table: pa.Table, name: str) -> pa.ChunkedArray:
    """The one column of that name, for Arrow's functions."""
    column = named(table, name)
    if not (pa.types.is_primitive(column.type) or pa.types.is_decimal(column.type)):
        try:
            column.validate(full=True)  # offsets and indices, which would be followed
        except pa.ArrowException as error:
            raise DataError(f"Column {name!r} is not a valid Arrow array: {reason(error)}.") from error
    return plain(column)


def plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The values of a valid column as their plain type."""
    kind = plain_type(column.type)
    return column if kind == column.type else column.cast(kind)


def plain_rows(rows: pa.Table) -> pa.Table:
    """The same of all columns of valid rows."""
    schema = plain_schema(rows.schema)
    return rows if schema == rows.schema else pa.table([plain(column) for column in rows.columns], schema=schema)


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """The plain types of all columns."""
    return pa.schema([field.with_type(plain_type(field.type)) for field in schema], schema.metadata)


def plain_type(kind: pa.DataType) -> pa.DataType:
    """The type that Arrow's functions read where they do not read this: few of them read views of texts, which Polars
    writes, or decimals of less than 128 bits."""
    if pa.types.is_string_view(kind):
        return pa.large_string()
    if pa.types.is_binary_view(kind):
        return pa.large_binary()
    if pa.types.is_decimal32(kind) or pa.types.is_decimal64(kind):
        return pa.decimal128(kind.precision, kind.scale)
    if pa.types.is_dictionary(kind):
        value_type = plain_type(kind.value_type)
        return kind if value_type == kind.value_type else pa.dictionary(kind.index_type, value_type, kind.ordered)
    return kind


def check_key_type(kind: pa.DataType, what: str, are: str) -> None:
    """Refuse a type whose values do not tell rows apart: of floats, nested, or known to its maker alone.

    Raises
    ------
    DataError
        "`what` is of type ...; `are` of integers, ..."
    """
    if pa.types.is_floating(kind) or pa.types.is_nested(kind) or isinstance(kind, pa.BaseExtensionType):
        raise DataError(f"{what} is of type {kind}; {are} of integers, text, bool, dates or decimals.")


def named(table: pa.Table, name: str, role: str = "", program: str = "") -> pa.ChunkedArray:
    """The one column of that name, unchecked; `role` is what it is to the program that reads it, if one does."""
    found = table.schema.get_all_field_indices(name)
    if len(found) != 1:
        have = ", ".join(map(repr, table.column_names[:20])) or "none"
        if found:
            raise DataError(
                f"The rows have {len(found)} columns named {name!r}; exactly one is needed (they have {have})."
            )
        what = f", {role} of {program}" if program else ""
        raise ColumnError(f"There is no column {name!r}{what}{_hint(table, name)}; the columns are {have}.", program)
    return table.column(found[0])


def _hint(table: pa.Table, name: str) -> str:
    """What may be wrong where a column is missing."""
    from difflib import get_close_matches  # seldom needed

    near = get_close_matches(name, table.column_names, n=1)
    if near:
        return f" (did you mean {near[0]!r}?)"
    only = table.column_names[0] if table.num_columns == 1 else ""
    used = next((word for mark, word in ((";", "semicolons"), ("\t", "tabs")) if mark in only), None)
    return f" (are the cells separated by {used}? it must be commas)" if used else ""


def cast_column(column: pa.ChunkedArray, name: str, type_: pa.DataType, allowed: str) -> pa.ChunkedArray:
    """The values as another type, if that holds every one of them.

    Raises
    ------
    DataError
        With the first row whose value does not fit, and what is allowed.
    """
    try:
        return column.cast(type_)
    except pa.ArrowInvalid:
        low, high = 0, len(column)  # the first such row lies from low to high - 1
    while high - low > 1:
        middle = (low + high) // 2
        try:
            column.slice(low, middle - low).cast(type_)
            low = middle
        except pa.ArrowInvalid:
            high = middle
    raise DataError(f"Column {name!r} is {str(column[low].as_py())!r:.80} in row {low}; it must be {allowed}.")


def integers_of(
    table: pa.Table, name: str, negative: str = "error"
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """The values of a column of whole numbers as int64, 0 where it is null, and where it is not.

    Raises
    ------
    DataError
        The column is missing or of another type; a value is beyond int64, or below 0 with ``negative="error"``.
    """
    column = column_of(table, name)
    kind = column.type
    if not (pa.types.is_integer(kind) or pa.types.is_decimal(kind) or pa.types.is_null(kind)):
        raise DataError(f"Column {name!r} is of type {kind}; it must be of integers or whole decimals.")
    column = cast_column(column, name, pa.int64(), "a whole number that fits int64")
    values = column.fill_null(0).to_numpy()
    if negative == "error" and len(values) and values.min() < 0:
        row = int(np.argmax(values < 0))
        raise DataError(f"Column {name!r} is {values[row]} in row {row}; it must be 0 or more.")
    return values, column.is_valid().to_numpy()


def exact_sum(values: npt.NDArray[np.int64]) -> int:
    """The sum of fewer than 2^31 int64, by their high and low words: neither sum reaches 2^63."""
    return (int((values >> 32).sum()) << 32) + int((values & 0xFFFFFFFF).sum())


class Views(NamedTuple):
    """The columns that a program reads of some rows."""

    n_rows: int
    measures: list[View]
    base: View | None
    """The base of the reward, if it is to be paid."""
    others: list[View]
    """Further columns, whose nulls leave a row out; the counts of a per-event rule."""
    criteria: list[View]
    """Of a stage rule."""
    previous: View | None
    """The stage before, if bonuses are to be paid; a null there is no stage, and leaves no row out."""

    @property
    def all(self) -> list[View]:
        """The columns whose nulls leave a row out."""
        return [*self.measures, *self.criteria, *([self.base] if self.base else []), *self.others]


def rows_views(table: pa.Table, program: Program, paid: bool) -> Views:
    """Views of a program's columns: measures and criteria are integers, bool, floats or decimals; the base is no float,
    as points are exact. Unless it is to be paid on, the base may be missing, and only its nulls are read."""
    rule, view = program.rule, partial(_view, table, program=program.name)
    measures = [view(m.column, "a measure", KINDS, m.negative) for m in program.measures]
    criteria, previous = [], None
    if isinstance(rule, Stages):
        criteria = [view(c.column, "a criterion", KINDS, c.negative) for c in rule.criteria]
        if paid and rule.previous is not None and rule.previous in table.column_names:
            previous = view(rule.previous, "the stage before", _COUNTS)
    base, others = None, []
    if isinstance(rule, PerEvent):
        others = [view(event.column, "a count", _COUNTS, event.negative) for event in rule.events]
    if program.reward is not None:
        name, role, negative = program.reward.base, "the base of the reward", program.reward.negative
        if paid:
            base = view(name, role, _EXACT, negative)
        elif name in table.schema.names:
            others = [view(name, role, KINDS, negative)]
    return Views(table.num_rows, measures, base, others, criteria, previous)


def null_view(array: pa.Array) -> View:
    """A view whose nulls leave rows out."""
    return _view(pa.table({"": array}), "", "", KINDS)


def key_view(column: pa.ChunkedArray) -> View:
    """A view of a column of integers that are keys."""
    return _view(pa.table({"": column}), "", "a key", KINDS[:8])


_MOST_SCALE = 1000
"""Arrow sets no limit; Python makes text of integers up to 4,300 digits, and a sum of squares has twice the scale."""


@lru_cache(64)
def _unit(kind: str, scale: int) -> Fraction | None:
    return None if kind.startswith("float") else Fraction(10) ** -scale


def _view(table: pa.Table, name: str, role: str, kinds: list[str], negative: str = "allow", program: str = "") -> View:
    array = named(table, name, role, program)
    type_ = array.type
    kind = _KIND_OF.get(type_.id)
    if kind == "null":  # what a list of None becomes
        array, type_, kind = array.cast(pa.int64()), pa.int64(), "int64"
    if kind is None or kind not in kinds:
        raise DataError(
            f"Column {name!r} is of type {type_}; {role} must be of an integer"
            f"{', bool' if 'bool' in kinds else ''}{', float32, float64' if 'float64' in kinds else ''}"
            f"{' or decimal type up to decimal128' if 'decimal128' in kinds else ' type'}; cast it first."
        )
    scale = type_.scale if pa.types.is_decimal(type_) else 0
    if abs(scale) > _MOST_SCALE:
        raise DataError(f"Column {name!r} is of type {type_}; scales go from -{_MOST_SCALE:,} to {_MOST_SCALE:,}.")
    try:
        column = kernels.active.Column(KINDS.index(kind), array.chunks)
    except ValueError as error:
        raise DataError(f"Column {name!r} is not a valid Arrow array: {error}.") from None
    if not column.is_aligned:
        array = _aligned(array)
        column = kernels.active.Column(KINDS.index(kind), array.chunks)
    if negative == "error":
        _refuse_negative(name, array)
    return View(name, kind, _unit(kind, scale), column, array)


def _refuse_negative(name: str, array: pa.ChunkedArray) -> None:
    if pa.types.is_boolean(array.type):
        return
    import pyarrow.compute as pc  # slow to import, seldom needed

    values = array
    if pa.types.is_decimal(array.type):  # their digits: Arrow takes no minimum of the narrower ones or below scale 0
        values = pa.chunked_array([_digits(chunk) for chunk in array.chunks or [pa.array([], array.type)]])
    lowest = pc.min(values).as_py()
    if lowest is not None and lowest < 0:
        row = pc.index(pc.less(values, 0), True).as_py()
        raise DataError(
            f"Column {name!r} is {_cell(array, row)} in row {row}; it must be 0 or more, as the program says "
            'negative = "error" of it.'
        )


def _aligned(array: pa.ChunkedArray) -> pa.ChunkedArray:
    """A copy whose values are aligned to their size."""
    chunks = []
    for chunk in array.chunks:
        validity, values = chunk.buffers()
        copy = values and pa.py_buffer(values.to_pybytes())
        chunks.append(pa.Array.from_buffers(chunk.type, len(chunk), [validity, copy], offset=chunk.offset))
    return pa.chunked_array(chunks, array.type)


def allocate(n_bytes: int) -> pa.Buffer:
    """A buffer of Arrow's memory pool, which hands the same pages to the next call."""
    return pa.allocate_buffer(n_bytes)


def array_of(type_: pa.DataType, length: int, validity: pa.Buffer | None, values: pa.Buffer, nulls: int) -> pa.Array:
    """An Arrow array over buffers of ours."""
    return pa.Array.from_buffers(type_, length, [validity if nulls else None, values], null_count=nulls)


# The structs of the Arrow C data and stream interface. pyarrow follows a null pointer, a negative offset or a negative
# number of children, so these are looked for first. The sizes of buffers are not in the structs: there, producers are
# believed.


class _Schema(ctypes.Structure):
    _fields_ = (
        ("format", ctypes.c_char_p),
        ("name", ctypes.c_char_p),
        ("metadata", ctypes.c_void_p),
        ("flags", ctypes.c_int64),
        ("n_children", ctypes.c_int64),
        ("children", ctypes.POINTER(ctypes.c_void_p)),
        ("dictionary", ctypes.c_void_p),
        ("release", ctypes.c_void_p),
        ("private_data", ctypes.c_void_p),
    )


class _Array(ctypes.Structure):
    _fields_ = (
        ("length", ctypes.c_int64),
        ("null_count", ctypes.c_int64),
        ("offset", ctypes.c_int64),
        ("n_buffers", ctypes.c_int64),
        ("n_children", ctypes.c_int64),
        ("buffers", ctypes.POINTER(ctypes.c_void_p)),
        ("children", ctypes.POINTER(ctypes.c_void_p)),
        ("dictionary", ctypes.c_void_p),
        ("release", ctypes.c_void_p),
        ("private_data", ctypes.c_void_p),
    )


class _Stream(ctypes.Structure):
    _fields_ = (
        ("get_schema", ctypes.c_void_p),
        ("get_next", ctypes.c_void_p),
        ("get_last_error", ctypes.c_void_p),
        ("release", ctypes.c_void_p),
        ("private_data", ctypes.c_void_p),
    )


_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)
_Get = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
_Text = ctypes.CFUNCTYPE(ctypes.c_char_p, ctypes.c_void_p)
_Release = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


def _imported(source: Any, array_class: Any, type_class: Any) -> tuple[list[Any], Any]:
    """The arrays (or batches) of a source, and their type (or schema)."""
    if hasattr(source, "__arrow_c_stream__"):
        capsule = source.__arrow_c_stream__()
        return _streamed(_Stream.from_address(_pointer(capsule, b"arrow_array_stream")), array_class, type_class)
    schema_capsule, array_capsule = source.__arrow_c_array__()
    array = _Array.from_address(_pointer(array_capsule, b"arrow_array"))
    _check(_Schema.from_address(_pointer(schema_capsule, b"arrow_schema")), array)
    type_ = type_class._import_from_c_capsule(schema_capsule)
    return [array_class._import_from_c(ctypes.addressof(array), type_)], type_


def _streamed(stream: _Stream, array_class: Any, type_class: Any) -> tuple[list[Any], Any]:
    def get(callback: int, struct: ctypes.Structure) -> int:
        if code := _Get(callback)(ctypes.addressof(stream), ctypes.addressof(struct)):
            text = _Text(stream.get_last_error)(ctypes.addressof(stream)) if stream.get_last_error else None
            raise OSError((text or b"").decode(errors="replace") or os.strerror(code))
        return ctypes.addressof(struct)

    if not (stream.release and stream.get_schema and stream.get_next):
        raise ValueError("the ArrowArrayStream is released or has no callbacks")
    arrays: list[Any] = []
    schema = _Schema()
    address = get(stream.get_schema, schema)
    _check_received(schema, None)
    type_ = type_class._import_from_c(address)
    capsule = type_.__arrow_c_schema__()  # the import has consumed the stream's own
    schema = _Schema.from_address(_pointer(capsule, b"arrow_schema"))
    while True:
        array = _Array()
        address = get(stream.get_next, array)
        if not array.release:
            return arrays, type_
        _check_received(schema, array)
        arrays.append(array_class._import_from_c(address, type_))


def _check_received(schema: _Schema, array: _Array | None) -> None:
    """Check what a stream gave, which is ours to release."""
    try:
        _check(schema, array)
    except ValueError:
        struct = array or schema
        if struct.release:
            _Release(struct.release)(ctypes.addressof(struct))
        raise


def _check(schema: _Schema, array: _Array | None, depth: int = 0) -> None:
    """Refuse structs that pyarrow would follow to where there is no memory."""
    structs: list[Any] = [schema] if array is None else [schema, array]
    if not all(struct.release for struct in structs):
        raise ValueError("an ArrowSchema or ArrowArray is released")
    if not schema.format or depth > 64:
        raise ValueError("an ArrowSchema " + ("is nested too deeply" if schema.format else "has no format"))
    format_, name = schema.format.decode(), (schema.name or b"").decode()
    where = f"the column {name!r} of format {format_!r}" if depth else f"the array of format {format_!r}"
    if array is not None:
        for field in ("length", "offset", "n_buffers"):
            if getattr(array, field) < 0:
                raise ValueError(f"{where} has {field} {getattr(array, field)}")
        if not -1 <= array.null_count <= array.length:
            raise ValueError(f"{where} has null_count {array.null_count}, and length {array.length}")
        if array.n_buffers and not array.buffers:
            raise ValueError(f"{where} has no buffers")
    if schema.n_children < 0 or len({struct.n_children for struct in structs}) > 1:
        raise ValueError(f"{where} has n_children {' and '.join(str(struct.n_children) for struct in structs)}")
    for i in range(schema.n_children):
        _check_parts(where, [struct.children and struct.children[i] for struct in structs], depth)
    if any(struct.dictionary for struct in structs):
        _check_parts(where, [struct.dictionary for struct in structs], depth)


def _check_parts(where: str, addresses: list[Any], depth: int) -> None:
    """Check a child or a dictionary."""
    if not all(addresses):
        raise ValueError(f"{where} has a null pointer where it must have a child")
    schema, *arrays = addresses
    _check(_Schema.from_address(schema), _Array.from_address(arrays[0]) if arrays else None, depth + 1)
