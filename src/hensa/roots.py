"""Square roots of rationals: the nearest float64 and exact enclosures, by integers alone."""

from fractions import Fraction
from math import inf, isqrt

__all__ = ["enclose_root", "nearest", "nearest_ratio", "nearest_root", "rational_root"]


def nearest(q: Fraction) -> float:
    """The float64 nearest to `q`; infinity beyond the largest, as IEEE 754 rounds."""
    return nearest_ratio(q.numerator, q.denominator)


def nearest_ratio(numerator: int, denominator: int) -> float:
    """The same for a ratio of integers, the denominator above 0; Python rounds such quotients correctly."""
    try:
        return numerator / denominator
    except OverflowError:
        return inf if numerator > 0 else -inf


def rational_root(q: Fraction) -> Fraction | None:
    """The square root of `q` >= 0 if it is rational, else None."""
    numerator, denominator = isqrt(q.numerator), isqrt(q.denominator)
    if numerator**2 == q.numerator and denominator**2 == q.denominator:
        return Fraction(numerator, denominator)
    return None


def enclose_root(q: Fraction, bits: int) -> tuple[Fraction, Fraction]:
    """Two rationals around the square root of `q` > 0, apart by 2**-bits of it or less."""
    # floor(sqrt(q 4^shift)) has more than `bits` bits, so its last unit is less than 2^-bits of it.
    shift = max(0, bits + 1 + (q.denominator.bit_length() - q.numerator.bit_length()) // 2 + 1)
    low = isqrt((q.numerator << 2 * shift) // q.denominator)
    return Fraction(low, 1 << shift), Fraction(low + 1, 1 << shift)


def nearest_root(q: Fraction) -> float:
    """The float64 nearest to the square root of `q` >= 0.

    >>> nearest_root(Fraction(2)), nearest_root(Fraction(1, 4))
    (1.4142135623730951, 0.5)
    """
    if q == 0:
        return 0.0
    root = rational_root(q)
    if root is not None:
        return nearest(root)
    # An irrational root is never halfway between two float64, so narrow enclosures round alike.
    bits = 64
    while True:
        low, high = enclose_root(q, bits)
        if nearest(low) == nearest(high):
            return nearest(low)
        bits *= 2
