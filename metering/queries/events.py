"""Usage events: lists of them, and the whole fate of one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from django.db import connection
from django.db.models import QuerySet

from accounts.domain import ids
from metering import statements
from metering.domain.counting import event_key
from metering.domain.meters import dimensions_of
from metering.domain.windows import anchored_window
from metering.models import (
    Balance,
    Correction,
    Entitlement,
    Hold,
    Meter,
    QuarantinedEvent,
    StagedEvent,
    UsageEvent,
)
from metering.models.hours import occurred_before, occurred_from
from metering.queries.corrections import InForce, as_in_force, corrections_of
from metering.queries.meters import terms_of
from metering.queries.quarantine import quarantined_of


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
    """What an event counts as on one meter, as it is in force."""

    meter: Meter
    counted: int | str  # a quantity, or the member of a unique meter
    bucket_at: datetime  # start of its hour
    dimensions: dict[str, str]
    rolled_up: bool  # false: its batch still waits
    windows: list[WindowFate]
    grants: dict[int, int]  # grant -> quantity burned of it


@dataclass(frozen=True, slots=True)
class EventFate:
    """All that became of one event."""

    standing: InForce
    meters: list[MeterFate]
    hold: Hold | None
    corrections: list[Correction]  # the first one first; the last one is in force
    backfill_id: int | None  # by which it was supplied
    quarantined: QuarantinedEvent | None  # that it was refused before, or was again
    stopped: str  # where it stopped and why; empty: it went all the way

    @property
    def event(self) -> UsageEvent:
        """The event as it was reported."""
        return self.standing.event


def events(
    customer_id: int,
    *,
    meter_id: int | None = None,
    event_type: str | None = None,
    source: str | None = None,
    external_id: str | None = None,
    start_at: datetime | None = None,
    end_at: datetime | None = None,
) -> QuerySet[UsageEvent]:
    """A customer's events with `occurred_at` in a span, and what else is asked for.

    `meter_id`: that were reported as usage of the meter, whatever corrections say. With source and
    external id it is one look-up; with the id alone every event of the span is looked at.
    """
    found = UsageEvent.objects.filter(customer_id=customer_id)
    if meter_id is not None:
        found = found.filter(usage__has_key=str(meter_id))
    if event_type is not None:
        found = found.filter(type=event_type)
    if source is not None:
        found = found.filter(source=source)
    if external_id is not None:
        found = found.filter(external_id=external_id)
        if source is not None:
            found = found.filter(id=event_key(source, external_id))
    if start_at is not None:
        found = found.filter(occurred_from(start_at))
    if end_at is not None:
        found = found.filter(occurred_before(end_at))
    return found


def event_fate(customer_id: int, *, event_id: UUID) -> EventFate | None:
    """What became of an event: meters, buckets, balances, hold; None where there is no such.

    Of an id that came again after its repeats are known it is the last event.
    """
    found = UsageEvent.objects.filter(customer_id=customer_id, id=event_id)
    event = found.order_by("-received_month").first()
    if event is None:
        return None
    (standing,) = as_in_force(customer_id, events=[event])
    meters = Meter.objects.in_bulk([int(key) for key in standing.usage])
    fates = [
        _meter_fate(standing, meters[int(key)], counted=counted)
        for key, counted in sorted(standing.usage.items())
    ]
    return EventFate(
        standing=standing,
        meters=fates,
        hold=_hold_of(event),
        corrections=list(corrections_of(event)),
        backfill_id=_backfill_of(event),
        quarantined=quarantined_of(event.customer).filter(event_id=event.id).first(),
        stopped=_stopped(standing, fates),
    )


def _hold_of(event: UsageEvent) -> Hold | None:
    """The hold that an event settled or named: of the same id, or of the one in its `hold`."""
    named, key = (event.properties or {}).get("hold"), event.id
    if not event.from_hold and isinstance(named, str):
        try:
            key = ids.decode_owned(Hold.PREFIX, named)[1]
        except ids.IdMalformed:
            return None  # a property of that name, of a time when it meant nothing
    return Hold.objects.filter(customer_id=event.customer_id, id=key).first()


def _backfill_of(event: UsageEvent) -> int | None:
    """Those who add an event do so at the moment it is received."""
    rows = StagedEvent.objects.filter(
        customer_id=event.customer_id, id=event.id, applied_at=event.received_at
    )
    return rows.values_list("backfill_id", flat=True).first()


def _stopped(standing: InForce, fates: list[MeterFate]) -> str:
    if standing.void:
        assert standing.correction is not None
        return f"It was voided: {standing.correction.reason}"
    if not fates:
        return f"No meter counts events of the type {standing.event.type} with these properties."
    outside = [fate.meter.key for fate in fates if not fate.windows]
    if outside:
        return f"The customer has no entitlement to {', '.join(outside)} at that time."
    if not all(fate.rolled_up for fate in fates):
        return "It waits for the next roll-up."
    return ""


def _meter_fate(standing: InForce, meter: Meter, *, counted: int | str) -> MeterFate:
    event = standing.event
    bucket_at = event.occurred_at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    paid_by = (standing.paid_by or {}).get(str(meter.id), {})
    return MeterFate(
        meter=meter,
        counted=counted,
        bucket_at=bucket_at,
        dimensions=dimensions_of(terms_of(meter, at=event.occurred_at), standing.properties or {}),
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
