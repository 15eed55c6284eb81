"""Ranking events: boards, ties, prizes, and the compensation of those who entered."""

import datetime
import os
from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hensa.checked import MOST_POINTS, Checked, Invalid, convert, document_of, read_toml, refuse, shown
from hensa.columns import cast_column, column_of, integers_of, table_of
from hensa.errors import DataError, ProgramError
from hensa.ids import identify, ids_of, naming_table, order_of, refuse_repeats, unique_order_of

__all__ = ["Board", "Compensation", "Event", "Prize", "compensate", "entered_by", "rank"]

Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

_RESULTS = ("board", "rank", "prize", "flat", "boards", "points")
_NANOSECONDS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
_EPOCH = datetime.datetime(1970, 1, 1)


def _whole(struct: Checked, key: str, least: int) -> None:
    """Refuse a number that is not from `least` to the most points."""
    value = getattr(struct, key)
    if value is not None and not least <= value <= MOST_POINTS:
        refuse(key, shown(value), f"a whole number from {least} to {MOST_POINTS}")


class Prize(Checked, frozen=True, kw_only=True):
    """What the ranks from `first` to `last` are paid.

    Parameters
    ----------
    first : int
        The best of the ranks, from 1.
    last : int, optional
        The worst of them; the first itself if it is left out.
    points : int
        Whole points for each place.

    Raises
    ------
    ProgramError
        If a value is not allowed.

    Examples
    --------
    >>> Prize(first=2, last=3, points=5000)
    Prize(first=2, last=3, points=5000)
    """

    first: int
    last: int | None = None
    points: int

    def __post_init__(self) -> None:
        super().__post_init__()
        _whole(self, "first", 1)
        _whole(self, "last", self.first)
        _whole(self, "points", 0)

    @property
    def end(self) -> int:
        """The last of the ranks."""
        return self.first if self.last is None else self.last


def _check_prizes(prizes: Sequence[Prize]) -> None:
    for index, (before, prize) in enumerate(pairwise(prizes), start=1):
        if prize.first <= before.end:
            found = f"the rank {prize.first} after {before.end}"
            refuse(f"prizes[{index}].first", found, "ranks that ascend and do not overlap")
    total = sum((prize.end - prize.first + 1) * prize.points for prize in prizes)
    if total > MOST_POINTS:
        refuse("prizes", f"{total} points in all", f"at most {MOST_POINTS}")


class Board(Checked, frozen=True):
    """One ranking of an event, of all entrants or of a class of them.

    Parameters
    ----------
    name : str
        Its name.
    least, most : int, optional
        The class column of those on the board lies from `least` to `most`, both included; None: no bound.
    prizes : tuple of Prize, optional
        Prizes of this board instead of the event's.

    Raises
    ------
    ProgramError
        If a value is not allowed.

    Examples
    --------
    >>> Board("light", most=9)
    Board(name='light', least=None, most=9, prizes=None)
    """

    name: str
    least: int | None = None
    most: int | None = None
    prizes: tuple[Prize, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _whole(self, "least", -MOST_POINTS)
        _whole(self, "most", -MOST_POINTS if self.least is None else self.least)
        _check_prizes(self.prizes or ())


class Compensation(Checked, frozen=True, kw_only=True):
    """What entrants are paid for a fault of the event.

    Parameters
    ----------
    entry_until : datetime.datetime
        Whoever had entered by then, this moment included, is paid `points`.
    points : int
        Whole points for each of them.
    top : int, optional
        Whoever is ranked up to this on a board is paid `board_points` for each such board, on top.
    board_points : int
        Whole points for each such board.

    Raises
    ------
    ProgramError
        If a value is not allowed.

    Examples
    --------
    >>> Compensation(entry_until=datetime.datetime(2020, 1, 5, 12), points=10_000).board_points
    0
    """

    entry_until: datetime.datetime
    points: int
    top: int | None = None
    board_points: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        _whole(self, "points", 0)
        _whole(self, "top", 1)
        _whole(self, "board_points", 0)
        if self.board_points and self.top is None:
            refuse("top", "nothing", "a whole number from 1, as board_points needs it")


class Event(Checked, frozen=True, kw_only=True, dict=True):
    """The rules of a ranking event.

    Parameters
    ----------
    name : str
        Short name.
    title : str
        What it is, in words.
    starts, ends : datetime.date, optional
        First and last day of the period that is counted. They are shown, not applied: the rows hold the counts.
    id_column : str
        The column that tells entrants apart.
    count_column : str
        What is ranked, the most first: a column of whole numbers of 0 or more.
    class_column : str, optional
        The column that the bounds of the boards are about; whole numbers.
    entry_column : str, optional
        When each row entered: dates, times or ISO 8601 text; null if it did not. Without it every row has entered.
    entry_until : datetime.datetime, optional
        Whoever entered later than this is not ranked.
    least_count : int
        The fewest that are ranked.
    ties : {"competition", "earliest_entry"}
        Equal counts share a rank and the ranks after them are left free (1, 2, 2, 4), or the earlier entry is ranked
        first and only equal entries share a rank.
    tied_prizes : {"each", "split"}
        What those who share a rank are paid: each the prize of that rank, even if there are more of them than prizes
        left; or equal parts, rounded down, of the prizes of all the places they fill, as in golf and poker, where
        places without a prize add nothing and what the rounding leaves over is not paid.
    boards : tuple of Board
        The rankings; one of all entrants, "overall", if they are left out.
    prizes : tuple of Prize
        By rank, ascending; ranks in none of them are paid nothing.
    compensation : Compensation, optional
        What `compensate` pays.

    Raises
    ------
    ProgramError
        If a value is not allowed; the text names its key, what was found and what is allowed.

    Examples
    --------
    >>> event = Event(name="spring", id_column="member", count_column="friends", prizes=[Prize(first=1, points=500)])
    >>> event.ties, [board.name for board in event.boards]
    ('competition', ['overall'])
    """

    name: str
    title: str = ""
    starts: datetime.date | None = None
    ends: datetime.date | None = None
    id_column: str
    count_column: str
    class_column: str | None = None
    entry_column: str | None = None
    entry_until: datetime.datetime | None = None
    least_count: int = 1
    ties: Literal["competition", "earliest_entry"] = "competition"
    tied_prizes: Literal["each", "split"] = "each"
    boards: tuple[Board, ...] = (Board("overall"),)
    prizes: tuple[Prize, ...] = ()
    compensation: Compensation | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.starts and self.ends and self.ends < self.starts:
            refuse("ends", self.ends, f"a date from {self.starts} (starts) on")
        _whole(self, "least_count", 0)
        columns = [f"{role}_column" for role in ("id", "count", "class", "entry")]
        for index, key in enumerate(columns):
            name = getattr(self, key)
            if name in _RESULTS or (name and name in [getattr(self, earlier) for earlier in columns[:index]]):
                refuse(key, shown(name), f"a column of its own, not named {', '.join(_RESULTS[:-1])} or {_RESULTS[-1]}")
        if self.entry_column is None:
            for key, used in (
                ("entry_until", self.entry_until is not None),
                ('ties = "earliest_entry"', self.ties == "earliest_entry"),
                ("compensation", self.compensation is not None),
            ):
                if used:
                    refuse("entry_column", "nothing", f"the name of a column, as {key} needs it")
        if not self.boards:
            refuse("boards", "an empty array", "at least one board, { name, least, most }")
        for index, board in enumerate(self.boards):
            if board.name in [earlier.name for earlier in self.boards[:index]]:
                refuse(f"boards[{index}].name", f"{shown(board.name)} again", "each name once")
            if self.class_column is None and not (board.least is None and board.most is None):
                refuse("class_column", "nothing", f"the name of a column, as the board {shown(board.name)} has bounds")
        _check_prizes(self.prizes)
        if self.compensation:
            most = self.compensation.points + len(self.boards) * self.compensation.board_points
            if most > MOST_POINTS:
                refuse("compensation", f"up to {most} points for one entrant", f"at most {MOST_POINTS}")

    @cached_property
    def numbers(self) -> tuple[str, ...]:
        """The columns that must be numbers."""
        return (self.count_column, *([self.class_column] if self.class_column else []))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read an event file.

        Parameters
        ----------
        path : str or os.PathLike
            A TOML file in UTF-8.

        Returns
        -------
        Event

        Raises
        ------
        ProgramError
            If the file cannot be read, or what it says is not allowed.
        """
        return read_toml(Path(path), os.fspath(path), cls.parse)

    @classmethod
    def parse(cls, toml_text: str) -> Self:
        """Read an event from TOML text.

        Parameters
        ----------
        toml_text : str
            The text.

        Returns
        -------
        Event

        Raises
        ------
        ProgramError
            If the text is not TOML or what it says is not allowed.

        Examples
        --------
        >>> event = Event.parse('''
        ...     name = "spring"
        ...     id_column = "member"
        ...     count_column = "friends"
        ...     prizes = [{ first = 1, points = 500 }, { first = 2, last = 10, points = 50 }]
        ... ''')
        >>> event.prizes[1].last
        10
        """
        document = document_of(toml_text, "an event")
        if "count_column" not in document and "rule" in document:
            raise ProgramError("found a program, which hensa score takes; allowed: the rules of an event.")
        try:
            event: Self = convert(cls, document, "")
        except Invalid as error:
            raise ProgramError(str(error)) from None
        return event


def rank(rows: Any, event: Event, top: int | None = None) -> pa.Table:
    """Rank the entrants on every board of an event.

    A row is ranked if it entered by the cut-off and counts at least `event.least_count`; it is on the boards whose
    bounds hold its class, and on those without bounds. A null count, or a null entry, is not ranked; a null class is on
    no board with bounds.

    Parameters
    ----------
    rows : object
        One row per entrant: anything with ``__arrow_c_stream__`` or ``__arrow_c_array__``, or a mapping of names to
        arrays.
    event : Event
        The rules.
    top : int, optional
        Only the ranks up to this, as a snapshot of the boards; everyone who shares the last of them is in it.

    Returns
    -------
    pyarrow.Table
        A row per board and ranked entrant: ``board`` (dictionary of string), ``rank`` (int64, 1 is the most), the id
        and count columns of the rows (ids that are text as large_string), and ``prize`` (int64, whole points). In the
        order of the boards, by rank, and by id where a rank is shared: the order of the rows does not matter.

    Raises
    ------
    DataError
        A column is missing or of a wrong type; an id is null or there twice; a count is negative or beyond int64; an
        entry is no time, or only one of the entries and the cut-off has an offset from UTC; `top` is no
        whole number from 1 on.

    Examples
    --------
    >>> event = Event(
    ...     name="spring",
    ...     id_column="member",
    ...     count_column="friends",
    ...     prizes=[Prize(first=1, points=500), Prize(first=2, last=3, points=100)],
    ... )
    >>> rows = {"member": ["Ann", "Ben", "Cho", "Dan", "Eve"], "friends": [3, 9, 3, 3, 0]}
    >>> for row in rank(rows, event).drop_columns("board").to_pylist():
    ...     print(row)
    {'rank': 1, 'member': 'Ben', 'friends': 9, 'prize': 500}
    {'rank': 2, 'member': 'Ann', 'friends': 3, 'prize': 100}
    {'rank': 2, 'member': 'Cho', 'friends': 3, 'prize': 100}
    {'rank': 2, 'member': 'Dan', 'friends': 3, 'prize': 100}
    """
    if top is not None and (type(top) is not int or top < 1):
        raise DataError(f"top is {top!r}; it must be a whole number from 1 on.")
    table = table_of(rows)
    ids = ids_of(table, [event.id_column])
    by_id = unique_order_of(ids)
    counts, counted = integers_of(table, event.count_column)
    entered, has_entered = _entries(table, event, event.entry_until)
    kept = by_id[(counted & (counts >= event.least_count) & has_entered)[by_id]]
    keys = [-counts[kept], *([entered[kept]] if event.ties == "earliest_entry" else [])]
    order = np.lexsort(keys[::-1])  # by the first key first; equal ones stay in the order of ids
    kept, keys = kept[order], [key[order] for key in keys]
    # The bounds of boards without a class column hold everybody, whatever the numbers are.
    classes, classed = integers_of(table, event.class_column or event.count_column, negative="allow")
    classes, classed = classes[kept], classed[kept]
    boards = []
    for board in event.boards:
        inside = np.flatnonzero(_on_board(board, classes, classed))
        ranks, prizes = _ranked(event, board, [key[inside] for key in keys], top)
        boards.append((kept[inside[: len(ranks)]], ranks, prizes))
    places = pa.array(np.concatenate([rows for rows, _, _ in boards]))
    numbers = np.repeat(np.arange(len(boards), dtype=np.int32), [len(rows) for rows, _, _ in boards])
    names = [board.name for board in event.boards]
    return pa.table(
        {
            "board": pa.DictionaryArray.from_arrays(pa.array(numbers), pa.array(names)),
            "rank": np.concatenate([ranks for _, ranks, _ in boards]),
            event.id_column: ids.column(0).take(places),
            event.count_column: column_of(table, event.count_column).take(places),
            "prize": np.concatenate([prizes for _, _, prizes in boards]),
        }
    )


def _on_board(board: Board, classes: Int64s, classed: Bools) -> Bools:
    if board.least is None and board.most is None:
        return np.ones(len(classes), dtype=bool)
    least = -MOST_POINTS - 1 if board.least is None else board.least
    return classed & (classes >= least) & (classes <= (MOST_POINTS if board.most is None else board.most))


def _ranked(event: Event, board: Board, keys: list[Int64s], top: int | None) -> tuple[Int64s, Int64s]:
    """The ranks and prizes of a board's rows, whose keys come in the order of the ranking."""
    n_rows = len(keys[0])
    is_first = np.ones(n_rows, dtype=bool)  # of those who share its rank
    is_first[1:] = np.logical_or.reduce([key[1:] != key[:-1] for key in keys])
    starts = np.flatnonzero(is_first)
    sizes = np.diff(starts, append=n_rows)
    prizes = _prizes(event, event.prizes if board.prizes is None else board.prizes, starts + 1, sizes)
    if top is not None:
        within = starts < top
        starts, sizes, prizes = starts[within], sizes[within], prizes[within]
    return np.repeat(starts + 1, sizes), np.repeat(prizes, sizes)


def _prizes(event: Event, prizes: Sequence[Prize], ranks: Int64s, sizes: Int64s) -> Int64s:
    """What each of those who share a rank is paid, by rank and by how many they are."""
    if not prizes:
        return np.zeros(len(ranks), dtype=np.int64)
    before = _paid_to(prizes, ranks - 1)
    if event.tied_prizes == "split":
        return (_paid_to(prizes, ranks + sizes - 1) - before) // sizes
    return _paid_to(prizes, ranks) - before


def _paid_to(prizes: Sequence[Prize], ranks: Int64s) -> Int64s:
    """The prizes of all the places up to each rank. No sum of them is beyond int64, as the event has checked."""
    firsts, ends, points = (np.array([getattr(prize, key) for prize in prizes]) for key in ("first", "end", "points"))
    totals = np.concatenate([[0], np.cumsum((ends - firsts + 1) * points)])
    place = np.searchsorted(firsts, ranks, side="right") - 1  # of the last prize that begins at the rank or before
    paid = totals[place] + (np.minimum(ranks, ends[place]) - firsts[place] + 1) * points[place]
    return np.where(place < 0, 0, paid)


def entered_by(table: pa.Table, event: Event, until: datetime.datetime | None) -> Bools:
    """Whether each row had entered by then, or at all."""
    return _entries(table, event, until)[1]


def _entries(table: pa.Table, event: Event, until: datetime.datetime | None) -> tuple[Int64s, Bools]:
    """When each row entered, in ticks of its column (0 if it did not), and whether it had by the cut-off."""
    if event.entry_column is None:
        return np.zeros(table.num_rows, dtype=np.int64), np.ones(table.num_rows, dtype=bool)
    name = event.entry_column
    column = column_of(table, name)
    if pa.types.is_null(column.type):
        return np.zeros(table.num_rows, dtype=np.int64), np.zeros(table.num_rows, dtype=bool)
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        column = _times(column, name, until)
    if pa.types.is_date(column.type):
        column = column.cast(pa.timestamp("ms"))  # a date is its midnight
    kind = column.type
    if not pa.types.is_timestamp(kind):
        raise DataError(f"Column {name!r} is of type {kind}; entries must be dates, times or ISO 8601 text.")
    entered = column.cast(pa.int64()).fill_null(0).to_numpy()
    has_entered = column.is_valid().to_numpy()
    if until is not None:
        if (until.tzinfo is None) != (kind.tz is None):
            found = "an offset from UTC, and the cut-off" if kind.tz else "no offset from UTC, and the cut-off"
            raise DataError(
                f"Column {name!r} has {found} {until.isoformat()} of the event has {'none' if kind.tz else 'one'}; "
                f"write the cut-off as {until.replace(tzinfo=None).isoformat()}{'+09:00' if kind.tz else ''}."
            )
        since = until - _EPOCH.replace(tzinfo=until.tzinfo and datetime.UTC)
        cut_off = since // datetime.timedelta(microseconds=1) * 1000 // _NANOSECONDS[kind.unit]
        has_entered = has_entered & (entered <= cut_off)
    return entered, has_entered


def _times(column: pa.ChunkedArray, name: str, until: datetime.datetime | None) -> pa.ChunkedArray:
    """Text as times, with an offset from UTC if the cut-off has one or, without a cut-off, the first of them."""
    import pyarrow.compute as pc  # slow to import

    with_offset = until is not None and until.tzinfo is not None
    if until is None and column.null_count < len(column):
        with_offset = pc.match_substring_regex(column.drop_null().slice(0, 1), r"[T ].*(Z|[+-]\d\d(:?\d\d)?)$")[
            0
        ].as_py()
    like = f"2020-01-05T12:00:00{'+09:00' if with_offset else ''}"
    kind = pa.timestamp("us", "UTC" if with_offset else None)
    return cast_column(column, name, kind, f"a time such as {like}, {'with' if with_offset else 'without'} an offset")


def compensate(rows: Any, event: Event, boards: Any = None) -> pa.Table:
    """Pay the compensation of an event: a flat sum to those who entered in time, and a sum for each board, on top.

    Nothing is taken from anybody: each sum is 0 or more, and they add up.

    Parameters
    ----------
    rows : object
        One row per entrant, as for `rank`; only ids and entries are read.
    event : Event
        With its compensation.
    boards : object, optional
        The standing on the boards that counts, as `rank` gives it; needed if the compensation has a `top`. Whoever
        stands there is paid for the boards even when missing in the rows or too late for the flat sum.

    Returns
    -------
    pyarrow.Table
        A row for everyone who is paid, by id: the id column, ``flat`` (int64, whole points), ``boards`` (int64, on how
        many boards they rank up to `top`) and ``points`` (int64, all that they are paid).

    Raises
    ------
    DataError
        The event has no compensation, or the standing is missing; a column is missing or of a wrong type; an id is
        null, or there twice (in the rows, or on one board); a board is not one of the event's.

    Examples
    --------
    >>> event = Event(
    ...     name="spring",
    ...     id_column="member",
    ...     count_column="friends",
    ...     entry_column="entered",
    ...     compensation=Compensation(
    ...         entry_until=datetime.datetime(2020, 4, 2, 12), points=100, top=2, board_points=30
    ...     ),
    ... )
    >>> rows = {
    ...     "member": ["Ann", "Ben", "Cho", "Dan"],
    ...     "friends": [3, 9, 3, 1],
    ...     "entered": ["2020-04-01", "2020-04-01", "2020-04-03", "2020-04-03"],
    ... }
    >>> for row in compensate(rows, event, rank(rows, event)).to_pylist():
    ...     print(row)
    {'member': 'Ann', 'flat': 100, 'boards': 1, 'points': 130}
    {'member': 'Ben', 'flat': 100, 'boards': 1, 'points': 130}
    {'member': 'Cho', 'flat': 0, 'boards': 1, 'points': 30}
    """
    rules = event.compensation
    if rules is None:
        raise DataError(f"Event {event.name!r} has no [compensation].")
    if rules.top is not None and boards is None:
        raise DataError(f"Event {event.name!r} compensates the top {rules.top} of each board; give the boards.")
    with naming_table("rows"):
        table = table_of(rows)
        entrants = ids_of(table, [event.id_column])
        entered = entered_by(table, event, rules.entry_until)
    with naming_table("boards"):
        standing = entrants.slice(0, 0) if rules.top is None else _standing(table_of(boards), event, rules.top)
    (codes, standing_codes), distinct = identify(entrants, standing)
    with naming_table("rows"):
        refuse_repeats(codes, distinct)
    flat = np.zeros(distinct.num_rows, dtype=np.int64)
    flat[codes] = np.where(entered, rules.points, 0)
    n_boards = np.bincount(standing_codes, minlength=distinct.num_rows)
    points = flat + n_boards * rules.board_points
    paid = np.flatnonzero(points)
    paid = paid[order_of(distinct.take(pa.array(paid)))]
    return pa.table(
        {
            event.id_column: distinct.column(0).take(pa.array(paid)),
            "flat": flat[paid],
            "boards": n_boards[paid],
            "points": points[paid],
        }
    )


def _standing(table: pa.Table, event: Event, top: int) -> pa.Table:
    """The ids of the ranks up to `top`, once for each of the event's boards that they are on."""
    keys = ids_of(table, ["board", event.id_column])
    (codes,), distinct = identify(keys)
    refuse_repeats(codes, distinct)
    names = [board.name for board in event.boards]
    for name in distinct.column("board").unique().to_pylist():
        if name not in names:
            raise DataError(f"Column 'board' has the board {name!r}; the event has {', '.join(names)}.")
    ranks, ranked = integers_of(table, "rank")
    return keys.select([event.id_column]).take(pa.array(np.flatnonzero(ranked & (ranks <= top))))
