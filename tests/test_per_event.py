"""The per-event rule: fixed amounts for counted events, and other amounts in the months of a campaign."""

import random
import re

import pyarrow as pa
import pytest
from test_differential import CHUNKING, INTEGERS, NULLS, OFFSETS, column, engines
from typer.testing import CliRunner

import hensa
from hensa import Campaign, DataError, PaidEvent, PerEvent, Program, ProgramError, reference
from hensa.cli import app

SHARE_HAPI = Program.load("share-hapi")
CAMPAIGN = """
name = "p"
[rule]
kind = "per-event"
events = [
  { column = "registrations", referrer = 100, friend = 100 },
  { column = "first_valid_ads", referrer = 100, friend = 50, standing = "stated" },
]
[[rule.campaigns]]
column = "registrations"
effective_from = 2018-12-01
effective_until = 2019-01-31
referrer = 700
friend = 600
"""


def events(*amounts, **rule):
    """A program that pays these (referrer, friend) for the columns x, y, ..."""
    paid = [PaidEvent(name, *amount) for name, amount in zip("xyz", amounts, strict=False)]
    return Program(name="test", rule=PerEvent(events=paid, **rule))


def outcome(call):
    try:
        return call()
    except hensa.HensaError as error:
        return str(error)


def run(*args):
    return CliRunner().invoke(app, [str(arg) for arg in args])


def paid(rows, program, **options):
    """The rewards of hensa and of the reference, which must be the same."""
    rows = pa.table(rows)
    found, expected = hensa.score(rows, program, **options), reference.score(rows, program, **options)
    assert found.to_pydict() == expected
    assert {found[name].type for name in found.column_names[rows.num_columns :]} == {pa.int64()}
    return found.select(found.column_names[rows.num_columns :]).to_pydict()


def test_share_hapi_pays_100_for_a_registration_and_100_for_the_first_valid_ad_to_both():
    rows = {"registrations": [0, 1, 1, 7, None], "first_valid_ads": [0, 0, 1, 3, 1]}
    points = [0, 100, 200, 1_000, None]  # 200 in all for a friend who registers and uses an ad
    assert paid(rows, SHARE_HAPI) == {"reward": points, "friend_reward": points}
    assert paid(rows, SHARE_HAPI, columns="reward") == {"reward": points}


@pytest.mark.parametrize(("month", "holds"), [("2017-12", 0), ("2018-01", 1), ("2019-09", 1), ("2019-10", 0)])
def test_share_hapi_holds_from_2018_to_september_2019(month, holds):
    rows = {"registrations": [1], "first_valid_ads": [1]}
    assert isinstance(outcome(lambda: hensa.score(rows, SHARE_HAPI, month=month)), str) == (not holds)
    assert hensa.score(rows, SHARE_HAPI, month=month, any_month=True).schema.metadata[b"hensa.month"] == month.encode()


@pytest.mark.parametrize(
    ("month", "referrer", "friend"),
    [
        ("2018-11", 2 * 100 + 3 * 100, 2 * 100 + 3 * 50),
        ("2018-12", 2 * 700 + 3 * 100, 2 * 600 + 3 * 50),
        ("2019-01", 2 * 700 + 3 * 100, 2 * 600 + 3 * 50),
        ("2019-02", 2 * 100 + 3 * 100, 2 * 100 + 3 * 50),
    ],
)
def test_a_campaign_pays_other_amounts_in_its_months(month, referrer, friend):
    rows = {"registrations": [2], "first_valid_ads": [3]}
    expected = {"reward": [referrer], "friend_reward": [friend]}
    assert paid(rows, Program.parse(CAMPAIGN), month=month) == expected


def test_campaigns_of_one_event_may_follow_each_other():
    program = Program.parse(
        f"{CAMPAIGN}[[rule.campaigns]]\n"
        'column = "registrations"\neffective_from = 2019-02-01\neffective_until = 2019-02-28\nreferrer = 1\n'
    )
    rows = {"registrations": [2], "first_valid_ads": [0]}
    assert [paid(rows, program, month=month)["reward"] for month in ("2019-01", "2019-02", "2019-03")] == [
        [1400],
        [2],
        [200],
    ]


def test_a_program_with_campaigns_asks_for_the_month():
    rows = {"registrations": [2], "first_valid_ads": [3]}
    for score in (hensa.score, reference.score):
        message = outcome(lambda score=score: score(rows, Program.parse(CAMPAIGN)))
        assert message == "The program has campaigns, and no month is named; name the month that is paid."


def test_friends_are_paid_only_where_the_program_says_so():
    program = events((100,), (7,))
    assert program.results == ("reward",)
    assert program.columns == ("x", "y")
    rows = {"x": [1, 2], "y": [3, 0]}
    assert paid(rows, program) == {"reward": [121, 200]}
    assert paid(rows, program, columns=["friend_reward", "reward"]) == {"friend_reward": [0, 0], "reward": [121, 200]}


@pytest.mark.parametrize("type_", INTEGERS[:8], ids=str)
@pytest.mark.parametrize("nulls", NULLS)
def test_hensa_and_the_reference_agree_over_types_nulls_offsets_chunks_and_lengths(type_, nulls):
    rng = random.Random(f"{type_} {nulls}")
    for length in (0, 1, 63, 64, 65, 1025, 4097):
        rows = pa.table(
            {
                "x": column(type_, nulls, rng.choice(OFFSETS), rng.choice(CHUNKING), length, rng, (0, 2**31)),
                "y": column(
                    rng.choice(INTEGERS[:8]), "1%", rng.choice(OFFSETS), rng.choice(CHUNKING), length, rng, (0, 9)
                ),
            }
        )
        program = events((100, 3), (0, 10**9))
        found = engines.each(lambda rows=rows, program=program: hensa.score(rows, program))
        expected = reference.score(rows, program)
        assert found.to_pydict() == expected
        population = hensa.population(rows, program)
        assert population.count == length - expected["reward"].count(None)
        assert not population.measures


def test_the_last_int64_is_paid_and_one_point_more_is_an_error_that_names_the_row():
    program = events((1, 0), (1, 0))
    top = 2**63 - 1
    rows = {"x": [0, top, top - 1], "y": [top, 0, 1]}
    assert paid(rows, program)["reward"] == [top] * 3
    rows = {"x": [0, top, None, top], "y": [top, 0, top, 1]}
    message = f"Column 'x' is {top}, 'y' is 1 in row 3; the reward of {top + 1} points is beyond int64."
    assert outcome(lambda: hensa.score(rows, program)) == message
    assert outcome(lambda: reference.score(rows, program)) == message


def test_a_count_beyond_int64_is_an_error_only_if_it_is_paid_for():
    rows = {"x": pa.array([2**64 - 1, 1], pa.uint64()), "y": [5, 5]}
    assert paid(rows, events((0, 0), (2, 0)))["reward"] == [10, 10]
    assert re.search(r"in row 0; the reward of", outcome(lambda: hensa.score(rows, events((1, 0), (2, 0)))))


def test_parts_beyond_int64_may_cancel():
    rule = PerEvent(events=[PaidEvent("x", 4, 0, "allow"), PaidEvent("y", 4, 0, "allow")])
    rows = {"x": [2**62, 1], "y": [-(2**62) + 1, 1]}
    assert paid(rows, Program(name="p", rule=rule))["reward"] == [4, 8]


def test_a_negative_count_is_an_error_unless_the_program_allows_it():
    rows = {"x": [1, -2]}
    message = "Column 'x' is -2 in row 1; it must be 0 or more, as the program says negative = \"error\" of it."
    for score in (hensa.score, reference.score):
        assert outcome(lambda score=score: score(rows, events((5,)))) == message
    assert paid(rows, Program(name="p", rule=PerEvent(events=[PaidEvent("x", 5, 0, "allow")])))["reward"] == [5, -10]


@pytest.mark.parametrize("values", [[1.0], [True], ["1"]])
def test_a_count_is_of_an_integer_type(values):
    message = outcome(lambda: hensa.score({"x": values}, events((5,))))
    assert re.fullmatch(r"Column 'x' is of type \w+; a count must be of an integer type; cast it first\.", message)
    assert isinstance(outcome(lambda: reference.score({"x": values}, events((5,)))), str)


def test_events_have_no_scores_and_rates():
    rows, program = {"x": [1]}, events((5,))
    assert outcome(lambda: hensa.score(rows, program, columns="rate")) == (
        "columns names 'rate'; it may name each of reward, friend_reward once, as amounts per event have no scores and "
        "rates."
    )
    with pytest.raises(DataError, match="'rate'"):
        reference.score(rows, program, columns="rate")
    with pytest.raises(ProgramError, match=r"^Program 'test' has no rates, as it pays fixed amounts per event\.$"):
        _ = program.rate_table
    with pytest.raises(DataError, match="already have a column 'reward'"):
        hensa.score({"x": [1], "reward": [1]}, program)
    with pytest.raises(DataError, match="no column 'x'"):
        hensa.score({"y": [1]}, program)


def test_a_population_and_cohorts_bear_on_nothing():
    rows, program = {"x": [1, 2], "site": ["a", "b"]}, events((5,))
    population = hensa.population(rows, program, by="site")
    scored = hensa.score(rows, program, population=population, by="site")
    assert scored["reward"].to_pylist() == [5, 10]


# --- what is refused -------------------------------------------------------------------------------------------------

REFUSED = {
    "events: found an empty array; allowed: at least one event, { column, referrer, friend }": (
        CAMPAIGN[CAMPAIGN.index("events") :],
        "events = []",
    ),
    "events[1].column: found 'registrations' again; allowed: each column once": ("first_valid_ads", "registrations"),
    "events[0].referrer: found -100; allowed: a whole number from 0 to 9223372036854775807": (
        "= 100, friend = 100",
        "= -100",
    ),
    "events[1].referrer: found nothing; allowed: a whole number, and it is required": (
        "referrer = 100, friend = 50",
        "friend = 50",
    ),
    "events[1].friend: found 0.5; allowed: a whole number": ("friend = 50", "friend = 0.5"),
    "campaigns[0].column: found 'registration'; allowed: the columns of events: "
    '"registrations" or "first_valid_ads"': ('column = "registrations"\n', 'column = "registration"\n'),
    "campaigns[0].effective_from: found 2018-12-02; allowed: the first day of a month": ("2018-12-01", "2018-12-02"),
    "campaigns[0].effective_until: found 2019-01-30; allowed: the last day of a month from 2018-12-01 "
    "(effective_from) on": ("2019-01-31", "2019-01-30"),
    "campaigns[0].effective_until: found 2018-11-30; allowed: the last day of a month from 2018-12-01 "
    "(effective_from) on": ("2019-01-31", "2018-11-30"),
    "campaigns[0].effective_until: found nothing; allowed: a date such as 2019-10-01, and it is required": (
        "effective_until = 2019-01-31\n",
        "",
    ),
    "campaigns[1].effective_from: found 2019-01-01 within another campaign for 'registrations'; allowed: campaigns of "
    "one column that do not overlap": (
        "friend = 600\n",
        'friend = 600\n[[rule.campaigns]]\ncolumn = "registrations"\nreferrer = 1\n'
        "effective_from = 2019-01-01\neffective_until = 2019-06-30\n",
    ),
    "rates: found a table; allowed: none with a per-event rule, whose events have amounts": (
        "friend = 600\n",
        "friend = 600\n[rates]\nsteps = [[0, 1]]\n",
    ),
    "reward: found a table; allowed: none with a per-event rule, whose events have amounts": (
        "friend = 600\n",
        'friend = 600\n[reward]\nbase = "b"\n',
    ),
}


@pytest.mark.parametrize("message", REFUSED)
def test_a_refused_file_names_the_key_what_was_found_and_what_is_allowed(message):
    old, new = REFUSED[message]
    assert CAMPAIGN.count(old) == 1
    with pytest.raises(ProgramError) as error:
        Program.parse(CAMPAIGN.replace(old, new))
    assert str(error.value) == f"{message if message.startswith('r') else f'rule.{message}'}."


@pytest.mark.parametrize("text", [CAMPAIGN, SHARE_HAPI.to_toml()])
def test_a_program_is_read_back_as_it_was_written(text):
    program = Program.parse(text)
    assert Program.parse(program.to_toml()) == program


def test_a_program_is_built_in_python_too():
    campaign = Program.parse(CAMPAIGN).rule.campaigns[0]
    assert campaign == Campaign(
        column="registrations",
        effective_from=campaign.effective_from,
        effective_until=campaign.effective_until,
        referrer=700,
        friend=600,
    )


# --- the command -----------------------------------------------------------------------------------------------------


def test_the_command_pays_shows_and_checks_events(tmp_path):
    source, out, rules = tmp_path / "in.csv", tmp_path / "out.csv", tmp_path / "p.toml"
    source.write_text("referrer_id,registrations,first_valid_ads\na,2,3\nb,0,1\nc,,1\n")
    rules.write_text(CAMPAIGN)
    scored = run("score", source, "-o", out, "-p", rules, "--month", "2018-12")
    assert scored.exit_code == 0, scored.output
    assert [line.split(",")[3:] for line in out.read_text().splitlines()] == [
        ['"reward"', '"friend_reward"'],
        ["1700", "1350"],
        ["100", "50"],
        ["", ""],
    ]
    assert "3 rows, 1 of them null\n" in scored.stderr
    assert re.search(r"reward +1,800\nfriend_reward +1,400", scored.stderr)
    refused = run("score", source, "-o", out, "-p", rules)
    assert (refused.exit_code, refused.stderr) == (
        1,
        f"hensa: {source}: The program has campaigns, and no month is named; name the month that is paid.\n",
    )
    assert run("programs", "check", rules).stdout == f"{rules}: p is valid, with 2 events and 1 campaign\n"
    shown = run("programs", "show", rules).stdout.splitlines()
    assert shown[-4:] == [
        "event            points to the referrer and to the friend",
        "registrations    100 and 100",
        "first_valid_ads  100 and 50 [stated]",
        "registrations    700 and 600 from 2018-12-01 to 2019-01-31",
    ]


def test_show_marks_the_standing_of_share_hapi():
    shown = run("programs", "show", "share-hapi").stdout.splitlines()
    assert "effective_from   2018-01-01 [reconstructed]" in shown
    assert shown[-2:] == ["registrations    100 and 100 [stated]", "first_valid_ads  100 and 100 [stated]"]
