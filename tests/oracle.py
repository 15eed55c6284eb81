"""An independent oracle: moments by their definitions, scores as decimals, ties by a separation bound.

It shares nothing with `hensa.reference` but the Program. The moments are two-pass (the mean first, then squared
deviations) rather than sums of squares; roots are `decimal` square roots at 120 digits rather than integer intervals.

A score that 120 digits do not tell from a threshold is decided by proof. With every denominator cleared,
D*(score - T) = R + sum_i A_i*sqrt(N_i) is an algebraic integer with integer A_i, R and N_i > 0. Its conjugates are
among the 2^m choices of the roots' signs, each at most M = |R| + sum_i |A_i|*(isqrt(N_i) + 1) in size, and the
product of its conjugates, its norm, is an integer. So if it is not zero, its size is at least 1/M^(2^m - 1); a value
computed to enough digits that is smaller is zero.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal, localcontext
from fractions import Fraction
from math import isqrt, lcm
from typing import Any

from hensa.program import Program

DIGITS = 120


@dataclass
class Row:
    """What one row gets; all None when a column that the program reads is null."""

    score: Decimal | None = None  # 60 digits
    step: int | None = None
    reward: int | None = None


@dataclass
class Answer:
    count: int
    means: list[Fraction]
    variances: list[Fraction]
    rows: list[Row]


def solve(columns: Mapping[str, Sequence[Any]], program: Program) -> Answer:
    """The exact moments of every measure and the exact step and reward of every row."""
    rule = program.rule
    length = len(next(iter(columns.values())))
    read = [name for name in program.columns if name in columns]
    counted = [row for row in range(length) if all(columns[name][row] is not None for name in read)]
    values = [[Fraction(columns[m.column][row]) for row in counted] for m in rule.measures]
    means = [sum(xs) / Fraction(len(xs)) for xs in values]
    variances = [
        sum((x - mean) ** 2 for x in xs) / Fraction(len(xs) - rule.ddof) for xs, mean in zip(values, means, strict=True)
    ]
    total = sum(m.weight for m in rule.measures)
    shares = [rule.scale * m.weight / total for m in rule.measures]
    rows = [Row() for _ in range(length)]
    for row, *xs in zip(counted, *values, strict=True):
        parts = [(share * (x - mean), v) for share, x, mean, v in zip(shares, xs, means, variances, strict=True) if v]
        rows[row] = _row(parts, program)
        if program.reward is not None and program.reward.base in columns:
            rows[row].reward = _points(Fraction(columns[program.reward.base][row]), rows[row].step, program)
    return Answer(len(counted), means, variances, rows)


def _row(parts: list[tuple[Fraction, Fraction]], program: Program) -> Row:
    with localcontext(prec=DIGITS):
        terms = [_decimal(factor) / _decimal(variance).sqrt() for factor, variance in parts]
        score = sum(terms, _decimal(program.rule.centre))
        blur = Decimal("1e-100") * (1 + abs(score) + sum(map(abs, terms)))
        step = None
        for index, threshold in enumerate(Fraction(s.threshold) for s in program.rates.steps):
            gap = score - _decimal(threshold)
            reached = gap > 0 if abs(gap) > blur else _reaches(parts, program.rule.centre - threshold)
            if not reached:
                break
            step = index
    if step is None and program.rates.below == "first":
        step = 0
    with localcontext(prec=60):
        return Row(+score, step)


def _points(base: Fraction, step: int | None, program: Program) -> int:
    assert program.reward is not None
    rate = Decimal(0) if step is None else program.rates.steps[step].rate
    with localcontext(prec=400):  # base and rate have finitely many digits, so this is exact
        exact = _decimal(base) * rate / (100 if program.rates.unit == "percent" else 1)
        if program.reward.rounding == "half_up":
            exact += Decimal("0.5")
        points = int(exact.to_integral_value(ROUND_CEILING if program.reward.rounding == "ceil" else ROUND_FLOOR))
    cap = program.reward.cap
    return points if cap is None or points <= cap else cap


def _reaches(exact: list[tuple[Fraction, Fraction]], rest: Fraction) -> bool:
    """Whether rest + sum factor/sqrt(variance) >= 0, by the separation bound."""
    terms = [(factor / v / v.denominator, v.numerator * v.denominator) for factor, v in exact]
    common = lcm(rest.denominator, *(a.denominator for a, _ in terms))
    integers = [(int(a * common), n) for a, n in terms]
    r = int(rest * common)
    largest = abs(r) + sum(abs(a) * (isqrt(n) + 1) for a, n in integers) + 1
    digits = len(str(largest)) * 2 ** len(terms)  # the bound is above 10^-digits * M
    with localcontext(prec=2 * digits + 20):
        value = sum((Decimal(a) * Decimal(n).sqrt() for a, n in integers), Decimal(r))
        return value > 0 or abs(value) < Decimal(10) ** -digits


def _decimal(x: Fraction) -> Decimal:
    return Decimal(x.numerator) / Decimal(x.denominator)
