"""What a backfill would change, before it is closed: usage, the next invoice, earlier periods.

It is really applied, to copies and in a transaction that is undone, so that nothing is foreseen
that would not come. Only who writes one of the very events meanwhile waits, and whoever it keeps
waiting, which is why there is a limit for each customer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import OperationalError, transaction

from accounts.domain.ids import decode
from billing.domain.invoices import InvoiceDraft
from billing.models import Invoice
from billing.queries.invoices import invoice_preview
from billing.queries.subscriptions import current_subscription
from metering.models import Backfill, Meter
from metering.operations.applying import PIECE, take_piece, void_piece
from metering.operations.backfilling import BackfillInvalid, BackfillNotOpen, BackfillUnknown
from metering.operations.trying_out import trials, tried_out
from metering.queries.backfills import meters_touched
from metering.queries.usage import usage_total

EVENTS_MAX = 5_000  # of a customer: a second or two


class TooMuchToForesee(Exception):
    """The backfill has more events of a customer than are tried out while calls go on."""


class BackfillBusy(Exception):
    """Somebody supplies, closes or previews the backfill at this moment."""


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


def foresee(
    backfill_id: int, *, customer_ids: Sequence[int] | None = None, now: datetime
) -> list[Foreseen]:
    """What closing the backfill now would change, customer by customer; nothing is changed.

    `customer_ids`: of these of its customers alone. Events are taken piece by piece, as closing
    takes them, and whoever closes or supplies meanwhile waits. Raises BackfillUnknown,
    BackfillNotOpen, BackfillBusy, BackfillInvalid, TooMuchToForesee, EventsGone, RangeInvalid.
    """
    with trials():
        backfill = _taken(backfill_id)
        if backfill is None:
            raise BackfillUnknown("There is no such backfill.")
        if backfill.status != Backfill.Status.OPEN:
            raise BackfillNotOpen("What was closed has its effect; only open ones are foreseen.")
        backfill.status, backfill.closing_at = Backfill.Status.CLOSING, now
        chosen = backfill.customers if customer_ids is None else sorted(set(customer_ids))
        if not set(chosen) <= set(backfill.customers):
            raise BackfillInvalid("customers", "the backfill is not of one of these customers")
        return [_foresee(backfill, each, now=now) for each in chosen]


def _taken(backfill_id: int) -> Backfill | None:
    found = Backfill.objects.filter(id=backfill_id)
    try:
        with transaction.atomic():
            return found.select_for_update(nowait=True).first()
    except OperationalError as error:
        raise BackfillBusy(
            "It is being supplied, closed or previewed at this moment: try again."
        ) from error


def _foresee(backfill: Backfill, customer_id: int, *, now: datetime) -> Foreseen:
    with tried_out(customer_id):
        meters = list(meters_touched(backfill, customer_id=customer_id))
        totals = _totals(backfill, customer_id, meters)
        before = _next_invoice(customer_id)
        events = 0
        for piece in (void_piece, take_piece):
            while done := piece(backfill, customer_id, now=now, limit=PIECE):
                events += done
                if events > EVENTS_MAX:
                    raise TooMuchToForesee(
                        f"Of one customer it has more than {EVENTS_MAX:,} events: supply them in "
                        "several backfills, or close it and revert it if its effect is not what it "
                        "should be."
                    )
        after = _next_invoice(customer_id)
        return Foreseen(
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
