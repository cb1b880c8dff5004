"""Credits: granted, used by invoices in their order, returned, expired; the ledger agrees."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import IntegrityError, transaction

from accounts.models import AuditEntry
from accounts.operations.versions import CustomerUnknown
from billing.domain.ledger import Account
from billing.models import Credit, CreditUse, LedgerPosting, Subscription
from billing.operations import checking, closing, collecting, customer_credits, issuing
from billing.queries.invoices import invoice_preview
from billing.queries.ledger import account_balance
from tests.factories.accounts import a_customer
from tests.factories.billing import ACTOR, NOW, START, a_subscription, amounts, bill, fresh
from tests.factories.threads import at_once

pytestmark = pytest.mark.django_db
NOVEMBER, DECEMBER = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)
GRACE = timedelta(days=3)


def grant(subscription: Subscription, amount: int = 500, **terms: Any) -> Credit:
    given: dict[str, Any] = {"actor": ACTOR, "now": NOW, **terms}
    return customer_credits.grant_credit(subscription.customer_id, amount=amount, **given)


def balance(subscription: Subscription, account: Account) -> int:
    return account_balance(subscription.customer_id, account=account, currency="usd")


def lefts() -> list[int]:
    return [each.left for each in Credit.objects.order_by("id")]


def sound(now: datetime = DECEMBER) -> bool:
    return checking.broken_invariants(now=now) == []


@pytest.fixture
def subscription(db: None) -> Subscription:
    return a_subscription()


def test_invoices_use_credits_by_priority_expiry_and_age(subscription: Subscription) -> None:
    paid = grant(subscription, 900, kind="paid")
    older = grant(subscription, 400)
    younger = grant(subscription, 300, now=NOW + timedelta(hours=1))
    expiring = grant(subscription, 200, expires_at=DECEMBER)
    first = grant(subscription, 100, kind="paid", priority=0, expires_at=NOVEMBER)
    too_short = grant(subscription, 50, expires_at=NOVEMBER - timedelta(seconds=1))
    preview = invoice_preview(subscription)
    assert preview is not None
    assert preview.total == 100
    invoice = bill(subscription, now=NOVEMBER + GRACE)
    assert amounts(invoice) == [("fee", 2_000), ("credit", -1_900)]
    assert lefts() == [0, 0, 0, 0, 0, 50]
    assert fresh(too_short).used == 0
    assert sum(CreditUse.objects.values_list("amount", flat=True)) == 1_900
    assert {paid.id, older.id, younger.id, expiring.id, first.id} == set(
        invoice.credit_uses.values_list("credit_id", flat=True)
    )
    assert balance(subscription, Account.PROMOTIONS) == 950
    assert balance(subscription, Account.CASH) == 1_000
    assert sound()


def test_what_an_invoice_does_not_need_stays(subscription: Subscription) -> None:
    grant(subscription, 1_500, priority=5)
    grant(subscription, 1_500, priority=4)
    assert bill(subscription, now=NOVEMBER + GRACE).total == 0
    assert lefts() == [1_000, 0]
    assert bill(subscription, now=DECEMBER + GRACE).total == 1_000
    assert lefts() == [0, 0]
    assert sound()


def test_a_voided_invoice_gives_back_what_it_used(subscription: Subscription) -> None:
    credit = grant(subscription, 500, expires_at=NOVEMBER)
    invoice = bill(subscription, now=NOVEMBER + GRACE)
    assert (invoice.total, fresh(credit).left) == (1_500, 0)
    for _ in range(2):
        collecting.void(invoice.id, now=NOVEMBER + GRACE)
    assert (fresh(credit).left, CreditUse.objects.count()) == (500, 0)
    assert sound()
    for _ in range(2):
        customer_credits.expire_due(now=NOVEMBER + GRACE, limit=10)
    assert (fresh(credit).left, fresh(credit).expired) == (0, 500)
    assert balance(subscription, Account.PROMOTIONS) == 0
    assert sound()


def test_a_credit_lasts_until_the_bills_of_its_time_are_issued(subscription: Subscription) -> None:
    credit = grant(subscription, 2_500, expires_at=NOVEMBER)
    # No worker has closed October yet: expiring closes it, and waits for its invoice.
    assert customer_credits.expire_due(now=NOVEMBER, limit=10) == 0
    assert subscription.invoices.get().status == "draft"
    assert customer_credits.expire_due(now=NOVEMBER + GRACE, limit=10) == 0
    issuing.issue_due(now=NOVEMBER + GRACE, limit=10)
    assert fresh(credit).left == 500
    assert customer_credits.expire_due(now=NOVEMBER + GRACE, limit=10) == 1
    assert customer_credits.expire_due(now=NOVEMBER + GRACE, limit=10) == 0
    assert (fresh(credit).used, fresh(credit).expired) == (2_000, 500)
    assert balance(subscription, Account.CUSTOMER_CREDIT) == 0
    assert balance(subscription, Account.PROMOTIONS) == 2_000
    assert bill(subscription, now=DECEMBER + GRACE).total == 2_000
    assert sound()


def test_what_was_paid_for_is_earned_when_it_expires(subscription: Subscription) -> None:
    credit = grant(subscription, kind="paid", expires_at=NOVEMBER)
    for _ in range(2):
        customer_credits.end_credit(credit.id, actor=ACTOR, now=NOW)
    assert fresh(credit).left == 0
    assert balance(subscription, Account.REVENUE) == -500
    assert AuditEntry.objects.filter(action="credit.expired", actor=ACTOR).count() == 1
    with pytest.raises(customer_credits.CreditUnknown):
        customer_credits.end_credit(1, actor=ACTOR, now=NOW)
    assert sound()


@pytest.mark.parametrize(
    ("terms", "param"),
    [
        ({"amount": 0}, "amount"),
        ({"expires_at": NOW}, "expires_at"),
        ({"priority": -1}, "priority"),
        ({"priority": 1_001}, "priority"),
    ],
)
def test_what_is_no_credit(subscription: Subscription, terms: dict[str, Any], param: str) -> None:
    with pytest.raises(customer_credits.CreditInvalid) as refused:
        grant(subscription, **terms)
    assert refused.value.param == param
    assert not Credit.objects.exists()
    assert not LedgerPosting.objects.exists()


def test_who_and_what_there_is_not() -> None:
    with pytest.raises(CustomerUnknown):
        customer_credits.grant_credit(1, amount=5, actor=ACTOR, now=NOW)
    customer = a_customer(currency="isk")
    with pytest.raises(customer_credits.CreditInvalid, match="multiple of 100"):
        customer_credits.grant_credit(customer.id, amount=150, actor=ACTOR, now=NOW)
    assert not Credit.objects.exists()


def test_the_database_lets_no_cent_be_used_twice(subscription: Subscription) -> None:
    credit = grant(subscription)
    with pytest.raises(IntegrityError), transaction.atomic():
        Credit.objects.filter(pk=credit.pk).update(used=400, expired=101)
    Credit.objects.filter(pk=credit.pk).update(used=1)  # by nobody
    assert [each.invariant for each in checking.broken_invariants(now=NOW)] == ["I6"]


@pytest.mark.django_db(transaction=True)
def test_invoices_and_expiry_at_once_use_each_cent_once() -> None:
    subscription = a_subscription()
    grant(subscription, 2_500, expires_at=NOVEMBER)
    now = NOVEMBER + GRACE
    closing.close_due(now=now, limit=10)
    work = [lambda: issuing.issue_due(now=now, limit=10)] * 2
    work += [lambda: customer_credits.expire_due(now=now, limit=10)] * 2
    at_once(work)
    issuing.issue_due(now=now, limit=10)
    customer_credits.expire_due(now=now, limit=10)
    credit = Credit.objects.get()
    assert (credit.used, credit.expired) == (2_000, 500)
    assert sound(now)


def test_nothing_is_granted_before_it_is_there() -> None:
    subscription = a_subscription()
    customer_credits.grant_credit(subscription.customer_id, amount=5, actor=ACTOR, now=START)
    entry = AuditEntry.objects.get(action="credit.granted")
    assert entry.changes == {"amount": 5, "currency": "usd", "kind": "promotional"}
    posting = LedgerPosting.objects.get(kind="credit_given")
    assert sorted(posting.entries.values_list("account", "amount")) == [
        ("customer_credit", -5),
        ("promotions", 5),
    ]
