"""Invoices as they stand, and the one that is coming."""

from __future__ import annotations

from collections.abc import Sequence

from django.db.models import F, QuerySet

from billing.domain.invoices import CarriedAmount, InvoiceDraft, assemble
from billing.models import Invoice, Subscription
from billing.queries.adjustments import adjustment_lines, corrections
from billing.queries.credits import credit_available
from billing.queries.dunning import OWED
from billing.queries.peers import Peers
from billing.queries.rated_periods import PeriodTerms, rated_period
from billing.queries.spans import billed_spans, current_basis, unbilled_period

_NOT_BILLED = (
    Subscription.Status.TRIALING,
    Subscription.Status.INCOMPLETE,
    Subscription.Status.CANCELED,
)


def invoices(*, customer_id: int | None = None, status: str | None = None) -> QuerySet[Invoice]:
    """All of them, or those of one customer or in one state, with their lines; newest first."""
    found = Invoice.objects.select_related("customer", "carried_to")
    if customer_id is not None:
        found = found.filter(customer_id=customer_id)
    if status is not None:
        found = found.filter(status=status)
    return found.prefetch_related("lines__meter", "lines__version__plan").order_by("-id")


def open_invoices(customer_id: int) -> QuerySet[Invoice]:
    """What the customer has to pay now, the oldest first; what was carried on is due there."""
    found = Invoice.objects.filter(
        customer_id=customer_id,
        status__in=OWED,
        amount_paid__lt=F("total") + F("tax_added"),
        carried_to=None,
        wallet=None,
    )
    return found.exclude(push=Invoice.Push.CARRIED).order_by("period_start_at", "id")


def invoice_preview(subscription: Subscription) -> InvoiceDraft | None:
    """The invoice of the period under way as it would be issued with what is known now.

    Late events, carried amounts and credit are taken in. None where none will be issued: a trial,
    or a subscription that has not begun or is over.
    """
    if subscription.status in _NOT_BILLED:
        return None
    customer_id = subscription.customer_id
    period, basis = unbilled_period(subscription), current_basis(subscription)
    peers = Peers([customer_id])
    found = billed_spans(subscription.id, period=period, basis=basis, peers=peers)
    rated = rated_period(PeriodTerms(customer_id, found, basis, period), peers=peers)
    currency = rated.draft.currency
    unsaved = Invoice(
        customer_id=customer_id,
        subscription=subscription,
        currency=currency,
        period_start_at=period.start_at,
        period_end_at=period.end_at,
    )
    return assemble(
        currency=currency,
        period=period,
        fees=rated.draft.lines,
        adjustments=adjustment_lines(corrections(unsaved, peers=peers), peers=peers),
        carried=[
            CarriedAmount(each.public_id, each.amount_due)
            for each in peers.ask(carried_of, (customer_id, currency)) or ()
        ],
        credit_available=credit_available(
            customer_id, currency=currency, end_at=period.end_at, peers=peers
        ),
    )


def carried_of(customer_ids: Sequence[int]) -> dict[tuple[int, str], list[Invoice]]:
    """By customer and currency the invoices that wait to be carried onto the next one."""
    waiting = Invoice.objects.filter(
        customer_id__in=customer_ids,
        status=Invoice.Status.OPEN,
        push=Invoice.Push.CARRIED,
        carried_to=None,
    )
    found: dict[tuple[int, str], list[Invoice]] = {}
    for each in waiting.order_by("period_start_at", "id"):
        found.setdefault((each.customer_id, each.currency), []).append(each)
    return found
