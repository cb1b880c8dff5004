"""Money that went back to a customer: the invoice stays paid, the ledger says where it went."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from django.db import transaction

from billing.domain import ledger
from billing.operations.invoice_moves import audit_invoice, load_invoice
from billing.operations.posting import post

# Stripe's words for a refund whose money came back to us, and for one that is under way or done.
FAILED: Final = ("failed", "canceled")
GIVEN: Final = ("pending", "succeeded", *FAILED)


def follow_refund(
    invoice_id: int, *, reference: str, amount: int, status: str, at: datetime, now: datetime
) -> None:
    """`amount` minor units of the invoice's payments were refunded as `reference`.

    One that failed is posted and taken back, whichever is heard first; repeats change nothing.
    Usage and invoice stay as they are. Raises InvoiceUnknown.
    """
    if status not in GIVEN:
        return
    with transaction.atomic():
        invoice = load_invoice(invoice_id)
        steps = [(ledger.refund_given(amount, currency=invoice.currency), "invoice.refunded")]
        if status in FAILED:
            failed = ledger.refund_failed(amount, currency=invoice.currency)
            steps.append((failed, "invoice.refund_failed"))
        for posting, action in steps:
            new = post(
                posting,
                key=f"{posting.kind}:{reference}",
                customer_id=invoice.customer_id,
                invoice_id=invoice.id,
                occurred_at=at,
                now=now,
                note=reference,
            )
            if new:
                changes = {"refund": reference, "amount": amount, "status": status}
                audit_invoice(invoice, action, changes=changes, now=now)
