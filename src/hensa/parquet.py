"""Parquet files that are read, worked on and encoded on several threads.

pyarrow encodes a file on one thread (apache/arrow#50866). Here every column of a row group is written as a file of its
own, in memory, and the bytes of its pages are put one after another behind one footer. Pages hold no positions, the
footer does, as numbers from the start of the file: they are all that changes.

The footer is a struct in Thrift's compact protocol (github.com/apache/thrift, doc/specs/thrift-compact-protocol.md);
parquet.thrift of github.com/apache/parquet-format numbers its fields.
"""

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from inspect import signature
from typing import Any, BinaryIO, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

__all__ = ["ROW_GROUP", "Part", "spans", "write"]

ROW_GROUP = 1 << 20
MAGIC = b"PAR1"
# Pages of a mebibyte, as pyarrow makes them where it has no such option: pages of 20,000 rows, its new default, take a
# twentieth longer to write and a quarter longer to read.
PAGES = {"max_rows_per_page": ROW_GROUP} if "max_rows_per_page" in signature(pq.ParquetWriter).parameters else {}

Part: TypeAlias = pa.Table | Callable[[], pa.Table]
"""A table, or what makes one on the thread that encodes it."""
Struct = dict[int, tuple[int, Any]]
"""By the number of the field, its type and value."""
Encoded = tuple[int, list[tuple[memoryview, Struct]]]
"""The number of rows, and for each column its pages and the footer of the file that they would be in alone."""

# Types of the compact protocol; a boolean is a type without a value.
TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, STRUCT = 1, 2, 3, 4, 5, 6, 7, 8, 9, 12
# Fields of FileMetaData, RowGroup, ColumnChunk and ColumnMetaData.
FILE_ROWS, FILE_ROW_GROUPS = 3, 4
GROUP_COLUMNS, GROUP_BYTES, GROUP_ROWS, GROUP_OFFSET, GROUP_COMPRESSED = 1, 2, 3, 5, 6
CHUNK_METADATA = 3
COLUMN_BYTES, COLUMN_COMPRESSED, COLUMN_DATA, COLUMN_DICTIONARY = 6, 7, 9, 11


def spans(metadata: pq.FileMetaData) -> list[list[int]]:
    """The row groups of a file, together as far as ROW_GROUP rows have room; a larger one is alone."""
    found: list[list[int]] = []
    room = 0
    for index in range(metadata.num_row_groups):
        n_rows = metadata.row_group(index).num_rows
        if not found or n_rows > room:
            found.append([])
            room = ROW_GROUP
        found[-1].append(index)
        room -= n_rows
    return found


def write(
    file: BinaryIO, schema: pa.Schema, parts: Iterable[Part], advance: Callable[[int], None], threads: int
) -> None:
    """Write tables one after another as one Parquet file; tells `advance` the rows of each row group.

    A row group is of ROW_GROUP rows, or the rest of a table; a table that is made by its thread is one. The bytes do
    not depend on the number of threads.
    """
    footer = _footer(_written(schema))
    file.write(MAGIC)
    position = len(MAGIC)
    groups: list[Struct] = []
    waiting: deque[list[Future[Encoded]]] = deque()

    def finish_first() -> None:
        nonlocal position
        start, n_rows = position, 0
        chunks: list[Struct] = []
        for done in waiting.popleft():
            n_rows, columns = done.result()
            for pages, encoded in columns:
                chunks += _moved(encoded, position - len(MAGIC))
                file.write(pages)
                position += len(pages)
        if n_rows:
            groups.append(_group(chunks, n_rows, start))
            advance(n_rows)

    with ThreadPoolExecutor(threads) if threads > 1 else _Here() as pool:
        try:
            for part in parts:
                if isinstance(part, pa.Table):
                    _check(part, schema)
                    for start in range(0, part.num_rows, ROW_GROUP):
                        group = part.slice(start, ROW_GROUP)
                        waiting.append([pool.submit(_encoded, group.select([i])) for i in range(group.num_columns)])
                else:
                    waiting.append([pool.submit(_made, part, schema)])
                # Nobody runs out of work while the first is waited for, and no more is kept than that takes.
                while waiting and sum(map(len, waiting)) >= 2 * threads + len(waiting[0]):
                    finish_first()
            while waiting:
                finish_first()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    footer[FILE_ROWS] = I64, sum(group[GROUP_ROWS][1] for group in groups)
    footer[FILE_ROW_GROUPS] = LIST, (STRUCT, groups)
    encoded = bytearray()
    _write(encoded, STRUCT, footer)
    file.write(encoded + len(encoded).to_bytes(4, "little") + MAGIC)


class _Here(Executor):
    """Calls that are made at once, on the thread that submits them."""

    def submit(self, call: Callable[..., Any], /, *arguments: Any, **options: Any) -> Future[Any]:
        done: Future[Any] = Future()
        done.set_result(call(*arguments, **options))
        return done


def _check(table: pa.Table, schema: pa.Schema) -> None:
    if not table.schema.equals(schema):
        raise ValueError(f"a table of {table.schema} in a file of {schema}")


def _made(make: Callable[[], pa.Table], schema: pa.Schema) -> Encoded:
    """All columns of a table that is made here."""
    table = make()
    _check(table, schema)
    columns = [_encoded(table.select([i]))[1] for i in range(table.num_columns)] if table.num_rows else []
    return table.num_rows, [column for each in columns for column in each]


def _encoded(column: pa.Table) -> Encoded:
    """A column."""
    (type,) = column.schema.types
    # Half the time of a dictionary for most whole numbers, and every reader of format 2 knows it.
    delta = {"use_dictionary": False, "column_encoding": "DELTA_BINARY_PACKED"} if _is_whole(type) else {}
    data = _written(column.schema, column, store_schema=False, **delta)
    return column.num_rows, [(data[len(MAGIC) : _footer_start(data)], _footer(data))]


def _written(schema: pa.Schema, table: pa.Table | None = None, **options: Any) -> memoryview:
    """A file with the table as its one row group, or with none."""
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, schema, compression="zstd", write_page_checksum=True, **PAGES, **options) as writer:
        if table is not None:
            writer.write_table(table, max(table.num_rows, 1))
    return memoryview(sink.getvalue())


def _footer_start(data: memoryview) -> int:
    end = len(data) - len(MAGIC) - 4
    return end - int.from_bytes(data[end : end + 4], "little")


def _footer(data: memoryview) -> Struct:
    footer: Struct = _Reader(bytes(data[_footer_start(data) :])).value(STRUCT)
    return footer


def _is_whole(type: pa.DataType) -> bool:
    """Whether Parquet keeps such values as whole numbers."""
    return bool(pa.types.is_integer(type) or pa.types.is_temporal(type))


def _moved(footer: Struct, by: int) -> list[Struct]:
    """The column chunks of a file of one row group, as they are in a file where their pages begin so much later."""
    _, (group,) = footer[FILE_ROW_GROUPS][1]
    chunks: list[Struct] = group[GROUP_COLUMNS][1][1]
    for chunk in chunks:
        metadata: Struct = chunk[CHUNK_METADATA][1]
        for field in (COLUMN_DATA, COLUMN_DICTIONARY):
            if field in metadata:
                metadata[field] = I64, metadata[field][1] + by
    return chunks


def _group(chunks: list[Struct], n_rows: int, start: int) -> Struct:
    totals = {
        field: sum(chunk[CHUNK_METADATA][1][field][1] for chunk in chunks)
        for field in (COLUMN_BYTES, COLUMN_COMPRESSED)
    }
    return {
        GROUP_COLUMNS: (LIST, (STRUCT, chunks)),
        GROUP_BYTES: (I64, totals[COLUMN_BYTES]),
        GROUP_ROWS: (I64, n_rows),
        GROUP_OFFSET: (I64, start),
        GROUP_COMPRESSED: (I64, totals[COLUMN_COMPRESSED]),
    }


class _Reader:
    """Values of the compact protocol, one after another."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def value(self, type: int) -> Any:
        if type in (TRUE, FALSE):
            return None
        if type in (I16, I32, I64):
            return self._integer()
        if type == BINARY:
            return self._bytes(self._varint())
        if type == LIST:
            return self._list()
        if type == STRUCT:
            return self._struct()
        return self._bytes({BYTE: 1, DOUBLE: 8}[type])

    def _struct(self) -> Struct:
        found: Struct = {}
        field = 0
        while head := self._byte():
            step, type = divmod(head, 16)
            field = field + step if step else self._integer()
            found[field] = type, self.value(type)
        return found

    def _list(self) -> tuple[int, list[Any]]:
        length, type = divmod(self._byte(), 16)
        if length == 15:
            length = self._varint()
        return type, [self.value(type) for _ in range(length)]

    def _integer(self) -> int:
        zigzag = self._varint()
        return zigzag >> 1 ^ -(zigzag & 1)

    def _varint(self) -> int:
        found = shift = 0
        while (byte := self._byte()) >= 128:
            found |= (byte & 127) << shift
            shift += 7
        return found | byte << shift

    def _byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1]

    def _bytes(self, length: int) -> bytes:
        self._at += length
        return self._data[self._at - length : self._at]


def _write(data: bytearray, type: int, value: Any) -> None:
    """Append a value as `_Reader` reads it."""
    if type in (I16, I32, I64):
        _write_varint(data, 2 * value if value >= 0 else -2 * value - 1)
    elif type == BINARY:
        _write_varint(data, len(value))
        data += value
    elif type == LIST:
        element, values = value
        data.append(min(len(values), 15) << 4 | element)
        if len(values) >= 15:
            _write_varint(data, len(values))
        for each in values:
            _write(data, element, each)
    elif type == STRUCT:
        last = 0
        for field, (kind, each) in sorted(value.items()):
            if field - last < 16:
                data.append(field - last << 4 | kind)
            else:
                data.append(kind)
                _write(data, I16, field)
            _write(data, kind, each)
            last = field
        data.append(0)
    elif type not in (TRUE, FALSE):
        data += value


def _write_varint(data: bytearray, value: int) -> None:
    while value >= 128:
        data.append(value & 127 | 128)
        value >>= 7
    data.append(value)
