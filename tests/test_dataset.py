"""Datasets: the bits of one table, whatever the files; the old state or the whole new one, whatever happens."""

import gzip
import hashlib
import io
import json
import os
import pickle
import re
import subprocess
import sys
from collections import Counter
from datetime import date
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.fs as arrow_fs
import pyarrow.parquet as pq
import pytest
from making import program

import hensa
from hensa import DataError, HensaError, Manifest, Population, audit, dataset, files, fragments, ipc
from hensa.dataset import verify
from hensa.manifest import Staging

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


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_files_whose_texts_have_offsets_of_other_widths_are_one_dataset(tmp_path, suffix):
    sites = ["ä", "b", "c"] * 100
    kinds = [pa.string(), pa.large_string(), *([pa.string_view()] if suffix == "arrow" else [])]
    (tmp_path / "in").mkdir()
    for seed, kind in enumerate(kinds):
        rows = rows_of(seed, 300).append_column("site", pa.array(sites, kind))
        if suffix == "parquet":
            pq.write_table(rows, tmp_path / f"in/{seed}.parquet")
        else:
            with pa.ipc.new_file(tmp_path / f"in/{seed}.arrow", rows.schema) as file:
                file.write_table(rows)
    together = pa.concat_tables([rows_of(seed, 300).append_column("site", [sites]) for seed in range(len(kinds))])
    expected = hensa.score(together, PROGRAM, by="site")["reward"].to_pylist()
    manifest = hensa.score_dataset(tmp_path / "in", tmp_path / "out", PROGRAM, by="site")
    paid = [files.read(str(part), ())["reward"] for part in manifest.paths(tmp_path / "out")]
    assert [points for part in paid for points in part.to_pylist()] == expected


@pytest.mark.parametrize("by", [None, "month"])
def test_rows_of_files_are_scored_against_a_stored_population(months, tmp_path, by):
    rows = whole(months)
    stored = hensa.population(rows.slice(0, 5000), PROGRAM, by=by)  # some of the rows of the second month are left out
    stages = set()
    manifest = hensa.score_dataset(
        months, tmp_path / "paid", PROGRAM, by=by, population=stored, progress=lambda stage, *_: stages.add(stage)
    )
    expected = hensa.score(rows, PROGRAM, stored, by=by).drop_columns("month")
    assert read(manifest, tmp_path / "paid").equals(expected)
    assert stages == {"read", "score"}
    recorded = manifest.scored.population
    assert (recorded.source, recorded.count) == ("file", 5000)
    assert Population.from_json(json.dumps(recorded.moments)) == stored
    # the same numbers as those of the rows, but not taken from them
    own = hensa.population(rows, PROGRAM, by=by)
    runs = [hensa.score_dataset(months, tmp_path / "own", PROGRAM, by=by).run]
    for population in (own, stored):
        with pytest.raises(HensaError, match="it has the dataset of another run"):
            hensa.score_dataset(months, tmp_path / "own", PROGRAM, by=by, population=population)
        place = tmp_path / "own"
        runs.append(hensa.score_dataset(months, place, PROGRAM, by=by, population=population, overwrite=True).run)
    assert len(set(runs)) == 3
    assert runs[-1] == manifest.run


def test_a_stored_population_that_does_not_fit_is_an_error_and_nothing_is_written(months, tmp_path):
    half = whole(months).slice(0, 3000)
    other = hensa.population({"orders": [1, 2]}, program(["orders"], base=None))
    for population, by, message in (
        (other, None, r"0\.parquet: The population has no measure 'new_referrals'; it has orders"),
        (hensa.population(half, PROGRAM, by="month"), "month", r"of cohort '2019-11', of row 0, is not there"),
        ("population.json", None, "population is 'population.json'; it must be a hensa.Population"),
    ):
        with pytest.raises(HensaError, match=message):
            hensa.score_dataset(months, tmp_path / "paid", PROGRAM, by=by, population=population)
        assert os.listdir(tmp_path) == ["rows"]


def test_a_stored_population_of_more_cohorts_than_a_record_holds_is_an_input(tmp_path, monkeypatch):
    monkeypatch.setattr(audit, "COHORTS", 1)
    rows = pa.table({**{name: [1, 3, 1, 4] for name in PROGRAM.columns}, "site": ["a", "a", "b", "b"]})
    pq.write_table(rows, tmp_path / "rows.parquet")
    stored = hensa.population(rows, PROGRAM, by="site")
    manifest = hensa.score_dataset(tmp_path / "rows.parquet", tmp_path / "paid", PROGRAM, by="site", population=stored)
    assert [each.name for each in manifest.record.inputs] == ["rows.parquet", "population.json"]
    data = f"{stored.to_json()}\n".encode()  # as `hensa population` writes it
    assert manifest.record.inputs[1].sha256 == hashlib.sha256(data).hexdigest()
    assert "cohorts" not in manifest.scored.population.moments


def test_the_manifest_has_the_rows_of_each_rate_and_the_total_of_the_base(months, tmp_path):
    for columns in (None, ["score"], ["rate"]):
        paid = tmp_path / "-".join(columns or ["paid"])
        manifest = hensa.score_dataset(months, paid, PROGRAM, columns=columns)
        rows = hensa.score(whole(months), PROGRAM)
        rates, bases = Counter(rows["rate"].to_pylist()), sum(rows["friend_points"].to_pylist())
        assert manifest.rates == (None if columns == ["score"] else rates)
        assert list(manifest.rates or ()) == sorted(manifest.rates or ())
        assert manifest.base == (bases if columns is None else None)
        assert Manifest.load(paid) == manifest


def test_decimals_and_columns_of_directories_are_bases_that_add_up_exactly(tmp_path):
    cents = Decimal("12345678901234567890123456789.01")  # more digits than Python's decimals add up
    rules = program("x", [(0, 1)], "cents", cap=1)
    for part in range(2):
        (tmp_path / "decimals").mkdir(exist_ok=True)
        base = pa.array([cents, None, cents], pa.decimal128(38, 2))
        pq.write_table(pa.table({"x": [1, 2, None], "cents": base}), tmp_path / "decimals" / f"{part}.parquet")
        folder = tmp_path / "directories" / f"cents={part + 7}"
        folder.mkdir(parents=True)
        pq.write_table(pa.table({"x": [1, 2]}), folder / "0.parquet")
    # of each file only the first row has a reward
    assert hensa.score_dataset(tmp_path / "decimals", tmp_path / "a", rules).base == Decimal(
        "24691357802469135780246913578.02"
    )
    assert Manifest.load(tmp_path / "a").base == Decimal("24691357802469135780246913578.02")
    assert hensa.score_dataset(tmp_path / "directories", tmp_path / "b", rules).base == 2 * 7 + 2 * 8


def test_the_same_run_again_changes_nothing(months, tmp_path):
    manifest = hensa.score_dataset(months, tmp_path / "paid", PROGRAM)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "paid").rglob("*")}
    assert hensa.score_dataset(months, tmp_path / "paid", PROGRAM) == manifest == Manifest.load(tmp_path / "paid")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "paid").rglob("*")} == before


def test_pandas_is_not_imported_to_score_files(tmp_path):
    cohorts = {"site": ["pc", "phone"] * 500, "day": [date(2019, 10, 1), date(2019, 10, 2)] * 500}
    rows = rows_of(0)
    for name, column in cohorts.items():
        rows = rows.append_column(name, pa.array(column))
    pq.write_table(rows, tmp_path / "rows.parquet")
    run = """
import sys, hensa, pyarrow.parquet
program = hensa.Program.load("hapitas-friend")
hensa.score_dataset("rows.parquet", "paid", program)
hensa.score(pyarrow.parquet.ParquetFile("rows.parquet").read(), program, by=["site", "day"])
sys.exit("pandas" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", run], cwd=tmp_path).returncode == 0
    assert find_spec("pandas")


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


def test_csv_has_the_types_that_hold_the_cells_of_all_files(tmp_path):
    source = tmp_path / "rows"
    source.mkdir()
    (source / "1.csv").write_text("id,new_referrals,ad_users,friend_points\n1,1,2,100\n2,,3,200\n")
    (source / "2.csv").write_text("id,new_referrals,ad_users,friend_points\n007,2.5,2,100\n8,4,5,1000\n")
    whole = tmp_path / "whole.csv"
    whole.write_text((source / "1.csv").read_text() + "".join((source / "2.csv").read_text().splitlines(True)[1:]))
    manifest = hensa.score_dataset(source, tmp_path / "paid", PROGRAM)
    expected = hensa.score(files.read(str(whole), PROGRAM.columns), PROGRAM)
    found = [pc.open_csv(path).schema.names for path in manifest.paths(tmp_path / "paid")]
    assert found == [expected.column_names] * 2
    texts = [Path(path).read_text().splitlines()[1:] for path in manifest.paths(tmp_path / "paid")]
    sink = io.BytesIO()
    pc.write_csv(expected, sink)
    assert [line for text in texts for line in text] == sink.getvalue().decode().splitlines()[1:]
    assert (manifest.rows, manifest.nulls) == (4, 1)


def test_whole_numbers_of_csv_may_have_a_point_in_some_files(tmp_path):
    lines = {
        "1.csv": ["1,9007199254740993,2.5", "2,100,2.0"],
        "2.csv": ["3.0,9007199254740993.0,3", " 4.0,,4"],
        "3.csv": [",,"],
    }
    header = "new_referrals,friend_points,ad_users"
    (tmp_path / "rows").mkdir()
    for name, rows in lines.items():
        (tmp_path / "rows" / name).write_text("\n".join([header, *rows, ""]))
    whole = tmp_path / "whole.csv"
    whole.write_text("\n".join([header, *(line for rows in lines.values() for line in rows), ""]))
    expected = hensa.score(files.read(str(whole), PROGRAM.columns), PROGRAM)
    assert expected["friend_points"].to_pylist()[:3] == [2**53 + 1, 100, 2**53 + 1]
    for source in (tmp_path / "rows", whole):
        manifest = hensa.score_dataset(source, tmp_path / f"paid-{source.stem}", PROGRAM)
        paths = manifest.paths(tmp_path / f"paid-{source.stem}")
        schema = expected.schema  # of a part, a column may be whole where another's is not
        found = pa.concat_tables([files.read(path, expected.column_names).cast(schema) for path in paths])
        assert found.equals(expected)
        assert manifest.points["reward"] == sum(filter(None, expected["reward"].to_pylist()))


def test_arrow_files_are_scored_batch_by_batch(tmp_path):
    source = tmp_path / "rows"
    source.mkdir()
    for seed in range(2):
        with pa.ipc.new_file(source / f"{seed}.arrow", rows_of(0).schema) as sink:
            sink.write_table(rows_of(seed), max_chunksize=300)
    manifest = hensa.score_dataset(source, tmp_path / "paid", PROGRAM)
    found = pa.concat_tables(pa.ipc.open_file(path).read_all() for path in manifest.paths(tmp_path / "paid"))
    assert found.equals(hensa.score(pa.concat_tables([rows_of(0), rows_of(1)]), PROGRAM))


def one_batch(path, rows, **options):
    [batch] = rows.combine_chunks().to_batches()
    with pa.ipc.new_file(path, rows.schema, options=pa.ipc.IpcWriteOptions(**options)) as file:
        file.write_batch(batch)


@pytest.mark.parametrize("compression", [None, "zstd"])
def test_a_long_record_batch_becomes_parts_of_the_same_bits_if_reading_may_begin_within_it(
    tmp_path, monkeypatch, compression
):
    for name, value in (("FRAGMENT_ROWS", 512), ("BATCH", 64), ("ROW_GROUP", 192)):
        monkeypatch.setattr(fragments, name, value)
    monkeypatch.setattr(ipc, "PART", 64)
    rows = rows_of(0, 1100).append_column("site", pa.array([f"site {i % 7}" for i in range(1100)]).dictionary_encode())
    one_batch(tmp_path / "rows.arrow", rows, compression=compression)
    manifest = hensa.score_dataset(tmp_path / "rows.arrow", tmp_path / "paid", PROGRAM)
    parts = ["rows-00000.arrow", "rows-00001.arrow", "rows-00002.arrow"] if compression is None else ["rows.arrow"]
    assert [part.file for part in manifest.parts] == parts
    assert [part.rows for part in manifest.parts] == ([512, 512, 76] if compression is None else [1100])
    found = pa.concat_tables(files.read(path, ()) for path in manifest.paths(tmp_path / "paid"))
    assert found.equals(hensa.score(rows, PROGRAM))
    last = list(verify(str(tmp_path / "paid")))[-1]
    assert last.startswith("the same, bit for bit")


def test_record_batches_before_and_after_a_long_one_are_fragments_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr(fragments, "FRAGMENT_ROWS", 512)
    rows = rows_of(0, 2000)
    with pa.ipc.new_file(tmp_path / "rows.arrow", rows.schema) as file:
        for start, stop in ((0, 300), (300, 600), (600, 700), (700, 1400), (1400, 1500), (1500, 2000)):
            file.write_batch(rows.slice(start, stop - start).combine_chunks().to_batches()[0])
    planned = dataset.plan(tmp_path / "rows.arrow", PROGRAM)
    assert [(each.groups, each.skip, each.start, each.rows) for each in planned.fragments] == [
        ((0,), 0, 0, 300),
        ((1, 2), 0, 300, 400),
        ((3,), 0, 700, 512),
        ((3,), 512, 1212, 188),
        ((4,), 0, 1400, 100),
        ((5,), 0, 1500, 500),
    ]
    manifest = hensa.score_dataset(tmp_path / "rows.arrow", tmp_path / "paid", PROGRAM)
    found = pa.concat_tables(files.read(path, ()) for path in manifest.paths(tmp_path / "paid"))
    assert found.equals(hensa.score(rows, PROGRAM))


def test_a_record_batch_that_memory_has_no_room_for_is_refused_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(ipc, "PART", 64)
    n, path = 70_000, tmp_path / "rows.arrow"
    tags = pa.FixedSizeListArray.from_arrays(pa.array(range(100 * n), pa.int64()), 100)
    one_batch(path, rows_of(0, n).append_column("tags", tags))
    planned = dataset.plan(path, PROGRAM)
    held = n * 100 * 8
    assert held < planned.takes < 5 * held
    message = (
        f"{path}: memory is {held:,} bytes, and record batch 0, of 70,000 rows, takes {planned.takes:,}, as "
        "'tags' can only be read whole; give more, or write the rows in smaller batches: rows = "
    )
    with pytest.raises(HensaError, match=re.escape(message)) as refused:
        hensa.score_dataset(path, tmp_path / "paid", PROGRAM, memory=held)
    assert os.listdir(tmp_path) == ["rows.arrow"]
    assert hensa.score_dataset(path, tmp_path / "paid", PROGRAM, memory=planned.takes).rows == n
    first, second = str(refused.value).split("smaller batches: ")[1].removesuffix(".").split(", then ")
    monkeypatch.chdir(tmp_path)
    exec(f"{first}\n{second}", {"pa": pa})
    monkeypatch.undo()
    assert dataset.plan(tmp_path / "smaller.arrow", PROGRAM).fragments[0].held == 0


def test_a_long_file_becomes_several_parts_of_the_same_bits(tmp_path, monkeypatch):
    monkeypatch.setattr(fragments, "FRAGMENT_ROWS", 500)
    pq.write_table(rows_of(0, 1700), tmp_path / "rows.parquet", row_group_size=200)
    manifest = hensa.score_dataset(tmp_path / "rows.parquet", tmp_path / "paid", PROGRAM)
    assert [part.file for part in manifest.parts] == [f"rows-{i:05}.parquet" for i in range(4)]
    assert [part.rows for part in manifest.parts] == [400, 400, 400, 500]
    assert read(manifest, tmp_path / "paid").equals(hensa.score(rows_of(0, 1700), PROGRAM))


def test_pieces_are_bounded_by_rows_and_by_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(fragments, "BATCH", 100)
    monkeypatch.setattr(fragments, "ROW_GROUP", 300)
    pq.write_table(rows_of(0), tmp_path / "rows.parquet")
    planned = dataset.plan(tmp_path / "rows.parquet", PROGRAM)

    def sizes():
        _, found = fragments.pieces(planned.task.source, planned.fragments[0])
        return [(start, piece.num_rows) for start, piece in found]

    assert sizes() == [(0, 300), (300, 300), (600, 300), (900, 100)]
    monkeypatch.setattr(fragments, "PIECE_BYTES", 100 * 24)
    assert sizes() == [(100 * i, 100) for i in range(10)]


@pytest.mark.parametrize("pattern", ["month=2019-10/*.parquet", "month=2019-10", "**/[0-2].parquet", "*-10/?.parquet"])
def test_a_pattern_names_files_or_directories(months, tmp_path, pattern):
    manifest = hensa.score_dataset(f"{months}/{pattern}", tmp_path / "paid", PROGRAM)
    assert [part.file.split("/")[-1] for part in manifest.parts] == ["0.parquet", "1.parquet", "2.parquet"]


def test_any_filesystem_of_pyarrow_is_read(months, tmp_path):
    elsewhere = arrow_fs.SubTreeFileSystem(str(tmp_path), arrow_fs.LocalFileSystem())
    manifest = hensa.score_dataset("rows", tmp_path / "paid", PROGRAM, by="month", filesystem=elsewhere)
    assert manifest == hensa.score_dataset(months.as_uri(), tmp_path / "again", PROGRAM, by="month")


@pytest.mark.parametrize("source", ["rows", "/rows/", "rows/*/?.parquet"])
def test_a_filesystem_whose_paths_begin_with_a_slash_is_read(months, tmp_path, source):
    memory = pytest.importorskip("fsspec").filesystem("memory")
    memory.put(f"{months}/", "/rows/", recursive=True)
    elsewhere = arrow_fs.PyFileSystem(arrow_fs.FSSpecHandler(memory))
    manifest = hensa.score_dataset(source, tmp_path / "paid", PROGRAM, by="month", filesystem=elsewhere)
    assert manifest.parts == hensa.score_dataset(months, tmp_path / "again", PROGRAM, by="month").parts


def test_hidden_files_and_other_files_are_skipped(months, tmp_path):
    for name in ("_SUCCESS.parquet", ".hidden.parquet", "readme.txt", "_temporary/0.parquet"):
        (months / name).parent.mkdir(exist_ok=True)
        (months / name).write_text("no rows")
    assert hensa.score_dataset(months, tmp_path / "paid", PROGRAM).rows == 6000


BAD = {
    "a missing column": (
        lambda rows: rows.drop_columns("ad_users"),
        "column 3 is 'friend_points', where it is 'ad_use",
    ),
    "a further column": (
        lambda rows: rows.append_column("x", rows["ad_users"]),
        "column 5 is 'x', where it is missing",
    ),
    "another order": (lambda rows: rows.select([1, 0, 2, 3]), "column 1 is 'new_referrals', where it is 'referrer_id'"),
    "another type": (lambda rows: rows.cast(TYPES), "column 'ad_users' is of type int64, where it is int32 in"),
}
TYPES = pa.schema([f.with_type(pa.int64()) if f.name == "ad_users" else f for f in rows_of(0, 1).schema])


@pytest.mark.parametrize("case", BAD)
def test_a_file_of_another_schema_is_named_and_nothing_is_written(months, tmp_path, case):
    change, message = BAD[case]
    path = months / "month=2019-11" / "4.parquet"
    pq.write_table(change(rows_of(4)), path)
    with pytest.raises(HensaError, match=re.escape(f"{path}: {message}")):
        hensa.score_dataset(months, tmp_path / "paid", PROGRAM)
    assert os.listdir(tmp_path) == ["rows"]


def test_a_file_that_is_cut_off_is_named_and_nothing_is_written(months, tmp_path):
    path = months / "month=2019-11" / "4.parquet"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(HensaError, match=re.escape(f"{path}: cannot be read as Parquet")):
        hensa.score_dataset(months, tmp_path / "paid", PROGRAM)
    assert os.listdir(tmp_path) == ["rows"]


def test_a_csv_line_that_is_no_number_is_named_and_nothing_is_written(tmp_path):
    (tmp_path / "rows.csv").write_text("new_referrals,ad_users,friend_points\n1,2,3\n1,x,3\n")
    with pytest.raises(HensaError, match=re.escape("rows.csv: line 3, column ad_users: 'x' is not a number")):
        hensa.score_dataset(tmp_path / "rows.csv", tmp_path / "paid", PROGRAM)
    assert os.listdir(tmp_path) == ["rows.csv"]


def test_a_row_that_cannot_be_scored_is_named_with_its_file_and_nothing_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr(fragments, "BATCH", 100)
    monkeypatch.setattr(fragments, "ROW_GROUP", 100)
    columns = {name: [1] * 300 for name in ("new_referrals", "ad_users", "friend_points")}
    columns["new_referrals"] = [1.0, 2.0, 3.0] * 100
    columns["new_referrals"][217] = float("nan")
    pq.write_table(pa.table(columns), tmp_path / "rows.parquet")
    message = "rows.parquet: Column 'new_referrals' is nan in row 217;"
    with pytest.raises(DataError, match=message):
        hensa.score_dataset(tmp_path / "rows.parquet", tmp_path / "paid", PROGRAM)
    assert os.listdir(tmp_path) == ["rows.parquet"]


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
def test_a_row_of_csv_that_cannot_be_scored_is_named_with_its_line(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(fragments, "BATCH", 100)
    monkeypatch.setattr(fragments, "ROW_GROUP", 100)
    lines = ["name,x", '"two\nlines",1', *["one,1"] * 216, "", "bad,-1"]
    rules = program([("x", 1, "error")], base=None)
    opener = gzip.open if suffix.endswith(".gz") else open
    with opener(tmp_path / f"rows{suffix}", "wt") as file:
        file.write("\n".join(lines))
    where = f"rows{suffix}: Column 'x' is -1 in row 217 (line 221);"
    elsewhere = arrow_fs.SubTreeFileSystem(str(tmp_path), arrow_fs.LocalFileSystem())
    for source, filesystem in ((tmp_path / f"rows{suffix}", None), (f"rows{suffix}", elsewhere)):
        with pytest.raises(DataError, match=re.escape(where)):
            hensa.score_dataset(source, tmp_path / "paid", rules, filesystem=filesystem)
    assert os.listdir(tmp_path) == [f"rows{suffix}"]


def test_a_file_that_is_changed_during_the_run_ends_it(months, tmp_path):
    def change(stage, done, total):
        if stage == "score":
            path = months / "month=2019-10" / "0.parquet"
            os.utime(path, ns=(1, 1))

    with pytest.raises(HensaError, match=r"0\.parquet: it was changed while it was read"):
        hensa.score_dataset(months, tmp_path / "paid", PROGRAM, progress=change)
    assert not (tmp_path / "paid").exists()


def test_an_interrupted_run_is_gone_on_with(months, tmp_path):
    uninterrupted = hensa.score_dataset(months, tmp_path / "one", PROGRAM)

    def interrupt(stage, done, total):
        if stage == "score" and done >= 2000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        hensa.score_dataset(months, tmp_path / "paid", PROGRAM, progress=interrupt, threads=1)
    assert not (tmp_path / "paid").exists()
    kept = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob(".paid.hensa/*/data/*/*")}
    assert len(kept) >= 2
    told = []
    assert (
        hensa.score_dataset(months, tmp_path / "paid", PROGRAM, progress=lambda *now: told.append(now)) == uninterrupted
    )
    now = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "paid").glob("*/*")}
    assert {name: now[name] for name in kept} == kept
    assert sorted(os.listdir(tmp_path)) == ["one", "paid", "rows"]
    assert ("score", 6000, 6000) in told


def test_what_is_kept_is_not_trusted_if_its_bytes_are_others(months, tmp_path):
    def interrupt(stage, done, total):
        if stage == "score" and done >= 2000:
            raise KeyboardInterrupt

    uninterrupted = hensa.score_dataset(months, tmp_path / "one", PROGRAM)
    with pytest.raises(KeyboardInterrupt):
        hensa.score_dataset(months, tmp_path / "paid", PROGRAM, progress=interrupt, threads=1)
    first = next(tmp_path.glob(".paid.hensa/*/data/*/0.parquet"))
    data = bytearray(first.read_bytes())
    data[50] ^= 1
    first.write_bytes(data)
    manifest = hensa.score_dataset(months, tmp_path / "paid", PROGRAM)
    assert manifest == uninterrupted
    assert len(list(manifest.check(tmp_path / "paid"))) == 6


def test_two_runs_do_not_write_to_one_place_at_once(months, tmp_path):
    pytest.importorskip("fcntl")
    with Staging(tmp_path / "paid"), pytest.raises(HensaError, match="paid: another run is writing it"):
        hensa.score_dataset(months, tmp_path / "paid", PROGRAM)
    assert hensa.score_dataset(months, tmp_path / "paid", PROGRAM).rows == 6000


def test_what_hensa_did_not_write_is_not_replaced(months, tmp_path):
    place = tmp_path / "paid"
    place.mkdir()
    (place / "mine.txt").write_text("mine")
    with pytest.raises(HensaError, match="there is no manifest, so it is no dataset that hensa wrote"):
        hensa.score_dataset(months, place, PROGRAM, overwrite=True)
    (place / "mine.txt").unlink()
    hensa.score_dataset(months, place, PROGRAM)
    (place / "mine.txt").write_text("mine")
    with pytest.raises(HensaError, match=r"it has a file 'mine\.txt' that its manifest does not list"):
        hensa.score_dataset(months, place, PROGRAM, columns=["rate"], overwrite=True)
    assert (place / "mine.txt").read_text() == "mine"


def test_a_part_that_was_changed_is_found(months, tmp_path):
    manifest = hensa.score_dataset(months, tmp_path / "paid", PROGRAM)
    path = tmp_path / "paid" / "month=2019-11" / "5.parquet"
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    with pytest.raises(HensaError, match=r"5\.parquet: found the sha256 [0-9a-f]{64}, where the manifest has"):
        list(manifest.check(tmp_path / "paid"))
    path.write_bytes(data[:-1])
    with pytest.raises(HensaError, match=r"5\.parquet: found [\d,]+ bytes, where the manifest has"):
        hensa.score_dataset(months, tmp_path / "paid", PROGRAM)
    assert hensa.score_dataset(months, tmp_path / "paid", PROGRAM, overwrite=True) == manifest
    assert len(list(manifest.check(tmp_path / "paid"))) == 6


def test_the_memory_that_pieces_may_take_bounds_the_threads(months):
    planned = dataset.plan(months, PROGRAM)
    assert planned.threads(planned.takes, most=8) == 1
    assert planned.threads(3 * planned.takes, most=8) == 3
    assert planned.threads(100 * planned.takes, most=8) == 6
    with pytest.raises(HensaError, match="memory is 1 bytes, and a piece of these rows may take"):
        planned.threads(1)


def test_threads_that_have_no_part_of_their_own_encode_and_change_no_byte(months, tmp_path):
    one = dataset.plan(months / "month=2019-10" / "0.parquet", PROGRAM)
    assert [one.spare(times * one.takes, most=8) for times in (1, 3, 100)] == [1, 3, 8]
    six = dataset.plan(months, PROGRAM)
    assert [six.spare(100 * six.takes, most) for most in (1, 8, 13)] == [1, 1, 2]
    runs = [
        hensa.score_dataset(months / "month=2019-10", tmp_path / str(threads), PROGRAM, threads=threads, memory=1 << 40)
        for threads in (1, 12)
    ]
    assert runs[0] == runs[1]


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_columns_of_one_name_that_are_not_scored_pass_through(tmp_path, suffix):
    rows = rows_of(0).append_column("note", pa.repeat("a", 1000)).append_column("note", pa.repeat("b", 1000))
    with (tmp_path / f"rows.{suffix}").open("wb") as file:
        files.write(file, f"rows.{suffix}", rows.schema, [rows], lambda n_rows: None)
    manifest = hensa.score_dataset(tmp_path / f"rows.{suffix}", tmp_path / "paid", PROGRAM)
    [path] = manifest.paths(tmp_path / "paid")
    assert files.read(path, ()).equals(hensa.score(rows, PROGRAM))


def test_a_directory_of_arrow_streams_is_no_dataset(tmp_path):
    (tmp_path / "in").mkdir()
    with pa.ipc.new_stream(tmp_path / "in" / "a.arrows", rows_of(0).schema) as file:
        file.write_table(rows_of(0))
    with pytest.raises(
        HensaError, match=r"found an Arrow stream, 'a.arrows'; a dataset has Parquet, CSV or Arrow files"
    ):
        hensa.score_dataset(tmp_path / "in", tmp_path / "out", PROGRAM)
