"""A plan is bought, used, billed, paid; then a payment fails and is mended."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from billing.models import Invoice, LedgerEntry, Subscription
from billing.operations import checking, collecting, dunning
from metering.models import Standing
from tests.factories.billing import a_plan, a_subscription, amounts, bill, calls, fresh
from tests.factories.metering import make_meter, report

pytestmark = pytest.mark.django_db

OCTOBER = datetime(2026, 10, 1, tzinfo=UTC)
NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def _paid(invoice: Invoice, *, now: datetime) -> None:
    collecting.mark_pushed(invoice.id, stripe_invoice=f"in_{invoice.id}", now=now)
    collecting.mark_paid(invoice.id, amount_paid=invoice.total, reference="pi_1", now=now)


def test_use_is_billed_collected_and_failure_denied_until_paid() -> None:
    meter = make_meter()
    pro = a_plan(calls(meter, included=1_000), fee=2_000, key="pro")
    subscription = a_subscription(pro)
    customer = subscription.customer
    assert subscription.status == "active"
    report(customer, meter, 1_500, at=OCTOBER + 3 * DAY)

    invoice = bill(subscription, now=NOVEMBER + timedelta(hours=2))

    assert amounts(invoice) == [("fee", 2_000), ("usage", 500)]
    assert (invoice.status, invoice.push, invoice.total) == ("open", "pending", 2_500)
    assert invoice.number == "INV-000001"
    _paid(invoice, now=NOVEMBER + DAY)
    assert fresh(invoice).status == "paid"
    assert checking.broken_invariants(now=NOVEMBER + DAY) == []

    december = datetime(2026, 12, 1, 2, tzinfo=UTC)
    second = bill(subscription, now=december)
    assert amounts(second) == [("fee", 2_000)]
    collecting.mark_pushed(
        second.id, stripe_invoice="in_2", hosted_url="https://pay.example/2", now=december
    )
    collecting.mark_payment_failed(second.id, attempt=1, code="card_declined", now=december)
    standing = Standing.objects.get(customer=customer)
    assert fresh(subscription).status == "past_due"
    assert (standing.deny_code, standing.deny_at) == ("payment_failed", december + 3 * DAY)
    assert standing.invoice_url == "https://pay.example/2"
    dunning.advance(now=december + 4 * DAY, limit=10)
    assert fresh(subscription).status == Subscription.Status.UNPAID
    assert checking.broken_invariants(now=december + 4 * DAY) == []

    collecting.mark_paid(
        second.id, amount_paid=2_000, reference="pi_2", attempt=2, now=december + 5 * DAY
    )
    standing.refresh_from_db()
    assert fresh(subscription).status == "active"
    assert (standing.deny_code, standing.deny_at) == ("", None)
    assert checking.broken_invariants(now=december + 5 * DAY) == []
    assert sum(LedgerEntry.objects.values_list("amount", flat=True)) == 0
