"""From a body to calls and back: the four hot endpoints."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from uuid import UUID

import msgspec

from accounts.domain import ids, keys
from metering.gate import answers
from metering.gate.answers import Answer
from metering.gate.calls import Action, Call, Check, Closing, Fate, Reference, Reported
from metering.gate.engine import Engine, Overloaded
from metering.gate.wire import (
    CHECKS_MAX,
    EVENTS_MAX,
    CheckBody,
    CheckKind,
    ChecksBody,
    EventBody,
    ExtendBody,
    NothingBody,
    Problem,
    SettleBody,
    asked_items,
    aware,
    decode,
)

_JSON_TYPES = (b"application/json", b"")
_SINGLE = b"application/cloudevents+json"
_BATCH = b"application/cloudevents-batch+json"


@dataclass(frozen=True, slots=True)
class Caller:
    """The gateway that asks, and how long it may wait."""

    digest: bytes
    gateway: str
    base_url: str
    deadline_s: float


async def check(
    engine: Engine, caller: Caller, headers: Mapping[bytes, bytes], body: bytes
) -> Answer:
    """POST /check, single or batch."""
    _require_json(headers)
    # Both forms are objects; only the batch has `checks`.
    if b'"checks"' in body and bytes(decode(body, CheckKind).checks):
        return await _check_batch(engine, caller, decode(body, ChecksBody))
    call = _check_call(caller, decode(body, CheckBody))
    await ask(engine, [call])
    return answer_of(call, caller)


async def _check_batch(engine: Engine, caller: Caller, batch: ChecksBody) -> Answer:
    if len(batch.checks) > CHECKS_MAX:
        raise Problem("too_many_items", f"At most {CHECKS_MAX:,} checks.", param="checks")
    calls: list[Call | Answer] = []
    for raw in batch.checks:
        try:
            calls.append(_check_call(caller, decode(bytes(raw), CheckBody)))
        except Problem as refused:
            calls.append(answers.problem(refused, base_url=caller.base_url))
    await ask(engine, [call for call in calls if isinstance(call, Call)])
    results = []
    for each in calls:
        answer = each if isinstance(each, Answer) else answer_of(each, caller)
        results.append({**(answer.body or {}), "status": answer.status})
    return Answer(200, {"results": results})


def _check_call(caller: Caller, body: CheckBody) -> Check:
    if (body.key is None) == (body.customer is None):
        raise Problem("parameter_missing", "Name the customer by key or by customer.", param="key")
    reference = by_key(body.key) if body.key is not None else _by_customer(body.customer or "")
    asked_items(body)
    aware(body.time, param="time")
    loop = asyncio.get_running_loop()
    source = body.source or caller.gateway
    key: UUID | None = None
    if body.mode != "peek":
        if body.id is None:
            raise Problem("parameter_missing", f"mode {body.mode} needs an id.", param="id")
        key = event_key(source, body.id)
    if body.mode == "hold" and body.time is not None:
        raise Problem("parameter_invalid", "A hold is of now: it takes no time.", param="time")
    return Check(
        gateway_key=caller.digest,
        reference=reference,
        deadline=loop.time() + caller.deadline_s,
        done=loop.create_future(),
        body=body,
        key=key,
        source=source,
    )


async def close_hold(
    engine: Engine,
    caller: Caller,
    headers: Mapping[bytes, bytes],
    body: bytes,
    *,
    hold_id: str,
    action: Action,
) -> Answer:
    """POST /holds/{id}/settle|release|extend and GET /holds/{id}."""
    try:
        customer_id, key = ids.decode_owned("hold", hold_id)
    except ids.IdMalformed as error:
        raise Problem("not_found", "There is no hold with this id.") from error
    settle_body: SettleBody | None = None
    ttl = 0
    if action != "read" and body:
        _require_json(headers)
    if action == "settle":
        settle_body = decode(body, SettleBody)
    elif action == "extend":
        ttl = decode(body, ExtendBody).ttl
    elif action == "release" and body:
        decode(body, NothingBody)
    loop = asyncio.get_running_loop()
    call = Closing(
        gateway_key=caller.digest,
        reference=Reference(customer_id=customer_id),
        deadline=loop.time() + caller.deadline_s,
        done=loop.create_future(),
        action=action,
        customer_id=customer_id,
        key=key,
        body=settle_body,
        ttl=ttl,
    )
    await ask(engine, [call])
    return answer_of(call, caller)


async def events(
    engine: Engine, caller: Caller, headers: Mapping[bytes, bytes], body: bytes
) -> Answer:
    """POST /events: CloudEvents structured, batched or binary, or a plain array of them."""
    raws = _envelopes(headers, body)
    if len(raws) > EVENTS_MAX:
        raise Problem("too_many_items", f"At most {EVENTS_MAX:,} events in one request.")
    fates: dict[int, Fate] = {}
    names: dict[int, str | None] = {}
    grouped: dict[Reference, list[tuple[int, EventBody, UUID]]] = {}
    for place, raw in enumerate(raws):
        try:
            event = _event(raw)
            names[place] = event.id
            grouped.setdefault(_by_subject(event.subject), []).append(
                (place, event, event_key(event.source, event.id))
            )
        except Problem as refused:
            names.setdefault(place, _id_of(raw))
            fates[place] = Fate("rejected", refused)
    loop = asyncio.get_running_loop()
    calls = [
        Reported(
            gateway_key=caller.digest,
            reference=reference,
            deadline=loop.time() + caller.deadline_s + len(raws) / 1_000,
            done=loop.create_future(),
            weight=len(group),
            events=group,
        )
        for reference, group in grouped.items()
    ]
    await ask(engine, calls)
    for call in calls:
        fates |= call.fates
        if call.failure is not None and call.failure.status >= 500:
            # Repeating the whole request is safe: what was counted answers as a duplicate.
            return answers.problem(call.failure, base_url=caller.base_url)
    return Answer(200, _fates_body(fates, names))


def _fates_body(fates: Mapping[int, Fate], names: Mapping[int, str | None]) -> dict[str, Any]:
    outcomes = [fate.outcome for fate in fates.values()]
    rejected = []
    for place in sorted(fates):
        refused = fates[place].refused
        if refused is not None:
            each: dict[str, Any] = {
                "index": place,
                "id": names.get(place),
                "code": refused.code,
                "detail": refused.detail,
            }
            rejected.append(each | ({"param": refused.param} if refused.param else {}))
    return {
        "accepted": outcomes.count("accepted"),
        "duplicates": outcomes.count("duplicate"),
        "rejected": rejected,
    }


async def ask(engine: Engine, calls: Sequence[Call]) -> None:
    submitted = []
    try:
        for call in calls:
            engine.submit(call)
            submitted.append(call)
    except Overloaded:
        for call in submitted:
            call.done.cancel()  # not yet decided: the loop has not run in between
        raise
    for call in calls:
        await call.done


def answer_of(call: Call, caller: Caller) -> Answer:
    if call.failure is not None:
        return answers.problem(call.failure, base_url=caller.base_url)
    assert call.answer is not None
    return call.answer


def event_key(source: str, id_: str) -> UUID:
    """Under which key an event or hold is kept: a digest of its source and id."""
    return answers.digest_uuid(source, id_)


@lru_cache(maxsize=65_536)
def by_key(text: str) -> Reference:
    try:
        kind = keys.parse_key(text)
    except keys.KeyMalformed as error:
        raise Problem("key_malformed", f"{error}.".capitalize(), param="key") from error
    if kind is not keys.KeyKind.CUSTOMER:
        raise Problem("wrong_kind_of_key", "A customer's key begins with fb_key_.", param="key")
    return Reference(digest=keys.digest_of(text))


def _by_customer(text: str) -> Reference:
    if text.startswith("cus_"):
        try:
            return Reference(customer_id=ids.decode("cus", text))
        except ids.IdMalformed:
            pass  # an external id may begin like ours
    return Reference(external_id=text)


def _by_subject(text: str) -> Reference:
    return by_key(text) if text.startswith(keys.KeyKind.CUSTOMER) else _by_customer(text)


def _require_json(headers: Mapping[bytes, bytes]) -> None:
    kind = headers.get(b"content-type", b"").split(b";")[0].strip().lower()
    if kind not in _JSON_TYPES:
        raise Problem("media_type_unsupported", "Send application/json.")


def _envelopes(headers: Mapping[bytes, bytes], body: bytes) -> list[bytes]:
    kind = headers.get(b"content-type", b"").split(b";")[0].strip().lower()
    if b"ce-id" in headers:
        return [_binary(headers, kind, body)]
    if kind not in (*_JSON_TYPES, _SINGLE, _BATCH):
        raise Problem("media_type_unsupported", "Send CloudEvents or application/json.")
    if b"\\u0000" in body:
        raise Problem("parameter_invalid", "A text has the character U+0000, which is not taken.")
    try:
        if kind != _SINGLE and body.lstrip()[:1] == b"[":
            return [bytes(raw) for raw in msgspec.json.decode(body, type=list[msgspec.Raw])]
        if kind != _BATCH and body.lstrip()[:1] == b"{":
            return [bytes(msgspec.json.decode(body, type=msgspec.Raw))]
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Problem("body_malformed", f"The body is not JSON: {error}.") from error
    raise Problem("envelope_malformed", "Send one CloudEvent, or an array of them.")


def _binary(headers: Mapping[bytes, bytes], kind: bytes, body: bytes) -> bytes:
    """CloudEvents binary mode: attributes in ce-* headers, data in the body."""
    event: dict[str, Any] = {
        name[3:].decode("latin-1"): value.decode("latin-1")
        for name, value in headers.items()
        if name.startswith(b"ce-")
    }
    if body:
        if kind not in _JSON_TYPES:
            raise Problem("media_type_unsupported", "The data must be application/json.")
        event["data"] = decode(body, dict[str, Any])
    return answers.encode(event)


def _event(raw: bytes) -> EventBody:
    event = decode(raw, EventBody)
    if event.specversion != "1.0":
        raise Problem("parameter_invalid", "specversion must be 1.0.", param="specversion")
    return event


def _id_of(raw: bytes) -> str | None:
    """The id of an event that could not be read, where it can be seen."""
    try:
        found = json.loads(raw).get("id")
    except (ValueError, AttributeError):
        return None
    return found[:255] if isinstance(found, str) else None
