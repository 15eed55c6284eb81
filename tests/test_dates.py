"""Effective dates: a program is loaded for a day, and a run names its month."""

import datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import hensa
from hensa import DataError, Program, ProgramError, reference
from hensa.cli import app
from hensa.program import days_of

ROWS = {"new_referrals": [10] * 99 + [5000], "ad_users": [7] * 100, "friend_points": [100_000] * 100}
SPRING = """
name = "spring"
effective_from = 2024-02-10
effective_until = 2024-05-09
[rule]
kind = "standard-score"
measures = [{ column = "x" }]
[rates]
steps = [[0, 1]]
"""


def hensa_command(*args):
    return CliRunner().invoke(app, [str(arg) for arg in args])


@pytest.mark.parametrize(
    ("month", "last"),
    [("2019-10", 31), ("2019-02", 28), ("2020-02", 29), ("1900-02", 28), ("2000-02", 29), ("9999-12", 31)],
)
def test_a_month_has_its_days(month, last):
    year, number = map(int, month.split("-"))
    assert days_of(month) == (datetime.date(year, number, 1), datetime.date(year, number, last))


@pytest.mark.parametrize(
    "month", ["2019-13", "2019-00", "2019", "2019-1", "19-10", "0000-01", "2019-10-01", "2019-10\n", "٢٠١٩-١٠", "", 7]
)
def test_what_is_no_month_is_refused(month):
    with pytest.raises(DataError, match=r'^month is .*; it must be a year and a month, such as "2019-10"\.$'):
        days_of(month)


@pytest.mark.parametrize("day", ["2019-10-01", "2020-02-29", "2020-12-31"])
def test_a_program_is_loaded_for_a_day_on_which_it_holds(day):
    assert Program.load("hapitas-friend", on=datetime.date.fromisoformat(day)) == Program.load("hapitas-friend")


@pytest.mark.parametrize("day", ["2019-09-30", "2021-01-01"])
def test_a_program_is_not_loaded_for_a_day_on_which_it_does_not_hold(day):
    with pytest.raises(ProgramError) as error:
        Program.load("hapitas-friend", on=datetime.date.fromisoformat(day))
    assert str(error.value) == f"hapitas-friend: found the day {day}; allowed: 2019-10-01 to 2020-12-31."


def test_a_program_without_dates_holds_on_any_day():
    program = Program.parse(SPRING.replace("effective_", "# effective_"))
    assert program.holds(datetime.date.min, datetime.date.max)
    program.check_month("0001-01")


@pytest.mark.parametrize(
    ("line", "month", "dates"),
    [
        ("effective_from = 2024-02-10\n", "2024-02", "2024-02-10 to any day"),
        ("effective_until = 2024-05-09\n", "2024-05", "any day to 2024-05-09"),
    ],
)
def test_a_date_may_be_left_out(line, month, dates):
    one = Program.parse("\n".join(text for text in SPRING.splitlines() if "effective" not in text))
    program = Program.parse(line + one.to_toml())
    program.check_month("2024-03")
    with pytest.raises(
        ProgramError, match=f"^Program 'spring' holds from {dates}, not in all of {month}; any_month .* allows it\\.$"
    ):
        program.check_month(month)


@pytest.mark.parametrize("month", ["2024-01", "2024-02", "2024-05", "2024-06"])
@pytest.mark.parametrize("score", [hensa.score, reference.score])
def test_a_month_that_is_not_wholly_within_the_dates_is_refused_unless_any_is_allowed(score, month):
    program, rows = Program.parse(SPRING), {"x": [1, 2]}
    with pytest.raises(ProgramError, match=f"holds from 2024-02-10 to 2024-05-09, not in all of {month}"):
        score(rows, program, columns=["step"], month=month)
    score(rows, program, columns=["step"], month=month, any_month=True)
    score(rows, program, columns=["step"], month="2024-04")
    with pytest.raises(DataError, match="month is 'April'"):
        score(rows, program, columns=["step"], month="April", any_month=True)


def test_the_month_is_kept_in_the_metadata_beside_what_the_rows_carry():
    rows = pa.table(ROWS).replace_schema_metadata({"source": "ledger", "hensa.month": "2019-10"})
    program = Program.load("hapitas-friend")
    assert hensa.score(rows, program, month="2019-11").schema.metadata == {
        b"source": b"ledger",
        b"hensa.month": b"2019-11",
    }
    assert hensa.score(rows, program).schema.metadata == rows.schema.metadata
    assert rows.schema.metadata[b"hensa.month"] == b"2019-10"
    assert hensa.score(ROWS, program).schema.metadata is None


def test_the_month_changes_no_value():
    program = Program.load("hapitas-friend")
    assert hensa.score(ROWS, program, month="2019-11").equals(hensa.score(ROWS, program))


def test_the_command_keeps_the_month_in_the_file_and_refuses_one_outside_the_dates(tmp_path):
    source, out = tmp_path / "rows.parquet", tmp_path / "paid.parquet"
    pq.write_table(pa.table(ROWS), source)
    run = hensa_command("score", source, "-o", out, "--month", "2020-12")
    assert run.exit_code == 0, run.output
    assert pq.read_schema(out).metadata[b"hensa.month"] == b"2020-12"
    assert pq.ParquetFile(out).metadata.metadata[b"hensa.month"] == b"2020-12"
    run = hensa_command("score", source, "-o", out, "--month", "2021-01")
    assert (run.exit_code, run.stderr) == (
        1,
        f"hensa: {source}: Program 'hapitas-friend' holds from 2019-10-01 to 2020-12-31, not in all of 2021-01; "
        "any_month (--any-month) allows it.\n",
    )
    assert pq.read_schema(out).metadata[b"hensa.month"] == b"2020-12"
    run = hensa_command("score", source, "-o", out, "--month", "2021-01", "--any-month")
    assert run.exit_code == 0
    assert pq.read_schema(out).metadata[b"hensa.month"] == b"2021-01"


def test_a_malformed_month_on_the_command_line_is_bad_usage(tmp_path):
    run = hensa_command("score", "in.csv", "-o", tmp_path / "out.csv", "--month", "2021-1")
    assert run.exit_code == 2
    assert "it must be a year and a month" in " ".join(run.stderr.replace("│", " ").split())


def test_rows_that_a_ledger_counted_for_another_month_are_refused():
    rows = pa.table({"new_referrals": [1, 2], "ad_users": [1, 3], "friend_points": [100, 200]})
    rows = rows.replace_schema_metadata({"hensa.ledger": '{"month": "2020-03"}'})
    program = Program.load("hapitas-friend")
    assert hensa.score(rows, program, month="2020-03").num_rows == 2
    with pytest.raises(
        DataError, match=r"^The rows were counted for 2020-03, and the month of the run is 2019-10; any_month"
    ):
        hensa.score(rows, program, month="2019-10")
    assert hensa.score(rows, program, month="2019-10", any_month=True).num_rows == 2


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize(
    "command",
    [("score", "-o", "paid.csv"), ("explain", "--id", "1"), ("compare", "-p", "hapitas-friend", "-p", "flat.toml")],
    ids=lambda command: command[0],
)
def test_the_commands_refuse_rows_that_a_ledger_counted_for_another_month(command, suffix, tmp_path, monkeypatch):
    pytest.importorskip("duckdb")
    monkeypatch.chdir(tmp_path)
    flat = Program.load("hapitas-friend").to_toml().replace('"hapitas-friend"', '"flat"', 1)
    (tmp_path / "flat.toml").write_text(flat)
    (tmp_path / "members.csv").write_text("member_id,referrer_id,registered_at\n1,,2018-01-01\n2,1,2019-09-01\n")
    entry = "2,ad,10,valid,2019-09-10,2019-09-10,2019-10-10"
    (tmp_path / "passbook.csv").write_text(f"member_id,kind,points,status,used_at,entered_at,judged_at\n{entry}\n")
    inputs = "--members", "members.csv", "--passbook", "passbook.csv"
    assert hensa_command("rows", *inputs, "--month", "2019-10", "-o", f"rows.{suffix}").exit_code == 0
    name, *options = command
    run = hensa_command(name, f"rows.{suffix}", *options, "--month", "2019-11")
    assert (run.exit_code, run.stderr) == (
        1,
        f"hensa: rows.{suffix}: The rows were counted for 2019-10, and the month of the run is 2019-11; "
        "any_month (--any-month) allows it.\n",
    )
    assert hensa_command(name, f"rows.{suffix}", *options, "--month", "2019-11", "--any-month").exit_code == 0
    assert hensa_command(name, f"rows.{suffix}", *options, "--month", "2019-10").exit_code == 0


@pytest.mark.parametrize("day", ["2019-10-01", datetime.datetime(2019, 10, 1, 5)])
def test_a_day_that_is_no_date_is_refused(day):
    with pytest.raises(ProgramError, match=r"it must be a datetime\.date"):
        Program.load("hapitas-friend", on=day)
