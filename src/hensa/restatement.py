"""Restatements: a run against its corrected self, who was paid too little or too much, and what is due now."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hensa.columns import exact_sum, integers_of, table_of
from hensa.counts import Count
from hensa.errors import DataError
from hensa.ids import identify, ids_of, naming_table, order_of, refuse_repeats, shown_id
from hensa.scoring import MONTH

__all__ = ["STATUSES", "Policy", "Restatement", "restate"]

Policy = Literal["top_up", "net"]
Int64s = npt.NDArray[np.int64]

_RESULTS = ("status", "before", "after", "delta", "due")
STATUSES = ("unchanged", "underpaid", "overpaid", "missing_before", "missing_after")


@dataclass(frozen=True, eq=False)
class Restatement:
    """What `restate` found.

    Attributes
    ----------
    policy : {"top_up", "net"}
        By which `due` is meant.
    table : pyarrow.Table
        A row for every id that changed, by id: the id columns, ``status`` (dictionary of string: underpaid,
        overpaid, missing_before, missing_after), ``before`` and ``after`` (int64, the points of the two runs; null
        where there are none), ``delta`` (int64, after - before, none being 0) and ``due`` (int64: what is paid now;
        below 0: what is to be paid back).
    counts : dict of str to int
        Ids by status, "unchanged" among them.
    totals : dict of str to int
        Points, exactly: "before" and "after" of all ids; of the deltas, the sum by status and "delta", all of them;
        "due", and its two parts "to_pay" (0 or more) and "to_get_back" (0 or less).
    """

    policy: Policy
    table: pa.Table
    counts: dict[str, int]
    totals: dict[str, int]

    @property
    def title(self) -> str:
        """How many ids there are."""
        return f"Restatement of {Count(sum(self.counts.values())):id}, {self.table.num_rows:,} changed"

    def lines(self) -> Iterator[tuple[str, int, int, bool]]:
        """What is told of it: a name, ids, points, and whether these are a difference, with a sign."""
        ids, totals = sum(self.counts.values()), self.totals
        for status in STATUSES:
            yield status.replace("_", " "), self.counts[status], totals[status], True
        for name in ("before", "after"):
            yield name, ids - self.counts[f"missing_{name}"], totals[name], False
        yield f"due ({self.policy})", int(np.count_nonzero(self.table["due"].to_numpy())), totals["due"], True

    def __repr__(self) -> str:
        lines = [
            (name, f"{n:,}", f"{points:+,}" if is_difference else f"{points:,}")
            for name, n, points, is_difference in self.lines()
        ]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        rows = [f"  {name:<{widths[0]}}  {n:>{widths[1]}}  {points:>{widths[2]}}" for name, n, points in lines]
        return "\n".join([self.title, *rows])


def restate(
    before: Any,
    after: Any,
    policy: Policy = "top_up",
    *,
    id: str | Sequence[str] = "referrer_id",
    points: str = "reward",
) -> Restatement:
    """Compare a run that was paid with the same run on corrected rows, id by id.

    The delta of an id is its points after less its points before, where a missing row, or null points, are 0. By
    "top_up", max(delta, 0) is due: nobody pays back. By "net", delta is due: whoever was overpaid pays back, and so
    does whoever is missing after. Whoever is missing before is paid whole.

    Parameters
    ----------
    before, after : object
        The two runs, as `score` or `rank` gave them: anything with ``__arrow_c_stream__`` or ``__arrow_c_array__``,
        or a mapping of names to arrays. The order of their rows does not matter.
    policy : {"top_up", "net"}
        What is due.
    id : str or sequence of str
        The column, or the columns together, that tell rows apart: ``("board", "referrer_id")`` for prizes.
    points : str
        The column of points in both runs.

    Returns
    -------
    Restatement
        Its table, counts by status, and totals.

    Raises
    ------
    DataError
        A column is missing or of a wrong type; an id is null or there twice; points or a delta are beyond int64; the
        policy is neither; the runs are of two months, as the metadata of their schemas say.

    Examples
    --------
    >>> paid = {"member": ["Ann", "Ben", "Cho", "Dan"], "reward": [10, 20, 30, 40]}
    >>> corrected = {"member": ["Ben", "Ann", "Cho", "Eve"], "reward": [25, 10, 28, 7]}
    >>> restatement = restate(paid, corrected, id="member")
    >>> restatement
    Restatement of 5 ids, 4 changed
      unchanged       1   +0
      underpaid       1   +5
      overpaid        1   -2
      missing before  1   +7
      missing after   1  -40
      before          4  100
      after           4   70
      due (top_up)    2  +12
    >>> restatement.table.select(["member", "delta", "due"]).to_pylist()[1:3]
    [{'member': 'Cho', 'delta': -2, 'due': 0}, {'member': 'Dan', 'delta': -40, 'due': 0}]
    >>> restate(paid, corrected, "net", id="member").totals["due"]
    -30
    """
    if policy not in get_args(Policy):
        raise DataError(f"policy is {policy!r}; it must be 'top_up' or 'net'.")
    names = (id,) if isinstance(id, str) else tuple(id)
    if not names or len(set(names)) < len(names) or set(names) & set(_RESULTS):
        raise DataError(
            f"id is {id!r}; it must name one or more columns, each once, and none of {', '.join(_RESULTS)}."
        )
    ids, codes, values = _matched({"before": before, "after": after}, names, points)
    # Of each id on each side: its points, 0 where there are none; whether there are some; whether it has a row.
    amounts = np.zeros((2, ids.num_rows), dtype=np.int64)
    known, present = np.zeros((2, 2, ids.num_rows), dtype=bool)
    for side in range(2):
        amounts[side, codes[side]], known[side, codes[side]] = values[side]
        present[side, codes[side]] = True
    delta = _delta(amounts[0], amounts[1], ids)
    status = np.select([~present[0], ~present[1], delta > 0, delta < 0], [3, 4, 1, 2], default=0)
    due = np.maximum(delta, 0) if policy == "top_up" else delta
    rows = np.flatnonzero(status)
    rows = rows[order_of(ids.take(pa.array(rows)))]
    table = ids.take(pa.array(rows))
    columns = (
        pa.DictionaryArray.from_arrays(pa.array(status[rows].astype(np.int32)), pa.array(STATUSES)),
        *(pa.array(amounts[side, rows], mask=~known[side, rows]) for side in range(2)),
        pa.array(delta[rows]),
        pa.array(due[rows]),
    )
    for name, column in zip(_RESULTS, columns, strict=True):
        table = table.append_column(name, column)
    counts = np.bincount(status, minlength=len(STATUSES)).tolist()
    totals = {
        "before": amounts[0],
        "after": amounts[1],
        **{name: delta[status == number] for number, name in enumerate(STATUSES)},
        "delta": delta,
        "due": due,
        "to_pay": np.maximum(due, 0),
        "to_get_back": np.minimum(due, 0),
    }
    return Restatement(
        policy,
        table,
        dict(zip(STATUSES, counts, strict=True)),
        {name: exact_sum(part) for name, part in totals.items()},
    )


def _matched(
    runs: dict[str, Any], names: Sequence[str], points: str
) -> tuple[pa.Table, list[npt.NDArray[np.int32]], list[tuple[Int64s, npt.NDArray[np.bool_]]]]:
    """The distinct ids; of each run, the number of every row's id, and its points and whether it has any."""
    ids, values, months = [], [], list[str]()
    for label, run in runs.items():
        with naming_table(label):
            table = table_of(run)
            months += [month.decode(errors="replace")] if (month := (table.schema.metadata or {}).get(MONTH)) else []
            ids.append(ids_of(table, names))
            values.append(integers_of(table, points, negative="allow"))
    if len(set(months)) > 1:
        raise DataError(f"The runs are of the months {months[0]} and {months[1]}; two runs of one month are compared.")
    codes, distinct = identify(*ids)
    for label, own in zip(runs, codes, strict=True):
        with naming_table(label):
            refuse_repeats(own, distinct)
    return distinct, codes, values


def _delta(before: Int64s, after: Int64s, ids: pa.Table) -> Int64s:
    delta = after - before
    # It wraps around where the two are of unlike signs and it has not the sign of `after`.
    wrapped = np.flatnonzero(((before ^ after) & (after ^ delta)) < 0)
    if len(wrapped):
        place = int(wrapped[0])
        id_ = shown_id(ids.slice(place))
        raise DataError(f"The points of {id_} are {before[place]} before and {after[place]} after, too far for int64.")
    return delta
