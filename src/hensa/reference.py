"""The whole pipeline in obvious Python: the specification that the compiled kernels are held to.

Only the standard library, only integers and fractions where a result must be exact. Rows are plain
Python values (int, bool, float, Decimal, None); results are plain lists.

A score is a float64 that a fixed sequence of operations gives, so that every engine can give the same
bits. That sequence also yields a bound on its own error. A row whose score is closer to a threshold than
the bound is decided by exact arithmetic, so the step is always the one of infinite precision.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from math import ceil, floor, inf, isfinite, isqrt, lcm, nan, nextafter, sqrt
from typing import Any, Protocol

from hensa.counts import Count
from hensa.errors import ColumnError, DataError
from hensa.program import (
    Criterion,
    Measure,
    PaidEvent,
    PerEvent,
    Program,
    Reward,
    Rule,
    Stages,
    StandardScore,
)

__all__ = ["Moments", "Population", "exact_steps", "population", "score"]


class _Tabular(Protocol):
    @property
    def schema(self) -> Any: ...

    def to_pydict(self) -> dict[str, list[Any]]: ...


Rows = Mapping[str, Sequence[Any]] | _Tabular
Key = tuple[Any, ...]
Cells = tuple[int | float, ...]
_ULP = 2.0**-53
_INT64 = range(-(2**63), 2**63)
_RESULTS = ("step", "rate", "reward")


# ---------------------------------------------------------------------------------------------------------------------
# Sums of square roots
# ---------------------------------------------------------------------------------------------------------------------


class _RootSum:
    """An exact real number: a rational plus rational multiples of square roots of rationals.

    With every denominator cleared it is (r + sum_i a_i*sqrt(n_i)) / d for integers r, a_i != 0, n_i > 0, d > 0. The
    numerator is compared with zero by ever narrower integer intervals until its sign is plain. A numerator that is zero
    is known as soon as the interval is narrower than any other could be:

    A numerator that is not zero is at least 1 / M^(2^m - 1) in size, with m roots and M >= |r| + sum_i |a_i|*sqrt(n_i).
    Proof: it lies in K = Q(sqrt(n_1), ..., sqrt(n_m)), a Galois field. An automorphism of K only changes the signs of
    some roots, so there are at most 2^m of them, and each maps the numerator to a number that is not zero and at most M
    in size. Every automorphism leaves the product of these numbers alone, so it is rational; it is an algebraic
    integer, so it is an integer; it is not zero, so its size is at least 1. All its factors but the numerator itself
    are at most M.
    """

    def __init__(self, rational: Fraction, roots: Iterable[tuple[Fraction, Fraction]] = ()) -> None:
        factors: dict[Fraction, Fraction] = {}
        for factor, radicand in roots:
            factors[radicand] = factors.get(radicand, Fraction()) + factor
        # f * sqrt(p/q) = f/q * sqrt(p*q)
        terms = [(f / x.denominator, x.numerator * x.denominator) for x, f in factors.items() if f]
        self.d = lcm(rational.denominator, *(f.denominator for f, _ in terms))
        self.r = int(rational * self.d)
        self.terms = [(int(f * self.d), n) for f, n in terms]

    def compare(self, x: Fraction) -> int:
        """-1, 0 or 1: the number is less than, equal to or greater than `x`."""
        p, q = x.numerator, x.denominator
        r, terms = self.r * q - p * self.d, [(a * q, n) for a, n in self.terms]
        largest = abs(r) + sum(isqrt(a * a * n) + 1 for a, n in terms)
        enough = largest.bit_length() * (2 ** len(terms) - 1) + len(terms).bit_length()
        bits = 64
        low, high = _interval(r, terms, bits)
        while low <= 0 <= high and bits < enough:
            bits *= 2
            low, high = _interval(r, terms, bits)
        return 1 if low > 0 else -1 if high < 0 else 0

    def nearest(self) -> float:
        """The float64 nearest to the number, ties to even."""
        bits = 64
        while True:
            low, high = (_nearest(Fraction(end, self.d << bits)) for end in _interval(self.r, self.terms, bits))
            if low == high:
                return low + 0.0  # never -0.0
            if nextafter(low, inf) == high:
                half = (Fraction(low) + Fraction(high)) / 2
                side = self.compare(half)
                return low if side < 0 else high if side > 0 else _nearest(half)
            bits *= 2


def _interval(r: int, terms: list[tuple[int, int]], bits: int) -> tuple[int, int]:
    """Integers around 2^bits * (r + sum a*sqrt(n)), one apart for each term."""
    low = high = r << bits
    for a, n in terms:
        root = isqrt(a * a * n << 2 * bits)
        low, high = (low + root, high + root + 1) if a > 0 else (low - root - 1, high - root)
    return low, high


def _nearest(x: Fraction) -> float:
    try:
        return float(x)
    except OverflowError:
        return inf if x > 0 else -inf


# ---------------------------------------------------------------------------------------------------------------------
# Pass 1: the population
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Moments:
    """Exact count, sum and sum of squares of one measure, and what follows from them.

    Examples
    --------
    >>> from fractions import Fraction
    >>> m = Moments(count=4, sum=Fraction(6), sum_of_squares=Fraction(14), ddof=0)  # of 0, 1, 2, 3
    >>> m.mean, m.variance, m.sd
    (Fraction(3, 2), Fraction(5, 4), 1.118033988749895)
    """

    count: int
    sum: Fraction
    sum_of_squares: Fraction
    ddof: int

    @property
    def mean(self) -> Fraction | None:
        """Exact mean; None when there are no rows."""
        return self.sum / self.count if self.count else None

    @property
    def variance(self) -> Fraction | None:
        """Exact variance with divisor count - ddof; None when that is not positive."""
        if self.count <= self.ddof:
            return None
        return (self.count * self.sum_of_squares - self.sum**2) / (self.count * (self.count - self.ddof))

    @property
    def sd(self) -> float:
        """The float64 nearest to the square root of the exact variance; nan when that is undefined."""
        return nan if self.variance is None else _RootSum(Fraction(), [(Fraction(1), self.variance)]).nearest()

    def __add__(self, other: "Moments") -> "Moments":
        if not isinstance(other, Moments):
            return NotImplemented
        if self.ddof != other.ddof:
            raise DataError(f"Moments with ddof {self.ddof} and {other.ddof} cannot be merged; they must be the same.")
        return Moments(
            self.count + other.count, self.sum + other.sum, self.sum_of_squares + other.sum_of_squares, self.ddof
        )


@dataclass(frozen=True)
class Population:
    """Moments of every measure over the rows that count, and how many rows had a null and do not.

    ``cohorts`` maps the values of the ``by`` columns to the population of the rows that have them.
    """

    count: int
    nulls: int
    measures: Mapping[str, Moments]
    cohorts: Mapping[Key, "Population"] = field(default_factory=dict)
    by: tuple[str, ...] = ()

    def __getitem__(self, column: str) -> Moments:
        return self.measures[column]

    def __add__(self, other: "Population") -> "Population":
        if not isinstance(other, Population):
            return NotImplemented
        if list(self.measures) != list(other.measures) or self.by != other.by:
            raise DataError("Populations of different measures or cohort columns cannot be merged.")
        cohorts = dict(self.cohorts)
        for key, cohort in other.cohorts.items():
            cohorts[key] = cohorts[key] + cohort if key in cohorts else cohort
        measures = {column: self[column] + other[column] for column in self.measures}
        return Population(self.count + other.count, self.nulls + other.nulls, measures, cohorts, self.by)


def population(rows: Rows, program: Program, by: str | Sequence[str] | None = None) -> Population:
    """Exact moments of the program's measures over the rows in which no column that the program reads is null.

    Parameters
    ----------
    rows : mapping of column names to sequences of Python values, or anything with ``to_pydict()``
    program : Program
    by : column name or names, optional
        Cohort columns; the result then also holds a population per distinct tuple of their values.

    Returns
    -------
    Population

    Raises
    ------
    DataError
        A column is missing or repeated, a measure is not numeric, NaN or infinite, or a cohort column is null.

    Examples
    --------
    >>> import hensa
    >>> program = hensa.Program.load("hapitas-friend")
    >>> pop = population({"new_referrals": [1, 3, None], "ad_users": [5, 5, 5]}, program)
    >>> pop.count, pop.nulls, pop["new_referrals"].mean, pop["new_referrals"].sd
    (2, 1, Fraction(2, 1), 1.0)
    """
    return _population(_Input(rows, program, by))


def _population(given: "_Input") -> Population:
    cohorts = {}
    if given.by:
        members: dict[Key, list[int]] = {}
        for row, key in enumerate(given.keys):
            members.setdefault(key, []).append(row)
        cohorts = {key: _population_of(given, chosen) for key, chosen in members.items()}
    whole = _population_of(given, range(given.length))
    return Population(whole.count, whole.nulls, whole.measures, cohorts, given.by)


def _population_of(given: "_Input", chosen: Sequence[int]) -> Population:
    counted = [row for row in chosen if given.counts[row]]
    measures = {}
    for column in given.measures:
        exact = [given.exact(column.cells[row]) for row in counted]
        total, squares = Fraction(sum(exact)), Fraction(sum(x * x for x in exact))
        ddof = given.program.rule.ddof if isinstance(given.program.rule, StandardScore) else 0
        measures[column.name] = Moments(len(counted), total * column.unit, squares * column.unit**2, ddof)
    return Population(len(counted), len(chosen) - len(counted), measures)


# ---------------------------------------------------------------------------------------------------------------------
# Rows in
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Column:
    """The cells of one measure: floats with unit 1, or integers (of decimals the digits) times a power of ten."""

    name: str
    cells: list[Any]
    unit: Fraction
    is_float: bool


class _Input:
    """The rows, checked: every measure, which rows count, and every row's cohort."""

    def __init__(self, rows: Rows, program: Program, by: str | Sequence[str] | None) -> None:
        self.program = program
        self.table = _table(rows)
        self.length = len(next(iter(self.table.values()), ()))
        self.by = () if by is None else (by,) if isinstance(by, str) else tuple(by)
        rule = program.rule
        deciding: Sequence[Measure | Criterion | PaidEvent] = program.measures
        if isinstance(rule, Stages):
            deciding = rule.criteria
        elif isinstance(rule, PerEvent):
            deciding = rule.events
        for name in (*(column.column for column in deciding), *self.by):
            self.need(name)
        base = [] if program.reward is None else [program.reward.base]
        read = [self.table[name] for name in [*(c.column for c in deciding), *base] if name in self.table]
        self.counts = [None not in cells for cells in zip(*read, strict=True)]
        for measure in deciding:
            _refuse_others_than_numbers(measure.column, self.table[measure.column])
            if measure.negative == "error":
                _refuse_negatives(measure.column, self.table[measure.column])
        if program.reward is not None and program.reward.negative == "error":
            _refuse_negatives(program.reward.base, self.table.get(program.reward.base, []))
        columns = [_measure(column.column, self.table[column.column], self.counts) for column in deciding]
        self.measures = columns if program.measures else []
        self.criteria = columns if isinstance(rule, Stages) else []
        for name in self.by:
            if None in self.table[name]:
                row = self.table[name].index(None)
                raise DataError(f"Cohort column {name!r} is null in row {row}; every row needs a cohort.")
        self.keys: list[Key] = list(zip(*(self.table[name] for name in self.by), strict=True)) or [()] * self.length

    def need(self, name: str) -> None:
        if name not in self.table:
            raise ColumnError(f"Column {name!r} is missing; the columns are {', '.join(self.table) or 'none'}.")

    @staticmethod
    def exact(cell: int | float) -> int | Fraction:
        return Fraction(cell) if isinstance(cell, float) else cell


def _table(rows: Rows) -> dict[str, list[Any]]:
    if isinstance(rows, Mapping):
        table = {name: list(cells) for name, cells in rows.items()}
    else:
        names = list(rows.schema.names)
        for name in names:
            if names.count(name) > 1:
                raise DataError(f"Column {name!r} is there {names.count(name)} times; names must be unique.")
        table = rows.to_pydict()
    lengths = {name: len(cells) for name, cells in table.items()}
    if len(set(lengths.values())) > 1:
        raise DataError(f"The columns differ in length: {lengths}.")
    return table


def _refuse_others_than_numbers(name: str, cells: list[Any]) -> None:
    for row, cell in enumerate(cells):
        if not isinstance(cell, int | float | Decimal | None):
            found = type(cell).__name__
            raise DataError(f"Column {name!r} holds a {found} in row {row}; a measure is an integer, decimal or float.")


def _refuse_negatives(name: str, cells: list[Any]) -> None:
    for row, cell in enumerate(cells):
        is_number = isinstance(cell, int | float) or (isinstance(cell, Decimal) and cell.is_finite())
        if is_number and cell < 0:
            raise DataError(
                f"Column {name!r} is {cell} in row {row}; it must be 0 or more, as the program says "
                'negative = "error" of it.'
            )


def _measure(name: str, cells: list[Any], counts: list[bool]) -> _Column:
    for row, cell in enumerate(cells):
        if not _is_finite(cell) and (counts[row] or isinstance(cell, Decimal)):
            raise DataError(f"Column {name!r} is {cell} in row {row}; a measure must be finite.")
    kinds = {type(cell) for cell in cells}
    if float in kinds:
        return _Column(name, [None if cell is None else float(cell) for cell in cells], Fraction(1), True)
    exponents = [int(cell.as_tuple().exponent) for cell in cells if isinstance(cell, Decimal)]
    unit = Fraction(10) ** min(exponents, default=0)  # the cells of an Arrow decimal column share one exponent
    return _Column(name, [None if cell is None else int(Fraction(cell) / unit) for cell in cells], unit, False)


def _bases(name: str, cells: list[Any]) -> list[Any]:
    for row, cell in enumerate(cells):
        if not isinstance(cell, int | Decimal | None) or not _is_finite(cell):
            raise DataError(f"Column {name!r} holds {cell!r} in row {row}; a reward base is an integer or a decimal.")
    return cells


def _is_finite(cell: int | float | Decimal | None) -> bool:
    return cell.is_finite() if isinstance(cell, Decimal) else not isinstance(cell, float) or isfinite(cell)


# ---------------------------------------------------------------------------------------------------------------------
# Pass 2: scores
# ---------------------------------------------------------------------------------------------------------------------


class _Term:
    """What one measure adds to the score: its constants in float64, and exactly."""

    def __init__(self, column: _Column, moments: Moments, scale: Fraction, share: Fraction) -> None:
        assert moments.mean is not None
        assert moments.variance is not None
        self.name, self.real_sd = column.name, moments.sd
        self.mean = moments.mean / column.unit
        self.variance = moments.variance / column.unit**2
        self.factor = scale * share
        self.k: int | float = _nearest(self.mean) if column.is_float else floor(self.mean)
        if not column.is_float and not -(2**127) <= self.k < 2**127:
            raise DataError(f"The population's mean of {column.name!r} is beyond the range of decimal128.")
        if self.k in (inf, -inf):
            raise DataError(f"The population's mean of {column.name!r} is beyond the range of float64.")
        self.f = _nearest(self.mean - Fraction(self.k))
        n, left = moments.count, moments.count - moments.ddof
        # n left V = n sum(x^2) - sum(x)^2, an integer but for floats
        rounded = sqrt(_nearest(self.variance * n * left) / _nearest(Fraction(n * left)))
        self.sd = moments.sd if column.is_float else rounded
        self.c = _nearest(self.factor) / self.sd if self.sd else 0.0
        self.g = _nearest(scale) / self.sd if self.sd else 0.0

    def deviation(self, x: int | float) -> float:
        return float(x - self.k) - self.f

    def exact(self, x: int | float) -> tuple[Fraction, Fraction]:
        """The factor and the radicand of what `x` adds to the score."""
        return self.factor * (Fraction(x) - self.mean), 1 / self.variance


class _Scorer:
    """Scores the rows of one population under one program."""

    def __init__(self, given: _Input, pop: Population) -> None:
        rule, rates = given.program.rule, given.program.rate_table
        assert isinstance(rule, StandardScore)
        total = sum((measure.weight for measure in rule.measures), Fraction())
        moments = [_moments(pop, column.name, rule.ddof) for column in given.measures]
        for column, of_column in zip(given.measures, moments, strict=True):
            if not of_column.variance and rule.constant == "error":
                raise DataError(f'Column {column.name!r} is constant, and the program has constant = "error".')
        self.is_null = rule.constant == "null" and not all(of_column.variance for of_column in moments)
        if self.is_null:
            return
        self.terms = [
            _Term(column, of_column, rule.scale, measure.weight / total)
            for column, of_column, measure in zip(given.measures, moments, rule.measures, strict=True)
        ]
        self.centre = rule.centre
        self.thresholds = rates.thresholds
        self.float_thresholds = [_nearest(threshold) for threshold in rates.thresholds]
        # The rounding of f moves the score by at most |c| (|f| 2^-53 + 2^-1075). The bound takes products not to
        # underflow by more than 2^-1000, which |c| > 2^-1000 ensures, and the SD to come of no operation that
        # underflows, which SD >= 2^-500 ensures; otherwise floats decide nothing. (A loop, as sum() adds otherwise
        # from Python 3.12 on.)
        self.e0 = 2.0**-1000
        for term in self.terms:
            usual = (abs(term.c) > 2.0**-1000 and term.sd >= 2.0**-500) or not term.factor or not term.variance
            self.e0 += abs(term.c) * (abs(term.f) * 2.0**-52 + 2.0**-1074) if usual else inf
        self.known: dict[Cells, tuple[float, int]] = {}

    def place(self, cells: Cells) -> tuple[float, int]:
        """The score of a row, and how many thresholds it reaches; equal rows are decided once."""
        if cells not in self.known:
            s, error = self.approximate(cells)
            reached = bisect_right(self.float_thresholds, s)
            near = self.float_thresholds[max(reached - 1, 0) : reached + 1]
            decided = all(abs(s - threshold) > error for threshold in near)  # never so when s is nan
            self.known[cells] = (s, reached) if decided else self.exact_place(cells)
        return self.known[cells]

    def approximate(self, cells: Cells) -> tuple[float, float]:
        """The score in a fixed sequence of float64 operations, and a bound on its distance from the exact score."""
        s, m = _nearest(self.centre), 0.0
        for x, term in zip(cells, self.terms, strict=True):
            t = term.deviation(x) * term.c
            s += t
            m += abs(t)
        return s, ((len(self.terms) + 16) * _ULP) * (m + abs(s)) + self.e0

    def exact(self, cells: Cells) -> _RootSum:
        pairs = zip(cells, self.terms, strict=True)
        return _RootSum(self.centre, [term.exact(x) for x, term in pairs if term.variance])

    def exact_reached(self, cells: Cells) -> int:
        """How many thresholds the exact score reaches; no float takes part."""
        exact = self.exact(cells)
        return bisect_left(self.thresholds, True, key=lambda threshold: exact.compare(threshold) < 0)

    def exact_place(self, cells: Cells) -> tuple[float, int]:
        """The exact step, and the nearest float64 score that bisects the float64 thresholds to it.

        Rounding is monotone, so a score that reaches a threshold still does when both are rounded. One that does not
        reach it may round onto it, and is then put just below.
        """
        reached = self.exact_reached(cells)
        s = self.exact(cells).nearest()
        if reached < len(self.thresholds) and s >= self.float_thresholds[reached]:
            s = nextafter(self.float_thresholds[reached], -inf)
        return s, reached

    def measure_score(self, index: int, cells: Cells) -> float:
        """The standard score of one measure, in float64, which must be able to scale it."""
        term = self.terms[index]
        if term.variance and not (abs(term.g) > 2.0**-1000 and term.sd >= 2.0**-500):
            raise DataError(
                f"The population's SD of {term.name!r} is {term.real_sd:.6g}; the standard score of one measure "
                "needs one from 1e-150 to 1e250, of fewer than 1e100 rows."
            )
        return _nearest(self.centre) + term.deviation(cells[index]) * term.g


def _moments(pop: Population, column: str, ddof: int) -> Moments:
    if column not in pop.measures:
        raise DataError(f"The population has no measure {column!r}; it has {', '.join(pop.measures)}.")
    moments = pop[column]
    if moments.count <= ddof:
        raise DataError(f"A population of {Count(moments.count):row} has no SD with ddof {ddof}; more rows are needed.")
    return Moments(moments.count, moments.sum, moments.sum_of_squares, ddof)


def score(
    rows: Rows,
    program: Program,
    population: Population | None = None,
    by: str | Sequence[str] | None = None,
    columns: str | Sequence[str] | None = None,
    month: str | None = None,
    any_month: bool = False,
) -> dict[str, list[Any]]:
    """Score, step, rate and reward of every row.

    Parameters
    ----------
    rows : mapping of column names to sequences of Python values, or anything with ``to_pydict()``
    program : Program
    population : Population, optional
        What to score against; the population of the rows themselves unless given.
    by : column name or names, optional
        Cohort columns; every row is then scored against the population of its cohort.
    columns : str or sequence of str, optional
        Of ``score``, ``step`` (0 is the lowest), ``rate`` (a share), ``reward`` (whole points) and ``<measure>_score``;
        by a stage rule ``stage`` instead of the scores. None: score or stage, rate and, if there is one, reward. By a
        per-event rule only ``reward`` and ``friend_reward``.
    month : str, optional
        The month that is paid, such as ``"2019-10"``.
    any_month : bool
        Allow a month that is not wholly within the program's effective dates.

    Returns
    -------
    dict of lists
        The rows' own columns, then `columns` in the order asked. A row with a null in a column that the program reads
        has null results.

    Raises
    ------
    DataError
        As for `population`; also for a result that the rows already have a column for, a population without an SD or
        without the cohort of a row, an SD beyond about 1e-150 to 1e250 of a measure whose own score is asked for, a
        constant measure where the program refuses it, a reward that the program does not pay, a reward beyond int64, or
        a month that is none.
    ProgramError
        The month is outside the program's effective dates.

    Examples
    --------
    >>> import hensa
    >>> program = hensa.Program.load("hapitas-friend")
    >>> rows = {"new_referrals": [10, 10, 40], "ad_users": [1, 1, 1], "friend_points": [1000, None, 1000]}
    >>> hensa.reference.score(rows, program, columns=["score", "step", "reward"])["reward"]
    [98, None, 100]
    """
    if month is not None:
        program.check_month(month, any_month)
    given = _Input(rows, program, by)
    columns = program.results if columns is None else (columns,) if isinstance(columns, str) else tuple(columns)
    place = "stage" if isinstance(program.rule, Stages) else "score"
    known: Sequence[str] = (place, *_RESULTS, *(f"{measure.name}_score" for measure in given.measures))
    if isinstance(program.rule, PerEvent):
        known = ("reward", "friend_reward")
    for name in columns:
        if name not in known or columns.count(name) > 1:
            raise DataError(f"Result {name!r} is not one of {', '.join(known)}, or asked for twice.")
        if name in given.table:
            raise DataError(f"Column {name!r} is in the rows already; rename it or do not ask for it.")
    if isinstance(program.rule, PerEvent):
        return given.table | _paid_events(given, program.rule, columns, month)
    bases: list[Any] = []
    if "reward" in columns:
        if program.reward is None:
            raise DataError("The program has no [reward], so it pays none; leave 'reward' out of the columns.")
        given.need(program.reward.base)
        bases = _bases(program.reward.base, given.table[program.reward.base])
    results: dict[str, list[Any]] = {name: [None] * given.length for name in columns}
    before = _stages_before(given) if "reward" in columns else []
    for row, reached, places in _placed(given, population, columns):
        step = _step(program, reached)
        share = Fraction() if step is None else program.rate_table.shares[step]
        for name, result in results.items():
            if name == "step":
                result[row] = step
            elif name == "rate":
                result[row] = float(share)
            elif name == "reward":
                bonus = _bonus(program.rule, before[row], reached, row) if before else 0
                result[row] = _points(program.reward, bases[row], share, bonus, row)
            else:
                result[row] = places[name]
    return given.table | results


def _paid_events(given: _Input, rule: PerEvent, columns: Sequence[str], month: str | None) -> dict[str, list[Any]]:
    amounts = rule.amounts(month)
    for column, *_ in amounts:
        for row, cell in enumerate(given.table[column]):
            if not isinstance(cell, int | None) or isinstance(cell, bool):
                raise DataError(f"Column {column!r} holds {cell!r} in row {row}; a count is an integer.")
    results: dict[str, list[Any]] = {name: [None] * given.length for name in columns}
    for name, result in results.items():
        for row in range(given.length):
            if given.counts[row]:
                points = sum(
                    given.table[column][row] * (friend if name == "friend_reward" else referrer)
                    for column, referrer, friend in amounts
                )
                if points not in _INT64:
                    found = ", ".join(f"{column!r} is {given.table[column][row]}" for column, *_ in amounts)
                    raise DataError(f"Column {found} in row {row}; the reward of {points} points is beyond int64.")
                result[row] = points
    return results


def _step(program: Program, reached: int) -> int | None:
    """The step of a row whose score or stage reaches so many thresholds."""
    return reached - 1 if reached else 0 if program.rate_table.below == "first" else None


def _placed(
    given: _Input, pop: Population | None, columns: Sequence[str]
) -> Iterator[tuple[int, int, dict[str, int | float]]]:
    """The rows that have a place: row index, how many thresholds it reaches, its score or stage and other scores."""
    if isinstance(given.program.rule, Stages):
        for row, reached in _staged(given, given.program.rule):
            yield row, reached, {"stage": reached}
        return
    singles = [(f"{m.name}_score", i) for i, m in enumerate(given.measures) if f"{m.name}_score" in columns]
    for row, scorer, cells in _scored(given, pop):
        s, reached = scorer.place(cells)
        yield row, reached, {"score": s} | {name: scorer.measure_score(i, cells) for name, i in singles}


def _staged(given: _Input, rule: Stages) -> Iterator[tuple[int, int]]:
    """The rows that have a stage, and the highest that one of their criteria reaches."""
    for row in range(given.length):
        if given.counts[row]:
            yield (
                row,
                max(
                    (
                        entry.stage
                        for criterion, column in zip(rule.criteria, given.criteria, strict=True)
                        for entry in criterion.minimums
                        if Fraction(column.cells[row]) * column.unit >= Fraction(entry.minimum)
                    ),
                    default=0,
                ),
            )


def _stages_before(given: _Input) -> list[Any]:
    """The stage before of every row, if it bears on the reward."""
    rule = given.program.rule
    if not isinstance(rule, Stages) or rule.previous not in given.table:
        return []
    cells = given.table[rule.previous]
    for row, cell in enumerate(cells):
        if not isinstance(cell, int | None) or isinstance(cell, bool):
            raise DataError(f"Column {rule.previous!r} holds {cell!r} in row {row}; the stage before is an integer.")
    return cells


def _bonus(rule: Rule, before: int | None, reached: int, row: int) -> int:
    """The bonuses of the stages first reached; no stage was before null."""
    assert isinstance(rule, Stages)
    before = before or 0
    last = max(entry.stage for criterion in rule.criteria for entry in criterion.minimums)
    if not 0 <= before <= last:
        raise DataError(f"Column {rule.previous!r} is {before} in row {row}; a stage is 0, for none, to {last}.")
    return sum(bonus.points for bonus in rule.bonuses if before < bonus.stage <= reached)


def exact_steps(
    rows: Rows, program: Program, population: Population | None = None, by: str | Sequence[str] | None = None
) -> list[int | None]:
    """The step of every row by exact arithmetic alone: what `score` must give for ``step``, without any float.

    Parameters
    ----------
    rows, program, population, by
        As for `score`.

    Returns
    -------
    list of int or None

    Raises
    ------
    DataError
        As for `score`.

    Examples
    --------
    >>> import hensa
    >>> program = hensa.Program.load("hapitas-friend")
    >>> exact_steps({"new_referrals": [10] * 99 + [5000], "ad_users": [1] * 100}, program)[-2:]
    [49, 54]
    """
    given = _Input(rows, program, by)
    steps: list[int | None] = [None] * given.length
    if isinstance(program.rule, Stages):
        for row, reached in _staged(given, program.rule):
            steps[row] = _step(program, reached)
        return steps
    for row, scorer, cells in _scored(given, population):
        steps[row] = _step(program, scorer.exact_reached(cells))
    return steps


def _scored(given: _Input, pop: Population | None) -> Iterator[tuple[int, _Scorer, Cells]]:
    """The rows that have a score: row index, scorer of its cohort, measures."""
    pop = _population(given) if pop is None else pop
    scorers: dict[Key, _Scorer] = {} if given.by or not pop.count else {(): _Scorer(given, pop)}
    for row, key in enumerate(given.keys):
        if not given.counts[row]:
            continue
        if key not in scorers:
            if given.by and key not in pop.cohorts:
                raise DataError(f"The population has no cohort {key}, which row {row} is in.")
            scorers[key] = _Scorer(given, pop.cohorts[key] if given.by else pop)
        if not scorers[key].is_null:
            yield row, scorers[key], tuple(column.cells[row] for column in given.measures)


def _points(reward: Reward | None, base: int | Decimal, share: Fraction, bonus: int, row: int) -> int:
    assert reward is not None
    exact = Fraction(base) * share
    if reward.rounding == "half_up":
        exact += Fraction(1, 2)
    points = bonus + (ceil(exact) if reward.rounding == "ceil" else floor(exact))
    if reward.cap is not None:
        points = min(points, reward.cap)
    if points not in _INT64:
        raise DataError(
            f"Column {reward.base!r} is {base} in row {row}; its reward of {points} points is beyond int64."
        )
    return points
