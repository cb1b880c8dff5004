"""Bodies that come in parts: who is listened to, and how much all of them may take."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

import pytest

from metering.gate import bodies
from metering.models import UsageEvent
from tests.metering.gate.conftest import World

pytestmark = pytest.mark.django_db(transaction=True)
GONE = {"type": "http.disconnect"}


class Sender:
    """A client that sends a body in parts, the last one when it is told to."""

    def __init__(self, world: World, *, key: str = "") -> None:
        self.world = world
        self.key = key or world.gate.key
        self.listened_to = 0
        self.told: list[dict[str, Any]] = []
        self._go = asyncio.Event()

    def begin(self, parts: Sequence[bytes], last: Any = None) -> Future[None]:
        """Send all parts but the last."""
        head = [{"type": "http.request", "body": part, "more_body": True} for part in parts[:-1]]
        end = last or {"type": "http.request", "body": parts[-1], "more_body": False}

        async def receive() -> dict[str, Any]:
            self.listened_to += 1
            if self.listened_to <= len(head):
                return head[self.listened_to - 1]
            await self._go.wait()
            return dict(end)

        async def send(message: Any) -> None:
            self.told.append(message)

        headers = [
            (b"authorization", f"Bearer {self.key}".encode()),
            (b"content-type", b"application/cloudevents-batch+json"),
        ]
        scope = {"type": "http", "method": "POST", "path": "/api/v1/events", "headers": headers}
        return self.world.gate.begin(self.world.gate.gate(scope, receive, send))

    def go_on(self) -> None:
        """Send the last part."""

        async def go() -> None:
            self._go.set()

        self.world.gate.run(go())

    @property
    def answer(self) -> tuple[int, str]:
        """Status and body."""
        return self.told[0]["status"], self.told[1]["body"].decode()

    def size(self) -> int:
        """What the gate keeps of large bodies."""
        return self.world.gate.gate._bodies.size


def events(world: World, *names: str) -> bytes:
    """A batch of one event for each name."""
    event = {"specversion": "1.0", "source": "app", "type": "api.call", "subject": world.key}
    return json.dumps([event | {"id": name} for name in names]).encode()


def halves(body: bytes) -> list[bytes]:
    """In two parts."""
    return [body[: len(body) // 2], body[len(body) // 2 :]]


def test_the_body_of_a_stranger_is_not_gathered(world: World) -> None:
    for key, code in (("rubbish", "key_malformed"), (world.key, "wrong_kind_of_key")):
        stranger = Sender(world, key=key)
        stranger.begin(halves(events(world, "a"))).result(20)
        assert code in stranger.answer[1]
        assert stranger.listened_to == 1
    assert not UsageEvent.objects.exists()


def test_all_large_bodies_together_are_bounded(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, third = events(world, "a"), events(world, "c")
    second = events(world, *(f"b-{number}" for number in range(8)))
    monkeypatch.setattr(bodies, "BODIES_MAX", len(first) + 10)
    slow, refused, later = Sender(world), Sender(world), Sender(world)

    answered = slow.begin(halves(first))
    refused.begin(halves(second)).result(20)
    assert refused.answer[0] == 503
    assert json.loads(refused.answer[1])["code"] == "overloaded"
    assert world.gate.check({"key": world.key, "meter": "api.calls"}).status == 200

    slow.go_on()
    answered.result(20)
    assert slow.answer[0] == 200
    assert slow.size() == 0

    third_answered = later.begin(halves(third))
    later.go_on()
    third_answered.result(20)
    assert later.answer[0] == 200
    assert sorted(UsageEvent.objects.values_list("external_id", flat=True)) == ["a", "c"]


def test_who_goes_away_in_the_middle_leaves_nothing(world: World) -> None:
    client = Sender(world)
    ended = client.begin(halves(events(world, "a")), last=GONE)
    client.go_on()
    ended.result(20)

    assert client.told == []
    assert client.size() == 0
    assert not UsageEvent.objects.exists()


def test_a_body_that_is_too_large_or_too_slow_ends(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = events(world, "a")
    monkeypatch.setattr(bodies, "BODY_MAX", len(body) - 1)
    large = Sender(world)
    ended = large.begin(halves(body))
    large.go_on()
    ended.result(20)
    assert large.answer[0] == 413

    monkeypatch.setattr(bodies, "BODY_MAX", len(body))
    monkeypatch.setattr(bodies, "BODY_TIMEOUT_S", 0.01)
    slow = Sender(world)
    slow.begin(halves(body)).result(20)
    assert slow.answer[0] == 408
    assert slow.size() == 0
    assert not UsageEvent.objects.exists()
