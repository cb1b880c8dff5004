"""What becomes of issued invoices: reports in any order, twice and late."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from billing.domain.invoices import InvoiceTransitionRefused
from billing.domain.ledger import Account
from billing.models import Invoice, LedgerPosting, PaymentAttempt, StripeCustomer, Subscription
from billing.operations import checking, closing, collecting, dunning
from billing.operations.invoice_moves import InvoiceUnknown
from billing.queries.invoices import invoices, open_invoices
from billing.queries.ledger import account_balance
from metering.models import Standing
from tests.factories.accounts import a_customer
from tests.factories.billing import ACTOR, START, a_plan, a_subscription, bill, fresh, give_card

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)
NOW = datetime(2026, 11, 2, tzinfo=UTC)


@pytest.fixture
def subscription() -> Subscription:
    return a_subscription()


@pytest.fixture
def invoice(subscription: Subscription) -> Invoice:
    return bill(subscription, now=NOW)


def balance(invoice: Invoice, account: Account) -> int:
    return account_balance(invoice.customer_id, account=account, currency="usd")


def denial(invoice: Invoice) -> tuple[str, datetime | None]:
    standing = Standing.objects.get(customer=invoice.customer_id)
    return standing.deny_code, standing.deny_at


def pay(invoice: Invoice, amount: int = 2_000, *, now: datetime = NOW) -> None:
    collecting.mark_paid(invoice.id, amount_paid=amount, reference="pi_1", attempt=1, now=now)


def fail(invoice: Invoice, attempt: int = 1, *, now: datetime = NOW) -> None:
    collecting.mark_payment_failed(
        invoice.id, attempt=attempt, code="card_declined", next_attempt_at=now + DAY, now=now
    )


def sound(now: datetime = NOW) -> bool:
    return checking.broken_invariants(now=now) == []


class TestPushing:
    def test_is_noted_once_with_its_lines(self, invoice: Invoice) -> None:
        line = invoice.lines.get()
        for stripe_line in ("il_1", "il_2"):
            collecting.mark_pushed(
                invoice.id,
                stripe_invoice="in_1",
                hosted_url="https://pay.example/1",
                stripe_lines={line.id: stripe_line},
                now=NOW,
            )
        pushed = fresh(invoice)
        assert (pushed.push, pushed.next_push_at, pushed.stripe_invoice) == ("pushed", None, "in_1")
        assert (fresh(line).stripe_line, pushed.hosted_url) == ("il_1", "https://pay.example/1")

    def test_quarantine_lasts_until_an_operator_lets_go(self, invoice: Invoice) -> None:
        for _ in range(2):
            collecting.quarantine(invoice.id, problem="Stripe's total is 1", now=NOW)
        collecting.mark_pushed(invoice.id, stripe_invoice="in_1", now=NOW)
        held = fresh(invoice)
        assert (held.push, held.next_push_at, held.push_problem) == (
            "quarantined",
            None,
            "Stripe's total is 1",
        )
        for _ in range(2):
            collecting.release_quarantine(invoice.id, actor=ACTOR, now=NOW)
        assert (fresh(invoice).push, fresh(invoice).next_push_at) == ("pending", NOW)


class TestPaying:
    def test_posts_once_however_often_it_is_told(self, invoice: Invoice) -> None:
        for _ in range(3):
            pay(invoice)
        paid = fresh(invoice)
        assert (paid.status, paid.amount_paid, paid.paid_at) == ("paid", 2_000, NOW)
        assert balance(invoice, Account.CASH) == 2_000
        assert balance(invoice, Account.RECEIVABLE) == 0
        assert PaymentAttempt.objects.get().outcome == "paid"
        assert not open_invoices(invoice.customer_id).exists()
        assert sound()

    def test_in_parts(self, invoice: Invoice) -> None:
        pay(invoice, 500)
        assert (fresh(invoice).status, fresh(invoice).amount_due) == ("open", 1_500)
        assert list(open_invoices(invoice.customer_id)) == [invoice]
        assert sound()
        pay(invoice, 300)
        assert fresh(invoice).amount_paid == 500
        pay(invoice, 2_000)
        assert fresh(invoice).status == "paid"
        pay(invoice, 2_100, now=NOW + DAY)  # more than was due: we owe it
        assert balance(invoice, Account.RECEIVABLE) == -100
        assert fresh(invoice).paid_at == NOW
        assert sound()

    def test_draft_cannot_be_paid(self, subscription: Subscription) -> None:
        closing.close_due(now=NOW, limit=1)
        with pytest.raises(InvoiceTransitionRefused):
            pay(Invoice.objects.get())
        assert not LedgerPosting.objects.exists()

    def test_by_hand_only_what_stripe_does_not_collect(self, invoice: Invoice) -> None:
        with pytest.raises(collecting.CollectedByStripe):
            collecting.mark_paid_manually(invoice.id, reference="wire", actor=ACTOR, now=NOW)
        manual = bill(a_subscription(collection="manual"), now=NOW)
        for _ in range(2):
            collecting.mark_paid_manually(manual.id, reference="wire", actor=ACTOR, now=NOW)
        assert fresh(manual).status == "paid"
        assert fresh(invoice).status == "open"
        assert sound()

    def test_unknown_invoice(self) -> None:
        with pytest.raises(InvoiceUnknown):
            collecting.quarantine(1, problem="", now=NOW)


class TestFailing:
    def test_first_failure_starts_the_grace(self, invoice: Invoice) -> None:
        fail(invoice)
        fail(invoice)
        fail(invoice, 2, now=NOW + DAY)
        failed = fresh(invoice)
        assert (failed.attempt_count, failed.failure_code) == (2, "card_declined")
        assert failed.next_attempt_at == NOW + 2 * DAY
        assert denial(invoice) == ("payment_failed", NOW + 3 * DAY)
        subscription = fresh(invoice.subscription)
        assert (subscription.status, subscription.past_due_at) == ("past_due", NOW)
        assert PaymentAttempt.objects.count() == 2
        assert sound()

    def test_older_report_changes_nothing(self, invoice: Invoice) -> None:
        fail(invoice, 3, now=NOW + DAY)
        collecting.mark_payment_failed(
            invoice.id, attempt=1, code="expired_card", at=NOW, now=NOW + 2 * DAY
        )
        assert (fresh(invoice).attempt_count, fresh(invoice).failure_code) == (3, "card_declined")
        assert denial(invoice) == ("payment_failed", NOW + 3 * DAY)  # from the first that failed

    def test_failure_after_payment_is_too_late(self, invoice: Invoice) -> None:
        pay(invoice)
        fail(invoice)
        assert (fresh(invoice).status, denial(invoice)) == ("paid", ("", None))
        assert not PaymentAttempt.objects.exclude(outcome="paid").exists()

    def test_confirmation_is_asked_for_by_its_own_code(self, invoice: Invoice) -> None:
        collecting.mark_pushed(
            invoice.id, stripe_invoice="in_1", hosted_url="https://pay.example/1", now=NOW
        )
        collecting.mark_action_required(invoice.id, attempt=1, code="authentication", now=NOW)
        assert denial(invoice) == ("payment_action_required", NOW + 3 * DAY)
        assert Standing.objects.get().invoice_url == "https://pay.example/1"
        pay(invoice, now=NOW + DAY)
        assert denial(invoice) == ("", None)

    def test_grace_ends_by_itself_and_the_status_follows(self, invoice: Invoice) -> None:
        fail(invoice)
        over = NOW + 3 * DAY
        assert dunning.advance(now=over - timedelta(seconds=1), limit=10) == 0
        assert sound(over)  # metering denies although no worker looked yet
        assert dunning.advance(now=over, limit=10) == 1
        assert dunning.advance(now=over, limit=10) == 0
        assert fresh(invoice.subscription).status == "unpaid"
        assert denial(invoice) == ("payment_failed", over)
        assert sound(over)
        pay(invoice, now=over + DAY)
        assert fresh(invoice.subscription).status == "active"
        assert sound(over + DAY)

    def test_no_grace_at_all(self) -> None:
        invoice = bill(a_subscription(a_plan(grace_days=0)), now=NOW)
        fail(invoice)
        assert fresh(invoice.subscription).status == "unpaid"
        assert denial(invoice) == ("payment_failed", NOW)

    def test_younger_failure_has_a_grace_of_its_own(self, subscription: Subscription) -> None:
        october = bill(subscription, now=NOW)
        fail(october)
        dunning.advance(now=NOW + 5 * DAY, limit=10)
        november = bill(subscription, now=NOW + 30 * DAY)
        fail(november, now=NOW + 30 * DAY)
        pay(october, now=NOW + 31 * DAY)
        assert fresh(subscription).status == "past_due"
        assert denial(november) == ("payment_failed", NOW + 33 * DAY)
        pay(november, now=NOW + 32 * DAY)
        assert fresh(subscription).status == "active"

    def test_one_of_two_paid_is_not_enough(self, subscription: Subscription) -> None:
        october = bill(subscription, now=NOW)
        november = bill(subscription, now=NOW + 30 * DAY)
        fail(october, now=NOW + 30 * DAY)
        fail(november, now=NOW + 31 * DAY)
        pay(november, now=NOW + 32 * DAY)
        assert fresh(subscription).status == "past_due"
        assert denial(october) == ("payment_failed", NOW + 33 * DAY)

    def test_manual_failure_of_a_draft_is_ignored(self, subscription: Subscription) -> None:
        closing.close_due(now=NOW, limit=1)
        fail(Invoice.objects.get())
        assert not PaymentAttempt.objects.exists()


class TestGivingUp:
    def test_writes_off_and_keeps_the_customer_denied(self, invoice: Invoice) -> None:
        fail(invoice)
        for _ in range(2):
            collecting.mark_uncollectible(invoice.id, now=NOW + 5 * DAY)
        assert fresh(invoice).status == "uncollectible"
        assert balance(invoice, Account.WRITE_OFF) == 2_000
        assert balance(invoice, Account.RECEIVABLE) == 0
        assert fresh(invoice.subscription).status == "unpaid"
        assert sound(NOW + 5 * DAY)

        pay(invoice, 500, now=NOW + 6 * DAY)
        assert balance(invoice, Account.WRITE_OFF) == 1_500
        assert sound(NOW + 6 * DAY)
        pay(invoice, 2_300, now=NOW + 7 * DAY)
        assert balance(invoice, Account.WRITE_OFF) == 0
        assert (fresh(invoice).status, fresh(invoice.subscription).status) == ("paid", "active")
        assert sound(NOW + 7 * DAY)

    def test_paid_invoice_is_not_given_up(self, invoice: Invoice) -> None:
        pay(invoice)
        collecting.mark_uncollectible(invoice.id, now=NOW)
        assert fresh(invoice).status == "paid"

    def test_partly_paid_loses_the_rest_only(self, invoice: Invoice) -> None:
        pay(invoice, 1_999)
        collecting.mark_uncollectible(invoice.id, now=NOW)
        assert balance(invoice, Account.WRITE_OFF) == 1
        pay(invoice, 1_999)
        pay(invoice, 2_000)
        pay(invoice, 2_001)
        assert balance(invoice, Account.WRITE_OFF) == 0
        assert sound()

    def test_zero_left_posts_nothing(self, invoice: Invoice) -> None:
        pay(invoice, 1_000)
        Invoice.objects.filter(pk=invoice.pk).update(amount_paid=2_000)
        collecting.mark_uncollectible(invoice.id, now=NOW)
        assert balance(invoice, Account.WRITE_OFF) == 0
        pay(invoice, 2_500)
        assert fresh(invoice).status == "paid"


class TestVoiding:
    def test_takes_back_what_was_posted(self, invoice: Invoice) -> None:
        fail(invoice)
        for _ in range(2):
            collecting.void(invoice.id, actor=ACTOR, now=NOW + DAY)
        voided = fresh(invoice)
        assert (voided.status, voided.push, voided.voided_at) == ("void", "none", NOW + DAY)
        assert balance(invoice, Account.RECEIVABLE) == balance(invoice, Account.REVENUE) == 0
        assert denial(invoice) == ("", None)
        assert sound(NOW + DAY)

    def test_after_it_was_given_up(self, invoice: Invoice) -> None:
        collecting.mark_pushed(invoice.id, stripe_invoice="in_1", now=NOW)
        collecting.mark_uncollectible(invoice.id, now=NOW)
        collecting.void(invoice.id, now=NOW)
        assert fresh(invoice).push == "pushed"
        for account in Account:
            assert balance(invoice, account) == 0
        assert sound()

    def test_money_for_a_void_invoice_is_ours_to_give_back(self, invoice: Invoice) -> None:
        collecting.void(invoice.id, now=NOW)
        pay(invoice)
        assert fresh(invoice).status == "void"
        assert balance(invoice, Account.RECEIVABLE) == -2_000
        assert sound()

    def test_what_was_paid_or_not_issued_cannot_be_voided(
        self, invoice: Invoice, subscription: Subscription
    ) -> None:
        pay(invoice, 1)
        with pytest.raises(collecting.InvoiceHasPayments):
            collecting.void(invoice.id, now=NOW)
        closing.close_due(now=NOW + 30 * DAY, limit=1)
        with pytest.raises(InvoiceTransitionRefused):
            collecting.void(Invoice.objects.get(status="draft").id, now=NOW)

    def test_empty_invoice_is_paid_and_stays(self) -> None:
        empty = bill(a_subscription(a_plan(fee=0)), now=NOW)
        with pytest.raises(InvoiceTransitionRefused):
            collecting.void(empty.id, now=NOW)

    def test_voided_credit_of_nothing_posts_nothing(self, invoice: Invoice) -> None:
        # An open invoice of which issuing moved nothing: made by hand, then voided.
        bare = Invoice.objects.create(
            customer=a_customer(),
            currency="usd",
            period_start_at=START,
            period_end_at=NOW,
            created_at=NOW,
        )
        Invoice.objects.filter(pk=bare.pk).update(status="open", number="X-1")
        collecting.void(bare.id, now=NOW)
        assert not LedgerPosting.objects.filter(invoice=bare).exists()


class TestPaymentMethods:
    def test_are_linked_changed_and_lost(self) -> None:
        customer = a_customer()
        give_card(customer, now=NOW)
        give_card(customer, now=NOW + DAY)
        assert StripeCustomer.objects.get().updated_at == NOW
        collecting.payment_method_changed(
            customer.id,
            payment_method="pm_2",
            brand="amex",
            last4="0005",
            expires_on=date(2030, 1, 31),
            now=NOW,
        )
        card = StripeCustomer.objects.get()
        assert (card.stripe_customer, card.payment_method) == (
            f"cus_stripe{customer.id}",
            "pm_2",
        )
        collecting.payment_method_changed(customer.id, payment_method="", now=NOW)
        assert StripeCustomer.objects.get().payment_method == ""

    def test_lost_card_does_not_stop_service_before_an_invoice_fails(
        self, subscription: Subscription
    ) -> None:
        collecting.payment_method_changed(subscription.customer_id, payment_method="", now=NOW)
        assert fresh(subscription).status == "active"
        assert Standing.objects.get().deny_at is None


def test_lists() -> None:
    invoice = bill(a_subscription(), now=NOW)
    other = bill(a_subscription(collection="manual"), now=NOW)
    pay(other)
    assert set(invoices()) == {invoice, other}
    assert list(invoices(customer_id=invoice.customer_id)) == [invoice]
    assert list(invoices(status="paid")) == [other]
