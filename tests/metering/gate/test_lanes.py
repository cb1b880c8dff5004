"""Whoever asks one thing does not wait for those who report or ask a thousand."""

from __future__ import annotations

import json
import math
import time
from typing import Any

import pytest
from django.db import connection, transaction

from accounts.models import Customer, CustomerVersion
from accounts.operations.versions import bump
from metering.gate.lines import FEW, MOST_FLIGHTS
from tests.metering.gate.client import GateProcess, make_api_key
from tests.metering.gate.conftest import World, entitle, make_customer

pytestmark = pytest.mark.django_db(transaction=True)
MANY = FEW + 4


def _events(key: str, name: str, count: int = MANY) -> list[dict[str, Any]]:
    return [
        {
            "specversion": "1.0",
            "id": f"{name}-{number}",
            "source": "import",
            "type": "api.call",
            "subject": key,
        }
        for number in range(count)
    ]


def _waiting_for_locks() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_clear_snapshot()")  # one is kept as long as a transaction
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'farebox-gate'"
            " AND datname = current_database() AND wait_event_type = 'Lock'"
        )
        found: int = cursor.fetchone()[0]
        return found


def _until_they_wait(flights: int) -> None:
    deadline = time.monotonic() + 30
    while _waiting_for_locks() != flights:
        assert time.monotonic() < deadline
        time.sleep(0.005)  # between two looks at what another process does


def _another(world: World, included: int = 1_000) -> tuple[Customer, str]:
    customer = make_customer()
    entitle(customer, world.calls, included=included)
    return customer, make_api_key(customer)


def test_one_check_is_answered_while_every_flight_of_an_import_waits(world: World) -> None:
    gate = world.gate
    others = [_another(world) for _ in range(MOST_FLIGHTS)]
    assert world.check(mode="consume", id="first").status == 200
    with transaction.atomic():
        for customer, _ in others:
            bump(customer.id)  # the gate waits for these rows
        reported = []
        for number, (_, key) in enumerate(others, 1):
            body = _events(key, f"of-{number}")
            reported.append(gate.begin(gate.request("POST", "/api/v1/events", body)))
            if number <= 2:  # a third flight is for more than wait here
                _until_they_wait(number)
        one = world.check(mode="consume", id="one")
        still_waiting = [each.done() for each in reported]
    answers = [each.result(30) for each in reported]

    assert (one.status, still_waiting) == (200, [False] * MOST_FLIGHTS)
    assert [each.body["accepted"] for each in answers] == [MANY] * MOST_FLIGHTS
    assert world.balance(world.calls) == (2, 0)


def test_a_check_of_a_customer_whose_events_are_being_written_sees_them_counted(
    world: World,
) -> None:
    """Lanes are of customers: nothing is decided over what another flight has not written."""
    gate = world.gate
    customer, key = _another(world, included=MANY)
    assert gate.check({"key": key, "meter": "api.calls"}).status == 200
    with transaction.atomic():
        CustomerVersion.objects.select_for_update().get(customer_id=customer.id)
        events = _events(key, "all-of-it")
        reported = gate.begin(gate.request("POST", "/api/v1/events", events))
        _until_they_wait(1)
        asked = gate.begin(
            gate.request(
                "POST",
                "/api/v1/check",
                {"key": key, "meter": "api.calls", "mode": "consume", "id": "one-more"},
            )
        )
    assert reported.result(30).body["accepted"] == MANY
    assert (asked.result(30).status, asked.result().body["code"]) == (402, "quota_exhausted")


def test_checks_beside_batches_that_are_refused_are_let_in(world: World) -> None:
    gate = GateProcess(wait_s=0.1)
    gate.key = world.gate.key
    try:
        _refuse_each_in_turn(gate, world)
    finally:
        gate.stop()


def _refuse_each_in_turn(gate: GateProcess, world: World) -> None:
    check = {"key": world.key, "meter": "api.calls"}
    checks = {"checks": [check] * (MANY + 10)}
    length = {"content-length": "15000"}  # of a hundred checks: what tells them apart unread
    assert gate.check(check).status == 200
    engine = gate.gate._engine
    assert engine is not None
    engine.batches.limit = 0
    batch = gate.check(checks)
    unread = gate.send("POST", "/api/v1/check", b"rubbish", headers=length)
    one = gate.check(check)
    # A room that does not know that it refuses takes the overload to be over.
    assert engine.batches._refused_at > engine.room._refused_at == -math.inf
    engine.batches.limit, engine.room.limit = engine.room.limit, 0
    doubtful = {"content-length": str(len(json.dumps(checks)))}
    let_in = gate.send("POST", "/api/v1/check", checks, headers=doubtful)
    refused = gate.check(check)

    for each in (batch, unread):
        assert (each.status, each.body["code"]) == (503, "overloaded")
    assert one.status == 200
    assert [each["status"] for each in let_in.body["results"]] == [200] * (MANY + 10)
    assert (refused.status, refused.body["code"]) == (503, "overloaded")
