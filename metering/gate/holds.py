"""Closing a hold: settle, release, extend; and giving back the ones whose time is over."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from operator import itemgetter
from typing import Any

from accounts.domain import ids
from metering.domain.account import HoldState
from metering.domain.burndown import give_back, use
from metering.domain.told import BalanceTold
from metering.gate import answers
from metering.gate.answers import REPLAYED, Answer
from metering.gate.calls import Closing, Used, Work
from metering.gate.catalogue import Catalogue
from metering.gate.checks import add_event
from metering.gate.copied import Found
from metering.gate.rows import ClosingRow, EventRow
from metering.gate.wire import Problem, SettleBody


def decide_closing(
    call: Closing,
    work: Work,
    *,
    catalogue: Catalogue,
    found: Mapping[tuple[int, str], Found],
    now: datetime,
) -> Answer:
    """Answer one closing of a hold and gather in `work` what it changes."""
    hold = hold_of(work, call.key, found)
    if hold is None:
        raise Problem("not_found", "There is no hold with this id.")
    if call.action == "read":
        return _read(call, hold, now=now)
    print_ = answers.fingerprint(call.action, _content(call))
    twin = work.used.get(call.key)
    if twin is not None and twin.fingerprint == print_ and twin.closing is not None:
        return _render(twin.closing, replayed=True)
    if twin is not None:
        raise Problem("id_in_use", "This hold is being closed by another call of the same moment.")
    state = _state(hold, now)
    if state in ("settled", "released"):
        return _repeat(call, hold, state, print_)
    match call.action:
        case "settle":
            body, balances = settle(
                call, work, hold, call.body or SettleBody(), catalogue=catalogue, now=now
            )
        case "release":
            body, balances = _release(call, work, hold, catalogue=catalogue, now=now)
        case _:
            body, balances = _extend(call, work, hold, now=now), ()
    said = answers.encode(body)
    if call.action != "extend":
        close(work, call.key, closing=said, fingerprint=print_)
    work.used[call.key] = Used(print_, closing=said)
    return _render(said, balances, now=now)


def hold_of(work: Work, key: str, found: Mapping[tuple[int, str], Found]) -> HoldState | None:
    """A hold as it stands: looked up, or known to be open."""
    row = found.get((work.account.customer_id, key))
    if row is not None:
        return row.hold
    return work.account.holds.get(key)


def close(work: Work, key: str, *, closing: bytes, fingerprint: int) -> None:
    """Note what the closing of a hold was answered, for its repeats."""
    row = work.rare.closings[key]
    row.closing, row.fingerprint = closing.decode(), fingerprint


def settle(
    call: Closing,
    work: Work,
    hold: HoldState,
    body: SettleBody,
    *,
    catalogue: Catalogue,
    now: datetime,
) -> tuple[dict[str, Any], Sequence[BalanceTold]]:
    """Charge what was really used and free the rest; past its time the usage still counts."""
    account = work.account
    actual = _actual(body, hold, catalogue)
    free(work, call.key, hold)
    paid_by: dict[str, Any] = {}
    for meter_id, quantity in actual.items():
        burned = use(account, work.deltas, meter_id=meter_id, quantity=quantity, at=now)
        if burned:
            paid_by[str(meter_id)] = {"grants": burned}
    properties = hold.properties
    if body.properties is not None:
        properties = (properties or {}) | body.properties
    row = EventRow(
        account.customer_id,
        call.key,
        hold.source,
        hold.external_id,
        {str(meter_id): quantity for meter_id, quantity in actual.items()},
        hold.fingerprint,
        work.origin(
            catalogue.meters_by_id[next(iter(actual))].event_type if actual else "",
            catalogue.gateways[call.gateway_key].gateway_id,
            hold.api_key_id,
        ),
        properties=properties,
        paid_by=paid_by or None,
        from_hold=True,
    )
    add_event(work, row, at=now, catalogue=catalogue)
    return settled_by(work, hold, actual, row, key=call.key, catalogue=catalogue, now=now)


def free(work: Work, key: str, hold: HoldState) -> None:
    """Give back what a hold reserves: it is settled, and what was used is taken anew."""
    _give_back(work, key, hold)
    _close(work, key, "settled")


def settled_by(
    work: Work,
    hold: HoldState,
    actual: Mapping[int, int],
    event: EventRow,
    *,
    key: str,
    catalogue: Catalogue,
    now: datetime,
) -> tuple[dict[str, Any], Sequence[BalanceTold]]:
    """What the settling of a hold by an event is answered, and its balances; the event says how.

    `actual`: what was used of the hold's meters, which is taken already.
    """
    customer_id = work.account.customer_id
    event.late = _state(hold, now) == "expired"
    event.over_hold = any(n > hold.items.get(str(meter), 0) for meter, n in actual.items())
    balances = answers.balances_of(work.account, actual, at=now, catalogue=catalogue)
    return {
        "hold": _hold_body(customer_id, key, "settled", hold),
        "event": answers.owned("evt", customer_id, event.id),
        "items": [
            {"meter": catalogue.meters_by_id[m].key, "quantity": quantity}
            for m, quantity in actual.items()
        ],
        "over_hold": event.over_hold,
        "late": event.late,
        "balances": balances,
    }, balances


def expire(work: Work, key: str, allocation: Mapping[str, Any]) -> None:
    """Give back a hold whose time is over."""
    for meter_id, part in allocation.items():
        give_back(work.account, work.deltas, meter_id=int(meter_id), allocation=part)
    work.rare.expired.add(key)
    _close(work, key, "expired")


def _release(
    call: Closing, work: Work, hold: HoldState, *, catalogue: Catalogue, now: datetime
) -> tuple[dict[str, Any], Sequence[BalanceTold]]:
    _give_back(work, call.key, hold)
    _close(work, call.key, "released")
    meter_ids = [int(meter_id) for meter_id in hold.items]
    balances = answers.balances_of(work.account, meter_ids, at=now, catalogue=catalogue)
    return {
        "hold": _hold_body(call.customer_id, call.key, "released", hold),
        "balances": balances,
    }, balances


def _extend(call: Closing, work: Work, hold: HoldState, *, now: datetime) -> dict[str, Any]:
    if _state(hold, now) == "expired":
        raise Problem("hold_expired", "The hold has expired; open a new one.")
    # Never shorter: a repeated or belated extension takes nothing away.
    expires_at = max(hold.expires_at, now + timedelta(seconds=call.ttl))
    _close(work, call.key, "open", expires_at=expires_at)
    work.forget = True  # the copy's next expiry may be this hold's old one
    body = _hold_body(call.customer_id, call.key, "open", hold)
    return {"hold": body | {"expires_at": answers.stamp(expires_at)}}


def _repeat(call: Closing, hold: HoldState, state: str, print_: int) -> Answer:
    """Answer as the first time; raises Problem for another wish than the first."""
    if hold.closing_fingerprint == print_ and hold.closing is not None:
        return _render(hold.closing.encode(), replayed=True)
    if state == "released":
        raise Problem("hold_released", "The hold was released: report usage as an event.")
    if call.action == "settle":
        raise Problem("id_reused", "The hold was settled before with another quantity.")
    raise Problem("hold_settled", "The hold has been settled.")


def _read(call: Closing, hold: HoldState, *, now: datetime) -> Answer:
    body = _hold_body(call.customer_id, call.key, _state(hold, now), hold)
    return Answer(200, {"hold": body | {"expires_at": answers.stamp(hold.expires_at)}})


def _state(hold: HoldState, now: datetime) -> str:
    return "expired" if hold.state == "open" and hold.expires_at <= now else hold.state


def _content(call: Closing) -> object:
    if call.body is None:
        return None
    # By meter alone: one that is named twice, or without a quantity, is refused further on.
    items = sorted(
        ((each.meter, each.quantity) for each in call.body.items or ()), key=itemgetter(0)
    )
    return [call.body.quantity, items, call.body.properties]


def _actual(body: SettleBody, hold: HoldState, catalogue: Catalogue) -> dict[int, int]:
    """Meter id -> quantity really used; raises Problem where it does not fit the hold."""
    if body.items is not None:
        if body.quantity is not None:
            raise Problem("parameter_invalid", "Give quantity or items, not both.", param="items")
        held = {catalogue.meters_by_id[int(each)].key: int(each) for each in hold.items}
        actual: dict[int, int] = {}
        for each in body.items:
            meter_id = held.get(each.meter)
            if meter_id is None:
                raise _not_held(each.meter, [*held])
            if each.quantity is None:
                raise Problem("parameter_missing", "Name a quantity.", param="items.quantity")
            if meter_id in actual:
                raise Problem("parameter_invalid", "Name each meter once.", param="items")
            actual[meter_id] = each.quantity
        return actual
    if body.quantity is None:
        raise Problem("parameter_missing", "Name the quantity really used.", param="quantity")
    if len(hold.items) != 1:
        raise Problem("parameter_missing", "The hold has several items: name each.", param="items")
    return {int(next(iter(hold.items))): body.quantity}


def _not_held(name: str, held: Sequence[str]) -> Problem:
    near = difflib.get_close_matches(name, held, n=3, cutoff=0.5)
    hint = f"Nearest: {', '.join(near)}." if near else f"It has {', '.join(held)}."
    return Problem(
        "meter_unknown", f"The hold has no {name!r}. {hint}", param="items.meter", nearest=near
    )


def _give_back(work: Work, key: str, hold: HoldState) -> None:
    if hold.state != "open" or key in work.rare.expired:
        return  # what it reserved is free already
    for meter_id, part in hold.allocation.items():
        give_back(work.account, work.deltas, meter_id=int(meter_id), allocation=part)


def _close(work: Work, key: str, state: str, *, expires_at: datetime | None = None) -> None:
    work.rare.closings[key] = ClosingRow(work.account.customer_id, key, state, expires_at)


def _hold_body(customer_id: int, key: str, state: str, hold: HoldState) -> dict[str, Any]:
    return {
        "id": answers.owned("hold", customer_id, key),
        "state": state,
        "customer": ids.encode("cus", customer_id),
        "opened_at": answers.stamp(hold.opened_at),
    }


def _render(
    said: bytes,
    balances: Sequence[BalanceTold] = (),
    *,
    now: datetime | None = None,
    replayed: bool = False,
) -> Answer:
    headers = [answers.JSON]
    if now is not None:
        headers += answers.limit_headers(balances, now=now)
    if replayed:
        headers.append(REPLAYED)
    return Answer(200, said, tuple(headers))
