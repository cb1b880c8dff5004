"""Many periods closed and issued in few transactions: as if each had been done by itself."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from billing.models import Invoice, LedgerEntry, PlanVersion, Subscription, SubscriptionPhase
from billing.operations import (
    checking,
    closing,
    couponing,
    crediting,
    customer_credits,
    issuing,
    limiting,
    overriding,
    seating,
)
from billing.operations.subscribing import load
from metering.models import Meter
from metering.operations.granting import grant
from metering.operations.rolling_up import roll_up
from tests.factories.billing import ACTOR, NOW, a_plan, a_subscription, calls
from tests.factories.metering import make_meter, report

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)
NOVEMBER, DECEMBER = datetime(2026, 11, 2, tzinfo=UTC), datetime(2026, 12, 2, tzinfo=UTC)
WHO: dict[str, Any] = {"actor": ACTOR, "now": NOW}
TIERS = {
    "model": "graduated",
    "tiers": [
        {"up_to": 50, "unit_price": "0.01"},
        {"up_to": None, "unit_price": "0.003", "flat_price": "0.10"},
    ],
}


@pytest.fixture
def version() -> PlanVersion:
    meters = [make_meter(key="calls"), make_meter(key="tokens")]
    return a_plan(
        calls(meters[0], included=100),
        calls(meters[1], included=3, window="day", price=TIERS),
        seats={"included": 1, "price": {"model": "per_unit", "unit_price": "5"}},
        minimum=2_500,
        key="pro",
    )


def plain(subscription: Subscription) -> None:
    pass


def an_override(subscription: Subscription) -> None:
    overriding.override(
        subscription.customer_id, terms={"meter": "calls", "included": 150}, starts_at=NOW, **WHO
    )


def a_coupon(subscription: Subscription) -> None:
    couponing.redeem(subscription.customer_id, code="SPRING", **WHO)


def credit(subscription: Subscription) -> None:
    customer_credits.grant_credit(subscription.customer_id, amount=700, **WHO)


def a_wallet(subscription: Subscription) -> None:
    crediting.top_up_wallet(subscription.customer_id, amount=90_000, reference="wire", **WHO)


def a_grant(subscription: Subscription) -> None:
    meter = Meter.objects.get(key="calls")
    grant(subscription.customer_id, meter_id=meter.id, quantity=30, **WHO)
    report(subscription.customer, meter, 60, at=NOW + DAY)


def seats(subscription: Subscription) -> None:
    seating.change_seats(subscription.id, seats=3, **WHO)


def a_spend_limit(subscription: Subscription) -> None:
    limiting.set_spend_limit(subscription.customer_id, amount=9_000, set_by="operator", **WHO)


ALL = (plain, an_override, a_coupon, credit, a_wallet, a_grant, seats, a_spend_limit)


def sold(version: PlanVersion, *, what: Callable[[Subscription], None]) -> Subscription:
    """A subscription of which both meters are used on two days, with something special."""
    subscription = a_subscription(version)
    for number, meter in enumerate(Meter.objects.order_by("key"), start=1):
        report(subscription.customer, meter, 60 * number, at=NOW - DAY)
    what(subscription)
    for number, meter in enumerate(Meter.objects.order_by("key"), start=1):
        report(subscription.customer, meter, 55 * number, at=NOW + 2 * DAY)
    return subscription


def told(subscription: Subscription) -> list[Any]:
    """All that its invoices say but for ids and numbers."""
    found: list[Any] = []
    for invoice in Invoice.objects.filter(subscription=subscription).order_by("period_start_at"):
        found.append((invoice.status, invoice.push, invoice.total, invoice.basis))
        for line in invoice.lines.order_by("position"):
            named = {"redemption", "overrides", "adjusts"}
            detail = {name: value for name, value in line.detail.items() if name not in named}
            found.append((line.kind, line.description, line.quantity, line.amount, detail))
        entries = LedgerEntry.objects.filter(posting__invoice=invoice)
        found.append(sorted(entries.values_list("posting__kind", "account", "amount")))
        found.append(sorted(invoice.credit_uses.values_list("amount", flat=True)))
    found[1:] = [_without(each, subscription=subscription) for each in found[1:]]
    return found


def _without(said: Any, *, subscription: Subscription) -> Any:
    numbers = Invoice.objects.filter(subscription=subscription).values_list("number", flat=True)
    if isinstance(said, tuple) and isinstance(said[1], str):
        for number in numbers:
            said = (said[0], said[1].replace(str(number), "…"), *said[2:])
    return said


def test_each_comes_to_what_it_comes_to_alone(version: PlanVersion) -> None:
    couponing.create_coupon(code="SPRING", name="Spring", percent=Decimal(20), **WHO)
    alone = [sold(version, what=what) for what in ALL]
    together = [sold(version, what=what) for what in ALL]
    roll_up(limit=20)
    for now in (NOVEMBER, DECEMBER):
        for each in alone:
            load(each.id, now=now)
            for draft in Invoice.objects.filter(subscription=each, status="draft"):
                issuing.issue(draft.id, now=now)
        assert closing.close_due(now=now, limit=100) == len(together)
        assert issuing.issue_due(now=now, limit=100) == len(together)
        for one, same in zip(alone, together, strict=True):
            assert told(one) == told(same)
        late = Meter.objects.get(key="calls")
        for each in (*alone, *together):
            report(each.customer, late, 7, at=NOW + 3 * DAY)
    adjusted = Invoice.objects.filter(lines__kind="adjustment", status="open")
    assert adjusted.count() >= len(ALL)
    assert checking.broken_invariants(now=DECEMBER) == []


def statements(work: Callable[[], int]) -> int:
    with CaptureQueriesContext(connection) as asked:
        assert work()
    return len(asked)


def test_more_of_them_take_no_more_statements(version: PlanVersion) -> None:
    found = []
    for count in (1, 6):
        for _ in range(count):
            sold(version, what=plain)
        found.append(
            [
                statements(lambda: closing.close_due(now=NOVEMBER, limit=100)),
                statements(lambda: issuing.issue_due(now=NOVEMBER, limit=100)),
            ]
        )
    assert found[0] == found[1]


def test_one_that_cannot_be_closed_keeps_no_other_from_it(
    version: PlanVersion, caplog: pytest.LogCaptureFixture
) -> None:
    whole = [sold(version, what=plain) for _ in range(4)]
    broken = whole.pop(1)
    SubscriptionPhase.objects.filter(subscription=broken).delete()
    assert closing.close_due(now=NOVEMBER, limit=100) == 3
    assert not Invoice.objects.filter(subscription=broken).exists()
    assert {each.subscription_id for each in Invoice.objects.all()} == {each.pk for each in whole}
    assert f"closing a period failed for {broken.pk}" in caplog.text


def test_as_many_as_are_taken_at_once_may_fail_and_others_have_their_turn(
    version: PlanVersion,
) -> None:
    broken = [sold(version, what=plain) for _ in range(3)]
    SubscriptionPhase.objects.filter(subscription__in=broken).delete()
    whole = {sold(version, what=plain).pk for _ in range(3)}
    assert closing.close_due(now=NOVEMBER, limit=2) == 2
    assert closing.close_due(now=NOVEMBER, limit=2) == 1
    assert closing.close_due(now=NOVEMBER, limit=2) == 0
    assert set(Invoice.objects.values_list("subscription_id", flat=True)) == whole
    first, second, _ = Invoice.objects.order_by("period_end_at", "id")
    Invoice.objects.filter(pk__in=[first.pk, second.pk]).update(basis={})
    assert issuing.issue_due(now=NOVEMBER, limit=2) == 1


def test_one_that_cannot_be_issued_takes_no_number(version: PlanVersion) -> None:
    for _ in range(4):
        sold(version, what=plain)
    closing.close_due(now=NOVEMBER, limit=100)
    broken = Invoice.objects.order_by("period_end_at", "id")[1]
    basis = broken.basis
    Invoice.objects.filter(pk=broken.pk).update(basis={})
    assert issuing.issue_due(now=NOVEMBER, limit=100) == 3
    Invoice.objects.filter(pk=broken.pk).update(basis=basis)
    assert issuing.issue_due(now=NOVEMBER, limit=100) == 1
    numbers = Invoice.objects.order_by("number").values_list("number", flat=True)
    assert list(numbers) == [f"INV-{number:06d}" for number in range(1, 5)]
    broken.refresh_from_db()
    assert broken.number == "INV-000004"


def test_two_periods_of_one_customer_are_issued_one_after_the_other(version: PlanVersion) -> None:
    late, one = sold(version, what=plain), sold(version, what=plain)
    assert closing.close_due(now=DECEMBER, limit=100) == 2
    assert Invoice.objects.filter(status="draft").count() == 4
    assert issuing.issue_due(now=DECEMBER, limit=100) == 4
    for each in (late, one):
        first, second = Invoice.objects.filter(subscription=each).order_by("period_start_at")
        assert (first.number or "") < (second.number or "")


def raised(work: Callable[[], int]) -> list[int]:
    """Of how many customers each transaction raises the versions, where it raises any."""
    with CaptureQueriesContext(connection) as asked:
        assert work()
    found: list[set[str]] = []
    for each in asked:
        if "SKIP LOCKED" in each["sql"]:  # as each of them begins
            found.append(set())
        elif each["sql"].startswith("UPDATE accounts_customerversion"):
            found[-1].add(each["sql"])
    return [len(sqls) for sqls in found if sqls]


def test_versions_are_raised_one_at_a_time(version: PlanVersion) -> None:
    for what in (a_spend_limit, a_spend_limit, a_wallet, a_wallet, plain):
        sold(version, what=what)
    assert raised(lambda: closing.close_due(now=NOVEMBER, limit=100)) == [1, 1]
    assert raised(lambda: issuing.issue_due(now=NOVEMBER, limit=100)) == [1, 1]
