"""Changing the plan, now and later, up and down, within an interval and across."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from fractions import Fraction

import pytest

from billing.domain.plan_changes import ChangeWhen, PlanChangeRefused
from billing.models import Invoice, PlanVersion, SubscriptionPhase
from billing.operations import changing, checking, closing, collecting, subscribing
from metering.models import Balance, Entitlement, Meter
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

DAY = timedelta(days=1)
NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)
NOW_, LATER = ChangeWhen.NOW, ChangeWhen.PERIOD_END


def to(
    subscription_id: int,
    version: PlanVersion,
    when: ChangeWhen | None = None,
    *,
    now: datetime = NOW,
) -> None:
    changing.change_plan(subscription_id, plan=version.plan.key, when=when, actor=ACTOR, now=now)


@pytest.fixture
def meter() -> Meter:
    return make_meter()


@pytest.fixture
def free(meter: Meter) -> PlanVersion:
    return a_plan(calls(meter, included=1_000, price=None), fee=0, key="free")


@pytest.fixture
def pro(meter: Meter) -> PlanVersion:
    return a_plan(calls(meter, included=5_000), fee=3_100, key="pro")


def test_upgrade_takes_over_at_once_and_shares_the_fee(
    meter: Meter, free: PlanVersion, pro: PlanVersion
) -> None:
    subscription = a_subscription(free)
    report(subscription.customer, meter, 1_000, at=START + DAY)

    to(subscription.id, pro)

    entitlement = Entitlement.objects.get()
    assert (entitlement.included, entitlement.anchor_at) == (5_000, START)
    assert Balance.objects.get().used == 1_000  # the window goes on: changing mints nothing
    report(subscription.customer, meter, 4_500, at=NOW + DAY)
    invoice = bill(subscription, now=NOVEMBER + DAY)
    # 21 of 31 days are left: 1,000 and 21/31 of the 4,000 that the plan includes more.
    assert amounts(invoice) == [("fee", 2_100), ("usage", 5_500 - 3_710)]
    assert invoice.lines.get(kind="usage").detail["included"] == 3_710
    assert checking.broken_invariants(now=NOVEMBER + DAY) == []


def test_each_phase_is_rated_by_its_own_version(meter: Meter, pro: PlanVersion) -> None:
    cheap = a_plan(
        calls(meter, included=100, price={"model": "per_unit", "unit_price": "0.02"}),
        fee=1_000,
        key="basic",
    )
    subscription = a_subscription(cheap)
    report(subscription.customer, meter, 150, at=START + DAY)
    to(subscription.id, pro)
    report(subscription.customer, meter, 4_950, at=NOW)

    invoice = bill(subscription, now=NOVEMBER + DAY)

    first = 1_000 - round(Fraction(1_000 * 21, 31))
    assert amounts(invoice) == [("fee", first), ("fee", 2_100), ("usage", 100), ("usage", 1_681)]
    # Included in October: 100 and 21/31 of 4,900.
    assert [line.quantity for line in invoice.lines.filter(kind="usage")] == [50, 5_100 - 3_419]


def test_tiers_go_on_where_the_phase_before_stood(meter: Meter) -> None:
    graduated = {
        "model": "graduated",
        "tiers": [{"up_to": 100, "unit_price": "1"}, {"up_to": None, "unit_price": "0.5"}],
    }
    small = a_plan(calls(meter, included=0, price=graduated), fee=0, key="small")
    large = a_plan(calls(meter, included=0, price=graduated), fee=3_100, key="large")
    subscription = a_subscription(small)
    report(subscription.customer, meter, 80, at=START + DAY)
    to(subscription.id, large)
    report(subscription.customer, meter, 80, at=NOW + DAY)

    invoice = bill(subscription, now=NOVEMBER + DAY)

    assert amounts(invoice) == [("fee", 2_100), ("usage", 8_000), ("usage", 2_000 + 3_000)]
    assert invoice.lines.get(amount=5_000).detail["billed_before"] == 80


def test_downgrade_waits_for_the_period_to_end(free: PlanVersion, pro: PlanVersion) -> None:
    subscription = a_subscription(pro)
    to(subscription.id, free)
    waiting = fresh(subscription)
    assert (waiting.version, waiting.pending_version) == (pro, free)
    assert Entitlement.objects.get().included == 5_000

    assert amounts(bill(subscription, now=NOVEMBER + DAY)) == [("fee", 3_100)]

    changed = fresh(subscription)
    assert (changed.version, changed.pending_version) == (free, None)
    assert Entitlement.objects.get().included == 1_000
    assert checking.broken_invariants(now=NOVEMBER + DAY) == []


def test_downgrade_now_gives_nothing_back(free: PlanVersion, pro: PlanVersion) -> None:
    subscription = a_subscription(pro)
    to(subscription.id, free, NOW_)
    assert Entitlement.objects.get().included == 1_000
    assert amounts(bill(subscription, now=NOVEMBER + DAY)) == [("fee", 3_100)]
    assert amounts(bill(subscription, now=NOVEMBER + 32 * DAY)) == []


def test_going_to_and_fro_costs_as_much_as_staying(free: PlanVersion, pro: PlanVersion) -> None:
    subscription = a_subscription(free)
    for seconds, version in enumerate((pro, free, pro, free)):
        to(subscription.id, version, NOW_, now=NOW + timedelta(seconds=seconds))
    assert amounts(bill(subscription, now=NOVEMBER + DAY)) == [("fee", 2_100)]
    assert checking.broken_invariants(now=NOVEMBER + DAY) == []


def test_change_in_the_last_second_of_a_period_takes_the_place_of_the_phase(
    free: PlanVersion, pro: PlanVersion
) -> None:
    last = NOVEMBER - timedelta(seconds=1)
    subscription = a_subscription(free, start_at=last, now=last, anchor="calendar")
    changing.change_plan(subscription.id, plan="pro", when=NOW_, actor=ACTOR, now=last)
    assert SubscriptionPhase.objects.get().version == pro


def test_preview_in_the_last_second_of_a_period(free: PlanVersion, pro: PlanVersion) -> None:
    last = NOVEMBER - timedelta(seconds=1)
    subscription = a_subscription(free)
    basic = a_plan(fee=1_000, key="basic")
    changing.change_plan(subscription.id, plan="basic", when=NOW_, actor=ACTOR, now=last)
    preview = changing.preview_change(subscription.id, plan="pro", when=NOW_, now=last)
    assert (preview.effective_at, fresh(subscription).version) == (last, basic)
    assert preview.invoice.total == 0  # a second of a month: less than a cent


def test_waiting_change_is_taken_back(free: PlanVersion, pro: PlanVersion) -> None:
    subscription = a_subscription(pro)
    for _ in range(2):
        to(subscription.id, free, LATER)
        to(subscription.id, pro)
        to(subscription.id, pro)
    assert fresh(subscription).pending_version is None


def test_other_interval_ends_the_period_in_full_and_begins_its_own(pro: PlanVersion) -> None:
    yearly = a_plan(fee=30_000, interval="year", key="yearly")
    dear = a_plan(fee=90_000, interval="year", key="dear")
    subscription = a_subscription(pro)
    to(subscription.id, dear)

    changed = fresh(subscription)
    assert (changed.anchor_at, changed.current_start_at) == (NOW, NOW)
    assert changed.current_end_at == NOW.replace(year=2027)
    assert amounts(bill(changed, now=NOW + DAY)) == [("fee", 3_100)]
    assert SubscriptionPhase.objects.count() == 2

    with pytest.raises(PlanChangeRefused, match="wait for the next"):
        to(subscription.id, yearly, NOW_)  # within the second in which the period began
    to(subscription.id, yearly, NOW_, now=NOW + timedelta(seconds=1))
    assert fresh(subscription).current_start_at == NOW
    assert amounts(bill(changed, now=NOW.replace(year=2027) + DAY)) == [("fee", 90_000)]
    assert amounts(bill(changed, now=NOW.replace(year=2028) + DAY)) == [("fee", 30_000)]
    assert checking.broken_invariants(now=NOW.replace(year=2028) + DAY) == []


def test_other_interval_at_period_end_has_an_anchor_there(pro: PlanVersion) -> None:
    weekly = a_plan(fee=100, interval="week", key="weekly")
    subscription = a_subscription(pro, anchor="calendar", start_at=NOW, now=NOW)
    to(subscription.id, weekly)
    closing.close_due(now=NOVEMBER + DAY, limit=10)
    changed = fresh(subscription)
    assert (changed.version, changed.anchor_at) == (weekly, NOVEMBER)
    assert changed.current_end_at == NOVEMBER + 7 * DAY


def test_cancellation_follows_a_period_that_begins_anew(pro: PlanVersion) -> None:
    dear = a_plan(fee=90_000, interval="year", key="dear")
    subscription = a_subscription(pro)
    subscribing.cancel(subscription.id, when="period_end", actor=ACTOR, now=NOW)
    to(subscription.id, dear, NOW_)
    assert fresh(subscription).cancel_at == NOW.replace(year=2027)


def test_trial_changes_at_once_and_free(free: PlanVersion) -> None:
    trial = a_plan(trial_days=30, key="trial")
    weekly = a_plan(fee=100, interval="week", key="weekly")
    subscription = a_subscription(trial)
    to(subscription.id, weekly)
    changed = fresh(subscription)
    assert (changed.status, changed.version) == ("trialing", weekly)
    assert changed.current_end_at == START + 30 * DAY
    closing.advance_due(now=START + 31 * DAY, limit=10)
    assert fresh(subscription).current_end_at == START + 37 * DAY
    assert not Invoice.objects.exists()


def test_trial_that_ends_takes_the_plan_that_waited(pro: PlanVersion) -> None:
    subscription = a_subscription(a_plan(trial_days=14, key="trial"))
    subscription.pending_version = pro
    subscription.save()
    closing.advance_due(now=START + 15 * DAY, limit=10)
    changed = fresh(subscription)
    assert (changed.status, changed.version) == ("active", pro)


def test_incomplete_subscription_begins_with_a_plan_that_is_free(
    free: PlanVersion, pro: PlanVersion
) -> None:
    subscription = a_subscription(pro, card=False)
    to(subscription.id, a_plan(fee=900, key="other"))
    assert fresh(subscription).status == "incomplete"
    to(subscription.id, free)
    changed = fresh(subscription)
    assert changed.status == "active"
    assert changed.current_start_at == NOW + timedelta(seconds=1)
    assert checking.broken_invariants(now=NOW) == []


def test_card_is_needed_first(free: PlanVersion, pro: PlanVersion) -> None:
    subscription = a_subscription(free, card=False)
    with pytest.raises(changing.PaymentMethodNeeded):
        to(subscription.id, pro)
    assert fresh(subscription).version == free


def test_refused_while_an_invoice_is_past_due(free: PlanVersion, pro: PlanVersion) -> None:
    subscription = a_subscription(pro)
    invoice = bill(subscription, now=NOVEMBER + DAY)
    collecting.mark_payment_failed(invoice.id, attempt=1, code="declined", now=NOVEMBER + DAY)
    with pytest.raises(PlanChangeRefused):
        changing.change_plan(subscription.id, plan="free", actor=ACTOR, now=NOVEMBER + 2 * DAY)
    assert fresh(subscription).version == pro


def test_preview_says_what_will_be_billed_and_changes_nothing(
    meter: Meter, free: PlanVersion, pro: PlanVersion
) -> None:
    subscription = a_subscription(free)
    report(subscription.customer, meter, 900, at=START + DAY)

    now = changing.preview_change(subscription.id, plan="pro", now=NOW)

    assert (now.when, now.effective_at, now.restarts_period) == (NOW_, NOW, False)
    assert (now.invoice.total, now.next_fee) == (2_100, 3_100)
    later = changing.preview_change(subscription.id, plan="pro", when=LATER, now=NOW)
    assert (later.effective_at, later.invoice.total) == (NOVEMBER, 0)
    assert fresh(subscription).version == free

    to(subscription.id, pro)
    again = changing.preview_change(
        subscription.id, plan=a_plan(fee=6_200, key="max").plan.key, now=NOW
    )
    assert again.invoice.total == 4_200
    assert bill(subscription, now=NOVEMBER + DAY).total == now.invoice.total


def test_preview_of_another_interval(pro: PlanVersion) -> None:
    a_plan(fee=90_000, interval="year", key="dear")
    subscription = a_subscription(pro)
    preview = changing.preview_change(subscription.id, plan="dear", now=NOW)
    assert (preview.restarts_period, preview.invoice.total) == (True, 3_100)
    assert preview.next_fee == 90_000
