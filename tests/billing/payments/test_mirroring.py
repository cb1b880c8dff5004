"""What an open invoice at Stripe says of its last attempt."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from billing.models import PaymentAttempt
from billing.operations import collecting
from billing.payments import mirroring
from tests.factories.billing import a_subscription, bill, fresh

NOW = datetime(2026, 11, 2, tzinfo=UTC)


def tried(status: str, **intent: Any) -> dict[str, Any]:
    """An open invoice of $20 as Stripe tells it, after one attempt whose intent has this status."""
    told = {"id": "pi_1", "status": status, "last_payment_error": None, "payment_method": "pm_1"}
    payment = {"payment_intent": told | intent, "type": "payment_intent"}
    return {
        "id": "in_1",
        "status": "open",
        "total": 2_000,
        "currency": "usd",
        "attempt_count": 1,
        "next_payment_attempt": None,
        "payments": {"data": [{"status": "open", "created": 1, "payment": payment}]},
    }


def test_a_debit_that_the_bank_has_not_answered_is_no_failure() -> None:
    assert mirroring.failure(tried("processing")) is None
    declined = mirroring.failure(
        tried("requires_payment_method", last_payment_error={"code": "card_declined"})
    )
    assert declined is not None
    assert declined.code == "card_declined"


@pytest.mark.django_db
def test_an_invoice_whose_debit_is_on_its_way_waits_for_it() -> None:
    subscription = a_subscription()
    invoice = bill(subscription, now=NOW)
    collecting.mark_pushed(invoice.pk, stripe_invoice="in_1", now=NOW)
    invoice.refresh_from_db()
    assert mirroring.apply(invoice, found=tried("processing"), now=NOW) == "open"
    after = fresh(invoice)
    assert (after.status, after.attempt_count, after.failure_code) == ("open", 0, "")
    assert fresh(subscription).status == "active"
    assert not PaymentAttempt.objects.exists()
    mirroring.apply(
        invoice,
        found=tried("requires_payment_method", last_payment_error={"code": "debit_not_authorized"}),
        now=NOW,
    )
    assert fresh(invoice).failure_code == "debit_not_authorized"
    assert fresh(subscription).status == "past_due"
