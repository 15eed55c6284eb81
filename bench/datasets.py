"""Datasets: files into files in bounded memory, by the threads of one process and by the workers of a cluster.

python -m bench.datasets WORKERS SOURCE DESTINATION    one run, as JSON, in a process of its own; 0: without a cluster
"""

import json
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import distributed
import pyarrow.parquet as pq

import hensa

from . import page
from .timing import THREADS, Settings, process, progress

ROWS, FILES = 10**8, 20
WORKERS = (0, 1, 2, 4)  # 0: one process with a thread for each CPU


def make(folder: Path, rows: int) -> None:
    """Write a synthetic population as `FILES` files of as many rows."""
    folder.mkdir()
    for number in range(FILES):
        table = hensa.sample(rows // FILES, seed=number).read_all()
        pq.write_table(table, folder / f"{number:02}.parquet", compression="zstd")


def peak() -> int:
    """The memory that this process has had resident at most, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def run(workers: int, source: str, destination: str) -> dict[str, float | int | str]:
    """Score a dataset; the start of a cluster is not timed."""
    program = hensa.Program.load("hapitas-friend")
    if not workers:
        start = time.perf_counter()
        manifest = hensa.score_dataset(source, destination, program)
        return {"seconds": time.perf_counter() - start, "peak": peak(), "manifest": manifest.to_json()}
    with (
        distributed.LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=":0") as cluster,
        distributed.Client(cluster) as client,
    ):
        client.run(hensa.Program.load, "hapitas-friend")
        start = time.perf_counter()
        manifest = hensa.score_dataset(source, destination, program, client=client)
        seconds = time.perf_counter() - start
        return {"seconds": seconds, "peak": max(client.run(peak).values()), "manifest": manifest.to_json()}


@dataclass(frozen=True)
class Datasets:
    """Seconds and peak bytes by the number of workers."""

    rows: int
    seconds: dict[int, float]
    peaks: dict[int, int]


def measure(given: Settings) -> Datasets:
    rows = given.rows or (10**6 if given.quick else ROWS)
    found, manifests = Datasets(rows, {}, {}), set()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "rows")
        make(source, rows)
        for workers in WORKERS:
            progress(f"{rows:,} rows, {workers} workers")
            command = [sys.executable, "-m", "bench.datasets", str(workers), str(source), f"{folder}/{workers}"]
            one = json.loads(process(command).output)
            found.seconds[workers], found.peaks[workers] = one["seconds"], one["peak"]
            manifests.add(one["manifest"])
    if len(manifests) > 1:
        raise AssertionError("the manifests differ")
    return found


def render(found: Datasets) -> page.Page:
    names = {0: f"one process, {THREADS} threads"} | {n: f"cluster, {n} workers" for n in WORKERS if n}
    table = page.table(
        ["", "s", "rows/s", "time / one process", "peak MiB"],
        (
            [
                names[workers],
                f"{seconds:.1f}",
                f"{found.rows / seconds / 1e6:.1f} M",
                f"{seconds / found.seconds[0]:.2f}",
                f"{found.peaks[workers] / 2**20:,.0f}",
            ]
            for workers, seconds in found.seconds.items()
        ),
    )
    body = f"""\
## Datasets and clusters

{page.provenance(f"datasets --rows {found.rows}", "pyarrow", "distributed")}

{table}

`hensa.score_dataset` on {found.rows:,} rows in {FILES} Parquet files (zstd) into as many: both passes, the SHA-256 of
every file read and written, and all synced to the disk. Workers have one thread each and share the {THREADS} CPUs;
their start is not timed. *Peak* is the memory resident in the process, or in the worker that had most. All manifests
are equal."""
    return page.Page(body, "", {})


if __name__ == "__main__":
    print(json.dumps(run(int(sys.argv[1]), sys.argv[2], sys.argv[3])))
