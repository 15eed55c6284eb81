"""What the kernels need to know to put rows on stages, and what they ask where their loops cannot."""

from fractions import Fraction
from math import ceil, inf, nextafter
from typing import Any

import numpy as np

from hensa.columns import View, Views
from hensa.errors import DataError
from hensa.lookup import lookup
from hensa.program import Criterion, Program, Stages

__all__ = ["StageJudge"]

_MINIMUMS = 4
"""As many as the kernel compares in one loop."""
_INT64 = range(-(2**63), 2**63)
_WORD = 2**64 - 1


class StageJudge:
    """Puts rows on the stages of a program.

    Parameters
    ----------
    program : Program
        With a stage rule.
    views : Views
        The rows.
    """

    def __init__(self, program: Program, views: Views) -> None:
        assert isinstance(program.rule, Stages)
        self.rule, self.views = program.rule, views
        self.cap = program.reward.cap if program.reward else None
        self.lookup = lookup(program, views.base.unit if views.base else None)
        self.bonuses = [self.rule.bonus(stage) for stage in range(len(program.rate_table.steps) + 1)]

    def constants(self) -> dict[str, Any]:
        """What `Scorer` in kernels/score.pxi explains."""
        criteria = zip(self.rule.criteria, self.views.criteria, strict=True)
        found = [(i, *group) for i, pair in enumerate(criteria) for group in _groups(*pair)]
        return {
            "stages": {
                "criterion": np.array([i for i, *_ in found], dtype=np.int64),
                "k": np.array([(k & _WORD, k >> 64 & _WORD) for _, k, *_ in found], dtype=np.uint64),
                "near": [abs(k) <= 2**64 for _, k, *_ in found],
                "at": np.array([at for *_, at, _ in found]),
                "stage": np.array([stage for *_, stage in found]),
            },
            "previous": self.views.previous and self.views.previous.column,
            "bonus": np.array(self.bonuses, dtype=np.int64),
        }

    def decide(self, row: int) -> None:
        """Refuse a row with a value that is not finite."""
        for view in self.views.criteria:
            view.value(row)

    def pay(self, row: int, count: int) -> int:
        """The reward of a row with its bonuses, or the error that says it is none."""
        base, previous = self.views.base, self.views.previous
        assert base is not None
        points = self.lookup.points(base.value(row), count)
        if previous is not None:
            before = previous.array[row].as_py() or 0
            if not 0 <= before < len(self.bonuses):
                raise DataError(
                    f"Column {previous.name!r} is {before} in row {row}; a stage is 0, for none, to "
                    f"{len(self.bonuses) - 1}."
                )
            points += max(self.bonuses[count] - self.bonuses[before], 0)
            points = points if self.cap is None else min(points, self.cap)
        if points not in _INT64:
            raise DataError(
                f"Column {base.name!r} is {base.cell(row)} in row {row}; its reward of {points} points is beyond int64."
            )
        return points


def _groups(criterion: Criterion, view: View) -> list[tuple[int, list[float], list[float]]]:
    """The minimums of a column in groups of one k: a value x, in units of the column, reaches at[i] by x - k >= at[i].

    The kernel rounds x - k once, and float64 rounding is monotone. So with k = 0 the comparison is that of exact
    numbers if every minimum is a whole number below 2^53 in size: an x that does not reach it is at most the whole
    number before it, which is float64 too. Any other whole number is itself the k, as no difference but 0 rounds to 0.
    Floats are compared as they are, with the least float64 that is not below the minimum.
    """
    groups: list[tuple[int, list[float], list[float]]] = []
    for entry in criterion.minimums:
        k, at = 0, _float_from(Fraction(entry.minimum))
        if view.unit is not None:
            whole = ceil(Fraction(entry.minimum) / view.unit)
            if abs(whole) < 2**53:
                at = float(whole)
            elif abs(whole) < 2**127:
                k, at = whole, 0.0
            else:  # beyond all values
                at = inf if whole > 0 else -inf
        if not groups or groups[-1][0] != k or k or len(groups[-1][1]) == _MINIMUMS:
            groups.append((k, [], []))
        groups[-1][1].append(at)
        groups[-1][2].append(float(entry.stage))
    for _, at_, stages in groups:
        unused = _MINIMUMS - len(stages)
        at_ += [inf] * unused
        stages += [0.0] * unused
    return groups


def _float_from(minimum: Fraction) -> float:
    """The least float64 that is not below the minimum."""
    nearest = float(minimum)
    return nearest if Fraction(nearest) >= minimum else nextafter(nearest, inf)
