"""What the next step takes: the smallest whole number of further units of one measure that lifts a row to a threshold.

A stage takes what its minimum is more than the value, rounded up. So much for stages; a score depends on all rows.

With d further units in one measure, and everything else as it is, the row's deviation and the population's variance
follow from the sums without it. Let S = Σx, P = nΣx² - S² and A = nx - S of that measure, over n rows of which this is
one. Putting x + d for x gives

    A(d) = A + (n - 1)d        P(d) = P + 2dA + (n - 1)d²        (n - 1)·P(d) = A(d)² + C,  C = (n - 1)P - A²,

where C does not depend on d: it is n times the P of the other n - 1 rows, so C >= 0, and C = 0 only if these are all
equal. With z = A/n / √(P / (n(n - ddof))),

    z(d) = L·A(d) / √(A(d)² + C),   L = √((n - 1)(n - ddof)/n).

A(d) rises with d, and t/√(t² + C) rises with t (its derivative is C/(t² + C)^(3/2)) or, for C = 0, is the sign of t.
So z(d) never falls, and stays below L if C > 0 (P. A. Samuelson 1968, "How deviant can you be?"): if the score at z = L
does not exceed the threshold, no number of units reaches it; else a search by halves finds the smallest. With the
population held fixed, z(d) = (x + d - mean)/SD rises without bound.

Float64 proposes the number and a bound on its error says whether it is the one; integers decide the rest.
"""

from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from functools import lru_cache
from itertools import groupby
from math import ceil, inf, isfinite, nan
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hensa import kernels
from hensa.cohorts import dense, encode, names_of
from hensa.columns import View, rows_views, table_of
from hensa.counts import Count
from hensa.errors import DataError
from hensa.moments import Moments
from hensa.population import Population
from hensa.population import population as population_of
from hensa.program import Program, RateTable, Stages, StandardScore
from hensa.roots import nearest_ratio
from hensa.scoring import score
from hensa.tiers import Tiers

__all__ = ["Further", "FurtherStages", "paying_runs", "rate_of", "to_next_step"]

Floats: TypeAlias = npt.NDArray[np.float64]
Bools: TypeAlias = npt.NDArray[np.bool_]
Int32s: TypeAlias = npt.NDArray[np.int32]
Int64s: TypeAlias = npt.NDArray[np.int64]

_SMALLEST_SD = 2.0**-500
"""Below, the variance has fewer bits in float64, and above its inverse it has none; then integers decide."""
_MOST = 2**63 - 1
_BLOCK = 1 << 16


class Further:
    """Decides how many further units of a measure take a row of one population to a threshold.

    Parameters
    ----------
    program : Program
        With a standard-score rule.
    population : Population
        That rows can be scored against.
    """

    def __init__(self, program: Program, population: Population) -> None:
        rule = program.rule
        assert isinstance(rule, StandardScore)
        assert program.rates is not None
        self.program, self.rule, self.rates = program, rule, program.rates
        self.columns = [measure.column for measure in rule.measures]
        self.moments = [Moments(population.count, population[name].state, rule.ddof) for name in self.columns]
        self.means = [moments.mean_exact for moments in self.moments]
        self.variances = [moments.variance_exact for moments in self.moments]
        self.tiers = Tiers(program, self.means, self.variances)
        n, left = population.count, population.count - rule.ddof
        self.count = n
        self.most = Fraction((n - 1) * left, n)
        """The square of L."""

    def rises(self, measure: int) -> bool:
        """Whether more of a measure can raise the score at all."""
        return self.tiers.weights[measure] > 0

    def fixed(self, values: Sequence[Fraction], measure: int, threshold: Fraction, guess: int = 1) -> int | None:
        """The smallest number with the mean and SD held fixed; None if no number does.

        The row must not reach the threshold as it is.
        """
        if not self.rises(measure) or not self.variances[measure]:
            return None
        return _smallest(
            lambda d: self.tiers.compare(_replaced(values, measure, values[measure] + d), threshold) >= 0, guess
        )

    def own(self, values: Sequence[Fraction], measure: int, threshold: Fraction, guess: int = 1) -> int | None:
        """The smallest number when the row moves the mean and SD of its population; None if no number does.

        The row must not reach the threshold as it is.

        Raises
        ------
        DataError
            The row cannot be one of the population's.
        """
        if not self.rises(measure) or self.count == 1:
            return None
        a, c = self._deviation(values[measure], measure)
        at_most = self._tiers(measure, Fraction(0), 1 / self.most)
        side = at_most.compare(_replaced(values, measure, Fraction(1)), threshold)
        if side < 0 or (side == 0 and c):
            return None

        def reaches(d: int) -> bool:
            spread = ((a + (self.count - 1) * d) ** 2 + c) / (self.count - 1)
            if not spread and self.rule.constant != "centre":
                return False  # every row is alike, and has no score
            variance = spread / (self.count * (self.count - self.rule.ddof))
            tiers = self._tiers(measure, self.means[measure] + Fraction(d, self.count), variance)
            return tiers.compare(_replaced(values, measure, values[measure] + d), threshold) >= 0

        return _smallest(reaches, guess)

    def _deviation(self, value: Fraction, measure: int) -> tuple[Fraction, Fraction]:
        """A and C."""
        moments = self.moments[measure]
        a = self.count * (value - self.means[measure])
        c = (self.count - 1) * self.count * moments.state.m2(self.count) - a**2
        if c < 0 and moments.method == "exact":
            raise DataError(
                f"Column {self.columns[measure]!r} is {value}, and no population of {Count(self.count):row} with this "
                "mean and SD has such a row; hold the population fixed for a row that is not part of it."
            )
        return a, max(c, Fraction(0))  # Welford's M2 is rounded

    def _tiers(self, measure: int, mean: Fraction, variance: Fraction) -> Tiers:
        means, variances = self.means.copy(), self.variances.copy()
        means[measure], variances[measure] = mean, variance
        return Tiers(self.program, means, variances)


def _replaced(values: Sequence[Fraction], measure: int, value: Fraction) -> list[Fraction]:
    return [*values[:measure], value, *values[measure + 1 :]]


def _smallest(reaches: Callable[[int], bool], guess: int) -> int:
    """The smallest d >= 1 from which on `reaches` is true; it is false for 0, and true somewhere."""
    low, high, stride = 0, max(guess, 1), 1
    if reaches(high):
        while stride < high and reaches(high - stride):
            high, stride = high - stride, 2 * stride
        low = max(high - stride, 0)
    else:
        while not reaches(high):
            low, high, stride = high, high + stride, 2 * stride
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reaches(middle) else (middle, high)
    return high


class _Floats:
    """The same question for many rows in float64: an answer, or that it cannot tell.

    Parameters
    ----------
    further : Further
        Of any population, for what all have in common.
    populations : iterable of Population
        None is kept.
    own : bool
        Whether a row moves the mean and SD.
    """

    def __init__(self, further: Further, populations: Iterable[Population], own: bool) -> None:
        self.is_own = own
        tiers = further.tiers
        self.centre, self.factors = float(tiers.centre), np.array([_float(weight) for weight in tiers.weights])
        counts, means, spreads, constant = [], [], [], []
        for population in populations:
            counts.append(population.count)
            for name in further.columns:
                moments = population[name]
                unit = moments.state.unit
                number, of, spread, per = moments.in_units(unit)
                means.append(nearest_ratio(number * unit.numerator, of * unit.denominator))
                spreads.append(nearest_ratio(spread * unit.numerator**2, per * unit.denominator**2))
                constant.append(not spread)
        # What differs between populations has a place for each; of measures, a row for each.
        n = self.counts = np.array(counts, dtype=np.float64)
        self.means, spread_of, self.constant = (
            np.array(each).reshape(len(n), -1).T.copy() for each in (means, spreads, constant)
        )
        self.limits = np.sqrt((n - 1) * (n - further.rule.ddof) / n)
        with np.errstate(over="ignore"):
            self.totals = (n - 1) * spread_of
        self.sds = np.sqrt(spread_of / (n * (n - further.rule.ddof)))
        self.vague = ~self.constant & ~((self.sds > _SMALLEST_SD) & (self.sds < 1 / _SMALLEST_SD))
        shape = np.zeros(self.sds.shape)
        self.c = np.divide(self.factors[:, None], self.sds, out=shape, where=~self.constant & ~self.vague)
        self.c[self.vague] = nan
        # At most 12 roundings of 2^-53 and one for each measure go into any number here.
        self.epsilon = (len(self.means) + 16) * 2.0**-50

    def numbers(
        self, values: Floats, measure: int, thresholds: Floats, at: int | Int64s
    ) -> tuple[Floats, npt.NDArray[np.bool_]]:
        """Of each row a number of units (inf: none does), and whether that is proved.

        `values` has a row for each measure, and `at` is the place of the population of every row, or of all. What
        overflows or is nan proves nothing.
        """
        epsilon, centre = self.epsilon, self.centre
        rest = np.full(values.shape[1], centre)
        blur = np.abs(thresholds) + abs(centre) + np.abs(self.factors).sum()
        for i in np.flatnonzero(np.arange(len(self.c)) != measure):
            c, mean = self.c[i][at], self.means[i][at]
            rest += c * (values[i] - mean)
            blur += np.abs(c) * (np.abs(values[i]) + np.abs(mean))
        x, mean, factor = values[measure], self.means[measure][at], self.factors[measure]
        wanted = (thresholds - rest) / factor  # the z that it takes
        standard: Callable[[Floats], tuple[Floats, Floats]]
        if self.is_own:
            n, most, total = self.counts[at], self.limits[at], self.totals[measure][at]
            a, a_blur = n * (x - mean), epsilon * n * (np.abs(x) + np.abs(mean))
            c, c_blur = total - a * a, epsilon * (total + a * a) + 2 * np.abs(a) * a_blur + a_blur**2
            ratio = wanted / most
            d = np.ceil((ratio * np.sqrt(c / (1 - ratio * ratio)) - a) / (n - 1))

            def standard(d: Floats) -> tuple[Floats, Floats]:
                # |∂z/∂A| <= L/r and |∂z/∂C| <= L/(2r²) with r² = A² + C, which is at least half as large wherever the
                # true A and C lie, or the error is called infinite.
                ad, ad_blur = a + (n - 1) * d, a_blur + epsilon * n * d
                square = ad * ad + c
                near = (c > c_blur) & (2 * np.abs(ad) * ad_blur + ad_blur**2 + c_blur <= square / 2)
                error = most * (2 * ad_blur / np.sqrt(square) + c_blur / square + epsilon)
                return most * ad / np.sqrt(square), np.where(near, error, inf)

            none = (factor * (wanted - most) > epsilon * (blur + factor * most)) & (c > c_blur) | (n == 1)
        else:
            sd = self.sds[measure][at]
            d = np.ceil(mean + wanted * sd - x)

            def standard(d: Floats) -> tuple[Floats, Floats]:
                return (x + d - mean) / sd, epsilon * (np.abs(x) + np.abs(mean) + d) / sd

            none = np.broadcast_to(self.constant[measure][at], x.shape)
        d = np.maximum(d, 1.0)
        (z, z_blur), (z_before, z_before_blur) = standard(d), standard(d - 1)
        enough = factor * (z - wanted) > factor * z_blur + epsilon * (blur + factor * np.abs(z))
        too_few = factor * (wanted - z_before) > factor * z_before_blur + epsilon * (blur + factor * np.abs(z_before))
        # up to 2^52 every whole number is a float64
        proved = enough & (too_few | (d == 1.0)) & (d < 2.0**52)
        return np.where(none, inf, d), (proved | none) & ~self.vague[measure][at]


def _float(number: Fraction | float) -> float:
    try:
        return float(number)
    except OverflowError:
        return inf


class FurtherStages:
    """Decides how many further units of a criterion take a row to a stage.

    Parameters
    ----------
    program : Program
        With a stage rule.
    """

    def __init__(self, program: Program) -> None:
        assert isinstance(program.rule, Stages)
        self.rule, self.rates = program.rule, program.rate_table
        self.columns = [criterion.column for criterion in self.rule.criteria]

    def minimum(self, criterion: int, stage: Fraction) -> Fraction | None:
        """What a column must be for this stage or a higher one; None if it reaches none."""
        minimums = self.rule.criteria[criterion].minimums
        return next((Fraction(entry.minimum) for entry in minimums if entry.stage >= stage), None)

    def fixed(self, values: Sequence[Fraction], criterion: int, threshold: Fraction) -> int | None:
        """The smallest number; None if no number does.

        The row must not reach the stage as it is.
        """
        minimum = self.minimum(criterion, threshold)
        return None if minimum is None else ceil(minimum - values[criterion])


def paying_runs(rates: RateTable, wanted: Decimal, above: int = -1) -> list[tuple[int, int]]:
    """The runs (first, end) of steps above one that pay a rate or more."""
    runs = []
    for pays, steps in groupby(range(above + 1, len(rates.steps)), lambda step: rates.steps[step].rate >= wanted):
        first, *rest = steps
        if pays:
            runs.append((first, first + len(rest) + 1))
    return runs


def rate_of(rate: Decimal | int | str) -> Decimal:
    """A rate in the unit of its table.

    Raises
    ------
    DataError
        It is none.
    """
    try:
        if isinstance(rate, Decimal | int | str) and Decimal(rate).is_finite() and abs(Decimal(rate).adjusted()) < 50:
            return Decimal(rate)
    except InvalidOperation:
        pass
    raise DataError(f'rate is {rate!r}; it must be a decimal number in the unit of the rate table, such as "27.5".')


def to_next_step(
    rows: Any,
    program: Program,
    population: Population | None = None,
    by: str | Sequence[str] | None = None,
    *,
    own_effect: bool = False,
    rate: Decimal | int | str | None = None,
) -> pa.Table:
    """How many further units of each measure take every row to its next step, or to a rate.

    Further newcomers, say: the smallest whole number of them that, with everything else as it is, lifts the row's exact
    score to the next threshold of the rate table, or one of its columns to the minimum of the next stage. The step may
    be jumped over; higher steps count as reached.

    Parameters
    ----------
    rows : object
        As for `score`.
    program : Program
        With a rule of standard scores or of stages.
    population : Population, optional
        What the rows are scored against, instead of their own population. It has no bearing on stages.
    by : str or sequence of str, optional
        Cohort columns, as of `score`: what takes each row further in the population of its own cohort.
    own_effect : bool
        Whether the row's own further units move the mean and SD of the population. The row must then be one of the
        population's; without it the population is held fixed, which is right for a population of another month.
    rate : Decimal, int or str, optional
        Also what it takes to be on a higher step that pays at least this rate, in the unit of the table: "27.5". A step
        that pays less and lies between does not count.

    Returns
    -------
    pyarrow.Table
        The rows' own columns, then ``to_next_step_<measure>`` (int64) for each measure or criterion; null where no
        number reaches the next step, on the highest step, and where the row has no score. With `rate` also
        ``to_rate_<measure>`` (int64): 0 where the row is paid that rate already, null where no number reaches it.

    Raises
    ------
    DataError
        As for `score`; a row that cannot be one of the population's with `own_effect`; a number beyond int64; a `rate`
        that is none; a program that pays per event.

    References
    ----------
    P. A. Samuelson (1968), "How deviant can you be?", Journal of the American Statistical Association 63.

    Examples
    --------
    >>> import hensa
    >>> program = hensa.Program.load("hapitas-friend")
    >>> rows = {"new_referrals": [0, 10], "ad_users": [3, 5], "friend_points": [100, 100]}
    >>> to_next_step(rows, program)["to_next_step_new_referrals"].to_pylist()
    [10, 10]
    >>> to_next_step(rows, program, own_effect=True)["to_next_step_new_referrals"].to_pylist()
    [11, None]
    >>> to_next_step(rows, program, rate=10)["to_rate_new_referrals"].to_pylist()
    [10, 0]
    >>> rows = {"site": ["a", "a", "b", "b"], "new_referrals": [0, 10, 0, 40], "ad_users": [3, 5, 1, 1]}
    >>> to_next_step(rows, program, by="site")["to_next_step_new_referrals"].to_pylist()
    [10, 10, 20, 20]
    """
    if program.rates is None:
        raise DataError(f"Program {program.name!r} pays fixed amounts per event, so there is no next step.")
    wanted = None if rate is None else rate_of(rate)
    table = table_of(rows)
    is_staged = isinstance(program.rule, Stages)
    columns = [
        each.column for each in (program.rule.criteria if isinstance(program.rule, Stages) else program.measures)
    ]
    names = [
        f"{to}_{column}" for to in ("to_next_step", *(["to_rate"] if rate is not None else [])) for column in columns
    ]
    for name in names:
        if name in table.column_names:
            raise DataError(f"The rows already have a column {name!r}; rename it.")
    cohort_columns = names_of(by)
    read = table.select(
        [name for name in dict.fromkeys((*program.columns, *cohort_columns)) if name in table.column_names]
    )
    place = "stage" if is_staged else "score"
    # Cohorts of the rows themselves are scored faster when score() takes them itself.
    used = population if is_staged or cohort_columns or population is not None else population_of(read, program)
    scored = score(read, program, used, cohort_columns, columns=("step", place))
    # Of every row the index of its step: -1 below the table, and on no stage.
    steps = scored["step"].cast(pa.int32()).fill_null(-1).to_numpy()
    placed = np.flatnonzero(scored[place].is_valid().to_numpy())
    numbers: Iterable[_Numbers] = [_Numbers(table.num_rows) for _ in names]
    if len(placed):
        views = rows_views(read, program, paid=False)
        reaching: _Scores | _Minimums
        if is_staged:
            reaching = _Minimums(FurtherStages(program), views.criteria)
        else:
            own = used if used is not None else population_of(read, program, by=cohort_columns)
            populations = _Populations(own, read, cohort_columns, placed)
            reaching = _Scores(program, populations, views.measures, own_effect)
        numbers = [
            *(_to_next(reaching, i, placed, steps) for i in range(len(columns))),
            *(_to_rate(reaching, i, placed, steps, wanted) for i in range(len(columns)) if wanted is not None),
        ]
    for name, found in zip(names, numbers, strict=True):
        table = table.append_column(name, pa.array(found.values, mask=found.missing))
    return table


class _Numbers:
    """A number of every row; none to begin with."""

    def __init__(self, n_rows: int) -> None:
        self.values, self.missing = np.zeros(n_rows, dtype=np.int64), np.ones(n_rows, dtype=bool)

    def put(self, rows: Int64s, values: Int64s | int) -> None:
        self.values[rows], self.missing[rows] = values, False


def _to_next(reaching: "_Scores | _Minimums", measure: int, placed: Int64s, steps: Int32s) -> _Numbers:
    """What takes rows to the step after their own."""
    found = _Numbers(len(steps))
    below = placed[steps[placed] + 1 < len(reaching.rates.steps)]
    found.put(*reaching.least(measure, below, steps[below] + 1))
    return found


def _to_rate(reaching: "_Scores | _Minimums", measure: int, placed: Int64s, steps: Int32s, wanted: Decimal) -> _Numbers:
    """What takes rows to a step that pays what is wanted."""
    found, rates = _Numbers(len(steps)), reaching.rates
    pays = np.array([*(step.rate >= wanted for step in rates.steps), wanted <= 0])  # the last: on no step, paid 0
    found.put(placed[pays[steps[placed]]], 0)
    left = placed[~pays[steps[placed]]]
    for first, end in paying_runs(rates, wanted):
        below = left[steps[left] < first]
        rows, values = reaching.least(measure, below, np.full(len(below), first))
        jumps = np.zeros(len(rows), dtype=bool)
        if end < len(rates.steps):
            # One more may jump over all the steps of the run.
            at_end = _Numbers(len(steps))
            at_end.put(*reaching.least(measure, rows, np.full(len(rows), end), bounded=False))
            jumps = ~at_end.missing[rows] & (at_end.values[rows] == values)
        found.put(rows[~jumps], values[~jumps])
        # Whom no number takes to this step none takes to a higher one.
        left = np.concatenate([left[steps[left] >= first], rows[jumps]])
    return found


class _Populations:
    """The population of every row that has a score: that of its cohort, if columns of cohorts are named."""

    def __init__(self, whole: Population, rows: pa.Table, names: Sequence[str], placed: Int64s) -> None:
        self._whole = whole
        self._keys: list[tuple[Any, ...]] = []
        if names:
            keys = encode(rows, tuple(names))
            codes, present = dense(keys.codes[placed], keys.table.num_rows)
            self._keys = list(zip(*(column.take(pa.array(present)).to_pylist() for column in keys.table), strict=True))
            self._codes = np.zeros(rows.num_rows, dtype=np.int64)
            self._codes[placed] = codes

    def __len__(self) -> int:
        return len(self._keys) or 1

    def __getitem__(self, place: int) -> Population:
        return self._whole.cohorts[self._keys[place]] if self._keys else self._whole

    def places(self, rows: Int64s | int) -> Int64s | int:
        """Of some rows the place of each one's population, or the only one of all."""
        return self._codes[rows] if self._keys else 0


class _Scores:
    """What takes many rows to a step by a measure."""

    def __init__(self, program: Program, populations: _Populations, views: list[View], own_effect: bool) -> None:
        self.populations, self.views, self.own_effect = populations, views, own_effect
        self.further = lru_cache(1024)(lambda place: Further(program, populations[place]))
        first = self.further(0)
        self.floats = _Floats(first, map(populations.__getitem__, range(len(populations))), own_effect)
        self.rises = [first.rises(measure) for measure in range(len(views))]
        self.rates = program.rate_table
        self.rounded = np.array(self.rates.rounded_thresholds)
        self.values = np.empty((len(views), len(views[0].array)))
        for row, view in zip(self.values, views, strict=True):
            kernels.active.doubles(view.column, row)
            row *= float(view.unit or 1)
        self.known: dict[tuple[int, int, int, tuple[Fraction, ...]], int | None] = {}

    def least(self, measure: int, rows: Int64s, targets: Int32s, bounded: bool = True) -> tuple[Int64s, Int64s]:
        """The smallest numbers that take rows to the steps `targets`, and of which rows they are: the others have none.

        Raises
        ------
        DataError
            If it is `bounded`, and a number is beyond int64; else it is none.
        """
        numbers, reached = np.zeros(len(rows), dtype=np.int64), np.zeros(len(rows), dtype=bool)
        for start in range(0, len(rows), _BLOCK) if self.rises[measure] else ():
            block, steps = rows[start : start + _BLOCK], targets[start : start + _BLOCK]
            at = self.populations.places(block)
            with np.errstate(all="ignore"):
                found, proved = self.floats.numbers(self.values[:, block], measure, self.rounded[steps], at)
            sure = proved & (found < inf)
            places = start + np.flatnonzero(sure)
            numbers[places], reached[places] = found[sure], True
            for place in np.flatnonzero(~proved):
                guess = int(found[place]) if isfinite(found[place]) else 1
                number = self.exact(measure, int(block[place]), int(steps[place]), guess)
                if number is not None and _fits(number, self.views[measure], block[place], bounded):
                    numbers[start + place], reached[start + place] = number, True
        return rows[reached], numbers[reached]

    def exact(self, measure: int, row: int, step: int, guess: int) -> int | None:
        """The same for a row, by integers."""
        values = tuple(view.value(row) for view in self.views)
        place = int(self.populations.places(row))
        key = measure, step, place, values
        if key not in self.known:
            further = self.further(place)
            exactly = further.own if self.own_effect else further.fixed
            self.known[key] = exactly(values, measure, self.rates.thresholds[step], guess)
        return self.known[key]


class _Minimums:
    """What takes many rows to a stage by a criterion."""

    def __init__(self, further: FurtherStages, views: list[View]) -> None:
        self.further, self.views, self.rates = further, views, further.rates

    def least(self, criterion: int, rows: Int64s, targets: Int32s, bounded: bool = True) -> tuple[Int64s, Int64s]:
        """The same as of `_Scores`; steps are stages, less 1."""
        view = self.views[criterion]
        numbers, reached = np.zeros(len(rows), dtype=np.int64), np.zeros(len(rows), dtype=bool)
        for target in np.unique(targets).tolist():
            minimum = self.further.minimum(criterion, self.further.rates.thresholds[target])
            places = np.flatnonzero(targets == target)
            if minimum is None:
                continue
            if view.kind in _WHOLE and view.unit == 1:
                found, fits = self._whole(view, ceil(minimum), rows[places], bounded)
            else:
                found, fits = self._any(view, minimum, rows[places], bounded)
            numbers[places], reached[places] = found, fits
        return rows[reached], numbers[reached]

    def _whole(self, view: View, minimum: int, rows: Int64s, bounded: bool) -> tuple[Int64s, Bools]:
        """By integers of 64 bits: a difference that is within int64 is right modulo 2^64."""
        values = view.array.cast(pa.int64()).fill_null(0).to_numpy()[rows]
        fits = values >= max(minimum - _MOST, -_MOST - 1) if minimum <= 2 * _MOST else np.zeros(len(rows), dtype=bool)
        for place in np.flatnonzero(~fits)[:1]:
            _fits(minimum - int(values[place]), view, rows[place], bounded)
        return (np.uint64(minimum % 2**64) - values.view(np.uint64)).view(np.int64), fits

    def _any(self, view: View, minimum: Fraction, rows: Int64s, bounded: bool) -> tuple[Int64s, Bools]:
        known: dict[Any, int] = {}
        numbers, fits = np.zeros(len(rows), dtype=np.int64), np.zeros(len(rows), dtype=bool)
        for place, key in enumerate(view.keys(rows)):
            if key not in known:
                known[key] = ceil(minimum - view.value(int(rows[place])))
            if _fits(known[key], view, rows[place], bounded):
                numbers[place], fits[place] = known[key], True
        return numbers, fits


_WHOLE = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "bool")


def _fits(number: int, view: View, row: int, bounded: bool) -> bool:
    if number > _MOST and bounded:
        raise DataError(
            f"Row {row} takes {number} further units of column {view.name!r} to a higher step; that is beyond int64."
        )
    return number <= _MOST
