"""Each invariant is seen broken, and seen whole."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.db import connection

from billing.models import Invoice, LedgerPosting, StripeStep, Subscription, Wallet
from billing.operations import checking, collecting, crediting, overriding
from metering.models import Entitlement, Standing
from tests.factories.billing import ACTOR, NOW, a_plan, a_subscription, bill, calls
from tests.factories.metering import make_entitlement, make_meter

pytestmark = pytest.mark.django_db

NOVEMBER = datetime(2026, 11, 2, tzinfo=UTC)


@contextmanager
def unguarded(table: str) -> Iterator[None]:
    """Let a test do what the triggers of a table refuse."""
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
        yield
        cursor.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER")


def broken(now: datetime = NOVEMBER) -> list[tuple[str, str]]:
    return [(each.invariant, each.subject) for each in checking.broken_invariants(now=now)]


@pytest.fixture
def subscription() -> Subscription:
    rights = calls(make_meter()), {"feature": "sso", "type": "boolean"}
    return a_subscription(a_plan(*rights))


@pytest.fixture
def invoice(subscription: Subscription) -> Invoice:
    return bill(subscription, now=NOVEMBER)


def test_all_is_well(invoice: Invoice) -> None:
    assert broken() == []


def test_total_that_is_not_the_sum_of_lines(invoice: Invoice) -> None:
    with unguarded("billing_invoiceline"):
        invoice.lines.update(amount=1)
    assert broken() == [("I5", invoice.public_id)]


def test_posting_that_does_not_balance_or_is_empty(invoice: Invoice) -> None:
    posting = LedgerPosting.objects.get()
    with unguarded("billing_ledgerentry"):
        posting.entries.filter(account="revenue").update(amount=-1)
    empty = LedgerPosting.objects.create(
        key="empty", kind="x", customer=invoice.customer, occurred_at=NOW, created_at=NOW
    )
    assert set(broken()) == {("I6", posting.public_id), ("I6", empty.public_id)}


def test_receivable_that_is_not_what_is_due(invoice: Invoice) -> None:
    Invoice.objects.update(amount_paid=1)
    assert broken() == [("I6", invoice.customer.public_id)]


def test_wallet_that_the_ledger_does_not_know(subscription: Subscription) -> None:
    wallet = crediting.top_up_wallet(
        subscription.customer_id, amount=500, reference="x", actor=ACTOR, now=NOW
    )
    assert broken(NOW) == []
    Wallet.objects.update(balance=Decimal("5.01"))
    assert broken(NOW) == [("I6", wallet.public_id)]


def test_stripe_that_tells_another_total(invoice: Invoice) -> None:
    collecting.mark_pushed(invoice.id, stripe_invoice="in_1", now=NOVEMBER)
    step = StripeStep.objects.create(
        subject=invoice.public_id,
        invoice=invoice,
        kind="finalize",
        key="k",
        request={},
        state="done",
        created_at=NOVEMBER,
        answered_at=NOVEMBER,
        answer={"total": 2_000, "currency": "usd"},
    )
    assert broken() == []
    StripeStep.objects.filter(pk=step.pk).update(answer={"total": 2_000, "currency": "eur"})
    assert broken() == [("I7", invoice.public_id)]


def test_entitlements_that_were_not_sold(subscription: Subscription) -> None:
    customer = subscription.customer.public_id
    Entitlement.objects.filter(kind="metered").update(included=10**9)
    assert broken(NOW) == [("I9", customer)] * 2  # what should be is missing, what is was not sold
    Entitlement.objects.filter(kind="metered").delete()
    assert broken(NOW) == [("I9", customer)]


def test_an_override_hides_its_own_right_only(subscription: Subscription) -> None:
    metered = Entitlement.objects.get(kind="metered")
    customer_id = subscription.customer_id
    overriding.override(customer_id, terms={"feature": "beta"}, actor=ACTOR, now=NOW)
    assert broken(NOW) == []
    Entitlement.objects.filter(kind="metered").update(included=10**9)
    assert broken(NOW) == [("I9", subscription.customer.public_id)] * 2
    assert metered.meter is not None
    terms = {"meter": metered.meter.key, "included": 10**9}
    overriding.override(customer_id, terms=terms, actor=ACTOR, now=NOW)
    assert broken(NOW) == []


def test_what_an_operator_gave_may_stand_for_what_the_plan_gives(
    subscription: Subscription,
) -> None:
    metered = Entitlement.objects.get(kind="metered")
    assert metered.meter is not None
    Entitlement.objects.filter(kind="metered").delete()
    make_entitlement(subscription.customer, metered.meter, source="operator", included=9)
    assert broken(NOW) == []


@pytest.mark.parametrize("deny_at", [None, NOW + timedelta(days=1)])
def test_served_although_unpaid(invoice: Invoice, deny_at: datetime | None) -> None:
    collecting.mark_payment_failed(invoice.id, attempt=1, code="declined", now=NOVEMBER)
    over = NOVEMBER + timedelta(days=4)
    assert broken(over) == []
    Standing.objects.update(deny_at=None, deny_code="")
    assert broken(over) == [("I9", invoice.customer.public_id)]


def test_denied_although_paid(subscription: Subscription) -> None:
    Standing.objects.update(deny_at=NOW, deny_code="payment_failed")
    assert broken(NOW) == [("I9", subscription.customer.public_id)]


def test_report_logs_what_is_wrong(
    subscription: Subscription, caplog: pytest.LogCaptureFixture
) -> None:
    assert checking.report(now=NOW) == 0
    Standing.objects.update(deny_at=NOW, deny_code="payment_failed")
    with caplog.at_level(logging.ERROR):
        assert checking.report(now=NOW) == 1
    assert "I9 is broken" in caplog.text
