"""Pass 2: every row's score, step, rate and reward, from the population and the program."""

from collections.abc import Sequence
from fractions import Fraction
from functools import cached_property
from math import floor, inf, isqrt
from typing import Any

import numpy as np
import pyarrow as pa

from hensa import kernels
from hensa.columns import View, Views, allocate, array_of, column_of, rows_views, table_of
from hensa.errors import DataError
from hensa.lookup import lookup
from hensa.population import Exact, Moments, Population, Welford, add_up
from hensa.program import Program
from hensa.threads import share_out
from hensa.tiers import Tiers

__all__ = ["score"]

_TYPES = {"score": pa.float64(), "rate": pa.float64(), "step": pa.uint16(), "reward": pa.int64()}
_INT64 = range(-(2**63), 2**63)


def score(
    rows: Any,
    program: Program,
    population: Population | None = None,
    by: Any = None,
    columns: Sequence[str] = ("score", "rate", "reward"),
    threads: int | None = None,
    out: pa.Table | None = None,
) -> pa.Table:
    """Score every row: pass 1, unless a population is given, and pass 2.

    score = Σ wᵢ·(zᵢ·scale + centre) / Σ wᵢ with zᵢ = (xᵢ - meanᵢ) / SDᵢ. The row is on the highest step whose
    threshold the exact score reaches; float64 decides where its error bound allows, integers decide the rest. The
    reward is the base times the decimal rate, rounded as the program says, in integers.

    Parameters
    ----------
    rows : object
        Anything with ``__arrow_c_stream__`` or ``__arrow_c_array__`` (pyarrow, Polars, pandas, DuckDB, nanoarrow ...),
        or a mapping of names to arrays. Arrow buffers are read where they lie.
    program : Program
        The rules.
    population : Population, optional
        Score against this population (of last month, or merged from parts) instead of the rows' own.
    columns : sequence of str
        Of "score" (float64), "rate" (float64, a share: 0.098), "step" (uint16, 0 is the lowest), "reward" (int64, points) and
        "<measure>_score" (float64, the standard score of one measure).
    threads : int, optional
        Number of threads; None: the CPUs that this process may use.
    out : pyarrow.Table, optional
        An earlier result with as many rows, whose buffers are overwritten and returned.

    Returns
    -------
    pyarrow.Table
        The rows' own columns, not copied, then those asked for. They are null where a measure or the base is null;
        the step is also null below the first threshold of a table with ``below = "zero"``.

    Raises
    ------
    DataError
        A column is missing, there twice, of a wrong type or already named like a result; a value is NaN or
        infinite; the population is empty, lacks a measure or has no SD; a reward is beyond int64.

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
    table = table_of(rows)
    columns = _asked(columns, table, program)
    views = rows_views(table, program, "reward" in columns)
    own = population is None
    if population is None:
        population = add_up(views, program, "auto", threads)
    results = _Results(table.num_rows, columns, views, out)
    moments = [_moments(population, view.name, program) for view in views.measures]
    if _all_null(population, own, views, moments, program):
        return _with_columns(table, {name: pa.nulls(table.num_rows, _type(name)) for name in columns})
    judge = _Judge(program, views, moments, own)
    scorer = kernels.active.Scorer(
        [view.column for view in views.measures],
        views.base and views.base.column,
        [view.column for view in views.others],
        judge.constants(),
        judge.decide,
        judge.pay,
    )
    counts = share_out(lambda start, stop: scorer.run(start, stop, results.addresses), table.num_rows, threads)
    nulls = table.num_rows - sum(valid for valid, _ in counts)
    off_table = sum(off for _, off in counts) if program.rates.below == "zero" else 0
    return _with_columns(table, results.arrays(nulls, off_table))


def _asked(columns: Sequence[str], table: pa.Table, program: Program) -> tuple[str, ...]:
    columns = (columns,) if isinstance(columns, str) else tuple(columns)
    known = [*_TYPES, *(f"{measure.column}_score" for measure in program.rule.measures)]
    for i, name in enumerate(columns):
        if name not in known or name in columns[:i]:
            raise DataError(
                f"columns names {name!r} {'twice' if name in known else ''}; it may name each of {', '.join(known)} once."
            )
        if name in table.column_names:
            raise DataError(f"The rows already have a column {name!r}; rename it, or leave it out of columns.")
    if "reward" in columns and program.reward is None:
        raise DataError(f"Program {program.name!r} has no [reward]; ask for score, step and rate only.")
    return columns


def _type(name: str) -> pa.DataType:
    return _TYPES.get(name, pa.float64())


def _with_columns(table: pa.Table, arrays: dict[str, pa.Array]) -> pa.Table:
    schema = table.schema
    for name, array in arrays.items():
        schema = schema.append(pa.field(name, array.type))
    return pa.Table.from_arrays([*table.itercolumns(), *arrays.values()], schema=schema)


def _moments(population: Population, name: str, program: Program) -> Moments:
    if name not in population.measures:
        have = ", ".join(population.measures) or "no measures"
        raise DataError(f"The population has no measure {name!r}; it has {have}.")
    found = population[name]
    return Moments(found.count, found.state, program.rule.ddof)


def _all_null(population: Population, own: bool, views: Views, moments: list[Moments], program: Program) -> bool:
    """Whether nothing can be scored: no row counts, or a constant measure makes every score null."""
    ddof = program.rule.ddof
    if population.count == 0:
        if own or add_up(views, program, "auto", None).count == 0:
            return True
        raise DataError("The population is empty; scores need a population of at least one row.")
    if population.count <= ddof:
        raise DataError(f"The population has {population.count} row, and an SD with ddof {ddof} needs more.")
    constant = [m.column for m, state in zip(program.rule.measures, moments, strict=True) if not state.variance_exact]
    if constant and program.rule.constant == "error":
        raise DataError(f'Column {constant[0]!r} is the same in every row, and the program says constant = "error".')
    return bool(constant) and program.rule.constant == "null"


class _Results:
    """The buffers of the result."""

    def __init__(
        self, n_rows: int, columns: Sequence[str], views: Views, out: pa.Table | None
    ) -> None:
        self.n_rows, self.columns = n_rows, columns
        reused = {} if out is None else _reusable(out, columns, n_rows)
        self.values = {name: reused.get(name) or allocate(n_rows * _type(name).bit_width // 8) for name in columns}
        bitmap_bytes = (n_rows + 7) // 8
        self.validity = allocate(bitmap_bytes) if any(view.has_bitmap for view in views.all) else None
        self.step_validity = allocate(bitmap_bytes) if "step" in columns else None
        address = {name: buffer.address for name, buffer in self.values.items()}
        self.addresses = {
            **{name: address.get(name, 0) for name in _TYPES},
            "singles": [address.get(f"{view.name}_score", 0) for view in views.measures],
            "validity": self.validity.address if self.validity else 0,
            "step_validity": self.step_validity.address if self.step_validity else 0,
        }

    def arrays(self, nulls: int, off_table: int) -> dict[str, pa.Array]:
        results = {}
        for name in self.columns:
            missing = nulls + (off_table if name == "step" else 0)
            validity = self.step_validity if name == "step" else self.validity
            results[name] = array_of(_type(name), self.n_rows, validity, self.values[name], missing)
        return results


def _reusable(out: pa.Table, columns: Sequence[str], n_rows: int) -> dict[str, pa.Buffer]:
    """The value buffers of an earlier result."""
    if not isinstance(out, pa.Table) or out.num_rows != n_rows:
        found = f"{out.num_rows:,} rows" if isinstance(out, pa.Table) else f"a {type(out).__name__}"
        raise DataError(f"out is {found}; it must be an earlier result with {n_rows:,} rows.")
    buffers = {}
    for name in columns:
        chunks = column_of(out, name).chunks
        if len(chunks) != 1 or chunks[0].type != _type(name) or chunks[0].offset or not chunks[0].buffers()[1].is_mutable:
            raise DataError(f"Column {name!r} of out is not one that score() made; pass an earlier result as it was returned.")
        buffers[name] = chunks[0].buffers()[1]
    return buffers


class _Judge:
    """The constants of the kernel's arithmetic, and what integers decide where that arithmetic cannot."""

    def __init__(self, program: Program, views: Views, moments: list[Moments], own: bool) -> None:
        self.program, self.views, self.moments = program, views, moments
        self.lookup = lookup(program, views.base.unit if views.base else None)
        self.bounds = [_bound(view, m.state if own else None) for view, m in zip(views.measures, moments, strict=True)]
        total = sum(measure.weight for measure in program.rule.measures)
        self.weights = [program.rule.scale * measure.weight / total for measure in program.rule.measures]
        self.decided: dict[tuple[Fraction, ...], tuple[int, float]] = {}

    @cached_property
    def tiers(self) -> Tiers:
        return Tiers(self.program, [m.mean_exact for m in self.moments], [m.variance_exact for m in self.moments])

    def decide(self, row: int) -> tuple[int, float]:
        """The exact count of thresholds and the score of a row."""
        values = tuple(view.value(row) for view in self.views.measures)
        if values not in self.decided:
            self.decided[values] = self.tiers.decide(values)
        return self.decided[values]

    def pay(self, row: int, count: int) -> int:
        """The reward of a row, or the error that says it is none."""
        view = self.views.base
        assert view is not None
        points = self.lookup.points(view.value(row), count)
        if points not in _INT64:
            base = view.array[row].as_py()
            raise DataError(
                f"Column {view.name!r} is {base} in row {row}; its reward of {points} points is beyond int64."
            )
        return points

    def constants(self) -> dict[str, Any]:
        """What `Scorer` in kernels/score.pxi explains."""
        rule = self.program.rule
        k, k_double, f, near, c, single_c = [], [], [], [], [], []
        for view, moments, weight in zip(self.views.measures, self.moments, self.weights, strict=True):
            mean = moments.mean_exact / view.unit if view.unit else moments.mean_exact
            if view.unit is None:
                whole, exact = 0, Fraction(float(mean))
                near.append(True)
            else:
                whole = floor(mean)
                exact = Fraction(whole)
                near.append(abs(whole) <= (2**62 if view.kind in ("int64", "uint64", "decimal128") else 2**52))
                if not -(2**127) <= whole < 2**127:
                    raise DataError(f"The population's mean of {view.name!r} is beyond the range of decimal128.")
            k.append((whole & (2**64 - 1), whole >> 64 & (2**64 - 1)))
            k_double.append(float(exact) if near[-1] else 0.0)
            f.append(float(mean - exact))
            sd = moments.rounded_sd(view.unit)
            c.append(float(weight) / sd if sd else 0.0)
            single_c.append(float(rule.scale) / sd if sd else 0.0)
        # The rounding of f moves the score by at most |c| (|f| 2^-53 + 2^-1075). The bound takes products not to
        # underflow by more than 2^-1000; a coefficient so small makes integers decide every row.
        e0 = 2.0**-1000
        for i, coefficient in enumerate(map(abs, c)):
            usual = coefficient > 2.0**-1000 or not coefficient
            e0 += coefficient * (abs(f[i]) * 2.0**-52 + 2.0**-1074) if usual else inf
        slot, multiplier = self.tiers.keys([view.unit for view in self.views.measures], self.bounds)
        return {
            "centre": float(rule.centre),
            "k": np.array(k, dtype=np.uint64),
            "k_double": k_double,
            "f": f,
            "near": near,
            "c": np.array(c),
            "single_c": np.array(single_c),
            "slot": np.array(slot, dtype=np.int64),
            "multiplier": np.array([m % 2**64 for m in multiplier], dtype=np.uint64),
            "n_words": 2 * len(c),
            "bound": (len(c) + 16) * 2.0**-53,
            "e0": e0,
            **self.lookup.constants,
        }


def _bound(view: View, own: Exact | Welford | None) -> int:
    """No integer of the column is larger in magnitude; in its own population, none is larger than √Σx²."""
    bits = {"int8": 7, "int16": 15, "int32": 31, "uint8": 8, "uint16": 16, "uint32": 32, "bool": 1}
    if view.kind in bits or view.unit is None or not isinstance(own, Exact):
        return 1 << bits.get(view.kind, 127)
    return isqrt(floor(own.sum_of_squares / view.unit**2))
