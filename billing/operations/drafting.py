"""Drafts: the one invoice of a period, before it is issued."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from accounts.domain.ids import decode
from billing.domain.invoices import InvoiceDraft, LineDraft
from billing.models import Invoice, InvoiceLine, PlanVersion, Subscription
from billing.queries.rated_periods import rated_period
from billing.queries.spans import billed_spans, current_basis, unbilled_period
from metering.models import Meter


def draft_period(
    subscription: Subscription, *, end_at: datetime, interim: bool = False, now: datetime
) -> Invoice:
    """Make the draft of the current period, which ends at `end_at`; the customer is locked.

    `interim`: of its usage up to there, while it goes on. The draft that is there already is
    returned as it is.
    """
    basis = replace(current_basis(subscription), interim=interim)
    period = unbilled_period(subscription, end_at=end_at)
    invoice, made = Invoice.objects.exclude(status=Invoice.Status.VOID).get_or_create(
        subscription=subscription,
        period_start_at=period.start_at,
        defaults={
            "customer_id": subscription.customer_id,
            "currency": subscription.version.currency,
            "period_end_at": period.end_at,
            "basis": basis.to_json(),
            "created_at": now,
        },
    )
    if made:
        found = billed_spans(subscription.id, period=period, basis=basis)
        rated = rated_period(invoice.customer_id, spans=found, period=period, basis=basis)
        write_lines(invoice, draft=rated.draft)
    return invoice


def write_lines(invoice: Invoice, *, draft: InvoiceDraft) -> list[InvoiceLine]:
    """Replace the lines of an invoice that is not issued yet, and its total."""
    keys = {line.meter for line in draft.lines if line.meter is not None}
    meters = {meter.key: meter for meter in Meter.objects.filter(key__in=keys)}
    lines = [
        InvoiceLine(
            invoice=invoice,
            position=position,
            kind=line.kind,
            description=line.description[:500],
            meter=meters[line.meter] if line.meter else None,
            version_id=_version_id(line),
            quantity=line.quantity,
            amount=line.amount,
            start_at=line.period.start_at,
            end_at=line.period.end_at,
            detail=dict(line.detail),
        )
        for position, line in enumerate(draft.lines, start=1)
    ]
    invoice.lines.all().delete()
    InvoiceLine.objects.bulk_create(lines)
    invoice.total = draft.total
    invoice.save(update_fields=["total"])
    return lines


def _version_id(line: LineDraft) -> int | None:
    named = line.detail.get("version")
    return None if named is None else decode(PlanVersion.PREFIX, str(named))
