"""Rows of a file, as usage events: CSV, JSON lines and Parquet, by the names of their columns."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Final

from accounts.domain.instants import read_instant
from metering.domain.shapes.reading import (
    NOTHING,
    Item,
    ShapeInvalid,
    Told,
    decimal_text,
    missing,
    moment,
    plain,
    text,
)

QUANTITY: Final = "quantity"
# Attributes of a CloudEvent that are no properties where a row has no `data` either.
ENVELOPE: Final = frozenset({"specversion", "datacontenttype"})
# Far below what the gate's stack takes (some 970): it reads no event of a request in which one is
# deeper than that.
DEPTH_MAX: Final = 200
_HALVES: Final = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Layout:
    """Which column says what; `always` what is the same in every row and no column's.

    `properties`: name on the event -> column; None: every column that says nothing else, or what
    the column `data` holds where there is one.
    `naive_is_utc`: times without an offset are UTC; else they are refused.
    """

    id: str = "id"
    source: str = "source"
    type: str = "type"
    subject: str = "subject"
    time: str = "time"
    data: str = "data"
    quantity: str = QUANTITY
    always: Mapping[str, str] = field(default_factory=dict)
    properties: Mapping[str, str] | None = None
    naive_is_utc: bool = False

    def columns(self) -> list[str]:
        """All columns that say something of an event which is not a property."""
        return [
            self.id, self.source, self.type, self.subject, self.time, self.data, self.quantity,
        ]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row:
    """What a row says, and the source that it names ("" where it names none)."""

    told: Told
    source: str


def translate(row: Item, layout: Layout, *, id_: str = "") -> Row:
    """What a row says; `id_` is its id where it has none of its own ("": then it is refused).

    Raises ShapeInvalid, and nothing else whatever the row holds. What its cells say can be sent.
    """
    said = {
        name: layout.always.get(name) or text(row.get(column))
        for name, column in (("type", layout.type), ("subject", layout.subject))
    }
    for name, column in (("type", layout.type), ("subject", layout.subject)):
        if not said[name]:
            raise missing(column, f"the row has no {column}, and no {name} was given for all rows")
    own = text(row.get(layout.id)) or id_
    if not own:
        raise missing(layout.id, f"the row has no {layout.id}, which makes it count once")
    told = Told(
        id=own,
        subject=said["subject"],
        type=said["type"],
        occurred_at=moment_in(
            row.get(layout.time), column=layout.time, naive_is_utc=layout.naive_is_utc
        ),
        data=_data(row, layout),
    )
    return Row(told, layout.always.get("source") or text(row.get(layout.source)))


def moment_in(value: object, *, column: str, naive_is_utc: bool) -> datetime | None:
    """The moment that a cell says, None where it says nothing; raises ShapeInvalid."""
    if isinstance(value, str) and naive_is_utc:
        with contextlib.suppress(ValueError):  # written in another way, an offset is part of it
            value = read_instant(value)
    if isinstance(value, datetime):
        if value.tzinfo is None and naive_is_utc:
            value = value.replace(tzinfo=UTC)
        value = value.isoformat()
    return moment(value, param=column)


def _data(row: Item, layout: Layout) -> dict[str, object]:
    data = _nested(row.get(layout.data), layout.data)
    if layout.properties is not None:
        chosen = dict(layout.properties)
    elif layout.data in row:
        chosen = {}
    else:
        taken = ENVELOPE | set(layout.columns())
        chosen = {name: name for name in row if name not in taken}
    for name, column in chosen.items():
        value = row.get(column)
        if value is not None and value not in NOTHING:
            data[name] = value_in(value, column=column)
    quantity = row.get(layout.quantity)
    if quantity is not None and quantity not in NOTHING:
        data[QUANTITY] = value_in(quantity, column=layout.quantity)
    return data


def _nested(value: object, column: str) -> dict[str, object]:
    """The object in a column, as such or as JSON; raises ShapeInvalid."""
    if isinstance(value, str) and value not in NOTHING:
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise ShapeInvalid("parameter_invalid", column, f"{column} is no JSON") from error
    if value is None or value in NOTHING:
        return {}
    if not isinstance(value, Mapping):
        raise ShapeInvalid("parameter_invalid", column, f"{column} is no object")
    return _members(value, column, depth=1)


def value_in(value: object, *, column: str) -> object:
    """A cell as JSON has it: whole numbers as numbers, fractions and times as they are written.

    Raises ShapeInvalid.
    """
    match value:
        case Decimal():
            return _number(value)
        case datetime() | date():
            return value.isoformat()
        case bytes() | bytearray() | memoryview():
            raise ShapeInvalid("parameter_invalid", column, f"{column} holds bytes, not a text")
        case _:
            return _inner(plain(value), column)


def _members(value: Mapping[Any, object], column: str, *, depth: int) -> dict[str, object]:
    return {
        _whole_text(str(name), column): _inner(each, column, depth=depth)
        for name, each in value.items()
    }


def _inner(value: object, column: str, *, depth: int = 0) -> object:
    """What a list or an object holds: Decimals as in a cell; all else has its type already."""
    match value:
        case str():
            return _whole_text(value, column)
        case Decimal():
            return _number(value)
        case Mapping() | list() | tuple() if depth == DEPTH_MAX:
            detail = f"{column} is nested more than {DEPTH_MAX} deep"
            raise ShapeInvalid("parameter_invalid", column, detail)
        case Mapping():
            return _members(value, column, depth=depth + 1)
        case list() | tuple():
            return [_inner(each, column, depth=depth + 1) for each in value]
        case _:
            return value


def _number(value: Decimal) -> object:
    """Whole numbers as such, fractions as their shortest text, what is too long as it came."""
    return plain(decimal_text(str(value)) or str(value)) if value else 0


def _whole_text(value: str, column: str) -> str:
    if not value.isascii() and _HALVES.search(value):
        detail = f"{column} holds half of a surrogate pair, which is no text"
        raise ShapeInvalid("parameter_invalid", column, detail)
    return value
