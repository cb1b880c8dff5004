"""What each kind of event leads to. An event only says where to look: the object is read anew."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from accounts.domain.ids import IdMalformed, decode
from billing.models import CheckoutSession, StripeCustomer, StripeEvent
from billing.operations import checkout as visits
from billing.operations import collecting
from billing.payments import client, customers, mirroring, money_back, paying

Json = dict[str, Any]
Handler = Callable[[StripeEvent, datetime], str]

IGNORED: Final = "ignored"
NOT_OURS: Final = money_back.NOT_OURS


def handle(event: StripeEvent, *, now: datetime) -> str:
    """Apply one event and say in words what came of it. Safe to repeat, in any order.

    Raises StripeStopped, StripeUnreachable, StripeRefused, StepWaits: then it must come again.
    """
    handler = HANDLERS.get(event.type)
    return handler(event, now) if handler else IGNORED


def _object(event: StripeEvent) -> Json:
    found: Json = event.payload["data"]["object"]
    return found


# --- Invoices ----------------------------------------------------------------------------------


def _invoice(event: StripeEvent, now: datetime) -> str:
    return _mirror(event.object_id, now=now)


def _invoice_payment(event: StripeEvent, now: datetime) -> str:
    return _mirror(str(_object(event).get("invoice") or ""), now=now)


def _credit_note(event: StripeEvent, now: datetime) -> str:
    """Ours are given here: one given at Stripe shows in what came in for the invoice."""
    return _mirror(str(_object(event).get("invoice") or ""), now=now)


def _mirror(stripe_invoice: str, *, now: datetime) -> str:
    try:
        found = mirroring.read_invoice(stripe_invoice)
    except client.StripeRefused as refused:
        if refused.status == 404:
            return "ignored: gone at Stripe"
        raise
    invoice = mirroring.ours(found)
    return mirroring.apply(invoice, found=found, now=now) if invoice else NOT_OURS


def _finalization_failed(event: StripeEvent, now: datetime) -> str:
    found = mirroring.read_invoice(event.object_id)
    invoice = mirroring.ours(found)
    if invoice is None:
        return NOT_OURS
    error = found.get("last_finalization_error") or {}
    if found["status"] != "draft" or not error:
        return mirroring.apply(invoice, found=found, now=now)
    problem = f"Stripe could not finalize it: {error.get('message') or error.get('code')}"
    collecting.quarantine(invoice.pk, problem=problem, now=now)
    return problem


# --- Customers and what they are charged on ----------------------------------------------------


def _customer(event: StripeEvent, now: datetime) -> str:
    return _refresh(event.object_id, now=now)


def _payment_method(event: StripeEvent, now: datetime) -> str:
    before = event.payload["data"].get("previous_attributes") or {}
    owner = _object(event).get("customer") or before.get("customer")
    if not owner:  # a detached card names nobody any more
        row = StripeCustomer.objects.filter(payment_method=event.object_id).first()
        owner = row.stripe_customer if row else None
    return _refresh(str(owner), now=now) if owner else NOT_OURS


def _setup_intent(event: StripeEvent, now: datetime) -> str:
    return _refresh(str(_object(event).get("customer") or ""), now=now)


def _refresh(stripe_customer: str, *, now: datetime) -> str:
    row = customers.counterpart(stripe_customer, now=now)
    if row is None:
        return NOT_OURS
    customers.refresh(row, now=now)
    return f"customer read; {paying.retry_failed_invoices(row, now=now)} invoices tried again"


# --- Visits to Checkout ------------------------------------------------------------------------


def _checkout_completed(event: StripeEvent, now: datetime) -> str:
    return complete_visit(event.object_id, now=now)


def complete_visit(stripe_session: str, *, now: datetime) -> str:
    """Read the page anew and, where it is complete, do what the visit was for; says what was done.

    Called for the webhook and when the customer comes back, whichever is first; safe to repeat.
    """
    page = client.read(f"/v1/checkout/sessions/{stripe_session}", expand=["setup_intent"])
    visit = _visit(page)
    row = customers.counterpart(str(page.get("customer") or ""), now=now)
    if visit is None or row is None or row.customer_id != visit.customer_id:
        return NOT_OURS
    setup = page.get("setup_intent") or {}
    if page["status"] != "complete" or setup.get("status") != "succeeded":
        return "not complete yet"
    if visit.completed_at is None:
        # A visit that was completed before may come again late: a newer card must stay.
        customers.make_default(row, payment_method=setup["payment_method"], now=now)
        visits.complete_checkout(visit.pk, now=now)
    tried = paying.retry_failed_invoices(row, now=now)
    return f"checkout complete; {tried} invoices tried again"


def _checkout_expired(event: StripeEvent, now: datetime) -> str:
    page = client.read(f"/v1/checkout/sessions/{event.object_id}")
    visit = _visit(page)
    if visit is None:
        return NOT_OURS
    if page["status"] != "expired":
        return IGNORED
    visits.expire_checkout(visit.pk, now=now)
    return "checkout expired"


def _visit(page: Json) -> CheckoutSession | None:
    reference = page.get("client_reference_id") or (page.get("metadata") or {}).get(
        "farebox_checkout"
    )
    try:
        return CheckoutSession.objects.filter(pk=decode("chk", str(reference))).first()
    except IdMalformed:
        return None


# --- Money that goes back ----------------------------------------------------------------------


def _charge_refunded(event: StripeEvent, now: datetime) -> str:
    return money_back.refunds_of(event.object_id, now=now)


def _refund(event: StripeEvent, now: datetime) -> str:
    return money_back.refund(event.object_id, now=now)


def _dispute(event: StripeEvent, now: datetime) -> str:
    return money_back.dispute(event.object_id, now=now)


def _fraud_warning(event: StripeEvent, now: datetime) -> str:
    return money_back.fraud_warning(event.object_id, now=now)


HANDLERS: Final[dict[str, Handler]] = {
    "charge.dispute.closed": _dispute,
    "charge.dispute.created": _dispute,
    "charge.dispute.funds_reinstated": _dispute,
    "charge.dispute.funds_withdrawn": _dispute,
    "charge.dispute.updated": _dispute,
    "charge.refunded": _charge_refunded,
    "checkout.session.completed": _checkout_completed,
    "checkout.session.expired": _checkout_expired,
    "credit_note.created": _credit_note,
    "credit_note.voided": _credit_note,
    "customer.deleted": _customer,
    "customer.updated": _customer,
    "invoice.deleted": _invoice,  # whoever pushes it sees that the draft is gone, and starts over
    "invoice.finalization_failed": _finalization_failed,
    "invoice.finalized": _invoice,
    "invoice.marked_uncollectible": _invoice,
    "invoice.overdue": _invoice,
    "invoice.overpaid": _invoice,
    "invoice.paid": _invoice,
    "invoice.payment_action_required": _invoice,
    "invoice.payment_failed": _invoice,
    "invoice.updated": _invoice,
    "invoice.voided": _invoice,
    "invoice_payment.paid": _invoice_payment,
    "payment_method.attached": _payment_method,
    "payment_method.automatically_updated": _payment_method,
    "payment_method.detached": _payment_method,
    "payment_method.updated": _payment_method,
    "radar.early_fraud_warning.created": _fraud_warning,
    "radar.early_fraud_warning.updated": _fraud_warning,
    "refund.created": _refund,
    "refund.failed": _refund,
    "refund.updated": _refund,
    "setup_intent.succeeded": _setup_intent,
}
