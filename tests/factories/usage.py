"""Usage of every kind of meter: an event and the batch that waits for the roll-up, no balances."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from datetime import UTC, date, datetime
from uuid import UUID

from accounts.models import Customer
from metering.domain.meters import Aggregation, dimensions_of
from metering.models import Meter, UsageBatch, UsageEvent
from metering.queries.meters import terms_of

_numbers = itertools.count(1 << 32)


def count_on(
    customer: Customer,
    meter: Meter,
    counted: int | str,
    *,
    at: datetime,
    properties: Mapping[str, object] | None = None,
    received_month: date | None = None,
) -> UsageEvent:
    """An event of that moment with its delta, as the gate writes them."""
    number, kept = next(_numbers), dict(properties or {})
    terms = terms_of(meter, at=at)
    hour = at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    delta: list[object] = [
        *(customer.id, meter.id, int(hour.timestamp()), dimensions_of(terms, kept)),
        *(0 if isinstance(counted, str) else counted, 1),
    ]
    match terms.aggregation:
        case Aggregation.LATEST:
            delta += [_microseconds(at), None]
        case Aggregation.UNIQUE:
            delta += [None, [str(counted)]]
        case _:
            pass
    UsageBatch.objects.create(created_at=at, customers=[customer.id], deltas=[delta])
    return UsageEvent.objects.create(
        customer_id=customer.id,
        id=UUID(int=number),
        # By default one whose partition is there.
        received_month=received_month or datetime.now(UTC).date().replace(day=1),
        source="test",
        external_id=f"event-{number}",
        type=meter.event_type,
        occurred_at=at,
        received_at=at,
        usage={str(meter.id): counted},
        properties=kept,
        fingerprint=number,
    )


def _microseconds(at: datetime) -> int:
    return int(at.timestamp()) * 1_000_000 + at.microsecond
