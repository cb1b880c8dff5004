"""metering.operations.checking: each broken invariant is found, and only that."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from metering.models import Balance, DailyRollup, Grant, Hold, Rollup, UsageBatch, UsageEvent
from metering.operations.checking import LOOK_BACK, broken_invariants
from metering.operations.granting import grant
from metering.operations.rolling_up import roll_up, roll_up_days
from tests.factories.metering import (
    NOW,
    make_customer,
    make_entitlement,
    make_meter,
    open_hold,
    report,
)


def _close_holds() -> None:
    Hold.objects.update(state="released", closed_at=NOW)


@pytest.mark.django_db
def test_a_day_that_is_not_its_hours_is_found() -> None:
    customer, meter = make_customer(), make_meter()
    make_entitlement(customer, meter, included=10)
    report(customer, meter, 5, at=NOW - timedelta(days=2))
    roll_up(limit=10)
    roll_up_days(now=NOW)
    since = NOW - timedelta(days=90)
    assert broken_invariants(now=NOW, since=since) == []
    assert DailyRollup.objects.update(quantity=6) == 1
    (found,) = broken_invariants(now=NOW, since=since)
    assert (found.invariant, found.customer_id) == ("I4", customer.id)
    assert "day of" in found.detail


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("break_it", "invariants"),
    [
        (lambda: Balance.objects.update(used=1_000), ["I1"]),
        (lambda: Grant.objects.update(used=0), ["I2"]),
        (lambda: Balance.objects.update(held=1_000), ["I3"]),
        (lambda: Grant.objects.update(held=0), ["I3"]),
        (_close_holds, ["I3", "I3"]),
        (lambda: Rollup.objects.update(quantity=1), ["I4"]),
        (lambda: Rollup.objects.update(events=1), ["I4"]),
        (lambda: UsageBatch.objects.all().delete(), ["I4"]),
        (lambda: UsageEvent.objects.all().delete(), ["I1", "I4"]),
        (lambda: Balance.objects.all().delete(), ["I2", "I3"]),
    ],
)
def test_each_break_is_found(break_it: Callable[[], object], invariants: list[str]) -> None:
    customer, meter = make_customer(), make_meter()
    make_entitlement(customer, meter, included=10)
    grant(customer.id, meter_id=meter.id, quantity=50, actor="opk_1", now=NOW)
    report(customer, meter, 5)
    report(customer, meter, 10)
    roll_up(limit=10)
    report(customer, meter, 1)
    open_hold(customer, meter, 20)
    assert broken_invariants(now=NOW) == []
    break_it()
    found = broken_invariants(now=NOW)
    assert [each.invariant for each in found] == invariants
    assert all(each.customer_id == customer.id and each.detail for each in found)


@pytest.mark.django_db
def test_windows_that_no_right_has_any_more_are_left_alone() -> None:
    customer, meter = make_customer(), make_meter()
    right = make_entitlement(customer, meter, window="day")
    report(customer, meter, 5)
    Balance.objects.update(used=7)
    assert len(broken_invariants(now=NOW)) == 1
    type(right).objects.update(anchor_at=NOW)
    assert broken_invariants(now=NOW) == []


@pytest.mark.django_db
def test_what_is_over_for_long_is_looked_at_only_when_asked() -> None:
    customer, meter = make_customer(), make_meter()
    make_entitlement(customer, meter, window="day")
    report(customer, meter, 5)
    Balance.objects.update(used=7)
    later = NOW + LOOK_BACK + timedelta(days=2)
    assert broken_invariants(now=later) == []
    (found,) = broken_invariants(now=later, since=NOW - timedelta(days=1))
    assert found.invariant == "I1"


@pytest.mark.django_db
def test_every_customer_has_its_turn() -> None:
    meter = make_meter()
    customers = [make_customer() for _ in range(5)]
    for customer in customers:
        make_entitlement(customer, meter)
        report(customer, meter, 5)
    Balance.objects.update(used=7)
    seen = set()
    for turn in range(3):
        found = broken_invariants(now=NOW + timedelta(minutes=5 * turn), limit=2)
        assert len(found) <= 2
        seen |= {each.customer_id for each in found}
    assert seen == {customer.id for customer in customers}


@pytest.mark.django_db
def test_nobody_is_all_right() -> None:
    assert broken_invariants(now=NOW) == []
