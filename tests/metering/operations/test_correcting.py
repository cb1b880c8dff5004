"""Amending and voiding events: books, buckets and grants follow, and the event stays as it was."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import connection

from accounts.models import AuditEntry, Customer, CustomerVersion
from metering.models import (
    Balance,
    Correction,
    Grant,
    Meter,
    RetiredMonth,
    UsageBatch,
    UsageEvent,
)
from metering.operations.checking import broken_invariants
from metering.operations.correcting import (
    CorrectionInvalid,
    EventUnknown,
    EventVoided,
    amend,
    void,
)
from metering.operations.rolling_up import roll_up
from metering.queries.corrections import as_in_force
from metering.queries.events import event_fate
from metering.queries.usage import usage, usage_total
from tests.factories.counted import books_of, happen
from tests.factories.metering import NOW, make_customer, make_entitlement, make_meter, report
from tests.metering.gate.books import broken

WHO: dict[str, Any] = {"reason": "wrong count", "actor": "opk_1", "now": NOW}
MONTH = datetime(2026, 11, 1, tzinfo=NOW.tzinfo), datetime(2026, 12, 1, tzinfo=NOW.tzinfo)


@pytest.fixture
def customer(db: None) -> Customer:
    return make_customer()


@pytest.fixture
def meter(customer: Customer) -> Meter:
    found = make_meter(key="chat.tokens", dimensions=["model"])
    make_entitlement(customer, found)
    return found


def used(customer: Customer, meter: Meter) -> int:
    total = usage_total(customer.id, meter_id=meter.id, start_at=MONTH[0], end_at=MONTH[1])
    (balance,) = Balance.objects.filter(customer=customer, meter=meter, window="month")
    assert balance.used == total
    assert broken_invariants(now=NOW, customer_ids=[customer.id]) == []
    assert broken(customer.id) == []
    return total


def correct(event: UsageEvent, quantity: int | None = None, **members: Any) -> Correction:
    (number,) = event.usage
    quantities = None if quantity is None else {int(number): quantity}
    return amend(
        event.customer_id, event_id=event.id, **{"quantities": quantities, **WHO, **members}
    )


def gone(event: UsageEvent, **members: Any) -> Correction:
    return void(event.customer_id, event_id=event.id, **{**WHO, **members})


def test_an_amendment_moves_usage_and_leaves_the_event(customer: Customer, meter: Meter) -> None:
    event, other = report(customer, meter, 10), report(customer, meter, 5)
    row = UsageEvent.objects.filter(id=event.id).values().get()
    roll_up(limit=10)
    made = correct(event, 25)
    assert (made.kind, made.number, made.usage) == ("amend", 1, {str(meter.id): 25})
    assert (made.reason, made.actor, made.at) == ("wrong count", "opk_1", NOW)
    assert used(customer, meter) == 30
    roll_up(limit=10)
    assert used(customer, meter) == 30
    assert UsageEvent.objects.filter(id=event.id).values().get() == row
    assert correct(event, 1).number == 2
    assert used(customer, meter) == 6
    assert [each.superseded_at for each in Correction.objects.order_by("number")] == [NOW, None]
    assert Correction.objects.filter(event_id=other.id).count() == 0
    entry = AuditEntry.objects.filter(action="event.amended").latest("id")
    assert entry.changes == {
        "before": {str(meter.id): 25},
        "after": {str(meter.id): 1},
        "reason": "wrong count",
    }


def test_the_same_correction_again_changes_nothing(customer: Customer, meter: Meter) -> None:
    event = report(customer, meter, 10)
    made = correct(event, 7)
    batches = UsageBatch.objects.count()
    assert correct(event, 7) == made
    assert gone(event).number == 2
    assert gone(event, reason="again").reason == "wrong count"
    assert Correction.objects.count() == 2
    assert UsageBatch.objects.count() == batches + 1
    assert used(customer, meter) == 0
    assert AuditEntry.objects.filter(action__startswith="event.").count() == 2


def test_a_void_is_final(customer: Customer, meter: Meter) -> None:
    event = report(customer, meter, 10)
    gone(event)
    with pytest.raises(EventVoided):
        correct(event, 3)
    assert used(customer, meter) == 0
    (point,) = Correction.objects.all()
    assert (point.kind, point.usage) == ("void", {})
    roll_up(limit=10)
    assert usage(customer.id, meter_id=meter.id, start_at=MONTH[0], end_at=MONTH[1]) == []


def test_new_properties_count_a_reported_event_anew(customer: Customer, meter: Meter) -> None:
    event = report(customer, meter, 10, properties={"model": "a"})
    made = correct(event, properties={"tokens": 12, "model": "b"})
    assert (made.usage, made.properties) == (
        {str(meter.id): 12},
        {"tokens": 12, "model": "b"},
    )
    roll_up(limit=10)
    span: dict[str, Any] = {"meter_id": meter.id, "start_at": MONTH[0], "end_at": MONTH[1]}
    points = usage(customer.id, **span, group_by=["model"])
    assert [(each.group, each.quantity) for each in points] == [({"model": "b"}, 12)]
    ragged = usage(
        customer.id,
        meter_id=meter.id,
        start_at=NOW - timedelta(minutes=1),
        end_at=NOW + timedelta(minutes=1),
        group_by=["model"],
    )
    assert [(each.group, each.quantity) for each in ragged] == [({"model": "b"}, 12)]
    assert used(customer, meter) == 12
    assert correct(event, properties={"quantity": 3}).usage == {str(meter.id): 3}
    assert correct(event, 4, properties={"quantity": 3}).usage == {str(meter.id): 4}
    with pytest.raises(CorrectionInvalid) as refused:
        correct(event, properties={"tokens": 1.5})
    assert refused.value.param == "tokens"
    assert used(customer, meter) == 4


def test_an_event_that_no_longer_matches_counts_as_nothing(customer: Customer) -> None:
    eu = make_meter(filters=[{"property": "region", "in": ["eu"]}])
    make_entitlement(customer, eu)
    us = make_meter(event_type=eu.event_type, filters=[{"property": "region", "in": ["us"]}])
    event = report(customer, eu, 10, properties={"region": "eu"})
    made = correct(event, properties={"tokens": 11, "region": "us"})
    assert made.usage == {str(us.id): 11}
    assert used(customer, eu) == 0
    assert usage_total(customer.id, meter_id=us.id, start_at=MONTH[0], end_at=MONTH[1]) == 11


def test_what_a_check_charged_keeps_its_quantity(customer: Customer, meter: Meter) -> None:
    event = report(customer, meter, 10, properties={"model": "a"})
    UsageEvent.objects.filter(id=event.id).update(answer={"mode": "consume"})
    made = correct(event, properties={"model": "b"})
    assert (made.usage, made.properties) == ({str(meter.id): 10}, {"model": "b"})
    assert used(customer, meter) == 10


def test_what_a_grant_paid_returns_to_it(customer: Customer) -> None:
    meter = make_meter()
    make_entitlement(customer, meter, included=4)
    make_entitlement(customer, meter, window="hour", included=1_000)
    first, second = (
        Grant.objects.create(
            customer=customer,
            meter=meter,
            quantity=5,
            priority=priority,
            effective_at=NOW - timedelta(days=1),
            expires_at=NOW + timedelta(days=1),
            created_at=NOW,
        )
        for priority in (1, 2)
    )
    event = report(customer, meter, 12)

    def burned() -> list[int]:
        grants = Grant.objects.filter(customer=customer).order_by("priority")
        return list(grants.values_list("used", flat=True))

    assert burned() == [5, 3]
    made = correct(event, 6)
    assert burned() == [2, 0]
    assert made.paid_by is not None
    assert made.paid_by[str(meter.id)]["grants"] == {str(first.id): 2}
    assert used(customer, meter) == 6
    Grant.objects.filter(id=first.id).update(voided_at=NOW)
    correct(event, 9)
    assert burned() == [0, 5]
    assert used(customer, meter) == 9
    gone(event)
    assert burned() == [0, 0]
    assert used(customer, meter) == 0
    assert second.quantity == 5


def test_a_grant_pays_where_it_paid_before_the_windows_changed(customer: Customer) -> None:
    meter = make_meter()
    right = make_entitlement(customer, meter, included=0)
    Grant.objects.create(
        customer=customer, meter=meter, quantity=50, effective_at=NOW, created_at=NOW
    )
    event = report(customer, meter, 10)
    right.window, right.anchor_at = "week", NOW - timedelta(days=1)
    right.save()
    gone(event)
    assert Grant.objects.get().used == 0
    balance = Balance.objects.get(window="month")
    assert (balance.used, balance.grant_used) == (10, 0)  # the old window is nobody's any more
    assert broken_invariants(now=NOW, customer_ids=[customer.id]) == []


def test_other_meters_of_the_event_are_left_alone(customer: Customer) -> None:
    meter, calls = make_meter(), make_meter(aggregation="count")
    for each in (meter, calls):
        make_entitlement(customer, each, included=0)
    Grant.objects.create(
        customer=customer, meter=calls, quantity=50, effective_at=NOW, created_at=NOW
    )
    event = report(customer, meter, 10)
    other = report(customer, calls, 1)
    both = {**event.usage, **other.usage}
    UsageEvent.objects.filter(id=event.id).update(usage=both, paid_by=other.paid_by)
    UsageEvent.objects.filter(id=other.id).delete()
    event.refresh_from_db(fields=["usage"])
    made = amend(customer.id, event_id=event.id, quantities={meter.id: 3}, **WHO)
    assert made.usage == {str(meter.id): 3, str(calls.id): 1}
    assert made.paid_by == other.paid_by
    assert Grant.objects.get().used == 1
    assert (used(customer, meter), used(customer, calls)) == (3, 1)


def test_windows_of_an_hour_or_less(customer: Customer) -> None:
    meter = make_meter()
    for window in ("minute", "hour", "month"):
        make_entitlement(customer, meter, window=window)
    past = report(customer, meter, 10, at=NOW - timedelta(hours=3))
    event = report(customer, meter, 10)
    correct(event, 4)
    current = Balance.objects.get(window="hour", end_at__gt=NOW)
    assert current.used == 4
    gone(past)
    assert Balance.objects.get(window="hour", end_at__lt=NOW).used == 0
    assert used(customer, meter) == 4
    over = report(customer, meter, 10, at=NOW - timedelta(hours=5))
    Balance.objects.filter(window__in=["hour", "minute"]).delete()
    correct(over, 3)  # a late event may come into those windows yet, and counts on from there
    assert used(customer, meter) == 7
    begun = Balance.objects.filter(window__in=["hour", "minute"])
    assert list(begun.values_list("used", flat=True)) == [3, 3]


def test_a_minute_whose_events_were_dropped_stays_as_it_was(customer: Customer) -> None:
    meter = make_meter()
    for window in ("minute", "month"):
        make_entitlement(customer, meter, window=window)
    event = report(customer, meter, 10, at=NOW - timedelta(days=60))
    RetiredMonth.objects.create(month=event.occurred_at.date().replace(day=1), detached_at=NOW)
    for kept in (True, False):
        correct(event, 4 if kept else 3)
        assert Balance.objects.get(window="month").used == (4 if kept else 3)
        rows = Balance.objects.filter(window="minute")
        assert list(rows.values_list("used", flat=True)) == [10] * kept
        rows.delete()


@pytest.mark.parametrize("window", ["month", "lifetime", "minute"])
def test_a_balance_that_is_not_there_is_counted_from_events(
    customer: Customer, window: str
) -> None:
    meter = make_meter()
    event, _ = report(customer, meter, 10), report(customer, meter, 1)
    make_entitlement(customer, meter, window=window)
    correct(event, 4)
    assert Balance.objects.get().used == 5
    assert broken_invariants(now=NOW, customer_ids=[customer.id]) == []
    Balance.objects.all().delete()
    gone(event)
    UsageEvent.objects.exclude(id=event.id).delete()
    assert Balance.objects.get().used == 1


def test_nothing_is_made_for_a_window_without_usage(customer: Customer) -> None:
    meter = make_meter()
    event = report(customer, meter, 10)
    make_entitlement(customer, meter)
    gone(event)
    assert not Balance.objects.exists()
    ended = make_meter()
    make_entitlement(customer, ended, ends_at=NOW - timedelta(days=60))
    gone(report(customer, ended, 10))
    assert not Balance.objects.exists()


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({}, "quantity"),
        ({"quantities": {1_000_000: 1}}, "quantities"),
        ({"quantity": -1}, "quantity"),
        ({"quantity": 10**16}, "quantity"),
        ({"quantity": 1, "reason": " "}, "reason"),
        ({"quantity": 1, "reason": "x" * 501}, "reason"),
        ({"quantity": 1, "reason": "\x00"}, "reason"),
    ],
)
def test_what_cannot_be_corrected_moves_nothing(
    customer: Customer, meter: Meter, members: dict[str, Any], param: str
) -> None:
    event = report(customer, meter, 10)
    before = CustomerVersion.objects.get(customer=customer).version
    with pytest.raises(CorrectionInvalid) as refused:
        correct(event, members.pop("quantity", None), **members)
    assert refused.value.param == param
    assert used(customer, meter) == 10
    assert not Correction.objects.exists()
    assert CustomerVersion.objects.get(customer=customer).version == before


def test_unknown_events(customer: Customer, meter: Meter) -> None:
    event = report(customer, meter, 1)
    with pytest.raises(EventUnknown):
        void(customer.id, event_id=UUID(int=1 << 100), **WHO)
    with pytest.raises(EventUnknown):
        void(make_customer().id, event_id=event.id, **WHO)
    assert used(customer, meter) == 1


def test_the_database_keeps_one_correction_in_force(customer: Customer, meter: Meter) -> None:
    event = report(customer, meter, 1)
    gone(event)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT usage, paid_by, correction FROM metering_effectiveevent"
            " WHERE customer_id = %s AND id = %s",
            [customer.id, event.id],
        )
        assert cursor.fetchall() == [("{}", None, 1)]


def test_an_id_that_came_again_is_corrected_as_the_event_it_is(
    customer: Customer, meter: Meter
) -> None:
    first = happen(customer, meter, external_id="again", months_ago=1, tokens=10)
    correct(first, 4)
    second = happen(customer, meter, external_id="again", tokens=100)
    assert first.id == second.id
    assert books_of(customer, meter) == {meter.key: 104}
    assert [each.usage for each in as_in_force(customer.id, events=[first, second])] == [
        {str(meter.id): 4},
        {str(meter.id): 100},
    ]
    assert (correct(second, 50).number, books_of(customer, meter)) == (2, {meter.key: 54})
    gone(second)
    assert books_of(customer, meter) == {meter.key: 4}
    fate = event_fate(customer.id, event_id=second.id)
    assert fate is not None
    assert fate.event.received_month == second.received_month
    assert [each.number for each in fate.corrections] == [2, 3]
    assert broken(customer.id) == []
