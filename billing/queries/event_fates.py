"""Billing's half of a usage event's fate: the invoice line it is part of, or why there is none."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.db.models import Q

from billing.models import Invoice, InvoiceLine


@dataclass(frozen=True, slots=True)
class BilledFate:
    """The line that holds a meter's usage of an event's span; `line` None with `stopped` = why."""

    line: InvoiceLine | None
    stopped: str = ""


def billed_fate(
    customer_id: int, *, meter_id: int, occurred_at: datetime, received_at: datetime
) -> BilledFate:
    """Where usage of a meter at `occurred_at` was billed.

    An event that came after its period's invoice had been issued is looked for among later
    adjustments of that span.
    """
    held = Q(invoice__customer_id=customer_id, meter_id=meter_id)
    spans = InvoiceLine.objects.filter(
        held, start_at__lte=occurred_at, end_at__gt=occurred_at
    ).exclude(invoice__status=Invoice.Status.VOID)
    lines = spans.select_related("invoice").order_by("invoice__issued_at", "id")
    for line in lines:
        issued_at = line.invoice.issued_at
        if issued_at is None or received_at < issued_at:
            return BilledFate(line)
    if lines:
        return BilledFate(None, "It came after its invoice; the next one will adjust it.")
    return BilledFate(None, _why_not(customer_id, occurred_at=occurred_at))


def _why_not(customer_id: int, *, occurred_at: datetime) -> str:
    invoice = Invoice.objects.filter(
        customer_id=customer_id, period_start_at__lte=occurred_at, period_end_at__gt=occurred_at
    ).first()
    if invoice is None:
        return "Its period is not invoiced yet."
    return "The plan does not bill this meter."
