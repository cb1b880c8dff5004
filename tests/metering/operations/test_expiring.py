"""metering.operations.expiring: forgotten holds free what they reserved, once."""

from __future__ import annotations

from datetime import timedelta

import pytest

from accounts.models import CustomerVersion
from metering.models import Balance, Grant, Hold, Tally
from metering.operations.checking import broken_invariants
from metering.operations.expiring import SWEPT, expire_holds
from metering.operations.granting import grant
from tests.factories.metering import (
    NOW,
    make_customer,
    make_entitlement,
    make_meter,
    open_hold,
    report,
)
from tests.factories.threads import at_once

LATER = NOW + timedelta(minutes=5)


@pytest.mark.django_db
def test_what_was_reserved_is_given_back_where_it_came_from() -> None:
    customer, meter = make_customer(), make_meter()
    make_entitlement(customer, meter, included=100)
    make_entitlement(customer, meter, window="minute", included=100)
    grant(customer.id, meter_id=meter.id, quantity=50, actor="opk_1", now=NOW)
    report(customer, meter, 90)
    open_hold(customer, meter, 20)
    kept = open_hold(customer, meter, 30, ttl=timedelta(hours=1))
    open_hold(customer, meter, 7)
    assert Grant.objects.get().held == 47
    version = CustomerVersion.objects.get(customer=customer).version

    assert expire_holds(now=LATER, limit=10) == 2

    assert Grant.objects.get().held == 30
    month = Balance.objects.get(window="month")
    assert (month.used, month.held, month.grant_held) == (90, 30, 30)
    assert Balance.objects.get(window="minute").held == 30
    assert CustomerVersion.objects.get(customer=customer).version == version + 1
    states = Hold.objects.values_list("state", "closed_at")
    assert sorted(states, key=str) == sorted(
        [("expired", LATER), ("expired", LATER), ("open", None)], key=str
    )
    assert Hold.objects.get(state="open").id == kept.id
    assert broken_invariants(now=LATER, customer_ids=[customer.id]) == []


@pytest.mark.django_db
def test_nothing_overdue_changes_nothing() -> None:
    customer, meter = make_customer(), make_meter()
    make_entitlement(customer, meter)
    open_hold(customer, meter, 20)
    version = CustomerVersion.objects.get(customer=customer).version
    assert expire_holds(now=LATER - timedelta(microseconds=1), limit=10) == 0
    assert CustomerVersion.objects.get(customer=customer).version == version
    assert Balance.objects.get().held == 20
    assert not Tally.objects.exists()


@pytest.mark.django_db
def test_what_was_swept_is_counted_for_those_who_watch() -> None:
    customer, meter = make_customer(), make_meter()
    make_entitlement(customer, meter, included=100)
    for swept in (2, 5):
        while Hold.objects.count() < swept:
            open_hold(customer, meter, 1)
        expire_holds(now=LATER, limit=10)
        assert Tally.objects.get(name=SWEPT).count == swept


@pytest.mark.django_db
def test_the_limit_is_of_customers() -> None:
    meter = make_meter()
    for _ in range(3):
        customer = make_customer()
        make_entitlement(customer, meter)
        open_hold(customer, meter, 1)
        open_hold(customer, meter, 2)
    assert expire_holds(now=LATER, limit=2) == 4
    assert expire_holds(now=LATER, limit=2) == 2
    assert expire_holds(now=LATER, limit=2) == 0


@pytest.mark.django_db(transaction=True)
def test_many_sweeps_at_once_give_back_once() -> None:
    customer, meter = make_customer(), make_meter()
    make_entitlement(customer, meter)
    for _ in range(5):
        open_hold(customer, meter, 10)
    assert sum(at_once([lambda: expire_holds(now=LATER, limit=10)] * 4)) == 5
    assert Balance.objects.get().held == 0
    assert broken_invariants(now=LATER) == []
