"""The two passes over files larger than memory: bounded, in parts, and with a manifest.

Every step is a function of small data that can be pickled, so that it runs on any thread, process or machine that sees
the files: `plan`, then `fingerprint` for every file and `take` for every fragment (pass 1), `merged`, `write_part` for
every fragment (pass 2), and `Staging.commit`. No step holds more than a piece of a fragment.
"""

import hashlib
import json
import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, TimeoutError
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial, reduce
from itertools import chain
from operator import add
from pathlib import Path
from threading import Event, Lock
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import pyarrow as pa
import pyarrow.fs as arrow_fs

from hensa.audit import Input, Record, RecordedPopulation, Rules, Score, as_stored, first_difference, named
from hensa.cohorts import names_of
from hensa.counts import Count
from hensa.errors import DataError, HensaError
from hensa.files import RECORD, counted_from, format_of, naming, open_text, with_lines, write
from hensa.fragments import PIECE_BYTES, File, Fragment, Source, Survey, agreed, cut, find, pieces, survey
from hensa.manifest import Manifest, Part, Staging, Written, hash_of, keep_part, kept_part, new_path, rows_in
from hensa.parquet import ROW_GROUP
from hensa.population import Population
from hensa.population import population as take_population
from hensa.program import Program
from hensa.scoring import score
from hensa.threads import check_threads, cpus
from hensa.totals import Totals

if TYPE_CHECKING:
    from hensa.distributed import Cluster

__all__ = ["MEMORY", "Plan", "Task", "fingerprint", "merged", "plan", "score_dataset", "take", "verify", "write_part"]

T = TypeVar("T")
R = TypeVar("R")
MEMORY = 512 << 20
"""Bytes that pieces may take in memory, unless it is said otherwise."""
TICK = 0.1  # seconds between two calls of `progress`
Advance: TypeAlias = Callable[[int], None]
"""Is told the rows of each piece when it is done."""
Progress: TypeAlias = Callable[[str, int, int], None]
"""Is told a stage, the rows that it is done with, and all rows."""


def _nobody(rows: int) -> None:
    """Advance where nobody looks."""


@dataclass(frozen=True)
class Task:
    """What is done with every fragment; small, and can be pickled as far as the filesystem of the source can."""

    source: Source
    program: Program
    columns: tuple[str, ...]
    by: tuple[str, ...] = ()
    month: str | None = None
    any_month: bool = False

    def stated(self, population: Population, stored: bool = False) -> Score:
        """What a record states of the run."""
        return Score(
            program=Rules.of(self.program),
            population=RecordedPopulation.of(population, stored),
            columns=self.columns,
            by=self.by,
            month=self.month,
            any_month=self.any_month,
        )

    @property
    def keys(self) -> set[str]:
        """The columns in the names of directories that are needed."""
        return {*self.by, *self.program.columns} & set(self.source.keys.names)

    def scored(self, rows: pa.Table, population: Population | None) -> pa.Table:
        """Score rows."""
        return score(
            rows,
            self.program,
            population=population,
            by=self.by or None,
            columns=self.columns,
            threads=1,
            month=self.month,
            any_month=self.any_month,
        )

    def stored(self, paid: pa.Table) -> pa.Table:
        """Scored rows without what the file that they go to does not have: columns of directories, and the record of
        how the file that they came from was made."""
        paid = paid.drop_columns([name for name in self.keys if name in paid.column_names])
        metadata = {key: value for key, value in (paid.schema.metadata or {}).items() if key != RECORD}
        return paid.replace_schema_metadata(metadata)


@dataclass(frozen=True)
class Plan:
    """What a run will read and write.

    Parameters
    ----------
    task : Task
        What is done with every fragment.
    surveys : tuple of Survey
        The files, and what is in each.
    fragments : tuple of Fragment
        The parts of the work, in the order of the rows; each makes one part of the result.
    schema : pyarrow.Schema
        The columns of every part of the result.
    """

    task: Task
    surveys: tuple[Survey, ...]
    fragments: tuple[Fragment, ...]
    schema: pa.Schema

    @property
    def rows(self) -> int:
        """All rows."""
        return sum(fragment.rows for fragment in self.fragments)

    def threads(self, memory: int, most: int | None = None) -> int:
        """How many fragments may be worked on at a time.

        Parameters
        ----------
        memory : int
            Bytes that pieces may take in memory.
        most : int, optional
            No more than that; None: than the CPUs that this process may use.

        Raises
        ------
        HensaError
            A single piece may take more, or what has to be in memory as a whole for it.
        """
        if self.takes > memory:
            raise HensaError(self._refusal(memory))
        return min(self._most(memory, most), len(self.fragments))

    def spare(self, memory: int, most: int | None = None) -> int:
        """How many threads may encode each fragment, where there are fewer fragments than threads."""
        return max(1, self._most(memory, most) // len(self.fragments))

    def _most(self, memory: int, most: int | None) -> int:
        return max(1, min(most or cpus(), memory // max(self.takes, 1)))

    @property
    def takes(self) -> int:
        """Bytes in memory that the largest piece may take."""
        return max(map(self._takes, self.fragments))

    def _refusal(self, memory: int) -> str:
        """Why this is not enough."""
        largest = max(self.fragments, key=self._takes)
        if not largest.held:
            return f"memory is {memory:,} bytes, and a piece of these rows may take {self.takes:,}; give more."
        path = largest.file.shown
        [groups] = [seen.groups for seen in self.surveys if seen.file == largest.file]
        number, group = max(enumerate(groups), key=lambda each: each[1].held)
        return (
            f"{path}: memory is {memory:,} bytes, and record batch {number}, of {Count(group.rows):row}, takes "
            f"{self.takes:,}, as {', '.join(map(repr, group.names))} can only be read whole; give more, or "
            f"write the rows in smaller batches: rows = pa.ipc.open_file(pa.memory_map({path!r})).read_all(), then "
            "with pa.ipc.new_file('smaller.arrow', rows.schema) as file: file.write_table(rows, max_chunksize=65_536)."
        )

    def _takes(self, fragment: Fragment) -> int:
        """Bytes in memory while a piece is read, scored and encoded: its rows, the new columns, both as encoded; and
        columns that are read whole."""
        rows = min(fragment.rows, ROW_GROUP)
        width = sum(_width(type) for type in self.schema.types)
        if any(not _width(type) for type in self.schema.types):
            width += fragment.bytes // max(fragment.rows, 1)
        return fragment.held + 3 * min(rows * width, 2 * PIECE_BYTES)


def _width(type: pa.DataType) -> int:
    """Bytes of a value in memory; 0 if it depends on the value."""
    try:
        return -(-int(type.bit_width) // 8)
    except ValueError:
        return 0


def _no_rows(schema: pa.Schema) -> pa.Table:
    """A table without rows. `Schema.empty_table` imports pandas where it is installed: a third of a second."""
    return pa.Table.from_batches([], schema)


# ---- the steps


def plan(
    source: str | os.PathLike[str],
    program: Program,
    by: str | Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    *,
    population: Population | None = None,
    month: str | None = None,
    any_month: bool = False,
    filesystem: arrow_fs.FileSystem | None = None,
    each: Callable[[Callable[[File], Survey], Sequence[File]], Iterable[Survey]] = map,
) -> Plan:
    """Look at the files, and check all that can be told before their rows are read.

    Parameters
    ----------
    source, program, by, columns, population, month, any_month, filesystem
        As in `score_dataset`.
    each : callable
        What calls a function for every file, and returns the results in order.

    Raises
    ------
    HensaError
        With the file: it cannot be read or is cut off, or has other columns than the first; a column is missing or of a
        wrong type. A CSV file is read whole, and what is no number where one must be is found.
    """
    if not isinstance(program, Program):
        raise HensaError(f"program is {program!r:.80}; it must be a hensa.Program, such as Program.load(...) returns.")
    filesystem, format, files = find(source, filesystem)
    columns = program.results if columns is None else (columns,) if isinstance(columns, str) else tuple(columns)
    whole = frozenset(program.whole_columns(columns))
    look = partial(survey, filesystem, format, numbers=frozenset(program.columns), whole=whole)
    schema, surveys = agreed(format, each(look, files))
    keys, fragments = cut(surveys)
    pointed = frozenset().union(*(seen.pointed for seen in surveys))
    task = Task(Source(filesystem, format, schema, keys, pointed), program, columns, names_of(by), month, any_month)
    wanted = [keys.field(name) for name in keys.names if name in task.keys]
    made: list[pa.Schema] = []
    for seen in surveys:
        if made and seen.schema.metadata == surveys[0].schema.metadata:  # which may tell the month of the rows
            continue
        with _naming_rows(task.source, seen.file):
            rows = _no_rows(pa.schema([*schema, *wanted], seen.schema.metadata))
            made.append(task.stored(task.scored(rows, population)).schema)
    return Plan(task, tuple(surveys), fragments, made[0])


def fingerprint(task: Task, seen: Survey, advance: Advance = _nobody) -> Input:
    """The hash of a file.

    Raises
    ------
    HensaError
        With the file, if it cannot be read or is not as it was planned with.
    """
    file = seen.file
    with naming(file.shown):
        with task.source.filesystem.open_input_stream(file.path, compression=None) as stream:
            digest, n_bytes, buffer = hashlib.sha256(), 0, memoryview(bytearray(1 << 20))
            while size := stream.readinto(buffer):
                digest.update(buffer[:size])
                n_bytes += size
        check_unchanged(task, file, n_bytes)
    advance(seen.rows)
    return Input(name=file.name, rows=seen.rows, bytes=n_bytes, sha256=digest.hexdigest())


def check_unchanged(task: Task, file: File, n_bytes: int | None = None) -> None:
    """Raise HensaError with the file if it was changed since the plan was made."""
    with naming(file.shown):
        info = task.source.filesystem.get_file_info(file.path)
        if (info.size, info.mtime_ns or 0) != (file.bytes, file.changed) or n_bytes not in (None, file.bytes):
            raise HensaError("it was changed while it was read.")


def take(task: Task, fragment: Fragment, advance: Advance = _nobody) -> Population:
    """Pass 1 over one fragment, in bounded memory: nothing is written, and the same comes out however often it is done.

    Raises
    ------
    HensaError
        With the file, if it cannot be read; DataError with the file and the rows, as `hensa.population` raises it.
    """
    names = {*task.program.columns, *task.by}
    schema, found = pieces(task.source, fragment, names, task.keys)
    parts = []
    for start, rows in found:
        with _naming_rows(task.source, fragment.file, start):
            parts.append(take_population(rows, task.program, by=task.by or None, threads=1))
        advance(rows.num_rows)
    return merged(parts or [take_population(_no_rows(schema), task.program, by=task.by or None)])


def merged(populations: Iterable[Population]) -> Population:
    """The population of all rows, which is the same however they were shared out."""
    return reduce(add, populations)


def write_part(
    task: Task, fragment: Fragment, population: Population, stage: Path, threads: int = 1, advance: Advance = _nobody
) -> Written:
    """Pass 2 over one fragment, in bounded memory: score its rows and write them as one part, encoded on some threads.

    When it returns, the part is whole, was read again, and is on the disk in ``stage / "data"``, and its record in
    ``stage / "parts"``. The bytes depend on the fragment, the task and the population alone. So it may be done again,
    at the same time or after it was killed: a part that is there is taken over, and whoever comes last changes nothing.

    Raises
    ------
    HensaError
        With the file, if it cannot be read; DataError with the file and the rows, as `hensa.score` raises it.
    OSError
        The part cannot be written; nothing of it is left.
    """
    kept = kept_part(stage, fragment.part)
    if kept is not None:
        advance(kept.part.rows)
        return kept
    totals = Totals(task.program, task.columns)
    schema, parts = _paid(task, fragment, population, totals)
    with new_path(stage) as path:
        with path.open("xb") as new:
            write(new, fragment.part, schema, parts, advance, threads)
        rows = rows_in(path, fragment.part, schema.names)
        if rows != totals.rows:
            raise OSError(f"{fragment.part}: {totals.rows:,} rows were written, and {rows:,} are read back.")
        part = Part(
            file=fragment.part,
            rows=rows,
            nulls=totals.nulls,
            bytes=path.stat().st_size,
            sha256=hash_of(path),
            points=totals.points,
            base=totals.base,
        )
        written = Written(part, None if totals.rates is None else dict(totals.rates))
        keep_part(stage, written, path)
    return written


def _paid(
    task: Task, fragment: Fragment, population: Population, totals: Totals
) -> tuple[pa.Schema, Iterator[pa.Table]]:
    """Pass 2 over one fragment: its rows as they are stored, a piece at a time, added up in `totals`."""
    own, found = pieces(task.source, fragment, keys=task.keys)

    def parts() -> Iterator[pa.Table]:
        for start, rows in found:
            with _naming_rows(task.source, fragment.file, start):
                paid = task.scored(rows, population)
            totals.add(paid)
            yield task.stored(paid)

    return task.stored(task.scored(_no_rows(own), population)).schema, parts()


@contextmanager
def _naming_rows(source: Source, file: File, start: int = 0) -> Iterator[None]:
    """Make errors on rows, of which `start` come before these, start with their file and name its rows and lines."""
    try:
        yield
    except DataError as error:
        message = counted_from(start, str(error))
        if source.format == "csv":
            message = with_lines(message, open_text(source.filesystem.open_input_stream(file.path)))
        raise DataError(f"{file.shown}: {message}") from error


# ---- the run


def score_dataset(
    source: str | os.PathLike[str],
    destination: str | os.PathLike[str],
    program: Program,
    by: str | Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    *,
    population: Population | None = None,
    month: str | None = None,
    any_month: bool = False,
    filesystem: arrow_fs.FileSystem | None = None,
    overwrite: bool = False,
    threads: int | None = None,
    memory: int = MEMORY,
    client: Any = None,
    progress: Progress | None = None,
) -> Manifest:
    """Score the rows of many files, or of files larger than memory, into a directory of as many files.

    The mean and the SD are those of all rows of all files, and every row gets the bits that `hensa.score` would give it
    if all were one table. Two passes stream through the files: at no time is more than a few pieces of about a million
    rows in memory.

    The result appears at the destination in one step when all of it is on the disk, with its manifest; until then what
    was there stays. A run that is interrupted or killed leaves what it finished beside the destination, in a directory
    whose name begins with a dot; called again, it checks that and goes on from there, and the result has the same
    bytes. The same run once more changes nothing.

    Parameters
    ----------
    source : path
        A file, a directory, or a pattern with ``*``, ``?``, ``[...]`` and ``**``, of Parquet, CSV or Arrow files, all
        with the same columns; a URI such as ``s3://bucket/month``. Files are taken in the order of their names; names
        that begin with . or _ are skipped. Directories such as ``month=2019-10`` are columns that `by` and the program
        may name.
    destination : path
        A directory on this machine, or on a file system that it shares. It is made, and gets a file for every file of
        the source, under the same name and in the same format; a Parquet or Arrow file of more than some 8 million rows
        becomes several, which are numbered.
    program : Program
        The rules.
    by, columns, month, any_month
        As in `hensa.score`.
    population : Population, optional
        Score against this population instead of that of all rows, which is then not taken: one pass, and the hashes of
        the files, are left. With `by` it is one with these cohorts.
    filesystem : pyarrow.fs.FileSystem, optional
        Where the source is; None: on this machine, or where its URI says.
    overwrite : bool
        Replace the dataset of another run at the destination, once the new one is complete.
    threads : int, optional
        How many fragments are worked on at a time; None: the CPUs that this process may use.
    memory : int
        Bytes that pieces may take in memory. Fewer threads run if their pieces might take more; a run of which a single
        piece might is refused.
    client : distributed.Client, optional
        Of a dask cluster, whose workers then do the work, each piece on one thread; they see the source and the
        destination under the same paths as this process. The result has the same bytes.
    progress : callable, optional
        Called now and then, in this thread, with a stage ("read", "population" or "score"), the rows that it is done
        with, and all rows. What it raises ends the run, which can be gone on with.

    Returns
    -------
    Manifest
        What was written, how it was made, and the total points; `Manifest.load` reads it again.

    Raises
    ------
    HensaError
        A file cannot be read, is cut off, is changed meanwhile, or has other columns than the first; the destination
        has the dataset of another run and `overwrite` is not said, or is no dataset of hensa's; the disk is full.
    DataError
        As `hensa.score` raises it, with the file. Then nothing is left beside the destination.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import hensa, pyarrow.parquet as pq
    >>> program = hensa.Program.load("hapitas-friend")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     source, paid = Path(folder, "rows"), Path(folder, "paid")
    ...     source.mkdir()
    ...     for number in range(3):
    ...         pq.write_table(hensa.sample(1000, seed=number).read_all(), source / f"{number}.parquet")
    ...     manifest = hensa.score_dataset(source, paid, program)
    ...     rows = pq.read_table(manifest.paths(paid))
    >>> manifest.rows, [part.file for part in manifest.parts]
    (3000, ['0.parquet', '1.parquet', '2.parquet'])
    >>> manifest.points["reward"] == sum(rows["reward"].to_pylist())
    True
    """
    if not isinstance(memory, int):
        raise HensaError(f"memory is {memory!r:.80}; it must be a whole number of bytes.")
    check_threads(threads)
    workers = _Threads(threads or cpus(), progress) if client is None else _cluster(client, threads, progress)
    planned = plan(
        source,
        program,
        by,
        columns,
        population=population,
        month=month,
        any_month=any_month,
        filesystem=filesystem,
        each=workers.map,
    )
    count, spare = planned.threads(memory, threads), 1
    if isinstance(workers, _Threads):
        workers, spare = _Threads(count, progress), planned.spare(memory, threads)
    task, fragments = planned.task, planned.fragments
    stored = [] if population is None else [Input.of_population(population)]
    done: list[Written] = []
    try:
        with Staging(destination) as staging:
            _keep_apart(source, planned, staging)
            old = staging.current()
            inputs = list(workers.run("read", planned.rows, partial(fingerprint, task), planned.surveys))
            run = run_of(task, [*inputs, *stored])
            if old is not None and old.run == run:
                try:
                    deque(old.check(staging.shown, content=False), 0)
                    staging.discard()
                    return old
                except HensaError:
                    if not overwrite:
                        raise
            elif old is not None and not overwrite:
                raise HensaError(
                    f"{staging.shown}: it has the dataset of another run ({old.run[:12]}, where this is {run[:12]}); "
                    "it is replaced, once the new one is complete, if you ask to overwrite it "
                    "(--overwrite, or overwrite=True)."
                )
            if old is not None:
                staging.check_listed(old)
            used = population
            if used is None:
                used = merged(workers.run("population", planned.rows, partial(take, task), fragments))
            stated = task.stated(used, stored=population is not None)
            record = Record.of(stated, [*inputs, *(stored if stated.population.is_input else [])])
            stage = staging.stage(stage_of(run, record))
            work = partial(write_part, task, population=used, stage=stage, threads=spare)
            try:
                done.extend(workers.run("score", planned.rows, work, fragments))
                for seen in planned.surveys:
                    check_unchanged(task, seen.file)
            except DataError:
                staging.discard()
                raise
            rates: Counter[float] = sum((Counter(each.rates) for each in done), Counter())
            parts = [each.part for each in done]
            manifest = Manifest.of(
                run, named(os.fspath(source)), record, parts, rates if "rate" in task.columns else None
            )
            staging.commit(stage, manifest)
            return manifest
    except OSError as error:
        then = f"; {len(done):,} of {len(fragments):,} parts are done, and the same run goes on from them" * bool(done)
        raise HensaError(f"{os.fspath(destination)}: {error.strerror or error}{then}.") from error


def run_of(task: Task, inputs: Sequence[Input]) -> str:
    """The name of a run: the hash of all that decides which points are paid, and into which files.

    A population that rows are scored against instead of their own is one of the inputs.
    """
    stated = {
        "program": Rules.of(task.program).sha256,
        "columns": task.columns,
        "by": task.by,
        "month": task.month,
        "inputs": [(each.name, each.sha256) for each in inputs],
    }
    return hashlib.sha256(json.dumps(stated).encode()).hexdigest()


def stage_of(run: str, record: Record) -> str:
    """The name of what a run makes on its way: other versions may write other bytes, and go on with nothing of it."""
    return hashlib.sha256(f"{run} {record.hensa} {record.pyarrow}".encode()).hexdigest()[:16]


def _keep_apart(source: str | os.PathLike[str], planned: Plan, staging: Staging) -> None:
    """Refuse to write where the source is, or among what is read the next time."""
    if isinstance(planned.task.source.filesystem, arrow_fs.LocalFileSystem):
        read = {folder for seen in planned.surveys for folder in Path(seen.file.path).resolve().parents}
        place = staging.destination
        if place in read or Path(source).resolve() in (place, *place.parents):
            raise HensaError(f"{staging.shown}: it is where the source is; write to another directory.")


def _cluster(client: Any, threads: int | None, progress: Progress | None) -> "Cluster":
    try:
        from hensa.distributed import Cluster
    except ModuleNotFoundError as missing:
        raise HensaError(f'client needs {missing.name}; install it with: pip install "hensa[distributed]"') from missing
    if threads is not None:
        raise HensaError("threads is of this process, and client has the work done by others; give one of them.")
    return Cluster(client, progress)


# ---- verification


def verify(
    dataset: str, source: str | None = None, population: str | None = None, progress: Progress | None = None
) -> Iterator[str]:
    """Make a dataset again, a piece at a time, and compare it with what is there; nothing is written.

    Parameters
    ----------
    dataset : str
        Its directory.
    source : str, optional
        Where its source is now; None: where the manifest says, from the working directory or from where the dataset is.
    population : str, optional
        The file of the stored population, if that is one of the inputs.
    progress : callable, optional
        As in `score_dataset`; with the stages "read", "population" and "verify".

    Yields
    ------
    str
        A line on each thing that was found to be the same.

    Raises
    ------
    HensaError
        Something is missing or not the same; the text says what is the first.
    """
    manifest = Manifest.load(dataset)
    with naming(dataset):
        made, recorded = manifest.scored, manifest.scored.population
        inputs = manifest.record.inputs[: -1 if recorded.is_input else None]
        yield f"{dataset}: {manifest.record.command} of {Count(len(inputs)):file}, run {manifest.run}"
        yield from manifest.record.check()
    Staging(dataset).check_listed(manifest)
    deque(manifest.check(dataset), 0)
    points = "".join(f", {total:,} {name}" for name, total in manifest.points.items())
    what = f"{Count(len(manifest.parts)):file}, {Count(manifest.rows):row}{points}"
    yield f"as its manifest states, byte for byte: {what}"

    source = _source_of(dataset, manifest.source) if source is None else source
    _, _, files = find(source)
    with naming(source):
        _same_names("inputs", [each.name for each in inputs], [file.name for file in files])
    for file, stated in zip(files, inputs, strict=True):
        with naming(file.shown):
            stated.check(file.bytes, None)
    workers = _Threads(cpus(), progress)
    planned = plan(
        source,
        made.program.program,
        made.by,
        made.columns,
        month=made.month,
        any_month=made.any_month,
        each=workers.map,
    )
    workers, task = _Threads(planned.threads(MEMORY), progress), planned.task
    found = workers.run("read", planned.rows, partial(fingerprint, task), planned.surveys)
    for file, stated, input_ in zip(files, inputs, found, strict=True):
        with naming(file.shown):
            stated.check(input_.bytes, input_.sha256)
    yield f"source {source}: {Count(len(inputs)):file}, {sum(each.bytes for each in inputs):,} bytes, as recorded"

    with naming(dataset):
        if recorded.source == "rows":
            used = merged(workers.run("population", planned.rows, partial(take, task), planned.fragments))
        elif recorded.is_input and population is None:
            raise HensaError("its population is not in the manifest; name its file with a second --input.")
        else:
            used = recorded.stored(population)
        if recorded.is_input:
            again = Input.of_population(used)
            manifest.record.inputs[-1].check(again.bytes, again.sha256)
        recorded.check(used)
        _same_names("parts", [part.file for part in manifest.parts], [fragment.part for fragment in planned.fragments])
    pairs = list(zip(planned.fragments, manifest.parts, strict=True))
    work = partial(check_part, task, used, Path(dataset))
    rates: Counter[float] = sum(map(Counter, workers.run("verify", planned.rows, work, pairs)), Counter())
    with naming(dataset):
        if manifest.rates not in (None, rates):
            raise HensaError("not the same: the rows of each rate are not those of its manifest.")
    yield f"the same, bit for bit: {what}"


def check_part(
    task: Task, population: Population, root: Path, pair: tuple[Fragment, Part], advance: Advance = _nobody
) -> dict[float, int]:
    """Pass 2 over one fragment, in bounded memory, compared with the part that was made of it; its rows by rate.

    Raises
    ------
    HensaError
        With the part and the first row that differs, or what its manifest states of it; or as `write_part`.
    """
    fragment, part = pair
    totals = Totals(task.program, task.columns)
    schema, parts = _paid(task, fragment, population, totals)
    path = root / part.file
    format = format_of(part.file)
    with naming(str(path)):
        texts = pa.schema([(name, pa.string()) for name in schema.names])
        stored = Source(arrow_fs.LocalFileSystem(), format, texts, pa.schema([]))
        file = File(str(path), part.file, str(path), part.bytes, 0)
        own, tables = pieces(stored, Fragment(file, None, 0, 0, part.rows, part.bytes, 0, (), part.file))
        found = _Rows(own, (table for _, table in tables))
        for paid in chain([_no_rows(schema)], parts):
            start = totals.rows - paid.num_rows
            difference = first_difference(found.take(paid.num_rows), as_stored(paid, part.file), start)
            if difference is not None:
                raise HensaError(f"not the same: {difference}.")
            advance(paid.num_rows)
        if found.take(1).num_rows:
            raise HensaError(f"not the same: found more rows than the {totals.rows:,} that the run makes.")
        for name in ("rows", "nulls", "points", "base"):
            if getattr(part, name) != getattr(totals, name):
                raise HensaError(
                    f"not the same: the manifest has {name} {getattr(part, name)}, where the run makes "
                    f"{getattr(totals, name)}."
                )
    return dict(totals.rates or {})


class _Rows:
    """Rows that come in tables, as many at a time as are wanted."""

    def __init__(self, schema: pa.Schema, tables: Iterator[pa.Table]) -> None:
        self._left, self._tables = _no_rows(schema), tables

    def take(self, n_rows: int) -> pa.Table:
        """The next rows, fewer at the end."""
        while self._left.num_rows < n_rows and (more := next(self._tables, None)) is not None:
            self._left = pa.concat_tables([self._left, more])
        taken, self._left = self._left.slice(0, n_rows), self._left.slice(n_rows)
        return taken


def _source_of(dataset: str, name: str) -> str:
    """Where the source of this name is, from here or from where the dataset is."""
    folder = os.path.dirname(os.path.normpath(dataset))
    for path in (name, os.path.join(folder, name), os.path.join(folder, os.path.basename(name))):
        with suppress(HensaError):
            find(path)
            return path
    raise HensaError(f"{dataset}: its source {name!r:.200} is not here; name where it is with --input.")


def _same_names(what: str, stated: Sequence[str], found: Sequence[str]) -> None:
    """Raise HensaError if a name is missing, or there is another."""
    for name in sorted({*stated} - {*found}):
        raise HensaError(f"not the same: {name!r}, one of the {what} of the record, is not there.")
    for name in sorted({*found} - {*stated}):
        raise HensaError(f"not the same: {name!r} is none of the {what} of the record.")


class _Threads:
    """Work shared out to threads of this process.

    Parameters
    ----------
    count : int
        Of threads.
    progress : callable, optional
        As in `score_dataset`.
    """

    def __init__(self, count: int, progress: Progress | None) -> None:
        self._count, self._progress = count, progress

    def run(self, stage: str, rows: int, work: Callable[..., R], items: Sequence[T]) -> Iterator[R]:
        """Call ``work(item, advance)`` for every item, and give the results in order.

        No more items are taken than `count` at a time, and as many results wait to be fetched. If anything goes wrong
        here or there, all threads stop after their piece.
        """
        done, lock, stopped = 0, Lock(), Event()

        def advance(n_rows: int) -> None:
            nonlocal done
            with lock:
                done += n_rows
            if stopped.is_set():
                raise _StoppedError

        def tell() -> None:
            if self._progress is not None:
                self._progress(stage, done, rows)

        waiting: deque[Future[R]] = deque()
        with ThreadPoolExecutor(self._count) as pool:
            try:
                tell()
                for item in items:
                    waiting.append(pool.submit(work, item, advance=advance))
                    while len(waiting) >= 2 * self._count:
                        yield self._result(waiting.popleft(), tell)
                while waiting:
                    yield self._result(waiting.popleft(), tell)
                tell()
            except BaseException:
                stopped.set()
                pool.shutdown(cancel_futures=True)
                raise

    def map(self, work: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
        """Call ``work(item)`` for every item, and give the results in order."""
        with ThreadPoolExecutor(self._count) as pool:
            yield from pool.map(work, items)

    @staticmethod
    def _result(future: Future[R], tell: Callable[[], None]) -> R:
        while True:
            try:
                return future.result(TICK)
            except TimeoutError:
                if future.done():  # it is the work that timed out
                    raise
            tell()


class _StoppedError(Exception):
    """Ends work whose result nobody waits for any more."""
