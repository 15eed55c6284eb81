"""Friend benefits: which event of a friend counts in which month, what it pays, and plain Python on random ledgers."""

import csv
import json
import random
import subprocess
import sys
from collections import Counter, defaultdict
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_ledger import BEFORE, PEAK, TIMES, TOKYO, as_columns, circles_by_walking, clean, null, wall, write_csv

import hensa
from hensa import Program, reference
from hensa.errors import DataError, HensaError, ProgramError
from hensa.ledger import FINDINGS, KEY
from hensa.program import days_of
from hensa.sample import sample_ledger

pytest.importorskip("duckdb")

MEMBERS = ("member_id", "referrer_id", "registered_at", "channel")
PASSBOOK = ("member_id", "kind", "status", "used_at", "entered_at", "judged_at")
COLUMNS = ["friend_id", "referrer_id", "registrations", "early_first_ads", "first_exchanges", "first_valid_ads"]
BENEFIT = Program.load("friend-benefit")
SHARE_HAPI = Program.load("share-hapi")


def members_of(*rows):
    return {name: [row[i] for row in rows] for i, name in enumerate(MEMBERS)}


def passbook_of(*rows):
    """A passbook of rows that may end before judged_at, which is then long after."""
    return {name: [(*row, "2020-06-30")[i] for row in rows] for i, name in enumerate(PASSBOOK)}


def counted(members, passbook, month="2019-10", **options):
    """Registrations, early first ads and first exchanges by friend."""
    table = hensa.friend_rows(members, passbook, month, **options)
    return {row["friend_id"]: tuple(row[name] for name in COLUMNS[2:5]) for row in table.to_pylist()}


def pair(registered="2019-10-01", channel="banner", referrer=1):
    """Member 1, and member 2, whom somebody brought."""
    return members_of((1, None, BEFORE, None), (2, referrer, registered, channel))


def ad(used="2019-10-02", entered="2019-10-04", status="valid", kind="ad"):
    return (2, kind, status, used, entered)


def early(*entries, registered="2019-10-01", month="2019-10", **options):
    return counted(pair(registered), passbook_of(*entries), month, **options).get(2, (0, 0, 0))[1]


def exchanged(*days, month="2019-10", status="valid"):
    entries = [ad(day, None, status, "exchange") for day in days]
    return counted(pair(BEFORE), passbook_of(*entries), month).get(2, (0, 0, 0))[2]


def valid_ads(*entries, month, **options):
    """First valid ads of the friend in a month."""
    table = hensa.friend_rows(pair(BEFORE), passbook_of(*entries), month, **options)
    return sum(table["first_valid_ads"].to_pylist())


def findings(table):
    return {name: found["count"] for name, found in json.loads(table.schema.metadata[KEY])["findings"].items()}


# --- a month by hand --------------------------------------------------------------------------------------------------


def test_a_month_worked_by_hand():
    members = members_of(
        (1, None, "2018-01-01", None),
        (2, 1, "2019-10-01", "banner"),  # registered, and used an ad on the last day
        (3, 1, "2019-10-20", "mail"),  # by no banner
        (4, 1, "2019-09-29", "banner"),  # registered in September, entered in October
        (5, 2, "2019-01-01", "banner"),  # used a first ad much later, and exchanged
        (6, 2, "2019-01-01", "banner"),  # nothing in October
        (7, None, "2019-10-01", "banner"),  # brought by nobody
    )
    passbook = passbook_of(
        (2, "ad", "pending", "2019-10-08", "2019-10-12", None),
        (3, "ad", "valid", "2019-10-21", "2019-10-22", "2019-11-01"),
        (4, "ad", "valid", "2019-09-30", "2019-10-02", "2019-10-31"),
        (5, "ad", "valid", "2019-10-02", "2019-10-04", "2019-10-05"),
        (5, "exchange", "valid", "2019-10-10", "2019-10-10"),
        (6, "exchange", "valid", "2019-10-25", "2019-10-25"),  # due on 1 November
        (7, "ad", "valid", "2019-10-02", "2019-10-04"),
    )
    table = hensa.friend_rows(members, passbook, "2019-10")
    assert table.to_pylist() == [
        dict(zip(COLUMNS, row, strict=True))
        for row in ((2, 1, 1, 1, 0, 0), (3, 1, 1, 0, 0, 0), (4, 1, 0, 1, 0, 1), (5, 2, 0, 0, 1, 1))
    ]
    assert table.schema.names == COLUMNS
    assert table.schema.types == [pa.int64(), pa.int64(), *[pa.int32()] * 4]
    report = json.loads(table.schema.metadata[KEY])
    assert report == {
        "month": "2019-10",
        "zone": "Asia/Tokyo",
        "counts": {
            "registrations": 7, "members": 7, "friends": 5, "friends, by a banner": 4, "entries": 7,
            "entries, other kind": 0, "entries, rejected": 0, "entries, of others": 1, "entries, counted": 6,
            "friends, counted": 4,
        },
        "findings": {},
    }  # fmt: skip
    scored = hensa.score(table, BENEFIT, month="2019-10")
    assert scored["friend_reward"].to_pylist() == [400, 0, 400, 0]
    assert scored["reward"].to_pylist() == [0, 0, 0, 0]
    scored = hensa.score(table, BENEFIT, month="2019-09", any_month=True)  # had the rules of September held
    assert scored["friend_reward"].to_pylist() == [30, 30, 0, 0]
    assert scored["reward"].to_pylist() == [0, 0, 0, 100]
    # 100 points to each side for a registration, and 100 for a first valid ad
    scored = hensa.score(table, SHARE_HAPI, month="2019-09", any_month=True)
    assert scored["reward"].to_pylist() == scored["friend_reward"].to_pylist() == [100, 100, 100, 100]


# --- the seven days ---------------------------------------------------------------------------------------------------

# Registered, used, and whether that is within 7 days by the calendar of Japan, UTC+9.
WINDOW = [
    ("2019-10-01", "2019-10-01", 1),
    ("2019-10-01", "2019-10-08", 1),
    ("2019-10-01", "2019-10-09", 0),
    ("2019-10-01", "2019-09-30", 0),
    ("2019-10-01 00:00:00", "2019-10-08 23:59:59.999999", 1),
    ("2019-10-01 00:00:00", "2019-10-09 00:00:00", 0),
    ("2019-10-01 23:59:59", "2019-10-08 23:59:59.999999", 1),
    ("2019-10-01 23:59:59", "2019-10-09 00:00:00", 0),
    ("2019-10-01 12:00:00", "2019-10-01", 1),  # a use of which only the day is known
    ("2019-10-01 12:00:00", "2019-10-08", 1),
    ("2019-10-01", "2019-10-08 23:59", 1),
    ("2019-09-30T15:00:00Z", "2019-10-08T14:59:59Z", 1),
    ("2019-09-30T15:00:00Z", "2019-10-08T15:00:00Z", 0),
    ("2019-09-30T14:59:59Z", "2019-10-07T14:59:59Z", 1),
    ("2019-09-30T14:59:59Z", "2019-10-07T15:00:00Z", 0),
    ("2019-09-30T15:00:00Z", "2019-09-30T14:59:59Z", 0),
    ("2019-10-01T00:00:00+09:00", "2019-10-09T00:00:00+10:00", 1),
    ("2019-10-24", "2019-10-31", 1),
]


@pytest.mark.parametrize(("registered", "used", "within"), WINDOW)
def test_a_first_ad_is_early_until_the_end_of_the_seventh_day_after_that_of_registering(registered, used, within):
    assert early(ad(used, "2019-10-31"), registered=registered) == within


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "UTC", "America/New_York"])
def test_the_days_are_those_of_the_zone(zone):
    in_japan = zone == "Asia/Tokyo"
    # 30 September everywhere, and then 8 October in Japan alone.
    entry = ad("2019-10-07T16:00:00Z", "2019-10-20")
    assert early(entry, registered="2019-09-30T14:00:00Z", zone=zone) == (not in_japan)
    # 1 October in Japan alone, and then 8 October everywhere.
    entry = ad("2019-10-08T14:00:00Z", "2019-10-20")
    assert early(entry, registered="2019-09-30T16:00:00Z", zone=zone) == in_japan


def test_seven_days_are_counted_across_a_change_of_clocks():
    # Clocks in New York went back on 3 November 2019: the last second is 8 days and 1 hour less a second later.
    registered = "2019-11-01T04:00:00Z"
    for used, within in (("2019-11-09T04:59:59Z", 1), ("2019-11-09T05:00:00Z", 0)):
        entries = ad(used, "2019-11-20")
        assert early(entries, registered=registered, month="2019-11", zone="America/New_York") == within


# --- the month --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entered", "month"),
    [
        ("2019-09-30", "2019-09"),
        ("2019-09-30 23:59:59.999999", "2019-09"),
        ("2019-10-01", "2019-10"),
        ("2019-09-30T15:00:00Z", "2019-10"),
        ("2019-10-31T14:59:59Z", "2019-10"),
        ("2019-10-31T15:00:00Z", "2019-11"),
        ("2019-12-24", "2019-12"),  # that it is entered within 5 days is up to the operator
    ],
)
def test_an_early_first_ad_counts_in_the_month_in_which_it_was_entered(entered, month):
    for asked in ("2019-09", "2019-10", "2019-11", "2019-12"):
        assert early(ad("2019-09-30", entered), registered="2019-09-28", month=asked) == (asked == month)


@pytest.mark.parametrize(
    ("registered", "month"),
    [
        ("2019-09-30", "2019-09"),
        ("2019-09-30T14:59:59Z", "2019-09"),
        ("2019-09-30T15:00:00Z", "2019-10"),
        ("2019-10-31 23:59:59", "2019-10"),
        ("2019-11-01", "2019-11"),
    ],
)
def test_a_registration_counts_in_its_own_month(registered, month):
    for asked in ("2019-09", "2019-10", "2019-11"):
        assert counted(pair(registered), passbook_of(), asked) == ({2: (1, 0, 0)} if asked == month else {})


@pytest.mark.parametrize(
    ("day", "month"),
    [
        ("2019-09-23", "2019-09"),
        ("2019-09-23 23:59:59.999999", "2019-09"),
        ("2019-09-24", "2019-10"),
        ("2019-09-23T15:00:00Z", "2019-10"),
        ("2019-10-24", "2019-10"),
        ("2019-10-24T14:59:59Z", "2019-10"),
        ("2019-10-25", "2019-11"),
    ],
)
def test_a_first_exchange_counts_in_the_month_of_the_day_7_days_later(day, month):
    for asked in ("2019-08", "2019-09", "2019-10", "2019-11"):
        assert exchanged(day, month=asked) == (asked == month)


@pytest.mark.parametrize(
    ("judged", "month"),
    [
        ("2019-09-30", "2019-09"),
        ("2019-09-30 23:59:59.999999", "2019-09"),
        ("2019-10-01", "2019-10"),
        ("2019-09-30T15:00:00Z", "2019-10"),
        ("2019-10-31T14:59:59Z", "2019-10"),
        ("2019-10-31T15:00:00Z", "2019-11"),
    ],
)
def test_a_first_valid_ad_counts_in_the_month_in_which_it_was_judged(judged, month):
    for asked in ("2019-08", "2019-09", "2019-10", "2019-11"):
        assert valid_ads((*ad("2019-08-01", "2019-08-02"), judged), month=asked) == (asked == month)


# --- which entries ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("status", "counts"), [("pending", 1), ("valid", 1), ("rejected", 0)])
def test_pending_and_valid_entries_count_and_rejected_ones_do_not(status, counts):
    assert early(ad(status=status)) == counts
    assert exchanged("2019-10-01", status=status) == counts


@pytest.mark.parametrize("kind", ["content", "bonus", "game", "exchange"])
def test_only_an_ad_is_an_ad(kind):
    assert early(ad(kind=kind)) == 0


@pytest.mark.parametrize("kind", ["content", "bonus", "game", "ad"])
def test_only_an_exchange_is_an_exchange(kind):
    assert counted(pair(BEFORE), passbook_of(ad("2019-10-01", kind=kind))) == {}


def test_however_many_early_ads_count_once():
    assert early(ad("2019-10-02"), ad("2019-10-02"), ad("2019-10-03"), ad("2019-10-05", status="pending")) == 1


def test_an_ad_after_a_rejected_one_is_the_first():
    assert early(ad(status="rejected"), ad("2019-10-08")) == 1
    assert early(ad(status="rejected"), ad("2019-10-09")) == 0


def test_of_several_early_ads_the_one_entered_first_says_the_month():
    entries = ad("2019-10-02", "2019-11-01"), ad("2019-10-03", "2019-10-31"), ad("2019-11-20", "2019-10-01")
    assert [early(*entries, month=month) for month in ("2019-09", "2019-10", "2019-11")] == [0, 1, 0]


def test_only_the_first_exchange_counts():
    assert [exchanged("2019-10-10", "2019-09-10", month=month) for month in ("2019-09", "2019-10")] == [1, 0]
    assert exchanged("2019-10-10", "2019-10-11") == 1


@pytest.mark.parametrize("status", ["pending", "rejected"])
def test_an_ad_that_is_not_valid_is_no_first_valid_ad(status):
    entries = (*ad(status=status), "2019-09-15"), (*ad(), "2019-10-15")
    assert [valid_ads(*entries, month=month) for month in ("2019-09", "2019-10")] == [0, 1]


@pytest.mark.parametrize("kind", ["content", "bonus", "exchange"])
def test_only_an_ad_is_a_first_valid_ad(kind):
    assert valid_ads((*ad(kind=kind), "2019-10-15"), month="2019-10") == 0


def test_of_several_valid_ads_the_one_judged_first_counts_whichever_was_used_first():
    entries = (*ad("2019-08-01", "2019-08-02"), "2019-11-02"), (*ad("2019-09-20", "2019-09-21"), "2019-10-31")
    assert [valid_ads(*entries, month=month) for month in ("2019-10", "2019-11")] == [1, 0]


def test_a_valid_ad_that_was_not_judged_is_found_and_no_first_valid_ad():
    table = hensa.friend_rows(pair(), passbook_of((*ad(), None), (*ad(), None)), "2019-10")
    assert table.select(COLUMNS[2:]).to_pylist() == [dict(zip(COLUMNS[2:], (1, 1, 0, 0), strict=True))]
    assert findings(table) == {"unjudged_entries": 2}


@pytest.mark.parametrize("referrer", [None, 2])
def test_who_was_brought_by_nobody_has_no_row(referrer):
    assert counted(pair(referrer=referrer), passbook_of(ad(), ad(kind="exchange", used="2019-10-01"))) == {}


def test_who_was_brought_in_a_circle_has_no_row():
    members = members_of((1, 2, "2019-10-01", "banner"), (2, 1, "2019-10-01", "banner"), (3, 1, "2019-10-01", "banner"))
    assert counted(members, passbook_of(ad())) == {3: (1, 0, 0)}


def test_a_referrer_who_is_no_member_is_one():
    assert counted(pair(referrer=99), passbook_of(ad())) == {2: (1, 1, 0)}


# --- the channel ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("channel", "counts"), [("banner", 1), ("mail", 0), (None, 0), ("null", 0)])
def test_an_early_first_ad_takes_a_registration_by_a_banner_and_other_events_do_not(channel, counts):
    entries = ad(), ad("2019-10-01", kind="exchange")
    assert counted(pair(channel=channel), passbook_of(*entries)) == {2: (1, counts, 1)}


def test_without_channels_every_friend_came_by_a_banner():
    members = pair()
    del members["channel"]
    assert counted(members, passbook_of(ad())) == {2: (1, 1, 0)}


@pytest.mark.parametrize("values", [["mail", "banner"], pa.array(["mail", "banner"]).dictionary_encode(), [None, None]])
def test_channels_may_be_of_any_type_of_text(values):
    by_banner = pa.array(values).to_pylist()[1] == "banner"
    assert counted(pair() | {"channel": values}, passbook_of(ad())) == {2: (1, int(by_banner), 0)}


def test_a_channel_that_is_no_text_is_an_error():
    with pytest.raises(DataError, match=r"members: column 'channel' is of type int64; allowed: text\."):
        counted(pair() | {"channel": [1, 2]}, passbook_of(ad()))


@pytest.mark.parametrize("channel", ["Banner", " banner"])
def test_a_channel_that_is_nearly_ours_is_an_error_unless_a_mapping_names_it(channel):
    with pytest.raises(DataError, match=rf"^members: row 1, column 'channel': found '{channel}'; allowed: 'banner' as"):
        counted(pair(channel=channel), passbook_of(ad()))
    for ours, early in (("banner", 1), ("other", 0)):
        found = counted(pair(channel=channel), passbook_of(ad()), mapping={"channels": {ours: [channel]}})
        assert found == {2: (1, early, 0)}


def test_of_equal_registrations_by_two_channels_the_one_by_a_banner_holds():
    rows = [(2, 1, "2019-10-01", channel) for channel in ("mail", "banner", "search")]
    for order in (rows, rows[::-1]):
        table = hensa.friend_rows(members_of(*order), passbook_of(ad()), "2019-10")
        assert table["early_first_ads"].to_pylist() == [1]
        # Two that are by no banner are the same.
        assert findings(table) == {"duplicate_members": 1, "conflicting_members": 1, "unknown_referrers": 1}


def test_referrer_rows_read_no_channel():
    passbook = passbook_of(ad()) | {"points": [1], "judged_at": ["2019-10-10"]}
    with_channel, without = (
        hensa.referrer_rows(members, passbook, "2019-11")
        for members in (pair() | {"channel": [1, 2]}, {name: pair()[name] for name in MEMBERS[:3]})
    )
    assert with_channel.equals(without, check_metadata=True)


MAPPING = """
[members]
channel = "経路"
[passbook]
entered_at = "used_at"
[kinds]
ad = ["広告"]
exchange = ["交換"]
[channels]
banner = ["バナー", "twitter"]
blog = ["banner"]
"""


def test_a_mapping_renames_channels_and_kinds(tmp_path):
    path = tmp_path / "mapping.toml"
    path.write_text(MAPPING, encoding="utf-8")
    names = ("member_id", "referrer_id", "registered_at")
    members = {
        **dict(zip(names, ([1, 2, 3, 4], [9] * 4, ["2019-10-01"] * 4), strict=True)),
        "経路": ["バナー", "twitter", "banner", "blog"],
    }
    passbook = {
        "member_id": [1, 2, 3, 4, 1],
        "kind": ["広告", "ad", "広告", "広告", "交換"],
        "status": ["valid"] * 5,
        "used_at": ["2019-10-02"] * 5,
        "judged_at": ["2019-10-03"] * 5,
    }
    expected = {1: (1, 1, 1), 2: (1, 1, 0), 3: (1, 0, 0), 4: (1, 0, 0)}
    assert counted(members, passbook, mapping=path) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[channels]\nbanner = ['x']\nblog = ['x']", "channels: 'x' is listed twice"),
        ("[channels]\nbanner = 'x'", "Expected `array`, got `str`"),
        ('[channels]\nbanner = ["\\u0000"]', "NUL"),
    ],
)
def test_an_error_of_a_mapping_of_channels_names_the_file_and_the_table(text, message, tmp_path):
    path = tmp_path / "mapping.toml"
    path.write_text(text)
    with pytest.raises(HensaError, match=message) as raised:
        counted(pair(), passbook_of(), mapping=path)
    assert str(raised.value).startswith(str(path))


# --- messy input ------------------------------------------------------------------------------------------------------

MESSY = {
    "an ad without a day of use": ([ad(None)], {"undated_entries": 1}),
    "an ad that was not entered": ([ad(entered=None), ad(entered=None)], {"undated_entries": 2}),
    "an exchange without a day": ([ad(None, kind="exchange")], {"undated_entries": 1}),
    "an entry without a member": ([(None, *ad()[1:])], {"incomplete_entries": 1}),
    "an entry without a kind": ([ad(kind=None)], {"incomplete_entries": 1}),
    "an ad without a status": ([ad(status=None)], {"incomplete_entries": 1}),
    "an exchange without a status": ([ad("2019-10-01", status=None, kind="exchange")], {"incomplete_entries": 1}),
}


@pytest.mark.parametrize("case", MESSY)
def test_messy_entries_are_counted_and_dropped(case):
    entries, found = MESSY[case]
    table = hensa.friend_rows(pair(BEFORE), passbook_of(*entries), "2019-10")
    assert table.num_rows == 0
    assert findings(table) == found
    assert set(found) <= set(FINDINGS)
    with pytest.raises(DataError, match="passbook: a strict run ends at what is messy: "):
        hensa.friend_rows(pair(BEFORE), passbook_of(*entries), "2019-10", strict=True)


def test_entries_of_others_are_no_finding():
    members = members_of((1, None, BEFORE, None), (2, 1, "2019-10-01", "banner"))
    rows = [(1, *ad()[1:]), (77, *ad()[1:]), (1, *ad(None)[1:])]
    table = hensa.friend_rows(members, passbook_of(*rows), "2019-10", strict=True)
    assert json.loads(table.schema.metadata[KEY])["counts"]["entries, of others"] == 3


def test_a_member_without_a_date_has_no_early_ad_but_a_first_exchange():
    assert counted(pair(None), passbook_of(ad(), ad("2019-10-01", kind="exchange"))) == {2: (0, 0, 1)}


def test_an_exchange_needs_no_entered_at_but_the_passbook_has_the_column():
    assert exchanged("2019-10-01") == 1
    for name in ("entered_at", "judged_at"):
        passbook = passbook_of(ad())
        del passbook[name]
        with pytest.raises(DataError, match=f"passbook: found 0 columns named '{name}'"):
            counted(pair(), passbook)


@pytest.mark.parametrize("name", ["used_at", "entered_at"])
def test_a_time_that_cannot_be_read_is_an_error_unless_the_entry_does_not_count(name):
    for kind, status in (("ad", "rejected"), ("content", "?")):
        assert early(ad(**{name.split("_")[0]: "soon"}, kind=kind, status=status)) == 0
    for kind in ("ad", "exchange"):
        with pytest.raises(
            DataError, match=f"passbook: row 0, column '{name}': found 'soon'; allowed: dates and times"
        ):
            early(ad(**{name.split("_")[0]: "soon"}, kind=kind))


def test_no_rows_give_no_rows():
    table = hensa.friend_rows(members_of(), passbook_of(), "2019-10")
    assert table.num_rows == 0
    assert table.column_names == COLUMNS


# --- random messy ledgers against plain Python ------------------------------------------------------------------------


def oracle(members, entries, month, by):
    """The rows and findings of cells of text, by the rules of docs/ledger.md; ids are in the order of `by`."""
    found = Counter(spelled_nulls=sum(null(cell) for row in [*members, *entries] for cell in row))
    versions = defaultdict(set)
    for member, referrer, registered, channel in members:
        version = (wall(registered) or datetime.max, clean(referrer) is None, clean(referrer) or "")
        version += (clean(channel) != "banner",)
        if clean(member) is None:
            found["members_without_id"] += 1
        elif version in versions[member]:
            found["duplicate_members"] += 1
        else:
            versions[member].add(version)
    friends = {}
    for member, rows in versions.items():
        found["conflicting_members"] += len(rows) - 1
        registered, _, referrer, elsewhere = min(rows, key=lambda row: (*row[:2], by(row[2] or "0"), row[3]))
        found["members_without_date"] += registered == datetime.max
        if referrer == member:
            found["self_referrals"] += 1
        elif referrer:
            friends[member] = (referrer, registered, elsewhere)
    circular = circles_by_walking({friend: referrer for friend, (referrer, *_) in friends.items()})
    found["circular_referrals"] = len(circular)
    for friend in circular:
        del friends[friend]
    found["unknown_referrers"] = len({referrer for referrer, *_ in friends.values()} - versions.keys())
    ads, exchanges, valid = defaultdict(list), defaultdict(list), defaultdict(list)
    for member, kind, status, used, entered, judged in (map(clean, row) for row in entries):
        if member is None or kind is None or (kind in ("ad", "exchange") and status is None):
            found["incomplete_entries"] += 1
        elif kind in ("ad", "exchange") and status != "rejected" and member in friends:
            if used is None or (kind == "ad" and entered is None):
                found["undated_entries"] += 1
            elif kind == "ad":
                ads[member].append((wall(used).date(), wall(entered)))
                if status == "valid" and judged is None:
                    found["unjudged_entries"] += 1
                elif status == "valid":
                    valid[member].append(wall(judged))
            else:
                exchanges[member].append(wall(used))
    rows = {}
    for friend, (referrer, registered, elsewhere) in friends.items():
        days = [registered.date() + timedelta(n) for n in range(8)] if registered != datetime.max else []
        early_ads = [] if elsewhere else [entered for used, entered in ads[friend] if used in days]
        events = (
            registered if registered != datetime.max else None,
            min(early_ads, default=None),
            min(exchanges[friend]) + timedelta(7) if exchanges[friend] else None,
            min(valid[friend], default=None),
        )
        row = tuple(int(event is not None and f"{event:%Y-%m}" == month) for event in events)
        if any(row):
            rows[friend] = (referrer, *row)
    return rows, {name: count for name, count in found.items() if count}


def messy_ledger(seed):
    draw = random.Random(seed)
    people, prefix = draw.choice([4, 12, 40]), draw.choice(["", "m"])

    def some(choices, nulls=0.05):
        if draw.random() < nulls:
            return draw.choice([None, None, "null", "NULL", " None", "nan", "\\N"])
        return draw.choice(choices)

    def day(days=16):
        if draw.random() < 0.2:
            return some(TIMES)
        moment = datetime(2019, 9, 21) + timedelta(seconds=draw.randrange(days * 86_400))
        return some([f"{moment:%Y-%m-%d}", f"{moment}", f"{moment:%Y-%m-%dT%H:%M:%S}Z"])

    ids = [f"{prefix}{i}" for i in range(1, people + 1)]
    members = [
        (some([member], 0.02), some(ids[: len(ids) // 2 + 1], 0.2), day(), some(["banner", "banner", "banner", "mail"]))
        for member in ids
        for _ in range(draw.choice([0, 1, 1, 1, 1, 1, 1, 2, 3]))
    ]
    entries = [
        (
            some([*ids, f"{prefix}99"]),
            some(["ad", "ad", "ad", "exchange", "bonus"]),
            some(["valid", "pending", "rejected"]),
            day(),
            day(48),
            day(48),
        )
        for _ in range(draw.choice([0, 3 * people, 8 * people]))
    ]
    for rows in (members, entries):
        rows += draw.choices(rows, k=len(rows) // 6) if rows else []
        draw.shuffle(rows)
    return members, entries


def rows_of(table):
    return {str(row["friend_id"]): tuple(map(str, row.values()))[1:] for row in table.to_pylist()}


@pytest.mark.parametrize("seed", range(25))
def test_random_messy_ledgers_give_what_plain_python_gives(seed, tmp_path):
    members, entries = messy_ledger(seed)
    is_text = any("m" in (member or "") for member, *_ in members)
    paths = [write_csv(tmp_path / "m.csv", MEMBERS, members), write_csv(tmp_path / "p.csv", PASSBOOK, entries)]
    tables = [pa.table(as_columns(MEMBERS, members)), pa.table(as_columns(PASSBOOK, entries))]
    for sources, by in ((paths, str if is_text else int), (tables, str)):
        expected, found = oracle(members, entries, "2019-10", by)
        table = hensa.friend_rows(*sources, "2019-10")
        assert rows_of(table) == {friend: tuple(map(str, row)) for friend, row in expected.items()}
        assert findings(table) == found
        ids = table["friend_id"].to_pylist()
        assert ids == sorted(ids)


def test_the_random_ledgers_have_every_event():
    totals = Counter()
    for seed in range(25):
        for _, *row in oracle(*messy_ledger(seed), "2019-10", str)[0].values():
            totals.update(dict(zip(COLUMNS[2:], row, strict=True)))
    assert min(totals[name] for name in COLUMNS[2:]) >= 25


@pytest.mark.parametrize("order", range(3))
def test_the_order_and_the_threads_change_nothing(order):
    members, entries = messy_ledger(6)
    expected = hensa.friend_rows(as_columns(MEMBERS, members), as_columns(PASSBOOK, entries), "2019-10", threads=1)
    assert expected.num_rows > 3
    draw = random.Random(order)
    for rows in (members, entries):
        draw.shuffle(rows)
    again = hensa.friend_rows(as_columns(MEMBERS, members), as_columns(PASSBOOK, entries), "2019-10", threads=3)
    assert again.equals(expected, check_metadata=True)


@pytest.mark.parametrize("seed", range(5))
def test_month_after_month_no_event_is_paid_twice(seed):
    draw = random.Random(f"months {seed}")

    def day(first, days):
        return f"{datetime(2019, 8, 1) + timedelta(days=first + draw.randrange(days)):%Y-%m-%d}"

    members = members_of(*((i, 1, day(0, 100), "banner") for i in range(2, 40)))
    entries = []
    for _ in range(400):
        used = draw.randrange(120)
        kind = draw.choice(["ad", "ad", "exchange"])
        entries.append((draw.randrange(2, 40), kind, "valid", day(used, 1), day(used, 20), day(used + 20, 40)))
    totals = Counter()
    for month, end in (("2019-08", "2019-09"), ("2019-09", "2019-10"), ("2019-10", "2019-11"), ("2019-11", "2019-12")):
        known = passbook_of(*(entry for entry in entries if entry[4] < end))  # at the end of the month
        for row in hensa.friend_rows(members, known, month).to_pylist():
            totals.update({(row["friend_id"], name): row[name] for name in COLUMNS[2:]})
    assert set(totals.values()) == {0, 1}


# --- the program ------------------------------------------------------------------------------------------------------

# The month, and what a registration, a first exchange and an early first ad pay (to the referrer, to the friend).
AMOUNTS = [
    ("2012-01", (0, 30), (100, 0), (0, 0)),
    ("2019-09", (0, 30), (100, 0), (0, 0)),
    ("2019-10", (0, 0), (0, 0), (0, 400)),
    ("2020-12", (0, 0), (0, 0), (0, 400)),
]


@pytest.mark.parametrize(("month", "registration", "exchange", "early_ad"), AMOUNTS)
def test_until_september_2019_the_program_pays_30_and_100_and_from_then_on_400(month, registration, exchange, early_ad):
    rows = {"registrations": [1, 0, 0, 1], "first_exchanges": [0, 1, 0, 1], "early_first_ads": [0, 0, 1, 1]}
    each = [registration, exchange, early_ad]
    each.append(tuple(map(sum, zip(*each, strict=True))))
    expected = {"reward": [points for points, _ in each], "friend_reward": [points for _, points in each]}
    assert hensa.score(rows, BENEFIT, month=month).to_pydict() == rows | expected
    assert reference.score(pa.table(rows), BENEFIT, month=month) == rows | expected


def test_the_program_asks_for_the_month_and_holds_until_december_2020():
    rows = {"registrations": [1], "first_exchanges": [0], "early_first_ads": [0]}
    with pytest.raises(DataError, match="no month is named; name the month that is paid"):
        hensa.score(rows, BENEFIT)
    with pytest.raises(ProgramError, match="not in all of 2021-01"):
        hensa.score(rows, BENEFIT, month="2021-01")


# --- the command ------------------------------------------------------------------------------------------------------


def hensa_command(*args):
    from typer import testing

    from hensa import cli

    return testing.CliRunner().invoke(cli.app, [str(arg) for arg in args])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    directory = tmp_path_factory.mktemp("ledger")
    for name, reader in zip(("members", "passbook"), sample_ledger(3000, 4), strict=True):
        pq.write_table(reader.read_all(), directory / f"{name}.parquet")
    return directory


def test_the_command_writes_what_the_call_gives_and_score_pays_it(made, tmp_path):
    sources = ("--members", made / "members.parquet", "--passbook", made / "passbook.parquet", "--month", "2019-10")
    rows, paid = tmp_path / "rows.parquet", tmp_path / "paid.parquet"
    result = hensa_command("rows", "--friends", *sources, "-o", rows)
    assert (result.exit_code, result.stdout) == (0, "")
    expected = hensa.friend_rows(made / "members.parquet", made / "passbook.parquet", "2019-10")
    found = pq.read_table(rows)
    metadata = {key: value for key, value in found.schema.metadata.items() if key != b"hensa"}  # the record of the run
    assert found.replace_schema_metadata(metadata).equals(expected, check_metadata=True)
    assert f"{expected.num_rows:,} rows of 2019-10 in Asia/Tokyo" in result.stderr
    inputs = ("--input", made / "members.parquet", "--input", made / "passbook.parquet")
    assert hensa_command("verify", rows, *inputs).exit_code == 0
    assert hensa_command("score", rows, "-p", "friend-benefit", "--month", "2019-10", "-o", paid).exit_code == 0
    points = [400 * n for n in expected["early_first_ads"].to_pylist()]
    assert sum(points) > 0
    assert pq.read_table(paid)["friend_reward"].to_pylist() == points


@pytest.mark.parametrize("name", Program.names())
def test_every_built_in_program_pays_rows_of_a_ledger(made, name):
    rules = Program.load(name)
    rows = hensa.friend_rows if rules.rates is None else hensa.referrer_rows
    month = "2019-09" if rules.holds(*days_of("2019-09")) else "2019-10"
    table = rows(made / "members.parquet", made / "passbook.parquet", month)
    paid = hensa.score(table, rules, month=month)
    assert sum(sum(paid[column].to_pylist()) for column in rules.results if column.endswith("reward")) > 0


def test_show_marks_the_standing_of_each_amount():
    shown = hensa_command("programs", "show", "friend-benefit").stdout.splitlines()
    assert "effective_until  2020-12-31 [stated]" in shown
    assert [line.split() for line in shown[-6:]] == [
        ["registrations", "0", "and", "30", "[stated]"],
        ["first_exchanges", "100", "and", "0", "[public]"],
        ["early_first_ads", "0", "and", "0", "[stated]"],
        *(
            [name, "0", "and", points, "from", "2019-10-01", "to", "2020-12-31", "[stated]"]
            for name, points in (("registrations", "0"), ("first_exchanges", "0"), ("early_first_ads", "400"))
        ),
    ]


# --- a large one ------------------------------------------------------------------------------------------------------


def test_the_rows_of_the_sample_are_those_of_plain_python(made, tmp_path):
    cells = []
    for name, columns in (("members", MEMBERS[:3]), ("passbook", PASSBOOK)):
        path = tmp_path / f"{name}.csv"
        pa.csv.write_csv(pq.read_table(made / f"{name}.parquet").select(columns), path)
        with path.open(newline="") as file:
            cells.append([tuple(cell or None for cell in row) for row in csv.reader(file)][1:])
    members = [(*row, "banner") for row in cells[0]]
    expected, found = oracle(members, cells[1], "2019-10", int)
    assert found == {}
    table = hensa.friend_rows(made / "members.parquet", made / "passbook.parquet", "2019-10")
    assert rows_of(table) == {friend: tuple(map(str, row)) for friend, row in expected.items()}


@pytest.mark.long
def test_a_million_members_give_what_numpy_gives_in_bounded_memory(tmp_path):
    n = 1_000_000
    assert hensa_command("sample", "--ledger", "-n", n, "-o", tmp_path).exit_code == 0
    sources = ("--members", tmp_path / "members.parquet", "--passbook", tmp_path / "passbook.parquet")
    command = [sys.executable, "-c", PEAK, "rows", "--friends", *sources, "--month", "2019-10"]
    done = subprocess.run([*command, "-o", tmp_path / "rows.parquet"], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 2**21  # kilobytes
    # The same by arrays indexed with the ids, which count from 1; days in Japan are 9 hours ahead.
    members, passbook = (pq.read_table(tmp_path / f"{name}.parquet") for name in ("members", "passbook"))
    day, late = 86_400_000, 9 * 3_600_000
    start, end = (int(datetime(2019, month, 1, tzinfo=TOKYO).timestamp() * 1000) for month in (10, 11))
    referrer = np.concatenate([[0], members["referrer_id"].fill_null(0).to_numpy()])
    registered = np.concatenate([[0], members["registered_at"].cast(pa.int64()).to_numpy()])
    ids = passbook["member_id"].to_numpy()
    kind, status = (np.array(passbook[name].to_pylist()) for name in ("kind", "status"))
    used, entered, judged = (
        passbook[name].cast(pa.int64()).fill_null(2**62).to_numpy() for name in ("used_at", "entered_at", "judged_at")
    )
    days = (used + late) // day - (registered[ids] + late) // day
    first = {}
    for name, of, times in (
        ("early_first_ads", (kind == "ad") & (days >= 0) & (days <= 7), entered),
        ("first_exchanges", kind == "exchange", used + 7 * day),
        ("first_valid_ads", (kind == "ad") & (status == "valid"), judged),
    ):
        of &= status != "rejected"
        first[name] = np.full(n + 1, 2**62)
        np.minimum.at(first[name], ids[of], times[of])
    first["registrations"] = registered
    counts = {name: (times >= start) & (times < end) & (referrer > 0) for name, times in first.items()}
    listed = np.flatnonzero(sum(counts.values()))
    rows = pq.read_table(tmp_path / "rows.parquet")
    assert np.array_equal(rows["friend_id"].to_numpy(), listed)
    assert np.array_equal(rows["referrer_id"].to_numpy(), referrer[listed])
    for name, flags in counts.items():
        assert np.array_equal(rows[name].to_numpy(), flags[listed]), name
