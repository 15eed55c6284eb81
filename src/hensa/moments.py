"""Count, mean, variance and SD of one measure, from what is added up over rows."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from math import gcd, isfinite, lcm, nan
from typing import Any, Self

import numpy as np
from msgspec import Struct

from hensa import kernels
from hensa.errors import DataError
from hensa.roots import nearest, nearest_root

__all__ = ["Exact", "Moments", "Welford"]


class Exact(Struct, frozen=True):
    """The sum and the sum of squares as integers, in units and squares of units; merging is addition."""

    total: int
    squares: int
    unit: Fraction = Fraction(1)

    @classmethod
    def of(cls, sum_: Fraction, sum_of_squares: Fraction) -> Self:
        """From the sums themselves."""
        parts = lcm(sum_.denominator, sum_of_squares.denominator)
        return cls(int(sum_ * parts), int(sum_of_squares * parts**2), Fraction(1, parts))

    @property
    def sum(self) -> Fraction:
        return self.total * self.unit

    @property
    def sum_of_squares(self) -> Fraction:
        return self.squares * self.unit**2

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Exact):
            return NotImplemented
        return (self.sum, self.sum_of_squares) == (other.sum, other.sum_of_squares)

    def __hash__(self) -> int:
        return hash((self.sum, self.sum_of_squares))

    def mean(self, count: int) -> Fraction:
        return self.sum / count

    def spread(self, count: int) -> int:
        """nΣx² - (Σx)², in squares of units."""
        return count * self.squares - self.total**2

    def m2(self, count: int) -> Fraction:
        """The sum of squared deviations: (nΣx² - (Σx)²) / n."""
        return self.spread(count) * self.unit**2 / count

    @classmethod
    def merged(cls, parts: Iterable[tuple[int, Self]]) -> Self:
        states = [state for _, state in parts]
        units = [state.unit for state in states]
        unit = Fraction(gcd(*(unit.numerator for unit in units)), lcm(*(unit.denominator for unit in units)))
        times = [int(each / unit) for each in units]
        return cls(
            sum(state.total * n for state, n in zip(states, times, strict=True)),
            sum(state.squares * n**2 for state, n in zip(states, times, strict=True)),
            unit,
        )


class Welford(Struct, frozen=True):
    """The mean and M2, the sum of squared deviations, each as an unevaluated sum of two float64."""

    mean_parts: tuple[float, float]
    m2_parts: tuple[float, float]
    unit: Fraction = Fraction(1)
    """Of the numbers that were added up: 10**-scale for decimals, else 1."""

    def mean(self, count: int) -> Fraction:
        return _whole(sum(map(Fraction, self.mean_parts), Fraction(0)) * count) / count * self.unit

    def m2(self, count: int) -> Fraction:
        # Rounding may leave a tiny negative number where all values are equal.
        m2 = max(sum(map(Fraction, self.m2_parts), Fraction(0)), Fraction(0))
        return _whole(m2 * count) / count * self.unit**2

    @classmethod
    def merged(cls, parts: Iterable[tuple[int, Self]]) -> Self:
        parts = list(parts)
        parts = [(count, state) for count, state in parts if count] or parts[:1]
        units = {state.unit for _, state in parts}
        if len(units) > 1:
            raise DataError("Populations by Welford's method over decimals of different scales cannot be merged.")
        states = [(nearest(Fraction(count)), *state.mean_parts, *state.m2_parts) for count, state in parts]
        merged = kernels.active.merge(np.array(states, dtype=np.float64).reshape(-1, 5))
        if not all(map(isfinite, merged)):
            raise DataError("The merged populations by Welford's method are beyond float64; use exact ones.")
        return cls(merged[1:3], merged[3:5], *units)


_NEAR = Fraction(1, 2**80)


def _whole(x: Fraction) -> Fraction:
    """The whole number that `x` is within 2**-80 of itself of, if there is one: what rounding has left of Σx and
    nΣx² - (Σx)², where the values are whole numbers."""
    whole = round(x)
    return Fraction(whole) if abs(x - whole) <= abs(whole) * _NEAR else x


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
        return nearest(self.mean_exact) if self.count else nan

    @property
    def variance(self) -> float:
        """The float64 nearest to the variance; nan unless there are more than ddof rows."""
        return nearest(self.variance_exact) if self.count > self.ddof else nan

    @property
    def sd(self) -> float:
        """The float64 nearest to the standard deviation; nan unless there are more than ddof rows."""
        return nearest_root(self.variance_exact) if self.count > self.ddof else nan

    def in_units(self, unit: Fraction) -> tuple[int, int, int, int]:
        """Mean and nΣx² - (Σx)², in units of the column, each as numerator and denominator. Needs a row."""
        state, count = self.state, self.count
        if isinstance(state, Welford):
            mean, spread = state.mean(count) / unit, state.m2(count) * count / unit**2
            return mean.numerator, mean.denominator, spread.numerator, spread.denominator
        if state.unit is unit:  # as in the rows' own population; fractions are slow
            return state.total, count, state.spread(count), 1
        times = state.unit / unit
        return (
            state.total * times.numerator,
            count * times.denominator,
            state.spread(count) * times.numerator**2,
            times.denominator**2,
        )

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

    def to_dict(self) -> dict[str, Any]:
        """The state as JSON values; exact numbers are strings, as JSON's own are float64 to many readers."""
        state = self.state
        if isinstance(state, Exact):
            values: dict[str, Any] = {"sum": str(state.sum), "sum_of_squares": str(state.sum_of_squares)}
        else:
            values = {
                "mean": [part.hex() for part in state.mean_parts],
                "m2": [part.hex() for part in state.m2_parts],
                "unit": str(state.unit),
            }
        return {"method": self.method, "ddof": self.ddof, **values}

    @classmethod
    def from_dict(cls, count: int, values: Mapping[str, Any]) -> "Moments":
        """Read what `to_dict` made; ValueError, KeyError or TypeError if it did not."""
        ddof = values["ddof"]
        if type(ddof) is not int or ddof not in (0, 1):
            raise ValueError(f"ddof is {ddof!r}")
        state: Exact | Welford
        if values["method"] == "exact":
            state = Exact.of(_fraction(values["sum"]), _fraction(values["sum_of_squares"]))
            # Cauchy and Schwarz: no numbers have other sums
            if state.spread(count) < 0:
                raise ValueError("no population has these sums")
        elif values["method"] == "welford":
            mean, m2 = (tuple(float.fromhex(part) for part in values[key]) for key in ("mean", "m2"))
            if len(mean) != 2 or len(m2) != 2 or not all(map(isfinite, mean + m2)) or m2[0] < 0:
                raise ValueError("mean and m2 are not pairs of finite numbers")
            if mean[0] + mean[1] != mean[0] or m2[0] + m2[1] != m2[0]:
                raise ValueError("mean and m2 are not float64 with what rounding left of them")
            state = Welford(mean, m2, _fraction(values["unit"]))
            if state.unit <= 0:
                raise ValueError(f"unit is {values['unit']!r}")
        else:
            raise ValueError(f"method is {values['method']!r}")
        return Moments(count, state, ddof)


def _fraction(value: object) -> Fraction:
    if type(value) is not str or not re.fullmatch(r"-?[0-9]{1,2200}(/[0-9]{1,2200})?", value):
        raise ValueError(f"{value!r:.80} is not a whole number or a ratio of two in a string")
    return Fraction(value)
