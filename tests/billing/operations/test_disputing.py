"""Refunds, disputes and warnings: each is posted once, and a hold lasts until it is released."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

import pytest
from pytest_django import Settings

from accounts.models import AuditEntry
from accounts.operations.versions import CustomerUnknown
from billing.domain.ledger import Account
from billing.models import Dispute, Invoice, LedgerPosting, StripeCustomer, StripeStep
from billing.operations import checking, collecting, disputing, holding, refunding
from billing.queries.ledger import account_balance
from billing.queries.spend_limits import spend_limit_view
from tests.factories.accounts import a_customer
from tests.factories.billing import ACTOR, a_plan, a_subscription, bill, calls, fresh
from tests.factories.metering import make_meter

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 11, 2, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)


@pytest.fixture
def invoice() -> Invoice:
    """Paid, of a plan whose usage is billed past what is included."""
    subscription = a_subscription(a_plan(calls(make_meter(key="chat.tokens"))))
    issued = bill(subscription, now=NOW)
    collecting.mark_paid(issued.id, amount_paid=issued.total, reference="pi_1", now=NOW)
    return issued


def booked(invoice: Invoice, *accounts: Account) -> tuple[int, ...]:
    found = (
        account_balance(invoice.customer_id, account=account, currency="usd")
        for account in accounts
    )
    return tuple(found)


def dispute(invoice: Invoice, status: str, *, reference: str = "du_1") -> Dispute:
    return disputing.follow_dispute(
        invoice.id,
        reference=reference,
        amount=1_500,
        reason="fraudulent",
        status=status,
        opened_at=NOW,
        now=NOW,
    )


def warn(invoice: Invoice, *, actionable: bool = True) -> Dispute:
    return disputing.follow_fraud_warning(
        invoice.id,
        reference="issfr_1",
        reason="made_with_stolen_card",
        actionable=actionable,
        warned_at=NOW,
        now=NOW,
    )


def refund(invoice: Invoice, status: str) -> None:
    refunding.follow_refund(
        invoice.id, reference="re_1", amount=300, status=status, at=NOW, now=NOW
    )


def sound() -> bool:
    return checking.broken_invariants(now=NOW) == []


def cap(invoice: Invoice) -> int | None:
    return spend_limit_view(invoice.customer_id, currency="usd", now=NOW).cap


class TestDisputes:
    @pytest.mark.parametrize(
        "order", list(itertools.permutations(["needs_response", "under_review", "lost"]))
    )
    def test_a_lost_one_is_a_chargeback_whatever_is_heard_first(
        self, invoice: Invoice, order: tuple[str, ...]
    ) -> None:
        for status in (*order, *order):
            dispute(invoice, status)
        cash, disputed, lost = booked(invoice, Account.CASH, Account.DISPUTED, Account.CHARGEBACKS)
        assert (cash, disputed, lost) == (invoice.total - 1_500, 0, 1_500)
        assert (fresh(invoice).status, Dispute.objects.get().status) == ("paid", "lost")
        assert LedgerPosting.objects.filter(key__contains="du_1").count() == 2
        assert AuditEntry.objects.filter(action="customer.suspended").count() == 1
        assert sound()

    def test_a_won_one_leaves_everything_as_it_was(self, invoice: Invoice) -> None:
        dispute(invoice, "needs_response")
        assert booked(invoice, Account.DISPUTED) == (1_500,)
        assert cap(invoice) == 0  # nothing past what is included
        dispute(invoice, "won")
        dispute(invoice, "needs_response")
        assert booked(invoice, Account.CASH, Account.DISPUTED) == (invoice.total, 0)
        assert cap(invoice) is None
        assert StripeCustomer.objects.get().held_at is None
        assert fresh(invoice.customer).suspended_at is None

    @pytest.mark.parametrize("status", ["warning_needs_response", "warning_closed", "prevented"])
    def test_an_inquiry_moves_no_money(self, invoice: Invoice, status: str) -> None:
        dispute(invoice, status)
        assert not LedgerPosting.objects.filter(key__contains="du_1").exists()
        assert (Dispute.objects.get().closed_at is None) == (status == "warning_needs_response")

    def test_whether_a_loss_suspends_is_a_setting(
        self, invoice: Invoice, settings: Settings
    ) -> None:
        settings.SUSPEND_ON_LOST_DISPUTE = False
        dispute(invoice, "lost")
        assert fresh(invoice.customer).suspended_at is None
        assert "du_1" in StripeCustomer.objects.get().held_reason


class TestWarnings:
    def test_hold_collection_until_somebody_releases_it(self, invoice: Invoice) -> None:
        warn(invoice)
        row = StripeCustomer.objects.get()
        assert row.held_at == NOW
        assert "issfr_1" in row.held_reason
        assert cap(invoice) == 0
        assert booked(invoice, Account.CASH) == (invoice.total,)
        holding.release_collection(invoice.customer_id, actor=ACTOR, now=LATER)
        warn(invoice)  # heard again
        holding.release_collection(invoice.customer_id, actor=ACTOR, now=LATER)
        assert StripeCustomer.objects.get().held_at is None
        assert cap(invoice) is None
        held = AuditEntry.objects.filter(action__startswith="collection.")
        assert sorted(held.values_list("action", flat=True)) == [
            "collection.held",
            "collection.released",
        ]

    def test_are_over_once_nothing_is_to_be_done(self, invoice: Invoice) -> None:
        warn(invoice)
        assert warn(invoice, actionable=False).closed_at == NOW
        warn(invoice, actionable=True)  # an older message
        assert Dispute.objects.get().status == "answered"


class TestRefunds:
    @pytest.mark.parametrize("status", ["pending", "succeeded"])
    def test_are_posted_once_and_the_invoice_stays_paid(
        self, invoice: Invoice, status: str
    ) -> None:
        refund(invoice, status)
        refund(invoice, "succeeded")
        assert booked(invoice, Account.REFUNDS, Account.CASH) == (300, invoice.total - 300)
        assert (fresh(invoice).status, fresh(invoice).amount_paid) == ("paid", invoice.total)
        assert AuditEntry.objects.filter(action="invoice.refunded").count() == 1
        assert sound()

    @pytest.mark.parametrize("order", [("succeeded", "failed"), ("failed", "succeeded")])
    def test_that_fail_come_back_whatever_is_heard_first(
        self, invoice: Invoice, order: tuple[str, str]
    ) -> None:
        for status in order * 2:
            refund(invoice, status)
        assert booked(invoice, Account.REFUNDS, Account.CASH) == (0, invoice.total)
        assert AuditEntry.objects.filter(action="invoice.refund_failed").count() == 1

    def test_that_wait_for_the_customer_move_nothing(self, invoice: Invoice) -> None:
        refund(invoice, "requires_action")
        assert not LedgerPosting.objects.filter(key__contains="re_1").exists()


class TestLinkingAnew:
    def test_forgets_who_was_deleted(self, invoice: Invoice) -> None:
        row = StripeCustomer.objects.get()
        StripeStep.objects.create(
            subject=invoice.customer.public_id,
            kind="customer",
            key="k",
            request={},
            state="done",
            created_at=NOW,
        )
        with pytest.raises(holding.NotDeletedAtStripe):
            holding.link_anew(invoice.customer_id, actor=ACTOR, now=NOW)
        assert StripeCustomer.objects.get().stripe_customer == row.stripe_customer
        StripeCustomer.objects.update(deleted_at=NOW)
        holding.link_anew(invoice.customer_id, actor=ACTOR, now=NOW)
        assert not StripeCustomer.objects.exists()
        assert StripeStep.objects.get().state == "abandoned"
        with pytest.raises(holding.NotDeletedAtStripe):
            holding.link_anew(invoice.customer_id, actor=ACTOR, now=NOW)

    def test_who_is_not_there_is_not_held(self) -> None:
        customer = a_customer()
        holding.hold_collection(customer.id, reason="x", actor=ACTOR, now=NOW)
        assert not AuditEntry.objects.filter(action="collection.held").exists()
        with pytest.raises(CustomerUnknown):
            holding.hold_collection(0, reason="x", actor=ACTOR, now=NOW)
