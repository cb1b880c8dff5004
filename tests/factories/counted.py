"""Usage events of any meter, counted as the gate counts them, and what their books must say."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from django.db import transaction

from accounts.models import Customer
from accounts.operations.versions import bump
from metering.domain.aggregates import total_of
from metering.domain.counting import event_key, fingerprint, usage_of
from metering.domain.meters import Aggregation
from metering.domain.spans import month_of
from metering.domain.windows import add_months
from metering.models import Balance, Correction, Meter, UsageEvent, WindowMember
from metering.operations.checking import broken_invariants
from metering.operations.recounting import Recounting
from metering.operations.rolling_up import roll_up
from metering.queries.meters import all_terms
from metering.queries.usage import usage_total
from tests.factories.metering import NOW

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
_numbers = itertools.count(1)


def happen(
    customer: Customer,
    *meters: Meter,
    at: datetime = NOW,
    as_gate: bool = True,
    external_id: str = "",
    months_ago: int = 0,
    **properties: Any,
) -> UsageEvent:
    """An event of the meters' type. `as_gate`: who pays is written as short as the gate does.

    `months_ago`: in which month it is kept as received, 0 or 1.
    """
    external_id = external_id or f"happened-{next(_numbers)}"
    type_ = meters[0].event_type
    usage = usage_of(all_terms(meters), type=type_, properties=properties, at=at)
    kept = {str(meter_id): counted for meter_id, counted in usage.items()}
    with transaction.atomic():
        bump(customer.id)
        books = Recounting(customer.id, moments=[(meter_id, at) for meter_id in usage])
        paid_by = books.change(at=at, before={}, after=kept, properties=properties)
        if as_gate and paid_by is not None:
            paid_by = {key: {"grants": each["grants"]} for key, each in paid_by.items()}
        event = UsageEvent.objects.create(
            customer_id=customer.id,
            id=event_key("test", external_id),
            # A partition that exists.
            received_month=add_months(month_of(datetime.now(UTC)), -months_ago).date(),
            source="test",
            external_id=external_id,
            type=type_,
            occurred_at=at,
            received_at=at,
            usage=kept,
            properties=properties or None,
            paid_by=paid_by,
            fingerprint=fingerprint(type_, properties),
        )
        books.write(now=at)
    return event


def standing(customer: Customer, meter: Meter) -> list[tuple[datetime, int | str]]:
    """What the customer's events count as on the meter, told from events and corrections alone."""
    number = str(meter.id)
    fixes = {
        (each.event_id, each.received_month): each.usage
        for each in Correction.objects.filter(customer_id=customer.id).order_by("number")
    }
    usages = (
        (event.occurred_at, fixes.get((event.id, event.received_month), event.usage))
        for event in UsageEvent.objects.filter(customer_id=customer.id)
    )
    return [(at, usage[number]) for at, usage in usages if number in usage]


def books_of(customer: Customer, *meters: Meter) -> dict[str, int]:
    """What the meters' longest windows say, after every book was compared with the events."""
    found = {}
    for rolled in (False, True):
        if rolled:
            roll_up(limit=100)
        faults = broken_invariants(now=NOW, customer_ids=[customer.id], since=LONG_AGO)
        assert faults == []
        for meter in meters:
            kind = Aggregation(meter.aggregation)
            for row in Balance.objects.filter(customer_id=customer.id, meter=meter):
                first = LONG_AGO if row.window == "lifetime" else row.start_at
                here = [each for each in standing(customer, meter) if first <= each[0] < row.end_at]
                total = total_of(kind, here)
                assert row.used == total.quantity, (meter.key, row.window, row.start_at)
                assert row.latest_at == total.latest_at
                members = WindowMember.objects.filter(
                    customer_id=customer.id, meter=meter, window=row.window, start_at=row.start_at
                )
                assert set(members.values_list("member", flat=True)) == total.members
                span: Mapping[str, Any] = {"start_at": first, "end_at": row.end_at}
                assert usage_total(customer.id, meter_id=meter.id, **span) == total.quantity
                found[meter.key] = row.used
    return found
