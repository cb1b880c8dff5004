"""The rows that a batch reads and writes.

What most batches have goes as arrays, one a column: PostgreSQL reads them in half the time that it
needs for JSON. The rest goes as JSON lists. Members have one letter or two there, because names
would be half of what is sent and read. What is at its default is left out, and is null in SQL.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any

import msgspec
from msgspec import field

from metering.domain.aggregates import Counted

_DOCUMENTS = frozenset({"u", "p", "b"})  # of events: JSON in a column of its own
_uuid = re.compile("-".join(f"[0-9a-f]{{{n}}}" for n in (8, 4, 4, 4, 12))).fullmatch
_escape = re.compile(r"\\(?:u[0-9a-f]{4}|.)")
encode = msgspec.json.Encoder(uuid_format="canonical").encode


class EventRow(msgspec.Struct, gc=False):
    """A usage event. `occurred_at` None: when it was received."""

    customer_id: int = field(name="c")
    id: str = field(name="i")
    source: str = field(name="s")
    external_id: str | None = field(name="x")
    usage: Mapping[str, Counted] = field(name="u")
    fingerprint: int = field(name="f")
    origin_id: int = field(name="r")
    occurred_at: datetime | None = field(name="o", default=None)
    properties: Mapping[str, Any] | None = field(name="p", default=None)
    paid_by: Mapping[str, Any] | None = field(name="b", default=None)
    answer: str | None = field(name="a", default=None)
    from_hold: bool = field(name="h", default=False)
    late: bool = field(name="l", default=False)
    over_hold: bool = field(name="q", default=False)
    external_uuid: str | None = field(name="y", default=None)

    def pack(self) -> None:
        """Let an id that is a UUID, as PostgreSQL writes one, take the room of one."""
        if self.external_id is not None and len(self.external_id) == 36 and _uuid(self.external_id):
            self.external_uuid, self.external_id = self.external_id, None


class Origin(msgspec.Struct, gc=False):
    """What events have in common: a type, and the gateway and key that they came by."""

    c: int
    i: int
    t: str
    g: int | None
    k: int | None

    @property
    def known_as(self) -> int:
        """Customer and number in one: a pair would take twice the memory."""
        return (self.c << 64) + self.i


class HoldRow(msgspec.Struct, omit_defaults=True):
    """A hold that is opened."""

    customer_id: int = field(name="c")
    id: str = field(name="i")
    source: str = field(name="s")
    external_id: str = field(name="x")
    items: Mapping[str, int] = field(name="n")
    allocation: Mapping[str, Any] = field(name="y")
    expires_at: datetime = field(name="e")
    fingerprint: int = field(name="f")
    answer: str = field(name="a")
    gateway_id: int = field(name="g")
    api_key_id: int | None = field(name="k", default=None)
    properties: Mapping[str, Any] | None = field(name="p", default=None)


class ClosingRow(msgspec.Struct, omit_defaults=True):
    """What becomes of a hold; `closing` the body that its closing was answered with."""

    customer_id: int = field(name="c")
    id: str = field(name="i")
    state: str
    expires_at: datetime | None = field(name="e", default=None)
    closing: str | None = field(name="a", default=None)
    fingerprint: int | None = field(name="f", default=None)


class DenialRow(msgspec.Struct):
    """Denials of one minute for one reason; `last`: what the last of them was told, if not one."""

    customer_id: int
    id: str
    code: str
    meter: str
    api_key_id: int | None
    gateway_id: int
    requested: int
    problem: object
    count: int = 1
    last: object = None


class Id(msgspec.Struct, gc=False):
    """An id that must not have been used, or is looked for."""

    c: int
    i: str


class Balance(msgspec.Struct, gc=False):
    """How a balance changes: used and held, and of these what grants paid."""

    c: int
    m: int
    w: str
    s: datetime
    u: int = 0
    gu: int = 0
    h: int = 0
    gh: int = 0
    e: datetime | None = None
    l: datetime | None = None  # noqa: E741


class Grant(msgspec.Struct, gc=False):
    """How much more of a grant is used and held."""

    c: int
    i: int
    u: int
    h: int


class Member(msgspec.Struct, gc=False):
    """A member of a unique meter in a window of a right."""

    c: int
    m: int
    w: str
    s: datetime
    k: str


def array(values: Sequence[object]) -> str:
    """An array of PostgreSQL: of numbers, texts, truths or moments, any of them perhaps None."""
    text = encode(values).decode()
    # JSON writes it like PostgreSQL, but for its brackets, and escapes other than \" and \\.
    # What is left without those two is looked for, not matched: a text may have thousands of them.
    if "\\" in text and "\\" in text.replace("\\\\", "").replace('\\"', ""):
        text = _escape.sub(_as_it_is, text)
    return f"{{{text[1:-1]}}}"


def columns(
    name: str, kind: type[EventRow | Balance], rows: Iterable[Sequence[object]]
) -> dict[str, str]:
    """The arrays of rows of one kind, by `name_letter`; a column of defaults is an empty one.

    Rows are given as what their members are, in order.
    """
    made: dict[str, str] = {}
    for (letter, default), values in zip(_fields(kind), zip(*rows, strict=True), strict=True):
        if values.count(default) == len(values):
            found = "{}"
        elif letter in _DOCUMENTS:
            found = array([None if each is None else encode(each).decode() for each in values])
        else:
            found = array(values)
        made[f"{name}_{letter}"] = found
    return made


@cache
def _fields(kind: type[EventRow | Balance]) -> list[tuple[str, object]]:
    return [(field.encode_name, field.default) for field in msgspec.structs.fields(kind)]


def _as_it_is(found: re.Match[str]) -> str:
    escape = found[0]
    return escape if escape[1] in '"\\' else str(msgspec.json.decode(f'"{escape}"'))


def ids_of(pairs: Iterable[tuple[int, str]]) -> str:
    """The `ids` of read_ids.sql and write_batch.sql."""
    return encode([Id(customer_id, key) for customer_id, key in pairs]).decode()
