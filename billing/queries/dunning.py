"""Invoices whose payment failed and has not succeeded since; top-ups are owed by nobody."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.db.models import F, Min, Q

from billing.models import Invoice, PaymentAttempt

OWED = (Invoice.Status.OPEN, Invoice.Status.UNCOLLECTIBLE)
_FAILED = (PaymentAttempt.Outcome.DECLINED, PaymentAttempt.Outcome.ACTION_REQUIRED)


@dataclass(frozen=True, slots=True)
class UnpaidInvoice:
    """`failed_at`: the first failure, from which grace counts. `url`: where it can be paid."""

    invoice_id: int
    failed_at: datetime
    action_required: bool
    url: str


def oldest_failed(customer_id: int) -> UnpaidInvoice | None:
    """The customer's unpaid invoice that failed first, of whichever subscription; or None."""
    found = (
        Invoice.objects.filter(
            customer_id=customer_id,
            status__in=OWED,
            amount_paid__lt=F("total") + F("tax_added"),
            carried_to=None,
            wallet=None,
        )
        .annotate(failed_at=Min("attempts__at", filter=Q(attempts__outcome__in=_FAILED)))
        .filter(failed_at__isnull=False)
        .order_by("failed_at", "id")
        .first()
    )
    if found is None:
        return None
    latest = found.attempts.order_by("-number", "-at", "-id").first()
    assert latest is not None
    return UnpaidInvoice(
        found.id,
        found.failed_at,
        latest.outcome == PaymentAttempt.Outcome.ACTION_REQUIRED,
        found.hosted_url,
    )
