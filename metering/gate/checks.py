"""Deciding a check: peek, consume or hold."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from accounts.domain import ids
from metering.domain.burndown import take
from metering.domain.decisions import Denied, Item, decide
from metering.domain.meters import dimensions_of
from metering.domain.remedies import remedies
from metering.gate import answers
from metering.gate.answers import Answer
from metering.gate.calls import Call, Check, Used, Work
from metering.gate.catalogue import Catalogue
from metering.gate.store import Found
from metering.gate.wire import Problem, asked_items

REPLAYED = (b"farebox-replayed", b"true")


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the gate was set up with and decisions need."""

    base_url: str
    max_age: timedelta
    max_ahead: timedelta


def decide_check(
    call: Check,
    work: Work,
    *,
    catalogue: Catalogue,
    found: Mapping[tuple[int, UUID], Found],
    now: datetime,
    bounds: Bounds,
) -> Answer:
    """Answer one check and gather in `work` what it changes; raises Problem where asked wrongly."""
    account = work.account
    key_id = check_credential(call, work, now=now)
    body = call.body
    items = _items(call, catalogue)
    at = occurred_at(body.time, now=now, bounds=bounds)
    if call.key is None:
        return _peek(call, work, items, catalogue=catalogue, at=at, now=now, bounds=bounds)
    print_ = answers.fingerprint(
        body.mode, [(item.name, item.quantity) for item in items], body.properties
    )
    earlier = _earlier(call, work, found, print_)
    if earlier is not None:
        return _render(earlier, account.customer_id, call.key, now=now, replayed=True)
    decision = decide(account, items, now=at, offers=catalogue.offers)
    if isinstance(decision, Denied):
        # A repeat of what was admitted is no new call: the write finds out, and it is replayed.
        work.new_ids.append(call.key)
        return deny(call, work, decision, items, catalogue=catalogue, now=now, bounds=bounds)
    allocation = {
        str(item.meter_id): take(
            account,
            work.deltas,
            meter_id=item.meter_id,
            quantity=item.quantity,
            at=at,
            hold=body.mode == "hold",
        )
        for item in items
        if item.meter_id is not None
    }
    row: dict[str, Any] = {
        "customer_id": account.customer_id,
        "id": call.key,
        "source": call.source,
        "external_id": body.id,
        "properties": body.properties,
        "fingerprint": print_,
        "gateway_id": catalogue.gateways[call.gateway_key].gateway_id,
        "api_key_id": key_id,
    }
    meter_ids = [item.meter_id for item in items if item.meter_id is not None]
    kept: dict[str, Any] = {
        "mode": body.mode,
        "plan": account.plan_key,
        "balances": answers.balances_of(account, meter_ids, at=at, catalogue=catalogue),
    }
    if body.mode == "hold":
        expires_at = now + timedelta(seconds=body.ttl)
        kept["expires_at"] = answers.stamp(expires_at)
        quantities = {str(item.meter_id): item.quantity for item in items}
        row |= {"items": quantities, "allocation": allocation, "expires_at": expires_at}
        work.holds.append(row | {"answer": kept})
        if account.next_expiry_at is None or expires_at < account.next_expiry_at:
            account.next_expiry_at = expires_at
    else:
        add_event(work, row | {"answer": kept}, allocation, at=at, catalogue=catalogue)
    work.new_ids.append(call.key)
    work.used[call.key] = Used(print_, kept)
    return _render(kept, account.customer_id, call.key, now=now, replayed=False)


def add_event(
    work: Work,
    row: dict[str, Any],
    allocation: Mapping[str, Mapping[str, Any]],
    *,
    at: datetime,
    catalogue: Catalogue,
    type_: str | None = None,
) -> None:
    """Gather one usage event and the buckets it counts in."""
    properties = row["properties"] or {}
    for meter_id, part in allocation.items():
        meter = catalogue.meters_by_id[int(meter_id)]
        work.count(meter.id, at=at, dimensions=dimensions_of(meter, properties), n=part["q"])
    if type_ is None:
        first = next(iter(allocation), None)
        type_ = catalogue.meters_by_id[int(first)].event_type if first is not None else ""
    paid_by = {key: part for key, part in allocation.items() if "grants" in part}
    work.events.append(
        {"from_hold": False, "late": False, "over_hold": False, "answer": None}
        | row
        | {
            "type": type_,
            "occurred_at": at,
            "usage": {key: part["q"] for key, part in allocation.items()},
            "paid_by": paid_by or None,
        }
    )


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


def occurred_at(time: datetime | None, *, now: datetime, bounds: Bounds) -> datetime:
    """The moment something counts at; raises Problem for one too old or in the future."""
    if time is None:
        return now
    if time > now + bounds.max_ahead:
        ahead = int(bounds.max_ahead.total_seconds())
        raise Problem(
            "time_out_of_range", f"The time lies more than {ahead} s ahead.", param="time"
        )
    if time < now - bounds.max_age:
        raise Problem(
            "time_out_of_range",
            f"The time lies more than {bounds.max_age.days} days back.",
            param="time",
        )
    return time


def _items(call: Check, catalogue: Catalogue) -> list[Item]:
    items = []
    for asked in asked_items(call.body):
        meter = catalogue.meters.get(asked.meter)
        if meter is not None:
            quantity = 1 if asked.quantity is None else asked.quantity
            items.append(Item(asked.meter, meter.id, quantity))
            continue
        if asked.meter not in catalogue.features:
            near = catalogue.nearest(asked.meter)
            hint = f" Nearest: {', '.join(near)}." if near else ""
            raise Problem(
                "meter_unknown",
                f"There is no meter or feature {asked.meter!r}.{hint}",
                param="meter",
                nearest=near,
            )
        if asked.quantity is not None:
            raise Problem(
                "quantity_invalid",
                f"{asked.meter} is a feature: it takes no quantity.",
                param="quantity",
            )
        if call.body.mode != "peek":
            raise Problem(
                "parameter_invalid",
                f"{asked.meter} is a feature: it can only be peeked at.",
                param="mode",
            )
        items.append(Item(asked.meter, None, 0))
    return items


def _peek(
    call: Check,
    work: Work,
    items: Sequence[Item],
    *,
    catalogue: Catalogue,
    at: datetime,
    now: datetime,
    bounds: Bounds,
) -> Answer:
    account = work.account
    decision = decide(account, items, now=at, offers=catalogue.offers)
    if isinstance(decision, Denied):
        return deny(call, work, decision, items, catalogue=catalogue, now=now, bounds=bounds)
    kept: dict[str, Any] = {
        "mode": "peek",
        "plan": account.plan_key,
        "balances": [
            answers.balance_body(each, catalogue.meters_by_id[each.terms.meter_id].key)
            for each in decision.rooms
        ],
    }
    if decision.value is not None:
        kept["value"] = decision.value
    return _render(kept, account.customer_id, UUID(bytes=os.urandom(16)), now=now, replayed=False)


def _earlier(
    call: Check, work: Work, found: Mapping[tuple[int, UUID], Found], print_: int
) -> Mapping[str, Any] | None:
    """The answer that this id got before; raises Problem where it came with another body."""
    assert call.key is not None
    used = work.used.get(call.key)
    if used is not None and not used.closing:
        first, kept = used.fingerprint, used.answer
    else:
        row = found.get((work.account.customer_id, call.key))
        if row is None:
            return None
        if row.state is not None:
            assert row.fingerprint is not None
            first, kept = row.fingerprint, row.answer
        else:
            assert row.event_fingerprint is not None
            first, kept = row.event_fingerprint, row.event_answer
    if first != print_ or kept is None:
        raise Problem(
            "id_reused", f"The id {call.body.id!r} was used before with another body.", param="id"
        )
    return kept


def _render(
    kept: Mapping[str, Any], customer_id: int, key: UUID, *, now: datetime, replayed: bool
) -> Answer:
    decision = ids.encode_owned("dec", customer_id=customer_id, key=key)
    body: dict[str, Any] = {
        "allowed": True,
        "decision": decision,
        "mode": kept["mode"],
        "customer": ids.encode("cus", customer_id),
        "plan": kept["plan"],
    }
    if "expires_at" in kept:
        hold = ids.encode_owned("hold", customer_id=customer_id, key=key)
        body["hold"] = {"id": hold, "expires_at": kept["expires_at"]}
    body["balances"] = answers.ordered(kept["balances"]) if replayed else kept["balances"]
    if "value" in kept:
        body["value"] = kept["value"]
    headers = [answers.JSON, *answers.identity(customer_id, decision)]
    headers += answers.limit_headers(kept["balances"], now=now)
    if replayed:
        headers.append(REPLAYED)
    return Answer(200, body, tuple(headers))


def deny(
    call: Call,
    work: Work,
    denied: Denied,
    items: Sequence[Item],
    *,
    catalogue: Catalogue,
    now: datetime,
    bounds: Bounds,
) -> Answer:
    """Answer a denial and gather it, coalesced by customer, meter, code, key and minute."""
    account = work.account
    digest = call.reference.digest
    api_key_id = account.keys[digest].id if digest is not None else None
    key = answers.digest_uuid(
        "denial", denied.item.name, denied.code, str(api_key_id), now.strftime("%Y%m%d%H%M")
    )
    decision = ids.encode_owned("dec", customer_id=account.customer_id, key=key)
    ways_out = remedies(account, denied, items, now=now, offers=catalogue.offers)
    answer = answers.denial(
        account,
        denied,
        ways_out,
        decision=decision,
        base_url=bounds.base_url,
        now=now,
        catalogue=catalogue,
    )
    seen = work.denials.get(key)
    if seen is not None:
        seen["count"] += 1
    else:
        work.denials[key] = {
            "customer_id": account.customer_id,
            "id": key,
            "code": denied.code,
            "meter": denied.item.name,
            "api_key_id": api_key_id,
            "gateway_id": catalogue.gateways[call.gateway_key].gateway_id,
            "count": 1,
            "requested": denied.item.quantity,
            "problem": answer.body,
        }
    return answer
