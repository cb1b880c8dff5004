"""Giving back: credit notes; and money paid ahead: wallets."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from django.db import transaction
from django.db.models import Sum

from accounts.operations.auditing import audit
from billing.domain import ledger
from billing.models import CreditNote, Invoice, Wallet
from billing.operations.customer_credits import owe_credit
from billing.operations.invoice_moves import audit_invoice, load_invoice
from billing.operations.issuing import next_number
from billing.operations.locking import lock_customer
from billing.operations.posting import post
from billing.operations.wallets import move_wallet

CREDIT_NOTE_PREFIX: Final = "CN"


class CreditTooMuch(Exception):
    """The credit notes of an invoice cannot exceed its total."""

    param = "amount"


class AmountInvalid(Exception):
    """An amount of money that moves is a whole number of minor units above zero."""

    param = "amount"


class InvoiceNotIssued(Exception):
    """Only an issued invoice that stands can be credited."""


class TopUpNotCredited(Exception):
    """A top-up earned nothing that could be credited: refund its payment at Stripe."""


def credit_note(
    invoice_id: int, *, amount: int, reason: str, actor: str, now: datetime
) -> CreditNote:
    """Give `amount` minor units of an issued invoice back, as credit on the next invoices.

    The invoice itself is still to be paid as it is. Not idempotent: two calls are two notes (the
    API keeps repeats apart by their Idempotency-Key). Raises AmountInvalid, CreditTooMuch,
    InvoiceNotIssued, InvoiceUnknown, TopUpNotCredited.
    """
    with transaction.atomic():
        invoice = load_invoice(invoice_id)
        if invoice.wallet_id is not None:
            raise TopUpNotCredited("A top-up cannot be credited: refund its payment at Stripe.")
        if invoice.status in (Invoice.Status.DRAFT, Invoice.Status.VOID):
            raise InvoiceNotIssued(f"An invoice that is {invoice.status} cannot be credited.")
        _require_amount(amount)
        given = invoice.credit_notes.aggregate(total=Sum("amount"))["total"] or 0
        if given + amount > invoice.total:
            raise CreditTooMuch(f"At most {max(invoice.total - given, 0)} can still be credited.")
        note = CreditNote.objects.create(
            invoice=invoice,
            number=next_number(CREDIT_NOTE_PREFIX),
            amount=amount,
            reason=reason,
            created_at=now,
        )
        post(
            ledger.credit_granted(amount, currency=invoice.currency),
            key=f"credit_note:{note.public_id}",
            customer_id=invoice.customer_id,
            invoice_id=invoice.id,
            occurred_at=now,
            now=now,
            note=reason,
        )
        owe_credit(
            invoice.customer_id,
            amount=amount,
            currency=invoice.currency,
            reason=f"Credit note {note.number}",
            now=now,
        )
        changes = {"amount": amount, "number": note.number, "reason": reason}
        audit_invoice(invoice, "invoice.credited", actor=actor, changes=changes, now=now)
    return note


def top_up_wallet(
    customer_id: int, *, amount: int, reference: str, actor: str, now: datetime
) -> Wallet:
    """`amount` minor units were paid ahead; the same `reference` counts once.

    Raises AmountInvalid, CustomerUnknown.
    """
    _require_amount(amount)
    with transaction.atomic():
        customer = lock_customer(customer_id)
        wallet, _ = Wallet.objects.get_or_create(
            customer=customer, currency=customer.currency, defaults={"created_at": now}
        )
        new = post(
            ledger.wallet_top_up(amount, currency=wallet.currency),
            key=f"wallet_top_up:{wallet.public_id}:{reference}",
            customer_id=customer_id,
            occurred_at=now,
            now=now,
        )
        if new:
            move_wallet(wallet, amount=amount)
            audit(
                actor=actor,
                action="wallet.topped_up",
                subject=wallet.public_id,
                customer_id=customer_id,
                changes={"amount": amount, "reference": reference},
                now=now,
            )
    return wallet


def _require_amount(amount: int) -> None:
    if amount <= 0:
        raise AmountInvalid("An amount is a whole number of minor units above zero.")
