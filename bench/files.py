"""Files: `hensa score in.parquet -o out.parquet` as a whole process, beside Polars and DuckDB doing the same."""

import re
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from . import page
from .data import BASE, MEASURES
from .peers import CENTRE, PERMILLE, RATE
from .timing import Process, Settings, process, progress, shuffled

X, Y = MEASURES
HENSA = "from hensa.cli import main; main()"  # what the console script does
OUTPUTS = {"score, rate and reward": [], "slim: reward alone": ["--columns", "reward"]}
"""By name, the options of `hensa score`; the others write the columns that hensa wrote."""
NEAR = 1e-9  # relative to the score: nearer than this to a threshold, another rate is excused

POLARS = f"""
import sys
import polars as pl
source, target, *columns = sys.argv[1:]
rows = pl.scan_parquet(source)
means, deviations = pl.col({MEASURES}).mean(), pl.col({MEASURES}).std(ddof=0).name.suffix("_sd")
mean_x, mean_y, sd_x, sd_y = rows.select(means, deviations).collect(engine="streaming").row(0)
score = (pl.col("{X}") - mean_x) * (0.5 / sd_x) + (pl.col("{Y}") - mean_y) * (0.5 / sd_y) + {CENTRE}
permille = pl.lit(pl.Series({PERMILLE.tolist()})).gather(pl.col("score").clip(0, 100).cast(pl.UInt32))
rate = pl.lit(pl.Series({RATE.tolist()})).gather(pl.col("score").clip(0, 100).cast(pl.UInt32))
(
    rows.with_columns(score=score)
    .with_columns(rate=rate, reward=pl.col("{BASE}") * permille // 1000)
    .select(columns)
    .sink_parquet(target, compression="zstd", compression_level=1, engine="streaming")
)
"""

DUCKDB = f"""
import sys
import duckdb
source, target, *columns = sys.argv[1:]
connection = duckdb.connect()
mean_x, sd_x, mean_y, sd_y = connection.sql(
    f"SELECT avg({X}), stddev_pop({X}), avg({Y}), stddev_pop({Y}) FROM read_parquet('{{source}}')"
).fetchall()[0]
connection.sql(f'''
    COPY (
        WITH scored AS (
            SELECT *, ({X} - {{mean_x!r}}::DOUBLE) * {{0.5 / sd_x!r}}::DOUBLE
                + ({Y} - {{mean_y!r}}::DOUBLE) * {{0.5 / sd_y!r}}::DOUBLE + {CENTRE}::DOUBLE AS score
            FROM read_parquet('{{source}}')
        ), rated AS (
            SELECT *, ({PERMILLE.tolist()}::BIGINT[])[greatest(least(floor(score), 100), 0)::INTEGER + 1] AS permille
            FROM scored
        ), paid AS (
            SELECT *, permille / 1000::DOUBLE AS rate, {BASE} * permille // 1000 AS reward FROM rated
        )
        SELECT {{", ".join(columns)}} FROM paid
    ) TO '{{target}}' (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1)
''')
"""


def hensa_score(source: Path, target: Path, *options: str) -> list[str]:
    return [sys.executable, "-c", HENSA, "score", str(source), "-o", str(target), *options]


def script(text: str, source: Path, target: Path, columns: list[str]) -> list[str]:
    return [sys.executable, "-c", text, str(source), str(target), *columns]


SCRIPTS = {"Polars, streaming sink": POLARS, "DuckDB, COPY": DUCKDB}


def stages(messages: str) -> dict[str, float]:
    """The seconds of each stage, from the last line that `hensa score` prints.

    >>> stages("0.18 s (read 0.03, score 0.01, write 0.14), 5,601,748 rows/s")
    {'read': 0.03, 'score': 0.01, 'write': 0.14}
    """
    found = re.findall(r"^[\d.,]+ s \((.*)\), [\d,]+ rows/s$", messages, re.MULTILINE)
    return {name: float(seconds) for name, seconds in re.findall(r"(\w+) ([\d.]+)", found[-1])}


def agree(ours: Path, theirs: Path, name: str) -> None:
    """Compare two results, a part at a time: the same rows in the same order, with the same rewards.

    Raises
    ------
    AssertionError
        They differ in more than rows whose score lies within NEAR of a threshold.
    """
    files = [pq.ParquetFile(path) for path in (ours, theirs)]
    assert files[0].schema_arrow.names == files[1].schema_arrow.names, f"{name}: other columns"
    assert files[0].metadata.num_rows == files[1].metadata.num_rows, f"{name}: another number of rows"
    names = files[0].schema_arrow.names
    start = 0
    for batch, other in zip(*(parts(file, names) for file in files), strict=True):
        for column in names:
            left, right = (np.asarray(rows[column]) for rows in (batch, other))
            if column == "score":
                different = np.abs(left - right) > NEAR * np.abs(left)
            else:
                different = left != right
                if column in ("rate", "reward") and "score" in names:
                    score = batch["score"].to_numpy()
                    different &= np.abs(score - np.round(score)) > NEAR * np.abs(score)
            row = start + int(different.argmax())
            assert not different.any(), f"{name}: {column} differs in {different.sum():,} rows, first in row {row:,}"
        start += batch.num_rows


def parts(file: pq.ParquetFile, names: list[str], size: int = 1 << 20):
    """The rows of a file in tables of the same size, whatever its row groups."""
    waiting = pa.schema(file.schema_arrow).empty_table()
    for batch in file.iter_batches(size):
        waiting = pa.concat_tables([waiting, pa.Table.from_batches([batch])])
        while waiting.num_rows >= size:
            yield waiting.slice(0, size)
            waiting = waiting.slice(size)
    if waiting.num_rows:
        yield waiting


@dataclass(frozen=True)
class Files:
    """By rows, output and contestant: medians in seconds, largest peak and size in bytes; and the stages of hensa."""

    rounds: int
    seconds: dict[tuple[int, str, str], float]
    peaks: dict[tuple[int, str, str], int]
    sizes: dict[tuple[int, str, str], int]
    stages: dict[tuple[int, str], dict[str, float]]


def measure(given: Settings) -> Files:
    default = (1_000_000,) if given.quick else (10_000_000, 100_000_000) if given.large else (10_000_000,)
    sizes = (given.rows,) if given.rows else default
    found = Files(given.rounds or 3, {}, {}, {}, {})
    with tempfile.TemporaryDirectory() as folder:
        for rows in sizes:
            source = Path(folder, "in.parquet")
            process([sys.executable, "-c", HENSA, "sample", "-n", str(rows), "-o", str(source)])
            for output, options in OUTPUTS.items():
                progress(f"{rows:,} rows to a file, {output}")
                contest(found, rows, output, source, options)
    return found


def contest(found: Files, rows: int, output: str, source: Path, options: list[str]) -> None:
    """Run all on one file, once to check and then in turn, and write down what they took."""
    targets = {name: source.with_name(f"{number}.parquet") for number, name in enumerate(("hensa", *SCRIPTS))}
    commands = {"hensa": hensa_score(source, targets["hensa"], *options)}
    process(commands["hensa"])
    columns = pq.read_schema(targets["hensa"]).names
    commands |= {name: script(text, source, targets[name], columns) for name, text in SCRIPTS.items()}
    for name in SCRIPTS:
        process(commands[name])
        agree(targets["hensa"], targets[name], name)
    runs: dict[str, list[Process]] = {name: [] for name in commands}
    for order in shuffled(commands, found.rounds):
        for name in order:
            targets[name].unlink()
            runs[name].append(process(commands[name]))
    for name, processes in runs.items():
        key = rows, output, name
        found.seconds[key] = statistics.median(run.seconds for run in processes)
        found.peaks[key] = max(run.peak for run in processes)
        found.sizes[key] = targets[name].stat().st_size
        targets[name].unlink()
    times = [stages(run.messages) for run in runs["hensa"]]
    found.stages[rows, output] = {stage: statistics.median(t[stage] for t in times) for stage in times[0]}


def render(found: Files) -> page.Page:
    def line(key: tuple[int, str, str]) -> list[str]:
        rows, output, name = key
        ours = found.seconds[rows, output, "hensa"]
        return [
            *(f"{rows:,}", output, name, f"{found.seconds[key]:.2f}", f"{found.seconds[key] / ours:.2f}"),
            *(f"{rows / found.seconds[key] / 1e6:.1f} M", f"{found.peaks[key] / 2**20:,.0f}"),
            f"{found.sizes[key] / 2**20:,.1f}",
        ]

    header = ["rows", "new columns", "process", "s", "time / hensa", "rows/s", "peak MiB", "file MiB"]
    shares = "\n".join(
        f"- {rows:,} rows, {output}: {', '.join(f'{stage} {s:.2f} s' for stage, s in times.items())}; the scoring is"
        f" {times.get('score', 0) / found.seconds[rows, output, 'hensa']:.0%} of the process, the rest is Parquet's,"
        " the summary's and Python's start."
        for (rows, output), times in found.stages.items()
    )
    return page.Page(f"""\
## Files

{page.provenance("files", "pyarrow", "polars", "duckdb")}

`hensa score in.parquet -o out.parquet` beside Polars (`scan_parquet`, `sink_parquet`, streaming) and DuckDB (`COPY`):
whole processes from start to end, with the start of Python and the imports, both passes, the same columns in the same
order of rows, compressed by zstd at level 1. The input is that of `hensa sample`. Medians of {found.rounds} rounds in
turn with the file in the page cache; results are compared with each other row by row first.

{page.table(header, map(line, found.seconds), text=3)}

What hensa's own summary says of its time, with what threads do side by side divided by their number:

{shares}""")
