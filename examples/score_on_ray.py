"""Score a Ray dataset: both passes run where the rows are, and only populations travel (docs/engines.md)."""

import sys
from functools import reduce
from operator import add

import pyarrow as pa
import ray

import hensa


def score(rows: ray.data.Dataset, program: hensa.Program) -> ray.data.Dataset:
    def population(batch: pa.Table) -> pa.Table:
        return pa.table({"population": [hensa.population(batch, program, threads=1).to_json()]})

    parts = rows.map_batches(population, batch_format="pyarrow", batch_size=None).take_all()
    whole = reduce(add, (hensa.Population.from_json(part["population"]) for part in parts))
    settings = {"program": program, "population": whole, "threads": 1}
    return rows.map_batches(hensa.score, batch_format="pyarrow", batch_size=None, fn_kwargs=settings)


if __name__ == "__main__":
    source, destination, *name = sys.argv[1:]
    score(ray.data.read_parquet(source), hensa.Program.load(*name or ["hapitas-friend"])).write_parquet(destination)
