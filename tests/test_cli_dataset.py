"""`hensa score` and `hensa verify` over many files."""

import json
import os
import re

import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq
import pytest
from typer import testing as typer_testing

import hensa
from hensa import cli, terminal
from hensa.cli import dataset

PROGRAM = hensa.Program.load("hapitas-friend")


@pytest.fixture(autouse=True)
def rows(tmp_path, monkeypatch):
    """Two files of 1,000 rows."""
    monkeypatch.chdir(tmp_path)
    for seed in range(2):
        path = tmp_path / "rows" / f"site={seed}" / "rows.parquet"
        path.parent.mkdir(parents=True)
        pq.write_table(hensa.sample(1000, seed=seed).read_all(), path)


def run(*arguments, code=0):
    """What a command prints on standard output and on standard error."""
    result = typer_testing.CliRunner().invoke(cli.app, list(arguments))
    assert result.exit_code == code, result.output
    return result.stdout, " ".join(result.stderr.split())


def test_a_directory_is_scored_into_a_directory_like_in_python(tmp_path):
    _, told = run("score", "rows", "-o", "paid", "--by", "site")
    manifest = hensa.score_dataset("rows", tmp_path / "again", PROGRAM, by="site")
    assert hensa.Manifest.load("paid") == manifest
    assert told.startswith("hapitas-friend: 2,000 rows in 2 files, 0 of them null, in 2 cohorts by site measure")
    assert f"points total friend_points {manifest.base:,} reward {manifest.points['reward']:,}" in told
    _, told = run("score", "rows", "-o", "paid", "--by", "site")
    assert told.startswith("paid has the result of this very run already. hapitas-friend: 2,000 rows in 2 files")
    assert "rows/s" not in told  # no row was worked on


def test_a_file_goes_into_a_directory_that_ends_in_a_slash():
    run("score", "rows/site=0/rows.parquet", "-o", "paid/", "--columns", "reward")
    manifest = hensa.Manifest.load("paid")
    assert (manifest.rows, manifest.record.run.columns) == (1000, ("reward",))


def test_a_stored_population_is_that_of_all_files(tmp_path):
    for options in ([], ["--by", "site"]):
        run("population", "rows/site=0/rows.parquet", "-o", "p.json")
        if options:
            pq.write_table(pq.read_table("rows"), "rows.parquet")
            run("population", "rows.parquet", "-o", "p.json", "--by", "site")
            _, told = run("score", "rows", "-o", "paid", "--population", "p.json", code=2)
            assert "p.json has cohorts; it is for --by site" in told
        run("score", "rows", "-o", "paid", "--population", "p.json", "--overwrite", *options)
        stored = hensa.Population.from_json((tmp_path / "p.json").read_text())
        manifest = hensa.Manifest.load("paid")
        again = hensa.score_dataset("rows", tmp_path / "again", PROGRAM, options[1:], population=stored, overwrite=True)
        assert manifest == again


def test_another_run_needs_overwrite():
    run("score", "rows", "-o", "paid")
    _, told = run("score", "rows", "-o", "paid", "--by", "site", code=1)
    assert told.startswith("hensa: paid: it has the dataset of another run (")
    assert "--overwrite" in told
    run("score", "rows", "-o", "paid", "--by", "site", "--overwrite")
    assert hensa.Manifest.load("paid").record.run.by == ("site",)


def test_many_files_do_not_go_into_one():
    _, told = run("score", "rows", "-o", "paid.parquet", code=1)
    assert told == "hensa: rows: many files go into a directory, and paid.parquet is the name of one file."


def test_a_dry_run_shows_parts_columns_and_sizes_and_writes_nothing():
    shown, _ = run("score", "rows", "-o", "paid", "--by", "site", "--dry-run", "--threads", "1")
    words = shown.split()
    assert words[words.index("site=0/rows.parquet") + 1] == "1,000"
    assert words[words.index("ad_users") :][:4] == ["ad_users", "int32", "is", "scored"]
    assert words[words.index("reward") :][:3] == ["reward", "int64", "new"]
    size = sum(os.path.getsize(f"rows/site={seed}/rows.parquet") for seed in range(2))
    assert f"2,000 rows in 2 files of {size:,} bytes\n2 parts to write, 1 at a time" in shown
    assert os.listdir() == ["rows"]


def test_verify_makes_a_dataset_again_and_says_what_is_not_the_same(tmp_path):
    run("score", "rows", "-o", "paid")
    shown, told = run("verify", "paid")
    manifest = hensa.Manifest.load("paid")
    assert shown.splitlines()[0] == f"paid: hensa score of 2 files, run {manifest.run}"
    assert shown.splitlines()[-1] == (
        f"the same, bit for bit: 2 files, 2,000 rows, {manifest.points['reward']:,} reward"
    )
    assert told == ""
    os.rename("rows", "elsewhere")
    shown, told = run("verify", "paid", code=1)
    assert shown.splitlines()[-1].startswith("as its manifest states, byte for byte: 2 files, 2,000 rows")
    assert told == "hensa: paid: its source 'rows' is not here; name where it is with --input."
    shown, _ = run("verify", "paid", "--input", "elsewhere")
    assert shown.splitlines()[-1].startswith("the same, bit for bit")
    _, told = run("verify", "paid", "--input", "elsewhere", "--input", "p.json", code=2)
    assert "--input is given 2 times; paid was made from one source" in told
    part = tmp_path / "paid" / "site=1" / "rows.parquet"
    part.unlink()
    _, told = run("verify", "paid", code=1)
    assert told == "hensa: paid/site=1/rows.parquet: No such file or directory."


@pytest.mark.parametrize(("options", "count", "cohort"), [([], 2000, None), (["--by", "site"], 1000, {"site": 1})])
@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_a_row_of_a_part_is_explained_as_the_dataset_paid_it(tmp_path, suffix, options, count, cohort):
    for path in tmp_path.rglob("*.parquet"):
        if suffix == "csv":
            arrow_csv.write_csv(pq.ParquetFile(path).read(), path.with_suffix(".csv"))
            path.unlink()
    (tmp_path / "own.toml").write_text(PROGRAM.to_toml().replace('name = "hapitas-friend"', 'name = "own"'))
    run("score", "rows", "-o", "paid", "-p", "own.toml", *options)
    facts = json.loads(run("explain", f"paid/site=1/rows.{suffix}", "--id", "7", "--json")[0])
    assert (facts["program"], facts["count"], facts["cohort"]) == ("own", count, cohort)


def test_the_next_steps_of_a_part_are_among_all_rows_of_its_dataset(tmp_path):
    whole = pa.concat_tables([hensa.sample(1000, seed=seed).read_all() for seed in range(2)])
    expected = hensa.to_next_step(whole, PROGRAM).slice(1000)["to_next_step_new_referrals"]
    run("score", "rows", "-o", "paid")
    run("next-step", "paid/site=1/rows.parquet", "-o", "next.parquet")
    assert pq.read_table("next.parquet")["to_next_step_new_referrals"].equals(expected)
    run("score", "rows", "-o", "by-site", "--by", "site")
    _, told = run("next-step", "by-site/site=1/rows.parquet", "-o", "next.parquet", code=1)
    assert told.startswith("hensa: by-site/site=1/rows.parquet: There is no column 'site'")


def test_a_part_is_verified_with_its_dataset():
    run("score", "rows", "-o", "paid")
    for place, part, dataset_ in ((".", "paid/site=1/rows.parquet", "paid"), ("paid/site=1", "rows.parquet", "..")):
        os.chdir(place)
        _, told = run("verify", part, code=1)
        assert told == f"hensa: {part}: it is a part of the dataset {dataset_!r}, which is verified as a whole."
    os.rename("rows.parquet", "other.parquet")
    _, told = run("verify", "other.parquet", code=1)
    assert told == "hensa: other.parquet: there is no record in its metadata of how it was made."


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rows", "-o", "paid", "--memory", "much"], "'much' is no number of bytes such as 800MB or 2GiB"),
        (["-", "-o", "paid/"], "standard input is no file"),
        (["rows.parquet", "-o", "paid.parquet", "--overwrite"], "are for many files"),
    ],
)
def test_bad_usage_is_said(arguments, message):
    _, told = run("score", *arguments, code=2)
    assert message in told


@pytest.mark.parametrize(("text", "n_bytes"), [("800", 800), ("1_000kB", 10**6), ("2GB", 2 * 10**9), ("1 GiB", 2**30)])
def test_a_number_of_bytes_has_the_usual_units(text, n_bytes):
    assert dataset.bytes_of(text) == n_bytes


def test_little_memory_is_said_with_how_much_is_needed():
    _, told = run("score", "rows", "-o", "paid", "--memory", "1kB", code=1)
    assert told.startswith("hensa: memory is 1,000 bytes, and a piece of these rows may take ")


def test_an_interrupted_run_says_how_to_go_on(monkeypatch):
    follow = terminal.Run.follow

    def interrupt(self, stage, done, total):
        follow(self, stage, done, total)
        if stage == "score" and done:
            raise KeyboardInterrupt

    monkeypatch.setattr(terminal.Run, "follow", interrupt)
    _, told = run("score", "rows", "-o", "paid", "--threads", "1", code=130)
    assert told == "What is done is kept beside paid; the same command goes on from there. hensa: interrupted."
    monkeypatch.setattr(terminal.Run, "follow", follow)
    run("score", "rows", "-o", "paid")
    assert sorted(os.listdir()) == ["paid", "rows"]


def test_elsewhere_than_on_a_terminal_long_stages_tell_plain_lines(monkeypatch):
    monkeypatch.setattr(terminal, "LINE_AFTER", 1e-9)
    _, told = run("score", "rows", "-o", "paid")
    assert "score: 2,000 of 2,000 rows, " in told
    assert " rows/s, 0 s left " in told


@pytest.mark.parametrize("options", [[], ["--by", "site"], ["--columns", "score"], ["-p", "hapi-tomo"]], ids=" ".join)
def test_the_summary_of_many_files_is_that_of_one_file_with_the_same_rows(options):
    rows = pq.read_table("rows")  # with a column of the directories
    if "hapi-tomo" in options:
        rows = rows.rename_columns(["referrer_id", "cumulative_referrals", "own_points", "friend_points", "site"])
        for seed in range(2):
            own = rows.slice(1000 * seed, 1000).drop_columns("site")
            pq.write_table(own, f"rows/site={seed}/rows.parquet")
    pq.write_table(rows, "rows.parquet")
    _, of_one = run("score", "rows.parquet", "-o", "paid.parquet", *options)
    _, of_many = run("score", "rows", "-o", "paid", *options)
    of_one, of_many = (re.sub(r"[\d.]+ s \(.*", "", told) for told in (of_one, of_many))
    assert of_many.replace(" in 2 files", "") == of_one
    shown, _ = run("score", "rows.parquet", "-o", "paid.parquet", *options, "--json")
    facts, manifest = json.loads(shown), hensa.Manifest.load("paid")
    assert ("bands" in facts) == ("--columns" not in options)
    shown, told = run("score", "rows", "-o", "paid", *options, "--json")
    assert json.loads(shown) == facts | {"run": manifest.run, "parts": 2, "bytes": manifest.bytes}
    assert "has the result of this very run already" in told
    assert ("hapi-tomo pays no bonuses here: there is no column stage_before, which tells" in told) == (
        "hapi-tomo" in options
    )
