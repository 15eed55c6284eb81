"""Arrow files whose record batches are read a part at a time, however large they are.

pyarrow reads a record batch whole. Here each of the buffers that it consists of is read a span at a time, and
decompressed as it is read, so that no more is in memory than the rows in work. Buffers are read, not mapped: a file
that is cut off meanwhile is an error then, where touching a mapped page that is gone ends the process.

Where they are is said in the footer and before each batch, in tables of FlatBuffers (flatbuffers.dev/internals), whose
fields are numbered by File.fbs, Message.fbs and Schema.fbs of github.com/apache/arrow. Nothing of that is trusted.
"""

import struct
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

__all__ = ["PART", "ArrowFile", "Group"]

PART = 1 << 16
"""Rows of a part; a multiple of 8, so that the bits of its rows begin with a byte."""
TOGETHER = 1000
"""So many record batches of few rows are one part."""
AHEAD = 1 << 20
"""Bytes of a buffer that are read at once: on some filesystems every reading takes its time."""
MAGIC = b"ARROW1"
V5 = 4  # the version of the format from Arrow 1.0 on
CODECS = {0: "lz4", 1: "zstd"}
# Fields of Footer, Schema, Message, RecordBatch and BodyCompression.
FOOTER_SCHEMA, FOOTER_DICTIONARIES, FOOTER_BATCHES = 1, 2, 3
SCHEMA_ENDIANNESS = 0
MESSAGE_VERSION, MESSAGE_KIND, MESSAGE_BATCH = 0, 1, 2
IS_BATCH = 3
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
            footer = _Table.root(self._read(end - size, size))
            self._is_little = footer.table(FOOTER_SCHEMA).number(SCHEMA_ENDIANNESS, "<h") == 0
            self._dictionaries = footer.structs(FOOTER_DICTIONARIES, BLOCK)
            self._blocks = footer.structs(FOOTER_BATCHES, BLOCK)

    @property
    def num_batches(self) -> int:
        """How many record batches there are."""
        return len(self._blocks)

    def groups(self) -> Iterator[Group]:
        """The record batches, without reading them."""
        has_rows = any(_is_streamed(_storage(kind)) for kind in self.schema.types)  # so many as there are bytes for
        for number in range(len(self._blocks)):
            with _checked(f"record batch {number}"):
                batch = self._batch(number)
                held = self._held(batch) if batch.rows > PART else {}
            is_cut = batch.codec is None and batch.is_plain and has_rows
            yield Group(batch.rows, batch.bytes, is_cut, sum(held.values()), tuple(held))

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
                    yield from self._cut(number, batch, wanted, start, n_rows)
                else:
                    rows = self._reader.get_batch(number)
                    rows.validate(full=True)  # buffers come as they lie in the file: offsets must not point beyond them
                    short.append(rows.select(wanted).slice(start, n_rows))
                    waiting += n_rows
                start, left = 0, left - n_rows
        yield from _joined(short)

    def _cut(
        self, number: int, batch: "_Batch", wanted: Sequence[int], start: int, n_rows: int
    ) -> Iterator[pa.RecordBatch]:
        schema = pa.schema([self.schema.field(i) for i in wanted], self.schema.metadata)
        columns = self._columns(number, batch, wanted, start)
        for done in range(0, n_rows, PART):
            arrays = [column.take(min(PART, n_rows - done)) for column in columns]
            yield pa.RecordBatch.from_arrays(arrays, schema=schema)

    def _read(self, start: int, size: int) -> bytes:
        if start < 0 or size < 0 or start + size > self._size:
            raise pa.ArrowInvalid("it is said to be where the file is not")
        data: bytes = self._file.read_at(size, start)
        if len(data) < size:
            raise pa.ArrowInvalid("the file was cut off meanwhile")
        return data

    def _batch(self, number: int) -> "_Batch":
        start, size, body = self._blocks[number]
        data = self._read(start, size)
        message = _Table.root(data[8 if data[:4] == b"\xff\xff\xff\xff" else 4 :])  # Arrow before 0.15 has no such mark
        header, compression = message.table(MESSAGE_BATCH), None
        rows = header.number(BATCH_ROWS, "<q")
        if message.number(MESSAGE_KIND, "<B") != IS_BATCH:
            raise pa.ArrowInvalid("it is none")
        if rows < 0 or body < 0 or start + size + body > self._size:
            raise pa.ArrowInvalid("it is said to be where the file is not")
        if header.has(BATCH_COMPRESSION):
            compression = CODECS[header.table(BATCH_COMPRESSION).number(COMPRESSION_CODEC, "<b")]
        return _Batch(
            rows,
            start + size,
            body,
            compression,
            self._is_little and message.number(MESSAGE_VERSION, "<h") == V5,
            header.structs(BATCH_NODES, PAIR) if rows > PART else (),
            header.structs(BATCH_BUFFERS, PAIR) if rows > PART else (),
            [count for (count,) in header.structs(BATCH_FURTHER, "<q")] if rows > PART else (),
        )

    def _held(self, batch: "_Batch") -> dict[str, int]:
        """The bytes of each column that is in memory as a whole; checks that the others have bytes for all rows."""
        held: dict[str, int] = {}
        for field, (_, own) in zip(self.schema, self._buffers(batch), strict=True):
            kind, size = _storage(field.type), 0
            if not (batch.is_plain and _is_streamed(kind)):
                size = sum(buffer.size for buffer in own)
            elif own[1].size < -(-batch.rows * _bits(kind)[0] // 8):
                raise pa.ArrowInvalid(f"column {field.name!r} is shorter than its {batch.rows:,} rows")
            elif pa.types.is_dictionary(kind):
                size = sum(body for _, _, body in self._dictionaries)
            if size:
                held[field.name] = held.get(field.name, 0) + size
        return held

    def _buffers(self, batch: "_Batch") -> Iterator[tuple[int, list["_Buffer"]]]:
        """Of each column, the nulls and the buffers."""
        node = first = further = 0
        for kind in self.schema.types:
            nodes, buffers, views = _extent(kind)
            buffers += sum(batch.further[further : further + views])
            own = []
            for start, size in batch.buffers[first : first + buffers]:
                if start < 0 or size < 0 or start + size > batch.bytes:
                    raise pa.ArrowInvalid("a buffer of it is said to be where it is not")
                own.append(_Buffer(self._file, batch.start + start, size, batch.codec))
            values, nulls = batch.nodes[node]
            if values != batch.rows or len(own) < buffers:
                raise pa.ArrowInvalid("its columns are not of one length")
            yield nulls, own
            node, first, further = node + nodes, first + buffers, further + views

    def _columns(self, number: int, batch: "_Batch", wanted: Sequence[int], start: int) -> list["_Column"]:
        """The wanted columns of a batch, from this row on."""
        streamed = {i for i in wanted if batch.is_plain and _is_streamed(_storage(self.schema.field(i).type))}
        found: dict[int, _Column] = {}
        if whole := [i for i in wanted if i not in streamed]:
            options = pa.ipc.IpcReadOptions(included_fields=whole)
            rows = pa.ipc.open_file(self._file, options=options).get_batch(number)
            rows.validate(full=True)
            found = {i: _Whole(column, start) for i, column in zip(sorted(whole), rows.columns, strict=True)}
        has_dictionary = any(pa.types.is_dictionary(_storage(self.schema.field(i).type)) for i in streamed)
        none = self._no_rows() if has_dictionary else None
        for i, (nulls, buffers) in enumerate(self._buffers(batch)):
            if i in streamed:
                kind = self.schema.field(i).type
                dictionary = None if none is None else getattr(_stored(none.column(i)), "dictionary", None)
                found[i] = _Streamed(kind, nulls, buffers, start, dictionary)
        return [found[i] for i in wanted]

    def _no_rows(self) -> pa.RecordBatch:
        """A record batch without rows that has the dictionaries: they are read as those of a stream of it alone."""
        start = len(MAGIC) + 2
        mark, size = struct.unpack("<Ii", self._read(start, 8))
        messages = [(start, 8 + size) if mark == 0xFFFFFFFF else (start, 4 + mark)]
        messages += [(start, size + body) for start, size, body in self._dictionaries]
        empty = [pa.nulls(0, kind) for kind in self.schema.types]
        none = pa.RecordBatch.from_arrays(empty, schema=self.schema)
        stream = b"".join(self._read(*message) for message in messages) + none.serialize().to_pybytes()
        return pa.ipc.open_stream(stream).read_next_batch()


def _joined(batches: Sequence[pa.RecordBatch]) -> list[pa.RecordBatch]:
    """Short record batches as one: each of some thousands would take more time and memory than its few rows."""
    if len(batches) < 2:
        return list(batches)
    found: list[pa.RecordBatch] = pa.Table.from_batches(batches).combine_chunks().to_batches()
    return found


@dataclass(frozen=True)
class _Batch:
    """What is said before a record batch: of what comes after `bytes`, of those of more than PART rows alone."""

    rows: int
    start: int
    bytes: int
    codec: str | None
    is_plain: bool  # as this machine and today's Arrow have it
    nodes: Sequence[tuple[int, ...]]
    buffers: Sequence[tuple[int, ...]]
    further: Sequence[int]


# ---- types


def _storage(kind: pa.DataType) -> pa.DataType:
    return kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind


def _stored(column: pa.Array) -> pa.Array:
    return column.storage if isinstance(column, pa.ExtensionArray) else column


def _is_text(kind: pa.DataType) -> bool:
    """Whether values are between offsets."""
    types = pa.types
    return bool(types.is_string(kind) or types.is_binary(kind) or _is_large(kind))


def _is_large(kind: pa.DataType) -> bool:
    return bool(pa.types.is_large_string(kind) or pa.types.is_large_binary(kind))


def _is_streamed(kind: pa.DataType) -> bool:
    """Whether the values of some rows lie together: not in views and nested types."""
    return not pa.types.is_null(kind) and bool(_bits(kind))


def _bits(kind: pa.DataType) -> tuple[int, ...]:
    """Of the buffers after that of nulls, the bits that they have for each row, as far as that is known."""
    if pa.types.is_dictionary(kind):
        return (kind.index_type.bit_width,)
    if _is_text(kind):
        return (64 if _is_large(kind) else 32,)
    is_view = pa.types.is_string_view(kind) or pa.types.is_binary_view(kind)
    if kind.num_fields or kind.num_buffers != 2 or is_view:
        return ()
    return (kind.bit_width,)


def _extent(kind: pa.DataType) -> tuple[int, int, int]:
    """How many nodes and buffers a column of this type has in a file, and how many of it have a further number."""
    kind, types = _storage(kind), pa.types
    is_view = types.is_string_view(kind) or types.is_binary_view(kind)
    buffers = 2 if is_view else kind.num_buffers
    if types.is_null(kind) or types.is_run_end_encoded(kind):
        buffers = 0
    elif types.is_union(kind):
        buffers -= 1
    inner = [_extent(kind.field(i).type) for i in range(kind.num_fields)]
    nodes, others, views = (sum(counts) for counts in zip(*inner, strict=True)) if inner else (0, 0, 0)
    return 1 + nodes, buffers + others, is_view + views


# ---- columns


class _Column(Protocol):
    def take(self, n_rows: int) -> pa.Array:
        """The next rows."""


class _Whole:
    """A column that is in memory."""

    def __init__(self, column: pa.Array, start: int) -> None:
        self._column, self._start = column, start

    def take(self, n_rows: int) -> pa.Array:
        self._start += n_rows
        return self._column.slice(self._start - n_rows, n_rows)


class _Streamed:
    """A column of whose buffers the bytes of the next rows are read."""

    def __init__(
        self, kind: pa.DataType, nulls: int, buffers: list["_Buffer"], start: int, dictionary: pa.Array | None
    ) -> None:
        self._kind, self._dictionary = kind, dictionary
        validity, self._values, *data = buffers
        (self._bits,) = _bits(_storage(kind))
        self._validity = validity if nulls else None
        validity.skip(start // 8 if nulls else 0)
        self._values.skip(start * self._bits // 8)
        self._data, self._last = None, 0
        if _is_text(_storage(kind)):
            (self._data,) = data
            self._last = int(self._offsets(1)[0])
            self._data.skip(self._last)

    def take(self, n_rows: int) -> pa.Array:
        kind = _storage(self._kind)
        validity = None if self._validity is None else self._validity.read(-(-n_rows // 8))
        if self._data is not None:
            ends = self._offsets(n_rows)
            offsets = np.zeros(n_rows + 1, ends.dtype)
            np.subtract(ends, self._last, out=offsets[1:])
            size, self._last = int(ends[-1]) - self._last, int(ends[-1])
            buffers = [validity, pa.py_buffer(offsets), self._data.read(size)]
        else:
            buffers = [validity, self._values.read(-(-n_rows * self._bits // 8))]
        if pa.types.is_dictionary(kind):
            indices = pa.Array.from_buffers(kind.index_type, n_rows, buffers)
            found = pa.DictionaryArray.from_arrays(indices, self._dictionary, ordered=kind.ordered)
        else:
            found = pa.Array.from_buffers(kind, n_rows, buffers)
        found.validate(full=True)
        return found if kind == self._kind else pa.ExtensionArray.from_storage(self._kind, found)

    def _offsets(self, count: int) -> Any:
        return np.frombuffer(self._values.read(count * self._bits // 8), f"<i{self._bits // 8}")


class _Buffer:
    """A buffer in a file, of which one span after another is read; `size` is its bytes in memory."""

    def __init__(self, file: pa.NativeFile, start: int, size: int, codec: str | None) -> None:
        self._file, self._start, self._stored, self._codec = file, start, size, codec
        self.size = size
        if codec is not None and size:
            (self.size,) = struct.unpack("<q", file.read_at(8, start))
            self._start, self._stored = start + 8, size - 8
            if self.size == -1:
                self.size, self._codec = self._stored, None
            if self._stored < 0 or self.size < 0:
                raise pa.ArrowInvalid("a buffer of it has fewer bytes than none")
        self._at = 0
        self._stream: Any = None

    def skip(self, size: int) -> None:
        """Go past bytes."""
        if not 0 <= size <= self.size - self._at:
            raise pa.ArrowInvalid("a buffer of it is shorter than its rows")
        if self._codec is None and self._stream is None:
            self._at += size
            return
        while size:
            size -= len(self.read(min(size, 1 << 20)))

    def read(self, size: int) -> pa.Buffer:
        """The next bytes."""
        if not 0 <= size <= self.size - self._at:
            raise pa.ArrowInvalid("a buffer of it is shorter than its rows")
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


# ---- FlatBuffers


class _Table:
    """A table in the bytes of a message."""

    def __init__(self, data: bytes, start: int) -> None:
        self._data, self._start = data, start
        self._fields = start - self._get("<i", start)

    @classmethod
    def root(cls, data: bytes) -> "_Table":
        """The table that a message is."""
        (start,) = struct.unpack_from("<I", data)
        return cls(data, start)

    def has(self, field: int) -> bool:
        """Whether a field is there."""
        return self._place(field) is not None

    def number(self, field: int, format: str) -> int:
        """A number; 0 if it is not there."""
        place = self._place(field)
        return 0 if place is None else self._get(format, place)

    def table(self, field: int) -> "_Table":
        """A table."""
        return _Table(self._data, self._there(field))

    def structs(self, field: int, format: str) -> list[tuple[int, ...]]:
        """Structs or numbers, one after another; none if they are not there."""
        if not self.has(field):
            return []
        place, size = self._there(field), struct.calcsize(format)
        count = self._get("<I", place)
        data = self._data[place + 4 : place + 4 + count * size]
        if len(data) < count * size:
            raise struct.error
        return list(struct.iter_unpack(format, data))

    def _place(self, field: int) -> int | None:
        entry = 4 + 2 * field
        if entry >= self._get("<H", self._fields):
            return None
        offset = self._get("<H", self._fields + entry)
        return self._start + offset if offset else None

    def _there(self, field: int) -> int:
        """Where that is which a field points to."""
        place = self._place(field)
        if place is None:
            raise struct.error
        return place + self._get("<I", place)

    def _get(self, format: str, place: int) -> int:
        if place < 0:
            raise struct.error
        (number,) = struct.unpack_from(format, self._data, place)
        return int(number)


@contextmanager
def _checked(what: str) -> Iterator[None]:
    """Make errors say where in the file they are."""
    try:
        yield
    except (pa.ArrowInvalid, struct.error, LookupError) as error:
        raise pa.ArrowInvalid(f"{what} is damaged: {error}".removesuffix(": ")) from error
