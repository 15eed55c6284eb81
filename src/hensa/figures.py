"""What a report tells of rows: counts, exact sums and the largest, added up a batch at a time in bounded memory."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from math import ceil, floor, log10
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hensa.comparison import Tally
from hensa.errors import DataError

__all__ = [
    "Bin",
    "Bins",
    "Changes",
    "Concentration",
    "GroupSums",
    "Share",
    "Top",
    "decimals_by_group",
    "even_edges",
    "log_edges",
    "numbers_of",
    "points_of",
    "score_edges",
    "wide_edges",
]

Edge: TypeAlias = int | Decimal
Int64s: TypeAlias = npt.NDArray[np.int64]
Numbers: TypeAlias = npt.NDArray[np.int64] | npt.NDArray[np.float64]
Batch: TypeAlias = pa.RecordBatch

_LIMB = 22
_FRACTION = (
    9  # bits of a float64's fraction that tell the points of concentration apart: integers below 1,024 are alone
)
_CODES = (64 << _FRACTION) + 2
_ONE = 1023 << _FRACTION
_MOST_EDGES = 120
GAINS, LOSES, STAYS, MISSING = range(4)


def numbers_of(column: pa.Array) -> Numbers:
    """The values that are not null: int64, or float64 if they are no such integers. In CSV they are text."""
    column = column.drop_null()
    if pa.types.is_string(column.type):
        try:
            column = column.cast(pa.int64())
        except pa.ArrowInvalid:
            column = column.cast(pa.float64())
    elif not pa.types.is_floating(column.type):
        try:
            column = column.cast(pa.int64())
        except pa.ArrowInvalid:  # decimals with digits after the point; uint64 beyond int64
            column = column.cast(pa.float64())
    elif column.type != pa.float64():
        column = column.cast(pa.float64())
    values: Numbers = column.to_numpy(zero_copy_only=False)
    return values


def points_of(batch: Batch, name: str) -> tuple[Int64s, npt.NDArray[np.bool_]]:
    """Whole points as int64, 0 where they are null, and where they are not."""
    column = batch.column(name)
    try:
        column = column.cast(pa.int64())
    except pa.ArrowException as error:
        raise DataError(f"Column {name!r} is of type {column.type} ({error}); points are whole numbers.") from None
    return column.fill_null(0).to_numpy(), column.is_valid().to_numpy(zero_copy_only=False)


# ---- bins


@dataclass(frozen=True)
class Bin:
    """Numbers from `low` to below `high`; an end that is None is open."""

    low: Edge | None
    high: Edge | None
    count: int


class Bins:
    """Numbers counted between ascending edges; a bin holds its lower edge.

    Examples
    --------
    >>> bins = Bins(log_edges())
    >>> bins.add(np.array([0, 0, 1, 3, 4, 12]))
    >>> [(bin.low, bin.high, bin.count) for bin in bins.filled()]
    [(0, 1, 2), (1, 2, 1), (2, 5, 2), (5, 10, 0), (10, 20, 1)]
    """

    def __init__(self, edges: Sequence[Edge]) -> None:
        self.edges = tuple(edges)
        self.counts = np.zeros(len(edges) + 1, dtype=np.int64)
        self.lowest: float | None = None
        self.highest: float | None = None
        kind = np.int64 if all(isinstance(edge, int) for edge in edges) else np.float64
        self._edges = np.array(self.edges, dtype=kind)

    def codes(self, values: Numbers) -> Int64s:
        """The number of each value's bin; bin 0 is what lies below the first edge."""
        return np.searchsorted(self._edges, values, side="right")

    def add(self, values: Numbers) -> None:
        """Count some more."""
        if len(values):
            self.counts += np.bincount(self.codes(values), minlength=len(self.counts))
            low, high = values.min().item(), values.max().item()
            self.lowest = low if self.lowest is None else min(self.lowest, low)
            self.highest = high if self.highest is None else max(self.highest, high)

    def all(self) -> list[Bin]:
        """Every bin."""
        lows, highs = (None, *self.edges), (*self.edges, None)
        return [Bin(low, high, int(count)) for low, high, count in zip(lows, highs, self.counts, strict=True)]

    def filled(self) -> list[Bin]:
        """From the first bin with something in it to the last."""
        places = np.flatnonzero(self.counts)
        return self.all()[places[0] : places[-1] + 1] if len(places) else []


def log_edges(unit: Fraction = Fraction(1)) -> list[Edge]:
    """0 and 1, 2, 5, 10, 20, 50 and so on to the end of int64, in some unit; below 0 the same bins of whole numbers,
    mirrored."""
    up = [digit * 10**power for power in range(19) for digit in (1, 2, 5)]
    return [_edge(unit * number) for number in (*(1 - number for number in reversed(up)), *up)]


def wide_edges(last: int = 10**7) -> list[Edge]:
    """0, 1 and the powers of 10."""
    return [0, *(10**power for power in range(round(log10(last)) + 1))]


def even_edges(mean: float, sd: float, whole: bool) -> list[Edge]:
    """Multiples of a round number near half an SD, four SDs to either side of the mean."""
    step = _round_step(sd / 2, whole)
    reach = 4 * Fraction(sd)
    first, last = floor((Fraction(mean) - reach) / step), floor((Fraction(mean) + reach) / step) + 1
    return [_edge(step * number) for number in range(first, last + 1)]


def score_edges(thresholds: Sequence[Fraction], centre: Fraction, scale: Fraction) -> list[Edge]:
    """Multiples of a round number near half of `scale`, over the thresholds and 5 times the scale around the centre."""
    low, high = min(thresholds[0], centre - 5 * abs(scale)), max(thresholds[-1], centre + 5 * abs(scale))
    step = _round_step(float(max(abs(scale) / 2, (high - low) / _MOST_EDGES)), whole=False)
    return [_edge(step * number) for number in range(floor(low / step), floor(high / step) + 2)]


def _round_step(least: float, whole: bool) -> Fraction:
    """The smallest of 1, 2 and 5 times a power of 10 that is no less."""
    power = floor(log10(least)) if least > 0 else 0
    step = next(
        step
        for digit in (1, 2, 5, 10)
        if (step := digit * Fraction(10) ** power) >= Fraction(least) * Fraction(999_999, 1_000_000)
    )
    return max(step, Fraction(1)) if whole else step


def _edge(value: Fraction) -> Edge:
    return int(value) if value.denominator == 1 else Decimal(value.numerator) / Decimal(value.denominator)


# ---- sums


class GroupSums:
    """Exact sums of int64 by group. Limbs of 22 bits of a batch of fewer than 2^31 rows sum to less than 2^53, which
    float64 holds, and those of 2^40 rows to less than 2^63.

    Examples
    --------
    >>> sums = GroupSums(2)
    >>> sums.add(np.array([2**62, 2**62, -1]), np.array([0, 0, 1]))
    >>> sums.totals() == [2**63, -1]
    True
    """

    def __init__(self, n_groups: int) -> None:
        self._limbs = np.zeros((3, n_groups), dtype=np.int64)

    def add(self, points: Int64s, groups: Int64s) -> None:
        """Add the points to the sums of their groups."""
        mask = (1 << _LIMB) - 1
        for i, limb in enumerate((points & mask, points >> _LIMB & mask, points >> 2 * _LIMB)):
            if limb.any():
                sums = np.bincount(groups, weights=limb, minlength=self._limbs.shape[1])
                self._limbs[i] += sums.astype(np.int64)

    def totals(self) -> list[int]:
        """The sum of each group."""
        low, middle, high = self._limbs.tolist()
        return [a + (b << _LIMB) + (c << 2 * _LIMB) for a, b, c in zip(low, middle, high, strict=True)]


# ---- concentration


class Share(NamedTuple):
    """What the rows with the most points have of all points: `rows` of them have from `low` to `high` of it."""

    rows: int
    low: Fraction
    high: Fraction


class Concentration:
    """How points are shared out among rows, by classes of points; rows with fewer than 1,024 points share a class only
    with their equals, the others with rows whose points differ by less than a 512th."""

    def __init__(self) -> None:
        self._rows = np.zeros(_CODES, dtype=np.int64)
        self._sums = GroupSums(_CODES)
        self.negatives = 0

    def add(self, points: Int64s) -> None:
        """Take in the points of some rows."""
        self.negatives += int(np.count_nonzero(points < 0))
        # The leading bits of a float64 rise with its value; 0 is a class of its own before 1.
        codes = (np.maximum(points, 0).astype(np.float64).view(np.int64) >> 52 - _FRACTION) - _ONE + 1
        np.maximum(codes, 0, out=codes)
        self._rows += np.bincount(codes, minlength=_CODES)
        self._sums.add(points, codes)

    def _classes(self) -> list[tuple[int, int]]:
        """Rows and points of each class that has some, from the least points to the most."""
        return [(rows, points) for rows, points in zip(self._rows.tolist(), self._sums.totals(), strict=True) if rows]

    @property
    def rows(self) -> int:
        """All rows."""
        return int(self._rows.sum())

    @property
    def total(self) -> int:
        """All points."""
        return sum(self._sums.totals())

    def curve(self, n: int = 100) -> list[tuple[float, float]]:
        """Points of the Lorenz curve, each exact but for rounding to float64: the share of the rows with the least
        points, and what they have of all points."""
        rows, total = self.rows, self.total
        found = [(0.0, 0.0)]
        some_rows = some_points = 0
        for own_rows, own_points in self._classes():
            some_rows, some_points = some_rows + own_rows, some_points + own_points
            x, y = some_rows / rows, some_points / total
            if x - found[-1][0] >= 1 / n or y - found[-1][1] >= 1 / n or some_rows == rows:
                found.append((x, y))
        return found

    def share_of_top(self, part: Fraction) -> Share:
        """What the top part of the rows, rounded up, has of all points.

        Where the last class is taken in part, its rows have at least their share of the class, as they are the ones
        with the most; and at most as much as the largest points of the class allow.
        """
        wanted = -(-part.numerator * self.rows // part.denominator)
        sums = self._sums.totals()
        total, left, points = sum(sums), wanted, 0
        for code in np.flatnonzero(self._rows)[::-1].tolist():
            rows, own = int(self._rows[code]), sums[code]
            if rows > left:
                most = min(left * _most(code), own)
                return Share(wanted, (points + Fraction(own * left, rows)) / total, Fraction(points + most, total))
            left, points = left - rows, points + own
            if not left:
                break
        return Share(wanted, Fraction(points, total), Fraction(points, total))


def _most(code: int) -> int:
    """The most points of a class: it ends before the float64 that begins the next one, to which no less is rounded."""
    bits = np.array((code + _ONE) << 52 - _FRACTION, dtype=np.int64)
    return ceil(float(bits.view(np.float64))) - 1 if code else 0


# ---- the largest


class Top:
    """The rows with the largest keys, largest first; of equal keys, the rows that come first."""

    def __init__(self, n: int) -> None:
        self._n = n
        self._found: list[tuple[int, int, dict[str, Any]]] = []
        self._start = 0

    def add(self, batch: Batch, keys: Int64s, among: npt.NDArray[np.bool_]) -> None:
        """Look through some rows: those where `among` is true."""
        if len(self._found) == self._n:
            among = among & (keys > self._found[-1][0])
        places = np.flatnonzero(among)
        if len(places):
            places = places[np.argsort(~keys[places], kind="stable")[: self._n]]  # ~key falls as the key rises
            rows = batch.take(pa.array(places)).to_pylist()
            new = zip(keys[places].tolist(), (places + self._start).tolist(), rows, strict=True)
            self._found = sorted([*self._found, *new], key=lambda found: (-found[0], found[1]))[: self._n]
        self._start += batch.num_rows

    def __iter__(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """The number of each row, from 0, and the row."""
        return ((place, row) for _, place, row in self._found)


# ---- changes


class Changes:
    """Who gains and who loses, in all and by band, and by how much."""

    def __init__(self, edges: Sequence[Edge]) -> None:
        self.bands = Bins(edges)
        self.sizes = Bins(log_edges())
        n_groups = 4 * (len(edges) + 2)  # the last band is of what has none
        self._counts = np.zeros(n_groups, dtype=np.int64)
        self._sums = [GroupSums(n_groups) for _ in range(3)]
        self.gains, self.losses = Top(10), Top(10)

    def add(self, batch: Batch, before: Int64s, after: Int64s, compared: npt.NDArray[np.bool_], codes: Int64s) -> None:
        """Take in some rows: their points before and after, which of them are compared, and their bands."""
        difference = np.where(compared, after - before, 0)
        outcome = np.select([~compared, difference > 0, difference < 0], [MISSING, GAINS, LOSES], STAYS)
        groups = codes * 4 + outcome
        self._counts += np.bincount(groups, minlength=len(self._counts))
        for sums, points in zip(self._sums, (difference, before, after), strict=True):
            sums.add(points, groups)
        self.sizes.add(difference[compared])
        self.gains.add(batch, difference, difference > 0)
        self.losses.add(batch, ~difference, difference < 0)

    def tallies(self) -> list[Tally]:
        """A tally of each band, by its place, and of all of them."""
        counts = self._counts.tolist()
        differences, befores, afters = (sums.totals() for sums in self._sums)
        parts = []
        for start in range(0, len(counts), 4):
            own = slice(start, start + 4)
            gains, loses, stays, missing = counts[own]
            parts.append(
                Tally(
                    str(start // 4),
                    gains,
                    loses,
                    stays,
                    missing,
                    gained=differences[own][GAINS],
                    lost=-differences[own][LOSES],
                    before=sum(befores[own][:MISSING]),
                    after=sum(afters[own][:MISSING]),
                )
            )
        names = ("gains", "loses", "stays", "missing", "gained", "lost", "before", "after")
        return [*parts, Tally("all", *(sum(getattr(part, name) for part in parts) for name in names))]


def decimals_by_group(column: pa.Array, groups: Int64s) -> dict[int, Decimal]:
    """Exact sums of decimals by group."""
    wide = column.cast(pa.decimal256(76, column.type.scale)).fill_null(0)
    found = pa.table({"group": groups, "value": wide}).group_by("group").aggregate([("value", "sum")])
    return dict(zip(found["group"].to_pylist(), found["value_sum"].to_pylist(), strict=True))
