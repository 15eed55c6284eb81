"""The constants of the kernel's arithmetic, and what integers decide where that arithmetic cannot."""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import cached_property, reduce
from math import inf, isinf, prod, sqrt
from operator import add
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hensa import kernels
from hensa.cohorts import Keys, Sums, integers_of_words
from hensa.columns import View, Views, allocate, null_view
from hensa.counts import Count
from hensa.errors import DataError
from hensa.lookup import lookup
from hensa.moments import Moments
from hensa.population import Cohorts, Population, add_up
from hensa.program import Program, StandardScore
from hensa.roots import nearest, nearest_ratio
from hensa.threads import UNIT, share_out
from hensa.tiers import Tiers

__all__ = ["CohortJudge", "Judge", "PopulationJudge"]

Key: TypeAlias = tuple[Any, ...]

_INT64 = range(-(2**63), 2**63)
_INT128 = range(-(2**127), 2**127)
_LONG = ("int64", "uint64", "decimal128")
_WORD = 2**64 - 1


class _Constants(NamedTuple):
    """Of one measure in one population: z·scale·weight = ((x - k) - f) · c."""

    k: int
    """Integers: floor of the mean; floats: 0."""
    k_double: float
    """The same in float64; floats: the float64 nearest to the mean."""
    f: float
    """The float64 nearest to mean - k."""
    c: float
    """scale · weight / SD; 0.0 for a constant measure, which adds nothing."""
    single_c: float
    """scale / SD."""
    near: bool
    """Whether k is so near to 0 that loops over vectors subtract it."""
    e: float
    """What this measure adds to the part of the error bound that does not depend on the row."""
    plain: bool
    """Whether ((x - k) - f) · c is 0 at the mean alone: not where f is rounded to a whole number or the product
    may underflow (|c| > 2^-1000, and f >= 2^-64 if it is not 0, keep it from that), and not for floats."""


class Judge:
    """What the kernel asks for: constants, decisions and payments. The subclasses know the populations."""

    def __init__(self, program: Program, views: Views, columns: Sequence[str]) -> None:
        assert isinstance(program.rule, StandardScore)
        self.program, self.rule, self.views, self.columns = program, program.rule, views, columns
        self.lookup = lookup(program, views.base.unit if views.base else None)
        self.decided: dict[tuple[Any, ...], tuple[int, float]] = {}

    def constants(self) -> dict[str, Any]:
        """What `Scorer` in kernels/score.pxi explains."""
        raise NotImplementedError

    def decide(self, row: int) -> tuple[int, float]:
        """The exact count of thresholds and the score of a row."""
        raise NotImplementedError

    def checked(self, population: Population, where: str = "The population") -> list[Moments]:
        """The moments of the measures, which must have SDs."""
        rule, found = self.rule, []
        for measure in rule.measures:
            if measure.column not in population.measures:
                have = ", ".join(population.measures) or "no measures"
                raise DataError(f"{where} has no measure {measure.column!r}; it has {have}.")
            moments = population[measure.column]
            found.append(moments if moments.ddof == rule.ddof else Moments(moments.count, moments.state, rule.ddof))
        if 0 < population.count <= rule.ddof:
            raise DataError(f"{where} has {population.count} row, and an SD with ddof {rule.ddof} needs more.")
        if population.count and rule.constant == "error":
            for measure, moments in zip(rule.measures, found, strict=True):
                if not moments.variance_exact:
                    rows = "every row" + where.removeprefix("The population")
                    raise DataError(
                        f'Column {measure.column!r} is the same in {rows}, and the program says constant = "error".'
                    )
        return found

    def is_null(self, moments: list[Moments]) -> bool:
        """Whether a constant measure makes every score null."""
        return self.rule.constant == "null" and not all(m.variance_exact for m in moments)

    def tiers_of(self, moments: list[Moments]) -> Tiers:
        return Tiers(self.program, [m.mean_exact for m in moments], [m.variance_exact for m in moments])

    def pay(self, row: int, count: int) -> int:
        """The reward of a row, or the error that says it is none."""
        view = self.views.base
        assert view is not None
        points = self.lookup.points(view.value(row), count)
        if points not in _INT64:
            raise DataError(
                f"Column {view.name!r} is {view.cell(row)} in row {row}; its reward of {points} points is beyond int64."
            )
        return points

    def constants_of(self, view: View, moments: Moments, weight: float) -> _Constants:
        """As docs/exactness.md defines them; SDs of integers and decimals in three rounded operations, which arrays of
        cohorts can do as well."""
        if view.unit is None:
            whole, k_double, sd = 0, nearest(moments.mean_exact), moments.sd
            if isinf(k_double):
                raise DataError(f"The population's mean of {view.name!r} is beyond the range of float64.")
            f, spread, plain = nearest(moments.mean_exact - Fraction(k_double)), moments.variance_exact != 0, False
        else:
            numerator, denominator, spread_numerator, spread_denominator = moments.in_units(view.unit)
            whole, rest = divmod(numerator, denominator)
            if whole not in _INT128:
                raise DataError(f"The population's mean of {view.name!r} is beyond the range of decimal128.")
            k_double, f, spread = float(whole), rest / denominator, spread_numerator != 0
            left = moments.count * (moments.count - moments.ddof)
            sd = sqrt(nearest_ratio(spread_numerator, spread_denominator) / nearest_ratio(left, 1))
            plain = 2.0**-64 <= f < 1.0 or not rest
        c = weight / sd if sd else 0.0
        e = _error(f, c, sd) if weight and spread else 0.0
        single_c = self.lookup.scale / sd if sd else 0.0
        if f"{view.name}_score" in self.columns and spread and _error(f, single_c, sd) == inf:
            # what float64 cannot scale is not decided by integers either, as no step depends on it
            raise DataError(
                f"The population's SD of {view.name!r} is {moments.sd:.6g}; the standard score of one measure needs "
                "one from 1e-150 to 1e250, of fewer than 1e100 rows."
            )
        near = abs(whole) <= (2**64 if view.kind in _LONG else 2**52)
        return _Constants(whole, k_double, f, c, single_c, near, e, plain and e < inf)


class PopulationJudge(Judge):
    """Judges all rows by one population: a given one, or else the rows' own."""

    def __init__(
        self,
        program: Program,
        views: Views,
        population: Population | None,
        columns: Sequence[str],
        threads: int | None,
    ) -> None:
        super().__init__(program, views, columns)
        self.own = population is None
        if population is None:
            population = add_up(views, program, "auto", threads)
        elif not population.count and add_up(views, program, "auto", threads).count:
            raise DataError("The population is empty; scores need a population of at least one row.")
        self.moments = self.checked(population)
        self.all_null = not population.count or self.is_null(self.moments)

    @cached_property
    def tiers(self) -> Tiers:
        return self.tiers_of(self.moments)

    def decide(self, row: int) -> tuple[int, float]:
        """The exact count of thresholds and the score of a row."""
        values = tuple(view.value(row) for view in self.views.measures)
        if values not in self.decided:
            self.decided[values] = self.tiers.decide(values)
        return self.decided[values]

    def keys(self) -> list[tuple[int, int, int]]:
        """What makes two rows equal. Small inputs meet few ties: they are told apart by their values, and roots are not
        looked into."""
        views = self.views.measures
        if self.views.n_rows <= UNIT:
            return [(i, 1, 0) for i in range(len(views))]
        return self.tiers.keys([view.unit for view in views])

    def constants(self) -> dict[str, Any]:
        """What `Scorer` in kernels/score.pxi explains."""
        measures = zip(self.views.measures, self.moments, self.lookup.weights, strict=True)
        found = [self.constants_of(view, moments, weight) for view, moments, weight in measures]
        e0 = reduce(add, [constants.e for constants in found], _SMALLEST)
        return {
            "measures": found,
            **_words(self.views, self.keys()),
            "integers": all(constants.plain for constants in found),
            "e0": e0,
            "e": self.lookup.error(e0),
            "bounded": self.own and self.moments[0].count <= 2**28,
            "cohorts": None,
        }


class CohortJudge(Judge):
    """Judges every row by the population of its cohort.

    Parameters
    ----------
    program, views
        The rules and the rows.
    keys : Keys
        The cohort of every row.
    cohorts : mapping of tuple to Population
        Of at least these cohorts.
    columns : sequence of str
        The results that are asked for.
    threads : int or None
        For the constants.
    """

    def __init__(
        self,
        program: Program,
        views: Views,
        keys: Keys,
        cohorts: Mapping[Key, Population],
        columns: Sequence[str],
        threads: int | None,
    ) -> None:
        super().__init__(program, views, columns)
        self.keys, self.cohorts, self.threads = keys, cohorts, threads
        self.tiers: dict[int, Tiers] = {}
        self.n = keys.table.num_rows
        shape = (self.n, len(views.measures))
        size = prod(shape) * 32  # the numbers of two measures are a line of the caches
        self.numbers = np.frombuffer(allocate(size), dtype=np.float64).reshape(*shape, 4)
        self.wide_k = np.zeros((*shape, 2), dtype=np.uint64)
        self.e0 = np.full(self.n, _SMALLEST)
        self.null = np.zeros(self.n, dtype=bool)
        self.plain = all(view.unit is not None for view in views.measures)
        self.small = False
        if self.sums is None:
            self.numbers[:] = 0.0
            done = self.null
        else:
            done = self.of_small(self.sums)
        for code in np.flatnonzero(~done):
            self.fill(int(code))
        if self.null.any():
            # Rows of these cohorts have no score: a column that is null there leaves them out.
            mask = pa.array(np.zeros(views.n_rows, dtype=np.int8), mask=self.null[keys.codes])
            self.views = views._replace(others=[*views.others, null_view(mask)])

    @cached_property
    def counted(self) -> npt.NDArray[np.bool_]:
        """Which rows count."""
        found = np.ones(self.views.n_rows, dtype=bool)
        for view in self.views.all:
            if view.column.has_bitmap:
                found &= view.array.is_valid().to_numpy()
        return found

    @cached_property
    def counts(self) -> npt.NDArray[np.int64]:
        """How many rows of each cohort count."""
        return np.bincount(self.keys.codes[self.counted], minlength=self.n)

    def moments_of(self, code: int) -> list[Moments]:
        """The moments of a cohort with rows that count, which must have SDs."""
        key = tuple(column[code].as_py() for column in self.keys.table.columns)
        where = f"The population of cohort {', '.join(map(repr, key))}"
        if isinstance(self.cohorts, Cohorts) and self.own:
            return self.checked(self.cohorts.at(code), where)
        if key not in self.cohorts or not self.cohorts[key].count:
            row = int(np.argmax(self.counted & (self.keys.codes == code)))
            have = f"not there; {Count(len(self.cohorts)):other is|others are}"
            if key in self.cohorts:
                have = "empty; scores need a population of at least one row"
            raise DataError(f"{where}, of row {row}, is {have}.")
        return self.checked(self.cohorts[key], where)

    def fill(self, code: int) -> None:
        """The constants of one cohort, if it has rows that count."""
        if not self.counts[code]:
            return
        moments = self.moments_of(code)
        if self.is_null(moments):
            self.null[code] = True
            return
        for i, (view, state, weight) in enumerate(zip(self.views.measures, moments, self.lookup.weights, strict=True)):
            found = self.constants_of(view, state, weight)
            self.plain &= found.plain
            self.e0[code] += found.e
            self.numbers[code, i] = found.k_double, found.f, found.c, found.single_c
            self.wide_k[code, i] = found.k & _WORD, found.k >> 64 & _WORD

    def of_small(self, sums: Sums) -> npt.NDArray[np.bool_]:
        """The same for all cohorts whose sums are small; returns which those are.

        With n Σx² < 2^62 all integers fit int64, as (Σx)² <= n Σx² (Cauchy and Schwarz), and the SD is 0 or at least
        1/n, so that it is far from underflow.
        """
        weights = np.array(self.lookup.weights)
        found = np.zeros(self.n, dtype=np.uint8)
        scale, ddof = self.lookup.scale, self.rule.ddof

        def work(start: int, stop: int) -> None:
            kernels.active.constants_by(
                sums.totals, sums.counts, weights, scale, ddof, _SMALLEST, start, stop, self.numbers, self.e0, found
            )

        share_out(work, self.n, self.threads)
        done: npt.NDArray[np.bool_] = found > 0
        constant: npt.NDArray[np.bool_] = found == 2
        self.small = self.own and bool((done | (sums.counts == 0)).all())
        if not self.small:
            k = self.numbers[:, :, 0].astype(np.int64)
            self.wide_k[:, :, 0], self.wide_k[:, :, 1] = k.view(np.uint64), (k >> 63).view(np.uint64)
        if self.rule.constant == "error":
            return done & ~constant  # the others raise
        if self.rule.constant == "null":
            self.null = constant
        return done

    def decide(self, row: int) -> tuple[int, float]:
        code = int(self.keys.codes[row])
        values = tuple(view.value(row) for view in self.views.measures)
        if self.sums is not None:
            return self.decide_by_sums(self.sums, code, values)
        if (code, values) not in self.decided:
            if code not in self.tiers:
                self.tiers[code] = self.tiers_of(self.moments_of(code))
            self.decided[code, values] = self.tiers[code].decide(values)
        return self.decided[code, values]

    @property
    def own(self) -> bool:
        """Whether the cohorts are those of these rows."""
        return isinstance(self.cohorts, Cohorts) and self.cohorts.table is self.keys.table

    @cached_property
    def sums(self) -> Sums | None:
        """The sums of the cohort of each key, if all are of integers; of one that is nowhere, none."""
        cohorts = self.cohorts
        if not isinstance(cohorts, Cohorts) or not cohorts.sums.of_integers:
            return None
        if self.own:
            return cohorts.sums
        known: dict[tuple[str, Fraction | None], int] = {column: i for i, column in enumerate(cohorts.columns)}
        measures = [known.get((view.name, view.unit), -1) for view in self.views.measures]
        places = cohorts.places(self.keys.table) if min(measures) >= 0 and len(cohorts) else None
        return None if places is None else cohorts.sums.at(places, measures)

    def decide_by_sums(self, sums: Sums, code: int, values: tuple[Fraction, ...]) -> tuple[int, float]:
        """Decide rows of all cohorts alike once, as those near thresholds mostly are.

        With d = n x - Σx and P = n Σx² - (Σx)², the square of the standard score is d² (n - ddof) / (n P), so rows
        whose squares and signs are equal have one score.
        """
        n, ddof, parts = int(sums.counts[code]), self.rule.ddof, []
        for view, value, words in zip(self.views.measures, values, sums.totals[code], strict=True):
            total, squares = integers_of_words(words)
            deviation = n * int(value / (view.unit or 1)) - total
            spread = n * squares - total * total
            parts.append(Fraction(deviation * abs(deviation) * (n - ddof), n * spread) if spread else Fraction(0))
        key = tuple(parts)
        if key not in self.decided:
            # With the mean 0 and the variance 1/z² the value ±1 has the standard score z.
            variances = [1 / abs(part) if part else Fraction(0) for part in parts]
            signs = [Fraction((part > 0) - (part < 0)) for part in parts]
            self.decided[key] = Tiers(self.program, [Fraction(0)] * len(parts), variances).decide(signs)
        return self.decided[key]

    def constants(self) -> dict[str, Any]:
        sums, weights = self.sums, [measure.weight for measure in self.rule.measures]
        # Elsewhere integers are subtracted as such, and the k that is left for float64 to subtract is 0. Where all sums
        # are small, so are values: n x² <= n Σx².
        near = [
            view.unit is None
            or self.small
            or (view.kind not in _LONG and bool((np.abs(self.numbers[:, i, 0]) <= 2.0**52).all()))
            for i, view in enumerate(self.views.measures)
        ]
        self.numbers[:, np.logical_not(near), 0] = 0.0
        return {
            "measures": [_Constants(0, 0.0, 0.0, 0.0, 0.0, is_near, 0.0, self.plain) for is_near in near],
            # A decimal takes two words, as does a square.
            "words": [(2 * i, weights.index(weight), 0) for i, weight in enumerate(weights)],
            "n_words": 2 * len(weights) + 1,
            "integers": self.plain and bool(np.isfinite(self.e0).all()),
            "e0": 0.0,
            "e": self.lookup.error(float(self.e0.max(initial=0.0))),
            "bounded": False,
            "cohorts": {
                "codes": self.keys.codes,
                "numbers": self.numbers,
                "k": self.wide_k,
                "e0": self.e0,
                "totals": sums and sums.totals,
                "counts": sums and sums.counts,
                "ddof": self.rule.ddof,
            },
        }


def _words(views: Views, keys: list[tuple[int, int, int]]) -> dict[str, Any]:
    """Where in the kernel's keys of rows each measure stands: a decimal that stays alone takes two words."""
    slot: dict[int, int] = {}
    n_words = 0
    for view, (first, _, bits) in zip(views.measures, keys, strict=True):
        if first not in slot:
            slot[first] = n_words
            n_words += 2 if view.kind == "decimal128" and not bits else 1
    words = [
        (slot[first], multiplier & _WORD, _WORD << bits & _WORD if bits else 0) for first, multiplier, bits in keys
    ]
    return {"words": words, "n_words": n_words}


_SMALLEST = 2.0**-1000
"""The bound takes products not to underflow by more than this, in total."""


def _error(f: float, c: float, sd: float) -> float:
    """How far the rounding of f moves the score: at most |c| (|f| 2^-53 + 2^-1075).

    With a coefficient so small that products may underflow by more, or an SD so small that it, its square or its
    numerator may have underflown, integers decide every row.
    """
    return abs(c) * (abs(f) * 2.0**-52 + 2.0**-1074) if abs(c) > _SMALLEST and sd >= 2.0**-500 else inf
