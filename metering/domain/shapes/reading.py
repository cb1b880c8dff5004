"""What an item of a foreign shape says, and how its members are read."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation

from accounts.domain.instants import read_instant

Item = Mapping[str, object]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WHOLE = re.compile(r"-?(?:0|[1-9][0-9]{0,15})")
_NUMBER = re.compile(r"[0-9]{1,20}(?:\.[0-9]{1,20})?")
_LOG_TIME = "%d/%b/%Y:%H:%M:%S %z"  # as nginx and Apache write it
# The least number that is milliseconds, microseconds, nanoseconds: as seconds, the year 5138.
_SCALES = ((10**17, 10**9), (10**14, 10**6), (10**11, 10**3))
_FINEST = 10**20
NOTHING = ("", "-")  # what logs write where there is nothing


class ShapeInvalid(ValueError):
    """An item cannot be translated; `param` names the member, `code` is the problem's."""

    def __init__(self, code: str, param: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.param = param
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Options:
    """What the operator said in the address: the event's type, and who the customer is."""

    type: str | None = None
    customer: str | None = None


@dataclass(frozen=True, slots=True)
class Told:
    """What an item says. `occurred_at` is None where it does not say when."""

    id: str
    subject: str
    type: str
    occurred_at: datetime | None
    data: dict[str, object]


def missing(param: str, detail: str) -> ShapeInvalid:
    """An item lacks a member without which it cannot be counted."""
    return ShapeInvalid("parameter_missing", param, detail)


def text(value: object) -> str:
    """The text of a member: of a text or whole number; "" for anything else, and for "-"."""
    match value:
        case bool():
            return ""
        case str():
            return "" if value in NOTHING else value
        case int():
            return str(value)
        case _:
            return ""


def part(item: Item, name: str) -> Item:
    """The object that is a member of an item; an empty one where it is not an object."""
    found = item.get(name)
    return found if isinstance(found, Mapping) else {}


def first_text(item: Item, *names: str) -> str:
    """The first of some members that has a text."""
    return next((found for name in names if (found := text(item.get(name)))), "")


def whole(value: object) -> int | None:
    """A whole number, also where it is written as a text or with a fraction of 0."""
    match value:
        case bool():
            return None
        case int():
            return value
        case float():
            return int(value) if value.is_integer() else None
        case str() if _WHOLE.fullmatch(value):
            return int(value)
        case _:
            return None


def first_whole(item: Item, *names: str) -> int | None:
    """The first of some members that is a whole number, 0 or more."""
    for name in names:
        found = whole(item.get(name))
        if found is not None and found >= 0:
            return found
    return None


def plain(value: object) -> object:
    """A member's value, with whole numbers that came as texts or with a fraction of 0 as such."""
    found = whole(value)
    return value if found is None else found


def moment(value: object, *, param: str) -> datetime | None:
    """The moment of RFC 3339 text, log time, or Unix seconds, milli-, micro- or nanoseconds.

    None where there is nothing; raises ShapeInvalid for a value that is no moment, or a local one.
    """
    match value:
        case None | "" | "-":
            return None
        case bool():
            raise _no_moment(param)
        case int() | float():
            return _unix(Decimal(repr(value)), param=param)
        case str() if _NUMBER.fullmatch(value):
            return _unix(Decimal(value), param=param)
        case str():
            return _written(value, param=param)
        case _:
            raise _no_moment(param)


def _unix(number: Decimal, *, param: str) -> datetime:
    if not number.is_finite() or not 0 <= number < _FINEST:
        raise _no_moment(param)
    for least, scale in _SCALES:
        if number >= least:
            number /= scale
            break
    return EPOCH + timedelta(microseconds=int(number * 1_000_000))


def _written(value: str, *, param: str) -> datetime:
    for read in (datetime.fromisoformat, _log_time):
        try:
            found = read_instant(value, read=read)
        except (ValueError, OverflowError):
            continue
        if found.tzinfo is None:
            raise ShapeInvalid(
                "parameter_invalid", param, f"{param} needs an offset from UTC, such as Z"
            )
        try:
            return found.astimezone(UTC)
        except (ValueError, OverflowError):
            break
    raise _no_moment(param)


def _log_time(value: str) -> datetime:
    return datetime.strptime(value, _LOG_TIME)  # noqa: DTZ007  # the format has the offset


def _no_moment(param: str) -> ShapeInvalid:
    return ShapeInvalid("parameter_invalid", param, f"{param} is no time we can read")


def decimal_text(value: object) -> str | None:
    """A number as the shortest text without an exponent; None for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = Decimal(value if isinstance(value, str) else repr(value))
    except InvalidOperation:
        return None
    if not number.is_finite() or abs(number.adjusted()) > 30:  # no sum of money
        return None
    return format(number.normalize(), "f")


def scalars(item: Item, names: Mapping[str, str]) -> Iterator[tuple[str, object]]:
    """(our name, value) of the members that hold a text, number or truth value."""
    for theirs, ours in names.items():
        value = item.get(theirs)
        if isinstance(value, bool | int | float) or (isinstance(value, str) and value):
            yield ours, value
