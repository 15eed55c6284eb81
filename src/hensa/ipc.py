"""Arrow files whose record batches are read a part at a time, however large they are.

pyarrow reads a record batch whole. Here each of the buffers that it consists of is read a span at a time, and
decompressed as it is read, so that no more is in memory than the rows in work. Buffers are read, not mapped: a file
that is cut off meanwhile is an error then, where touching a mapped page that is gone ends the process.

Where they are is said in the footer and before each batch, in tables whose fields are numbered by File.fbs, Message.fbs
and Schema.fbs of github.com/apache/arrow. Nothing of that is trusted.
"""

import struct
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hensa.flatbuffers import Table

__all__ = ["PART", "ArrowFile", "Group"]

PART = 1 << 16
"""Rows of a part; a multiple of 8, so that the bits of its rows begin with a byte."""
TOGETHER = 1000
"""So many record batches of few rows are one part."""
AHEAD = 1 << 20
"""Bytes of a buffer that are read at once: on some filesystems every reading takes its time."""
MAGIC = b"ARROW1"
MARK = b"\xff\xff\xff\xff"  # before a message, from Arrow 0.15 on
V5 = 4  # the version of the format from Arrow 1.0 on
CODECS = {0: "lz4", 1: "zstd"}
# Fields of Footer, Schema, Message, RecordBatch and BodyCompression.
FOOTER_SCHEMA, FOOTER_DICTIONARIES, FOOTER_BATCHES = 1, 2, 3
SCHEMA_ENDIANNESS = 0
MESSAGE_VERSION, MESSAGE_KIND, MESSAGE_BATCH = 0, 1, 2
IS_SCHEMA, IS_BATCH = 1, 3
BATCH_ROWS, BATCH_NODES, BATCH_BUFFERS, BATCH_COMPRESSION, BATCH_FURTHER = 0, 1, 2, 3, 4
COMPRESSION_CODEC = 0
BLOCK = "<qi4xq"  # where a message is, its bytes, and those of its body, which follow
PAIR = "<qq"  # of a node, its values and nulls; of a buffer, where in the body it is, and its bytes


@dataclass(frozen=True)
class Group:
    """Rows of a file that lie together: a row group of a Parquet file, a record batch of an Arrow file.

    Parameters
    ----------
    rows, bytes : int
        Their number, and their bytes in the file, uncompressed if it is a Parquet file.
    is_cut : bool
        Whether reading may begin at any multiple of 8 of its rows, and costs no more for those before.
    held : int
        The bytes of those of its columns that are in memory as a whole while rows of it are read.
    names : tuple of str
        Those columns.
    """

    rows: int
    bytes: int
    is_cut: bool = False
    held: int = 0
    names: tuple[str, ...] = ()


class ArrowFile:
    """An Arrow file that is read a part at a time.

    Parameters
    ----------
    file : pyarrow.NativeFile
        Open, and read at any place.

    Raises
    ------
    pyarrow.ArrowException, OSError
        It is no such file, or cut off; so do the methods.
    """

    def __init__(self, file: pa.NativeFile) -> None:
        self._file, self._size = file, file.size()
        self._reader = pa.ipc.open_file(file)
        self.schema: pa.Schema = self._reader.schema
        with _checked("the footer"):
            end = self._size - len(MAGIC) - 4
            (size,) = struct.unpack("<i", self._read(end, 4))
            self._footer = self._read(end - size, size)
            footer = Table(self._footer)
            self._schema = footer.table(FOOTER_SCHEMA)
            self._is_little = self._schema.number(SCHEMA_ENDIANNESS, "<h") == 0
            self._dictionaries = footer.structs(FOOTER_DICTIONARIES, BLOCK)
            self._blocks = footer.structs(FOOTER_BATCHES, BLOCK)

    @property
    def num_batches(self) -> int:
        """How many record batches there are."""
        return len(self._blocks)

    def groups(self) -> Iterator[Group]:
        """The record batches, without reading them."""
        has_rows = any(map(_width, self.schema.types))  # no more than there are bytes for
        for number in range(self.num_batches):
            with _checked(f"record batch {number}"):
                batch = self._batch(number)
                columns = self._columns(batch) if batch.rows > PART else []
            held = [self._held(column) for column in columns]
            names = tuple(name for name, size in zip(self.schema.names, held, strict=False) if size)
            is_cut = batch.codec is None and batch.is_plain and has_rows
            yield Group(batch.rows, batch.bytes, is_cut, sum(held), names)

    def parts(
        self, numbers: Iterable[int], names: Collection[str] | None = None, start: int = 0, most: int | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Rows of record batches, some PART at a time.

        Parameters
        ----------
        numbers : iterable of int
            Those of the batches.
        names : collection of str, optional
            The columns that are wanted; None: all.
        start : int
            The first row of the first batch that is wanted, a multiple of 8.
        most : int, optional
            How many rows are wanted; None: all that follow.
        """
        wanted = [i for i, field in enumerate(self.schema) if names is None or field.name in names]
        left = sys.maxsize if most is None else most
        short: list[pa.RecordBatch] = []
        waiting = 0
        for number in numbers:
            with _checked(f"record batch {number}"):
                batch = self._batch(number)
                n_rows = min(batch.rows - start, left)
                if waiting + batch.rows > PART or len(short) == TOGETHER:
                    yield from _joined(short)
                    short, waiting = [], 0
                if batch.rows > PART:
                    yield from self._cut(number, batch, wanted, range(start, start + n_rows))
                else:
                    short.append(_valid(self._reader.get_batch(number)).select(wanted).slice(start, n_rows))
                    waiting += n_rows
                start, left = 0, left - n_rows
        yield from _joined(short)

    def _cut(self, number: int, batch: "_Batch", wanted: Sequence[int], rows: range) -> Iterator[pa.RecordBatch]:
        """These rows of a batch, PART at a time."""
        columns = self._columns(batch)
        readers = {i: _Reader(columns[i], rows.start, self._dictionary(i)) for i in wanted if columns[i].width}
        whole: dict[int, pa.Array] = {}
        if others := [i for i in wanted if i not in readers]:
            source = pa.ipc.open_file(self._file, options=pa.ipc.IpcReadOptions(included_fields=others))
            if not batch.is_plain:  # among unions of before Arrow 1.0 pyarrow loses its way unless it reads all
                source, others = self._reader, [*range(len(columns))]
            whole = dict(zip(others, _valid(source.get_batch(number)).columns, strict=True))
        schema = pa.schema([self.schema.field(i) for i in wanted], self.schema.metadata)
        for start in rows[::PART]:
            count = min(PART, rows.stop - start)
            arrays = [readers[i].take(count) if i in readers else whole[i].slice(start, count) for i in wanted]
            yield pa.RecordBatch.from_arrays(arrays, schema=schema)

    def _read(self, start: int, size: int) -> bytes:
        _check_place(start, size, self._size)
        data: bytes = self._file.read_at(size, start)
        if len(data) < size:
            raise pa.ArrowInvalid("the file was cut off meanwhile")
        return data

    def _batch(self, number: int) -> "_Batch":
        start, size, body = self._blocks[number]
        _check_place(start + size, body, self._size)
        data = self._read(start, size)
        message = Table(data[8 if data[:4] == MARK else 4 :])
        if message.number(MESSAGE_KIND, "<B") != IS_BATCH:
            raise pa.ArrowInvalid("it is none")
        header, codec = message.table(MESSAGE_BATCH), None
        if header.has(BATCH_COMPRESSION):
            codec = CODECS[header.table(BATCH_COMPRESSION).number(COMPRESSION_CODEC, "<b")]
        rows = header.number(BATCH_ROWS, "<q")
        if rows < 0:
            raise pa.ArrowInvalid("it has fewer rows than none")
        is_plain = self._is_little and message.number(MESSAGE_VERSION, "<h") == V5
        return _Batch(rows, start + size, body, codec, is_plain, header)

    def _columns(self, batch: "_Batch") -> list["_Column"]:
        nodes, buffers = (batch.header.structs(field, PAIR) for field in (BATCH_NODES, BATCH_BUFFERS))
        further = [count for (count,) in batch.header.structs(BATCH_FURTHER, "<q")]
        columns = []
        for field in self.schema:
            n_nodes, n_buffers, n_views = _extent(field.type)
            n_buffers += sum(further[:n_views])
            rows, nulls = nodes[0]
            if rows != batch.rows or n_buffers > len(buffers):
                raise pa.ArrowInvalid("its columns are not of one length")
            own = []
            for start, size in buffers[:n_buffers]:
                _check_place(start, size, batch.bytes)
                own.append(_Buffer(self._file, batch.start + start, size, batch.codec))
            width = _width(field.type) if batch.is_plain else 0
            if width and own[1].size < _bytes(rows * width):
                raise pa.ArrowInvalid(f"column {field.name!r} is shorter than its {rows:,} rows")
            columns.append(_Column(field.type, width, nulls, own))
            nodes, buffers, further = nodes[n_nodes:], buffers[n_buffers:], further[n_views:]
        return columns

    def _held(self, column: "_Column") -> int:
        """Its bytes that are in memory as a whole."""
        if not column.width:
            return sum(buffer.size for buffer in column.buffers)
        if pa.types.is_dictionary(_storage(column.type)):
            return sum(size for _, _, size in self._dictionaries)
        return 0

    def _dictionary(self, i: int) -> pa.Array | None:
        """That of a column, if it has one."""
        if not pa.types.is_dictionary(_storage(self.schema.field(i).type)):
            return None
        column = self._no_rows.column(i)
        return (column.storage if isinstance(column, pa.ExtensionArray) else column).dictionary

    @cached_property
    def _no_rows(self) -> pa.RecordBatch:
        """A record batch without rows that has the dictionaries, read as a stream of it alone.

        The schema, which tells them apart, is that of the footer, as not all files have a message of it. So one is made
        of the footer and a table before it: at byte 4 are its size and the places of its fields; it is at byte 16.
        """
        fields = struct.pack("<I5H2x", 16, 10, 12, 8, 10, 4)
        table = struct.pack("<iIhB5x", 12, 12 + self._schema.start, V5, IS_SCHEMA)  # the schema is so far from byte 20
        message = fields + table + self._footer + bytes(-len(self._footer) % 8)
        dictionaries = [self._read(start, size + body) for start, size, body in self._dictionaries]
        empty = [pa.nulls(0, kind) for kind in self.schema.types]
        none = pa.RecordBatch.from_arrays(empty, schema=self.schema).serialize().to_pybytes()
        stream = b"".join([MARK, struct.pack("<i", len(message)), message, *dictionaries, none])
        return pa.ipc.open_stream(stream).read_next_batch()


@dataclass(frozen=True)
class _Batch:
    """What is said before a record batch."""

    rows: int
    start: int
    bytes: int
    codec: str | None
    is_plain: bool  # as this machine and today's Arrow have it
    header: Table


@dataclass(frozen=True)
class _Column:
    """A column of a record batch; `width` as `_width` has it, or 0 if the batch is not plain."""

    type: pa.DataType
    width: int
    nulls: int
    buffers: list["_Buffer"]


class _Reader:
    """A column of whose buffers the bytes of the next rows are read."""

    def __init__(self, column: _Column, start: int, dictionary: pa.Array | None) -> None:
        self._type, self._width, self._dictionary = column.type, column.width, dictionary
        validity, self._values, *data = column.buffers
        self._validity = validity if column.nulls else None
        if self._validity:
            self._validity.skip(start // 8)
        self._values.skip(start * self._width // 8)
        self._texts = data[0] if data else None
        if self._texts:
            self._end = int(self._offsets(1)[0])
            self._texts.skip(self._end)

    def take(self, n_rows: int) -> pa.Array:
        """The next rows."""
        kind = _storage(self._type)
        buffers = [self._validity and self._validity.read(_bytes(n_rows))]
        if self._texts:
            start, ends = self._end, self._offsets(n_rows)
            self._end = int(ends[-1])
            offsets = np.zeros(n_rows + 1, ends.dtype)
            np.subtract(ends, start, out=offsets[1:])
            buffers += [pa.py_buffer(offsets), self._texts.read(self._end - start)]
        else:
            buffers.append(self._values.read(_bytes(n_rows * self._width)))
        if self._dictionary is None:
            found = pa.Array.from_buffers(kind, n_rows, buffers)
        else:
            indices = pa.Array.from_buffers(kind.index_type, n_rows, buffers)
            found = pa.DictionaryArray.from_arrays(indices, self._dictionary, ordered=kind.ordered)
        _valid(found)
        return found if kind == self._type else pa.ExtensionArray.from_storage(self._type, found)

    def _offsets(self, count: int) -> npt.NDArray[Any]:
        return np.frombuffer(self._values.read(_bytes(count * self._width)), f"<i{self._width // 8}")


class _Buffer:
    """A buffer in a file, of which one span after another is read; `size` is its bytes in memory."""

    def __init__(self, file: pa.NativeFile, start: int, size: int, codec: str | None) -> None:
        self._file, self._start, self._stored, self._codec = file, start, size, codec
        self.size = size
        if codec is not None and size:
            (self.size,) = struct.unpack("<q", file.read_at(8, start))
            self._start, self._stored = start + 8, size - 8
            if self.size == -1:  # it would not have become smaller
                self.size, self._codec = self._stored, None
            if self._stored < 0 or self.size < 0:
                raise pa.ArrowInvalid("a buffer of it has fewer bytes than none")
        self._at = 0
        self._stream: Any = None

    def skip(self, size: int) -> None:
        """Go past bytes, before any are read."""
        if self._codec is None:
            self._check(size)
            self._at += size
            return
        while size:
            size -= len(self.read(min(size, AHEAD)))

    def read(self, size: int) -> pa.Buffer:
        """The next bytes."""
        self._check(size)
        if self._stream is None:
            stream = self._file.get_stream(self._start + self._at, self._stored - self._at)
            self._stream = pa.BufferedInputStream(stream, AHEAD)
            if self._codec is not None:
                self._stream = pa.CompressedInputStream(self._stream, self._codec)
        data = self._stream.read_buffer(size)
        if data.size < size:
            raise pa.ArrowInvalid("a buffer of it is cut off")
        self._at += size
        return data

    def _check(self, size: int) -> None:
        if not 0 <= size <= self.size - self._at:
            raise pa.ArrowInvalid("a buffer of it is shorter than its rows")


def _storage(kind: pa.DataType) -> pa.DataType:
    return kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind


def _width(kind: pa.DataType) -> int:
    """The bits of a row in the buffer after that of nulls; 0 if rows do not lie together: in views and nested types."""
    kind, types = _storage(kind), pa.types
    if types.is_string(kind) or types.is_binary(kind):
        return 32
    if types.is_large_string(kind) or types.is_large_binary(kind):
        return 64
    if kind.num_fields or kind.num_buffers != 2 or _is_view(kind):
        return 0
    return int(kind.bit_width)


def _is_view(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string_view(kind) or pa.types.is_binary_view(kind))


def _extent(kind: pa.DataType) -> tuple[int, int, int]:
    """How many nodes and buffers a column of this type has in a file, and how many of it have a further number."""
    kind, types = _storage(kind), pa.types
    has_no_nulls = types.is_null(kind) or types.is_run_end_encoded(kind) or types.is_union(kind)
    inner = [_extent(kind.field(i).type) for i in range(kind.num_fields)]
    nodes, buffers, views = map(sum, zip((1, kind.num_buffers - has_no_nulls, _is_view(kind)), *inner, strict=True))
    return nodes, buffers, views


def _bytes(bits: int) -> int:
    return -(-bits // 8)


def _valid(found: Any) -> Any:
    """The array or record batch: it comes as it lies in the file, and offsets must not point beyond its buffers."""
    found.validate(full=True)
    return found


def _joined(batches: Sequence[pa.RecordBatch]) -> list[pa.RecordBatch]:
    """Short record batches as one: each of some thousands would take more time and memory than its few rows."""
    if len(batches) < 2:
        return list(batches)
    found: list[pa.RecordBatch] = pa.Table.from_batches(batches).combine_chunks().to_batches()
    return found


def _check_place(start: int, size: int, end: int) -> None:
    if not 0 <= start <= start + size <= end:
        raise pa.ArrowInvalid("it is said to be where the file is not")


@contextmanager
def _checked(what: str) -> Iterator[None]:
    """Make errors say where in the file they are."""
    try:
        yield
    except (pa.ArrowInvalid, struct.error, LookupError) as error:
        raise pa.ArrowInvalid(f"{what} is damaged: {error}".removesuffix(": ")) from error
