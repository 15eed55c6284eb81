"""What the next step takes: the smallest whole number of further units of one measure that lifts a row to a threshold.

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

from collections.abc import Callable, Sequence
from fractions import Fraction
from math import inf, isfinite, nan, sqrt
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hensa import kernels
from hensa.columns import View, rows_views, table_of
from hensa.errors import DataError
from hensa.moments import Moments
from hensa.population import Population
from hensa.population import population as population_of
from hensa.program import Program, StandardScore
from hensa.scoring import score
from hensa.tiers import Tiers

__all__ = ["Further", "to_next_step"]

Floats: TypeAlias = npt.NDArray[np.float64]
Int64s: TypeAlias = npt.NDArray[np.int64]

_SMALLEST_SD = 2.0**-1000
"""Below, float64 has fewer bits; then integers decide."""
_MOST = 2**63 - 1
_OFF_TABLE = 2**16 - 1
"""No step has this index; it stands for a score below the first threshold of a table with below = "zero"."""
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
                f"Column {self.columns[measure]!r} is {value}, and no population of {self.count:,} rows with this mean "
                "and SD has such a row; hold the population fixed for a row that is not part of it."
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
    """The same question for many rows in float64: an answer, or that it cannot tell."""

    def __init__(self, further: Further, own: bool) -> None:
        self.further, self.is_own = further, own
        self.means, self.sds = (
            np.array([_float(number) for number in numbers])
            for numbers in (further.means, [moments.sd for moments in further.moments])
        )
        # At most 8 roundings of 2^-53 and one for each measure go into any number here.
        self.epsilon = (len(self.means) + 16) * 2.0**-50
        self.factors = np.array([_float(weight) for weight in further.tiers.weights])
        self.c = np.divide(self.factors, self.sds, out=np.zeros(len(self.sds)), where=self.sds > 0)
        self.c[(self.sds > 0) & (self.sds < _SMALLEST_SD)] = nan

    def numbers(self, values: Floats, measure: int, thresholds: Floats) -> tuple[Floats, npt.NDArray[np.bool_]]:
        """Of each row a number of units (inf: none does), and whether that is proved.

        `values` has a row for each measure. What overflows or is nan proves nothing.
        """
        shape = np.zeros(values.shape[1])
        if 0 < self.sds[measure] < _SMALLEST_SD:
            return shape, shape > 0
        epsilon = self.epsilon
        centre = float(self.further.tiers.centre)
        rest, blur = shape + centre, np.abs(thresholds) + abs(centre) + np.abs(self.factors).sum()
        for i in np.flatnonzero(np.arange(len(self.c)) != measure):
            rest += self.c[i] * (values[i] - self.means[i])
            blur += abs(self.c[i]) * (np.abs(values[i]) + abs(self.means[i]))
        x, mean, factor = values[measure], self.means[measure], self.factors[measure]
        wanted = (thresholds - rest) / factor  # the z that it takes
        standard: Callable[[Floats], tuple[Floats, Floats]]
        if self.is_own:
            n, most = float(self.further.count), sqrt(self.further.most)
            a, a_blur = n * (x - mean), epsilon * n * (np.abs(x) + abs(mean))
            total = (n - 1) * n * _float(self.further.moments[measure].state.m2(self.further.count))
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

            none = (factor * (wanted - most) > epsilon * (blur + factor * most)) & (c > c_blur)
        else:
            sd = self.sds[measure]
            d = np.ceil(mean + wanted * sd - x)

            def standard(d: Floats) -> tuple[Floats, Floats]:
                return (x + d - mean) / sd, epsilon * (np.abs(x) + abs(mean) + d) / sd

            none = shape > 0
        d = np.maximum(d, 1.0)
        (z, z_blur), (z_before, z_before_blur) = standard(d), standard(d - 1)
        enough = factor * (z - wanted) > factor * z_blur + epsilon * (blur + factor * np.abs(z))
        too_few = factor * (wanted - z_before) > factor * z_before_blur + epsilon * (blur + factor * np.abs(z_before))
        # up to 2^52 every whole number is a float64
        proved = enough & (too_few | (d == 1.0)) & (d < 2.0**52)
        return np.where(none, inf, d), proved | none


def _float(number: Fraction | float) -> float:
    try:
        return float(number)
    except OverflowError:
        return inf


def to_next_step(
    rows: Any, program: Program, population: Population | None = None, own_effect: bool = False
) -> pa.Table:
    """How many further units of each measure take every row to its next step.

    Further newcomers, say: the smallest whole number of them that, with everything else as it is, lifts the row's exact
    score to the next threshold of the rate table. The step may be jumped over; higher steps count as reached.

    Parameters
    ----------
    rows : object
        As for `score`.
    program : Program
        With a standard-score rule.
    population : Population, optional
        What the rows are scored against, instead of their own population.
    own_effect : bool
        Whether the row's own further units move the mean and SD of the population. The row must then be one of the
        population's; without it the population is held fixed, which is right for a population of another month.

    Returns
    -------
    pyarrow.Table
        The rows' own columns, then ``to_next_step_<measure>`` (int64) for each measure; null where no number reaches
        the next step, on the highest step, and where the row has no score.

    Raises
    ------
    DataError
        As for `score`; a row that cannot be one of the population's with `own_effect`; a number beyond int64.

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
    """
    if not isinstance(program.rule, StandardScore) or program.rates is None:
        raise DataError(
            f"Program {program.name!r} has no standard scores, so its next step takes no number of a measure."
        )
    table = table_of(rows)
    names = [f"to_next_step_{measure.column}" for measure in program.rule.measures]
    for name in names:
        if name in table.column_names:
            raise DataError(f"The rows already have a column {name!r}; rename it.")
    read = table.select([name for name in program.columns if name in table.column_names])
    if population is None:
        population = population_of(read, program)
    scored = score(read, program, population, columns=("step", "score"))
    steps = scored["step"].fill_null(_OFF_TABLE).to_numpy()
    targets = np.where(steps == _OFF_TABLE, 0, steps.astype(np.int64) + 1)
    places = np.flatnonzero(scored["score"].is_valid().to_numpy() & (targets < len(program.rates.steps)))
    columns = [pa.nulls(table.num_rows, pa.int64())] * len(names)
    if len(places):
        further = Further(program, population)
        views = rows_views(read, program, paid=False).measures
        columns = [
            _column(further, views, i, places, targets, own_effect)
            if further.rises(i) and (own_effect or further.variances[i])
            else column
            for i, column in enumerate(columns)
        ]
    for name, column in zip(names, columns, strict=True):
        table = table.append_column(name, column)
    return table


def _column(
    further: Further, views: list[View], measure: int, places: Int64s, targets: Int64s, own_effect: bool
) -> pa.Array:
    """The numbers for one measure; `places` are the rows that have a next step."""
    thresholds = further.rates.thresholds
    rounded = np.array([float(threshold) for threshold in thresholds])
    exactly = further.own if own_effect else further.fixed
    floats = _Floats(further, own_effect)
    values = np.empty((len(views), len(targets)))
    for row, view in zip(values, views, strict=True):
        kernels.active.doubles(view.column, row)
        row *= float(view.unit or 1)
    numbers, missing = np.zeros(len(targets), dtype=np.int64), np.ones(len(targets), dtype=bool)
    known: dict[tuple[tuple[Fraction, ...], int], int | None] = {}
    for start in range(0, len(places), _BLOCK):
        rows = places[start : start + _BLOCK]
        with np.errstate(all="ignore"):
            found, proved = floats.numbers(values[:, rows], measure, rounded[targets[rows]])
        sure = rows[proved & (found < inf)]
        numbers[sure], missing[sure] = found[proved & (found < inf)], False
        for row, guess in zip(rows[~proved], found[~proved], strict=True):
            key = tuple(view.value(row) for view in views), int(targets[row])
            if key not in known:
                known[key] = exactly(key[0], measure, thresholds[key[1]], int(guess) if isfinite(guess) else 1)
            number = known[key]
            if number is not None:
                if number > _MOST:
                    raise DataError(
                        f"Row {row} takes {number} further units of column {views[measure].name!r} to its next step; "
                        "that is beyond int64."
                    )
                numbers[row], missing[row] = number, False
    return pa.array(numbers, mask=missing)
