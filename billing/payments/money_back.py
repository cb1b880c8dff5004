"""Money that goes back, and payments that a bank doubts: read anew at Stripe, applied here."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

from billing.models import Invoice
from billing.operations import disputing, refunding
from billing.payments import client, holding

Json = dict[str, Any]
NOT_OURS: Final = "ignored: not ours"
_HELD_AT_ONCE: Final = 100


def refunds_of(charge: str, *, now: datetime) -> str:
    """Apply every refund of a charge; says what was done."""
    told = [_apply(refund, now=now) for refund in client.read_all("/v1/refunds", charge=charge)]
    return "; ".join(told) or "no refunds"


def refund(reference: str, *, now: datetime) -> str:
    """Apply one refund; says what was done."""
    return _apply(client.read(f"/v1/refunds/{reference}"), now=now)


def dispute(reference: str, *, now: datetime) -> str:
    """Apply a dispute as it stands now; says how that is."""
    found = client.read(f"/v1/disputes/{reference}")
    invoice = paid_invoice(found.get("payment_intent"))
    if invoice is None:
        return NOT_OURS
    disputing.follow_dispute(
        invoice.pk,
        reference=found["id"],
        amount=found["amount"],
        reason=found.get("reason") or "",
        status=found["status"],
        opened_at=_instant(found["created"]),
        now=now,
    )
    holding.follow_holds(now=now, limit=_HELD_AT_ONCE)
    return f"dispute {found['status']}"


def fraud_warning(reference: str, *, now: datetime) -> str:
    """Apply an early fraud warning as it stands now; says how that is."""
    found = client.read(f"/v1/radar/early_fraud_warnings/{reference}")
    charge = client.read(f"/v1/charges/{found['charge']}")
    invoice = paid_invoice(charge.get("payment_intent"))
    if invoice is None:
        return NOT_OURS
    disputing.follow_fraud_warning(
        invoice.pk,
        reference=found["id"],
        reason=found.get("fraud_type") or "",
        actionable=found["actionable"],
        warned_at=_instant(found["created"]),
        now=now,
    )
    holding.follow_holds(now=now, limit=_HELD_AT_ONCE)
    return "fraud warned" if found["actionable"] else "fraud warning answered"


def paid_invoice(intent: str | None) -> Invoice | None:
    """The invoice of ours that a payment intent paid, or None."""
    return next(_paid_by(intent), None) if intent else None


def _apply(found: Json, *, now: datetime) -> str:
    invoice = paid_invoice(found.get("payment_intent"))
    if invoice is None:
        return NOT_OURS
    status = str(found.get("status") or "")
    refunding.follow_refund(
        invoice.pk,
        reference=found["id"],
        amount=found["amount"],
        status=status,
        at=_instant(found["created"]),
        now=now,
    )
    return f"refund {status}"


def _paid_by(intent: str) -> Iterator[Invoice]:
    payment = {"type": "payment_intent", "payment_intent": intent}
    for each in client.read_all("/v1/invoice_payments", payment=payment):
        invoice = Invoice.objects.filter(stripe_invoice=each["invoice"]).first()
        if invoice is not None:
            yield invoice


def _instant(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
