"""Corrections on meters that do not add up, and of what tokens cost: every window follows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import transaction

from accounts.models import Customer
from accounts.operations.versions import bump
from metering.domain.meters import Aggregation
from metering.models import (
    Balance,
    Correction,
    Grant,
    Meter,
    RetiredMonth,
    UsageBatch,
    UsageEvent,
    WindowMember,
)
from metering.operations.correcting import CorrectionInvalid, amend, moments, put, void
from metering.operations.pricing import activate_prices, create_price_table, draft_prices
from metering.operations.recounting import Recounting
from metering.operations.recounting_windows import count_window
from metering.operations.rerolling import RangeInvalid
from metering.operations.rolling_up import roll_up, roll_up_days
from metering.queries.corrections import in_force
from metering.queries.usage import EventsGone, usage
from tests.factories.counted import books_of, happen
from tests.factories.metering import NOW, make_customer, make_entitlement, make_meter

WHO: dict[str, Any] = {"reason": "wrong count", "actor": "opk_1", "now": NOW}
BY: dict[str, Any] = {"actor": "opk_1", "now": NOW - timedelta(days=30)}
READINGS = ["max", "latest", "unique"]


@pytest.fixture
def customer(db: None) -> Customer:
    return make_customer()


def metered(customer: Customer, aggregation: str, **right: Any) -> Meter:
    name = "user" if aggregation == "unique" else "tokens"
    found = make_meter(aggregation=aggregation, value_property=name, dimensions=["model"])
    make_entitlement(customer, found, **right)
    return found


def reads(customer: Customer, meter: Meter, value: int, **members: Any) -> UsageEvent:
    named: dict[str, Any] = {meter.value_property: value, **members}
    return happen(customer, meter, **named)


def correct(event: UsageEvent, value: int, **properties: Any) -> Correction:
    kept = event.properties or {}
    (name,) = {"user", "tokens"} & set(kept)
    return amend(event.customer_id, event_id=event.id, properties={**kept, name: value}, **WHO)


def gone(event: UsageEvent) -> Correction:
    return void(event.customer_id, event_id=event.id, **WHO)


@pytest.mark.parametrize(
    ("aggregation", "figures"),
    [("max", [9, 9, 7, 12, 0]), ("latest", [5, 5, 5, 12, 0]), ("unique", [3, 3, 2, 2, 0])],
)
def test_windows_are_counted_from_what_is_left(
    customer: Customer, aggregation: str, figures: list[int]
) -> None:
    meter = metered(customer, aggregation)
    make_entitlement(customer, meter, window="hour")
    first, second, third, last = (
        reads(customer, meter, value, at=NOW + timedelta(minutes=minutes), model="a")
        for value, minutes in ((7, 0), (9, 1), (7, 2), (5, 3))
    )
    found = [books_of(customer, meter)[meter.key]]
    gone(third)  # says what another one says
    found.append(books_of(customer, meter)[meter.key])
    gone(second)
    found.append(books_of(customer, meter)[meter.key])
    correct(last, 12)
    found.append(books_of(customer, meter)[meter.key])
    for each in (first, last):
        gone(each)
    found.append(books_of(customer, meter)[meter.key])
    assert found == figures


@pytest.mark.parametrize("aggregation", READINGS)
def test_windows_that_are_over_and_their_days_and_months(
    customer: Customer, aggregation: str
) -> None:
    meter = metered(customer, aggregation, window="day")
    long_ago = datetime(2026, 9, 7, 10, tzinfo=UTC)
    low = reads(customer, meter, 3, at=long_ago)
    high = reads(customer, meter, 8, at=long_ago + timedelta(hours=2))
    other = reads(customer, meter, 4, at=long_ago + timedelta(days=1))
    roll_up(limit=10)
    roll_up_days(now=NOW)
    gone(high)
    correct(other, 6)
    books_of(customer, meter)
    last = datetime(2026, 9, 1, tzinfo=UTC), datetime(2026, 10, 1, tzinfo=UTC)
    for bucket in ("hour", "day", "month", "total"):
        points = usage(
            customer.id, meter_id=meter.id, start_at=last[0], end_at=last[1], bucket=bucket
        )
        figures = {"max": [3, 6], "latest": [3, 6], "unique": [1, 1]}[aggregation]
        if bucket in {"month", "total"}:
            figures = [{"max": 6, "latest": 6, "unique": 2}[aggregation]]
        assert [point.quantity for point in points] == figures
    correct(low, 9)
    books_of(customer, meter)


@pytest.mark.parametrize("aggregation", READINGS)
@pytest.mark.parametrize("window", ["month", "lifetime", "hour"])
def test_a_window_without_a_balance_is_counted_from_events(
    customer: Customer, aggregation: str, window: str
) -> None:
    name = "user" if aggregation == "unique" else "tokens"
    meter = make_meter(aggregation=aggregation, value_property=name)
    before = NOW - timedelta(days=400)
    event, _ = reads(customer, meter, 5), reads(customer, meter, 6, at=before)
    make_entitlement(customer, meter, window=window)
    correct(event, 7)
    figures = books_of(customer, meter)
    in_all = 2 if aggregation == "unique" and window == "lifetime" else 1
    assert figures == {meter.key: in_all if aggregation == "unique" else 7}
    reads(customer, meter, 8)  # and one more, which an existing balance takes in
    books_of(customer, meter)
    Balance.objects.all().delete()
    reads(customer, meter, 9)
    books_of(customer, meter)


def test_what_has_lost_its_events_cannot_be_counted_anew(customer: Customer) -> None:
    meter = metered(customer, "max")
    early = reads(customer, meter, 9, at=NOW - timedelta(days=60))
    late = reads(customer, meter, 5)
    RetiredMonth.objects.create(month=early.occurred_at.date().replace(day=1), detached_at=NOW)
    rows = list(Balance.objects.order_by("start_at").values())
    for wrong in (gone, lambda event: correct(event, 4)):
        with pytest.raises(RangeInvalid):
            wrong(early)
    assert not Correction.objects.exists()
    assert list(Balance.objects.order_by("start_at").values()) == rows
    correct(late, 4)
    assert Balance.objects.get(start_at__gt=early.occurred_at).used == 4


@pytest.mark.parametrize("aggregation", READINGS)
def test_other_dimensions_move_the_reading_to_another_bucket(
    customer: Customer, aggregation: str
) -> None:
    meter = metered(customer, aggregation)
    event = reads(customer, meter, 5, model="a")
    reads(customer, meter, 5, model="b")
    roll_up(limit=10)
    amend(
        customer.id,
        event_id=event.id,
        properties={**(event.properties or {}), "model": "c"},
        **WHO,
    )
    books_of(customer, meter)
    points = usage(
        customer.id,
        meter_id=meter.id,
        start_at=NOW - timedelta(days=1),
        end_at=NOW + timedelta(days=1),
        group_by=["model"],
    )
    assert sorted(point.group["model"] for point in points) == ["b", "c"]


def test_a_number_is_amended_by_quantity_and_a_member_is_not(customer: Customer) -> None:
    peak, users = metered(customer, "max"), metered(customer, "unique")
    one, other = reads(customer, peak, 5), reads(customer, users, 5)
    amend(customer.id, event_id=one.id, quantities={peak.id: 4}, **WHO)
    assert books_of(customer, peak, users) == {peak.key: 4, users.key: 1}
    batches = UsageBatch.objects.count()
    with pytest.raises(CorrectionInvalid) as refused:
        amend(customer.id, event_id=other.id, quantities={users.id: 4}, **WHO)
    assert refused.value.param == "quantities"
    assert UsageBatch.objects.count() == batches
    assert not Correction.objects.filter(event_id=other.id).exists()


def test_what_tokens_cost_follows_the_properties(customer: Customer) -> None:
    table = create_price_table(key="models", **BY)
    early = BY["now"]
    prices = {("small", "input"): Decimal("0.000001"), ("large", "input"): Decimal("0.00001")}
    draft_prices(table.id, prices=prices, source="by hand", **BY)
    activate_prices(table.id, number=1, effective_at=early, ahead=timedelta(0), **BY)
    meter = make_meter(value_property="model", price_table=table)
    make_entitlement(customer, meter, included=10**15)
    event = happen(customer, meter, model="small", input_tokens=1_000)
    before = books_of(customer, meter)[meter.key]
    amend(
        customer.id,
        event_id=event.id,
        properties={"model": "large", "input_tokens": 1_000},
        **WHO,
    )
    assert books_of(customer, meter)[meter.key] == 10 * before > 0
    with pytest.raises(CorrectionInvalid) as refused:
        amend(
            customer.id,
            event_id=event.id,
            properties={"model": "unheard-of", "input_tokens": 1},
            **WHO,
        )
    assert refused.value.param == "properties"
    assert books_of(customer, meter)[meter.key] == 10 * before
    gone(event)
    assert books_of(customer, meter)[meter.key] == 0


def give(customer: Customer, meter: Meter, quantity: int, **fields: Any) -> Grant:
    return Grant.objects.create(
        customer=customer,
        meter=meter,
        quantity=quantity,
        **{"effective_at": NOW - timedelta(days=1), "created_at": NOW, **fields},
    )


def burned(*grants: Grant) -> list[int]:
    found = {each.pk: each.used for each in Grant.objects.all()}
    return [found[each.pk] for each in grants]


def test_grants_go_on_to_pay_for_the_readings_that_are_left(customer: Customer) -> None:
    meter = metered(customer, "max", included=10)
    grant = give(customer, meter, 50)
    first, second = reads(customer, meter, 15), reads(customer, meter, 18)
    assert burned(grant) == [8]
    gone(first)  # 18 are used as before: the five that it burned are needed still
    assert burned(grant) == [8]
    assert books_of(customer, meter) == {meter.key: 18}
    fix = Correction.objects.get(event_id=second.id)
    assert (fix.kind, fix.usage, fix.actor) == ("repay", second.usage, "opk_1")
    assert fix.reason.endswith("was corrected: wrong count")
    assert fix.paid_by is not None
    assert fix.paid_by[str(meter.id)]["grants"] == {str(grant.id): 8}
    assert Correction.objects.get(event_id=first.id).paid_by is None
    correct(second, 12)
    assert burned(grant) == [2]
    correct(second, 40)  # what it counts as now is burned as any other call's would be
    assert burned(grant) == [30]
    gone(second)
    assert burned(grant) == [0]
    assert books_of(customer, meter) == {meter.key: 0}


def test_what_another_reading_burned_returns_when_the_greatest_falls(customer: Customer) -> None:
    meter = metered(customer, "max", included=0)
    cheap, dear = give(customer, meter, 6, priority=1), give(customer, meter, 50, priority=2)
    first, second = reads(customer, meter, 10), reads(customer, meter, 8)
    assert burned(cheap, dear) == [6, 4]
    correct(first, 4)
    assert burned(cheap, dear) == [6, 2]  # it pays for the window still
    correct(second, 1)
    assert burned(cheap, dear) == [4, 0]
    assert Correction.objects.filter(event_id=first.id, kind="repay").count() == 1
    assert books_of(customer, meter) == {meter.key: 4}


def test_members_that_grants_paid_for(customer: Customer) -> None:
    meter = metered(customer, "unique", included=1)
    grant = give(customer, meter, 50)
    events = [reads(customer, meter, value) for value in (1, 2, 3, 3)]
    assert burned(grant) == [2]
    gone(events[2])  # the member was named twice
    assert burned(grant) == [2]
    gone(events[3])
    assert burned(grant) == [1]
    gone(events[0])
    assert burned(grant) == [0]
    assert books_of(customer, meter) == {meter.key: 1}


def test_nothing_is_burned_where_the_right_has_become_unlimited(customer: Customer) -> None:
    meter = make_meter(aggregation="max")
    right = make_entitlement(customer, meter, included=0)
    grant = give(customer, meter, 50)
    event = reads(customer, meter, 10)
    right.unlimited = True
    right.save()
    correct(event, 12)
    assert burned(grant) == [0]
    assert books_of(customer, meter) == {meter.key: 12}


@pytest.mark.parametrize("as_gate", [True, False])
def test_grants_of_windows_that_have_changed_since(customer: Customer, as_gate: bool) -> None:
    meter = make_meter(aggregation="max")
    right = make_entitlement(customer, meter, included=0)
    grant = give(customer, meter, 50)
    event = reads(customer, meter, 10, as_gate=as_gate)
    right.window, right.anchor_at = "week", NOW - timedelta(days=1)
    right.save()
    correct(event, 12)
    # What the month burned returned to it, and the week pays for what counts now.
    rows = {row.window: (row.used, row.grant_used) for row in Balance.objects.all()}
    assert rows == {"month": (10, 0), "week": (12, 12)}
    assert burned(grant) == [12]
    right.delete()
    gone(event)
    assert burned(grant) == [0]
    assert not Balance.objects.exclude(grant_used=0).exists()


@pytest.mark.parametrize("as_gate", [True, False])
def test_what_calls_of_a_gateway_burned_returns_too(customer: Customer, as_gate: bool) -> None:
    meter = make_meter()
    make_entitlement(customer, meter, included=4)
    make_entitlement(customer, meter, window="hour", included=4)
    grant = give(customer, meter, 50)
    event = reads(customer, meter, 10, as_gate=as_gate)
    correct(event, 5)
    assert burned(grant) == [1]
    gone(event)
    assert burned(grant) == [0]
    assert books_of(customer, meter) == {meter.key: 0}


def test_several_corrections_are_written_as_one(customer: Customer) -> None:
    total, peak = metered(customer, "sum", included=0), metered(customer, "max", included=0)
    grant = give(customer, total, 50)
    later = NOW + timedelta(hours=1)
    spread = [NOW, later, NOW + timedelta(hours=5)]
    changes = [
        *((reads(customer, total, 5), {str(total.id): value}) for value in (3, 7)),
        *((reads(customer, peak, 5, at=at), {str(peak.id): 4}) for at in spread),
    ]
    with transaction.atomic():
        bump(customer.id)
        found = in_force(customer.id, event_ids=[event.id for event, _ in changes])
        books = Recounting(
            customer.id,
            moments=[place for each in found.values() for place in moments(each, each.usage)],
        )
        for event, usage_ in changes:
            put(
                found[event.id],
                books=books,
                kind=Correction.Kind.AMEND,
                usage=usage_,
                properties=event.properties,
                **WHO,
            )
        books.write(now=NOW)
    assert books_of(customer, total, peak) == {total.key: 10, peak.key: 4}
    assert burned(grant) == [10]


def test_a_reading_from_before_the_right(customer: Customer) -> None:
    meter = metered(customer, "max", starts_at=NOW)
    event = reads(customer, meter, 5, at=NOW - timedelta(days=70))
    correct(event, 6)
    assert books_of(customer, meter) == {}


def test_members_of_part_of_an_hour_are_not_forgotten_with_its_events(customer: Customer) -> None:
    meter = make_meter(aggregation="unique", value_property="user")
    start = NOW.replace(minute=0, second=0, microsecond=0) - timedelta(days=2)
    make_entitlement(customer, meter, window="day", anchor_at=start + timedelta(minutes=30))
    ann = happen(customer, meter, at=start + timedelta(minutes=40), user="ann")
    happen(customer, meter, at=start + timedelta(hours=5), user="bob")
    roll_up(limit=10)
    RetiredMonth.objects.create(month=NOW.date().replace(day=1), detached_at=NOW)
    UsageEvent.objects.filter(id=ann.id).delete()
    before = list(WindowMember.objects.values()), list(Balance.objects.values())
    row = Balance.objects.get(customer=customer, start_at=start + timedelta(minutes=30))
    bump(customer.id)
    with pytest.raises(EventsGone), transaction.atomic():
        count_window(
            customer.id,
            key=(meter.id, "day", row.start_at),
            kind=Aggregation.UNIQUE,
            end_at=row.end_at,
        )
    assert (list(WindowMember.objects.values()), list(Balance.objects.values())) == before
