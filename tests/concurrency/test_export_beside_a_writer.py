"""Events are downloaded while somebody reports more of them through a gate, of the same hours.

What was answered before the download began is in it, each event once, in order and whole; what was
received later is not, however much of it lies between the pages that are still to come.
"""

from __future__ import annotations

import io
import itertools
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow.parquet
import pytest
from django.test import Client

from accounts.domain.scopes import ADMIN
from metering.api import event_exports
from metering.models import UsageEvent
from metering.operations.correcting import void
from metering.queries.event_exports import AT_ONCE
from tests.factories.accounts import an_operator_key
from tests.metering.gate.client import GateProcess
from tests.metering.gate.conftest import World

pytestmark = [
    pytest.mark.django_db(transaction=True), pytest.mark.slow, pytest.mark.proof,
]  # fmt: skip
BEFORE, PER_POST = 5 * AT_ONCE, 20
SPAN = timedelta(hours=20)
NOW = datetime.now(UTC).replace(microsecond=0)


class Writer:
    """Reports through a gate of its own until it is stopped; `answered` grows as it is answered."""

    def __init__(self, world: World) -> None:
        self.answered: list[str] = []
        self._world, self._over = world, threading.Event()
        self._grown = threading.Condition()
        self._gate = GateProcess(deadline_s=50, statement_timeout_ms=30_000)
        self._gate.key = world.gate.key
        self._thread = ThreadPoolExecutor(1)
        self._written = self._thread.submit(self._write)

    def _write(self) -> None:
        for number in itertools.count():
            if self._over.is_set():
                return
            numbers = range(number * PER_POST, (number + 1) * PER_POST)
            post = [_event(self._world, f"beside-{n}", n) for n in numbers]
            got = self._gate.send("POST", "/api/v1/events", post)
            assert got.body == {"accepted": PER_POST, "duplicates": 0, "rejected": []}
            with self._grown:
                self.answered += [each["id"] for each in post]
                self._grown.notify_all()

    def wait_for_more(self) -> None:
        """Until more was answered."""
        with self._grown:
            seen = len(self.answered)
            assert self._grown.wait_for(lambda: len(self.answered) > seen, timeout=60)

    def stop(self) -> None:
        """Once its last post is answered."""
        self._over.set()
        try:
            self._written.result(60)
        finally:
            self._thread.shutdown()
            self._gate.stop()


@pytest.fixture
def writer(world: World) -> Iterator[Writer]:
    """It has begun to report what the customer did in the last hours, in no order of time."""
    for place in range(0, BEFORE, 1_000):
        events = [_event(world, f"before-{n}", n) for n in range(place, place + 1_000)]
        got = world.gate.send("POST", "/api/v1/events", events)
        assert got.body == {"accepted": 1_000, "duplicates": 0, "rejected": []}
    made = Writer(world)
    yield made
    made.stop()


def _event(world: World, id_: str, number: int) -> dict[str, Any]:
    # A step that has nothing in common with the span: neighbours in time come far apart.
    at = NOW - timedelta(seconds=number * 7_919 % int(SPAN.total_seconds()))
    common = {"specversion": "1.0", "source": "app", "type": "llm.completion", "id": id_}
    data = {"tokens": number % 50, "model": f"m-{number % 3}"}
    return common | {"subject": world.key, "time": at.isoformat(), "data": data}


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_a_download_beside_a_writer_is_whole(
    form: str, world: World, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_exports, "_ROW_GROUP", AT_ONCE)  # a chunk of Parquet a page, too
    client = Client(headers={"authorization": f"Bearer {an_operator_key(ADMIN)[1].text}"})
    writer.wait_for_more()
    expected = {f"before-{n}" for n in range(BEFORE)} | set(writer.answered)
    answer: Any = client.get(
        f"/api/v1/events/export?customer={world.customer.public_id}&format={form}"
    )
    asked_at, chunks = datetime.now(UTC), []
    voided = _void(world, writer.answered[0], at=asked_at)
    for chunk in answer.streaming_content:
        chunks.append(chunk)
        writer.wait_for_more()  # between two pages, whatever the machine is at
    said = _rows(form, b"".join(chunks))
    assert len(chunks) > BEFORE / AT_ONCE
    found = [each["external_id"] for each in said]
    assert len(set(found)) == len(found)
    assert expected <= set(found)
    times = [(each["occurred_at"], each["id"]) for each in said]
    assert times == sorted(times)
    later = UsageEvent.objects.filter(received_at__gt=asked_at)
    assert later.count() >= (len(chunks) - 1) * PER_POST
    assert not set(later.values_list("external_id", flat=True)) & set(found)
    assert max(each["received_at"] for each in said) <= asked_at
    for each in said:
        number = int(each["properties"]["tokens"])
        counted = [] if each["corrected"] else [("chat.tokens", number)]
        assert [(one["meter"], one["quantity"]) for one in each["usage"]] == counted
    assert {each["external_id"] for each in said if each["corrected"]} <= {voided}


def _void(world: World, external_id: str, *, at: datetime) -> str:
    """Correct one that is in the download, which has begun."""
    event = UsageEvent.objects.get(customer_id=world.customer.id, external_id=external_id)
    void(world.customer.id, event_id=event.id, reason="a test", actor="opk_1", now=at)
    return external_id


def _rows(form: str, file: bytes) -> list[dict[str, Any]]:
    """What the file says, of either form alike."""
    if form == "parquet":
        rows: list[dict[str, Any]] = pyarrow.parquet.read_table(io.BytesIO(file)).to_pylist()
        return [each | {"properties": json.loads(each["properties"])} for each in rows]
    lines = [json.loads(line) for line in file.splitlines()]
    for each in lines:
        for name in ("occurred_at", "received_at"):
            each[name] = datetime.fromisoformat(each[name])
    return lines
