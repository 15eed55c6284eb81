"""Ranking events: boards, ties, prizes, cut-offs and compensation, against worked numbers and a plain-Python oracle."""

import datetime as dt
import json
import re
from fractions import Fraction
from math import floor

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from strategies import examples

import hensa
from hensa import Board, Compensation, DataError, Event, Prize, ProgramError

TOML = """\
name = "spring"
title = "Spring ranking"
starts = 2020-03-01
ends = 2020-03-31
id_column = "member"
count_column = "friends"
class_column = "before"
entry_column = "entered"
entry_until = 2020-03-31T23:59:59
least_count = 2
ties = "earliest_entry"
tied_prizes = "split"
boards = [
  { name = "overall" },
  { name = "light", most = 9, prizes = [{ first = 1, points = 70 }] },
  { name = "heavy", least = 10 },
]
prizes = [{ first = 1, points = 500 }, { first = 2, last = 3, points = 100 }]

[compensation]
entry_until = 2020-03-10T12:00:00
points = 100
top = 2
board_points = 30
"""
MOST = 2**63 - 1


def event(**changes):
    return Event(**{"name": "test", "id_column": "id", "count_column": "count", **changes})


def prizes(*points):
    """One prize for each rank from 1."""
    return [Prize(first=rank, points=each) for rank, each in enumerate(points, start=1)]


def ranks_and_prizes(counts, **changes):
    """Of rows in the order of their ids: rank and prize on the one board, None where they are not ranked."""
    ranked = hensa.rank({"id": range(len(counts)), "count": counts}, event(**changes))
    assert set(ranked["board"].to_pylist()) <= {"overall"}
    found = {row["id"]: (row["rank"], row["prize"]) for row in ranked.to_pylist()}
    return [found.get(id_) for id_ in range(len(counts))]


# --- rules ------------------------------------------------------------------------------------------------------------


def test_an_event_file_is_read_field_by_field(tmp_path):
    expected = Event(
        name="spring",
        title="Spring ranking",
        starts=dt.date(2020, 3, 1),
        ends=dt.date(2020, 3, 31),
        id_column="member",
        count_column="friends",
        class_column="before",
        entry_column="entered",
        entry_until=dt.datetime(2020, 3, 31, 23, 59, 59),
        least_count=2,
        ties="earliest_entry",
        tied_prizes="split",
        boards=(Board("overall"), Board("light", None, 9, (Prize(first=1, points=70),)), Board("heavy", 10)),
        prizes=(Prize(first=1, points=500), Prize(first=2, last=3, points=100)),
        compensation=Compensation(entry_until=dt.datetime(2020, 3, 10, 12), points=100, top=2, board_points=30),
    )
    assert Event.parse(TOML) == expected
    (tmp_path / "spring.toml").write_text(TOML)
    assert Event.load(tmp_path / "spring.toml") == expected
    assert Event.load(str(tmp_path / "spring.toml")) == expected


def test_what_a_file_leaves_out_takes_its_default():
    read = Event.parse('name = "p"\nid_column = "i"\ncount_column = "c"')
    assert (read.boards, read.prizes, read.ties, read.tied_prizes, read.least_count, read.entry_column) == (
        (Board("overall"),), (), "competition", "each", 1, None
    )  # fmt: skip


TIME = "a date and time such as 2019-10-01T12:00:00 or 2019-10-01T12:00:00+09:00"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('id_column = "member"\n', "", "id_column: found nothing; allowed: a string, and it is required."),
        ("least_count = 2", "least_count = 1.5", "least_count: found 1.5; allowed: a whole number."),
        ("least_count = 2", "least_count = -1", f"least_count: found -1; allowed: a whole number from 0 to {MOST}."),
        ("least_count = 2", "last_count = 2", "last_count: found an unknown key; allowed: only name, title, starts, "),
        ('"earliest_entry"', '"dense"', "ties: found 'dense'; allowed: \"competition\" or \"earliest_entry\"."),
        ('"split"', '"none"', "tied_prizes: found 'none'; allowed: \"each\" or \"split\"."),
        ("ends = 2020-03-31", "ends = 2020-02-28", "ends: found 2020-02-28; allowed: a date from 2020-03-01 (starts)"),
        ("2020-03-31T23:59:59", "2020-03-31", f"entry_until: found 2020-03-31; allowed: {TIME}"),
        ('"before"', '"member"', "class_column: found 'member'; allowed: a column of its own, not named board, rank, "),
        ('"member"', '"rank"', "id_column: found 'rank'; allowed: a column of its own, not named board, rank, prize, "),
        ('entry_column = "entered"\n', "", "entry_column: found nothing; allowed: the name of a column, as entry_"),
        ('class_column = "before"\n', "", "class_column: found nothing; allowed: the name of a column, as the b"),
        ('name = "heavy"', 'name = "light"', "boards[2].name: found 'light' again; allowed: each name once."),
        ("least = 10", "least = 10, most = 9", f"boards[2].most: found 9; allowed: a whole number from 10 to {MOST}."),
        ("last = 3", "last = 1", f"prizes[1].last: found 1; allowed: a whole number from 2 to {MOST}."),
        ("first = 2", "first = 1", "prizes[1].first: found the rank 1 after 1; allowed: ranks that ascend and do not "),
        ("first = 1, points = 500", "first = 0, points = 5", "prizes[0].first: found 0; allowed: a whole number from"),
        ("points = 70", "points = -70", "boards[1].prizes[0].points: found -70; allowed: a whole number from 0 to"),
        ("points = 500", f"points = {MOST - 199}", f"prizes: found {MOST + 1} points in all; allowed: at most {MOST}."),
        ("points = 100\ntop", f"points = {MOST - 89}\ntop", f"compensation: found up to {MOST + 1} points for one"),
        ("top = 2\n", "", "compensation.top: found nothing; allowed: a whole number from 1, as board_points needs it."),
        ("top = 2", "top = 0", f"compensation.top: found 0; allowed: a whole number from 1 to {MOST}."),
        ("points = 500", "points = true", "prizes[0].points: found true; allowed: a whole number."),
        ('{ name = "overall" }', "{ name = 5 }", "boards[0].name: found 5; allowed: a string."),
        ('{ name = "overall" }', "7", "boards[0]: found 7; allowed: a table."),
        ('{ name = "overall" }', '{ name = "" }', "boards[0].name: found an empty string; allowed: a string of at"),
        ("starts = 2020-03-01", "starts = 2020-03-01T00:00:00", "starts: found 2020-03-01 00:00:00; allowed: a date"),
        ("2020-03-10T12:00:00", '"noon"', f"compensation.entry_until: found 'noon'; allowed: {TIME}"),
        ("[compensation]", "[compensation", "found text that is not TOML: "),
    ],
)  # fmt: skip
def test_what_is_not_allowed_is_refused_with_its_key(old, new, message):
    assert TOML.count(old) == 1
    with pytest.raises(ProgramError, match=re.escape(message)):
        Event.parse(TOML.replace(old, new))


def test_prizes_of_all_the_points_there_are_are_allowed():
    assert Event.parse(TOML.replace("points = 500", f"points = {MOST - 200}")).prizes[0].points == MOST - 200


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ProgramError, match=r"missing.toml: found no readable file"):
        Event.load(tmp_path / "missing.toml")
    (tmp_path / "bad.toml").write_text(TOML.replace("least_count = 2", 'least_count = "2"'))
    with pytest.raises(ProgramError, match=r"bad.toml: least_count: found '2'; allowed: a whole number."):
        Event.load(tmp_path / "bad.toml")


# --- ranks and prizes -------------------------------------------------------------------------------------------------


def test_equal_counts_share_a_rank_and_leave_the_next_ones_free():
    assert [rank for rank, _ in ranks_and_prizes([7, 9, 7, 3])] == [2, 1, 2, 4]


def test_each_of_those_tied_is_paid_the_prize_of_their_rank():
    # Ranks 1, 2, 2, 2, 5: the third of those tied is paid although there are prizes for three places alone.
    assert ranks_and_prizes([5, 4, 4, 4, 1], prizes=prizes(100, 50, 25)) == [
        (1, 100),
        (2, 50),
        (2, 50),
        (2, 50),
        (5, 0),
    ]


def test_split_prizes_are_those_of_the_places_filled_in_equal_parts_rounded_down():
    # Places 2 to 4 have the prizes 50, 25 and none: floor(75 / 3) = 25 each; places 5 and 6 have none.
    assert ranks_and_prizes([5, 4, 4, 4, 1, 1], prizes=prizes(100, 50, 25), tied_prizes="split") == [
        (1, 100), (2, 25), (2, 25), (2, 25), (5, 0), (5, 0)
    ]  # fmt: skip
    # floor(101 / 2)
    assert ranks_and_prizes([1, 1], prizes=prizes(100, 1), tied_prizes="split") == [(1, 50), (1, 50)]


def test_ranks_between_prizes_and_after_them_are_paid_nothing():
    gaps = [Prize(first=2, points=7), Prize(first=4, last=5, points=3)]
    assert ranks_and_prizes([6, 5, 4, 3, 2, 1], prizes=gaps) == [(1, 0), (2, 7), (3, 0), (4, 3), (5, 3), (6, 0)]


def test_prizes_as_large_as_int64_are_exact():
    assert ranks_and_prizes([2, 1, 1], prizes=prizes(1, MOST - 2, 1), tied_prizes="split") == [
        (1, 1), (2, (MOST - 1) // 2), (2, (MOST - 1) // 2)
    ]  # fmt: skip
    everyone = [Prize(first=1, last=MOST, points=1)]
    assert ranks_and_prizes([3, 2, 2], prizes=everyone, tied_prizes="split") == [(1, 1), (2, 1), (2, 1)]


def test_those_below_the_least_count_or_without_one_are_not_ranked():
    assert ranks_and_prizes([3, 0, None, 1]) == [(1, 0), None, None, (2, 0)]
    assert ranks_and_prizes([3, 0, None, 1], least_count=2) == [(1, 0), None, None, None]
    assert ranks_and_prizes([3, 0, None, 1], least_count=0) == [(1, 0), (3, 0), None, (2, 0)]


def test_the_earlier_entry_goes_first_and_equal_entries_share_a_rank():
    rows = {
        "id": ["a", "b", "c", "d"],
        "count": [5, 5, 5, 9],
        "at": ["2020-03-03 09:00", "2020-03-02 09:00", "2020-03-03 09:00", "2020-03-05 09:00"],
    }
    ranked = hensa.rank(rows, event(ties="earliest_entry", entry_column="at"))
    assert ranked.select(["rank", "id"]).to_pydict() == {"rank": [1, 2, 3, 3], "id": ["d", "b", "a", "c"]}


def test_boards_hold_the_classes_within_their_bounds_and_rank_them_by_themselves():
    rows = {"id": [1, 2, 3, 4, 5], "count": [10, 20, 30, 40, 50], "before": [0, 9, 10, 100, None]}
    boards = [Board("overall"), Board("light", most=9), Board("middle", 10, 99), Board("heavy", least=100)]
    own = [Prize(first=1, points=8)]
    boards[1] = Board("light", most=9, prizes=own)
    ranked = hensa.rank(rows, event(class_column="before", boards=boards, prizes=prizes(5)))
    assert [tuple(row.values()) for row in ranked.to_pylist()] == [
        ("overall", 1, 5, 50, 5),
        ("overall", 2, 4, 40, 0),
        ("overall", 3, 3, 30, 0),
        ("overall", 4, 2, 20, 0),
        ("overall", 5, 1, 10, 0),
        ("light", 1, 2, 20, 8),
        ("light", 2, 1, 10, 0),
        ("middle", 1, 3, 30, 5),
        ("heavy", 1, 4, 40, 5),
    ]


def test_a_snapshot_has_everyone_who_shares_its_last_rank():
    rows = {"id": [1, 2, 3, 4, 5], "count": [9, 5, 5, 5, 1]}
    split = event(prizes=prizes(10, 6, 3), tied_prizes="split")
    assert hensa.rank(rows, split, top=2).select(["rank", "id", "prize"]).to_pydict() == {
        "rank": [1, 2, 2, 2],
        "id": [1, 2, 3, 4],
        "prize": [10, 3, 3, 3],
    }
    assert hensa.rank(rows, split, top=1)["id"].to_pylist() == [1]
    for wrong in (0, 1.5, True, "2"):
        with pytest.raises(DataError, match=f"top is {wrong!r}; it must be a whole number from 1 on"):
            hensa.rank(rows, split, top=wrong)


def test_no_rows_give_no_ranks():
    for rows in ({"id": [], "count": []}, {"id": pa.array([], pa.string()), "count": pa.array([], pa.int32())}):
        ranked = hensa.rank(rows, event(boards=[Board("a"), Board("b")], prizes=prizes(1)))
        assert (ranked.num_rows, ranked.column_names) == (0, ["board", "rank", "id", "count", "prize"])


def test_counts_keep_their_type_and_text_is_large_string():
    rows = pa.table({"id": pa.array(["x", "y"]).dictionary_encode(), "count": pa.array([1, 2], pa.uint16())})
    ranked = hensa.rank(rows, event())
    assert ranked.schema.types == [
        pa.dictionary(pa.int32(), pa.string()), pa.int64(), pa.large_string(), pa.uint16(), pa.int64()
    ]  # fmt: skip
    assert ranked["id"].to_pylist() == ["y", "x"]


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.int8(), pa.uint64(), pa.date32()]
)
def test_ids_of_any_type_that_tells_rows_apart_are_ranked(kind):
    ids = pa.array([3, 1, 2], pa.int32()).cast(kind)
    ranked = hensa.rank({"id": ids, "count": [1, 1, 2]}, event())["id"].to_pylist()
    assert ranked == [ids.to_pylist()[row] for row in (2, 1, 0)]


# --- entries ----------------------------------------------------------------------------------------------------------

NAIVE = dt.datetime(2020, 3, 10, 12)
ZONED = NAIVE.replace(tzinfo=dt.timezone(dt.timedelta(hours=9)))  # 03:00 UTC


def entrants(column, until):
    rows = {"id": range(len(column)), "count": [1] * len(column), "at": column}
    return sorted(hensa.rank(rows, event(entry_column="at", entry_until=until))["id"].to_pylist())


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_the_cut_off_is_included_to_the_tick(unit):
    tick = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}[unit]
    noon = (NAIVE - dt.datetime(1970, 1, 1)) // dt.timedelta(seconds=1) * 10**9 // tick
    at = pa.array([noon - 1, noon, noon + 1, None], pa.timestamp(unit))
    assert entrants(at, NAIVE) == [0, 1]
    later = NAIVE + dt.timedelta(microseconds=1)
    assert entrants(at, later) == ([0, 1, 2] if unit in ("us", "ns") else [0, 1])
    assert entrants(at, None) == [0, 1, 2]


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "-05:00"])
def test_with_offsets_the_moments_are_compared(zone):
    three = (dt.datetime(2020, 3, 10, 3) - dt.datetime(1970, 1, 1)) // dt.timedelta(seconds=1)
    assert entrants(pa.array([three - 1, three, three + 1], pa.timestamp("s", zone)), ZONED) == [0, 1]
    assert entrants(["2020-03-10T03:00:00Z", "2020-03-10T12:00:01+09:00", "2020-03-09T22:00:00-05:00"], ZONED) == [0, 2]


def test_text_without_offsets_and_dates_are_read():
    assert entrants(["2020-03-10 12:00", None, "2020-03-10T12:00:01", "2020-03-10"], NAIVE) == [0, 3]
    for kind in (pa.date32(), pa.date64()):  # a date is its midnight
        assert entrants(pa.array([dt.date(2020, 3, 10), dt.date(2020, 3, 11), None], kind), NAIVE) == [0]


def test_times_before_1970_and_after_2262_compare():
    early, late = dt.datetime(1, 1, 1), dt.datetime(9999, 12, 31, 23, 59, 59)
    assert entrants(pa.array([early, NAIVE], pa.timestamp("us")), early) == [0]
    assert entrants(pa.array([NAIVE], pa.timestamp("ns")), late) == [0]
    assert entrants(pa.array([NAIVE], pa.timestamp("ns")), early) == []


def test_nobody_entered_where_every_entry_is_null():
    assert entrants([None, None], NAIVE) == []


def test_without_a_cut_off_the_first_text_says_whether_there_are_offsets():
    rule = event(entry_column="at", ties="earliest_entry")
    rows = {"id": [1, 2], "count": [1, 1]}
    for first, second in (
        ("2020-03-10T12:00:00+09:00", "2020-03-10T02:59:59Z"),
        ("2020-03-10T12:00:00", "2020-03-10T11:00"),
        ("2020-03-10", "2020-03-09"),
    ):
        assert hensa.rank({**rows, "at": [first, second]}, rule)["id"].to_pylist() == [2, 1]


@pytest.mark.parametrize(
    ("column", "until", "message"),
    [
        (
            pa.array([NAIVE], pa.timestamp("us")),
            ZONED,
            "Column 'at' has no offset from UTC, and the cut-off 2020-03-10T12:00:00+09:00 of the event has one; write "
            "the cut-off as 2020-03-10T12:00:00.",
        ),
        (
            pa.array([NAIVE], pa.timestamp("us", "UTC")),
            NAIVE,
            "Column 'at' has an offset from UTC, and the cut-off 2020-03-10T12:00:00 of the event has none; write the "
            "cut-off as 2020-03-10T12:00:00+09:00.",
        ),
        (
            ["2020-03-01", None, "soon", "never"],
            NAIVE,
            "Column 'at' is 'soon' in row 2; it must be a time such as 2020-01-05T12:00:00, without an offset.",
        ),
        (
            ["2020-03-01"],
            ZONED,
            "Column 'at' is '2020-03-01' in row 0; it must be a time such as 2020-01-05T12:00:00+09:00, with an ",
        ),
        ([5], NAIVE, "Column 'at' is of type int64; entries must be dates, times or ISO 8601 text."),
    ],
)
def test_entries_that_do_not_compare_with_the_cut_off_are_refused(column, until, message):
    with pytest.raises(DataError, match=f"^{re.escape(message)}"):
        entrants(column, until)


# --- rows that are refused --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"id": [1, None], "count": [1, 1]}, "Column 'id' is null in row 1; every row needs an id."),
        (
            {"id": [5, 3, 4, 3, 5], "count": [0] * 5},  # nobody is even ranked
            "Row 3 has the id of row 1 again (id 3); every id may stand once.",
        ),
        ({"id": ["a", "a"], "count": [1, 2]}, "Row 1 has the id of row 0 again (id 'a'); every id may stand once."),
        ({"id": [1.0], "count": [1]}, "Column 'id' is of type double; ids must be of integers, text, bool, dates or"),
        ({"id": [1], "count": [1.0]}, "Column 'count' is of type double; it must be of integers or whole decimals."),
        ({"id": [1, 2], "count": [1, -1]}, "Column 'count' is -1 in row 1; it must be 0 or more."),
        (
            {"id": [1, 2], "count": pa.array([1, 2**63], pa.uint64())},
            "Column 'count' is '9223372036854775808' in row 1; it must be a whole number that fits int64.",
        ),
        ({"id": [1]}, "There is no column 'count'; the columns are 'id'."),
        ([1], "rows is a list; it must have __arrow_c_stream__"),
    ],
)
def test_rows_that_cannot_be_ranked_are_refused(rows, message):
    with pytest.raises(DataError, match=f"^{re.escape(message)}"):
        hensa.rank(rows, event())


# --- against an oracle ------------------------------------------------------------------------------------------------


@st.composite
def cases(draw):
    n = draw(st.integers(0, 25))
    few = st.one_of(st.none(), st.integers(0, 4))
    rows = {
        "id": draw(st.lists(st.integers(-50, 50), min_size=n, max_size=n, unique=True)),
        "count": draw(st.lists(few, min_size=n, max_size=n)),
        "size": draw(st.lists(few, min_size=n, max_size=n)),
        "at": draw(st.lists(few, min_size=n, max_size=n)),
    }
    paid, last = [], 0
    for _ in range(draw(st.integers(0, 3))):
        first = last + draw(st.integers(1, 3))
        last = first + draw(st.integers(0, 3))
        paid.append(Prize(first=first, last=last, points=draw(st.integers(0, 100))))
    rules = {
        "ties": draw(st.sampled_from(["competition", "earliest_entry"])),
        "tied_prizes": draw(st.sampled_from(["each", "split"])),
        "least_count": draw(st.integers(0, 2)),
        "until": draw(few),
        "prizes": paid,
        "boards": [
            Board("all"),
            Board("low", most=draw(st.integers(0, 4))),
            Board("high", least=draw(st.integers(0, 4))),
        ],
    }
    return rows, rules, draw(st.permutations(range(n)))


def oracle(rows, rules):
    """By definition: the rank is one more than how many are better, and a place's prize is looked up place by place."""
    points = {place: prize.points for prize in rules["prizes"] for place in range(prize.first, prize.last + 1)}
    expected = []
    for board in rules["boards"]:
        on_board = []
        for id_, count, size, at in zip(*(rows[name] for name in ("id", "count", "size", "at")), strict=True):
            in_time = at is not None and (rules["until"] is None or at <= rules["until"])
            unbounded = board.least is None and board.most is None
            inside = size is not None and (board.least or 0) <= size <= (4 if board.most is None else board.most)
            if count is not None and count >= rules["least_count"] and in_time and (unbounded or inside):
                on_board.append(((-count, at if rules["ties"] == "earliest_entry" else 0), id_, count))
        for key, id_, count in sorted(on_board):
            rank = 1 + sum(other < key for other, _, _ in on_board)
            tied = sum(other == key for other, _, _ in on_board)
            prize = points.get(rank, 0)
            if rules["tied_prizes"] == "split":
                prize = floor(Fraction(sum(points.get(place, 0) for place in range(rank, rank + tied)), tied))
            expected.append({"board": board.name, "rank": rank, "id": id_, "count": count, "prize": prize})
    return expected


def arrow(rows):
    return pa.table(
        {
            "id": pa.array(rows["id"], pa.int16()),
            "count": pa.array(rows["count"], pa.int64()),
            "size": pa.array(rows["size"], pa.int8()),
            "at": pa.array(rows["at"], pa.int64()).cast(pa.timestamp("s")),
        }
    )


def rule_of(rules):
    until = None if rules["until"] is None else dt.datetime(1970, 1, 1, 0, 0, rules["until"])
    rest = {key: value for key, value in rules.items() if key != "until"}
    return event(class_column="size", entry_column="at", entry_until=until, **rest)


@given(cases())
@examples(300)
def test_ranks_and_prizes_are_those_of_the_definition(case):
    rows, rules, _ = case
    assert hensa.rank(arrow(rows), rule_of(rules)).to_pylist() == oracle(rows, rules)


@given(cases(), st.integers(1, 6))
@examples(100)
def test_a_snapshot_is_the_head_of_every_board(case, top):
    rows, rules, _ = case
    expected = [row for row in oracle(rows, rules) if row["rank"] <= top]
    assert hensa.rank(arrow(rows), rule_of(rules), top).to_pylist() == expected


@given(cases(), st.integers(1, 5))
@examples(100)
def test_the_order_and_the_chunks_of_the_rows_change_nothing(case, chunk):
    rows, rules, order = case
    table, rule = arrow(rows), rule_of(rules)
    moved = table.take(pa.array(order, pa.int64()))
    in_chunks = pa.Table.from_batches(moved.to_batches(max_chunksize=chunk), table.schema)
    assert hensa.rank(in_chunks, rule).equals(hensa.rank(table, rule))


@given(cases())
@examples(100)
def test_split_prizes_never_pay_more_than_there_are(case):
    rows, rules, _ = case
    rules["tied_prizes"] = "split"
    ranked = hensa.rank(arrow(rows), rule_of(rules)).to_pylist()
    for board in rules["boards"]:
        paid = [row["prize"] for row in ranked if row["board"] == board.name]
        available = [prize.points for prize in rules["prizes"] for _ in range(prize.first, prize.last + 1)]
        assert sum(paid) <= sum(available)


# --- compensation -----------------------------------------------------------------------------------------------------

SPRING = Event.parse(TOML.replace('ties = "earliest_entry"\n', ""))
ROWS = {
    "member": ["a", "b", "c", "d", "e"],
    "friends": [9, 8, 7, 6, 5],
    "before": [0, 50, 3, 60, 70],
    "entered": ["2020-03-01", "2020-03-10 12:00", "2020-03-10 12:01", "2020-03-05", "2020-03-20"],
}
# At or before noon of the 10th: a, b and d. Top 2: overall a, b; light a, c; heavy b, d.
PAID = [
    {"member": "a", "flat": 100, "boards": 2, "points": 160},
    {"member": "b", "flat": 100, "boards": 2, "points": 160},
    {"member": "c", "flat": 0, "boards": 1, "points": 30},
    {"member": "d", "flat": 100, "boards": 1, "points": 130},
]


def test_the_flat_sum_and_the_sums_of_the_boards_add_up():
    assert hensa.compensate(ROWS, SPRING, hensa.rank(ROWS, SPRING)).to_pylist() == PAID


def test_ranks_beyond_the_top_change_nothing():
    boards = hensa.rank(ROWS, SPRING, top=2)
    assert boards.num_rows < hensa.rank(ROWS, SPRING).num_rows
    assert hensa.compensate(ROWS, SPRING, boards).to_pylist() == PAID


def test_the_standing_of_a_snapshot_counts_even_for_those_missing_in_the_rows():
    snapshot = {"board": ["overall", "light", "overall"], "rank": [2, 1, 3], "member": ["z", "z", "a"]}
    alone = {name: values[4:] for name, values in ROWS.items()}  # e, too late for the flat sum
    assert hensa.compensate(alone, SPRING, snapshot).to_pylist() == [
        {"member": "z", "flat": 0, "boards": 2, "points": 60}
    ]


def test_without_a_top_nothing_but_the_flat_sum_is_paid():
    rules = Compensation(entry_until=NAIVE, points=10)
    paid = hensa.compensate({"id": [1], "at": [NAIVE]}, event(entry_column="at", compensation=rules))
    assert paid.to_pylist() == [{"id": 1, "flat": 10, "boards": 0, "points": 10}]


def test_the_largest_sums_are_exact():
    rules = Compensation(entry_until=NAIVE, points=MOST - 6, top=1, board_points=3)
    rule = event(entry_column="at", compensation=rules, boards=[Board("a"), Board("b")])
    rows = {"id": [1], "count": [1], "at": [NAIVE]}
    assert hensa.compensate(rows, rule, hensa.rank(rows, rule))["points"].to_pylist() == [MOST]


@pytest.mark.parametrize(
    ("changes", "boards", "message"),
    [
        ({}, None, "Event 'spring' compensates the top 2 of each board; give the boards."),
        ({"member": ["a", "b", "c", "d", "b"]}, {}, "rows: Row 4 has the id of row 1 again (member 'b'); every id"),
        ({"member": ["a", "b", "c", "d", None]}, {}, "rows: Column 'member' is null in row 4; every row needs an id."),
        ({"member": range(5)}, {}, "Column 'member' is of type int64 and large_string; ids must be of one type to be"),
        (
            {},
            {"board": ["light", "x"]},
            "boards: Column 'board' has the board 'x'; the event has overall, light, heavy.",
        ),
        (
            {},
            {"board": ["light", "light"]},
            "boards: Row 1 has the id of row 0 again (board 'light', member 'a'); every",
        ),
        (
            {},
            {"rank": [1.0, 2.0]},
            "boards: Column 'rank' is of type double; it must be of integers or whole decimals.",
        ),
        ({}, {"member": [None, "a"]}, "boards: Column 'member' is null in row 0; every row needs an id."),
    ],
)
def test_compensations_that_cannot_be_paid_are_refused(changes, boards, message):
    standing = {"board": ["overall", "light"], "rank": [1, 1], "member": ["a", "a"], **(boards or {})}
    with pytest.raises(DataError, match=f"^{re.escape(message)}"):
        hensa.compensate({**ROWS, **changes}, SPRING, None if boards is None else standing)


def test_an_event_without_compensation_is_refused():
    with pytest.raises(DataError, match=re.escape("Event 'test' has no [compensation].")):
        hensa.compensate({"id": [1]}, event())


@given(cases(), st.integers(1, 4), st.integers(0, 50), st.integers(0, 50), st.integers(0, 4))
@examples(100)
def test_a_compensation_is_the_flat_sum_and_one_sum_a_board(case, top, flat, each, cut_off):
    rows, rules, order = case
    rule = rule_of(rules)
    compensation = Compensation(
        entry_until=dt.datetime(1970, 1, 1, 0, 0, cut_off), points=flat, top=top, board_points=each
    )
    rule = Event(**{name: getattr(rule, name) for name in rule.__struct_fields__} | {"compensation": compensation})
    table = arrow(rows)
    standing = [row["id"] for row in oracle(rows, rules) if row["rank"] <= top]
    expected = []
    for id_, at in sorted(zip(rows["id"], rows["at"], strict=True)):
        own = flat if at is not None and at <= cut_off else 0
        points = own + each * standing.count(id_)
        if points:
            expected.append({"id": id_, "flat": own, "boards": standing.count(id_), "points": points})
    moved = table.take(pa.array(order, pa.int64()))
    assert hensa.compensate(moved, rule, hensa.rank(table, rule)).to_pylist() == expected


# --- the commands -----------------------------------------------------------------------------------------------------


def hensa_command(*args):
    from typer import testing as typer_testing

    from hensa import cli

    return typer_testing.CliRunner().invoke(cli.app, [str(arg) for arg in args])


@pytest.fixture
def files(tmp_path):
    (tmp_path / "spring.toml").write_text(TOML.replace('ties = "earliest_entry"\n', ""))
    lines = zip(*ROWS.values(), strict=True)
    (tmp_path / "rows.csv").write_text("\n".join(",".join(map(str, line)) for line in [tuple(ROWS), *lines]))
    return tmp_path


def test_the_commands_rank_and_compensate_as_the_functions_do(files):
    boards, paid = files / "boards.csv", files / "paid.parquet"
    ranked = hensa_command("rank", files / "rows.csv", "-o", boards, "--event", files / "spring.toml")
    assert (ranked.exit_code, ranked.stdout) == (0, "")
    # Overall 500 + 100 + 100; light has the one prize 70; heavy (b, d, e) as overall.
    assert re.search(r"^spring: 5 rows, 5 entered by 2020-03-31 23:59:59$", ranked.stderr, re.M)
    for board, n, points in (("overall", 5, 700), ("light", 2, 70), ("heavy", 3, 700)):
        assert re.search(rf"^{board} +{n} +{points}$", ranked.stderr, re.M)
    assert max(map(len, ranked.stderr.splitlines())) <= 80
    done = hensa_command("compensate", files / "rows.csv", "-o", paid, "-e", files / "spring.toml", "--boards", boards)
    assert (done.exit_code, done.stdout) == (0, "")
    assert pq.read_table(paid).to_pylist() == PAID
    assert re.search(r"^5 rows, 4 ids are paid$", done.stderr, re.M)
    assert re.search(r"^points +480$", done.stderr, re.M)


def test_the_boards_are_data_on_stdout_if_asked_for(files):
    done = hensa_command("rank", files / "rows.csv", "-o", files / "b.csv", "-e", files / "spring.toml", "--json")
    points = {"overall": (5, 700), "light": (2, 70), "heavy": (3, 700)}  # as above
    boards = [{"board": name, "ranked": ranked, "points": paid} for name, (ranked, paid) in points.items()]
    assert json.loads(done.stdout) == {"event": "spring", "rows": 5, "entered": 5, "boards": boards}
    assert "ranked" not in done.stderr


def test_the_command_takes_a_snapshot(files):
    out = files / "top.csv"
    assert hensa_command("rank", files / "rows.csv", "-o", out, "-e", files / "spring.toml", "--top", 1).exit_code == 0
    assert out.read_text().splitlines() == [
        '"board","rank","member","friends","prize"',
        '"overall",1,"a",9,500',
        '"light",1,"a",9,70',
        '"heavy",1,"b",8,500',
    ]


def test_an_error_names_the_file_that_it_is_about(files):
    boards = files / "boards.csv"
    boards.write_text("board,rank,member\nlight,1,a\nlight,2,a\n")
    done = hensa_command(
        "compensate", files / "rows.csv", "-o", files / "o.csv", "-e", files / "spring.toml", "--boards", boards
    )
    assert done.exit_code == 1
    again = "Row 1 (line 3) has the id of row 0 (line 2) again (board 'light', member 'a')"
    assert done.stderr.startswith(f"hensa: {boards}: {again}")
    (files / "rows.csv").write_text("member,friends,before,entered\na,1,1,soon\n")
    done = hensa_command("rank", files / "rows.csv", "-o", files / "o.csv", "-e", files / "spring.toml")
    assert done.exit_code == 1
    assert done.stderr.startswith(
        f"hensa: {files / 'rows.csv'}: Column 'entered' is 'soon' in row 0 (line 2); it must be a time"
    )
    (files / "rows.csv").write_text("member,friends,before,entered\na,1.5,1,2020-03-01\n")
    done = hensa_command("rank", files / "rows.csv", "-o", files / "o.csv", "-e", files / "spring.toml")
    assert done.exit_code == 1
    found = "line 2, column friends: '1.5' is not a whole number, such as 10 or 10.0."
    assert done.stderr == f"hensa: {files / 'rows.csv'}: {found}\n"
    assert not (files / "o.csv").exists()


@pytest.mark.parametrize(
    "args",
    [
        ("rank", "in.csv"),
        ("rank", "in.csv", "-o", "out.csv"),
        ("rank", "in.csv", "-o", "out.csv", "-e", "e.toml", "--top", "0"),
        ("compensate", "in.csv", "-o", "out.csv", "-e", "e.toml", "--boards", "x.txt"),
    ],
)
def test_bad_usage_exits_with_2(args):
    assert hensa_command(*args).exit_code == 2


@pytest.mark.long
def test_ten_million_entrants_are_ranked_as_numpy_counts_them():
    n = 10_000_000
    draw = np.random.default_rng(5)
    ids, counts = draw.permutation(n), np.minimum(draw.pareto(1.2, n) * 2 + 1, 50_000).astype(np.int64)
    ranked = hensa.rank({"id": ids, "count": counts}, event())
    better = n - np.cumsum(np.bincount(counts))  # of each count: how many have more
    assert np.array_equal(ranked["rank"].to_numpy(), 1 + better[ranked["count"].to_numpy()])
    assert np.array_equal(np.sort(ranked["id"].to_numpy()), np.arange(n))
