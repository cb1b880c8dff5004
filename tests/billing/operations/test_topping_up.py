"""Topping wallets up: one at a time, never past the cap, not after a failure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import IntegrityError, transaction

from accounts.models import AuditEntry, Customer
from accounts.operations.customers import suspend_customer
from billing.domain.ledger import Account
from billing.domain.top_ups import AutoTopUpTerms, TopUpInvalid
from billing.models import (
    AutoTopUp,
    Invoice,
    LedgerPosting,
    PaymentAttempt,
    StripeCustomer,
    StripeStep,
    Subscription,
    Wallet,
)
from billing.operations import (
    checking,
    collecting,
    crediting,
    disputing,
    drawing,
    topping_up,
)
from billing.operations.holding import hold_collection
from billing.queries.dunning import oldest_failed
from billing.queries.invoices import open_invoices
from billing.queries.ledger import account_balance
from billing.queries.top_ups import auto_top_up_view, topped_up_in_month
from tests.factories.accounts import a_customer
from tests.factories.billing import ACTOR, a_subscription, bill, fresh, give_card
from tests.factories.top_ups import (
    NOW,
    automatic,
    balance,
    begin,
    declined,
    due,
    leave,
    paid,
    pushed,
    spend,
    subscribed,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def customer() -> Customer:
    found = a_customer()
    give_card(found)
    return found


def move_to_zero(customer: Customer) -> None:
    """Take everything out, as invoices would in time."""
    spend(customer, int(balance(customer) * 100))


class TestByHand:
    def test_it_is_an_invoice_that_nobody_owes(self, customer: Customer) -> None:
        top_up = begin(customer)
        assert (top_up.number, top_up.status, top_up.push) == ("TU-000001", "open", "pending")
        assert [(line.kind, line.amount) for line in top_up.lines.all()] == [("top_up", 2_500)]
        assert not LedgerPosting.objects.exists()
        assert not open_invoices(customer.pk).exists()
        assert balance(customer) == 0
        for _ in range(2):
            top_up = paid(top_up)
        assert (top_up.status, balance(customer)) == ("paid", Decimal(25))
        books = {
            account: account_balance(customer.pk, account=account, currency="usd")
            for account in (Account.CASH, Account.WALLET, Account.RECEIVABLE, Account.REVENUE)
        }
        assert list(books.values()) == [2_500, -2_500, 0, 0]
        assert checking.broken_invariants(now=NOW) == []

    def test_one_at_a_time(self, customer: Customer) -> None:
        first = begin(customer)
        with pytest.raises(topping_up.TopUpUnderWay, match=first.public_id):
            begin(customer)
        assert Invoice.objects.count() == 1
        with pytest.raises(IntegrityError, match="one_top_up"), transaction.atomic():
            Invoice.objects.create(
                customer=customer,
                wallet=first.wallet,
                currency="usd",
                period_start_at=NOW,
                period_end_at=NOW,
                created_at=NOW,
            )
        paid(first)
        assert begin(customer).number == "TU-000002"

    def test_a_repeated_request_gets_the_top_up_that_it_began(self, customer: Customer) -> None:
        def ask(amount: int = 2_500, *, key: str = "k1") -> Invoice:
            return topping_up.begin_top_up(
                customer.pk, amount=amount, actor=ACTOR, request_key=key, now=NOW
            )

        first = ask()
        assert ask() == first  # under way
        declined(pushed(first))
        assert (ask(), ask().status) == (first, "void")
        with pytest.raises(topping_up.TopUpRepeated, match=first.public_id):
            ask(2_600)
        assert Invoice.objects.count() == 1
        assert ask(key="k2") != first
        with pytest.raises(IntegrityError, match="per_request"), transaction.atomic():
            Invoice.objects.filter(request_key="k2").update(request_key="k1")

    def test_what_cannot_be_charged_is_refused(self, customer: Customer) -> None:
        with pytest.raises(TopUpInvalid, match=r"at least \$0.50"):
            begin(customer, 49)
        with pytest.raises(topping_up.TopUpRefused, match="no payment method"):
            begin(a_customer())
        hold_collection(customer.pk, reason="fraud", actor=ACTOR, now=NOW)
        with pytest.raises(topping_up.TopUpRefused, match="until an operator"):
            begin(customer)
        assert not Invoice.objects.exists()

    def test_a_failed_one_is_over_and_makes_nobody_past_due(self, customer: Customer) -> None:
        subscription = a_subscription(customer=customer, card=False, start_at=NOW, now=NOW)
        top_up = declined(pushed(begin(customer)))
        assert (top_up.status, top_up.failure_code) == ("void", "card_declined")
        assert oldest_failed(customer.pk) is None
        assert fresh(subscription).status == Subscription.Status.ACTIVE
        assert PaymentAttempt.objects.count() == 1
        begin(customer)
        # Told again, or told late, it changes nothing.
        declined(top_up)
        assert PaymentAttempt.objects.count() == 1

    def test_one_that_must_be_confirmed_waits(self, customer: Customer) -> None:
        top_up = pushed(begin(customer))
        top_up = collecting.mark_action_required(
            top_up.pk, attempt=1, code="authentication_required", now=NOW
        )
        assert (top_up.status, oldest_failed(customer.pk)) == ("open", None)
        assert paid(top_up).failure_code == ""

    def test_given_up_at_stripe_it_is_void(self, customer: Customer) -> None:
        top_up = collecting.mark_uncollectible(pushed(begin(customer)).pk, now=NOW)
        assert top_up.status == "void"
        assert not LedgerPosting.objects.exists()

    def test_canceling(self, customer: Customer) -> None:
        def cancel(top_up: Invoice) -> Invoice:
            return topping_up.cancel_top_up(customer.pk, top_up_id=top_up.pk, actor=ACTOR, now=NOW)

        top_up = begin(customer)
        for _ in range(2):
            assert cancel(top_up).status == "void"
        other = begin(customer)
        paid(other)
        with pytest.raises(topping_up.TopUpRefused, match="paid already"):
            cancel(other)
        give_card(stranger := a_customer())
        for of_no_top_up in (begin(stranger).pk, bill(a_subscription(), now=NOW).pk, 0):
            with pytest.raises(topping_up.TopUpUnknown):
                topping_up.cancel_top_up(customer.pk, top_up_id=of_no_top_up, actor=ACTOR, now=NOW)
        assert Invoice.objects.filter(status="void").count() == 1

    def test_money_for_a_canceled_one_is_in_the_wallet_all_the_same(
        self, customer: Customer
    ) -> None:
        top_up = pushed(begin(customer))
        topping_up.cancel_top_up(customer.pk, top_up_id=top_up.pk, actor=ACTOR, now=NOW)
        for _ in range(2):
            top_up = paid(top_up)
        assert (top_up.status, top_up.paid_at, balance(customer)) == ("void", NOW, Decimal(25))
        assert checking.broken_invariants(now=NOW) == []

    def test_it_is_not_paid_from_the_wallet_nor_credited(self, customer: Customer) -> None:
        crediting.top_up_wallet(customer.pk, amount=9_000, reference="1", actor=ACTOR, now=NOW)
        top_up = begin(customer)
        with pytest.raises(collecting.CollectedByStripe):
            drawing.draw_wallet(top_up.pk, actor=ACTOR, now=NOW)
        collecting.quarantine(top_up.pk, problem="?", now=NOW)
        with pytest.raises(collecting.CollectedByStripe):
            drawing.draw_wallet(top_up.pk, actor=ACTOR, now=NOW)
        with pytest.raises(crediting.TopUpNotCredited):
            crediting.credit_note(top_up.pk, amount=1, reason="x", actor=ACTOR, now=NOW)
        assert balance(customer) == Decimal(90)


class TestAutomatic:
    def test_a_wallet_that_an_invoice_drew_on_is_filled(self, customer: Customer) -> None:
        crediting.top_up_wallet(customer.pk, amount=2_500, reference="1", actor=ACTOR, now=NOW)
        settings = automatic(customer)
        assert due() == 0
        spend(customer, 2_000)
        assert (due(), due()) == (1, 0)
        # A wallet that was chosen while nothing was under way gets its turn, and is left.
        assert topping_up._fill(settings.pk, now=NOW) is False
        top_up = Invoice.objects.get(wallet__isnull=False)
        assert (top_up.automatic, top_up.total) == (True, 2_000)
        paid(top_up)
        assert (balance(customer), due()) == (Decimal(25), 0)
        assert fresh(settings).checked_at == NOW
        assert checking.broken_invariants(now=NOW) == []

    def test_the_cap_ends_it_until_the_next_month(self, customer: Customer) -> None:
        automatic(customer)
        for _ in range(2):
            assert due() == 1
            paid(Invoice.objects.get(status="open"))
            move_to_zero(customer)
        assert due() == 0
        assert due(NOW.replace(day=30, hour=23)) == 0
        assert due(datetime(2026, 12, 1, tzinfo=UTC)) == 1
        assert auto_top_up_view(customer, now=NOW).topped_up == 4_000 + 2_000  # one is under way

    def test_what_began_in_one_month_and_was_paid_in_the_next_counts_in_both(
        self, customer: Customer
    ) -> None:
        automatic(customer, now=NOW)
        due()
        top_up = pushed(Invoice.objects.get())
        december = datetime(2026, 12, 3, tzinfo=UTC)
        paid(top_up, now=december)
        wallet = Wallet.objects.get()
        assert topped_up_in_month(wallet.pk, at=NOW) == 2_000
        assert topped_up_in_month(wallet.pk, at=december) == 2_000
        assert topped_up_in_month(wallet.pk, at=december + timedelta(days=40)) == 0

    def test_one_given_up_counts_until_stripe_cannot_be_paid_any_more(
        self, customer: Customer
    ) -> None:
        automatic(customer)
        due()
        wallet, top_up = Wallet.objects.get(), Invoice.objects.get()
        step: dict[str, Any] = {"subject": top_up.public_id, "invoice": top_up, "request": {}}
        create = StripeStep.objects.create(kind="create", key="1", created_at=NOW, **step)
        declined(pushed(top_up))
        assert topped_up_in_month(wallet.pk, at=NOW) == 2_000
        StripeStep.objects.create(
            kind="void", key="2", created_at=NOW, answer={"status": "void"}, **step
        )
        assert topped_up_in_month(wallet.pk, at=NOW) == 0
        assert create.invoice == top_up

    @pytest.mark.parametrize("resume", ["card", "again"])
    def test_a_failure_suppresses_it_until_something_changes(
        self, customer: Customer, resume: str
    ) -> None:
        settings = automatic(customer)
        due()
        top_up = declined(pushed(Invoice.objects.get()))
        assert fresh(settings).suppressed_by == top_up
        view = auto_top_up_view(customer, now=NOW)
        assert (view.enabled, view.suppressed_code) == (True, "card_declined")
        assert due(NOW + timedelta(days=60)) == 0
        give_card(customer)  # the same card as before
        assert due() == 0
        if resume == "card":
            StripeCustomer.objects.update(payment_method="pm_older")
            give_card(customer)
        else:
            automatic(customer)
        assert due() == 1
        assert AuditEntry.objects.filter(action="auto_top_up.suppressed").count() == 1

    def test_a_payment_to_be_confirmed_suppresses_it_until_it_is_paid(
        self, customer: Customer
    ) -> None:
        settings = automatic(customer)
        due()
        top_up = pushed(Invoice.objects.get())
        code = "authentication_required"
        collecting.mark_action_required(top_up.pk, attempt=1, code=code, now=NOW)
        assert fresh(settings).suppressed_by == top_up
        paid(top_up)
        assert fresh(settings).suppressed_by is None

    def test_canceling_one_stops_the_others(self, customer: Customer) -> None:
        automatic(customer)
        due()
        top_up = Invoice.objects.get()
        topping_up.cancel_top_up(customer.pk, top_up_id=top_up.pk, actor=ACTOR, now=NOW)
        assert due() == 0
        assert auto_top_up_view(customer, now=NOW).suppressed_code == "canceled"

    def test_who_cannot_be_charged_is_left_alone(self, customer: Customer) -> None:
        automatic(customer)
        StripeCustomer.objects.update(payment_method="")
        assert due() == 0
        StripeCustomer.objects.update(payment_method="pm_1", held_at=NOW)
        assert due() == 0
        StripeCustomer.objects.update(held_at=None, deleted_at=NOW)
        assert due() == 0
        StripeCustomer.objects.update(deleted_at=None)
        suspend_customer(customer.pk, reason="x", actor=ACTOR, now=NOW)
        assert due() == 0
        assert not Invoice.objects.exists()

    def test_one_that_fails_keeps_no_other_from_its_turn(self, customer: Customer) -> None:
        automatic(customer)
        Wallet.objects.update(currency="zzz")  # nobody can say what it holds
        give_card(other := a_customer())
        automatic(other)
        assert [topping_up.top_up_due(now=NOW, limit=1) for _ in range(2)] == [0, 1]
        assert Invoice.objects.get().customer == other

    def test_who_has_left_is_not_charged_any_more(self, customer: Customer) -> None:
        settings = automatic(customer)
        leave(customer)
        assert (due(), topping_up._fill(settings.pk, now=NOW)) == (0, False)
        subscribed(customer)
        StripeCustomer.objects.all().delete()
        assert due() == 0
        assert not Invoice.objects.filter(wallet__isnull=False).exists()
        give_card(customer)
        assert due() == 1

    def test_nothing_is_charged_while_a_payment_is_disputed(self, customer: Customer) -> None:
        top_up = paid(pushed(begin(customer)))
        automatic(customer, AutoTopUpTerms(threshold=9_000, amount=2_000, monthly_cap=5_000))
        disputing.follow_dispute(
            top_up.pk,
            reference="du_1",
            amount=2_500,
            reason="fraudulent",
            status="needs_response",
            opened_at=NOW,
            now=NOW,
        )
        assert due() == 0

    def test_thresholds_count_in_the_currency(self) -> None:
        give_card(customer := a_customer(currency="jpy"))
        crediting.top_up_wallet(customer.pk, amount=999, reference="1", actor=ACTOR, now=NOW)
        automatic(customer)
        assert due() == 1
        give_card(other := a_customer(currency="kwd"))
        crediting.top_up_wallet(other.pk, amount=1_000, reference="1", actor=ACTOR, now=NOW)
        automatic(other)
        assert due() == 0

    def test_settings(self, customer: Customer) -> None:
        assert auto_top_up_view(customer, now=NOW).threshold is None
        topping_up.stop_auto_top_up(customer.pk, actor=ACTOR, now=NOW)
        with pytest.raises(TopUpInvalid):
            automatic(customer, AutoTopUpTerms(1_000, 2_000, 1_999))
        assert not AutoTopUp.objects.exists()
        for _ in range(2):
            automatic(customer)
        assert AuditEntry.objects.filter(action="auto_top_up.set").count() == 1
        for _ in range(2):
            topping_up.stop_auto_top_up(customer.pk, actor=ACTOR, now=NOW)
        assert AuditEntry.objects.filter(action="auto_top_up.stopped").count() == 1
        view = auto_top_up_view(customer, now=NOW)
        assert (view.enabled, view.threshold, due()) == (False, 1_000, 0)
        automatic(customer, AutoTopUpTerms(500, 2_000, 5_000))
        assert AutoTopUp.objects.get().threshold == 500

    def test_a_key_only_lowers_them(self, customer: Customer) -> None:
        def tighten(threshold: int, amount: int, cap: int) -> AutoTopUp:
            terms = AutoTopUpTerms(threshold, amount, cap)
            return topping_up.tighten_auto_top_up(customer.pk, terms=terms, actor=ACTOR, now=NOW)

        with pytest.raises(topping_up.AutoTopUpLoosened):
            tighten(1_000, 2_000, 5_000)
        automatic(customer)
        for higher in ((1_001, 2_000, 5_000), (1_000, 2_001, 5_000), (1_000, 2_000, 5_001)):
            with pytest.raises(topping_up.AutoTopUpLoosened, match="in the portal"):
                tighten(*higher)
        assert AutoTopUp.objects.get().monthly_cap == 5_000
        assert tighten(900, 1_000, 2_000).monthly_cap == AutoTopUp.objects.get().monthly_cap
