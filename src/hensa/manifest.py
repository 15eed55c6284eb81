"""A dataset that was written: its manifest, and how it takes its place in one step.

A dataset is put together in a directory beside its destination, `.NAME.hensa`, which readers of datasets skip:

    .month.hensa/              locked by the run, and gone when the run is done
        3f0c.../               what this run has made so far, named by its inputs, program and versions
            data/              the dataset as it will be: parts, each whole from when it is there
            parts/             the record of each part
            new/               parts that are being written

A part is written under a name of its own, closed, read again, synced to the disk and renamed; then its record is kept.
When all are there, the manifest is written into `data`, and `data` is renamed to the destination: whoever looks sees
the old state or the whole new one. A run that ends before leaves what it has, and the same run goes on from there.
"""

import ctypes
import errno
import hashlib
import os
import secrets
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import reduce
from pathlib import Path
from typing import Annotated, Any, Self, TypeAlias

import msgspec
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq

from hensa.audit import Record, Score
from hensa.errors import HensaError
from hensa.files import csv_options, format_of, naming
from hensa.totals import Total, sum_of

try:
    import fcntl
except ModuleNotFoundError:  # Windows, where nothing keeps two runs apart
    fcntl = None  # type: ignore[assignment]

__all__ = [
    "MANIFEST",
    "Manifest",
    "Part",
    "Staging",
    "Written",
    "hash_of",
    "keep_part",
    "kept_part",
    "new_path",
    "rows_in",
]

MANIFEST = "_manifest.json"
"""The name of the manifest in a dataset; readers of datasets skip it."""

Whole: TypeAlias = Annotated[int, msgspec.Meta(ge=0)]


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file of a dataset.

    Parameters
    ----------
    file : str
        Its name from the root of the dataset, with slashes.
    rows, nulls : int
        All rows, and those of them that have no score.
    bytes : int
        Its size.
    sha256 : str
        Of its bytes, as `sha256sum` gives it.
    points : dict of str to int
        By column of points, their total.
    base : int, Decimal or None
        The total of what the rates are shares of, over the rows that have a reward; None if rewards are no column.
    """

    file: str
    rows: Whole
    nulls: Whole
    bytes: Whole
    sha256: str
    points: dict[str, int]
    base: Total | None = None


class Written(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part that was written, and the rows of each rate in it: what a run keeps of what it has finished."""

    part: Part
    rates: dict[float, int] | None


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a dataset consists of and how it was made. Files that it does not list are no part of the dataset.

    Parameters
    ----------
    run : str
        The name of the run: the SHA-256 of its inputs, program and options. Equal runs have equal names.
    source : str
        The files that were read, as the run named them; of an absolute path or a URI the last part.
    record : Record
        The program, population and options, the fingerprint of every input, and the versions.
    rows, nulls : int
        All rows, and those of them that have no score.
    bytes : int
        The size of all parts.
    points : dict of str to int
        By column of points, their total.
    base : int, Decimal or None
        The total of what the rates are shares of, over the rows that have a reward; None if rewards are no column.
    rates : dict of float to int, or None
        By rate, as a share, the rows that are paid it; None if rates are no column.
    parts : tuple of Part
        The files, in the order of the input.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import hensa, pyarrow.parquet as pq
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     rows, paid = Path(folder, "rows.parquet"), Path(folder, "paid")
    ...     pq.write_table(hensa.sample(1000).read_all(), rows)
    ...     _ = hensa.score_dataset(rows, paid, hensa.Program.load("hapitas-friend"))
    ...     manifest = hensa.Manifest.load(paid)
    ...     [part.rows for part in manifest.check(paid)]
    [1000]
    >>> manifest.record.inputs[0].name
    'rows.parquet'
    """

    run: str
    source: str
    record: Record
    rows: Whole
    nulls: Whole
    bytes: Whole
    points: dict[str, int]
    base: Total | None
    rates: dict[float, int] | None
    parts: tuple[Part, ...]

    @classmethod
    def of(
        cls, run: str, source: str, record: Record, parts: Sequence[Part], rates: Mapping[float, int] | None
    ) -> Self:
        """The manifest of these parts."""
        names = {name: None for part in parts for name in part.points}
        bases = [part.base for part in parts if part.base is not None]
        return cls(
            run=run,
            source=source,
            record=record,
            rows=sum(part.rows for part in parts),
            nulls=sum(part.nulls for part in parts),
            bytes=sum(part.bytes for part in parts),
            points={name: sum(part.points.get(name, 0) for part in parts) for name in names},
            base=reduce(sum_of, bases) if bases else None,
            rates=None if rates is None else dict(sorted(rates.items())),
            parts=tuple(parts),
        )

    def to_json(self) -> str:
        """The manifest as the text that is in its file; two of equal runs are equal."""
        return msgspec.json.format(msgspec.json.encode(self).decode(), indent=2) + "\n"

    @property
    def scored(self) -> Score:
        """What the record states of the run.

        Raises
        ------
        HensaError
            It is a run of another command.
        """
        if not isinstance(self.record.run, Score):
            raise HensaError(f"its manifest has a run of {self.record.command}, which makes no dataset.")
        return self.record.run

    @classmethod
    def load(cls, dataset: str | os.PathLike[str]) -> Self:
        """Read the manifest of a dataset.

        Parameters
        ----------
        dataset : path
            Its directory.

        Raises
        ------
        HensaError
            There is none, or it is not one that this version reads.
        """
        path = Path(dataset)
        with naming(str(path)):
            try:
                data = (path / MANIFEST).read_bytes()
            except NotADirectoryError:
                raise HensaError("it is a file, and a dataset is a directory.") from None
            except FileNotFoundError:
                raise HensaError("there is no manifest, so it is no dataset that hensa wrote.") from None
            try:
                found = msgspec.json.decode(data, type=cls)
            except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
                raise HensaError(f"its manifest is not one that this version of hensa reads ({error}).") from None
            if found != cls.of(found.run, found.source, found.record, found.parts, found.rates):
                raise HensaError("the totals of its manifest are not those of its parts.")
            return found

    @classmethod
    def listing(cls, path: str | os.PathLike[str]) -> tuple[str, Self, Part] | None:
        """The dataset that a file is a part of: its directory, its manifest, and the part; None if there is none.

        Raises
        ------
        HensaError
            The manifest in a directory above the file is not one that this version reads.
        """
        place = Path(os.path.abspath(path))
        for folder in place.parents:
            if (folder / MANIFEST).is_file():
                shown, name = os.path.relpath(folder), place.relative_to(folder).as_posix()
                manifest = cls.load(shown)
                return next(((shown, manifest, part) for part in manifest.parts if part.file == name), None)
        return None

    def paths(self, dataset: str | os.PathLike[str]) -> list[str]:
        """The paths of the parts, in their order, for any reader of files.

        Parameters
        ----------
        dataset : path
            The directory that the manifest is of.
        """
        return [os.path.join(dataset, *part.file.split("/")) for part in self.parts]

    def check(self, dataset: str | os.PathLike[str], content: bool = True) -> Iterator[Part]:
        """Compare the parts with what the manifest states of them.

        Parameters
        ----------
        dataset : path
            The directory that the manifest is of.
        content : bool
            Also read all bytes and compare their hashes; False: only their number.

        Yields
        ------
        Part
            Each that is as stated.

        Raises
        ------
        HensaError
            A part is missing, or another; the text names the first.
        """
        for part, path in zip(self.parts, self.paths(dataset), strict=True):
            with naming(path):
                size = os.path.getsize(path)
                if size != part.bytes:
                    raise HensaError(f"found {size:,} bytes, where the manifest has {part.bytes:,}.")
                if content and (found := hash_of(path)) != part.sha256:
                    raise HensaError(f"found the sha256 {found}, where the manifest has {part.sha256}.")
            yield part


def hash_of(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# ---- parts


def keep_part(stage: Path, written: Written, path: Path) -> None:
    """Sync a part that was written to a path and put it in its place, then keep its record; done twice, it is as done
    once.

    Whatever happens meanwhile, the place has no part or the whole one, and a record is there only after its part is on
    the disk.
    """
    place, record = stage / "data" / written.part.file, _record_of(stage, written.part.file)
    for folder in (place.parent, record.parent):
        folder.mkdir(parents=True, exist_ok=True)
    _sync(path)
    os.replace(path, place)
    _sync(place.parent)
    _put(stage, record, msgspec.json.encode(written))


def kept_part(stage: Path, name: str) -> Written | None:
    """The record of a part that an earlier attempt finished, if the part still has the bytes that it states."""
    try:
        written = msgspec.json.decode(_record_of(stage, name).read_bytes(), type=Written)
        whole = hash_of(stage / "data" / name) == written.part.sha256
    except (OSError, msgspec.DecodeError):
        return None
    return written if whole and written.part.file == name else None


@contextmanager
def new_path(stage: Path) -> Iterator[Path]:
    """A path of its own for a file that is written; the file is gone after the block unless it was renamed."""
    path = stage / "new" / secrets.token_hex(8)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def rows_in(path: Path, name: str, columns: Sequence[str]) -> int:
    """The rows of a file that was written under another name, as it is read back."""
    format = format_of(name)
    if format == "parquet":
        return int(pq.read_metadata(path).num_rows)
    if format == "arrow":
        with pa.OSFile(str(path)) as source:
            opened = pa.ipc.open_file(source)
            return sum(opened.get_batch(i).num_rows for i in range(opened.num_record_batches))
    with pa.input_stream(str(path), compression="gzip" if name.lower().endswith(".gz") else None) as source:
        options = arrow_csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False)
        text = csv_options(dict.fromkeys(columns, pa.string()))
        opened = arrow_csv.open_csv(source, parse_options=options, convert_options=text)
        return sum(batch.num_rows for batch in opened)


def _record_of(stage: Path, name: str) -> Path:
    return stage / "parts" / f"{name}.json"


def _put(stage: Path, place: Path, data: bytes) -> None:
    """Write a small file, whole or not at all."""
    with new_path(stage) as path:
        path.write_bytes(data)
        _sync(path)
        os.replace(path, place)


def _sync(path: Path) -> None:
    """Have the disk keep a file, or the names in a directory."""
    if os.name == "nt":  # which opens no directories
        return
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


# ---- the whole


class Staging:
    """The directory beside a destination where one run at a time puts a dataset together.

    Parameters
    ----------
    destination : path
        Where the dataset will be.

    Raises
    ------
    HensaError
        On entering: another run is at it, or what is there is no dataset of hensa's.
    OSError
        On entering: no directory can be made there.
    """

    def __init__(self, destination: str | os.PathLike[str]) -> None:
        self.shown = os.fspath(destination)
        self.destination = Path(destination).resolve()
        self.root = self.destination.with_name(f".{self.destination.name}.hensa")
        self._lock: int | None = None

    def __enter__(self) -> Self:
        self._lock = self._locked()
        old = self.root / "old"
        if old.exists() and not self.destination.exists():  # the run ended between the two renames of `_replace`
            os.rename(old, self.destination)
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # not empty: the same run goes on from there
            self.root.rmdir()
        if self._lock is not None:
            os.close(self._lock)

    def _locked(self) -> int | None:
        while True:
            self.root.mkdir(exist_ok=True)
            if fcntl is None:
                return None
            number = os.open(self.root, os.O_RDONLY)
            try:
                fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.samestat(os.fstat(number), os.stat(self.root)):
                    return number
            except BlockingIOError:
                os.close(number)
                raise HensaError(f"{self.shown}: another run is writing it; wait for its end.") from None
            except FileNotFoundError:  # the other run was done, and removed what is locked here
                pass
            os.close(number)

    def current(self) -> Manifest | None:
        """The manifest of what is at the destination, if anything is.

        Raises
        ------
        HensaError
            It is no dataset that hensa wrote.
        """
        place = self.destination
        empty = not place.exists() or (place.is_dir() and not any(place.iterdir()))
        return None if empty else Manifest.load(self.shown)

    def check_listed(self, manifest: Manifest) -> None:
        """Raise HensaError if the destination has a file that its manifest does not list: it would be lost."""
        listed = {MANIFEST, *(part.file for part in manifest.parts)}
        for path in sorted(self.destination.rglob("*")):
            name = path.relative_to(self.destination).as_posix()
            if not path.is_dir() and name not in listed:
                raise HensaError(f"{self.shown}: it has a file {name!r} that its manifest does not list; move it away.")

    def stage(self, name: str) -> Path:
        """The directory of the run of this name, with what it has made so far; what others left is removed."""
        stage = self.root / name
        for other in self.root.iterdir():
            if other != stage:
                shutil.rmtree(other)
        shutil.rmtree(stage / "new", ignore_errors=True)
        for folder in ("data", "parts", "new"):
            (stage / folder).mkdir(parents=True, exist_ok=True)
        return stage

    def discard(self) -> None:
        """Remove all that this and earlier runs left beside the destination."""
        for stage in self.root.iterdir():
            shutil.rmtree(stage)

    def commit(self, stage: Path, manifest: Manifest) -> None:
        """Put the dataset of a stage in its place, in one step, and remove the stage.

        All parts are synced already. Their directories are, then the manifest is written, and only then the whole takes
        the place of what was there.
        """
        data = stage / "data"
        listed = {part.file for part in manifest.parts}
        for folder, _, names in os.walk(data, topdown=False):
            for path in (Path(folder, name) for name in names):
                if path.relative_to(data).as_posix() not in listed:  # an earlier attempt's manifest
                    path.unlink()
            _sync(Path(folder))
        _put(stage, data / MANIFEST, manifest.to_json().encode())
        _sync(data)
        if self.destination.exists() and any(self.destination.iterdir()):
            self._replace(data)
        else:
            os.rename(data, self.destination)
        _sync(self.destination.parent)
        self.discard()

    def _replace(self, data: Path) -> None:
        """Put a dataset in the place of another; where the filesystem cannot swap them, by two renames."""
        if _swapped(data, self.destination):
            return
        old = self.root / "old"
        os.rename(self.destination, old)
        try:
            os.rename(data, self.destination)
        except BaseException:
            os.rename(old, self.destination)
            raise


def _swapped(one: Path, other: Path) -> bool:
    """Swap two directories in one step; False if the system or the filesystem has no such step."""
    call, arguments = _swap_of(os.fsencode(one), os.fsencode(other))
    if call is None:
        return False
    if call(*arguments) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EXDEV):
        return False
    raise OSError(number, os.strerror(number), str(other))


def _swap_of(one: bytes, other: bytes) -> tuple[Any, tuple[Any, ...]]:
    """The function of the C library that swaps two paths, and its arguments."""
    if sys.platform == "linux":
        here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE: renameat2(2)
        return getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None), (here, one, here, other, exchange)
    if sys.platform == "darwin":
        swap = 2  # RENAME_SWAP: renamex_np(2)
        return getattr(ctypes.CDLL(None, use_errno=True), "renamex_np", None), (one, other, swap)
    return None, ()
