"""billing.operations.limiting: who sets a limit, what the gate is told, and that it is the bill."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase

from accounts.models import AuditEntry, CustomerVersion
from accounts.operations.versions import CustomerUnknown
from billing.domain.periods import Period
from billing.domain.plan_changes import ChangeWhen
from billing.models import SpendLimit, Subscription
from billing.operations import changing, checking, closing, overriding
from billing.operations.limiting import (
    LIMIT_MAX,
    SetBy,
    SpendLimitInvalid,
    SpendLimitLoosened,
    retell_corrected,
    set_spend_limit,
    tighten_spend_limit,
)
from billing.operations.subscribing import cancel
from billing.queries.peers import Peers
from billing.queries.rated_periods import Terms, rated_usage
from billing.queries.spans import current_basis, spans
from billing.queries.spend_limits import spend_limit_view
from metering.domain.decisions import Allowed, Denied, Item, decide
from metering.models import Entitlement, Meter, Standing
from metering.operations.correcting import void
from metering.operations.granting import grant
from metering.queries.standing import account_of
from tests.factories.accounts import a_customer
from tests.factories.billing import (
    ACTOR,
    NOW,
    START,
    a_plan,
    a_subscription,
    bill,
    calls,
    fresh,
)
from tests.factories.metering import make_meter, report

DAY, SECOND = timedelta(days=1), timedelta(seconds=1)
NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)


def limit(
    of: Subscription,
    amount: int | None,
    *,
    set_by: SetBy = "customer",
    now: datetime = NOW,
) -> None:
    set_spend_limit(of.customer_id, amount=amount, set_by=set_by, actor=ACTOR, now=now)


def most(of: Subscription, meter: Meter, *, at: datetime = NOW) -> int | None:
    """How much more the gate would admit; None: any quantity."""
    items = [Item(meter.key, meter.id, 10**9)]
    match decide(account_of(of.customer_id, now=at), items, now=at, offers=()):
        case Denied() as denied:
            return denied.max_admissible
        case Allowed():
            return None


@pytest.fixture
def meter(db: None) -> Meter:
    return make_meter()


@pytest.fixture
def subscription(meter: Meter) -> Subscription:
    return a_subscription(a_plan(calls(meter, included=10)))


class TestSetting:
    def test_the_next_check_keeps_to_it(self, subscription: Subscription, meter: Meter) -> None:
        assert most(subscription, meter) is None
        limit(subscription, 25)
        assert most(subscription, meter) == 35
        limit(subscription, 30)
        assert most(subscription, meter) == 40
        limit(subscription, None)
        assert most(subscription, meter) is None
        assert not SpendLimit.objects.exists()
        assert Standing.objects.get().spend_limit is None

    def test_what_was_spent_already_counts(self, subscription: Subscription, meter: Meter) -> None:
        report(subscription.customer, meter, 40, at=NOW - DAY)
        limit(subscription, 25)
        assert most(subscription, meter) == 0
        limit(subscription, 31)
        assert most(subscription, meter) == 1

    def test_the_lower_of_the_two_counts(self, subscription: Subscription, meter: Meter) -> None:
        limit(subscription, 50)
        limit(subscription, 20, set_by="operator")
        assert most(subscription, meter) == 30
        view = spend_limit_view(subscription.customer_id, currency="usd", now=NOW)
        assert (view.customer, view.operator, view.cap, view.set_by) == (50, 20, 20, "operator")
        limit(subscription, 20)
        view = spend_limit_view(subscription.customer_id, currency="usd", now=NOW)
        assert (view.cap, view.set_by, view.spent) == (20, "customer", 0)
        assert view.resets_at == NOVEMBER

    def test_it_is_told_who_did_it(self, subscription: Subscription) -> None:
        limit(subscription, 50)
        limit(subscription, 60)
        limit(subscription, None)
        told = AuditEntry.objects.filter(action__startswith="spend_limit").order_by("id")
        assert [(each.action, each.changes) for each in told] == [
            ("spend_limit.set", {"set_by": "customer", "from": None, "to": 50}),
            ("spend_limit.set", {"set_by": "customer", "from": 50, "to": 60}),
            ("spend_limit.removed", {"set_by": "customer", "from": 60, "to": None}),
        ]

    def test_setting_it_to_what_it_is_changes_nothing(self, subscription: Subscription) -> None:
        limit(subscription, 50)
        before = (
            CustomerVersion.objects.get(customer=subscription.customer).version,
            AuditEntry.objects.count(),
            SpendLimit.objects.get().updated_at,
        )
        limit(subscription, 50, now=NOW + DAY)
        limit(subscription, None, set_by="operator", now=NOW + DAY)
        assert before == (
            CustomerVersion.objects.get(customer=subscription.customer).version,
            AuditEntry.objects.count(),
            SpendLimit.objects.get().updated_at,
        )

    @pytest.mark.parametrize("amount", [-1, LIMIT_MAX + 1])
    def test_amounts_that_are_none_are_refused(
        self, subscription: Subscription, amount: int
    ) -> None:
        with pytest.raises(SpendLimitInvalid):
            limit(subscription, amount)
        assert not SpendLimit.objects.exists()
        assert Standing.objects.get().spend_limit is None

    def test_so_are_amounts_the_currency_does_not_have(self, db: None) -> None:
        customer = a_customer(currency="isk")
        with pytest.raises(SpendLimitInvalid, match="multiples of 100"):
            set_spend_limit(customer.id, amount=150, set_by="operator", actor=ACTOR, now=NOW)
        assert not SpendLimit.objects.exists()
        set_spend_limit(customer.id, amount=200, set_by="operator", actor=ACTOR, now=NOW)
        assert SpendLimit.objects.get().amount == 200

    def test_nobody_is_an_unknown_customer(self, db: None) -> None:
        with pytest.raises(CustomerUnknown):
            set_spend_limit(1, amount=150, set_by="operator", actor=ACTOR, now=NOW)
        assert not SpendLimit.objects.exists()

    def test_it_waits_for_a_subscription(self, meter: Meter) -> None:
        customer = a_customer()
        set_spend_limit(customer.id, amount=7, set_by="operator", actor=ACTOR, now=START)
        view = spend_limit_view(customer.id, currency="usd", now=START)
        assert (view.cap, view.set_by, view.spent, view.resets_at) == (7, "operator", None, None)
        subscription = a_subscription(a_plan(calls(meter, included=10)), customer=customer)
        assert most(subscription, meter) == 17

    def test_one_who_has_left_is_limited_no_more(
        self, subscription: Subscription, meter: Meter
    ) -> None:
        limit(subscription, 7)
        cancel(subscription.id, when="now", actor=ACTOR, now=NOW)
        assert Standing.objects.get().spend_limit is None
        limit(subscription, 8, now=NOW + DAY)
        assert SpendLimit.objects.get().amount == 8

    def test_a_trial_spends_nothing(self, meter: Meter) -> None:
        subscription = a_subscription(a_plan(calls(meter, included=10), trial_days=30))
        limit(subscription, 7)
        report(subscription.customer, meter, 50, at=NOW)
        view = spend_limit_view(subscription.customer_id, currency="usd", now=NOW)
        assert (view.spent, most(subscription, meter)) == (0, 0)

    def test_nothing_is_told_of_prices_where_nobody_limits(
        self, subscription: Subscription
    ) -> None:
        assert Entitlement.objects.get().curve is None
        limit(subscription, 7)
        assert Entitlement.objects.get().curve is not None


class TestPeriods:
    def test_each_begins_with_nothing_spent(self, subscription: Subscription, meter: Meter) -> None:
        limit(subscription, 25)
        report(subscription.customer, meter, 35, at=NOVEMBER - DAY)
        assert most(subscription, meter, at=NOVEMBER - SECOND) == 0
        assert most(subscription, meter, at=NOVEMBER) == 35
        closing.close_due(now=NOVEMBER, limit=10)
        assert most(subscription, meter, at=NOVEMBER) == 35

    def test_a_week_that_straddles_two_is_spent_once(self, meter: Meter) -> None:
        subscription = a_subscription(a_plan(calls(meter, included=10, window="week")))
        limit(subscription, 25)
        week = START + 28 * DAY
        report(subscription.customer, meter, 30, at=week + DAY)
        assert most(subscription, meter, at=NOVEMBER - SECOND) == 5
        closing.close_due(now=NOVEMBER, limit=10)
        assert most(subscription, meter, at=NOVEMBER) == 25
        report(subscription.customer, meter, 24, at=NOVEMBER)
        assert most(subscription, meter, at=NOVEMBER) == 1
        assert bill(subscription, now=NOVEMBER + DAY).total == 2_000 + 20

    def test_of_a_lifetime_only_what_is_new_counts(self, meter: Meter) -> None:
        subscription = a_subscription(a_plan(calls(meter, included=10, window="lifetime")))
        limit(subscription, 25)
        report(subscription.customer, meter, 35, at=NOW)
        assert most(subscription, meter) == 0
        closing.close_due(now=NOVEMBER, limit=10)
        assert most(subscription, meter, at=NOVEMBER) == 25


def billed(subscription: Subscription) -> int:
    """The usage lines that the period's invoice has now."""
    now = fresh(subscription)
    period = Period(now.current_start_at, now.current_end_at)
    found = spans(now.id, period=period, peers=Peers([now.customer_id]))
    (rated,) = rated_usage([Terms(now.customer_id, found, current_basis(now))])
    return sum(each.amount for each in rated)


PRICES: list[dict[str, Any]] = [
    {"model": "per_unit", "unit_price": "0.013"},
    {"model": "package", "package_size": 7, "package_price": "0.50"},
    {"model": "graduated", "tiers": [{"up_to": 20, "unit_price": "0.05", "flat_price": "1"},
                                     {"up_to": None, "unit_price": "0.005"}]},
    {"model": "volume", "tiers": [{"up_to": 20, "unit_price": "0.05"},
                                  {"up_to": None, "unit_price": "0.011"}]},
    {"model": "flat", "price": "3"},
]  # fmt: skip
MOVED: list[tuple[str, Any]] = [  # a grant paid in a window that the new plan does not count in
    ("override", 2),
    ("grant", 10),
    ("use", 7),
    ("wait", 5),
    ("plan", {"window": "period", "price": PRICES[0], "included": 18}),
    ("override", 4),
    ("use", 3),
]
WINDOWS = ["period", "week", "day", "lifetime"]
rights = st.fixed_dictionaries(
    {
        "included": st.integers(0, 30),
        "price": st.sampled_from(PRICES),
        "window": st.sampled_from(WINDOWS),
    }
)
steps = st.lists(
    st.tuples(st.just("use"), st.integers(0, 60))
    | st.tuples(st.just("plan"), rights)
    | st.tuples(st.just("grant"), st.integers(1, 20))
    | st.tuples(st.just("override"), st.integers(0, 50))
    | st.tuples(st.just("wait"), st.integers(1, 9)),
    max_size=8,
)


class TestWhatTheGateSpendsIsWhatTheInvoiceSays(TestCase):
    # Without shrinking: each example bills months, and the steps are few.
    @settings(
        max_examples=6,
        deadline=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
    )
    @given(first=rights, steps=steps)
    @example(first={"window": "lifetime", "price": PRICES[0], "included": 24}, steps=MOVED)
    def test_whatever_happens(self, first: dict[str, Any], steps: list[tuple[str, Any]]) -> None:
        meter, now = make_meter(), NOW
        subscription = a_subscription(a_plan(calls(meter, **first)))
        limit(subscription, 10**6, now=now)
        for kind, value in steps:
            now += timedelta(hours=5)
            customer_id = subscription.customer_id
            match kind:
                case "use":
                    report(subscription.customer, meter, value, at=now)
                case "plan":
                    version = a_plan(calls(meter, **value), fee=2_000 + now.toordinal())
                    changing.change_plan(
                        subscription.id,
                        plan=version.plan.key,
                        when=ChangeWhen.NOW,
                        actor=ACTOR,
                        now=now,
                    )
                case "grant":
                    grant(customer_id, meter_id=meter.id, quantity=value, actor=ACTOR, now=now)
                case "override":
                    overriding.override(
                        customer_id,
                        terms={"meter": meter.key, "included": value},
                        actor=ACTOR,
                        now=now,
                    )
                case _:
                    now += value * DAY
                    closing.close_due(now=now, limit=10)
            view = spend_limit_view(customer_id, currency="usd", now=now)
            assert view.spent == billed(subscription), f"{first=} {steps=}: {kind} {value}"
        assert checking.broken_invariants(now=now) == []


class TestCorrections:
    def test_usage_that_is_corrected_under_earlier_terms_is_told_anew(self, meter: Meter) -> None:
        cheap = a_plan(calls(meter, included=0, price=PRICES[0], window="week"), fee=1_000)
        dear = a_plan(calls(meter, included=0), fee=3_000, key="dear")
        subscription = a_subscription(cheap)
        customer_id = subscription.customer_id
        grant(customer_id, meter_id=meter.id, quantity=50, actor=ACTOR, now=START)
        event = report(subscription.customer, meter, 500, at=NOW - DAY)
        limit(subscription, 10**6)
        changing.change_plan(subscription.id, plan="dear", actor=ACTOR, now=NOW)
        later = NOW + DAY
        assert retell_corrected(now=later, limit=10) == 0

        void(customer_id, event_id=event.id, reason="a test", actor=ACTOR, now=later)
        assert retell_corrected(now=later + DAY, limit=10) == 1
        assert retell_corrected(now=later + DAY, limit=10) == 0

        view = spend_limit_view(customer_id, currency="usd", now=later + DAY)
        assert view.spent == billed(subscription) == 0
        assert dear.pk == fresh(subscription).version_id

    def test_an_api_key_tightens_and_never_loosens(self, subscription: Subscription) -> None:
        def tighten(amount: int) -> None:
            tighten_spend_limit(subscription.customer_id, amount=amount, actor="key_1", now=NOW)

        tighten(50)
        tighten(50)
        tighten(20)
        with pytest.raises(SpendLimitLoosened, match="/portal/spend-limit"):
            tighten(21)
        assert SpendLimit.objects.get().amount == 20
        assert AuditEntry.objects.filter(action="spend_limit.set").count() == 2
