"""What is told of scored rows: their number, those without a score, the rows of each rate, and the points, added up."""

from collections import Counter
from collections.abc import Sequence
from decimal import Context, Decimal
from threading import Lock
from typing import TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from hensa.program import PerEvent, Program

__all__ = ["Total", "Totals", "sum_of", "total_of"]

Total: TypeAlias = int | Decimal
_EXACT = Context(prec=100)  # the sums of Arrow have at most 76 digits


class Totals:
    """What scored rows add up to; they may come in parts, from several threads.

    Parameters
    ----------
    program : Program
        That scored them.
    columns : sequence of str
        The new columns.

    Attributes
    ----------
    rows : int
        All rows.
    rates : dict of float to int, or None
        By rate, as a share, the rows that are paid it; None if it is no column.
    base : int, Decimal or None
        The total of what the rates are shares of, over the rows that have a reward; None if there is no reward.
    points : dict of str to int
        By column of points, their total.
    """

    def __init__(self, program: Program, columns: Sequence[str]) -> None:
        is_paid = program.reward is not None and "reward" in columns
        self._base = program.reward.base if program.reward is not None and is_paid else None
        self._nulls = Counter(dict.fromkeys(columns, 0))
        self._lock = Lock()
        self.rows = 0
        self.rates: Counter[float] | None = Counter() if "rate" in columns else None
        self.base: Total | None = 0 if is_paid else None
        amounts = isinstance(program.rule, PerEvent)
        self.points: dict[str, int] = {name: 0 for name in columns if name == "reward" or amounts}

    def add(self, paid: pa.Table) -> None:
        """Take in some rows, with the columns that they were scored by."""
        nulls = {name: paid[name].null_count for name in self._nulls}
        rates = [] if self.rates is None else pc.value_counts(paid["rate"].drop_null()).to_pylist()
        points = {name: int(total_of(paid[name])) for name in self.points}
        base: Total = 0
        if self._base is not None:
            column = paid[self._base]
            base = total_of(column.filter(pc.is_valid(paid["reward"])) if nulls["reward"] else column)
        with self._lock:
            self.rows += paid.num_rows
            self._nulls.update(nulls)
            if self.rates is not None:
                self.rates.update({pair["values"]: pair["counts"] for pair in rates})
            self.base = None if self.base is None else sum_of(self.base, base)
            self.points = {name: total + points[name] for name, total in self.points.items()}

    @property
    def nulls(self) -> int:
        """The rows that have none of the new columns."""
        return min(self._nulls.values(), default=0)


def sum_of(a: Total, b: Total) -> Total:
    """The sum with all digits; the operator rounds decimals to 28."""
    return _EXACT.add(a, b) if isinstance(a, Decimal) or isinstance(b, Decimal) else a + b


def total_of(column: pa.ChunkedArray) -> Total:
    """The sum of a column of integers or decimals, without its nulls."""
    is_whole = pa.types.is_integer(column.type)
    if is_whole:
        lowest, highest = (extreme or 0 for extreme in pc.min_max(column).as_py().values())
        if max(-lowest, highest) * len(column) >= 2**63:  # the sum of integers would wrap around
            column = column.cast(pa.decimal128(38, 0))
    elif pa.types.is_decimal(column.type):  # as wide as no sum fills; Arrow adds up no narrower ones than decimal128
        column = column.cast(pa.decimal256(76, column.type.scale))
    total: Total = pc.sum(column).as_py() or 0
    return int(total) if is_whole else total
