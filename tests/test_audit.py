"""The audit: what is kept with a file, and that `hensa verify` tells the same from anything else."""

import contextlib
import gzip
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.feather as feather
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer import testing as typer_testing

import hensa
from hensa import audit, cli
from hensa.errors import HensaError
from hensa.files import RECORD, replacing

# The domain's worked example: 99 members with 10 newcomers, one with 5000. Its mean is 59.9.
ROWS = pa.table(
    {
        "referrer_id": list(range(100)),
        "site": ["a", "b"] * 50,
        "new_referrals": [10] * 99 + [5000],
        "ad_users": [7] * 100,
        "friend_points": [100_000] * 100,
    }
)
EVENT = """
name = "spring"
id_column = "referrer_id"
count_column = "new_referrals"
entry_column = "entered_at"
prizes = [{ first = 1, points = 500 }]
[compensation]
entry_until = 2020-01-05T00:00:00
points = 100
"""
CAMPAIGN = """
name = "campaign"
[rule]
kind = "per-event"
events = [{ column = "registrations", referrer = 100 }]
[[rule.campaigns]]
column = "registrations"
effective_from = 2018-12-01
effective_until = 2018-12-31
referrer = 700
"""
MEMBERS = """member_id,referrer_id,registered_at
1,,2019-05-01
2,1,2019-09-02
3,1,2019-09-03
"""
PASSBOOK = """member_id,kind,points,status,used_at,judged_at
2,ad,300,valid,2019-09-02,2019-10-01
3,ad,500,valid,2019-09-30,2019-11-01
"""
SUFFIXES = [".csv", ".csv.gz", ".parquet", ".arrow"]


def command(*args):
    return typer_testing.CliRunner().invoke(cli.app, [str(arg) for arg in args])


def done(*args):
    result = command(*args)
    assert result.exit_code == 0, result.output
    return result


def fails(*args, code=1):
    """The one sentence of a run that fails."""
    result = command(*args)
    assert (result.exit_code, len(result.stderr.splitlines())) == (code, 1) or code == 2, result.output
    assert result.exit_code == code
    assert "Traceback" not in result.output
    return result.stderr


def process(*args, **options):
    hensa_command = [sys.executable, "-c", "from hensa.cli import main; main()"]
    return subprocess.run([*hensa_command, *map(str, args)], capture_output=True, timeout=120, **options)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pq.write_table(ROWS, "rows.parquet")
    return tmp_path


def record_of(path):
    """The record, read without hensa."""
    if ".csv" in path or path.endswith((".json", ".toml")):
        return json.loads(Path(f"{path}.hensa.json").read_text(encoding="utf-8"))
    read = pq.read_schema if path.endswith(".parquet") else lambda path: feather.read_table(path).schema
    return json.loads(read(path).metadata[b"hensa"])


def with_record(path, change):
    """Rewrite the record of a Parquet file."""
    table = pq.read_table(path)
    record = json.loads(table.schema.metadata[RECORD])
    changed = change(record)
    record = record if changed is None else changed
    data = record if isinstance(record, bytes) else json.dumps(record).encode()
    pq.write_table(table.replace_schema_metadata({**table.schema.metadata, RECORD: data}), path)


def with_value(path, column, row, value):
    """Rewrite one value of a Parquet file."""
    table = pq.read_table(path)
    values = table[column].to_pylist()
    values[row] = value
    index = table.column_names.index(column)
    pq.write_table(table.set_column(index, table.field(index), pa.array(values, table.field(index).type)), path)


# --- what is kept -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_of_every_format_keeps_its_program_inputs_population_and_versions(suffix):
    out = f"paid{suffix}"
    done("score", "rows.parquet", "-o", out, "--month", "2019-10", "--columns", "step,reward")
    record = record_of(out)
    program = hensa.Program.load("hapitas-friend").to_toml()
    data = Path("rows.parquet").read_bytes()
    assert record["run"]["command"] == "score"
    assert record["run"]["program"] == {"toml": program, "sha256": hashlib.sha256(program.encode()).hexdigest()}
    assert (record["run"]["month"], record["run"]["columns"]) == ("2019-10", ["step", "reward"])
    assert record["inputs"] == [
        {"name": "rows.parquet", "rows": 100, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    ]
    moments = record["run"]["population"]["moments"]["measures"]["new_referrals"]
    assert (moments["sum"], moments["sum_of_squares"]) == (str(99 * 10 + 5000), str(99 * 100 + 5000**2))
    assert record["run"]["population"]["source"] == "rows"
    assert (record["hensa"], record["kernel"]) == (hensa.__version__, hensa.kernels.name)
    assert record["pyarrow"] == pa.__version__


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_equal_runs_in_different_places_write_equal_bytes(folder, suffix):
    written = []
    for place, threads in (("one", 1), ("two", 2)):
        (folder / place).mkdir()
        source = folder / place / "rows.parquet"
        pq.write_table(ROWS, source)
        out = folder / place / f"paid{suffix}"
        done("score", source, "-o", out, "--by", "site", "--threads", threads)
        record = Path(f"{out}.hensa.json")
        content = gzip.decompress(out.read_bytes()) if suffix == ".csv.gz" else out.read_bytes()
        written.append((content, record.read_bytes() if ".csv" in suffix else b""))
    assert written[0] == written[1]


def test_a_record_names_no_absolute_path(folder):
    done("score", folder / "rows.parquet", "-o", folder / "paid.csv")
    assert str(folder) not in Path("paid.csv.hensa.json").read_text(encoding="utf-8")
    assert record_of("paid.csv")["inputs"][0]["name"] == "rows.parquet"


def test_a_csv_is_never_beside_the_record_of_another(folder):
    done("score", "rows.parquet", "-o", "paid.csv")
    first = Path("paid.csv.hensa.json").read_bytes()
    kept = audit.Record.of(audit.Sample(n=1, seed=0))
    with contextlib.suppress(ZeroDivisionError), replacing("paid.csv") as file:
        kept.beside(file, "paid.csv")
        raise ZeroDivisionError
    assert Path("paid.csv.hensa.json").read_bytes() == first  # a run that fails leaves both as they were
    with replacing("paid.csv") as file:  # a file without a record takes the old record away
        file.write(b"x\n")
    assert sorted(path.name for path in folder.iterdir()) == ["paid.csv", "rows.parquet"]


def test_a_crash_between_the_file_and_its_record_leaves_no_record(folder, monkeypatch):
    done("score", "rows.parquet", "-o", "paid.csv")
    replace = Path.replace

    def crashing(self, target):
        if str(target).endswith(".hensa.json"):
            raise KeyboardInterrupt
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", crashing)
    assert command("score", "rows.parquet", "-o", "paid.csv", "--columns", "reward").exit_code == 130
    assert "reward" in Path("paid.csv").read_text(encoding="utf-8").splitlines()[0]
    assert sorted(path.name for path in folder.iterdir()) == ["paid.csv", "rows.parquet"]


def test_an_input_is_not_overwritten_by_a_record():
    done("population", "rows.parquet", "-o", "paid.csv.hensa.json")
    message = fails("score", "rows.parquet", "-o", "paid.csv", "--population", "paid.csv.hensa.json", code=2)
    assert "also an input" in message


def test_an_input_that_changes_while_it_is_read_is_an_error(monkeypatch):
    read = cli.score.read

    def and_touch(path, *columns):
        rows = read(path, *columns)
        with open(path, "ab") as file:
            file.write(b"more")
        return rows

    monkeypatch.setattr(cli.score, "read", and_touch)
    assert "rows.parquet: it was changed while it was read" in fails("score", "rows.parquet", "-o", "paid.csv")
    assert not Path("paid.csv").exists()


# --- what is the same -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--by", "site"],
        ["--columns", "step,new_referrals_score"],
        ["--month", "2019-10"],
        ["--month", "2030-01", "--any-month"],
        ["--population", "population.json"],
        ["--population", "cohorts.json", "--by", "site"],
    ],
    ids=" ".join,
)
def test_a_score_is_verified(suffix, options):
    done("population", "rows.parquet", "-o", "population.json")
    done("population", "rows.parquet", "-o", "cohorts.json", "--by", "site")
    done("score", "rows.parquet", "-o", f"paid{suffix}", *options)
    Path("population.json").unlink()  # it is in the record
    lines = done("verify", f"paid{suffix}").stdout.splitlines()
    assert lines[0] == f"paid{suffix}: hensa score"
    assert lines[1].startswith("program 'hapitas-friend', built in, sha256 ")
    assert lines[2].startswith(f"input rows.parquet: {os.path.getsize('rows.parquet'):,} bytes, sha256 ")
    assert lines[3].startswith("the same, bit for bit: 100 rows, ")


def commands():
    """A run of every command, and what it writes."""
    yield ("population", "rows.parquet", "-o", "population.json", "--by", "site"), "population.json"
    yield ("next-step", "rows.parquet", "-o", "next.parquet", "--own-effect"), "next.parquet"
    yield ("next-step", "rows.parquet", "-o", "rate.csv", "--rate", "27.5"), "rate.csv"
    yield ("next-step", "rows.parquet", "-o", "by.parquet", "--by", "site"), "by.parquet"
    yield ("next-step", "counts.csv", "-o", "stages.csv", "-p", "hapi-tomo", "--rate", "30"), "stages.csv"
    for program, columns in (("hapi-tomo", "reward"), ("share-hapi", "reward,friend_reward")):
        out = f"{program}.parquet"
        yield (
            (
                "score",
                "counts.csv",
                "-o",
                out,
                "-p",
                program,
                "--columns",
                columns,
                "--month",
                "2030-01",
                "--any-month",
            ),
            out,
        )
    yield ("rank", "entrants.csv", "-o", "boards.csv", "-e", "event.toml", "--top", "1"), "boards.csv"
    yield ("restate", "entrants.csv", "corrected.csv", "-o", "due.arrow", "--points", "new_referrals"), "due.arrow"
    yield ("compensate", "entrants.csv", "-o", "compensation.parquet", "-e", "event.toml"), "compensation.parquet"
    compare = ("compare", "rows.parquet", "-p", "hapitas-friend", "-p", "flat.toml", "--band", "ad_users")
    yield (*compare, "-o", "compared.csv"), "compared.csv"
    programs = ("-p", "share-hapi", "-p", "campaign.toml", "-p", "hapi-tomo")
    months = ("--month", "2018-12"), ("--month", "2030-01", "--any-month")
    yield ("compare", "counts.csv", *programs, *months[0], "-o", "campaign.parquet"), "campaign.parquet"
    yield ("compare", "counts.csv", *programs, *months[1], "-o", "after.csv"), "after.csv"
    scaled = (*compare, "--budget", "900000", "--scaled", "scaled.toml", "-o", "both.parquet")
    yield scaled, "both.parquet"
    yield scaled, "scaled.toml"
    yield ("sample", "-n", "1000", "--seed", "3", "-o", "sample.parquet"), "sample.parquet"
    ledger = ("sample", "--ledger", "-n", "100", "-o", "ledger")
    yield ledger, "ledger/members.parquet"
    yield ledger, "ledger/passbook.parquet"
    rows = ("rows", "--members", "members.csv", "--passbook", "passbook.csv", "--month", "2019-10")
    yield (*rows, "-o", "month.csv"), "month.csv"
    yield (*rows, "-o", "month.parquet", "--mapping", "mapping.toml", "--zone", "UTC"), "month.parquet"


def write_inputs():
    entrants = "referrer_id,new_referrals,entered_at\nA,9,2020-01-01\nB,7,2020-01-09\n"
    Path("entrants.csv").write_text(entrants)
    Path("corrected.csv").write_text(entrants.replace("A,9", "A,11"))
    Path("event.toml").write_text(EVENT)
    columns = {name: "4" for p in ("hapi-tomo", "share-hapi") for name in hensa.Program.load(p).columns}
    Path("counts.csv").write_text("\n".join([",".join(columns), ",".join(columns.values()), ""]))
    flat = 'name = "flat"\nrule = { kind = "standard-score", measures = [{ column = "new_referrals" }] }\n'
    Path("flat.toml").write_text(f'{flat}rates = {{ steps = [[0, 10.0]] }}\nreward = {{ base = "friend_points" }}\n')
    Path("campaign.toml").write_text(CAMPAIGN)
    Path("members.csv").write_text(MEMBERS)
    Path("passbook.csv").write_text(PASSBOOK)
    Path("mapping.toml").write_text('[kinds]\nad = ["shopping"]\n')


@pytest.mark.parametrize(("args", "out"), list(commands()), ids=str)
def test_what_every_command_writes_is_verified_wherever_the_folder_is(folder, monkeypatch, args, out):
    if args[0] == "rows":
        pytest.importorskip("duckdb")
    write_inputs()
    done(*args)
    for rules in ("event.toml", "flat.toml", "campaign.toml", "mapping.toml"):
        Path(rules).unlink()  # they are in the record
    assert "the same, bit for bit" in done("verify", out).stdout
    monkeypatch.chdir("/")
    assert "the same, bit for bit" in done("verify", folder / out).stdout


def test_inputs_may_be_given_where_they_are_now():
    write_inputs()
    done("restate", "entrants.csv", "corrected.csv", "-o", "due.csv", "--points", "new_referrals")
    for name in ("entrants.csv", "corrected.csv"):
        Path(name).rename(f"moved-{name}")
    assert "'entrants.csv' is not here" in fails("verify", "due.csv")
    done("verify", "due.csv", "--input", "moved-entrants.csv", "--input", "moved-corrected.csv")
    assert "moved-corrected.csv: not the same" in fails(
        "verify", "due.csv", "--input", "moved-corrected.csv", "--input", "moved-entrants.csv"
    )
    fails("verify", "due.csv", "--input", "moved-entrants.csv", code=2)


def test_streams_are_verified_through_standard_input():
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, ROWS.schema) as writer:
        writer.write_table(ROWS)
    data = sink.getvalue().to_pybytes()
    paid = process("score", "-", "-o", "-", input=data)
    record = json.loads(pa.ipc.open_stream(paid.stdout).schema.metadata[RECORD])
    assert record["inputs"] == [
        {"name": "-", "rows": 100, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    ]
    feather.write_feather(pa.ipc.open_stream(paid.stdout).read_all(), "paid.arrow")
    assert b"the same, bit for bit: 100 rows" in process("verify", "paid.arrow", "--input", "-", input=data).stdout
    missing = process("verify", "paid.arrow")
    assert (missing.returncode, b"standard input is not here" in missing.stderr) == (1, True)
    changed = process("verify", "paid.arrow", "--input", "-", input=data[:-1] + b"\1")
    assert (changed.returncode, b"has the sha256" in changed.stderr) == (1, True)
    streamed = process("score", "rows.parquet", "-o", "-").stdout
    assert b"the same, bit for bit: 100 rows" in process("verify", "-", input=streamed).stdout


def test_the_rows_of_a_ledger_from_standard_input_are_verified():
    pytest.importorskip("duckdb")
    write_inputs()
    sink = pa.BufferOutputStream()
    passbook = pa.csv.read_csv("passbook.csv")
    with pa.ipc.new_stream(sink, passbook.schema) as writer:
        writer.write_table(passbook)
    data = sink.getvalue().to_pybytes()
    run = ("rows", "--members", "members.csv", "--passbook", "-", "--month", "2019-10", "-o", "month.parquet")
    assert process(*run, input=data).returncode == 0
    assert record_of("month.parquet")["inputs"][1]["sha256"] == hashlib.sha256(data).hexdigest()
    again = process("verify", "month.parquet", "--input", "members.csv", "--input", "-", input=data)
    assert b"the same, bit for bit: 1 row," in again.stdout


def test_another_version_or_kernel_is_verified_just_the_same_and_named():
    done("score", "rows.parquet", "-o", "paid.parquet")
    with_record("paid.parquet", lambda record: record.update(hensa="0.0.1", kernel="baseline"))
    lines = done("verify", "paid.parquet").stdout.splitlines()
    assert lines[1].startswith("made by hensa 0.0.1 with kernel baseline and pyarrow ")
    assert f"verified by hensa {hensa.__version__} with kernel {hensa.kernels.name}" in lines[1]
    assert lines[-1].startswith("the same, bit for bit")


@pytest.mark.skipif(len(hensa.kernels.builds) < 2, reason="this CPU runs one build")
def test_a_run_on_one_kernel_is_verified_on_another():
    one, other = hensa.kernels.builds[:2]
    assert process("score", "rows.parquet", "-o", "paid.csv", env={**os.environ, "HENSA_KERNEL": one}).returncode == 0
    verified = process("verify", "paid.csv", env={**os.environ, "HENSA_KERNEL": other})
    assert b"the same, bit for bit" in verified.stdout
    assert f"kernel {one}".encode() in verified.stdout


def test_values_that_formats_change_or_that_are_not_equal_to_themselves_are_the_same():
    rows = ROWS.append_column("nan", pa.array([float("nan"), -0.0] * 50))
    rows = rows.append_column("at", pa.array([1, None] * 50, pa.timestamp("s")))  # Parquet has no seconds
    rows = rows.append_column("note", pa.array(['two\nlines, "quoted"', None, "", "é"] * 25))
    rows = rows.append_column("kind", pa.array(["x", "y"] * 50).dictionary_encode())
    rows = rows.append_column("nested", pa.array([[1.5, float("nan")], None] * 50))
    pq.write_table(rows, "rows.parquet")
    feather.write_feather(rows, "rows.arrow")
    for source in ("rows.parquet", "rows.arrow"):
        for out in ("paid.parquet", "paid.arrow"):
            done("score", source, "-o", out)
            done("verify", out)
    pq.write_table(rows.drop_columns(["nested"]), "rows.parquet")  # which CSV has not
    done("score", "rows.parquet", "-o", "paid.csv")
    done("verify", "paid.csv")


def test_more_cohorts_than_a_record_holds_are_verified_by_the_file_of_the_population():
    n = audit.COHORTS + 1
    rows = {name: [1, 3] * n for name in ("new_referrals", "ad_users", "friend_points")}
    pq.write_table(pa.table({**rows, "site": [site for site in range(n) for _ in range(2)]}), "rows.parquet")
    done("score", "rows.parquet", "-o", "own.parquet", "--by", "site")
    kept = record_of("own.parquet")["run"]["population"]
    whole = hensa.population(rows, hensa.Program.load("hapitas-friend"))
    assert kept == {"source": "rows", "count": 2 * n, "cohorts": n, "moments": json.loads(whole.to_json())}
    done("verify", "own.parquet")
    done("population", "rows.parquet", "-o", "population.json", "--by", "site")
    done("score", "rows.parquet", "-o", "paid.parquet", "--by", "site", "--population", "population.json")
    data = Path("population.json").read_bytes()
    assert record_of("paid.parquet")["inputs"][1] == {
        "name": "population.json",
        "rows": None,
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    done("verify", "paid.parquet")
    Path("population.json").unlink()
    assert "'population.json' is not here" in fails("verify", "paid.parquet")


# --- what is not the same ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_one_changed_reward_is_found(suffix):
    out = f"paid{suffix}"
    done("score", "rows.parquet", "-o", out)
    if ".csv" in suffix:
        opened = gzip.open if suffix == ".csv.gz" else open
        with opened(out, "rt", encoding="utf-8") as file:
            lines = file.read().splitlines(keepends=True)
        assert lines[8].endswith(",9800\n")
        lines[8] = lines[8].replace(",9800\n", ",9801\n")
        with opened(out, "wt", encoding="utf-8") as file:
            file.writelines(lines)
    else:
        table = pq.read_table(out) if suffix == ".parquet" else feather.read_table(out)
        rewards = [9801 if row == 7 else reward for row, reward in enumerate(table["reward"].to_pylist())]
        table = table.set_column(table.column_names.index("reward"), "reward", pa.array(rewards))
        (pq.write_table if suffix == ".parquet" else feather.write_feather)(table, out)
    found = "found '9801', where the run makes '9800'" if ".csv" in suffix else "found 9801, where the run makes 9800"
    assert fails("verify", out) == f"hensa: {out}: not the same: row 7, column 'reward': {found}.\n"


def test_the_last_bit_of_a_score_is_found():
    done("score", "rows.parquet", "-o", "paid.parquet")
    score = pq.read_table("paid.parquet")["score"][99].as_py()
    with_value("paid.parquet", "score", 99, score + 2**-47)  # an ulp between 32 and 64
    assert "row 99, column 'score': found " in fails("verify", "paid.parquet")


@pytest.mark.parametrize("value", [-0.0, None])
def test_a_zero_of_another_sign_or_a_null_is_found(value):
    rows = ROWS.append_column("x", pa.array([0.0] * 100))
    pq.write_table(rows, "rows.parquet")
    done("score", "rows.parquet", "-o", "paid.parquet")
    with_value("paid.parquet", "x", 3, value)
    assert f"row 3, column 'x': found {value}, where the run makes 0.0" in fails("verify", "paid.parquet")


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda table: table.slice(1), "found 99 rows, where the run makes 100"),
        (lambda table: table.drop_columns(["rate"]), "found the columns 'referrer_id'"),
        (
            lambda table: table.set_column(7, "reward", pc.cast(table["reward"], pa.int32())),
            "column 'reward': found the type int32, where the run makes int64",
        ),
        (
            lambda table: table.replace_schema_metadata({**table.schema.metadata, b"hensa.month": b"2019-11"}),
            "the metadata 'hensa.month' is not what the run makes",
        ),
    ],
)
def test_another_shape_type_or_month_is_found(change, found):
    done("score", "rows.parquet", "-o", "paid.parquet", "--month", "2019-10")
    pq.write_table(change(pq.read_table("paid.parquet")), "paid.parquet")
    assert f"not the same: {found}" in fails("verify", "paid.parquet")


def test_a_changed_input_is_found_by_its_size_or_its_fingerprint():
    data = Path("rows.parquet").read_bytes()
    done("score", "rows.parquet", "-o", "paid.parquet")
    Path("rows.parquet").write_bytes(data + b" ")
    message = fails("verify", "paid.parquet")
    assert f"rows.parquet: not the same: the input has {len(data) + 1:,} bytes, where the record has" in message
    other = bytes([*data[:-1], data[-1] ^ 1])
    Path("rows.parquet").write_bytes(other)
    message = fails("verify", "paid.parquet")
    assert f"the input has the sha256 {hashlib.sha256(other).hexdigest()}, where the record has" in message


def edited_program(record):
    program = record["run"]["program"]
    program["toml"] = program["toml"].replace("[49, 9.8", "[49, 9.9")


def edited_program_and_hash(record):
    edited_program(record)
    program = record["run"]["program"]
    program["sha256"] = hashlib.sha256(program["toml"].encode()).hexdigest()


def edited_population(record):
    record["run"]["population"]["moments"]["measures"]["ad_users"]["sum"] = "701"


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (edited_program, "the program of the record has not the SHA-256 that it states"),
        (edited_program_and_hash, "row 0, column 'rate': found 0.098, where the run makes 0.099"),
        (edited_population, "the population is not the one of the record"),
        (lambda record: record["run"].update(by=["site"]), "the population is not the one of the record"),
        (lambda record: record["run"].update(columns=["score"]), "found the columns"),
        (lambda record: record["inputs"][0].update(sha256="0" * 64), "the input has the sha256"),
        (lambda record: record["inputs"][0].update(rows=99), "it has 100 rows, where the record has 99"),
    ],
)
def test_a_changed_record_is_found(change, found):
    done("score", "rows.parquet", "-o", "paid.parquet")
    with_record("paid.parquet", change)
    assert found in fails("verify", "paid.parquet")


def test_a_program_that_only_has_the_name_of_a_built_in_one_is_not_called_built_in():
    text = hensa.Program.load("hapitas-friend").to_toml().replace("[49, 9.8", "[49, 9.9")
    Path("mine.toml").write_text(text, encoding="utf-8")
    done("score", "rows.parquet", "-o", "paid.parquet", "-p", "mine.toml")
    line = done("verify", "paid.parquet").stdout.splitlines()[1]
    assert line == f"program 'hapitas-friend', sha256 {hashlib.sha256(text.encode()).hexdigest()}"


@pytest.mark.parametrize("out", ["other.csv", "rows.parquet", "other.toml"])
def test_a_file_without_a_record_is_an_error(out):
    Path("other.csv").write_text("x\n1\n")
    Path("other.toml").write_text("x = 1\n")
    assert f"hensa: {out}: there is no record " in fails("verify", out)


def test_the_record_of_a_file_is_found_through_a_link():
    Path("real.csv").touch()
    try:
        Path("link.csv").symlink_to("real.csv")
    except OSError:
        pytest.skip("no links here")
    done("score", "rows.parquet", "-o", "link.csv")
    for out in ("link.csv", "real.csv"):
        assert "the same, bit for bit" in done("verify", out).stdout


def test_a_file_that_is_not_there_is_an_error():
    for out in ("none.csv", "none.parquet", "none.json"):
        assert fails("verify", out) == f"hensa: {out}: No such file or directory.\n"


# --- hostile records --------------------------------------------------------------------------------------------------


def of_run(**changes):
    return lambda record: record["run"].update(changes)


@pytest.mark.parametrize(
    "change",
    [
        lambda record: b"",
        lambda record: b"{",
        lambda record: b"\xff",
        lambda record: b"null",
        lambda record: b"[" * 100_000,
        lambda record: b'{"run":' + b'{"program":' * 100_000,
        lambda record: json.dumps(record).replace('"count": 100', '"count": 1e999').encode(),
        lambda record: json.dumps(record).replace('"count": 100', f'"count": {"9" * 5000}').encode(),
        lambda record: json.dumps(record).replace('"count": 100', '"count": -1').encode(),
        of_run(command="__import__('os').system('touch touched')"),
        of_run(command="sample"),
        of_run(program=None),
        of_run(unknown=1),
        of_run(columns=["reward", "reward"]),
        of_run(columns=["\ud800"]),
        of_run(by=["nothing"]),
        of_run(month="2019-13"),
        of_run(population={"source": "file", "count": 1, "cohorts": 0, "moments": None}),
        of_run(population={"source": "file", "count": 1, "cohorts": 0, "moments": {"count": 10**400}}),
        lambda record: record.update(inputs=[]),
        lambda record: record.update(inputs=record["inputs"] * 3),
        lambda record: record.update(inputs=[{**record["inputs"][0], "name": "/etc/hostname"}]),
        lambda record: record.update(inputs=[{**record["inputs"][0], "name": "nul\0"}]),
        lambda record: record.update(inputs=[{**record["inputs"][0], "name": "x" * 100_000}]),
        lambda record: record.update(run={"command": "sample", "n": 2**63 - 1, "seed": 10**500}, inputs=[]),
        lambda record: record.update(
            run={"command": "sample --ledger", "n": 2**63 - 1, "seed": 0, "table": "passbook"}, inputs=[]
        ),
        lambda record: record.update(run={"command": "sample", "n": 10**30, "seed": 0}, inputs=[]),
        lambda record: record.update(
            run={"command": "rank", "event": {"toml": "x = [[[", "sha256": hashlib.sha256(b"x = [[[").hexdigest()}}
        ),
        lambda record: record.update(
            run={"command": "restate", "policy": "net", "id": [], "points": "reward"}, inputs=record["inputs"] * 2
        ),
        lambda record: record.update(
            run={"command": "compare", "programs": [record["run"]["program"]], "populations": []},
        ),
        lambda record: record.update(run={"command": "compare", "programs": [], "populations": [], "edges": [3, 3]}),
        lambda record: record.update(run={"command": "compare", "programs": [], "populations": [], "edges": [10**30]}),
    ],
)
def test_a_hostile_record_is_refused_in_one_sentence(folder, change):
    done("score", "rows.parquet", "-o", "paid.parquet")
    with_record("paid.parquet", change)
    assert fails("verify", "paid.parquet").startswith("hensa: ")
    assert sorted(path.name for path in folder.iterdir()) == ["paid.parquet", "rows.parquet"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda values: st.lists(values) | st.dictionaries(st.text(), values),
)
FIELDS = sorted({*audit.Record.__struct_fields__, *audit.Score.__struct_fields__, "command"})


@given(st.binary() | st.dictionaries(st.sampled_from(FIELDS) | st.text(), json_values).map(json.dumps))
def test_what_is_no_record_raises_only_what_hensa_raises(data):
    with pytest.raises(HensaError):
        audit.Record.from_json(data if isinstance(data, bytes) else data.encode())


def test_a_record_is_read_as_it_was_written():
    run = audit.Compare(
        programs=(audit.Rules.of(hensa.Program.load("hapitas-friend")),),
        populations=(audit.RecordedPopulation.of(hensa.population(ROWS, hensa.Program.load("hapitas-friend"))),),
        budget=10**30,
    )
    record = audit.Record.of(run, [audit.Input(name="é.csv", rows=None, bytes=2**40, sha256="0")])
    assert audit.Record.from_json(record.to_json()) == record
