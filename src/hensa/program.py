"""Programs: the rules of a payout as frozen, validated data, read from TOML.

A program says by which rule rows are paid: by rates for the standard scores of measures or for stages that columns
reach, with the base that they are a share of, or by fixed amounts for counted events. Everything is checked when it is
built, from TOML and from Python alike, so that nothing downstream checks it again.
"""

import datetime
import os
import re
from collections.abc import Collection
from decimal import Decimal
from fractions import Fraction
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias

import msgspec

from hensa.checked import (
    LIMIT,
    MOST_POINTS,
    Checked,
    Invalid,
    convert,
    document_of,
    dotted,
    key_of,
    listed,
    pairs_of,
    quoted,
    read_toml,
    refuse,
    shown,
    toml_of,
    types_of,
)
from hensa.errors import DataError, ProgramError

__all__ = [
    "ANY_MONTH_ALLOWS",
    "Bonus",
    "Campaign",
    "Criterion",
    "Measure",
    "Minimum",
    "PaidEvent",
    "PerEvent",
    "Program",
    "RateTable",
    "Reward",
    "Rule",
    "Stages",
    "StandardScore",
    "Standing",
    "Step",
    "days_of",
]

Standing: TypeAlias = Literal["stated", "public", "reconstructed"]
"""Where a fact of a program comes from: its owner's own words, another public text, or a fill-in of ours."""

ANY_MONTH_ALLOWS = "any_month (--any-month) allows it"
"""What errors about a month end with that may be paid all the same."""
_BUILT_IN = Path(__file__).with_name("programs")
_MOST_STEPS = 2**16 - 1
"""A step is a uint16 in the output."""
_MOST_STAGES = 256
"""The kernel compares a row with every minimum of a stage rule."""


class Measure(Checked, frozen=True):
    """One measured column and its weight in the score.

    Parameters
    ----------
    column : str
        Name of the column.
    weight : Fraction
        Weight of its standard score; an int, a Decimal or a string such as ``"1/3"`` is converted.
    negative : {"allow", "error"}
        Whether a value below 0 is data like any other, as a deviation of any sign is a legitimate statistic, or raises
        DataError, as it should in a column of counts.

    Raises
    ------
    ProgramError
        If a value is not allowed.

    Examples
    --------
    >>> Measure("orders", "1/3")
    Measure(column='orders', weight=Fraction(1, 3), negative='allow')
    """

    column: str
    weight: Fraction = Fraction(1)
    negative: Literal["allow", "error"] = "allow"


class StandardScore(Checked, frozen=True, kw_only=True, tag_field="kind", tag="standard-score"):
    """The rule that scores a row by how many standard deviations its measures lie from their means.

    score = Σ wᵢ·(zᵢ·scale + centre) / Σ wᵢ, with zᵢ = (xᵢ - meanᵢ) / SDᵢ.

    Parameters
    ----------
    measures : tuple of Measure
        The measured columns, each named once; their weights must not sum to zero.
    scale : Fraction
        Points per standard deviation; not zero.
    centre : Fraction
        The score of a row that lies on every mean.
    ddof : {0, 1}
        The variance divides by the number of rows less this.
    constant : {"centre", "null", "error"}
        What a measure whose SD is 0 does: it adds the centre, makes every score null, or raises DataError.

    Raises
    ------
    ProgramError
        If a value is not allowed.

    Examples
    --------
    >>> rule = StandardScore(measures=[Measure("orders"), Measure("cds", 2)], scale=10)
    >>> rule.scale, rule.centre, rule.ddof
    (Fraction(10, 1), Fraction(50, 1), 0)
    """

    measures: tuple[Measure, ...]
    scale: Fraction = Fraction(1)
    centre: Fraction = Fraction(50)
    ddof: Literal[0, 1] = 0
    constant: Literal["centre", "null", "error"] = "centre"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.measures:
            refuse("measures", "an empty array", "at least one measure, { column, weight }")
        seen: set[str] = set()
        for index, measure in enumerate(self.measures):
            if measure.column in seen:
                refuse(f"measures[{index}].column", f"{shown(measure.column)} again", "each column once")
            seen.add(measure.column)
        total = sum(measure.weight for measure in self.measures)
        if abs(total) * LIMIT < 1:
            refuse("measures", f"weights that sum to {shown(Fraction(total))}", "weights whose sum is not zero")
        if not self.scale:
            refuse("scale", "0", "any number but 0")


class Minimum(Checked, frozen=True, array_like=True):
    """What a column must reach for a stage; in TOML ``[stage, minimum]`` or ``[stage, minimum, standing]``.

    Parameters
    ----------
    stage : int
        1 for the first stage.
    minimum : Decimal
        The least value of the column that reaches it.
    standing : {"stated", "public", "reconstructed"}, optional
        Where the minimum comes from.

    Raises
    ------
    ProgramError
        If a value is not allowed.

    Examples
    --------
    >>> Minimum(4, 3000, "public")
    Minimum(stage=4, minimum=Decimal('3000'), standing='public')
    """

    stage: int
    minimum: Decimal
    standing: Standing | None = None


class Criterion(Checked, frozen=True):
    """One column by which stages are reached.

    Parameters
    ----------
    column : str
        Name of the column.
    minimums : tuple of Minimum
        What it must reach for which stage; both ascend. It reaches no stage that is not named.
    negative : {"allow", "error"}
        Whether a value below 0 is data like any other or raises DataError.

    Raises
    ------
    ProgramError
        If a value is not allowed.

    Examples
    --------
    >>> Criterion("own_points", [(4, 3000)]).minimums[0].minimum
    Decimal('3000')
    """

    column: str
    minimums: tuple[Minimum, ...]
    negative: Literal["allow", "error"] = "allow"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.minimums:
            refuse("minimums", "an empty array", "at least one [stage, minimum]")
        _refuse_stages("minimums", [entry.stage for entry in self.minimums])
        for index, (low, high) in enumerate(pairwise(entry.minimum for entry in self.minimums), start=1):
            if high <= low:
                refuse(f"minimums[{index}]", f"the minimum {high} after {low}", "minimums that ascend without repeats")


class Bonus(Checked, frozen=True, array_like=True):
    """Points paid once, when a stage is first reached; in TOML ``[stage, points]`` or ``[stage, points, standing]``.

    Parameters
    ----------
    stage : int
        1 for the first stage.
    points : int
        1 or more.
    standing : {"stated", "public", "reconstructed"}, optional
        Where the bonus comes from.

    Raises
    ------
    ProgramError
        If a value is not allowed.

    Examples
    --------
    >>> Bonus(7, 5000)
    Bonus(stage=7, points=5000, standing=None)
    """

    stage: int
    points: int
    standing: Standing | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.points <= MOST_POINTS:
            refuse("points", shown(self.points), f"a whole number from 1 to {MOST_POINTS}")


class Stages(Checked, frozen=True, kw_only=True, tag_field="kind", tag="stage"):
    """The rule that puts a row on the highest stage that any one of its criteria reaches.

    The rate table of such a program has one step for each stage, from 1 on, and a row below the first earns nothing.
    The bonuses of all stages above the one reached before, up to the one reached now, are added to the reward.

    Parameters
    ----------
    criteria : tuple of Criterion
        Either-or: one that reaches the stage will do. Each column once.
    previous : str, optional
        The column of the highest stage that the row reached before: 0 or null for none. Needed for bonuses; rows
        without the column are paid none, as nothing tells which stages are reached for the first time.
    bonuses : tuple of Bonus
        Points paid once, by the stage first reached.

    Raises
    ------
    ProgramError
        If a value is not allowed.

    Examples
    --------
    >>> friends = Criterion("friends", [(1, 1), (2, 10)])
    >>> rule = Stages(criteria=[friends, Criterion("own_points", [(2, 3000)])], previous="before", bonuses=[(2, 500)])
    >>> rule.bonuses[0].points
    500
    """

    criteria: tuple[Criterion, ...]
    previous: str | None = None
    bonuses: tuple[Bonus, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.criteria:
            refuse("criteria", "an empty array", "at least one criterion, { column, minimums }")
        for index, criterion in enumerate(self.criteria):
            if any(criterion.column == other.column for other in self.criteria[:index]):
                refuse(f"criteria[{index}].column", f"{shown(criterion.column)} again", "each column once")
        _refuse_stages("bonuses", [bonus.stage for bonus in self.bonuses])
        if (total := sum(bonus.points for bonus in self.bonuses)) > MOST_POINTS:
            refuse("bonuses", f"{total} points in all", f"at most {MOST_POINTS}")
        if self.bonuses and self.previous is None:
            refuse("previous", "nothing", "the column of the stage reached before, and bonuses require it")
        if self.previous is not None and not self.bonuses:
            refuse("previous", shown(self.previous), "nothing without bonuses")

    def bonus(self, stage: int) -> int:
        """The bonuses of all stages up to this one."""
        return sum(bonus.points for bonus in self.bonuses if bonus.stage <= stage)


def _refuse_stages(key: str, stages: list[int]) -> None:
    for index, (low, stage) in enumerate(pairwise([0, *stages])):
        if not low < stage <= _MOST_STAGES:
            allowed = f"stages from 1 to {_MOST_STAGES} that ascend without repeats"
            refuse(f"{key}[{index}].stage", shown(stage), allowed)


class PaidEvent(Checked, frozen=True):
    """A counted event and what each pays.

    Parameters
    ----------
    column : str
        Name of the column of counts.
    referrer, friend : int
        Points for each, to the referrer and to the friend; 0 or more.
    negative : {"allow", "error"}
        Whether a count below 0 takes points away, as a correction may, or raises DataError.
    standing : {"stated", "public", "reconstructed"}, optional
        Where the amounts come from.

    Raises
    ------
    ProgramError
        If a value is not allowed.

    Examples
    --------
    >>> PaidEvent("registrations", 100, 100)
    PaidEvent(column='registrations', referrer=100, friend=100, negative='error', standing=None)
    """

    column: str
    referrer: int
    friend: int = 0
    negative: Literal["allow", "error"] = "error"
    standing: Standing | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _refuse_amounts(self.referrer, self.friend)


class Campaign(Checked, frozen=True, kw_only=True):
    """Whole months in which an event pays other amounts.

    Parameters
    ----------
    column : str
        Of the event.
    effective_from, effective_until : datetime.date
        The first day of the first month and the last day of the last: counts are of months. What a campaign within
        a month pays for is an event of its own, counted in another column.
    referrer, friend : int
        Points for each event, instead of those of the event; 0 or more.
    standing : {"stated", "public", "reconstructed"}, optional
        Where the amounts come from.

    Raises
    ------
    ProgramError
        If a value is not allowed.

    Examples
    --------
    >>> first, last = datetime.date(2018, 12, 1), datetime.date(2019, 1, 31)
    >>> Campaign(column="registrations", effective_from=first, effective_until=last, referrer=700).friend
    0
    """

    column: str
    effective_from: datetime.date
    effective_until: datetime.date
    referrer: int
    friend: int = 0
    standing: Standing | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        first, last = self.effective_from, self.effective_until
        if first.day > 1:
            refuse("effective_from", first, "the first day of a month")
        if last != days_of(f"{last:%Y-%m}")[1] or last < first:
            refuse("effective_until", last, f"the last day of a month from {first} (effective_from) on")
        _refuse_amounts(self.referrer, self.friend)


def _refuse_amounts(referrer: int, friend: int) -> None:
    for key, amount in (("referrer", referrer), ("friend", friend)):
        if not 0 <= amount <= MOST_POINTS:
            refuse(key, shown(amount), f"a whole number from 0 to {MOST_POINTS}")


class PerEvent(Checked, frozen=True, kw_only=True, tag_field="kind", tag="per-event"):
    """The rule that pays fixed amounts for counted events.

    reward = Σ countᵢ · amountᵢ, and the friends' reward likewise by the amounts for friends.

    Parameters
    ----------
    events : tuple of PaidEvent
        Each column once.
    campaigns : tuple of Campaign
        Months with other amounts; those of one column do not overlap.

    Raises
    ------
    ProgramError
        If a value is not allowed.

    Examples
    --------
    >>> PerEvent(events=[PaidEvent("registrations", 100)]).amounts("2018-12")
    (('registrations', 100, 0),)
    """

    events: tuple[PaidEvent, ...]
    campaigns: tuple[Campaign, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.events:
            refuse("events", "an empty array", "at least one event, { column, referrer, friend }")
        for index, event in enumerate(self.events):
            if any(event.column == other.column for other in self.events[:index]):
                refuse(f"events[{index}].column", f"{shown(event.column)} again", "each column once")
        columns = [event.column for event in self.events]
        for index, campaign in enumerate(self.campaigns):
            if campaign.column not in columns:
                refuse(
                    f"campaigns[{index}].column", shown(campaign.column), f"the columns of events: {listed(columns)}"
                )
            for other in self.campaigns[:index]:
                if (
                    campaign.column == other.column
                    and campaign.effective_from <= other.effective_until
                    and other.effective_from <= campaign.effective_until
                ):
                    found = f"{campaign.effective_from} within another campaign for {shown(campaign.column)}"
                    refuse(f"campaigns[{index}].effective_from", found, "campaigns of one column that do not overlap")

    def amounts(self, month: str | None) -> tuple[tuple[str, int, int], ...]:
        """Column, points for the referrer and points for the friend of each event in a month.

        Raises
        ------
        DataError
            If there are campaigns and no month.
        """
        if self.campaigns and month is None:
            raise DataError("The program has campaigns, and no month is named; name the month that is paid.")
        found = {event.column: (event.referrer, event.friend) for event in self.events}
        for campaign in self.campaigns_of(month):
            found[campaign.column] = campaign.referrer, campaign.friend
        return tuple((column, *amounts) for column, amounts in found.items())

    def campaigns_of(self, month: str | None) -> tuple[Campaign, ...]:
        """The campaigns of a month."""
        if month is None:
            return ()
        first = days_of(month)[0]
        return tuple(each for each in self.campaigns if each.effective_from <= first <= each.effective_until)

    @property
    def pays_friends(self) -> bool:
        """Whether any amount for friends is more than 0."""
        return any(event.friend for event in self.events) or any(campaign.friend for campaign in self.campaigns)


class Step(Checked, frozen=True, array_like=True):
    """One step of a rate table; in TOML ``[threshold, rate]`` or ``[threshold, rate, standing]``.

    Parameters
    ----------
    threshold : Decimal
        The lowest score on the step.
    rate : Decimal
        The rate of the step, in the unit of its table.
    standing : {"stated", "public", "reconstructed"}, optional
        Where the rate comes from.

    Raises
    ------
    ProgramError
        If a value is not allowed.

    Examples
    --------
    >>> Step(49, "9.8", "stated")
    Step(threshold=Decimal('49'), rate=Decimal('9.8'), standing='stated')
    """

    threshold: Decimal
    rate: Decimal
    standing: Standing | None = None


class RateTable(Checked, frozen=True, kw_only=True, dict=True):
    """The rate of every score: a row is on the highest step whose threshold its score reaches.

    Parameters
    ----------
    steps : tuple of Step
        1 to 65,535 steps; their thresholds ascend, no two of them equal as float64.
    unit : {"percent", "share"}
        Whether the rates are written as 9.8 or as 0.098.
    below : {"first", "zero"}
        A score below the first threshold gets the first step, or no step and the rate 0.
    outside : {"error", "allow"}
        Whether rates below 0 or above 100 percent are refused.

    Raises
    ------
    ProgramError
        If a value is not allowed.

    Examples
    --------
    >>> table = RateTable(steps=[(0, "0.1"), (49, "9.8"), (50, 10)])
    >>> table.shares
    (Fraction(1, 1000), Fraction(49, 500), Fraction(1, 10))
    """

    unit: Literal["percent", "share"] = "percent"
    below: Literal["first", "zero"] = "first"
    outside: Literal["error", "allow"] = "error"
    steps: tuple[Step, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= len(self.steps) <= _MOST_STEPS:
            refuse("steps", f"{len(self.steps):,} steps", f"1 to {_MOST_STEPS:,} steps")
        for index, (low, high) in enumerate(pairwise(step.threshold for step in self.steps), start=1):
            # Two thresholds that are one float64 would leave no float64 score on the step between them.
            if high <= low or float(high) == float(low):
                refuse(
                    f"steps[{index}]",
                    f"the threshold {high} after {low}",
                    "thresholds that ascend without repeats (compared as float64)",
                )
        if self.outside == "error":
            for index, share in enumerate(self.shares):
                if not 0 <= share <= 1:
                    most = 100 if self.unit == "percent" else 1
                    rate = self.steps[index].rate
                    refuse(f"steps[{index}]", f"the rate {rate}", f'0 to {most}, or any rate with outside = "allow"')

    @cached_property
    def thresholds(self) -> tuple[Fraction, ...]:
        """The thresholds, lowest first."""
        return tuple(Fraction(step.threshold) for step in self.steps)

    @cached_property
    def rounded_thresholds(self) -> tuple[float, ...]:
        """The float64 nearest to each threshold."""
        return tuple(map(float, self.thresholds))

    @cached_property
    def shares(self) -> tuple[Fraction, ...]:
        """The rates as exact shares, lowest step first: 9.8 percent is 49/500."""
        unit = 100 if self.unit == "percent" else 1
        return tuple(Fraction(step.rate) / unit for step in self.steps)


class Reward(Checked, frozen=True, kw_only=True):
    """How a rate becomes whole points.

    Parameters
    ----------
    base : str
        Name of the column that the rate is a share of.
    rounding : {"floor", "half_up", "ceil"}
        How base x rate is made whole; half_up is floor(x + 1/2), for negative x too.
    cap : int, optional
        The most points a row is paid, applied after rounding.
    negative : {"allow", "error"}
        Whether a base below 0 is paid like any other, as a correction of earlier points may be, or raises DataError.

    Raises
    ------
    ProgramError
        If a value is not allowed.

    Examples
    --------
    >>> Reward(base="cents", cap=5000)
    Reward(base='cents', rounding='floor', cap=5000, negative='allow')
    """

    base: str
    rounding: Literal["floor", "half_up", "ceil"] = "floor"
    cap: int | None = None
    negative: Literal["allow", "error"] = "allow"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.cap is not None and not 0 <= self.cap <= MOST_POINTS:
            refuse("cap", shown(self.cap), f"a whole number from 0 to {MOST_POINTS}")


Rule: TypeAlias = StandardScore | Stages | PerEvent


class Program(Checked, frozen=True, kw_only=True, dict=True):
    """The rules of one payout.

    Parameters
    ----------
    name : str
        Short name.
    title, title_ja : str
        What it is, in words: in English, and in Japanese for what is told in that.
    effective_from, effective_until : datetime.date, optional
        First and last day on which the program holds; without one it has no such end.
    rule : StandardScore, Stages or PerEvent
        By what rows are paid.
    rates : RateTable, optional
        Which rate a score reaches; of a stage rule, its threshold 1 is the first stage, and so on, and `below` is
        "zero". A per-event rule has none.
    reward : Reward, optional
        How the rate becomes points; without it only score, step and rate can be asked for. A per-event rule has none.
    standing : dict of str to {"stated", "public", "reconstructed"}
        Where the facts of the rules come from, by dotted key: ``{"rule.ddof": "reconstructed"}``.

    Raises
    ------
    ProgramError
        If a value is not allowed; the text names its key, what was found and what is allowed.

    Examples
    --------
    >>> program = Program(
    ...     name="cdnow-loyalty",
    ...     rule=StandardScore(measures=[Measure("orders"), Measure("cds")]),
    ...     rates=RateTable(steps=[(0, "0.1"), (50, 10), (100, 45)]),
    ...     reward=Reward(base="cents"),
    ... )
    >>> program.columns
    ('orders', 'cds', 'cents')
    >>> Program.parse(program.to_toml()) == program
    True
    """

    name: str
    title: str = ""
    title_ja: str = ""
    effective_from: datetime.date | None = None
    effective_until: datetime.date | None = None
    rule: Rule
    rates: RateTable | None = None
    reward: Reward | None = None
    standing: dict[str, Standing] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        first, last = self.effective_from, self.effective_until
        if first and last and last < first:
            refuse("effective_until", last, f"a date from {first} (effective_from) on")
        if isinstance(self.rule, PerEvent):
            for key in ("rates", "reward"):
                if getattr(self, key) is not None:
                    refuse(key, "a table", "none with a per-event rule, whose events have amounts")
        elif self.rates is None:
            refuse("rates", "nothing", "a table, and it is required")
        if isinstance(self.rule, Stages):
            self._check_stages(self.rule)
        known = ["effective_from", "effective_until", "rule.kind"]
        for table in ("rule", "rates", "reward"):
            struct: msgspec.Struct | None = getattr(self, table)
            if struct is not None:
                known += [f"{table}.{name}" for name in types_of(type(struct))]
        for key in self.standing:
            if key not in known:
                refuse(dotted("standing", key_of(key)), "an unknown key", f"keys of this program: {', '.join(known)}")

    def _check_stages(self, rule: Stages) -> None:
        """Whether rule and rates speak of the same stages."""
        rates = self.rate_table
        n = len(rates.steps)
        for index, step in enumerate(rates.steps):
            if step.threshold != index + 1 or n > _MOST_STAGES:
                found = f"{n} steps" if n > _MOST_STAGES else f"the threshold {step.threshold}"
                refuse(f"rates.steps[{index}]", found, f"the stages 1, 2 and so on, up to {_MOST_STAGES}")
        if rates.below != "zero":
            refuse("rates.below", shown(rates.below), '"zero" with a stage rule')
        stages = {f"criteria[{i}].minimums": [m.stage for m in c.minimums] for i, c in enumerate(rule.criteria)}
        reached = {stage for found in stages.values() for stage in found}
        stages["bonuses"] = [bonus.stage for bonus in rule.bonuses]
        for key, named in stages.items():
            for index, stage in enumerate(named):
                if stage > n:
                    refuse(f"rule.{key}[{index}].stage", stage, f"the stages of rates.steps, 1 to {n}")
        for stage in range(1, n + 1):
            if stage not in reached:
                refuse("rule.criteria", f"no minimum for stage {stage}", "one or more for every stage of rates.steps")
        if rule.bonuses and self.reward is None:
            refuse("rule.bonuses", f"an array of {len(rule.bonuses)}", "none without [reward]")

    def title_in(self, lang: str) -> str:
        """The title in a language, "en" or "ja"; in English if there is none in Japanese, the name if there is neither.

        Examples
        --------
        >>> Program.load("hapi-tomo").title_in("ja")
        'ハピ友：ハピ友の人数またはご自身の有効ポイントによるステージ'
        """
        return (lang == "ja" and self.title_ja) or self.title or self.name

    def short_title(self, lang: str) -> str:
        """The same up to where it goes on with a description, after a colon.

        Examples
        --------
        >>> program = Program.load("hapitas-friend")
        >>> program.short_title("en"), program.short_title("ja")
        ('Hapitas Friend (ハピタスフレンド)', 'ハピタスフレンド')
        """
        return re.split(": |：", self.title_in(lang), maxsplit=1)[0]

    def lacks_previous(self, columns: Collection[str]) -> str | None:
        """The column of the stage before, if bonuses need it and it is not among these; then none are paid."""
        previous = self.rule.previous if isinstance(self.rule, Stages) else None
        return None if previous in columns else previous

    @property
    def rate_table(self) -> RateTable:
        """The rates, for what needs them.

        Raises
        ------
        ProgramError
            If the program has none, as its rule is per-event.
        """
        if self.rates is None:
            raise ProgramError(f"Program {self.name!r} has no rates, as it pays fixed amounts per event.")
        return self.rates

    @cached_property
    def measures(self) -> tuple[Measure, ...]:
        """The measures of a standard score; a rule of another kind has none."""
        return self.rule.measures if isinstance(self.rule, StandardScore) else ()

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The columns the program reads, each once: its measures, criteria or events in order, the base of its reward,
        the stage before."""
        match self.rule:
            case Stages():
                read = [criterion.column for criterion in self.rule.criteria]
            case PerEvent():
                read = [event.column for event in self.rule.events]
            case _:
                read = [measure.column for measure in self.measures]
        if self.reward is not None:
            read.append(self.reward.base)
        if isinstance(self.rule, Stages) and self.rule.previous is not None:
            read.append(self.rule.previous)
        return tuple(dict.fromkeys(read))

    def whole_columns(self, results: Collection[str]) -> list[str]:
        """The columns that must hold whole numbers, or decimals, for new columns of these names: counts of events, the
        base of the reward and the stage before."""
        rule, reward = self.rule, self.reward
        whole = [event.column for event in rule.events] if isinstance(rule, PerEvent) else []
        if reward is not None and "reward" in results:
            whole.append(reward.base)
            if isinstance(rule, Stages) and rule.previous is not None:
                whole.append(rule.previous)
        return whole

    def holds(self, first: datetime.date, last: datetime.date) -> bool:
        """Whether the program holds on every day from `first` to `last`.

        Examples
        --------
        >>> from datetime import date
        >>> program = Program.load("hapitas-friend")
        >>> program.holds(date(2019, 10, 1), date(2019, 10, 31)), program.holds(date(2019, 9, 30), date(2019, 10, 1))
        (True, False)
        """
        return (self.effective_from or first) <= first and last <= (self.effective_until or last)

    def check_month(self, month: str, any_month: bool = False) -> None:
        """Refuse a month that is not wholly within the effective dates.

        Parameters
        ----------
        month : str
            Such as ``"2019-10"``.
        any_month : bool
            Refuse only what is no month at all.

        Raises
        ------
        DataError
            If that is not a month.
        ProgramError
            If the program does not hold on every day of it.

        Examples
        --------
        >>> Program.load("hapi-tomo").check_month("2019-10")
        Traceback (most recent call last):
        ...
        hensa.errors.ProgramError: Program 'hapi-tomo' holds from any day to 2019-09-30, not in all of 2019-10; \
any_month (--any-month) allows it.
        """
        if not self.holds(*days_of(month)) and not any_month:
            raise ProgramError(
                f"Program {self.name!r} holds from {self._dates()}, not in all of {month}; {ANY_MONTH_ALLOWS}."
            )

    def _dates(self) -> str:
        return f"{self.effective_from or 'any day'} to {self.effective_until or 'any day'}"

    @cached_property
    def results(self) -> tuple[str, ...]:
        """The columns of a run that is asked for no others: score or stage, rate, and reward if there is one; for
        events, reward, and friend_reward if friends are paid."""
        if isinstance(self.rule, PerEvent):
            return ("reward", "friend_reward") if self.rule.pays_friends else ("reward",)
        place = "stage" if isinstance(self.rule, Stages) else "score"
        return (place, "rate") if self.reward is None else (place, "rate", "reward")

    @cached_property
    def derived(self) -> dict[Any, Any]:
        """What other rooms work out of the rules once and keep for further calls, by what it depends on besides."""
        return {}

    @staticmethod
    def names() -> tuple[str, ...]:
        """Names of the built-in programs.

        Returns
        -------
        tuple of str
            The names, sorted.

        Examples
        --------
        >>> "hapitas-friend" in Program.names()
        True
        """
        files = _BUILT_IN.iterdir()
        return tuple(sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml")))

    @classmethod
    def load(cls, name_or_path: str | os.PathLike[str], on: datetime.date | None = None) -> Self:
        """Read a built-in program or a program file.

        Parameters
        ----------
        name_or_path : str or os.PathLike
            A path object, or a string that ends in ``.toml`` or contains a path separator, is a file (UTF-8);
            any other string is the name of a built-in program.
        on : datetime.date, optional
            A day on which the program must hold.

        Returns
        -------
        Program

        Raises
        ------
        ProgramError
            If there is no such program, the file cannot be read, what it says is not allowed, or the program does not
            hold on the day asked for.

        Examples
        --------
        >>> program = Program.load("hapitas-friend")
        >>> program.columns
        ('new_referrals', 'ad_users', 'friend_points')
        >>> len(program.rates.steps)
        101
        >>> Program.load("hapitas-friend", on=datetime.date(2021, 1, 1))
        Traceback (most recent call last):
        ...
        hensa.errors.ProgramError: hapitas-friend: found the day 2021-01-01; allowed: 2019-10-01 to 2020-12-31.
        """
        name = os.fspath(name_or_path)
        separators = [separator for separator in (os.sep, os.altsep) if separator]
        is_file = not isinstance(name_or_path, str) or name.endswith(".toml") or any(s in name for s in separators)
        if not is_file and name not in (names := cls.names()):
            from difflib import get_close_matches  # seldom needed

            near = get_close_matches(name, names, n=1)
            meant = f" (did you mean {near[0]}?)" if near else ""
            allowed = f"{', '.join(names)}, or the path of a TOML file."
            if os.path.exists(name):
                raise ProgramError(f"{name}: found a file that does not end in .toml; allowed: {allowed}")
            raise ProgramError(f"found no built-in program {shown(name)}{meant}; allowed: {allowed}")
        file = Path(name) if is_file else _BUILT_IN / f"{name}.toml"
        program = read_toml(file, name, cls.parse)
        if isinstance(on, datetime.datetime) or not isinstance(on, datetime.date | None):
            raise ProgramError(f"on is {on!r}; it must be a datetime.date.")
        if on is not None and not program.holds(on, on):
            raise ProgramError(f"{name}: found the day {on}; allowed: {program._dates()}.")
        return program

    @classmethod
    def parse(cls, toml_text: str) -> Self:
        """Read a program from TOML text.

        Parameters
        ----------
        toml_text : str
            The text; its decimals are read exactly, and where a fraction is needed a string such as ``"1/3"`` will do.

        Returns
        -------
        Program

        Raises
        ------
        ProgramError
            If the text is not TOML or what it says is not allowed.

        Examples
        --------
        >>> text = Program.load("hapitas-friend").to_toml()
        >>> Program.parse(text.replace("ddof = 0", "ddof = 2"))
        Traceback (most recent call last):
        ...
        hensa.errors.ProgramError: rule.ddof: found 2; allowed: 0 or 1.
        """
        document = document_of(toml_text, "a program")
        if "rule" not in document and "count_column" in document:
            raise ProgramError("found the rules of an event, which hensa rank takes; allowed: those of a program.")
        try:
            program: Self = convert(cls, document, "")
        except Invalid as error:
            raise ProgramError(str(error)) from None
        return program

    def to_toml(self) -> str:
        """Write the program as TOML.

        Returns
        -------
        str
            Text that `parse` reads as an equal program.

        Examples
        --------
        >>> print(Program.load("hapitas-friend").to_toml()[:23])
        name = "hapitas-friend"
        """
        lines, tables = [], []
        for name in types_of(Program):
            match value := getattr(self, name):
                case None | "":
                    pass
                case dict():
                    if value:
                        tables += ["", f"[{name}]", *(f"{quoted(k)} = {toml_of(v)}" for k, v in value.items())]
                case msgspec.Struct():
                    tables += ["", f"[{name}]", *pairs_of(value)]
                case _:
                    lines.append(f"{name} = {toml_of(value)}")
        return "\n".join([*lines, *tables, ""])


def days_of(month: str) -> tuple[datetime.date, datetime.date]:
    """The first and the last day of a month.

    Parameters
    ----------
    month : str
        Year and month, such as ``"2019-10"``.

    Raises
    ------
    DataError
        If it is not such a month.

    Examples
    --------
    >>> days_of("2020-02")
    (datetime.date(2020, 2, 1), datetime.date(2020, 2, 29))
    """
    if not isinstance(month, str) or not re.fullmatch(r"(?!0000)[0-9]{4}-(0[1-9]|1[0-2])", month):
        raise DataError(f'month is {month!r:.80}; it must be a year and a month, such as "2019-10".')
    from calendar import monthrange  # slow to import, seldom needed

    first = datetime.date.fromisoformat(f"{month}-01")
    return first, first.replace(day=monthrange(first.year, first.month)[1])
