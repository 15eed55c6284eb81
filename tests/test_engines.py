"""The examples for other engines: run as commands, they write what hensa.score gives."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import hensa

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.long
@pytest.mark.parametrize(("engine", "package"), [("ray", "ray"), ("spark", "pyspark")])
def test_the_example_writes_the_rows_that_score_gives(engine, package, tmp_path):
    if find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    rows = hensa.sample(20_000, seed=7).read_all()
    (tmp_path / "rows").mkdir()
    for part in range(4):
        pq.write_table(rows.slice(5_000 * part, 5_000), tmp_path / "rows" / f"{part}.parquet", row_group_size=1_500)
    command = [sys.executable, EXAMPLES / f"score_on_{engine}.py", tmp_path / "rows", tmp_path / "scored"]
    settings = {"PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1", "RAY_USAGE_STATS_ENABLED": "0"}
    subprocess.run(command, env={**os.environ, **settings}, check=True, timeout=300)
    scored = pq.read_table(tmp_path / "scored").sort_by("referrer_id").combine_chunks()
    expected = hensa.score(rows, hensa.Program.load("hapitas-friend")).combine_chunks()
    for name in expected.column_names:
        assert scored[name].equals(expected[name]), name
