"""Numbers of things and shares of them, as a text tells them."""

from fractions import Fraction

__all__ = ["Count", "percent"]


class Count(int):
    """A number that its things follow in a text, in the singular or the plural.

    Examples
    --------
    >>> f"{Count(1):row}, {Count(2000):row}, {Count(1):entry|entries}, {Count(2):row has|rows have}, {Count(2000)}"
    '1 row, 2,000 rows, 1 entry, 2 rows have, 2,000'
    """

    def __format__(self, spec: str) -> str:
        one, _, many = spec.partition("|")
        number = f"{int(self):,}"
        return f"{number} {one if self == 1 else many or one + 's'}" if spec else number


def percent(part: int | Fraction, of: int | Fraction = 1, digits: int = 2) -> str:
    """A share, rounded; one above 0 does not look like 0.

    Examples
    --------
    >>> percent(1, 3), percent(0, 3), percent(38, 1_000_000), percent(0, 0)
    ('33.33%', '0.00%', '<0.01%', '–')
    """
    if not of:
        return "–"
    share, least = Fraction(part) / Fraction(of), Fraction(1, 10 ** (2 + digits))
    return f"<{float(least):.{digits}%}" if 0 < share < least / 2 else f"{float(share):.{digits}%}"
