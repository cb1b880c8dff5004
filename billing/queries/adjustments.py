"""What late events and corrections change about invoices that were issued before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Max

from billing.domain.invoices import LineDraft, LineKind
from billing.domain.periods import Period
from billing.models import BilledUsage, Invoice
from billing.queries.coupons import discount_adjustments
from billing.queries.rated_periods import RatedUsage, rated_usage
from billing.queries.spans import PeriodBasis, spans
from metering.queries.corrections import corrected_since

_SPARE = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Correction:
    """A span whose usage or amount is no longer what was billed; `line` None: of no value."""

    invoice: Invoice
    billed: BilledUsage
    rated: RatedUsage
    line: LineDraft | None


def corrections(invoice: Invoice) -> list[Correction]:
    """Everything that must be put right on `invoice`, from the customer's earlier ones.

    Looks back as far as an event that arrived since the invoice before may lie, and as far as
    events were corrected or supplied by an operator since then.
    """
    oldest = invoice.period_start_at - timedelta(days=settings.EVENT_MAX_AGE_DAYS) - _SPARE
    put_right = corrected_since(invoice.customer_id, at=_last_issued_at(invoice) - _SPARE)
    if put_right is not None:
        oldest = min(oldest, put_right)
    return [
        correction
        for earlier in _earlier(invoice, since=oldest)
        for correction in _corrections_of(earlier)
    ]


def adjustment_lines(found: Sequence[Correction]) -> list[LineDraft]:
    """What goes on the next invoice for these corrections, with what coupons make of them."""
    lines = [each.line for each in found if each.line is not None]
    invoices = {each.invoice.pk: each.invoice for each in found}
    return [*lines, *discount_adjustments(lines, invoices=invoices.values())]


def _last_issued_at(invoice: Invoice) -> datetime:
    last = Invoice.objects.filter(
        customer_id=invoice.customer_id, currency=invoice.currency, issued_at__isnull=False
    ).aggregate(at=Max("issued_at"))["at"]
    return last or invoice.period_start_at


def _earlier(invoice: Invoice, *, since: datetime) -> Iterator[Invoice]:
    issued = Invoice.objects.exclude(status__in=(Invoice.Status.DRAFT, Invoice.Status.VOID))
    yield from issued.filter(
        customer_id=invoice.customer_id,
        currency=invoice.currency,
        subscription__isnull=False,
        period_end_at__gt=since,
    ).order_by("period_start_at", "id")


def _corrections_of(invoice: Invoice) -> Iterator[Correction]:
    assert invoice.subscription_id is not None
    period = Period(invoice.period_start_at, invoice.period_end_at)
    billed = {
        (row.meter_id, row.start_at): row
        for row in BilledUsage.objects.filter(
            subscription_id=invoice.subscription_id,
            start_at__gte=period.start_at,
            start_at__lt=period.end_at,
        )
    }
    if not billed:
        return
    basis = PeriodBasis.from_json(invoice.basis)
    found = spans(invoice.subscription_id, period=period)
    for rated in rated_usage(invoice.customer_id, spans=found, basis=basis):
        row = billed[rated.meter.id, rated.span.period.start_at]
        if (row.quantity, row.amount) != (rated.used, rated.amount):
            yield Correction(invoice, row, rated, _line(invoice, row=row, rated=rated))


def _line(invoice: Invoice, *, row: BilledUsage, rated: RatedUsage) -> LineDraft | None:
    if rated.amount == row.amount:
        return None
    late = rated.used - row.quantity
    detail = dict(rated.line.detail) | {
        "adjusts": invoice.public_id,
        "used_before": row.quantity,
        "used_after": rated.used,
        "billed_after": rated.billed,
        "amount_before": row.amount,
        "amount_after": rated.amount,
    }
    return LineDraft(
        LineKind.ADJUSTMENT,
        f"{rated.meter.key}: {late:+,} after {invoice.number} was issued",
        rated.amount - row.amount,
        rated.span.period,
        meter=rated.meter.key,
        quantity=late,
        detail=detail,
    )
