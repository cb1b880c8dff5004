"""metering.operations.rerolling: buckets made anew are those of the events in force."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from accounts.models import Customer
from metering.models import (
    Correction,
    DailyRollup,
    Meter,
    MonthlyRollup,
    RetiredMonth,
    Rollup,
    RollupMember,
    UsageBatch,
    UsageEvent,
)
from metering.operations.checking import broken_invariants
from metering.operations.rerolling import RangeInvalid, reroll
from metering.operations.rolling_up import roll_up, roll_up_days
from tests.factories.metering import NOW, make_customer, make_meter
from tests.factories.threads import at_once
from tests.factories.usage import count_on

HOUR = NOW.replace(minute=0)


def hours(meter: Meter) -> list[tuple[Any, ...]]:
    found = Rollup.objects.filter(meter=meter).order_by("customer_id", "start_at", "dimensions")
    return list(found.values_list("start_at", "dimensions", "quantity", "events"))


def void(event: UsageEvent) -> None:
    Correction.objects.create(
        customer_id=event.customer_id,
        event_id=event.id,
        received_month=event.received_month,
        number=1,
        kind="void",
        occurred_at=event.occurred_at,
        usage={},
        reason="a mistake",
        actor="opk_1",
        at=NOW,
    )


def again(customer: Customer, *, meters: list[int] | None = None, hours_: int = 1) -> int:
    return reroll(
        customer.id, meter_ids=meters, start_at=HOUR, end_at=HOUR + timedelta(hours=hours_)
    )


@pytest.mark.django_db
def test_what_is_void_is_in_no_bucket_any_more() -> None:
    customer, meter = make_customer(), make_meter(dimensions=["model"])
    count_on(customer, meter, 3, at=NOW, properties={"model": "a"})
    void(count_on(customer, meter, 5, at=NOW, properties={"model": "a"}))
    void(count_on(customer, meter, 7, at=NOW, properties={"model": "b"}))
    roll_up(limit=10)
    assert [each[2:] for each in hours(meter)] == [(8, 2), (7, 1)]
    assert again(customer) == 1
    assert hours(meter) == [(HOUR, {"model": "a"}, 3, 1)]
    assert broken_invariants(now=NOW, customer_ids=[customer.id]) == []


@pytest.mark.django_db
def test_what_waits_for_the_range_is_counted_once() -> None:
    customer, other, meter = make_customer(), make_customer(), make_meter()
    count_on(customer, meter, 3, at=NOW)
    count_on(customer, meter, 5, at=NOW + timedelta(hours=1))
    count_on(other, meter, 7, at=NOW)
    assert again(customer) == 1
    assert [delta[4] for batch in UsageBatch.objects.all() for delta in batch.deltas] == [5, 7]
    assert roll_up(limit=10) == 3
    assert [each[2] for each in hours(meter)] == [3, 5, 7]
    assert broken_invariants(now=NOW) == []


@pytest.mark.django_db
def test_a_range_is_widened_to_whole_hours() -> None:
    customer, meter = make_customer(), make_meter()
    for minutes in (-1, 0, 59, 60):
        count_on(customer, meter, 1, at=HOUR + timedelta(minutes=minutes))
    assert reroll(customer.id, start_at=NOW, end_at=NOW + timedelta(minutes=1)) == 1
    assert hours(meter) == [(HOUR, {}, 2, 2)]


@pytest.mark.django_db
def test_only_the_meters_named_are_touched() -> None:
    customer, meter, other = make_customer(), make_meter(), make_meter()
    for each in (meter, other):
        count_on(customer, each, 3, at=NOW)
    roll_up(limit=10)
    Rollup.objects.update(quantity=9)
    assert again(customer, meters=[meter.id]) == 1
    assert (hours(meter)[0][2], hours(other)[0][2]) == (3, 9)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("aggregation", "quantity"), [("sum", 13), ("max", 7), ("latest", 3), ("unique", 3)]
)
def test_properties_that_read_alike_are_one_bucket(aggregation: str, quantity: int) -> None:
    customer, meter = make_customer(), make_meter(aggregation=aggregation, dimensions=["fast"])
    for minute, (counted, fast) in enumerate(((7, True), (1, "true"), (2, True), (3, "true"))):
        each = f"m{max(counted, 2)}" if aggregation == "unique" else counted
        at = HOUR + timedelta(minutes=minute)
        count_on(customer, meter, each, at=at, properties={"fast": fast, "other": minute})
    count_on(customer, meter, "m9" if aggregation == "unique" else 9, at=HOUR, properties={})
    assert again(customer) == 2
    without, fast_ones = hours(meter)
    assert fast_ones == (HOUR, {"fast": "true"}, quantity, 4)
    assert without == (HOUR, {}, 1 if aggregation == "unique" else 9, 1)
    members = RollupMember.objects.order_by("member").values_list("member", flat=True)
    assert list(members) == (["m2", "m3", "m7", "m9"] if aggregation == "unique" else [])
    # The same again, from nothing but the events: nothing is left over from the first time.
    before = hours(meter)
    assert again(customer) == 2
    assert hours(meter) == before
    assert broken_invariants(now=NOW, customer_ids=[customer.id]) == []


@pytest.mark.django_db
def test_a_reading_read_later_stays_the_latest() -> None:
    """Rows come grouped by their properties, not by time."""
    customer, meter = make_customer(), make_meter(aggregation="latest", dimensions=["fast"])
    for minute, (counted, fast) in enumerate(((1, True), (2, "true"), (3, True))):
        at = HOUR + timedelta(minutes=minute)
        count_on(customer, meter, counted, at=at, properties={"fast": fast})
    again(customer)
    bucket = Rollup.objects.get()
    assert (bucket.quantity, bucket.latest_at) == (3, HOUR + timedelta(minutes=2))


@pytest.mark.django_db
def test_days_and_months_follow() -> None:
    customer, other, meter = make_customer(), make_customer(), make_meter()
    last_month = HOUR - timedelta(days=20)
    for who in (customer, other):
        for at in (last_month, last_month + timedelta(days=1), HOUR - timedelta(days=1)):
            count_on(who, meter, 5, at=at)
    roll_up(limit=10)
    assert roll_up_days(now=NOW) == 8
    assert roll_up_days(now=NOW) == 0
    void(UsageEvent.objects.get(customer_id=customer.id, occurred_at=last_month))
    assert reroll(customer.id, start_at=last_month, end_at=NOW) == 2

    def sums(who: Customer) -> list[list[int]]:
        return [
            list(
                level.objects.filter(customer_id=who.id)
                .order_by("start_at")
                .values_list("quantity", flat=True)
            )
            for level in (DailyRollup, MonthlyRollup)
        ]

    assert sums(customer) == [[5, 5], [5]]
    assert sums(other) == [[5, 5, 5], [10]]
    since = NOW - timedelta(days=31)
    assert broken_invariants(now=NOW, since=since) == []


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("start_at", "end_at"),
    [
        (NOW, NOW - timedelta(days=1)),
        (NOW - timedelta(days=33), NOW),
        (datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 10, 2, tzinfo=UTC)),
        (datetime(2026, 11, 1, 0, 59, tzinfo=UTC), datetime(2026, 11, 2, tzinfo=UTC)),
    ],
)
def test_a_range_that_cannot_be_made_anew_stays_as_it_is(
    start_at: datetime, end_at: datetime
) -> None:
    customer, meter = make_customer(), make_meter()
    count_on(customer, meter, 5, at=start_at)
    roll_up(limit=10)
    count_on(customer, meter, 7, at=start_at)
    RetiredMonth.objects.create(month=date(2026, 10, 1), events=1, detached_at=NOW)
    RetiredMonth.objects.create(month=date(2026, 11, 1), events=1)  # exported, still there
    before = hours(meter)
    with pytest.raises(RangeInvalid):
        reroll(customer.id, start_at=start_at, end_at=end_at)
    assert hours(meter) == before
    assert UsageBatch.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_made_anew_while_batches_are_rolled_up() -> None:
    customers, meter = [make_customer() for _ in range(2)], make_meter()
    for number in range(30):
        count_on(customers[number % 2], meter, number, at=NOW + timedelta(minutes=number % 45))

    def rolls() -> int:
        return sum(iter(lambda: roll_up(limit=1), 0))

    def makes_anew(who: Customer) -> Callable[[], int]:
        return lambda: sum(again(who, hours_=2) for _ in range(5))

    at_once([rolls, rolls, *(makes_anew(each) for each in customers)])
    assert not UsageBatch.objects.exists()
    assert sum(each[2] for each in hours(meter)) == sum(range(30))
    assert broken_invariants(now=NOW) == []
