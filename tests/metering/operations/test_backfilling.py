"""Backfills: what they take, when it counts, and that it can be taken back as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from accounts.models import AuditEntry, Customer
from metering.models import (
    Backfill,
    Balance,
    Correction,
    Meter,
    RetiredMonth,
    StagedEvent,
    UsageBatch,
    UsageEvent,
)
from metering.operations.backfilling import (
    BackfillInvalid,
    BackfillNotOpen,
    BackfillUnknown,
    Supplied,
    close,
    revert,
    supply,
)
from metering.operations.correcting import amend, void
from metering.operations.defining import change_meter
from metering.queries.backfills import progress_of
from metering.queries.usage import EventsGone
from tests.factories.backfills import BY, DAY, END, START, applied, backfill, event, outcomes
from tests.factories.counted import books_of, happen
from tests.factories.metering import (
    NOW,
    make_customer,
    make_entitlement,
    make_meter,
    open_hold,
)


@pytest.fixture
def customer(db: None) -> Customer:
    return make_customer()


@pytest.fixture
def meter(customer: Customer) -> Meter:
    found = make_meter()
    make_entitlement(customer, found)
    return found


def test_nothing_counts_before_it_is_closed(customer: Customer, meter: Meter) -> None:
    happen(customer, meter, at=START, tokens=5)
    found = backfill(customer, meter)
    taken = supply(found.id, events=[event(customer, n, 10) for n in range(3)])
    assert (taken.accepted, taken.duplicates, taken.rejected) == (3, 0, [])
    assert applied() == 0
    assert books_of(customer, meter) == {meter.key: 5}
    assert close(found.id, **BY).status == "closing"
    assert books_of(customer, meter) == {meter.key: 5}
    assert applied() == 3
    assert books_of(customer, meter) == {meter.key: 35}
    found.refresh_from_db()
    assert (found.status, found.closed_at) == ("closed", NOW)
    assert outcomes(found) == ["added"] * 3
    row = UsageEvent.objects.get(external_id="old-1")
    assert (row.source, row.occurred_at, row.received_at) == ("archive", START, NOW)
    assert applied() == 0
    actions = AuditEntry.objects.filter(subject=found.public_id).order_by("id")
    assert list(actions.values_list("action", flat=True)) == ["backfill.opened", "backfill.closed"]


def test_what_is_supplied_again_counts_once(customer: Customer, meter: Meter) -> None:
    found = backfill(customer, meter)
    one, other = event(customer, 1, 10), event(customer, 2, 10)
    assert supply(found.id, events=[one, one]).duplicates == 1
    taken = supply(found.id, events=[one, event(customer, 1, 11), other])
    assert (taken.accepted, taken.duplicates) == (1, 1)
    assert [(each.index, each.code) for each in taken.rejected] == [(1, "id_reused")]
    for _ in range(2):
        close(found.id, **BY)
        applied()
    assert close(found.id, **BY).status == "closed"
    again = backfill(customer, meter)
    supply(again.id, events=[one, event(customer, 2, 12)])
    close(again.id, **BY)
    applied()
    assert outcomes(again) == ["same", "refused"]
    assert books_of(customer, meter) == {meter.key: 20}


def test_each_event_has_its_own_fate(customer: Customer, meter: Meter) -> None:
    found = backfill(customer, meter)
    wrong = [
        event(None, 1),
        event(make_customer(), 2),
        event(customer, 3, external_id=""),
        event(customer, 4, source="x" * 201),
        event(customer, 5, external_id="a\x00"),
        event(customer, 6, at=END),
        event(customer, 7, at=START - timedelta(microseconds=1)),
        event(customer, 8, 1.5),
        event(customer, 9, 7),
    ]
    taken = supply(found.id, events=wrong)
    assert taken.accepted == 1
    assert [(each.index, each.code) for each in taken.rejected] == [
        (0, "customer_unknown"),
        (1, "parameter_invalid"),
        (2, "parameter_invalid"),
        (3, "parameter_invalid"),
        (4, "parameter_invalid"),
        (5, "time_out_of_range"),
        (6, "time_out_of_range"),
        (7, "quantity_invalid"),
    ]
    assert all(each.detail.endswith(".") for each in taken.rejected)
    assert StagedEvent.objects.count() == 1


def test_a_price_that_is_not_known(customer: Customer) -> None:
    from metering.operations.pricing import create_price_table

    table = create_price_table(key="models", **BY)
    meter = make_meter(value_property="model", price_table=table)
    found = backfill(customer, meter)
    given = Supplied(customer.id, "archive", "1", START, {"model": "a", "input_tokens": 1})
    assert supply(found.id, events=[given]).rejected[0].code == "price_unknown"


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"end_at": START}, "to"),
        ({"end_at": NOW + timedelta(seconds=1)}, "to"),
        ({"reason": "  "}, "reason"),
        ({"reason": "x" * 501}, "reason"),
        ({"reason": "\x00"}, "reason"),
        ({"customer_ids": []}, "customers"),
        ({"customer_ids": range(1_001)}, "customers"),
        ({"event_type": "unheard.of"}, "event_type"),
    ],
)
def test_what_cannot_be_a_backfill(
    customer: Customer, meter: Meter, members: dict[str, Any], param: str
) -> None:
    with pytest.raises(BackfillInvalid) as refused:
        backfill(customer, meter, **members)
    assert refused.value.param == param
    assert not Backfill.objects.exists()


@pytest.mark.parametrize("mode", Backfill.Mode.values)
def test_nothing_is_supplied_where_events_were_dropped(
    customer: Customer, meter: Meter, mode: str
) -> None:
    opened = backfill(customer, meter, mode=mode)
    supply(opened.id, events=[event(customer, 1)])
    RetiredMonth.objects.create(month=START.date().replace(day=1), detached_at=NOW)
    with pytest.raises(BackfillInvalid) as refused:
        backfill(customer, meter, mode=mode)
    assert refused.value.param == "from"
    with pytest.raises(EventsGone):
        close(opened.id, **BY)
    assert Backfill.objects.get().status == "open"


@pytest.mark.parametrize("events", [[], [None] * 5_001])
def test_a_call_supplies_something_and_not_too_much(
    customer: Customer, meter: Meter, events: Sequence[Any]
) -> None:
    with pytest.raises(BackfillInvalid):
        supply(backfill(customer, meter).id, events=events)


def test_what_is_not_open_takes_no_events(customer: Customer, meter: Meter) -> None:
    found = backfill(customer, meter)
    close(found.id, **BY)
    with pytest.raises(BackfillNotOpen):
        supply(found.id, events=[event(customer, 1)])
    dropped = backfill(customer, meter)
    revert(dropped.id, **BY)
    for refused in (
        lambda: supply(dropped.id, events=[event(customer, 1)]),
        lambda: close(dropped.id, **BY),
    ):
        with pytest.raises(BackfillNotOpen):
            refused()
    with pytest.raises(BackfillUnknown):
        close(1, **BY)
    assert not StagedEvent.objects.exists()


def test_one_that_is_dropped_leaves_nothing(customer: Customer, meter: Meter) -> None:
    found = backfill(customer, meter)
    supply(found.id, events=[event(customer, 1)])
    done = revert(found.id, **BY)
    assert (done.status, done.reverted_at) == ("reverted", NOW)
    assert (progress_of(found.id).supplied, progress_of(found.id).dropped) == (0, 1)
    assert revert(found.id, **BY).status == "reverted"
    assert applied() == 0
    assert not StagedEvent.objects.exists()
    assert not UsageEvent.objects.exists()


def test_what_is_not_supplied_again_is_replaced(customer: Customer, meter: Meter) -> None:
    kept = happen(customer, meter, at=START, tokens=5)
    changed = happen(customer, meter, at=START, tokens=6)
    gone = happen(customer, meter, at=START, tokens=7)
    dead = happen(customer, meter, at=START, tokens=8)
    outside = happen(customer, meter, at=END, tokens=9)
    void(customer.id, event_id=dead.id, reason="a test", **BY)
    found = backfill(customer, meter, mode=Backfill.Mode.REPLACE)
    supply(
        found.id,
        events=[
            event(customer, 1, 100),
            event(customer, 2, 5, source="test", external_id=kept.external_id),
            event(customer, 3, 60, source="test", external_id=changed.external_id),
            event(customer, 4, 80, source="test", external_id=dead.external_id),
        ],
    )
    close(found.id, **BY)
    happen(customer, meter, at=START, tokens=11)  # received before it was applied, and at its time
    UsageEvent.objects.filter(usage={str(meter.id): 11}).update(received_at=NOW + DAY)
    assert applied(limit=2) == 5
    assert books_of(customer, meter) == {meter.key: 100 + 5 + 60 + 9 + 11}
    assert sorted(outcomes(found)) == ["added", "amended", "refused", "same"]
    fix = Correction.objects.get(event_id=gone.id)
    assert (fix.kind, fix.backfill_id, fix.reason) == ("void", found.id, "the gateway was down")
    assert not Correction.objects.filter(event_id__in=[kept.id, outside.id]).exists()
    assert (progress_of(found.id).voided, progress_of(found.id).restored) == (1, 0)
    revert(found.id, **BY)
    assert revert(found.id, **BY).status == "reverting"
    applied(limit=1)
    assert books_of(customer, meter) == {meter.key: 5 + 6 + 7 + 9 + 11}
    found.refresh_from_db()
    assert (found.status, found.reverted_at) == ("reverted", NOW)
    assert outcomes(found).count("undone") == 2
    assert (progress_of(found.id).undone, progress_of(found.id).restored) == (2, 1)
    assert Correction.objects.get(event_id=gone.id, superseded_at=None).kind == "restore"
    assert applied() == 0


def test_usage_of_a_meter_that_was_archived_since_is_not_lost(customer: Customer) -> None:
    meter = make_meter()
    make_entitlement(customer, meter)
    for effective_at, dimension in ((START + DAY / 2, "model"), (START + 2 * DAY, "region")):
        change_meter(
            meter.id, dimensions=[dimension], effective_at=effective_at, ahead=timedelta(),
            actor="opk_1", now=START - DAY,
        )  # fmt: skip
    happen(customer, meter, at=START, tokens=5)
    archived_at = START + DAY
    Meter.objects.update(archived_at=archived_at)
    found = backfill(customer, meter, mode=Backfill.Mode.REPLACE)
    times = {6: START, 1: archived_at - DAY / 4, 7: archived_at, 8: START + 3 * DAY}
    supply(found.id, events=[event(customer, n, n, at=at) for n, at in times.items()])
    close(found.id, **BY)
    applied()
    assert books_of(customer, meter) == {meter.key: 7}  # none of when it was archived already
    with pytest.raises(BackfillInvalid, match="no meter counts events"):
        backfill(customer, meter, start_at=archived_at)


def test_an_event_of_the_same_id_that_is_another_one_stays(
    customer: Customer, meter: Meter
) -> None:
    hold = open_hold(customer, meter, 5)
    moved = happen(customer, meter, at=START, tokens=6)
    other = make_meter()
    of_other_type = happen(customer, other, at=START, tokens=6)
    found = backfill(customer, meter, mode=Backfill.Mode.REPLACE)
    later = START + timedelta(hours=1)
    supply(
        found.id,
        events=[
            event(customer, 1, 6, at=later, source="test", external_id=moved.external_id),
            event(customer, 2, 6, source="test", external_id=of_other_type.external_id),
            event(customer, 3, 6),
        ],
    )
    StagedEvent.objects.filter(external_id="old-3").update(id=hold.id)
    close(found.id, **BY)
    applied()
    assert outcomes(found) == ["refused"] * 3
    assert books_of(customer, meter) == {meter.key: 6}


def test_later_corrections_by_hand_outlive_an_undone_backfill(
    customer: Customer, meter: Meter
) -> None:
    first = happen(customer, meter, at=START, tokens=5)
    second = happen(customer, meter, at=START, tokens=6)
    amend(customer.id, event_id=second.id, quantities={meter.id: 7}, reason="by hand", **BY)
    found = backfill(customer, meter, mode=Backfill.Mode.REPLACE)
    supply(
        found.id,
        events=[
            event(customer, 1, 50, source="test", external_id=first.external_id),
            event(customer, 2, 60, source="test", external_id=second.external_id),
            event(customer, 3, 100),
            event(customer, 4, 200),
        ],
    )
    close(found.id, **BY)
    applied()
    amend(customer.id, event_id=first.id, quantities={meter.id: 51}, reason="by hand", **BY)
    by_id = {each.external_id: each for each in UsageEvent.objects.filter(source="archive")}
    added, dead = by_id["old-3"], by_id["old-4"]
    amend(customer.id, event_id=added.id, quantities={meter.id: 101}, reason="by hand", **BY)
    void(customer.id, event_id=dead.id, reason="by hand", **BY)
    revert(found.id, **BY)
    applied()
    # The amendment by hand stands, the earlier one is back, and what was added is void.
    assert books_of(customer, meter) == {meter.key: 51 + 7}
    assert Correction.objects.get(event_id=dead.id).reason == "by hand"


def test_it_is_undone_while_it_is_being_applied(customer: Customer, meter: Meter) -> None:
    happen(customer, meter, at=START, tokens=5)
    found = backfill(customer, meter, mode=Backfill.Mode.REPLACE)
    supply(found.id, events=[event(customer, n, 10) for n in range(4)])
    close(found.id, **BY)
    assert applied(limit=1, pieces=2) == 2
    revert(found.id, **BY)
    applied()
    assert books_of(customer, meter) == {meter.key: 5}
    assert sorted(outcomes(found)) == ["", "", "", "undone"]


@pytest.mark.parametrize("aggregation", ["max", "latest", "unique"])
def test_readings_are_replaced_as_well(customer: Customer, aggregation: str) -> None:
    meter = make_meter(aggregation=aggregation)
    make_entitlement(customer, meter, included=1)
    old = happen(customer, meter, at=START, tokens=9)
    happen(customer, meter, at=START + DAY, tokens=4)
    before = books_of(customer, meter)
    found = backfill(customer, meter, mode=Backfill.Mode.REPLACE)
    supply(
        found.id,
        events=[
            event(customer, 1, 3, source="test", external_id=old.external_id),
            event(customer, 2, 6, at=START + 2 * DAY),
            event(customer, 3, 6, at=START + DAY),
        ],
    )
    close(found.id, **BY)
    applied(limit=2)
    assert books_of(customer, meter) == {meter.key: 2 if aggregation == "unique" else 6}
    revert(found.id, **BY)
    applied(limit=2)
    assert books_of(customer, meter) == before


def test_several_customers_and_backfills_take_turns(customer: Customer, meter: Meter) -> None:
    other = make_customer()
    make_entitlement(other, meter)
    found = [
        backfill(customer, meter, customer_ids=[customer.id, other.id]),
        backfill(other, meter, customer_ids=[other.id]),
    ]
    supply(found[0].id, events=[event(customer, 1, 5), event(other, 1, 6)])
    supply(found[1].id, events=[event(other, 2, 7)])
    for each in found:
        close(each.id, **BY)
    assert applied(limit=1) == 3
    assert {each.status for each in Backfill.objects.all()} == {"closed"}
    assert (books_of(customer, meter), books_of(other, meter)) == (
        {meter.key: 5},
        {meter.key: 13},
    )
    assert Balance.objects.count() == 2
    assert not UsageBatch.objects.exists()


def test_nothing_is_taken_of_whoever_was_erased(customer: Customer, meter: Meter) -> None:
    found = backfill(customer, meter)
    Customer.objects.filter(id=customer.id).update(erased_at=NOW)
    taken = supply(found.id, events=[event(customer, 1)])
    assert (taken.accepted, [each.code for each in taken.rejected]) == (0, ["customer_unknown"])
    assert not StagedEvent.objects.exists()
