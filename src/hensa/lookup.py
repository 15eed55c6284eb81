"""What the kernels need to know of a program, whatever the population: rates, rewards and the centre as tables."""

from bisect import bisect_right
from collections.abc import Callable
from fractions import Fraction
from math import ceil, floor, frexp, inf, lcm, nan
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from hensa import kernels
from hensa.program import Program, Reward, StandardScore
from hensa.tiers import Tiers

__all__ = ["Lookup", "lookup"]

_MOST_BUCKETS = 4096
_EVEN = 2.0**-32
"""Widths of a bucket that thresholds may be off its middle and still count as evenly spaced."""
_ROUND: dict[str, Callable[[Fraction], int]] = {
    "floor": floor,
    "half_up": lambda x: floor(x + Fraction(1, 2)),
    "ceil": ceil,
}


class Lookup(NamedTuple):
    """The tables are by count: how many thresholds a score reaches."""

    constants: dict[str, Any]
    """What `Table` in kernels/steps.pxi explains."""
    tables: Any
    """The same as a ``Tables`` of the kernel in use."""
    shares: list[Fraction]
    weights: list[float]
    """scale · weight / sum of weights, of each measure of a score."""
    scale: float
    reward: Reward | None

    def error(self, e0: float) -> float:
        """The largest error bound of a score of which no term is beyond the reach; infinite if no bucket allows it."""
        most = float(self.constants["most"]) + e0
        if most >= self.constants["margin"]:
            return inf
        return most * float(self.constants["per_unit"]) * (1 + 2.0**-20) + 2 * _EVEN if self.constants["even"] else most

    def points(self, base: Fraction, count: int) -> int:
        """The reward of one row, by integers of any size."""
        assert self.reward is not None
        points = _ROUND[self.reward.rounding](base * self.shares[count])
        return points if self.reward.cap is None else min(points, self.reward.cap)


def lookup(program: Program, unit: Fraction | None) -> Lookup:
    """The numbers for a program; `unit` is the value of the integer 1 in the base column (None: no reward)."""
    key = unit, kernels.active
    found: Lookup | None = program.derived.get(key)
    if found is None:
        found = program.derived[key] = _lookup(program, unit)
    return found


def _lookup(program: Program, unit: Fraction | None) -> Lookup:
    first = program.rate_table.shares[0] if program.rate_table.below == "first" else Fraction(0)
    shares = [first, *program.rate_table.shares]
    rule = program.rule
    weights, scale = [], 0.0
    constants: dict[str, Any] = {
        "thresholds": np.array(program.rate_table.rounded_thresholds),
        "rate": np.array([float(share) for share in shares]),
        "step": np.array([0, *range(len(shares) - 1)], dtype=np.uint16),
        "step_below": program.rate_table.below == "first",
    }
    if isinstance(rule, StandardScore):
        total = sum(measure.weight for measure in rule.measures)
        scale = float(rule.scale)
        weights = [float(rule.scale * measure.weight / total) for measure in rule.measures]
        bound = (len(weights) + 16) * 2.0**-53
        # No row of a population of up to 2^28 rows is further than 2^14 SDs from the mean.
        exponent = frexp(max(map(abs, weights)))[1] + 14
        reach = 2.0 ** min(max(exponent, -900), 900)
        centre_count = bisect_right(program.rate_table.thresholds, rule.centre)
        constants |= {
            "centre": float(rule.centre),
            "centre_count": centre_count,
            "centre_score": Tiers(program, [], []).on_step(float(rule.centre), centre_count),
            "bound": bound,
            "lift": 3 * reach,
            "most": bound * (2 * len(weights) * reach + abs(float(rule.centre))) * (1 + 2.0**-20),
            **_buckets(constants["thresholds"]),
        }
    if unit is not None and program.reward is not None:
        constants |= _division(shares, unit, program.reward)
    return Lookup(constants, kernels.active.Tables(constants), shares, weights, scale, program.reward)


def _buckets(thresholds: npt.NDArray[np.float64]) -> dict[str, Any]:
    """The axis of scores cut into buckets: bucket b is [b - 0.5, b + 0.5] in units of their width."""
    origin, span = thresholds[0], thresholds[-1] - thresholds[0]
    numbers = np.arange(len(thresholds))
    per_unit = numbers[-1] / span if span else 0.0
    middle = origin + 0.5 / per_unit if per_unit else nan
    if 1 < len(thresholds) <= _MOST_BUCKETS and np.abs((thresholds - middle) * per_unit + 0.5 - numbers).max() <= _EVEN:
        # Each has a bucket of its own.
        return {
            "cut": thresholds,
            "below": numbers,
            "origin": float(origin),
            "per_unit": float(per_unit),
            "even": True,
            "middle": float(middle),
            "margin": float(0.4 / per_unit),
        }
    # Gaps of 2.5 buckets or more leave at most one threshold in a bucket and half a bucket on both sides of it.
    wanted = 2.5 * span / np.diff(thresholds).min(initial=inf) + 1
    n_buckets = int(min(wanted, _MOST_BUCKETS))
    per_unit = (n_buckets - 1) / span if span else 0.0
    places = (thresholds - origin) * per_unit
    buckets = np.arange(n_buckets)
    below, through = np.searchsorted(places, buckets - 1.0), np.searchsorted(places, buckets + 1.0)
    cut = np.where(through > below, thresholds[np.minimum(below, len(places) - 1)], inf)
    cut[through > below + 1] = nan
    return {
        "cut": cut,
        "below": below.astype(np.int64),
        "origin": float(origin),
        "per_unit": float(per_unit),
        "even": False,
        "middle": float(middle),
        "margin": 0.4 / per_unit if per_unit else inf,
    }


def _division(shares: list[Fraction], unit: Fraction, reward: Reward) -> dict[str, Any]:
    """The rounded product as one floor division, floor((base * numerator + addend) / denominator), of integers:
    half up is floor(x + 1/2), and ceil(a / b) is floor((a + b - 1) / b)."""
    denominator = lcm(*((share * unit).denominator for share in shares))
    numerators = [int(share * unit * denominator) for share in shares]
    addend = denominator - 1 if reward.rounding == "ceil" else 0
    if reward.rounding == "half_up":
        numerators, addend, denominator = [2 * n for n in numerators], denominator, 2 * denominator
    largest = max(map(abs, numerators))
    base_bits = 0
    while (largest << (base_bits + 1)) + denominator <= 2**49 and base_bits < 49:
        base_bits += 1
    fits = largest + denominator <= 2**49
    longs = denominator * largest + addend < 2**62 and denominator < 2**62
    return {
        "unit": float(unit) if fits and largest else 0.0,  # a unit of any size times rates of 0 is 0
        "shift": float(Fraction(2 * addend + 1 - denominator, 2 * denominator)),
        "fits": fits,
        "base_bits": base_bits,
        "numerator_long": np.array([n if longs else 0 for n in numerators], dtype=np.int64),
        "addend_long": addend if longs else 0,
        "denominator_long": denominator if longs else 1,
        "cap_long": 2**63 - 1 if reward.cap is None else reward.cap,
        "longs_suffice": longs,
    }
