"""What the gate answers to repeats of a hold, before it is forgotten and after."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime
from typing import Any, ClassVar

import pytest
from django.db import connection, connections

from metering.domain.retention import CLOCKS_DIFFER, horizon
from metering.domain.windows import add_months
from metering.gate.copied import Found
from metering.gate.store import Store
from metering.models import Hold, UsageEvent
from metering.operations.forgetting import forget_holds
from tests.metering.gate.books import broken
from tests.metering.gate.client import GateProcess, Got
from tests.metering.gate.conftest import World

pytestmark = pytest.mark.django_db(transaction=True)


class Overtaken(Store):
    """Has something done after it has looked ids up, and before anything is written."""

    by: ClassVar[list[Callable[[], object]]] = []

    def twin(self) -> Store:
        """Another one of these."""
        return Overtaken(self._dsn, statement_timeout_ms=self._timeout_ms)

    async def read_ids(
        self, ids: Iterable[tuple[int, str]], *, today: date
    ) -> dict[tuple[int, str], Found]:
        """Look ids up, and be overtaken."""
        found = await super().read_ids(ids, today=today)
        while self.by:
            await asyncio.to_thread(self._overtake, self.by.pop())
        return found

    @staticmethod
    def _overtake(work: Callable[[], object]) -> None:
        try:
            work()
        finally:
            connections.close_all()


def hold(world: World, quantity: int = 1_000) -> Got:
    """The answer to a hold of chat.tokens, always with the same id."""
    got: Got = world.check(meter="chat.tokens", mode="hold", id="llm-1", quantity=quantity)
    assert got.status == 200, got.body
    return got


def send(world: World, hold_id: str, action: str = "", body: Any = None) -> Got:
    """Close a hold, or see it."""
    if not action:
        return world.gate.send("GET", f"/api/v1/holds/{hold_id}")
    return world.gate.send("POST", f"/api/v1/holds/{hold_id}/{action}", body)


def age(months: int) -> None:
    """Let everything have happened so many months before the oldest one remembered."""
    oldest = horizon((datetime.now(UTC) - CLOCKS_DIFFER).date())
    month = add_months(datetime(oldest.year, oldest.month, 1, tzinfo=UTC), -months)
    Hold.objects.update(opened_at=month, closed_at=month)
    with connection.cursor() as cursor:
        cursor.execute("SELECT metering_make_partition(%s)", [month.date()])
        cursor.execute("UPDATE metering_usageevent SET received_month = %s", [month.date()])


def forget() -> int:
    """The sweep."""
    return forget_holds(now=datetime.now(UTC), limit=10, pieces=10)


def test_until_ids_are_forgotten_a_closed_hold_answers_as_it_did(world: World) -> None:
    first = hold(world)
    hold_id = first.body["hold"]["id"]
    settled = send(world, hold_id, "settle", {"quantity": 700})
    age(months=0)
    assert forget() == 0

    assert send(world, hold_id, "settle", {"quantity": 700}).body == settled.body
    assert send(world, hold_id).body["hold"]["state"] == "settled"
    again = hold(world)
    assert (again.body, again.headers["farebox-replayed"]) == (first.body, "true")
    assert world.balance(world.tokens) == (700, 0)


def test_then_its_id_is_free_again_and_nothing_is_counted_twice(world: World) -> None:
    hold_id = hold(world).body["hold"]["id"]
    send(world, hold_id, "settle", {"quantity": 700})
    age(months=1)
    assert forget() == 1

    for got in (
        send(world, hold_id),
        send(world, hold_id, "settle", {"quantity": 700}),
        send(world, hold_id, "release"),
        send(world, hold_id, "extend", {"ttl": 9}),
    ):
        assert (got.status, got.body["code"]) == (404, "not_found")
    assert world.balance(world.tokens) == (700, 0)

    assert "farebox-replayed" not in hold(world).headers
    assert world.balance(world.tokens) == (700, 1_000)
    assert send(world, hold_id, "settle", {"quantity": 50}).status == 200
    assert world.balance(world.tokens) == (750, 0)
    assert UsageEvent.objects.count() == 2


def test_a_late_settle_is_counted_as_long_as_its_hold_is_remembered(world: World) -> None:
    hold_id = hold(world).body["hold"]["id"]
    send(world, hold_id, "release")
    Hold.objects.update(state="expired", closing=None, closing_fingerprint=None)
    age(months=1)
    got = send(world, hold_id, "settle", {"quantity": 700})
    assert (got.status, got.body["late"]) == (200, True)

    assert forget() == 0  # it was closed anew

    assert send(world, hold_id, "settle", {"quantity": 700}).body == got.body
    assert world.balance(world.tokens) == (700, 0)
    assert broken(world.customer.id) == []


def test_whoever_settles_while_it_is_forgotten_is_told_so(world: World) -> None:
    gate = GateProcess(store=Overtaken)
    gate.key = world.gate.key
    hold_id = hold(world).body["hold"]["id"]
    send(world, hold_id, "release")
    Hold.objects.update(state="expired", closing=None, closing_fingerprint=None)
    age(months=1)
    Overtaken.by = [forget]
    try:
        got = gate.send("POST", f"/api/v1/holds/{hold_id}/settle", {"quantity": 700})
    finally:
        gate.stop()

    assert Overtaken.by == []
    assert (got.status, got.body["code"]) == (404, "not_found")
    assert world.balance(world.tokens) == (0, 0)
    assert not UsageEvent.objects.exists()
