"""Deciding a check: peek, consume or hold."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from metering.domain.account import Account, HoldState
from metering.domain.aggregates import Counted
from metering.domain.burndown import Deltas, Room, take, use
from metering.domain.decisions import Allowed, Denied, Item, decide
from metering.domain.meters import (
    dimensions_of,
)
from metering.domain.readings import Reading, take_reading
from metering.domain.remedies import remedies
from metering.domain.told import BalanceTold, Told, keep, recall
from metering.gate import answers
from metering.gate.answers import Admitted, Answer
from metering.gate.calls import Call, Check, Used, Work
from metering.gate.catalogue import Catalogue
from metering.gate.copied import Found
from metering.gate.items import Bounds, items_of, occurred_at
from metering.gate.rows import DenialRow, EventRow, HoldRow
from metering.gate.wire import Problem

NOTHING: Mapping[str, str] = {}


def decide_check(
    call: Check,
    work: Work,
    *,
    catalogue: Catalogue,
    found: Mapping[tuple[int, str], Found],
    now: datetime,
    bounds: Bounds,
) -> Answer | Admitted:
    """Answer one check and gather in `work` what it changes; raises Problem where asked wrongly."""
    account = work.account
    key_id = check_credential(call, work, now=now)
    body, key = call.body, call.key
    print_ = 0
    if key is not None:
        # Of what was asked, not of what it comes to: prices, meters and the clock may have changed
        # since, and a repeat is a repeat all the same.
        asked = [(each.meter, 1 if each.quantity is None else each.quantity) for each in call.asked]
        print_ = answers.fingerprint(body.mode, asked, body.properties)
        earlier = _earlier(call, work, found, print_)
        if earlier is not None:
            return Admitted(earlier, account.customer_id, key, now, replayed=True)
    try:
        at = now if body.time is None else occurred_at(body.time, now=now, bounds=bounds)
        items = items_of(call, catalogue, at=at)
    except Problem:
        if key is not None:
            work.new_ids.append(key)  # perhaps a repeat: the write finds out, as for a denial
        raise
    if key is None:
        return _peek(call, work, items, catalogue=catalogue, at=at, now=now, bounds=bounds)
    offers = catalogue.offers_in(account.currency)
    decision = decide(account, items, now=now, at=at, offers=offers)
    if isinstance(decision, Denied):
        # A repeat of what was admitted is no new call: the write finds out, and it is replayed.
        work.new_ids.append(key)
        return deny(call, work, decision, items, catalogue=catalogue, at=at, now=now, bounds=bounds)
    if body.mode == "hold":
        told = _hold(call, work, items, print_, key_id, catalogue=catalogue, now=now)
    else:
        told = _consume(
            call, work, items, decision, print_, key_id=key_id, catalogue=catalogue, at=at, now=now
        )
    work.new_ids.append(key)
    work.used[key] = Used(print_, told)
    return Admitted(told, account.customer_id, key, now)


def _consume(
    call: Check,
    work: Work,
    items: Sequence[Item],
    decision: Allowed,
    print_: int,
    *,
    key_id: int | None,
    catalogue: Catalogue,
    at: datetime,
    now: datetime,
) -> Told:
    account, body = work.account, call.body
    assert call.key is not None
    usage: dict[str, Counted] = {}
    paid_by: dict[str, Any] = {}
    for item in items:
        assert item.meter_id is not None
        burned = count(account, work.deltas, item.meter_id, item.reading or item.quantity, at=at)
        name = str(item.meter_id)
        usage[name] = item.quantity if item.reading is None else item.reading.value
        if burned:
            paid_by[name] = {"grants": burned}
    balances = _balances_after(account, items, decision.rooms, catalogue, at=at)
    told = Told(body.mode, account.plan_key, balances)
    row = EventRow(
        account.customer_id,
        call.key,
        call.source,
        body.id or "",
        usage,
        print_,
        work.origin(
            catalogue.meters_by_id[items[0].meter_id or 0].event_type,
            catalogue.gateways[call.gateway_key].gateway_id,
            key_id,
        ),
        occurred_at=None if at is now else at,
        properties=body.properties,
        paid_by=paid_by or None,
        answer=keep(told),
    )
    add_event(work, row, at=at, catalogue=catalogue)
    return told


def _hold(
    call: Check,
    work: Work,
    items: Sequence[Item],
    print_: int,
    key_id: int | None,
    *,
    catalogue: Catalogue,
    now: datetime,
) -> Told:
    account, body = work.account, call.body
    assert call.key is not None
    allocation = {
        str(item.meter_id): take(
            account,
            work.deltas,
            meter_id=item.meter_id,
            quantity=item.quantity,
            at=now,
            hold=True,
        )
        for item in items
        if item.meter_id is not None
    }
    expires_at = now + timedelta(seconds=body.ttl)
    balances = _balances(account, items, catalogue, at=now)
    told = Told(body.mode, account.plan_key, balances, answers.stamp(expires_at))
    hold = HoldState(
        state="open",
        items={str(item.meter_id): item.quantity for item in items},
        allocation=allocation,
        properties=body.properties,
        opened_at=now,
        expires_at=expires_at,
        source=call.source,
        external_id=body.id or "",
        fingerprint=print_,
        answer=keep(told),
        api_key_id=key_id,
    )
    row = HoldRow(
        account.customer_id,
        call.key,
        hold.source,
        hold.external_id,
        hold.items,
        allocation,
        expires_at,
        print_,
        hold.answer,
        catalogue.gateways[call.gateway_key].gateway_id,
        api_key_id=key_id,
        properties=body.properties,
    )
    work.rare.holds.append(row)
    work.rare.opened[call.key] = hold
    if account.next_expiry_at is None or expires_at < account.next_expiry_at:
        account.next_expiry_at = expires_at
    return told


def _balances_after(
    account: Account,
    items: Sequence[Item],
    rooms: Sequence[Room],
    catalogue: Catalogue,
    *,
    at: datetime,
) -> list[BalanceTold]:
    """The balances after a use. Most calls are of one right, and need not measure it again."""
    if len(rooms) == 1 and len(items) == 1:
        item, before = items[0], rooms[0]
        alone = item.reading is None and len(account.terms[before.terms.meter_id]) == 1
        if alone and not before.terms.unlimited:
            return [answers.balance_told_after(before, item.name, item.quantity)]
    return _balances(account, items, catalogue, at=at)


def _balances(
    account: Account, items: Sequence[Item], catalogue: Catalogue, *, at: datetime
) -> list[BalanceTold]:
    meter_ids = [item.meter_id for item in items if item.meter_id is not None]
    return answers.balances_of(account, meter_ids, at=at, catalogue=catalogue)


def count(
    account: Account, deltas: Deltas, meter_id: int, value: int | Reading, *, at: datetime
) -> dict[str, int] | None:
    """Count usage of that moment; return what was burned of grants, by id."""
    if isinstance(value, Reading):
        taken = take_reading(account, deltas, meter_id=meter_id, reading=value, at=at)
        return taken.get("grants")
    return use(account, deltas, meter_id=meter_id, quantity=value, at=at)


def add_event(work: Work, row: EventRow, *, at: datetime, catalogue: Catalogue) -> None:
    """Gather one usage event and the buckets it counts in."""
    for meter_id, value in row.usage.items():
        meter = catalogue.meter_at(int(meter_id), at)
        dimensions = dimensions_of(meter, row.properties or {}) if meter.dimensions else NOTHING
        work.count(meter, value, at=at, dimensions=dimensions)
    row.pack()
    work.events.append(row)


def check_credential(call: Call, work: Work, *, now: datetime) -> int | None:
    """The id of the api key a call came with, if any; raises Problem where it is no longer good."""
    if call.reference.digest is None:
        return None
    key = work.account.keys[call.reference.digest]
    if key.revoked_at is not None and key.revoked_at <= now:
        raise Problem("key_revoked", "The customer's key was revoked.", param="key")
    if key.expires_at is not None and key.expires_at <= now:
        raise Problem("key_expired", "The customer's key has expired.", param="key")
    return key.id


def _peek(
    call: Check,
    work: Work,
    items: Sequence[Item],
    *,
    catalogue: Catalogue,
    at: datetime,
    now: datetime,
    bounds: Bounds,
) -> Answer | Admitted:
    account = work.account
    offers = catalogue.offers_in(account.currency)
    decision = decide(account, items, now=now, at=at, offers=offers)
    if isinstance(decision, Denied):
        return deny(call, work, decision, items, catalogue=catalogue, at=at, now=now, bounds=bounds)
    balances = [
        answers.balance_told(each, catalogue.meters_by_id[each.terms.meter_id].key)
        for each in decision.rooms
    ]
    told = Told("peek", account.plan_key, balances, value=decision.value)
    # Nothing is kept under it, so it need not be hard to guess, and asking the system costs.
    return Admitted(told, account.customer_id, f"{random.getrandbits(128):032x}", now)


def _earlier(
    call: Check, work: Work, found: Mapping[tuple[int, str], Found], print_: int
) -> Told | None:
    """The answer that this id got before; raises Problem where it came with another body."""
    assert call.key is not None
    first: int | None
    told: Told | None
    used = work.used.get(call.key)
    if used is not None and used.closing is None:
        first, told = used.fingerprint, used.told
    elif not found or (row := found.get((work.account.customer_id, call.key))) is None:
        return None
    else:
        first, kept = row.first_answer()
        told = recall(kept) if kept else None
    if first != print_ or told is None:
        raise Problem(
            "id_reused", f"The id {call.body.id!r} was used before with another body.", param="id"
        )
    return told


def deny(
    call: Call,
    work: Work,
    denied: Denied,
    items: Sequence[Item],
    *,
    catalogue: Catalogue,
    at: datetime,
    now: datetime,
    bounds: Bounds,
) -> Answer:
    """Answer a denial and gather it, coalesced by customer, meter, code, key and minute."""
    account = work.account
    digest = call.reference.digest
    api_key_id = account.keys[digest].id if digest is not None else None
    key = answers.digest_id(
        "denial", denied.item.name, denied.code, str(api_key_id), now.strftime("%Y%m%d%H%M")
    )
    decision = answers.owned("dec", account.customer_id, key)
    offers = catalogue.offers_in(account.currency)
    closed = work.rare.closings  # in this very batch: the copy still knows them
    ways_out = remedies(account, denied, items, now=now, at=at, offers=offers, closed=closed)
    answer = answers.denial(
        account,
        denied,
        ways_out,
        decision=decision,
        base_url=bounds.base_url,
        now=now,
        catalogue=catalogue,
    )
    seen = work.rare.denials.get(key)
    if seen is not None:
        seen.count += 1
        seen.last = answer.body
    else:
        work.rare.denials[key] = DenialRow(
            account.customer_id,
            key,
            denied.code,
            denied.item.name,
            api_key_id,
            catalogue.gateways[call.gateway_key].gateway_id,
            denied.item.quantity,
            answer.body,
        )
    return answer
