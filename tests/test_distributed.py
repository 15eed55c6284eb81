"""Datasets on a cluster: real processes on loopback give the bytes that one process gives, even if some are killed."""

import asyncio
import contextlib
import os
import signal
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import hensa
from hensa import HensaError, Program

distributed = pytest.importorskip("distributed")

from hensa.distributed import Cluster, _do  # noqa: E402

PROGRAM = Program.load("hapitas-friend")


@pytest.fixture(scope="module")
def client():
    cluster = distributed.LocalCluster(n_workers=3, threads_per_worker=1, dashboard_address=":0")
    with distributed.Client(cluster) as client:
        yield client
    with contextlib.suppress(KeyError):  # dask may look for a worker that was killed, once all are closed
        cluster.close()


@pytest.fixture
def rows(tmp_path):
    """Twelve files in three directories."""
    for seed in range(12):
        folder = tmp_path / "rows" / f"site={'abc'[seed // 4]}"
        folder.mkdir(parents=True, exist_ok=True)
        table = hensa.sample(500 + 100 * seed, seed=seed).read_all()
        pq.write_table(table, folder / f"{seed:02}.parquet", row_group_size=256)
    return tmp_path / "rows"


def bytes_of(path):
    return {part.relative_to(path).as_posix(): part.read_bytes() for part in path.rglob("*") if part.is_file()}


@pytest.mark.parametrize("by", [None, "site", ["site", "ad_users"]])
def test_a_cluster_writes_the_bytes_that_one_process_writes(rows, tmp_path, client, by):
    alone = hensa.score_dataset(rows, tmp_path / "alone", PROGRAM, by=by)
    assert hensa.score_dataset(rows, tmp_path / "shared", PROGRAM, by=by, client=client) == alone
    assert bytes_of(tmp_path / "shared") == bytes_of(tmp_path / "alone")


@pytest.mark.parametrize("by", [None, "site"])
def test_a_cluster_scores_against_a_stored_population(rows, tmp_path, client, by):
    stored = hensa.population(pq.read_table(rows).slice(0, 7000), PROGRAM, by=by)
    alone = hensa.score_dataset(rows, tmp_path / "alone", PROGRAM, by=by, population=stored)
    shared = hensa.score_dataset(rows, tmp_path / "shared", PROGRAM, by=by, population=stored, client=client)
    assert shared == alone
    assert bytes_of(tmp_path / "shared") == bytes_of(tmp_path / "alone")


def test_csv_is_looked_through_by_the_workers(rows, tmp_path, client):
    (tmp_path / "text").mkdir()
    for path in rows.rglob("*.parquet"):
        pa.csv.write_csv(pq.ParquetFile(path).read(), tmp_path / "text" / f"{path.stem}.csv")
    alone = hensa.score_dataset(tmp_path / "text", tmp_path / "alone", PROGRAM)
    assert hensa.score_dataset(tmp_path / "text", tmp_path / "shared", PROGRAM, client=client) == alone


def test_the_first_work_of_a_stage_is_dealt_to_all_workers(client):
    found = list(Cluster(client, None).map(lambda _: os.getpid(), range(6)))
    assert sorted(found[:3]) == sorted(found[3:]) == sorted(client.run(os.getpid).values())


@pytest.mark.parametrize("stage", ["read", "population", "score"])
def test_a_worker_that_is_killed_changes_nothing(rows, tmp_path, client, stage):
    alone = hensa.score_dataset(rows, tmp_path / "alone", PROGRAM)
    killed = []

    def kill_one(current, done, total):
        if current == stage and done and not killed:
            worker, *_ = client.run(os.getpid).values()
            os.kill(worker, signal.SIGKILL)
            killed.append(worker)

    assert hensa.score_dataset(rows, tmp_path / "shared", PROGRAM, client=client, progress=kill_one) == alone
    assert killed
    assert bytes_of(tmp_path / "shared") == bytes_of(tmp_path / "alone")
    client.cluster.scale(3)
    client.wait_for_workers(3, timeout=60)


def test_progress_is_told_the_rows_of_each_stage(rows, tmp_path, client):
    told = []
    manifest = hensa.score_dataset(
        rows, tmp_path / "paid", PROGRAM, client=client, progress=lambda *of: told.append(of)
    )
    assert list(dict.fromkeys(stage for stage, _, _ in told)) == ["read", "population", "score"]
    for stage in ("read", "population", "score"):
        done = [count for name, count, _ in told if name == stage]
        assert done == sorted(done)
        assert (done[0], done[-1]) == (0, manifest.rows)
    assert {total for _, _, total in told} == {manifest.rows}


def test_a_bad_row_is_named_with_its_file_and_nothing_is_left(rows, tmp_path, client):
    rewards_beyond = Program.parse("""
        name = "no-limit"
        rule = { kind = "standard-score", measures = [{ column = "new_referrals" }] }
        rates = { unit = "percent", steps = [[0, 200]], outside = "allow" }
        reward = { base = "friend_points" }
    """)
    table = hensa.sample(300).read_all()
    bad = table.set_column(3, "friend_points", pa.array([1] * 299 + [2**62]))
    pq.write_table(bad, rows / "site=b" / "99.parquet")
    with pytest.raises(hensa.DataError, match=r"99\.parquet: .*row 299"):
        hensa.score_dataset(rows, tmp_path / "paid", rewards_beyond, client=client)
    assert sorted(os.listdir(tmp_path)) == ["rows"]


def test_what_ends_the_run_leaves_what_it_has_to_the_next(rows, tmp_path, client):
    class Stopped(Exception):
        pass

    def stop(stage, done, total):
        if stage == "score" and done > total // 3:
            raise Stopped

    with pytest.raises(Stopped):
        hensa.score_dataset(rows, tmp_path / "paid", PROGRAM, client=client, progress=stop)
    (left,) = (path for path in tmp_path.iterdir() if path.name.startswith("."))
    assert len(list(left.glob("*/data/*/*.parquet"))) >= 4
    alone = hensa.score_dataset(rows, tmp_path / "alone", PROGRAM)
    assert hensa.score_dataset(rows, tmp_path / "paid", PROGRAM, client=client) == alone
    assert bytes_of(tmp_path / "paid") == bytes_of(tmp_path / "alone")
    assert sorted(os.listdir(tmp_path)) == ["alone", "paid", "rows"]


def test_a_worker_with_another_version_is_refused():
    with pytest.raises(HensaError, match=r"has hensa .* and the client 0\.0; install the same"):
        _do(len, "rows", "0.0")


def test_a_part_that_the_cluster_lacks_is_named(client):
    with pytest.raises(HensaError, match=r"^The scheduler or a worker lacks no_such_part; install hensa there, too\.$"):
        list(Cluster(client, None).map(lambda _: __import__("no_such_part"), range(2)))


def test_what_is_no_client_is_refused():
    with pytest.raises(HensaError, match=r"is 'tcp:.*8786'; it must be a distributed\.Client"):
        Cluster("tcp://127.0.0.1:8786", None)


def test_an_asynchronous_client_is_refused(client):
    async def refused():
        async with distributed.Client(client.scheduler.address, asynchronous=True) as other:
            with pytest.raises(HensaError, match="that is not asynchronous"):
                Cluster(other, None)

    with ThreadPoolExecutor(1) as pool:  # a loop of its own, whatever runs in this thread
        pool.submit(asyncio.run, refused()).result()


def test_a_cluster_without_workers_is_refused():
    with (
        distributed.LocalCluster(n_workers=0, dashboard_address=":0") as cluster,
        distributed.Client(cluster) as empty,
        pytest.raises(HensaError, match="has no workers"),
    ):
        Cluster(empty, None)


def test_threads_are_refused_with_a_client(rows, tmp_path, client):
    with pytest.raises(HensaError, match="threads is of this process"):
        hensa.score_dataset(rows, tmp_path / "paid", PROGRAM, client=client, threads=2)
