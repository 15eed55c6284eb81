"""The examples do what they say: a real purchase ledger, or one of its shape, becomes customers and their points."""

import importlib.util
import math
import random
import re
import subprocess
import sys
from collections import defaultdict
from fractions import Fraction
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

import hensa
from hensa import Program, reference

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
LEDGER = ROOT / "../shared/data/cdnow/CDNOW_master.txt"
PROGRAM = EXAMPLES / "cdnow-loyalty.toml"
RESULTS = ("score", "step", "rate", "reward")


@pytest.fixture(scope="module")
def cdnow():
    spec = importlib.util.spec_from_file_location("cdnow", EXAMPLES / "cdnow.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def made_lines():
    """Purchases of 700 customers from January to April 1997: several on one day, some of no value, a few large."""
    draw = random.Random(1997)
    lines = []
    for customer in range(1, 701):
        days = [(draw.randrange(1, 5), draw.randrange(1, 29)) for _ in range(min(int(draw.paretovariate(1.2)), 30))]
        for month, day in sorted(days):
            for _ in range(draw.choice([1, 1, 1, 2, 3])):
                cds = min(int(draw.paretovariate(1)), 99)
                cents = draw.choice([0, cds * 1199, cds * 1477, cds * draw.randrange(1, 3000)])
                lines.append(f" {customer:05} 1997{month:02}{day:02} {cds:2} {cents // 100:4}.{cents % 100:02}\r\n")
    return lines


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A ledger of the same shape as the real one."""
    path = tmp_path_factory.mktemp("ledger") / "made.txt"
    path.write_text("".join(made_lines()), newline="")
    return path


@pytest.fixture(scope="module", params=["made", *(["real"] if LEDGER.exists() else [])])
def ledger(request, made):
    return made if request.param == "made" else LEDGER


def march(path):
    """Of each customer in March 1997: orders, CDs, cents; by regular expression and integers alone."""
    days, cds, cents = defaultdict(set), defaultdict(int), defaultdict(int)
    text = path.read_text()
    for customer, day, n, dollars, rest in re.findall(r"(\d+) +199703(\d\d) +(\d+) +(\d+)\.(\d\d)\s", text):
        days[customer].add(day)
        cds[customer] += int(n)
        cents[customer] += int(dollars + rest)
    return [
        {"customer_id": customer, "orders": len(days[customer]), "cds": cds[customer], "cents": cents[customer]}
        for customer in days
    ]


def run(*command):
    return subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True, check=False)


def hensa_command(*arguments):
    return run("-c", "from hensa.cli import main; main()", *arguments)


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_a_ledger_becomes_one_row_per_customer_of_the_month(ledger, suffix, tmp_path):
    out = tmp_path / f"march.{suffix}"
    done = run(EXAMPLES / "cdnow.py", ledger, "--month", "1997-03", "-o", out)
    expected = march(ledger)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == f"{len(expected):,} customers bought in 1997-03\n"
    text = pa.csv.ConvertOptions(column_types={"customer_id": pa.string()})
    rows = pa.parquet.read_table(out) if suffix == "parquet" else pa.csv.read_csv(out, convert_options=text)
    assert rows.to_pylist() == expected


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_march_1997_scored_by_the_command_agrees_with_the_reference_row_for_row(ledger, suffix, tmp_path, cdnow):
    rows, paid = tmp_path / f"march.{suffix}", tmp_path / "paid.parquet"
    cdnow.main([str(ledger), "--month", "1997-03", "-o", str(rows)])
    done = hensa_command("score", rows, "-o", paid, "-p", PROGRAM, "--columns", ",".join(RESULTS))
    assert done.returncode == 0, done.stderr
    customers = march(ledger)
    columns = {name: [customer[name] for customer in customers] for name in ("orders", "cds", "cents")}
    program = Program.load(PROGRAM)
    found = pa.parquet.read_table(paid)
    assert found.select(["orders", "cds", "cents", *RESULTS]).to_pydict() == reference.score(
        columns, program, columns=RESULTS
    )
    assert found["step"].to_pylist() == reference.exact_steps(columns, program)


def test_march_1997_scored_in_python_agrees_with_the_reference_on_every_build(ledger, build, cdnow):
    with ledger.open() as lines:
        rows = cdnow.customers(lines, "1997-03")
    program = Program.load(PROGRAM)
    assert hensa.score(rows, program, columns=RESULTS).to_pydict() == reference.score(rows, program, columns=RESULTS)


def test_points_are_a_tenth_or_a_thousandth_of_the_cents(made, cdnow):
    # A customer is paid 10% where z(orders) + z(cds) >= 0, which integers say by squares.
    with made.open() as lines:
        rows = cdnow.customers(lines, "1997-03")
    orders, cds, cents = (rows[name].to_pylist() for name in ("orders", "cds", "cents"))
    n = len(orders)
    means = [Fraction(sum(v), n) for v in (orders, cds)]
    variances = [sum((x - m) ** 2 for x in v) / n for v, m in zip((orders, cds), means, strict=True)]
    expected = []
    for *values, spent in zip(orders, cds, cents, strict=True):
        deviations = [x - mean for x, mean in zip(values, means, strict=True)]
        signed_squares = [d * abs(d) / v for d, v in zip(deviations, variances, strict=True)]
        share = Fraction(1, 10) if sum(signed_squares) >= 0 else Fraction(1, 1000)
        expected.append(math.floor(spent * share))
    assert hensa.score(rows, Program.load(PROGRAM))["reward"].to_pylist() == expected


def test_the_example_program_reads_orders_cds_and_cents_and_pays_at_three_rates():
    program = Program.load(PROGRAM)
    assert program.columns == ("orders", "cds", "cents")
    assert program.rates.shares == (Fraction(1, 1000), Fraction(1, 10), Fraction(45, 100))


def test_lines_of_one_day_are_one_order_and_those_without_value_count(cdnow):
    lines = [" 00001 19970301  1   10.10\r\n", " 00001 19970301  2    0.20\r\n", " 00001 19970302  3    0.00\r\n"]
    (row,) = cdnow.customers([*lines, " 00002 19970401  1   11.77\r\n", "\r\n"], "1997-03").to_pylist()
    assert row == {"customer_id": "00001", "orders": 2, "cds": 6, "cents": 1030}


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("00001 19970301 1", "line 2: "),
        ("00001 19970231 1 1.00", "line 2: "),
        ("00001 1997-3-1 1 1.00", "line 2: the date 1997-3-1 is not YYYYMMDD"),
        ("00001 19970301 x 1.00", "line 2: "),
        ("00001 19970301 1 1.005", "line 2: the value 1.005 is not in whole cents"),
        ("00001 19970301 1 one", "line 2: not a number: 00001 19970301 1 one"),
        ("00001 19970301 1 nan", "line 2: "),
        ("00001 19970301 1 inf", "line 2: "),
    ],
)
def test_a_line_that_is_no_purchase_is_an_error_that_names_it(line, problem, tmp_path):
    ledger = tmp_path / "ledger.txt"
    ledger.write_text(f"00001 19970301 1 1.00\n{line}\n")
    done = run(EXAMPLES / "cdnow.py", ledger, "--month", "1997-03", "-o", tmp_path / "out.csv")
    assert done.returncode == 1
    assert done.stderr.startswith(f"{ledger}: {problem}")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize("arguments", [["--month", "March"], ["--month", "1997-13"], ["-o", "out.xlsx"], []])
def test_bad_usage_exits_with_2(arguments, tmp_path):
    usual = {"--month": "1997-03", "-o": str(tmp_path / "out.csv")}
    usual.pop(arguments[0] if arguments else "--month")
    flat = [part for pair in usual.items() for part in pair]
    assert run(EXAMPLES / "cdnow.py", "ledger.txt", *flat, *arguments).returncode == 2


@pytest.mark.skipif(not LEDGER.exists(), reason="the ledger is not there")
def test_the_real_ledger_has_the_customers_and_lines_that_its_source_states(cdnow):
    # SOURCE.md: 69,659 transactions of 23,570 people from January 1997 to June 1998.
    months = [f"{year}-{month:02}" for year in (1997, 1998) for month in range(1, 13)]
    lines = LEDGER.read_text().splitlines()
    assert len(lines) == 69_659
    tables = {
        month: cdnow.customers([line for line in lines if month.replace("-", "") in line], month) for month in months
    }
    names = {name for table in tables.values() for name in table["customer_id"].to_pylist()}
    assert len(names) == 23_570
    assert [month for month, table in tables.items() if not table.num_rows] == months[18:]


# --- an outage of a ranking event -------------------------------------------------------------------------------------


def outage(tmp_path):
    """180 referrers; each third is on another board. Referrer i is recorded with 181 - i newcomers.

    Ten newcomers of referrer 5 were recorded under referrer 1. Referrer 170 entered at the very cut-off of the
    compensation and those from 171 on after it; 181 entered after the event, and 182 did not enter.
    """
    header = "referrer_id,newcomers,friends_before,entered_at"
    rows = [[i, 181 - i, (200, 9, 10)[i % 3], "2019-12-20T10:00:00+09:00"] for i in range(1, 183)]
    for row in rows[170:180]:
        row[3] = "2020-01-05T12:00:01+09:00"
    rows[169][3] = "2020-01-05T03:00:00Z"
    rows[180][1:] = [500, 200, "2020-01-19T00:00:00+09:00"]
    rows[181][1:] = [500, 200, ""]
    recorded, corrected = tmp_path / "recorded.csv", tmp_path / "corrected.csv"
    recorded.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]))
    rows[0][1] -= 10
    rows[4][1] += 10
    corrected.write_text("\n".join([header, *(",".join(map(str, row)) for row in reversed(rows))]))
    return recorded, corrected


# Overall, 5 rises from rank 5 to 1, 1 falls from 1 to 10 where 11, who was 11th, stands too; the ranks 4 to 10 are paid
# alike. On the light board (1, 4, 7, 10, ...), 1 falls from 1 to 4 and the three behind it rise by one. On the middle
# board (2, 5, 8, ...), 5 and 2 change places. On the heavy board nobody moves.
TOP_UPS = {
    5: 100_000 - 10_000 + 100_000 - 50_000,  # overall and middle
    11: 10_000 - 1_000,  # overall
    4: 100_000 - 50_000,  # light
    7: 50_000 - 30_000,
    10: 30_000 - 10_000,
}
# Boards of which one stood in the top 50: overall to referrer 50, the others, 60 each, to the 50th: referrer 150.
COMPENSATION = {i: 10_000 * ((i <= 170) + (i <= 50) + (i <= 150)) for i in range(1, 171)}


def test_after_an_outage_nobody_loses_and_entrants_are_compensated(tmp_path):
    out = tmp_path / "payments.csv"
    event = EXAMPLES / "new-year-ranking.toml"
    done = run(EXAMPLES / "outage.py", *outage(tmp_path), "--event", event, "-o", out)
    assert done.returncode == 0, done.stderr
    assert pa.csv.read_csv(out).to_pylist() == [
        {"referrer_id": i, "top_up": TOP_UPS.get(i, 0), "compensation": paid, "points": TOP_UPS.get(i, 0) + paid}
        for i, paid in COMPENSATION.items()
    ]
    # 239,000 of top-ups; 1 falls by 90,000 twice and 2 by 50,000.
    assert re.search(r"underpaid +6 +\+239,000\n +overpaid +3 +-230,000\n", done.stderr)


def test_the_commands_pay_the_same_after_an_outage(tmp_path):
    recorded, corrected = outage(tmp_path)
    event, boards, again, due, paid = EXAMPLES / "new-year-ranking.toml", *(tmp_path / f"{i}.parquet" for i in range(4))
    ids = ("--id-column", "board", "--id-column", "referrer_id", "--points", "prize")
    for arguments in (
        ("rank", recorded, "-o", boards, "-e", event),
        ("rank", corrected, "-o", again, "-e", event),
        ("restate", boards, again, "-o", due, *ids),
        ("compensate", corrected, "-o", paid, "-e", event, "--boards", boards),
    ):
        done = hensa_command(*arguments)
        assert done.returncode == 0, done.stderr
    top_ups = defaultdict(int)
    for row in pa.parquet.read_table(due).to_pylist():
        top_ups[row["referrer_id"]] += row["due"]
    assert {i: points for i, points in top_ups.items() if points} == TOP_UPS
    compensations = pa.parquet.read_table(paid)
    assert dict(zip(*compensations.select(["referrer_id", "points"]).to_pydict().values(), strict=True)) == COMPENSATION
    # 170 flat sums, and (50 + 3 x 50) places at the top.
    assert sum(compensations["points"].to_pylist()) == 10_000 * (170 + 200)


def test_a_file_that_is_no_event_or_no_rows_is_named(tmp_path):
    recorded, corrected = outage(tmp_path)
    done = run(EXAMPLES / "outage.py", recorded, corrected, "--event", PROGRAM, "-o", tmp_path / "out.csv")
    assert done.returncode == 1
    assert done.stderr.startswith(f"outage.py: {PROGRAM}: ")
    assert done.stderr.count("\n") == 1
