"""metering.operations.partitioning and forgetting."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from uuid import UUID

import psycopg
import pytest
from django.db import OperationalError, connection

from metering.models import Denial
from metering.operations.forgetting import DENIALS_KEPT, forget_denials
from metering.operations.partitioning import make_partitions
from tests.factories.metering import NOW, make_customer
from tests.factories.threads import at_once
from tests.metering.gate.client import dsn


@pytest.mark.django_db
def test_partitions_are_made_from_last_month_to_three_ahead() -> None:
    now = datetime(2031, 10, 31, 23, 59, tzinfo=UTC)
    names = make_partitions(now=now)
    assert names == [
        f"metering_usageevent_{month}" for month in (203109, 203110, 203111, 203112, 203201)
    ]
    assert make_partitions(now=now) == names
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_class WHERE relname = ANY (%s)", [names])
        assert cursor.fetchone() == (5,)


@pytest.mark.django_db(transaction=True)
def test_partitions_made_by_two_at_once_are_made_once() -> None:
    now = datetime(2032, 5, 1, tzinfo=UTC)
    first, second = at_once([lambda: make_partitions(now=now)] * 2)
    assert first == second
    with connection.cursor() as cursor:
        for name in first:
            cursor.execute(f"DROP TABLE {name}")


@pytest.mark.django_db(transaction=True)
def test_no_call_waits_behind_partitions_that_wait_for_somebody() -> None:
    now = datetime(2033, 5, 1, tzinfo=UTC)
    with (
        somebody_reads("metering_usageevent"),
        pytest.raises(OperationalError, match="lock timeout"),
    ):
        make_partitions(now=now)
    made = make_partitions(now=now)
    with connection.cursor() as cursor:
        for name in made:
            cursor.execute(f"DROP TABLE {name}")


@contextmanager
def somebody_reads(table: str) -> Iterator[None]:
    """A transaction of another connection that has looked at the table and is not over."""
    with psycopg.connect(dsn()) as other:
        other.execute(f"LOCK TABLE {table} IN ACCESS SHARE MODE")
        yield


@pytest.mark.django_db
def test_denials_are_forgotten_after_a_month() -> None:
    customer = make_customer()
    for number, age in enumerate((DENIALS_KEPT, DENIALS_KEPT + timedelta(seconds=1))):
        Denial.objects.create(
            customer_id=customer.id,
            id=UUID(int=number),
            code="quota_exhausted",
            first_at=NOW - age,
            last_at=NOW - age,
            problem={},
        )
    assert forget_denials(now=NOW) == 1
    assert Denial.objects.get().id == UUID(int=0)
