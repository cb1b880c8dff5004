"""metering.operations.rolling_up: exactly once, whoever works and whoever dies."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, connections, transaction
from django.db.models import Sum

from metering.models import DailyRollup, MonthlyRollup, Rollup, RollupReach, UsageBatch
from metering.models.rollups import SLOTS
from metering.operations.checking import broken_invariants
from metering.operations.rolling_up import (
    lock_slot,
    roll_up,
    roll_up_days,
    roll_up_waiting,
    slot_of,
)
from tests.factories.metering import NOW, make_customer, make_meter, report
from tests.factories.threads import at_once, someone_waits_for_me
from tests.factories.usage import count_on
from tests.metering.gate.books import uneven


def rolled() -> dict[str, Any]:
    return Rollup.objects.aggregate(quantity=Sum("quantity"), events=Sum("events"))


@pytest.mark.django_db
def test_batches_become_hourly_buckets_by_dimension() -> None:
    customer, meter = make_customer(), make_meter(dimensions=["model"])
    for minute, model, quantity in ((0, "a", 1), (29, "a", 2), (30, "b", 4), (31, "a", 8)):
        at = NOW + timedelta(minutes=minute)
        report(customer, meter, quantity, at=at, properties={"model": model})
    assert roll_up(limit=3) == 3
    assert roll_up(limit=3) == 1
    assert roll_up(limit=3) == 0
    found = Rollup.objects.order_by("start_at", "dimensions").values_list(
        "start_at", "dimensions", "quantity", "events"
    )
    hour = NOW.replace(minute=0)
    assert list(found) == [
        (hour, {"model": "a"}, 3, 2),
        (hour + timedelta(hours=1), {"model": "a"}, 8, 1),
        (hour + timedelta(hours=1), {"model": "b"}, 4, 1),
    ]
    assert broken_invariants(now=NOW, customer_ids=[customer.id]) == []


@pytest.mark.django_db
def test_rounds_go_on_while_there_is_a_full_one() -> None:
    customer, meter = make_customer(), make_meter()
    for _ in range(7):
        report(customer, meter, 1)
    assert roll_up_waiting(limit=2, rounds=2) == 4
    assert roll_up_waiting(limit=2, rounds=9) == 3
    assert rolled() == {"quantity": 7, "events": 7}


@pytest.mark.django_db
def test_late_usage_is_added_to_the_bucket_of_its_time() -> None:
    customer, meter = make_customer(), make_meter()
    report(customer, meter, 5)
    roll_up(limit=10)
    report(customer, meter, 7, received_at=NOW + timedelta(days=3))
    roll_up(limit=10)
    assert Rollup.objects.get().quantity == 12


@pytest.mark.django_db(transaction=True)
def test_many_workers_lose_and_double_nothing() -> None:
    customers, meters = [make_customer() for _ in range(3)], [make_meter() for _ in range(2)]
    total = 0
    with transaction.atomic():  # one commit instead of sixty
        for number in range(60):
            report(customers[number % 3], meters[number % 2], number)
            total += number

    def work() -> int:
        handled = 0
        while UsageBatch.objects.exists():
            handled += roll_up(limit=4)
        return handled

    assert sum(at_once([work] * 4)) == 60
    assert rolled() == {"quantity": total, "events": 60}
    assert Rollup.objects.count() == 6
    assert broken_invariants(now=NOW) == []


@pytest.mark.django_db(transaction=True)
def test_a_worker_that_dies_in_the_middle_changed_nothing() -> None:
    customer, meter = make_customer(), make_meter()
    report(customer, meter, 5)

    def dies() -> None:
        with transaction.atomic():
            assert roll_up(limit=10) == 1
            pid = connection.connection.info.backend_pid
            at_once([lambda: _end_backend(pid)])
            # The server has rolled back; what is left of the connection only notices now.
            transaction.set_rollback(True)

    at_once([dies])
    assert (UsageBatch.objects.count(), Rollup.objects.count()) == (1, 0)
    assert roll_up(limit=10) == 1
    assert rolled() == {"quantity": 5, "events": 1}


@pytest.mark.django_db(transaction=True)
def test_a_batch_that_another_worker_has_is_left_to_it() -> None:
    customer, meter = make_customer(), make_meter()
    report(customer, meter, 5)
    with transaction.atomic():
        assert roll_up(limit=10) == 1
        assert at_once([lambda: roll_up(limit=10)]) == [0]
    assert rolled() == {"quantity": 5, "events": 1}


# Other runs may lock in databases of their own.
_LOCKS = """
    SELECT FROM pg_locks
     WHERE database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
LAST_MONTH = NOW - timedelta(days=20)
MIDNIGHT = NOW.replace(hour=0, minute=0)


def quantities(level: type[DailyRollup | MonthlyRollup | Rollup]) -> list[int]:
    found = level.objects.order_by("customer_id", "start_at", "dimensions")
    return list(found.values_list("quantity", flat=True))


@pytest.mark.django_db
def test_days_and_months_are_made_when_they_are_over() -> None:
    customer, meter = make_customer(), make_meter()
    for at in (LAST_MONTH, NOW - timedelta(days=1), NOW):
        report(customer, meter, 5, at=at)
    assert roll_up(limit=10) == 3
    assert roll_up_days(now=NOW, slots=[slot_of(customer.id)]) == 3
    assert (quantities(DailyRollup), quantities(MonthlyRollup)) == ([5, 5], [5])
    # Two hours after midnight the day is over, not before; the month goes on.
    tomorrow = MIDNIGHT + timedelta(days=1)
    assert roll_up_days(now=tomorrow + timedelta(hours=1, minutes=59)) == 0
    assert roll_up_days(now=tomorrow + timedelta(hours=2)) == 1
    assert (quantities(DailyRollup), quantities(MonthlyRollup)) == ([5, 5, 5], [5])
    assert RollupReach.objects.filter(days_to=tomorrow).count() == SLOTS
    assert broken_invariants(now=NOW, since=LAST_MONTH) == []


@pytest.mark.django_db
def test_a_clock_that_jumps_back_takes_nothing_back() -> None:
    customer, meter = make_customer(), make_meter()
    report(customer, meter, 5)
    roll_up(limit=10)
    ahead = NOW + timedelta(days=400)
    assert roll_up_days(now=ahead) == 2
    assert roll_up_days(now=NOW) == 0
    report(customer, meter, 7)
    roll_up(limit=10)
    assert (quantities(DailyRollup), quantities(MonthlyRollup)) == ([12], [12])
    assert broken_invariants(now=NOW) == []


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("aggregation", "late", "hour", "coarser"),
    [
        ("count", [1, 1], 3, 4),
        ("sum", [2, 3], 10, 11),
        ("max", [9, 4], 9, 9),
        ("latest", [9, 4], 4, 4),
        ("unique", ["m5", "m6"], 2, None),
    ],
)
def test_late_usage_is_added_to_every_level(
    aggregation: str, late: list[int | str], hour: int, coarser: int | None
) -> None:
    customer, meter = make_customer(), make_meter(aggregation=aggregation)
    first: int | str = "m5" if aggregation == "unique" else 1 if aggregation == "count" else 5
    one: int | str = "m5" if aggregation == "unique" else 1
    count_on(customer, meter, first, at=LAST_MONTH)
    count_on(customer, meter, one, at=LAST_MONTH - timedelta(hours=2))
    roll_up(limit=10)
    roll_up_days(now=NOW)
    for minute, counted in enumerate(late, start=1):
        count_on(customer, meter, counted, at=LAST_MONTH + timedelta(minutes=minute))
        roll_up(limit=10)
    assert quantities(Rollup)[-1] == hour
    levels = [] if coarser is None else [coarser]
    assert (quantities(DailyRollup), quantities(MonthlyRollup)) == (levels, levels)
    assert broken_invariants(now=NOW, since=LAST_MONTH - timedelta(days=1)) == []


@pytest.mark.django_db(transaction=True)
def test_who_comes_second_makes_no_day_twice() -> None:
    customer, meter = make_customer(), make_meter()
    report(customer, meter, 5, at=LAST_MONTH)
    roll_up(limit=10)
    slot = slot_of(customer.id)

    def first() -> int:
        with transaction.atomic():
            lock_slot(slot)
            _wait_for_a_waiter()  # who has seen that no day was made, and waits for the slot
            return roll_up_days(now=NOW, slots=[slot])

    def second() -> int:
        with connections["default"].cursor() as cursor:
            while True:
                cursor.execute(f"SELECT EXISTS ({_LOCKS} AND locktype = 'advisory')")
                if cursor.fetchone() == (True,):
                    return roll_up_days(now=NOW, slots=[slot])

    assert sorted(at_once([first, second])) == [0, 2]
    assert (quantities(DailyRollup), quantities(MonthlyRollup)) == ([5], [5])


def _wait_for_a_waiter() -> None:
    with connection.cursor() as cursor:
        while True:
            cursor.execute(f"SELECT EXISTS ({_LOCKS} AND NOT granted)")
            if cursor.fetchone() == (True,):
                return


def _end_backend(pid: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
        assert cursor.fetchone() == (True,)


@pytest.mark.django_db(transaction=True)
def test_no_day_is_made_while_hours_that_belong_to_it_are_being_written() -> None:
    customer, meter = make_customer(), make_meter()
    report(customer, meter, 5, at=NOW - timedelta(days=40))

    def make_days() -> int:
        try:
            return roll_up_days(now=NOW, slots=[slot_of(customer.id)])
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as other:
        with transaction.atomic():
            assert roll_up(limit=10) == 1  # at a reach that does not have the day yet
            made = other.submit(make_days)
            while not someone_waits_for_me():
                assert not made.done(), "the day was made without the hour"
        assert made.result(60) == 2
    assert uneven(customer.id) == []
