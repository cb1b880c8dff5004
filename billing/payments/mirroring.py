"""Invoices as they stand at Stripe, applied to ours: read anew, never taken from a message.

Messages come late, twice and in any order. What Stripe says now is applied through operations
that only ever move forward, so the order in which we look does not matter.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import structlog
from django.db.models import F, Q

from accounts.domain.ids import IdMalformed, decode
from billing.domain import steps
from billing.domain.taxes import InvoiceTax
from billing.models import Invoice
from billing.operations import collecting
from billing.payments import client

Json = dict[str, Any]
log = structlog.get_logger(__name__)

_EXPAND: Final = ["payments.data.payment.payment_intent"]


@dataclass(frozen=True, slots=True)
class Failure:
    """Why the last attempt did not bring the money."""

    code: str
    payment_method: str  # the one that was tried, "" where unknown
    needs_action: bool
    reference: str


def read_invoice(stripe_invoice: str) -> Json:
    """The invoice with its payments. Raises StripeUnreachable, StripeRefused, StripeStopped."""
    return client.read(f"/v1/invoices/{stripe_invoice}", expand=_EXPAND)


def ours(found: Json) -> Invoice | None:
    """The invoice of ours that a Stripe invoice is; None for somebody else's."""
    known = Invoice.objects.filter(stripe_invoice=found["id"]).first()
    if known is not None:
        return known
    try:
        number = decode("inv", str((found.get("metadata") or {}).get("farebox_invoice")))
    except IdMalformed:
        return None
    return Invoice.objects.filter(pk=number, stripe_invoice=None).first()


def apply(invoice: Invoice, *, found: Json, now: datetime) -> str:
    """Take over what Stripe says of an invoice of ours; returns what was done, in words.

    Also adopts an invoice whose message came before the answer to our own call.
    """
    if found["status"] == "draft":
        return "still a draft"
    tax = tax_of(found)
    added = tax.added if invoice.taxed_at is None else invoice.tax_added
    if (found["total"], found["currency"]) != (invoice.total + added, invoice.currency):
        problem = (
            f"Stripe's total is {found['total']} {found['currency']}, of it {tax.added} added tax; "
            f"ours {invoice.total} and {added}."
        )
        collecting.quarantine(invoice.pk, problem=problem, now=now)
        return problem
    if invoice.stripe_invoice is None:
        collecting.mark_pushed(
            invoice.pk,
            stripe_invoice=found["id"],
            hosted_url=found.get("hosted_invoice_url") or "",
            stripe_lines=_line_ids(found["id"]),
            tax=tax if tax.rows or tax_status(found) else None,
            tax_status=tax_status(found),
            now=now,
        )
    match found["status"]:
        case "paid":
            return _apply_paid(invoice, found=found, now=now)
        case "void":
            collecting.void(invoice.pk, now=now)
            return "voided"
        case "uncollectible":
            collecting.mark_uncollectible(invoice.pk, now=now)
            return "uncollectible"
        case _:
            return _apply_open(invoice, found=found, now=now)


def refresh(invoice: Invoice, *, now: datetime) -> Json:
    """Read a pushed invoice from Stripe, apply it, return it."""
    assert invoice.stripe_invoice is not None
    found = read_invoice(invoice.stripe_invoice)
    apply(invoice, found=found, now=now)
    return found


def sweep(*, now: datetime, limit: int) -> int:
    """Re-read open invoices whose announced attempt is over, in case no message came; how many.

    Those read longest ago go first, so that `limit` that always fail keep no other from its turn;
    one that fails is logged. Stripe being away ends the round; the next one goes on. Raises
    StripeStopped, StripeUnreachable, LiveKeyInDebug.
    """
    overdue = Q(next_attempt_at__isnull=True) | Q(next_attempt_at__lte=now)
    waiting = Invoice.objects.filter(
        overdue, push=Invoice.Push.PUSHED, status=Invoice.Status.OPEN
    ).order_by(F("swept_at").asc(nulls_first=True), "issued_at", "id")
    swept = 0
    for invoice in waiting[:limit] if client.configured() else ():
        collecting.note_sweep(invoice.pk, now=now)
        try:
            refresh(invoice, now=now)
            swept += 1
        except (client.StripeStopped, client.StripeUnreachable, client.LiveKeyInDebug):
            raise
        except Exception:
            log.exception("invoice_not_swept", invoice=invoice.public_id)
    return swept


def failure(found: Json) -> Failure | None:
    """Why an open invoice's last attempt failed; None where none was made, or where the bank has
    not said yet (a debit is `processing` for days)."""
    intent = _intent(found)
    if not found.get("attempt_count") or intent.get("status") == "processing":
        return None
    error = intent.get("last_payment_error") or {}
    method = error.get("payment_method") or intent.get("payment_method") or {}
    code = error.get("decline_code") or error.get("code") or "payment_failed"
    waits = intent.get("status") == "requires_action" or steps.needs_action(error.get("code"))
    return Failure(
        code=code if not waits else "authentication_required",
        payment_method=method if isinstance(method, str) else method.get("id", ""),
        needs_action=waits,
        reference=intent.get("id", ""),
    )


def _line_ids(stripe_invoice: str) -> dict[int, str]:
    """Our lines' numbers -> Stripe's ids."""
    lines = client.read_all(f"/v1/invoices/{stripe_invoice}/lines")
    ids = {line["id"]: (line.get("metadata") or {}).get("farebox_line") for line in lines}
    return {
        decode("line", our_id): line_id
        for line_id, our_id in ids.items()
        if our_id and our_id.startswith("line_")  # else all lines are told as one
    }


def tax_of(found: Json) -> InvoiceTax:
    """The tax of an invoice at Stripe."""
    return InvoiceTax.of_stripe(found.get("total_taxes") or ())


def tax_status(found: Json) -> str:
    """How far Stripe is with the tax, or why it did without; "" where it was not asked to."""
    asked = found.get("automatic_tax") or {}
    if not asked.get("enabled"):
        return str(asked.get("disabled_reason") or "")
    return str(asked.get("status") or "failed")


def _apply_paid(invoice: Invoice, *, found: Json, now: datetime) -> str:
    known = collecting.mark_paid(
        invoice.pk,
        amount_paid=found["amount_paid"],
        attempt=found.get("attempt_count") or 0,
        reference=_intent(found).get("id", ""),
        at=_instant((found.get("status_transitions") or {}).get("paid_at")),
        now=now,
    )
    if known.amount_due:
        # A credit note or a balance at Stripe settled the rest: what that means is not ours to say.
        came_in = f"{found['amount_paid']} of {found['total']} {found['currency']}"
        problem = f"Stripe calls it paid, but only {came_in} came in; the rest was settled there."
        collecting.quarantine(invoice.pk, problem=problem, now=now)
        return problem
    if more := found.get("amount_overpaid"):
        problem = (
            f"{more} {found['currency']} more than was owed came in at Stripe, which keeps it on "
            "the customer's balance there: refund it, or take it off the balance."
        )
        collecting.quarantine(invoice.pk, problem=problem, now=now)
        return problem
    return "paid"


def _apply_open(invoice: Invoice, *, found: Json, now: datetime) -> str:
    failed = failure(found)
    if failed is None:
        return "open"
    attempt = found["attempt_count"]
    if failed.needs_action:
        collecting.mark_action_required(
            invoice.pk, attempt=attempt, code=failed.code, reference=failed.reference, now=now
        )
        return "waits for the customer to confirm"
    collecting.mark_payment_failed(
        invoice.pk,
        attempt=attempt,
        code=failed.code,
        next_attempt_at=_instant(found.get("next_payment_attempt")),
        reference=failed.reference,
        now=now,
    )
    return f"payment failed: {failed.code}"


def _intent(found: Json) -> Json:
    """The payment intent of the newest payment that has one (paid before others)."""
    payments = (found.get("payments") or {}).get("data") or []
    payments = sorted(payments, key=lambda each: (each["status"] == "paid", each["created"]))
    for payment in reversed(payments):
        intent = payment["payment"].get("payment_intent")
        if isinstance(intent, dict):
            return intent
        if isinstance(intent, str):
            return {"id": intent}
    return {}


def _instant(seconds: int | None) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if seconds else None
