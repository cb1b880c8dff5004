"""An operator wants waiting work done now: its time is brought forward, the worker does it.

Safe at any moment: what is sent to Stripe is said by the step log, whose keys stay the same.
"""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from accounts.operations.auditing import audit
from billing.models import Invoice, StripeEvent
from billing.operations.invoice_moves import audit_invoice, load_invoice


def push_now(invoice_id: int, *, actor: str, now: datetime) -> Invoice:
    """Let the next round push an invoice that waits to be pushed; others stay as they are.

    Raises InvoiceUnknown.
    """
    with transaction.atomic():
        invoice = load_invoice(invoice_id)
        if invoice.push == Invoice.Push.PENDING:
            invoice.next_push_at = now
            invoice.save(update_fields=["next_push_at"])
            audit_invoice(invoice, "invoice.push_brought_forward", actor=actor, now=now)
    return invoice


def apply_event_now(event_id: str, *, actor: str, now: datetime) -> StripeEvent:
    """Let the next round apply an event that waits; one that was applied stays so."""
    with transaction.atomic():
        event = StripeEvent.objects.select_for_update().get(pk=event_id)
        if event.processed_at is None:
            event.next_attempt_at = now
            event.save(update_fields=["next_attempt_at"])
            audit(actor=actor, action="stripe_event.brought_forward", subject=event.id, now=now)
    return event
