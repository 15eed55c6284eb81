"""From registrations and a passbook to rows of referrers or friends: Arrow in and out, counted by embedded DuckDB."""

import json
import os
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Any, Self, TypeVar

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hensa.columns import column_of, plain_type, table_of
from hensa.errors import DataError, HensaError
from hensa.files import batches, csv_fault, open_text, sentence, with_lines
from hensa.threads import check_threads, cpus

__all__ = [
    "FINDINGS",
    "KEY",
    "Finding",
    "FriendLedger",
    "Ledger",
    "friend_rows",
    "read_mapping",
    "referrer_rows",
    "starts_of",
]

T = TypeVar("T")

KEY = b"hensa.ledger"
"""Where the schema of the rows keeps the report, as JSON."""

MEMORY = "1GB"  # of DuckDB, which spills the rest to its private directory; Arrow's batches and Python come on top
BATCH = 1 << 17  # rows handed over at a time

FINDINGS = {
    "spelled_nulls": "cells that spell a null: kept as nulls",
    "members_without_id": "registrations without a member_id: dropped",
    "duplicate_members": "registrations equal to another: dropped",
    "conflicting_members": "registrations that differ from another of the same member: all but the earliest dropped",
    "members_without_date": "members without registered_at: kept, as friends of no month whose points count",
    "self_referrals": "members who name themselves: the referral is dropped, the member kept",
    "circular_referrals": "members who would have brought themselves by way of others: likewise",
    "unknown_referrers": "referrers who are no members: kept",
    "incomplete_entries": "entries without member_id, kind or, of an ad, status: dropped",
    "undated_entries": "ads of friends without used_at or entered_at, and exchanges without used_at: dropped",
    "other_kinds": "entries, none of them of a kind that counts: a mapping may name theirs",
    "unjudged_entries": "valid ad entries without judged_at or points: kept as uses of an ad, but paid for in no month",
    "duplicate_entries": "counted entries equal to another: dropped",
    "repeated_entries": "counted entries that differ from another of the same member and entry_id: kept",
    "unknown_entries": "counted entries of neither a member nor a referrer: dropped",
    "far_entries": "ads, none of them of the month that is paid, which may be mistyped: no points",
}
"""What is found in messy input, and what becomes of it; any of it ends a strict run."""

_ROWS = pa.schema(
    [
        ("referrer_id", pa.int64()),  # or string
        ("new_referrals", pa.int32()),
        ("ad_users", pa.int32()),
        ("friend_points", pa.int64()),
        ("cumulative_referrals", pa.int32()),
        ("own_points", pa.int64()),
    ]
)
_FRIEND_ROWS = pa.schema(
    [
        ("friend_id", pa.int64()),  # or string, like referrer_id
        ("referrer_id", pa.int64()),
        ("registrations", pa.int32()),
        ("early_first_ads", pa.int32()),
        ("first_exchanges", pa.int32()),
        ("first_valid_ads", pa.int32()),
    ]
)
_DAYS = 7  # from a registration to the last early ad, and from a first exchange to the day on which it is due
_REFUSED = "hensa refuses: "  # how errors of ours begin in the messages of DuckDB
_NO_INTEGER = "an id that is no integer."  # what the error for one says, whole
_NULLS = ("", "null", "none", "nan", "n/a", "\\n")  # in lower case; the last is MySQL's and PostgreSQL's \N
_MEMBERS = ("member_id", "referrer_id", "registered_at")
_STATUSES = ("pending", "valid", "rejected")
_FATES = ("valid", "pending", "rejected", "other months", "other kind", "incomplete")


class _MemberColumns(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    member_id: str = "member_id"
    referrer_id: str = "referrer_id"
    registered_at: str = "registered_at"
    channel: str = "channel"  # of friend rows


class _PassbookColumns(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    member_id: str = "member_id"
    kind: str = "kind"
    points: str = "points"
    status: str = "status"
    used_at: str = "used_at"
    entered_at: str = "entered_at"
    judged_at: str = "judged_at"
    entry_id: str = "entry_id"


class _Statuses(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pending: tuple[str, ...] = ()
    valid: tuple[str, ...] = ()
    rejected: tuple[str, ...] = ()


class _Mapping(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Other people's names of columns and values."""

    members: _MemberColumns = _MemberColumns()
    passbook: _PassbookColumns = _PassbookColumns()
    kinds: dict[str, tuple[str, ...]] = {}
    channels: dict[str, tuple[str, ...]] = {}
    statuses: _Statuses = _Statuses()
    nulls: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        tables = {"kinds": self.kinds, "channels": self.channels, "statuses": msgspec.structs.asdict(self.statuses)}
        for table, values in tables.items():
            listed = [value for group in values.values() for value in group]
            for value in listed:
                if listed.count(value) > 1:
                    raise ValueError(f"{table}: {value!r} is listed twice; a value means one thing")
        listed = [text for values in tables.values() for group in values.values() for text in group]
        if any("\0" in text for text in [*self.nulls, *listed]):
            raise ValueError("a value holds the character NUL, which is not allowed")


@dataclass(frozen=True)
class Finding:
    """How often something was found, and the lowest id that it was found of, where it is of an id."""

    count: int
    example: Any = None


def read_mapping(source: str | os.PathLike[str] | Mapping[str, Any] | None) -> _Mapping:
    """The mapping of a TOML file, or of what such a file would hold.

    Raises
    ------
    HensaError
        It cannot be read, or names what there is not.
    """
    if source is None:
        return _Mapping()
    if isinstance(source, Mapping):
        with _about("mapping"):
            return msgspec.convert(source, _Mapping)
    with _about(os.fspath(source)):
        return msgspec.toml.decode(Path(source).read_bytes(), type=_Mapping)


def referrer_rows(
    members: Any,
    passbook: Any,
    month: str,
    *,
    zone: str = "Asia/Tokyo",
    mapping: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    strict: bool = False,
    threads: int | None = None,
) -> pa.Table:
    """Count what referrers are paid for in a month, from registrations and a passbook.

    A row is a referrer with at least one friend, a member whom the referrer brought, who registered by the end of the
    previous month. An event is in the month that the calendar of `zone` shows: times with an offset are converted,
    times without one and dates are taken as they are. Messy input is counted, and kept or dropped by the rules
    `hensa.ledger.FINDINGS`; docs/ledger.md has them in full.

    Parameters
    ----------
    members : str, path, or object with ``__arrow_c_stream__`` or ``__arrow_c_array__``, or mapping of names to arrays
        Columns ``member_id``, ``referrer_id`` (may be null) and ``registered_at``. A path ends in .parquet, .csv,
        .csv.gz, .arrow, .arrows or .feather. Files, and a ``pyarrow.RecordBatchReader``, may be larger than memory.
    passbook : likewise
        Columns ``member_id``, ``kind``, ``points`` (whole), ``status`` (pending, valid, rejected), ``used_at``,
        ``judged_at`` and, if there are any, ``entered_at`` and ``entry_id``, which only tell entries apart. Of kinds,
        ``ad`` counts.
    month : str
        The month that is paid, such as "2019-10".
    zone : str
        The time zone whose calendar has the months: a name of the IANA database.
    mapping : path or mapping, optional
        A TOML file, or its content, that says how the columns and values are named otherwise.
    strict : bool
        Whether messy input is an error instead.
    threads : int, optional
        Default: the CPUs this process may use.

    Returns
    -------
    pyarrow.Table
        Sorted by ``referrer_id`` (int64 if the ids of both columns of `members` are numbers, or in CSV plain integers,
        else string):

        - ``new_referrals`` (int32): friends who registered in the previous month;
        - ``ad_users`` (int32): friends who registered by its end and have an ad entry used in it that is not rejected;
        - ``friend_points`` (int64): points of ad entries of all friends that were judged valid in `month`;
        - ``cumulative_referrals`` (int32): friends who registered by the end of the previous month;
        - ``own_points`` (int64): points of the referrer's own ad entries that were judged valid in `month`.

        ``schema.metadata[hensa.ledger.KEY]`` is a report as JSON: what was counted and what was found.

    Raises
    ------
    DataError
        A column is missing or of a type that has no such values; a time, number of points or status cannot be read; a
        result does not fit its type; or `strict` and something was found.
    HensaError
        `month`, `zone`, `mapping` or `threads` is not valid, or duckdb is not installed.

    Examples
    --------
    Ben and Cho were brought by Ann; Cho's entry was judged too late to be paid for October.

    >>> import hensa
    >>> members = {
    ...     "member_id": ["Ann", "Ben", "Cho"],
    ...     "referrer_id": [None, "Ann", "Ann"],
    ...     "registered_at": ["2019-05-01", "2019-08-31T15:00:00Z", "2019-09-30 23:59"],
    ... }
    >>> passbook = {
    ...     "member_id": ["Ben", "Cho"],
    ...     "kind": ["ad", "ad"],
    ...     "points": [300, 500],
    ...     "status": ["valid", "valid"],
    ...     "used_at": ["2019-09-02", "2019-09-30 23:59"],
    ...     "judged_at": ["2019-10-01", "2019-11-01"],
    ... }
    >>> for row in hensa.referrer_rows(members, passbook, "2019-10").to_pylist():
    ...     print(row)
    {'referrer_id': 'Ann', 'new_referrals': 2, 'ad_users': 2, 'friend_points': 300, 'cumulative_referrals': 2, 'own_points': 0}
    """  # noqa: E501
    with Ledger(month, zone=zone, mapping=mapping, strict=strict, threads=threads) as ledger:
        ledger.read_members(members)
        ledger.read_passbook(passbook)
        ledger.count()
        return ledger.rows().read_all()


def friend_rows(
    members: Any,
    passbook: Any,
    month: str,
    *,
    zone: str = "Asia/Tokyo",
    mapping: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    strict: bool = False,
    threads: int | None = None,
) -> pa.Table:
    """Count for which friends something is paid in a month, from registrations and a passbook.

    A row is a friend, a member whom a referrer brought, of whom at least one event is counted in the month. Members,
    months, mappings and messy input are those of `referrer_rows`; docs/ledger.md has the rules in full.

    Parameters
    ----------
    members : object
        See `referrer_rows`; if there is a column ``channel``, only who registered by the channel ``banner`` has early
        first ads.
    passbook : object
        See `referrer_rows`. Columns ``member_id``, ``kind`` (of which ``ad`` and ``exchange`` count), ``status`` (which
        must not be rejected), ``used_at``, ``entered_at`` and ``judged_at``.
    month : str
        The month that is paid, such as "2019-10", and the one of the events.
    zone, mapping, strict, threads
        See `referrer_rows`.

    Returns
    -------
    pyarrow.Table
        Sorted by ``friend_id`` (of the type that `referrer_rows` gives ids), then:

        - ``referrer_id``: who brought the friend;
        - ``registrations`` (int32): 1 if the friend registered in `month`;
        - ``early_first_ads`` (int32): 1 if the friend used a first ad on the day of registering or one of the 7
          calendar days after it, and it was entered in `month`: of several ads used by then, the one entered first;
        - ``first_exchanges`` (int32): 1 if the day 7 days after the friend's first exchange is in `month`;
        - ``first_valid_ads`` (int32): 1 if the first of the friend's ads that was judged valid was so in `month`.

        ``schema.metadata[hensa.ledger.KEY]`` is a report as JSON: what was counted and what was found.

    Raises
    ------
    DataError
        A column is missing or of a type that has no such values; a time or status cannot be read; or `strict` and
        something was found.
    HensaError
        `month`, `zone`, `mapping` or `threads` is not valid, or duckdb is not installed.

    Notes
    -----
    That days are those of the calendar and the day of registering is not one of the seven is how periods are counted in
    Japan (Civil Code, articles 140 and 141).

    Examples
    --------
    Ben used an ad on the seventh day, Cho on the eighth. Ben's was judged valid in the same month.

    >>> import hensa
    >>> members = {
    ...     "member_id": ["Ann", "Ben", "Cho"],
    ...     "referrer_id": [None, "Ann", "Ann"],
    ...     "registered_at": ["2019-05-01", "2019-10-01 09:00", "2019-10-01 09:00"],
    ... }
    >>> passbook = {
    ...     "member_id": ["Ben", "Cho"],
    ...     "kind": ["ad", "ad"],
    ...     "status": ["valid", "pending"],
    ...     "used_at": ["2019-10-08 23:59", "2019-10-09 00:00"],
    ...     "entered_at": ["2019-10-11", "2019-10-11"],
    ...     "judged_at": ["2019-10-31", None],
    ... }
    >>> rows = hensa.friend_rows(members, passbook, "2019-10")
    >>> for row in rows.drop_columns("referrer_id").to_pylist():
    ...     print(row)
    {'friend_id': 'Ben', 'registrations': 1, 'early_first_ads': 1, 'first_exchanges': 0, 'first_valid_ads': 1}
    {'friend_id': 'Cho', 'registrations': 1, 'early_first_ads': 0, 'first_exchanges': 0, 'first_valid_ads': 0}
    >>> hensa.score(rows, hensa.Program.load("friend-benefit"), month="2019-10")["friend_reward"].to_pylist()
    [400, 0]
    """
    with FriendLedger(month, zone=zone, mapping=mapping, strict=strict, threads=threads) as ledger:
        ledger.read_members(members)
        ledger.read_passbook(passbook)
        ledger.count()
        return ledger.rows().read_all()


class Ledger:
    """`referrer_rows` step by step, for what shows progress or writes the rows without holding them.

    The steps are `read_members`, `read_passbook`, `count` and `rows`, in this order, within a ``with`` block.
    """

    counted = "referrers"
    """Under which name `counts` has the number of the rows."""
    _schema = _ROWS
    _members: Sequence[str] = ()  # columns that there may be besides those that there must be
    _passbook: tuple[Sequence[str], Sequence[str]] = (
        ("member_id", "kind", "points", "status", "used_at", "judged_at"),
        ("entered_at", "entry_id"),
    )

    def __init__(
        self,
        month: str,
        *,
        zone: str = "Asia/Tokyo",
        mapping: str | os.PathLike[str] | Mapping[str, Any] | None = None,
        strict: bool = False,
        threads: int | None = None,
    ) -> None:
        self._starts = starts_of(month)
        self._mapping = read_mapping(mapping)
        self._strict = strict
        check_threads(threads)
        self._threads = cpus() if threads is None else threads
        self._zone = zone
        self.counts: dict[str, int] = {}
        """How many rows were read and counted."""
        self.findings: dict[str, Finding] = {}
        """What of `FINDINGS` was found."""
        self._month = month
        self._ended = False

    def __enter__(self) -> Self:
        try:
            import duckdb
        except ModuleNotFoundError as missing:
            raise HensaError('the ledger needs duckdb; install it with: pip install "hensa[ledger]"') from missing
        with ExitStack() as stack:
            # Only this user reads it, and it goes when the block ends.
            directory = stack.enter_context(TemporaryDirectory(prefix="hensa-"))
            self._db = duckdb.connect(
                os.path.join(directory, "ledger.duckdb"),
                config={
                    "autoinstall_known_extensions": "false",
                    "autoload_known_extensions": "false",
                    "memory_limit": MEMORY,
                    "preserve_insertion_order": "false",
                    "temp_directory": directory,
                    "threads": str(self._threads),
                },
            )
            stack.callback(self._db.close)
            self._worker = stack.enter_context(ThreadPoolExecutor(1))
            self._run("SET enable_progress_bar = false")  # which would be on standard output
            # From here on DuckDB opens no file but its own and no connection: all data comes and goes as Arrow.
            self._run("SET enable_external_access = false")
            if not self._one("SELECT count(*) FROM pg_timezone_names() WHERE name = ?", [self._zone])[0]:
                raise HensaError(f"zone is {self._zone!r}; it must be a name of the IANA database, such as Asia/Tokyo.")
            self._run(f"SET TimeZone = {_literal(self._zone)}")  # of text without an offset
            self._run("SET lock_configuration = true")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        del self._db  # or DuckDB complains at exit of what it has not let go

    @property
    def report(self) -> dict[str, Any]:
        """What was counted and found, for JSON."""
        return {
            "month": self._month,
            "zone": self._zone,
            "counts": self.counts,
            "findings": {name: asdict(finding) for name, finding in self.findings.items()},
        }

    def read_members(self, members: Any, started: Callable[[int | None], Callable[[int], None]] | None = None) -> None:
        """Take in the registrations: see `referrer_rows`.

        Parameters
        ----------
        members : object
            See `referrer_rows`.
        started : callable, optional
            Is told the number of rows, or None; what it returns is told the number of each part.
        """
        source = _Source(members, "members", self._mapping, _MEMBERS, self._members)
        with _about(source.label):
            types = source.types
            numbers = all(not _is_text(types[name]) for name in ("member_id", "referrer_id"))
            # The ids of a CSV file are integers until one is not.
            self._key = "BIGINT" if numbers or source.is_csv else "VARCHAR"
            try:
                self._read_registrations(source, started)
            except DataError as error:
                if not source.is_csv or str(error) != _NO_INTEGER:
                    raise
                self._key = "VARCHAR"
                self._read_registrations(source, started)
            self._find("spelled_nulls", source.spelled)
            self._settle_members()
            self._stop_if_strict()

    def _read_registrations(self, source: "_Source", started: Any) -> None:
        types, names = source.types, source.names
        ids = [_id(name, types[name], self._key, names[name], _NO_INTEGER) for name in ("member_id", "referrer_id")]
        by_banner = "true"  # for all that is known
        if "channel" in types:
            _require_text(source, "channel")
            nearly = _nearly("channel", names["channel"], ["banner"], self._mapping.channels)
            by_banner = (
                f"CASE WHEN channel IN ({_spelled('banner', self._mapping.channels)}) THEN true {nearly} ELSE false END"
            )
        self._scan(
            source,
            started,
            "registrations",
            f"""
            -- One row for each different registration, and how many there are of it.
            WITH parsed AS (
                SELECT {ids[0]} AS member_id, {ids[1]} AS referrer_id, registered_at,
                    {self._wall("registered_at", source)} AS wall, {by_banner} AS by_banner
                FROM source
            ),
            checked AS (
                SELECT member_id, referrer_id, by_banner,
                    {_checked_time("registered_at", "wall", names["registered_at"])} AS registered_at
                FROM parsed
            )
            SELECT *, count(*) AS copies FROM checked GROUP BY ALL
            """,
        )

    def _settle_members(self) -> None:
        """One registration for each member, one referrer at most, and nobody their own."""
        rows, without_id = self._one("SELECT sum(copies), sum(copies) FILTER (member_id IS NULL) FROM registrations")
        self.counts["registrations"] = int(rows or 0)
        self._find("members_without_id", without_id)
        self._find(
            "duplicate_members",
            *self._one(
                "SELECT sum(copies - 1), min(member_id) FROM registrations WHERE copies > 1 AND member_id IS NOT NULL"
            ),
        )
        self._run("""
            -- Of different registrations of a member the earliest holds, then the one of the lowest referrer, then one
            -- by a banner: whatever the order of the rows.
            CREATE TABLE members AS
            SELECT member_id, referrer_id, registered_at, by_banner, count(*) OVER (PARTITION BY member_id) AS versions
            FROM registrations
            WHERE member_id IS NOT NULL
            QUALIFY row_number() OVER (
                PARTITION BY member_id ORDER BY registered_at NULLS LAST, referrer_id NULLS LAST, by_banner DESC
            ) = 1
        """)
        self._find(
            "conflicting_members",
            *self._one("SELECT sum(versions - 1), min(member_id) FROM members WHERE versions > 1"),
        )
        self._find(
            "members_without_date",
            *self._one("SELECT count(*), min(member_id) FROM members WHERE registered_at IS NULL"),
        )
        self._find(
            "self_referrals", *self._one("SELECT count(*), min(member_id) FROM members WHERE member_id = referrer_id")
        )
        self._run(f"""
            -- Who was brought by whom, and whether in the previous month or by the end of it.
            CREATE TABLE friends AS
            SELECT member_id AS friend_id, referrer_id, registered_at, by_banner,
                coalesce(registered_at < {self._starts[1]}, false) AS by_then,
                by_then AND registered_at >= {self._starts[0]} AS new
            FROM members
            WHERE referrer_id <> member_id
        """)
        # Only who brought somebody and was brought by a friend of somebody can be on a circle.
        links = self._stream("""
            SELECT friend_id, referrer_id
            FROM friends
            WHERE friend_id IN (SELECT referrer_id FROM friends) AND referrer_id IN (SELECT friend_id FROM friends)
        """).read_all()
        circular = (
            links["friend_id"]
            .combine_chunks()
            .filter(on_circles(links["friend_id"].combine_chunks(), links["referrer_id"].combine_chunks()))
        )
        self._find("circular_referrals", len(circular), pc.min(circular).as_py())
        if len(circular):
            table = pa.table({"friend_id": circular})
            self._waited(lambda: self._db.register("circular", table))
            self._run("DELETE FROM friends WHERE friend_id IN (SELECT friend_id FROM circular)")
            self._db.unregister("circular")
        self._find(
            "unknown_referrers",
            *self._one("""
                SELECT count(DISTINCT referrer_id), min(referrer_id)
                FROM friends
                WHERE referrer_id NOT IN (SELECT member_id FROM members)
            """),
        )
        self.counts["members"] = self._one("SELECT count(*) FROM members")[0]
        self.counts["friends"] = self._one("SELECT count(*) FROM friends")[0]

    def read_passbook(
        self, passbook: Any, started: Callable[[int | None], Callable[[int], None]] | None = None
    ) -> None:
        """Take in the entries: see `referrer_rows`, and `read_members` for `started`."""
        source = _Source(passbook, "passbook", self._mapping, *self._passbook)
        with _about(source.label):
            self._read_entries(source, started)
            self._find("spelled_nulls", source.spelled)
            self._settle_entries()
            self._stop_if_strict()

    def _read_entries(self, source: "_Source", started: Any) -> None:
        types, names = source.types, source.names
        previous, start, end = self._starts
        cells = {"points": _whole("points", types["points"], names["points"])}
        kept = ["member_id", "points", *(name for name in ("used_at", "entered_at", "judged_at") if name in types)]
        if self._key == "BIGINT" and _is_text(types["member_id"]):
            number = _id("member_id", types["member_id"], self._key, names["member_id"])
            cells["stranger"] = f"CASE WHEN ({number}) IS NULL THEN member_id END"
            kept.append("stranger")
        self._has_entry_ids = "entry_id" in types
        if self._has_entry_ids:
            cells["entry_id"] = "entry_id::VARCHAR"
            kept.append("entry_id")
        self._scan(
            source,
            started,
            "entries",
            f"""
            -- One row for each different entry that counts, and how many there are of it; one for each reason not to
            -- count.
            WITH {self._told(source, ["ad"], cells)},
            dated AS (
                SELECT *,
                    state IN ('valid', 'pending')
                        AND coalesce(used_at >= {previous} AND used_at < {start}, false) AS used,
                    state = 'valid' AND points IS NOT NULL
                        AND coalesce(judged_at >= {start} AND judged_at < {end}, false) AS paid,
                    state = 'valid' AND (judged_at IS NULL OR points IS NULL) AS unjudged,
                    CASE WHEN NOT (used OR paid) THEN coalesce(judged_at, used_at)::DATE END AS day,
                    date_trunc('month', day)::DATE AS other_month
                FROM told
            )
            SELECT
                CASE WHEN used OR paid OR state NOT IN ('valid', 'pending') THEN state ELSE 'other months' END AS fate,
                used, paid, unjudged, other_month,
                {_each({name: f"CASE WHEN used OR paid THEN {name} END" for name in kept})},
                count(*) AS copies
            FROM dated
            GROUP BY ALL
            """,
        )

    def _told(self, source: "_Source", kinds: Sequence[str], cells: Mapping[str, str]) -> str:
        """The entries in SQL, as common table expressions of which the last is named told.

        It has the state of each entry, its kind in our words, its member and times, and `cells`. Only entries of these
        kinds that are not rejected are read beyond their kind and status.
        """
        types, names = source.types, source.names
        for name in ("kind", "status"):
            _require_text(source, name)
        ours = "\n".join(
            f"WHEN kind IN ({_spelled(kind, self._mapping.kinds)}) THEN {_literal(kind)}" for kind in kinds
        )
        renamed = {
            value: status
            for status, values in msgspec.structs.asdict(self._mapping.statuses).items()
            for value in values
        }
        statuses = {value: renamed.get(value, value) for value in (*_STATUSES, *renamed)}
        pending, valid, rejected = (
            _literals([value for value, status in statuses.items() if status == wanted]) for wanted in _STATUSES
        )
        allowed = f"{', '.join(map(repr, statuses))}, or others that a mapping names"
        times = [name for name in ("used_at", "entered_at", "judged_at") if name in types]
        self._run(f"CREATE TYPE fate AS ENUM ({_literals(_FATES)})")
        opened = {
            name: f"CASE WHEN state IN ('valid', 'pending') THEN {name} END"
            for name in types
            if name not in ("kind", "status")
        }
        parsed = {
            "member_id": _id("member_id", types["member_id"], self._key, names["member_id"]),
            **{f"{name}_wall": self._wall(name, source) for name in times},
            **cells,
        }
        checked = {name: _checked_time(name, f"{name}_wall", names[name]) for name in times}
        return f"""
            kinds AS (
                SELECT *, CASE {ours}
                    {_nearly("kind", names["kind"], kinds, self._mapping.kinds)}
                END AS ours
                FROM source
            ),
            states AS (
                SELECT *, CASE
                    WHEN member_id IS NULL OR kind IS NULL THEN 'incomplete'
                    WHEN ours IS NULL THEN 'other kind'
                    WHEN status IS NULL THEN 'incomplete'
                    WHEN status IN ({valid}) THEN 'valid'
                    WHEN status IN ({pending}) THEN 'pending'
                    WHEN status IN ({rejected}) THEN 'rejected'
                    ELSE {_refusal(names["status"], "status", allowed)}
                END::fate AS state
                FROM kinds
            ),
            opened AS (
                SELECT state, ours, {_each(opened)}
                FROM states
            ),
            parsed AS (
                SELECT state, ours, {", ".join(times)}, {_each(parsed)} FROM opened
            ),
            told AS (
                SELECT * REPLACE ({_each(checked)}) FROM parsed
            )"""

    def _settle_entries(self) -> None:
        """Equal entries once, and points by member."""
        fates = dict(self._run("SELECT fate::VARCHAR, sum(copies)::BIGINT FROM entries GROUP BY fate"))
        self.counts["entries"] = sum(fates.values())
        self.counts["entries, no ad"] = fates.get("other kind", 0)
        for fate in ("rejected", "other months"):
            self.counts[f"entries, {fate}"] = fates.get(fate, 0)
        self.counts["entries, counted"] = fates.get("valid", 0) + fates.get("pending", 0)
        self._find_kinds(fates)
        self._find("unjudged_entries", *self._one("SELECT sum(copies), min(member_id) FROM entries WHERE unjudged"))
        self._find(
            "duplicate_entries",
            *self._one("SELECT sum(copies - 1), min(member_id) FROM entries WHERE copies > 1 AND (used OR paid)"),
        )
        if self._has_entry_ids:
            self._find(
                "repeated_entries",
                *self._one("""
                    SELECT sum(versions - 1), min(member_id)
                    FROM (
                        SELECT member_id, count(*) AS versions
                        FROM entries
                        WHERE entry_id IS NOT NULL -- it is kept of what counts
                        GROUP BY member_id, entry_id
                    )
                    WHERE versions > 1
                """),
            )
        self._run("""
            -- Sums of at most 2**63 times the number of entries, which is below 2**64: a HUGEINT holds them.
            CREATE TABLE activity AS
            SELECT member_id, bool_or(used) AS used, sum(points) FILTER (paid) AS points, count(*) AS entries
            FROM entries
            WHERE used OR paid
            GROUP BY member_id
        """)
        self._find(
            "unknown_entries",
            *self._one("""
                SELECT sum(entries), min(member_id)
                FROM activity
                WHERE member_id IS NULL
                    OR member_id NOT IN (SELECT member_id FROM members UNION ALL SELECT referrer_id FROM friends)
            """),
        )
        self._find_far_entries()

    def _find_kinds(self, fates: Mapping[str, int]) -> None:
        """Entries without what tells their kind, and whether none is of a kind that counts."""
        self._find("incomplete_entries", fates.get("incomplete"))
        if fates.keys() <= {"other kind", "incomplete"}:
            self._find("other_kinds", fates.get("other kind"))

    def _find_far_entries(self) -> None:
        """Whether no entry is of the month that is paid, as when it is mistyped."""
        _, start, _ = self._starts
        reached, count, first, last = self._one(f"""
            WITH months AS (
                SELECT copies, coalesce(other_month, date_trunc('month', coalesce(judged_at, used_at))::DATE) AS month
                FROM entries
            )
            SELECT bool_or(month = {start}), sum(copies) FILTER (month IS NOT NULL),
                strftime(min(month), '%Y-%m'), strftime(max(month), '%Y-%m')
            FROM months
        """)
        if not reached:
            self._find("far_entries", count, first if first == last else f"{first} to {last}")

    def count(self) -> None:
        """Count the rows."""
        with _about("ledger"):
            self._run(f"CREATE TABLE counted AS {self._rows_in_sql()}")
        self.counts[self.counted] = self._one("SELECT count(*) FROM counted")[0]

    def _rows_in_sql(self) -> str:
        def whole(name: str) -> str:
            message = f"{_REFUSED}{name} of the referrer "
            return f"""coalesce(
                TRY_CAST({name} AS BIGINT),
                error({_literal(message)} || referrer_id || ' is ' || {name} || ', which is beyond int64')
            )"""

        return f"""
            WITH totals AS (
                SELECT referrer_id,
                    count(*) FILTER (new) AS new_referrals,
                    count(*) FILTER (by_then AND used) AS ad_users,
                    coalesce(sum(points), 0) AS friend_points,
                    count(*) FILTER (by_then) AS cumulative_referrals
                FROM friends LEFT JOIN activity ON friend_id = member_id
                GROUP BY referrer_id
                HAVING cumulative_referrals > 0
            ),
            rows AS (
                SELECT totals.*, coalesce(points, 0) AS own_points
                FROM totals LEFT JOIN activity ON referrer_id = member_id
            )
            -- A cast that does not fit is an error.
            SELECT referrer_id, new_referrals::INTEGER AS new_referrals, ad_users::INTEGER AS ad_users,
                {whole("friend_points")} AS friend_points,
                cumulative_referrals::INTEGER AS cumulative_referrals,
                {whole("own_points")} AS own_points
            FROM rows
        """

    def rows(self) -> pa.RecordBatchReader:
        """The rows by ascending id, a batch at a time, for as long as the block lasts."""
        is_text = self._key == "VARCHAR"
        fields = [pa.field(f.name, pa.string()) if is_text and f.name.endswith("_id") else f for f in self._schema]
        schema = pa.schema(fields, {KEY: json.dumps(self.report)})
        found = self._stream(f"SELECT * FROM counted ORDER BY {schema.names[0]}")
        return pa.RecordBatchReader.from_batches(
            schema, (pa.RecordBatch.from_arrays(part.columns, schema=schema) for part in found)
        )

    # ---- between Python and DuckDB

    def _one(self, sql: str, parameters: Sequence[Any] = ()) -> tuple[Any, ...]:
        return self._run(sql, parameters)[0]

    def _run(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self._waited(lambda: self._db.execute(sql, parameters).fetchall())

    def _stream(self, sql: str) -> pa.RecordBatchReader:
        return self._waited(lambda: pa.RecordBatchReader.from_stream(self._db.sql(sql)))

    def _waited(self, work: Callable[[], T]) -> T:
        """What DuckDB does, with its errors as ours.

        It is done in another thread: a signal, which interrupts this one, ends it at once and by its own exception.
        """
        import duckdb

        future = self._worker.submit(work)
        try:
            return future.result()
        except duckdb.InvalidInputException as error:
            _, refused, message = str(error).partition(_REFUSED)
            if not refused:
                raise HensaError(sentence(error)) from error
            raise DataError(sentence(DataError(message))) from None
        except duckdb.Error as error:
            raise HensaError(sentence(error)) from error
        finally:
            if not future.done():
                self._ended = True
                self._db.interrupt()
                wait([future])
            del future  # its exception holds this frame: a circle that would keep the connection until Python ends

    def _find(self, name: str, count: int | None, example: Any = None) -> None:
        if count:
            earlier = self.findings.get(name, Finding(0)).count
            self.findings[name] = Finding(earlier + int(count), example)

    def _stop_if_strict(self) -> None:
        if self._strict and self.findings:
            found = "; ".join(
                f"{finding.count:,} {name}" + (f" (such as {finding.example!r})" if finding.example is not None else "")
                for name, finding in self.findings.items()
            )
            raise DataError(f"a strict run ends at what is messy: {found}.")

    def _wall(self, name: str, source: "_Source") -> str:
        """A time as the clocks of the zone show it; null if it is none."""
        type_ = source.types[name]
        zone = _literal(self._zone)
        if _is_text(type_):  # without an offset it is in the zone of the session
            return f"timezone({zone}, TRY_CAST({name} AS TIMESTAMPTZ))"
        if pa.types.is_timestamp(type_) and type_.tz is not None:
            return f"timezone({zone}, {name})"
        fits = pa.types.is_timestamp(type_) or pa.types.is_date(type_) or pa.types.is_null(type_)
        _require(fits, source.names[name], type_, "timestamps, dates or text")
        return f"TRY_CAST({name} AS TIMESTAMP)"

    def _scan(self, source: "_Source", started: Any, table: str, select: str) -> None:
        """Fill a table with what is selected from the source."""
        reader, n_rows = source.open()
        advance = started(n_rows) if started else lambda _: None
        fault: list[BaseException] = []
        reading = Lock()

        def parts() -> Iterator[pa.RecordBatch]:
            try:
                while True:
                    with reading:
                        part = next(reader, None)
                    if part is None or self._ended:
                        return
                    yield part
                    advance(part.num_rows)
            except GeneratorExit:  # nobody wants more
                raise
            except BaseException as error:  # also Ctrl-C, on a thread of DuckDB
                fault.append(error)
                raise

        try:
            self._select_into(table, select, pa.RecordBatchReader.from_batches(reader.schema, parts()), reading)
        except HensaError as error:
            if fault:
                raise fault[0] from None  # before DuckDB put it in words of its own
            if isinstance(error, DataError) and str(error) != _NO_INTEGER and source.is_there_again:
                self._refuse_first(source, table, select)
            raise

    def _select_into(self, table: str, select: str, rows: pa.RecordBatchReader | pa.Table, reading: Lock) -> None:
        try:
            self._waited(lambda: self._db.register("source", rows))
            self._run(f"CREATE OR REPLACE TABLE {table} AS {select}")
        finally:
            with reading:  # after an interruption a thread of DuckDB may still be at it
                self._db.unregister("source")

    def _refuse_first(self, source: "_Source", table: str, select: str) -> None:
        """Raise what is refused of the first row of which something is, with that row.

        Of many rows, read side by side, it is any one that is met first.
        """

        def refused(rows: pa.RecordBatch) -> str:
            try:
                self._select_into(table, select, pa.Table.from_batches([rows]), Lock())
            except DataError as error:
                return str(error)
            return ""

        start = 0
        for part in source.open()[0]:
            if told := refused(part):
                low, high = 0, part.num_rows  # that row lies from low to high - 1
                while high - low > 1:
                    middle = (low + high) // 2
                    low, high = (low, middle) if refused(part.slice(low, middle - low)) else (middle, high)
                told = refused(part.slice(low, 1)) or told
                raise DataError(told if told == _NO_INTEGER else f"{source.row(start + low)}, {told}")
            start += part.num_rows


class FriendLedger(Ledger):
    """`friend_rows` step by step, as `Ledger` is `referrer_rows`."""

    counted = "friends, counted"
    _schema = _FRIEND_ROWS
    _members = ("channel",)
    _passbook = ("member_id", "kind", "status", "used_at", "entered_at", "judged_at"), ()

    def _settle_members(self) -> None:
        super()._settle_members()
        self.counts["friends, by a banner"] = self._one("SELECT count(*) FROM friends WHERE by_banner")[0]

    def _read_entries(self, source: "_Source", started: Any) -> None:
        # Joined when all are there: of a stream DuckDB does not know that it has more rows than there are friends.
        self._scan(
            source,
            started,
            "entries",
            f"""
            WITH {self._told(source, ["ad", "exchange"], {})}
            SELECT state, ours = 'ad' AS is_ad, member_id, used_at, entered_at, judged_at FROM told
            """,
        )

    def _settle_entries(self) -> None:
        """What counts of each friend; equal entries count like one."""
        self._run(f"""
            CREATE TABLE activity AS
            WITH joined AS (
                SELECT *, CASE
                    WHEN state NOT IN ('valid', 'pending') THEN state::VARCHAR
                    WHEN friend_id IS NULL THEN 'of others'
                    WHEN used_at IS NULL OR (is_ad AND entered_at IS NULL) THEN 'undated'
                    ELSE 'counted'
                END AS fate
                FROM entries LEFT JOIN friends ON friend_id = member_id
            )
            SELECT fate, friend_id,
                -- Whoever used an ad by then used the first one by then. That it is counted when the first of them was
                -- entered, whichever was used first, leaves nothing for a later month to pay again.
                min(entered_at) FILTER (
                    is_ad AND by_banner AND used_at::DATE - registered_at::DATE BETWEEN 0 AND {_DAYS}
                ) AS early_ad,
                min(used_at) FILTER (NOT is_ad) AS exchange,
                min(judged_at) FILTER (is_ad AND state = 'valid') AS valid_ad,
                count(*) FILTER (is_ad AND state = 'valid' AND judged_at IS NULL) AS unjudged,
                count(*) AS entries
            FROM joined
            GROUP BY fate, friend_id
        """)
        fates = dict(self._run("SELECT fate, sum(entries)::BIGINT FROM activity GROUP BY fate"))
        self.counts["entries"] = sum(fates.values())
        for fate in ("other kind", "rejected", "of others", "counted"):
            self.counts[f"entries, {fate}"] = fates.get(fate, 0)
        self._find_kinds(fates)
        self._find(
            "undated_entries",
            *self._one("SELECT sum(entries), min(friend_id) FROM activity WHERE fate = 'undated'"),
        )
        self._find(
            "unjudged_entries",
            *self._one("SELECT sum(unjudged), min(friend_id) FROM activity WHERE fate = 'counted' AND unjudged > 0"),
        )

    def _rows_in_sql(self) -> str:
        _, start, end = self._starts

        def counts(time: str, days: int = 0) -> str:
            late = f"INTERVAL {days} DAY"
            return f"coalesce({time} >= {start} - {late} AND {time} < {end} - {late}, false)::INTEGER"

        return f"""
            SELECT friends.friend_id, referrer_id,
                {counts("registered_at")} AS registrations,
                {counts("early_ad")} AS early_first_ads,
                {counts("exchange", _DAYS)} AS first_exchanges,
                {counts("valid_ad")} AS first_valid_ads
            FROM friends LEFT JOIN activity ON friends.friend_id = activity.friend_id AND fate = 'counted'
            WHERE registrations + early_first_ads + first_exchanges + first_valid_ads > 0
        """


def on_circles(friends: pa.Array, referrers: pa.Array) -> pa.Array:
    """Which friends come back to themselves when one goes from friend to referrer again and again.

    `friends` are different from each other. Every step list is doubled until it is as long as there are friends: by
    then all have left through a referrer who is no friend, or go round a circle, and each friend on a circle is
    reached by the one as many steps back.
    """
    n = len(friends)
    steps = np.append(pc.index_in(referrers, value_set=friends).fill_null(n).to_numpy(zero_copy_only=False), n)
    for _ in range(n.bit_length()):
        if (steps == n).all():
            break
        steps = steps[steps]
    reached = np.zeros(n + 1, dtype=bool)
    reached[steps] = True
    return pa.array(reached[:n])


class _Source:
    """Members or a passbook, with its columns under our names."""

    def __init__(
        self, rows: Any, label: str, mapping: _Mapping, needed: Sequence[str], optional: Sequence[str] = ()
    ) -> None:
        self._rows = rows
        self._path = os.fspath(rows) if isinstance(rows, str | os.PathLike) else None
        self.label = label if self._path is None else "standard input" if self._path == "-" else self._path
        self.is_csv = self._path is not None and self._path.lower().endswith((".csv", ".csv.gz"))
        columns = getattr(mapping, label)
        self._wanted = {name: getattr(columns, name) for name in (*needed, *optional)}
        self._optional = {name for name in optional if self._wanted[name] == name}
        self._nulls = pa.array([*_NULLS, *(text.strip().lower() for text in mapping.nulls)])
        self.spelled = 0
        """How many cells of the rows that were read spelled a null."""
        self.names: dict[str, str] = {}
        """The columns that there are: our names, theirs."""
        with _about(self.label):
            self._opened: tuple[pa.RecordBatchReader, int | None] | None = self._open()
        schema = self._opened[0].schema
        self.types: dict[str, pa.DataType] = {name: schema.field(name).type for name in self.names}

    @property
    def is_there_again(self) -> bool:
        """Whether the rows can be read more than once."""
        return self._path != "-" and not isinstance(self._rows, pa.RecordBatchReader)

    def row(self, number: int) -> str:
        """A row by its number and, of CSV, its line."""
        row = f"row {number}"
        return with_lines(row, open_text(self._path)) if self.is_csv and self._path else row

    def open(self) -> tuple[pa.RecordBatchReader, int | None]:
        """The rows, and their number if it is known; files may be opened again."""
        opened, self._opened = self._opened or self._open(), None
        self.spelled = 0
        return opened

    def _open(self) -> tuple[pa.RecordBatchReader, int | None]:
        n_rows: int | None = None
        if self._path is not None:
            if self._path != "-":
                Path(self._path).open("rb").close()  # says why a file cannot be read more briefly than pyarrow
            reader, n_rows = batches(self._path, self._pick)
        elif isinstance(self._rows, pa.RecordBatchReader):
            self._pick(self._rows.schema.names)
            reader = self._rows
        else:
            table = self._rows = table_of(self._rows)  # a stream is given but once
            table = pa.table({name: column_of(table, name) for name in self._pick(table.column_names)})
            reader, n_rows = table.to_reader(BATCH), table.num_rows
        fields = {name: reader.schema.field(theirs) for name, theirs in self.names.items()}
        schema = pa.schema([(name, _plain(field.type)) for name, field in fields.items()])

        def parts() -> Iterator[pa.RecordBatch]:
            for part in reader:
                for start in range(0, part.num_rows, BATCH):
                    piece = part.slice(start, BATCH)
                    columns = [self._clean(piece.column(field.name)) for field in fields.values()]
                    yield pa.RecordBatch.from_arrays(columns, schema=schema)

        return pa.RecordBatchReader.from_batches(schema, parts()), n_rows

    def _clean(self, column: pa.Array) -> pa.Array:
        """The column in a type for DuckDB, with nulls for what spells one."""
        column = _as_plain(column)
        if _is_text(column.type):
            values = column.dictionary if pa.types.is_dictionary(column.type) else column
            spelled = pc.is_in(pc.utf8_lower(pc.utf8_trim_whitespace(values)), value_set=self._nulls.cast(values.type))
            if values is not column:
                spelled = spelled.take(column.indices) if pc.any(spelled).as_py() else pa.array([False])
        elif pa.types.is_floating(column.type):
            spelled = pc.is_nan(column)
        else:
            return column
        if not pc.any(spelled).as_py():
            return column
        self.spelled += pc.sum(spelled).as_py()
        return pc.if_else(spelled, pa.scalar(None, column.type), column)

    def _pick(self, there: list[str]) -> list[str]:
        self.names = {}
        for name, theirs in self._wanted.items():
            if there.count(theirs) == 1:
                self.names[name] = theirs
            elif theirs in there or name not in self._optional:
                have = ", ".join(map(repr, there[:20])) or "none"
                raise DataError(
                    f"found {there.count(theirs)} columns named {theirs!r}, where exactly one is needed (there are "
                    f"{have}); a mapping may name another."
                )
        return list(dict.fromkeys(self.names.values()))


def starts_of(month: str) -> tuple[str, str, str]:
    """The beginnings of the previous month, the month and the next one, in SQL.

    Raises
    ------
    HensaError
        `month` is none.
    """
    if not isinstance(month, str) or not re.fullmatch(r"[1-9][0-9]{3}-(0[1-9]|1[0-2])", month) or month in _EDGES:
        raise HensaError(f"month is {month!r}; it must be a year and a month from 1000-02 to 9999-11, such as 2019-10.")
    first = 12 * int(month[:4]) + int(month[5:]) - 1
    before, start, after = (f"TIMESTAMP '{m // 12:04}-{m % 12 + 1:02}-01'" for m in (first - 1, first, first + 1))
    return before, start, after


_EDGES = ("1000-01", "9999-12")


@contextmanager
def _about(label: str) -> Iterator[None]:
    """Make errors start with the input that they are about."""
    try:
        yield
    except pa.ArrowCancelled:
        raise
    except (HensaError, OSError, pa.ArrowException, UnicodeError, EOFError, zlib.error, msgspec.MsgspecError) as error:
        message = str(error) if isinstance(error, HensaError) else sentence(error)
        if isinstance(error, pa.ArrowInvalid) and label.lower().endswith((".csv", ".csv.gz")):
            message = f"{fault}." if (fault := csv_fault(open_text(label), ())) else message
        kind = DataError if isinstance(error, DataError | pa.ArrowException) else HensaError
        raise kind(message if message.startswith(label) else f"{label}: {message}") from error


# ---- columns in SQL: what arrives are names of ours, never of others


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _literals(texts: Sequence[str]) -> str:
    return ", ".join(map(_literal, texts)) or "''"  # which no cell holds, as it spells a null


def _spelled(word: str, groups: Mapping[str, Sequence[str]]) -> str:
    """Which values of a column mean this word of ours."""
    meanings = {value: ours for ours, values in groups.items() for value in values}
    return _literals([value for value in {word: 0} | meanings if meanings.get(value, value) == word])


def _nearly(name: str, theirs: str, words: Sequence[str], groups: Mapping[str, Sequence[str]]) -> str:
    """A branch of a CASE that refuses what is a word of ours but for its case and blanks, unless a mapping names it."""
    named = [value for values in groups.values() for value in values]
    allowed = f"{', '.join(map(repr, words))} as it is here, words unlike that, or what a mapping names"
    return f"""
        WHEN lower(trim({name}::VARCHAR)) IN ({_literals(words)}) AND {name}::VARCHAR NOT IN ({_literals(named)})
        THEN {_refusal(theirs, name, allowed)}"""


def _each(expressions: Mapping[Any, str]) -> str:
    return ", ".join(f"{expression} AS {name}" for name, expression in expressions.items())


def _is_text(type_: pa.DataType) -> bool:
    if pa.types.is_dictionary(type_):
        return _is_text(type_.value_type)
    return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_))


def _plain(type_: pa.DataType) -> pa.DataType:
    """The type as which a column is handed over: one that every release of DuckDB takes, without loss."""
    type_ = plain_type(type_)
    if pa.types.is_dictionary(type_) and not _is_text(type_):
        return _plain(type_.value_type)
    if pa.types.is_timestamp(type_) and type_.unit == "ns":
        return pa.timestamp("us", type_.tz)
    return type_


def _as_plain(column: pa.Array) -> pa.Array:
    if pa.types.is_timestamp(column.type) and column.type.unit == "ns":
        column = pc.floor_temporal(column, unit="microsecond")  # the cast would round what is before 1970 up
    plain = _plain(column.type)
    return column if column.type == plain else column.cast(plain)


def _require(fits: bool, theirs: str, type_: pa.DataType, allowed: str) -> None:
    if not fits:
        raise DataError(f"column {theirs!r} is of type {type_}; allowed: {allowed}.")


def _require_text(source: "_Source", name: str) -> None:
    type_ = source.types[name]
    _require(_is_text(type_) or pa.types.is_null(type_), source.names[name], type_, "text")


def _refusal(theirs: str, name: str, allowed: str) -> str:
    """An expression that ends the statement with an error about the value of a column."""
    before, after = f"{_REFUSED}column {theirs!r}: found ", f"; allowed: {allowed}"
    return f"error({_literal(before)} || '''' || left({name}::VARCHAR, 80) || '''' || {_literal(after)})"


def _id(name: str, type_: pa.DataType, key: str, theirs: str, refusal: str | None = None) -> str:
    """An id as the key that members have; text that is no plain integer is no id where these are, or refused."""
    if not _is_text(type_):
        number = _whole(name, type_, theirs, "integers or text")
        return number if key == "BIGINT" else f"({number})::VARCHAR"
    if key == "VARCHAR":
        return name
    other = f"error({_literal(_REFUSED + refusal)})" if refusal else "NULL"
    # 007 and +7 are text that is not 7.
    return f"""CASE
        WHEN {name} IS NULL THEN NULL
        WHEN TRY_CAST({name} AS BIGINT)::VARCHAR = {name} THEN TRY_CAST({name} AS BIGINT)
        ELSE {other}
    END"""


def _whole(name: str, type_: pa.DataType, theirs: str, allowed: str = "whole numbers within int64") -> str:
    """A column as BIGINT, exactly or not at all."""
    if pa.types.is_null(type_):
        return "NULL::BIGINT"
    if _is_text(type_):
        number = f"""CASE
            WHEN regexp_full_match({name}, '\\s*[+-]?[0-9]+([.]0*)?\\s*')
            THEN TRY_CAST(split_part({name}, '.', 1) AS BIGINT)
        END"""
    elif pa.types.is_integer(type_):
        number = f"TRY_CAST({name} AS BIGINT)"
    elif pa.types.is_decimal128(type_):
        number = f"CASE WHEN {name} % 1 = 0 THEN TRY_CAST({name} AS BIGINT) END"
    else:
        _require(pa.types.is_floating(type_), theirs, type_, allowed)
        # Up to 2**53 a float that is whole is the number that was meant.
        number = f"CASE WHEN abs({name}) <= 9007199254740992 AND {name} = trunc({name}) THEN {name}::BIGINT END"
    return f"CASE WHEN {name} IS NOT NULL THEN coalesce({number}, {_refusal(theirs, name, allowed)}) END"


def _checked_time(name: str, wall: str, theirs: str) -> str:
    """The wall clock of a column, or a refusal of what is no time."""
    allowed = "dates and times such as 2019-10-01, 2019-10-01 09:00:00 or 2019-10-01T09:00:00+09:00"
    return f"""CASE
        WHEN {name} IS NULL THEN NULL
        WHEN isfinite({wall}) AND {wall} >= TIMESTAMP '1000-01-01' THEN {wall}
        ELSE {_refusal(theirs, name, allowed)}
    END"""
