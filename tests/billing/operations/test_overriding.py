"""billing.operations.overriding: terms of one customer, from when to when, and what they cost."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from accounts.models import AuditEntry
from accounts.operations.versions import CustomerUnknown
from billing.models import Override, PlanVersion, Subscription
from billing.operations import changing, checking, closing, overriding, subscribing
from billing.operations.overriding import (
    OverrideInvalid,
    OverrideOverlaps,
    OverrideUnknown,
    apply_due,
)
from metering.models import Entitlement, Meter
from metering.operations.rolling_over import roll_over
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
)
from tests.factories.metering import make_meter, report

pytestmark = pytest.mark.django_db

DAY, SECOND = timedelta(days=1), timedelta(seconds=1)
NOVEMBER, DECEMBER = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)


@pytest.fixture
def meter() -> Meter:
    return make_meter()


@pytest.fixture
def version(meter: Meter) -> PlanVersion:
    return a_plan(
        calls(meter, included=10),
        {"feature": "sso", "type": "boolean"},
        {"feature": "region", "type": "static", "value": "eu"},
    )


@pytest.fixture
def subscription(version: PlanVersion) -> Subscription:
    return a_subscription(version)


def agree(of: Subscription, *, now: datetime = NOW, **given: Any) -> Override:
    """An override; `starts_at`, `ends_at` and `reason` beside its terms."""
    about = {name: given.pop(name) for name in ("starts_at", "ends_at", "reason") if name in given}
    return overriding.override(of.customer_id, terms=given, **about, actor=ACTOR, now=now)


def end(of: Override, *, at: datetime | None = None, now: datetime = NOW) -> Override:
    return overriding.end_override(
        of.customer_id, override_id=of.id, ends_at=at, actor=ACTOR, now=now
    )


def rights(of: Subscription) -> dict[str, Any]:
    """What metering was told: the included quantity of meters, the value of features."""
    found = Entitlement.objects.filter(customer_id=of.customer_id).select_related("meter")
    return {
        each.meter.key if each.meter else each.feature: each.included
        if each.meter
        else each.value or True
        for each in found
    }


def included(of: Subscription, meter: Meter) -> int | None:
    return rights(of).get(meter.key)


class TestFromWhenToWhen:
    def test_it_holds_from_now_until_it_is_ended(
        self, subscription: Subscription, meter: Meter
    ) -> None:
        made = agree(subscription, meter=meter.key, included=500, reason="pilot")
        assert (made.starts_at, made.ends_at, made.due_at) == (NOW, None, None)
        assert (made.reason, made.terms) == ("pilot", {"included": 500})
        assert included(subscription, meter) == 500
        ended = end(made, now=NOW + DAY)
        assert (ended.ends_at, ended.due_at) == (NOW + DAY, None)
        assert included(subscription, meter) == 10
        told = AuditEntry.objects.filter(subject=made.public_id).order_by("id")
        assert [each.action for each in told] == ["override.created", "override.ended"]
        assert checking.broken_invariants(now=NOW + DAY) == []

    def test_it_begins_and_ends_by_itself(self, subscription: Subscription, meter: Meter) -> None:
        made = agree(
            subscription,
            meter=meter.key,
            included=500,
            starts_at=NOW + DAY,
            ends_at=NOW + 2 * DAY,
        )
        assert made.due_at == NOW + DAY
        assert apply_due(now=NOW + DAY - SECOND, limit=10) == 0
        assert included(subscription, meter) == 10
        assert apply_due(now=NOW + DAY, limit=10) == 1
        assert included(subscription, meter) == 500
        assert apply_due(now=NOW + DAY, limit=10) == 0
        assert apply_due(now=NOW + 2 * DAY, limit=10) == 1
        assert included(subscription, meter) == 10
        assert fresh(made).due_at is None

    def test_two_of_a_customer_are_written_at_once(
        self, subscription: Subscription, meter: Meter
    ) -> None:
        agree(subscription, meter=meter.key, included=500, starts_at=NOW + DAY)
        agree(subscription, feature="beta", starts_at=NOW + DAY)
        assert apply_due(now=NOW + DAY, limit=10) == 1
        assert rights(subscription) == {meter.key: 500, "sso": True, "region": "eu", "beta": True}

    def test_one_that_has_not_begun_never_will(
        self, subscription: Subscription, meter: Meter
    ) -> None:
        made = agree(subscription, meter=meter.key, included=500, starts_at=NOW + DAY)
        ended = end(made)
        assert ended.starts_at == ended.ends_at
        assert end(made, at=NOW + 9 * DAY).ends_at == ended.ends_at
        apply_due(now=NOW + 2 * DAY, limit=10)
        assert included(subscription, meter) == 10
        agree(subscription, meter=meter.key, included=90, starts_at=NOW + DAY)

    def test_its_end_can_be_moved_while_it_is_to_come(
        self, subscription: Subscription, meter: Meter
    ) -> None:
        made = agree(subscription, meter=meter.key, included=500, ends_at=NOW + DAY)
        end(made, at=NOW + 5 * DAY)
        apply_due(now=NOW + 2 * DAY, limit=10)
        assert included(subscription, meter) == 500
        apply_due(now=NOW + 5 * DAY, limit=10)
        assert included(subscription, meter) == 10

    def test_what_is_over_stays_over(self, subscription: Subscription, meter: Meter) -> None:
        made = agree(subscription, meter=meter.key, included=500)
        end(made, now=NOW + DAY)
        again = end(made, at=NOW + 9 * DAY, now=NOW + 2 * DAY)
        assert again.ends_at == NOW + DAY

    def test_a_newer_one_takes_its_place(self, subscription: Subscription, meter: Meter) -> None:
        first = agree(subscription, meter=meter.key, included=500)
        agree(subscription, feature="beta")
        second = agree(subscription, meter=meter.key, included=700, now=NOW + DAY)
        assert fresh(first).ends_at == second.starts_at == NOW + DAY
        assert included(subscription, meter) == 700
        assert rights(subscription)["beta"] is True

    def test_one_of_another_window_stands_beside_it(
        self, subscription: Subscription, meter: Meter
    ) -> None:
        first = agree(subscription, meter=meter.key, included=500)
        agree(subscription, meter=meter.key, included=9, window="minute")
        assert fresh(first).ends_at is None
        found = Entitlement.objects.filter(meter=meter).order_by("window")
        assert [(each.window, each.included) for each in found] == [("minute", 9), ("month", 500)]
        end(first, now=NOW + DAY)
        assert Entitlement.objects.filter(meter=meter, window="minute").exists()

    def test_it_does_not_run_into_one_that_is_to_come(
        self, subscription: Subscription, meter: Meter
    ) -> None:
        later = agree(subscription, meter=meter.key, included=500, starts_at=NOW + 3 * DAY)
        with pytest.raises(OverrideOverlaps):
            agree(subscription, meter=meter.key, included=700)
        assert Override.objects.get() == later
        before = agree(subscription, meter=meter.key, included=700, ends_at=NOW + 3 * DAY)
        with pytest.raises(OverrideOverlaps):
            end(before, at=NOW + 3 * DAY + SECOND)
        assert fresh(before).ends_at == NOW + 3 * DAY
        end(before, at=NOW + 2 * DAY)

    def test_it_holds_on_the_next_plan_too(self, subscription: Subscription, meter: Meter) -> None:
        agree(subscription, meter=meter.key, included=500)
        other = a_plan(calls(meter, included=50), fee=9_000)
        changing.change_plan(subscription.id, plan=other.plan.key, actor=ACTOR, now=NOW)
        assert rights(subscription) == {meter.key: 500}

    def test_it_waits_for_a_subscription(self, version: PlanVersion, meter: Meter) -> None:
        customer = a_customer()
        terms = {"meter": meter.key, "included": 500}
        overriding.override(customer.id, terms=terms, actor=ACTOR, now=START)
        assert included(a_subscription(version, customer=customer), meter) == 500

    def test_nothing_that_was_billed_changes(
        self, subscription: Subscription, meter: Meter
    ) -> None:
        subscribing.cancel(subscription.id, when="now", actor=ACTOR, now=NOW + DAY)
        made = agree(subscription, meter=meter.key, included=500, now=NOW)
        assert made.starts_at == NOW + DAY


class TestWhatItSays:
    def test_features_are_given_and_taken(self, subscription: Subscription, meter: Meter) -> None:
        agree(subscription, feature="sso", denied=True)
        agree(subscription, feature="region", value="us")
        agree(subscription, feature="beta")
        assert rights(subscription) == {meter.key: 10, "region": "us", "beta": True}

    def test_meters_are_given_and_taken(self, subscription: Subscription, meter: Meter) -> None:
        other = make_meter()
        agree(subscription, meter=meter.key, denied=True)
        agree(subscription, meter=other.key, included=3)
        agree(subscription, meter=make_meter().key, denied=True)
        assert rights(subscription) == {other.key: 3, "sso": True, "region": "eu"}

    def test_members_that_are_not_named_stay_the_plans(
        self, subscription: Subscription, meter: Meter
    ) -> None:
        agree(subscription, meter=meter.key, overage_limit=7, window="day")
        right = Entitlement.objects.get(meter=meter)
        assert (right.included, right.over, right.overage_limit, right.window) == (
            10,
            "bill",
            7,
            "month",
        )

    def test_who_names_a_price_bills_overage(self, version: PlanVersion, meter: Meter) -> None:
        subscription = a_subscription(a_plan(calls(meter, included=10, price=None), fee=0))
        agree(subscription, meter=meter.key, price={"model": "per_unit", "unit_price": "0.50"})
        assert Entitlement.objects.get(meter=meter).over == "bill"
        report(subscription.customer, meter, 14, at=NOW + DAY)
        assert amounts(bill(subscription, now=NOVEMBER + DAY)) == [("usage", 200)]

    def test_what_is_unlimited_is_not_billed(
        self, subscription: Subscription, meter: Meter
    ) -> None:
        agree(subscription, meter=meter.key, unlimited=True)
        report(subscription.customer, meter, 5_000, at=NOW + DAY)
        assert amounts(bill(subscription, now=NOVEMBER + DAY)) == [("fee", 2_000)]

    def test_rollover_is_one_of_its_members(self, subscription: Subscription, meter: Meter) -> None:
        agree(subscription, meter=meter.key, rollover=5)
        assert roll_over(now=NOVEMBER, limit=10) == 1

    @pytest.mark.parametrize(
        ("terms", "param"),
        [
            ({}, "feature"),
            ({"meter": "no.such", "included": 1}, "meter"),
            ({"meter": True, "included": 1}, "meter"),
            ({"feature": "SSO!"}, "feature"),
            ({"feature": "sso", "value": ""}, "value"),
            ({"feature": "sso", "included": 5}, "included"),
            ({"feature": "sso", "type": "boolean"}, "type"),
            ({"feature": "sso", "denied": "yes"}, "denied"),
            ({"meter": "{meter}"}, "meter"),
            ({"meter": "{meter}", "window": "day"}, "meter"),
            ({"meter": "{meter}", "denied": True, "included": 5}, "denied"),
            ({"meter": "{meter}", "included": -1}, "included"),
            ({"meter": "{meter}", "over": "bill"}, "price"),
            ({"meter": "{meter}", "over": "deny", "overage_limit": 5}, "overage_limit"),
            ({"meter": "{meter}", "price": {"model": "no"}}, "price.model"),
            ({"meter": "{meter}", "rollover": 5, "window": "hour"}, "rollover"),
        ],
    )
    def test_terms_that_nobody_can_have_are_refused(
        self, subscription: Subscription, meter: Meter, terms: dict[str, Any], param: str
    ) -> None:
        given = terms | ({"meter": meter.key} if terms.get("meter") == "{meter}" else {})
        with pytest.raises(OverrideInvalid) as refused:
            agree(subscription, **given)
        assert refused.value.param == param
        assert not Override.objects.exists()
        assert included(subscription, meter) == 10

    @pytest.mark.parametrize(
        ("about", "param"),
        [
            ({"starts_at": NOW - SECOND}, "starts_at"),
            ({"ends_at": NOW}, "ends_at"),
            ({"starts_at": NOW + DAY, "ends_at": NOW + DAY}, "ends_at"),
        ],
    )
    def test_so_are_times_that_are_over(
        self, subscription: Subscription, meter: Meter, about: dict[str, Any], param: str
    ) -> None:
        with pytest.raises(OverrideInvalid) as refused:
            agree(subscription, meter=meter.key, included=5, **about)
        assert refused.value.param == param
        assert not Override.objects.exists()

    def test_an_end_in_the_past_is_refused(self, subscription: Subscription, meter: Meter) -> None:
        made = agree(subscription, meter=meter.key, included=5)
        with pytest.raises(OverrideInvalid):
            end(made, at=NOW, now=NOW + DAY)
        assert fresh(made).ends_at is None

    def test_nobody_else_can_end_it(self, subscription: Subscription, meter: Meter) -> None:
        made = agree(subscription, meter=meter.key, included=5)
        stranger = a_customer()
        with pytest.raises(OverrideUnknown):
            overriding.end_override(stranger.id, override_id=made.id, actor=ACTOR, now=NOW)
        assert fresh(made).ends_at is None
        with pytest.raises(CustomerUnknown):
            overriding.override(1, terms={"feature": "sso"}, actor=ACTOR, now=NOW)


class TestWhatItCosts:
    def test_usage_is_rated_by_the_terms_it_happened_under(
        self, subscription: Subscription, meter: Meter
    ) -> None:
        report(subscription.customer, meter, 30, at=NOW - DAY)  # 20 past the included 10
        made = agree(subscription, meter=meter.key, included=25)
        report(subscription.customer, meter, 10, at=NOW + SECOND)  # 5 past 25 were, 15 are now
        invoice = bill(subscription, now=NOVEMBER + DAY)
        assert amounts(invoice) == [("fee", 2_000), ("usage", 20), ("usage", 10)]
        first, second = invoice.lines.filter(kind="usage").order_by("position")
        assert "overrides" not in first.detail
        assert second.detail["overrides"] == [made.public_id]
        assert checking.broken_invariants(now=NOVEMBER + DAY) == []

    def test_what_was_issued_stays_rated_as_it_was(
        self, subscription: Subscription, meter: Meter
    ) -> None:
        made = agree(subscription, meter=meter.key, included=25)
        report(subscription.customer, meter, 30, at=NOW + DAY)
        assert bill(subscription, now=NOVEMBER + DAY).total == 2_005
        end(made, now=NOVEMBER + DAY)
        closing.close_due(now=DECEMBER, limit=10)
        assert amounts(bill(subscription, now=DECEMBER + DAY)) == [("fee", 2_000)]
