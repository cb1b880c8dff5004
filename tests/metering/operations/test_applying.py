"""Backfills applied and undone beside others, in the right order, and where events are gone."""

from __future__ import annotations

import pytest

from accounts.models import Customer
from metering.models import Backfill, Correction, Meter, RetiredMonth
from metering.operations.backfilling import close, supply
from metering.operations.granting import grant
from tests.factories.backfills import BY, DAY, START, applied, backfill, event
from tests.factories.counted import books_of, happen
from tests.factories.metering import NOW, make_customer, make_entitlement, make_meter


@pytest.fixture
def customer(db: None) -> Customer:
    return make_customer()


@pytest.fixture
def meter(customer: Customer) -> Meter:
    found = make_meter()
    make_entitlement(customer, found)
    return found


def test_one_that_fails_keeps_nobody_waiting(customer: Customer) -> None:
    meter, other = make_meter(aggregation="max"), make_customer()
    make_entitlement(customer, meter)
    make_entitlement(other, meter)
    happen(customer, meter, at=START, tokens=9)
    stuck = backfill(customer, meter, mode=Backfill.Mode.REPLACE)
    close(stuck.id, **BY)
    good = backfill(customer, meter, customer_ids=[other.id])
    supply(good.id, events=[event(other, 1, 5)])
    close(good.id, **BY)
    Backfill.objects.filter(id=stuck.id).update(changed_at=NOW - DAY)  # it comes first
    month = RetiredMonth.objects.create(month=START.date().replace(day=1), detached_at=NOW)
    assert applied(pieces=3) == 1
    assert not Correction.objects.exists()
    stuck.refresh_from_db()
    good.refresh_from_db()
    assert (stuck.status, stuck.changed_at, good.status) == ("closing", NOW, "closed")
    month.delete()
    applied()
    assert Correction.objects.get().backfill_id == stuck.id
    stuck.refresh_from_db()
    assert stuck.status == "closed"


def test_no_grant_pays_for_what_is_replaced_and_what_replaces_it(customer: Customer) -> None:
    meter = make_meter()
    make_entitlement(customer, meter, included=100)
    happen(customer, meter, at=START, tokens=100)
    given = grant(customer.id, meter_id=meter.id, quantity=50, actor="opk_1", now=START - DAY)
    found = backfill(customer, meter, mode=Backfill.Mode.REPLACE)
    supply(found.id, events=[event(customer, n, 50) for n in range(2)])
    close(found.id, **BY)
    assert applied(limit=1) == 3
    given.refresh_from_db()
    assert (books_of(customer, meter), given.used) == ({meter.key: 100}, 0)
