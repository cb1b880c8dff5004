"""POST /events, and what all reports of usage share: reading, counting, the fate of each item."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import unquote_to_bytes

import msgspec

from metering.domain.shapes.tokens import PREFIXES, with_our_names
from metering.gate import answers
from metering.gate.answers import Answer
from metering.gate.calls import ACCEPTED, Call, Fate, Reference, Reported, outcomes
from metering.gate.endpoints import JSON_TYPES, Caller, Single, ask, by_subject, event_key
from metering.gate.engine import Engine
from metering.gate.quarantine import Foreign, Quarantine, Refused
from metering.gate.turns import LONG, PIECE
from metering.gate.wire import EVENTS_MAX, EventBody, Problem, decode

_SINGLE = b"application/cloudevents+json"
_BATCH = b"application/cloudevents-batch+json"
_FOREIGN = tuple(f'"{prefix}'.encode() for prefix in PREFIXES)
_OTHERS = (b'"event"', *_FOREIGN)  # perhaps in another shape
# One item of a request: an event, why it is none, or None for one that is about nobody's usage.
Read = EventBody | Problem | None
T = TypeVar("T")


async def events(
    engine: Engine,
    caller: Caller,
    headers: Mapping[bytes, bytes],
    body: bytes,
    *,
    quarantine: Quarantine | None = None,
) -> Answer:
    """POST /events: CloudEvents structured, batched or binary, or a plain array of them."""
    if len(body) > LONG:
        await engine.turns.turn()
    if (items := _all_well_formed(headers, body)) is not None:
        limited(items)
        return await report(engine, caller, (), items, quarantine=quarantine)
    raws = limited(_envelopes(headers, body))
    read = _foreign_event if any(name in body for name in _FOREIGN) else _event
    return await report(engine, caller, raws, [read(raw) for raw in raws], quarantine=quarantine)


def one_event(caller: Caller, headers: Mapping[bytes, bytes], body: bytes) -> Single | None:
    """POST /events of a single event in our shape; None for all else. Raises Problem."""
    if any(name in body for name in _OTHERS):
        return None
    found: Sequence[Read] | None = _all_well_formed(headers, body)
    if found is None:
        found = [_event(raw) for raw in _envelopes(headers, body)]
    if len(found) != 1 or not isinstance(event := found[0], EventBody):
        return None
    reference = by_subject(event.subject)
    one = (0, event, event_key(event.source, event.id))
    call = _reported(caller, reference, (one,), _deadline(caller, of=1))
    return Single(call, caller, _told_of_one)


def _told_of_one(call: Call, caller: Caller) -> Answer:
    assert isinstance(call, Reported)
    if call.failure is not None and _fails_whole(call, call.failure):
        return answers.problem(call.failure, base_url=caller.base_url)
    if call.fates.get(0) is ACCEPTED:
        return _ONE_ACCEPTED
    return Answer(200, _fates_body((), [each for _, each, _ in call.events], call.fates, {}))


async def report(
    engine: Engine,
    caller: Caller,
    raws: Sequence[bytes],
    items: Sequence[Read],
    *,
    quarantine: Quarantine | None,
    foreign: Foreign | None = None,
) -> Answer:
    """Count what can be counted and say what became of each item; the answer is after the commit.

    What the quarantine takes is there before the answer says so. `foreign`: what the items were
    translated from.
    """
    fates: dict[int, Fate] = {}
    if len(items) > PIECE:
        await engine.turns.turn()
    calls = _calls(items, caller, fates)
    await ask(engine, calls)
    while poisoned := [call for call in calls if _is_poisoned(call)]:
        calls = [call for call in calls if not _is_poisoned(call)]
        halves = [half for call in poisoned for half in _halves(call, caller, of=len(items))]
        await ask(engine, halves)
        calls += halves
    if len(items) > PIECE:
        await engine.turns.turn()
    for call in calls:
        fates |= call.fates
        if call.failure is not None and _fails_whole(call, call.failure):
            return answers.problem(call.failure, base_url=caller.base_url)
    kept = await _quarantined(
        quarantine, engine, caller, raws=raws, items=items, fates=fates, foreign=foreign
    )
    return Answer(200, _fates_body(raws, items, fates, kept))


def _calls(items: Sequence[Read], caller: Caller, fates: dict[int, Fate]) -> list[Reported]:
    """A call for each customer; the fates of what is in none are told already."""
    grouped: dict[str, list[tuple[int, EventBody, str]]] = {}
    for place, item in enumerate(items):
        if isinstance(item, EventBody):
            one = (place, item, event_key(item.source, item.id))
            group = grouped.get(item.subject)
            if group is None:
                grouped[item.subject] = [one]
            else:
                group.append(one)
        elif item is not None:
            fates[place] = Fate("rejected", item)
    calls = []
    deadline = _deadline(caller, of=len(items))
    for subject, group in grouped.items():
        try:
            reference = by_subject(subject)
        except Problem as refused:
            fates |= dict.fromkeys((place for place, _, _ in group), Fate("rejected", refused))
        else:
            calls.append(_reported(caller, reference, group, deadline))
    return calls


def _deadline(caller: Caller, *, of: int) -> float:
    """Until when the events of a request of so many must have their fates."""
    return time.monotonic() + caller.deadline_s + of / 1_000


def _reported(
    caller: Caller,
    reference: Reference,
    group: Sequence[tuple[int, EventBody, str]],
    deadline: float,
) -> Reported:
    """The call for the events of one customer."""
    plain = True
    for _, event, _ in group:
        if event.time is not None or (event.data is not None and "hold" in event.data):
            plain = False
    return Reported(
        gateway_key=caller.digest,
        reference=reference,
        deadline=deadline,
        weight=len(group),
        events=group,
        plain=plain,
    )


def _fails_whole(call: Reported, failure: Problem) -> bool:
    """Whether the request is refused, and not only this call's events.

    Repeating it is safe: what was counted answers as a duplicate.
    """
    return call.barred or failure.status == 503


def _is_poisoned(call: Reported) -> bool:
    """Whether one of the call's events, it is not known which, cannot be written."""
    return call.failure is not None and call.failure.status == 500 and len(call.events) > 1


def _halves(call: Reported, caller: Caller, *, of: int) -> list[Reported]:
    middle = len(call.events) // 2
    return [
        _reported(caller, call.reference, half, _deadline(caller, of=of))
        for half in (call.events[:middle], call.events[middle:])
    ]


async def _quarantined(
    quarantine: Quarantine | None,
    engine: Engine,
    caller: Caller,
    *,
    raws: Sequence[bytes],
    items: Sequence[Read],
    fates: Mapping[int, Fate],
    foreign: Foreign | None,
) -> Mapping[int, str]:
    """Keep what was refused, where it is to be kept; the ids under which it is, by place."""
    if quarantine is None:
        return {}
    refused = [
        Refused(place, item if isinstance(item, EventBody) else raws[place], problem, foreign)
        for place, fate in fates.items()
        if (problem := fate.refused) is not None and (item := items[place]) is not None
    ]
    if not refused:
        return {}
    gateway = engine.catalogue.gateways.get(caller.digest)
    return await quarantine.keep(refused, gateway_id=gateway.gateway_id if gateway else None)


def _fates_body(
    raws: Sequence[bytes],
    items: Sequence[Read],
    fates: Mapping[int, Fate],
    kept: Mapping[int, str],
) -> dict[str, Any]:
    found = outcomes(fates.values())
    rejected = []
    for place in sorted(fates) if "rejected" in found else ():
        refused = fates[place].refused
        if refused is None:
            continue
        item = items[place]
        each: dict[str, Any] = {
            "index": place,
            "id": item.id if isinstance(item, EventBody) else _id_of(raws[place]),
            "code": refused.code,
            "detail": refused.detail,
        }
        each |= {"param": refused.param} if refused.param else {}
        if place in kept:
            each |= {"quarantined": True, "event": kept[place]}
        rejected.append(each)
    body = _counted(found.get("accepted", 0), found.get("duplicate", 0), rejected)
    ignored = len(items) - len(fates)
    return body | ({"ignored": ignored} if ignored else {})


def _counted(accepted: int, duplicates: int, rejected: Sequence[object]) -> dict[str, Any]:
    return {"accepted": accepted, "duplicates": duplicates, "rejected": rejected}


_ONE_ACCEPTED = Answer(200, answers.encode(_counted(1, 0, ())))


def kind_of(headers: Mapping[bytes, bytes]) -> bytes:
    """The media type of a request's body."""
    if headers.get(b"content-type") == JSON_TYPES[0]:
        return JSON_TYPES[0]
    return headers.get(b"content-type", b"").split(b";")[0].strip().lower()


def limited(raws: list[T]) -> list[T]:
    """The items of a request, unless they are too many."""
    if len(raws) > EVENTS_MAX:
        raise Problem("too_many_items", f"At most {EVENTS_MAX:,} events in one request.")
    return raws


def listed(body: bytes) -> list[bytes]:
    """The items of a JSON array, unread: one that makes no sense is no fault of the others."""
    try:
        return [bytes(raw) for raw in msgspec.json.decode(body, type=list[msgspec.Raw])]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Problem("body_malformed", f"The body is not JSON: {error}.") from error


def _all_well_formed(headers: Mapping[bytes, bytes], body: bytes) -> list[EventBody] | None:
    """The events of a JSON array, read at once where nothing is wrong with any; else None.

    What is wrong, and with which of them, is found out one by one.
    """
    if kind_of(headers) not in (*JSON_TYPES, _BATCH) or b"ce-id" in headers:
        return None
    if body.lstrip()[:1] != b"[" or any(name in body for name in _FOREIGN):
        return None
    try:
        found = decode(body, list[EventBody])
    except Problem:
        return None
    fit = all(event.specversion == "1.0" and event.data_base64 is None for event in found)
    return found if fit else None


def _envelopes(headers: Mapping[bytes, bytes], body: bytes) -> list[bytes]:
    kind = kind_of(headers)
    # A media type of CloudEvents says which mode it is, whatever headers say besides (3.1).
    if b"ce-id" in headers and kind not in (_SINGLE, _BATCH):
        return [_binary(headers, kind, body)]
    if kind not in (*JSON_TYPES, _SINGLE, _BATCH):
        raise Problem("media_type_unsupported", "Send CloudEvents or application/json.")
    start = body.lstrip()[:1]
    if kind != _SINGLE and start == b"[":
        return listed(body)
    if kind != _BATCH and start == b"{":
        try:
            return [bytes(msgspec.json.decode(body, type=msgspec.Raw))]
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise Problem("body_malformed", f"The body is not JSON: {error}.") from error
    raise Problem("envelope_malformed", "Send one CloudEvent, or an array of them.")


def _binary(headers: Mapping[bytes, bytes], kind: bytes, body: bytes) -> bytes:
    """CloudEvents binary mode: attributes in ce-* headers, data in the body.

    Headers are percent-encoded UTF-8 (HTTP binding 1.0.2, 3.1.3.2).
    """
    try:
        event: dict[str, Any] = {
            name[3:].decode("latin-1"): unquote_to_bytes(value).decode()
            for name, value in headers.items()
            if name.startswith(b"ce-")
        }
    except UnicodeDecodeError as error:
        raise Problem("envelope_malformed", "A ce- header is not UTF-8.") from error
    if body:
        if kind not in JSON_TYPES:
            raise Problem("media_type_unsupported", "The data must be application/json.")
        event["data"] = decode(body, dict[str, Any])
    return answers.encode(event)


def _event(raw: bytes) -> EventBody | Problem:
    try:
        event = decode(raw, EventBody)
    except Problem as refused:
        return refused
    return _fault(event) or event


def _fault(event: EventBody) -> Problem | None:
    """What is wrong with an event that is well-formed."""
    if event.specversion != "1.0":
        return Problem("parameter_invalid", "specversion must be 1.0.", param="specversion")
    if event.data_base64 is not None:
        return Problem(
            "parameter_invalid", "Send data as JSON, not in base64.", param="data_base64"
        )
    return None


def _foreign_event(raw: bytes) -> EventBody | Problem:
    """An event that may have OpenTelemetry's names in its data: ours are put beside them."""
    event = _event(raw)
    if isinstance(event, EventBody) and event.data:
        event.data = dict(with_our_names(event.data))
    return event


def _id_of(raw: bytes) -> str | None:
    """The id of an item that could not be read, where it can be seen."""
    try:
        found = msgspec.json.decode(raw)
        names = ("litellm_call_id", "id", "transaction_id", "request_id")
        id_ = next((found[name] for name in names if isinstance(found.get(name), str)), None)
    except (ValueError, AttributeError, RecursionError):  # UnicodeDecodeError is a ValueError
        return None
    return None if id_ is None else id_[:255]
