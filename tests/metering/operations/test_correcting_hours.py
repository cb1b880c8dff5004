"""Hours that are over, when a reading of theirs is corrected."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from accounts.models import Customer
from metering.models import Balance, RetiredMonth, UsageEvent
from metering.operations.correcting import amend
from tests.factories.counted import books_of, happen
from tests.factories.metering import NOW, make_customer, make_entitlement, make_meter


@pytest.fixture
def customer(db: None) -> Customer:
    return make_customer()


def correct(event: UsageEvent) -> None:
    """Let a reading of 5 have been one of 4."""
    by: dict[str, Any] = {"reason": "wrong", "actor": "opk_1", "now": NOW}
    amend(event.customer_id, event_id=event.id, properties={"tokens": 4}, **by)


def test_one_without_a_balance_is_begun(customer: Customer) -> None:
    meter = make_meter(aggregation="max")
    make_entitlement(customer, meter, window="hour")
    event = happen(customer, meter, at=NOW - timedelta(days=1), tokens=5)
    Balance.objects.all().delete()
    correct(event)
    assert books_of(customer, meter) == {meter.key: 4}


def test_one_of_which_a_part_was_dropped_stays_as_it_was(customer: Customer) -> None:
    gone_until = datetime(2026, 10, 1, 1, tzinfo=UTC)  # as of September
    meter = make_meter(aggregation="max")
    anchor_at = gone_until - timedelta(minutes=30)
    make_entitlement(customer, meter, window="hour", anchor_at=anchor_at)
    event = happen(customer, meter, at=gone_until + timedelta(minutes=10), tokens=5)
    RetiredMonth.objects.create(month=gone_until.date().replace(month=9, day=1), detached_at=NOW)
    correct(event)
    assert Balance.objects.get().used == 5
