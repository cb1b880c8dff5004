"""Every kind of meter through the real gate: exact in balances, at checks and at events."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from metering.gate.filling import look_for_members
from metering.models import Balance, Meter, UsageEvent
from metering.operations.checking import broken_invariants
from metering.operations.defining import change_meter, define_meter
from metering.operations.pricing import activate_prices, create_price_table, draft_prices
from metering.operations.rolling_up import roll_up
from metering.queries.usage import usage
from tests.metering.gate.client import GateProcess, Got
from tests.metering.gate.conftest import World, entitle, make_customer
from tests.metering.gate.plain import Counts, plain_total

pytestmark = pytest.mark.django_db(transaction=True)
KINDS = ("count", "sum", "max", "latest", "unique")
AHEAD = timedelta(minutes=5)
each_kind = pytest.mark.parametrize("kind", KINDS)
Meters = Callable[..., Meter]


@pytest.fixture
def metered(world: World) -> Meters:
    """What defines a meter of events `work.done` and lets the customer use 1,000,000 of it ever."""

    def define(kind: str, *, included: int = 1_000_000, **fields: Any) -> Meter:
        given: dict[str, Any] = {
            "key": f"work.{kind}",
            "event_type": "work.done",
            "aggregation": kind,
            "value_property": "" if kind == "count" else "user" if kind == "unique" else "size",
            "actor": "opk_1",
            "now": datetime.now(UTC) - timedelta(days=80),
            **fields,
        }
        meter = define_meter(**given)
        entitle(world.customer, meter, window="lifetime", included=included)
        return meter

    return define


def post(world: World, *events: dict[str, Any], gate: GateProcess | None = None) -> Got:
    """POST /events, each completed with what all have."""
    common = {"specversion": "1.0", "source": "app", "type": "work.done"}
    body = [common | {"subject": world.customer.public_id} | event for event in events]
    return (gate or world.gate).send("POST", "/api/v1/events", body)


def ago(minutes: float) -> datetime:
    return datetime.now(UTC) - timedelta(minutes=minutes)


def some_events(number: int) -> list[dict[str, Any]]:
    """Events of the last 60 days with few different values, so that ties are common."""
    draw = random.Random(7)
    now = datetime.now(UTC).replace(microsecond=0)
    return [
        {
            "id": f"e{place}",
            "time": (now - timedelta(minutes=draw.randrange(60 * 24 * 60))).isoformat(),
            "data": {"size": draw.randrange(9), "user": f"u{draw.randrange(7)}"},
        }
        for place in range(number)
    ]


def counts_of(kind: str, events: list[dict[str, Any]]) -> Counts:
    name = "user" if kind == "unique" else "size"
    return [
        (datetime.fromisoformat(each["time"]), 1 if kind == "count" else each["data"][name])
        for each in events
    ]


@each_kind
def test_events_in_any_order_and_twice_are_counted_exactly(
    world: World, metered: Meters, kind: str
) -> None:
    meter = metered(kind)
    entitle(world.customer, meter, window="hour", included=5)
    events = some_events(60)
    for first in range(0, 60, 15):
        got = post(world, *events[first : first + 15])
        assert got.body["accepted"] == 15, got.body
        again = post(world, *events[max(first - 5, 0) : first + 15])
        assert (again.body["accepted"], again.body["rejected"]) == (0, [])
    counts = counts_of(kind, events)
    balances = Balance.objects.filter(customer_id=world.customer.id, meter=meter)
    assert balances.get(window="lifetime").used == plain_total(kind, counts)
    hours = {row.start_at: row.used for row in balances.filter(window="hour") if row.used}
    by_hour: dict[datetime, Counts] = {}
    for at, value in counts:
        by_hour.setdefault(at.replace(minute=0, second=0), []).append((at, value))
    expected = {hour: plain_total(kind, each) for hour, each in by_hour.items()}
    assert hours == {hour: used for hour, used in expected.items() if used}
    while roll_up(limit=3):
        pass
    (total,) = usage(
        world.customer.id,
        meter_id=meter.id,
        start_at=datetime(2020, 1, 1, tzinfo=UTC),
        end_at=ago(-1),
    )
    assert total.quantity == plain_total(kind, counts)
    assert broken_invariants(now=ago(0), customer_ids=[world.customer.id], since=ago(10**5)) == []


def consumed(world: World, id_: str, **body: Any) -> int:
    """The status of a check that consumes; a repeat of it answers the same."""
    got = world.check(mode="consume", id=id_, **body)
    if got.status == 200:
        again = world.check(mode="consume", id=id_, **body)
        assert again.headers["farebox-replayed"] == "true"
        assert again.body == got.body
    status: int = got.status
    return status


@pytest.mark.traced
def test_a_maximum_at_the_check_takes_what_it_rises(world: World, metered: Meters) -> None:
    meter = metered("max", included=10)
    for place, (size, status, used) in enumerate(
        [(5, 200, 5), (3, 200, 5), (11, 402, 5), (10, 200, 10), (10, 200, 10), (11, 402, 10)]
    ):
        before = world.state()
        assert consumed(world, f"c{place}", meter=meter.key, quantity=size) == status
        assert world.balance(meter) == (used, 0)
        if status == 402:
            assert world.state() == before
    assert world.check(meter=meter.key, quantity=4).status == 200


def test_the_latest_reading_at_the_check_may_fall_again(world: World, metered: Meters) -> None:
    meter = metered("latest", included=10)
    steps = [(8, 30, 200, 8), (3, 20, 200, 3), (9, 25, 200, 3), (11, 10, 402, 3), (10, 5, 200, 10)]
    for place, (seats, minutes, status, used) in enumerate(steps):
        before = world.state()
        body = {"meter": meter.key, "quantity": seats, "time": ago(minutes).isoformat()}
        assert consumed(world, f"c{place}", **body) == status
        assert world.balance(meter) == (used, 0)
        if status == 402:
            assert world.state() == before


def test_members_at_the_check_count_once_each(world: World, metered: Meters) -> None:
    meter = metered("unique", included=2)
    steps = [("ann", 200, 1), ("bob", 200, 2), ("ann", 200, 2), ("cem", 402, 2), ("bob", 200, 2)]
    for place, (user, status, used) in enumerate(steps):
        before = world.state()
        body = {"meter": meter.key, "properties": {"user": user}}
        assert consumed(world, f"c{place}", **body) == status
        assert world.balance(meter) == (used, 0)
        if status == 402:
            assert world.state() == before
    # A gate that has seen nothing of it finds the members in the database.
    other = GateProcess()
    try:
        other.key = world.gate.key
        body = {"key": world.key, "meter": meter.key, "mode": "consume"}
        got = [
            other.check({**body, "id": f"o-{user}", "properties": {"user": user}}).status
            for user in ("ann", "cem", "bob")
        ]
    finally:
        other.stop()
    assert got == [200, 402, 200]
    assert world.balance(meter) == (2, 0)


def test_members_past_what_a_gate_remembers_count_once_each(
    world: World, metered: Meters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("metering.domain.account.MEMBERS_KNOWN", 3)
    meter = metered("unique")
    users = [f"u{n}" for n in range(12)]
    for place, user in enumerate(users + users[::-1]):
        body = {"meter": meter.key, "properties": {"user": user}}
        assert consumed(world, f"c{place}", **body) == 200
        engine: Any = world.gate.gate._engine
        (account,) = engine._copies._accounts.values()
        assert sum(map(len, account.members.values())) <= 3
    assert world.balance(meter) == (12, 0)


@pytest.mark.traced
def test_a_copy_that_changes_after_members_were_looked_up_is_looked_up_again(
    world: World, metered: Meters, monkeypatch: pytest.MonkeyPatch
) -> None:
    meter, landed = metered("unique"), 0
    body = {"meter": meter.key, "properties": {"user": "ann"}}
    assert consumed(world, "before", **body) == 200

    async def look(calls: Any, copies: Any, store: Any, **others: Any) -> None:
        nonlocal landed
        await look_for_members(calls, copies, store, **others)
        if not landed:  # another flight lands just now
            copies.keep(copies.of(calls[0].reference).without_members())
            landed += 1

    monkeypatch.setattr("metering.gate.engine.look_for_members", look)
    assert consumed(world, "after", **body) == 200
    assert (landed, world.balance(meter)) == (1, (1, 0))


@pytest.mark.parametrize("kind", ["max", "latest", "unique"])
def test_what_does_not_add_up_is_not_held(world: World, metered: Meters, kind: str) -> None:
    meter = metered(kind)
    before = world.state()
    got = world.check(mode="hold", id="h", meter=meter.key, properties={"user": "ann", "size": 1})
    assert (got.status, got.body["code"], got.body["param"]) == (422, "parameter_invalid", "mode")
    for properties in ({}, {"user": 1.5, "size": 1.5}, {"user": "", "size": -1}):
        got = world.check(mode="consume", id="c", meter=meter.key, properties=properties)
        assert (got.status, got.body["code"]) == (422, "quantity_invalid")
    assert world.state() == before


def a_table(**prices: str) -> None:
    """A table `llm` whose first version has always stood."""
    now = datetime.now(UTC) - timedelta(days=80)
    table = create_price_table(key="llm", actor="opk_1", now=now)
    rows = {("m-1", name): Decimal(price) for name, price in prices.items()}
    draft_prices(table.id, prices=rows, actor="opk_1", now=now)
    activate_prices(table.id, number=1, ahead=AHEAD, actor="opk_1", now=now)


def test_costs_are_exact_at_events_and_at_checks(world: World, metered: Meters) -> None:
    a_table(input="0.0000025", output="0.00001")
    meter = metered("sum", value_property="model", price_table="llm", included=10_000_000)
    used = {"model": "m-1", "input_tokens": 1_000, "output_tokens": 20}
    # 1,000 x 2,500 + 20 x 10,000 = 2,700,000 billionths of a dollar
    assert post(world, {"id": "e1", "data": used}, {"id": "e1", "data": used}).body == {
        "accepted": 1,
        "duplicates": 1,
        "rejected": [],
    }
    assert world.balance(meter) == (2_700_000, 0)
    assert consumed(world, "c1", meter=meter.key, properties=used) == 200
    assert world.balance(meter) == (5_400_000, 0)
    before = world.state()
    dear = {**used, "output_tokens": 500}  # 7,500,000
    assert consumed(world, "c2", meter=meter.key, properties=dear) == 402
    unknown = {**used, "model": "m-2"}
    got = world.check(mode="consume", id="c3", meter=meter.key, properties=unknown)
    assert (got.status, got.body["code"]) == (422, "price_unknown")
    rejected = post(world, {"id": "e2", "data": unknown}, {"id": "e3", "data": {"model": "m-1"}})
    codes = [each["code"] for each in rejected.body["rejected"]]
    assert codes == ["price_unknown", "quantity_invalid"]
    assert world.state() == before
    held = world.check(mode="hold", id="h1", meter=meter.key, quantity=4_600_000)
    assert held.status == 200
    settle = f"/api/v1/holds/{held.body['hold']['id']}/settle"
    assert world.gate.send("POST", settle, {"quantity": 1_100_000}).status == 200
    assert world.balance(meter) == (6_500_000, 0)


def test_prices_are_those_of_the_moment_something_occurred(world: World, metered: Meters) -> None:
    a_table(input="0.000001")
    meter = metered("sum", value_property="model", price_table="llm", included=10**9)
    now, noon = datetime.now(UTC) - timedelta(days=9), datetime.now(UTC) - timedelta(days=3)
    table_id = meter.price_table_id
    assert table_id is not None
    draft_prices(table_id, prices={("m-1", "input"): Decimal("0.000003")}, actor="a", now=now)
    activate_prices(table_id, number=2, effective_at=noon, ahead=AHEAD, actor="a", now=now)
    used = {"model": "m-1", "input_tokens": 10}
    late = {"id": "late", "time": (noon - timedelta(seconds=1)).isoformat(), "data": used}
    post(world, {"id": "now", "data": used}, late, {"id": "at", "time": str(noon), "data": used})
    # Of what came late the old price, 10 x 1,000; of the others the new one, 10 x 3,000.
    assert world.balance(meter) == (70_000, 0)


def test_filters_and_dimensions_are_exact(world: World, metered: Meters) -> None:
    big = metered("count", filters=[{"property": "size", "gte": 0.3, "lt": 5}])
    eu = metered(
        "sum", dimensions=["region", "tier"], filters=[{"property": "region", "not_in": ["us"]}]
    )
    data = [
        {"size": 0, "region": "eu", "tier": 1},
        {"size": 4, "region": "eu", "tier": 1.0},
        {"size": 5, "region": "us", "tier": True},
        {"size": 3, "region": "de", "tier": None},
        {"size": 2},
    ]
    got = post(world, *({"id": str(place), "data": each} for place, each in enumerate(data)))
    assert got.body["accepted"] == 5
    assert (world.balance(big), world.balance(eu)) == ((3, 0), (9, 0))
    for _ in range(2):  # waiting, then rolled up
        points = usage(
            world.customer.id,
            meter_id=eu.id,
            start_at=ago(10),
            end_at=ago(-10),
            group_by=["region", "tier"],
        )
        found = {tuple(sorted(each.group.items())): each.quantity for each in points}
        assert found == {
            (("region", "eu"), ("tier", "1")): 4,
            (("region", "de"),): 3,
            (): 2,
        }
        roll_up(limit=100)


def test_a_change_counts_what_occurs_from_its_time_however_late_it_comes(
    world: World, metered: Meters
) -> None:
    meter = metered("sum", filters=[{"property": "user", "in": ["ann"]}])
    now, noon = datetime.now(UTC) - timedelta(days=9), datetime.now(UTC) - timedelta(days=3)
    change_meter(
        meter.id, filters=[], value_property="weight", effective_at=noon,
        ahead=AHEAD, actor="opk_1", now=now,
    )  # fmt: skip
    data = {"user": "ann", "size": 1, "weight": 10}
    before = (noon - timedelta.resolution).isoformat()
    got = post(
        world,
        {"id": "1", "data": data},
        {"id": "2", "data": data, "time": before},
        {"id": "3", "data": {**data, "user": "bob"}, "time": before},
        {"id": "4", "data": {**data, "user": "bob"}, "time": noon.isoformat()},
    )
    assert got.body["rejected"] == []
    assert world.balance(meter) == (10 + 1 + 10, 0)
    assert broken_invariants(now=ago(0), customer_ids=[world.customer.id], since=ago(10**5)) == []


def test_many_callers_at_two_gates_never_pass_a_limit(world: World, metered: Meters) -> None:
    limits = {"count": 30, "sum": 100, "max": 6, "latest": 6, "unique": 5}
    meters = {kind: metered(kind, included=limit) for kind, limit in limits.items()}
    other = GateProcess()
    other.key = world.gate.key
    draw = random.Random(11)
    calls = [
        (kind, f"{kind}-{n}", draw.randrange(1, 9), f"u{draw.randrange(12)}")
        for kind in KINDS
        for n in range(60)
    ]
    draw.shuffle(calls)

    def call(place: int) -> tuple[str, int, str, int]:
        kind, id_, size, user = calls[place]
        body: dict[str, Any] = {"key": world.key, "meter": f"work.{kind}", "mode": "consume"}
        body |= {"id": id_, "properties": {"user": user}}
        if kind in ("sum", "max", "latest"):
            body["quantity"] = size
        gate = (world.gate, other)[place % 2]
        got = [gate.check(body).status, other.check(body).status]
        # Asked twice: what was admitted stays so; what was denied is decided anew.
        assert got[0] != 200 or got[1] == 200
        return kind, size, user, got[1]

    try:
        with ThreadPoolExecutor(8) as threads:
            answers = list(threads.map(call, range(len(calls))))
    finally:
        other.stop()
    admitted = {kind: [each for each in answers if each[0] == kind and each[3] == 200]
                for kind in KINDS}  # fmt: skip
    assert {status for *_, status in answers} == {200, 402}
    used = {kind: world.balance(meter)[0] for kind, meter in meters.items()}
    assert used["count"] == len(admitted["count"]) == 30
    assert used["sum"] == sum(size for _, size, _, _ in admitted["sum"]) <= 100
    assert {size for _, size, _, _ in admitted["max"]} == set(range(1, 7))
    assert used["max"] == 6
    assert used["latest"] <= 6
    assert used["unique"] == len(users := {each[2] for each in admitted["unique"]}) == 5
    assert all((each[2] in users) == (each[3] == 200) for each in answers if each[0] == "unique")
    assert UsageEvent.objects.count() == sum(len(each) for each in admitted.values())
    assert broken_invariants(now=ago(0), customer_ids=[world.customer.id]) == []


def test_another_customer_is_not_counted_with(world: World, metered: Meters) -> None:
    meters = [metered(kind) for kind in KINDS]
    stranger = make_customer()
    for meter in meters:
        entitle(stranger, meter, window="lifetime", included=100)
    data = {"size": 7, "user": "ann"}
    post(world, {"id": "1", "data": data}, {"id": "1", "data": data, "subject": stranger.public_id})
    for meter in meters:
        expected = 7 if meter.value_property == "size" else 1
        rows = Balance.objects.filter(meter=meter)
        assert dict(rows.values_list("customer_id", "used")) == {
            world.customer.id: expected,
            stranger.id: expected,
        }
