"""Counting what was reported: usage that happened is counted, past a limit too."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from accounts.domain import ids
from metering.domain.burndown import take
from metering.domain.meters import QuantityInvalid, matches, quantity_of, whole_quantity
from metering.gate import answers
from metering.gate.calls import Closing, Fate, Reported, Used, Work
from metering.gate.catalogue import Catalogue
from metering.gate.checks import Bounds, add_event, check_credential, occurred_at
from metering.gate.holds import settle
from metering.gate.store import Found
from metering.gate.wire import EventBody, ItemBody, Problem, SettleBody, aware

QUANTITY = "quantity"


def count_events(
    call: Reported,
    work: Work,
    *,
    catalogue: Catalogue,
    found: Mapping[tuple[int, UUID], Found],
    now: datetime,
    bounds: Bounds,
) -> None:
    """Give every event its own fate; one that is refused touches no other."""
    try:
        key_id = check_credential(call, work, now=now)
    except Problem as refused:
        call.refuse(refused)
        return
    for place, event, key in call.events:
        try:
            outcome = _count(
                call,
                event,
                key,
                work,
                catalogue=catalogue,
                found=found,
                now=now,
                bounds=bounds,
                key_id=key_id,
            )
        except Problem as refused:
            call.fates[place] = Fate("rejected", refused)
        else:
            call.fates[place] = outcome


def _count(
    call: Reported,
    event: EventBody,
    key: UUID,
    work: Work,
    *,
    catalogue: Catalogue,
    found: Mapping[tuple[int, UUID], Found],
    now: datetime,
    bounds: Bounds,
    key_id: int | None,
) -> Fate:
    account = work.account
    data = dict(event.data or {})
    print_ = answers.fingerprint(event.type, data)
    hold_id = data.pop("hold", None)
    if hold_id is not None:
        return _settle(call, event, data, hold_id, work, catalogue=catalogue, found=found, now=now)
    at = occurred_at(aware(event.time, param="time"), now=now, bounds=bounds)
    used = work.used.get(key)
    row = found.get((account.customer_id, key))
    if used is not None or row is not None:
        first = used.fingerprint if used is not None else _first_print(row)
        if first == print_:
            return Fate("duplicate")
        raise Problem("id_reused", f"The id {event.id!r} was used before with another body.")
    usage = _usage(event, data, catalogue)
    allocation = {
        str(meter_id): take(
            account, work.deltas, meter_id=meter_id, quantity=quantity, at=at, hold=False
        )
        for meter_id, quantity in usage.items()
    }
    add_event(
        work,
        {
            "customer_id": account.customer_id,
            "id": key,
            "source": event.source,
            "external_id": event.id,
            "properties": data or None,
            "fingerprint": print_,
            "gateway_id": catalogue.gateways[call.gateway_key].gateway_id,
            "api_key_id": key_id,
        },
        allocation,
        at=at,
        catalogue=catalogue,
        type_=event.type,
    )
    work.new_ids.append(key)
    work.used[key] = Used(print_, None)
    return Fate("accepted")


def _usage(event: EventBody, data: Mapping[str, Any], catalogue: Catalogue) -> dict[int, int]:
    """Meter id -> quantity of one event; raises Problem where it cannot be counted."""
    known = catalogue.meters_by_type.get(event.type)
    if known is None:
        near = [name for name in catalogue.meters_by_type if name.startswith(event.type[:4])][:3]
        hint = f" Known types like it: {', '.join(near)}." if near else ""
        raise Problem("meter_unknown", f"No meter counts events of type {event.type!r}.{hint}")
    matched = [meter for meter in known if matches(meter, type=event.type, properties=data)]
    try:
        if QUANTITY in data and not any(m.value_property == QUANTITY for m in matched):
            quantity = whole_quantity(data[QUANTITY], param="data.quantity")
            return {meter.id: quantity for meter in matched}
        return {meter.id: quantity_of(meter, data) for meter in matched}
    except QuantityInvalid as error:
        raise Problem("quantity_invalid", error.detail, param=error.param) from error


def _settle(
    call: Reported,
    event: EventBody,
    data: dict[str, Any],
    hold_id: object,
    work: Work,
    *,
    catalogue: Catalogue,
    found: Mapping[tuple[int, UUID], Found],
    now: datetime,
) -> Fate:
    """An event that names a hold settles it with what it counts as."""
    account = work.account
    customer_id, key = hold_key(hold_id)
    hold = found.get((customer_id, key))
    if customer_id != account.customer_id or hold is None or hold.state is None:
        raise Problem("not_found", "The customer has no such hold.", param="data.hold")
    if key in work.used or hold.state == "settled":
        return Fate("duplicate")
    if hold.state == "released":
        raise Problem("hold_released", "The hold was released.", param="data.hold")
    usage = {
        catalogue.meters_by_id[meter_id].key: quantity
        for meter_id, quantity in _usage(event, data, catalogue).items()
        if str(meter_id) in hold.items
    }
    if not usage:
        raise Problem("meter_unknown", "The event counts on no meter of the hold.")
    body = SettleBody(
        items=[ItemBody(name, quantity) for name, quantity in usage.items()],
        properties=data or None,
    )
    closing = Closing(
        gateway_key=call.gateway_key,
        reference=call.reference,
        deadline=call.deadline,
        done=call.done,
        action="settle",
        customer_id=customer_id,
        key=key,
        body=body,
    )
    kept = settle(closing, work, hold, body, catalogue=catalogue, now=now)
    print_ = answers.fingerprint("settle", [None, sorted(usage.items()), body.properties])
    work.closings[key] |= {"closing": kept, "closing_fingerprint": print_}
    work.used[key] = Used(print_, kept, closing=True)
    return Fate("accepted")


def hold_key(hold_id: object) -> tuple[int, UUID]:
    """The customer and key of a hold's public id; raises Problem."""
    try:
        return ids.decode_owned("hold", hold_id if isinstance(hold_id, str) else "")
    except ids.IdMalformed as error:
        raise Problem("not_found", "That is not a hold's id.", param="data.hold") from error


def _first_print(row: Found | None) -> int | None:
    if row is None:
        return None
    return row.event_fingerprint if row.event_found else row.fingerprint
