"""How far a float64 score may lie from the exact one: the bound E of docs/exactness.md, from exact numbers."""

from collections.abc import Mapping, Sequence
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any

from making import exact_moments

from hensa import Program

ULP = Decimal(2) ** -53


def bounds(
    columns: Mapping[str, Sequence[Any]], program: Program, units: Mapping[str, Fraction]
) -> list[tuple[Decimal, Decimal] | None]:
    """Of every row, the exact score to 60 digits and E; None for a row that is null.

    `units` has the value of the integer 1 of each column of integers or decimals: the mean is kept as an integer of
    these and a rest below 1, which float64 rounds.
    """
    rule = program.rule
    length = len(columns[rule.measures[0].column])
    read = [columns[name] for name in program.columns if name in columns]
    counted = [row for row in range(length) if all(cells[row] is not None for cells in read)]
    found: list[tuple[Decimal, Decimal] | None] = [None] * length
    if not counted:
        return found
    total = sum(measure.weight for measure in rule.measures)
    with localcontext(prec=60):
        centre = decimal(rule.centre)
        terms, rest = {row: [] for row in counted}, Decimal(2) ** -1000
        for measure in rule.measures:
            values = [columns[measure.column][row] for row in counted]
            mean, variance = exact_moments([Fraction(value) for value in values], rule.ddof)
            if not variance:
                continue
            factor = decimal(rule.scale * measure.weight / total) / decimal(variance).sqrt()
            # f is at most 1 for integers, and at most half an ulp of the mean for floats.
            largest = units[measure.column] if measure.column in units else abs(mean) * Fraction(2) ** -53
            rest += abs(factor) * (decimal(largest) * 2 * ULP + Decimal(2) ** -1074)
            for row, value in zip(counted, values, strict=True):
                terms[row].append(factor * decimal(Fraction(value) - mean))
        for row, parts in terms.items():
            score = sum(parts, centre)
            size = sum(map(abs, parts)) + abs(score)
            # one part in 10^6 for m, |s| and e0 themselves, which are rounded
            found[row] = score, ((len(rule.measures) + 16) * ULP * size + rest) * Decimal("1.000001")
    return found


def decimal(x: Fraction) -> Decimal:
    return Decimal(x.numerator) / Decimal(x.denominator)
