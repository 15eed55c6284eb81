"""Numbers of things, as a text tells them."""

__all__ = ["Count"]


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
