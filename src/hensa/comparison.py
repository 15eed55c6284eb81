"""One population under several programs: who gains, who loses, and what it costs; and rates that meet a budget."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from math import floor
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from msgspec.structs import replace

from hensa import kernels
from hensa.columns import column_of, rows_views, table_of
from hensa.counts import Count
from hensa.errors import DataError, HensaError
from hensa.program import Program, RateTable, Step
from hensa.scoring import of_month, score

__all__ = ["EDGES", "Comparison", "Solution", "Tally", "compare", "solve"]

Int64s: TypeAlias = npt.NDArray[np.int64]

EDGES = (1, 2, 3, 10, 50, 100, 500, 1000)
"""Where bands of friends begin unless others are asked for: the stages of Hapi-tomo."""

_GAINS, _LOSES, _STAYS, _MISSING = range(4)
_LIMB = 22


@dataclass(frozen=True)
class Tally:
    """Winners and losers among some rows, of one program against the first.

    Parameters
    ----------
    band : str
        Which rows: "all", or a band such as "3 to 9".
    gains, loses, stays : int
        Rows that are paid more, less and the same.
    missing : int
        Rows without a reward under one of the two programs, which are not compared.
    gained, lost : int
        Points that the rows that gain are paid more, and that the rows that lose are paid less.
    before, after : int
        Points under the first program and under this one, of the rows that are compared.
    """

    band: str
    gains: int
    loses: int
    stays: int
    missing: int
    gained: int
    lost: int
    before: int
    after: int

    @property
    def rows(self) -> int:
        """All rows."""
        return self.gains + self.loses + self.stays + self.missing

    @property
    def difference(self) -> int:
        """Points that this program pays more: gained - lost, which is after - before."""
        return self.gained - self.lost

    def to_dict(self) -> dict[str, Any]:
        """The fields, ``rows`` and ``difference``."""
        return {**vars(self), "rows": self.rows, "difference": self.difference}


@dataclass(frozen=True)
class Comparison:
    """What `compare` found.

    Parameters
    ----------
    rows : pyarrow.Table
        The rows' own columns, ``<program>_reward`` (int64, points) for each program and ``<program>_difference``
        (int64, its reward less that of the first) for each but the first.
    costs : dict of str to int
        Points that each program pays over all rows.
    friend_costs : dict of str to int
        Points that each per-event program which pays friends pays to them, on top of these.
    totals : dict of str to Tally
        For each program but the first, over all rows.
    bands : dict of str to tuple of Tally
        The same by band; empty tuples if no band column was named.
    """

    rows: pa.Table
    costs: dict[str, int]
    friend_costs: dict[str, int]
    totals: dict[str, Tally]
    bands: dict[str, tuple[Tally, ...]]

    def to_dict(self) -> dict[str, Any]:
        """Costs, totals and bands as JSON values."""
        return {
            "costs": dict(self.costs),
            "friend_costs": dict(self.friend_costs),
            "totals": {name: tally.to_dict() for name, tally in self.totals.items()},
            "bands": {name: [tally.to_dict() for tally in tallies] for name, tallies in self.bands.items()},
        }


class Solution(NamedTuple):
    """What `solve` found."""

    program: Program
    """With the scaled rates."""
    factor: Decimal
    """What the rates were multiplied by before they were rounded down."""
    total: int
    """Points that the program pays over all rows."""
    next_total: int | None = None
    """Points that it would pay by the next larger factor, which are above the budget; None if it is not the budget that
    ends the search: by a larger factor a rate would be above 100 percent, or above the highest of the table if that is
    more, or all rates are 0."""


def compare(
    rows: Any,
    programs: Sequence[Program | str | os.PathLike[str]],
    band: str | None = None,
    edges: Sequence[int] = EDGES,
    threads: int | None = None,
    month: str | None = None,
    any_month: bool = False,
) -> Comparison:
    """Pay the same rows under several programs: who gains, who loses, by how much, and the cost of each.

    Parameters
    ----------
    rows : object
        As for `score`, with the columns of every program.
    programs : sequence of Program, str or os.PathLike
        Two or more of different names; what is no `Program` is loaded (`Program.load`). The others are compared with
        the first.
    band : str, optional
        A column of integers, such as a number of friends, to also count winners and losers by.
    edges : sequence of int
        Where the bands begin, ascending; below the first lies a band of its own.
    threads : int, optional
        Number of threads; None: the CPUs that this process may use.
    month : str, optional
        The month that is compared, such as ``"2019-10"``: which amounts a program with campaigns pays. The metadata of
        the schema of `Comparison.rows` keep it as ``hensa.month``.
    any_month : bool
        Allow a month that is not wholly within the effective dates of every program, as for old rules and new ones.

    Returns
    -------
    Comparison

    Raises
    ------
    ProgramError
        The month is outside the effective dates of a program.
    DataError
        As for `score`; there are fewer than two programs, or two of one name; the rows already have a column named like
        a result; the band column is not of integers; the edges do not ascend; a difference is beyond int64.

    Examples
    --------
    >>> import hensa
    >>> friend = hensa.Program.load("hapitas-friend")
    >>> text = friend.to_toml().replace('"hapitas-friend"', '"generous"').replace("[49, 9.8", "[49, 12.8")
    >>> rows = {"new_referrals": [10] * 99 + [5000], "ad_users": [7] * 100, "friend_points": [1000] * 100}
    >>> comparison = hensa.compare(rows, [friend, hensa.Program.parse(text)])
    >>> comparison.costs
    {'hapitas-friend': 9842, 'generous': 12812}
    >>> total = comparison.totals["generous"]
    >>> total.gains, total.loses, total.stays, total.difference
    (99, 0, 1, 2970)
    """
    if isinstance(programs, str | os.PathLike | Program):
        raise HensaError(f"programs is {programs!r:.80}; it must be a list of programs, names or paths.")
    loaded = [program if isinstance(program, Program) else Program.load(program) for program in programs]
    names = [program.name for program in loaded]
    for i, name in enumerate(names):
        if name in names[:i]:
            raise DataError(f"Two of the programs are named {name!r}; each needs a name of its own.")
    if len(names) < 2:
        raise DataError(f"compare got {Count(len(names)):program}; it takes two or more.")
    table = table_of(rows)
    for program in loaded:
        table = of_month(table, program, month, any_month)
    codes, labels = _bands(table, band, edges)
    rewards = [_rewards(table, program, threads, month) for program in loaded]
    results = {f"{name}_reward": reward for name, reward in zip(names, rewards, strict=True)}
    costs = {name: _sums(_filled(reward))[0] for name, reward in zip(names, rewards, strict=True)}
    friend_costs = {
        program.name: _sums(_filled(_rewards(table, program, threads, month, "friend_reward")))[0]
        for program in loaded
        if "friend_reward" in program.results
    }
    totals, bands = {}, {}
    for name, reward in zip(names[1:], rewards[1:], strict=True):
        difference = _difference(reward, rewards[0], f"{name!r} and {names[0]!r}")
        results[f"{name}_difference"] = difference
        [totals[name]] = _tallies(difference, rewards[0], reward, np.zeros(len(codes), dtype=np.int64), ["all"])
        bands[name] = tuple(_tallies(difference, rewards[0], reward, codes, labels))
    for name, result in results.items():
        if name in table.column_names:
            raise DataError(f"The rows already have a column {name!r}; rename it.")
        table = table.append_column(name, result)
    return Comparison(table, costs, friend_costs, totals, bands)


def solve(
    rows: Any,
    program: Program | str | os.PathLike[str],
    budget: int,
    digits: int = 6,
    places: int | None = None,
    threads: int | None = None,
) -> Solution:
    """Scale the rates of a program so that it pays as much of a budget as it can, and never more.

    Every rate is multiplied by one factor and rounded down; the factor is the largest decimal with so many digits
    whose total stays within the budget. No rate rises above 100 percent, or above the highest of the table if that is
    more.

    The total never falls as the factor rises, so a search by halves finds it: each rounded rate never falls, and with
    bases of 0 or more neither does any base x rate, nor what rounding and the cap make of it. For the same reason the
    scaled rates rise and stay level where those of the table do.

    Parameters
    ----------
    rows : object
        As for `score`.
    program : Program, str or os.PathLike
        Whose rates are 0 or more; what is no `Program` is loaded.
    budget : int
        The most points to pay in total.
    digits : int
        Decimals of the factor, 0 to 12.
    places : int, optional
        Decimals of the scaled rates, in the unit of the table, 0 to 12; None: as many as the table's own have.
    threads : int, optional
        Number of threads; None: the CPUs that this process may use.

    Returns
    -------
    Solution
        Its program is named like the old one, with ``-scaled`` added.

    Raises
    ------
    DataError
        As for `score`; the budget, digits or places are not allowed; a rate or a base is negative; the budget is less
        than what is paid whatever the rates.

    Examples
    --------
    >>> import hensa
    >>> rows = {"new_referrals": [10] * 99 + [5000], "ad_users": [7] * 100, "friend_points": [1000] * 100}
    >>> solution = hensa.solve(rows, "hapitas-friend", 5000)
    >>> solution.total, solution.factor, solution.next_total
    (4922, Decimal('0.510204'), 5021)
    >>> [str(step.rate) for step in solution.program.rates.steps if step.threshold in (49, 54)]
    ['4.9', '7.1']
    """
    if not isinstance(program, Program):
        program = Program.load(program)
    _refuse_unless_whole("budget", budget, None)
    _refuse_unless_whole("digits", digits, 12)
    if places is not None:
        _refuse_unless_whole("places", places, 12)
    table = table_of(rows)
    _refuse_negatives(table, program)
    rates = _rates(program)
    if places is None:
        places = max(0, *(-int(step.rate.as_tuple().exponent) for step in rates.steps))
    highest = max(rates.shares)
    most = floor(max(Fraction(1), highest) / highest * 10**digits) if highest else 10**digits

    def at(units: int) -> Solution:
        factor = Decimal(units).scaleb(-digits)
        scaled = _scaled(program, factor, places)
        return Solution(scaled, factor, _sums(_filled(_rewards(table, scaled, threads)))[0])

    best = at(most)
    if best.total <= budget:
        return best
    above = best.total
    low, high, best = 0, most, at(0)
    if best.total > budget:
        raise DataError(
            f"budget is {budget}, and {program.name!r} pays {best.total} points at rates of 0; it must be that or more."
        )
    while high - low > 1:
        middle = (low + high) // 2
        found = at(middle)
        if found.total <= budget:
            low, best = middle, found
        else:
            high, above = middle, found.total
    return best._replace(next_total=above)


def _rewards(
    table: pa.Table, program: Program, threads: int | None, month: str | None = None, column: str = "reward"
) -> pa.ChunkedArray:
    """The reward of every row under a program, whether or not it holds in the month."""
    if column in table.column_names and column not in program.columns:
        table = table.drop_columns(column)
    return score(table, program, columns=(column,), threads=threads, month=month, any_month=True)[column]


def _filled(points: pa.ChunkedArray | pa.Array) -> Int64s:
    """The points as an array, 0 where they are null."""
    return np.asarray(points.fill_null(0))


def _sums(points: Int64s, groups: Int64s | None = None, n_groups: int = 1) -> list[int]:
    """Exact sums of int64 by group, of any size: below 2^31 rows, sums of 22 bits are below 2^53, which is float64."""
    groups = np.zeros(len(points), dtype=np.int64) if groups is None else groups
    limbs = [points & (1 << _LIMB) - 1, points >> _LIMB & (1 << _LIMB) - 1, points >> 2 * _LIMB]
    sums = [np.bincount(groups, weights=limb, minlength=n_groups) for limb in limbs]
    return [sum(int(part) << i * _LIMB for i, part in enumerate(parts)) for parts in zip(*sums, strict=True)]


def _difference(after: pa.ChunkedArray, before: pa.ChunkedArray, of: str) -> pa.Array:
    high, low = _filled(after), _filled(before)
    difference = high - low
    missing = np.asarray(after.is_null()) | np.asarray(before.is_null())
    wrapped = ((high ^ low) & (high ^ difference) < 0) & ~missing
    if wrapped.any():
        row = int(np.flatnonzero(wrapped)[0])
        raise DataError(f"The rewards of {of} in row {row} are {high[row]} and {low[row]}; they differ by over int64.")
    return pa.array(difference, mask=missing)


def _tallies(
    difference: pa.Array, before: pa.ChunkedArray, after: pa.ChunkedArray, codes: Int64s, labels: list[str]
) -> Iterator[Tally]:
    points = _filled(difference)
    outcome = np.select([points > 0, points < 0], [_GAINS, _LOSES], _STAYS)
    outcome[np.asarray(difference.is_null())] = _MISSING
    groups, n_groups = codes * 4 + outcome, len(labels) * 4
    counts = np.bincount(groups, minlength=n_groups).tolist()
    differences, befores, afters = (
        _sums(values, groups, n_groups) for values in (points, _filled(before), _filled(after))
    )
    for i, label in enumerate(labels):
        own = slice(4 * i, 4 * i + 4)
        gains, loses, stays, missing = counts[own]
        yield Tally(
            label,
            gains,
            loses,
            stays,
            missing,
            gained=differences[own][_GAINS],
            lost=-differences[own][_LOSES],
            before=sum(befores[own][:_MISSING]),
            after=sum(afters[own][:_MISSING]),
        )


def _bands(table: pa.Table, band: str | None, edges: Sequence[int]) -> tuple[Int64s, list[str]]:
    """The band of every row, and what each band is called."""
    edges = list(edges)
    is_whole = all(type(edge) is int and -(2**63) <= edge < 2**63 for edge in edges)
    if not (edges and is_whole and edges == sorted(set(edges))):
        raise DataError(f"edges is {edges!r}; it must be ascending whole numbers within int64, one or more.")
    if band is None:
        return np.zeros(table.num_rows, dtype=np.int64), []
    column = column_of(table, band)
    if not pa.types.is_integer(column.type):
        raise DataError(
            f"Band column {band!r} is of type {column.type}; it must be of integers, such as a number of friends."
        )
    lasts = [edge - 1 for edge in edges[1:]]
    labels = [f"below {edges[0]:,}"]
    labels += [
        f"{edge:,}" if edge == last else f"{edge:,} to {last:,}" for edge, last in zip(edges, lasts, strict=False)
    ]
    labels.append(f"{edges[-1]:,}+")
    codes = np.searchsorted(edges, column.fill_null(0).to_numpy(), side="right").astype(np.int64)
    if column.null_count:
        codes[column.is_null().to_numpy()] = len(labels)
        labels.append("unknown")
    return codes, labels


def _rates(program: Program) -> RateTable:
    if program.rates is None:
        raise DataError(f"Program {program.name!r} has no rates to scale.")
    return program.rates


def _refuse_unless_whole(name: str, value: object, most: int | None) -> None:
    if type(value) is not int or value < 0 or (most is not None and value > most):
        allowed = "of 0 or more" if most is None else f"from 0 to {most}"
        raise DataError(f"{name} is {value!r}; it must be a whole number {allowed}.")


def _refuse_negatives(table: pa.Table, program: Program) -> None:
    """Refuse what would let the total fall as the rates rise."""
    for index, step in enumerate(_rates(program).steps):
        if step.rate < 0:
            raise DataError(
                f"rates.steps[{index}] of {program.name!r} pays {step.rate}; solve needs rates of 0 or more."
            )
    base = rows_views(table, program, paid=True).base
    if base is not None:
        values = np.empty(table.num_rows)
        kernels.active.doubles(base.column, values)
        negative = (values < 0) & base.array.is_valid().to_numpy()
        if negative.any():
            row = int(np.flatnonzero(negative)[0])
            raise DataError(f"Column {base.name!r} is {base.array[row]} in row {row}; solve needs bases of 0 or more.")


def _scaled(program: Program, factor: Decimal, places: int) -> Program:
    """The program with its rates multiplied and rounded down."""
    units, rates = Fraction(factor) * 10**places, _rates(program)
    steps = tuple(
        Step(step.threshold, Decimal(floor(Fraction(step.rate) * units)).scaleb(-places)) for step in rates.steps
    )
    title = f"{program.short_title('en')}, its rates times {factor}"
    title_ja = f"{program.short_title('ja')}、ポイント率{factor}倍" if program.title_ja else ""
    return replace(
        program, name=f"{program.name}-scaled", title=title, title_ja=title_ja, rates=replace(rates, steps=steps)
    )
