"""Restatements: a run against its corrected self, by worked numbers and against a plain-Python oracle."""

import json
import re

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from strategies import examples

import hensa
from hensa import DataError
from hensa.restatement import STATUSES

LOWEST, MOST = -(2**63), 2**63 - 1
COLUMNS = ["status", "before", "after", "delta", "due"]

PAID = {"referrer_id": [1, 2, 3, 4, 5], "reward": [100, 200, 300, 400, None]}
CORRECTED = {"referrer_id": [6, 5, 3, 2, 1], "reward": [60, 50, 299, 250, 100]}
# 1 is unchanged; 2 has 50 too little, and 5, who had nothing, 50; 3 has 1 too much; 4 is missing after and 6 before.
CHANGED = [
    (2, "underpaid", 200, 250, 50),
    (3, "overpaid", 300, 299, -1),
    (4, "missing_after", 400, None, -400),
    (5, "underpaid", None, 50, 50),
    (6, "missing_before", None, 60, 60),
]
COUNTS = {"unchanged": 1, "underpaid": 2, "overpaid": 1, "missing_before": 1, "missing_after": 1}
TOTALS = {
    "before": 1000,
    "after": 759,
    "unchanged": 0,
    "underpaid": 100,
    "overpaid": -1,
    "missing_before": 60,
    "missing_after": -400,
    "delta": -241,
}


def run_of(amounts, **types):
    return pa.table({"referrer_id": pa.array(list(amounts)), "reward": pa.array(amounts.values(), pa.int64())})


def rows_of(restatement):
    return [tuple(row.values()) for row in restatement.table.to_pylist()]


# --- worked numbers ---------------------------------------------------------------------------------------------------


def test_a_top_up_pays_what_is_missing_and_takes_nothing_back():
    found = hensa.restate(PAID, CORRECTED)
    assert found.table.column_names == ["referrer_id", *COLUMNS]
    assert rows_of(found) == [(*row, max(row[4], 0)) for row in CHANGED]
    assert found.counts == COUNTS
    assert found.totals == {**TOTALS, "due": 160, "to_pay": 160, "to_get_back": 0}
    assert found.policy == "top_up"


def test_by_net_whoever_has_too_much_pays_back_and_whoever_is_missing_all_of_it():
    found = hensa.restate(PAID, CORRECTED, "net")
    assert rows_of(found) == [(*row, row[4]) for row in CHANGED]
    assert found.counts == COUNTS
    assert found.totals == {**TOTALS, "due": -241, "to_pay": 160, "to_get_back": -401}


def test_a_restatement_reads_well_on_a_terminal():
    lines = repr(hensa.restate(PAID, CORRECTED, "net")).splitlines()
    assert lines == [
        "Restatement of 6 ids, 5 changed",
        "  unchanged       1     +0",
        "  underpaid       2   +100",
        "  overpaid        1     -1",
        "  missing before  1    +60",
        "  missing after   1   -400",
        "  before          5  1,000",
        "  after           5    759",
        "  due (net)       5   -241",
    ]


def test_the_widest_summary_fits_80_columns():
    widest = hensa.restate(run_of(dict.fromkeys(range(1000), -MOST)), run_of({}), "net")
    assert max(map(len, repr(widest).splitlines())) <= 80


def test_a_run_against_itself_is_empty():
    for policy in ("top_up", "net"):
        same = hensa.restate(PAID, PAID, policy)
        assert same.table.num_rows == 0
        assert same.table.column_names == ["referrer_id", *COLUMNS]
        assert same.counts == {**dict.fromkeys(STATUSES, 0), "unchanged": 5}
        assert same.totals["due"] == same.totals["delta"] == 0


def test_several_columns_together_are_an_id():
    before = {"board": ["overall", "light"], "member": ["a", "a"], "prize": [5, 7]}
    after = {"board": ["overall", "light"], "member": ["a", "b"], "prize": [6, 7]}
    found = hensa.restate(before, after, id=("board", "member"), points="prize")
    assert rows_of(found) == [
        ("light", "a", "missing_after", 7, None, -7, 0),
        ("light", "b", "missing_before", None, 7, 7, 7),
        ("overall", "a", "underpaid", 5, 6, 1, 1),
    ]


def test_the_boards_of_two_rankings_can_be_restated():
    event = hensa.Event(name="e", id_column="id", count_column="n", prizes=[hensa.Prize(first=1, points=9)])
    before = hensa.rank({"id": ["a", "b"], "n": [2, 1]}, event)
    after = hensa.rank({"id": ["a", "b"], "n": [2, 3]}, event)
    found = hensa.restate(before, after, id=("board", "id"), points="prize")
    assert rows_of(found) == [
        ("overall", "a", "overpaid", 9, 0, -9, 0),
        ("overall", "b", "underpaid", 0, 9, 9, 9),
    ]


def test_sums_beyond_int64_are_exact():
    found = hensa.restate(run_of({1: LOWEST, 2: LOWEST, 3: MOST}), run_of({1: -1, 2: -1, 3: MOST}), "net")
    assert (found.totals["before"], found.totals["due"]) == (2 * LOWEST + MOST, 2 * MOST)
    assert hensa.restate(run_of({}), run_of(dict.fromkeys(range(9), MOST))).totals["to_pay"] == 9 * MOST


def test_a_delta_beyond_int64_is_refused():
    message = re.escape("The points of referrer_id 2 are 1 before and -9223372036854775808 after, too far for int64.")
    with pytest.raises(DataError, match=message):
        hensa.restate(run_of({1: 0, 2: 1}), run_of({1: 0, 2: LOWEST}))
    with pytest.raises(DataError, match="The points of referrer_id 3 are -9223372036854775808 before and 0 after"):
        hensa.restate(run_of({3: LOWEST}), run_of({}))
    assert hensa.restate(run_of({1: LOWEST}), run_of({1: -1}), "net").totals["due"] == MOST
    assert hensa.restate(run_of({1: MOST}), run_of({1: -1}), "net").totals["due"] == LOWEST


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (pa.int32(), pa.int64()),
        (pa.uint64(), pa.int8()),
        (pa.string(), pa.large_string()),
        (pa.string(), pa.string_view()),
        (pa.dictionary(pa.int8(), pa.string()), pa.string()),
        (pa.date32(), pa.date32()),
    ],
)
def test_ids_are_matched_whatever_their_width(before, after):
    def run(kind, rewards):
        ids = pa.array([7, 9], pa.int32())
        ids = ids.cast(pa.string()).dictionary_encode() if pa.types.is_dictionary(kind) else ids.cast(kind)
        return {"referrer_id": ids, "reward": rewards}

    assert hensa.restate(run(before, [1, 2]), run(after, [1, 3])).counts == {
        **dict.fromkeys(STATUSES, 0), "unchanged": 1, "underpaid": 1
    }  # fmt: skip


def test_a_run_without_rows_has_ids_of_any_type():
    some, none = {"referrer_id": ["a"], "reward": [5]}, run_of({})
    assert hensa.restate(some, none).counts["missing_after"] == 1
    assert hensa.restate(none, some).table["referrer_id"].to_pylist() == ["a"]
    assert hensa.restate(none, none).table.num_rows == 0


@pytest.mark.parametrize(
    ("before", "after", "options", "message"),
    [
        (PAID, CORRECTED, {"policy": "gross"}, "policy is 'gross'; it must be 'top_up' or 'net'."),
        (PAID, CORRECTED, {"id": ()}, "id is (); it must name one or more columns, each once, and none of status, "),
        (PAID, CORRECTED, {"id": ["x", "x"]}, "id is ['x', 'x']; it must name one or more columns, each once"),
        (PAID, CORRECTED, {"id": "due"}, "id is 'due'; it must name one or more columns, each once, and none of "),
        (PAID, {"id": [1]}, {}, "after: There is no column 'referrer_id'"),
        (PAID, CORRECTED, {"points": "cash"}, "before: There is no column 'cash'"),
        ([PAID], CORRECTED, {}, "before: rows is a list; it must have __arrow_c_stream__"),
        (
            PAID,
            {"referrer_id": [1, 2, 2, 1], "reward": [1] * 4},
            {},
            "after: Row 2 has the id of row 1 again (referrer_id 2); every id may stand once.",
        ),
        ({"referrer_id": [1, None], "reward": [1, 2]}, PAID, {}, "before: Column 'referrer_id' is null in row 1; "),
        ({"referrer_id": ["1"], "reward": [1]}, PAID, {}, "Column 'referrer_id' is of type large_string and int64"),
        ({"referrer_id": [1], "reward": [1.0]}, PAID, {}, "before: Column 'reward' is of type double; it must be of "),
        (
            {"referrer_id": [1, 2], "reward": pa.array([0, 2**63], pa.uint64())},
            PAID,
            {},
            "before: Column 'reward' is '9223372036854775808' in row 1; it must be a whole number that fits int64.",
        ),
    ],
)  # fmt: skip
def test_runs_that_cannot_be_compared_are_refused(before, after, options, message):
    with pytest.raises(DataError, match=f"^{re.escape(message)}"):
        hensa.restate(before, after, **options)


def test_runs_of_two_months_are_refused():
    rows = {"referrer_id": [1], "cumulative_referrals": [3], "own_points": [0], "friend_points": [100]}
    july, august = (hensa.score(rows, hensa.Program.load("hapi-tomo"), month=month) for month in ("2019-07", "2019-08"))
    with pytest.raises(DataError, match=r"^The runs are of the months 2019-07 and 2019-08; two runs of one month are"):
        hensa.restate(july, august)
    for other in (july, PAID):  # whose month is not known
        assert hensa.restate(other, july).counts["missing_before"] == 0
        assert hensa.restate(july, other).counts["missing_after"] == 0


# --- properties -------------------------------------------------------------------------------------------------------

points = st.one_of(st.none(), st.integers(-5, 20), st.integers(-(2**62), 2**62))
runs = st.dictionaries(st.integers(-10, 10), points, max_size=15)
policies = st.sampled_from(["top_up", "net"])


@given(runs, runs, policies)
@examples(300)
def test_rows_counts_and_totals_are_those_of_the_definition(before, after, policy):
    rows = []
    for id_ in sorted({*before, *after}):
        old, new = before.get(id_), after.get(id_)
        delta = (new or 0) - (old or 0)
        if id_ not in before:
            status = "missing_before"
        elif id_ not in after:
            status = "missing_after"
        else:
            status = "underpaid" if delta > 0 else "overpaid" if delta < 0 else "unchanged"
        rows.append((id_, status, old, new, delta, max(delta, 0) if policy == "top_up" else delta))
    found = hensa.restate(run_of(before), run_of(after), policy)
    assert rows_of(found) == [row for row in rows if row[1] != "unchanged"]
    assert found.counts == {name: sum(row[1] == name for row in rows) for name in STATUSES}
    due = [row[5] for row in rows]
    assert found.totals == {
        "before": sum(row[2] or 0 for row in rows),
        "after": sum(row[3] or 0 for row in rows),
        **{name: sum(row[4] for row in rows if row[1] == name) for name in STATUSES},
        "delta": sum(row[4] for row in rows),
        "due": sum(due),
        "to_pay": sum(each for each in due if each > 0),
        "to_get_back": sum(each for each in due if each < 0),
    }


@given(runs, runs)
@examples(100)
def test_a_top_up_is_never_negative_and_nobody_ends_below_either_run(before, after):
    found = hensa.restate(run_of(before), run_of(after))
    for row in found.table.to_pylist():
        assert row["due"] >= 0
        assert (row["before"] or 0) + row["due"] == max(row["before"] or 0, row["after"] or 0)


@given(runs, runs)
@examples(100)
def test_by_net_everybody_ends_with_the_points_after(before, after):
    for row in hensa.restate(run_of(before), run_of(after), "net").table.to_pylist():
        assert (row["before"] or 0) + row["due"] == (row["after"] or 0)


@given(runs, runs, policies, st.randoms(use_true_random=False), st.integers(1, 4))
@examples(100)
def test_the_order_and_the_chunks_of_the_rows_change_nothing(before, after, policy, random, chunk):
    def moved(run):
        rows = random.sample(range(run.num_rows), run.num_rows)
        table = run.take(pa.array(rows, pa.int64()))
        return pa.Table.from_batches(table.to_batches(max_chunksize=chunk), table.schema)

    found = hensa.restate(run_of(before), run_of(after), policy)
    again = hensa.restate(moved(run_of(before)), moved(run_of(after)), policy)
    assert again.table.equals(found.table)
    assert (again.counts, again.totals) == (found.counts, found.totals)


@given(runs, policies)
@examples(100)
def test_any_run_against_itself_is_empty(run, policy):
    found = hensa.restate(run_of(run), run_of(run), policy)
    assert (found.table.num_rows, found.counts["unchanged"], found.totals["due"]) == (0, len(run), 0)


@given(runs, runs)
@examples(100)
def test_the_other_way_round_every_delta_changes_its_sign(before, after):
    there, back = (hensa.restate(run_of(a), run_of(b), "net") for a, b in ((before, after), (after, before)))
    assert there.table["delta"].to_pylist() == [-delta for delta in back.table["delta"].to_pylist()]


# --- the command ------------------------------------------------------------------------------------------------------


def hensa_command(*args):
    from typer import testing as typer_testing

    from hensa import cli

    return typer_testing.CliRunner().invoke(cli.app, [str(arg) for arg in args])


@pytest.fixture
def files(tmp_path):
    pq.write_table(pa.table(PAID), tmp_path / "paid.parquet")
    lines = zip(*CORRECTED.values(), strict=True)
    (tmp_path / "corrected.csv").write_text("\n".join(["referrer_id,reward", *(f"{id_},{n}" for id_, n in lines)]))
    return tmp_path


def test_the_command_writes_the_rows_and_prints_the_summary(files):
    out = files / "due.csv"
    done = hensa_command("restate", files / "paid.parquet", files / "corrected.csv", "-o", out)
    assert (done.exit_code, done.stdout) == (0, "")
    assert out.read_text().splitlines() == [
        '"referrer_id","status","before","after","delta","due"',
        '2,"underpaid",200,250,50,50',
        '3,"overpaid",300,299,-1,0',
        '4,"missing_after",400,,-400,0',
        '5,"underpaid",,50,50,50',
        '6,"missing_before",,60,60,60',
    ]
    title, *lines = repr(hensa.restate(PAID, CORRECTED)).splitlines()
    told = [line.split() for line in done.stderr.replace("+0", "0").splitlines()]
    assert done.stderr.startswith(f"{title}\n")
    assert told[1] == ["status", "ids", "points"]
    assert told[2 : 2 + len(lines)] == [line.replace("+0", "0").split() for line in lines]


def test_the_command_gives_the_summary_as_json(files):
    paths = files / "paid.parquet", files / "corrected.csv"
    done = hensa_command("restate", *paths, "-o", files / "due.parquet", "--policy", "net", "--json")
    assert json.loads(done.stdout) == {
        "policy": "net",
        "counts": COUNTS,
        "totals": {**TOTALS, "due": -241, "to_pay": 160, "to_get_back": -401},
    }
    assert pq.read_table(files / "due.parquet")["due"].to_pylist() == [50, -1, -400, 50, 60]


def test_the_command_takes_other_columns(files):
    for name in ("a", "b"):
        (files / f"{name}.csv").write_text(f"board,member,prize\nlight,{name},5\noverall,a,7\n")
    options = ("--id-column", "board", "--id-column", "member", "--points", "prize")
    done = hensa_command("restate", files / "a.csv", files / "b.csv", "-o", files / "due.csv", *options)
    assert done.exit_code == 0
    assert (files / "due.csv").read_text().splitlines()[1:] == [
        '"light","a","missing_after",5,,-5,0',
        '"light","b","missing_before",,5,5,5',
    ]


def test_an_error_names_the_file_that_it_is_about(files):
    twice = files / "twice.csv"
    twice.write_text("referrer_id,reward\n7,1\n7,1\n")
    for paths in ((files / "corrected.csv", twice), (twice, files / "corrected.csv")):
        done = hensa_command("restate", *paths, "-o", files / "due.csv")
        assert done.exit_code == 1
        assert done.stderr == (
            f"hensa: {twice}: Row 1 (line 3) has the id of row 0 (line 2) again (referrer_id 7); "
            "every id may stand once.\n"
        )
    assert not (files / "due.csv").exists()


def test_points_that_are_no_whole_number_are_named_by_line_and_column(files):
    (files / "half.csv").write_text("referrer_id,reward\n1,100\n2,200.5\n")
    done = hensa_command("restate", files / "corrected.csv", files / "half.csv", "-o", files / "due.csv")
    assert done.exit_code == 1
    found = "line 3, column reward: '200.5' is not a whole number, such as 10 or 10.0."
    assert done.stderr == f"hensa: {files / 'half.csv'}: {found}\n"


FLAT = """
name = "{}"
rule = {{ kind = "standard-score", measures = [{{ column = "n" }}] }}
rates = {{ steps = [[0, {}]] }}
reward = {{ base = "b" }}
"""


@pytest.fixture
def runs(tmp_path):
    """Paid files by their names: by 10% of July and of August, by 20%, and by 20% under the name of the 10%."""
    (tmp_path / "rows.csv").write_text("referrer_id,n,b\n1,3,100\n")
    for out, name, rate, month in (
        ("july", "low", 10, "2019-07"), ("august", "low", 10, "2019-08"), ("high", "high", 20, "2019-07"),
        ("other", "low", 20, "2019-07"),
    ):  # fmt: skip
        program = tmp_path / f"{name}.toml"
        program.write_text(FLAT.format(name, rate))
        for suffix in ("csv", "parquet"):
            options = ("-o", tmp_path / f"{out}.{suffix}", "-p", program, "--month", month)
            assert hensa_command("score", tmp_path / "rows.csv", *options).exit_code == 0
    return tmp_path


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_the_command_refuses_runs_of_two_months(runs, suffix):
    paths = runs / f"july.{suffix}", runs / f"august.{suffix}"
    done = hensa_command("restate", *paths, "-o", runs / "due.csv")
    assert done.exit_code == 1
    assert "The runs are of the months 2019-07 and 2019-08" in done.stderr
    assert not (runs / "due.csv").exists()


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize(
    ("after", "told"),
    [
        ("july", None),
        ("high", "The runs are by different rules: low before and high after\n"),
        ("other", "The runs are by different rules: two that are named low\n"),
    ],
)
def test_the_command_says_that_two_runs_are_by_different_rules(runs, after, told, suffix):
    done = hensa_command("restate", runs / "july.csv", runs / f"{after}.{suffix}", "-o", runs / "due.csv")
    assert done.exit_code == 0
    assert ("different rules" in done.stderr) == (told is not None)
    assert (told or "") in done.stderr
    assert hensa_command("verify", runs / "due.csv").exit_code == 0


@pytest.mark.parametrize(
    "args",
    [
        ("restate", "a.csv"),
        ("restate", "a.csv", "b.csv"),
        ("restate", "a.csv", "b.csv", "-o", "-", "--json"),
        ("restate", "-", "-", "-o", "c.csv"),
        ("restate", "a.csv", "b.csv", "-o", "c.csv", "--policy", "gross"),
    ],
)
def test_bad_usage_exits_with_2(args):
    assert hensa_command(*args).exit_code == 2


@pytest.mark.long
def test_ten_million_ids_are_restated():
    n = 10_000_000
    draw = np.random.default_rng(6)
    ids, old = draw.permutation(n), draw.integers(0, 10**12, n)
    new = old + np.where(ids % 1000 == 0, 5, 0)
    order = draw.permutation(n)
    found = hensa.restate({"referrer_id": ids, "reward": old}, {"referrer_id": ids[order], "reward": new[order]})
    assert found.table["referrer_id"].to_pylist() == list(range(0, n, 1000))
    assert found.totals["due"] == 5 * n // 1000
