"""Refunds of top-ups, those that nobody confirms, what checks find, and many at once."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

import pytest

from accounts.models import Customer
from billing.domain.ledger import Account
from billing.domain.top_ups import AutoTopUpTerms
from billing.models import Invoice
from billing.operations import (
    checking,
    closing,
    collecting,
    disputing,
    issuing,
    refunding,
    topping_up,
)
from billing.operations.wallets import fill_wallet
from billing.queries.explanations import explained
from billing.queries.ledger import account_balance
from billing.queries.top_ups import auto_top_up_view
from tests.factories.accounts import a_customer
from tests.factories.billing import a_plan, a_subscription, bill, fresh, give_card
from tests.factories.threads import at_once
from tests.factories.top_ups import NOW, automatic, balance, begin, due, paid, pushed, spend

pytestmark = pytest.mark.django_db


@pytest.fixture
def customer() -> Customer:
    found = a_customer()
    give_card(found)
    return found


class TestRefunds:
    def refund(self, top_up: Invoice, amount: int, status: str = "succeeded") -> None:
        refunding.follow_refund(
            top_up.pk, reference="re_1", amount=amount, status=status, at=NOW, now=NOW
        )

    def test_it_goes_out_of_the_wallet_once_and_comes_back_if_it_fails(
        self, customer: Customer
    ) -> None:
        automatic(customer)
        top_up = paid(pushed(begin(customer)))
        for _ in range(2):
            self.refund(top_up, 2_000)
        assert balance(customer) == Decimal(5)
        assert auto_top_up_view(customer, now=NOW).suppressed_code == "refunded"
        assert due() == 0
        for _ in range(2):
            self.refund(top_up, 2_000, "failed")
        assert balance(customer) == Decimal(25)
        assert checking.broken_invariants(now=NOW) == []

    def test_what_the_wallet_has_no_more_is_at_our_expense(self, customer: Customer) -> None:
        top_up = paid(pushed(begin(customer)))
        spend(customer, 2_000)
        self.refund(top_up, 2_500)
        assert balance(customer) == 0
        refunds = account_balance(customer.pk, account=Account.REFUNDS, currency="usd")
        assert refunds == 2_000
        self.refund(top_up, 2_500, "canceled")
        assert (balance(customer), checking.broken_invariants(now=NOW)) == (Decimal(5), [])


def test_a_lost_dispute_takes_what_is_left_out_of_the_wallet_once(customer: Customer) -> None:
    top_up = paid(pushed(begin(customer)))
    spend(customer, 2_000)
    for status in ("needs_response", "lost", "lost", "under_review"):
        disputing.follow_dispute(
            top_up.pk,
            reference="du_1",
            amount=2_500,
            reason="fraudulent",
            status=status,
            opened_at=NOW,
            now=NOW,
        )
        assert balance(customer) == (Decimal(5) if status == "needs_response" else 0)
    books = [
        account_balance(customer.pk, account=account, currency="usd")
        for account in (Account.CHARGEBACKS, Account.DISPUTED, Account.WALLET, Account.CASH)
    ]
    assert books == [2_000, 0, 0, 0]
    assert checking.broken_invariants(now=NOW) == []


def test_a_top_up_explains_itself(customer: Customer) -> None:
    explanation = explained(begin(customer))
    assert (explanation.holds, explanation.total) == (True, 2_500)


class TestChecks:
    def test_a_wallet_filled_twice_is_found(self, customer: Customer) -> None:
        top_up = paid(pushed(begin(customer)))
        assert top_up.wallet is not None
        Invoice.objects.filter(pk=top_up.pk).update(amount_paid=1)
        found = {broken.subject for broken in checking.broken_invariants(now=NOW)}
        assert top_up.public_id in found
        fill_wallet(top_up, amount=1, reference="pi_1", now=NOW)
        found = {broken.subject for broken in checking.broken_invariants(now=NOW)}
        assert top_up.wallet.public_id in found


@pytest.mark.django_db(transaction=True)
def test_at_once_one_top_up_begins_and_the_cap_holds() -> None:
    give_card(customer := a_customer())
    automatic(customer, AutoTopUpTerms(threshold=1_000, amount=2_000, monthly_cap=2_000))

    def by_hand() -> int:
        try:
            begin(customer)
        except topping_up.TopUpUnderWay:
            return 0
        return 1

    begun = sum(at_once([by_hand, due, by_hand, due]))
    assert begun == Invoice.objects.count() == 1
    top_up = Invoice.objects.get()
    at_once([lambda: paid(top_up).pk, lambda: paid(top_up).pk, due])
    assert balance(customer) == Decimal(top_up.total) / 100
    assert Invoice.objects.filter(automatic=True).count() <= 1
    assert checking.broken_invariants(now=NOW) == []


@pytest.mark.django_db(transaction=True)
def test_refunds_and_draws_at_once_never_overdraw() -> None:
    give_card(customer := a_customer())
    top_up = paid(pushed(begin(customer, 2_000)))
    subscription = a_subscription(a_plan(fee=2_000), customer=customer, card=False)

    def refund() -> None:
        refunding.follow_refund(
            top_up.pk, reference="re_1", amount=2_000, status="succeeded", at=NOW, now=NOW
        )

    def close_and_issue() -> None:
        closing.close_due(now=NOW, limit=1)
        issuing.issue_due(now=NOW, limit=1)

    at_once([refund, refund, close_and_issue])
    bill(subscription, now=NOW)
    assert balance(customer) == 0
    assert checking.broken_invariants(now=NOW) == []


def test_one_that_nobody_confirms_ends_within_a_day(customer: Customer) -> None:
    def asked(attempt: int, at: datetime) -> None:
        collecting.mark_action_required(top_up.pk, attempt=attempt, code=code, now=at)

    code, day = "authentication_required", topping_up.CONFIRM_WITHIN
    settings = automatic(customer)
    due()
    top_up = pushed(Invoice.objects.get())
    asked(1, NOW)
    asked(2, NOW + timedelta(hours=1))  # another card: the day begins anew
    assert topping_up.end_unconfirmed(now=NOW + day, limit=10) == 0
    end = NOW + day + timedelta(hours=1)
    assert topping_up.end_unconfirmed(now=end, limit=10) == 1
    top_up = fresh(top_up)
    assert (top_up.status, top_up.failure_code) == ("void", "confirmation_expired")
    assert fresh(settings).suppressed_by == top_up
    assert auto_top_up_view(customer, now=end).suppressed_code == "confirmation_expired"
    assert topping_up.end_unconfirmed(now=end, limit=10) == 0
    assert topping_up._end_unconfirmed(top_up.pk, now=end) is False
    # Others are not ended by it, and what is confirmed all the same is not lost.
    waits = begin(customer)
    assert topping_up.end_unconfirmed(now=end + day * 9, limit=10) == 0
    assert (fresh(waits).status, balance(customer)) == ("open", Decimal(0))
    paid(top_up)
    assert balance(customer) == Decimal(20)
