"""Meters, rights, usage and holds for tests, written as the gate writes them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import F

from accounts.models import Customer, CustomerVersion
from accounts.operations.versions import bump
from metering.domain.account import Account
from metering.domain.burndown import Deltas, take
from metering.domain.meters import dimensions_of
from metering.domain.told import Told, keep
from metering.models import (
    Balance,
    Entitlement,
    Grant,
    Hold,
    Meter,
    UsageBatch,
    UsageEvent,
)
from metering.queries.meters import terms_of
from metering.queries.standing import account_of

NOW = datetime(2026, 11, 15, 12, 30, tzinfo=UTC)
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
_numbers = itertools.count(1)


def make_customer(**fields: Any) -> Customer:
    """A customer with its version row."""
    number = next(_numbers)
    given: dict[str, Any] = {"name": f"Customer {number}", "created_at": NOW, **fields}
    customer = Customer.objects.create(**given)
    CustomerVersion.objects.create(customer=customer)
    return customer


def make_meter(**fields: Any) -> Meter:
    """A meter that sums `tokens` of its own event type."""
    key = fields.pop("key", f"meter.{next(_numbers)}")
    given: dict[str, Any] = {
        "key": key,
        "event_type": f"{key}.event",
        "aggregation": "sum",
        "value_property": "tokens",
        "created_at": NOW,
        **fields,
    }
    if given["aggregation"] == "count":
        given["value_property"] = ""
    return Meter.objects.create(**given)


def make_entitlement(customer: Customer, meter: Meter, **fields: Any) -> Entitlement:
    """A metered right by calendar month, standing since 2026 began."""
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    given: dict[str, Any] = {
        "kind": "metered",
        "window": "month",
        "anchor_at": begin,
        "starts_at": begin,
        "included": 1_000,
        "source": "sub_test",
        **fields,
    }
    return Entitlement.objects.create(customer_id=customer.id, meter=meter, **given)


def report(
    customer: Customer,
    meter: Meter,
    quantity: int,
    *,
    at: datetime = NOW,
    received_at: datetime | None = None,
    properties: Mapping[str, object] | None = None,
    external_id: str | None = None,
) -> UsageEvent:
    """One usage event with its batch, balances and grants, in one transaction."""
    number = next(_numbers)
    received_at = received_at or at
    kept = {"tokens": quantity, **(properties or {})}
    with transaction.atomic():
        bump(customer.id)
        account, deltas = account_of(customer.id, now=_LONG_AGO), Deltas()
        paid_by = take(account, deltas, meter_id=meter.id, quantity=quantity, at=at, hold=False)
        _write(account, deltas)
        event = UsageEvent.objects.create(
            customer_id=customer.id,
            id=UUID(int=number),
            received_month=datetime.now(UTC).date().replace(day=1),  # a partition that exists
            source="test",
            external_id=external_id or f"event-{number}",
            type=meter.event_type,
            occurred_at=at,
            received_at=received_at,
            usage={str(meter.id): quantity},
            properties=kept,
            paid_by={str(meter.id): paid_by} if "grants" in paid_by else None,
            fingerprint=number,
        )
        bucket_at = at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        dimensions = dimensions_of(terms_of(meter), kept)
        delta = [
            customer.id,
            meter.id,
            int(bucket_at.timestamp()),
            dimensions,
            quantity,
            1,
        ]
        UsageBatch.objects.create(created_at=received_at, deltas=[delta])
    return event


def open_hold(
    customer: Customer,
    meter: Meter,
    quantity: int,
    *,
    at: datetime = NOW,
    ttl: timedelta = timedelta(minutes=5),
) -> Hold:
    """An open hold with its allocation reserved."""
    number = next(_numbers)
    with transaction.atomic():
        bump(customer.id)
        account, deltas = account_of(customer.id, now=at), Deltas()
        allocation = take(account, deltas, meter_id=meter.id, quantity=quantity, at=at, hold=True)
        _write(account, deltas)
        return Hold.objects.create(
            customer_id=customer.id,
            id=UUID(int=number),
            source="test",
            external_id=f"hold-{number}",
            items={str(meter.id): quantity},
            allocation={str(meter.id): allocation},
            opened_at=at,
            expires_at=at + ttl,
            fingerprint=number,
            answer=keep(Told("hold", "", ())),
        )


def _write(account: Account, deltas: Deltas) -> None:
    for (meter_id, window, start_at), change in deltas.balances.items():
        counted = {
            "used": change.used,
            "grant_used": change.grant_used,
            "held": change.held,
            "grant_held": change.grant_held,
        }
        place: dict[str, Any] = {
            "customer_id": account.customer_id,
            "meter_id": meter_id,
            "window": window,
            "start_at": start_at,
        }
        row = Balance.objects.filter(**place)
        if not row.update(**{name: F(name) + value for name, value in counted.items()}):
            Balance.objects.create(**place, end_at=change.end_at, **counted)
    for grant_id, (used, held) in deltas.grants.items():
        Grant.objects.filter(customer_id=account.customer_id, id=grant_id).update(
            used=F("used") + used, held=F("held") + held
        )
