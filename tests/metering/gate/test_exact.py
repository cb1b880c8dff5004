"""What only a race or a failure at the wrong moment shows, made to happen each time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta

import psycopg
import pytest
from django.db import connection, transaction

from accounts.domain import ids
from accounts.operations.versions import bump, bump_catalogue
from metering.domain.retention import horizon
from metering.gate import engine
from metering.models import Meter
from tests.metering.gate.client import GateProcess, dsn, make_api_key
from tests.metering.gate.conftest import World, make_customer

pytestmark = pytest.mark.django_db(transaction=True)


@contextmanager
def commits_that_fail() -> Iterator[None]:
    """The gate's statements succeed, and their commit does not."""
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql"
            " AS $$ BEGIN RAISE EXCEPTION 'refused at commit'; END $$;"
            "CREATE CONSTRAINT TRIGGER refuse AFTER UPDATE ON accounts_customerversion"
            " DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()"
        )
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP FUNCTION refuse() CASCADE")


@pytest.mark.parametrize("losses", [0, engine.LOSSES_BEFORE_LOCK])
def test_nobody_is_answered_before_the_commit(
    world: World, monkeypatch: pytest.MonkeyPatch, losses: int
) -> None:
    monkeypatch.setattr(engine, "LOSSES_BEFORE_LOCK", losses)  # 0: each call takes the lock first
    assert world.check(mode="consume", id="before").status == 200
    before = world.state()
    with commits_that_fail():
        got = world.check(mode="consume", id="asked")
    assert (got.status, got.body["code"]) == (500, "internal_error")
    assert world.state() == before

    assert world.check(mode="consume", id="asked").status == 200
    assert world.balance(world.calls) == (2, 0)


def test_what_is_cut_short_by_an_end_is_503(world: World) -> None:
    with transaction.atomic():  # the gate waits for the customer's row
        bump(world.customer.id)
        waiting = world.gate.begin(
            world.gate.request(
                "POST",
                "/api/v1/check",
                {"key": world.key, "meter": "api.calls", "mode": "consume", "id": "x"},
            )
        )
        with connection.cursor() as cursor:
            waits = 0
            while not waits:
                cursor.execute(  # of this database: waiting is for a transaction to end
                    "SELECT count(*) FROM pg_locks WHERE NOT granted AND transactionid ="
                    " pg_current_xact_id()::xid"
                )
                (waits,) = cursor.fetchone()
        world.gate.run(world.gate.gate.stop())
        got = waiting.result(10)
    assert (got.status, got.body["code"]) == (503, "unavailable")


def test_a_hold_is_repeated_while_it_is_settled(world: World) -> None:
    asked = {"meter": "api.calls", "id": "asked", "mode": "hold", "quantity": 5}
    first = world.check(**asked)
    settle = f"/api/v1/holds/{first.body['hold']['id']}/settle"

    settled, repeated = world.gate.together(
        (settle, {"quantity": 3}), ("/api/v1/check", asked | {"key": world.key})
    )

    assert settled.status == 200
    assert (repeated.status, repeated.body) == (200, first.body)
    assert repeated.headers["farebox-replayed"] == "true"


def test_an_external_id_that_goes_over_to_another_customer(world: World) -> None:
    with transaction.atomic():
        bump(world.customer.id)
        world.customer.external_id = "acme"
        world.customer.save()
    asked = {"customer": "acme", "meter": "api.calls"}
    assert world.gate.check(asked).body["customer"] == world.customer.public_id

    heir = make_customer()
    make_api_key(heir)
    with transaction.atomic():
        bump(world.customer.id)
        world.customer.external_id = "acme-old"
        world.customer.save()
        bump(heir.id)
        heir.external_id = "acme"
        heir.save()
    assert world.check().status == 200  # the copy of the first is anew

    assert world.gate.check(asked).body["customer"] == heir.public_id


def test_a_batch_that_is_decided_again_keeps_its_order(world: World) -> None:
    """It came by a key that this gate had not seen, and one of its ids was used at another gate."""
    first = world.check(mode="consume", id="used", meter="api.calls")
    assert first.status == 200
    fresh = GateProcess()
    fresh.key = world.gate.key
    try:
        names = ["a", "b", "used", "c", "d"]
        check = {"key": world.key, "meter": "api.calls", "mode": "consume"}
        got = fresh.check({"checks": [check | {"id": name} for name in names]})
    finally:
        fresh.stop()
    told = [each["balances"][0]["used"] for each in got.body["results"]]
    assert told == [2, 3, 1, 4, 5]


def test_an_id_is_looked_for_in_at_least_the_last_31_days() -> None:
    for day in range(1_500):
        today = date(2026, 1, 1) + timedelta(days=day)
        assert horizon(today) <= today - timedelta(days=31)


def test_a_repeat_is_a_repeat_although_its_meter_is_gone(world: World) -> None:
    first = world.check(mode="consume", id="c1")
    with transaction.atomic():
        Meter.objects.filter(id=world.calls.id).update(archived_at=datetime.now(UTC))
        bump_catalogue()
    assert world.check(mode="consume", id="c2").body["code"] == "meter_unknown"

    again = world.check(mode="consume", id="c1")

    assert (again.status, again.body) == (200, first.body)
    assert again.headers["farebox-replayed"] == "true"


def test_a_key_among_many_spaces_is_not_kept(world: World) -> None:
    padded = {"authorization": f"Bearer {' ' * 1_000}{world.gate.key}"}
    got = world.gate.send("POST", "/api/v1/check", {"key": world.key, "meter": "api.calls"},
                          headers=padded)  # fmt: skip
    assert got.status == 200
    assert all(len(header) <= 100 for header in world.gate.gate._callers)


def test_a_connection_that_breaks_beside_a_flight_makes_none_of_its_customers_unknown(
    world: World, gate: GateProcess
) -> None:
    other = GateProcess(deadline_s=60, statement_timeout_ms=60_000)
    other.key = gate.key
    opened = world.check(mode="hold", quantity=5, id="held")  # by a process that remembers it
    settle = f"/api/v1/holds/{opened.body['hold']['id']}/settle"
    stranger = make_customer()
    try:
        assert other.check({"key": world.key, "meter": "api.calls"}).status == 200
        with psycopg.connect(dsn()) as locking, psycopg.connect(dsn(), autocommit=True) as looking:
            locking.execute("LOCK TABLE metering_hold")
            settling = other.begin(other.request("POST", settle, {"quantity": 2}))
            (first,) = _waiting(looking, but=set())
            named = {"customer": ids.encode("cus", stranger.id), "meter": "api.calls"}
            asking = other.begin(other.request("POST", "/api/v1/check", named))
            (second,) = _waiting(looking, but={first})
            looking.execute("SELECT pg_terminate_backend(%s)", (second,))
            _waiting(looking, but={first, second})  # the second flight has begun again
        assert settling.result(60).status == 200
        assert asking.result(60).body["code"] == "not_entitled"
    finally:
        other.stop()
    assert world.balance(world.calls) == (2, 0)


def _waiting(looking: psycopg.Connection[tuple[int]], *, but: set[int]) -> list[int]:
    """The servers of other gates' statements that wait for a lock, as soon as there is one."""
    while True:
        rows = looking.execute(
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'farebox-gate'"
            " AND wait_event_type = 'Lock'"
        ).fetchall()
        if found := [pid for (pid,) in rows if pid not in but]:
            return found
