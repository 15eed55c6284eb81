"""Programs: the rules of a payout as frozen, validated data, read from TOML.

A program says by which rule rows are paid: by rates for the standard scores of measures or for stages that columns
reach, with the base that they are a share of, or by fixed amounts for counted events. Everything is checked when it is
built, from TOML and from Python alike, so that nothing downstream checks it again.
"""

import datetime
import json
import os
import re
import tomllib
from calendar import monthrange
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from functools import cache, cached_property
from itertools import pairwise
from pathlib import Path
from types import UnionType
from typing import Any, Literal, NoReturn, Self, TypeAlias, TypeVar, Union, get_args, get_origin

import msgspec
from msgspec.structs import fields, force_setattr

from hensa.errors import DataError, ProgramError

__all__ = [
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

_Rules = TypeVar("_Rules")

_BUILT_IN = Path(__file__).with_name("programs")
# A step is a uint16 and a reward an int64 in the output.
_MOST_STEPS = 2**16 - 1
_MOST_POINTS = 2**63 - 1
# The kernel compares a row with every minimum of a stage rule.
_MOST_STAGES = 256
# Numerators and denominators stay below this, so a number other than zero lies between 1e-50 and 1e50 and its products
# and quotients with integer or decimal data (below 1e39) are ordinary float64, never infinite or subnormal.
_DIGITS = 50
_LIMIT = 10**_DIGITS
_NUMBER = f'a number of at most {_DIGITS} digits: an integer, a decimal, or a string such as "1/3"'


class _Invalid(ProgramError, ValueError):
    """A value that is not allowed; a ValueError, so that msgspec adds where in the document it was met."""

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(key, problem)
        self.key = key
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.key}: {self.problem}."


def _refuse(key: str, found: object, allowed: str) -> NoReturn:
    raise _Invalid(key, f"found {found}; allowed: {allowed}")


def _shown(value: object) -> str:
    """A value as the author of a program file would name it."""
    match value:
        case bool():
            return str(value).lower()
        case dict():
            return "a table"
        case list() | tuple():
            return f"an array of {len(value)}"
        case float():
            return f"the float {value!r}, which is not exact"
        case Decimal() | Fraction() | datetime.date() | datetime.time():
            text = str(value)
        case int() if abs(value) >= _LIMIT:
            return f"an integer of more than {_DIGITS} digits"
        case _:
            text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _listed(names: Iterable[object]) -> str:
    *most, last = (f'"{name}"' if isinstance(name, str) else str(name) for name in names)
    return f"{', '.join(most)} or {last}" if most else last


def _number(value: object) -> Fraction:
    """Read a number exactly, or refuse it."""
    number: Fraction | None = None
    match value:
        case bool():
            pass
        case int() | Fraction():
            number = Fraction(value)
        case Decimal():
            # The exponent is looked at first: 1e999999999 would be written out as an integer.
            if value.is_finite() and abs(value.adjusted()) <= _DIGITS:
                number = Fraction(value)
        case str():
            if ratio := re.fullmatch(r"([+-]?[0-9]{1,99})/([0-9]{1,99})", value):
                if int(ratio[2]):
                    number = Fraction(int(ratio[1]), int(ratio[2]))
            else:
                try:
                    return _number(Decimal(value))
                except (InvalidOperation, _Invalid):
                    pass
    if number is None or max(abs(number.numerator), number.denominator) >= _LIMIT:
        _refuse("", _shown(value), _NUMBER)
    return number


def _dec_hook(type_: type, value: object) -> Fraction:
    if type_ is not Fraction:
        raise NotImplementedError
    return _number(value)


def _inner(type_: Any) -> Any:
    """The type without its ``| None``."""
    members = get_args(type_)
    return next(m for m in members if m is not type(None)) if type(None) in members else type_


def _is_array(type_: Any) -> bool:
    """Whether it is a struct that TOML writes as an array."""
    return isinstance(type_, type) and issubclass(type_, msgspec.Struct) and type_.__struct_config__.array_like


def _is_union(type_: Any) -> bool:
    return get_origin(type_) in (Union, UnionType)


def _member(union: Any, value: object) -> Any:
    """The struct of a tagged union that the value is, or is tagged as; None if it is none."""
    for struct in get_args(union):
        config = struct.__struct_config__
        if isinstance(value, struct) or (isinstance(value, Mapping) and value.get(config.tag_field) == config.tag):
            return struct
    return None


def _tags(union: Any) -> str:
    return _listed(struct.__struct_config__.tag for struct in get_args(union))


def _allowed(type_: Any) -> str:
    """What a field of this type takes, in words."""
    type_ = _inner(type_)
    if get_origin(type_) is Literal:
        return _listed(get_args(type_))
    if _is_array(type_):
        names = list(_types(type_))
        required = [field.name for field in fields(type_) if field.required]
        return f"[{', '.join(required)}] or [{', '.join(names)}]"
    words = {
        Fraction: _NUMBER,
        Decimal: f"a decimal of at most {_DIGITS} digits",
        datetime.date: "a date such as 2019-10-01",
        datetime.datetime: "a date and time such as 2019-10-01T12:00:00 or 2019-10-01T12:00:00+09:00",
        int: "a whole number",
        str: "a string",
        tuple: "an array",
    }
    return words.get(get_origin(type_) or type_, "a table")


@cache
def _types(struct: type[msgspec.Struct]) -> dict[str, Any]:
    return {field.name: field.type for field in fields(struct)}


def _dotted(key: str, name: str) -> str:
    return f"{key}.{name}" if key and name and name[0] != "[" else key + name


def _convert(type_: Any, value: Any, key: str) -> Any:
    """Convert by msgspec; what it refuses becomes an error that names the key, what was found and what is allowed."""
    try:
        return msgspec.convert(value, type_, dec_hook=_dec_hook)
    except (msgspec.ValidationError, UnicodeEncodeError) as error:  # the latter for lone surrogates
        text, cause = str(error), error.__cause__
    # msgspec ends its message with the place, such as "... - at `$.rule.measures[0].weight`".
    place = re.search(r" - at `\$([\w.\[\]]*)`\Z", text)
    for name, index in re.findall(r"\.(\w+)|\[(\d+)\]", place[1] if place else ""):
        type_ = _inner(type_)
        if _is_union(type_):
            if (member := _member(type_, value)) is None:  # msgspec has stopped at the tag
                _refuse(_dotted(key, name), _shown(value[name]), _tags(type_))
            type_ = member
        if index and _is_array(type_):
            name = list(_types(type_))[int(index)]
        key = _dotted(key, name or f"[{index}]")
        value = value[int(index) if index else name]
        if isinstance(type_, type) and issubclass(type_, msgspec.Struct):
            config = type_.__struct_config__
            if name == config.tag_field:
                _refuse(key, _shown(value), _listed([config.tag]))
            type_ = _types(type_)[name]
        else:
            type_ = get_args(type_)[0]
    type_ = _inner(type_)
    if _is_union(type_):
        if isinstance(value, Mapping) and (tag := get_args(type_)[0].__struct_config__.tag_field) not in value:
            _refuse(_dotted(key, tag), "nothing", f"{_tags(type_)}, and it is required")
        type_ = _member(type_, value) or type_
    if isinstance(cause, _Invalid):
        raise _Invalid(_dotted(key, cause.key), cause.problem)
    if isinstance(value, Mapping) and get_origin(type_) is dict:
        for name, item in value.items():
            if not isinstance(name, str):
                _refuse(key, f"the key {_shown(name)}", "keys that are strings")
            _convert(get_args(type_)[1], item, _dotted(key, _key(name)))
    if isinstance(value, Mapping) and isinstance(type_, type) and issubclass(type_, msgspec.Struct):
        for name in value:
            if name not in _types(type_) and name != type_.__struct_config__.tag_field:
                _refuse(_dotted(key, _key(str(name))), "an unknown key", f"only {', '.join(_types(type_))}")
        for field in fields(type_):
            if field.required and field.name not in value:
                _refuse(_dotted(key, field.name), "nothing", f"{_allowed(field.type)}, and it is required")
    _refuse(key, _shown(value), _allowed(type_))


def _refuse_floats(value: object, key: str) -> None:
    """Refuse binary floats wherever they stand: msgspec would read one as a Decimal."""
    match value:
        case float():
            _refuse(key, _shown(value), "an int, a Decimal or a string where a number is wanted")
        case dict():
            for name, item in value.items():
                _refuse_floats(item, _dotted(key, _key(str(name))))
        case list() | tuple():
            for index, item in enumerate(value):
                _refuse_floats(item, f"{key}[{index}]")


class _Checked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Data whose fields are converted and checked however it is built."""

    def __post_init__(self) -> None:
        for name, type_ in _types(type(self)).items():
            value = getattr(self, name)
            _refuse_floats(value, name)
            value = _convert(type_, value, name)
            if isinstance(value, Decimal):
                try:
                    _number(value)
                except _Invalid:
                    _refuse(name, _shown(value), _allowed(type_))
            if isinstance(value, str):
                if not value and name != "title":
                    _refuse(name, "an empty string", "a string of at least one character")
                if any("\ud800" <= character <= "\udfff" for character in value):
                    _refuse(name, _shown(value), "text without lone surrogates")
            force_setattr(self, name, value)


class Measure(_Checked, frozen=True):
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


class StandardScore(_Checked, frozen=True, kw_only=True, tag_field="kind", tag="standard-score"):
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
            _refuse("measures", "an empty array", "at least one measure, { column, weight }")
        seen: set[str] = set()
        for index, measure in enumerate(self.measures):
            if measure.column in seen:
                _refuse(f"measures[{index}].column", f"{_shown(measure.column)} again", "each column once")
            seen.add(measure.column)
        total = sum(measure.weight for measure in self.measures)
        if abs(total) * _LIMIT < 1:
            _refuse("measures", f"weights that sum to {_shown(Fraction(total))}", "weights whose sum is not zero")
        if not self.scale:
            _refuse("scale", "0", "any number but 0")


class Minimum(_Checked, frozen=True, array_like=True):
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


class Criterion(_Checked, frozen=True):
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
            _refuse("minimums", "an empty array", "at least one [stage, minimum]")
        _refuse_stages("minimums", [entry.stage for entry in self.minimums])
        for index, (low, high) in enumerate(pairwise(entry.minimum for entry in self.minimums), start=1):
            if high <= low:
                _refuse(f"minimums[{index}]", f"the minimum {high} after {low}", "minimums that ascend without repeats")


class Bonus(_Checked, frozen=True, array_like=True):
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
        if not 1 <= self.points <= _MOST_POINTS:
            _refuse("points", _shown(self.points), f"a whole number from 1 to {_MOST_POINTS}")


class Stages(_Checked, frozen=True, kw_only=True, tag_field="kind", tag="stage"):
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
            _refuse("criteria", "an empty array", "at least one criterion, { column, minimums }")
        for index, criterion in enumerate(self.criteria):
            if any(criterion.column == other.column for other in self.criteria[:index]):
                _refuse(f"criteria[{index}].column", f"{_shown(criterion.column)} again", "each column once")
        _refuse_stages("bonuses", [bonus.stage for bonus in self.bonuses])
        if (total := sum(bonus.points for bonus in self.bonuses)) > _MOST_POINTS:
            _refuse("bonuses", f"{total} points in all", f"at most {_MOST_POINTS}")
        if self.bonuses and self.previous is None:
            _refuse("previous", "nothing", "the column of the stage reached before, and bonuses require it")
        if self.previous is not None and not self.bonuses:
            _refuse("previous", _shown(self.previous), "nothing without bonuses")

    def bonus(self, stage: int) -> int:
        """The bonuses of all stages up to this one."""
        return sum(bonus.points for bonus in self.bonuses if bonus.stage <= stage)


def _refuse_stages(key: str, stages: list[int]) -> None:
    for index, (low, stage) in enumerate(pairwise([0, *stages])):
        if not low < stage <= _MOST_STAGES:
            allowed = f"stages from 1 to {_MOST_STAGES} that ascend without repeats"
            _refuse(f"{key}[{index}].stage", _shown(stage), allowed)


class PaidEvent(_Checked, frozen=True):
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


class Campaign(_Checked, frozen=True, kw_only=True):
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
            _refuse("effective_from", first, "the first day of a month")
        if last != days_of(f"{last:%Y-%m}")[1] or last < first:
            _refuse("effective_until", last, f"the last day of a month from {first} (effective_from) on")
        _refuse_amounts(self.referrer, self.friend)


def _refuse_amounts(referrer: int, friend: int) -> None:
    for key, amount in (("referrer", referrer), ("friend", friend)):
        if not 0 <= amount <= _MOST_POINTS:
            _refuse(key, _shown(amount), f"a whole number from 0 to {_MOST_POINTS}")


class PerEvent(_Checked, frozen=True, kw_only=True, tag_field="kind", tag="per-event"):
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
            _refuse("events", "an empty array", "at least one event, { column, referrer, friend }")
        for index, event in enumerate(self.events):
            if any(event.column == other.column for other in self.events[:index]):
                _refuse(f"events[{index}].column", f"{_shown(event.column)} again", "each column once")
        columns = [event.column for event in self.events]
        for index, campaign in enumerate(self.campaigns):
            if campaign.column not in columns:
                _refuse(
                    f"campaigns[{index}].column", _shown(campaign.column), f"the columns of events: {_listed(columns)}"
                )
            for other in self.campaigns[:index]:
                if (
                    campaign.column == other.column
                    and campaign.effective_from <= other.effective_until
                    and other.effective_from <= campaign.effective_until
                ):
                    found = f"{campaign.effective_from} within another campaign for {_shown(campaign.column)}"
                    _refuse(f"campaigns[{index}].effective_from", found, "campaigns of one column that do not overlap")

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


class Step(_Checked, frozen=True, array_like=True):
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


class RateTable(_Checked, frozen=True, kw_only=True, dict=True):
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
            _refuse("steps", f"{len(self.steps):,} steps", f"1 to {_MOST_STEPS:,} steps")
        for index, (low, high) in enumerate(pairwise(step.threshold for step in self.steps), start=1):
            # Two thresholds that are one float64 would leave no float64 score on the step between them.
            if high <= low or float(high) == float(low):
                _refuse(
                    f"steps[{index}]",
                    f"the threshold {high} after {low}",
                    "thresholds that ascend without repeats (compared as float64)",
                )
        if self.outside == "error":
            for index, share in enumerate(self.shares):
                if not 0 <= share <= 1:
                    most = 100 if self.unit == "percent" else 1
                    rate = self.steps[index].rate
                    _refuse(f"steps[{index}]", f"the rate {rate}", f'0 to {most}, or any rate with outside = "allow"')

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


class Reward(_Checked, frozen=True, kw_only=True):
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
        if self.cap is not None and not 0 <= self.cap <= _MOST_POINTS:
            _refuse("cap", _shown(self.cap), f"a whole number from 0 to {_MOST_POINTS}")


Rule: TypeAlias = StandardScore | Stages | PerEvent


class Program(_Checked, frozen=True, kw_only=True, dict=True):
    """The rules of one payout.

    Parameters
    ----------
    name : str
        Short name.
    title : str
        What it is, in words.
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
    effective_from: datetime.date | None = None
    effective_until: datetime.date | None = None
    rule: Rule
    rates: RateTable | None = None
    reward: Reward | None = None
    standing: dict[str, Standing] = {}

    def __post_init__(self) -> None:
        super().__post_init__()
        first, last = self.effective_from, self.effective_until
        if first and last and last < first:
            _refuse("effective_until", last, f"a date from {first} (effective_from) on")
        if isinstance(self.rule, PerEvent):
            for key in ("rates", "reward"):
                if getattr(self, key) is not None:
                    _refuse(key, "a table", "none with a per-event rule, whose events have amounts")
        elif self.rates is None:
            _refuse("rates", "nothing", "a table, and it is required")
        if isinstance(self.rule, Stages):
            self._check_stages(self.rule)
        known = ["effective_from", "effective_until", "rule.kind"]
        for table in ("rule", "rates", "reward"):
            struct: msgspec.Struct | None = getattr(self, table)
            if struct is not None:
                known += [f"{table}.{name}" for name in _types(type(struct))]
        for key in self.standing:
            if key not in known:
                _refuse(_dotted("standing", _key(key)), "an unknown key", f"keys of this program: {', '.join(known)}")

    def _check_stages(self, rule: Stages) -> None:
        """Whether rule and rates speak of the same stages."""
        rates = self.rate_table
        n = len(rates.steps)
        for index, step in enumerate(rates.steps):
            if step.threshold != index + 1 or n > _MOST_STAGES:
                found = f"{n} steps" if n > _MOST_STAGES else f"the threshold {step.threshold}"
                _refuse(f"rates.steps[{index}]", found, f"the stages 1, 2 and so on, up to {_MOST_STAGES}")
        if rates.below != "zero":
            _refuse("rates.below", _shown(rates.below), '"zero" with a stage rule')
        stages = {f"criteria[{i}].minimums": [m.stage for m in c.minimums] for i, c in enumerate(rule.criteria)}
        reached = {stage for found in stages.values() for stage in found}
        stages["bonuses"] = [bonus.stage for bonus in rule.bonuses]
        for key, named in stages.items():
            for index, stage in enumerate(named):
                if stage > n:
                    _refuse(f"rule.{key}[{index}].stage", stage, f"the stages of rates.steps, 1 to {n}")
        for stage in range(1, n + 1):
            if stage not in reached:
                _refuse("rule.criteria", f"no minimum for stage {stage}", "one or more for every stage of rates.steps")
        if rule.bonuses and self.reward is None:
            _refuse("rule.bonuses", f"an array of {len(rule.bonuses)}", "none without [reward]")

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
        >>> Program.load("hapitas-friend").check_month("2019-09")
        Traceback (most recent call last):
        ...
        hensa.errors.ProgramError: Program 'hapitas-friend' holds from 2019-10-01 to 2020-12-31, not in all of 2019-09.
        """
        if not self.holds(*days_of(month)) and not any_month:
            raise ProgramError(f"Program {self.name!r} holds from {self._dates()}, not in all of {month}.")

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
            raise ProgramError(f"found no built-in program {_shown(name)}{meant}; allowed: {allowed}")
        file = Path(name) if is_file else _BUILT_IN / f"{name}.toml"
        program = _read(file, name, cls.parse)
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
        document = _document(toml_text, "a program")
        try:
            program: Self = _convert(cls, document, "")
        except _Invalid as error:
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
        for name in _types(Program):
            match value := getattr(self, name):
                case None | "":
                    pass
                case dict():
                    if value:
                        tables += ["", f"[{name}]", *(f"{_quoted(k)} = {_toml(v)}" for k, v in value.items())]
                case msgspec.Struct():
                    tables += ["", f"[{name}]", *_pairs(value)]
                case _:
                    lines.append(f"{name} = {_toml(value)}")
        return "\n".join([*lines, *tables, ""])


def _read(file: Path, name: str, parse: Callable[[str], _Rules]) -> _Rules:
    """The rules of a TOML file; errors start with its name."""
    try:
        data = file.read_bytes()
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise ProgramError(f"{name}: found no readable file ({reason}); allowed: a TOML file.") from None
    try:
        return parse(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        byte = f"the byte 0x{data[error.start]:02x} at line {line}"
        raise ProgramError(f"{name}: found {byte}, which is not UTF-8; allowed: TOML in UTF-8.") from None
    except ProgramError as error:
        raise ProgramError(f"{name}: {error}") from None


def _document(toml_text: str, rules: str) -> dict[str, Any]:
    """The tables of a TOML text, with exact decimals; `rules` says whose tables they should be."""
    try:
        return tomllib.loads(toml_text, parse_float=_toml_decimal)
    except ValueError as error:
        end = f"at the end, line {toml_text.count(chr(10)) + 1}"
        reason = str(error).replace("at end of document", end)
        raise ProgramError(f"found text that is not TOML: {reason}; allowed: TOML 1.0.") from None
    except RecursionError:
        raise ProgramError(f"found TOML that is nested too deeply; allowed: the tables of {rules}.") from None


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
    first = datetime.date.fromisoformat(f"{month}-01")
    return first, first.replace(day=monthrange(first.year, first.month)[1])


def _toml_decimal(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        raise ValueError(f"the number {_shown(text)} is out of range") from None


def _quoted(text: str) -> str:
    # The escapes of JSON are TOML's; TOML also wants DEL escaped.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _quoted(name)


def _pairs(struct: msgspec.Struct, inline: bool = False) -> list[str]:
    config = struct.__struct_config__
    kind = [f"{config.tag_field} = {_toml(config.tag)}"] if config.tag_field else []
    values = ((name, getattr(struct, name)) for name in _types(type(struct)))
    return kind + [f"{name} = {_toml(value, inline)}" for name, value in values if value not in (None, ())]


def _toml(value: object, inline: bool = False) -> str:
    """A value in TOML; integers beyond 64 bits, which not every reader takes, are written as decimals."""
    match value:
        case str():
            return _quoted(value)
        case int():
            return str(value)
        case datetime.date():
            return value.isoformat()
        case Decimal():
            text = format(value, "f")
            return f"{text}.0" if "." not in text and abs(value) > _MOST_POINTS else text
        case Fraction(numerator=numerator, denominator=1):
            return _toml(Decimal(numerator))
        case Fraction(numerator=numerator, denominator=denominator):
            # A finite decimal has a denominator that divides a power of ten; 2**k needs the k-th.
            places = denominator.bit_length()
            digits, rest = divmod(numerator * 10**places, denominator)
            return f'"{value}"' if rest else f"{Decimal(f'{digits}E-{places}'):f}".rstrip("0")
        case msgspec.Struct() if _is_array(type(value)):
            cells = (getattr(value, name) for name in _types(type(value)))
            return f"[{', '.join(_toml(cell) for cell in cells if cell is not None)}]"
        case msgspec.Struct():
            return f"{{ {', '.join(_pairs(value, inline=True))} }}"
        case tuple() if inline:
            return f"[{', '.join(map(_toml, value))}]"
        case tuple():
            return "\n".join(["[", *(f"  {_toml(item)}," for item in value), "]"])
    raise TypeError(type(value))
