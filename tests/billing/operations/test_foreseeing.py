"""What a backfill would change is foreseen to the cent, and nothing is changed by looking."""

from __future__ import annotations

import threading
import tracemalloc
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection, transaction

from accounts.models import CustomerVersion
from billing.models import Subscription
from billing.operations import foreseeing
from billing.operations.foreseeing import BackfillBusy, TooMuchToForesee, foresee
from billing.queries.invoices import invoice_preview
from metering.models import Backfill, Balance, Correction, Meter, StagedEvent, UsageEvent
from metering.operations.applying import apply_backfills
from metering.operations.backfilling import (
    BackfillInvalid,
    BackfillNotOpen,
    BackfillUnknown,
    Supplied,
    close,
    open_backfill,
    supply,
)
from metering.queries.usage import EventsGone
from tests.factories.billing import START, a_plan, a_subscription, bill, calls, fresh
from tests.factories.metering import make_customer, make_meter, report

pytestmark = pytest.mark.django_db
NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)
NOW = NOVEMBER + timedelta(days=20)
BY: dict[str, Any] = {"actor": "opk_1", "now": NOW}


@pytest.fixture
def meter() -> Meter:
    return make_meter(key="chat.tokens")


@pytest.fixture
def subscription(meter: Meter) -> Subscription:
    return a_subscription(a_plan(calls(meter)))


def filled(subscription: Subscription, meter: Meter, *days: int) -> Backfill:
    """A replacement of everything up to now by 1,500 tokens on each of these days."""
    made = open_backfill(
        mode=Backfill.Mode.REPLACE,
        event_type=meter.event_type,
        customer_ids=[subscription.customer_id],
        start_at=START,
        end_at=NOW,
        reason="the gateway was down",
        **BY,
    )
    events = [
        Supplied(
            subscription.customer_id,
            "archive",
            f"day-{day}",
            START + timedelta(days=day),
            {"tokens": 1_500},
        )
        for day in days
    ]
    supply(made.id, events=events)
    return made


def test_open_and_closed_periods(subscription: Subscription, meter: Meter) -> None:
    customer = subscription.customer
    report(customer, meter, 1_250, at=START + timedelta(days=5))
    report(customer, meter, 1_100, at=NOVEMBER + timedelta(days=5))
    october = bill(subscription, now=NOVEMBER + timedelta(days=2))
    made = filled(subscription, meter, 6, 40)
    before = state(subscription)
    (found,) = foresee(made.id, now=NOW)
    assert state(subscription) == before
    assert (found.customer_id, found.events) == (customer.id, 4)
    (usage,) = found.usage
    assert (usage.meter, usage.before, usage.after) == (meter, 2_350, 3_000)
    (closed,) = found.closed
    assert (closed.invoice, closed.meter, closed.amount, closed.currency) == (
        october,
        "chat.tokens",
        250,
        "usd",
    )
    assert found.before is not None
    assert found.after is not None
    assert (found.before.total, found.after.total) == (2_100, 2_000 + 500 + 250)
    close(made.id, **BY)
    apply_backfills(now=NOW, limit=100, pieces=100)
    assert invoice_preview(fresh(subscription)) == found.after


def state(subscription: Subscription) -> list[Any]:
    version = CustomerVersion.objects.get(customer_id=subscription.customer_id).version
    tables = (UsageEvent, Correction, StagedEvent, Backfill, Balance)
    rows = [sorted(map(str, model.objects.values())) for model in tables]
    return [version, rows]


def test_a_customer_without_a_plan(meter: Meter) -> None:
    customer = make_customer()
    made = open_backfill(
        mode=Backfill.Mode.ADD,
        event_type=meter.event_type,
        customer_ids=[customer.id],
        start_at=START,
        end_at=NOW,
        reason="the gateway was down",
        **BY,
    )
    supply(made.id, events=[Supplied(customer.id, "archive", "1", START, {"tokens": 5})])
    (found,) = foresee(made.id, now=NOW)
    assert (found.before, found.after, found.closed) == (None, None, [])
    assert [(each.before, each.after) for each in found.usage] == [(0, 5)]


def test_what_is_not_foreseen(subscription: Subscription, meter: Meter) -> None:
    with pytest.raises(BackfillUnknown):
        foresee(1, now=NOW)
    made = filled(subscription, meter, 6, 7)
    before = state(subscription)
    with pytest.raises(BackfillInvalid, match="is not of one of these customers"):
        foresee(made.id, customer_ids=[make_customer().id], now=NOW)
    assert state(subscription) == before
    close(made.id, **BY)
    with pytest.raises(BackfillNotOpen):
        foresee(made.id, now=NOW)


def of_many(meter: Meter, *, customers: int) -> Backfill:
    """An addition of five tokens for each of some customers."""
    ids = [make_customer().id for _ in range(customers)]
    made = open_backfill(
        mode=Backfill.Mode.ADD,
        event_type=meter.event_type,
        customer_ids=ids,
        start_at=START,
        end_at=NOW,
        reason="the gateway was down",
        **BY,
    )
    supply(made.id, events=[Supplied(each, "archive", "1", START, {"tokens": 5}) for each in ids])
    return made


def test_customers_one_after_the_other_or_some_of_them(meter: Meter) -> None:
    made = of_many(meter, customers=3)
    found = foresee(made.id, now=NOW)
    assert [each.customer_id for each in found] == made.customers
    assert [each.usage[0].after for each in found] == [5, 5, 5]
    assert foresee(made.id, customer_ids=made.customers[1:2], now=NOW) == found[1:2]


@pytest.mark.slow
def test_more_events_than_a_call_supplies_in_the_memory_of_a_piece(
    subscription: Subscription, meter: Meter
) -> None:
    made = filled(subscription, meter, 6)
    peaks = []
    for first in (0, 2_000):
        events = [
            Supplied(
                subscription.customer_id,
                "archive",
                f"more-{number}",
                START + timedelta(minutes=number),
                {"tokens": 1},
            )
            for number in range(first, first + 2_000)
        ]
        supply(made.id, events=events)
        tracemalloc.start()
        try:
            (found,) = foresee(made.id, now=NOW)
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert (found.events, found.usage[0].after) == (4_001, 5_500)
    assert peaks[1] < peaks[0] + 1_000_000, peaks


def test_more_of_a_customer_than_its_calls_can_wait_for(
    subscription: Subscription, meter: Meter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(foreseeing, "EVENTS_MAX", 2)
    assert len(foresee(of_many(meter, customers=3).id, now=NOW)) == 3  # one of each
    made = filled(subscription, meter, 6, 7, 8)
    before = state(subscription)
    with pytest.raises(TooMuchToForesee, match="more than 2 events"):
        foresee(made.id, now=NOW)
    assert state(subscription) == before


@pytest.mark.django_db(transaction=True)
def test_nobody_waits_for_somebody_elses_preview() -> None:
    made = of_many(make_meter(), customers=1)
    refused: list[BaseException] = []

    def look() -> None:
        try:
            foresee(made.id, now=NOW)
        except BackfillBusy as error:
            refused.append(error)
        finally:
            connection.close()

    with transaction.atomic():
        Backfill.objects.select_for_update().get(id=made.id)
        other = threading.Thread(target=look)
        other.start()
        other.join(60)
    assert [str(each) for each in refused] == [
        "It is being supplied, closed or previewed at this moment: try again."
    ]
    assert len(foresee(made.id, now=NOW)) == 1


def test_the_backfill_is_left_alone_where_it_cannot_be_foreseen(
    subscription: Subscription, meter: Meter, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = filled(subscription, meter, 6)
    before = state(subscription)

    def fail(*_: Any, **__: Any) -> int:
        raise EventsGone("They were dropped.")

    monkeypatch.setattr(foreseeing, "take_piece", fail)
    with pytest.raises(EventsGone):
        foresee(made.id, now=NOW)
    assert state(subscription) == before
