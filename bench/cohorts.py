"""Cohorts: every row scored among the rows of its own cohort, by one key column or two, results in row order."""

from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa

import hensa

from . import data, page, peers
from .data import BASE, MEASURES
from .peers import CENTRE, PERMILLE, RATE, Peer, Truth
from .timing import Settings, medians, progress

X, Y = MEASURES
SIZES = {12: (4, 3), 1_000: (10, 100), 1_000_000: (1_000, 1_000)}  # cohorts: regions, and sites in each
KEYS = {
    "one int32": ("cohort",),
    "two int32": ("region", "site"),
    "int32 and text": ("region", "site_name"),
}
TOLERANCE = 1e-9  # of a score, relative to |t₁| + |t₂| + centre


def population(rows: int, cohorts: int) -> pa.Table:
    """Referrers spread over cohorts at random; the key columns of KEYS all tell the same cohorts apart."""
    random = np.random.default_rng(data.SEED + cohorts)
    regions, sites = SIZES[cohorts]
    region, site = random.integers(0, regions, rows, dtype=np.int32), random.integers(0, sites, rows, dtype=np.int32)
    names = pa.array([f"site {number}" for number in range(sites)])
    keys = {"cohort": region * sites + site, "region": region, "site": site, "site_name": names.take(pa.array(site))}
    table = data.population(rows)
    for name, values in keys.items():
        table = table.append_column(name, pa.array(values))
    return table


def exact(table: pa.Table) -> Truth:
    """Score every row by its cohort's integer sums; each score is rounded a few times, far within TOLERANCE."""
    codes = table["cohort"].to_numpy()
    order = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    sizes = np.diff(starts, append=len(codes))
    place = np.empty(len(codes), dtype=np.int64)
    place[order] = np.repeat(np.arange(len(starts)), sizes)
    counts, terms = sizes.astype(object), []
    for name in MEASURES:
        values = table[name].to_numpy().astype(np.int64)
        sums = np.add.reduceat(values[order], starts).astype(object)
        squares = np.add.reduceat(values[order] ** 2, starts).astype(object)
        roots = np.sqrt((counts * squares - sums**2).astype(np.float64))  # n·SD; 0 only where all values are equal
        deviations = sizes[place] * values - sums.astype(np.int64)[place]
        terms.append(np.divide(deviations, 2 * roots[place], out=np.zeros(len(values)), where=roots[place] > 0))
    score = terms[0] + terms[1] + CENTRE
    allowance = TOLERANCE * (np.abs(terms[0]) + np.abs(terms[1]) + CENTRE)
    step = np.clip(np.floor(score), 0, 100).astype(np.intp)
    near = np.abs(score - np.round(score)) <= allowance
    reward = table[BASE].to_numpy() * PERMILLE[step] // 1000
    return Truth((), score, RATE[step], reward, allowance, near)


class Grouped(Peer):
    """A contestant that takes both passes at once, by the key columns given."""

    def __init__(self, *keys: str) -> None:
        self.keys = keys


class Hensa(Grouped):
    name = package = "hensa"
    note = "`score(rows, program, by=keys)`"

    def prepare(self, table):
        return table

    def job(self, rows):
        return hensa.score(rows, peers.Hensa().program, by=self.keys)


class Polars(Grouped):
    package = "polars"
    engine = "streaming"
    name = "Polars, over, streaming"
    note = "`mean().over(keys)`, `std(ddof=0).over(keys)`, lazy, `collect(engine='streaming')`"

    def prepare(self, table):
        return pl.from_arrow(table)

    def scored(self, rows: pl.LazyFrame, moments: dict[str, pl.Expr]) -> Any:
        terms = [
            pl.when(moments[f"{name}_sd"] > 0)
            .then((pl.col(name) - moments[f"{name}_mean"]) * 0.5 / moments[f"{name}_sd"])
            .otherwise(0.0)
            for name in MEASURES
        ]
        step = pl.col("score").clip(0, 100).cast(pl.UInt32)
        rate, permille = pl.lit(pl.Series(RATE)).gather(step), pl.lit(pl.Series(PERMILLE)).gather(step)
        return (
            rows.select(BASE, score=terms[0] + terms[1] + CENTRE)
            .select("score", rate=rate, reward=pl.col(BASE) * permille // 1000)
            .collect(engine=self.engine)
        )

    def job(self, rows):
        moments = {}
        for name in MEASURES:
            moments[f"{name}_mean"] = pl.col(name).mean().over(self.keys)
            moments[f"{name}_sd"] = pl.col(name).std(ddof=0).over(self.keys)
        return self.scored(rows.lazy(), moments)


class PolarsInMemory(Polars):
    engine = "in-memory"
    name = "Polars, over, in-memory"
    note = "the same, `collect(engine='in-memory')`"


class PolarsJoin(Polars):
    name = "Polars, group_by and join"
    note = "`group_by(keys)`, then a left join that keeps the order, streaming"

    def job(self, rows):
        means, deviations = pl.col(MEASURES).mean(), pl.col(MEASURES).std(ddof=0)
        moments = rows.lazy().group_by(self.keys).agg(means.name.suffix("_mean"), deviations.name.suffix("_sd"))
        joined = rows.lazy().join(moments, on=list(self.keys), how="left", maintain_order="left")
        return self.scored(joined, {name: pl.col(name) for m in MEASURES for name in (f"{m}_mean", f"{m}_sd")})


class DuckDB(Grouped):
    name = "DuckDB, windows"
    package = "duckdb"
    note = "`avg` and `stddev_pop` over `PARTITION BY keys`, ordered by rowid"

    def prepare(self, table):
        connection = duckdb.connect()
        connection.register("arrow_rows", table)
        connection.execute("CREATE TABLE referrers AS SELECT * FROM arrow_rows")
        connection.unregister("arrow_rows")
        return connection

    def job(self, rows):
        terms = [f"coalesce(({name} - {name}_mean) * 0.5 / nullif({name}_sd, 0), 0)" for name in MEASURES]
        return rows.sql(f"""
            WITH {self.with_moments()}, scored AS (
                SELECT row, {BASE}, {" + ".join(terms)} + {CENTRE}::DOUBLE AS score
                FROM moments
            ), rated AS (
                SELECT row, {BASE}, score,
                    ({PERMILLE.tolist()}::BIGINT[])[greatest(least(floor(score), 100), 0)::INTEGER + 1] AS permille
                FROM scored
            )
            SELECT score, permille / 1000::DOUBLE AS rate, {BASE} * permille // 1000 AS reward FROM rated ORDER BY row
        """).to_arrow_table()

    def with_moments(self) -> str:
        over = ", ".join(f"avg({m}) OVER cohort AS {m}_mean, stddev_pop({m}) OVER cohort AS {m}_sd" for m in MEASURES)
        return f"""moments AS (
            SELECT rowid AS row, {", ".join(MEASURES)}, {BASE}, {over}
            FROM referrers WINDOW cohort AS (PARTITION BY {", ".join(self.keys)})
        )"""


class DuckDBJoin(DuckDB):
    name = "DuckDB, group and join"
    note = "`GROUP BY keys`, then a join, ordered by rowid"

    def with_moments(self) -> str:
        keys = ", ".join(self.keys)
        of_each = ", ".join(f"avg({m}) AS {m}_mean, stddev_pop({m}) AS {m}_sd" for m in MEASURES)
        return f"""cohort AS (SELECT {keys}, {of_each} FROM referrers GROUP BY {keys}),
        moments AS (SELECT referrers.rowid AS row, * FROM referrers JOIN cohort USING ({keys}))"""


CONTESTANTS = (Hensa, Polars, PolarsInMemory, PolarsJoin, DuckDB, DuckDBJoin)


@dataclass(frozen=True)
class Cohorts:
    """Medians in seconds by number of cohorts, keys and contestant."""

    rows: int
    rounds: int
    seconds: dict[tuple[int, str, str], float]


def measure(given: Settings) -> Cohorts:
    rows = given.rows or (1_000_000 if given.quick else 10_000_000)
    rounds = given.rounds or 3
    seconds = {}
    for cohorts in SIZES:
        table = population(rows, cohorts)
        truth = exact(table)
        for keys, columns in KEYS.items():
            progress(f"{rows:,} rows in {cohorts:,} cohorts by {keys}")
            calls = {}
            kept = table.select([*MEASURES, BASE, *columns])
            for contestant in CONTESTANTS:
                peer = contestant(*columns)
                native = peer.prepare(kept)
                peers.compare(peer, peer.job(native), truth)
                calls[peer.name] = lambda peer=peer, native=native: peer.job(native)
            # The check has warmed them up; the slowest take seconds, which no cold cache changes.
            for name, duration in medians(calls, rounds, warm=False).items():
                seconds[cohorts, keys, name] = duration
    return Cohorts(rows, rounds, seconds)


def render(found: Cohorts) -> page.Page:
    def line(cohorts: int, keys: str) -> list[str]:
        times = [found.seconds[cohorts, keys, contestant.name] for contestant in CONTESTANTS]
        ratios = [f" ({t / times[0]:.1f}×)" if t is not times[0] else "" for t in times]
        return [f"{cohorts:,}", keys, *(f"{t * 1e3:,.0f}{r}" for t, r in zip(times, ratios, strict=True))]

    names = [contestant.name for contestant in CONTESTANTS]
    table = page.table(["cohorts", "keys", *names], (line(cohorts, keys) for cohorts in SIZES for keys in KEYS), text=2)
    notes = "\n".join(f"- {contestant.name}: {contestant.note}" for contestant in CONTESTANTS)
    return page.Page(f"""\
## Cohorts

{page.provenance(f"cohorts --rows {found.rows}", *dict.fromkeys(contestant.package for contestant in CONTESTANTS))}

Milliseconds for both passes over {found.rows:,} rows in random order, each scored among the rows of its own cohort, in
brackets × hensa; medians of {found.rounds} rounds in turn. Results are in row order for all, scores are checked against
integer sums to {TOLERANCE:g}, rates and rewards are equal but where a score lies that near to a threshold.

{table}

{notes}""")
