"""Usage events: lists of them, and the whole fate of one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from django.db import connection
from django.db.models import QuerySet

from metering import statements
from metering.domain.meters import dimensions_of
from metering.domain.windows import anchored_window
from metering.models import Balance, Entitlement, Hold, Meter, UsageEvent
from metering.queries.meters import terms_of


@dataclass(frozen=True, slots=True)
class WindowFate:
    """A window in which an event counted, and how its balance stands now."""

    window: str
    start_at: datetime
    end_at: datetime
    used: int
    grant_used: int


@dataclass(frozen=True, slots=True)
class MeterFate:
    """What an event counted as on one meter."""

    meter: Meter
    quantity: int
    bucket_at: datetime  # start of its hour
    dimensions: dict[str, str]
    rolled_up: bool  # false: its batch still waits
    windows: list[WindowFate]
    grants: dict[int, int]  # grant -> quantity burned of it


@dataclass(frozen=True, slots=True)
class EventFate:
    """All that became of one event."""

    event: UsageEvent
    meters: list[MeterFate]
    hold: Hold | None
    stopped: str  # where it stopped and why; empty: it went all the way


def events(
    customer_id: int,
    *,
    meter_id: int | None = None,
    start_at: datetime | None = None,
    end_at: datetime | None = None,
) -> QuerySet[UsageEvent]:
    """A customer's events that counted on a meter (or any), with `occurred_at` in a span."""
    found = UsageEvent.objects.filter(customer_id=customer_id)
    if meter_id is not None:
        found = found.filter(usage__has_key=str(meter_id))
    if start_at is not None:
        found = found.filter(occurred_at__gte=start_at)
    if end_at is not None:
        found = found.filter(occurred_at__lt=end_at)
    return found


def event_fate(customer_id: int, *, event_id: UUID) -> EventFate | None:
    """What became of an event: meters, buckets, balances, hold; None where there is no such."""
    event = UsageEvent.objects.filter(customer_id=customer_id, id=event_id).first()
    if event is None:
        return None
    meters = Meter.objects.in_bulk([int(key) for key in event.usage])
    fates = [
        _meter_fate(event, meters[int(key)], quantity=quantity)
        for key, quantity in sorted(event.usage.items())
    ]
    hold = Hold.objects.filter(customer_id=customer_id, id=event_id).first()
    return EventFate(event=event, meters=fates, hold=hold, stopped=_stopped(event, fates))


def _stopped(event: UsageEvent, fates: list[MeterFate]) -> str:
    if not fates:
        return f"No meter counts events of the type {event.type} with these properties."
    outside = [fate.meter.key for fate in fates if not fate.windows]
    if outside:
        return f"The customer has no entitlement to {', '.join(outside)} at that time."
    if not all(fate.rolled_up for fate in fates):
        return "It waits for the next roll-up."
    return ""


def _meter_fate(event: UsageEvent, meter: Meter, *, quantity: int) -> MeterFate:
    bucket_at = event.occurred_at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    paid_by = (event.paid_by or {}).get(str(meter.id), {})
    return MeterFate(
        meter=meter,
        quantity=quantity,
        bucket_at=bucket_at,
        dimensions=dimensions_of(terms_of(meter), event.properties or {}),
        rolled_up=not _waits(event, meter_id=meter.id, bucket_at=bucket_at),
        windows=_windows(event, meter_id=meter.id),
        grants={int(key): burned for key, burned in paid_by.get("grants", {}).items()},
    )


def _waits(event: UsageEvent, *, meter_id: int, bucket_at: datetime) -> bool:
    """Whether a batch that may hold the event is not rolled up yet."""
    with connection.cursor() as cursor:
        cursor.execute(
            statements.load("waiting_batches"),
            {
                "customer_id": event.customer_id,
                "meter_id": meter_id,
                "bucket_s": int(bucket_at.timestamp()),
                "received_at": event.received_at,
            },
        )
        (waits,) = cursor.fetchone()
    return bool(waits)


def _windows(event: UsageEvent, *, meter_id: int) -> list[WindowFate]:
    found = []
    for right in Entitlement.objects.filter(customer_id=event.customer_id, meter_id=meter_id):
        start_at, end_at = anchored_window(right.anchor_at, unit=right.window, at=event.occurred_at)
        if end_at <= right.starts_at or (right.ends_at is not None and right.ends_at <= start_at):
            continue
        row = Balance.objects.filter(
            customer_id=event.customer_id,
            meter_id=meter_id,
            window=right.window,
            start_at=start_at,
        ).first()
        used, grant_used = (0, 0) if row is None else (row.used, row.grant_used)
        found.append(WindowFate(right.window, start_at, end_at, used, grant_used))
    return found
