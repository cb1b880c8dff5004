"""Beginning, pausing, resuming and ending a subscription."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from accounts.operations.versions import CustomerUnknown
from billing.domain.subscriptions import SubscriptionTransitionRefused
from billing.models import Invoice, Subscription, SubscriptionPhase
from billing.operations import checking, closing, collecting, subscribing
from billing.queries.catalogue import CurrencyUnfit, PlanUnknown
from billing.queries.subscriptions import current_subscription, subscriptions
from metering.models import Entitlement, Standing
from tests.factories.accounts import a_customer
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
    give_card,
)
from tests.factories.metering import make_meter, report

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)
NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)


def denial(subscription: Subscription) -> tuple[str, datetime | None]:
    """What metering would deny the customer with, and from when on."""
    standing = Standing.objects.get(customer=subscription.customer_id)
    return standing.deny_code, standing.deny_at


def sound(now: datetime = NOW) -> bool:
    return checking.broken_invariants(now=now) == []


class TestSubscribing:
    def test_gives_the_rights_of_the_plan(self) -> None:
        meter = make_meter()
        version = a_plan(
            calls(meter, included=5, overage_limit=7),
            {"feature": "sso", "type": "boolean"},
            {"feature": "region", "type": "static", "value": "eu"},
        )
        subscription = a_subscription(version)

        metered, *features = Entitlement.objects.order_by("feature")
        assert (metered.meter_id, metered.window, metered.included) == (meter.id, "month", 5)
        assert (metered.over, metered.overage_limit) == ("bill", 7)
        assert metered.source == subscription.public_id
        assert [(each.feature, each.kind, each.value) for each in features] == [
            ("region", "static", "eu"),
            ("sso", "boolean", ""),
        ]
        assert denial(subscription) == ("", None)
        current = current_subscription(subscription.customer_id)
        assert current is not None
        assert current.version == version
        assert sound()

    def test_periods_follow_the_start_or_the_calendar(self) -> None:
        mid = datetime(2026, 1, 31, 13, 30, 15, 999, tzinfo=UTC)
        follows_start = a_subscription(start_at=mid, now=mid + DAY)
        assert follows_start.current_start_at == mid.replace(microsecond=0)
        assert follows_start.current_end_at == datetime(2026, 2, 28, 13, 30, 15, tzinfo=UTC)

        follows_calendar = a_subscription(start_at=mid, now=mid, anchor="calendar")
        assert follows_calendar.current_end_at == datetime(2026, 2, 1, tzinfo=UTC)
        invoice = bill(follows_calendar, now=datetime(2026, 2, 2, tzinfo=UTC))
        left = 31 * 86_400 - (30 * 86_400 + 13 * 3_600 + 30 * 60 + 15)
        assert amounts(invoice) == [("fee", (2_000 * left * 2 + 2_678_400) // (2 * 2_678_400))]
        assert fresh(follows_calendar).current_start_at == datetime(2026, 2, 1, tzinfo=UTC)

    def test_start_in_the_past_closes_what_is_over(self) -> None:
        start = datetime(2026, 7, 15, tzinfo=UTC)
        subscription = a_subscription(start_at=start, now=NOW)
        assert subscription.current_start_at == datetime(2026, 9, 15, tzinfo=UTC)
        assert Invoice.objects.filter(status="draft").count() == 2
        assert sound()

    @pytest.mark.parametrize("start_at", [NOW + DAY, NOW - 1_200 * DAY])
    def test_impossible_starts_are_refused(self, start_at: datetime) -> None:
        with pytest.raises(subscribing.StartInvalid):
            a_subscription(start_at=start_at, now=NOW)
        assert not Subscription.objects.exists()

    def test_one_at_a_time(self) -> None:
        subscription = a_subscription()
        with pytest.raises(subscribing.AlreadySubscribed):
            a_subscription(customer=subscription.customer)
        subscribing.cancel(subscription.id, when="now", actor=ACTOR, now=NOW)
        with pytest.raises(subscribing.StartInvalid):
            a_subscription(customer=subscription.customer, start_at=START, now=NOW + DAY)
        again = a_subscription(customer=subscription.customer, start_at=None, now=NOW)
        assert list(subscriptions(customer_id=subscription.customer_id)) == [again, subscription]
        assert current_subscription(subscription.customer_id) == again
        assert list(subscriptions(status="canceled")) == [subscription]
        assert sound()

    def test_unfit_plans_and_customers_are_refused(self) -> None:
        euro = a_plan(currency="eur")
        with pytest.raises(CurrencyUnfit):
            a_subscription(euro)
        customer = a_customer()
        given: dict[str, Any] = {"actor": ACTOR, "now": NOW}
        with pytest.raises(PlanUnknown):
            subscribing.subscribe(customer.id, plan="none", **given)
        with pytest.raises(CustomerUnknown):
            subscribing.subscribe(1, plan=euro.plan.key, **given)
        with pytest.raises(subscribing.SubscriptionUnknown):
            subscribing.pause(1, **given)
        assert current_subscription(customer.id) is None
        assert not Subscription.objects.exists()


class TestWithoutAPaymentMethod:
    def test_what_costs_something_waits_and_begins_with_the_card(self) -> None:
        subscription = a_subscription(card=False)
        assert subscription.status == "incomplete"
        assert denial(subscription)[0] == "payment_method_missing"
        assert closing.close_due(now=NOVEMBER + 40 * DAY, limit=10) == 0
        assert sound()

        give_card(subscription.customer, now=NOVEMBER)

        subscription = fresh(subscription)
        assert subscription.status == "active"
        assert (subscription.anchor_at, subscription.current_start_at) == (NOVEMBER, NOVEMBER)
        assert denial(subscription) == ("", None)
        assert SubscriptionPhase.objects.get(end_at=None).start_at == NOVEMBER
        assert sound(NOVEMBER)

    def test_calendar_goes_on_when_the_card_comes(self) -> None:
        subscription = a_subscription(card=False, anchor="calendar", start_at=NOW, now=NOW)
        give_card(subscription.customer, now=NOVEMBER + DAY)
        subscription = fresh(subscription)
        assert subscription.current_start_at == NOVEMBER + DAY
        assert subscription.current_end_at == datetime(2026, 12, 1, tzinfo=UTC)

    @pytest.mark.parametrize("members", [{"fee": 0}, {"collection": "manual"}])
    def test_what_needs_none_is_active_at_once(self, members: dict[str, Any]) -> None:
        version = a_plan(fee=members.pop("fee", 2_000))
        assert a_subscription(version, card=False, **members).status == "active"

    @pytest.mark.parametrize("terms", [{"minimum": 100}, {}])
    def test_minimum_and_billed_overage_need_one(self, terms: dict[str, Any]) -> None:
        version = a_plan(*([] if terms else [calls(make_meter())]), fee=0, **terms)
        assert a_subscription(version, card=False).status == "incomplete"

    def test_incomplete_subscription_ends_without_an_invoice(self) -> None:
        subscription = a_subscription(card=False)
        subscribing.cancel(subscription.id, when="period_end", actor=ACTOR, now=NOW)
        assert fresh(subscription).status == "canceled"
        assert not Invoice.objects.exists()


class TestTrials:
    def test_trial_gives_what_is_included_and_bills_nothing(self) -> None:
        meter = make_meter()
        version = a_plan(calls(meter, included=10), trial_days=14)
        subscription = a_subscription(version)
        assert (subscription.status, subscription.current_end_at) == ("trialing", START + 14 * DAY)
        assert Entitlement.objects.get().over == "deny"
        report(subscription.customer, meter, 500, at=START + DAY)
        assert sound()

        assert closing.close_due(now=START + 15 * DAY, limit=10) == 0
        assert closing.advance_due(now=START + 15 * DAY, limit=10) == 1
        assert closing.advance_due(now=START + 15 * DAY, limit=10) == 0

        subscription = fresh(subscription)
        assert (subscription.status, subscription.current_start_at) == (
            "active",
            START + 14 * DAY,
        )
        assert Entitlement.objects.get().over == "bill"
        assert not Invoice.objects.exists()
        invoice = bill(subscription, now=START + 60 * DAY)
        assert amounts(invoice) == [("fee", 2_000)]
        assert sound(START + 60 * DAY)

    def test_trial_without_card_ends_by_itself_and_goes_on_with_one(self) -> None:
        subscription = a_subscription(a_plan(trial_days=14), card=False)
        assert denial(subscription) == ("trial_ended", START + 14 * DAY)
        closing.advance_due(now=START + 20 * DAY, limit=10)
        assert fresh(subscription).status == "incomplete"
        assert denial(subscription)[0] == "trial_ended"
        assert sound(START + 20 * DAY)

        give_card(subscription.customer, now=START + 21 * DAY)
        subscription = fresh(subscription)
        assert (subscription.status, subscription.anchor_at) == ("active", START + 21 * DAY)
        assert denial(subscription) == ("", None)

    def test_card_that_comes_late_does_not_pay_for_what_was_denied(self) -> None:
        subscription = a_subscription(a_plan(trial_days=14), card=False)
        give_card(subscription.customer, now=START + 21 * DAY)  # no worker looked in between
        assert fresh(subscription).current_start_at == START + 21 * DAY

    def test_free_plan_needs_no_card_after_its_trial(self) -> None:
        subscription = a_subscription(a_plan(trial_days=7, fee=0), card=False)
        closing.advance_due(now=NOW, limit=10)
        assert fresh(subscription).status == "active"

    def test_each_customer_has_one_trial(self) -> None:
        version = a_plan(trial_days=14)
        first = a_subscription(version)
        subscribing.cancel(first.id, when="now", actor=ACTOR, now=NOW)
        assert not Invoice.objects.exists()
        again = a_subscription(version, customer=first.customer, start_at=None, now=NOW)
        assert (again.status, again.trial_end_at) == ("active", None)

    def test_trial_canceled_at_its_end_becomes_nothing(self) -> None:
        subscription = a_subscription(a_plan(trial_days=14))
        subscribing.cancel(subscription.id, when="period_end", actor=ACTOR, now=NOW)
        assert denial(subscription) == ("subscription_inactive", START + 14 * DAY)
        closing.advance_due(now=START + 15 * DAY, limit=10)
        assert fresh(subscription).status == "canceled"
        assert not Invoice.objects.exists()


class TestPausing:
    def test_pause_denies_and_frees_whole_periods_from_the_fee(self) -> None:
        subscription = a_subscription()
        for _ in range(2):
            subscribing.pause(subscription.id, actor=ACTOR, now=NOW)
        assert denial(subscription)[0] == "subscription_inactive"
        assert sound()

        october = bill(subscription, now=NOVEMBER + DAY)
        assert amounts(october) == [("fee", 2_000)]
        november = bill(subscription, now=NOVEMBER + 32 * DAY)
        assert (amounts(november), november.total, november.status) == ([], 0, "paid")

        for _ in range(2):
            subscribing.resume(subscription.id, actor=ACTOR, now=NOVEMBER + 40 * DAY)
        assert denial(subscription) == ("", None)
        december = bill(subscription, now=NOVEMBER + 70 * DAY)
        assert amounts(december) == [("fee", 2_000)]
        assert sound(NOVEMBER + 70 * DAY)

    def test_debt_is_paid_before_a_pause(self) -> None:
        subscription = a_subscription()
        invoice = bill(subscription, now=NOVEMBER + DAY)
        collecting.mark_payment_failed(invoice.id, attempt=1, code="declined", now=NOVEMBER + DAY)
        with pytest.raises(SubscriptionTransitionRefused):
            subscribing.pause(subscription.id, actor=ACTOR, now=NOVEMBER + 2 * DAY)

    def test_failure_while_paused_counts_after_it(self) -> None:
        subscription = a_subscription()
        invoice = bill(subscription, now=NOVEMBER + DAY)
        subscribing.pause(subscription.id, actor=ACTOR, now=NOVEMBER + DAY)
        collecting.mark_payment_failed(
            invoice.id, attempt=1, code="card_declined", now=NOVEMBER + 2 * DAY
        )
        assert fresh(subscription).status == "paused"
        subscribing.resume(subscription.id, actor=ACTOR, now=NOVEMBER + 3 * DAY)
        assert fresh(subscription).status == "past_due"
        assert denial(subscription) == ("payment_failed", NOVEMBER + 5 * DAY)


class TestCanceling:
    def test_now_bills_the_period_in_full_and_takes_everything(self) -> None:
        meter = make_meter()
        subscription = a_subscription(a_plan(calls(meter, included=0)))
        report(subscription.customer, meter, 70, at=START + DAY)
        for _ in range(2):
            subscribing.cancel(subscription.id, when="now", actor=ACTOR, now=NOW)

        subscription = fresh(subscription)
        assert (subscription.status, subscription.canceled_at) == ("canceled", NOW)
        assert denial(subscription)[0] == "subscription_inactive"
        assert not Entitlement.objects.exists()
        assert amounts(bill(subscription, now=NOW + DAY)) == [("fee", 2_000), ("usage", 70)]
        assert closing.close_due(now=NOVEMBER + 90 * DAY, limit=10) == 0
        assert Invoice.objects.count() == 1
        assert sound()

    def test_at_period_end_serves_until_then(self) -> None:
        subscription = a_subscription()
        for _ in range(2):
            subscribing.cancel(subscription.id, when="period_end", actor=ACTOR, now=NOW)
        assert denial(subscription) == ("subscription_inactive", NOVEMBER)
        assert sound()
        assert sound(NOVEMBER + DAY)  # the gate denies although no worker looked yet

        assert closing.close_due(now=NOVEMBER + DAY, limit=10) == 1
        subscription = fresh(subscription)
        assert (subscription.status, subscription.canceled_at) == ("canceled", NOVEMBER)
        assert sound(NOVEMBER + DAY)

    def test_can_be_taken_back_before_it_takes_effect(self) -> None:
        subscription = a_subscription()
        subscribing.keep(subscription.id, actor=ACTOR, now=NOW)
        subscribing.cancel(subscription.id, when="period_end", actor=ACTOR, now=NOW)
        subscribing.keep(subscription.id, actor=ACTOR, now=NOW)
        assert (fresh(subscription).cancel_at, denial(subscription)) == (None, ("", None))
        subscribing.cancel(subscription.id, when="now", actor=ACTOR, now=NOW)
        subscribing.keep(subscription.id, actor=ACTOR, now=NOW)
        assert fresh(subscription).status == "canceled"

    def test_within_the_second_of_its_start_costs_the_period(self) -> None:
        subscription = a_subscription(start_at=None, now=NOW)
        soon = NOW + timedelta(milliseconds=300)
        subscribing.cancel(subscription.id, when="now", actor=ACTOR, now=soon)
        assert amounts(bill(subscription, now=NOW + DAY)) == [("fee", 2_000)]
        again = a_subscription(customer=subscription.customer, start_at=None, now=soon)
        assert again.start_at == NOW + timedelta(seconds=1)

    def test_in_the_first_second_of_a_period_costs_that_period(self) -> None:
        subscription = a_subscription()
        soon = NOVEMBER + timedelta(milliseconds=300)
        subscribing.cancel(subscription.id, when="now", actor=ACTOR, now=soon)
        bill(subscription, now=NOVEMBER + DAY)
        assert [invoice.total for invoice in Invoice.objects.all()] == [2_000, 2_000]

    def test_period_of_a_single_second_is_not_worth_a_bill(self) -> None:
        last = NOVEMBER - timedelta(seconds=1)
        subscription = a_subscription(start_at=last, now=last, anchor="calendar")
        subscribing.cancel(subscription.id, when="now", actor=ACTOR, now=last)
        assert fresh(subscription).status == "canceled"
        assert not Invoice.objects.exists()

    def test_debts_follow_the_customer_into_another_subscription(self) -> None:
        first = a_subscription()
        invoice = bill(first, now=NOVEMBER + DAY)
        collecting.mark_payment_failed(
            invoice.id, attempt=1, code="card_declined", now=NOVEMBER + DAY
        )
        subscribing.cancel(first.id, when="now", actor=ACTOR, now=NOVEMBER + 2 * DAY)
        again = a_subscription(
            first.version, customer=first.customer, start_at=None, now=NOVEMBER + 10 * DAY
        )
        assert again.status == "unpaid"
        assert denial(again)[0] == "payment_failed"
        collecting.mark_paid(
            invoice.id, amount_paid=2_000, reference="pi_1", now=NOVEMBER + 11 * DAY
        )
        assert fresh(again).status == "active"
        assert denial(again) == ("", None)
        assert sound(NOVEMBER + 11 * DAY)
