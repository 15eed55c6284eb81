"""The exact step of a row that floating point cannot decide, by integers alone.

The score of a row is r + Σ qᵢ / √vᵢ with rational r and qᵢ and the variances vᵢ. Two roots √vᵢ and √vⱼ are
rational multiples of each other exactly if vᵢ / vⱼ is the square of a rational; gathering such terms leaves roots
of which no two are, and such roots are linearly independent over the rationals (Besicovitch 1940, "On the linear
independence of fractional powers of integers"). So the score is rational, and compared as such, exactly if every
gathered irrational term is zero; otherwise it differs from every threshold and from every midpoint of two float64,
and ever narrower enclosures of it decide after finitely many rounds.
"""

from bisect import bisect_right
from collections.abc import Sequence
from fractions import Fraction
from math import gcd, inf, lcm, nextafter
from typing import NamedTuple

from hensa.program import Program, StandardScore
from hensa.roots import enclose_root, nearest, rational_root

__all__ = ["Tiers"]


class _Root(NamedTuple):
    """The measures whose SD is a rational multiple of one root: SDᵢ = √variance / ratios[i]."""

    variance: Fraction
    ratios: dict[int, Fraction]


class Tiers:
    """Decides rows of one population.

    Parameters
    ----------
    program : Program
        With a standard-score rule.
    means, variances : sequence of Fraction
        Of each measure, in the order of the rule; a variance of 0 adds nothing to the score.
    """

    def __init__(self, program: Program, means: Sequence[Fraction], variances: Sequence[Fraction]) -> None:
        rule = program.rule
        assert isinstance(rule, StandardScore)
        total = sum(measure.weight for measure in rule.measures)
        self.centre = rule.centre
        self.weights = [rule.scale * measure.weight / total for measure in rule.measures]
        self.means = list(means)
        self.thresholds = program.rate_table.thresholds
        self.rounded_thresholds = program.rate_table.rounded_thresholds
        self.roots = [_Root(Fraction(1), {})]
        for i, variance in enumerate(variances):
            for root in self.roots if variance else []:
                ratio = rational_root(root.variance / variance)
                if ratio is not None:
                    root.ratios[i] = ratio
                    break
            else:
                if variance:
                    self.roots.append(_Root(variance, {i: Fraction(1)}))

    def reached(self, score: Fraction) -> int:
        """How many thresholds are not above a score."""
        count = bisect_right(self.rounded_thresholds, nearest(score))  # no fewer, as rounding is monotone
        while count and self.thresholds[count - 1] > score:
            count -= 1
        return count

    def decide(self, values: Sequence[Fraction]) -> tuple[int, float]:
        """How many thresholds the exact score of a row reaches, and its nearest float64.

        Where that float64 would lie on the other side of a threshold's float64, the score is the nearest one that
        does not, so that comparing the score with the thresholds always gives the step.
        """
        rational, terms = self._parts(values)
        bits = 64
        while True:
            low, high = _enclosed(rational, terms, bits)
            count = self.reached(low)
            if count == self.reached(high) and nearest(low) == nearest(high):
                return count, self.on_step(nearest(low) + 0.0, count)  # never -0.0
            bits *= 2

    def compare(self, values: Sequence[Fraction], threshold: Fraction) -> int:
        """-1, 0 or 1: the exact score of a row is less than, equal to or greater than a threshold."""
        rational, terms = self._parts(values)
        if not terms:
            return (rational > threshold) - (rational < threshold)
        bits = 64
        while True:
            low, high = _enclosed(rational, terms, bits)
            if low > threshold or high < threshold:
                return 1 if low > threshold else -1
            bits *= 2

    def _parts(self, values: Sequence[Fraction]) -> tuple[Fraction, list[tuple[Fraction, Fraction]]]:
        """The rational part of a score and (q, v) of each q / √v added to it: irrational, and so are their sums."""
        rational, *irrational = (
            sum(
                (self.weights[i] * ratio * (values[i] - self.means[i]) for i, ratio in root.ratios.items()), Fraction(0)
            )
            for root in self.roots
        )
        terms = [(q, root.variance) for q, root in zip(irrational, self.roots[1:], strict=True) if q]
        return rational + self.centre, terms

    def on_step(self, score: float, count: int) -> float:
        """The score, moved to the side of the thresholds' float64 that says `count`."""
        if count and score < self.rounded_thresholds[count - 1]:
            return self.rounded_thresholds[count - 1]
        if count < len(self.thresholds) and score >= self.rounded_thresholds[count]:
            return nextafter(self.rounded_thresholds[count], -inf)
        return score

    def keys(self, units: Sequence[Fraction | None]) -> list[tuple[int, int, int]]:
        """What the kernel may compare to see that two rows have one score.

        Rows with equal values have equal scores; so have rows whose integer sums Σ multiplierᵢ·xᵢ over the measures
        of each root are equal, which for y = c - x makes one key of millions of pairs.

        Parameters
        ----------
        units : sequence of Fraction or None
            The value of the column's integer 1; None for floats, which are compared as they are.

        Returns
        -------
        list of tuple of int
            Of each measure, the first measure that it is added up with, its multiplier, and a number of bits: sums of
            integers from -2**bits to below 2**bits are less than 2**63 in magnitude. The bits are 0, and the multiplier
            1, for a measure that stays alone.
        """
        found = [(i, 1, 0) for i in range(len(self.means))]
        for root in self.roots:
            shares = {i: self.weights[i] * ratio * unit for i, ratio in root.ratios.items() if (unit := units[i])}
            if len(shares) < 2 or len(shares) < len(root.ratios) or not any(shares.values()):
                continue
            common = lcm(*(share.denominator for share in shares.values()))
            integers = {i: int(share * common) for i, share in shares.items()}
            divisor = gcd(*integers.values())
            bits = 63 - (sum(map(abs, integers.values())) // divisor).bit_length()
            for i, integer in integers.items() if bits > 0 else ():
                found[i] = min(integers), integer // divisor, bits
        return found


def _enclosed(rational: Fraction, terms: list[tuple[Fraction, Fraction]], bits: int) -> tuple[Fraction, Fraction]:
    """Two rationals around rational + Σ q / √v."""
    low = high = rational
    for q, variance in terms:
        ends = [q / end for end in enclose_root(variance, bits)]
        low, high = low + min(ends), high + max(ends)
    return low, high
