"""The rows of a dataset: its files found, looked at, cut into fragments, and read a piece at a time."""

import os
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import zip_longest
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv
import pyarrow.fs as arrow_fs
import pyarrow.parquet as pq

from hensa.columns import plain_rows, plain_schema
from hensa.errors import HensaError
from hensa.files import (
    BATCH,
    FORMATS,
    csv_fault,
    csv_options,
    format_of,
    is_doubtful,
    naming,
    open_text,
    reading,
    suffix_of,
    whole_numbers,
)
from hensa.ipc import ArrowFile, Group
from hensa.parquet import ROW_GROUP

__all__ = [
    "PIECE_BYTES",
    "File",
    "Fragment",
    "Source",
    "Survey",
    "agreed",
    "cut",
    "directory_columns",
    "find",
    "pieces",
    "survey",
]

PIECE_BYTES = 1 << 27
"""A piece has ROW_GROUP rows, or fewer so that it takes not many more bytes in memory than this."""
FRAGMENT_ROWS, FRAGMENT_BYTES = 8 * ROW_GROUP, 1 << 30
"""A fragment has the row groups or record batches of one file that together have no more rows and bytes than this. One
that has more is a fragment, or several if reading may begin within it."""
_NAMES = {"parquet": "Parquet", "csv": "CSV", "arrow": "an Arrow file"}
NULL_KEY = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True)
class File:
    """A file of a dataset.

    Parameters
    ----------
    path : str
        In its filesystem.
    name : str
        From the root of the dataset, with slashes.
    shown : str
        In messages: the path as the dataset was named.
    bytes : int
        Its size.
    changed : int
        When it was changed last, in nanoseconds since 1970; 0 where the filesystem does not say.
    """

    path: str
    name: str
    shown: str
    bytes: int
    changed: int


@dataclass(frozen=True)
class Survey:
    """What was found on looking at a file, in its footer or, where it has none, in all of it.

    Parameters
    ----------
    file : File
    schema : pyarrow.Schema
        Its columns; of CSV, each with the narrowest type of those in `_CSV_TYPES` that holds its cells.
    rows : int
        Their number.
    groups : tuple of Group
        The row groups of a Parquet file, or the record batches of an Arrow file.
    pointed : frozenset of str
        Columns of a CSV file that must be numbers, in which whole numbers are written as 10.0.
    """

    file: File
    schema: pa.Schema
    rows: int
    groups: tuple[Group, ...] = ()
    pointed: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Source:
    """How the files of a dataset are read; it is small, and can be pickled as far as its filesystem can.

    Parameters
    ----------
    filesystem : pyarrow.fs.FileSystem
        Where the files are.
    format : str
        "parquet", "csv" or "arrow".
    schema : pyarrow.Schema
        The columns of every file, in its order.
    keys : pyarrow.Schema
        The columns that are in the names of directories, as in ``month=2019-10/part.parquet``.
    pointed : frozenset of str
        Columns of CSV files in which whole numbers may be written as 10.0.
    """

    filesystem: arrow_fs.FileSystem
    format: str
    schema: pa.Schema
    keys: pa.Schema
    pointed: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Fragment:
    """Rows that are read, scored and written together, as one part of the result.

    Parameters
    ----------
    file : File
        The file that they are in.
    groups : tuple of int or None
        The numbers of their row groups in a Parquet file, or record batches in an Arrow file; None: all rows of the
        file.
    skip : int
        The rows of the first of them that come before.
    start : int
        The row of the file where they begin.
    rows, bytes : int
        Their number, and the bytes that they take in the file, uncompressed if it is a Parquet file.
    held : int
        The most bytes of columns that are in memory as a whole while they are read.
    keys : tuple
        The values of the columns that are in the names of directories.
    part : str
        The name of the part that is made of them, from the root of the result, with slashes.
    """

    file: File
    groups: tuple[int, ...] | None
    skip: int
    start: int
    rows: int
    bytes: int
    held: int
    keys: tuple[Any, ...]
    part: str


# ---- finding files


def find(
    source: str | os.PathLike[str], filesystem: arrow_fs.FileSystem | None = None
) -> tuple[arrow_fs.FileSystem, str, tuple[File, ...]]:
    """The files of a dataset in the order of their names: all of one format, in any depth of directories.

    Names that begin with . or _ are skipped, as by other readers of datasets.

    Parameters
    ----------
    source : path
        A file, a directory, or a pattern with ``*``, ``?``, ``[...]`` and ``**``; a URI such as ``s3://bucket/month``.
    filesystem : pyarrow.fs.FileSystem, optional
        Where it is; None: on this machine, or where the URI says.

    Returns
    -------
    filesystem : pyarrow.fs.FileSystem
    format : str
        "parquet", "csv" or "arrow".
    files : tuple of File

    Raises
    ------
    HensaError
        There are none, or of several formats.
    """
    label = os.fspath(source)
    with naming(label):
        if filesystem is None and "://" in label:
            filesystem, path = arrow_fs.FileSystem.from_uri(label)
        else:
            filesystem, path = filesystem or arrow_fs.LocalFileSystem(), label
        shown = path.rstrip("/") or path
        if isinstance(filesystem, arrow_fs.LocalFileSystem):
            path = os.path.abspath(path)
        info = filesystem.get_file_info(path)
        pattern: list[str] = []
        if info.type == arrow_fs.FileType.NotFound and re.search(r"[*?\[]", path):
            whole = path.split("/")
            first = next(i for i, segment in enumerate(whole) if re.search(r"[*?\[]", segment))
            path, pattern = "/".join(whole[:first]) or "/", whole[first:]
            shown = "/".join(shown.split("/")[: -len(pattern)])
            info = filesystem.get_file_info(path)
        if info.type == arrow_fs.FileType.NotFound:
            raise HensaError("found no such file or directory.")
        if info.is_file:
            found = [(info, info.base_name, shown)]
        else:
            infos = filesystem.get_file_info(arrow_fs.FileSelector(path, recursive=True))
            root = f"{path.strip('/')}/".lstrip("/")  # the paths below it may begin with a slash where it does not
            names = [(each, each.path.lstrip("/").removeprefix(root)) for each in infos if each.is_file]
            found = [
                (each, name, f"{shown}/{name}" if shown else name)
                for each, name in names
                if not any(segment[0] in "._" for segment in name.split("/"))
                and (not pattern or _matches(name.split("/"), pattern))
                and name.lower().endswith(tuple(FORMATS))
            ]
        files = tuple(
            File(each.path, name, show, each.size, each.mtime_ns or 0)
            for each, name, show in sorted(found, key=lambda entry: entry[1])
        )
        if not files:
            which = "fits the pattern and ends" if pattern else "ends"
            raise HensaError(f"found no file that {which} in one of {', '.join(FORMATS)}.")
        formats = {format_of(file.name): file for file in reversed(files)}
        if len(formats) > 1:
            names_ = [repr(file.name) for file in formats.values()]
            raise HensaError(f"found files of several formats, {' and '.join(names_)}; a dataset has one.")
        if "stream" in formats:  # nothing in it says where its batches are
            raise HensaError(f"found an Arrow stream, {files[0].name!r}; a dataset has Parquet, CSV or Arrow files.")
    return filesystem, format_of(files[0].name), files


def _matches(segments: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether a path is one that the pattern names, or lies in a directory that it names."""
    if not pattern:
        return True
    if not segments:
        return False
    if pattern[0] == "**":
        return any(_matches(segments[i:], pattern[1:]) for i in range(len(segments)))
    return fnmatchcase(segments[0], pattern[0]) and _matches(segments[1:], pattern[1:])


# ---- looking at files

_CSV_TYPES = {True: [pa.int64(), pa.float64(), pa.bool_()], False: [pa.int64(), pa.string()]}
"""What the cells of a CSV column may be, of those that must be numbers and of others: the first that holds them all."""


def survey(
    filesystem: arrow_fs.FileSystem,
    format: str,
    file: File,
    numbers: Collection[str],
    whole: Collection[str] = (),
) -> Survey:
    """Look at one file.

    Parameters
    ----------
    filesystem, format
        As `find` gives them.
    file : File
        Of Parquet, the footer is read; of Arrow, also what is said before each record batch; of CSV, everything.
    numbers : collection of str
        The columns that must be numbers, should they be there. In CSV all others pass through as they are written.
    whole : collection of str
        Those of them that must be whole numbers.

    Raises
    ------
    HensaError
        With the file, which cannot be read, is cut off, or holds what is no number in a column that must be.
    """
    with naming(file.shown), reading(_NAMES[format]):
        if format == "parquet":
            opened = _parquet(filesystem, file)
            groups = map(opened.metadata.row_group, range(opened.metadata.num_row_groups))
            sizes = tuple(Group(group.num_rows, group.total_byte_size) for group in groups)
            return Survey(file, opened.schema_arrow, opened.metadata.num_rows, sizes)
        if format == "arrow":
            with filesystem.open_input_file(file.path) as stream:
                arrow = ArrowFile(stream)
                batches = tuple(arrow.groups())
            return Survey(file, arrow.schema, sum(batch.rows for batch in batches), batches)
        return _survey_csv(filesystem, file, numbers, whole)


def _survey_csv(
    filesystem: arrow_fs.FileSystem, file: File, numbers: Collection[str], whole: Collection[str]
) -> Survey:
    with filesystem.open_input_stream(file.path) as stream:
        names = arrow_csv.open_csv(stream).schema.names
    places, rows = [0] * len(names), 0
    pointed = set()
    try:
        with filesystem.open_input_stream(file.path) as stream:
            for batch in arrow_csv.open_csv(stream, convert_options=csv_options(dict.fromkeys(names, pa.string()))):
                rows += batch.num_rows
                for i, (name, cells) in enumerate(zip(names, batch.columns, strict=True)):
                    kinds = _CSV_TYPES[name in numbers]
                    while places[i] < len(kinds) and not _holds(kinds[places[i]], cells, name in numbers):
                        places[i] += 1
                    if places[i] == len(kinds):
                        raise HensaError(f"column {name!r} has cells that are not numbers")
                    if kinds[places[i]] == pa.float64() and name in whole:
                        raise HensaError(f"column {name!r} has cells that are not whole numbers")
                    is_whole = name in numbers and kinds[places[i]] == pa.int64()
                    if is_whole and pc.any(pc.match_substring(cells, ".")).as_py():
                        pointed.add(name)
    except (pa.ArrowInvalid, HensaError) as error:
        with filesystem.open_input_stream(file.path) as stream:
            raise HensaError(csv_fault(open_text(stream), numbers, whole) or str(error)) from error
    types = [_CSV_TYPES[name in numbers][place] for name, place in zip(names, places, strict=True)]
    return Survey(file, pa.schema(list(zip(names, types, strict=True))), rows, pointed=frozenset(pointed))


def _holds(kind: pa.DataType, cells: pa.Array, number: bool) -> bool:
    """Whether a type holds all cells: of what passes through, so that writing them gives the same text again."""
    if number and kind == pa.int64():
        return whole_numbers(cells) is not None
    try:
        values = (pc.ascii_trim_whitespace(cells) if number else cells).cast(kind)
    except pa.ArrowInvalid:
        return False
    if number:
        return not (kind == pa.float64() and is_doubtful(values))
    return bool(kind == pa.string() or values.cast(pa.string()).equals(cells))


_TEXTS = {pa.string(), pa.large_string(), pa.string_view()}
"""Which of them a file has depends on who wrote it."""


def agreed(format: str, surveys: Iterable[Survey]) -> tuple[pa.Schema, list[Survey]]:
    """The columns that all files have, and the surveys.

    Raises
    ------
    HensaError
        With the first file that has others, other types or another order than the first file; metadata may differ, and
        the offsets of texts. The columns of CSV files have the types that hold the cells of all of them.
    """
    found: list[Survey] = []
    for seen in surveys:
        found.append(seen)
        first, other = found[0], f"in {found[0].file.shown}; all files need the same columns."
        with naming(seen.file.shown):
            for place, (ours, theirs) in enumerate(zip_longest(seen.schema, first.schema), start=1):
                if ours is None or theirs is None or ours.name != theirs.name:
                    here, there = (repr(field.name) if field else "missing" for field in (ours, theirs))
                    raise HensaError(f"column {place} is {here}, where it is {there} {other}")
                if format != "csv" and ours.type != theirs.type and not {ours.type, theirs.type} <= _TEXTS:
                    raise HensaError(f"column {ours.name!r} is of type {ours.type}, where it is {theirs.type} {other}")
    schema = found[0].schema.remove_metadata()
    if format == "csv":
        order = [pa.int64(), pa.float64(), pa.bool_(), pa.string()]
        types = (max(column, key=order.index) for column in zip(*(seen.schema.types for seen in found), strict=True))
        schema = pa.schema(list(zip(schema.names, types, strict=True)))
    return schema, found


# ---- fragments


def cut(surveys: Sequence[Survey]) -> tuple[pa.Schema, tuple[Fragment, ...]]:
    """The fragments of the files in their order, and the columns that are in the names of directories.

    Where the cuts are depends on nothing but the files. A file of one fragment makes a part of the same name; the parts
    of a longer one are numbered.

    Raises
    ------
    HensaError
        A column is in the names of directories of some files only, or also in a file.
    """
    keys = [_keys_of(seen.file.name) for seen in surveys]
    for seen, own in zip(surveys, keys, strict=True):
        with naming(seen.file.shown):
            if list(own) != list(keys[0]):
                have = " and ".join(", ".join(map(repr, names)) or "none" for names in (own, keys[0]))
                raise HensaError(f"the directories name other columns than those of {surveys[0].file.shown}: {have}.")
            for name in own:
                if name in seen.schema.names:
                    raise HensaError(f"column {name!r} is both in the file and in the name of its directory.")
    columns = directory_columns([seen.file.name for seen in surveys])
    fragments: list[Fragment] = []
    for i, seen in enumerate(surveys):
        file = seen.file
        values = tuple(column[i].as_py() for column in columns.values())
        spans = _spans(seen.groups)
        if len(spans) < 2:
            n_bytes = sum(group.bytes for group in seen.groups) or file.bytes
            held = max((group.held for group in seen.groups), default=0)
            fragments.append(Fragment(file, None, 0, 0, seen.rows, n_bytes, held, values, file.name))
            continue
        start = 0
        suffix = suffix_of(file.name)
        for number, (groups, skip, rows, n_bytes) in enumerate(spans):
            part = f"{file.name[: -len(suffix)]}-{number:05}{suffix}"
            held = max(seen.groups[group].held for group in groups)
            fragments.append(Fragment(file, groups, skip, start, rows, n_bytes, held, values, part))
            start += rows
    names = [fragment.part for fragment in fragments]
    for name in {name for name in names if names.count(name) > 1} if len(set(names)) < len(names) else ():
        raise HensaError(f"two parts of the result would be named {name!r}; rename one of the files.")
    return pa.schema([(name, column.type) for name, column in columns.items()]), tuple(fragments)


def directory_columns(names: Sequence[str]) -> dict[str, pa.Array]:
    """The columns that are in the names of the directories of files, the same for all, with a value for each file."""
    keys = [_keys_of(name) for name in names]
    return {name: _typed([own[name] for own in keys]) for name in keys[0]}


def _keys_of(name: str) -> dict[str, str | None]:
    pairs = (segment.split("=", 1) for segment in name.split("/")[:-1] if "=" in segment)
    return {name: None if value == NULL_KEY else unquote(value) for name, value in pairs}


def _typed(texts: list[str | None]) -> pa.Array:
    """As int64 if writing that gives the same text again."""
    cells = pa.array(texts, pa.string())
    return cells.cast(pa.int64()) if _holds(pa.int64(), cells, number=False) else cells


def _spans(groups: Sequence[Group]) -> list[tuple[tuple[int, ...], int, int, int]]:
    """The numbers of the groups of each fragment, the rows of the first that come before, and its rows and bytes."""
    found: list[tuple[tuple[int, ...], int, int, int]] = []
    first = rows = n_bytes = 0
    for number, group in enumerate(groups):
        if number > first and (rows + group.rows > FRAGMENT_ROWS or n_bytes + group.bytes > FRAGMENT_BYTES):
            found.append((tuple(range(first, number)), 0, rows, n_bytes))
            first, rows, n_bytes = number, 0, 0
        rows, n_bytes = rows + group.rows, n_bytes + group.bytes
        if group.is_cut and (rows > FRAGMENT_ROWS or n_bytes > FRAGMENT_BYTES):
            step = max(8, min(FRAGMENT_ROWS, group.rows * FRAGMENT_BYTES // group.bytes // 8 * 8))
            for skip in range(0, group.rows, step):
                rows = min(step, group.rows - skip)
                found.append(((number,), skip, rows, group.bytes * rows // group.rows))
            first, rows, n_bytes = number + 1, 0, 0
    if first < len(groups):
        found.append((tuple(range(first, len(groups))), 0, rows, n_bytes))
    return found


# ---- reading


def pieces(
    source: Source, fragment: Fragment, names: Collection[str] | None = None, keys: Collection[str] = ()
) -> tuple[pa.Schema, Iterator[tuple[int, pa.Table]]]:
    """Read a fragment in bounded memory, on this thread alone.

    Parameters
    ----------
    source : Source
    fragment : Fragment
    names : collection of str, optional
        The columns that are wanted, as far as they are there; None: all that are in the file.
    keys : collection of str
        The columns in the names of directories that are wanted, after the others.

    Returns
    -------
    schema : pyarrow.Schema
        Of every piece, with the metadata of the file.
    pieces : iterator of (int, pyarrow.Table)
        The rows in their order, and the row of the file where each piece begins: ROW_GROUP rows, or fewer if they take
        more than PIECE_BYTES. The pieces depend on nothing but the fragment.

    Raises
    ------
    HensaError
        With the file, if it cannot be read; so does the iterator.
    """
    with naming(fragment.file.shown), reading(_NAMES[source.format]):
        schema, batches = _batches(source, fragment, names)
    columns = [(source.keys.field(i), fragment.keys[i]) for i, name in enumerate(source.keys.names) if name in keys]
    return (
        pa.schema([*schema, *(field for field, _ in columns)], schema.metadata),
        _pieces(source, fragment, schema, batches, columns),
    )


def _pieces(
    source: Source,
    fragment: Fragment,
    schema: pa.Schema,
    batches: Iterator[pa.RecordBatch],
    columns: list[tuple[pa.Field, Any]],
) -> Iterator[tuple[int, pa.Table]]:
    start, rows, size = fragment.start, 0, 0
    waiting: list[pa.RecordBatch] = []

    def piece() -> pa.Table:
        table = pa.Table.from_batches(waiting, schema)
        for field, value in columns:
            table = table.append_column(field, pa.repeat(pa.scalar(value, field.type), table.num_rows))
        return table

    with naming(fragment.file.shown), reading(_NAMES[source.format]):
        for whole in batches:
            for at in range(0, whole.num_rows, BATCH):
                batch = whole.slice(at, BATCH)
                if rows and (rows + batch.num_rows > ROW_GROUP or size + batch.nbytes > PIECE_BYTES):
                    yield start, piece()
                    start, rows, size = start + rows, 0, 0
                    waiting.clear()
                waiting.append(batch)
                rows, size = rows + batch.num_rows, size + batch.nbytes
    if rows:
        yield start, piece()


def _batches(
    source: Source, fragment: Fragment, names: Collection[str] | None
) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    filesystem, file = source.filesystem, fragment.file
    if source.format == "parquet":
        opened = _parquet(filesystem, file)
        schema = _selected(opened.schema_arrow, names)
        groups = range(opened.metadata.num_row_groups) if fragment.groups is None else fragment.groups
        columns = None if names is None else schema.names
        batches = opened.iter_batches(BATCH, list(groups), columns, use_threads=False)
        return schema, batches if groups and schema.names else iter(())
    if source.format == "arrow":
        arrow = ArrowFile(filesystem.open_input_file(file.path))
        schema = _selected(arrow.schema, names)
        numbers = range(arrow.num_batches) if fragment.groups is None else fragment.groups
        most = None if fragment.groups is None else fragment.rows

        def arrow_batches() -> Iterator[pa.RecordBatch]:
            for part in arrow.parts(numbers, names, fragment.skip, most):
                yield from plain_rows(pa.Table.from_batches([part])).to_batches()

        return plain_schema(schema), arrow_batches()
    schema = _selected(source.schema, names)
    types = dict(zip(schema.names, schema.types, strict=True))
    pointed = [i for i, field in enumerate(schema) if field.name in source.pointed and field.type == pa.int64()]
    texts = {schema.names[i]: pa.string() for i in pointed}
    options = csv_options({**types, **texts}, () if names is None else schema.names)
    opened = arrow_csv.open_csv(filesystem.open_input_stream(file.path), convert_options=options)

    def csv_batches() -> Iterator[pa.RecordBatch]:
        for batch in opened:
            for i in pointed:
                batch = batch.set_column(i, schema.field(i), whole_numbers(batch.column(i)))
            yield batch

    return schema, csv_batches()


def _selected(schema: pa.Schema, names: Collection[str] | None) -> pa.Schema:
    return schema if names is None else pa.schema([f for f in schema if f.name in names], schema.metadata)


def _parquet(filesystem: arrow_fs.FileSystem, file: File) -> pq.ParquetFile:
    # A pre-buffer or no buffer would read all of a column of a row group at once, however large that is.
    return pq.ParquetFile(
        filesystem.open_input_file(file.path), pre_buffer=False, buffer_size=1 << 20, page_checksum_verification=True
    )
