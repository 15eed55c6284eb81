"""Tables in and out of files and streams: Parquet, CSV and Arrow, by suffix; whole files or none."""

import csv
import gzip
import os
import re
import secrets
import sys
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from decimal import Decimal
from io import TextIOWrapper
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, TextIO, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq

from hensa import parquet
from hensa.columns import plain_rows
from hensa.counts import Count
from hensa.errors import DataError, HensaError
from hensa.parquet import ROW_GROUP
from hensa.threads import cpus

__all__ = [
    "BATCH",
    "FORMATS",
    "RECORD",
    "ROW_GROUP",
    "RowGroups",
    "batches",
    "counted_from",
    "csv_fault",
    "csv_options",
    "format_of",
    "header_of",
    "is_doubtful",
    "keep_beside",
    "naming",
    "open_text",
    "read",
    "reading",
    "record_path",
    "replacing",
    "schema_of",
    "sentence",
    "suffix_of",
    "text_of",
    "whole_numbers",
    "with_lines",
    "write",
]

FORMATS = {
    ".csv": "csv",
    ".csv.gz": "csv",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".arrows": "stream",
    ".feather": "arrow",
}
BATCH = 1 << 16
"""Rows that are decoded at a time where a file is read in parts."""
RECORD = b"hensa"
"""Where the schema of a table that is written has the record of how it was made."""
_NUMBER = re.compile(r"([+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?|0x[0-9a-f]+|true|false|)", re.I)
"""What Arrow reads as a number in CSV; nothing is a null."""
_ROW = re.compile(r"(?<!['\w])row ([0-9]+)(?![\w'])", re.I)
"""A row by its number, as errors name it."""
_WHOLE = r"[+-]?[0-9]+(\.0*)?"
"""A whole number, also as pandas writes integers of a column with nulls: 10.0."""


def format_of(path: str) -> str:
    """ "stream" for -, else by the suffix.

    Raises
    ------
    HensaError
        The suffix is none of `FORMATS`.
    """
    return "stream" if path == "-" else FORMATS[suffix_of(path)]


def suffix_of(path: str) -> str:
    """The one of `FORMATS` that a path ends in.

    Raises
    ------
    HensaError
        It ends in none.
    """
    for suffix in FORMATS:
        if path.lower().endswith(suffix):
            return suffix
    raise HensaError(f"{path} ends in none of {', '.join(FORMATS)}")


def sentence(error: BaseException) -> str:
    """An error as one sentence."""
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    elif isinstance(error, UnicodeDecodeError):
        text = f"found the byte 0x{error.object[error.start]:02x}, which is not UTF-8"
    return f"{text.rstrip('.')}."


@contextmanager
def naming(path: str) -> Iterator[None]:
    """Make errors start with the input that they are about; where that is CSV, rows get their lines."""
    try:
        yield
    except (HensaError, OSError, pa.ArrowException, UnicodeError, csv.Error, EOFError, zlib.error) as error:
        if isinstance(error, pa.ArrowCancelled):
            raise
        label, message = "standard input" if path == "-" else path, sentence(error)
        if isinstance(error, DataError) and path.lower().endswith((".csv", ".csv.gz")):
            with suppress(OSError):
                message = with_lines(message, open_text(path))
        raise HensaError(message if message.startswith(label) else f"{label}: {message}") from error


def with_lines(message: str, text: TextIO) -> str:
    """A message with the line, as of an editor, of each row that it names by its number in the text of a CSV file."""
    wanted = {int(row) for row in _ROW.findall(message)}
    lines: dict[int, int] = {}
    with suppress(OSError, csv.Error, EOFError, zlib.error), text as file:
        cells = csv.reader(file)
        for row, _ in enumerate(filter(None, cells), -1):  # the first is the header
            if len(lines) == len(wanted):
                break
            if row in wanted:
                lines[row] = cells.line_num
    return _ROW.sub(lambda row: f"{row[0]} (line {lines[int(row[1])]})" if int(row[1]) in lines else row[0], message)


def counted_from(start: int, message: str) -> str:
    """A message whose numbers of rows are counted from this row, with their numbers in the whole."""
    return _ROW.sub(lambda row: f"{row[0].removesuffix(row[1])}{start + int(row[1])}", message)


@contextmanager
def replacing(path: str) -> Iterator[BinaryIO]:
    """A file that takes the place of `path` when the block completes and vanishes when it does not.

    So does what `keep_beside` keeps; a record that is there already is of the file that is replaced, and goes with it.
    """
    if path == "-":
        try:
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise HensaError(f"standard output: {error.strerror or error}") from error
        return
    target = Path(path).resolve()
    if target.exists() and not target.is_file():
        raise HensaError(f"{path}: not a file that can be replaced")
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    beside, temporary_beside = record_path(target), record_path(temporary)
    try:
        with temporary.open("xb") as file:
            yield file
        # In this order a file may lose its record if the machine stops in between, but never has that of another.
        beside.unlink(missing_ok=True)
        temporary.replace(target)
        if temporary_beside.exists():
            temporary_beside.replace(beside)
    except OSError as error:
        reason = error.strerror or error
        if not target.parent.is_dir():
            reason = f"there is no directory {os.path.dirname(path)}"
        raise HensaError(f"{path}: {reason}") from error
    finally:
        temporary.unlink(missing_ok=True)
        temporary_beside.unlink(missing_ok=True)


def record_path(path: str | os.PathLike[str]) -> Path:
    """Where the record of a file is that has no room for it, such as CSV."""
    return Path(f"{os.fspath(path)}.hensa.json")


def keep_beside(file: BinaryIO, record: bytes) -> None:
    """Keep a record beside a file of `replacing`, from when it is in its place."""
    record_path(file.name).write_bytes(record)


def read(path: str, numbers: Collection[str], whole: Collection[str] = ()) -> pa.Table:
    """The table of a file; - is standard input.

    Parameters
    ----------
    path : str
        Its suffix tells the format.
    numbers : collection of str
        The columns that must be numbers. In CSV all others pass through as they are written, as text or int64.
    whole : collection of str
        Those of them that must be whole numbers.

    Raises
    ------
    HensaError
        With the path, and the line and column of a CSV file, and what was found.
    """
    with naming(path):
        format = format_of(path)
        if path != "-":
            Path(path).open("rb").close()  # says why a file cannot be read more briefly than pyarrow
        if format == "csv":
            return _read_csv(path, numbers, whole)
        if format == "parquet":
            with reading("Parquet"):
                return pq.ParquetFile(path, page_checksum_verification=True).read()
        with reading("an Arrow file" if format == "arrow" else "an Arrow stream"):
            if format == "arrow":
                rows = pa.ipc.open_file(pa.OSFile(path)).read_all()
            else:
                stream = _Stream(path)
                rows = stream.open().read_all()
                stream.check_end()
            rows.validate(full=True)  # buffers come as they lie in the file: offsets must not point beyond them
            return plain_rows(rows)


class _Stream:
    """An Arrow stream; what is plainly something else is named.

    Arrow takes the end of the bytes for the end of the stream, so one that was cut off between two batches, as by the
    end of a program that wrote it, would look whole. Whoever writes one to its end marks that; what follows the mark,
    as of a second stream, Arrow does not read.

    Parameters
    ----------
    path : str
        The file; - is standard input.
    """

    closed = False
    _END = b"\xff\xff\xff\xff\0\0\0\0"

    def __init__(self, path: str) -> None:
        self._source = sys.stdin.buffer if path == "-" else pa.OSFile(path)
        self._start, self._last = self._source.read(4), b""
        kinds = {b"PAR1": "Parquet", b"ARRO": "an Arrow file", b"\x1f\x8b": "gzip"}
        found = next((kind for magic, kind in kinds.items() if self._start.startswith(magic)), None)
        # A stream begins with 0xffffffff or, as Arrow wrote it until 2019, with a length far below 2^24.
        if found is None and self._start and not {0x00, 0xFF} & set(self._start):
            found = "text"
        if found is not None:
            told = "piped in, so name the file instead" if path == "-" else "named .arrows"
            raise HensaError(f"found {found}; only an Arrow stream can be {told}")
        self._is_marked = self._start == self._END[:4]

    def open(self) -> pa.RecordBatchReader:
        return pa.ipc.open_stream(pa.PythonFile(self, "r"))

    def read(self, size: int) -> bytes:
        data, self._start = self._start[:size], self._start[size:]
        data += self._source.read(size - len(data))
        self._last = (self._last + data[-8:])[-8:]
        return data

    def check_end(self) -> None:
        """Refuse a stream, read to its end, that was not written to its end, or is not all that there is."""
        if self._is_marked and self._last != self._END:
            raise HensaError("the stream has no end, so it may have been cut off")
        if self._source.read(1):
            raise HensaError("more follows the end of the stream; exactly one stream is read")


@contextmanager
def reading(kind: str) -> Iterator[None]:
    """Make errors say that the file is not of this kind."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, pa.ArrowCancelled):
            raise
        raise HensaError(f"cannot be read as {kind}: {sentence(error)}") from error


class RowGroups:
    """A Parquet file of more than one row group, read a part at a time, on any thread.

    Parameters
    ----------
    path : str
        The file, which stays open: replacing it changes nothing.

    Raises
    ------
    HensaError
        With the path, if the file cannot be read; so do the methods.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        with naming(path):
            Path(path).open("rb").close()  # as in read()
            with reading("Parquet"):
                self._source = pa.OSFile(path)
                file = self._open(None)
                self._metadata, self.schema = file.metadata, file.schema_arrow
        self.num_rows: int = self._metadata.num_rows
        self.spans = parquet.spans(self._metadata)
        """The numbers of the row groups of each part; a part has at most ROW_GROUP rows unless its row group has."""

    def part(self, span: list[int], names: Collection[str] | None = None) -> pa.Table:
        """The rows of some row groups, on this thread alone: all columns, or those of these names that are there."""
        fields = [field for field in self.schema if names is None or field.name in names]
        columns = None if names is None else [field.name for field in fields]
        with naming(self._path), reading("Parquet"):
            # Rows that are decoded a few at a time stay in the caches meanwhile: that is half the time.
            batches = self._open(self._metadata).iter_batches(BATCH, span, columns, use_threads=False)
            return pa.Table.from_batches(batches, pa.schema(fields, self.schema.metadata))

    def _open(self, metadata: pq.FileMetaData | None) -> pq.ParquetFile:
        # A pre-buffer would read row groups at once that are wanted one after another.
        return pq.ParquetFile(self._source, metadata=metadata, pre_buffer=False, page_checksum_verification=True)


def schema_of(path: str) -> pa.Schema:
    """The schema of a file and its metadata, without its rows; the columns of CSV are text.

    Raises
    ------
    HensaError
        With the path, if the file cannot be read.
    """
    with naming(path):
        format = format_of(path)
        Path(path).open("rb").close()  # as in read()
        if format == "csv":
            return pa.schema([(name, pa.string()) for name in header_of(path)])
        if format == "parquet":
            with reading("Parquet"):
                return pq.read_schema(path)
        with reading("an Arrow file" if format == "arrow" else "an Arrow stream"):
            return (pa.ipc.open_file(pa.OSFile(path)) if format == "arrow" else _Stream(path).open()).schema


def batches(path: str, pick: Callable[[list[str]], list[str]]) -> tuple[pa.RecordBatchReader, int | None]:
    """Some columns of a file, a batch at a time and in bounded memory; - is standard input.

    Parameters
    ----------
    path : str
        Its suffix tells the format.
    pick : callable
        Gets the names of the file's columns and returns those that are wanted, each of which is there once.

    Returns
    -------
    reader : pyarrow.RecordBatchReader
        In CSV every column is text, and an empty cell is null.
    n_rows : int or None
        The number of rows, where the file says it beforehand.
    """
    format = format_of(path)
    if format == "csv":
        names = pick(header_of(path))
        types = {name: pa.string() for name in names}
        return arrow_csv.open_csv(path, convert_options=csv_options(types, names)), None
    if format == "parquet":
        # A pre-buffer would keep all that was read until the file is closed.
        opened = pq.ParquetFile(path, pre_buffer=False, page_checksum_verification=True)
        names = pick(opened.schema_arrow.names)
        schema = pa.schema([opened.schema_arrow.field(name) for name in names])
        parts = (part.select(names) for part in opened.iter_batches(columns=names))
        return pa.RecordBatchReader.from_batches(schema, parts), opened.metadata.num_rows
    stream = _Stream(path) if format == "stream" else None
    if stream is not None:
        source = stream.open()
        whole: Iterable[pa.RecordBatch] = source
    else:
        source = pa.ipc.open_file(pa.OSFile(path))
        whole = map(source.get_batch, range(source.num_record_batches))
    names = pick(source.schema.names)
    schema = pa.schema([source.schema.field(name) for name in names])

    def parts_of() -> Iterator[pa.RecordBatch]:
        for part in whole:
            part.validate(full=True)  # buffers come as they lie in the file: offsets must not point beyond them
            yield part.select(names)
        if stream is not None:
            stream.check_end()

    return pa.RecordBatchReader.from_batches(schema, parts_of()), None


def _read_csv(path: str, numbers: Collection[str], whole: Collection[str]) -> pa.Table:
    """Read the named columns as the numbers they are, and the rest as text that stays as it is."""
    try:
        options = csv_options({name: pa.string() for name in header_of(path) if name not in numbers})
        table = arrow_csv.read_csv(path, convert_options=options)
    except (pa.ArrowInvalid, UnicodeError) as error:
        raise HensaError(csv_fault(open_text(path), numbers) or sentence(error)) from error
    for index, (name, column) in enumerate(zip(table.column_names, table.columns, strict=True)):
        found: pa.ChunkedArray | None = None
        if name not in numbers:
            found = _as_integers(column)
        elif column.type == pa.null():  # no rows, or all of them empty
            found = column.cast(pa.int64())
        elif column.type == pa.float64():
            found = _whole_floats(path, name, column)
        if found is not None:
            table = table.set_column(index, name, found)
            continue
        is_fault = is_doubtful(column) or (column.type == pa.float64() and name in whole)
        if is_fault and (fault := csv_fault(open_text(path), numbers, whole)):
            raise HensaError(fault)
    return table


def _whole_floats(path: str, name: str, column: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """A column of floats as int64, if that is what all its cells say: 10.0."""
    if not pc.all(pc.equal(pc.floor(column), column)).as_py():
        return None
    cells = arrow_csv.read_csv(path, convert_options=csv_options({name: pa.string()}, [name]))
    return whole_numbers(cells[name])


def whole_numbers(cells: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray | None:
    """The text of CSV cells as int64, if all are whole numbers, such as 10 and 10.0; else None.

    Examples
    --------
    >>> whole_numbers(pa.array(["10.0", None, " -3", "9007199254740993.00"])).to_pylist()
    [10, None, -3, 9007199254740993]
    >>> whole_numbers(pa.array(["10.0", "10.5"]))
    """
    cells = pc.ascii_trim_whitespace(cells)
    with suppress(pa.ArrowInvalid):
        return cells.cast(pa.int64())
    if not pc.all(pc.match_substring_regex(cells, f"^{_WHOLE}$"), min_count=0).as_py():
        return None
    with suppress(pa.ArrowInvalid):  # beyond int64
        return pc.replace_substring_regex(cells, r"^\+|\.0*$", "").cast(pa.int64())
    return None


def text_of(source: str | BinaryIO, names: Collection[str]) -> pa.Table:
    """Every cell of a CSV file with these columns as the text that is written there, and null where nothing is."""
    return arrow_csv.read_csv(
        source,
        parse_options=arrow_csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
        convert_options=csv_options(dict.fromkeys(names, pa.string())),
    )


def csv_options(types: Mapping[str, pa.DataType], names: Collection[str] = ()) -> arrow_csv.ConvertOptions:
    """Cells as these types, of these columns or of all; an empty cell is a null, and "" is text."""
    return arrow_csv.ConvertOptions(
        column_types=types,
        include_columns=list(names),
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )


def header_of(path: str) -> list[str]:
    """The names of the columns of a CSV file."""
    with open_text(path) as file:
        return next(csv.reader(file), [])


def _as_integers(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The text as int64, if writing that gives the same text again: 007 stays as it is."""
    with suppress(pa.ArrowInvalid):
        integers = column.cast(pa.int64())
        if integers.cast(pa.string()).equals(column):
            return integers
    return column


def is_doubtful(column: pa.Array | pa.ChunkedArray) -> bool:
    """Whether a column of a CSV file may hold what is not a number, or an integer that was rounded."""
    if column.type == pa.float64():
        return not pc.all(pc.less(pc.abs(column), 2.0**63)).as_py()  # nor is nan less
    return column.type not in (pa.int64(), pa.bool_())


def csv_fault(text: TextIO, numbers: Collection[str], whole: Collection[str] = ()) -> str | None:
    """The first line of a CSV file, opened as `open_text` does, that is ragged, not UTF-8 or no number, or no whole
    number, where one must be."""
    with text as file:
        lines = csv.reader(file)
        header = next(lines, [])
        for cells in chain([header], filter(None, lines)):
            line = f"line {lines.line_num}"
            for cell in cells:
                if re.search("[\udc80-\udcff]", cell):
                    return f"{line}: {cell.encode(errors='surrogateescape')!r:.80} is not UTF-8"
            if len(cells) != len(header):
                return f"{line}: found {Count(len(cells)):cell}, where the header has {len(header)}"
            for name, cell in zip(header, cells, strict=True):
                if name not in numbers or cells is header:
                    continue
                place = f"{line}, column {name}: {cell!r:.80}"
                if not _NUMBER.fullmatch(cell.strip(" \t") or cell):
                    return f"{place} is not a number; leave a null empty"
                is_whole = re.fullmatch(_WHOLE if name in whole else "-?[0-9]+", cell.strip(" \t"))
                if is_whole and not -(2**63) <= Decimal(cell) < 2**63:
                    return f"{place} is an integer beyond int64"
                if name in whole and not is_whole and not re.fullmatch("0x.*|true|false|", cell.strip(" \t"), re.I):
                    return f"{place} is not a whole number, such as 10 or 10.0"
    return None


def open_text(file: str | BinaryIO) -> TextIO:
    """A CSV file as text, by its path or as an opened stream; a byte that is not UTF-8 becomes a surrogate."""
    how: dict[str, Any] = {"encoding": "utf-8-sig", "errors": "surrogateescape", "newline": ""}
    if isinstance(file, str):
        opener: Any = gzip.open if file.lower().endswith(".gz") else open
        return cast(TextIO, opener(file, "rt", **how))
    return TextIOWrapper(file, **how)


def write(
    file: BinaryIO,
    path: str,
    schema: pa.Schema,
    parts: Iterable[parquet.Part],
    advance: Callable[[int], None],
    threads: int | None = None,
) -> None:
    """Write tables one after another in the format of the path; tells `advance` the rows of each.

    Parquet is made and encoded on so many threads, by default one for each CPU that this process may use. The record in
    the schema, if there is one, is kept beside CSV, which has no metadata.
    """
    if format_of(path) == "parquet":
        parquet.write(file, schema, parts, advance, threads or cpus())
        return
    record = (schema.metadata or {}).get(RECORD)
    if record is not None and format_of(path) == "csv":
        keep_beside(file, record)
    with ExitStack() as stack:
        if path.lower().endswith(".gz"):
            file = stack.enter_context(pa.CompressedOutputStream(file, "gzip"))
        writer = {
            "stream": pa.ipc.new_stream,
            "arrow": pa.ipc.new_file,
            "csv": arrow_csv.CSVWriter,
        }[format_of(path)]
        sink = stack.enter_context(writer(file, schema))
        for part in parts:
            table = part() if callable(part) else part
            sink.write_table(table)
            advance(table.num_rows)
