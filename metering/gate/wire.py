"""What comes over the wire: strict shapes, and the problem that names what does not fit."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from accounts.domain.instants import read_instant
from accounts.domain.problem_types import PROBLEM_TYPES
from metering.domain.meters import QUANTITY_MAX

ITEMS_MAX = 16
CHECKS_MAX = 1_000
EVENTS_MAX = 5_000
Quantity = Annotated[int, msgspec.Meta(ge=0, le=QUANTITY_MAX)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Id = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
Mode = Literal["peek", "consume", "hold"]
T = TypeVar("T")


class Problem(Exception):
    """A request that is refused; becomes a problem+json answer."""

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        param: str | None = None,
        allow: str | None = None,
        **more: Any,
    ) -> None:
        """`allow`: the method that the path takes instead; `more`: further members of the body."""
        super().__init__(detail)
        self.code = code
        self.status = PROBLEM_TYPES[code].status
        self.detail = detail
        self.param = param
        self.allow = allow
        self.more = more


FAULT = Problem("internal_error", "Something is wrong on our side.")
UNAVAILABLE = Problem("unavailable", "We cannot decide now; retry with the same id.")
TOO_LATE = Problem("unavailable", "The decision could not be made in time; retry with the same id.")


class ItemBody(msgspec.Struct, forbid_unknown_fields=True):
    """One of several things asked for together."""

    meter: Name
    quantity: Quantity | None = None


class CheckBody(msgspec.Struct, forbid_unknown_fields=True):
    """POST /check."""

    key: Name | None = None
    customer: Name | None = None
    meter: Name | None = None
    quantity: Quantity | None = None
    items: Annotated[list[ItemBody], msgspec.Meta(min_length=1)] | None = None
    mode: Mode = "peek"
    id: Id | None = None
    source: Name | None = None
    ttl: Annotated[int, msgspec.Meta(ge=1, le=86_400)] = 60
    properties: dict[str, Any] | None = None
    time: datetime | None = None


class WellFormedChecks(msgspec.Struct, forbid_unknown_fields=True):
    """POST /check, the batch form, where every check is well-formed."""

    checks: list[CheckBody]


class ChecksBody(msgspec.Struct, forbid_unknown_fields=True):
    """POST /check, the batch form."""

    checks: list[msgspec.Raw]


class CheckKind(msgspec.Struct):
    """Tells the two forms of POST /check apart."""

    checks: msgspec.Raw = msgspec.Raw()


class SettleBody(msgspec.Struct, forbid_unknown_fields=True):
    """POST /holds/{id}/settle."""

    quantity: Quantity | None = None
    items: Annotated[list[ItemBody], msgspec.Meta(min_length=1, max_length=ITEMS_MAX)] | None = None
    properties: dict[str, Any] | None = None


class ExtendBody(msgspec.Struct, forbid_unknown_fields=True):
    """POST /holds/{id}/extend."""

    ttl: Annotated[int, msgspec.Meta(ge=1, le=86_400)]


class NothingBody(msgspec.Struct, forbid_unknown_fields=True):
    """POST /holds/{id}/release: an empty object, or no body."""


class EventBody(msgspec.Struct, gc=False):
    """A CloudEvent; extension attributes are allowed by its specification and left alone."""

    id: Id
    source: Name
    type: Name
    subject: Name
    specversion: str = "1.0"
    time: datetime | None = None
    data: dict[str, Any] | None = None
    datacontenttype: str | None = None
    data_base64: str | None = None  # refused: nothing would be counted of it


_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")  # not where the backslash itself is escaped
_COMPARED = 100  # characters of a name that is not known
_PLACE = re.compile(r" - at `(?:key in )?\$(?P<path>[^`]*)`")
_UNKNOWN = re.compile(r"unknown field `(?P<name>[^`]*)`")
_MISSING = re.compile(r"missing required field `(?P<name>[^`]*)`")


def decode(body: bytes, shape: type[T], *, whole: bool = True) -> T:
    """Read a body strictly; raises Problem naming the member that does not fit.

    `whole` False: its parts are read by themselves later, and so is what they say.
    """
    if whole and b"\\u0000" in body and _NUL.search(body):
        raise Problem("parameter_invalid", "A text has the character U+0000, which is not taken.")
    try:
        return msgspec.json.decode(body, type=shape)
    except msgspec.ValidationError as error:
        if b":60" in body and (found := _leaping(body, shape)) is not None:
            return found
        raise _named(str(error), shape) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Problem("body_malformed", f"The body is not JSON: {error}.") from error


def _leaping(body: bytes, shape: type[T]) -> T | None:
    """A body whose time is a leap second, which msgspec does not read; None for any other."""
    try:
        said = msgspec.json.decode(body, type=dict[str, Any])
        said["time"] = read_instant(said["time"].upper())
        return msgspec.convert(said, shape)
    except (
        msgspec.MsgspecError,
        LookupError,
        AttributeError,
        ValueError,
        OverflowError,
        RecursionError,
    ):
        return None


def _named(message: str, shape: object) -> Problem:
    place = _PLACE.search(message)
    path = (place["path"] if place else "").lstrip(".")
    sentence = _PLACE.sub("", message).rstrip(".") + "."
    for pattern, code in ((_UNKNOWN, "parameter_unknown"), (_MISSING, "parameter_missing")):
        if found := pattern.search(message):
            name = found["name"]
            param = f"{path}.{name}" if path else name
            offered = _offered(name, shape, path) if pattern is _UNKNOWN else []
            if offered:
                sentence += f" Nearest: {', '.join(offered)}."
                return Problem(code, sentence, param=param, nearest=offered)
            return Problem(code, sentence, param=param)
    code = "quantity_invalid" if path.endswith("quantity") else "parameter_invalid"
    return Problem(code, sentence, param=path or None)


def _offered(name: str, shape: object, path: str) -> list[str]:
    """The members that an unknown one may have been meant to be."""
    within = ItemBody if path.startswith("items[") else shape
    return _nearest(name[:_COMPARED], getattr(within, "__struct_fields__", ()))


@lru_cache(maxsize=1_024)  # a gateway that errs in one check of a batch errs in all
def _nearest(name: str, members: tuple[str, ...]) -> list[str]:
    return difflib.get_close_matches(name, members, n=3)


def aware(moment: datetime | None, *, param: str) -> datetime | None:
    """Refuse a time stamp without an offset: it would be somebody's local time."""
    if moment is not None and moment.tzinfo is None:
        raise Problem("parameter_invalid", "The time needs an offset, such as Z.", param=param)
    return moment


def asked_items(body: CheckBody) -> Sequence[ItemBody]:
    """The items of a check, whichever of the two forms it has; each meter once."""
    if body.items is None:
        if body.meter is None:
            raise Problem("parameter_missing", "Name a meter, or items.", param="meter")
        return (ItemBody(body.meter, body.quantity),)
    if body.meter is not None or body.quantity is not None:
        raise Problem("parameter_invalid", "Give meter and quantity, or items.", param="items")
    if len(body.items) > ITEMS_MAX:
        raise Problem("too_many_items", f"At most {ITEMS_MAX} items.", param="items")
    if len({item.meter for item in body.items}) < len(body.items):
        raise Problem("parameter_invalid", "Name each meter once.", param="items")
    return body.items
