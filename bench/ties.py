"""Populations in which every row is a tie, against one with hardly any: `python -m bench.ties [rows]`.

Every tie is decided by integers, once for all rows that share it, so it must not cost more than four fifths of the
speed: the last column is the speed relative to the first population of the same types.
"""

import sys
from time import perf_counter

import numpy as np
import pyarrow as pa

import hensa
from hensa import Measure, Program, RateTable, Reward, StandardScore

COLUMNS = ("score", "step", "rate", "reward")


def program(measures: int) -> Program:
    """Equal weights; the whole steps from 0 to 100."""
    return Program(
        name="ties",
        rule=StandardScore(measures=[Measure(name) for name in "xyz"[:measures]], scale=measures),
        rates=RateTable(steps=[(step, step) for step in range(101)]),
        reward=Reward(base="points"),
    )


def populations(rows: int) -> dict[str, dict[str, np.ndarray]]:
    """By name, the measures: hardly any tie, then nothing but ties."""
    random = np.random.default_rng(2019)
    tails = np.minimum(random.pareto(1.2, (2, rows)) * 3, 10**6).astype(np.int64)
    halves = random.permutation(np.arange(rows) % 2)
    found = {
        "heavy tails": tails,
        "two values, half and half": [halves, halves],
        "y = c - x": [tails[0], 10**6 - tails[0]],
        "y = c - x, a third of two values": [tails[0], 10**6 - tails[0], halves],
    }
    return {name: dict(zip("xyz", measures, strict=False)) for name, measures in found.items()}


def seconds(call) -> float:
    """The best of five, after one to warm up."""
    times = []
    for _ in range(6):
        start = perf_counter()
        call()
        times.append(perf_counter() - start)
    return min(times[1:])


def main() -> None:
    """Print the speeds of both passes, and of pass 2 on a stored population."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000_000
    points = pa.array(np.random.default_rng(1).integers(0, 10**6, rows))
    speeds: dict[tuple[str, bool], float] = {}
    for type_ in (pa.int32(), pa.int64()):
        for name, measures in populations(rows).items():
            table = pa.table({**{k: pa.array(v).cast(type_) for k, v in measures.items()}, "points": points})
            rules = program(len(measures))
            stored = hensa.population(table, rules)
            for given in (None, stored):
                taken = seconds(lambda: hensa.score(table, rules, population=given, columns=COLUMNS))  # noqa: B023
                speed = speeds[str(type_), given is stored] = speeds.get((str(type_), given is stored)) or rows / taken
                what = f"{type_}, {'pass 2' if given else 'both passes'}, {name}"
                print(f"{what:55s} {rows / taken / 1e6:7.1f} million rows/s {rows / taken / speed:6.2f}")


if __name__ == "__main__":
    main()
