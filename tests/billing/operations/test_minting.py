"""I8: no sequence of changes gives more than was paid or promised.

A customer changes plans and seats, uses what there is and waits, at arbitrary moments. The plans
include ten units for each cent of their fee, and the free one 600 a month. So whatever the customer
does, no bill leaves more units unbilled than ten for each cent of its fees, and the free ones.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from django.db import transaction
from hypothesis import assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from accounts.models import Customer
from billing.domain.plan_changes import ChangeWhen, PlanChangeRefused
from billing.models import Credit, Invoice, LedgerEntry, Subscription, Wallet
from billing.operations import changing, checking, closing, issuing, seating, subscribing
from billing.operations.overriding import override
from billing.queries.invoices import invoice_preview
from metering.models import Balance, Meter
from metering.queries.balances import BalanceView, balances
from metering.queries.usage import usage_total
from tests.factories.accounts import a_customer
from tests.factories.billing import (
    ACTOR,
    START,
    a_plan,
    a_subscription,
    bill,
    calls,
    fresh,
    give_card,
)
from tests.factories.metering import make_meter, report

pytestmark = pytest.mark.django_db
PER_CENT, FREE = 10, 600
SEAT = {"included": 1, "price": {"model": "per_unit", "unit_price": "5"}}
PLANS = ("free", "basic", "pro", "team", "annual")
GRACE = timedelta(days=3)


@pytest.fixture
def meter(db: None) -> Meter:
    return make_meter(key="chat.tokens")


class Switching(RuleBasedStateMachine):
    """One customer, who has a card, and a clock."""

    def __init__(self) -> None:
        super().__init__()
        self.undone = transaction.atomic()
        self.undone.__enter__()
        self.now = START
        self.changes = 0
        self.meter = Meter.objects.get()
        self.customer = Customer.objects.get()

    def teardown(self) -> None:
        try:
            self.settle()
        finally:
            transaction.set_rollback(True)
            self.undone.__exit__(None, None, None)

    @property
    def subscription(self) -> Subscription:
        return Subscription.objects.select_related("version__plan").get(customer=self.customer)

    @property
    def view(self) -> BalanceView:
        (found,) = balances(self.customer.id, now=self.now)
        return found

    @rule(seconds=st.integers(1, 86_400) | st.integers(1, 35 * 86_400))
    def wait(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)
        closing.close_due(now=self.now, limit=10)
        issuing.issue_due(now=self.now, limit=100)

    @rule()
    def wait_for_the_last_moment(self) -> None:
        end_at = self.subscription.current_end_at
        self.now = max(self.now, end_at - timedelta(seconds=30))

    @rule(plan=st.sampled_from(PLANS), when=st.sampled_from([None, *ChangeWhen]))
    def change(self, plan: str, when: ChangeWhen | None) -> None:
        self.changes += 1
        try:
            changing.change_plan(
                self.subscription.id, plan=plan, when=when, actor=ACTOR, now=self.now
            )
        except PlanChangeRefused:
            assume(False)

    @precondition(lambda self: self.subscription.version.plan.key == "team")
    @rule(seats=st.integers(1, 9))
    def take_seats(self, seats: int) -> None:
        self.changes += 1
        seating.change_seats(self.subscription.id, seats=seats, actor=ACTOR, now=self.now)

    @rule(quantity=st.integers(1, 40_000))
    def use(self, quantity: int) -> None:
        """What the gate would admit: past what is included only where that is billed."""
        if self.view.over == "deny":
            quantity = min(quantity, self.view.remaining)
        if quantity:
            report(self.customer, self.meter, quantity, at=self.now)

    @rule()
    def use_what_is_included(self) -> None:
        if self.view.remaining:
            report(self.customer, self.meter, self.view.remaining, at=self.now)

    @invariant()
    def gate_and_bill_include_the_same(self) -> None:
        if not self.changes:
            return
        preview = invoice_preview(self.subscription)
        assert preview is not None
        lines = [line for line in preview.lines if "used" in line.detail]
        if lines and lines[-1].period.end_at > self.now >= lines[-1].period.start_at:
            window = Balance.objects.filter(customer=self.customer, end_at=self.view.resets_at)
            if self.subscription.version.interval == "month" and window.exists():
                assert lines[-1].detail["included"] == self.view.included

    def settle(self) -> None:
        """The end: everything is billed, and nothing was had for nothing."""
        subscribing.cancel(self.subscription.id, when="now", actor=ACTOR, now=self.now)
        issuing.issue_due(now=self.now + GRACE, limit=1_000)
        assert checking.broken_invariants(now=self.now + GRACE) == []
        assert not Credit.objects.exists()
        assert not Wallet.objects.exists()
        assert not LedgerEntry.objects.filter(account="customer_credit").exists()
        assert not Invoice.objects.filter(total__lt=0).exists()
        for invoice in Invoice.objects.prefetch_related("lines"):
            lines = list(invoice.lines.all())
            fees = sum(line.amount for line in lines if line.kind == "fee")
            billed = sum(line.quantity or 0 for line in lines if line.kind == "usage")
            used = usage_total(
                self.customer.id,
                meter_id=self.meter.id,
                start_at=invoice.period_start_at,
                end_at=invoice.period_end_at,
            )
            rounded = PER_CENT * (self.changes + 1)  # at most a cent for each change
            assert used - billed <= PER_CENT * fees + FREE + rounded, invoice.number


@pytest.mark.proof
@pytest.mark.timeout(900)
def test_switching_to_and_fro_mints_nothing(meter: Meter) -> None:
    a_plan(calls(meter, included=FREE, price=None), fee=0, key="free")
    a_plan(calls(meter, included=10_000), fee=1_000, key="basic")
    a_plan(calls(meter, included=30_000), fee=3_000, key="pro")
    a_plan(calls(meter, included=10_000), fee=1_000, seats=SEAT, key="team")
    yearly = calls(meter, included=10_000, window="month")
    a_plan(yearly, fee=12_000, interval="year", key="annual")
    customer = a_customer()
    give_card(customer)
    subscribing.subscribe(customer.id, plan="free", actor=ACTOR, now=START)
    examples = max(settings().max_examples // 10, 1)
    run_state_machine_as_test(
        Switching,
        settings=settings(max_examples=examples, stateful_step_count=8, deadline=None),
    )


def test_a_dearer_plan_takes_the_place_of_one_taken_in_the_same_second(meter: Meter) -> None:
    free = a_plan(calls(meter, included=FREE, price=None), fee=0, key="free")
    yearly = calls(meter, included=10_000, window="month")
    a_plan(yearly, fee=12_000, interval="year", key="annual")
    subscription = a_subscription(free)
    moment = START + timedelta(milliseconds=300)
    report(subscription.customer, meter, FREE, at=moment)
    changing.change_plan(subscription.id, plan="annual", actor=ACTOR, now=moment)
    (view,) = balances(subscription.customer_id, now=moment)
    assert (view.start_at, view.used) == (START, FREE)
    # What the gate admits from now on is billed, in this second too.
    report(subscription.customer, meter, view.remaining + 500, at=moment)
    subscription = fresh(subscription)
    assert (subscription.current_start_at, subscription.phases.count()) == (START, 1)
    invoice = bill(subscription, now=subscription.current_end_at + GRACE)
    assert [line.amount for line in invoice.lines.order_by("position")] == [12_000, 500]


def test_a_cheaper_plan_does_not_take_the_place_of_one_taken_in_the_same_second(
    meter: Meter,
) -> None:
    pro = a_plan(calls(meter, included=30_000, price=None), fee=3_000, key="pro")
    a_plan(calls(meter, included=10_000), fee=1_000, key="basic")
    a_plan(calls(meter, included=90_000), fee=9_000, key="max")
    subscription = a_subscription(pro)
    now, when = START + timedelta(milliseconds=300), ChangeWhen.NOW
    with pytest.raises(PlanChangeRefused, match="wait for the next"):
        changing.change_plan(subscription.id, plan="basic", when=when, actor=ACTOR, now=now)
    assert included(subscription, now=now) == 30_000
    assert fresh(subscription).version == pro
    second = START + timedelta(seconds=1)
    changing.change_plan(subscription.id, plan="basic", when=when, actor=ACTOR, now=second)
    assert [each.start_at for each in subscription.phases.order_by("start_at")] == [START, second]


def included(subscription: Subscription, *, now: datetime) -> int:
    (view,) = balances(subscription.customer_id, now=now)
    return view.included


def test_the_last_hour_of_a_dear_plan_includes_an_hour_of_it(meter: Meter) -> None:
    basic = a_plan(calls(meter, included=1_000), fee=1_000, key="basic")
    a_plan(calls(meter, included=745_000), fee=74_500, key="pro")
    subscription = a_subscription(basic)
    last_hour = subscription.current_end_at - timedelta(hours=1)
    changing.change_plan(subscription.id, plan="pro", actor=ACTOR, now=last_hour)
    assert included(subscription, now=last_hour) == 2_000  # 744,000 are a thousand an hour
    report(subscription.customer, meter, 2_500, at=last_hour)
    invoice = bill(fresh(subscription), now=subscription.current_end_at + GRACE)
    line = invoice.lines.get(kind="usage", quantity__gt=0)
    assert (line.quantity, line.detail["included"]) == (500, 2_000)
    assert line.detail["included_in_whole"] == 745_000
    assert line.description == "chat.tokens: 500 past the 2,000 included"
    # The next window includes all of it.
    assert included(subscription, now=last_hour + timedelta(hours=2)) == 745_000


def test_ten_changes_in_a_day_include_what_one_would(meter: Meter) -> None:
    basic = a_plan(calls(meter, included=1_000), fee=1_000, key="basic")
    a_plan(calls(meter, included=32_000), fee=3_000, key="pro")
    subscription = a_subscription(basic)
    for hour in range(10):
        changing.change_plan(
            subscription.id,
            plan="pro" if hour % 2 == 0 else "basic",
            when=ChangeWhen.NOW,
            actor=ACTOR,
            now=START + timedelta(days=30, hours=hour),
        )
    at = START + timedelta(days=30, hours=10)
    # Five hours of the better plan: 31,000 are 41.67 an hour.
    assert 1_200 <= included(subscription, now=at) <= 1_209


def test_a_plan_without_the_meter_and_daily_windows(meter: Meter) -> None:
    a_plan(calls(meter, included=2_400, window="day"), fee=3_000, key="daily")
    subscription = a_subscription(a_plan(fee=0, key="bare"))
    noon = START + timedelta(days=3, hours=12)
    changing.change_plan(subscription.id, plan="daily", actor=ACTOR, now=noon)
    assert included(subscription, now=noon) == 1_200
    assert included(subscription, now=noon + timedelta(days=1)) == 2_400
    report(subscription.customer, meter, 1_300, at=noon)
    report(subscription.customer, meter, 2_400, at=noon + timedelta(days=1))
    invoice = bill(fresh(subscription), now=subscription.current_end_at + GRACE)
    assert invoice.lines.get(kind="usage").quantity == 100


def test_what_was_agreed_is_whole(meter: Meter) -> None:
    basic = a_plan(calls(meter, included=1_000), fee=1_000, key="basic")
    a_plan(calls(meter, included=5_000), fee=3_000, key="pro")
    subscription = a_subscription(basic)
    at = START + timedelta(days=20)
    terms = {"meter": "chat.tokens", "included": 9_000}
    override(subscription.customer_id, terms=terms, actor=ACTOR, now=at)
    changing.change_plan(subscription.id, plan="pro", actor=ACTOR, now=at)
    assert included(subscription, now=at) == 9_000


def test_a_trial_is_given_whole(meter: Meter) -> None:
    pro = a_plan(calls(meter, included=5_000), trial_days=14, key="pro")
    a_plan(calls(meter, included=9_000), fee=3_000, key="max")
    subscription = a_subscription(pro, anchor="calendar")
    assert included(subscription, now=START) == 5_000
    day = START + timedelta(days=1)
    changing.change_plan(subscription.id, plan="max", actor=ACTOR, now=day)
    assert included(subscription, now=day) == 9_000


def test_a_short_first_period_includes_its_share(meter: Meter) -> None:
    pro = a_plan(calls(meter, included=3_100), fee=3_100, key="pro")
    late = START + timedelta(days=30)
    subscription = a_subscription(pro, anchor="calendar", start_at=late, now=late)
    assert included(subscription, now=late) == 100
    report(subscription.customer, meter, 150, at=late)
    invoice = bill(subscription, now=subscription.current_end_at + GRACE)
    assert [line.amount for line in invoice.lines.order_by("position")] == [100, 50]


def test_leaving_a_free_plan_and_coming_back_gives_nothing_anew(meter: Meter) -> None:
    free = a_plan(calls(meter, included=3_100, price=None), fee=0, key="free")
    subscription = a_subscription(free)
    report(subscription.customer, meter, 3_000, at=START)
    for day in range(1, 11):
        now = START + timedelta(days=day)
        subscribing.cancel(subscription.id, when="now", actor=ACTOR, now=now)
        subscription = a_subscription(free, customer=subscription.customer, start_at=None, now=now)
    assert subscription.anchor_at == START
    (view,) = balances(subscription.customer_id, now=now)
    assert (view.included, view.used, view.remaining) == (2_100, 3_000, 0)  # 21 of 31 days
    # Who stays away until that period is over begins anew.
    subscribing.cancel(subscription.id, when="now", actor=ACTOR, now=now)
    later = START + timedelta(days=40)
    again = a_subscription(free, customer=subscription.customer, start_at=None, now=later)
    assert again.anchor_at == later


def test_a_card_that_comes_late_pays_for_what_it_gets(meter: Meter) -> None:
    pro = a_plan(calls(meter, included=3_100), fee=3_100, key="pro")
    second = START + timedelta(days=1)
    subscription = a_subscription(pro, card=False, anchor="calendar", start_at=second, now=second)
    last_day = START + timedelta(days=30)
    give_card(subscription.customer, now=last_day)
    subscription = fresh(subscription)
    assert (subscription.status, subscription.anchor_at) == ("active", START)
    assert included(subscription, now=last_day) == 100
    assert subscription.phases.count() == 1
    assert bill(subscription, now=subscription.current_end_at + GRACE).total == 100
