"""Usage in the shapes of other systems, reported as the events that it is."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from metering.domain.shapes.reading import Options, ShapeInvalid
from metering.domain.shapes.remains import TRANSLATORS, Translate
from metering.gate.answers import Answer
from metering.gate.endpoints import JSON_TYPES, Caller
from metering.gate.engine import Engine
from metering.gate.quarantine import Foreign, Quarantine
from metering.gate.reporting import Read, events, kind_of, limited, listed, report
from metering.gate.wire import EventBody, Problem, decode

LINES = (
    b"application/x-ndjson",
    b"application/ndjson",
    b"application/jsonl",
    b"application/json-lines",
    b"text/plain",
)
SHAPES = TRANSLATORS.keys() - {"lago"}  # under /ingest/; Lago's has paths of its own
OPTION_MAX = 200
BREATH = 100  # items translated at a stretch: some milliseconds


class _Lago(msgspec.Struct):
    """Lago's envelopes; whatever else is in them is of no interest."""

    event: msgspec.Raw = msgspec.Raw()
    events: msgspec.Raw = msgspec.Raw()


async def ingest(
    engine: Engine,
    caller: Caller,
    headers: Mapping[bytes, bytes],
    body: bytes,
    *,
    path: str,
    query: bytes,
    quarantine: Quarantine | None = None,
) -> Answer:
    """POST /events, /events/batch or /ingest/<shape>: usage, in whatever shape it comes.

    Items that cannot be read have their own fate; raises Problem where the envelope is none.
    """
    options, source = Options(), caller.gateway
    shape = "lago"
    if path == "events":
        wrapped = _lago_event(headers, body)
        if wrapped is None:
            return await events(engine, caller, headers, body, quarantine=quarantine)
        raws = [wrapped]
    elif path == "events/batch":
        raws = _lago_events(headers, body)
    else:
        shape = path.removeprefix("ingest/")
        raws = _items(headers, body, by_line=shape == "access-log")
        options, source = _options(query, source)
    items = await _all_translated(limited(raws), TRANSLATORS[shape], options, source=source)
    foreign = Foreign(shape, options, source)
    return await report(engine, caller, raws, items, quarantine=quarantine, foreign=foreign)


def _lago_events(headers: Mapping[bytes, bytes], body: bytes) -> list[bytes]:
    """The events in Lago's `{"events": [...]}`."""
    _require(headers, JSON_TYPES)
    found = bytes(_shaped(body).events)
    if found[:1] != b"[":
        raise Problem("envelope_malformed", 'Send {"events": [...]}.')
    return listed(found)


def _items(headers: Mapping[bytes, bytes], body: bytes, *, by_line: bool) -> list[bytes]:
    """An array, one object, or one object a line."""
    _require(headers, JSON_TYPES + LINES if by_line else JSON_TYPES)
    start = body.lstrip()[:1]
    if start == b"[":
        return listed(body)
    if start == b"{":
        return _lines(body) if by_line else [body]
    raise Problem("envelope_malformed", "Send one object, or an array of them.")


def _lines(body: bytes) -> list[bytes]:
    """The lines of a log; one object that is written over several lines is one of them."""
    lines = [line for line in body.splitlines() if line.strip()]
    if len(lines) > 1:
        try:
            return [bytes(msgspec.json.decode(body, type=msgspec.Raw))]
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            pass  # as it should be: no line is the whole
    return lines


async def _all_translated(
    raws: Sequence[bytes], translate: Translate, options: Options, *, source: str
) -> list[Read]:
    items: list[Read] = []
    for raw in raws:
        items.append(_translated(raw, translate, options, source=source))
        if len(items) % BREATH == 0:
            await asyncio.sleep(0)  # other callers are not to wait for a large batch
    return items


def _translated(raw: bytes, translate: Translate, options: Options, *, source: str) -> Read:
    """What an item of another shape says, as an event."""
    try:
        told = translate(decode(raw, dict[str, Any]), options)
        if told is None:
            return None
        members = {
            "id": told.id,
            "source": source,
            "type": told.type,
            "subject": told.subject,
            "time": told.occurred_at,
            "data": told.data,
        }
        return msgspec.convert(members, EventBody)
    except Problem as refused:
        return refused
    except ShapeInvalid as refused:
        return Problem(refused.code, f"{refused.detail}.", param=refused.param)
    except msgspec.ValidationError as error:
        return Problem("parameter_invalid", f"{error}.")


def _options(query: bytes, source: str) -> tuple[Options, str]:
    """What the address says: `type`, `customer` and `source`, else the one given."""
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict")
    except ValueError as error:
        raise Problem("parameter_invalid", "The query is not UTF-8.") from error
    found: dict[str, str] = {}
    for name, value in pairs:
        if name not in ("type", "customer", "source"):
            shown = name[:60].encode("ascii", "replace").decode()
            raise Problem("parameter_unknown", f"There is no parameter {shown!r}.", param=shown)
        if not 1 <= len(value) <= OPTION_MAX or "\x00" in value:
            raise Problem(
                "parameter_invalid", f"{name} has 1 to {OPTION_MAX} characters.", param=name
            )
        found[name] = value
    return Options(found.get("type"), found.get("customer")), found.get("source", source)


def _require(headers: Mapping[bytes, bytes], kinds: Sequence[bytes]) -> None:
    if kind_of(headers) not in kinds:
        raise Problem("media_type_unsupported", "Send application/json.")


def _shaped(body: bytes) -> _Lago:
    try:
        return msgspec.json.decode(body, type=_Lago)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Problem("body_malformed", f"The body is not such JSON: {error}.") from error


def _lago_event(headers: Mapping[bytes, bytes], body: bytes) -> bytes | None:
    """The event in Lago's `{"event": {...}}`; None where the body is something else."""
    if b'"event"' not in body or b"ce-id" in headers or kind_of(headers) not in JSON_TYPES:
        return None
    if body.lstrip()[:1] != b"{":
        return None
    found = bytes(_shaped(body).event)
    # A CloudEvent may have an attribute of this name, but never an object.
    return found if found[:1] == b"{" else None
