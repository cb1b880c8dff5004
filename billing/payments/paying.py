"""Asking for an invoice's money at once: of top-ups, and on a new payment method."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import structlog

from billing.domain.steps import StepKind
from billing.models import Invoice, StripeCustomer, StripeStep
from billing.operations import collecting
from billing.payments import client, mirroring, stepping

Json = dict[str, Any]
log = structlog.get_logger(__name__)

NO_METHOD: Final = "payment_method_missing"


def pay_invoice_now(invoice: Invoice, *, payment_method: str, now: datetime) -> str:
    """Try to collect a pushed invoice on this method, once ever for each method.

    Returns the invoice's status at Stripe afterwards, which is applied to ours: a decline is an
    outcome, not an error. Raises StepWaits, StripeStopped, StripeUnreachable.
    """
    assert invoice.stripe_invoice is not None
    if not _asked_before(invoice, payment_method=payment_method):
        call = stepping.Call(
            invoice.public_id,
            StepKind.PAY,
            f"/v1/invoices/{invoice.stripe_invoice}/pay",
            {"off_session": True, "payment_method": payment_method},
            invoice_id=invoice.pk,
            renew=True,
        )
        try:
            stepping.take(call, now=now, find=_find_paid)
        except stepping.StepQuarantined as refused:
            # Stripe still collects on its own clock: the refusal is for an operator to read.
            log.warning("invoice_pay_refused", invoice=invoice.public_id, reason=str(refused))
    return str(mirroring.refresh(invoice, now=now)["status"])


def pay_top_up(invoice: Invoice, *, now: datetime) -> None:
    """Charge a pushed top-up on the customer's present method, once ever; a decline is applied.

    Without a method it fails as a decline does. Raises StepWaits, StepQuarantined, StripeStopped,
    StripeUnreachable, StripeRefused.
    """
    row = StripeCustomer.objects.filter(customer=invoice.customer_id, deleted_at=None).first()
    if row is None or not row.payment_method:
        collecting.mark_payment_failed(invoice.pk, attempt=1, code=NO_METHOD, now=now)
        return
    call = stepping.Call(
        invoice.public_id,
        StepKind.PAY,
        f"/v1/invoices/{invoice.stripe_invoice}/pay",
        {"off_session": True, "payment_method": row.payment_method},
        invoice_id=invoice.pk,
    )
    last = stepping.latest(invoice.public_id, kind=StepKind.PAY)
    if last is not None and last.state == StripeStep.State.QUARANTINED:
        stepping.reopen(invoice.public_id, kinds=[StepKind.PAY])  # an operator released it
    stepping.take(call, now=now, find=_find_paid)
    mirroring.refresh(invoice, now=now)


def retry_failed_invoices(row: StripeCustomer, *, now: datetime) -> int:
    """Collect the customer's failed invoices on its present method, where another one failed.

    How many were tried. Does nothing where the method is the one that failed, nor for a customer
    from whom nothing may be collected.
    """
    row.refresh_from_db()
    if not row.payment_method or row.held_at is not None:
        return 0
    failed = Invoice.objects.filter(
        customer=row.customer_id,
        push=Invoice.Push.PUSHED,
        status=Invoice.Status.OPEN,
        stripe_invoice__isnull=False,
    )
    tried = 0
    for invoice in failed.order_by("period_start_at"):
        reason = mirroring.failure(mirroring.refresh(invoice, now=now))
        invoice.refresh_from_db()  # a top-up that was declined is over by now
        if invoice.status != Invoice.Status.OPEN:
            continue
        if reason is None or reason.payment_method == row.payment_method:
            continue
        pay_invoice_now(invoice, payment_method=row.payment_method, now=now)
        tried += 1
    return tried


def _asked_before(invoice: Invoice, *, payment_method: str) -> bool:
    asked = StripeStep.objects.filter(
        subject=invoice.public_id,
        kind=StepKind.PAY.value,
        request__params__payment_method=payment_method,
    )
    return asked.exclude(state=StripeStep.State.PENDING).exists()


def _find_paid(step: StripeStep) -> Json | None:
    invoice = Invoice.objects.get(steps=step)
    assert invoice.stripe_invoice is not None
    found = client.read(f"/v1/invoices/{invoice.stripe_invoice}")
    return found if found["status"] in ("paid", "void") else None
