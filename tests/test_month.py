"""A month from raw entries to points under every built-in program, by the commands, with numbers worked out by hand."""

import csv
import json

import pytest

import hensa

pytest.importorskip("duckdb")
from typer import testing

from hensa import cli

# Of Ann's friends Ben, Cho and Dan registered by the last second of August in Japan, and Eve in the first of September.
MEMBERS = """\
member_id,referrer_id,registered_at,channel
ann,NULL,2018-01-01,
ben,ann,2019-05-01,banner
cho,ann,2019-08-31 23:59:59,banner
dan,ann,2019-08-31T14:59:59Z,banner
eve,ann,2019-08-31T15:00:00Z,banner
zed,zed,2019-08-02,banner
xia,yui,2019-08-03,banner
yui,xia,2019-08-03,banner
"""
PASSBOOK = """\
member_id,kind,points,status,used_at,entered_at,judged_at
ben,ad,1000,valid,2019-08-10,2019-08-12,2019-09-01
ben,ad,1000,valid,2019-08-10,2019-08-12,2019-09-01
ben,exchange,-300,valid,2019-09-23,2019-09-23,2019-09-23
cho,ad,500,pending,2019-08-31,2019-09-01,null
dan,ad,300,rejected,2019-08-31,2019-09-01,2019-09-02
dan,content,9000,valid,2019-09-01,2019-09-01,2019-09-05
dan,ad,77,valid,2019-09-02,2019-09-03,2019-09-30 23:59:59
eve,ad,50,valid,2019-09-01,2019-09-02,2019-09-30T15:00:00Z
ann,ad,3000,valid,2019-07-01,2019-07-02,2019-09-10
fox,ad,10,valid,2019-08-01,2019-08-02,2019-09-02
"""


def command(*args):
    result = testing.CliRunner().invoke(cli.app, [str(arg) for arg in args])
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("month")
    (path / "members.csv").write_text(MEMBERS)
    (path / "passbook.csv").write_text(PASSBOOK)
    return path


def paid(folder, program, month, *options):
    """What the commands pay by a program, as rows of text without the ids of referrers, and the report of the rows."""
    rows, out = folder / "rows.csv", folder / "paid.csv"
    inputs = ("--members", folder / "members.csv", "--passbook", folder / "passbook.csv", "--month", month)
    report = command("rows", *inputs, *options, "-o", rows).stderr
    command("score", rows, "-p", program, "--month", month, "-o", out)
    command("verify", out)
    with out.open(newline="") as file:
        found = list(csv.DictReader(file))
    assert {row.pop("referrer_id") for row in found} == {"ann"}
    return found, report


def test_september_under_hapi_tomo(folder):
    # Three friends are stage 3, and 3,000 own points stage 4. Ben's 1,000 once and Dan's 77: floor(1,077 x 30%).
    [row], report = paid(folder, "hapi-tomo", "2019-09")
    assert row == {
        "new_referrals": "2", "ad_users": "2", "friend_points": "1077", "cumulative_referrals": "3",
        "own_points": "3000", "stage": "4", "rate": "0.3", "reward": "323",
    }  # fmt: skip
    found = dict(line.split()[:2] for line in report.partition("found")[2].splitlines() if line[:1].isalpha())
    assert found == {
        "spelled_nulls": "2", "self_referrals": "1", "circular_referrals": "2", "duplicate_entries": "1",
        "unknown_entries": "1",
    }  # fmt: skip


def test_september_under_share_hapi(folder):
    # 100 to each side for Eve's registration, and for the first valid ads of Ben and Dan; Cho's is pending.
    found, _ = paid(folder, "share-hapi", "2019-09", "--friends")
    events = {row["friend_id"]: (row["registrations"], row["first_valid_ads"]) for row in found}
    assert events == {"ben": ("0", "1"), "cho": ("0", "0"), "dan": ("0", "1"), "eve": ("1", "0")}
    assert [row["reward"] for row in found] == [row["friend_reward"] for row in found] == ["100", "0", "100", "100"]


def test_september_and_october_under_friend_benefit(folder):
    # 100 to Ann 7 days after Ben's first exchange of the 23rd, 30 to Eve for registering, nothing for early first ads.
    found, _ = paid(folder, "friend-benefit", "2019-09", "--friends")
    points = {row["friend_id"]: (int(row["reward"]), int(row["friend_reward"])) for row in found}
    assert {friend: each for friend, each in points.items() if any(each)} == {"ben": (100, 0), "eve": (0, 30)}
    assert [row["friend_id"] for row in found if row["early_first_ads"] == "1"] == ["cho", "dan", "eve"]
    # Eve's ad was judged in October, which share-hapi would pay for and this program does not.
    found, _ = paid(folder, "friend-benefit", "2019-10", "--friends")
    assert [(row["friend_id"], row["first_valid_ads"], row["friend_reward"]) for row in found] == [("eve", "1", "0")]


def test_october_under_hapitas_friend(folder):
    # Eve is new; Dan and Eve used ads in September; Eve's 50 were judged valid in the first second of October.
    # A referrer alone is on every mean: a score of 50, and 10%.
    [row], _ = paid(folder, "hapitas-friend", "2019-10")
    assert row == {
        "new_referrals": "1", "ad_users": "2", "friend_points": "50", "cumulative_referrals": "4", "own_points": "0",
        "score": "50", "rate": "0.1", "reward": "5",
    }  # fmt: skip


def test_python_counts_and_pays_the_same(folder):
    sources = folder / "members.csv", folder / "passbook.csv"
    rewards = {}
    for name, month in (("hapi-tomo", "2019-09"), ("share-hapi", "2019-09"), ("hapitas-friend", "2019-10")):
        program = hensa.Program.load(name)
        rows = (hensa.friend_rows if name == "share-hapi" else hensa.referrer_rows)(*sources, month)
        assert json.loads(rows.schema.metadata[b"hensa.ledger"])["month"] == month
        rewards[name] = hensa.score(rows, program, month=month)["reward"].to_pylist()
    assert rewards == {"hapi-tomo": [323], "share-hapi": [100, 0, 100, 100], "hapitas-friend": [5]}


def test_a_member_on_27_5_percent_was_paid_27_500():
    # The one published payout: 100,000 friend points in October 2019. Everyone alike has a score of 50.
    text = hensa.Program.load("hapitas-friend").to_toml().replace("[50, 10.0,", "[50, 27.5,")
    rows = {"new_referrals": [3, 3], "ad_users": [4, 4], "friend_points": [100_000, 99_999]}
    paid = hensa.score(rows, hensa.Program.parse(text), columns=["rate", "reward"])
    # 99,999 x 27.5% = 27,499.725
    assert paid.select(["rate", "reward"]).to_pylist() == [
        {"rate": 0.275, "reward": 27_500},
        {"rate": 0.275, "reward": 27_499},
    ]
