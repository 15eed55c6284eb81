"""Who takes part: hensa and its peers, each doing one job in the form its own good users would write.

The job is the standard-score program `hapitas-friend` on two int32 measures and an int64 base: the mean and the
population SD of both measures (pass 1), then score (float64), rate (float64) and reward (int64) of every row, in row
order (pass 2). The peers get every simplification that this one program allows and hensa does not take: the thresholds
are 0, 1, ..., 100, so the step is a truncated and clipped score; rates are whole permille; points are never negative.
Rewards are integer arithmetic everywhere.

`REGISTRY` drives the benchmarks and `check`, which compares a contestant with exact arithmetic row by row.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal, localcontext
from functools import cached_property
from importlib.metadata import version
from typing import Any

import duckdb
import numba
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from sklearn.preprocessing import StandardScaler

import hensa

from .data import BASE, MEASURES
from .timing import THREADS

X, Y = MEASURES
CENTRE = 50.0
PERMILLE = np.array(
    [1]
    + [2 * step for step in range(1, 50)]
    + [(100 * 62 + 622 * (step - 50) + 31) // 62 for step in range(50, 81)]  # 10.0% + 31.1%·(step-50)/31, half up
    + [330 + step for step in range(81, 100)]
    + [450],
    dtype=np.int64,
)
RATE = PERMILLE / 1000

Moments = tuple[float, float, float, float]  # mean and SD of the first measure, then of the second
Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]  # score, rate, reward


class Peer:
    """A contestant. `prepare` (conversion, compilation) and the readers are never timed; `pass1` and `pass2` are."""

    name: str
    package: str
    note: str
    exact = False  # whether every rate must be right, however near a threshold the score lies

    @property
    def version(self) -> str:
        return version(self.package)

    def prepare(self, table: pa.Table) -> Any:
        """Return the rows in the contestant's own form, with everything compiled that is compiled once."""
        raise NotImplementedError

    def pass1(self, rows: Any) -> Any:
        """Return the population: what `pass2` needs to know of all rows."""
        raise NotImplementedError

    def pass2(self, rows: Any, population: Any) -> Any:
        """Return score, rate and reward of each row in row order, in the contestant's own form."""
        raise NotImplementedError

    def job(self, rows: Any) -> Any:
        """Run both passes."""
        return self.pass2(rows, self.pass1(rows))

    def moments(self, population: Any) -> Moments:
        """Read a population for `check`."""
        return population

    def arrays(self, result: Any) -> Arrays:
        """Read a result for `check`."""
        return tuple(np.asarray(result[name]) for name in ("score", "rate", "reward"))


def factors(moments: Moments) -> Moments:
    """Turn the moments into (mean, 0.5/SD) pairs, so that a score is two subtractions, two products, two sums."""
    mean_x, sd_x, mean_y, sd_y = moments
    return mean_x, 0.5 / sd_x, mean_y, 0.5 / sd_y


class Hensa(Peer):
    package = "hensa"
    exact = True

    def __init__(self, *, reuse: bool = False) -> None:
        self.name = "hensa, reused outputs" if reuse else "hensa"
        self.note = "`score(rows, program, out=previous)`" if reuse else "`population` and `score`"
        self.reuse = reuse

    @cached_property
    def program(self) -> hensa.Program:
        return hensa.Program.load("hapitas-friend")

    def prepare(self, table):
        return table, hensa.score(table, self.program) if self.reuse else None

    def pass1(self, rows):
        return hensa.population(rows[0], self.program)

    def pass2(self, rows, population):
        table, out = rows
        return hensa.score(table, self.program, population=population, out=out)

    def job(self, rows):
        table, out = rows
        return hensa.score(table, self.program, out=out)

    def moments(self, population):
        return tuple(value for column in MEASURES for value in (population[column].mean, population[column].sd))


def numpy_columns(table: pa.Table) -> Arrays:
    return tuple(table[name].combine_chunks().to_numpy() for name in (X, Y, BASE))


class NumPy(Peer):
    name = "NumPy"
    package = "numpy"
    note = "whole columns, every operation into an existing array"

    def prepare(self, table):
        return numpy_columns(table)

    def pass1(self, rows):
        return tuple(float(value) for column in rows[:2] for value in (column.mean(), column.std()))

    def pass2(self, rows, population):
        x, y, base = rows
        mean_x, by_x, mean_y, by_y = factors(population)
        score = np.subtract(x, mean_x)
        score *= by_x
        other = np.subtract(y, mean_y)
        other *= by_y
        score += other
        score += CENTRE
        step = score.astype(np.intp)  # towards zero; mode="clip" sends what is below 0 or above 100 to the ends
        rate = RATE.take(step, mode="clip", out=other)
        reward = PERMILLE.take(step, mode="clip")
        reward *= base
        reward //= 1000
        return {"score": score, "rate": rate, "reward": reward}


class NumPyThreads(NumPy):
    name = "NumPy, threads"
    note = "blocks that stay in cache, one span of rows per thread of a pool"
    block = 65_536

    def __init__(self) -> None:
        self.pool = ThreadPoolExecutor(THREADS)

    def over_blocks(self, rows: int, task: Callable[[Iterator[slice]], Any]) -> list[Any]:
        """Run `task` on each thread with the blocks of its span."""
        bounds = [rows * part // THREADS for part in range(THREADS + 1)]

        def span(low: int, high: int) -> Any:
            return task(slice(start, min(start + self.block, high)) for start in range(low, high, self.block))

        return list(self.pool.map(span, bounds[:-1], bounds[1:]))

    def pass1(self, rows):
        size = len(rows[0])
        totals = self.over_blocks(size, lambda blocks: sum((sums(rows, block) for block in blocks), np.zeros(2)))
        means = sum(totals) / size
        squares = self.over_blocks(
            size, lambda blocks: sum((squared_deviations(rows, block, means) for block in blocks), np.zeros(2))
        )
        deviations = np.sqrt(sum(squares) / size)
        return tuple(float(value) for pair in zip(means, deviations, strict=True) for value in pair)

    def pass2(self, rows, population):
        x, y, base = rows
        mean_x, by_x, mean_y, by_y = factors(population)
        size = len(x)
        score, rate, reward = np.empty(size), np.empty(size), np.empty(size, dtype=np.int64)

        def task(blocks: Iterator[slice]) -> None:
            scratch, steps = np.empty(self.block), np.empty(self.block, dtype=np.intp)
            for block in blocks:
                s, r, w = score[block], rate[block], reward[block]
                other, step = scratch[: len(s)], steps[: len(s)]
                np.subtract(x[block], mean_x, out=s)
                s *= by_x
                np.subtract(y[block], mean_y, out=other)
                other *= by_y
                s += other
                s += CENTRE
                np.copyto(step, s, casting="unsafe")
                RATE.take(step, mode="clip", out=r)
                PERMILLE.take(step, mode="clip", out=w)
                w *= base[block]
                w //= 1000

        self.over_blocks(size, task)
        return {"score": score, "rate": rate, "reward": reward}


def sums(rows: Arrays, block: slice) -> np.ndarray:
    return np.array([column[block].sum(dtype=np.float64) for column in rows[:2]])


def squared_deviations(rows: Arrays, block: slice, means: np.ndarray) -> np.ndarray:
    deviations = [column[block] - mean for column, mean in zip(rows[:2], means, strict=True)]
    return np.array([np.einsum("i,i->", deviation, deviation) for deviation in deviations])


class Pandas(Peer):
    name = "pandas"
    package = "pandas"
    note = "Arrow dtypes"

    def __init__(self) -> None:
        self.rate = pd.array(RATE, dtype="double[pyarrow]")
        self.permille = pd.array(PERMILLE, dtype="int64[pyarrow]")

    def prepare(self, table):
        return table.to_pandas(types_mapper=pd.ArrowDtype)

    def pass1(self, rows):
        return tuple(value for name in MEASURES for value in (rows[name].mean(), rows[name].std(ddof=0)))

    def pass2(self, rows, population):
        mean_x, by_x, mean_y, by_y = factors(population)
        score = (rows[X] - mean_x) * by_x + (rows[Y] - mean_y) * by_y + CENTRE
        step = score.to_numpy().clip(0, 100).astype(np.intp)
        rewards = rows[BASE] * self.permille.take(step) // 1000
        return pd.DataFrame({"score": score, "rate": self.rate.take(step), "reward": rewards})


class Polars(Peer):
    package = "polars"

    def __init__(self, engine: str) -> None:
        self.name = f"Polars, {engine}"
        self.note = f"lazy, `collect(engine={engine!r})`"
        self.engine = engine
        self.rate, self.permille = pl.lit(pl.Series(RATE)), pl.lit(pl.Series(PERMILLE))

    def prepare(self, table):
        return pl.from_arrow(table)

    def pass1(self, rows):
        means, deviations = pl.col(MEASURES).mean(), pl.col(MEASURES).std(ddof=0).name.suffix("_sd")
        mean_x, mean_y, sd_x, sd_y = rows.lazy().select(means, deviations).collect(engine=self.engine).row(0)
        return mean_x, sd_x, mean_y, sd_y

    def pass2(self, rows, population):
        mean_x, by_x, mean_y, by_y = factors(population)
        step = pl.col("score").clip(0, 100).cast(pl.UInt32)
        return (
            rows.lazy()
            .select(BASE, score=(pl.col(X) - mean_x) * by_x + (pl.col(Y) - mean_y) * by_y + CENTRE)
            # Not permille / 1000, which Polars takes as a product with 1/1000: 13 of the rates would be an ulp off.
            .select("score", rate=self.rate.gather(step), reward=pl.col(BASE) * self.permille.gather(step) // 1000)
            .collect(engine=self.engine)
        )


class DuckDB(Peer):
    package = "duckdb"

    def __init__(self, threads: int) -> None:
        self.name = "DuckDB" if threads == THREADS else "DuckDB, 1 thread"
        # A join with a table of rates takes as long, and joins do not keep the order of rows.
        self.note = "SQL over an in-memory table, the rates as a list, result as Arrow"
        self.threads = threads
        self.permille = f"({PERMILLE.tolist()}::BIGINT[])"

    def prepare(self, table):
        connection = duckdb.connect(config={"threads": self.threads})
        connection.register("arrow_rows", table)
        connection.execute("CREATE TABLE referrers AS SELECT * FROM arrow_rows")
        connection.unregister("arrow_rows")
        return connection

    def pass1(self, rows):
        moments = ", ".join(f"avg({name}), stddev_pop({name})" for name in MEASURES)
        return rows.sql(f"SELECT {moments} FROM referrers").fetchall()[0]

    def pass2(self, rows, population):
        mean_x, by_x, mean_y, by_y = (f"{value!r}::DOUBLE" for value in factors(population))
        return rows.sql(f"""
            WITH scored AS (
                SELECT {BASE}, ({X} - {mean_x}) * {by_x} + ({Y} - {mean_y}) * {by_y} + {CENTRE}::DOUBLE AS score
                FROM referrers
            ), rated AS (
                SELECT {BASE}, score, {self.permille}[greatest(least(floor(score), 100), 0)::INTEGER + 1] AS permille
                FROM scored
            )
            SELECT score, permille / 1000::DOUBLE AS rate, {BASE} * permille // 1000 AS reward FROM rated
        """).to_arrow_table()


class PyArrow(Peer):
    name = "pyarrow.compute"
    package = "pyarrow"
    note = "batches over a thread pool, as compute functions use one thread"
    batch = 131_072

    def __init__(self) -> None:
        self.pool = ThreadPoolExecutor(THREADS)
        self.rate, self.permille = pa.array(RATE), pa.array(PERMILLE)

    def prepare(self, table):
        return table

    def pass1(self, rows):
        tasks = [(function, rows[name]) for name in MEASURES for function in (pc.mean, pc.stddev)]
        return tuple(value.as_py() for value in self.pool.map(lambda task: task[0](task[1]), tasks))

    def pass2(self, rows, population):
        mean_x, by_x, mean_y, by_y = factors(population)

        def task(batch: pa.RecordBatch) -> pa.RecordBatch:
            term_x = pc.multiply(pc.subtract(batch[X].cast(pa.float64()), mean_x), by_x)
            term_y = pc.multiply(pc.subtract(batch[Y].cast(pa.float64()), mean_y), by_y)
            score = pc.add(pc.add(term_x, term_y), CENTRE)
            within = pc.min_element_wise(pc.max_element_wise(score, 0.0), 100.0)
            step = pc.cast(within, pa.uint8(), safe=False)
            reward = pc.divide(pc.multiply(batch[BASE], self.permille.take(step)), 1000)
            return pa.record_batch({"score": score, "rate": self.rate.take(step), "reward": reward})

        return pa.Table.from_batches(self.pool.map(task, rows.to_batches(max_chunksize=self.batch)))


@numba.njit(parallel=True)
def numba_sums(x, y):
    sum_x = square_x = sum_y = square_y = 0
    for row in numba.prange(len(x)):
        a, b = np.int64(x[row]), np.int64(y[row])
        sum_x += a
        square_x += a * a
        sum_y += b
        square_y += b * b
    return sum_x, square_x, sum_y, square_y


@numba.njit(parallel=True, fastmath=True)
def numba_score(x, y, base, mean_x, by_x, mean_y, by_y, rates, permille, score, rate, reward):
    for row in numba.prange(len(x)):
        value = (x[row] - mean_x) * by_x + (y[row] - mean_y) * by_y + 50.0
        step = int(min(max(value, 0.0), 100.0))
        score[row] = value
        rate[row] = rates[step]
        reward[row] = base[row] * permille[step] // 1000


@numba.njit(parallel=True, fastmath=True, error_model="numpy")
def numba_score_tuned(x, y, base, mean_x, by_x, mean_y, by_y, rates, permille, score, rate, reward):
    for row in numba.prange(len(x)):
        value = (x[row] - mean_x) * by_x + (y[row] - mean_y) * by_y + 50.0
        step = np.uint32(min(max(value, 0.0), 100.0))
        score[row] = value
        rate[row] = rates[step]
        reward[row] = np.uint64(base[row]) * permille[step] // np.uint64(1000)  # unsigned: the division vectorises


class Numba(Peer):
    """As its good users write it, or tuned by hand: then the rewards of negative bases, which hensa pays, are wrong."""

    package = "numba"

    def __init__(self, *, tuned: bool = False, reuse: bool = False) -> None:
        self.name = "Numba" + ", tuned by hand" * tuned + ", reused outputs" * reuse
        self.note = "parallel, fastmath, one fused loop over `np.empty`" + (
            ", with an unsigned division, which is wrong for negative bases" * tuned
            + ", the same three arrays each time" * reuse
        )
        self.reuse = reuse
        self.loop = numba_score_tuned if tuned else numba_score
        self.permille = PERMILLE.astype(np.uint64) if tuned else PERMILLE

    def new(self, size: int) -> Arrays:
        # Allocated here rather than in the compiled function, since NumPy asks the system for huge pages.
        return np.empty(size), np.empty(size), np.empty(size, dtype=np.int64)

    def prepare(self, table):
        columns = numpy_columns(table)
        compiling = tuple(column[:2] for column in columns), None
        self.pass1(compiling)
        self.pass2(compiling, (0.0, 1.0, 0.0, 1.0))
        return columns, self.new(len(columns[0])) if self.reuse else None

    def pass1(self, rows):
        (x, y, _), _ = rows
        size = len(x)
        sum_x, square_x, sum_y, square_y = numba_sums(x, y)
        # In Python's integers, so that the one difference that cancels is exact.
        variance_x, variance_y = size * square_x - sum_x**2, size * square_y - sum_y**2
        return sum_x / size, variance_x**0.5 / size, sum_y / size, variance_y**0.5 / size

    def pass2(self, rows, population):
        columns, out = rows
        score, rate, reward = out or self.new(len(columns[0]))
        self.loop(*columns, *factors(population), RATE, self.permille, score, rate, reward)
        return {"score": score, "rate": rate, "reward": reward}


class ScikitLearn(Peer):
    name = "scikit-learn"
    package = "scikit-learn"
    note = "`StandardScaler` for the standardising, NumPy for the rest"

    def prepare(self, table):
        x, y, base = numpy_columns(table)
        return np.asfortranarray(np.column_stack((x, y)), dtype=np.float64), base

    def pass1(self, rows):
        return StandardScaler().fit(rows[0])

    def pass2(self, rows, population):
        matrix, base = rows
        score = population.transform(matrix) @ np.array([0.5, 0.5])
        score += CENTRE
        step = score.astype(np.intp)
        reward = PERMILLE.take(step, mode="clip")
        reward *= base
        reward //= 1000
        return {"score": score, "rate": RATE.take(step, mode="clip"), "reward": reward}

    def moments(self, population):
        (mean_x, mean_y), (sd_x, sd_y) = population.mean_, population.scale_
        return float(mean_x), float(sd_x), float(mean_y), float(sd_y)


REGISTRY: dict[str, Peer] = {
    peer.name: peer
    for peer in (
        Hensa(),
        Hensa(reuse=True),
        Numba(),
        Numba(reuse=True),
        Numba(tuned=True),
        Numba(tuned=True, reuse=True),
        NumPy(),
        NumPyThreads(),
        ScikitLearn(),
        Polars("streaming"),
        Polars("in-memory"),
        PyArrow(),
        DuckDB(THREADS),
        DuckDB(1),
        Pandas(),
    )
}

BOUND = 1e-12
"""How far a score or moment may lie from the exact one, relative to |t₁| + |t₂| + centre (a moment: to itself)."""


@dataclass(frozen=True)
class Truth:
    """The exact answer, each score rounded once."""

    moments: Moments
    score: np.ndarray
    rate: np.ndarray
    reward: np.ndarray
    allowance: np.ndarray  # BOUND in units of the score
    undecidable: np.ndarray  # rows whose exact score is within the allowance of a threshold


@dataclass(frozen=True)
class Agreement:
    """How a contestant's answer compares with the exact one; `check` has already refused what is not allowed."""

    rows: int
    score_error: float  # largest |score - exact|, relative as BOUND is
    undecidable: int  # rows whose exact score lies so near a threshold that a float score may fall on either side
    wrong: int  # of those, the rows with another rate or reward than the exact one


def exact(table: pa.Table) -> Truth:
    """Score a table without rounding: integer sums, then 150 decimal digits for each distinct pair of measures.

    A score within 1e-120 of a whole number is taken to be that number, which is right: with P and Q the squares under
    the roots, a and b the deviations times n, and m = |threshold - 50|, the score misses a threshold by
    |u + v - w| / (2√(PQ)) for u = a√Q, v = b√P, w = 2m√(PQ) with signs. The product of the four factors u ± v ± w is
    an integer, so if it is not 0, |u + v - w| is at least 1 over the other three. For n <= 10^8 and |counts| <= 10^5,
    a², b², P and Q are at most 4·10^26, each factor is below 10^29, and the miss is above 1/(10^87 · 10^27) = 10^-114.
    """
    x, y, base = numpy_columns(table)
    size = len(x)
    pairs, inverse = np.unique((x.astype(np.int64) << 32) + (y.astype(np.int64) + 2**31), return_inverse=True)
    totals = [int(column.sum(dtype=np.int64)) for column in (x, y)]
    squares = [int(np.square(column, dtype=np.int64).sum()) for column in (x, y)]
    scores, weights, steps, near, moments = [], [], [], [], []
    with localcontext(prec=150):
        roots = [Decimal(size * square - total**2).sqrt() for square, total in zip(squares, totals, strict=True)]
        for total, root in zip(totals, roots, strict=True):
            moments += [float(Decimal(total) / size), float(root / size)]
        for pair in pairs.tolist():
            values = pair >> 32, (pair & 0xFFFFFFFF) - 2**31
            terms = [(size * v - total) / (2 * root) for v, total, root in zip(values, totals, roots, strict=True)]
            score, weight = 50 + sum(terms), 50 + sum(map(abs, terms))
            miss = abs(score - score.to_integral_value())
            if miss < Decimal("1e-120"):
                score = score.to_integral_value()
            scores.append(float(score))
            weights.append(float(weight))
            steps.append(min(max(int(score.to_integral_value(ROUND_FLOOR)), 0), 100))
            near.append(miss <= Decimal(BOUND) * weight)
    step = np.array(steps)[inverse]
    return Truth(
        moments=tuple(moments),
        score=np.array(scores)[inverse],
        rate=RATE[step],
        reward=base * PERMILLE[step] // 1000,
        allowance=BOUND * np.array(weights)[inverse],
        undecidable=np.array(near)[inverse],
    )


def check(peer: Peer, table: pa.Table, truth: Truth | None = None) -> Agreement:
    """Compare a contestant with exact arithmetic, row by row, both passes together and pass 2 on its own population.

    Moments and scores must lie within BOUND of the exact ones. Rates and rewards must be equal, except in rows whose
    exact score lies within the same bound of a threshold; those rows are counted, and hensa must have them right too.

    Raises
    ------
    AssertionError
        The contestant does another job; the text says in which column and row.
    """
    truth = truth or exact(table)
    rows = peer.prepare(table)
    population = peer.pass1(rows)
    for got, expected in zip(peer.moments(population), truth.moments, strict=True):
        assert abs(got - expected) <= BOUND * abs(expected), f"{peer.name}: moment {got!r}, exactly {expected!r}"
    agreements = [compare(peer, result, truth) for result in (peer.job(rows), peer.pass2(rows, population))]
    return max(agreements, key=lambda agreement: agreement.wrong)


def compare(peer: Peer, result: Any, truth: Truth) -> Agreement:
    score, rate, reward = peer.arrays(result)
    assert (score.dtype, rate.dtype, reward.dtype) == (np.float64, np.float64, np.int64), f"{peer.name}: wrong types"
    assert len(score) == len(rate) == len(reward) == len(truth.score), f"{peer.name}: wrong number of rows"
    error = np.abs(score - truth.score)
    refuse(peer, "score", error > truth.allowance)
    different = {"rate": rate != truth.rate, "reward": reward != truth.reward}
    excused = truth.undecidable & (not peer.exact)
    for column, rows in different.items():
        refuse(peer, column, rows & ~excused)
    return Agreement(
        rows=len(score),
        score_error=float((error / truth.allowance).max(initial=0.0)) * BOUND,
        undecidable=int(truth.undecidable.sum()),
        wrong=int((different["rate"] | different["reward"]).sum()),
    )


def refuse(peer: Peer, column: str, rows: np.ndarray) -> None:
    assert not rows.any(), f"{peer.name}: {column} differs in {rows.sum():,} rows, first in row {rows.argmax():,}"
