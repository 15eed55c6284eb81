"""Audit: what a file was made by and from, kept with it, and whether the same comes out again.

A record states what decides the content of a file and nothing else, so that equal runs write equal bytes: no times, no
number of threads, no names of machines. It is JSON in the metadata of Parquet and Arrow, and beside other files.
"""

import hashlib
import json
import os
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from io import BufferedIOBase, BytesIO
from itertools import pairwise
from pathlib import Path, PurePath
from queue import SimpleQueue
from threading import Thread
from types import SimpleNamespace
from typing import Annotated, Any, BinaryIO, Literal, NamedTuple, Self, TypeAlias, cast

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

import hensa
from hensa import kernels
from hensa.comparison import EDGES
from hensa.counts import Count
from hensa.errors import DataError, HensaError
from hensa.events import Event
from hensa.files import (
    RECORD,
    ROW_GROUP,
    format_of,
    header_of,
    keep_beside,
    naming,
    read,
    record_path,
    schema_of,
    sentence,
    text_of,
    write,
)
from hensa.ledger import KEY
from hensa.population import Population
from hensa.program import Program
from hensa.sample import sample, sample_ledger

__all__ = [
    "Compare",
    "Compensate",
    "Fingerprints",
    "Kept",
    "NextStep",
    "Rank",
    "Record",
    "RecordedPopulation",
    "Restate",
    "Rows",
    "Rules",
    "Sample",
    "SampleLedger",
    "Score",
    "Solve",
    "TakePopulation",
    "as_stored",
    "first_difference",
    "named",
    "read_population",
]

COHORTS = 1_000
"""The most cohorts whose moments a record states, at some 400 bytes each, besides those of all rows; the fingerprint of
the file that they come from decides them in any case."""

_PIECE = 1 << 20  # bytes hashed at a time

Whole: TypeAlias = Annotated[int, msgspec.Meta(ge=0)]
Edge: TypeAlias = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
Made: TypeAlias = pa.Table | pa.RecordBatchReader | str


class _Data(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part of a record. A key that is not known could decide the result, so it is refused."""


class Rules(_Data, frozen=True):
    """The text of a program, of an event or of a mapping, and the SHA-256 of its UTF-8."""

    sha256: str
    toml: str

    @classmethod
    def of(cls, program: Program) -> Self:
        """A program as it writes itself, so that equal programs have equal hashes."""
        return cls(sha256=_sha256(program.to_toml()), toml=program.to_toml())

    @classmethod
    def read(cls, path: str) -> Self:
        """The text of a TOML file."""
        text = _read_text(path, "utf-8-sig")
        return cls(sha256=_sha256(text), toml=text)

    @property
    def program(self) -> Program:
        with naming("the program of the record"):
            return Program.parse(self.toml)

    @property
    def event(self) -> Event:
        with naming("the event of the record"):
            return Event.parse(self.toml)

    @property
    def mapping(self) -> Mapping[str, Any]:
        with naming("the mapping of the record"):
            try:
                found: Mapping[str, Any] = msgspec.toml.decode(self.toml)
            except msgspec.DecodeError as error:
                raise HensaError(str(error)) from None
            return found


class Input(_Data, frozen=True):
    """A file that was read, or a stream: its name, its rows if it is a table, its bytes and their SHA-256."""

    name: str
    rows: Whole | None
    bytes: Whole
    sha256: str

    def check(self, n_bytes: int, sha256: str | None) -> None:
        """Raise HensaError if the input has other bytes now; without a hash, if it has more or fewer."""
        if n_bytes != self.bytes:
            raise HensaError(f"not the same: the input has {n_bytes:,} bytes, where the record has {self.bytes:,}.")
        if sha256 not in (None, self.sha256):
            raise HensaError(f"not the same: the input has the sha256 {sha256}, where the record has {self.sha256}.")

    @classmethod
    def of_population(cls, population: Population) -> Self:
        """A population, as the file that `hensa population` writes of it."""
        data = f"{population.to_json()}\n".encode()
        return cls(name="population.json", rows=None, bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


class Source(NamedTuple):
    """Where an input is, and what the record states of it."""

    path: str
    stated: Input

    def read(self, numbers: Collection[str]) -> pa.Table:
        rows = read(self.path, numbers)
        self.check_rows(rows.num_rows)
        return rows

    def check_rows(self, n_rows: int) -> None:
        if n_rows != self.stated.rows:
            with naming(self.path):
                raise HensaError(f"not the same: it has {Count(n_rows):row}, where the record has {self.stated.rows}.")


class RecordedPopulation(_Data, frozen=True):
    """The population that rows were scored against: their own, or one of a file."""

    source: Literal["rows", "file"]
    count: Whole
    cohorts: Whole
    moments: dict[str, Any]
    """As `Population.to_json` writes them; if there are more than `COHORTS` cohorts, without these."""

    @classmethod
    def of(cls, population: Population, stored: bool = False) -> Self:
        n_cohorts = len(population.cohorts)
        shown = population if n_cohorts <= COHORTS else replace(population, by=(), cohorts={})
        moments = json.loads(shown.to_json())
        return cls(source="file" if stored else "rows", count=population.count, cohorts=n_cohorts, moments=moments)

    @property
    def is_input(self) -> bool:
        """Whether it is one of the inputs: that of a file whose moments are not all here."""
        return self.source == "file" and self.cohorts > COHORTS

    def file(self, path: str | None) -> list[tuple[str, None]]:
        """The file of the population, if it is one of the inputs."""
        return [(path, None)] if path is not None and self.is_input else []

    def stored(self, path: str | None) -> Population:
        """The population of a file, from the file or, if that is no input, from here."""
        if path is not None:
            return read_population(path)
        with naming("the population of the record"):
            return Population.from_json(json.dumps(self.moments))

    def check(self, population: Population) -> None:
        """Raise HensaError if it is another one."""
        if type(self).of(population, self.source == "file") != self:
            raise HensaError("not the same: the population is not the one of the record.")

    def again(self, rows: pa.Table, program: Program, by: Sequence[str], files: Sequence[Source]) -> Population | None:
        """The population to score against, checked; None for cohorts that the rows have themselves: it is faster."""
        if self.source == "rows":
            population = hensa.population(rows, program, by=by or None)
        else:
            population = self.stored(files[0].path if files else None)
        self.check(population)
        return None if by and self.source == "rows" else population


class Score(_Data, frozen=True, tag_field="command", tag="score"):
    """`hensa score`."""

    program: Rules
    population: RecordedPopulation
    columns: tuple[str, ...]
    by: tuple[str, ...] = ()
    month: str | None = None
    any_month: bool = False

    def again(self, sources: Sequence[Source]) -> Made:
        source, *files = sources
        program = self.program.program
        rows = source.read(program.columns)
        with naming(source.path):
            population = self.population.again(rows, program, self.by, files)
            return hensa.score(
                rows,
                program,
                population=population,
                by=self.by or None,
                columns=self.columns,
                month=self.month,
                any_month=self.any_month,
            )


class TakePopulation(_Data, frozen=True, tag_field="command", tag="population"):
    """`hensa population`."""

    program: Rules
    by: tuple[str, ...] = ()
    method: Literal["auto", "exact", "welford"] = "auto"

    def again(self, sources: Sequence[Source]) -> Made:
        program = self.program.program
        rows = sources[0].read(program.columns)
        with naming(sources[0].path):
            return f"{hensa.population(rows, program, by=self.by or None, method=self.method).to_json()}\n"


class Rank(_Data, frozen=True, tag_field="command", tag="rank"):
    """`hensa rank`."""

    event: Rules
    top: Annotated[int, msgspec.Meta(ge=1)] | None = None

    def again(self, sources: Sequence[Source]) -> Made:
        event = self.event.event
        rows = sources[0].read(event.numbers)
        with naming(sources[0].path):
            return hensa.rank(rows, event, self.top)


class Restate(_Data, frozen=True, tag_field="command", tag="restate"):
    """`hensa restate`."""

    policy: Literal["top_up", "net"]
    id: tuple[str, ...]
    points: str

    def again(self, sources: Sequence[Source]) -> Made:
        before, after = (source.read([self.points]) for source in sources)
        return hensa.restate(before, after, self.policy, id=self.id, points=self.points).table


class Compensate(_Data, frozen=True, tag_field="command", tag="compensate"):
    """`hensa compensate`."""

    event: Rules

    def again(self, sources: Sequence[Source]) -> Made:
        source, *boards = sources
        return hensa.compensate(source.read(()), self.event.event, boards[0].read(["rank"]) if boards else None)


class NextStep(_Data, frozen=True, tag_field="command", tag="next-step"):
    """`hensa next-step`."""

    program: Rules
    population: RecordedPopulation
    by: tuple[str, ...] = ()
    own_effect: bool = False
    rate: str | None = None

    def again(self, sources: Sequence[Source]) -> Made:
        source, *files = sources
        program = self.program.program
        rows = source.read(program.columns)
        with naming(source.path):
            population = self.population.again(rows, program, self.by, files)
            return hensa.to_next_step(rows, program, population, self.by, own_effect=self.own_effect, rate=self.rate)


class Compare(_Data, frozen=True, tag_field="command", tag="compare"):
    """`hensa compare`; bands and edges are for what is shown, but in CSV the column of bands is read as numbers."""

    programs: tuple[Rules, ...]
    populations: tuple[RecordedPopulation, ...]
    band: str | None = None
    edges: tuple[Edge, ...] = EDGES
    budget: Whole | None = None
    month: str | None = None
    any_month: bool = False

    def __post_init__(self) -> None:
        if len(self.programs) != len(self.populations):
            raise ValueError("there must be a population for each program")
        if not self.edges or any(low >= high for low, high in pairwise(self.edges)):
            raise ValueError("edges must ascend")

    def again(self, sources: Sequence[Source]) -> Made:
        [source] = sources
        programs = [rules.program for rules in self.programs]
        numbers = [column for program in programs for column in program.columns]
        rows = source.read([*numbers, *([self.band] if self.band else [])])
        with naming(source.path):
            for program, population in zip(programs, self.populations, strict=True):
                population.again(rows, program, (), ())
            if self.budget is not None:
                programs.append(hensa.solve(rows, programs[-1], self.budget).program)
            return hensa.compare(rows, programs, month=self.month, any_month=self.any_month).rows


class Solve(_Data, frozen=True, tag_field="command", tag="compare --scaled"):
    """The program that `hensa compare --budget --scaled` writes."""

    program: Rules
    budget: Whole

    def again(self, sources: Sequence[Source]) -> Made:
        program = self.program.program
        rows = sources[0].read(program.columns)
        with naming(sources[0].path):
            return hensa.solve(rows, program, self.budget).program.to_toml()


class Rows(_Data, frozen=True, tag_field="command", tag="rows"):
    """`hensa rows`."""

    month: str
    zone: str
    mapping: Rules | None = None
    strict: bool = False
    friends: bool = False

    def again(self, sources: Sequence[Source]) -> Made:
        members, passbook = sources
        mapping = None if self.mapping is None else self.mapping.mapping
        rows = hensa.friend_rows if self.friends else hensa.referrer_rows
        found = rows(members.path, passbook.path, self.month, zone=self.zone, mapping=mapping, strict=self.strict)
        counts = json.loads(found.schema.metadata[KEY])["counts"]
        members.check_rows(counts["registrations"])
        passbook.check_rows(counts["entries"])
        return found


class Sample(_Data, frozen=True, tag_field="command", tag="sample"):
    """`hensa sample`."""

    n: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    seed: Whole

    def again(self, sources: Sequence[Source]) -> Made:
        return sample(self.n, self.seed)


class SampleLedger(_Data, frozen=True, tag_field="command", tag="sample --ledger"):
    """One of the two tables of `hensa sample --ledger`."""

    n: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    seed: Whole
    table: Literal["members", "passbook"]

    def again(self, sources: Sequence[Source]) -> Made:
        members, passbook = sample_ledger(self.n, self.seed)
        return members if self.table == "members" else passbook


Command: TypeAlias = (
    Score | TakePopulation | Rank | Restate | Compensate | NextStep | Compare | Solve | Rows | Sample | SampleLedger
)

_N_INPUTS = {Restate: (2, 2), Rows: (2, 2), Score: (1, 2), NextStep: (1, 2), Compensate: (1, 2)}
_N_INPUTS |= {Sample: (0, 0), SampleLedger: (0, 0)}
"""The least and the most inputs of commands that do not read one."""


class Record(_Data, frozen=True):
    """How a file was made: the command with all that decides its result, what it read, and what it ran on."""

    run: Command
    inputs: tuple[Input, ...]
    hensa: str
    kernel: str
    pyarrow: str

    @classmethod
    def of(cls, run: Command, inputs: Sequence[Input] = ()) -> Self:
        return cls(run=run, inputs=tuple(inputs), hensa=hensa.__version__, kernel=kernels.name, pyarrow=pa.__version__)

    def to_json(self) -> bytes:
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Read what `to_json` wrote.

        Raises
        ------
        HensaError
            It is not such a record.
        """
        try:
            record = msgspec.json.decode(data, type=cls)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            raise HensaError(f"its record is not one that hensa {hensa.__version__} reads ({error}).") from None
        least, most = _N_INPUTS.get(type(record.run), (1, 1))
        if not least <= len(record.inputs) <= most:
            raise HensaError(f"its record has {Count(len(record.inputs)):input}, where {record.command} reads {most}.")
        for input_ in record.inputs:
            if PurePath(input_.name).is_absolute():
                raise HensaError(f"its record has an input of the absolute path {input_.name!r:.80}.")
        return record

    @classmethod
    def read(cls, path: str) -> Self:
        """The record of a file of rows, without reading the rows.

        Raises
        ------
        HensaError
            The file cannot be read, or has no record that can.
        """
        record = cls.find(path)
        if record is None:
            where = "beside it" if format_of(path) == "csv" else "in its metadata"
            with naming(path):
                raise HensaError(f"there is no record {where} of how it was made.")
        return record

    @classmethod
    def find(cls, path: str) -> Self | None:
        """The same; None if there is none.

        Raises
        ------
        HensaError
            The file cannot be read, or has a record that cannot.
        """
        with naming(path):
            if format_of(path) != "csv":
                return cls.within(schema_of(path))
            Path(path).open("rb").close()  # says why a file cannot be read
            beside = record_path(Path(path).resolve())
            return cls.from_json(beside.read_bytes()) if beside.is_file() else None

    @classmethod
    def within(cls, schema: pa.Schema) -> Self | None:
        """The record in the metadata of a schema; None if there is none."""
        data = (schema.metadata or {}).get(RECORD)
        return None if data is None else cls.from_json(data)

    @property
    def command(self) -> str:
        return f"hensa {self.run.__struct_config__.tag}"

    def on(self, schema: pa.Schema) -> pa.Schema:
        """The schema with this record in its metadata."""
        return schema.with_metadata({**(schema.metadata or {}), RECORD: self.to_json()})

    def beside(self, file: BinaryIO, path: str) -> None:
        """Keep this record beside a file that has no room for it; standard output has no such place."""
        if path != "-":
            keep_beside(file, self.to_json())

    def check(self) -> Iterator[str]:
        """Check what can be checked here: a line on the versions, if they are others, and on each of the rules.

        Raises
        ------
        HensaError
            Rules have not the hash that is stated.
        """
        here = Record.of(self.run)
        if (self.hensa, self.kernel, self.pyarrow) != (here.hensa, here.kernel, here.pyarrow):
            yield f"made by {_ran_on(self)}; verified by {_ran_on(here)}"
        for kind, rules in self.rules():
            if _sha256(rules.toml) != rules.sha256:
                raise HensaError(f"not the same: the {kind} of the record has not the SHA-256 that it states.")
            yield f"{kind} {_described(kind, rules)}sha256 {rules.sha256}"

    def rules(self) -> Iterator[tuple[str, Rules]]:
        for name in self.run.__struct_fields__:
            value = getattr(self.run, name)
            for rules in value if isinstance(value, tuple) else (value,):
                if isinstance(rules, Rules):
                    yield name.removesuffix("s"), rules


# ---- fingerprints


class Fingerprints:
    """Hashes of files, taken in threads of their own while they are read; standard input is hashed as it is read."""

    def __init__(self, *paths: str | None) -> None:
        self._files = {path: _Hashing(path) for path in paths if path is not None and path != "-"}
        self._stdin = _Hashed(getattr(sys.stdin, "buffer", BytesIO())) if "-" in paths else None
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        if self._stdin is not None:
            self._stack.enter_context(_stdin_from(self._stdin))
        for hashing in self._files.values():
            hashing.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def record(self, run: Command, *inputs: tuple[str, int | None]) -> Record:
        """The record of a run once it has read its inputs: their paths, and the rows of those that are tables."""
        return Record.of(run, [self.of(path, rows) for path, rows in inputs])

    def of(self, path: str, rows: int | None) -> Input:
        """The fingerprint of an input, once it has been read."""
        if path == "-" and self._stdin is not None:
            return Input(name="-", rows=rows, bytes=self._stdin.bytes, sha256=self._stdin.sha256())
        with naming(path):
            n_bytes, sha256 = self._files[path].result()
        return Input(name=named(path), rows=rows, bytes=n_bytes, sha256=sha256)


def named(path: str) -> str:
    """A path as a record names it: as it is, or the last part of one that is absolute or a URI."""
    name = PurePath(path)
    shown = name.name if name.is_absolute() or "://" in path else name.as_posix()
    return shown.encode(errors="replace").decode()


class _Hashing(Thread):
    """The hash of a file. The thread is a daemon's: a run that fails does not wait for it."""

    def __init__(self, path: str) -> None:
        super().__init__(daemon=True)
        self._path = path
        self._error: OSError | None = None
        self._found = 0, ""

    def run(self) -> None:
        try:
            with open(self._path, "rb") as file:
                self._before = os.fstat(file.fileno())
                self._found = _hash(file)
        except OSError as error:
            self._error = error

    def result(self) -> tuple[int, str]:
        self.join()
        if self._error is not None:
            raise self._error
        before, after = self._before, os.stat(self._path)
        same = all(getattr(before, name) == getattr(after, name) for name in ("st_ino", "st_size", "st_mtime_ns"))
        if not same or self._found[0] != after.st_size:
            raise HensaError("it was changed while it was read.")
        return self._found


class _Hashed(BufferedIOBase):
    """A stream that is hashed as it is read, in a thread of its own: a daemon's, too."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._digest = stream, hashlib.sha256()
        self.peek = getattr(stream, "peek", lambda size: b"")
        self._pieces: SimpleQueue[bytes | None] = SimpleQueue()  # None: the last was given
        self._worker = Thread(target=self._hash_pieces, daemon=True)
        self._worker.start()
        self.bytes = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        data = self._stream.read(-1 if size is None else size)
        self._pieces.put(data)
        self.bytes += len(data)
        return data

    def _hash_pieces(self) -> None:
        while (piece := self._pieces.get()) is not None:
            self._digest.update(piece)

    def sha256(self) -> str:
        """The hash of what was read; nothing is read after it."""
        self._pieces.put(None)
        self._worker.join()
        return self._digest.hexdigest()


@contextmanager
def _stdin_from(stream: Any) -> Iterator[None]:
    before, sys.stdin = sys.stdin, cast(Any, SimpleNamespace(buffer=stream))
    try:
        yield
    finally:
        sys.stdin = before


def _hash(file: BinaryIO) -> tuple[int, str]:
    """The number of bytes of a file and their SHA-256."""
    digest, n_bytes, piece = hashlib.sha256(), 0, memoryview(bytearray(_PIECE))
    while size := file.readinto(piece):  # type: ignore[attr-defined]
        digest.update(piece[:size])
        n_bytes += size
    return n_bytes, digest.hexdigest()


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def read_population(path: str) -> Population:
    """The population of a file that `hensa population` wrote."""
    with naming(path):
        try:
            return Population.from_json(Path(path).read_bytes().decode())
        except (DataError, UnicodeDecodeError) as error:
            cause = error.__cause__
            why = f"{cause} is missing" if isinstance(cause, KeyError) else cause or sentence(error).rstrip(".")
            raise HensaError(f"found no population ({why}); `hensa population` writes such a file") from error


def _read_text(path: str, encoding: str = "utf-8") -> str:
    with naming(path):
        return Path(path).read_bytes().decode(encoding)


# ---- verification


@dataclass(frozen=True)
class Kept:
    """A file that was written with a record.

    Parameters
    ----------
    path : str
        The file; - is an Arrow stream on standard input.
    record : Record
        How it says that it was made.
    content : pyarrow.Table or str
        What is in it; of CSV, all as text.
    """

    path: str
    record: Record
    content: pa.Table | str

    @classmethod
    def open(cls, path: str) -> Self:
        """Read a file and its record.

        Raises
        ------
        HensaError
            The file cannot be read, or has no record that can.
        """
        content: pa.Table | str
        with naming(path):
            try:
                format = format_of(path)
            except HensaError:
                format = "text"
            if format in ("csv", "text"):
                Path(path).open("rb").close()  # says why a file cannot be read
                beside = record_path(Path(path).resolve())
                data = beside.read_bytes() if beside.is_file() else None
            else:
                content = read(path, ())
                data = (content.schema.metadata or {}).get(RECORD)
            if data is None:
                where = "beside it" if format in ("csv", "text") else "in its metadata"
                raise HensaError(f"there is no record {where} of how it was made.")
            record = Record.from_json(data)
            if format == "csv":
                content = text_of(path, header_of(path))
            elif format == "text":
                content = _read_text(path)
        return cls(path, record, content)

    def verify(self, given: Sequence[str] = ()) -> Iterator[str]:
        """Make the same again and compare.

        Parameters
        ----------
        given : sequence of str
            The paths of the inputs, in the order of the record; none: they are where the record says, from the working
            directory or from where the file is.

        Yields
        ------
        str
            A line on each thing that was found to be the same.

        Raises
        ------
        HensaError
            Something is missing or not the same; the text says what is the first.
        """
        record = self.record
        yield f"{_label(self.path)}: {record.command}"
        with naming(self.path):
            yield from record.check()
        with ExitStack() as stack:
            paths = [self._find(number, given) for number in range(len(record.inputs))]
            for input_, path in zip(record.inputs, paths, strict=True):
                with naming(path):
                    if path == "-":
                        data = sys.stdin.buffer.read()
                        stack.enter_context(_stdin_from(BytesIO(data)))
                        found: tuple[int, str | None] = len(data), hashlib.sha256(data).hexdigest()
                    else:
                        found = _hash_of_size(path, input_.bytes)
                    input_.check(*found)
                yield f"input {_label(path)}: {input_.bytes:,} bytes, sha256 {input_.sha256}"
            made = record.run.again([Source(path, stated) for path, stated in zip(paths, record.inputs, strict=True)])
        with naming(self.path):
            difference = self._difference(made)
            if difference:
                raise HensaError(f"not the same: {difference}.")
        what = (
            f"{len(self.content):,} characters"
            if isinstance(self.content, str)
            else f"{Count(self.content.num_rows):row}, {Count(self.content.num_columns):column}"
        )
        yield f"the same, bit for bit: {what}"

    def _find(self, number: int, given: Sequence[str]) -> str:
        """The path of an input."""
        if given:
            return given[number]
        name = self.record.inputs[number].name
        folder = "" if self.path == "-" else os.path.dirname(self.path)
        if name != "-":
            for path in (name, os.path.join(folder, name), os.path.join(folder, os.path.basename(name))):
                if os.path.isfile(path):
                    return path
        which = _label(name) if name == "-" else f"{name!r:.200}"
        raise HensaError(f"{_label(self.path)}: its input {which} is not here; name where it is with --input.")

    def _difference(self, made: Made) -> str | None:
        content = self.content
        if isinstance(content, str) or isinstance(made, str):
            return None if content == made else "the text is another one"
        if isinstance(made, pa.RecordBatchReader):
            made = _at_most(made, content.num_rows)
        if made.num_rows != content.num_rows:
            return f"found {Count(content.num_rows):row}, where the run makes {made.num_rows:,} or more"
        return first_difference(content, as_stored(made, self.path))


def _label(path: str) -> str:
    return "standard input" if path == "-" else path


def _ran_on(record: Record) -> str:
    return f"hensa {record.hensa} with kernel {record.kernel} and pyarrow {record.pyarrow}"


def _described(kind: str, rules: Rules) -> str:
    """The name of the rules, and whether they are as this version of hensa has them built in."""
    if kind == "event":
        return f"{rules.event.name!r}, "
    if kind != "program":
        return ""
    name = rules.program.name
    built_in = name in Program.names() and Program.load(name).to_toml() == rules.toml
    return f"{name!r}, {'built in, ' * built_in}"


def _hash_of_size(path: str, n_bytes: int) -> tuple[int, str | None]:
    """The size of a file and, if it is this one, its SHA-256."""
    if not os.path.isfile(path):
        raise HensaError("found no such file.")
    size = os.path.getsize(path)
    if size != n_bytes:
        return size, None
    with open(path, "rb") as file:
        return _hash(file)


def _at_most(reader: pa.RecordBatchReader, n_rows: int) -> pa.Table:
    """What a reader gives, or more than so many rows of it."""
    batches, found = [], 0
    for batch in reader:
        batches.append(batch)
        found += batch.num_rows
        if found > n_rows:
            break
    return pa.Table.from_batches(batches, reader.schema)


def as_stored(table: pa.Table, path: str) -> pa.Table:
    """A table as it is read back from the format of a path."""
    metadata = {key: value for key, value in (table.schema.metadata or {}).items() if key != RECORD}
    table = table.replace_schema_metadata(metadata)
    match format_of(path):
        case "csv":
            starts = range(0, max(table.num_rows, 1), ROW_GROUP)
            parts = [_written(table.slice(start, ROW_GROUP), ".csv") for start in starts]
            return pa.concat_tables([text_of(part, table.column_names) for part in parts])
        case "parquet":
            # It has no seconds, for one; what it has is read back as it is, so the types are all that may change.
            return table.cast(pq.read_schema(_written(table.slice(0, 0), ".parquet")))
    return table


def _written(table: pa.Table, path: str) -> BytesIO:
    sink = pa.BufferOutputStream()
    write(cast(BinaryIO, sink), path, table.schema, [table], lambda _: None)
    return BytesIO(sink.getvalue())


def first_difference(found: pa.Table, made: pa.Table, start: int = 0) -> str | None:
    """Where two tables differ, by the first row of all columns; None if they are the same, bit for bit.

    Rows are counted from `start`.

    Examples
    --------
    >>> paid, again = pa.table({"id": [7, 8], "reward": [10, 21]}), pa.table({"id": [7, 8], "reward": [10, 20]})
    >>> first_difference(paid, again)
    "row 1, column 'reward': found 21, where the run makes 20"
    >>> first_difference(paid, paid)
    """
    if found.column_names != made.column_names:
        names = [", ".join(map(repr, table.column_names)) for table in (found, made)]
        return f"found the columns {names[0]}, where the run makes {names[1]}"
    for name, here, there in zip(made.column_names, found.schema.types, made.schema.types, strict=True):
        if here != there:
            return f"column {name!r}: found the type {here}, where the run makes {there}"
    if found.num_rows != made.num_rows:
        return f"found {Count(start + found.num_rows):row}, where the run makes {start + made.num_rows:,}"
    places = [
        (row, index)
        for index, columns in enumerate(zip(found.columns, made.columns, strict=True))
        if (row := _first_row(*columns)) is not None
    ]
    if places:
        row, index = min(places)
        values = [repr(table.column(index)[row].as_py()) for table in (found, made)]
        name = made.column_names[index]
        return f"row {start + row:,}, column {name!r}: found {values[0]:.80}, where the run makes {values[1]:.80}"
    kept, given = ({**(table.schema.metadata or {}), RECORD: b""} for table in (found, made))
    for key in sorted({*kept, *given}):
        if kept.get(key) != given.get(key):
            return f"the metadata {key.decode(errors='replace')!r} is not what the run makes"
    return None


def _first_row(found: pa.ChunkedArray, made: pa.ChunkedArray) -> int | None:
    start = 0
    for batch in pa.table([found, made], ["found", "made"]).to_batches():  # chunks of equal lengths
        here, there = map(_bits, batch.columns)
        if not here.equals(there):
            for row in _unequal(here, there):
                return start + row
        start += batch.num_rows
    return None


def _bits(array: pa.Array) -> pa.Array:
    """An array in which equal bits are equal values: not a number is, and 0 and -0 are not."""
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_floating(array.type):
        array = array.view({16: pa.int16(), 32: pa.int32(), 64: pa.int64()}[array.type.bit_width])
    return array


def _unequal(here: pa.Array, there: pa.Array) -> Iterator[int]:
    try:
        differs = pc.fill_null(pc.not_equal(here, there), False)
    except pa.ArrowNotImplementedError:  # nested
        pairs = zip(here.to_pylist(), there.to_pylist(), strict=True)
        yield from (row for row, (one, other) in enumerate(pairs) if repr(one) != repr(other))
        return
    yield from pc.indices_nonzero(pc.or_(differs, pc.xor(here.is_null(), there.is_null()))).to_pylist()
