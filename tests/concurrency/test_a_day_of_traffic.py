"""A day of traffic, repeated, reordered and late, ends in the counts of a plain dictionary.

The generator is seeded: a failure can be had again. `FAREBOX_TEST_PROFILE=thorough` makes the day
forty times as busy.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from threading import Event
from typing import Any

import pytest
from django.db import connections

from accounts.models import Customer
from metering.models import Balance, Meter, UsageBatch, UsageEvent
from metering.operations.checking import broken_invariants
from metering.operations.defining import change_meter, define_meter
from metering.operations.pricing import activate_prices, create_price_table, draft_prices
from metering.operations.rolling_up import roll_up, roll_up_days
from metering.queries.usage import Bucket, usage
from tests.metering.gate.client import GateProcess, make_gateway
from tests.metering.gate.conftest import entitle, make_customer
from tests.metering.gate.plain import Counts, Value, plain_total

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.proof,
]
BUSY = 40 if os.environ.get("FAREBOX_TEST_PROFILE") == "thorough" else 1
EVENTS = 1_200 * BUSY
CUSTOMERS = 4
SENDERS = 3
HOUR = timedelta(hours=1)
# A token costs so many billionths of a dollar in the morning; in the afternoon twice as many.
NANO = {"m-1": (2_500, 10_000), "m-2": (150, 600)}


@dataclass(slots=True)
class Day:
    """24 hours until now: who did what and when, and how it was told."""

    start_at: datetime
    customers: list[Customer]
    meters: dict[str, Meter]
    events: list[dict[str, Any]] = field(default_factory=list)
    posts: list[list[dict[str, Any]]] = field(default_factory=list)

    @property
    def noon(self) -> datetime:
        """When prices and a filter change."""
        return self.start_at + 12 * HOUR


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


def _day(seed: int) -> Day:
    start_at = datetime.now(UTC).replace(microsecond=0) - 24 * HOUR
    draw = random.Random(seed)
    day = Day(start_at, [make_customer() for _ in range(CUSTOMERS)], _meters(start_at))
    for customer in day.customers:
        for meter in day.meters.values():
            entitle(customer, meter, window="hour", included=10)
            entitle(customer, meter, window="lifetime", included=10)
    told = []
    for number in range(EVENTS):
        # Whole seconds for some, so that readings of one instant meet.
        at = start_at + timedelta(seconds=draw.randrange(86_400))
        at += timedelta(milliseconds=draw.choice([0, draw.randrange(1_000)]))
        event = {
            "specversion": "1.0",
            "id": f"e{number}",
            "source": "traffic",
            "type": "traffic",
            "subject": draw.choice(day.customers).public_id,
            "time": at.isoformat(),
            "data": {
                "model": draw.choice(list(NANO)),
                "region": draw.choice(["eu", "us", "de"]),
                "user": f"u{draw.randrange(40)}",
                "seats": draw.randrange(20),
                "input_tokens": draw.randrange(3_000),
                "output_tokens": draw.randrange(900),
            },
        }
        day.events.append(event)
        late = timedelta(seconds=draw.randrange(300))
        if draw.random() < 0.1:
            late += timedelta(hours=draw.randrange(1, 20))
        told.append((at + late, number))
    order = [day.events[number] for _, number in sorted(told)]
    place = 0
    while place < len(order):
        size = draw.choice([1, 2, 10, 40 * BUSY])
        day.posts.append(order[place : place + size])
        place += size
    # Whole posts that are sent again at once or much later, and events inside other posts.
    for post in draw.sample(day.posts, len(day.posts) // 5):
        day.posts.insert(draw.randrange(len(day.posts)), list(post))
    for event in draw.sample(day.events, EVENTS // 10):
        draw.choice(day.posts).append(event)
    return day


def _value(key: str, event: dict[str, Any], *, noon: datetime) -> Value | None:
    """What an event counts as on a meter; None where it does not."""
    data = event["data"]
    morning = datetime.fromisoformat(event["time"]) < noon
    match key:
        case "calls":
            return 1
        case "tokens" | "peak":
            return int(data["input_tokens"])
        case "seats":
            return int(data["seats"])
        case "users":
            return str(data["user"])
        case "cost":
            of_input, of_output = NANO[data["model"]]
            cost = data["input_tokens"] * of_input + data["output_tokens"] * of_output
            return int(cost if morning else 2 * cost)
        case _:
            counts = data["region"] == "eu" if morning else data["region"] != "us"
            return 1 if counts else None


def _send(day: Day, gates: list[GateProcess], sender: int) -> tuple[int, int]:
    """Every third post, by turns to each gate; returns what was accepted and what was known."""
    accepted = known = 0
    for place, post in enumerate(day.posts[sender::SENDERS]):
        got = gates[(sender + place) % len(gates)].send("POST", "/api/v1/events", post)
        assert got.status == 200, got.body
        assert got.body["rejected"] == []
        accepted += got.body["accepted"]
        known += got.body["duplicates"]
    return accepted, known


def _work(over: Event, seed: int) -> None:
    """A roll-up worker whose clock jumps, ahead of the day and back again."""
    draw = random.Random(seed)
    try:
        while not over.wait(0.01):
            roll_up(limit=draw.randrange(1, 9))
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
    day = _day(seed=20_261_126)
    over = Event()
    with ThreadPoolExecutor(SENDERS + 2) as threads:
        workers = [threads.submit(_work, over, seed) for seed in (1, 2)]
        try:
            senders = [threads.submit(_send, day, gates, place) for place in range(SENDERS)]
            told = [each.result() for each in senders]
        finally:
            over.set()
        for worker in workers:
            worker.result()
    sent = sum(len(post) for post in day.posts)
    assert sum(accepted for accepted, _ in told) == EVENTS == UsageEvent.objects.count()
    assert sum(known for _, known in told) == sent - EVENTS > 0
    _retry_with_new_times(day, gates)
    _compare(day)  # while some batches may wait
    while roll_up(limit=50):
        pass
    roll_up_days(now=datetime.now(UTC) + timedelta(days=2))
    assert not UsageBatch.objects.exists()
    _compare(day)
    ids = [customer.id for customer in day.customers]
    assert broken_invariants(now=datetime.now(UTC), customer_ids=ids) == []


def _retry_with_new_times(day: Day, gates: list[GateProcess]) -> None:
    """The same ids with the time of the retry, as careless senders do, are known all the same."""
    again = [{**each, "time": datetime.now(UTC).isoformat()} for each in day.events[:40]]
    got = gates[0].send("POST", "/api/v1/events", again)
    assert (got.body["accepted"], got.body["duplicates"]) == (0, 40)


def _compare(day: Day) -> None:
    for customer in day.customers:
        mine = [each for each in day.events if each["subject"] == customer.public_id]
        for key, meter in day.meters.items():
            counts: list[tuple[datetime, Value, str]] = []
            for event in mine:
                value = _value(key, event, noon=day.noon)
                if value is not None:
                    at = datetime.fromisoformat(event["time"])
                    counts.append((at, value, event["data"]["model"]))
            _compare_balances(customer, meter, counts)
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
    customer: Customer, meter: Meter, counts: list[tuple[datetime, Value, str]]
) -> None:
    rows = Balance.objects.filter(customer_id=customer.id, meter=meter)
    hours = {row.start_at: row.used for row in rows.filter(window="hour") if row.used}
    by_hour = _grouped(counts, lambda at, _: at.replace(minute=0, second=0, microsecond=0))
    assert hours == _plain(meter, by_hour), meter.key
    ever = sum(row.used for row in rows.filter(window="lifetime"))
    assert ever == plain_total(meter.aggregation, [each[:2] for each in counts]), meter.key


def _compare_usage(
    day: Day, customer: Customer, meter: Meter, counts: list[tuple[datetime, Value, str]]
) -> None:
    buckets: dict[Bucket, Callable[[datetime], Any]] = {
        "hour": lambda at: at.replace(minute=0, second=0, microsecond=0),
        "day": lambda at: at.date(),
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
