"""What became of an issued invoice: pushed, paid, failed, waiting, voided, given up.

What Stripe says comes late, twice and in any order. So everything here only moves forward: a
report that is older than what is known, or that was heard before, changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime

from django.db import transaction

from accounts.operations.auditing import audit
from billing.domain import ledger
from billing.domain.invoices import InvoiceEvent, InvoiceStatus, next_status
from billing.domain.ledger import Entry, Posting, PostingKind
from billing.domain.taxes import InvoiceTax
from billing.models import Invoice, InvoiceLine, PaymentAttempt, StripeCustomer
from billing.operations.customer_credits import return_credit
from billing.operations.following import begin_if_payable, caught_up, follow_customer
from billing.operations.invoice_moves import (
    audit_invoice,
    is_void,
    keep_attempt,
    load_invoice,
    move,
    post_once,
    recover,
    settle,
    status_of,
)
from billing.operations.locking import lock_customer
from billing.operations.posting import post
from billing.operations.taxing import take_tax
from billing.operations.wallets import fill_wallet, resume_auto_top_up, suppress_auto_top_up
from billing.queries.ledger import issued_entries

Status, Push, Outcome = Invoice.Status, Invoice.Push, PaymentAttempt.Outcome
_FINISHED = (Status.PAID, Status.VOID)


class InvoiceHasPayments(Exception):
    """Money came in for this invoice: give a credit note instead of voiding it."""


class CollectedByStripe(Exception):
    """Stripe collects this invoice; marked as paid here it would be charged as well."""


def note_sweep(invoice_id: int, *, now: datetime) -> None:
    """It is being read again at Stripe: others have their turn first, whatever comes of it."""
    Invoice.objects.filter(pk=invoice_id).update(swept_at=now)


def mark_pushed(
    invoice_id: int,
    *,
    stripe_invoice: str,
    hosted_url: str = "",
    stripe_lines: Mapping[int, str] | None = None,
    tax: InvoiceTax | None = None,
    tax_status: str = "",
    now: datetime,
) -> Invoice:
    """The invoice is finalized at Stripe, equal to ours, and collected there from now on.

    `stripe_lines`: our lines' ids -> Stripe's; `tax`: what Stripe charges beside, where it was
    asked to; taken over once. One that is quarantined stays so.
    """
    with transaction.atomic():
        invoice = load_invoice(invoice_id)
        invoice.stripe_invoice = invoice.stripe_invoice or stripe_invoice
        invoice.hosted_url = hosted_url or invoice.hosted_url
        if tax is not None:
            take_tax(invoice, tax=tax, status=tax_status, now=now)
        if invoice.push == Push.PENDING:
            invoice.push, invoice.next_push_at, invoice.push_problem = Push.PUSHED, None, ""
            changes = {"stripe_invoice": stripe_invoice}
            audit_invoice(invoice, "invoice.pushed", changes=changes, now=now)
        invoice.save()
        for line_id, stripe_line in (stripe_lines or {}).items():
            lines = InvoiceLine.objects.filter(pk=line_id, invoice=invoice, stripe_line="")
            lines.update(stripe_line=stripe_line)
    return invoice


def mark_paid(
    invoice_id: int,
    *,
    amount_paid: int,
    reference: str,
    attempt: int = 0,
    at: datetime | None = None,
    posting: Posting | None = None,
    now: datetime,
) -> Invoice:
    """`amount_paid` minor units have come in for the invoice in all, the last by `reference`.

    `posting`: where the money came from, if it was not paid in now.

    Posts what is new of it; paid in full, the invoice is paid, and the customer is served again
    where nothing else is past due. Money for a voided invoice is posted and leaves it void; for a
    top-up it goes into the wallet in any case. Raises InvoiceTransitionRefused for a draft.
    """
    with transaction.atomic():
        invoice = load_invoice(invoice_id)
        next_status(
            InvoiceStatus.OPEN if is_void(invoice) else status_of(invoice), event=InvoiceEvent.PAID
        )
        new = amount_paid - invoice.amount_paid
        if new <= 0:
            return invoice
        if invoice.status == Status.UNCOLLECTIBLE:
            recover(invoice, amount=new, now=now)
        received = ledger.wallet_top_up if invoice.wallet_id else ledger.payment_received
        post(
            posting or received(new, currency=invoice.currency),
            key=f"payment:{invoice.public_id}:{amount_paid}",
            customer_id=invoice.customer_id,
            invoice_id=invoice.id,
            occurred_at=at or now,
            now=now,
            note=reference,
        )
        keep_attempt(
            invoice, outcome=Outcome.PAID, number=attempt, reference=reference, at=at or now
        )
        invoice.amount_paid = amount_paid
        if amount_paid >= invoice.total_with_tax and not is_void(invoice):
            settle(invoice, at=at or now)
        if invoice.wallet_id:
            invoice.paid_at = invoice.paid_at or at or now
            fill_wallet(invoice, amount=new, reference=reference, now=now)
        invoice.save()
        audit_invoice(
            invoice, "invoice.paid", changes={"amount": new, "reference": reference}, now=now
        )
        follow_customer(invoice.customer_id, now=now)
    return invoice


def mark_paid_manually(
    invoice_id: int, *, reference: str, at: datetime | None = None, actor: str, now: datetime
) -> Invoice:
    """An operator has received the whole amount due outside of Stripe.

    Paid before, nothing changes. Raises CollectedByStripe, InvoiceTransitionRefused.
    """
    with transaction.atomic():
        invoice = load_invoice(invoice_id)
        if invoice.status != Status.PAID:
            refuse_if_stripe_collects(invoice)
            next_status(status_of(invoice), event=InvoiceEvent.PAID)
            audit_invoice(invoice, "invoice.paid_outside", actor=actor, now=now)
            invoice = mark_paid(
                invoice_id, amount_paid=invoice.total_with_tax, reference=reference, at=at, now=now
            )
    return invoice


def refuse_if_stripe_collects(invoice: Invoice) -> None:
    """Raises CollectedByStripe where paying the invoice otherwise would pay it twice."""
    if invoice.push in (Push.PENDING, Push.PUSHED) and invoice.status not in _FINISHED:
        raise CollectedByStripe("Stripe collects this invoice: let it be paid there.")


def mark_payment_failed(
    invoice_id: int,
    *,
    attempt: int,
    code: str,
    next_attempt_at: datetime | None = None,
    reference: str = "",
    at: datetime | None = None,
    now: datetime,
) -> Invoice:
    """Attempt number `attempt` to collect was declined; grace counts from the first that was."""
    return _failed(
        invoice_id,
        outcome=Outcome.DECLINED,
        attempt=attempt,
        code=code,
        next_attempt_at=next_attempt_at,
        reference=reference,
        at=at or now,
        now=now,
    )


def mark_action_required(
    invoice_id: int,
    *,
    attempt: int,
    code: str,
    reference: str = "",
    at: datetime | None = None,
    now: datetime,
) -> Invoice:
    """The bank wants the customer to confirm the payment; nobody else can go on."""
    return _failed(
        invoice_id,
        outcome=Outcome.ACTION_REQUIRED,
        attempt=attempt,
        code=code,
        next_attempt_at=None,
        reference=reference,
        at=at or now,
        now=now,
    )


def mark_uncollectible(invoice_id: int, *, actor: str = "stripe", now: datetime) -> Invoice:
    """Nobody expects the money any more: it is written off. Paid later, it is taken back.

    The customer still owes it: whom the invoice left unserved stays unserved. A top-up, which
    nobody owes, is voided.
    """
    with transaction.atomic():
        invoice = load_invoice(invoice_id)
        if invoice.status in (*_FINISHED, Status.UNCOLLECTIBLE):
            return invoice
        if invoice.wallet_id:
            return void(invoice_id, actor=actor, now=now)
        owed = invoice.amount_due
        move(invoice, event=InvoiceEvent.MARKED_UNCOLLECTIBLE)
        if owed:
            post_once(invoice, ledger.write_off(owed, currency=invoice.currency), now=now)
        invoice.save()
        audit_invoice(invoice, "invoice.marked_uncollectible", actor=actor, now=now)
        follow_customer(invoice.customer_id, now=now)
    return invoice


def void(invoice_id: int, *, actor: str = "stripe", now: datetime) -> Invoice:
    """The invoice should never have been: what issuing it posted is taken back, credit returns,
    what it carried waits for the next one. Final; a second time changes nothing.

    Raises InvoiceHasPayments; InvoiceTransitionRefused for a draft or a paid one.
    """
    with transaction.atomic():
        invoice = load_invoice(invoice_id)
        if invoice.status == Status.VOID:
            return invoice
        if invoice.amount_paid:
            raise InvoiceHasPayments("Money came in for this invoice: give a credit note.")
        if invoice.status == Status.DRAFT:
            next_status(InvoiceStatus.PAID, event=InvoiceEvent.VOIDED)
        if invoice.status == Status.UNCOLLECTIBLE:
            recover(invoice, amount=invoice.total_with_tax, now=now)
        move(invoice, event=InvoiceEvent.VOIDED)
        taken_back = tuple(
            Entry(account, -amount, invoice.currency)
            for account, amount in issued_entries(invoice).items()
        )
        if taken_back:
            post_once(invoice, Posting(PostingKind.INVOICE_VOIDED, taken_back), now=now)
        return_credit(invoice)
        invoice.voided_at = now
        if invoice.push == Push.PENDING:
            invoice.push, invoice.next_push_at = Push.NONE, None
        invoice.save()
        invoice.carried_from.update(carried_to=None)
        audit_invoice(invoice, "invoice.voided", actor=actor, now=now)
        if invoice.automatic:
            suppress_auto_top_up(invoice, reason="canceled", now=now)
        follow_customer(invoice.customer_id, now=now)
    return invoice


def payment_method_changed(
    customer_id: int,
    *,
    payment_method: str,
    brand: str = "",
    last4: str = "",
    expires_on: date | None = None,
    stripe_customer: str = "",
    now: datetime,
) -> StripeCustomer:
    """What the customer is charged on, as Stripe says now; `payment_method` "" = nothing.

    `stripe_customer` links a customer that is not linked yet. A subscription that waited for a
    payment method begins, and suppressed top-ups go on. Hearing the same again changes nothing.
    """
    with transaction.atomic():
        lock_customer(customer_id)
        card = StripeCustomer.objects.filter(customer_id=customer_id).first()
        linked = card is not None
        card = card or StripeCustomer(customer_id=customer_id, stripe_customer=stripe_customer)
        known = (card.payment_method, card.card_brand, card.card_last4, card.card_expires_on)
        told = (payment_method, brand[:40], last4[:4], expires_on)
        if not linked or known != told:
            subscription = caught_up(customer_id, now=now)  # under what was known until now
            card.payment_method, card.card_brand, card.card_last4, card.card_expires_on = told
            card.updated_at = now
            card.save()
            resume_auto_top_up(customer_id)
            audit(
                actor="stripe",
                action="payment_method.changed",
                subject=card.customer.public_id,
                customer_id=customer_id,
                changes={"brand": brand, "last4": last4},
                now=now,
            )
            if subscription is not None:
                begin_if_payable(subscription, now=now)
    return card


def quarantine(invoice_id: int, *, problem: str, now: datetime) -> Invoice:
    """Stop pushing: an operator must look. Stays so until `release_quarantine`."""
    with transaction.atomic():
        invoice = load_invoice(invoice_id)
        if invoice.push != Push.QUARANTINED:
            audit_invoice(
                invoice, "invoice.quarantined", changes={"problem": problem[:1000]}, now=now
            )
        invoice.push, invoice.next_push_at = Push.QUARANTINED, None
        invoice.push_problem = problem[:1000]
        invoice.save()
    return invoice


def release_quarantine(invoice_id: int, *, actor: str, now: datetime) -> Invoice:
    """Push again what was quarantined, after an operator has looked at it."""
    with transaction.atomic():
        invoice = load_invoice(invoice_id)
        if invoice.push == Push.QUARANTINED and invoice.status == Status.OPEN:
            invoice.push, invoice.next_push_at, invoice.push_problem = Push.PENDING, now, ""
            invoice.save()
            audit_invoice(invoice, "invoice.quarantine_released", actor=actor, now=now)
    return invoice


def _failed(
    invoice_id: int,
    *,
    outcome: PaymentAttempt.Outcome,
    attempt: int,
    code: str,
    next_attempt_at: datetime | None,
    reference: str,
    at: datetime,
    now: datetime,
) -> Invoice:
    with transaction.atomic():
        invoice = load_invoice(invoice_id)
        if invoice.status not in (Status.OPEN, Status.UNCOLLECTIBLE):
            return invoice
        new = keep_attempt(
            invoice, outcome=outcome, number=attempt, reference=reference, code=code, at=at
        )
        if attempt >= invoice.attempt_count:
            invoice.attempt_count = attempt
            invoice.failure_code, invoice.next_attempt_at = code[:100], next_attempt_at
            invoice.save()
        if new:
            changes = {"attempt": attempt, "code": code, "outcome": str(outcome)}
            audit_invoice(invoice, "invoice.payment_failed", changes=changes, now=now)
            if invoice.wallet_id:
                return _top_up_failed(invoice, outcome=outcome, now=now)
            follow_customer(invoice.customer_id, now=now)
    return invoice


def _top_up_failed(invoice: Invoice, *, outcome: PaymentAttempt.Outcome, now: datetime) -> Invoice:
    """A declined top-up is over; one that the customer must confirm waits for that."""
    suppress_auto_top_up(invoice, reason=invoice.failure_code, now=now)
    if outcome == Outcome.ACTION_REQUIRED:
        return invoice
    return void(invoice.pk, now=now)
