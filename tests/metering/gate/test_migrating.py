"""A gate that goes on running while the tables change under it."""

from __future__ import annotations

import pytest
from django.db import connection

from tests.metering.gate.client import GateProcess, Got
from tests.metering.gate.conftest import World


@pytest.mark.parametrize(
    ("table", "column"),
    [("metering_balance", "used"), ("metering_hold", "fingerprint")],
    ids=["what it writes", "where it looks for ids"],
)
def test_a_column_that_is_not_there_yet_is_waited_for(
    world: World, table: str, column: str
) -> None:
    world.gate, patient = GateProcess(deadline_s=2.0), world.gate
    world.gate.key = patient.key
    try:
        _wait_for(world, table, column)
    finally:
        world.gate.stop()
        world.gate = patient


def _wait_for(world: World, table: str, column: str) -> None:
    assert world.check(mode="hold", id="before").status == 200
    assert world.check(mode="consume", id="before too").status == 200

    _rename(table, column, "not_there_yet")
    try:
        refused = world.check(mode="hold", id="meanwhile")
        moved = _counts()
    finally:
        _rename(table, "not_there_yet", column)

    assert refused.status == 503
    assert refused.body["code"] == "unavailable"
    assert refused.headers["retry-after"] == "1"
    assert moved == (1, 1)
    assert world.check(mode="hold", id="meanwhile").status == 200
    assert _counts() == (1, 2)


def test_a_column_of_another_type_is_not_noticed_by_who_asks(world: World) -> None:
    first = world.check(mode="hold", id="one")
    _repeat(world, first)  # until each connection has prepared what looks ids up

    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE metering_hold ALTER COLUMN source TYPE text")
    try:
        _repeat(world, first)
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE metering_hold ALTER COLUMN source TYPE varchar(200)")

    assert _counts() == (0, 1)


def _repeat(world: World, first: Got) -> None:
    for _ in range(12):
        again = world.check(mode="hold", id="one")
        assert again.status == 200
        assert again.headers["farebox-replayed"] == "true"
        assert again.body == first.body


def _rename(table: str, column: str, to: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {table} RENAME COLUMN {column} TO {to}")


def _counts() -> tuple[int, int]:
    """Events and holds, as the database has them."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT (SELECT count(*) FROM metering_usageevent),"
            " (SELECT count(*) FROM metering_hold)"
        )
        events, holds = cursor.fetchone()
    return events, holds
