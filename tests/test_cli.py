"""The command: what lands on stdout, on stderr and in files, and the exit code."""

import csv
import gzip
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from decimal import Decimal
from fractions import Fraction
from importlib.util import find_spec
from math import floor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
import typer
from rich.cells import cell_len
from typer import testing as typer_testing

import hensa
from hensa import cli
from hensa.sample import sample
from hensa.terminal import Run, Stop, add_row, bar, console, plain_table
from hensa.totals import Totals

HENSA = [sys.executable, "-c", "from hensa.cli import main; main()"]
posix = pytest.mark.skipif(os.name != "posix", reason="signals, limits and terminals as POSIX has them")

HEADER = ["member", "new_referrals", "ad_users", "friend_points", "note"]
WORKED = [[f"{i:03}", "10", "7", str(1000 + i), "a, b"] for i in range(99)] + [["099", "5000", "7", "100000", ""]]
# The domain's worked example: 99 members with 10 newcomers are on step 49 (9.8%), the one with 5000 on step 54, which
# by the straight line from (50, 10.0%) to (81, 41.1%), rounded half up to 0.1%, pays
STEP_54 = Fraction(floor((10 + Fraction(311, 10) * 4 / 31) * 10 + Fraction(1, 2)), 1000)
RATES = [Fraction(98, 1000)] * 99 + [STEP_54]
REWARDS = [floor(int(row[3]) * rate) for row, rate in zip(WORKED, RATES, strict=True)]

PROGRAM = """
name = "three"
[rule]
kind = "standard-score"
measures = [{ column = "x" }]
[rates]
steps = [[0, 0.1], [50, 10.0], [100, 45.0]]
[reward]
base = "cents"
"""


def hensa_command(*args):
    """Run the command in this process."""
    return typer_testing.CliRunner().invoke(cli.app, [str(arg) for arg in args])


def run(*args, **options):
    """Run the command as a process of its own."""
    return subprocess.run([*HENSA, *map(str, args)], capture_output=True, timeout=120, **options)


def write_csv(path, rows, header=HEADER):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])
    return path


def read_csv(path):
    with path.open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    return header, rows


@pytest.fixture
def worked(tmp_path):
    return write_csv(tmp_path / "worked.csv", WORKED)


@pytest.fixture
def program(tmp_path):
    path = tmp_path / "three.toml"
    path.write_text(PROGRAM)
    return path


def fails(result, code=1):
    """The one sentence of a failed run."""
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("hensa: ")
    return result.stderr.removeprefix("hensa: ")


# --- score ------------------------------------------------------------------------------------------------------------


def test_the_worked_example_is_paid_as_stated(worked, tmp_path):
    assert hensa_command("score", worked, "-o", tmp_path / "paid.parquet").exit_code == 0
    paid = pq.read_table(tmp_path / "paid.parquet")
    assert paid["rate"].to_pylist() == [float(rate) for rate in RATES]
    assert paid["reward"].to_pylist() == REWARDS
    assert 54.97 < paid["score"][99].as_py() < 54.98


def test_own_columns_pass_through_csv_unchanged(worked, tmp_path):
    assert hensa_command("score", worked, "-o", tmp_path / "paid.csv").exit_code == 0
    header, rows = read_csv(tmp_path / "paid.csv")
    assert header == [*HEADER, "score", "rate", "reward"]
    assert [row[:5] for row in rows] == WORKED
    assert [int(row[7]) for row in rows] == REWARDS


def test_text_that_only_looks_like_numbers_stays_text_and_plain_integers_become_integers(program, tmp_path):
    rows = [["007", "NA", "12", "1.50", "", "1", "100"], ["7", "", "-3", "2", "", "3", "200"]]
    source = write_csv(tmp_path / "in.csv", rows, ["padded", "word", "whole", "price", "blank", "x", "cents"])
    hensa_command("score", source, "-o", tmp_path / "out.csv", "-p", program)
    assert [row[:7] for row in read_csv(tmp_path / "out.csv")[1]] == rows
    hensa_command("score", source, "-o", tmp_path / "out.parquet", "-p", program)
    paid = pq.read_table(tmp_path / "out.parquet")
    assert paid["padded"].to_pylist() == ["007", "7"]
    assert paid["word"].to_pylist() == ["NA", None]
    assert paid["whole"].to_pylist() == [12, -3]
    assert paid["price"].to_pylist() == ["1.50", "2"]


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".parquet", ".arrow", ".arrows", ".feather", ".PARQUET"])
def test_every_format_carries_the_same_rows_and_results(tmp_path, suffix):
    rows = sample(1000, 3).read_all()
    source, first, second = tmp_path / f"in{suffix}", tmp_path / "first.parquet", tmp_path / f"out{suffix}"
    assert hensa_command("sample", "-n", "1_000", "--seed", "3", "-o", source).exit_code == 0
    assert hensa_command("score", source, "-o", first).exit_code == 0
    assert hensa_command("score", source, "-o", second).exit_code == 0
    expected = hensa.score(rows, hensa.Program.load("hapitas-friend"))
    assert pq.read_table(first).to_pylist() == expected.to_pylist()
    if suffix == ".csv.gz":
        lines = gzip.decompress(second.read_bytes()).decode().splitlines()
    elif suffix == ".csv":
        lines = second.read_text().splitlines()
    else:
        reads = {".parquet": pq.read_table, ".arrows": lambda path: pa.ipc.open_stream(path.read_bytes()).read_all()}
        assert reads.get(suffix.lower(), feather.read_table)(second).equals(expected)
        assert hensa_command("verify", second).exit_code == 0
        return
    assert [float(line.split(",")[4]) for line in lines[1:]] == expected["score"].to_pylist()


def test_columns_chooses_the_results_and_their_order(worked, tmp_path):
    out = tmp_path / "out.parquet"
    result = hensa_command("score", worked, "-o", out, "--columns", "step, ad_users_score")
    assert result.exit_code == 0
    assert pq.read_schema(out).names == [*HEADER, "step", "ad_users_score"]
    assert pq.read_table(out)["step"].to_pylist() == [49] * 99 + [54]
    assert "rate" not in result.stderr
    assert "reward" not in result.stderr


def test_a_program_without_reward_gives_score_and_rate(tmp_path):
    program = tmp_path / "p.toml"
    program.write_text(PROGRAM.split("[reward]")[0])
    source = write_csv(tmp_path / "in.csv", [["1"], ["3"]], ["x"])
    assert hensa_command("score", source, "-o", tmp_path / "out.parquet", "-p", program).exit_code == 0
    # Mean 2 and SD 1: the scores are 49 and 51.
    assert pq.read_table(tmp_path / "out.parquet").to_pylist() == [
        {"x": 1, "score": 49.0, "rate": 0.001},
        {"x": 3, "score": 51.0, "rate": 0.1},
    ]


def test_the_threads_do_not_change_a_byte(tmp_path):
    hensa_command("sample", "-n", "200_000", "-o", tmp_path / "in.parquet")
    outputs = [tmp_path / f"{threads}.parquet" for threads in (1, 2, 5)]
    for threads, output in zip((1, 2, 5), outputs, strict=True):
        hensa_command("score", tmp_path / "in.parquet", "-o", output, "--threads", threads)
    assert len({output.read_bytes() for output in outputs}) == 1


def test_whole_numbers_may_have_a_point_as_pandas_writes_them(program, tmp_path):
    # 2^53 + 1, which no float64 is; mean 2 and SD 1, so the second row is paid 10%
    rows = [["1.0", "9007199254740993.0"], ["3.", "+250.00"], ["", ""]]
    source = write_csv(tmp_path / "in.csv", rows, ["x", "cents"])
    result = hensa_command("score", source, "-o", tmp_path / "out.parquet", "-p", program)
    assert result.exit_code == 0, result.stderr
    paid = pq.read_table(tmp_path / "out.parquet")
    assert (paid.schema.field("x").type, paid.schema.field("cents").type) == (pa.int64(), pa.int64())
    assert paid["cents"].to_pylist() == [9007199254740993, 250, None]
    assert paid["reward"].to_pylist() == [9007199254740, 25, None]  # floor(9007199254740993 * 0.001)
    assert hensa_command("verify", tmp_path / "out.parquet").exit_code == 0


def test_counts_may_have_a_point_too(tmp_path):
    source = tmp_path / "in.csv"
    source.write_text("registrations,first_valid_ads\n3.0,1.0\n,2.0\n")
    hensa_command("score", source, "-o", tmp_path / "out.csv", "-p", "share-hapi", "--columns", "reward")
    assert (tmp_path / "out.csv").read_text().splitlines()[1:] == ["3,1,400", ",2,"]


@pytest.mark.parametrize(
    ("cell", "sentence"),
    [
        ("10.5", "'10.5' is not a whole number, such as 10 or 10.0"),
        ("10.00000000000000000001", "'10.00000000000000000001' is not a whole number, such as 10 or 10.0"),
        ("1e3", "'1e3' is not a whole number, such as 10 or 10.0"),
        ("9223372036854775808.0", "'9223372036854775808.0' is an integer beyond int64"),
    ],
)
def test_a_base_that_is_not_whole_is_named_with_its_line(program, tmp_path, cell, sentence):
    source = write_csv(tmp_path / "in.csv", [["1", "7.0"], ["2.5", "8.0"], ["3", cell]], ["x", "cents"])
    (tmp_path / "rows").mkdir()
    shutil.copy(source, tmp_path / "rows" / "in.csv")
    for path, out in ((source, "out.csv"), (tmp_path / "rows", "out")):
        result = hensa_command("score", path, "-o", tmp_path / out, "-p", program)
        assert (result.exit_code, result.stdout) == (1, "")
        assert f"in.csv: line 4, column cents: {sentence}." in result.stderr
        assert not (tmp_path / out).exists()
    only_scores = hensa_command("score", source, "-o", tmp_path / "out.csv", "-p", program, "--columns", "score")
    assert only_scores.exit_code == 0


def test_a_language_that_there_is_not_is_told_in_plain_words(worked):
    result = hensa_command("explain", worked, "--id", "1", "--lang", "de")
    assert result.exit_code == 2
    assert "Invalid value for '--lang': 'de' is not one of 'en', 'ja'" in result.stderr


@pytest.mark.parametrize(("number", "sentence"), [("a", "whole number|integer"), ("0", "at least 1|x>=1")])
def test_a_number_of_threads_that_is_none_is_told_in_plain_words(worked, tmp_path, number, sentence):
    result = hensa_command("score", worked, "-o", tmp_path / "out.csv", "--threads", number)
    assert result.exit_code == 2
    assert re.search(f"Invalid value for '--threads': .*({sentence})", result.stderr)
    assert not re.search("Value error|Input should", result.stderr)


def test_a_program_where_an_event_is_wanted_is_told(worked, program, tmp_path):
    message = fails(hensa_command("rank", worked, "-o", tmp_path / "out.csv", "-e", program))
    assert message.startswith(f"{program}: found a program, which hensa score takes")


@pytest.mark.parametrize("suffix", ["csv", "csv.gz"])
def test_an_error_in_a_row_of_a_csv_file_names_its_line_too(program, tmp_path, suffix):
    # Row 2 ends on line 6: a header, two rows, of which one is over two lines, and an empty line come before it.
    path = tmp_path / f"in.{suffix}"
    with (gzip.open if suffix.endswith("gz") else open)(path, "wt") as file:
        file.write('x,cents,note\n1,10,"two\nlines"\n2,10,row 0\n\n-2,10,\n1,1,\n')
    program.write_text(PROGRAM.replace("[{ column", '[{ negative = "error", column'))
    message = fails(hensa_command("score", path, "-o", tmp_path / "out.csv", "-p", program))
    assert "Column 'x' is -2 in row 2 (line 6); it must be 0 or more" in message


def test_rows_with_an_empty_cell_are_null_and_counted(program, tmp_path):
    source = write_csv(tmp_path / "in.csv", [["1", "10"], ["", "20"], ["3", ""], ["3", "40"]], ["x", "cents"])
    result = hensa_command("score", source, "-o", tmp_path / "out.csv", "-p", program)
    assert "4 rows, 2 of them null" in result.stderr
    assert re.search(r"cents +50\b", result.stderr)  # 10 and 40
    assert re.search(r"reward +4\b", result.stderr)  # floor(10 * 0.001) + floor(40 * 0.1)
    assert read_csv(tmp_path / "out.csv")[1] == [
        ["1", "10", "49", "0.001", "0"],
        ["", "20", "", "", ""],
        ["3", "", "", "", ""],
        ["3", "40", "51", "0.1", "4"],
    ]


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".arrow", ".arrows"])
def test_no_rows_are_scored_to_no_rows(tmp_path, suffix):
    source, output = tmp_path / f"in{suffix}", tmp_path / "out.parquet"
    assert hensa_command("sample", "-n", 0, "-o", source).exit_code == 0
    result = hensa_command("score", source, "-o", output)
    assert result.exit_code == 0
    assert "0 rows, 0 of them null" in result.stderr
    assert pq.read_table(output).num_rows == 0
    assert pq.read_schema(output).names[-3:] == ["score", "rate", "reward"]


def test_rows_that_are_all_null_are_scored_to_nulls(program, tmp_path):
    source = write_csv(tmp_path / "in.csv", [["", "1"], ["", "2"]], ["x", "cents"])
    result = hensa_command("score", source, "-o", tmp_path / "out.parquet", "-p", program)
    assert "2 rows, 2 of them null" in result.stderr
    assert pq.read_table(tmp_path / "out.parquet")["reward"].to_pylist() == [None, None]


def test_the_summary_tells_moments_bands_and_totals_in_80_columns(worked, tmp_path):
    result = hensa_command("score", worked, "-o", tmp_path / "out.csv")
    assert result.stdout == ""
    summary = result.stderr
    # Mean (99 * 10 + 5000) / 100; SD (5000 - 10) * sqrt(99) / 100.
    assert re.search(r"^new_referrals +59\.9 +496\.498\d* +exact *$", summary, re.M)
    assert re.search(r"^ad_users +7 +0 +exact *$", summary, re.M)
    assert re.search(r"^8% to 9.8% +99 +99.00% *$", summary, re.M)
    assert re.search(r"^10% to 19% +1 +1.00% *$", summary, re.M)
    assert re.search(rf"^friend_points +{sum(int(row[3]) for row in WORKED):,}$", summary, re.M)
    assert re.search(rf"^reward +{sum(REWARDS):,}$", summary, re.M)
    assert re.search(r"^[\d.]+ s \(read .*, score .*, write .*\), [\d,]+ rows/s$", summary, re.M)
    assert max(map(len, summary.splitlines())) <= 80
    assert "\x1b" not in summary


def test_totals_beyond_int64_are_exact(program, tmp_path):
    cents = [2**62, 2**62, 2**62 + 1]
    rows = [[str(x), str(cent)] for x, cent in zip((1, 1, 4), cents, strict=True)]
    source = write_csv(tmp_path / "in.csv", rows, ["x", "cents"])
    result = hensa_command("score", source, "-o", tmp_path / "out.csv", "-p", program)
    assert re.search(rf"cents +{sum(cents):,}", result.stderr)


@pytest.mark.parametrize("type_", [pa.decimal32(9, 2), pa.decimal64(9, 2), pa.decimal128(38, 2)], ids=str)
def test_decimal_bases_are_totalled(program, tmp_path, type_):
    rows = pa.table({"x": [1, 3], "cents": pa.array([Decimal(150), Decimal(250)], type_)})
    feather.write_feather(rows, tmp_path / "in.arrow")
    result = hensa_command("score", tmp_path / "in.arrow", "-o", tmp_path / "out.csv", "-p", program)
    assert result.exit_code == 0
    assert re.search(r"cents +400\.00", result.stderr)
    assert re.search(r"reward +25\b", result.stderr)  # floor(150 * 0.001) + 250 * 0.1


def test_totals_beyond_38_digits_are_exact(program, tmp_path):
    cents = pa.array([Decimal("9" * 38)] * 2, pa.decimal128(38, 0))
    feather.write_feather(pa.table({"x": [1, 3], "cents": cents}), tmp_path / "in.arrow")
    capped = program.with_name("capped.toml")
    capped.write_text(f"{PROGRAM}cap = 5\n")
    result = hensa_command("score", tmp_path / "in.arrow", "-o", tmp_path / "out.csv", "-p", capped)
    assert re.search(rf"cents +{2 * (10**38 - 1):,}", result.stderr)


def test_a_stored_population_replaces_the_rows_own(program, tmp_path):
    month = write_csv(tmp_path / "month.csv", [["1", "0"], ["3", "0"]], ["x", "cents"])
    later = write_csv(tmp_path / "later.csv", [["3", "100"], ["3", "100"]], ["x", "cents"])
    stored, out = tmp_path / "month.json", tmp_path / "out.parquet"
    assert hensa_command("population", month, "-o", stored, "-p", program).exit_code == 0
    assert hensa_command("score", later, "-o", out, "-p", program, "--population", stored).exit_code == 0
    assert pq.read_table(out)["score"].to_pylist() == [51.0, 51.0]


MONTHS = [["1", "a", "1", "100"], ["3", "a", "2", "100"], ["7", "b", "2", "100"], ["9", "b", "1", "100"]]


def test_each_cohort_is_scored_by_itself(program, tmp_path):
    source, out = write_csv(tmp_path / "in.csv", MONTHS, ["x", "site", "month", "cents"]), tmp_path / "out.parquet"
    result = hensa_command("score", source, "-o", out, "-p", program, "--by", "site")
    # In each site the mean is the middle and the SD 1.
    assert pq.read_table(out)["score"].to_pylist() == [49.0, 51.0, 49.0, 51.0]
    assert result.stderr.startswith("three: 4 rows, 0 of them null, in 2 cohorts by site\n")
    result = hensa_command("score", source, "-o", out, "-p", program, "--by", "site", "--by", "month")
    # A cohort of one row has SD 0, which adds the centre.
    assert pq.read_table(out)["score"].to_pylist() == [50.0] * 4
    assert "in 4 cohorts by site, month\n" in result.stderr


def test_a_stored_population_with_cohorts_gives_the_same(program, tmp_path):
    source = write_csv(tmp_path / "in.csv", MONTHS, ["x", "site", "month", "cents"])
    stored, outs = tmp_path / "p.json", [tmp_path / "own.csv", tmp_path / "stored.csv"]
    result = hensa_command("population", source, "-o", stored, "-p", program, "--by", "month")
    assert "4 rows, 0 of them null, in 2 cohorts by month\n" in result.stderr
    assert list(hensa.Population.from_json(stored.read_text()).cohorts) == [(1,), (2,)]
    hensa_command("score", source, "-o", outs[0], "-p", program, "--by", "month")
    hensa_command("score", source, "-o", outs[1], "-p", program, "--by", "month", "--population", stored)
    assert outs[0].read_text() == outs[1].read_text()


@pytest.mark.parametrize(
    "args",
    [("score", "-o", "out.csv"), ("next-step", "-o", "out.csv"), ("explain", "--id", "1", "--id-column", "month")],
    ids=lambda args: args[0],
)
def test_a_stored_population_with_cohorts_is_refused_without_by(program, tmp_path, monkeypatch, args):
    monkeypatch.chdir(tmp_path)
    write_csv(tmp_path / "in.csv", MONTHS, ["x", "site", "month", "cents"])
    hensa_command("population", "in.csv", "-o", "p.json", "-p", program, "--by", "month", "--by", "site")
    command, *others = args
    result = hensa_command(command, "in.csv", *others, "-p", program, "--population", "p.json")
    assert result.exit_code == 2
    assert "p.json has cohorts; it is for --by month --by site" in " ".join(result.stderr.split())
    assert not Path("out.csv").exists()


# --- the summary as JSON ----------------------------------------------------------------------------------------------


def test_the_summary_of_score_is_data_on_stdout(program, tmp_path):
    # x is 1, 3 and null: the mean is 2 and the SD 1, so the scores are 49 and 51, of the steps from 0 and from 50.
    source = write_csv(tmp_path / "in.csv", [["1", "150"], ["3", "250"], ["", "7"]], ["x", "cents"])
    result = hensa_command("score", source, "-o", tmp_path / "out.csv", "-p", program, "--json")
    assert json.loads(result.stdout) == {
        "program": "three",
        "rows": 3,
        "nulls": 1,
        "measures": {"x": {"mean": 2.0, "sd": 1.0, "moments": "exact"}},
        "bands": [
            {"from": 0.001, "to": 0.001, "rows": 1},
            {"from": 0.1, "to": 0.1, "rows": 1},
            {"from": 0.45, "to": 0.45, "rows": 0},
        ],
        "totals": {"cents": 400, "reward": 25},  # floor(150 * 0.001) + 250 * 0.1
    }
    assert re.fullmatch(r"[\d.]+ s \(.* rows/s\n", result.stderr)


def test_the_summary_names_cohorts_has_no_nan_and_keeps_the_digits_of_decimals(program, tmp_path):
    cents = pa.array([Decimal("0.10"), Decimal("0.20")], pa.decimal128(38, 2))
    rows = pa.table({"x": pa.nulls(2, pa.int64()), "site": ["a", "b"], "cents": cents})
    feather.write_feather(rows, tmp_path / "in.arrow")
    result = hensa_command(
        "score", tmp_path / "in.arrow", "-o", tmp_path / "out.csv", "-p", program, "--json", "--by", "site"
    )
    found = json.loads(result.stdout, parse_constant=pytest.fail)
    assert (found["by"], found["cohorts"], found["measures"]["x"]["mean"]) == (["site"], 2, None)
    rows = rows.set_column(0, "x", pa.array([1, 3]))
    feather.write_feather(rows, tmp_path / "in.arrow")
    result = hensa_command("score", tmp_path / "in.arrow", "-o", tmp_path / "out.csv", "-p", program, "--json")
    assert json.loads(result.stdout)["totals"]["cents"] == "0.30"


def test_json_and_rows_do_not_both_go_to_stdout(program, tmp_path):
    source = write_csv(tmp_path / "in.csv", [["1", "0"]], ["x", "cents"])
    result = hensa_command("score", source, "-o", "-", "-p", program, "--json")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--json and the rows both want standard output" in " ".join(result.stderr.split())


# --- population -------------------------------------------------------------------------------------------------------


def test_population_prints_json_that_loses_nothing_on_stdout(worked):
    result = hensa_command("population", worked)
    taken = hensa.Population.from_json(result.stdout)
    assert taken.count == 100
    assert taken["new_referrals"].mean_exact == Fraction(599, 10)
    assert taken["new_referrals"].variance_exact == Fraction(4990**2 * 99, 100**2)
    assert re.search(r"new_referrals +59\.9", result.stderr)


def test_population_takes_the_method_asked_for(worked, tmp_path):
    out = tmp_path / "population.json"
    result = hensa_command("population", worked, "-o", out, "--method", "welford")
    assert result.stdout == ""
    assert hensa.Population.from_json(out.read_text())["ad_users"].method == "welford"


# --- sample, programs, version ----------------------------------------------------------------------------------------


def test_sample_writes_the_seeded_rows(tmp_path):
    result = hensa_command("sample", "-n", "3_000", "-o", tmp_path / "s.parquet", "--seed", "9")
    assert result.stdout == ""
    assert "3,000 rows" in result.stderr
    assert pq.read_table(tmp_path / "s.parquet").equals(sample(3000, 9).read_all())


def test_parquet_is_compressed_dictionary_encoded_and_in_row_groups_of_a_million(tmp_path):
    rows = 2**20 + 1
    hensa_command("sample", "-n", rows, "-o", tmp_path / "s.parquet")
    hensa_command("score", tmp_path / "s.parquet", "-o", tmp_path / "p.parquet")
    metadata = pq.read_metadata(tmp_path / "p.parquet")
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [2**20, 1]
    rate = metadata.row_group(0).column(metadata.schema.names.index("rate"))
    assert rate.compression == "ZSTD"
    assert "RLE_DICTIONARY" in rate.encodings


def test_programs_lists_the_built_in_programs():
    result = hensa_command("programs", "list")
    assert [line.split("\t")[0] for line in result.stdout.splitlines()] == list(hensa.Program.names())
    assert result.stderr == ""


def test_show_prints_ranges_of_steps_with_their_standing():
    lines = hensa_command("programs", "show", "hapitas-friend").stdout.splitlines()
    assert [re.split(r"  +", line) for line in lines[lines.index("") + 1 :]] == [
        ["score from", "rate"],
        ["0", "0.1% [public]"],
        ["1 to 48", "0.2% to 9.6%, +0.2 a step [reconstructed]"],
        ["49", "9.8% [stated]"],
        ["50", "10.0% [stated]"],
        ["51 to 80", "11.0% to 40.1%, +1.0 or +1.1 a step [reconstructed]"],
        ["81 to 99", "41.1% to 42.9%, +0.1 a step [public]"],
        ["100", "45.0% [stated]"],
    ]


def test_show_marks_the_standing_of_every_part():
    program = hensa.Program.load("hapitas-friend")
    lines = hensa_command("programs", "show", "hapitas-friend").stdout.splitlines()
    shown = {line.split()[0]: line for line in lines if " " in line}
    for key, standing in program.standing.items():
        assert shown[key].endswith(f"[{standing}]")
    assert "[" not in shown["rates.outside"]


def test_show_says_which_negative_values_are_errors(tmp_path):
    path = tmp_path / "p.toml"
    counts = PROGRAM.replace('column = "x"', 'column = "x", negative = "error"')
    path.write_text(f'{counts}negative = "error"\n')
    lines = hensa_command("programs", "show", path).stdout.splitlines()
    shown = {line[:16].strip(): line[17:] for line in lines}
    assert shown["rule.measures"] == "x (weight 1, negative: error)"
    assert shown["reward.negative"] == "error"


def test_show_keeps_steps_apart_that_are_not_on_a_line(program):
    lines = hensa_command("programs", "show", program).stdout.splitlines()
    assert [line.split() for line in lines[-3:]] == [["0", "0.1%"], ["50", "10.0%"], ["100", "45.0%"]]


def test_check_tells_a_valid_program_from_an_invalid_one(program, tmp_path):
    result = hensa_command("programs", "check", program)
    assert (result.exit_code, result.stderr) == (0, "")
    assert "three is valid, with 1 measure and 3 steps" in result.stdout
    broken = tmp_path / "broken.toml"
    broken.write_text(PROGRAM.replace("[50, 10.0]", "[50, 101]"))
    message = fails(hensa_command("programs", "check", broken))
    assert message.startswith(str(broken))
    assert "101" in message


def test_version_names_hensa_its_kernel_and_what_it_runs_on():
    words = hensa_command("--version").stdout
    for part in (hensa.__version__, hensa.kernels.name, "Python", pa.__version__, np.__version__):
        assert part in words


# --- pipes and terminals ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["string_view", "categories of views"])
def test_arrow_files_with_views_of_texts_such_as_polars_writes_are_scored_verified_and_reported(
    tmp_path, monkeypatch, kind
):
    pytest.importorskip("altair")
    texts = pa.array(["ä", "b, c"] * 50, pa.string_view())
    if kind != "string_view":
        texts = pa.DictionaryArray.from_arrays(pa.array([0, 1] * 50, pa.uint32()), texts[:2])
    rows = sample(100, seed=1).read_all().append_column("site", texts)
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    with pa.ipc.new_file("a.arrow", rows.schema) as file:
        file.write_table(rows)
    shutil.copy("a.arrow", "in")
    expected = hensa.score(rows, hensa.Program.load("hapitas-friend"), by="site")["reward"]
    for source, scored in (("a.arrow", "out.parquet"), ("a.arrow", "out.arrow"), ("in", "out")):
        assert hensa_command("score", source, "-o", scored, "--by", "site").exit_code == 0
        assert hensa_command("verify", scored).exit_code == 0
        assert hensa_command("report", scored, "-o", f"{scored}.html").exit_code == 0
    assert pq.read_table("out.parquet")["reward"].equals(expected)
    for path in ("out.arrow", "out/a.arrow"):
        assert feather.read_table(path)["reward"].equals(expected)


def test_arrow_streams_go_through_stdin_and_stdout():
    rows = run("sample", "-n", 1000, "-o", "-")
    paid = run("score", "-", "-o", "-", input=rows.stdout)
    assert (rows.returncode, paid.returncode) == (0, 0)
    expected = hensa.score(sample(1000).read_all(), hensa.Program.load("hapitas-friend"))
    assert pa.ipc.open_stream(paid.stdout).read_all().equals(expected)
    assert b"1,000 rows, 0 of them null" in paid.stderr
    assert b"\x1b" not in paid.stderr


@posix
@pytest.mark.parametrize(("output", "code"), [("paid.csv", 0), ("-", 1)])
def test_a_run_whose_messages_nobody_reads_succeeds_and_one_whose_rows_nobody_reads_fails(
    worked, tmp_path, output, code
):
    ours, theirs = os.pipe()
    os.close(ours)
    args = [*HENSA, "score", str(worked), "-o"]
    done = subprocess.run([*args, output], cwd=tmp_path, stdout=theirs, stderr=theirs, timeout=60)
    os.close(theirs)
    assert done.returncode == code
    if output != "-":
        subprocess.run([*args, "read.csv"], cwd=tmp_path, check=True, capture_output=True, timeout=60)
        assert (tmp_path / output).read_bytes() == (tmp_path / "read.csv").read_bytes()


def on_terminal(*args, columns=80, command=HENSA, code=0):
    """What a terminal of some columns is sent."""
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR")}
    process = subprocess.Popen(
        [*command, *map(str, args)],
        stdout=theirs,
        stderr=theirs,
        env={**environment, "TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8"},
    )
    os.close(theirs)
    seen = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # Linux says so when the other end is closed
            break
        if not part:
            break
        seen += part
    os.close(ours)
    assert process.wait(60) == code
    return seen.decode()


def lines_of(seen):
    """The lines without colours; what replaces itself, such as a bar of progress, is left out."""
    lines = seen.replace("\r\n", "\n").split("\n")
    return [re.sub(r"\x1b\[[\d;]*m", "", line) for line in lines if not re.search(r"\r|\x1b\[[^m]*[A-Zhl]", line)]


@posix
def test_a_terminal_sees_a_bar_and_small_bars_in_the_summary(tmp_path):
    hensa_command("sample", "-n", "10_000", "-o", tmp_path / "in.parquet")
    seen = on_terminal("score", tmp_path / "in.parquet", "-o", tmp_path / "out.parquet")
    assert "━" in seen
    most = max(lines_of(seen), key=lambda line: line.count("█"))
    assert re.fullmatch(r"8% to 9\.8% +[\d,]+ +[\d.]+%  █{24}", most)


def write_runs(folder):
    """Two runs of a month: of four members one gets 1,000 more, one 500 less, and one is missing after."""
    before = write_csv(
        folder / "before.csv", [["1", "0"], ["2", "700"], ["3", "9"], ["4", "5"]], ["referrer_id", "reward"]
    )
    return before, write_csv(folder / "after.csv", [["1", "1000"], ["2", "200"], ["3", "9"]], ["referrer_id", "reward"])


@posix
def test_a_terminal_sees_bars_of_what_a_restatement_changes(tmp_path):
    seen = on_terminal("restate", *write_runs(tmp_path), "-o", tmp_path / "due.csv")
    bars = {tuple(line.split()[:-1]): line.count("█") for line in lines_of(seen) if "█" in line}
    assert bars == {
        ("underpaid", "1", "+1,000"): 24,
        ("overpaid", "1", "-500"): 12,
        ("due", "(top_up)", "1", "+1,000"): 24,
    }
    assert "\x1b[38;5;166m-500\x1b" in seen


@posix
def test_a_terminal_sees_how_far_a_row_is_above_or_below_the_mean(tmp_path):
    # Means 2 and 10, SDs 1 and 10: the row is one SD above the one and one below the other.
    source = tmp_path / "in.csv"
    source.write_text("\n".join(["referrer_id,new_referrals,ad_users,friend_points", "7,3,0,9", "8,1,20,9", ""]))
    lines = lines_of(on_terminal("explain", source, "--id", "7"))
    assert [line.rstrip() for line in lines if "█" in line] == [
        "New referrals  +1.0000              ████████████",
        "Ad users       -1.0000  ████████████",
    ]
    assert "█" not in hensa_command("explain", source, "--id", "7").output


@posix
@pytest.mark.parametrize(
    ("program", "columns", "row", "bars"),
    [
        ("hapi-tomo", "cumulative_referrals,own_points,friend_points", "10,0,9", ["Friends     4  ████████████"]),
        (
            "share-hapi",
            "registrations,first_valid_ads,x",
            "4,1,9",
            ["Registrations    400  ████████████████████████", "First valid ads  100  ██████"],
        ),
    ],
)
def test_a_terminal_sees_a_bar_of_each_criterion_and_event(tmp_path, program, columns, row, bars):
    source = tmp_path / "in.csv"
    source.write_text(f"referrer_id,{columns}\n7,{row}\n")
    lines = lines_of(on_terminal("explain", source, "--id", "7", "-p", program))
    assert [line.rstrip() for line in lines if "█" in line] == bars


@posix
def test_no_line_is_wider_than_the_terminal(tmp_path):
    hensa_command("sample", "-n", "2000", "-o", tmp_path / "in.parquet")
    for args in (
        ("score", tmp_path / "in.parquet", "-o", tmp_path / "out.parquet"),
        ("restate", *write_runs(tmp_path), "-o", tmp_path / "due.csv"),
    ):
        assert 50 < max(cell_len(line) for line in lines_of(on_terminal(*args))) <= 80


WIDE = {
    "found": (
        ["unjudged_entries", "54,433", "valid ad entries without judged_at: kept (such as entry 1234567890123)"],
        1,
    ),
    "rate": (["8% to 9.8%", "1,234,567", "12.34%"], 2),
    "rows": (["10 to 99", "1,234,567", "7,654,321", "1,111,111", "+123,456,789", "-987,654,321"], 5),
    "part": (["month=2019-10/site=example/part-00000.parquet", "1,234,567", "123,456,789"], 2),
    "column": (
        ["referrer_id", "dictionary<values=string, indices=int32, ordered=0>", "in the names of directories"],
        0,
    ),
}


@pytest.mark.parametrize("bars", [False, True], ids=["plain", "bars"])
@pytest.mark.parametrize("columns", [20, 40, 80, 200])
@pytest.mark.parametrize("heading", WIDE)
def test_no_table_cuts_off_a_number_or_loses_a_letter(monkeypatch, capsys, heading, columns, bars):
    cells, numbers = WIDE[heading]
    headings = [heading, *["x"] * (len(cells) - 1)]
    table = plain_table(*headings, numbers=numbers, bars=bars)
    add_row(table, *cells, bar=bar(1, 1))
    monkeypatch.setattr(console, "width", columns)
    console.print(table)
    printed = capsys.readouterr().err
    assert set(cells[1 : numbers + 1]) <= set(printed.split())
    assert Counter(re.sub("[ \n█]", "", printed)) == Counter("".join([*headings, *cells]).replace(" ", ""))
    if columns == 80 or (heading == "found" and columns == 40):
        assert cells[0] in printed
        assert max(map(cell_len, printed.splitlines())) <= columns


@posix
def test_what_is_found_in_messy_input_fits_a_terminal(tmp_path):
    pytest.importorskip("duckdb")
    members, passbook = tmp_path / "members.csv", tmp_path / "passbook.csv"
    members.write_text("member_id,referrer_id,registered_at\n1,1,2019-01-01\n2,1,2019-01-01\n2,1,2019-01-01\n")
    header = "member_id,kind,points,status,used_at,judged_at\n"
    entry = "2,ad,100,valid,2019-10-02,\n"
    passbook.write_text(header + entry + "2,ad,100,valid,2019-11-02,2019-11-03\n")
    args = "rows", "--members", members, "--passbook", passbook, "--month", "2019-10", "-o", tmp_path / "rows.csv"
    names = re.findall(r"^(\w+_\w+) +1  ", hensa_command(*args).stderr, re.M)
    assert {"unjudged_entries", "duplicate_members", "self_referrals"} <= set(names)
    for columns in (80, 40):
        lines = lines_of(on_terminal(*args, columns=columns))
        assert names == [line.split()[0] for line in lines if re.match(r"\w+_\w+ +1  ", line)]


@posix
@pytest.mark.parametrize("lang", ["en", "ja"])
def test_an_explanation_on_a_terminal_has_whole_lines_to_be_copied(tmp_path, lang):
    hensa_command("sample", "-n", "2000", "-o", tmp_path / "in.parquet")
    args = "explain", tmp_path / "in.parquet", "--id", "1", "--lang", lang
    piped = hensa_command(*args).stdout.splitlines()
    assert lines_of(on_terminal(*args))[: len(piped)] == piped


@posix
def test_colour_tells_gains_from_losses_and_so_do_their_signs(tmp_path, program):
    other = program.with_name("four.toml")
    other.write_text(program.read_text().replace('"three"', '"four"').replace("[50, 10.0]", "[50, 5.0]"))
    source = write_csv(tmp_path / "in.csv", [["1", "1000"], ["3", "1000"]], ["x", "cents"])
    args = "compare", source, "-p", program, "-p", other
    seen = on_terminal(*args)
    assert "\x1b[38;5;166m-50\x1b" in seen  # 5% instead of 10% of 1000
    assert "\x1b[38;5;32m+50\x1b" in on_terminal(*args[:2], "-p", other, "-p", program)
    piped = hensa_command(*args)
    assert "-50" in piped.stdout
    assert "\x1b" not in piped.output


@posix
@pytest.mark.parametrize("args", [("score", "-", "-o", "x.csv"), ("score", "x.csv", "-o", "-")])
def test_binary_data_is_neither_read_from_nor_written_to_a_terminal(args):
    import pty

    ours, theirs = pty.openpty()
    done = subprocess.run([*HENSA, *args], stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, timeout=60)
    os.close(theirs)
    os.close(ours)
    assert done.returncode == 2
    assert b"is a terminal" in done.stderr


@pytest.mark.parametrize("group", [(), ("programs",)], ids=" ".join)
def test_help_lists_every_command_in_a_whole_sentence(group):
    shown = typer_testing.CliRunner(env={"TERMINAL_WIDTH": "80"}).invoke(cli.app, [*group, "--help"])
    commands = shown.stdout.split("Commands:\n")[1].splitlines()
    assert all(line.endswith(".") and not line.endswith("...") for line in commands)


def test_help_explains_every_argument_and_option():
    def unexplained(name, command):
        yield from ((name, each.name) for each in command.params if not each.help)
        for child in getattr(command, "commands", {}).values():
            yield from unexplained(f"{name} {child.name}", child)

    assert list(unexplained("hensa", typer.main.get_command(cli.app))) == []


# --- failures (most are in test_bad_input.py) -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "args",
    [
        ("score", "in.csv"),
        ("score", "in.csv", "-o", "out.xlsx"),
        ("score", "in.txt", "-o", "out.csv"),
        ("score", "in.csv", "-o", "out.csv", "--threads", "0"),
        ("sample", "-n", "-1", "-o", "out.csv"),
        ("sample", "-n", "many", "-o", "out.csv"),
        ("sample", "-n", "1", "--seed", "-1", "-o", "out.csv"),
        ("population", "in.csv", "--method", "textbook"),
        ("nonsense",),
        (),
    ],
)
def test_bad_usage_exits_with_2(args):
    result = hensa_command(*args)
    assert result.exit_code == 2
    assert "Traceback" not in result.output


def test_an_input_is_never_overwritten(worked, program, tmp_path):
    before = worked.read_bytes()
    alias = tmp_path / "alias.csv"
    alias.hardlink_to(worked)
    for output in (worked, alias, tmp_path / "." / "worked.csv"):
        result = hensa_command("score", worked, "-o", output)
        assert result.exit_code == 2
        assert "also an input" in result.stderr
    assert hensa_command("population", worked, "-o", program, "-p", program).exit_code == 2
    assert worked.read_bytes() == before


def test_a_page_of_our_own_parquet_that_changes_is_an_error(tmp_path):
    source = tmp_path / "in.parquet"
    hensa_command("sample", "-n", 1000, "-o", source)
    column = pq.read_metadata(source).row_group(0).column(3)
    data = bytearray(source.read_bytes())
    data[column.data_page_offset + column.total_compressed_size // 2] ^= 1
    source.write_bytes(data)
    assert "cannot be read as Parquet" in fails(hensa_command("score", source, "-o", tmp_path / "out.csv"))


def test_a_title_is_shown_on_a_terminal_of_any_script():
    done = run("programs", "list", env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stderr) == (0, b"")
    assert rb"(\u30cf\u30d4" in done.stdout


@posix
def test_a_new_output_has_the_usual_rights_and_a_link_stays_a_link(tmp_path):
    (tmp_path / "link.csv").symlink_to(tmp_path / "real.csv")
    assert hensa_command("sample", "-n", 1, "-o", tmp_path / "link.csv").exit_code == 0
    assert (tmp_path / "link.csv").is_symlink()
    (tmp_path / "touched").touch()
    assert stat.S_IMODE((tmp_path / "real.csv").stat().st_mode) == stat.S_IMODE((tmp_path / "touched").stat().st_mode)


@posix
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_leaves_nothing_behind(tmp_path, number, code):
    process = subprocess.Popen(
        [*HENSA, "sample", "-n", "1_000_000_000", "-o", str(tmp_path / "out.csv")], stderr=subprocess.PIPE
    )
    with process:
        deadline = time.monotonic() + 60
        # until the first bytes are written, when numpy.random is imported, which can swallow an interrupt
        while not any(path.stat().st_size for path in tmp_path.iterdir()) and time.monotonic() < deadline:
            time.sleep(0.001)
        process.send_signal(number)
        assert b"Traceback" not in process.stderr.read()
        assert process.wait(60) == code
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_a_sample_of_a_ledger_that_ends_early_leaves_the_ledger_that_was_there(tmp_path, monkeypatch, error):
    def passbook(n, seed):
        members, passbook = hensa.sample_ledger(n, seed)

        def entries():
            yield passbook.read_next_batch()
            raise error

        return members, pa.RecordBatchReader.from_batches(passbook.schema, entries())

    args = ("sample", "--ledger", "-o", tmp_path / "ledger", "-n")
    assert hensa_command(*args, 10).exit_code == 0
    before = {path: path.read_bytes() for path in (tmp_path / "ledger").iterdir()}
    assert len(before) == 2
    monkeypatch.setattr(cli.ledger, "sample_ledger", passbook)
    result = hensa_command(*args, 1000)
    assert result.exit_code == (130 if isinstance(error, KeyboardInterrupt) else 1)
    assert isinstance(error, KeyboardInterrupt) or "passbook.parquet: " in fails(result)
    assert {path: path.read_bytes() for path in (tmp_path / "ledger").iterdir()} == before


@posix
def test_an_interrupt_that_gets_lost_is_raised_at_the_next_rows(monkeypatch):
    monkeypatch.setattr(Stop, "_raised", None)
    kept = signal.getsignal(signal.SIGUSR1)
    try:
        Stop.at(signal.SIGUSR1, KeyboardInterrupt())
        with suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGUSR1)
        with pytest.raises(KeyboardInterrupt), Run().stage("write") as advance:
            advance(1)
        with pytest.raises(KeyboardInterrupt), Run().stage("read"):
            pass
    finally:
        signal.signal(signal.SIGUSR1, kept)


INTERRUPT = "def interrupt(*args, **options): raise KeyboardInterrupt\n"


@pytest.mark.parametrize("place", ["cli.set_up", "cli.app", "cli.Commands.parse_args"])
def test_an_interrupt_before_the_command_runs_is_told_like_any_other(place):
    code = f"{INTERRUPT}from hensa import cli; {place} = interrupt; cli.main()"
    done = subprocess.run([sys.executable, "-c", code, "programs", "list"], capture_output=True, timeout=60)
    assert (done.returncode, done.stderr.splitlines()) == (130, [b"hensa: interrupted."])


@posix
@pytest.mark.parametrize("place", ["Live.refresh", "Live.stop", "_RefreshThread.start"])
def test_an_interrupted_run_shows_the_cursor_again(place, tmp_path):
    code = f"{INTERRUPT}from rich import live; live.{place} = interrupt; from hensa.cli import main; main()"
    seen = on_terminal("sample", "-n", 10, "-o", tmp_path / "out.csv", command=[sys.executable, "-c", code], code=130)
    assert "hensa: interrupted." in seen
    assert seen.rfind("\x1b[?25h") > seen.rfind("\x1b[?25l") >= 0


@pytest.mark.parametrize("part", ["typer", "rich"])
def test_without_its_extra_the_command_says_what_to_install(part):
    hidden = f"import sys; sys.modules[{part!r}] = None; from hensa.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", hidden], capture_output=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.rstrip().endswith(b'pip install "hensa[cli]".')
    assert b"Traceback" not in done.stderr


# --- Large Parquet to Parquet: parts that are read, scored and encoded by one thread each -----------------------------


@pytest.fixture
def parts_of_100(monkeypatch):
    """Row groups of 100 rows, so that a thousand rows are scored in parts by one or two threads."""
    monkeypatch.setattr("hensa.parquet.ROW_GROUP", 100)


@pytest.fixture
def whole_reads(monkeypatch):
    """The paths that are read as a whole."""
    paths = []

    def counted(path, *columns):
        paths.append(path)
        return read(path, *columns)

    read = cli.score.read
    monkeypatch.setattr(cli.score, "read", counted)
    return paths


def ledger_rows(n=1000):
    """A sample with further columns that must come through, and nulls in a measure and in the base."""
    rows = sample(n, 3).read_all()
    i = np.arange(n)
    rows = rows.set_column(1, "new_referrals", pa.array(rows["new_referrals"].to_numpy(), mask=i % 7 == 0))
    rows = rows.set_column(3, "friend_points", pa.array(rows["friend_points"].to_numpy(), mask=i % 11 == 0))
    rows = rows.append_column("site", pa.array(["a", None, "b", "a"] * (n // 4)).dictionary_encode())
    rows = rows.append_column("day", pa.array(i.astype("datetime64[D]")))
    return rows.replace_schema_metadata({"origin": "test"})


@pytest.mark.parametrize("size", [1, 30, 100])
def test_parts_are_scored_as_all_rows_are(tmp_path, parts_of_100, whole_reads, size):
    rows = ledger_rows()
    pq.write_table(rows, tmp_path / "in.parquet", row_group_size=size)
    result = hensa_command("score", tmp_path / "in.parquet", "-o", tmp_path / "out.parquet", "--threads", 2)
    assert result.exit_code == 0
    assert whole_reads == []
    file = pq.ParquetFile(tmp_path / "out.parquet", page_checksum_verification=True)
    found = file.read()
    metadata = {key: value for key, value in found.schema.metadata.items() if key != b"hensa"}  # the record of the run
    expected = hensa.score(rows, hensa.Program.load("hapitas-friend"))
    assert found.replace_schema_metadata(metadata or None).equals(expected, check_metadata=True)
    assert hensa_command("verify", tmp_path / "out.parquet", "--input", tmp_path / "in.parquet").exit_code == 0
    assert max(file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)) <= 100


def test_parts_have_the_summary_of_all_rows(tmp_path, parts_of_100, whole_reads):
    rows = ledger_rows()
    pq.write_table(rows, tmp_path / "in.parquet", row_group_size=100)
    parts = hensa_command("score", tmp_path / "in.parquet", "-o", tmp_path / "out.parquet", "--threads", 1).stderr
    assert whole_reads == []
    whole = hensa_command("score", tmp_path / "in.parquet", "-o", tmp_path / "out.arrow").stderr
    assert len(whole_reads) == 1
    assert parts.splitlines()[:-1] == whole.splitlines()[:-1]
    assert f"{sum(i % 7 == 0 or i % 11 == 0 for i in range(1000))} of them null" in parts
    assert re.search(r"^[\d.]+ s \(read .*, score .*, write .*\), [\d,]+ rows/s$", parts, re.M)


def test_the_totals_of_parts_keep_all_digits_of_decimals(program):
    # 31 digits, where Python's decimals have 28
    base = pa.array([Decimal("12345678901234567890123456789.01")] * 999 + [Decimal("0.02")], pa.decimal128(38, 2))
    totals = Totals(hensa.Program.load(str(program)), ["reward"])
    for start in range(0, 1000, 100):
        totals.add(pa.table({"cents": base.slice(start, 100), "reward": pa.array([1] * 100, pa.int64())}))
    cents = 1234567890123456789012345678901 * 999 + 2
    assert totals.base == Decimal(f"{cents // 100}.{cents % 100:02}")
    assert totals.points == {"reward": 1000}


def test_an_error_in_a_part_names_the_row_of_the_file(tmp_path, parts_of_100, whole_reads, program):
    # Half the rows are above the mean and get 10%: of 10**20, that is beyond int64.
    cents = pa.array([Decimal(1)] * 750 + [Decimal(10**20)] * 250, pa.decimal128(38, 0))
    pq.write_table(pa.table({"x": range(1000), "cents": cents}), tmp_path / "in.parquet", row_group_size=100)
    result = hensa_command(
        "score", tmp_path / "in.parquet", "-o", tmp_path / "out.parquet", "-p", program, "--threads", 1
    )
    assert "row 750" in fails(result)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.parquet", "three.toml"]


def test_parts_without_a_population_are_all_null(tmp_path, parts_of_100, program):
    rows = pa.table({"x": pa.nulls(1000, pa.int64()), "cents": range(1000)})
    pq.write_table(rows, tmp_path / "in.parquet", row_group_size=100)
    hensa_command("score", tmp_path / "in.parquet", "-o", tmp_path / "out.parquet", "-p", program, "--threads", 1)
    assert pq.read_table(tmp_path / "out.parquet")["reward"].null_count == 1000


def test_a_page_that_changes_in_a_later_part_is_an_error(tmp_path, parts_of_100):
    source = tmp_path / "in.parquet"
    hensa_command("sample", "-n", 1000, "-o", source)
    column = pq.read_metadata(source).row_group(9).column(0)
    data = bytearray(source.read_bytes())
    data[column.data_page_offset + column.total_compressed_size - 1] ^= 1
    source.write_bytes(data)
    failed = fails(hensa_command("score", source, "-o", tmp_path / "out.parquet", "--threads", 1))
    assert failed.startswith(f"{source}: cannot be read as Parquet")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.parquet"]


@pytest.mark.parametrize("cells", [(), (",,",)])
def test_rows_of_which_none_counts_have_no_mean(tmp_path, cells):
    (tmp_path / "in.csv").write_text("\n".join(["new_referrals,ad_users,friend_points", *cells, ""]))
    for args in (("score", tmp_path / "in.csv", "-o", tmp_path / "out.csv"), ("population", tmp_path / "in.csv")):
        result = hensa_command(*args)
        assert result.exit_code == 0
        assert "null; no row counts\n" in result.stderr
        assert re.search(r"\nnew_referrals +- +- +exact\n", result.stderr)
        assert "nan" not in result.stderr


def test_totals_say_of_how_many_rows_they_are_if_not_of_all(tmp_path):
    path = tmp_path / "in.csv"
    path.write_text("new_referrals,ad_users,friend_points\n1,1,100\n2,2,\n")
    assert re.search(
        r"\npoints of 1 scored row +total\n", hensa_command("score", path, "-o", path.with_name("a.csv")).stderr
    )
    path.write_text("new_referrals,ad_users,friend_points\n1,1,100\n")
    assert re.search(r"\npoints +total\n", hensa_command("score", path, "-o", path.with_name("a.csv")).stderr)


def test_piped_summaries_have_no_trailing_blanks(tmp_path):
    path = tmp_path / "in.csv"
    path.write_text("new_referrals,ad_users,friend_points\n1,1,100\n2,2,3\n")
    told = hensa_command("score", path, "-o", path.with_name("out.csv")).stderr
    assert len(told.splitlines()) > 10
    assert not [line for line in told.splitlines() if line != line.rstrip()]


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (("score", "gone", "-o", "out.csv"), "gone: there is no such file or directory"),
        (("report", "gone", "-o", "out.html"), "gone: there is no such file or directory"),
        (("report", "three.toml", "-o", "out.html"), "three.toml ends in none of .csv, .csv.gz, .parquet, "),
        (("score", "in.csv", "-o", "kd"), "a directory is named kd/"),
        (("score", "in.csv", "-o", "close.csv/"), "close.csv: it is a file, and a dataset is a directory."),
        (("score", "none*.csv", "-o", "out"), "none*.csv: found no file that fits the pattern and ends in one of"),
        (("programs", "check", "in.csv"), "in.csv: found a file that does not end in .toml; allowed: "),
        (("score", "in.csv", "-o", "out.csv", "--population", "three.toml"), "three.toml: found no population (Exp"),
        (("compare", "in.csv", "-p", "hapitas-friend", "-p", "other.toml", "--band", "city"),
         "in.csv: line 2, column city: 'tokyo' is not a number; leave a null empty; --band takes a column of integers"),
        (("score", "semicolons.csv", "-o", "out.csv"), "(are the cells separated by semicolons? it must be commas)"),
        (("score", "close.csv", "-o", "out.csv"),
         "close.csv: There is no column 'new_referrals', a measure of hapitas-friend (did you mean "
         "'new_referals'?); the columns are 'new_referals', 'b'; hapitas-friend is the default program, "),
        (("score", "in.csv", "-o", "out.csv", "--month", "2031-10"), "in.csv: Program 'hapitas-friend' holds from "),
    ],
)  # fmt: skip
def test_what_a_newcomer_mistakes_is_told_in_a_sentence(tmp_path, monkeypatch, args, sentence):
    monkeypatch.chdir(tmp_path)
    Path("in.csv").write_text("new_referrals,ad_users,friend_points,city\n1,1,100,tokyo\n2,2,3,osaka\n")
    Path("semicolons.csv").write_text("new_referrals;ad_users;friend_points\n1;1;100\n")
    Path("close.csv").write_text("new_referals,b\n1,1\n")
    Path("three.toml").write_text(PROGRAM)
    friend = hensa.Program.load("hapitas-friend").to_toml()
    Path("other.toml").write_text(friend.replace('"hapitas-friend"', '"other"'))
    result = hensa_command(*args)
    assert result.exit_code in (1, 2)
    assert sentence in re.sub(r"[\s│]+", " ", result.stderr)


@pytest.mark.parametrize(
    "args",
    [
        ("score", "close.csv", "-o", "out.csv"),
        ("score", "close", "-o", "out"),
        ("population", "close.csv"),
        ("explain", "close.csv", "--id", "1"),
        ("next-step", "close.csv", "-o", "out.csv"),
        ("report", "--simulator", "close.csv", "-o", "out.html"),
    ],
)
def test_a_column_that_only_the_default_program_reads_is_told_with_how_to_name_another(tmp_path, monkeypatch, args):
    monkeypatch.chdir(tmp_path)
    Path("close").mkdir()
    for path in ("close.csv", "close/a.csv"):
        Path(path).write_text("orders,cents\n1,1\n")
    told = fails(hensa_command(*args))
    assert re.match("close(/a)?.csv: There is no column 'new_referrals', a measure of hapitas-friend; the", told)
    end = "; hapitas-friend is the default program, and --program (-p) names another.\n"
    assert told.endswith(end)
    assert not fails(hensa_command(*args, "-p", "hapitas-friend")).endswith(end)


def test_a_missing_column_that_is_none_of_the_default_program_is_told_without_it(worked, tmp_path):
    assert "default" not in fails(hensa_command("score", worked, "-o", tmp_path / "out.csv", "--by", "site"))


@pytest.mark.parametrize(
    "args",
    [
        ("explain", "in.csv", "--id", "1"),
        ("restate", "in.csv", "in.csv", "-o", "out.csv"),
        ("report", "in.csv", "-o", "out.html"),
    ],
)
def test_the_column_of_ids_is_named_in_one_way_and_a_missing_one_told_with_those_there_are(tmp_path, monkeypatch, args):
    monkeypatch.chdir(tmp_path)
    write_csv(Path("rows.csv"), [(1, 2, 3, 50), (2, 0, 1, 70)], HEADER[:4])
    assert hensa_command("score", "rows.csv", "-o", "in.csv").exit_code == 0
    told = fails(hensa_command(*args, "--id-column", "membr"))
    assert re.match("in.csv: There is no column 'membr'.*; the columns are 'member', 'new_referrals', ", told)
    if args[0] != "report":  # which numbers rows where nobody names a column
        assert hensa_command(*args, "--id-column", "member").exit_code == 0
        told = fails(hensa_command(*args))
        assert told.startswith("in.csv: There is no column 'referrer_id'; the columns are 'member', ")
        assert told.endswith("; --id-column names the column of ids, by default referrer_id.\n")


EVERY_COMMAND = """
sample --ledger -n 300 -o ledger
sample -n 300 -o sample.csv
rows --members ledger/members.parquet --passbook ledger/passbook.parquet --month 2019-10 -o rows.parquet
rows --friends --members ledger/members.parquet --passbook ledger/passbook.parquet --month 2019-09 -o friends.csv
population rows.parquet -o population.json
score rows.parquet -o paid.parquet
score sample.csv -o paid.csv
score friends.csv -o friends-paid.csv -p share-hapi
score rows.parquet -o dataset/
explain paid.parquet --id 1
next-step rows.parquet -o further.parquet --own-effect --rate 20
next-step rows.parquet -o further.csv -p hapi-tomo
compare rows.parquet -p hapi-tomo -p hapitas-friend --band cumulative_referrals --budget 900 -o compared.parquet
rank entrants.csv -e event.toml -o boards.csv
compensate entrants.csv -e event.toml -o compensation.csv
restate paid.parquet paid.parquet -o due.parquet
report compared.parquet -o report.html
report --simulator rows.parquet -o simulator.html
verify compared.parquet
verify dataset
programs show hapi-tomo
"""


def test_no_command_imports_pandas(tmp_path):
    pytest.importorskip("duckdb")
    pytest.importorskip("altair")
    assert find_spec("pandas")
    there = {command.name or command.callback.__name__.replace("_", "-") for command in cli.app.registered_commands}
    assert {line.split()[0] for line in EVERY_COMMAND.split("\n") if line} == {*there, "programs"}
    (tmp_path / "event.toml").write_text("""
name = "spring"
id_column = "referrer_id"
count_column = "new_referrals"
boards = [{ name = "all" }]
prizes = [{ first = 1, points = 500 }]
entry_column = "entered_at"
compensation = { entry_until = 2020-01-05T12:00:00, points = 100 }
""")
    (tmp_path / "entrants.csv").write_text("referrer_id,new_referrals,entered_at\n1,5,2020-01-01 09:00:00\n")
    script = f"""
import sys
from hensa import cli
cli.set_up()
for line in {EVERY_COMMAND!r}.strip().splitlines():
    cli.app(line.split(), standalone_mode=False)
    if "pandas" in sys.modules:
        sys.exit(line)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
