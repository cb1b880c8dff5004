"""Whoever sends keys that nobody has costs little: the catalogue is read now and then for all."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Iterator
from typing import ClassVar

import pytest

from accounts.domain import keys
from metering.gate import strangers
from metering.gate.catalogue import Catalogue
from metering.gate.store import Store, Unavailable
from metering.models import UsageEvent
from tests.metering.gate.client import GateProcess, Got, make_gateway
from tests.metering.gate.conftest import World

pytestmark = pytest.mark.django_db(transaction=True)

PATH = "/api/v1/holds/hold_x"


class Counted(Store):
    """Counts how often the catalogue is read, or finds the database away."""

    reads: ClassVar[int] = 0
    away: ClassVar[bool] = False

    def twin(self) -> Store:
        """Another one that counts."""
        return Counted(self._dsn, statement_timeout_ms=self._timeout_ms)

    async def read_catalogue(self) -> Catalogue:
        """Read it, and count."""
        Counted.reads += 1
        if self.away:
            raise Unavailable("away")
        return await super().read_catalogue()


@pytest.fixture
def watched(world: World) -> Iterator[GateProcess]:
    """A gate that has read its catalogue, and counts from then on."""
    gate = GateProcess(store=Counted)
    gate.key = world.gate.key
    assert peek(world, gate).status == 200
    Counted.reads, Counted.away = 0, False
    yield gate
    Counted.away = False
    gate.stop()


def unknown() -> str:
    """A well-formed key that no gateway has."""
    return keys.new_key(keys.KeyKind.GATEWAY, entropy=secrets.token_bytes(32)).text


def peek(world: World, gate: GateProcess, *, key: str | None = None) -> Got:
    """A check, as the gateway that has this key."""
    body = {"key": world.key, "meter": "api.calls"}
    return gate.send("POST", "/api/v1/check", body, key=key)


def storm(gate: GateProcess, *used: str) -> list[Got]:
    """Many calls at the same moment, each with its key."""

    async def all_of_them() -> list[Got]:
        body = {"customer": "nobody", "meter": "api.calls", "mode": "consume", "id": "1"}
        return await asyncio.gather(
            *(gate.request("POST", "/api/v1/check", body, key=key) for key in used)
        )

    return gate.run(all_of_them())


async def guessing(gate: GateProcess) -> list[Got]:
    """Keys that nobody has, some at each moment."""
    told: list[Got] = []
    for _ in range(3):
        asked = (gate.request("GET", PATH, key=unknown()) for _ in range(20))
        told += await asyncio.gather(*asked)
    return told


def test_many_at_once_have_it_read_once(world: World, watched: GateProcess) -> None:
    told = storm(watched, *(unknown() for _ in range(300)))
    assert {(got.status, got.body["code"]) for got in told} == {(401, "key_unknown")}
    assert Counted.reads <= 2
    assert not UsageEvent.objects.exists()


def test_many_after_one_another_have_it_read_once_in_a_while(
    world: World, watched: GateProcess
) -> None:
    began = time.monotonic()
    told = [peek(world, watched, key=unknown()) for _ in range(strangers.AT_ONCE)]
    assert Counted.reads == strangers.AT_ONCE
    waiting = []
    for _ in range(40):
        waiting.append(watched.begin(watched.request("GET", PATH, key=unknown())))
        assert peek(world, watched).status == 200  # whoever is known waits for none of them
    told += [each.result(60) for each in waiting]
    took = time.monotonic() - began

    assert {(got.status, got.body["code"]) for got in told} == {(401, "key_unknown")}
    assert Counted.reads <= strangers.AT_ONCE + 1 + took / strangers.EVERY_S


def test_a_new_key_is_let_in_at_once(world: World, watched: GateProcess) -> None:
    _, key = make_gateway("edge-2")
    assert peek(world, watched, key=key).status == 200
    assert Counted.reads == 1


def test_a_new_key_is_let_in_within_a_second_whoever_else_guesses(
    world: World, watched: GateProcess
) -> None:
    for _ in range(strangers.AT_ONCE):
        storm(watched, unknown())
    guesses = watched.begin(guessing(watched))
    _, key = make_gateway("edge-2")
    began = time.monotonic()

    assert peek(world, watched, key=key).status == 200

    assert time.monotonic() - began < strangers.EVERY_S + 1.5  # for a machine that is busy
    assert {got.status for got in guesses.result(60)} == {401}


def test_without_the_database_they_are_told_so(world: World, watched: GateProcess) -> None:
    Counted.away = True
    told = storm(watched, *(unknown() for _ in range(50)))
    assert {(got.status, got.body["code"]) for got in told} == {(503, "unavailable")}
    Counted.away = False
    assert peek(world, watched, key=unknown()).status == 401
