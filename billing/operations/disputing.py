"""Payments that the customer's bank doubts: disputes, and warnings that one may come.

The invoice stays paid; where its money is, is in the ledger. What Stripe says comes late, twice and
in any order: each posting has the key of what it tells, and what is decided stays decided.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from django.conf import settings
from django.db import transaction

from accounts.operations.customers import suspend_customer
from billing.domain import ledger
from billing.domain.ledger import Posting
from billing.models import Dispute, Invoice
from billing.operations.following import follow_customer
from billing.operations.holding import hold_collection
from billing.operations.invoice_moves import audit_invoice, load_invoice, post_once
from billing.operations.wallets import left_of_top_up, move_wallet

# Stripe's words. An inquiry (warning_…) and one that was prevented move no money.
_DECIDED: Final = ("won", "lost", "warning_closed", "prevented")
_TAKEN: Final = ("needs_response", "under_review", "won", "lost")


def follow_dispute(
    invoice_id: int,
    *,
    reference: str,
    amount: int,
    reason: str,
    status: str,
    opened_at: datetime,
    now: datetime,
) -> Dispute:
    """A payment of the invoice is disputed as `reference`, and stands as `status` says.

    `amount`: minor units of the invoice's currency. While it is open, the customer gets nothing
    past what is included. Lost, the money is written to chargebacks (of a top-up, what its wallet
    still holds of it is taken from there) and nothing more is collected
    off-session until an operator releases it; with FAREBOX_SUSPEND_ON_LOST_DISPUTE the customer is
    suspended too. Hearing it again, or something older, changes nothing. Raises InvoiceUnknown.
    """
    with transaction.atomic():
        invoice = load_invoice(invoice_id)
        dispute, new = Dispute.objects.get_or_create(
            reference=reference,
            defaults={
                "invoice": invoice,
                "customer_id": invoice.customer_id,
                "kind": Dispute.Kind.DISPUTE,
                "amount": amount,
                "currency": invoice.currency,
                "reason": reason[:100],
                "status": status[:40],
                "opened_at": opened_at,
            },
        )
        if dispute.closed_at is not None or not (new or dispute.status != status):
            return dispute
        from_wallet = left_of_top_up(invoice, amount=dispute.amount) if status == "lost" else 0
        for posting in _postings(dispute, status=status, from_wallet=from_wallet):
            post_once(invoice, posting, part=f":{reference}", now=now)
        if invoice.wallet is not None:
            move_wallet(invoice.wallet, amount=-from_wallet)
        dispute.status = status[:40]
        dispute.closed_at = now if status in _DECIDED else None
        dispute.save()
        changes = {"dispute": reference, "status": status, "amount": amount, "reason": reason}
        audit_invoice(invoice, "invoice.disputed", changes=changes, now=now)
        if status == "lost":
            _answer_loss(dispute, now=now)
        follow_customer(invoice.customer_id, now=now)
    return dispute


def follow_fraud_warning(
    invoice_id: int,
    *,
    reference: str,
    reason: str,
    actionable: bool,
    warned_at: datetime,
    now: datetime,
) -> Dispute:
    """The bank reports a payment of the invoice as fraud, which often becomes a dispute.

    Nothing more is collected off-session from the customer until an operator, who may refund,
    releases it. Over where it is not `actionable` any more (refunded, or disputed); what was
    released does not come back when it is heard again. Raises InvoiceUnknown.
    """
    with transaction.atomic():
        invoice = load_invoice(invoice_id)
        warning, new = Dispute.objects.get_or_create(
            reference=reference,
            defaults={
                "invoice": invoice,
                "customer_id": invoice.customer_id,
                "kind": Dispute.Kind.FRAUD_WARNING,
                "amount": invoice.total_with_tax,
                "currency": invoice.currency,
                "reason": reason[:100],
                "status": "warned",
                "opened_at": warned_at,
            },
        )
        if new:
            words = f"Early fraud warning {reference} for invoice {invoice.number}."
            hold_collection(invoice.customer_id, reason=words, actor="stripe", now=now)
            changes = {"warning": reference, "reason": reason}
            audit_invoice(invoice, "invoice.fraud_warned", changes=changes, now=now)
        if not actionable and warning.closed_at is None:
            warning.status, warning.closed_at = "answered", now
            warning.save()
        follow_customer(invoice.customer_id, now=now)
    return warning


def _postings(dispute: Dispute, *, status: str, from_wallet: int) -> list[Posting]:
    """All that has happened to the money by then: what was not heard of is posted too."""
    amount, currency = dispute.amount, dispute.currency
    found = []
    if status in _TAKEN:
        found.append(ledger.dispute_opened(amount, currency=currency))
    if status == "won":
        found.append(ledger.dispute_won(amount, currency=currency))
    if status == "lost":
        found.append(ledger.dispute_lost(amount, currency=currency, from_wallet=from_wallet))
    return found


def _answer_loss(dispute: Dispute, *, now: datetime) -> None:
    invoice: Invoice = dispute.invoice
    words = f"Dispute {dispute.reference} of invoice {invoice.number} was lost."
    hold_collection(invoice.customer_id, reason=words, actor="stripe", now=now)
    if settings.SUSPEND_ON_LOST_DISPUTE:
        suspend_customer(invoice.customer_id, reason=words, actor="stripe", now=now)
