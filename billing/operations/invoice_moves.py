"""What the operations on issued invoices are made of; the customer is locked throughout."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from django.db.models import Sum

from accounts.operations.auditing import audit
from billing.domain import ledger
from billing.domain.invoices import InvoiceEvent, InvoiceStatus, next_status
from billing.domain.ledger import Posting
from billing.models import Invoice, LedgerEntry, PaymentAttempt
from billing.operations.locking import lock_customer
from billing.operations.posting import post

Status = Invoice.Status


class InvoiceUnknown(Exception):
    """No invoice has this id."""


def load_invoice(invoice_id: int) -> Invoice:
    found = Invoice.objects.filter(pk=invoice_id)
    customer_id = found.values_list("customer_id", flat=True).first()
    if customer_id is None:
        raise InvoiceUnknown("There is no such invoice.")
    lock_customer(customer_id)
    return found.get()


def status_of(invoice: Invoice) -> InvoiceStatus:
    return InvoiceStatus(invoice.status)


def is_void(invoice: Invoice) -> bool:
    return invoice.status == Status.VOID


def move(invoice: Invoice, *, event: InvoiceEvent) -> None:
    invoice.status = Status(next_status(status_of(invoice), event=event))


def settle(invoice: Invoice, *, at: datetime) -> None:
    """Paid in full, and with it what it carried."""
    move(invoice, event=InvoiceEvent.PAID)
    invoice.paid_at = invoice.paid_at or at
    invoice.next_attempt_at, invoice.failure_code = None, ""
    for carried in invoice.carried_from.exclude(status=Status.PAID):
        carried.amount_paid = carried.total
        settle(carried, at=at)
        carried.save()


def keep_attempt(
    invoice: Invoice,
    *,
    outcome: PaymentAttempt.Outcome,
    number: int,
    reference: str,
    at: datetime,
    code: str = "",
) -> bool:
    """Keep the attempt; says whether it was new."""
    _, new = PaymentAttempt.objects.get_or_create(
        invoice=invoice,
        number=number,
        outcome=outcome,
        defaults={
            "amount": invoice.amount_due,
            "code": code[:100],
            "reference": reference[:255],
            "at": at,
        },
    )
    return new


def recover(invoice: Invoice, *, amount: int, now: datetime) -> None:
    """Take back up to `amount` of what was written off: it is owed again."""
    booked = LedgerEntry.objects.filter(
        posting__invoice=invoice, account=ledger.Account.WRITE_OFF
    ).aggregate(total=Sum("amount"))
    left = min(amount, booked["total"] or 0)
    if left > 0:
        posting = ledger.write_off_recovered(left, currency=invoice.currency)
        post_once(invoice, posting, part=f":{invoice.amount_paid}", now=now)


def post_once(invoice: Invoice, posting: Posting, *, part: str = "", now: datetime) -> None:
    """Post what happens to an invoice once, or once for each `part` of it."""
    post(
        posting,
        key=f"{posting.kind}:{invoice.public_id}{part}",
        customer_id=invoice.customer_id,
        invoice_id=invoice.id,
        occurred_at=now,
        now=now,
    )


def audit_invoice(
    invoice: Invoice,
    action: str,
    *,
    actor: str = "stripe",
    changes: Mapping[str, object] | None = None,
    now: datetime,
) -> None:
    audit(
        actor=actor,
        action=action,
        subject=invoice.public_id,
        customer_id=invoice.customer_id,
        changes=changes,
        now=now,
    )
