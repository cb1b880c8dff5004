"""From a body to calls and back: checks and holds."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, cast

import msgspec

from accounts.domain import ids, keys
from metering.gate import answers
from metering.gate.answers import Admitted, Answer
from metering.gate.calls import Action, Call, Check, Closing, Reference, Reported, Waiter
from metering.gate.engine import Engine, Overloaded
from metering.gate.wire import (
    CHECKS_MAX,
    CheckBody,
    CheckKind,
    ChecksBody,
    ExtendBody,
    NothingBody,
    Problem,
    SettleBody,
    WellFormedChecks,
    asked_items,
    aware,
    decode,
)

PATH = "/api/v1/check"
JSON_TYPES = (b"application/json", b"")
CHECKS = b'"checks"'


class Caller(NamedTuple):
    """The gateway that asks, and how long it may wait."""

    digest: bytes
    gateway: str
    base_url: str
    deadline_s: float


class Single(NamedTuple):
    """A request that is one call, and how it is answered once that is decided."""

    call: Check | Closing | Reported
    caller: Caller
    made: Callable[[Call, Caller], Answer]

    def answer(self) -> Answer:
        """What the request is answered, when the call has its answer."""
        return self.made(self.call, self.caller)


Checks = Sequence[CheckBody | msgspec.Raw]


def check(caller: Caller, headers: Mapping[bytes, bytes], body: bytes) -> Single | Checks:
    """POST /check of one check, or the checks of a batch; raises Problem."""
    _require_json(headers)
    # Both forms are objects; only the batch has `checks`.
    if CHECKS in body and (checks := _checks(body)) is not None:
        return checks
    return Single(_check_call(caller, decode(body, CheckBody)), caller, answer_of)


async def check_batch(engine: Engine, caller: Caller, checks: Checks) -> Answer:
    """POST /check of a batch: each check has its own answer."""
    if len(checks) > CHECKS_MAX:
        raise Problem("too_many_items", f"At most {CHECKS_MAX:,} checks.", param="checks")
    calls: list[Check | Answer] = []
    for each in checks:
        try:
            read = each if isinstance(each, CheckBody) else decode(bytes(each), CheckBody)
            calls.append(_check_call(caller, read))
        except Problem as refused:
            calls.append(answers.problem(refused, base_url=caller.base_url))
    await ask(engine, [call for call in calls if isinstance(call, Check)])
    return Answer(200, {"results": [_result(each, caller) for each in calls]})


def _checks(body: bytes) -> Checks | None:
    """The checks of a batch, read already where all of them can be; None for a single check."""
    try:
        return decode(body, WellFormedChecks).checks
    except Problem:  # of which one, is found out one by one
        if not bytes(decode(body, CheckKind, whole=False).checks):
            return None
        return decode(body, ChecksBody, whole=False).checks


def _result(call: Check | Answer, caller: Caller) -> object:
    """One answer of a batch: its body, with its status."""
    if isinstance(call, Check):
        if call.failure is None and isinstance(call.answer, Admitted):
            return call.answer.one_of_many()
        call = answer_of(call, caller)
    told = answers.about(call, PATH)
    return {**cast("Mapping[str, Any]", told.body), "status": told.status}


def _check_call(caller: Caller, body: CheckBody) -> Check:
    if (body.key is None) == (body.customer is None):
        sentence = "Name the customer by key or by customer"
        if body.key is None:
            raise Problem("parameter_missing", f"{sentence}.", param="key")
        raise Problem("parameter_invalid", f"{sentence}, not by both.", param="customer")
    reference = by_key(body.key) if body.key is not None else _by_customer(body.customer or "")
    asked = asked_items(body)
    aware(body.time, param="time")
    source = body.source or caller.gateway
    key: str | None = None
    if body.mode != "peek":
        if body.id is None:
            raise Problem("parameter_missing", f"mode {body.mode} needs an id.", param="id")
        key = event_key(source, body.id)
    if body.mode == "hold" and body.time is not None:
        raise Problem("parameter_invalid", "A hold is of now: it takes no time.", param="time")
    return Check(
        gateway_key=caller.digest,
        reference=reference,
        deadline=time.monotonic() + caller.deadline_s,
        body=body,
        asked=asked,
        key=key,
        source=source,
    )


def close_hold(
    caller: Caller, headers: Mapping[bytes, bytes], body: bytes, *, hold_id: str, action: Action
) -> Single:
    """POST /holds/{id}/settle|release|extend and GET /holds/{id}; raises Problem."""
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
    call = Closing(
        gateway_key=caller.digest,
        reference=Reference(customer_id=customer_id),
        deadline=time.monotonic() + caller.deadline_s,
        action=action,
        customer_id=customer_id,
        key=key.hex,
        body=settle_body,
        ttl=ttl,
    )
    return Single(call, caller, answer_of)


async def answered(engine: Engine, single: Single) -> Answer:
    """Have one call decided and say what its request is answered; raises Overloaded."""
    await ask(engine, [single.call])
    return single.answer()


async def ask(engine: Engine, calls: Sequence[Call]) -> None:
    """Have calls decided, all of them or none; raises Overloaded."""
    if not calls:
        return
    room = engine.room_for(len(calls)) if isinstance(calls[0], Check) else None
    if room is not None and room.full:
        raise Overloaded(room)  # its length had not told of how many it is
    waiter = Waiter(len(calls))
    for call in calls:
        call.waiter = waiter
    engine.submit(calls)
    if room is None:
        await waiter.wait()
        return
    room.enter(time.monotonic(), len(calls))
    try:
        await waiter.wait()
    finally:
        room.leave(time.monotonic(), len(calls))


def answer_of(call: Call, caller: Caller) -> Answer:
    """What a request of one call is answered, as the API has it."""
    if call.failure is not None:
        return answers.problem(call.failure, base_url=caller.base_url)
    answer = call.answer
    assert answer is not None
    return answer.whole() if isinstance(answer, Admitted) else answer


def event_key(source: str, id_: str) -> str:
    """Under which key an event or hold is kept: a digest of its source and id."""
    return answers.digest_id(source, id_)


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


def by_subject(text: str) -> Reference:
    return by_key(text) if text.startswith(keys.KeyKind.CUSTOMER) else _by_customer(text)


def _require_json(headers: Mapping[bytes, bytes]) -> None:
    kind = headers.get(b"content-type", b"")
    if kind == b"application/json":
        return
    kind = kind.split(b";")[0].strip().lower()
    if kind not in JSON_TYPES:
        raise Problem("media_type_unsupported", "Send application/json.")
