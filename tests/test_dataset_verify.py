"""Datasets that are verified: made again from their source, and compared part by part; whatever differs is named."""

import json
import os
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import hensa
from hensa import HensaError, Manifest, audit, dataset, files, fragments
from hensa.manifest import hash_of

PROGRAM = hensa.Program.load("hapitas-friend")


@pytest.fixture(autouse=True)
def rows(tmp_path, monkeypatch):
    """Three files of 1,000 rows; the first row of each has no score."""
    monkeypatch.chdir(tmp_path)
    for seed in range(3):
        place = Path("rows", f"site={seed}", "rows.parquet")
        place.parent.mkdir(parents=True)
        pq.write_table(table_of(seed), place, row_group_size=300)


def table_of(seed):
    table = hensa.sample(1000, seed=seed).read_all()
    users = pa.array([None, *table["ad_users"].to_pylist()[1:]], pa.int32())
    return table.set_column(table.column_names.index("ad_users"), "ad_users", users)


def written(table, suffix):
    path = f"rows{suffix}"
    with open(path, "wb") as file:
        files.write(file, path, table.schema, [table], lambda n_rows: None)
    return path


def scored(source="rows", **options):
    return hensa.score_dataset(source, "paid", PROGRAM, **options)


def verified(*inputs):
    before = sorted(Path().rglob("*"))
    lines = list(dataset.verify("paid", *inputs))
    assert sorted(Path().rglob("*")) == before
    return lines


def refused(*inputs):
    with pytest.raises(HensaError) as error:
        verified(*inputs)
    return str(error.value)


def forged(change):
    """Change the manifest."""
    path = Path("paid", "_manifest.json")
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def replaced(part, table):
    """Put other rows in a part, and have the manifest say so."""
    path = Path("paid", part)
    with path.open("wb") as file:
        files.write(file, part, table.schema, [table], lambda n_rows: None)

    def change(manifest):
        own = next(own for own in manifest["parts"] if own["file"] == part)
        own |= {"bytes": path.stat().st_size, "sha256": hash_of(path)}
        manifest["bytes"] = sum(own["bytes"] for own in manifest["parts"])

    forged(change)


# --- the same ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [{}, {"by": "site"}, {"columns": ["step"]}, {"columns": []}, {"month": "2019-10"}], ids=str
)
def test_a_dataset_is_made_again_and_found_the_same(options):
    manifest = scored(**options)
    points = f", {manifest.points['reward']:,} reward" if "reward" in manifest.points else ""
    size = sum(path.stat().st_size for path in Path("rows").rglob("*.parquet"))
    assert verified() == [
        f"paid: hensa score of 3 files, run {manifest.run}",
        f"program 'hapitas-friend', built in, sha256 {manifest.scored.program.sha256}",
        f"as its manifest states, byte for byte: 3 files, 3,000 rows{points}",
        f"source rows: 3 files, {size:,} bytes, as recorded",
        f"the same, bit for bit: 3 files, 3,000 rows{points}",
    ]


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".csv.gz", ".arrow"])
def test_every_format_is_verified(suffix):
    table = table_of(0).append_column("note", pa.repeat("a, b", 1000))
    if not suffix.startswith(".csv"):
        table = table.append_column("note", pa.repeat("c", 1000))  # two columns of one name
    scored(written(table, suffix))
    assert verified()[-1].startswith("the same, bit for bit: 1 file, 1,000 rows, ")


def test_pieces_of_other_lengths_than_those_that_were_written_are_verified(monkeypatch):
    monkeypatch.setattr(fragments, "FRAGMENT_ROWS", 500)
    assert len(scored().parts) == 9  # 300, 300, 300 and 100 rows of each file
    for batch, group in ((70, 150), (130, 1000)):
        monkeypatch.setattr(fragments, "BATCH", batch)
        monkeypatch.setattr(fragments, "ROW_GROUP", group)
        assert verified()[-1].startswith("the same, bit for bit: 9 files, 3,000 rows, ")


@pytest.mark.parametrize("n_cohorts", [1, 1000])
def test_a_dataset_of_a_stored_population_is_verified(monkeypatch, n_cohorts):
    monkeypatch.setattr(audit, "COHORTS", n_cohorts)
    stored = hensa.population(pq.read_table("rows").slice(0, 2500), PROGRAM, by="site")
    scored(by="site", population=stored)
    if n_cohorts == 1:  # which the manifest does not hold, so its file is needed
        assert refused() == "paid: its population is not in the manifest; name its file with a second --input."
        other = hensa.population(pq.read_table("rows").slice(0, 2600), PROGRAM, by="site")
        Path("p.json").write_text(other.to_json())
        assert "paid: not the same: the input has " in refused("rows", "p.json")
        Path("p.json").write_text(stored.to_json())
        assert verified("rows", "p.json")[-1].startswith("the same, bit for bit")
    else:
        assert verified()[-1].startswith("the same, bit for bit")


def test_the_source_is_found_from_here_or_from_where_the_dataset_is_or_is_named(monkeypatch, tmp_path):
    manifest = scored(tmp_path / "rows")
    assert manifest.source == "rows"
    assert scored("./rows/").source == scored("rows").source == "rows"
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    assert list(dataset.verify("../paid"))[-2].startswith("source ../rows: 3 files")
    (tmp_path / "rows").rename(tmp_path / "moved")
    with pytest.raises(HensaError, match=r"\.\./paid: its source 'rows' is not here; name where it is with --input\."):
        list(dataset.verify("../paid"))
    assert list(dataset.verify("../paid", "../moved"))[-2].startswith("source ../moved: 3 files")


def test_a_pattern_is_the_source_as_it_was_named():
    assert scored("rows/*/rows.parquet").source == "rows/*/rows.parquet"
    assert verified()[-2].startswith("source rows/*/rows.parquet: 3 files")


def test_progress_is_told_of_the_rows_that_are_compared():
    scored()
    told = []
    list(dataset.verify("paid", progress=lambda *now: told.append(now)))
    assert {stage for stage, *_ in told} == {"read", "population", "verify"}
    assert told[-1] == ("verify", 3000, 3000)


# --- inputs that are missing or have changed --------------------------------------------------------------------------


def test_a_missing_and_a_further_input_are_named():
    scored()
    missing = Path("rows", "site=1", "rows.parquet")
    data = missing.read_bytes()
    missing.unlink()
    assert refused() == "rows: not the same: 'site=1/rows.parquet', one of the inputs of the record, is not there."
    missing.write_bytes(data)
    missing.with_name("more.parquet").write_bytes(data)
    assert refused() == "rows: not the same: 'site=1/more.parquet' is none of the inputs of the record."


def test_an_input_that_is_cut_off_is_named_by_its_size():
    scored()
    place = Path("rows", "site=2", "rows.parquet")
    data = place.read_bytes()
    place.write_bytes(data[:-1])
    size = len(data)
    found = f"{place}: not the same: the input has {size - 1:,} bytes, where the record has {size:,}."
    assert refused() == found


def test_an_input_of_other_bytes_is_named_by_its_hash():
    path = Path(written(table_of(0), ".csv"))
    scored(path)
    text = path.read_text()
    changed = re.sub(r"(\d)\n$", lambda digit: f"{9 - int(digit[1])}\n", text)  # the last friend_points
    assert len(changed) == len(text)
    path.write_text(changed)
    assert re.match(
        r"rows\.csv: not the same: the input has the sha256 [0-9a-f]{64}, where the record has [0-9a-f]{64}\.$",
        refused(),
    )


# --- a dataset that contradicts nothing but the run -------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".arrow"])
def test_a_changed_reward_is_named_by_its_row(suffix, monkeypatch):
    monkeypatch.setattr(fragments, "BATCH", 100)
    monkeypatch.setattr(fragments, "ROW_GROUP", 400)
    path = written(table_of(0), suffix)
    scored(path)
    paid = files.read(f"paid/{path}", ("score", "rate", "reward"))
    rewards = paid["reward"].to_pylist()
    right = rewards[917]
    rewards[917] += 1
    replaced(path, paid.set_column(paid.column_names.index("reward"), "reward", pa.array(rewards, pa.int64())))
    quote = "'" if suffix == ".csv" else ""
    found, made = (f"{quote}{number}{quote}" for number in (right + 1, right))
    assert (
        refused() == f"paid/{path}: not the same: row 917, column 'reward': found {found}, where the run makes {made}."
    )


def test_missing_and_further_rows_and_columns_are_found():
    part = "site=1/rows.parquet"
    scored()
    paid = pq.ParquetFile(f"paid/{part}").read()
    for table, message in (
        (paid.slice(0, 999), "found 999 rows, where the run makes 1,000."),
        (pa.concat_tables([paid, paid.slice(0, 1)]), "found more rows than the 1,000 that the run makes."),
        (paid.drop_columns("score"), "found the columns "),
        (paid.set_column(4, "score", paid["score"].cast(pa.float32())), "column 'score': found the type float, "),
    ):
        replaced(part, table)
        assert f"paid/{part}: not the same: {message}" in refused()
    replaced(part, paid)
    assert verified()[-1].startswith("the same")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda part: part["points"].update(reward=0), "the manifest has points {'reward': 0}, where the run makes {"),
        (lambda part: part.update(nulls=0), "the manifest has nulls 0, where the run makes 1."),
        (lambda part: part.update(base=7), "the manifest has base 7, where the run makes "),
        (lambda part: part.update(rows=1001), "the manifest has rows 1001, where the run makes 1000."),
    ],
    ids=["points", "nulls", "base", "rows"],
)
def test_a_total_that_is_not_that_of_the_rows_is_found(change, message):
    scored()

    def of_a_part(manifest):
        change(manifest["parts"][1])
        parts = manifest["parts"]
        for name in ("rows", "nulls", "base"):
            manifest[name] = sum(part[name] for part in parts)
        manifest["points"]["reward"] = sum(part["points"]["reward"] for part in parts)

    forged(of_a_part)
    assert f"paid/site=1/rows.parquet: not the same: {message}" in refused()


def test_rates_a_population_parts_and_rules_that_the_run_does_not_make_are_found():
    scored()
    whole = Path("paid", "_manifest.json").read_text()

    def changed(change):
        Path("paid", "_manifest.json").write_text(whole)
        forged(change)
        return refused()

    rate = next(iter(json.loads(whole)["rates"]))
    found = changed(lambda manifest: manifest["rates"].update({rate: manifest["rates"][rate] + 1}))
    assert found == "paid: not the same: the rows of each rate are not those of its manifest."
    found = changed(lambda manifest: manifest["record"]["run"]["population"]["moments"].update(nulls=5))
    assert found == "paid: not the same: the population is not the one of the record."
    found = changed(lambda manifest: manifest["record"]["run"]["program"].update(sha256="0"))
    assert found == "paid: not the same: the program of the record has not the SHA-256 that it states."
    found = changed(lambda manifest: manifest["record"].update(run={"command": "sample", "n": 1, "seed": 0}))
    assert found == "paid: its manifest has a run of hensa sample, which makes no dataset."
    os.rename("paid/site=1/rows.parquet", "paid/site=1/other.parquet")
    found = changed(lambda manifest: manifest["parts"][1].update(file="site=1/other.parquet"))
    assert found == "paid: not the same: 'site=1/other.parquet', one of the parts of the record, is not there."


def test_a_part_that_is_not_as_the_manifest_states_is_found_first():
    scored()
    part = Path("paid", "site=1", "rows.parquet")
    part.write_bytes(part.read_bytes()[:-1] + b"2")
    assert re.match(r"paid/site=1/rows\.parquet: found the sha256 [0-9a-f]{64}, where the manifest has", refused())
    assert Manifest.load("paid").rows == 3000
