"""Closing a hold: settle, release, extend; and giving back the ones whose time is over."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from accounts.domain import ids
from metering.domain.burndown import give_back, take
from metering.gate import answers
from metering.gate.answers import Answer
from metering.gate.calls import Closing, Used, Work
from metering.gate.catalogue import Catalogue
from metering.gate.checks import REPLAYED, add_event
from metering.gate.store import Found
from metering.gate.wire import Problem, SettleBody


def decide_closing(
    call: Closing,
    work: Work,
    *,
    catalogue: Catalogue,
    found: Mapping[tuple[int, UUID], Found],
    now: datetime,
) -> Answer:
    """Answer one closing of a hold and gather in `work` what it changes."""
    hold = found.get((work.account.customer_id, call.key))
    if hold is None or hold.state is None:
        raise Problem("not_found", "There is no hold with this id.")
    if call.action == "read":
        return _read(call, hold, now=now)
    print_ = answers.fingerprint(call.action, _content(call))
    twin = work.used.get(call.key)
    if twin is not None and twin.fingerprint == print_ and twin.answer is not None:
        return _render(twin.answer, now=now, replayed=True)
    if twin is not None:
        raise Problem("id_in_use", "This hold is being closed by another call of the same moment.")
    state = _state(hold, now)
    if state in ("settled", "released"):
        return _repeat(call, hold, state, print_, now=now)
    assert hold.expires_at is not None
    match call.action:
        case "settle":
            kept = settle(call, work, hold, call.body or SettleBody(), catalogue=catalogue, now=now)
        case "release":
            kept = _release(call, work, hold, catalogue=catalogue, now=now)
        case _:
            kept = _extend(call, work, hold, now=now)
    if call.action != "extend":
        work.closings[call.key] |= {"closing": kept, "closing_fingerprint": print_}
    work.used[call.key] = Used(print_, kept, closing=True)
    return _render(kept, now=now)


def settle(
    call: Closing,
    work: Work,
    hold: Found,
    body: SettleBody,
    *,
    catalogue: Catalogue,
    now: datetime,
) -> dict[str, Any]:
    """Charge what was really used and free the rest; past its time the usage still counts."""
    account = work.account
    actual = _actual(body, hold, catalogue)
    late = _state(hold, now) == "expired"
    _give_back(work, call.key, hold)
    allocation = {
        str(meter_id): take(
            account, work.deltas, meter_id=meter_id, quantity=quantity, at=now, hold=False
        )
        for meter_id, quantity in actual.items()
    }
    over = any(quantity > hold.items.get(str(m), 0) for m, quantity in actual.items())
    properties = hold.properties
    if body.properties is not None:
        properties = (properties or {}) | body.properties
    row = {
        "customer_id": account.customer_id,
        "id": call.key,
        "source": hold.source,
        "external_id": hold.external_id,
        "properties": properties,
        "fingerprint": hold.fingerprint,
        "gateway_id": catalogue.gateways[call.gateway_key].gateway_id,
        "api_key_id": hold.api_key_id,
        "from_hold": True,
        "late": late,
        "over_hold": over,
    }
    add_event(work, row, allocation, at=now, catalogue=catalogue)
    _close(work, call.key, "settled")
    return {
        "hold": _hold_body(call, "settled", hold),
        "event": ids.encode_owned("evt", customer_id=account.customer_id, key=call.key),
        "items": [
            {"meter": catalogue.meters_by_id[m].key, "quantity": quantity}
            for m, quantity in actual.items()
        ],
        "over_hold": over,
        "late": late,
        "balances": answers.balances_of(account, actual, at=now, catalogue=catalogue),
    }


def expire(work: Work, key: UUID, allocation: Mapping[str, Any]) -> None:
    """Give back a hold whose time is over."""
    for meter_id, part in allocation.items():
        give_back(work.account, work.deltas, meter_id=int(meter_id), allocation=part)
    work.expired.add(key)
    _close(work, key, "expired")


def _release(
    call: Closing, work: Work, hold: Found, *, catalogue: Catalogue, now: datetime
) -> dict[str, Any]:
    _give_back(work, call.key, hold)
    _close(work, call.key, "released")
    meter_ids = [int(meter_id) for meter_id in hold.items]
    return {
        "hold": _hold_body(call, "released", hold),
        "balances": answers.balances_of(work.account, meter_ids, at=now, catalogue=catalogue),
    }


def _extend(call: Closing, work: Work, hold: Found, *, now: datetime) -> dict[str, Any]:
    if _state(hold, now) == "expired":
        raise Problem("hold_expired", "The hold has expired; open a new one.")
    assert hold.expires_at is not None
    # Never shorter: a repeated or belated extension takes nothing away.
    expires_at = max(hold.expires_at, now + timedelta(seconds=call.ttl))
    _close(work, call.key, "open", expires_at=expires_at)
    work.forget = True  # the copy's next expiry may be this hold's old one
    body = _hold_body(call, "open", hold)
    return {"hold": body | {"expires_at": answers.stamp(expires_at)}}


def _repeat(call: Closing, hold: Found, state: str, print_: int, *, now: datetime) -> Answer:
    """Answer as the first time; raises Problem for another wish than the first."""
    if hold.closing_fingerprint == print_:
        return _render(hold.closing, now=now, replayed=True)
    if state == "released":
        raise Problem("hold_released", "The hold was released: report usage as an event.")
    if call.action == "settle":
        raise Problem("id_reused", "The hold was settled before with another quantity.")
    raise Problem("hold_settled", "The hold has been settled.")


def _read(call: Closing, hold: Found, *, now: datetime) -> Answer:
    body = _hold_body(call, _state(hold, now), hold)
    return Answer(200, {"hold": body | {"expires_at": answers.stamp(hold.expires_at)}})


def _state(hold: Found, now: datetime) -> str:
    assert hold.state is not None
    assert hold.expires_at is not None
    return "expired" if hold.state == "open" and hold.expires_at <= now else hold.state


def _content(call: Closing) -> object:
    if call.body is None:
        return None
    items = sorted((each.meter, each.quantity) for each in call.body.items or ())
    return [call.body.quantity, items, call.body.properties]


def _actual(body: SettleBody, hold: Found, catalogue: Catalogue) -> dict[int, int]:
    """Meter id -> quantity really used; raises Problem where it does not fit the hold."""
    if body.items is not None:
        if body.quantity is not None:
            raise Problem("parameter_invalid", "Give quantity or items, not both.", param="items")
        actual = {}
        for each in body.items:
            meter = catalogue.meters.get(each.meter)
            if meter is None or str(meter.id) not in hold.items:
                raise Problem("meter_unknown", f"The hold has no {each.meter!r}.", param="items")
            if each.quantity is None:
                raise Problem("parameter_missing", "Name a quantity.", param="items.quantity")
            actual[meter.id] = each.quantity
        return actual
    if body.quantity is None:
        raise Problem("parameter_missing", "Name the quantity really used.", param="quantity")
    if len(hold.items) != 1:
        raise Problem("parameter_missing", "The hold has several items: name each.", param="items")
    return {int(next(iter(hold.items))): body.quantity}


def _give_back(work: Work, key: UUID, hold: Found) -> None:
    if hold.state != "open" or key in work.expired:
        return  # what it reserved is free already
    for meter_id, part in hold.allocation.items():
        give_back(work.account, work.deltas, meter_id=int(meter_id), allocation=part)


def _close(work: Work, key: UUID, state: str, *, expires_at: datetime | None = None) -> None:
    work.closings[key] = {
        "customer_id": work.account.customer_id,
        "id": key,
        "state": state,
        "expires_at": expires_at,
        "closing": None,
        "closing_fingerprint": None,
    }


def _hold_body(call: Closing, state: str, hold: Found) -> dict[str, Any]:
    return {
        "id": ids.encode_owned("hold", customer_id=call.customer_id, key=call.key),
        "state": state,
        "customer": ids.encode("cus", call.customer_id),
        "opened_at": answers.stamp(hold.opened_at),
    }


def _render(kept: Mapping[str, Any], *, now: datetime, replayed: bool = False) -> Answer:
    headers = [answers.JSON, *answers.limit_headers(kept.get("balances", ()), now=now)]
    if replayed:
        headers.append(REPLAYED)
        kept = answers.ordered(kept)
    return Answer(200, kept, tuple(headers))
