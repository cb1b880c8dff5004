"""Backfills applied and undone beside others, in the right order, and where events are gone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.models import Customer
from metering.models import Backfill, Correction, Meter, RetiredMonth, UsageEvent
from metering.operations.backfilling import Supplied, close, revert, supply
from metering.operations.granting import grant
from metering.queries.backfills import progress_of
from metering.queries.usage import EventsGone
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


def replaced(customer: Customer, meter: Meter, *supplied: Supplied) -> Backfill:
    found = backfill(customer, meter, mode=Backfill.Mode.REPLACE)
    if supplied:
        supply(found.id, events=supplied)
    close(found.id, **BY)
    applied()
    return found


@pytest.mark.parametrize("last_first", [True, False])
@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("second_voids", [True, False])
def test_two_that_overlap_leave_nothing_when_both_are_undone(
    customer: Customer, meter: Meter, last_first: bool, together: bool, second_voids: bool
) -> None:
    old = happen(customer, meter, at=START, tokens=5)
    same: dict[str, Any] = {"source": "test", "external_id": old.external_id}
    new = event(customer, 1, 30)
    done = [replaced(customer, meter, event(customer, 0, 6, **same), new)]
    if second_voids:
        done.append(replaced(customer, meter))
    else:
        done.append(replaced(customer, meter, event(customer, 0, 7, **same), event(customer, 1, 9)))
    assert books_of(customer, meter) == {meter.key: 0 if second_voids else 16}
    for each in reversed(done) if last_first else done:
        revert(each.id, **BY)
        if not together:
            applied(limit=1)
    applied(limit=1)
    assert books_of(customer, meter) == {meter.key: 5}


def test_what_another_one_voided_is_left_to_it(customer: Customer, meter: Meter) -> None:
    old = happen(customer, meter, at=START, tokens=5)
    same = event(customer, 0, 6, source="test", external_id=old.external_id)
    first, second = replaced(customer, meter, same), replaced(customer, meter)
    revert(first.id, **BY)
    applied()
    assert books_of(customer, meter) == {meter.key: 0}
    revert(second.id, **BY)
    applied()
    assert books_of(customer, meter) == {meter.key: 5}


@pytest.mark.parametrize("voids", [True, False])
def test_what_lost_its_events_is_not_undone(customer: Customer, meter: Meter, voids: bool) -> None:
    happen(customer, meter, at=START, tokens=5)
    found = replaced(customer, meter, *([] if voids else [event(customer, 1, 6)]))
    RetiredMonth.objects.create(month=START.date().replace(day=1), detached_at=NOW)
    dropped = UsageEvent.objects.filter(source="test" if voids else "archive")
    kept = list(dropped)
    dropped.delete()
    before = list(Correction.objects.values())
    with pytest.raises(EventsGone):
        revert(found.id, **BY)
    found.refresh_from_db()
    assert found.status == "closed"
    # Dropped when it was being undone already, it does not end, and does nothing.
    Backfill.objects.update(status="reverting")
    assert applied(pieces=3) == 0
    assert list(Correction.objects.values()) == before
    found.refresh_from_db()
    assert found.status == "reverting"
    # Where all that it changed is kept, it is undone, however old.
    UsageEvent.objects.bulk_create(kept)
    Backfill.objects.update(status="closed")
    revert(found.id, **BY)
    applied()
    assert books_of(customer, meter) == {meter.key: 5}


def test_what_began_after_the_dropped_months_is_undone(customer: Customer, meter: Meter) -> None:
    found = replaced(customer, meter, event(customer, 1, 6))
    RetiredMonth.objects.create(month=(START - 40 * DAY).date().replace(day=1), detached_at=NOW)
    revert(found.id, **BY)
    applied()
    assert books_of(customer, meter) == {meter.key: 0}


def test_an_id_that_came_again_is_replaced_and_put_back_as_both_events(
    customer: Customer, meter: Meter
) -> None:
    for months_ago, tokens in ((1, 10), (0, 100)):
        happen(customer, meter, at=START, external_id="again", months_ago=months_ago, tokens=tokens)
    found = replaced(customer, meter, event(customer, 1, 6))
    assert books_of(customer, meter) == {meter.key: 6}
    assert progress_of(found.id).voided == 2
    revert(found.id, **BY)
    applied(limit=1)
    assert books_of(customer, meter) == {meter.key: 110}
    assert progress_of(found.id).restored == 2
    same = event(customer, 0, 7, source="test", external_id="again")
    found = replaced(customer, meter, same)  # the last one of the id is meant
    assert books_of(customer, meter) == {meter.key: 17}
    revert(found.id, **BY)
    applied(limit=1)
    assert books_of(customer, meter) == {meter.key: 110}


@pytest.mark.parametrize("mode", [Backfill.Mode.ADD, Backfill.Mode.REPLACE])
def test_work_grows_with_the_customers_and_not_with_their_square(
    meter: Meter, mode: Backfill.Mode
) -> None:
    customers = [make_customer() for _ in range(12)]
    for each in customers:
        make_entitlement(each, meter)
    found = backfill(customers[0], meter, mode=mode, customer_ids=[each.id for each in customers])
    supply(found.id, events=[event(each, 1, 5) for each in customers])
    close(found.id, **BY)

    def queries_of_a_piece() -> int:
        with CaptureQueriesContext(connection) as said:
            assert applied(pieces=1) == 1
        return len(said)

    taken = [queries_of_a_piece() for _ in customers]
    assert max(taken[1:]) == min(taken[1:])
    assert applied(pieces=1) == 0
    found.refresh_from_db()
    assert (found.status, found.customers_done) == ("closed", 0)
    revert(found.id, **BY)
    taken = [queries_of_a_piece() for _ in customers]
    assert max(taken[1:]) == min(taken[1:])
    applied()
    assert all(books_of(each, meter) == {meter.key: 0} for each in customers)


def test_it_is_undone_from_the_first_customer_on(meter: Meter) -> None:
    customers = [make_customer() for _ in range(3)]
    for each in customers:
        make_entitlement(each, meter)
    found = backfill(customers[0], meter, customer_ids=[each.id for each in customers])
    supply(found.id, events=[event(each, 1, 5) for each in customers])
    close(found.id, **BY)
    assert applied(pieces=2) == 2
    revert(found.id, **BY)
    assert applied() == 2
    assert all(books_of(each, meter) in ({meter.key: 0}, {}) for each in customers)
    found.refresh_from_db()
    assert found.status == "reverted"


def test_what_is_replaced_is_found_without_comparing_all_with_all(
    customer: Customer, meter: Meter
) -> None:
    """However little the database's statistics know of what was supplied just now."""
    for number in range(200):
        happen(customer, meter, at=START, external_id=f"old-{number}", tokens=1)
    found = backfill(customer, meter, mode=Backfill.Mode.REPLACE)
    again = [event(customer, number, 1, source="test") for number in range(200)]
    supply(found.id, events=again)
    close(found.id, **BY)
    with CaptureQueriesContext(connection) as said:
        assert applied(limit=1_000, pieces=1) == 200
    (query,) = [each["sql"] for each in said if '"received_at" <= ' in each["sql"]]
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {query}")
        ((plan,),) = cursor.fetchone()
    assert sum(_thrown_away(plan["Plan"])) < 2 * 200


def _thrown_away(plan: dict[str, Any]) -> Iterator[int]:
    """How many pairs of rows the plan has compared in vain, join by join."""
    yield plan.get("Rows Removed by Join Filter", 0) * plan["Actual Loops"]
    for part in plan.get("Plans", ()):
        yield from _thrown_away(part)
