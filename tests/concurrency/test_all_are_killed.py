"""Gate, worker and database are killed in turn, again and again, while calls come in.

Every round kills one of them with kill -9, at a moment that chance chooses, and looks at the books
as they are then: what was answered 200 is in them once, and they agree with themselves (I1 to I4).
At the end every call has been repeated until it was answered, all is rolled up, and the count is
exact. `make prove` plays a hundred rounds.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests.concurrency.celery_processes import Processes
from tests.concurrency.gate_processes import Callers, start
from tests.concurrency.own_server import OwnServer
from tests.metering.gate.books import broken

ROUNDS = 100 if hypothesis.settings().max_examples >= 1_000 else 6
CALLERS, CALLS = 12, 400 if ROUNDS == 100 else 60
PATIENCE_S = 60.0
pytestmark = [pytest.mark.slow, pytest.mark.proof, pytest.mark.timeout(120 + 20 * ROUNDS)]


@pytest.fixture
def workers(server: OwnServer, tmp_path: Path) -> Iterator[Processes]:
    """A worker of two processes and a beat, on that server."""
    told = {"FAREBOX_DATABASE_URL": server.dsn, "FAREBOX_BROKER_URL": ""}
    told |= {"FAREBOX_BILLING_TICK_S": "1", "FAREBOX_LOG_LEVEL": "WARNING"}
    made = Processes(os.environ | told, tmp_path)
    made.start("beat", "-s", str(tmp_path / "beat"), "--pidfile=", "-l", "WARNING")
    _start_worker(made)
    yield made
    made.kill()


def _start_worker(workers: Processes) -> None:
    workers.start("worker", "-c", "2", "-l", "WARNING", "--without-mingle", "--without-gossip")


@dataclass
class Gate:
    """A gate that works through all calls, and who reads its answers."""

    process: subprocess.Popen[str]
    callers: Callers
    statuses: Counter[int] = field(default_factory=Counter)
    answered: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if not line.endswith("]\n"):
                return  # cut off in the middle
            number, place, status, body = json.loads(line)
            self.statuses[status] += 1
            if status == 200 and (body.get("accepted", 1) + body.get("duplicates", 0)) == 1:
                self.answered.add(_id(self.callers[number][place]))

    def kill(self) -> None:
        """With kill -9; returns when its last words are read."""
        self.process.kill()
        self._end()

    def finish(self) -> None:
        """Let it come to its end."""
        assert self.process.wait(120) == 0
        self._end()

    def _end(self) -> None:
        self.process.wait(20)
        self._reader.join(20)
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


def _id(call: list[Any]) -> str:
    body = call[2]
    found: str = body[0]["id"] if isinstance(body, list) else body["id"]
    return found


def _callers(server: OwnServer) -> Callers:
    """Calls that consume one, and events that count one, all with ids of their own."""
    made: Callers = []
    for caller in range(CALLERS):
        calls: list[list[Any]] = []
        for number in range(CALLS):
            id_ = f"{caller}-{number}"
            if number % 3:
                body = {"key": server.customer_key, "meter": "api.calls", "id": id_}
                calls.append(["POST", "/api/v1/check", body | {"mode": "consume"}])
            else:
                event = {"specversion": "1.0", "id": id_, "source": "app", "type": "api.call"}
                event |= {"subject": server.customer_key}
                calls.append(["POST", "/api/v1/events", [event]])
        made.append(calls)
    return made


def _counted(server: OwnServer) -> Counter[str]:
    with server.cursor() as cursor:
        rows = cursor.execute("SELECT external_id FROM metering_reportedevent").fetchall()
    return Counter(id_ for (id_,) in rows)


def _waiting(server: OwnServer) -> int:
    with server.cursor() as cursor:
        row = cursor.execute("SELECT count(*) FROM metering_usagebatch").fetchone()
    assert row is not None
    return int(row[0])


def _books_agree(server: OwnServer) -> None:
    with server.cursor() as cursor:
        assert broken(server.customer_id, of=cursor) == []


def _until(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, f"waited {PATIENCE_S} s until {what}"
        time.sleep(0.01)


def test_whoever_dies_every_call_is_counted_once(server: OwnServer, workers: Processes) -> None:
    chance = random.Random(20_261_126)
    callers, answered = _callers(server), set[str]()
    victims = ["gate", "worker", "database"] * (ROUNDS // 3 + 1)
    gate = Gate(start(server.dsn, server.gateway_key, callers), callers)
    for victim in victims[:ROUNDS]:
        wanted = chance.randrange(1, CALLERS * CALLS // 4)
        _until(lambda g=gate, w=wanted: g.statuses[200] >= w, "calls are answered")  # type: ignore[misc]
        match victim:
            case "gate":
                gate.kill()
            case "worker":
                workers.kill(since=1)
                _start_worker(workers)
            case _:
                server.kill()
                server.start_again()
                gate.kill()  # the callers that were refused come again
        if victim != "worker":
            answered |= gate.answered
            gate = Gate(start(server.dsn, server.gateway_key, callers), callers)
        counted = _counted(server)
        assert answered <= counted.keys()
        assert set(counted.values()) <= {1}
        _books_agree(server)
    gate.finish()
    assert gate.statuses == {200: CALLERS * CALLS}
    counted = _counted(server)
    assert len(counted) == CALLERS * CALLS
    assert set(counted.values()) == {1}
    _until(lambda: _waiting(server) == 0, "all is rolled up, by the worker that lives")
    _books_agree(server)
    with server.cursor() as cursor:
        row = cursor.execute(
            "SELECT sum(quantity), sum(events), (SELECT sum(used) FROM metering_balance)"
            " FROM metering_rollup"
        ).fetchone()
    assert row == (CALLERS * CALLS,) * 3
