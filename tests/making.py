"""Programs and exact numbers that several test files need."""

from collections.abc import Iterable, Sequence
from decimal import Decimal, localcontext
from fractions import Fraction
from math import inf, nextafter
from typing import Any

import numpy as np

from hensa import Measure, Program, RateTable, Reward, StandardScore

WHOLE = [(threshold, threshold) for threshold in range(101)]
"""Steps 0 to 100; the step at t pays t percent."""


def program(
    measures: Sequence[Any] = "xy",
    steps: Iterable[tuple[Any, Any]] = WHOLE,
    base: str | None = "b",
    *,
    rule: dict[str, Any] | None = None,
    rates: dict[str, Any] | None = None,
    **reward: Any,
) -> Program:
    """A program; `measures` are names of columns or (name, weight) pairs."""
    return Program(
        name="test",
        rule=StandardScore(measures=[Measure(*([m] if isinstance(m, str) else m)) for m in measures], **(rule or {})),
        rates=RateTable(steps=list(steps), **(rates or {})),
        reward=None if base is None else Reward(base=base, **reward),
    )


def flat(rate: Any, base: str = "b", **reward: Any) -> Program:
    """Every row gets this share, whatever its score."""
    return program("x", [(0, rate)], base, rates={"unit": "share", "outside": "allow"}, **reward)


def integers(floats: Iterable[float]) -> tuple[list[int], Fraction]:
    """Floats as integers times one power of two, exactly."""
    mantissas, exponents = np.frexp(np.asarray(list(floats), dtype=np.float64))
    lowest = int(exponents.min()) - 53
    whole = (mantissas * 2.0**53).astype(np.int64).tolist()
    shifts = (exponents - 53 - lowest).tolist()
    return [m << s for m, s in zip(whole, shifts, strict=True)], Fraction(2) ** lowest


def exact_moments(values: Iterable[Any], ddof: int = 0) -> tuple[Fraction, Fraction]:
    """Mean and variance by their definitions."""
    values = list(values)
    numbers: list[Any] = values
    unit = Fraction(1)
    if isinstance(values[0], float):
        numbers, unit = integers(values)
    elif isinstance(values[0], Decimal):
        numbers = [Fraction(value) for value in values]
    n = len(numbers)
    total = sum(numbers)
    deviations = sum((n * x - total) ** 2 for x in numbers)
    return Fraction(total) / n * unit, Fraction(deviations) / (n * n * (n - ddof)) * unit**2


def nearest_root(square: Fraction) -> float:
    """The float64 nearest to the square root: 60 digits, checked against the midpoints around it."""
    with localcontext(prec=60):
        root = float((Decimal(square.numerator) / Decimal(square.denominator)).sqrt())
    low, high = ((Fraction(root) + Fraction(nextafter(root, end))) / 2 for end in (-inf, inf))
    assert low < 0 or low**2 <= square
    assert square <= high**2
    return root
