"""Pass 2: every row's score, step, rate and reward, from the population and the program."""

import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from hensa import kernels
from hensa.cohorts import encode, names_of
from hensa.columns import Views, allocate, array_of, named, rows_views, table_of
from hensa.counts import Count
from hensa.errors import DataError, HensaError
from hensa.judge import CohortJudge, Judge, PopulationJudge
from hensa.per_event import pay_events
from hensa.population import Population, cohorts_of
from hensa.program import ANY_MONTH_ALLOWS, PerEvent, Program, Stages
from hensa.stages import StageJudge
from hensa.threads import UNIT, share_out

__all__ = ["MONTH", "check_counted", "of_month", "score"]

MONTH = b"hensa.month"
"""Where the schema of scored rows keeps the month that is paid."""

_TYPES = {"score": pa.float64(), "rate": pa.float64(), "step": pa.uint16(), "stage": pa.uint16(), "reward": pa.int64()}
_FIELDS = {name: pa.field(name, type_) for name, type_ in _TYPES.items()}


def score(
    rows: Any,
    program: Program,
    population: Population | None = None,
    by: str | Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    threads: int | None = None,
    out: pa.Table | None = None,
    month: str | None = None,
    any_month: bool = False,
) -> pa.Table:
    """Score every row: pass 1, unless a population is given, and pass 2.

    By the rule "standard-score", score = Σ wᵢ·(zᵢ·scale + centre) / Σ wᵢ with zᵢ = (xᵢ - meanᵢ) / SDᵢ. The row is on
    the highest step whose threshold the exact score reaches; float64 decides where its error bound allows, integers
    decide the rest. The reward is the base times the decimal rate, rounded as the program says, in integers.

    By the rule "stage" a row is on the highest stage that one of its criteria reaches, compared exactly; the reward
    is found in the same way, and the bonuses of the stages first reached are added before the cap. No population and no
    cohort bears on it.

    By the rule "per-event", reward = Σ countᵢ · amountᵢ with the amounts of the events for the referrer, and
    friend_reward likewise with those for the friends; in a month with a campaign, with its amounts. A null in any count
    makes both null. No population, cohort, thread or `out` bears on it.

    Parameters
    ----------
    rows : object
        Anything with ``__arrow_c_stream__`` or ``__arrow_c_array__`` (pyarrow, Polars, pandas, DuckDB, nanoarrow ...),
        or a mapping of names to arrays. Arrow buffers are read where they lie.
    program : Program
        The rules.
    population : Population, optional
        Score against this population (of last month, or merged from parts) instead of the rows' own.
    by : str or sequence of str, optional
        Cohort columns (month, site, country): each row is scored against the population of its own cohort.
    columns : sequence of str, optional
        Of "score" (float64), "rate" (float64, a share: 0.098), "step" (uint16, 0 is the lowest), "reward" (int64,
        points) and "<measure>_score" (float64, the standard score of one measure). Stages have no score, but "stage"
        (uint16, 0 for none). None: score or stage, rate and, if the program has one, reward. By events, only "reward"
        and "friend_reward" (int64); None: both, if friends are paid.
    threads : int, optional
        Number of threads; None: the CPUs that this process may use.
    out : pyarrow.Table, optional
        An earlier result with as many rows, whose buffers are overwritten and returned.
    month : str, optional
        The month that is paid, such as ``"2019-10"``; the metadata of the result's schema keep it as ``hensa.month``.
    any_month : bool
        Allow a month that is not wholly within the program's effective dates.

    Returns
    -------
    pyarrow.Table
        The rows' own columns, not copied, then those asked for. They are null where a measure or the base is null;
        the step is also null below the first threshold of a table with ``below = "zero"``.

    Raises
    ------
    DataError
        A column is missing, there twice, of a wrong type or already named like a result; a value is NaN or
        infinite; the population is empty, lacks a measure or has no SD, or one beyond about 1e-150 to 1e250 of a
        measure whose own score is asked for; a reward is beyond int64; month is not one.
    ProgramError
        The month is outside the program's effective dates.

    Examples
    --------
    >>> import hensa
    >>> rows = {
    ...     "new_referrals": [10] * 99 + [5000],
    ...     "ad_users": [7] * 100,
    ...     "friend_points": [100_000] * 100,
    ... }
    >>> paid = hensa.score(rows, hensa.Program.load("hapitas-friend"), columns=("score", "step", "reward"))
    >>> paid.slice(98).select(["new_referrals", "score", "step", "reward"]).to_pylist()[0]["reward"]
    9800
    >>> paid["score"][99].as_py(), paid["step"][99].as_py()
    (54.9749371855331, 54)
    """
    if not isinstance(program, Program):
        raise HensaError(f"program is {program!r:.80}; it must be a hensa.Program, such as Program.load(...) returns.")
    if population is not None and not isinstance(population, Population):
        raise HensaError(f"population is {population!r:.80}; it must be a hensa.Population, as population() returns.")
    names = names_of(by)
    table = of_month(table_of(rows), program, month, any_month)
    columns = _asked(columns, table, program)
    for name in names:
        named(table, name)
    views = rows_views(table, program, "reward" in columns)
    if isinstance(program.rule, PerEvent):
        return _with_columns(table, _paid_events(program.rule, views, columns, month))
    judge: Judge | StageJudge
    if isinstance(program.rule, Stages):
        judge = StageJudge(program, views)
    elif names:
        keys = encode(table, names, threads)
        cohorts = cohorts_of(views, keys, program, "auto", threads) if population is None else population.cohorts
        judge = CohortJudge(program, views, keys, cohorts, columns, threads)
        views = judge.views
    else:
        judge = PopulationJudge(program, views, population, columns, threads)
        if judge.all_null:
            return _with_columns(table, {name: pa.nulls(table.num_rows, _type(name)) for name in columns})
    results = _Results(table, columns, views, out)
    scorer = kernels.active.Scorer(
        [view.column for view in views.measures or views.criteria],
        views.base and views.base.column,
        [view.column for view in views.others],
        judge.lookup.tables,
        judge.constants(),
        judge.decide,
        judge.pay,
    )

    def work(start: int, stop: int) -> tuple[int, int]:
        try:
            counted: tuple[int, int] = scorer.run(start, stop, results.addresses)
            return counted
        except KeyboardInterrupt:  # a piece of rows that integers decide may take long
            scorer.stopped = True
            raise

    counts = share_out(work, table.num_rows, threads)
    valid, off_table = map(sum, zip((0, 0), *counts, strict=True))
    return _with_columns(table, results.arrays(table.num_rows - valid, off_table))


def of_month(table: pa.Table, program: Program, month: str | None, any_month: bool) -> pa.Table:
    """The rows with the month that is paid, if one is named, in their metadata.

    Raises
    ------
    DataError
        That is no month, or a ledger counted the rows for another, as their metadata says.
    ProgramError
        The program does not hold in all of it.
    """
    if month is None:
        return table
    program.check_month(month, any_month)
    metadata = table.schema.metadata or {}
    try:
        counted = json.loads(metadata[b"hensa.ledger"])["month"]
    except (KeyError, TypeError, ValueError):
        counted = month
    check_counted(counted, month, any_month)
    return table.replace_schema_metadata({**metadata, MONTH: month})


def check_counted(counted: str, month: str, any_month: bool) -> None:
    """Refuse rows that a ledger counted for another month than the one that is paid.

    Raises
    ------
    DataError
        With both months, unless any month is allowed.
    """
    if counted != month and not any_month:
        raise DataError(
            f"The rows were counted for {counted}, and the month of the run is {month}; {ANY_MONTH_ALLOWS}."
        )


def _asked(columns: Sequence[str] | None, table: pa.Table, program: Program) -> tuple[str, ...]:
    asked = program.results if columns is None else _known(columns, program)
    taken = table.schema.names
    for name in asked:
        if name in taken:
            raise DataError(f"The rows already have a column {name!r}; rename it, or leave it out of columns.")
    return asked


def _known(columns: Sequence[str], program: Program) -> tuple[str, ...]:
    """Columns that the program has."""
    columns = (columns,) if isinstance(columns, str) else tuple(columns)
    match program.rule:
        case PerEvent():
            known, why = ["reward", "friend_reward"], ", as amounts per event have no scores and rates"
        case Stages():
            known, why = ["stage", "rate", "step", "reward"], ", as stages have no scores"
        case _:
            known, why = ["score", "rate", "step", "reward"], ""
    known += [f"{measure.column}_score" for measure in program.measures]
    for i, name in enumerate(columns):
        if name not in known or name in columns[:i]:
            twice = " twice" if name in known else ""
            raise DataError(
                f"columns names {name!r}{twice}; it may name each of {', '.join(known)} once"
                f"{why if name in _TYPES and not twice else ''}."
            )
    if "reward" in columns and program.reward is None and not isinstance(program.rule, PerEvent):
        raise DataError(f"Program {program.name!r} has no [reward]; ask for {known[0]}, step and rate only.")
    return columns


def _paid_events(rule: PerEvent, views: Views, columns: Sequence[str], month: str | None) -> dict[str, pa.ChunkedArray]:
    amounts = rule.amounts(month)
    of = {"reward": [referrer for _, referrer, _ in amounts], "friend_reward": [friend for *_, friend in amounts]}
    return {name: pay_events(views.others, of[name]) for name in columns}


def _type(name: str) -> pa.DataType:
    return _TYPES.get(name, _TYPES["score"])


def _with_columns(table: pa.Table, arrays: dict[str, pa.Array]) -> pa.Table:
    for name, array in arrays.items():
        table = table.append_column(_FIELDS.get(name, name), array)
    return table


class _Results:
    """The buffers of the result."""

    def __init__(self, table: pa.Table, columns: Sequence[str], views: Views, out: pa.Table | None) -> None:
        self.n_rows = n_rows = table.num_rows
        self.types = {name: _type(name) for name in columns}
        if out is None:
            self.values = {name: allocate(n_rows * type_.byte_width) for name, type_ in self.types.items()}
        else:
            self.values = _reusable(out, columns, table)
        bitmap_bytes = (n_rows + 7) // 8
        self.validity = allocate(bitmap_bytes) if any(view.column.has_bitmap for view in views.all) else None
        self.step_validity = allocate(bitmap_bytes) if "step" in columns else None
        address = {name: buffer.address for name, buffer in self.values.items()}
        self.addresses = {
            **address,
            "singles": [address.get(f"{view.name}_score", 0) for view in views.measures],
            "stream": n_rows > UNIT,
            "validity": self.validity.address if self.validity else 0,
            "step_validity": self.step_validity.address if self.step_validity else 0,
        }

    def arrays(self, nulls: int, off_table: int) -> dict[str, pa.Array]:
        results = {}
        for name, values in self.values.items():
            missing, validity = (nulls + off_table, self.step_validity) if name == "step" else (nulls, self.validity)
            results[name] = array_of(self.types[name], self.n_rows, validity, values, missing)
        return results


def _reusable(out: pa.Table, columns: Sequence[str], table: pa.Table) -> dict[str, pa.Buffer]:
    """The value buffers of an earlier result."""
    if not isinstance(out, pa.Table) or out.num_rows != table.num_rows:
        found = f"{Count(out.num_rows):row}" if isinstance(out, pa.Table) else f"a {type(out).__name__}"
        raise DataError(f"out is {found}; it must be an earlier result with {Count(table.num_rows):row}.")
    read = {
        buffer.address for column in table.columns for chunk in column.chunks for buffer in chunk.buffers() if buffer
    }
    buffers = {}
    for name in columns:
        chunks = out.column(name).chunks if out.column_names.count(name) == 1 else []
        buffer = chunks[0].buffers()[1] if len(chunks) == 1 and chunks[0].type == _type(name) else None
        if buffer is None or chunks[0].offset or not buffer.is_mutable or buffer.address in read:
            raise DataError(
                f"out has no column {name!r} of its own that score() made; pass an earlier result as it was returned."
            )
        buffers[name] = buffer
    return buffers
