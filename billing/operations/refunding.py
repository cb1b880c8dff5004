"""Money that went back to a customer: the invoice stays paid, the ledger says where it went."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from django.db import transaction
from django.db.models import Sum

from billing.domain import ledger
from billing.domain.ledger import Posting, PostingKind
from billing.models import Invoice, LedgerEntry
from billing.operations.invoice_moves import audit_invoice, load_invoice
from billing.operations.posting import post
from billing.operations.wallets import left_of_top_up, move_wallet, suppress_auto_top_up

# Stripe's words for a refund whose money came back to us, and for one that is under way or done.
FAILED: Final = ("failed", "canceled")
GIVEN: Final = ("pending", "succeeded", *FAILED)
_ACTIONS: Final = {
    PostingKind.REFUND_GIVEN: "invoice.refunded",
    PostingKind.REFUND_FAILED: "invoice.refund_failed",
}


def follow_refund(
    invoice_id: int, *, reference: str, amount: int, status: str, at: datetime, now: datetime
) -> None:
    """`amount` minor units of the invoice's payments were refunded as `reference`.

    One that failed is posted and taken back, whichever is heard first; repeats change nothing.
    Usage and invoice stay as they are. Of a top-up it is taken out of the wallet, as far as that
    still holds it, and automatic top-ups stop. Raises InvoiceUnknown.
    """
    if status not in GIVEN:
        return
    with transaction.atomic():
        invoice = load_invoice(invoice_id)
        from_wallet = left_of_top_up(invoice, amount=amount)
        given = ledger.refund_given(amount, currency=invoice.currency, from_wallet=from_wallet)
        if _post(invoice, given, reference=reference, status=status, at=at, now=now):
            _move(invoice, amount=-from_wallet)
            if invoice.wallet_id:
                suppress_auto_top_up(invoice, reason="refunded", now=now)
        if status in FAILED:
            to_wallet = _given_by_wallet(reference)
            failed = ledger.refund_failed(amount, currency=invoice.currency, to_wallet=to_wallet)
            if _post(invoice, failed, reference=reference, status=status, at=at, now=now):
                _move(invoice, amount=to_wallet)


def _post(
    invoice: Invoice, posting: Posting, *, reference: str, status: str, at: datetime, now: datetime
) -> bool:
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
        amount = sum(entry.amount for entry in posting.entries if entry.amount > 0)
        changes = {"refund": reference, "amount": amount, "status": status}
        audit_invoice(invoice, _ACTIONS[posting.kind], changes=changes, now=now)
    return new


def _given_by_wallet(reference: str) -> int:
    key = f"{PostingKind.REFUND_GIVEN}:{reference}"
    entries = LedgerEntry.objects.filter(posting__key=key, account=ledger.Account.WALLET)
    return entries.aggregate(total=Sum("amount"))["total"] or 0


def _move(invoice: Invoice, *, amount: int) -> None:
    if invoice.wallet is not None:
        move_wallet(invoice.wallet, amount=amount)
