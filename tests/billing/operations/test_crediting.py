"""Credit notes and wallets."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from accounts.operations.versions import CustomerUnknown
from billing.domain import ledger
from billing.domain.ledger import Account
from billing.models import CreditNote, Invoice, LedgerEntry, LedgerPosting, Subscription, Wallet
from billing.operations import checking, closing, collecting, crediting, drawing
from billing.operations.posting import post
from billing.queries.ledger import account_balance
from tests.factories.accounts import a_customer
from tests.factories.billing import ACTOR, a_plan, a_subscription, bill, fresh

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 11, 2, tzinfo=UTC)


@pytest.fixture
def invoice() -> Invoice:
    return bill(a_subscription(collection="manual"), now=NOW)


def note(invoice: Invoice, amount: int) -> CreditNote:
    return crediting.credit_note(invoice.id, amount=amount, reason="slow", actor=ACTOR, now=NOW)


def test_credit_notes_are_numbered_and_posted(invoice: Invoice) -> None:
    assert [note(invoice, 500).number, note(invoice, 1_500).number] == ["CN-000001", "CN-000002"]
    credit = account_balance(invoice.customer_id, account=Account.CUSTOMER_CREDIT, currency="usd")
    assert (credit, fresh(invoice).total) == (-2_000, 2_000)
    with pytest.raises(crediting.CreditTooMuch, match="At most 0"):
        note(invoice, 1)
    assert checking.broken_invariants(now=NOW) == []


def test_what_cannot_be_credited(invoice: Invoice) -> None:
    for amount in (0, -5):
        with pytest.raises(crediting.AmountInvalid):
            note(invoice, amount)
    with pytest.raises(crediting.CreditTooMuch):
        note(invoice, 2_001)
    collecting.void(invoice.id, now=NOW)
    with pytest.raises(crediting.InvoiceNotIssued):
        note(invoice, 1)
    assert not CreditNote.objects.exists()


def test_drafts_cannot_be_credited() -> None:
    a_subscription()
    closing.close_due(now=NOW, limit=1)
    with pytest.raises(crediting.InvoiceNotIssued):
        note(Invoice.objects.get(), 1)


def test_wallet_is_topped_up_once_per_reference() -> None:
    customer = a_customer(currency="kwd")
    for reference in ("pi_1", "pi_1", "pi_2"):
        wallet = crediting.top_up_wallet(
            customer.id, amount=1_250, reference=reference, actor=ACTOR, now=NOW
        )
    assert wallet.balance == fresh(wallet).balance == Decimal("2.500")
    assert checking.broken_invariants(now=NOW) == []
    with pytest.raises(crediting.AmountInvalid):
        crediting.top_up_wallet(customer.id, amount=0, reference="x", actor=ACTOR, now=NOW)
    with pytest.raises(CustomerUnknown):
        crediting.top_up_wallet(1, amount=1, reference="x", actor=ACTOR, now=NOW)


def test_wallet_pays_an_invoice_or_nothing_of_it(invoice: Invoice) -> None:
    with pytest.raises(drawing.WalletTooEmpty):
        drawing.draw_wallet(invoice.id, actor=ACTOR, now=NOW)
    for amount in (1_999, 101):
        with pytest.raises(drawing.WalletTooEmpty):
            drawing.draw_wallet(invoice.id, actor=ACTOR, now=NOW)
        crediting.top_up_wallet(
            invoice.customer_id, amount=amount, reference=str(amount), actor=ACTOR, now=NOW
        )
    for _ in range(2):
        drawing.draw_wallet(invoice.id, actor=ACTOR, now=NOW)
    assert (fresh(invoice).status, Wallet.objects.get().balance) == ("paid", Decimal(1))
    wallet = account_balance(invoice.customer_id, account=Account.WALLET, currency="usd")
    assert wallet == -100
    assert checking.broken_invariants(now=NOW) == []


def test_wallet_does_not_pay_what_stripe_collects() -> None:
    invoice = bill(a_subscription(), now=NOW)
    with pytest.raises(collecting.CollectedByStripe):
        drawing.draw_wallet(invoice.id, actor=ACTOR, now=NOW)


def test_posting_is_kept_once_per_key() -> None:
    customer = a_customer()
    posting = ledger.wallet_top_up(5, currency="usd")
    kept = [
        post(posting, key="k", customer_id=customer.id, occurred_at=NOW, now=NOW) for _ in range(2)
    ]
    assert kept == [True, False]
    assert (LedgerPosting.objects.count(), LedgerEntry.objects.count()) == (1, 2)


class TestPayingAhead:
    def paid_ahead(self, amount: int, **terms: Any) -> Subscription:
        subscription = a_subscription(**terms)
        crediting.top_up_wallet(
            subscription.customer_id, amount=amount, reference="wire 1", actor=ACTOR, now=NOW
        )
        return subscription

    @pytest.mark.parametrize("collection", ["stripe", "manual"])
    def test_a_wallet_that_holds_all_of_it_pays_an_invoice_as_it_is_issued(
        self, collection: str
    ) -> None:
        subscription = self.paid_ahead(4_500, collection=collection)
        for left, now in ((Decimal(25), NOW), (Decimal(5), NOW + timedelta(days=31))):
            invoice = bill(subscription, now=now)
            assert (invoice.status, invoice.push, invoice.total) == ("paid", "none", 2_000)
            assert Wallet.objects.get().balance == left
        third = bill(subscription, now=NOW + timedelta(days=62))
        assert (third.status, third.amount_due) == ("open", 2_000)
        assert third.push == ("pending" if collection == "stripe" else "none")
        assert Wallet.objects.get().balance == Decimal(5)
        assert LedgerPosting.objects.filter(key__startswith="payment:").count() == 2
        assert checking.broken_invariants(now=third.issued_at or NOW) == []

    def test_what_is_too_small_to_charge_is_paid_with_what_was_carried(self) -> None:
        version = a_plan(fee=30)
        subscription = a_subscription(version)
        first = bill(subscription, now=NOW)
        assert (first.status, first.push) == ("open", "carried")
        crediting.top_up_wallet(
            subscription.customer_id, amount=60, reference="wire 1", actor=ACTOR, now=NOW
        )
        second = bill(subscription, now=NOW + timedelta(days=31))
        assert (second.total, second.status, fresh(first).status) == (60, "paid", "paid")
        assert Wallet.objects.get().balance == 0
        assert checking.broken_invariants(now=NOW + timedelta(days=31)) == []

    def test_another_currency_pays_nothing(self) -> None:
        subscription = a_subscription()
        Wallet.objects.create(
            customer=subscription.customer, currency="eur", balance=99, created_at=NOW
        )
        assert bill(subscription, now=NOW).push == "pending"
