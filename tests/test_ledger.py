"""The ledger: hand-worked months, each rule for messy input, and a plain-Python oracle over random messy ledgers."""

import csv
import gc
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
import tomllib
from collections import Counter, defaultdict
from datetime import date, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

import hensa
from hensa.errors import DataError, HensaError
from hensa.ledger import BATCH, FINDINGS, KEY, Ledger, on_circles
from hensa.sample import LEDGER_BLOCK, sample_ledger

pytest.importorskip("duckdb")

MEMBERS = ("member_id", "referrer_id", "registered_at")
PASSBOOK = ("member_id", "kind", "points", "status", "used_at", "entered_at", "judged_at")
COLUMNS = ["referrer_id", "new_referrals", "ad_users", "friend_points", "cumulative_referrals", "own_points"]


def members_of(*rows):
    return {name: [row[i] for row in rows] for i, name in enumerate(MEMBERS)}


def passbook_of(*rows):
    return {name: [row[i] for row in rows] for i, name in enumerate(PASSBOOK)}


def counted(members, passbook, month="2019-10", **options):
    """The rows by referrer, without the referrer."""
    table = hensa.referrer_rows(members, passbook, month, **options)
    return {row.pop("referrer_id"): row for row in table.to_pylist()}


def findings(table):
    return {name: found["count"] for name, found in json.loads(table.schema.metadata[KEY])["findings"].items()}


PAIR = members_of((1, None, "2019-01-01"), (2, 1, "2019-01-01"))
"""Member 1, who brought member 2 long ago."""


def entry(member=2, kind="ad", points=100, status="valid", used="2019-09-10", entered=None, judged="2019-10-10"):
    return (member, kind, points, status, used, entered, judged)


def of_friend(*entries, **options):
    row = counted(PAIR, passbook_of(*entries), **options)[1]
    return row["ad_users"], row["friend_points"]


# --- a month by hand --------------------------------------------------------------------------------------------------


def test_a_month_worked_by_hand():
    members = members_of(
        (1, None, "2018-01-01"),
        (2, 1, "2019-08-31"),  # to date
        (3, 1, "2019-09-01"),  # new
        (4, 1, "2019-09-30"),  # new
        (5, 1, "2019-10-01"),  # in neither count, but a friend
        (6, 5, "2019-10-02"),  # whose referrer has nobody by the end of September
        (7, 3, "2019-09-15"),
        (8, None, "2019-01-01"),  # brings nobody
    )
    passbook = passbook_of(
        entry(2, points=100, used="2019-09-05", judged="2019-10-31"),
        entry(2, points=30, used="2019-09-06", judged="2019-10-01"),
        entry(3, points=7, used="2019-08-31", judged="2019-10-02"),  # used too early
        entry(4, points=500, used="2019-09-30", judged="2019-11-01"),  # judged too late
        entry(5, points=11, used="2019-09-30", judged="2019-10-03"),  # no friend by then, but points
        entry(1, points=1000, judged="2019-10-15"),
        entry(7, points=5, judged="2019-10-15"),
        entry(8, points=9999, judged="2019-10-15"),
    )
    table = hensa.referrer_rows(members, passbook, "2019-10")
    assert table.to_pylist() == [
        dict(zip(COLUMNS, row, strict=True)) for row in ((1, 2, 2, 148, 3, 1000), (3, 1, 1, 5, 1, 7))
    ]
    assert table.schema.names == COLUMNS
    assert table.schema.types == [pa.int64(), pa.int32(), pa.int32(), pa.int64(), pa.int32(), pa.int64()]
    report = json.loads(table.schema.metadata[KEY])
    assert report["findings"] == {}
    assert report["month"] == "2019-10"
    assert report["zone"] == "Asia/Tokyo"
    assert report["counts"]["entries, counted"] == 8
    assert report["counts"]["referrers"] == 2


def test_a_month_that_no_entry_is_of_is_found_with_their_months():
    passbook = passbook_of(
        entry(used="2019-08-31", entered="2019-09-01", judged="2019-09-02"),
        entry(used="2019-10-31", entered="2019-11-01", judged="2019-11-02"),
        entry(used="2031-10-01", entered="2031-10-01", judged="2031-10-01", status="rejected"),
    )
    table = hensa.referrer_rows(PAIR, passbook, "2031-10")
    assert findings(table) == {"far_entries": 2}
    assert table["friend_points"].to_pylist() == [0]
    with pytest.raises(DataError, match=r"2 far_entries \(such as '2019-09 to 2019-11'\)"):
        hensa.referrer_rows(PAIR, passbook, "2031-10", strict=True)
    assert findings(hensa.referrer_rows(PAIR, passbook_of(), "2031-10")) == {}
    assert findings(hensa.referrer_rows(PAIR, passbook, "2019-11")) == {}


@pytest.mark.parametrize(
    ("last", "found"),
    [
        ({"judged": "2019-10-31", "status": "valid"}, {}),
        ({"judged": "2019-09-30", "status": "valid"}, {"far_entries": 2}),
        ({"judged": None, "status": "pending"}, {"far_entries": 2}),
        ({"judged": None, "status": "pending", "used": "2019-10-31"}, {}),
    ],
)
def test_a_passbook_that_ends_before_the_month_is_found_though_its_ads_count_for_ad_users(last, found):
    entries = entry(used="2019-09-01", judged="2019-09-03"), entry(**{"used": "2019-09-29", **last})
    table = hensa.referrer_rows(PAIR, passbook_of(*entries), "2019-10")
    assert (findings(table), table["ad_users"].to_pylist()) == (found, [1])


def test_january_follows_december():
    members = members_of((1, None, "2017-01-01"), (2, 1, "2018-12-31"), (3, 1, "2018-11-30"), (4, 1, "2019-01-01"))
    row = counted(members, passbook_of(entry(used="2018-12-01", judged="2019-01-31")), "2019-01")[1]
    assert row == {
        "new_referrals": 1, "ad_users": 1, "friend_points": 100, "cumulative_referrals": 2, "own_points": 0,
    }  # fmt: skip


# What a friend's registration is to October 2019 in Japan, UTC+9: 1 new in September, 0 earlier, None later.
BOUNDARIES = [
    ("2019-08-31T14:59:59.999999Z", 0),
    ("2019-08-31T15:00:00Z", 1),
    ("2019-08-31T15:00:00+00:00", 1),
    ("2019-09-30T14:59:59.999999Z", 1),
    ("2019-09-30T15:00:00Z", None),
    ("2019-09-01T00:00:00+09:00", 1),
    ("2019-08-31T23:59:59+09:00", 0),
    ("2019-08-31 10:00:00-05:00", 1),
    ("2019-08-31 09:59:59-05:00", 0),
    ("2019-10-01T00:00:00+09:00", None),
    ("2019-08-31 23:59:59.999999", 0),
    ("2019-09-01 00:00:00", 1),
    ("2019-09-01T00:00", 1),
    ("2019-09-30 23:59:59.999999", 1),
    ("2019-10-01 00:00:00", None),
    ("2019-08-31", 0),
    ("2019-09-01", 1),
    ("2019-09-30", 1),
    ("2019-10-01", None),
    ("2019/09/01", 1),
]


def as_text(text):
    return pa.array([text])


def as_instant(unit):
    def convert(text):
        moment = datetime.fromisoformat(text)
        return pa.array([moment.astimezone(ZoneInfo("UTC"))], pa.timestamp(unit, "America/New_York"))

    return convert


def as_wall(unit):
    return lambda text: pa.array([datetime.fromisoformat(text)], pa.timestamp(unit))


def as_date(type_):
    return lambda text: pa.array([date.fromisoformat(text)], type_)


OFFSETS = [(text, place) for text, place in BOUNDARIES if text[-6] in "+-"]
INSTANTS = [(text, place) for text, place in BOUNDARIES if "Z" in text]
WALLS, DATES = BOUNDARIES[10:15], BOUNDARIES[15:19]
FORMS = {
    "text": (as_text, BOUNDARIES),
    "instants in us": (as_instant("us"), [*INSTANTS, *OFFSETS]),
    "instants in ns": (as_instant("ns"), [*INSTANTS, *OFFSETS]),
    "walls in us": (as_wall("us"), WALLS),
    "walls in ns": (as_wall("ns"), WALLS),
    "dates": (as_date(pa.date32()), DATES),
    "dates in ms": (as_date(pa.date64()), DATES),
}


@pytest.mark.parametrize("form", FORMS)
def test_an_event_is_in_the_month_that_clocks_in_japan_show(form):
    convert, boundaries = FORMS[form]
    n = len(boundaries)
    times = pa.concat_arrays([convert(text) for text, _ in boundaries])
    early, ids = convert("2019-01-01" + boundaries[0][0][10:]), range(n)
    # Referrer i brought n + i on the boundary, and 2n + i early, who used an ad on it and was paid for another then.
    members = {
        "member_id": [*range(3 * n)],
        "referrer_id": [None] * n + [*ids] * 2,
        "registered_at": pa.concat_arrays([*[early] * n, times, *[early] * n]),
    }
    passbook = {
        "member_id": [2 * n + i for i in ids] * 2,
        "kind": ["ad"] * 2 * n,
        "points": [3] * n + [100] * n,
        "status": ["pending"] * n + ["valid"] * n,
        "used_at": pa.concat_arrays([times, *[early] * n]),
        "judged_at": pa.concat_arrays([pa.nulls(n, times.type), times]),
    }
    october, september = (counted(members, passbook, month) for month in ("2019-10", "2019-09"))
    for i, (text, place) in enumerate(boundaries):
        row = october[i]
        assert row["new_referrals"] == (place == 1), text
        assert row["cumulative_referrals"] == 1 + (place is not None), text
        assert row["ad_users"] == (place == 1), text
        assert september[i]["friend_points"] == (100 if place == 1 else 0), text


def test_nanoseconds_before_midnight_are_of_the_month_before():
    last = np.array(["2019-09-30T23:59:59.999999999"], "datetime64[ns]")
    early = np.array(["2019-01-01"], "datetime64[ns]")
    for zone, shift in ((None, 0), ("UTC", 9)):
        moments = np.concatenate([early, last]) - np.timedelta64(shift, "h")
        members = {"member_id": [1, 2], "referrer_id": [None, 1]}
        members["registered_at"] = pa.array(moments, pa.timestamp("ns")).cast(pa.timestamp("ns", zone))
        assert counted(members, passbook_of())[1]["new_referrals"] == 1


# zone, month, registration, whether it is of the month before. Clocks went from 00:00 to 01:00 in Asuncion, from 01:00
# back to 00:00 in Havana, and from 00:01 back to 23:01 of the day before in St. John's (IANA time zone database).
ZONES = [
    ("America/Asuncion", "2017-11", "2017-10-01", True),
    ("America/Asuncion", "2017-11", "2017-10-01T03:59:59Z", False),
    ("America/Asuncion", "2017-11", "2017-10-01T04:00:00Z", True),
    ("America/Havana", "2015-12", "2015-11-01T03:59:59Z", False),
    ("America/Havana", "2015-12", "2015-11-01T04:00:00Z", True),
    ("America/Havana", "2015-12", "2015-11-01T05:30:00Z", True),
    ("America/Havana", "2015-12", "2015-11-01 00:30", True),
    ("America/St_Johns", "2009-12", "2009-11-01T02:30:30Z", True),
    ("America/St_Johns", "2009-12", "2009-11-01T03:00:00Z", False),
    ("America/St_Johns", "2009-12", "2009-11-01T03:30:00Z", True),
    ("America/New_York", "2019-04", "2019-03-01T04:59:59Z", False),
    ("America/New_York", "2019-04", "2019-03-01T05:00:00Z", True),
    ("America/New_York", "2019-04", "2019-04-01T03:59:59Z", True),
    ("America/New_York", "2019-04", "2019-04-01T04:00:00Z", False),
    ("UTC", "2019-10", "2019-09-01T00:00:00Z", True),
    ("UTC", "2019-10", "2019-08-31T23:59:59Z", False),
]


@pytest.mark.parametrize(("zone", "month", "text", "new"), ZONES)
def test_the_calendar_of_the_zone_decides_where_clocks_change(zone, month, text, new):
    members = members_of((1, None, "2001-01-01"), (2, 1, "2001-01-01"), (3, 1, text))
    assert counted(members, passbook_of(), month, zone=zone)[1]["new_referrals"] == new


# --- what counts ------------------------------------------------------------------------------------------------------


def test_only_ads_count_and_only_valid_ones_pay():
    kinds, statuses = ("ad", "content", "bonus", "exchange", "game"), ("valid", "pending", "rejected")
    cases = [(kind, status) for kind in kinds for status in statuses]
    # Referrer i brought friend 100 + i, who has one entry.
    members = members_of(
        *((100 + i, i, "2019-01-01") for i in range(len(cases))), *((i, None, None) for i in range(15))
    )
    passbook = passbook_of(*(entry(100 + i, kind=kind, status=status) for i, (kind, status) in enumerate(cases)))
    rows = counted(members, passbook)
    expected = {("ad", "valid"): (1, 100), ("ad", "pending"): (1, 0)}
    for i, case in enumerate(cases):
        assert (rows[i]["ad_users"], rows[i]["friend_points"]) == expected.get(case, (0, 0)), case


def test_a_friend_is_one_ad_user_however_many_ads():
    assert of_friend(*(entry(points=n, used=f"2019-09-{n:02}") for n in range(1, 11))) == (1, 55)


def test_an_ad_user_must_have_registered_by_the_end_of_the_previous_month():
    members = members_of((1, None, "2019-01-01"), (2, 1, "2019-10-01"), (3, 1, "2019-01-01"))
    row = counted(members, passbook_of(entry(2)))[1]
    assert (row["ad_users"], row["friend_points"], row["cumulative_referrals"]) == (0, 100, 1)


def test_negative_points_take_back():
    assert of_friend(entry(points=100), entry(points=-130)) == (1, -30)


@pytest.mark.parametrize(
    "points",
    [
        [100, -30],
        ["100", "-30"],
        [" +100 ", "-30.00"],
        [100.0, -30.0],
        [Decimal("100.00"), Decimal("-30.00")],
        pa.array([Decimal(100), Decimal(-30)], pa.decimal32(9, 2)),
        pa.array([100, -30], pa.int16()),
    ],
    ids=str,
)
def test_points_of_every_type_are_taken_exactly(points):
    passbook = passbook_of(entry(), entry()) | {"points": points}
    assert counted(PAIR, passbook)[1]["friend_points"] == 70


def test_points_are_exact_to_the_ends_of_int64():
    assert of_friend(entry(points=2**63 - 1, entered="2019-09-11"), entry(points=-(2**63))) == (1, -1)
    assert of_friend(entry(points=2**62), entry(points=2**62 - 1)) == (1, 2**63 - 1)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_sum_beyond_int64_is_an_error_and_never_wraps(sign):
    for member, name in ((2, "friend_points"), (1, "own_points")):
        entries = [entry(member, points=sign * 2**62, entered=f"2019-09-{n}") for n in (11, 12, 13)]
        with pytest.raises(DataError, match=f"{name} of the referrer 1 is {sign * 3 * 2**62}, which is beyond int64"):
            of_friend(*entries)


@pytest.mark.parametrize(
    "points",
    [["1.5"], ["1e3"], ["1,000"], ["ten"], [1.5], [1e300], [Decimal("0.01")], [str(2**63)],
     pa.array([2**63], pa.uint64()),
     pa.array([Decimal(2**63)], pa.decimal128(38, 0))],
    ids=str,
)  # fmt: skip
def test_points_that_are_not_whole_numbers_within_int64_are_refused(points):
    with pytest.raises(
        DataError, match=r"passbook: row 0, column 'points': found '.*'; allowed: whole numbers within int64"
    ):
        counted(PAIR, passbook_of(entry()) | {"points": points})


@pytest.mark.parametrize("threads", [1, 3])
def test_the_first_row_that_is_refused_is_named_wherever_it_is(threads):
    n = 2 * BATCH + 100
    points = np.full(n, "1", dtype=object)
    for first in (2 * BATCH + 7, BATCH - 1):
        points[first], points[first + 3] = "ten", "eleven"
        passbook = {name: pa.repeat(cells[0], n) for name, cells in passbook_of(entry()).items()} | {"points": points}
        with pytest.raises(DataError, match=f"^passbook: row {first}, column 'points': found 'ten'; allowed: "):
            hensa.referrer_rows(PAIR, passbook, "2019-10", threads=threads)


@pytest.mark.parametrize("ids", ["12", "xy"])
def test_a_cell_of_a_csv_file_that_is_refused_is_named_with_its_line(ids, tmp_path):
    path = tmp_path / "members.csv"
    path.write_text(f"member_id,referrer_id,registered_at\n{ids[0]},,2019-09-01\n\n{ids[1]},{ids[0]},row 0\n")
    message = f"{path}: row 1 (line 4), column 'registered_at': found 'row 0'; allowed: "
    with pytest.raises(DataError, match=f"^{re.escape(message)}"):
        hensa.referrer_rows(path, passbook_of(), "2019-10")


def test_the_row_is_named_also_of_a_stream_that_is_given_but_once():
    class Once:
        def __arrow_c_stream__(self, schema=None):
            return streams.pop().__arrow_c_stream__(schema)

    streams = [pa.table(passbook_of(entry(points="1"), entry(points="ten")))]
    with pytest.raises(DataError, match=r"^passbook: row 1, column 'points': found 'ten'; allowed: "):
        hensa.referrer_rows(PAIR, Once(), "2019-10")


def test_rows_that_come_but_once_are_refused_without_their_numbers():
    passbook = pa.table(passbook_of(entry(points="ten")))
    with pytest.raises(DataError, match=r"^passbook: column 'points': found 'ten'; allowed: "):
        hensa.referrer_rows(PAIR, pa.RecordBatchReader.from_batches(passbook.schema, passbook.to_batches()), "2019-10")


def test_a_cell_of_an_entry_that_is_no_ad_is_not_read():
    assert of_friend(entry(points="?", kind="game", status="?", used="?", judged="?"), entry(points="5")) == (1, 5)


# --- ids --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [str, "m{:03}".format, "会員{}".format, float, Decimal, np.uint64])
def test_ids_of_every_type_are_joined(make):
    def some(*ids):
        return [None if i is None else make(i) for i in ids]

    members = {"member_id": some(1, 2, 3), "referrer_id": some(None, 1, 1), "registered_at": ["2019-09-01"] * 3}
    passbook = passbook_of(entry(), entry(3), entry(1, points=5)) | {"member_id": some(2, 3, 1)}
    table = hensa.referrer_rows(members, passbook, "2019-10")
    assert table.drop_columns("referrer_id").to_pylist() == [dict(zip(COLUMNS[1:], (2, 2, 200, 2, 5), strict=True))]
    text = isinstance(make(1), str)
    assert table["referrer_id"].type == (pa.string() if text else pa.int64())
    assert table["referrer_id"].to_pylist() == [make(1) if text else 1]


def test_dictionary_encoded_columns_are_read():
    members, passbook = (pa.table(rows) for rows in (PAIR, passbook_of(entry(), entry(points=1))))
    for name in ("kind", "status", "used_at", "judged_at"):
        passbook = passbook.set_column(passbook.column_names.index(name), name, passbook[name].dictionary_encode())
    members = members.set_column(2, "registered_at", members["registered_at"].dictionary_encode())
    members = members.set_column(0, "member_id", members["member_id"].dictionary_encode())
    assert counted(members, passbook)[1]["friend_points"] == 101


def test_integer_ids_meet_the_same_integers_as_text_and_no_others():
    passbook = passbook_of(*[entry(points=1)] * 5)
    passbook["member_id"] = ["2", "02", "+2", " 2", "two"]
    table = hensa.referrer_rows(PAIR, passbook, "2019-10")
    assert table["friend_points"].to_pylist() == [1]
    assert findings(table) == {"unknown_entries": 4}


def test_rows_come_sorted_by_id():
    ids = random.Random(0).sample(range(-1000, 100_000), 3000)
    members = {
        "member_id": [-5000, *ids],
        "referrer_id": [None, *ids[1:], ids[0]],
        "registered_at": ["2019-01-01"] * 3001,
    }
    members["referrer_id"][-1] = -5000  # a chain, not a circle
    for make in (int, str):
        table = hensa.referrer_rows(
            members | {name: [i if i is None else make(i) for i in members[name]] for name in MEMBERS[:2]},
            passbook_of(),
            "2019-10",
        )
        found = table["referrer_id"].to_pylist()
        assert found == sorted(found)
        assert len(found) == 3000


# --- messy input ------------------------------------------------------------------------------------------------------

BEFORE = "2019-01-01"

# finding, members, entries, how many are found, the one row of referrer 1 (or None): new, users, points, to date, own
MESSY = {
    "equal registrations": (
        "duplicate_members", [(1, None, BEFORE), *[(2, 1, "2019-09-01")] * 3], [], 2, (1, 0, 0, 1, 0),
    ),
    "a member who registers again": (
        "conflicting_members",
        [(1, None, BEFORE), (3, None, BEFORE), (2, 3, "2019-09-02"), (2, 1, "2019-08-01")], [], 1, (0, 0, 0, 1, 0),
    ),
    "a member who names a referrer the second time": (
        "conflicting_members", [(1, None, BEFORE), (3, None, BEFORE), (3, 1, "2019-02-01"), (2, 1, BEFORE)], [], 1,
        (0, 0, 0, 1, 0),
    ),
    "two referrers at one time": (
        "conflicting_members",
        [(1, None, BEFORE), (2, 3, "2019-09-02"), (2, 1, "2019-09-02"), (3, None, BEFORE)], [], 1, (1, 0, 0, 1, 0),
    ),
    "a registration without a member": (
        "members_without_id", [(1, None, BEFORE), (2, 1, BEFORE), (None, 1, BEFORE)], [], 1, (0, 0, 0, 1, 0),
    ),
    "a member without a date": (
        "members_without_date", [(1, None, BEFORE), (2, 1, BEFORE), (3, 1, None)], [entry(3)], 1, (0, 0, 100, 1, 0),
    ),
    "a member who names themselves": (
        "self_referrals", [(1, 1, BEFORE), (2, 1, BEFORE)], [entry(1)], 1, (0, 0, 0, 1, 100),
    ),
    "two who brought each other": (
        "circular_referrals", [(1, 2, BEFORE), (2, 1, BEFORE), (3, 1, BEFORE)], [entry(2)], 2, (0, 0, 0, 1, 0),
    ),
    "a circle of three, with one who hangs on it": (
        "circular_referrals", [(1, 2, BEFORE), (2, 3, BEFORE), (3, 1, BEFORE), (4, 1, BEFORE)], [entry(4)], 3,
        (0, 1, 100, 1, 0),
    ),
    "a referrer who is no member": (
        "unknown_referrers", [(2, 1, BEFORE), (3, 1, "2019-09-09")], [entry(3), entry(1, points=7)], 1,
        (1, 1, 100, 2, 7),
    ),
    "an entry without a member": (
        "incomplete_entries", [(1, None, BEFORE), (2, 1, BEFORE)], [entry(None), entry()], 1, (0, 1, 100, 1, 0),
    ),
    "an entry without a kind": (
        "incomplete_entries", [(1, None, BEFORE), (2, 1, BEFORE)], [entry(kind=None), entry()], 1, (0, 1, 100, 1, 0),
    ),
    "an entry without a status": (
        "incomplete_entries", [(1, None, BEFORE), (2, 1, BEFORE)], [entry(status=None)], 1, (0, 0, 0, 1, 0),
    ),
    "no ads": (
        "other_kinds", [(1, None, BEFORE), (2, 1, BEFORE)], [entry(kind="content"), entry(kind="広告")], 2,
        (0, 0, 0, 1, 0),
    ),
    "a valid entry that was never judged": (
        "unjudged_entries", [(1, None, BEFORE), (2, 1, BEFORE)], [entry(judged=None), entry(points=1)], 1,
        (0, 1, 1, 1, 0),
    ),
    "valid entries without points": (
        "unjudged_entries", [(1, None, BEFORE), (2, 1, BEFORE)], [entry(points=None), entry(points=None, used=None)], 2,
        (0, 1, 0, 1, 0),
    ),
    "equal entries": (
        "duplicate_entries", [(1, None, BEFORE), (2, 1, BEFORE)], [entry(), entry(), entry(), entry(points=1)], 2,
        (0, 1, 101, 1, 0),
    ),
    "an entry of nobody known": (
        "unknown_entries", [(1, None, BEFORE), (2, 1, BEFORE)], [entry(9), entry(9, points=1), entry()], 2,
        (0, 1, 100, 1, 0),
    ),
    "nulls in words": (
        "spelled_nulls", [("1", "null", BEFORE), ("2", "1", BEFORE), ("3", "None", BEFORE)],
        [entry("2", points="1", judged=" NULL ", entered="NaN"), entry("2", used=r"\N", points="n/a", judged=None)], 6,
        None,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", MESSY)
def test_messy_input_is_counted_and_kept_or_dropped_by_its_rule(case):
    finding, members, entries, count, row = MESSY[case]
    table = hensa.referrer_rows(members_of(*members), passbook_of(*entries), "2019-10")
    assert findings(table)[finding] == count
    if row is not None:
        assert findings(table) == {finding: count}
        assert tuple(table.slice(0, 1).to_pylist()[0].values()) == (1, *row)


@pytest.mark.parametrize("case", MESSY)
def test_a_strict_run_ends_at_messy_input(case):
    finding, members, entries, _, _ = MESSY[case]
    with pytest.raises(DataError, match=rf"(members|passbook): a strict run ends at what is messy: .*\d {finding}"):
        hensa.referrer_rows(members_of(*members), passbook_of(*entries), "2019-10", strict=True)


def test_every_finding_has_a_case():
    # Undated entries are found for rows of friends (test_friend_benefits), repeated ones if there is a column entry_id:
    # see test_different_entries_of_one_entry_id_are_kept_and_found; for far ones see
    # test_a_month_that_no_entry_is_of_is_found_with_their_months.
    others = {"undated_entries", "repeated_entries", "far_entries"}
    assert {case[0] for case in MESSY.values()} == set(FINDINGS) - others


def test_a_strict_run_of_clean_input_gives_the_same():
    assert counted(PAIR, passbook_of(entry()), strict=True) == counted(PAIR, passbook_of(entry()))


def test_a_floating_nan_is_a_null():
    members = pa.table(members_of((1.0, float("nan"), BEFORE), (2.0, 1.0, BEFORE)))
    table = hensa.referrer_rows(members, passbook_of(entry()), "2019-10")
    assert table["friend_points"].to_pylist() == [100]
    assert findings(table) == {"spelled_nulls": 1}


def test_entries_that_differ_in_their_entry_id_are_different():
    passbook = passbook_of(entry(), entry(), entry()) | {"entry_id": ["a", "b", "b"]}
    table = hensa.referrer_rows(PAIR, passbook, "2019-10")
    assert table["friend_points"].to_pylist() == [200]
    assert findings(table) == {"duplicate_entries": 1}


def test_different_entries_of_one_entry_id_are_kept_and_found():
    cases = {  # of entries with the points 100 and 7
        ("a", "a"): 1,  # of one member
        ("a", "b"): 0,
        (None, None): 0,
    }
    for ids, repeated in cases.items():
        passbook = passbook_of(entry(points=100), entry(points=7)) | {"entry_id": pa.array(ids, pa.string())}
        table = hensa.referrer_rows(PAIR, passbook, "2019-10")
        assert table["friend_points"].to_pylist() == [107]
        assert findings(table) == ({"repeated_entries": repeated} if repeated else {})
    with pytest.raises(DataError, match="ends at what is messy: 1 repeated_entries \\(such as 2\\)"):
        hensa.referrer_rows(PAIR, passbook | {"entry_id": ["a", "a"]}, "2019-10", strict=True)
    # An entry_id of two members is of two entries, and an entry that does not count in the month is none.
    others = passbook_of(entry(2), entry(1), entry(2, points=9, used="2019-01-01", judged="2019-01-31"))
    assert findings(hensa.referrer_rows(PAIR, others | {"entry_id": ["a", "a", "a"]}, "2019-10")) == {}


@pytest.mark.parametrize(("nanoseconds", "duplicates"), [(1, 1), (1000, 0)])
def test_entries_of_different_microseconds_are_different(nanoseconds, duplicates):
    for zone in (None, "UTC"):
        times = pa.array([10**18, 10**18 + nanoseconds], pa.timestamp("ns", zone))
        passbook = passbook_of(entry(), entry()) | {"entered_at": times}
        found = findings(hensa.referrer_rows(PAIR, passbook, "2019-10"))
        assert found.get("duplicate_entries", 0) == duplicates


def test_entered_at_need_not_be_there():
    passbook = passbook_of(entry())
    del passbook["entered_at"]
    assert counted(PAIR, passbook)[1]["friend_points"] == 100


@pytest.mark.parametrize(
    "text", ["yesterday", "2019-02-30", "2019-13-01", "19-09-01", "infinity", "1569888000", "0019-09-01"]
)
def test_a_time_that_cannot_be_read_is_an_error(text):
    with pytest.raises(
        DataError, match=f"members: row 1, column 'registered_at': found '{text}'; allowed: dates and times"
    ):
        counted(members_of((1, None, BEFORE), (2, 1, text)), passbook_of())
    with pytest.raises(
        DataError, match=f"passbook: row 0, column 'judged_at': found '{text}'; allowed: dates and times"
    ):
        counted(PAIR, passbook_of(entry(judged=text)))


@pytest.mark.parametrize("make", [pa.array, lambda values: pa.array(values).dictionary_encode()])
@pytest.mark.parametrize("kind", ["AD", "Ad", " ad", "ad "])
def test_a_kind_that_is_nearly_ours_is_an_error_unless_a_mapping_names_it(kind, make):
    passbook = passbook_of(entry(), entry(kind=kind, points=7))
    passbook["kind"] = make(["ad", kind])
    with pytest.raises(
        DataError, match=rf"^passbook: row 1, column 'kind': found '{kind}'; allowed: 'ad' as it is here"
    ):
        hensa.referrer_rows(PAIR, passbook, "2019-10")
    for ours, points in (("ad", 107), ("other", 100)):
        assert counted(PAIR, passbook, mapping={"kinds": {ours: [kind]}})[1]["friend_points"] == points


def test_a_status_that_there_is_not_is_an_error():
    with pytest.raises(DataError, match="column 'status': found 'it's off'; allowed: 'pending', 'valid', 'rejected'"):
        counted(PAIR, passbook_of(entry(status="it's off")))


@pytest.mark.parametrize(
    ("name", "values", "type_"),
    [
        ("registered_at", [1, 2], "int64"),
        ("registered_at", [True, False], "bool"),
        ("member_id", [b"a", b"b"], "binary"),
        ("member_id", [True, False], "bool"),
        ("referrer_id", [1.5, 2.5], None),
    ],
)
def test_a_column_of_another_type_is_an_error(name, values, type_):
    message = (
        f"column '{name}' is of type {type_}" if type_ else f"column '{name}': found '1.5'; allowed: integers or text"
    )
    with pytest.raises(DataError, match=message):
        counted(PAIR | {name: values}, passbook_of(entry()))


def test_a_missing_column_is_named():
    with pytest.raises(DataError, match="members: found 0 columns named 'registered_at', where exactly one is needed"):
        counted({"member_id": [1], "referrer_id": [1]}, passbook_of())
    with pytest.raises(DataError, match="passbook: found 0 columns named 'kind'"):
        counted(PAIR, {"member_id": [1]})


@pytest.mark.parametrize("month", ["2019", "2019-13", "2019-1", "October", "2019-10-01", 201910, "1000-01", "9999-12"])
def test_what_is_no_month_is_refused(month):
    with pytest.raises(HensaError, match=r"month is .*; it must be a year and a month"):
        hensa.referrer_rows(PAIR, passbook_of(), month)


@pytest.mark.parametrize("zone", ["Japan/Tokyo", "", "'; DROP TABLE members; --"])
def test_what_is_no_zone_is_refused(zone):
    with pytest.raises(HensaError, match=r"zone is .*; it must be a name of the IANA database"):
        counted(PAIR, passbook_of(), zone=zone)


def test_no_rows_give_no_rows():
    table = hensa.referrer_rows(members_of(), passbook_of(), "2019-10")
    assert table.num_rows == 0
    assert table.column_names == COLUMNS


# --- circles ----------------------------------------------------------------------------------------------------------


def circles_by_walking(links):
    """Who comes back to themselves, one step at a time."""
    found = set()
    for start in links:
        at, seen = links.get(start), set()
        while at is not None and at != start and at not in seen:
            seen.add(at)
            at = links.get(at)
        if at == start:
            found.add(start)
    return found


@pytest.mark.parametrize("seed", range(20))
def test_circles_are_those_found_by_walking(seed):
    draw = random.Random(seed)
    n = draw.randrange(1, 80)
    links = {i: draw.randrange(1, n + 8) for i in range(1, n + 1) if draw.random() < 0.97}
    for make in (int, str):
        friends, referrers = (pa.array([make(i) for i in ids]) for ids in (links, links.values()))
        on = {friend for friend, flag in zip(links, on_circles(friends, referrers).to_pylist(), strict=True) if flag}
        assert on == circles_by_walking(links)


def test_one_circle_of_all_and_one_long_chain():
    ids = pa.array(range(10_000))
    assert on_circles(ids, pa.array([*range(1, 10_000), 0])).true_count == 10_000
    assert on_circles(ids, pa.array(range(1, 10_001))).true_count == 0
    assert on_circles(ids, pa.array([*range(1, 10_000), 9_998])).to_pylist() == [False] * 9_998 + [True] * 2


# --- mappings ---------------------------------------------------------------------------------------------------------

MAPPING = """
nulls = ["-"]

[members]
member_id = "user's \\"id\\""
registered_at = "登録日"

[passbook]
member_id = "select"
kind = "type"
used_at = "day"
entered_at = "day"

[kinds]
ad = ["広告", "it's an ad"]
content = ["ad"]

[statuses]
valid = ["有効", "ok"]
pending = ["判定中"]
"""


def test_a_mapping_renames_columns_and_values(tmp_path):
    path = tmp_path / "mapping.toml"
    path.write_text(MAPPING, encoding="utf-8")
    members = {'user\'s "id"': ["a", "b"], "referrer_id": ["-", "a"], "登録日": ["2019-09-01", "2019-09-02"]}
    passbook = {
        "select": ["b"] * 5,
        "type": ["広告", "it's an ad", "ad", "広告", "広告"],
        "points": [1, 10, 100, 1000, 10000],
        "status": ["有効", "ok", "valid", "判定中", "valid"],
        "day": ["2019-09-01"] * 5,
        "judged_at": ["2019-10-01"] * 5,
    }
    for mapping in (path, str(path), tomllib.loads(MAPPING)):
        rows = counted(members, passbook, mapping=mapping)
        assert rows == {"a": dict(zip(COLUMNS[1:], (1, 1, 10011, 1, 0), strict=True))}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[member]", "unknown field `member`"),
        ("[members]\nid = 'a'", r"unknown field `id` - at `\$.members`"),
        ("[members]\nmember_id = 1", r"Expected `str`, got `int` - at `\$.members.member_id`"),
        ("[statuses]\nvoid = ['x']", "unknown field `void`"),
        ("[statuses]\nvalid = ['x']\npending = ['x']", "statuses: 'x' is listed twice"),
        ("[kinds]\nad = ['x']\ncontent = ['x']", "kinds: 'x' is listed twice"),
        ("[kinds]\nad = 'x'", "Expected `array`, got `str`"),
        ('nulls = ["\\u0000"]', "NUL"),
        ("[members", "mapping.toml: "),
    ],
)
def test_an_error_of_a_mapping_names_the_file_and_the_key(text, message, tmp_path):
    path = tmp_path / "mapping.toml"
    path.write_text(text)
    with pytest.raises(HensaError, match=message) as raised:
        counted(PAIR, passbook_of(), mapping=path)
    assert str(raised.value).startswith(str(path))


def test_a_missing_mapping_and_a_mapped_column_that_is_missing_are_errors(tmp_path):
    with pytest.raises(HensaError, match=r"none.toml: No such file"):
        counted(PAIR, passbook_of(), mapping=tmp_path / "none.toml")
    with pytest.raises(DataError, match="found 0 columns named 'id'"):
        counted(PAIR, passbook_of(), mapping={"members": {"member_id": "id"}})
    with pytest.raises(DataError, match="found 0 columns named 'day'"):
        counted(PAIR, passbook_of(), mapping={"passbook": {"entered_at": "day"}})


# --- random messy ledgers against plain Python ------------------------------------------------------------------------

NULLS = {"", "null", "none", "nan", "n/a", "\\n"}
TOKYO = ZoneInfo("Asia/Tokyo")


def null(cell):
    return cell is not None and cell.strip().lower() in NULLS


def clean(cell):
    return None if cell is None or null(cell) else cell


def wall(cell):
    if clean(cell) is None:
        return None
    moment = datetime.fromisoformat(cell)
    return moment if moment.tzinfo is None else moment.astimezone(TOKYO).replace(tzinfo=None)


def oracle(members, entries, month, by):
    """The rows and findings of cells of text, by the rules of docs/ledger.md; ids are in the order of `by`."""
    year, number = map(int, month.split("-"))
    start = datetime(year, number, 1)
    previous = datetime(year - (number == 1), (number - 2) % 12 + 1, 1)
    end = datetime(year + (number == 12), number % 12 + 1, 1)
    found = Counter(spelled_nulls=sum(null(cell) for row in [*members, *entries] for cell in row))
    versions = defaultdict(set)
    for member, referrer, registered in members:
        version = (wall(registered) or datetime.max, clean(referrer) is None, clean(referrer) or "")
        if clean(member) is None:
            found["members_without_id"] += 1
        elif version in versions[member]:
            found["duplicate_members"] += 1
        else:
            versions[member].add(version)
    friends = {}
    for member, rows in versions.items():
        found["conflicting_members"] += len(rows) - 1
        registered, _, referrer = min(rows, key=lambda row: (*row[:2], by(row[2] or "0")))
        found["members_without_date"] += registered == datetime.max
        if referrer == member:
            found["self_referrals"] += 1
        elif referrer:
            friends[member] = (referrer, registered)
    circular = circles_by_walking({friend: referrer for friend, (referrer, _) in friends.items()})
    found["circular_referrals"] = len(circular)
    for friend in circular:
        del friends[friend]
    referrers = {referrer for referrer, _ in friends.values()}
    found["unknown_referrers"] = len(referrers - versions.keys())
    used, points, seen = set(), Counter(), set()
    for row in entries:
        member, kind, amount, status, *_ = map(clean, row)
        if member is None or kind is None or (kind == "ad" and status is None):
            found["incomplete_entries"] += 1
            continue
        if kind != "ad" or status == "rejected":
            continue
        uses, entered, judged = map(wall, row[4:])
        found["unjudged_entries"] += status == "valid" and (judged is None or amount is None)
        is_used = uses is not None and previous <= uses < start
        is_paid = status == "valid" and amount is not None and judged is not None and start <= judged < end
        if not (is_used or is_paid):
            continue
        key = (member, status, amount and int(amount), uses, entered, judged)
        if key in seen:
            found["duplicate_entries"] += 1
            continue
        seen.add(key)
        if member not in versions.keys() | referrers:
            found["unknown_entries"] += 1
        if is_used:
            used.add(member)
        if is_paid:
            points[member] += int(amount)
    rows = {}
    for referrer in referrers:
        own = {friend: at for friend, (by, at) in friends.items() if by == referrer}
        then = [friend for friend, at in own.items() if at < start]
        if then:
            rows[referrer] = (
                sum(previous <= own[friend] for friend in then),
                len(used.intersection(then)),
                sum(points[friend] for friend in own),
                len(then),
                points[referrer],
            )
    return rows, {name: count for name, count in found.items() if count}


TIMES = [
    *(text for text, _ in BOUNDARIES if "/" not in text),
    "2019-10-31T14:59:59Z", "2019-10-31T15:00:00Z", "2019-10-31", "2019-11-01", "2019-10-10 12:00", "2019-09-10",
    "2019-09-20T08:00:00+09:00", "2019-10-20T08:00:00+02:00", "2018-01-01",
]  # fmt: skip


def messy_ledger(seed):
    draw = random.Random(seed)
    people = draw.choice([4, 12, 40])
    prefix = draw.choice(["", "m"])

    def some(choices, nulls=0.05):
        if draw.random() < nulls:
            return draw.choice([None, None, "null", "NULL", " None", "nan", "\\N"])
        return draw.choice(choices)

    ids = [f"{prefix}{i}" for i in range(1, people + 1)]
    members = [
        (
            some([member], 0.02),
            some(ids[: len(ids) // 2 + 1], 0.4) if draw.random() < 0.9 else some([f"{prefix}99"]),
            some(TIMES),
        )
        for member in ids
        for _ in range(draw.choice([0, 1, 1, 1, 1, 1, 1, 2, 3]))
    ]
    entries = [
        (
            some([*ids, f"{prefix}99", f"{prefix}77"]),
            some(["ad", "ad", "ad", "content", "bonus"]),
            some([str(draw.randrange(-50, 500))]),
            some(["valid", "valid", "valid", "pending", "rejected"]),
            *(some(TIMES) for _ in range(3)),
        )
        for _ in range(draw.choice([0, 30, 200]))
    ]
    for rows in (members, entries):
        rows += draw.choices(rows, k=len(rows) // 6) if rows else []
        draw.shuffle(rows)
    return members, entries


def write_csv(path, header, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerows([header, *rows])
    return path


def as_columns(header, rows):
    return {name: pa.array([row[i] for row in rows], pa.string()) for i, name in enumerate(header)}


@pytest.mark.parametrize("seed", range(25))
def test_random_messy_ledgers_give_what_plain_python_gives(seed, tmp_path):
    members, entries = messy_ledger(seed)
    is_text = any("m" in (member or "") for member, _, _ in members)
    paths = [write_csv(tmp_path / "m.csv", MEMBERS, members), write_csv(tmp_path / "p.csv", PASSBOOK, entries)]
    tables = [pa.table(as_columns(MEMBERS, members)), pa.table(as_columns(PASSBOOK, entries))]
    for sources, by in ((paths, str if is_text else int), (tables, str)):
        expected, found = oracle(members, entries, "2019-10", by)
        table = hensa.referrer_rows(*sources, "2019-10")
        rows = {str(row.pop("referrer_id")): tuple(row.values()) for row in table.to_pylist()}
        assert rows == expected
        assert findings(table) == found


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A synthetic ledger in every format."""
    directory = tmp_path_factory.mktemp("ledger")
    for name, reader in zip(("members", "passbook"), sample_ledger(3000, 4), strict=True):
        table = reader.read_all()
        pq.write_table(table, directory / f"{name}.parquet", row_group_size=1000)
        feather.write_feather(table, directory / f"{name}.arrow", chunksize=500)
        pa.csv.write_csv(table, directory / f"{name}.csv")
        with pa.CompressedOutputStream(directory / f"{name}.csv.gz", "gzip") as file:
            pa.csv.write_csv(table, file)
    return directory


@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "arrow"])
def test_every_format_gives_what_parquet_gives(made, suffix):
    parquet = hensa.referrer_rows(made / "members.parquet", made / "passbook.parquet", "2019-10")
    assert parquet.num_rows > 100
    assert sum(parquet["friend_points"].to_pylist()) > 0
    other = hensa.referrer_rows(made / f"members.{suffix}", str(made / f"passbook.{suffix}"), "2019-10")
    assert other.equals(parquet, check_metadata=True)


def test_the_rows_of_the_sample_are_those_of_plain_python(made):
    cells = []
    for name in ("members", "passbook"):
        with (made / f"{name}.csv").open(newline="") as file:
            cells.append([tuple(cell or None for cell in row) for row in csv.reader(file)][1:])
    expected, found = oracle(*cells, "2019-10", int)
    table = hensa.referrer_rows(made / "members.parquet", made / "passbook.parquet", "2019-10")
    assert {str(row.pop("referrer_id")): tuple(row.values()) for row in table.to_pylist()} == expected
    assert found == {}
    assert findings(table) == {}


def test_streams_are_read_a_batch_at_a_time(made):
    readers = sample_ledger(3000, 4)
    assert hensa.referrer_rows(*readers, "2019-10").equals(
        hensa.referrer_rows(made / "members.parquet", made / "passbook.parquet", "2019-10")
    )


def test_the_rows_can_be_scored(made):
    rows = hensa.referrer_rows(made / "members.parquet", made / "passbook.parquet", "2019-10")
    paid = hensa.score(rows, hensa.Program.load("hapitas-friend"))
    assert paid["reward"].null_count == 0


@pytest.mark.parametrize("order", range(3))
def test_the_order_and_the_threads_change_nothing(order, tmp_path):
    members, entries = messy_ledger(7)
    expected = hensa.referrer_rows(as_columns(MEMBERS, members), as_columns(PASSBOOK, entries), "2019-10", threads=1)
    draw = random.Random(order)
    for rows in (members, entries):
        draw.shuffle(rows)
    again = hensa.referrer_rows(as_columns(MEMBERS, members), as_columns(PASSBOOK, entries), "2019-10", threads=3)
    assert again.equals(expected, check_metadata=True)


def test_a_csv_file_of_text_ids_is_read_twice_and_gives_text(tmp_path):
    rows = [(str(i), "1", BEFORE) for i in range(2, 5000)] + [("007", "1", BEFORE), ("1", "", BEFORE)]
    members = write_csv(tmp_path / "members.csv", MEMBERS, rows)
    passbook = write_csv(tmp_path / "passbook.csv", PASSBOOK, [entry("007"), entry("7", points=1)])
    table = hensa.referrer_rows(members, passbook, "2019-10")
    assert table["referrer_id"].to_pylist() == ["1"]
    assert table["cumulative_referrals"].to_pylist() == [4999]
    assert table["ad_users"].to_pylist() == [2]


def test_a_file_that_is_read_twice_leaves_nothing_of_duckdb_to_the_garbage_collector(tmp_path):
    # What is left when Python ends is reported by DuckDB as leaked, on standard error.
    import duckdb

    def errors():
        return sum(isinstance(thing, duckdb.Error) for thing in gc.get_objects())

    members = write_csv(tmp_path / "members.csv", MEMBERS, [("a", "", BEFORE), ("b", "a", BEFORE)])
    passbook = write_csv(tmp_path / "passbook.csv", PASSBOOK, [entry("b")])
    gc.collect()
    before = errors()
    gc.disable()
    try:
        hensa.referrer_rows(members, passbook, "2019-10")
        assert errors() == before
    finally:
        gc.enable()


def test_a_broken_file_is_named(tmp_path, made):
    broken = tmp_path / "members.csv"
    broken.write_text("member_id,referrer_id,registered_at\n1,2\n")
    with pytest.raises(HensaError, match=r"members.csv: line 2: found 2 cells, where the header has 3\."):
        hensa.referrer_rows(broken, made / "passbook.parquet", "2019-10")
    broken.write_bytes("member_id,referrer_id,registered_at\n1,2,2019-09-01\n三,2,2019-09-01\n".encode("shift-jis"))
    with pytest.raises(HensaError, match=r"members.csv: line 3: b'\\x8eO' is not UTF-8\."):
        hensa.referrer_rows(broken, made / "passbook.parquet", "2019-10")
    data = (made / "passbook.parquet").read_bytes()
    cut = tmp_path / "passbook.parquet"
    cut.write_bytes(data[: len(data) // 2])
    with pytest.raises(HensaError, match=r"passbook.parquet: "):
        hensa.referrer_rows(made / "members.parquet", cut, "2019-10")
    with pytest.raises(HensaError, match=r"none.csv: No such file"):
        hensa.referrer_rows(tmp_path / "none.csv", cut, "2019-10")


def test_names_of_files_are_no_patterns(tmp_path, made):
    for name in ("members", "passbook"):
        (tmp_path / f"{name}[1]*.parquet").write_bytes((made / f"{name}.parquet").read_bytes())
    assert hensa.referrer_rows(tmp_path / "members[1]*.parquet", tmp_path / "passbook[1]*.parquet", "2019-10").num_rows


def test_the_private_directory_is_removed_and_nothing_else_is_written(tmp_path, monkeypatch, made):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with Ledger("2019-10") as ledger:
        assert len(list(tmp_path.iterdir())) == 1
        ledger.read_members(made / "members.parquet")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(DataError):
        hensa.referrer_rows({"a": [1]}, {}, "2019-10")
    assert list(tmp_path.iterdir()) == []


def test_duckdb_opens_no_other_file_and_loads_nothing(made):
    import duckdb

    with Ledger("2019-10") as ledger:
        for statement in (
            f"SELECT * FROM '{made}/members.parquet'",
            f"COPY (SELECT 1) TO '{made}/out.csv'",
            "INSTALL httpfs",
            "LOAD httpfs",
            "SET enable_external_access = true",
        ):
            with pytest.raises(duckdb.Error):
                ledger._db.execute(statement)


def test_without_its_extra_the_ledger_says_what_to_install():
    hidden = "import sys; sys.modules['duckdb'] = None; import hensa; hensa.referrer_rows({}, {}, '2019-10')"
    done = subprocess.run([sys.executable, "-c", hidden], capture_output=True, text=True, timeout=60)
    assert 'the ledger needs duckdb; install it with: pip install "hensa[ledger]"' in done.stderr


# --- the command ------------------------------------------------------------------------------------------------------


def hensa_command(*args):
    from typer import testing

    from hensa import cli

    return testing.CliRunner().invoke(cli.app, [str(arg) for arg in args])


def test_the_command_writes_what_the_call_gives(made, tmp_path):
    sources = ("--members", made / "members.csv", "--passbook", made / "passbook.parquet", "--month", "2019-10")
    for name in ("rows.parquet", "rows.arrow", "rows.csv"):
        result = hensa_command("rows", *sources, "-o", tmp_path / name)
        assert (result.exit_code, result.stdout) == (0, "")
    expected = hensa.referrer_rows(made / "members.parquet", made / "passbook.parquet", "2019-10")
    written = pq.read_table(tmp_path / "rows.parquet")
    assert written.equals(expected)
    assert written.schema.metadata[KEY] == expected.schema.metadata[KEY]
    assert feather.read_table(tmp_path / "rows.arrow").equals(expected)
    assert pa.csv.read_csv(tmp_path / "rows.csv").cast(expected.schema).equals(expected)
    assert f"{expected.num_rows:,} rows of 2019-10 in Asia/Tokyo" in result.stderr


def test_the_command_shows_what_was_found_with_its_rule(tmp_path):
    members = write_csv(tmp_path / "members.csv", MEMBERS, [("1", "1", BEFORE), ("2", "1", BEFORE), ("2", "1", BEFORE)])
    passbook = write_csv(tmp_path / "passbook.csv", PASSBOOK, [entry("2"), entry("3")])
    args = ("--members", members, "--passbook", passbook, "--month", "2019-10", "-o", tmp_path / "rows.csv")
    result = hensa_command("rows", *args)
    assert result.exit_code == 0
    words = " ".join(result.stderr.split())
    for name in ("self_referrals", "duplicate_members", "unknown_entries"):
        assert f"{name} 1 {FINDINGS[name]}" in words
    result = hensa_command("rows", *args, "--strict")
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith(f"hensa: {members}: a strict run ends at what is messy: ")


def test_a_failed_command_leaves_no_file(made, tmp_path):
    broken = tmp_path / "passbook.csv"
    broken.write_text(",".join(PASSBOOK) + "\n" + ",".join(["1", "ad", "ten", "valid", "", "", ""]) + "\n")
    result = hensa_command(
        "rows", "--members", made / "members.csv", "--passbook", broken, "--month", "2019-10", "-o", tmp_path / "r.csv"
    )
    assert result.exit_code == 1
    assert "passbook.csv: row 0 (line 2), column 'points': found 'ten'" in result.stderr
    assert list(tmp_path.iterdir()) == [broken]


@pytest.mark.parametrize("change", [("--month", "2019-13"), ("--members", "m.xlsx"), ("--threads", "0")])
def test_bad_usage_exits_with_2(made, tmp_path, change):
    args = {
        "--members": made / "members.csv", "--passbook": made / "passbook.csv", "--month": "2019-10",
        "-o": tmp_path / "r.csv",
    } | dict([change])  # fmt: skip
    assert hensa_command("rows", *(part for pair in args.items() for part in pair)).exit_code == 2


def test_the_command_reads_one_of_the_two_from_standard_input(made, tmp_path):
    command = [sys.executable, "-c", "from hensa.cli import main; main()", "rows", "--month", "2019-10", "-o", "-"]
    stream = pa.BufferOutputStream()
    table = pq.read_table(made / "passbook.parquet")
    with pa.ipc.new_stream(stream, table.schema) as writer:
        writer.write_table(table, 500)
    done = subprocess.run(
        [*command, "--members", made / "members.parquet", "--passbook", "-"],
        input=stream.getvalue().to_pybytes(), capture_output=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    expected = hensa.referrer_rows(made / "members.parquet", made / "passbook.parquet", "2019-10")
    assert pa.ipc.open_stream(done.stdout).read_all().equals(expected)
    done = subprocess.run([*command, "--members", "-", "--passbook", "-"], input=b"", capture_output=True, timeout=120)
    assert done.returncode == 2


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_what_stops_the_reading_of_rows_is_raised_as_it_was(made, stop):
    def interrupted(n_rows):
        raise stop  # as Ctrl-C does where progress is told, on a thread of DuckDB

    with Ledger("2019-10") as ledger, pytest.raises(stop):
        ledger.read_members(made / "members.parquet", lambda total: interrupted)


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_leaves_nothing_behind(number, code, tmp_path):
    source, private, out = (tmp_path / name for name in ("source", "private", "out"))
    private.mkdir()
    out.mkdir()
    # so many that the run is not done when the signal comes, however busy the machine
    hensa_command("sample", "--ledger", "-n", 400_000, "-o", source)
    sources = ("--members", source / "members.parquet", "--passbook", source / "passbook.parquet")
    command = [sys.executable, "-c", "from hensa.cli import main; main()", "rows", *sources, "--month", "2019-10"]
    environment = {**os.environ, "TMPDIR": str(private)}
    with subprocess.Popen([*command, "-o", out / "r.csv"], stderr=subprocess.PIPE, env=environment) as process:
        deadline = time.monotonic() + 60
        while not list(out.iterdir()) and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(number)
        assert b"Traceback" not in process.stderr.read()
        assert process.wait(60) == code
    assert list(private.iterdir()) == []
    assert list(out.iterdir()) == []


# --- the synthetic ledger ---------------------------------------------------------------------------------------------


def test_the_command_writes_the_seeded_ledger(tmp_path):
    result = hensa_command("sample", "--ledger", "-n", "1_000", "--seed", "3", "-o", tmp_path / "made")
    assert result.exit_code == 0
    for name, reader in zip(("members", "passbook"), sample_ledger(1000, 3), strict=True):
        assert pq.read_table(tmp_path / "made" / f"{name}.parquet").equals(reader.read_all())
    assert hensa_command("sample", "--ledger", "-n", "1", "-o", "-").exit_code == 2


def test_the_synthetic_ledger_is_consistent():
    n = LEDGER_BLOCK + 500
    members, passbook = (reader.read_all() for reader in sample_ledger(n, 1))
    assert members["member_id"].to_pylist() == list(range(1, n + 1))
    registered = members["registered_at"].cast(pa.int64()).to_numpy()
    assert (np.diff(registered) >= 0).all()
    referrers = members["referrer_id"].to_pylist()
    assert all(referrer is None or 1 <= referrer < i for i, referrer in enumerate(referrers, 1))
    assert 0.58 < 1 - referrers.count(None) / n < 0.62
    counts = Counter(filter(None, referrers))
    assert max(counts.values()) > 1000  # a handful bring thousands
    assert sorted(counts.values())[len(counts) // 2] <= 3  # and most a few
    assert 4.9 * n < len(passbook) < 5.1 * n
    used, entered = (passbook[name].cast(pa.int64()).to_numpy() for name in ("used_at", "entered_at"))
    assert (used >= registered[passbook["member_id"].to_numpy() - 1]).all()
    assert (entered >= used).all()
    for status, judged in zip(passbook["status"].to_pylist(), passbook["judged_at"].to_pylist(), strict=True):
        assert (status == "pending") == (judged is None)


def test_ledgers_of_different_seeds_differ_and_of_one_seed_do_not():
    first, again, other = (sample_ledger(500, seed)[1].read_all() for seed in (1, 1, 2))
    assert first.equals(again)
    assert not first.equals(other)


@pytest.mark.parametrize(("n", "seed"), [(-1, 0), (0, -1)])
def test_negative_arguments_are_refused(n, seed):
    with pytest.raises(DataError, match="where a whole number from 0 on is allowed"):
        sample_ledger(n, seed)


def test_a_ledger_of_nobody_is_empty():
    assert [reader.read_all().num_rows for reader in sample_ledger(0)] == [0, 0]


# --- a large one ------------------------------------------------------------------------------------------------------

PEAK = """
import resource
from hensa.cli import main
try:
    main()
finally:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.long
def test_a_million_members_give_what_numpy_gives_in_bounded_memory(tmp_path):
    n = 1_000_000
    assert hensa_command("sample", "--ledger", "-n", n, "-o", tmp_path).exit_code == 0
    sources = ("--members", tmp_path / "members.parquet", "--passbook", tmp_path / "passbook.parquet")
    command = [sys.executable, "-c", PEAK, "rows", *sources, "--month", "2019-10", "-o", tmp_path / "rows.parquet"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 2**21  # kilobytes
    # The same by arrays indexed with the ids, which count from 1.
    members, passbook = (pq.read_table(tmp_path / f"{name}.parquet") for name in ("members", "passbook"))
    previous, start, end = (int(datetime(2019, month, 1, tzinfo=TOKYO).timestamp() * 1000) for month in (9, 10, 11))
    referrer = np.concatenate([[0], members["referrer_id"].fill_null(0).to_numpy()])
    registered = np.concatenate([[2**62], members["registered_at"].cast(pa.int64()).to_numpy()])
    ids, points = (passbook[name].to_numpy() for name in ("member_id", "points"))
    kind, status = (np.array(passbook[name].to_pylist()) for name in ("kind", "status"))
    used, judged = (passbook[name].cast(pa.int64()).fill_null(0).to_numpy() for name in ("used_at", "judged_at"))
    paid = (kind == "ad") & (status == "valid") & (judged >= start) & (judged < end)
    earned, uses = np.zeros(n + 1, np.int64), np.zeros(n + 1, bool)
    np.add.at(earned, ids[paid], points[paid])
    uses[ids[(kind == "ad") & (status != "rejected") & (used >= previous) & (used < start)]] = True
    then = registered < start

    def total(flags):
        return np.bincount(referrer[flags], minlength=n + 1)

    friend_points = np.zeros(n + 1, np.int64)
    np.add.at(friend_points, referrer, earned)
    to_date = total(then)
    to_date[0] = 0
    listed = np.flatnonzero(to_date)
    rows = pq.read_table(tmp_path / "rows.parquet")
    expected = [listed, total(then & (registered >= previous))[listed], total(then & uses)[listed],
                friend_points[listed], to_date[listed], earned[listed]]  # fmt: skip
    for name, values in zip(COLUMNS, expected, strict=True):
        assert np.array_equal(rows[name].to_numpy(), values), name
