"""Pass 1: the population, which is all that pass 2 needs to know of the other rows."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property, reduce
from math import nan, sqrt
from typing import Any, Literal, Self, TypeAlias

import numpy as np
import pyarrow as pa

from hensa import kernels
from hensa.columns import View, Views, rows_views, table_of
from hensa.errors import DataError
from hensa.program import Program
from hensa.roots import nearest_root
from hensa.threads import share_out

__all__ = ["Exact", "Method", "Moments", "Population", "Welford", "population"]

_SMALLEST_VARIANCE = 2.0**-1000
"""Underflow changes a square by 2**-1075 at most: 2**-75 of this, which the bound of 2 ulp does not notice."""

Method: TypeAlias = Literal["auto", "exact", "welford"]


@dataclass(frozen=True)
class Exact:
    """The sum and the sum of squares, exactly; merging is addition."""

    sum: Fraction
    sum_of_squares: Fraction

    def mean(self, count: int) -> Fraction:
        return self.sum / count

    def m2(self, count: int) -> Fraction:
        """The sum of squared deviations: (nΣx² - (Σx)²) / n."""
        return self.sum_of_squares - self.sum**2 / count

    @classmethod
    def merged(cls, parts: Iterable[tuple[int, Self]]) -> Self:
        states = [state for _, state in parts]
        return cls(
            sum((state.sum for state in states), Fraction(0)),
            sum((state.sum_of_squares for state in states), Fraction(0)),
        )


@dataclass(frozen=True)
class Welford:
    """The mean and M2, the sum of squared deviations, each as an unevaluated sum of two float64."""

    mean_parts: tuple[float, float]
    m2_parts: tuple[float, float]
    unit: Fraction = Fraction(1)
    """Of the numbers that were added up: 10**-scale for decimals, else 1."""

    def mean(self, count: int) -> Fraction:
        return sum(map(Fraction, self.mean_parts), Fraction(0)) * self.unit

    def m2(self, count: int) -> Fraction:
        # Rounding may leave a tiny negative number where all values are equal.
        return max(sum(map(Fraction, self.m2_parts), Fraction(0)), Fraction(0)) * self.unit**2

    @classmethod
    def merged(cls, parts: Iterable[tuple[int, Self]]) -> Self:
        parts = list(parts)
        parts = [(count, state) for count, state in parts if count] or parts[:1]
        units = {state.unit for _, state in parts}
        if len(units) > 1:
            raise DataError("Populations by Welford's method over decimals of different scales cannot be merged.")
        states = [(float(count), *state.mean_parts, *state.m2_parts) for count, state in parts]
        merged = kernels.active.merge(np.array(states, dtype=np.float64).reshape(-1, 5))
        return cls(merged[1:3], merged[3:5], *units)


@dataclass(frozen=True)
class Moments:
    """Count, mean, variance and SD of one measure.

    Parameters
    ----------
    count : int
        Number of rows.
    state : Exact or Welford
        What was added up.
    ddof : {0, 1}
        The variance divides by ``count - ddof``.
    """

    count: int
    state: Exact | Welford
    ddof: int = 0

    @property
    def method(self) -> str:
        """``"exact"`` or ``"welford"``."""
        return "exact" if isinstance(self.state, Exact) else "welford"

    @cached_property
    def mean_exact(self) -> Fraction:
        """The mean; by Welford's method, the exact value of the state. Needs a row."""
        return self.state.mean(self.count)

    @cached_property
    def variance_exact(self) -> Fraction:
        """The variance; by Welford's method, the exact value of the state. Needs more than ddof rows."""
        return self.state.m2(self.count) / (self.count - self.ddof)

    @property
    def mean(self) -> float:
        """The float64 nearest to the mean; nan without rows."""
        return float(self.mean_exact) if self.count else nan

    @property
    def variance(self) -> float:
        """The float64 nearest to the variance; nan unless there are more than ddof rows."""
        return float(self.variance_exact) if self.count > self.ddof else nan

    @property
    def sd(self) -> float:
        """The float64 nearest to the standard deviation; nan unless there are more than ddof rows."""
        return nearest_root(self.variance_exact) if self.count > self.ddof else nan

    def rounded_sd(self, unit: Fraction | None) -> float:
        """The SD by three rounded operations, as the score is defined with; 0.0 for a constant measure.

        In units of a column of integers or decimals, √(fl(nΣx² - (Σx)²) / fl(n (n - ddof))); for a column of floats
        (`unit` is None) √(fl(M2) / fl(n - ddof)).
        """
        m2, left = self.state.m2(self.count), self.count - self.ddof
        if unit is None:
            return sqrt(float(m2) / left)
        return sqrt(float(m2 * self.count / unit**2) / float(self.count * left))

    def __add__(self, other: "Moments") -> "Moments":
        if not isinstance(other, Moments):
            return NotImplemented
        if (self.method, self.ddof) != (other.method, other.ddof):
            raise DataError(
                f"Moments by {self.method} with ddof {self.ddof} and by {other.method} with ddof {other.ddof} cannot "
                "be merged; compute both with one program and one method."
            )
        parts: Any = [(self.count, self.state), (other.count, other.state)]
        return Moments(self.count + other.count, type(self.state).merged(parts), self.ddof)

    def __repr__(self) -> str:
        return f"Moments(count={self.count:,}, mean={self.mean:.6g}, sd={self.sd:.6g}, {self.method})"


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

    Examples
    --------
    >>> import hensa
    >>> program = hensa.Program.load("hapitas-friend")
    >>> rows = {"new_referrals": [1, 3], "ad_users": [0, 4], "friend_points": [10, 20]}
    >>> population = hensa.population(rows, program)
    >>> population
    Population of 2 rows (0 left out)
      new_referrals  mean 2  SD 1  (exact)
      ad_users       mean 2  SD 2  (exact)
    >>> (population + population).count
    4
    >>> hensa.Population.from_json(population.to_json()) == population
    True
    """

    count: int
    nulls: int
    measures: Mapping[str, Moments] = field(default_factory=dict)

    def __getitem__(self, column: str) -> Moments:
        return self.measures[column]

    def __add__(self, other: "Population") -> "Population":
        if not isinstance(other, Population):
            return NotImplemented
        if list(self.measures) != list(other.measures):
            raise DataError(
                f"Populations of the measures {', '.join(self.measures)} and {', '.join(other.measures)} cannot be "
                "merged; compute both with one program."
            )
        measures = {name: moments + other.measures[name] for name, moments in self.measures.items()}
        return Population(self.count + other.count, self.nulls + other.nulls, measures)

    def __repr__(self) -> str:
        width = max(map(len, self.measures), default=0)
        lines = [f"Population of {self.count:,} rows ({self.nulls:,} left out)"]
        lines += [f"  {name:{width}}  mean {m.mean:.10g}  SD {m.sd:.10g}  ({m.method})" for name, m in self.measures.items()]
        return "\n".join(lines)

    def to_json(self) -> str:
        """The population as JSON text; exact numbers are strings, as JSON's own are float64 to many readers."""
        measures = {}
        for name, moments in self.measures.items():
            state = moments.state
            if isinstance(state, Exact):
                values: dict[str, Any] = {"sum": str(state.sum), "sum_of_squares": str(state.sum_of_squares)}
            else:
                values = {
                    "mean": [part.hex() for part in state.mean_parts],
                    "m2": [part.hex() for part in state.m2_parts],
                    "unit": str(state.unit),
                }
            measures[name] = {"method": moments.method, "ddof": moments.ddof, **values}
        return json.dumps({"count": self.count, "nulls": self.nulls, "measures": measures}, ensure_ascii=False, indent=2)

    @classmethod
    def from_json(cls, text: str) -> "Population":
        """Read what `to_json` wrote.

        Raises
        ------
        DataError
            If the text is not such a population.
        """
        try:
            data = json.loads(text)
            count, nulls = _natural(data["count"]), _natural(data["nulls"])
            measures = {name: _moments(count, values) for name, values in data["measures"].items()}
        except (ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError, OverflowError, RecursionError) as error:
            raise DataError(f"The text is not a population as to_json writes it ({type(error).__name__}: {error}).") from error
        return cls(count, nulls, measures)


def _natural(value: object) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r} is not a count")
    return value


def _fraction(value: object) -> Fraction:
    if type(value) is not str:
        raise ValueError(f"{value!r} is not a number in a string")
    return Fraction(value)


def _moments(count: int, values: Mapping[str, Any]) -> Moments:
    ddof = values["ddof"]
    if type(ddof) is not int or ddof not in (0, 1):
        raise ValueError(f"ddof is {ddof!r}")
    state: Exact | Welford
    if values["method"] == "exact":
        state = Exact(_fraction(values["sum"]), _fraction(values["sum_of_squares"]))
        # Cauchy and Schwarz: no numbers have other sums
        if state.sum**2 > count * state.sum_of_squares:
            raise ValueError("no population has these sums")
    elif values["method"] == "welford":
        mean, m2 = (tuple(float.fromhex(part) for part in values[key]) for key in ("mean", "m2"))
        if len(mean) != 2 or len(m2) != 2 or not np.isfinite([*mean, *m2]).all() or m2[0] < 0:
            raise ValueError("mean and m2 are not pairs of finite numbers")
        state = Welford(mean, m2, _fraction(values["unit"]))
        if state.unit <= 0:
            raise ValueError(f"unit is {values['unit']!r}")
    else:
        raise ValueError(f"method is {values['method']!r}")
    return Moments(count, state, ddof)


def population(
    rows: Any, program: Program, by: Any = None, method: Method = "auto", threads: int | None = None
) -> Population:
    """Count the rows and add up the moments of every measure: pass 1.

    Integer, bool and decimal columns are added up exactly: the sum and the sum of squares as integers of any size.
    Float columns take Welford's method, a block of rows at a time: the SD is within 2 ulp of the exact one of
    the float64 values. Integers do better: they do not round at all, so the order of the rows, their chunks,
    parts and machines change nothing, and merging loses nothing.

    Parameters
    ----------
    rows : object
        Anything with ``__arrow_c_stream__`` or ``__arrow_c_array__``, or a mapping of names to arrays; one row per
        referrer. A row that is null in a measure, or in the base of the reward if that column is there, is left out.
    program : Program
        Names the measures and the ddof.
    method : {"auto", "exact", "welford"}
        "auto": exact for integers, bool and decimals, Welford for floats.
    threads : int, optional
        Number of threads; None: the CPUs that this process may use.

    Returns
    -------
    Population

    Raises
    ------
    DataError
        A column is missing, there twice or of a type that is not a number; a value is NaN or infinite; exact
        moments of floats are asked for.

    References
    ----------
    B. P. Welford (1962), Technometrics 4(3); T. F. Chan, G. H. Golub and R. J. LeVeque (1979), STAN-CS-79-773.

    Examples
    --------
    >>> import hensa
    >>> program = hensa.Program.load("hapitas-friend")
    >>> rows = {"new_referrals": [10] * 99 + [5000], "ad_users": [7] * 100}
    >>> hensa.population(rows, program)["new_referrals"].mean
    59.9
    """
    if method not in ("auto", "exact", "welford"):
        raise DataError(f'method is {method!r}; it must be "auto", "exact" or "welford".')
    return add_up(rows_views(table_of(rows), program, paid=False), program, method, threads)


def add_up(views: Views, program: Program, method: Method, threads: int | None) -> Population:
    """Pass 1 over columns that have been checked."""
    for view in views.measures:
        if method == "exact" and view.unit is None:
            raise DataError(f"Column {view.name!r} is {view.kind}, and exact moments of floats are not offered yet.")
    welford = np.array([method == "welford" or view.unit is None for view in views.measures], dtype=np.uint8)
    columns = [view.column for view in views.measures]
    others = [view.column for view in views.all[len(columns) :]]

    def work(start: int, stop: int) -> tuple[int, list[Any]]:
        try:
            part: tuple[int, list[Any]] = kernels.active.moments(columns, others, welford, start, stop)
        except ArithmeticError as error:
            measure, row = error.args
            raise _not_finite(views.measures[measure], row, views.all) from None
        return part

    parts = share_out(work, views.n_rows, threads)
    count = sum(part[0] for part in parts)
    measures = {}
    for i, view in enumerate(views.measures):
        states = [part[1][i] for part in parts]
        state: Exact | Welford
        if welford[i]:
            merged = kernels.active.merge(np.array(states, dtype=np.float64).reshape(-1, 5))
            state = Welford(merged[1:3], merged[3:5], Fraction(view.unit or 1))
            if count and merged[3] < count * _SMALLEST_VARIANCE and len(_counted(view, views).unique()) > 1:
                raise _beyond(view)
        else:
            unit = Fraction(view.unit or 1)
            state = Exact(sum(s[0] for s in states) * unit, sum(s[1] for s in states) * unit**2)
        measures[view.name] = Moments(count, state, program.rule.ddof)
    return Population(count, views.n_rows - count, measures)


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
