"""A trial sees what it does, leaves nothing behind, and nobody waits for it."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection

from accounts.models import Customer, CustomerVersion
from metering.models import (
    Balance,
    EventOrigin,
    Grant,
    Meter,
    Rollup,
    RollupReach,
    UsageBatch,
    UsageEvent,
)
from metering.operations.applying import apply_piece
from metering.operations.backfilling import close, supply
from metering.operations.rolling_up import roll_up
from metering.operations.trying_out import COPIED, trials, tried_out
from metering.queries.usage import usage_total
from tests.factories.backfills import BY, START, applied, backfill, event
from tests.factories.counted import books_of, happen
from tests.factories.metering import NOW, make_customer, make_entitlement, make_meter
from tests.metering.gate.conftest import World, gate, world  # noqa: F401  (fixtures)


@pytest.fixture
def customer(db: None) -> Customer:
    return make_customer()


@pytest.fixture
def meter(customer: Customer) -> Meter:
    found = make_meter(aggregation="max")
    make_entitlement(customer, found)
    return found


def state(customer: Customer) -> list[Any]:
    tables = (CustomerVersion, Balance, Grant, Rollup, UsageBatch, UsageEvent)
    return [sorted(map(str, table.objects.values())) for table in tables]


def test_one_after_the_other_and_nothing_is_left(customer: Customer, meter: Meter) -> None:
    other = make_customer()
    make_entitlement(other, meter)
    happen(customer, meter, at=START, tokens=5)
    roll_up(limit=10)
    happen(other, meter, at=START, tokens=6)
    made = backfill(customer, meter, customer_ids=[customer.id, other.id])
    supply(made.id, events=[event(customer, 1, 20), event(other, 1, 30)])
    before = state(customer)
    with trials():
        for each, was, comes in ((customer, 5, 20), (other, 6, 30)):
            with tried_out(each.id):
                assert books_of(each, meter) == {meter.key: was}
                assert apply_piece(made, each.id, now=NOW, limit=10) == 1
                assert books_of(each, meter) == {meter.key: comes}
            assert state(customer) == before
    assert state(customer) == before
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_class WHERE relpersistence = 't'")
        assert cursor.fetchone() == (0,)


def test_days_that_are_made_meanwhile_are_looked_for_where_they_are(
    customer: Customer, meter: Meter
) -> None:
    happen(customer, meter, at=START, tokens=5)
    roll_up(limit=10)
    slot, _ = RollupReach.objects.update_or_create(
        slot=customer.id % 64, defaults={"days_to": START - timedelta(days=9)}
    )
    span = {"start_at": START - timedelta(days=2), "end_at": START + timedelta(days=2)}
    with trials(), tried_out(customer.id):
        assert usage_total(customer.id, meter_id=meter.id, **span) == 5
        with connection.cursor() as cursor:  # as the worker does, in whose days there is the usage
            cursor.execute(
                "UPDATE public.metering_rollupreach SET days_to = %s WHERE slot = %s",
                [START + timedelta(days=3), slot.slot],
            )
        assert usage_total(customer.id, meter_id=meter.id, **span) == 5


def test_where_events_come_from_is_written_before_a_preview_writes_it(
    customer: Customer, meter: Meter
) -> None:
    made = backfill(customer, meter)
    supply(made.id, events=[event(customer, 1)])
    kept = EventOrigin.objects.filter(customer=customer)
    assert [(each.type, each.gateway_id, each.api_key_id) for each in kept] == [
        (meter.event_type, None, None)
    ]
    before = set(kept.values_list("id", flat=True))
    close(made.id, **BY)
    assert applied() == 1
    assert UsageEvent.objects.filter(customer=customer).count() == 1
    assert set(kept.values_list("id", flat=True)) == before  # the one that the event needs


def test_what_goes_wrong_is_undone(customer: Customer, meter: Meter) -> None:
    happen(customer, meter, at=START, tokens=5)
    before = state(customer)

    def fail() -> None:
        with trials(), tried_out(customer.id):
            Balance.objects.all().delete()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert state(customer) == before


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("kind", ["sum", "max", "latest", "unique"])
def test_no_lock_is_taken_on_what_calls_write(kind: str) -> None:
    """Nor on the buckets of the customer's slot, which a worker rolls up meanwhile."""
    customer, meter = make_customer(), make_meter(aggregation=kind)
    make_entitlement(customer, meter)
    happen(customer, meter, at=START, tokens=5)
    roll_up(limit=10)
    made = backfill(customer, meter, mode="replace")
    supply(made.id, events=[event(customer, 1, 3)])
    made.closing_at = NOW
    with connection.cursor() as cursor, trials():
        cursor.execute("SELECT oid FROM pg_class WHERE relname = ANY (%s)", [list(COPIED)])
        real = [oid for (oid,) in cursor.fetchall()]
        with tried_out(customer.id):
            assert apply_piece(made, customer.id, now=NOW, limit=10) == 1
            assert apply_piece(made, customer.id, now=NOW, limit=10) == 1
            cursor.execute(
                "SELECT relation::regclass, locktype, mode FROM pg_locks"
                " WHERE pid = pg_backend_pid() AND mode <> 'AccessShareLock'"
                " AND (relation = ANY (%s) OR locktype = 'advisory')",
                [real],
            )
            assert cursor.fetchall() == []


@pytest.mark.django_db(transaction=True)
def test_calls_go_on_while_it_lasts(world: World) -> None:  # noqa: F811
    assert world.check(mode="consume", id="before", quantity=3).status == 200
    with trials(), tried_out(world.customer.id):
        made = backfill(world.customer, world.calls, event_type="api.call")
        supply(made.id, events=[event(world.customer, 1)])
        assert apply_piece(made, world.customer.id, now=NOW, limit=10) == 1
        assert world.check(mode="consume", id="meanwhile", quantity=2).status == 200
        assert world.check(mode="hold", id="held", quantity=2).status == 200
        roll_up_elsewhere()
        assert world.balance(world.calls)[1] == 0  # the trial has its own
    assert world.balance(world.calls) == (5, 2)


def roll_up_elsewhere() -> None:
    """A worker's roll-up, over a connection of its own, which waits for nobody."""
    failed: list[BaseException] = []

    def work() -> None:
        try:
            roll_up(limit=10)
        except BaseException as error:  # noqa: BLE001
            failed.append(error)
        finally:
            connection.close()

    worker = threading.Thread(target=work)
    worker.start()
    worker.join(30)
    assert not worker.is_alive()
    assert failed == []
