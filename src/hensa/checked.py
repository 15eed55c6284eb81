"""Data that is checked however it is built, from TOML and from Python alike, and the errors that name its keys."""

import datetime
import json
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, Literal, NoReturn, TypeVar, Union, get_args, get_origin

import msgspec
from msgspec.structs import fields, force_setattr

from hensa.errors import ProgramError

__all__ = [
    "LIMIT",
    "MOST_POINTS",
    "Checked",
    "Invalid",
    "convert",
    "document_of",
    "dotted",
    "key_of",
    "listed",
    "pairs_of",
    "quoted",
    "read_toml",
    "refuse",
    "shown",
    "toml_of",
    "types_of",
]

_Rules = TypeVar("_Rules")

MOST_POINTS = 2**63 - 1
"""Points are int64 in all results."""

# Numerators and denominators stay below this, so a number other than zero lies between 1e-50 and 1e50 and its products
# and quotients with integer or decimal data (below 1e39) are ordinary float64, never infinite or subnormal.
_DIGITS = 50
LIMIT = 10**_DIGITS
_NUMBER = f'a number of at most {_DIGITS} digits: an integer, a decimal, or a string such as "1/3"'


class Invalid(ProgramError, ValueError):
    """A value that is not allowed; a ValueError, so that msgspec adds where in the document it was met."""

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(key, problem)
        self.key = key
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.key}: {self.problem}."


def refuse(key: str, found: object, allowed: str) -> NoReturn:
    raise Invalid(key, f"found {found}; allowed: {allowed}")


def shown(value: object) -> str:
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
        case int() if abs(value) >= LIMIT:
            return f"an integer of more than {_DIGITS} digits"
        case _:
            text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def listed(names: Iterable[object]) -> str:
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
                except (InvalidOperation, Invalid):
                    pass
    if number is None or max(abs(number.numerator), number.denominator) >= LIMIT:
        refuse("", shown(value), _NUMBER)
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
    return listed(struct.__struct_config__.tag for struct in get_args(union))


def _allowed(type_: Any) -> str:
    """What a field of this type takes, in words."""
    type_ = _inner(type_)
    if get_origin(type_) is Literal:
        return listed(get_args(type_))
    if _is_array(type_):
        names = list(types_of(type_))
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
def types_of(struct: type[msgspec.Struct]) -> dict[str, Any]:
    return {field.name: field.type for field in fields(struct)}


def dotted(key: str, name: str) -> str:
    return f"{key}.{name}" if key and name and name[0] != "[" else key + name


def convert(type_: Any, value: Any, key: str) -> Any:
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
                refuse(dotted(key, name), shown(value[name]), _tags(type_))
            type_ = member
        if index and _is_array(type_):
            name = list(types_of(type_))[int(index)]
        key = dotted(key, name or f"[{index}]")
        value = value[int(index) if index else name]
        if isinstance(type_, type) and issubclass(type_, msgspec.Struct):
            config = type_.__struct_config__
            if name == config.tag_field:
                refuse(key, shown(value), listed([config.tag]))
            type_ = types_of(type_)[name]
        else:
            type_ = get_args(type_)[0]
    type_ = _inner(type_)
    if _is_union(type_):
        if isinstance(value, Mapping) and (tag := get_args(type_)[0].__struct_config__.tag_field) not in value:
            refuse(dotted(key, tag), "nothing", f"{_tags(type_)}, and it is required")
        type_ = _member(type_, value) or type_
    if isinstance(cause, Invalid):
        raise Invalid(dotted(key, cause.key), cause.problem)
    if isinstance(value, Mapping) and get_origin(type_) is dict:
        for name, item in value.items():
            if not isinstance(name, str):
                refuse(key, f"the key {shown(name)}", "keys that are strings")
            convert(get_args(type_)[1], item, dotted(key, key_of(name)))
    if isinstance(value, Mapping) and isinstance(type_, type) and issubclass(type_, msgspec.Struct):
        for name in value:
            if name not in types_of(type_) and name != type_.__struct_config__.tag_field:
                refuse(dotted(key, key_of(str(name))), "an unknown key", f"only {', '.join(types_of(type_))}")
        for field in fields(type_):
            if field.required and field.name not in value:
                refuse(dotted(key, field.name), "nothing", f"{_allowed(field.type)}, and it is required")
    refuse(key, shown(value), _allowed(type_))


def _refuse_floats(value: object, key: str) -> None:
    """Refuse binary floats wherever they stand: msgspec would read one as a Decimal."""
    match value:
        case float():
            refuse(key, shown(value), "an int, a Decimal or a string where a number is wanted")
        case dict():
            for name, item in value.items():
                _refuse_floats(item, dotted(key, key_of(str(name))))
        case list() | tuple():
            for index, item in enumerate(value):
                _refuse_floats(item, f"{key}[{index}]")


class Checked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Data whose fields are converted and checked however it is built."""

    def __post_init__(self) -> None:
        for name, type_ in types_of(type(self)).items():
            value = getattr(self, name)
            _refuse_floats(value, name)
            value = convert(type_, value, name)
            if isinstance(value, Decimal):
                try:
                    _number(value)
                except Invalid:
                    refuse(name, shown(value), _allowed(type_))
            if isinstance(value, str):
                if not value and name not in ("title", "title_ja"):
                    refuse(name, "an empty string", "a string of at least one character")
                if any("\ud800" <= character <= "\udfff" for character in value):
                    refuse(name, shown(value), "text without lone surrogates")
            force_setattr(self, name, value)


def read_toml(file: Path, name: str, parse: Callable[[str], _Rules]) -> _Rules:
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


def document_of(toml_text: str, rules: str) -> dict[str, Any]:
    """The tables of a TOML text, with exact decimals; `rules` says whose tables they should be."""
    if not isinstance(toml_text, str):
        raise ProgramError(f"found {toml_text!r:.80}; allowed: the text of {rules} in TOML.")
    try:
        return tomllib.loads(toml_text, parse_float=_toml_decimal)
    except ValueError as error:
        end = f"at the end, line {toml_text.count(chr(10)) + 1}"
        reason = str(error).replace("at end of document", end)
        raise ProgramError(f"found text that is not TOML: {reason}; allowed: TOML 1.0.") from None
    except RecursionError:
        raise ProgramError(f"found TOML that is nested too deeply; allowed: the tables of {rules}.") from None


def _toml_decimal(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        raise ValueError(f"the number {shown(text)} is out of range") from None


def quoted(text: str) -> str:
    # The escapes of JSON are TOML's; TOML also wants DEL escaped.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def key_of(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else quoted(name)


def pairs_of(struct: msgspec.Struct, inline: bool = False) -> list[str]:
    config = struct.__struct_config__
    kind = [f"{config.tag_field} = {toml_of(config.tag)}"] if config.tag_field else []
    values = ((name, getattr(struct, name)) for name in types_of(type(struct)))
    return kind + [f"{name} = {toml_of(value, inline)}" for name, value in values if value not in (None, ())]


def toml_of(value: object, inline: bool = False) -> str:
    """A value in TOML; integers beyond 64 bits, which not every reader takes, are written as decimals."""
    match value:
        case str():
            return quoted(value)
        case int():
            return str(value)
        case datetime.date():
            return value.isoformat()
        case Decimal():
            text = format(value, "f")
            return f"{text}.0" if "." not in text and abs(value) > MOST_POINTS else text
        case Fraction(numerator=numerator, denominator=1):
            return toml_of(Decimal(numerator))
        case Fraction(numerator=numerator, denominator=denominator):
            # A finite decimal has a denominator that divides a power of ten; 2**k needs the k-th.
            places = denominator.bit_length()
            digits, rest = divmod(numerator * 10**places, denominator)
            return f'"{value}"' if rest else f"{Decimal(f'{digits}E-{places}'):f}".rstrip("0")
        case msgspec.Struct() if _is_array(type(value)):
            cells = (getattr(value, name) for name in types_of(type(value)))
            return f"[{', '.join(toml_of(cell) for cell in cells if cell is not None)}]"
        case msgspec.Struct():
            return f"{{ {', '.join(pairs_of(value, inline=True))} }}"
        case tuple() if inline:
            return f"[{', '.join(map(toml_of, value))}]"
        case tuple():
            return "\n".join(["[", *(f"  {toml_of(item)}," for item in value), "]"])
    raise TypeError(type(value))
