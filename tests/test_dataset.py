"""Datasets: the bits of one table, whatever the files; the old state or the whole new one, whatever happens."""

import os
import pickle

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import hensa
from hensa import HensaError, Manifest, dataset

PROGRAM = hensa.Program.load("hapitas-friend")


def rows_of(seed, n=1000):
    return hensa.sample(n, seed=seed).read_all()


@pytest.fixture
def months(tmp_path):
    """Six files in directories of two months."""
    source = tmp_path / "rows"
    for seed in range(6):
        folder = source / f"month=2019-{10 + seed // 3}"
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(rows_of(seed), folder / f"{seed}.parquet", row_group_size=300)
    return source


def whole(months):
    """All rows as one table, with their month."""
    tables = []
    for path in sorted(months.rglob("*.parquet")):
        rows = pq.ParquetFile(path).read()
        tables.append(rows.append_column("month", pa.repeat(path.parent.name[6:], len(rows))))
    return pa.concat_tables(tables)


def read(manifest, path):
    return pa.concat_tables([pq.ParquetFile(part).read() for part in manifest.paths(path)])


@pytest.mark.parametrize("by", [None, "month", ["month", "ad_users"]])
def test_a_dataset_has_the_bits_that_one_table_gets(months, tmp_path, by):
    manifest = hensa.score_dataset(months, tmp_path / "paid", PROGRAM, by=by)
    expected = hensa.score(whole(months), PROGRAM, by=by).drop_columns("month")
    found = read(manifest, tmp_path / "paid")
    assert found.equals(expected)
    assert manifest.points == {"reward": sum(expected["reward"].to_pylist())}
    assert [part.file for part in manifest.parts] == [f"month=2019-{10 + i // 3}/{i}.parquet" for i in range(6)]
    assert sorted(os.listdir(tmp_path)) == ["paid", "rows"]


def test_the_same_run_again_changes_nothing(months, tmp_path):
    manifest = hensa.score_dataset(months, tmp_path / "paid", PROGRAM)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "paid").rglob("*")}
    assert hensa.score_dataset(months, tmp_path / "paid", PROGRAM) == manifest == Manifest.load(tmp_path / "paid")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "paid").rglob("*")} == before


def test_another_run_is_refused_until_it_may_overwrite(months, tmp_path):
    first = hensa.score_dataset(months, tmp_path / "paid", PROGRAM)
    with pytest.raises(HensaError, match="it has the dataset of another run"):
        hensa.score_dataset(months, tmp_path / "paid", PROGRAM, columns=["reward"])
    assert Manifest.load(tmp_path / "paid") == first
    second = hensa.score_dataset(months, tmp_path / "paid", PROGRAM, columns=["reward"], overwrite=True)
    assert Manifest.load(tmp_path / "paid") == second != first
    assert len(list(second.check(tmp_path / "paid"))) == 6
    assert sorted(os.listdir(tmp_path)) == ["paid", "rows"]


def test_what_a_worker_needs_can_be_pickled_and_is_small(months):
    planned = dataset.plan(months, PROGRAM, by="month")
    parts = [dataset.take(planned.task, fragment) for fragment in planned.fragments]
    for value in (planned.task, *planned.fragments, *planned.surveys, *parts):
        data = pickle.dumps(value)
        assert len(data) < 100_000
        assert pickle.loads(data) == value


def test_a_result_beside_a_file_is_written_and_one_among_the_source_is_refused(months, tmp_path):
    file = months / "month=2019-10" / "0.parquet"
    assert hensa.score_dataset(file, tmp_path / "one", PROGRAM).rows == 1000
    for place in (months, months / "paid", months.parent, file):
        with pytest.raises(HensaError, match="it is where the source is"):
            hensa.score_dataset(months if place != file else file, place, PROGRAM)
    assert not list(tmp_path.glob("**/.*"))
