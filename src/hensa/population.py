"""Pass 1: the population, which is all that pass 2 needs to know of the other rows."""

import datetime
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from functools import cached_property, reduce
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hensa import kernels
from hensa.cohorts import INTEGERS, SUPER, WELFORD, Keys, Sums, add_up_by, encode, integers_of_words, names_of, words_of
from hensa.columns import View, Views, rows_views, table_of
from hensa.counts import Count
from hensa.errors import DataError, HensaError
from hensa.ids import identify
from hensa.moments import Exact, Moments, Welford
from hensa.program import Program, StandardScore
from hensa.threads import share_out

__all__ = ["Cohorts", "Method", "Population", "add_up", "cohorts_of", "population"]

Method: TypeAlias = Literal["auto", "exact", "welford"]
Key: TypeAlias = tuple[Any, ...]
Int64s: TypeAlias = npt.NDArray[np.int64]

_SUPER_BITS = 2368
"""Exact sums of floats come in units of 2**-2368: SUPER_OFFSET in kernels/floats.pxi."""

_SMALLEST_VARIANCE = 2.0**-1000
"""Underflow changes a square by 2**-1075 at most: 2**-75 of this, which the bound of 2 ulp does not notice."""


@dataclass(frozen=True)
class Population:
    """What all rows together say about one row: a count and the moments of each measure.

    Populations of parts of the rows merge with ``+``; exact ones into the very population of the whole, in any order.
    `to_json` and `from_json` lose nothing.

    Parameters
    ----------
    count : int
        Rows that count: none of the columns that the program reads is null in them.
    nulls : int
        Rows left out.
    measures : mapping of str to Moments
        By column name; also ``population["name"]``.
    by : tuple of str
        The cohort columns.
    cohorts : mapping of tuple to Population
        The population of each cohort, by the values of its cohort columns.

    Examples
    --------
    >>> import hensa
    >>> program = hensa.Program.load("hapitas-friend")
    >>> rows = {"site": ["a", "b"], "new_referrals": [1, 3], "ad_users": [0, 4], "friend_points": [10, 20]}
    >>> population = hensa.population(rows, program, by="site")
    >>> population
    Population of 2 rows (0 left out) in 2 cohorts by site
      new_referrals  mean 2  SD 1  (exact)
      ad_users       mean 2  SD 2  (exact)
    >>> population.cohorts["b",]["ad_users"].mean
    4.0
    >>> (population + population).count
    4
    >>> hensa.Population.from_json(population.to_json()) == population
    True
    """

    count: int
    nulls: int
    measures: Mapping[str, Moments] = field(default_factory=dict)
    by: tuple[str, ...] = ()
    cohorts: Mapping[Key, "Population"] = field(default_factory=dict)

    def __getitem__(self, column: str) -> Moments:
        return self.measures[column]

    def __add__(self, other: "Population") -> "Population":
        if not isinstance(other, Population):
            return NotImplemented
        if (list(self.measures), self.by) != (list(other.measures), other.by):
            raise DataError(
                f"Populations of the measures {_of(self)} and {_of(other)} cannot be merged; compute both with one "
                "program and the same cohort columns."
            )
        measures = {name: moments + other.measures[name] for name, moments in self.measures.items()}
        cohorts = _merged(self.cohorts, other.cohorts)
        return Population(self.count + other.count, self.nulls + other.nulls, measures, self.by, cohorts)

    def __repr__(self) -> str:
        width = max(map(len, self.measures), default=0)
        cohorts = f" in {Count(len(self.cohorts)):cohort} by {', '.join(self.by)}" if self.by else ""
        lines = [f"Population of {Count(self.count):row} ({self.nulls:,} left out){cohorts}"]
        lines += [
            f"  {name:{width}}  mean {m.mean:.10g}  SD {m.sd:.10g}  ({m.method})" for name, m in self.measures.items()
        ]
        return "\n".join(lines)

    def to_json(self) -> str:
        """The population as JSON text; exact numbers are strings, as JSON's own are float64 to many readers."""
        return json.dumps(self._to_dict(), ensure_ascii=False, indent=2)

    def _to_dict(self) -> dict[str, Any]:
        data: dict[str, Any] = {
            "count": self.count,
            "nulls": self.nulls,
            "measures": {name: moments.to_dict() for name, moments in self.measures.items()},
        }
        if self.by:
            data["by"] = list(self.by)
            data["cohorts"] = [
                {"key": [_to_json(part) for part in key], **cohort._to_dict()} for key, cohort in self.cohorts.items()
            ]
        return data

    @classmethod
    def from_json(cls, text: str) -> "Population":
        """Read what `to_json` wrote.

        Raises
        ------
        DataError
            If the text is not such a population.
        """
        try:
            return _from_dict(json.loads(text))
        except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
            raise DataError(
                f"The text is not a population as to_json writes it ({type(error).__name__}: {error})."
            ) from error


def _of(population: Population) -> str:
    return ", ".join(population.measures) + (f" by {', '.join(population.by)}" if population.by else "")


_TAGGED: dict[str, tuple[type, Any]] = {
    "datetime": (datetime.datetime, datetime.datetime.fromisoformat),
    "date": (datetime.date, datetime.date.fromisoformat),
    "decimal": (Decimal, Decimal),
}


def _to_json(part: Any) -> Any:
    """A part of a key: text, integers and bool as they are, the rest with its type."""
    for tag, (type_, _) in _TAGGED.items():
        if isinstance(part, type_):
            return {tag: str(part)}
    return part


def _from_json(part: Any) -> Any:
    if isinstance(part, dict):
        ((tag, text),) = part.items()
        return _TAGGED[tag][1](text)
    if not isinstance(part, str | int):
        raise TypeError(f"{part!r} is not a part of a key")
    return part


def _from_dict(data: Mapping[str, Any]) -> Population:
    count, nulls = _natural(data["count"]), _natural(data["nulls"])
    measures = {name: Moments.from_dict(count, values) for name, values in data["measures"].items()}
    by = tuple(data.get("by", ()))
    if not all(isinstance(name, str) for name in by) or len(set(by)) < len(by):
        raise ValueError(f"by is {list(by)!r}")
    cohorts = {tuple(map(_from_json, cohort["key"])): _from_dict(cohort) for cohort in data.get("cohorts", ())}
    if any(len(key) != len(by) for key in cohorts):
        raise ValueError("a key does not fit by")
    whole = Population(count, nulls, measures, by, Cohorts.of(by, cohorts) or cohorts)
    if by and not _adds_up(whole, list(cohorts.values())):
        raise ValueError("the cohorts do not add up to the whole")
    return whole


def _adds_up(whole: Population, cohorts: Sequence[Population]) -> bool:
    """Whether cohorts have the rows of all, and their exact sums."""
    if any(list(each.measures) != list(whole.measures) for each in cohorts):
        return False
    for name, moments in whole.measures.items() if cohorts else ():
        parts = [(each.count, state) for each in cohorts if isinstance(state := each[name].state, Exact)]
        if len(parts) == len(cohorts) and Exact.merged(parts) != moments.state:
            return False
    counts = sum(each.count for each in cohorts), sum(each.nulls for each in cohorts)
    return counts == (whole.count, whole.nulls)


def _natural(value: object) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r} is not a count")
    return value


class Cohorts(Mapping[Key, Population]):
    """The cohorts of some rows; their populations are made when they are looked at.

    Parameters
    ----------
    table : pyarrow.Table
        The distinct keys.
    sums : Sums
        What was added up for each.
    columns : list of (str, Fraction)
        Name and unit of each measure.
    ddof : int
        For the variances.
    """

    def __init__(self, table: pa.Table, sums: Sums, columns: list[tuple[str, Fraction]], ddof: int) -> None:
        self.table, self.sums, self.columns, self.ddof = table, sums, columns, ddof

    @classmethod
    def of(cls, by: tuple[str, ...], populations: Mapping[Key, Population]) -> "Cohorts | None":
        """The same populations as arrays; None unless all hold sums of whole numbers, and columns hold their keys."""
        kinds = {tuple((name, m.ddof) for name, m in each.measures.items()) for each in populations.values()}
        if len(kinds) != 1 or any(each.by for each in populations.values()):
            return None
        (kind,) = kinds
        states = [m.state for each in populations.values() for m in each.measures.values()]
        sums = [(state.sum, state.sum_of_squares) for state in states if isinstance(state, Exact)]
        whole = all(total.denominator == squares.denominator == 1 for total, squares in sums)
        if len({ddof for _, ddof in kind}) != 1 or len(sums) < len(states) or not whole:
            return None
        try:
            table = pa.table([pa.array(list(parts)) for parts in zip(*populations, strict=True)], names=list(by))
            totals = words_of((int(total), int(squares)) for total, squares in sums).reshape(-1, len(kind), 8)
            counts = np.array([each.count for each in populations.values()], dtype=np.int64)
            nulls = np.array([each.nulls for each in populations.values()], dtype=np.int64)
        except (pa.ArrowException, OverflowError, UnicodeError):
            return None
        columns = [(name, Fraction(1)) for name, _ in kind]
        found = cls(table, Sums(counts + nulls, counts, totals, {}, {}), columns, kind[0][1])
        return found if list(found) == list(populations) else None

    @cached_property
    def _index(self) -> dict[Key, int]:
        return {key: i for i, key in enumerate(self)}

    def __iter__(self) -> Iterator[Key]:
        return iter(zip(*(column.to_pylist() for column in self.table.columns), strict=True))

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __getitem__(self, key: Key) -> Population:
        return self.at(self._index[key])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mapping) and dict(self) == dict(other)

    def places(self, keys: pa.Table) -> Int64s | None:
        """Where the cohorts of some keys are, -1: nowhere; None if the types of the keys do not compare."""
        if keys.num_columns != self.table.num_columns:
            return None
        try:
            (own, others), distinct = identify(self.table, keys.rename_columns(self.table.column_names))
        except DataError:
            return None
        places = np.full(distinct.num_rows, -1)
        places[own] = np.arange(len(own))
        return places[others]

    def merged(self, other: "Cohorts") -> "Cohorts | None":
        """With the sums of others added; None if that takes their populations."""
        alike = (self.columns, self.ddof) == (other.columns, other.ddof)
        if not alike or not self.sums.of_integers or not other.sums.of_integers:
            return None
        places = self.places(other.table)
        if places is None:
            return None
        new = places < 0
        places[new] = len(self) + np.arange(new.sum())
        more = other.table.rename_columns(self.table.column_names).filter(pa.array(new))
        table = pa.concat_tables([self.table, more], promote_options="permissive")
        return Cohorts(table, self.sums.merged(other.sums, places), self.columns, self.ddof)

    def at(self, code: int) -> Population:
        """The population of one cohort."""
        count = int(self.sums.counts[code])
        exact = iter(self.sums.totals[code])
        measures = {}
        for i, (name, unit) in enumerate(self.columns):
            state: Exact | Welford
            if i in self.sums.states:
                _, *parts = map(float, self.sums.states[i][code])
                state = Welford((parts[0], parts[1]), (parts[2], parts[3]), unit)
            elif i in self.sums.floats:
                state = _exact_floats(*self.sums.floats[i][code])
            else:
                state = Exact(*integers_of_words(next(exact)), unit)
            measures[name] = Moments(count, state, self.ddof)
        return Population(count, int(self.sums.rows[code]) - count, measures)


def _merged(one: Mapping[Key, Population], other: Mapping[Key, Population]) -> Mapping[Key, Population]:
    if isinstance(one, Cohorts) and isinstance(other, Cohorts):
        together = one.merged(other)
        if together is not None:
            return together
    cohorts = dict(one)
    for key, cohort in other.items():
        cohorts[key] = cohorts[key] + cohort if key in cohorts else cohort
    return cohorts


def population(
    rows: Any,
    program: Program,
    by: str | Sequence[str] | None = None,
    method: Method = "auto",
    threads: int | None = None,
) -> Population:
    """Count the rows and add up the moments of every measure: pass 1.

    The sum and the sum of squares of each measure are added up exactly: integers, bool and decimals as integers of
    any size, floats in a superaccumulator. So the order of the rows, their chunks, parts, threads and machines change
    nothing, and merging loses nothing. A rule of another kind than the standard score has no measures; its population
    says how many rows count. Welford's method is there for floats when time matters more: it takes a block
    of rows at a time, in float64, and its SD is within 2 ulp of the exact one; threads and chunks change nothing, but
    the order of the rows and merging may change the last digit.

    Parameters
    ----------
    rows : object
        Anything with ``__arrow_c_stream__`` or ``__arrow_c_array__``, or a mapping of names to arrays; one row per
        referrer. A row that is null in a measure, or in the base of the reward if that column is there, is left out.
    program : Program
        Names the measures and the ddof.
    by : str or sequence of str, optional
        Cohort columns (month, site, country): the result then also has a population per cohort.
    method : {"auto", "exact", "welford"}
        "auto" is "exact", for columns of every type; "welford" rounds (floats: about 1.5 times as fast).
    threads : int, optional
        Number of threads; None: the CPUs that this process may use.

    Returns
    -------
    Population

    Raises
    ------
    DataError
        A column is missing, there twice or of a type that is not a number; a value is NaN or infinite; a cohort
        column is null; by Welford's method, the squares of floats are beyond float64.

    References
    ----------
    B. P. Welford (1962), Technometrics 4(3); T. F. Chan, G. H. Golub and R. J. LeVeque (1979), STAN-CS-79-773;
    R. M. Neal (2015), arXiv:1505.05571.

    Examples
    --------
    >>> import hensa
    >>> program = hensa.Program.load("hapitas-friend")
    >>> rows = {"new_referrals": [10] * 99 + [5000], "ad_users": [7] * 100}
    >>> hensa.population(rows, program)["new_referrals"].mean
    59.9
    """
    if not isinstance(program, Program):
        raise HensaError(f"program is {program!r:.80}; it must be a hensa.Program, such as Program.load(...) returns.")
    if method not in ("auto", "exact", "welford"):
        raise DataError(f'method is {method!r}; it must be "auto", "exact" or "welford".')
    table, names = table_of(rows), names_of(by)
    views = rows_views(table, program, paid=False)
    whole = add_up(views, program, method, threads)
    if not names:
        return whole
    cohorts = cohorts_of(views, encode(table, names, threads), program, method, threads)
    return Population(whole.count, whole.nulls, whole.measures, names, cohorts)


def cohorts_of(views: Views, keys: Keys, program: Program, method: Method, threads: int | None) -> Cohorts:
    """Pass 1 by cohort, over columns that have been checked."""
    ways = [_way(view, method) for view in views.measures]
    columns = [(view.name, Fraction(view.unit or 1)) for view in views.measures]
    return Cohorts(keys.table, add_up_by(views, keys, ways, threads), columns, _ddof(program))


def add_up(views: Views, program: Program, method: Method, threads: int | None) -> Population:
    """Pass 1 over columns that have been checked."""
    ways = bytes([_way(view, method) for view in views.measures])
    columns = [view.column for view in views.all]

    def work(start: int, stop: int) -> tuple[int, list[Any]]:
        try:
            part: tuple[int, list[Any]] = kernels.active.moments(columns, ways, start, stop)
        except ArithmeticError as error:
            measure, row = error.args
            raise _not_finite(views.measures[measure], row, views.all) from None
        return part

    parts = share_out(work, views.n_rows, threads)
    count = sum(part[0] for part in parts)
    ddof = _ddof(program)
    measures = {}
    for i, view in enumerate(views.measures):
        states = [part[1][i] for part in parts]
        state: Exact | Welford
        if ways[i] == WELFORD:
            merged = kernels.active.merge(np.array(states, dtype=np.float64).reshape(-1, 5))
            state = Welford(merged[1:3], merged[3:5], view.unit or Fraction(1))
            if view.unit is None and merged[3] < count * _SMALLEST_VARIANCE and len(_counted(view, views).unique()) > 1:
                raise _beyond(view)
        else:
            total, squares = map(sum, zip((0, 0), *states, strict=True))
            state = _exact_floats(total, squares) if view.unit is None else Exact(total, squares, view.unit)
        measures[view.name] = Moments(count, state, ddof)
    return Population(count, views.n_rows - count, measures)


def _ddof(program: Program) -> int:
    """A rule of another kind has no measures, and needs none."""
    return program.rule.ddof if isinstance(program.rule, StandardScore) else 0


def _way(view: View, method: Method) -> int:
    """How a measure is added up."""
    if method == "welford":
        return WELFORD
    return SUPER if view.unit is None else INTEGERS


def _exact_floats(total: int, squares: int) -> Exact:
    """The state of exact sums of floats, which are whole numbers of 2**-1074, and their squares of 2**-2148. Zero bits
    at the end are shifted out: fractions of so many bits are slow."""
    total, squares = total >> _SUPER_BITS - 1074, squares >> _SUPER_BITS - 2148
    zeros = min(_zeros(total), _zeros(squares) // 2, 1074)
    return Exact(total >> zeros, squares >> 2 * zeros, Fraction(1, 1 << 1074 - zeros))


def _zeros(number: int) -> int:
    """Zero bits at the end; of 0 as many as matter."""
    return (number & -number).bit_length() - 1 if number else _SUPER_BITS


def _not_finite(view: View, start: int, views: list[View]) -> DataError:
    """The error for a block of rows whose state is not finite."""
    for row in range(start, len(view.array)):
        if all(other.array[row].is_valid for other in views):
            value = view.array[row].as_py()
            if not np.isfinite(value):
                return DataError(f"Column {view.name!r} is {value} in row {row}; measures must be finite numbers.")
    return _beyond(view)


def _counted(view: View, views: Views) -> pa.ChunkedArray:
    """The values in rows that count."""
    import pyarrow.compute as pc  # slow to import, seldom needed

    return view.array.filter(reduce(pc.and_, [other.array.is_valid() for other in views.all]))


def _beyond(view: View) -> DataError:
    return DataError(
        f"Column {view.name!r} has values whose squares are beyond float64, so Welford's method cannot add them up; "
        'rescale it, or use method="exact".'
    )
