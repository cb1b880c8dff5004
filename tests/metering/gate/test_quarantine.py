"""Refused events are kept, if the operator wants it: bounded, told apart, and in nobody's way."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from django.db import connection
from prometheus_client import REGISTRY

from metering.domain.counting import event_key
from metering.gate.quarantine import Quarantine, Refused
from metering.gate.wire import EventBody, Problem
from metering.models import QuarantinedEvent
from tests.metering.gate.client import GateProcess, Got, dsn
from tests.metering.gate.conftest import World

pytestmark = pytest.mark.django_db(transaction=True)
MOST = 10


@pytest.fixture
def keeping(world: World) -> Iterator[GateProcess]:
    """A gate that keeps at most ten refused events."""
    process = GateProcess(quarantine=MOST)
    process.key = world.gate.key
    yield process
    process.stop()


def event(id_: str, **fields: Any) -> dict[str, Any]:
    """An event of a type that no meter counts, about nobody known."""
    given = {"id": id_, "source": "app", "type": "new.thing", "subject": "later"}
    return {**given, "data": {"n": 3}, **fields}


def post(gate: GateProcess, *events: Any) -> Got:
    return gate.send("POST", "/api/v1/events", list(events))


def metric(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"farebox_gate_{name}_total", labels) or 0.0


def quarantine(address: str, *, timeout_ms: int) -> Quarantine:
    return Quarantine(address, most_events=5, most_bytes=1_000_000, statement_timeout_ms=timeout_ms)


def places(got: Got) -> list[int]:
    """The places of the rejected events that were quarantined."""
    return [each["index"] for each in got.body["rejected"] if each.get("quarantined")]


def test_it_is_off_until_the_operator_wants_it(world: World) -> None:
    got = post(world.gate, event("1", subject=world.customer.public_id))
    assert "quarantined" not in got.body["rejected"][0]
    assert not QuarantinedEvent.objects.exists()


def test_what_can_be_mended_is_kept_as_it_was_reported(world: World, keeping: GateProcess) -> None:
    before = metric("quarantined")
    ahead = (datetime.now(UTC) + timedelta(hours=1)).replace(microsecond=0)
    mine = {"subject": world.customer.public_id}
    got = post(
        keeping,
        event("unknown-customer"),
        event("unknown-type", **mine),
        event("no-number", **mine, type="llm.completion", data={"tokens": "x"}),
        event("ahead", **mine, type="api.call", time=ahead.isoformat()),
        event("by-key", subject=world.key),
        event("good", **mine, type="api.call", data={}),
        {"id": "no event"},
        event("typo", subject="fb_key_typo"),
        event("local", **mine, type="api.call", time="2026-01-01T00:00:00"),
    )

    assert got.body["accepted"] == 1
    assert places(got) == [0, 1, 2, 3, 4, 7]
    kept = {row.external_id: row for row in QuarantinedEvent.objects.all()}
    assert {name: row.code for name, row in kept.items()} == {
        "unknown-customer": "customer_unknown",
        "unknown-type": "meter_unknown",
        "no-number": "quantity_invalid",
        "ahead": "time_out_of_range",
        "by-key": "meter_unknown",
        "typo": "key_malformed",
    }
    first = kept["unknown-customer"]
    assert (first.subject, first.source, first.type, first.properties) == (
        "later",
        "app",
        "new.thing",
        {"n": 3},
    )
    assert (first.occurred_at, first.customer_id, first.times) == (None, None, 1)
    assert kept["ahead"].occurred_at == ahead
    assert kept["unknown-type"].customer_id == world.customer.id
    assert str(kept["unknown-type"].event_id) == str(event_key("app", "unknown-type"))
    assert (kept["typo"].subject, kept["typo"].customer_id) == ("", None)
    # Of a key only whose it was is kept.
    assert (kept["by-key"].subject, kept["by-key"].customer_id) == ("", world.customer.id)
    assert metric("quarantined") == before + 6
    assert world.balance(world.calls) == (1, 0)


def test_a_repeat_lands_on_the_same_row(world: World, keeping: GateProcess) -> None:
    post(keeping, event("1"))
    got = post(keeping, event("1", data={"n": 4}), event("1", data={"n": 4}))
    assert places(got) == [0, 1]
    row = QuarantinedEvent.objects.get()
    assert (row.times, row.properties) == (2, {"n": 4})
    assert row.first_at < row.last_at
    post(keeping, event("1", subject="somebody-else"), event("1", source="other"))
    assert QuarantinedEvent.objects.count() == 3


def test_a_repeat_of_what_an_older_gate_kept_is_found_by_its_event(
    world: World, keeping: GateProcess
) -> None:
    post(keeping, event("1"))
    QuarantinedEvent.objects.update(event_id=None, size=0)  # which it does not say
    post(keeping, event("1"))
    row = QuarantinedEvent.objects.get()
    assert (row.times, str(row.event_id)) == (2, str(event_key("app", "1")))
    assert row.size > 200


def test_it_holds_no_more_than_it_may_and_says_so(world: World, keeping: GateProcess) -> None:
    before = metric("unquarantined", why="events")
    got = post(keeping, *(event(f"e{n}") for n in range(MOST + 3)))
    assert places(got) == list(range(MOST))
    again = post(keeping, event("e3"), event("late"))
    assert places(again) == [0]  # there is no room for another one
    assert QuarantinedEvent.objects.count() == MOST
    assert metric("unquarantined", why="events") == before + 4


def test_two_requests_at_once_do_not_pass_the_limit(world: World, keeping: GateProcess) -> None:
    other = GateProcess(quarantine=MOST)
    other.key = world.gate.key
    try:
        batches = [[event(f"{name}{n}") for n in range(MOST)] for name in "abcd"]
        pending = [
            gate.begin(gate.request("POST", "/api/v1/events", batch))
            for gate, batch in zip((keeping, other, keeping, other), batches, strict=True)
        ]
        kept = [len(places(each.result(60))) for each in pending]
    finally:
        other.stop()
    assert sum(kept) == MOST == QuarantinedEvent.objects.count()


def test_nobody_waits_for_a_quarantine_that_cannot_be_reached(world: World) -> None:
    async def keep() -> dict[int, str]:
        lost = quarantine("host=/nonexistent dbname=x", timeout_ms=200)
        try:
            return await lost.keep([refused("1")], gateway_id=None)
        finally:
            await lost.close()

    before = metric("unquarantined", why="fault")
    assert world.gate.run(keep()) == {}
    assert metric("unquarantined", why="fault") == before + 1


def refused(id_: str, **data: Any) -> Refused:
    body = EventBody(id=id_, source="app", type="new.thing", subject="later", data=data)
    return Refused(int(id_), body, Problem("meter_unknown", "No meter counts it."))


def test_a_quarantine_that_hangs_is_given_up_and_used_again(world: World) -> None:
    async def keep() -> list[set[int]]:
        waiting = quarantine(dsn(), timeout_ms=200)
        try:
            async with await psycopg.AsyncConnection.connect(dsn()) as other:
                await other.execute("LOCK TABLE metering_quarantinedevent")
                first = set(await waiting.keep([refused("1")], gateway_id=None))
            second = set(await waiting.keep([refused("2")], gateway_id=None))
            return [first, second]
        finally:
            await waiting.close()

    assert world.gate.run(keep()) == [set(), {2}]
    assert [row.external_id for row in QuarantinedEvent.objects.all()] == ["2"]


def test_what_the_database_refuses_even_here_touches_no_other(
    world: World, keeping: GateProcess
) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "ALTER TABLE metering_quarantinedevent "
            "ADD CONSTRAINT poison CHECK (external_id <> 'poison')"
        )
    try:
        got = post(keeping, *(event(name) for name in ("a", "b", "poison", "c", "d")))
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE metering_quarantinedevent DROP CONSTRAINT poison")
    assert places(got) == [0, 1, 3, 4]


def test_what_the_books_would_not_take_is_kept(world: World, keeping: GateProcess) -> None:
    mine = {"subject": world.customer.public_id, "type": "api.call", "data": {}}
    with connection.cursor() as cursor:
        cursor.execute(
            "ALTER TABLE metering_usageevent ADD CONSTRAINT poison CHECK (external_id <> 'poison')"
        )
    try:
        got = post(keeping, event("a", **mine), event("poison", **mine))
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE metering_usageevent DROP CONSTRAINT poison")
    assert (got.body["accepted"], places(got)) == (1, [1])
    assert QuarantinedEvent.objects.get().code == "internal_error"


def test_many_at_once_from_one_process(world: World, keeping: GateProcess) -> None:
    async def several() -> list[Got]:
        return await asyncio.gather(
            *(keeping.request("POST", "/api/v1/events", event(f"e{n}")) for n in range(8))
        )

    got = keeping.run(several())
    assert [places(each) for each in got] == [[0]] * 8
    assert json.dumps(sorted(QuarantinedEvent.objects.values_list("external_id", flat=True)))


def test_a_fault_half_way_loses_only_what_is_not_written(world: World) -> None:
    before = metric("unquarantined", why="fault")
    with connection.cursor() as cursor:
        cursor.execute(
            "ALTER TABLE metering_quarantinedevent ADD CONSTRAINT poison CHECK (external_id <> '1')"
        )

    class CutOff(Quarantine):
        async def _write(self, rows: Any, *rest: Any, **how: Any) -> Any:
            if rows[0]["external_id"] == "3":
                raise psycopg.OperationalError("cut off")
            return await super()._write(rows, *rest, **how)

    async def keep() -> dict[int, str]:
        cut = CutOff(dsn(), most_events=5, most_bytes=1_000_000, statement_timeout_ms=5_000)
        try:
            return await cut.keep([refused(str(n)) for n in range(1, 5)], gateway_id=None)
        finally:
            await cut.close()

    try:
        kept = world.gate.run(keep())
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE metering_quarantinedevent DROP CONSTRAINT poison")
    row = QuarantinedEvent.objects.get()
    assert kept == {2: row.public_id}
    assert metric("unquarantined", why="fault") == before + 3


def test_a_large_batch_lets_other_callers_have_the_loop(world: World) -> None:
    async def keep() -> int:
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        lost = quarantine("host=/nonexistent dbname=x", timeout_ms=200)
        many = [replace(refused("1"), problem=Problem("id_reused", ""))] * 1_000
        counting = asyncio.create_task(count())
        await lost.keep(many, gateway_id=None)
        counting.cancel()
        return turns

    assert world.gate.run(keep()) >= 10


def test_how_much_waits_is_read_from_an_index_alone(world: World) -> None:
    """As the first part of quarantine_events.sql asks."""
    ask = (
        "SELECT count(*), sum(size), sum(size) FILTER (WHERE code = 'key_unknown')"
        "  FROM metering_quarantinedevent WHERE state = 'waiting'"
    )
    with connection.cursor() as cursor:
        cursor.execute("SET enable_seqscan = off; SET enable_bitmapscan = off")
        try:
            cursor.execute(f"EXPLAIN {ask}")
            plan = str(cursor.fetchall())
        finally:
            cursor.execute("RESET enable_seqscan; RESET enable_bitmapscan")
    assert "Index Only Scan using quarantined_waiting" in plan


def test_who_waits_for_the_turn_waits_no_longer_than_for_the_table(world: World) -> None:
    async def keep_in_turn() -> dict[int, str]:
        busy = quarantine(dsn(), timeout_ms=100)
        async with busy._turn:
            return await asyncio.wait_for(busy.keep([refused("1")], gateway_id=None), 20)

    assert world.gate.run(keep_in_turn()) == {}
    assert not QuarantinedEvent.objects.exists()
