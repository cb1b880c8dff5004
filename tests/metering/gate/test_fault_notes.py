"""What gateways get wrong is kept for their operator, and no answer waits for that."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from django.db import connection

from accounts.domain import keys
from metering.gate.fault_notes import FaultNotes
from metering.gate.misconfigured import Misconfigured
from metering.models import GatewayFault
from metering.statements import load
from tests.metering.gate.client import dsn
from tests.metering.gate.conftest import World
from tests.metering.gate.test_misconfigured import SOMEBODYS, ask

pytestmark = pytest.mark.django_db(transaction=True)
NOWHERE = "host=/nonexistent dbname=x"


def fault(
    code: str = "route_unknown",
    *,
    gateway: str = "edge-1",
    detail: str = "No.",
    param: str | None = None,
) -> Misconfigured:
    return Misconfigured(503, None, (), gateway=gateway, code=code, detail=detail, param=param)


async def at_rest() -> None:
    """Return when every task beside this one has ended."""
    await asyncio.gather(*(asyncio.all_tasks() - {asyncio.current_task()}))


def kept() -> list[tuple[str, str, int]]:
    rows = GatewayFault.objects.order_by("gateway", "code")
    return list(rows.values_list("gateway", "code", "count"))


def kept_in_a_thread() -> list[tuple[str, str, int]]:
    try:
        return kept()
    finally:
        connection.close()


@pytest.fixture
def writes() -> Iterator[list[int]]:
    """How many rows were written, when it is looked at."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            CREATE TABLE seen_writes ();
            CREATE FUNCTION see_write() RETURNS trigger LANGUAGE plpgsql
            AS $$ BEGIN INSERT INTO seen_writes DEFAULT VALUES; RETURN NEW; END $$;
            CREATE TRIGGER see BEFORE INSERT OR UPDATE ON metering_gatewayfault
            FOR EACH STATEMENT EXECUTE FUNCTION see_write();
            """
        )
    yield []
    with connection.cursor() as cursor:
        cursor.execute(
            "DROP TRIGGER see ON metering_gatewayfault; DROP FUNCTION see_write();"
            " DROP TABLE seen_writes"
        )


def statements() -> int:
    """Of INSERT … ON CONFLICT PostgreSQL runs both triggers, of which there is one row each."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM seen_writes")
        return int(cursor.fetchone()[0]) // 2


@pytest.mark.parametrize("short", [True, False])
def test_a_fault_is_kept_with_its_gateway_and_what_was_wrong(world: World, *, short: bool) -> None:
    assert ask(world).status == 200
    world.gate.short, begun = short, datetime.now(UTC)
    for _ in range(3):
        assert ask(world, x_farebox_meter="").status == 503
    ask(world, x_farebox_gateway=SOMEBODYS)
    ask(world, x_farebox_mode="consume")
    ask(world, x_farebox_meter="api.cals")  # a fault that the batch finds
    ask(world, authorization="Bearer fb_key_x")  # the client's own
    world.gate.run(world.gate.gate.stop())
    assert kept() == [
        ("", "key_unknown", 1),
        ("edge-1", "meter_unknown", 1),
        ("edge-1", "parameter_missing", 1),
        ("edge-1", "route_unknown", 3),
    ]
    row = GatewayFault.objects.get(code="route_unknown")
    assert row.detail == "The gateway 'edge-1' has no route for GET /else."
    assert begun <= row.first_at <= row.last_at <= datetime.now(UTC)
    assert GatewayFault.objects.get(code="parameter_missing").param == "X-Request-Id"
    assert GatewayFault.objects.get(code="key_unknown").param == "X-Farebox-Gateway"


def test_no_key_and_nothing_that_cannot_be_kept_is_in_a_row() -> None:
    key = keys.new_key(keys.KeyKind.CUSTOMER, entropy=b"c" * 32).text

    async def note() -> None:
        notes = FaultNotes(dsn(), statement_timeout_ms=5_000)
        notes.note(fault(detail=f"GET /{key}/\x00\x1b[2J\ud800é" + "x" * 600))
        await notes.stop()

    asyncio.run(note())
    detail = GatewayFault.objects.get().detail
    assert detail.startswith("GET /fb_key_…/��[2J�éxxx")
    assert len(detail) == 500


@pytest.mark.usefixtures("writes")
def test_each_is_written_at_once_and_then_once_a_minute() -> None:
    async def note() -> None:
        now = 0.0
        notes = FaultNotes(dsn(), statement_timeout_ms=5_000, clock=lambda: now)
        notes.note(fault())
        await at_rest()
        assert await asyncio.to_thread(kept_in_a_thread) == [("edge-1", "route_unknown", 1)]
        for _ in range(10):
            notes.note(fault(detail="The last."))
            assert await asyncio.to_thread(kept_in_a_thread) == [("edge-1", "route_unknown", 1)]
        now = 61.0
        notes.note(fault("key_expired"))  # wakes the task, which finds the other due as well
        await at_rest()
        for _ in range(5):
            notes.note(fault())
        await notes.stop()

    asyncio.run(note())
    assert kept() == [("edge-1", "key_expired", 1), ("edge-1", "route_unknown", 16)]
    assert statements() == 3


def test_processes_add_up_and_the_last_one_seen_is_shown() -> None:
    async def note(*details: str) -> None:
        notes = FaultNotes(dsn(), statement_timeout_ms=5_000)
        for detail in details:
            notes.note(fault(detail=detail))
        await notes.stop()

    asyncio.run(note("One.", "Two."))
    first = GatewayFault.objects.get()
    asyncio.run(note("Three."))
    row = GatewayFault.objects.get()
    assert (row.count, row.detail, row.first_at) == (3, "Three.", first.first_at)
    assert row.last_at > first.last_at
    _tell("Late.", at=first.last_at)
    found = GatewayFault.objects.get()
    assert (found.count, found.detail, found.last_at) == (4, "Three.", row.last_at)


def test_a_clock_that_is_ahead_freezes_nothing() -> None:
    _tell("Of the future.", at=datetime(2999, 1, 1, tzinfo=UTC))
    assert GatewayFault.objects.get().last_at <= datetime.now(UTC)
    GatewayFault.objects.update(last_at=datetime(2999, 1, 1, tzinfo=UTC))
    _tell("Of now.", at=datetime.now(UTC))
    row = GatewayFault.objects.get()
    assert (row.count, row.detail) == (2, "Of now.")
    assert row.first_at <= row.last_at <= datetime.now(UTC)


def _tell(detail: str, *, at: datetime) -> None:
    """Write what a process saw at that moment, by its clock."""
    times = {"first_at": at.isoformat(), "last_at": at.isoformat()}
    row = {"gateway": "edge-1", "code": "route_unknown", "count": 1, "detail": detail, "param": ""}
    with connection.cursor() as cursor:
        cursor.execute(load("note_gateway_faults"), {"faults": json.dumps([row | times])})


def test_what_cannot_be_written_is_written_later() -> None:
    async def note() -> None:
        now = 0.0
        notes = FaultNotes(NOWHERE, statement_timeout_ms=100, clock=lambda: now)
        notes.note(fault())
        await notes.stop()  # is not kept from ending
        notes = FaultNotes(dsn(), statement_timeout_ms=1_000, clock=lambda: now, every_s=0.05)
        with psycopg.connect(dsn(), autocommit=True) as looks:
            async with await psycopg.AsyncConnection.connect(dsn()) as other:
                await other.execute("LOCK TABLE metering_gatewayfault")
                notes.note(fault())
                notes.note(fault("key_expired"))
                await asyncio.to_thread(_until, looks, waits=True)
                await asyncio.to_thread(_until, looks, waits=False)  # it has given up
        now = 1.0
        await at_rest()
        await notes.stop()

    asyncio.run(note())
    assert kept() == [("edge-1", "key_expired", 1), ("edge-1", "route_unknown", 1)]


def _until(looks: psycopg.Connection[Any], *, waits: bool) -> None:
    """Return when somebody waits for the table, or nobody does."""
    deadline = time.monotonic() + 30
    asked = (
        "SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'metering_gatewayfault'::regclass"
    )
    while (looks.execute(asked).fetchone() is not None) != waits:
        assert time.monotonic() < deadline
        time.sleep(0.005)  # between two looks at what another process does


def test_answers_do_not_wait_for_a_table_that_is_locked(world: World) -> None:
    with psycopg.connect(dsn()) as other, psycopg.connect(dsn(), autocommit=True) as looks:
        other.execute("LOCK TABLE metering_gatewayfault")
        assert ask(world, x_farebox_meter="").status == 503
        _until(looks, waits=True)
        for _ in range(20):
            assert ask(world, x_farebox_meter="").status == 503
            assert ask(world).status == 200
    world.gate.run(world.gate.gate.stop())
    assert kept() == [("edge-1", "route_unknown", 21)]


def test_there_is_an_end_to_what_is_remembered() -> None:
    async def note() -> None:
        now = 0.0
        notes = FaultNotes(dsn(), statement_timeout_ms=5_000, clock=lambda: now, most=2)
        for code in ("a", "b", "c"):
            notes.note(fault(code))
        await at_rest()
        notes.note(fault("d"))  # a and b were written a moment ago
        await at_rest()
        now = 61.0
        notes.note(fault("e"))
        await at_rest()
        await notes.stop()
        for code in "ef":
            notes.note(fault(code))
        await at_rest()

    asyncio.run(note())
    assert kept() == [("edge-1", code, 1) for code in "abe"]
