"""Pass 2: every row's score, step, rate and reward, from the population and the program."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from math import ceil, floor, inf, isqrt, lcm
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from hensa import kernels
from hensa.columns import View, allocate, array_of, base_view, column_of, measure_view, null_view, table_of
from hensa.errors import DataError
from hensa.population import Exact, Moments, Population
from hensa.population import population as population_of
from hensa.program import Program, RateTable, Reward
from hensa.roots import nearest_root
from hensa.threads import share_out
from hensa.tiers import Tiers

__all__ = ["score"]

_TYPES = {"score": pa.float64(), "rate": pa.float64(), "step": pa.uint16(), "reward": pa.int64()}
_MOST_BUCKETS = 4096
_INT64 = range(-(2**63), 2**63)
_ROUND: dict[str, Callable[[Fraction], int]] = {
    "floor": floor,
    "half_up": lambda x: floor(x + Fraction(1, 2)),
    "ceil": ceil,
}


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
    measures = [measure_view(table, measure.column) for measure in program.rule.measures]
    base, others = None, []
    if program.reward is not None:
        if "reward" in columns:
            base = base_view(table, program.reward.base)
        elif program.reward.base in table.column_names:
            others = [null_view(table, program.reward.base)]
    own = population is None
    if population is None:
        population = population_of(table, program, threads=threads)
    results = _Results(table.num_rows, columns, measures, [*measures, *([base] if base else []), *others], out)
    moments = [_moments(population, view.name, program) for view in measures]
    if _all_null(table, population, moments, program):
        return _with_columns(table, {name: pa.nulls(table.num_rows, _type(name)) for name in columns})
    payer = _Payer(program, base)
    judge = _Judge(program, measures, moments, own)
    constants = {**judge.constants(), **payer.constants()}
    scorer = kernels.active.Scorer(
        [view.column for view in measures],
        base and base.column,
        [view.column for view in others],
        constants,
        judge.decide,
        payer.pay,
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
    for name, array in arrays.items():
        table = table.append_column(name, array)
    return table


def _moments(population: Population, name: str, program: Program) -> Moments:
    if name not in population.measures:
        have = ", ".join(population.measures) or "no measures"
        raise DataError(f"The population has no measure {name!r}; it has {have}.")
    found = population[name]
    return Moments(found.count, found.state, program.rule.ddof)


def _all_null(table: pa.Table, population: Population, moments: list[Moments], program: Program) -> bool:
    """Whether nothing can be scored: no row counts, or a constant measure makes every score null."""
    ddof = program.rule.ddof
    if population.count == 0:
        if any(column_of(table, m.column).null_count == table.num_rows for m in program.rule.measures):
            return True
        if population.nulls == table.num_rows:
            return True
        raise DataError("The population is empty; scores need a population of at least one row.")
    if population.count <= ddof:
        raise DataError(f"The population has {population.count} row, and an SD with ddof {ddof} needs more.")
    constant = [m.column for m, state in zip(program.rule.measures, moments, strict=True) if not state.variance_exact]
    if constant and program.rule.constant == "error":
        raise DataError(f"Column {constant[0]!r} is the same in every row, and the program says constant = \"error\".")
    return bool(constant) and program.rule.constant == "null"


class _Results:
    """The buffers of the result."""

    def __init__(
        self, n_rows: int, columns: Sequence[str], measures: list[View], views: list[View], out: pa.Table | None
    ) -> None:
        self.n_rows, self.columns = n_rows, columns
        reused = {} if out is None else _reusable(out, columns, n_rows)
        self.values = {name: reused.get(name) or allocate(n_rows * _type(name).bit_width // 8) for name in columns}
        bitmap_bytes = (n_rows + 7) // 8
        self.validity = allocate(bitmap_bytes) if any(view.has_bitmap for view in views) else None
        self.step_validity = allocate(bitmap_bytes) if "step" in columns else None
        address = {name: buffer.address for name, buffer in self.values.items()}
        self.addresses = {
            **{name: address.get(name, 0) for name in _TYPES},
            "singles": [address.get(f"{view.name}_score", 0) for view in measures],
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
    """Scores and steps: the constants of the kernel's arithmetic, and exact decisions."""

    def __init__(self, program: Program, measures: list[View], moments: list[Moments], own: bool) -> None:
        self.program, self.measures = program, measures
        self.means = [state.mean_exact for state in moments]
        self.variances = [state.variance_exact for state in moments]
        sums = [m.state if own and isinstance(m.state, Exact) else None for m in moments]
        self.bounds = [_bound(view, state) for view, state in zip(measures, sums, strict=True)]
        self.tiers = Tiers(program, self.means, self.variances)
        self.decided: dict[tuple[Fraction, ...], tuple[int, float]] = {}

    def decide(self, row: int) -> tuple[int, float]:
        values = tuple(_exact(view, row) for view in self.measures)
        if values not in self.decided:
            self.decided[values] = self.tiers.decide(values)
        return self.decided[values]

    def constants(self) -> dict[str, Any]:
        rule, rates = self.program.rule, self.program.rates
        k, k_double, f, near, c, single_c = [], [], [], [], [], []
        for i, view in enumerate(self.measures):
            mean, variance = self.means[i], self.variances[i]
            if view.unit is None:
                k_double.append(float(mean))
                f.append(float(mean - Fraction(k_double[i])))
                k.append((0, 0))
                near.append(True)
            else:
                mean, variance = mean / view.unit, variance / view.unit**2
                whole = floor(mean)
                if not -(2**127) <= whole < 2**127:
                    raise DataError(f"The population's mean of {view.name!r} is beyond the range of decimal128.")
                f.append(float(mean - whole))
                k.append((whole & (2**64 - 1), (whole >> 64) & (2**64 - 1)))
                near.append(abs(whole) <= (2**62 if view.kind in ("int64", "uint64", "decimal128") else 2**52))
                k_double.append(float(whole) if near[i] else 0.0)
            c.append(_over_sd(self.tiers.weights[i], variance))
            single_c.append(_over_sd(rule.scale, variance))
        slot, multiplier = self.tiers.keys([view.unit for view in self.measures], self.bounds)
        e0 = 0.0
        for coefficient in c:
            e0 += abs(coefficient)
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
            "n_words": 2 * len(self.measures),
            "bound": (len(c) + 10) * 2.0**-53,
            "e0": e0 * 2.0**-53,
            **_buckets(rates),
        }


def _exact(view: View, row: int) -> Fraction:
    value = view.array[row].as_py()
    if isinstance(value, float) and not np.isfinite(value):
        raise DataError(f"Column {view.name!r} is {value} in row {row}; measures must be finite numbers.")
    return Fraction(value)


def _bound(view: View, own: Exact | None) -> int:
    """No integer of the column is larger in magnitude; in its own population, none is larger than √Σx²."""
    bits = {"int8": 7, "int16": 15, "int32": 31, "uint8": 8, "uint16": 16, "uint32": 32, "bool": 1}
    if view.kind in bits or own is None or view.unit is None:
        return 1 << bits.get(view.kind, 127)
    return isqrt(floor(own.sum_of_squares / view.unit**2))


def _over_sd(factor: Fraction, variance: Fraction) -> float:
    """The float64 nearest to factor / SD; 0 for a constant measure, which adds nothing."""
    if not variance:
        return 0.0
    nearest = nearest_root(factor**2 / variance)
    return nearest if factor > 0 else -nearest


def _buckets(rates: RateTable) -> dict[str, Any]:
    """The thresholds as the kernel looks them up: see `Table` in kernels/score.pxi."""
    thresholds = [float(threshold) for threshold in rates.thresholds]
    origin, span = thresholds[0], thresholds[-1] - thresholds[0]
    narrowest = min((high - low for low, high in zip(thresholds, thresholds[1:], strict=False)), default=1.0)
    n_buckets = min(ceil(span / narrowest) + 1, _MOST_BUCKETS) if span < inf else 1
    per_unit = (n_buckets - 1) / span if span and span < inf else 0.0
    # The same operations as in the kernel, so that a bucket is the same monotone function of a score.
    buckets = [int(min(max((threshold - origin) * per_unit, 0.0), n_buckets - 1.0)) for threshold in thresholds]
    held = np.bincount(buckets, minlength=n_buckets)
    rounds = int(held.max()).bit_length()
    first = rates.below == "first"
    shares = [float(share) for share in rates.shares]
    return {
        "low": np.array([-inf, *thresholds]),
        "high": np.array([*thresholds, *[inf] * 2**rounds]),
        "first": (np.cumsum(held) - held).astype(np.int32),
        "origin": origin,
        "buckets_per_unit": per_unit,
        "rounds": rounds,
        "rate": np.array([shares[0] if first else 0.0, *shares]),
        "step": np.array([0, *range(len(shares))], dtype=np.uint16),
    }


class _Ratio(NamedTuple):
    """reward = floor((base * numerators[count] + addend) / denominator)"""

    numerators: list[int]
    addend: int
    denominator: int


class _Payer:
    """Rewards: the constants of the kernel's arithmetic, and rewards by integers of any size."""

    def __init__(self, program: Program, base: View | None) -> None:
        self.base, self.reward = base, program.reward
        first = program.rates.shares[0] if program.rates.below == "first" else Fraction(0)
        self.shares = [first, *program.rates.shares]

    def pay(self, row: int, count: int) -> int:
        assert self.base is not None
        assert self.reward is not None
        value = self.base.value(row)
        points = _ROUND[self.reward.rounding](value * self.shares[count])
        if self.reward.cap is not None:
            points = min(points, self.reward.cap)
        if points not in _INT64:
            raise DataError(
                f"Column {self.base.name!r} is {value} in row {row}; its reward of {points} points is beyond int64."
            )
        return points

    def constants(self) -> dict[str, Any]:
        if self.base is None or self.reward is None:
            return {}
        assert self.base.unit is not None
        ratio = _ratio(self.shares, self.base.unit, self.reward)
        largest = max(map(abs, ratio.numerators))
        fits = max(largest + ratio.addend, ratio.denominator) < 2**51
        base_bits = 0
        while fits and (largest << (base_bits + 1)) + ratio.addend < 2**51 and base_bits < 50:
            base_bits += 1
        longs = ratio.denominator * largest + ratio.addend < 2**62 and ratio.denominator < 2**62
        cap = self.reward.cap
        return {
            "numerator": np.array([float(n) if fits else 0.0 for n in ratio.numerators]),
            "numerator_long": np.array([n if longs else 0 for n in ratio.numerators], dtype=np.int64),
            "addend": float(ratio.addend) if fits or longs else 0.0,
            "denominator": float(ratio.denominator) if fits or longs else 1.0,
            "addend_long": ratio.addend if longs else 0,
            "denominator_long": ratio.denominator if longs else 1,
            "cap": inf if cap is None else float(min(cap, 2**52)),
            "cap_long": 2**63 - 1 if cap is None else cap,
            "base_bits": base_bits,
            "fits": fits,
            "longs_suffice": longs,
        }


def _ratio(shares: list[Fraction], unit: Fraction, reward: Reward) -> _Ratio:
    """The rounded product as one floor division of integers: half up is floor(x + 1/2), and with a whole numerator
    ceil(a / b) is floor((a + b - 1) / b)."""
    common = lcm(*(share.denominator for share in shares))
    numerators = [int(share * common) for share in shares]
    denominator = int(common / unit)
    if reward.rounding == "half_up":
        return _Ratio([2 * n for n in numerators], denominator, 2 * denominator)
    return _Ratio(numerators, denominator - 1 if reward.rounding == "ceil" else 0, denominator)
