"""What a backfill would change, before it is closed: usage, the next invoice, earlier periods.

It is really applied, in a transaction that is undone, so that nothing is foreseen that would not
come. A customer's calls wait for that long, which is why there is a limit.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from django.db import transaction

from accounts.domain.ids import decode
from billing.domain.invoices import InvoiceDraft
from billing.models import Invoice
from billing.queries.invoices import invoice_preview
from billing.queries.subscriptions import current_subscription
from metering.models import Backfill, Meter
from metering.operations.applying import apply_piece
from metering.operations.backfilling import BackfillNotOpen, BackfillUnknown
from metering.queries.backfills import meters_touched
from metering.queries.usage import usage_total

EVENTS_MAX = 5_000
_AT_ONCE = 1_000


class TooMuchToForesee(Exception):
    """The backfill has more events than are tried out while calls wait."""


@dataclass(frozen=True, slots=True)
class ForeseenUsage:
    """A meter's usage in the backfill's range."""

    meter: Meter
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class ForeseenAdjustment:
    """What an invoice that was issued before would be put right by, on the next one."""

    invoice: Invoice
    meter: str  # empty: what coupons make of it
    amount: int  # minor units, on top of what would be adjusted without the backfill
    currency: str


@dataclass(frozen=True, slots=True)
class Foreseen:
    """What changes for one customer. `before` and `after`: the next invoice; None without one."""

    customer_id: int
    events: int
    usage: list[ForeseenUsage]
    before: InvoiceDraft | None
    after: InvoiceDraft | None
    closed: list[ForeseenAdjustment]


def foresee(backfill_id: int, *, now: datetime) -> list[Foreseen]:
    """What closing the backfill now would change, customer by customer; nothing is changed.

    Raises BackfillUnknown, BackfillNotOpen, TooMuchToForesee, EventsGone, RangeInvalid.
    """
    backfill = Backfill.objects.filter(id=backfill_id).first()
    if backfill is None:
        raise BackfillUnknown("There is no such backfill.")
    found: list[Foreseen] = []
    for each in backfill.customers:
        room = EVENTS_MAX - sum(one.events for one in found)
        found.append(_foresee(backfill.id, each, room=room, now=now))
    return found


def _foresee(backfill_id: int, customer_id: int, *, room: int, now: datetime) -> Foreseen:
    with transaction.atomic():
        backfill = Backfill.objects.select_for_update().get(id=backfill_id)
        if backfill.status != Backfill.Status.OPEN:
            raise BackfillNotOpen("What was closed has its effect; only open ones are foreseen.")
        meters = list(meters_touched(backfill, customer_id=customer_id))
        totals = _totals(backfill, customer_id, meters)
        before = _next_invoice(customer_id)
        backfill.status, backfill.closing_at = Backfill.Status.CLOSING, now
        backfill.save()
        events = 0
        while done := apply_piece(backfill, customer_id, now=now, limit=_AT_ONCE):
            events += done
            if events > room:
                raise TooMuchToForesee(
                    f"It has more than {EVENTS_MAX:,} events: split it, or close it and revert it"
                    " if its effect is not what it should be."
                )
        after = _next_invoice(customer_id)
        found = Foreseen(
            customer_id=customer_id,
            events=events,
            usage=[
                ForeseenUsage(meter, was, comes)
                for meter, was, comes in zip(
                    meters, totals, _totals(backfill, customer_id, meters), strict=True
                )
            ],
            before=before,
            after=after,
            closed=_closed(before, after),
        )
        transaction.set_rollback(True)
    return found


def _totals(backfill: Backfill, customer_id: int, meters: Iterable[Meter]) -> list[int]:
    return [
        usage_total(
            customer_id, meter_id=meter.id, start_at=backfill.start_at, end_at=backfill.end_at
        )
        for meter in meters
    ]


def _next_invoice(customer_id: int) -> InvoiceDraft | None:
    subscription = current_subscription(customer_id)
    return None if subscription is None else invoice_preview(subscription)


def _closed(before: InvoiceDraft | None, after: InvoiceDraft | None) -> list[ForeseenAdjustment]:
    if before is None or after is None:
        return []
    was, comes = _adjustments(before), _adjustments(after)
    moved = {
        key: comes.get(key, 0) - was.get(key, 0)
        for key in {*was, *comes}
        if comes.get(key, 0) != was.get(key, 0)
    }
    invoices = {
        each.public_id: each
        for each in Invoice.objects.filter(id__in=[_number(key[0]) for key in moved])
    }
    found = [
        ForeseenAdjustment(invoices[public_id], meter, amount, after.currency)
        for (public_id, meter), amount in moved.items()
    ]
    return sorted(found, key=lambda each: (each.invoice.period_start_at, each.meter))


def _adjustments(draft: InvoiceDraft) -> dict[tuple[str, str], int]:
    """(invoice, meter) -> what is adjusted."""
    found: dict[tuple[str, str], int] = {}
    for line in draft.lines:
        if "adjusts" in line.detail:
            key = (str(line.detail["adjusts"]), line.meter or "")
            found[key] = found.get(key, 0) + line.amount
    return found


def _number(public_id: str) -> int:
    return decode(Invoice.PREFIX, public_id)
