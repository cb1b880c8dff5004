"""From a period that is over to an issued invoice: drafts, late events, numbers, credit."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import IntegrityError, transaction

from billing.domain.ledger import Account
from billing.models import (
    BilledUsage,
    Invoice,
    InvoiceLine,
    LedgerPosting,
    PlanEntitlement,
    PlanVersion,
    Subscription,
)
from billing.operations import checking, closing, collecting, crediting, issuing, subscribing
from billing.operations.drafting import draft_period
from billing.queries.credits import credit_available
from billing.queries.invoices import invoice_preview
from billing.queries.ledger import account_balance
from billing.queries.peers import Peers
from metering.models import Meter, UsageBatch
from metering.operations.granting import grant
from metering.operations.rolling_up import roll_up
from tests.factories.billing import (
    ACTOR,
    NOW,
    START,
    a_plan,
    a_subscription,
    amounts,
    bill,
    calls,
    fresh,
)
from tests.factories.metering import make_meter, report

pytestmark = pytest.mark.django_db

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)
DECEMBER = datetime(2026, 12, 1, tzinfo=UTC)


@pytest.fixture
def meter() -> Meter:
    return make_meter()


def receivable(subscription: Subscription) -> int:
    return account_balance(subscription.customer_id, account=Account.RECEIVABLE, currency="usd")


def credit(subscription: Subscription) -> int:
    customer_id = subscription.customer_id
    return credit_available(
        customer_id, currency="usd", end_at=NOVEMBER, peers=Peers([customer_id])
    )


class TestClosing:
    def test_draft_shows_the_period_and_the_next_one_begins(self, meter: Meter) -> None:
        subscription = a_subscription(a_plan(calls(meter, included=10)))
        report(subscription.customer, meter, 15, at=NOW)
        assert closing.close_due(now=NOVEMBER - HOUR, limit=10) == 0
        assert closing.close_due(now=NOVEMBER, limit=10) == 1
        assert closing.close_due(now=NOVEMBER, limit=10) == 0

        draft = Invoice.objects.get()
        assert (draft.status, draft.number, draft.total) == ("draft", None, 2_005)
        assert (draft.period_start_at, draft.period_end_at) == (START, NOVEMBER)
        moved = fresh(subscription)
        assert (moved.current_start_at, moved.current_end_at) == (NOVEMBER, DECEMBER)
        assert not LedgerPosting.objects.exists()

    def test_draft_of_a_period_is_made_once(self) -> None:
        subscription = a_subscription()
        drafts = {draft_period(subscription, end_at=NOVEMBER, now=NOVEMBER).pk for _ in range(2)}
        assert drafts == {Invoice.objects.get().pk}

    def test_events_within_the_grace_join_the_invoice(self, meter: Meter) -> None:
        subscription = a_subscription(a_plan(calls(meter, included=10)))
        closing.close_due(now=NOVEMBER, limit=10)
        report(subscription.customer, meter, 15, at=NOVEMBER - HOUR)
        report(subscription.customer, meter, 700, at=NOVEMBER)
        assert issuing.issue_due(now=NOVEMBER + timedelta(minutes=59), limit=10) == 0
        assert issuing.issue_due(now=NOVEMBER + HOUR, limit=10) == 1
        assert issuing.issue_due(now=NOVEMBER + HOUR, limit=10) == 0
        invoice = Invoice.objects.get(status="open")
        assert amounts(invoice) == [("fee", 2_000), ("usage", 5)]
        assert invoice.due_at == NOVEMBER + HOUR == invoice.next_push_at

    def test_rolling_up_changes_nothing(self, meter: Meter) -> None:
        subscription = a_subscription(a_plan(calls(meter, included=0)))
        for hour in range(30):
            report(subscription.customer, meter, hour, at=START + hour * HOUR)
        roll_up(limit=17)
        assert bill(subscription, now=NOVEMBER + DAY).total == 2_000 + sum(range(30))

    def test_usage_is_told_apart_from_fee_in_detail(self, meter: Meter) -> None:
        subscription = a_subscription(a_plan(calls(meter, included=10)))
        report(subscription.customer, meter, 15, at=NOW)
        line = bill(subscription, now=NOVEMBER + DAY).lines.get(kind="usage")
        assert (line.meter, line.quantity, line.version) == (meter, 5, subscription.version)
        assert line.detail["used"] == 15
        assert line.detail["amount"] == "0.05"
        assert [tier["quantity"] for tier in line.detail["tiers"]] == [5]

    def test_minimum_is_made_up(self, meter: Meter) -> None:
        subscription = a_subscription(a_plan(calls(meter, included=0), fee=0, minimum=1_000))
        report(subscription.customer, meter, 400, at=NOW)
        invoice = bill(subscription, now=NOVEMBER + DAY)
        assert amounts(invoice) == [("usage", 400), ("minimum", 600)]

    def test_grants_pay_before_overage_is_billed(self, meter: Meter) -> None:
        subscription = a_subscription(a_plan(calls(meter, included=100)))
        customer = subscription.customer
        report(customer, meter, 120, at=NOW)
        grant(customer.id, meter_id=meter.id, quantity=50, actor=ACTOR, now=NOW + HOUR)
        report(customer, meter, 80, at=NOW + 2 * HOUR)
        invoice = bill(subscription, now=NOVEMBER + DAY)
        assert amounts(invoice) == [("fee", 2_000), ("usage", 200 - 100 - 50)]
        assert invoice.lines.get(kind="usage").detail["granted"] == 50
        assert account_balance(customer.id, account=Account.REVENUE, currency="usd") == -2_050

    def test_windows_within_the_period_are_counted_one_by_one(self, meter: Meter) -> None:
        subscription = a_subscription(a_plan(calls(meter, included=10, window="day"), fee=0))
        for day, quantity in ((0, 15), (1, 9), (2, 11), (30, 100)):
            report(subscription.customer, meter, quantity, at=START + day * DAY + HOUR)
        invoice = bill(subscription, now=NOVEMBER + DAY)
        assert amounts(invoice) == [("usage", 5 + 0 + 1 + 90)]

    def test_weeks_that_cross_the_period_are_billed_once(self, meter: Meter) -> None:
        subscription = a_subscription(a_plan(calls(meter, included=10, window="week"), fee=0))
        crossing = START + 28 * DAY  # a week of which three days lie in October
        report(subscription.customer, meter, 60, at=crossing + DAY)
        report(subscription.customer, meter, 60, at=NOVEMBER + HOUR)
        assert bill(subscription, now=NOVEMBER + DAY).total == 50
        assert bill(subscription, now=DECEMBER + DAY).total == 60

    def test_lifetime_includes_once(self, meter: Meter) -> None:
        subscription = a_subscription(a_plan(calls(meter, included=100, window="lifetime"), fee=0))
        report(subscription.customer, meter, 160, at=NOW)
        report(subscription.customer, meter, 70, at=NOVEMBER + DAY)
        assert bill(subscription, now=NOVEMBER + DAY).total == 60
        assert bill(subscription, now=DECEMBER + DAY).total == 70

    def test_what_is_unlimited_or_denied_is_not_billed(self, meter: Meter) -> None:
        other = make_meter()
        unlimited = {"meter": other.key, "type": "metered", "unlimited": True}
        subscription = a_subscription(a_plan(calls(meter, included=1, price=None), unlimited))
        for each in (meter, other):
            report(subscription.customer, each, 5_000, at=NOW)
        assert amounts(bill(subscription, now=NOVEMBER + DAY)) == [("fee", 2_000)]

    def test_period_denied_for_payment_throughout_has_no_fee(self) -> None:
        subscription = a_subscription()
        invoice = bill(subscription, now=NOVEMBER + DAY)
        collecting.mark_payment_failed(invoice.id, attempt=1, code="declined", now=NOVEMBER + DAY)
        assert bill(subscription, now=DECEMBER + DAY).total == 2_000
        assert bill(subscription, now=DECEMBER + 40 * DAY).total == 0

    def test_poisoned_subscription_keeps_no_other_from_its_turn(self, meter: Meter) -> None:
        sound = a_subscription()
        broken = a_plan(activate=False)
        PlanEntitlement.objects.create(
            version=broken, kind="metered", meter=meter, over="bill", price={"model": "nonsense"}
        )
        PlanVersion.objects.filter(pk=broken.pk).update(state="active")
        poisoned = a_subscription(broken)
        assert closing.close_due(now=NOVEMBER + DAY, limit=10) == 1
        assert fresh(sound).current_start_at == NOVEMBER
        assert fresh(poisoned).current_start_at == START
        assert Invoice.objects.count() == 1


class TestLateEvents:
    def test_become_adjustments_of_the_next_invoice(self, meter: Meter) -> None:
        volume: dict[str, Any] = {
            "model": "volume",
            "tiers": [{"up_to": 100, "unit_price": "0.10"}, {"up_to": None, "unit_price": "0.05"}],
        }
        subscription = a_subscription(a_plan(calls(meter, included=0, price=volume)))
        report(subscription.customer, meter, 90, at=NOW)
        first = bill(subscription, now=NOVEMBER + DAY)
        assert first.total == 2_900
        report(subscription.customer, meter, 30, at=NOW)  # 120 units cost less than 90

        second = bill(subscription, now=DECEMBER + DAY)

        assert amounts(second) == [("fee", 2_000), ("adjustment", 600 - 900)]
        line = second.lines.get(kind="adjustment")
        assert (line.quantity, line.start_at, line.detail["adjusts"]) == (
            30,
            START,
            first.public_id,
        )
        assert amounts(bill(subscription, now=DECEMBER + 40 * DAY)) == [("fee", 2_000)]
        assert fresh(first).total == 2_900
        assert checking.broken_invariants(now=DECEMBER + 40 * DAY) == []

    def test_that_are_included_are_remembered_without_a_line(self, meter: Meter) -> None:
        subscription = a_subscription(a_plan(calls(meter, included=1_000)))
        bill(subscription, now=NOVEMBER + DAY)
        report(subscription.customer, meter, 30, at=NOW)
        assert amounts(bill(subscription, now=DECEMBER + DAY)) == [("fee", 2_000)]
        assert BilledUsage.objects.get(start_at=START).quantity == 30

    def test_that_vanish_give_credit_for_what_comes(self, meter: Meter) -> None:
        subscription = a_subscription(a_plan(calls(meter, included=0), fee=0))
        report(subscription.customer, meter, 900, at=NOW)
        assert bill(subscription, now=NOVEMBER + DAY).total == 900
        batch = UsageBatch.objects.get()
        batch.deltas[0][4] = 100  # as a correction leaves it
        batch.save()
        report(subscription.customer, meter, 300, at=NOVEMBER + DAY)

        second = bill(subscription, now=DECEMBER + DAY)

        assert amounts(second) == [("usage", 300), ("adjustment", -800)]
        assert (second.total, second.status, second.push) == (-500, "paid", "none")
        assert credit(subscription) == 500
        report(subscription.customer, meter, 700, at=DECEMBER + DAY)
        third = bill(subscription, now=DECEMBER + 40 * DAY)
        assert amounts(third) == [("usage", 700), ("credit", -500)]
        assert (third.status, third.push, receivable(subscription)) == ("open", "pending", 1_100)
        assert checking.broken_invariants(now=DECEMBER + 40 * DAY) == []

    def test_of_another_subscription_are_billed_too(self, meter: Meter) -> None:
        version = a_plan(calls(meter, included=0))
        first = a_subscription(version)
        subscribing.cancel(first.id, when="now", actor=ACTOR, now=NOW)
        bill(first, now=NOW + DAY)
        again = a_subscription(version, customer=first.customer, start_at=None, now=NOW + DAY)
        report(first.customer, meter, 33, at=START + DAY)
        assert amounts(bill(again, now=NOW + 40 * DAY)) == [("fee", 2_000), ("adjustment", 33)]

    def test_too_old_to_have_come_are_not_looked_for(self, meter: Meter) -> None:
        subscription = a_subscription(a_plan(calls(meter, included=0), fee=0))
        for month in range(6):
            bill(subscription, now=NOVEMBER + month * 31 * DAY + DAY)
        report(subscription.customer, meter, 33, at=NOW)
        assert bill(subscription, now=NOVEMBER + 190 * DAY).total == 0

    def test_invoice_without_usage_terms_has_nothing_to_adjust(self) -> None:
        subscription = a_subscription()
        bill(subscription, now=NOVEMBER + DAY)
        assert amounts(bill(subscription, now=DECEMBER + DAY)) == [("fee", 2_000)]


class TestIssuing:
    def test_numbers_have_no_gaps(self) -> None:
        for _ in range(3):
            a_subscription()
        closing.close_due(now=DECEMBER + DAY, limit=10)
        assert issuing.issue_due(now=DECEMBER + DAY, limit=4) == 4
        assert issuing.issue_due(now=DECEMBER + DAY, limit=4) == 2
        numbers = Invoice.objects.order_by("number").values_list("number", flat=True)
        assert list(numbers) == [f"INV-{number:06d}" for number in range(1, 7)]

    def test_each_legal_entity_counts_for_itself_and_a_failure_leaves_no_gap(
        self, settings: Any
    ) -> None:
        first = bill(a_subscription(a_plan()), now=NOVEMBER + DAY)
        settings.INVOICE_PREFIX = "ACME"
        second = a_subscription(a_plan())
        with transaction.atomic():
            bill(second, now=NOVEMBER + DAY)
            transaction.set_rollback(True)
        assert bill(second, now=NOVEMBER + DAY).number == "ACME-000001"
        settings.INVOICE_PREFIX = "INV"
        assert [first.number, bill(a_subscription(a_plan()), now=NOVEMBER + DAY).number] == [
            "INV-000001",
            "INV-000002",
        ]

    def test_older_periods_go_first(self) -> None:
        subscription = a_subscription()
        closing.close_due(now=DECEMBER + DAY, limit=10)
        newest = Invoice.objects.get(period_start_at=NOVEMBER)
        for _ in range(2):
            issued = issuing.issue(newest.id, now=DECEMBER)
        assert issued.number == "INV-000002"
        assert not Invoice.objects.filter(subscription=subscription, status="draft").exists()

    def test_what_is_blocked_by_an_older_draft_waits(self, meter: Meter) -> None:
        subscription = a_subscription(a_plan(calls(meter)))
        closing.close_due(now=DECEMBER + DAY, limit=10)
        older, newer = Invoice.objects.order_by("period_start_at")
        Invoice.objects.filter(pk=older.pk).update(basis={})  # cannot be read: must not be passed
        assert issuing.issue_due(now=DECEMBER + DAY, limit=10) == 0
        assert fresh(newer).status == "draft"
        assert subscription.customer.invoices.count() == 2

    def test_manual_invoices_are_not_pushed_and_due_later(self) -> None:
        subscription = a_subscription(collection="manual", card=False)
        invoice = bill(subscription, now=NOVEMBER + DAY)
        assert (invoice.status, invoice.push, invoice.next_push_at) == ("open", "none", None)
        assert invoice.due_at == NOVEMBER + 31 * DAY

    def test_issued_invoices_are_kept_by_the_database(self) -> None:
        invoice = bill(a_subscription(), now=NOVEMBER + DAY)
        for change in ({"total": 1}, {"number": "X"}, {"status": "draft"}):
            with pytest.raises(IntegrityError), transaction.atomic():
                Invoice.objects.filter(pk=invoice.pk).update(**change)
        with pytest.raises(IntegrityError), transaction.atomic():
            InvoiceLine.objects.filter(invoice=invoice).update(amount=1)


class TestSmallAmounts:
    def test_are_carried_until_they_can_be_collected(self, meter: Meter) -> None:
        subscription = a_subscription(a_plan(calls(meter, included=0), fee=0))
        for month_start, used in ((START, 30), (NOVEMBER, 15), (DECEMBER, 40)):
            report(subscription.customer, meter, used, at=month_start + DAY)
        first = bill(subscription, now=NOVEMBER + DAY)
        second = bill(subscription, now=DECEMBER + DAY)
        third = bill(subscription, now=DECEMBER + 40 * DAY)

        assert (fresh(first).push, fresh(first).carried_to) == ("carried", second)
        assert amounts(second) == [("usage", 15), ("adjustment", 30)]
        assert amounts(third) == [("usage", 40), ("adjustment", 45)]
        assert (third.push, third.total, receivable(subscription)) == ("pending", 85, 85)
        assert [fresh(each).amount_due for each in (first, second, third)] == [0, 0, 85]
        assert checking.broken_invariants(now=DECEMBER + 40 * DAY) == []

        collecting.mark_paid(third.id, amount_paid=85, reference="pi", now=DECEMBER + 41 * DAY)
        assert {fresh(each).status for each in (first, second, third)} == {"paid"}
        assert receivable(subscription) == 0
        assert checking.broken_invariants(now=DECEMBER + 41 * DAY) == []

    def test_wait_again_when_the_invoice_that_took_them_is_voided(self, meter: Meter) -> None:
        subscription = a_subscription(a_plan(calls(meter, included=0), fee=0))
        report(subscription.customer, meter, 30, at=NOW)
        report(subscription.customer, meter, 100, at=NOVEMBER + DAY)
        first = bill(subscription, now=NOVEMBER + DAY)
        second = bill(subscription, now=DECEMBER + DAY)
        collecting.void(second.id, now=DECEMBER + 2 * DAY)
        assert (fresh(first).carried_to, receivable(subscription)) == (None, 30)
        third = bill(subscription, now=DECEMBER + 40 * DAY)
        assert amounts(third) == [("adjustment", 30)]
        assert checking.broken_invariants(now=DECEMBER + 40 * DAY) == []


class TestCredit:
    def test_settles_what_comes_first(self) -> None:
        subscription = a_subscription()
        first = bill(subscription, now=NOVEMBER + DAY)
        crediting.credit_note(
            first.id, amount=1_900, reason="outage", actor=ACTOR, now=NOVEMBER + DAY
        )
        second = bill(subscription, now=DECEMBER + DAY)
        assert amounts(second) == [("fee", 2_000), ("credit", -1_900)]
        assert (second.total, receivable(subscription)) == (100, 2_100)
        assert credit(subscription) == 0

        collecting.void(second.id, now=DECEMBER + 2 * DAY)
        assert credit(subscription) == 1_900
        assert checking.broken_invariants(now=DECEMBER + 2 * DAY) == []

    def test_can_settle_all_of_it(self) -> None:
        subscription = a_subscription()
        first = bill(subscription, now=NOVEMBER + DAY)
        crediting.credit_note(
            first.id, amount=2_000, reason="outage", actor=ACTOR, now=NOVEMBER + DAY
        )
        second = bill(subscription, now=DECEMBER + DAY)
        assert (second.total, second.status) == (0, "paid")
        assert checking.broken_invariants(now=DECEMBER + DAY) == []


class TestPreview:
    def test_is_what_will_be_billed(self, meter: Meter) -> None:
        subscription = a_subscription(a_plan(calls(meter, included=10)))
        report(subscription.customer, meter, 40, at=NOW)
        preview = invoice_preview(subscription)
        assert preview is not None
        assert preview.total == bill(subscription, now=NOVEMBER + DAY).total

    def test_is_none_where_nothing_will_be_billed(self) -> None:
        assert invoice_preview(a_subscription(card=False)) is None
        assert invoice_preview(a_subscription(a_plan(trial_days=90))) is None
