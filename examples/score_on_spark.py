"""Score a Spark DataFrame: both passes run where the rows are, and only populations travel (docs/engines.md)."""

import sys
from functools import reduce

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

import hensa


def score(rows: DataFrame, program: hensa.Program) -> DataFrame:
    def populations(batches):
        parts = (hensa.population(batch, program, threads=1) for batch in batches)
        yield from (pa.record_batch({"population": [part.to_json()]}) for part in parts)

    def scored(batches):
        tables = (hensa.score(batch, program, whole, threads=1) for batch in batches)
        yield from (batch for table in tables for batch in table.to_batches())

    parts = rows.mapInArrow(populations, "population string").toLocalIterator()
    whole = reduce(hensa.Population.__add__, (hensa.Population.from_json(part.population) for part in parts))
    columns = [f"`{name}` {kind}" for name, kind in rows.dtypes] + ["score double", "rate double", "reward bigint"]
    return rows.mapInArrow(scored, ", ".join(columns))


if __name__ == "__main__":
    frame = SparkSession.builder.getOrCreate().read.parquet(sys.argv[1])
    score(frame, hensa.Program.load(*sys.argv[3:] or ["hapitas-friend"])).write.parquet(sys.argv[2])
