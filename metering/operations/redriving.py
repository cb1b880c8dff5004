"""Refused events that were kept are tried again, or given up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import DataError, IntegrityError, transaction

from accounts.models import Customer
from accounts.operations.auditing import audit
from accounts.operations.versions import bump
from accounts.queries import customer_by_reference
from metering.domain.counting import (
    TimeBounds,
    TimeOutOfRange,
    event_key,
    fingerprint,
    usage_of,
)
from metering.domain.meters import QuantityInvalid
from metering.domain.prices import PriceUnknown
from metering.domain.shapes.tokens import with_our_names
from metering.models import Hold, Meter, QuarantinedEvent, UsageEvent
from metering.operations.recounting import Recounting
from metering.operations.rerolling import RangeInvalid
from metering.queries.meters import all_terms
from metering.queries.usage import EventsGone

SUBJECT = "quarantine"


@dataclass(frozen=True, slots=True)
class Redriven:
    """What became of the events that were tried; `refused` ones stay, with their new reason."""

    counted: int = 0
    duplicates: int = 0
    refused: int = 0


class _Refused(Exception):
    """The event still cannot be counted."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


def redrive(
    *,
    event_ids: Sequence[int] | None = None,
    limit: int,
    bounds: TimeBounds,
    actor: str,
    now: datetime,
) -> Redriven:
    """Try the chosen events again, or those not tried since `now`, the longest waiting first.

    Each in a transaction of its own: one that fails again keeps its place with the new reason, and
    touches no other. An event that was counted meanwhile is a duplicate; it counts once however
    often and by however many this is called.
    """
    waiting = QuarantinedEvent.objects.order_by("last_at", "id")
    if event_ids is None:
        waiting = waiting.filter(last_at__lt=now)
    else:
        waiting = waiting.filter(id__in=event_ids)
    outcomes = [
        _redrive_one(number, bounds=bounds, now=now)
        for number in waiting.values_list("id", flat=True)[:limit]
    ]
    tally = Redriven(*(outcomes.count(each) for each in ("counted", "duplicates", "refused")))
    if tally.counted or tally.duplicates:
        audit(
            actor=actor,
            action="quarantine.redrive",
            subject=SUBJECT,
            changes={"counted": tally.counted, "duplicates": tally.duplicates},
            now=now,
        )
    return tally


def discard(*, event_ids: Sequence[int], actor: str, now: datetime) -> int:
    """Give events up for good; returns how many there were."""
    with transaction.atomic():
        deleted, _ = QuarantinedEvent.objects.filter(id__in=event_ids).delete()
        if deleted:
            audit(
                actor=actor,
                action="quarantine.discard",
                subject=SUBJECT,
                changes={"events": deleted},
                now=now,
            )
    return deleted


def forget_quarantined(*, now: datetime, kept: timedelta) -> int:
    """Delete what was first refused longer ago than that; returns how many rows there were."""
    deleted, _ = QuarantinedEvent.objects.filter(first_at__lt=now - kept).delete()
    return deleted


def _redrive_one(number: int, *, bounds: TimeBounds, now: datetime) -> str:
    try:
        with transaction.atomic():
            found = QuarantinedEvent.objects.select_for_update(skip_locked=True, of=("self",))
            row = found.filter(id=number).first()
            if row is None:
                return "taken"  # by somebody else at this moment
            counted = _count(row, bounds=bounds, now=now)
            row.delete()
            return "counted" if counted else "duplicates"
    except _Refused as error:
        why = (error.code, error.detail)
    except (EventsGone, RangeInvalid) as error:
        why = ("events_gone", str(error))
    except (DataError, IntegrityError) as error:
        why = ("parameter_invalid", f"The database does not take it: {error}")
    QuarantinedEvent.objects.filter(id=number).update(code=why[0], detail=why[1][:500], last_at=now)
    return "refused"


def _count(row: QuarantinedEvent, *, bounds: TimeBounds, now: datetime) -> bool:
    """Count it as the gate would have; False where it was counted meanwhile."""
    customer = row.customer if row.customer_id else customer_by_reference(row.subject)
    if customer is None:
        raise _Refused("customer_unknown", "There is no such customer.")
    at = _occurred_at(row, bounds=bounds, now=now)
    bump(customer.id)  # from here on nobody else writes this customer's metering, or erases it
    if Customer.objects.filter(id=customer.id, erased_at__isnull=False).exists():
        raise _Refused("customer_unknown", "There is no such customer.")
    key = event_key(row.source, row.external_id)
    print_ = fingerprint(row.type, row.properties)
    earlier = UsageEvent.objects.filter(customer_id=customer.id, id=key).first()
    if earlier is not None and earlier.fingerprint == print_:
        return False
    if earlier is not None or Hold.objects.filter(customer_id=customer.id, id=key).exists():
        raise _Refused("id_reused", "The id was used before with another body.")
    _write(row, customer, key=key, print_=print_, at=at, now=now)
    return True


def _write(
    row: QuarantinedEvent,
    customer: Customer,
    *,
    key: UUID,
    print_: int,
    at: datetime,
    now: datetime,
) -> None:
    """Write the event and all that follows. The caller has raised the customer's version."""
    properties = dict(with_our_names(row.properties))
    usage = _usage(row, properties, at=at)
    books = Recounting(customer.id, moments=[(meter_id, at) for meter_id in usage])
    kept: dict[str, Any] = {str(meter_id): quantity for meter_id, quantity in usage.items()}
    paid_by = books.change(at=at, before={}, after=kept, properties=properties)
    UsageEvent.objects.create(
        customer_id=customer.id,
        id=key,
        received_month=now.date().replace(day=1),
        source=row.source,
        external_id=row.external_id,
        type=row.type,
        occurred_at=at,
        received_at=now,
        usage=kept,
        properties=properties or None,
        paid_by=paid_by,
        fingerprint=print_,
        gateway_id=row.gateway_id,
    )
    books.write(now=now)


def _occurred_at(row: QuarantinedEvent, *, bounds: TimeBounds, now: datetime) -> datetime:
    at = row.occurred_at or row.first_at
    try:
        bounds.check(at, reported_at=row.first_at, now=now)
    except TimeOutOfRange as error:
        raise _Refused("time_out_of_range", str(error)) from error
    return at


def _usage(
    row: QuarantinedEvent, properties: dict[str, object], *, at: datetime
) -> dict[int, int | str]:
    terms = all_terms(Meter.objects.select_related("price_table").filter(archived_at=None))
    if not any(each.event_type == row.type for each in terms):
        raise _Refused("meter_unknown", f"No meter counts events of type {row.type!r}.")
    try:
        return usage_of(terms, type=row.type, properties=properties, at=at)
    except (QuantityInvalid, PriceUnknown) as error:
        code = "quantity_invalid" if isinstance(error, QuantityInvalid) else "price_unknown"
        raise _Refused(code, f"{error.detail.rstrip('.')}.") from error
