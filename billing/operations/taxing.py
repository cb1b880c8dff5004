"""Tax that Stripe computed for an invoice: taken over once, as it is finalized there."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from billing.domain import ledger
from billing.domain.taxes import InvoiceTax
from billing.models import Invoice
from billing.operations.invoice_moves import audit_invoice, is_void, load_invoice, post_once

LOCATION_MISSING = "requires_location_inputs"  # Stripe's word


def take_tax(invoice: Invoice, *, tax: InvoiceTax, status: str, now: datetime) -> None:
    """Keep what Stripe charges as tax and post it; the caller has locked the invoice and saves it.

    What was taken before stays: later reports change nothing. A void invoice owes no tax: nothing
    is taken. One that was written off has the tax that comes on top of it written off as well.
    """
    if invoice.taxed_at is not None or is_void(invoice):
        return
    invoice.tax_added, invoice.tax_included = tax.added, tax.included
    invoice.taxes, invoice.taxed_at, invoice.tax_status = tax.to_json(), now, status[:50]
    if tax.added or tax.included:
        posting = ledger.invoice_taxed(
            added=tax.added, included=tax.included, currency=invoice.currency
        )
        post_once(invoice, posting, now=now)
    if tax.added and invoice.status == Invoice.Status.UNCOLLECTIBLE:
        written_off = ledger.write_off(tax.added, currency=invoice.currency)
        post_once(invoice, written_off, part=":tax", now=now)
    changes = {"added": tax.added, "included": tax.included, "status": status}
    audit_invoice(invoice, "invoice.taxed", changes=changes, now=now)


def await_tax(
    invoice_id: int, *, status: str, problem: str, until: datetime, now: datetime
) -> Invoice:
    """Stripe cannot say the tax yet: the push waits until then, or until the billing details
    change, and the invoice says why."""
    with transaction.atomic():
        invoice = load_invoice(invoice_id)
        if invoice.push == Invoice.Push.PENDING:
            if invoice.tax_status != status:
                audit_invoice(invoice, "invoice.awaits_tax", changes={"status": status}, now=now)
            invoice.tax_status, invoice.push_problem = status[:50], problem[:1000]
            invoice.next_push_at = until
            invoice.save()
    return invoice


def push_awaiting_tax(customer_id: int, *, now: datetime) -> None:
    """The customer's billing details changed: what waited for them is tried again at once."""
    waiting = Invoice.objects.filter(
        customer_id=customer_id, push=Invoice.Push.PENDING, tax_status=LOCATION_MISSING
    )
    waiting.update(next_push_at=now)
