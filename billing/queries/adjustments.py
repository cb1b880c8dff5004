"""What late events and corrections change about invoices that were issued before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Max

from billing.domain.invoices import LineDraft, LineKind
from billing.domain.periods import Period
from billing.models import BilledUsage, Invoice
from billing.queries.coupons import discount_adjustments
from billing.queries.peers import Peers
from billing.queries.rated_periods import RatedUsage, Terms, rated_usage
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


def corrections(invoice: Invoice, *, peers: Peers) -> list[Correction]:
    """`corrections_of` one."""
    return corrections_of([invoice], peers=peers)[0]


def corrections_of(invoices: Sequence[Invoice], *, peers: Peers) -> list[list[Correction]]:
    """For each of `invoices`, everything that must be put right on it from the customer's earlier
    ones; of each customer one at most.

    Looks back as far as an event that arrived since the invoice before may lie, and as far as
    events were corrected or supplied by an operator since then.
    """
    earlier = _earlier(invoices, since=_oldest(invoices, peers=peers))
    issued = [each for found in earlier for each in found]
    rows = _billed(issued)
    rerated = [each for each in issued if rows[each.pk]]
    rated = rated_usage([_terms(each, peers=peers) for each in rerated])
    changed = {
        each.pk: list(_corrections_of(each, billed=rows[each.pk], rated=usage))
        for each, usage in zip(rerated, rated, strict=True)
    }
    return [[one for each in found for one in changed.get(each.pk, ())] for found in earlier]


def adjustment_lines(found: Sequence[Correction], *, peers: Peers) -> list[LineDraft]:
    """What goes on the next invoice for these corrections, with what coupons make of them."""
    lines = [each.line for each in found if each.line is not None]
    invoices = {each.invoice.pk: each.invoice for each in found}
    return [*lines, *discount_adjustments(lines, invoices=invoices.values(), peers=peers)]


def _oldest(invoices: Sequence[Invoice], *, peers: Peers) -> list[datetime]:
    """How far each of them looks back."""
    last = [
        peers.ask(_last_issued_of, (each.customer_id, each.currency)) or each.period_start_at
        for each in invoices
    ]
    put_right = corrected_since(
        {each.customer_id: at - _SPARE for each, at in zip(invoices, last, strict=True)}
    )
    reach = timedelta(days=settings.EVENT_MAX_AGE_DAYS) + _SPARE
    late = [each.period_start_at - reach for each in invoices]
    return [
        min(at, put_right.get(each.customer_id, at))
        for each, at in zip(invoices, late, strict=True)
    ]


def _last_issued_of(customer_ids: Sequence[int]) -> dict[tuple[int, str], datetime]:
    """When the last invoice of a customer was issued, by currency."""
    rows = Invoice.objects.filter(
        customer_id__in=customer_ids, subscription__isnull=False, issued_at__isnull=False
    )
    found = rows.values_list("customer_id", "currency").annotate(at=Max("issued_at")).order_by()
    return {(customer_id, currency): at for customer_id, currency, at in found}


def _earlier(invoices: Sequence[Invoice], *, since: Sequence[datetime]) -> list[list[Invoice]]:
    """For each of them the issued ones of periods that end after its `since`."""
    issued = Invoice.objects.exclude(status__in=(Invoice.Status.DRAFT, Invoice.Status.VOID))
    rows = issued.filter(
        customer_id__in=[each.customer_id for each in invoices],
        subscription__isnull=False,
        period_end_at__gt=min(since),
    ).order_by("period_start_at", "id")
    found: dict[tuple[int, str], list[Invoice]] = {}
    for each in rows:
        found.setdefault((each.customer_id, each.currency), []).append(each)
    return [
        [one for one in found.get((each.customer_id, each.currency), ()) if one.period_end_at > at]
        for each, at in zip(invoices, since, strict=True)
    ]


def _billed(invoices: Sequence[Invoice]) -> dict[int, dict[tuple[int, datetime], BilledUsage]]:
    """What each of them billed, by meter and where the span begins."""
    if not invoices:
        return {}
    rows = BilledUsage.objects.filter(
        subscription_id__in={each.subscription_id for each in invoices},
        start_at__gte=min(each.period_start_at for each in invoices),
    )
    of: dict[int, list[BilledUsage]] = {}
    for row in rows:
        of.setdefault(row.subscription_id, []).append(row)
    return {
        each.pk: {
            (row.meter_id, row.start_at): row
            for row in of.get(each.subscription_id or 0, ())
            if each.period_start_at <= row.start_at < each.period_end_at
        }
        for each in invoices
    }


def _terms(invoice: Invoice, *, peers: Peers) -> Terms:
    assert invoice.subscription_id is not None
    period = Period(invoice.period_start_at, invoice.period_end_at)
    found = spans(invoice.subscription_id, period=period, peers=peers)
    return Terms(invoice.customer_id, found, PeriodBasis.from_json(invoice.basis))


def _corrections_of(
    invoice: Invoice,
    *,
    billed: Mapping[tuple[int, datetime], BilledUsage],
    rated: Sequence[RatedUsage],
) -> Iterator[Correction]:
    for each in rated:
        row = billed[each.meter.id, each.span.period.start_at]
        if (row.quantity, row.amount) != (each.used, each.amount):
            yield Correction(invoice, row, each, _line(invoice, row=row, rated=each))


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
