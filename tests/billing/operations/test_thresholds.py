"""Billing thresholds: usage is billed early, once, and the period comes to what it would have."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import transaction

from accounts.models import AuditEntry
from billing.domain.plan_changes import ChangeWhen
from billing.models import BilledUsage, Invoice, InvoiceLine, Subscription
from billing.operations import changing, couponing, subscribing, thresholds
from billing.operations.checking import broken_invariants
from billing.operations.closing import close_due
from billing.operations.plan_shapes import PlanInvalid, VersionTerms, read_version
from billing.operations.thresholds import bill_thresholds, set_billing_threshold
from billing.queries.explanations import explained
from billing.queries.invoices import invoice_preview
from billing.queries.spans import PeriodBasis
from metering.models import Meter
from tests.factories.accounts import a_customer
from tests.factories.billing import (
    ACTOR,
    CENT_EACH,
    START,
    a_plan,
    a_subscription,
    amounts,
    bill,
    calls,
    fresh,
)
from tests.factories.metering import make_meter, report
from tests.factories.threads import at_once

END = datetime(2026, 11, 3, tzinfo=START.tzinfo)
TENTH = START + timedelta(days=10)
GRADUATED = {
    "model": "graduated",
    "tiers": [
        {"up_to": 1_000, "unit_price": "0.01", "flat_price": "0.50"},
        {"up_to": None, "unit_price": "0.005", "flat_price": "1"},
    ],
}
VOLUME = {"model": "volume", "tiers": GRADUATED["tiers"]}
PACKAGE = {"model": "package", "package_size": 300, "package_price": "1.75"}
SHARE = {
    "model": "percentage", "percent": "3.3", "unit_value": "0.01", "fixed": "0.25",
    "minimum": "2", "maximum": "40",
}  # fmt: skip


def watched(
    price: Mapping[str, object] = CENT_EACH, *, threshold: int = 500, **plan: Any
) -> tuple[Subscription, Meter]:
    """A subscription whose usage past 1,000 calls is billed at $5."""
    meter = make_meter()
    version = a_plan(calls(meter, price=price), billing_threshold=threshold, **plan)
    return a_subscription(version), meter


def use(subscription: Subscription, meter: Meter, quantity: int, *, at: datetime) -> None:
    report(subscription.customer, meter, quantity, at=at)


def look(at: datetime) -> int:
    return bill_thresholds(now=at, limit=50)


def issued(subscription: Subscription) -> list[Invoice]:
    return list(
        Invoice.objects.filter(subscription=subscription)
        .exclude(status="draft")
        .order_by("period_start_at")
    )


@pytest.mark.django_db
def test_usage_below_the_threshold_waits_for_the_periods_end() -> None:
    subscription, meter = watched()
    use(subscription, meter, 1_499, at=TENTH - timedelta(days=1))
    assert look(TENTH) == 0
    assert Invoice.objects.count() == 0
    assert fresh(subscription).billed_until_at is None
    # Nothing has changed since, so there is nothing to be looked at.
    before = fresh(subscription).threshold_checked_at
    assert look(TENTH + timedelta(minutes=1)) == 0
    assert fresh(subscription).threshold_checked_at == before


@pytest.mark.django_db
def test_usage_that_reaches_it_is_billed_at_once_and_only_once() -> None:
    subscription, meter = watched()
    use(subscription, meter, 1_700, at=TENTH - timedelta(days=1))
    assert [look(TENTH), look(TENTH), look(TENTH + timedelta(hours=1))] == [1, 0, 0]
    (interim,) = issued(subscription)
    assert amounts(interim) == [("usage", 700)]
    assert (interim.status, interim.push) == ("open", "pending")
    assert (interim.period_start_at, interim.period_end_at) == (
        START, TENTH - timedelta(seconds=1),
    )  # fmt: skip
    assert PeriodBasis.from_json(interim.basis).interim
    use(subscription, meter, 300, at=TENTH + timedelta(days=2))
    rest = invoice_preview(fresh(subscription))
    assert rest is not None
    assert [(line.kind, line.amount) for line in rest.lines] == [("fee", 2_000), ("usage", 300)]
    last = bill(subscription, now=END)
    assert amounts(last) == [("fee", 2_000), ("usage", 300)]
    assert last.period_start_at == interim.period_end_at
    assert fresh(subscription).billed_until_at is None
    assert all(explained(each).holds for each in (interim, last))
    assert not broken_invariants(now=END)


@pytest.mark.django_db
@pytest.mark.parametrize("price", [CENT_EACH, GRADUATED, VOLUME, PACKAGE, SHARE])
def test_tiers_and_what_is_included_go_on_so_that_the_period_costs_the_same(
    price: Mapping[str, object],
) -> None:
    usage = [(2, 1_300), (5, 900), (6, 40), (20, 2_500), (29, 7)]
    subscription, meter = watched(price, threshold=200)
    plain = a_subscription(a_plan(calls(meter, price=price)))
    for day, quantity in usage:
        at = START + timedelta(days=day)
        for each in (subscription, plain):
            use(each, meter, quantity, at=at)
        look(at + timedelta(hours=1))
    last = bill(subscription, now=END)
    found = issued(subscription)
    assert len(found) > 1
    lines = InvoiceLine.objects.filter(invoice__in=found, kind="usage")
    whole = bill(plain, now=END)
    assert sum(line.amount for line in lines) == dict(amounts(whole))["usage"]
    assert sum(line.quantity or 0 for line in lines) == 3_747
    assert sum(each.total for each in found) == whole.total
    assert dict(amounts(last))["fee"] == 2_000
    assert all(explained(each).holds for each in found)


@pytest.mark.django_db
def test_what_comes_late_for_an_interim_invoice_is_adjusted_on_the_next() -> None:
    subscription, meter = watched(GRADUATED)
    use(subscription, meter, 1_900, at=TENTH - timedelta(days=2))
    assert look(TENTH) == 1
    (interim,) = issued(subscription)
    use(subscription, meter, 200, at=TENTH - timedelta(days=1))  # the last hundred are cheaper
    last = bill(subscription, now=END)
    # 900 x 1 c + 50 c; 100 x 1 c + 100 x 0.5 c + 100 c
    assert amounts(interim) == [("usage", 950)]
    assert amounts(last) == [("fee", 2_000), ("adjustment", 250)]
    assert not broken_invariants(now=END)
    assert BilledUsage.objects.filter(subscription=subscription).count() == 2


@pytest.mark.django_db
def test_interim_invoices_count_toward_the_minimum() -> None:
    subscription, meter = watched(fee=0, minimum=1_000)
    use(subscription, meter, 1_700, at=TENTH - timedelta(days=1))
    look(TENTH)
    use(subscription, meter, 100, at=TENTH + timedelta(days=1))
    assert amounts(bill(subscription, now=END)) == [("usage", 100), ("minimum", 200)]


@pytest.mark.django_db
def test_the_subscriptions_own_threshold_wins_over_the_plans() -> None:
    meter = make_meter()
    subscription = a_subscription(a_plan(calls(meter)))
    use(subscription, meter, 1_600, at=TENTH - timedelta(days=1))
    assert look(TENTH) == 0
    set_billing_threshold(subscription.id, amount=600, actor=ACTOR, now=TENTH)
    set_billing_threshold(subscription.id, amount=600, actor=ACTOR, now=TENTH)
    assert AuditEntry.objects.filter(action="subscription.billing_threshold_set").count() == 1
    assert look(TENTH) == 1
    set_billing_threshold(subscription.id, amount=None, actor=ACTOR, now=TENTH)
    use(subscription, meter, 9_000, at=TENTH)
    assert look(TENTH + timedelta(days=1)) == 0


@pytest.mark.django_db
@pytest.mark.parametrize("amount", [0, 49, -500])
def test_a_threshold_that_could_not_be_charged_is_refused(amount: int) -> None:
    subscription = a_subscription(a_plan())
    with pytest.raises(PlanInvalid, match="billing_threshold"):
        set_billing_threshold(subscription.id, amount=amount, actor=ACTOR, now=TENTH)
    with pytest.raises(PlanInvalid, match="billing_threshold"):
        read_version(VersionTerms(billing_threshold=amount))
    assert fresh(subscription).billing_threshold is None
    with pytest.raises(PlanInvalid, match="multiples of 10"):
        read_version(VersionTerms(currency="kwd", billing_threshold=1_005))


@pytest.mark.django_db
def test_an_older_draft_goes_first() -> None:
    subscription, meter = watched()
    at = START.replace(month=11, hour=0, minute=30)
    close_due(now=at, limit=10)
    use(subscription, meter, 1_700, at=at - timedelta(minutes=5))
    assert look(at) == 0
    assert issued(subscription) == []
    bill(subscription, now=at + timedelta(hours=2))
    assert look(at + timedelta(hours=2)) == 1
    assert [each.number for each in issued(subscription)] == ["INV-000001", "INV-000002"]


@pytest.mark.django_db
def test_what_is_told_for_the_moments_to_come_waits_for_them() -> None:
    subscription, meter = watched()
    use(subscription, meter, 1_700, at=TENTH + timedelta(minutes=2))
    assert look(TENTH) == 0
    assert look(TENTH + timedelta(minutes=3)) == 1


@pytest.mark.django_db
def test_a_period_that_just_began_waits_a_moment() -> None:
    subscription, meter = watched()
    use(subscription, meter, 1_700, at=START)
    assert look(START + timedelta(seconds=1)) == 0
    assert look(START + timedelta(seconds=2)) == 1


@pytest.mark.django_db
def test_who_leaves_in_the_last_second_of_a_period_is_billed_for_the_rest() -> None:
    subscription, meter = watched()
    use(subscription, meter, 1_700, at=TENTH - timedelta(days=1))
    look(TENTH)
    end = subscription.current_end_at
    use(subscription, meter, 100, at=TENTH)
    subscribing.cancel(
        subscription.id, when="now", actor=ACTOR, now=end - timedelta(milliseconds=400)
    )
    assert amounts(bill(subscription, now=END)) == [("fee", 2_000), ("usage", 100)]


@pytest.mark.django_db
def test_a_change_of_plan_in_the_period_is_rated_span_by_span() -> None:
    subscription, meter = watched()
    use(subscription, meter, 1_700, at=TENTH - timedelta(days=1))
    look(TENTH)
    dear = a_plan(calls(meter, price={"model": "per_unit", "unit_price": "0.02"}), fee=5_000)
    at = TENTH + timedelta(days=5)
    preview = changing.preview_change(subscription.id, plan=dear.plan.key, now=at)
    changing.change_plan(
        subscription.id, plan=dear.plan.key, when=ChangeWhen.NOW, actor=ACTOR, now=at
    )
    use(subscription, meter, 50, at=TENTH + timedelta(days=1))
    use(subscription, meter, 10, at=at + timedelta(days=1))
    last = amounts(bill(subscription, now=END))
    fees = [amount for kind, amount in last if kind == "fee"]
    assert [line.amount for line in preview.invoice.lines if line.kind == "fee"] == fees
    assert [amount for kind, amount in last if kind == "usage"] == [50, 20]


@pytest.mark.django_db
def test_coupons_take_shares_off_both_and_amounts_off_once() -> None:
    subscription, meter = watched()
    plain: dict[str, Any] = {"periods": 1, "actor": ACTOR, "now": START}
    couponing.create_coupon(code="half", name="Half", percent=Decimal(50), **plain)
    couponing.create_coupon(code="two", name="Two", amounts={"usd": 200}, **plain)
    for code in ("half", "two"):
        couponing.redeem(subscription.customer_id, code=code, actor=ACTOR, now=START)
    use(subscription, meter, 1_700, at=TENTH - timedelta(days=1))
    look(TENTH)
    (interim,) = issued(subscription)
    assert amounts(interim) == [("usage", 700), ("discount", -350)]
    last = bill(subscription, now=END)
    assert amounts(last) == [("fee", 2_000), ("discount", -1_000), ("discount", -200)]


@pytest.mark.django_db(transaction=True)
def test_two_workers_bill_it_once() -> None:
    subscription, meter = watched()
    use(subscription, meter, 1_700, at=TENTH - timedelta(days=1))
    assert sum(at_once([lambda: look(TENTH)] * 3)) == 1
    assert [each.total for each in issued(subscription)] == [700]
    # One that had chosen it before and gets its turn only now finds nothing to do.
    assert thresholds._bill(subscription.id, now=TENTH) is False


@pytest.mark.django_db
def test_a_worker_that_dies_before_it_commits_leaves_nothing() -> None:
    subscription, meter = watched()
    use(subscription, meter, 1_700, at=TENTH - timedelta(days=1))
    with transaction.atomic():
        assert look(TENTH) == 1
        transaction.set_rollback(True)
    assert issued(subscription) == []
    assert fresh(subscription).billed_until_at is None
    assert look(TENTH) == 1
    assert [each.number for each in issued(subscription)] == ["INV-000001"]


@pytest.mark.django_db
def test_nobody_else_is_watched() -> None:
    meter = make_meter()
    paused = a_subscription(a_plan(calls(meter), billing_threshold=500), customer=a_customer())
    use(paused, meter, 1_700, at=TENTH - timedelta(days=1))
    subscribing.pause(paused.id, actor=ACTOR, now=TENTH)
    assert look(TENTH) == 0
    # One that was chosen before it was paused gets its turn, and is left.
    assert thresholds._bill(paused.id, now=TENTH) is False
