"""A day of traffic, repeated, reordered, late and corrected, ends in a plain dictionary's counts.

Meanwhile events are amended and voided, and a range is supplied that was missing; when all has
come, another range is replaced. The generator is seeded: a failure can be had again.
`FAREBOX_TEST_PROFILE=thorough` makes the day twenty times as busy.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from queue import SimpleQueue
from threading import Event
from typing import Any

import pytest
from django.db import connections

from accounts.models import Customer
from metering.domain.counting import event_key
from metering.models import Backfill, Balance, Meter, UsageBatch, UsageEvent
from metering.operations.applying import apply_backfills
from metering.operations.backfilling import Supplied, close, open_backfill, supply
from metering.operations.checking import broken_invariants
from metering.operations.correcting import amend, void
from metering.operations.defining import change_meter, define_meter
from metering.operations.pricing import activate_prices, create_price_table, draft_prices
from metering.operations.rolling_up import roll_up, roll_up_days
from metering.queries.usage import Bucket, usage
from tests.concurrency.traffic import (
    HOUR,
    NANO,
    SOURCE,
    Day,
    Fix,
    Range,
    counted_as,
    make_day,
    start_of_day,
)
from tests.metering.gate.books import broken, uneven
from tests.metering.gate.client import GateProcess, make_gateway
from tests.metering.gate.conftest import entitle, make_customer
from tests.metering.gate.plain import Counts, Value, plain_total

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.proof,
]
EVENTS = 48_000 if os.environ.get("FAREBOX_TEST_PROFILE") == "thorough" else 2_400
CUSTOMERS = 4
SENDERS = 3
SEED = 20_261_126
Told = SimpleQueue[str | None]  # ids of events, each when it was answered; None: that was all
BY: dict[str, Any] = {"reason": "the day's test", "actor": "opk_1"}


def _meters(start_at: datetime) -> dict[str, Meter]:
    """One of each kind, defined long before; the costs and one filter change at noon."""
    set_up: dict[str, Any] = {"actor": "opk_1", "now": start_at - timedelta(days=30)}
    ahead = timedelta(minutes=5)
    noon = start_at + 12 * HOUR
    table = create_price_table(key="traffic", **set_up)
    for number, times in ((1, 1), (2, 2)):
        prices = {
            (model, name): Decimal(nano * times).scaleb(-9)
            for model, both in NANO.items()
            for name, nano in zip(("input", "output"), both, strict=True)
        }
        draft_prices(table.id, prices=prices, **set_up)
        begins_at = None if number == 1 else noon
        activate_prices(table.id, number=number, effective_at=begins_at, ahead=ahead, **set_up)
    kinds: dict[str, dict[str, Any]] = {
        "calls": {"aggregation": "count"},
        "tokens": {"aggregation": "sum", "value_property": "input_tokens"},
        "peak": {"aggregation": "max", "value_property": "input_tokens"},
        "seats": {"aggregation": "latest", "value_property": "seats"},
        "users": {"aggregation": "unique", "value_property": "user"},
        "cost": {"aggregation": "sum", "price_table": "traffic"},
        "eu": {"aggregation": "count", "filters": [{"property": "region", "in": ["eu"]}]},
    }
    made = {
        key: define_meter(
            key=f"traffic.{key}", event_type="traffic", dimensions=["model"], **fields, **set_up
        )
        for key, fields in kinds.items()
    }
    change_meter(
        made["eu"].id,
        filters=[{"property": "region", "not_in": ["us"]}],
        effective_at=noon,
        ahead=ahead,
        **set_up,
    )
    return made


def _send(day: Day, gates: list[GateProcess], sender: int, answered: Told) -> tuple[int, int]:
    """Every third post, by turns to each gate; returns what was accepted and what was known."""
    accepted = known = 0
    for place, post in enumerate(day.posts[sender::SENDERS]):
        got = gates[(sender + place) % len(gates)].send("POST", "/api/v1/events", post)
        assert got.status == 200, got.body
        assert got.body["rejected"] == []
        accepted += got.body["accepted"]
        known += got.body["duplicates"]
        for event in post:
            answered.put(event["id"])
    return accepted, known


def _fix(day: Day, told: Told, customers: dict[str, Customer], meters: dict[str, Meter]) -> None:
    """Correct events in the order of the list, each as soon as it is there."""
    waiting: dict[str, list[Fix]] = {}
    for fix in day.fixes:
        waiting.setdefault(fix.id, []).append(fix)
    try:
        while (id_ := told.get()) is not None:
            for fix in waiting.pop(id_, ()):
                _correct(fix, customers[day.facts[id_].subject], meters)
    finally:
        connections.close_all()
    assert not waiting


def _correct(fix: Fix, customer: Customer, meters: dict[str, Meter]) -> None:
    given: dict[str, Any] = {"event_id": event_key(SOURCE, fix.id), "now": datetime.now(UTC), **BY}
    if fix.data is not None:
        amend(customer.id, properties=fix.data, **given)
    elif fix.said is not None:
        said = {meters[key].id: quantity for key, quantity in fix.said.items()}
        amend(customer.id, quantities=said, **given)
    else:
        void(customer.id, **given)


def _backfill(range_: Range, customers: dict[str, Customer]) -> Backfill:
    """Open one and supply its events, a thousand a call."""
    made = open_backfill(
        mode=Backfill.Mode(range_.mode),
        event_type="traffic",
        customer_ids=[customers[subject].id for subject in range_.subjects],
        start_at=range_.start_at,
        end_at=range_.end_at,
        now=datetime.now(UTC),
        **BY,
    )
    events = [
        Supplied(customers[each.subject].id, SOURCE, id_, each.at, each.data)
        for id_, each in range_.facts.items()
    ]
    for place in range(0, len(events), 1_000):
        taken = supply(made.id, events=events[place : place + 1_000])
        assert taken.rejected == []
    return made


def _count(backfill: Backfill) -> None:
    """Let it count, beside whoever else is at work."""
    close(backfill.id, actor="opk_1", now=datetime.now(UTC))
    while Backfill.objects.get(id=backfill.id).status != Backfill.Status.CLOSED:
        apply_backfills(now=datetime.now(UTC), limit=40, pieces=1)


def _work(over: Event, seed: int) -> None:
    """A worker that rolls up and applies backfills, whose clock jumps ahead of the day and back."""
    draw = random.Random(seed)
    try:
        while not over.wait(0.05):
            roll_up(limit=draw.randrange(1, 9))
            if draw.random() < 0.3:
                apply_backfills(now=datetime.now(UTC), limit=draw.randrange(1, 40), pieces=1)
            if draw.random() < 0.1:
                jump = timedelta(hours=draw.randrange(-72, 49))
                slots = draw.sample(range(64), 16)
                roll_up_days(now=datetime.now(UTC) + jump, slots=slots)
    finally:
        connections.close_all()


@pytest.fixture
def gates(transactional_db: None) -> Iterator[list[GateProcess]]:
    """Two gates, as two processes of one server; they wait as long as it takes."""
    made = [GateProcess(deadline_s=50, statement_timeout_ms=30_000) for _ in range(2)]
    _, key = make_gateway()
    for each in made:
        each.key = key
    yield made
    for each in made:
        each.stop()


def test_a_day_of_traffic_ends_in_the_counts_of_a_plain_dictionary(
    gates: list[GateProcess],
) -> None:
    start_at = start_of_day()
    customers = {each.public_id: each for each in (make_customer() for _ in range(CUSTOMERS))}
    meters = _meters(start_at)
    for customer in customers.values():
        for meter in meters.values():
            entitle(customer, meter, window="hour", included=10)
            entitle(customer, meter, window="lifetime", included=10)
    day = make_day(SEED, subjects=list(customers), events=EVENTS, start_at=start_at)
    added, replaced = _backfill(day.added, customers), _backfill(day.replaced, customers)
    over, answered = Event(), Told()
    with ThreadPoolExecutor(SENDERS + 3) as threads:
        workers = [threads.submit(_work, over, seed) for seed in (1, 2)]
        try:
            fixer = threads.submit(_fix, day, answered, customers, meters)
            senders = [
                threads.submit(_send, day, gates, place, answered) for place in range(SENDERS)
            ]
            try:
                _count(added)
                told = [each.result() for each in senders]
            finally:
                answered.put(None)
            fixer.result()
            _count(replaced)
        finally:
            over.set()
        for worker in workers:
            worker.result()
    posted = sum(len(post) for post in day.posts)
    assert sum(accepted for accepted, _ in told) == EVENTS
    assert sum(known for _, known in told) == posted - EVENTS > 0
    assert UsageEvent.objects.count() == len(day.facts) > EVENTS
    _retry_with_new_times(day, gates)
    _compare(day, customers, meters)  # while some batches may wait
    while roll_up(limit=50):
        pass
    roll_up_days(now=datetime.now(UTC) + timedelta(days=2))
    assert not UsageBatch.objects.exists()
    _compare(day, customers, meters)
    ids = [customer.id for customer in customers.values()]
    assert broken_invariants(now=datetime.now(UTC), customer_ids=ids) == []
    assert [each for each in broken(*ids) if not each[2].endswith(" hour")] == []
    assert uneven(*ids) == []


def _retry_with_new_times(day: Day, gates: list[GateProcess]) -> None:
    """The same ids with the time of the retry, as careless senders do, are known all the same."""
    again = [{**each, "time": datetime.now(UTC).isoformat()} for each in day.events[:40]]
    got = gates[0].send("POST", "/api/v1/events", again)
    assert (got.body["accepted"], got.body["duplicates"]) == (0, 40)


def _compare(day: Day, customers: dict[str, Customer], meters: dict[str, Meter]) -> None:
    for subject, customer in customers.items():
        mine = [each for each in day.facts.values() if each.subject == subject]
        for key, meter in meters.items():
            counts: list[tuple[datetime, Value, str]] = []
            for fact in mine:
                counted = counted_as(key, fact, noon=day.noon)
                if counted is not None:
                    counts.append((fact.at, counted, fact.data["model"]))
            _compare_balances(day, customer, meter, counts)
            _compare_usage(day, customer, meter, counts)


def _grouped(
    counts: list[tuple[datetime, Value, str]], name: Callable[[datetime, str], Any]
) -> dict[Any, Counts]:
    found: dict[Any, Counts] = {}
    for at, value, model in counts:
        found.setdefault(name(at, model), []).append((at, value))
    return found


def _plain(meter: Meter, groups: dict[Any, Counts]) -> dict[Any, int]:
    totals = {name: plain_total(meter.aggregation, each) for name, each in groups.items()}
    return {name: total for name, total in totals.items() if total}


def _compare_balances(
    day: Day, customer: Customer, meter: Meter, counts: list[tuple[datetime, Value, str]]
) -> None:
    rows = Balance.objects.filter(customer_id=customer.id, meter=meter)
    hours = {row.start_at: row.used for row in rows.filter(window="hour") if row.used}
    by_hour = _plain(meter, _grouped(counts, lambda at, _: _hour(at)))
    for hour in _begun_late(day, customer, every=bool(meter.filters)):
        hours.pop(hour, None)
        by_hour.pop(hour, None)
    assert hours == by_hour, meter.key
    ever = sum(row.used for row in rows.filter(window="lifetime"))
    assert ever == plain_total(meter.aggregation, [each[:2] for each in counts]), meter.key


def _begun_late(day: Day, customer: Customer, *, every: bool) -> set[datetime]:
    """Hours whose windows may be short: they were over, and empty, when an event was added.

    Nobody asks for such a window any more, so that a backfill or a correction does not begin it;
    what is told later does. `every`: an amended event may not have counted there before.
    """
    facts = list(day.added.facts.values())
    if every:
        facts += [*day.replaced.facts.values(), *(day.facts[each.id] for each in day.fixes)]
    return {_hour(each.at) for each in facts if each.subject == customer.public_id}


def _hour(at: datetime) -> datetime:
    return at.replace(minute=0, second=0, microsecond=0)


def _compare_usage(
    day: Day, customer: Customer, meter: Meter, counts: list[tuple[datetime, Value, str]]
) -> None:
    buckets: dict[Bucket, Callable[[datetime], Any]] = {
        "hour": _hour,
        "day": lambda at: at.date(),
        "month": lambda at: at.date().replace(day=1),
        "total": lambda _: None,
    }
    for bucket, of in buckets.items():
        points = usage(
            customer.id,
            meter_id=meter.id,
            start_at=day.start_at - 25 * HOUR,
            end_at=day.start_at + 25 * HOUR,
            bucket=bucket,
            group_by=["model"],
        )
        found = {(of(each.start_at), each.group["model"]): each.quantity for each in points}
        by_group = _grouped(counts, lambda at, model, of=of: (of(at), model))  # type: ignore[misc]
        assert found == _plain(meter, by_group), (meter.key, bucket)
