"""metering.operations.rolling_up: exactly once, whoever works and whoever dies."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.models import Sum

from metering.models import Rollup, UsageBatch
from metering.operations.checking import broken_invariants
from metering.operations.rolling_up import roll_up, roll_up_waiting
from tests.factories.metering import NOW, make_customer, make_meter, report
from tests.factories.threads import at_once


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


def _end_backend(pid: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
        assert cursor.fetchone() == (True,)
