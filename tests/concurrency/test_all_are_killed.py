"""Gate, worker and database are killed in turn, again and again, while calls come in.

Every round kills one of them with kill -9, at a moment that chance chooses, and looks at the books
as they are then: what was answered 200 is in them once, and they agree with themselves (I1 to I4).
Usage is of three months and more, and each round has days and months made again, a slot of the
customers at a time: worker and database fall between the first slot and the last. Hours, days and
months are all counted from the events. At the end every call has been repeated until it was
answered, all is rolled up, and the count is exact. `make prove` plays a hundred rounds.

Each round begins with a worker that works and a gate that can decide, which gets calls of its own
before it repeats those of the earlier rounds: so calls come in and days are made at the same time.
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
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests.concurrency import days
from tests.concurrency.celery_processes import Processes
from tests.concurrency.gate_processes import Callers, start_together
from tests.concurrency.own_server import WORK, OwnServer
from tests.metering.gate.books import broken, uneven
from tests.metering.gate.plain import plain_total

ROUNDS = 100 if hypothesis.settings().max_examples >= 1_000 else 6
CALLERS, CALLS = 12, 800 if ROUNDS == 100 else 180
DAYS = 80  # until now, of which usage is: three calendar months at least
PATIENCE_S = 60.0
pytestmark = [pytest.mark.slow, pytest.mark.proof, pytest.mark.timeout(120 + 60 * ROUNDS)]


@pytest.fixture
def workers(server: OwnServer, tmp_path: Path) -> Iterator[Processes]:
    """A worker of two processes and a beat, on that server."""
    told = {"FAREBOX_DATABASE_URL": server.dsn, "FAREBOX_BROKER_URL": ""}
    told["FAREBOX_LOG_LEVEL"] = "WARNING"
    made = Processes(os.environ | told, tmp_path)
    beat = ("beat", "-s", str(tmp_path / "beat"), "--pidfile=", "-l", "WARNING")
    made.start(*beat, app="tests.concurrency.hasty")
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
            ids = _ids(self.callers[number][place])
            fates = body.get("accepted", 1) + body.get("duplicates", 0)
            if status == 200 and fates == len(ids):
                self.answered |= ids

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


def _ids(call: list[Any]) -> set[str]:
    body = call[2]
    return {each["id"] for each in body} if isinstance(body, list) else {body["id"]}


def _callers(server: OwnServer) -> Callers:
    """Calls that consume one, events that count one, and batches of work, some of it long ago.

    All of it has ids of its own; work counts on a sum, a maximum, the latest and different members.
    """
    now, made = datetime.now(UTC), []
    for caller in range(CALLERS):
        calls: list[list[Any]] = []
        key = server.customer_keys[caller % len(server.customer_keys)]
        for number in range(CALLS):
            id_ = f"{caller}-{number}"
            if number % 3:
                body = {"key": key, "meter": "api.calls", "id": id_}
                calls.append(["POST", "/api/v1/check", body | {"mode": "consume"}])
                continue
            common = {"specversion": "1.0", "source": "app", "subject": key}
            events: list[dict[str, Any]] = [common | {"id": id_, "type": "api.call"}]
            for place in range(number % 4):
                size = 1 + (caller * number + place) % 1_000
                data = {"size": size, "user": f"user-{size % 37}", "model": f"m-{size % 3}"}
                work = common | {"id": f"{id_}-{place}", "type": "work.done", "data": data}
                at = now - timedelta(days=size % DAYS, minutes=number)
                events.append(work | {"time": at.isoformat()})
            calls.append(["POST", "/api/v1/events", events])
        made.append(calls)
    return made


def _work(callers: Callers) -> list[dict[str, Any]]:
    """The events that report work."""
    batches = [call[2] for calls in callers for call in calls if isinstance(call[2], list)]
    return [event for batch in batches for event in batch if "data" in event]


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
        assert broken(*server.customer_ids, of=cursor) == []
        assert uneven(*server.customer_ids, of=cursor) == []


def _until(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, f"waited {PATIENCE_S} s until {what}"
        time.sleep(0.01)


def _share(callers: Callers, number: int) -> Callers:
    """What a round's gate is sent: calls that are new, and then all earlier ones."""
    first, last = (CALLS * each // ROUNDS for each in (number, number + 1))
    return [calls[first:last] + calls[:first] for calls in callers]


def _gate(server: OwnServer, callers: Callers) -> Gate:
    """A gate that begins now."""
    (process,) = start_together(server.dsn, server.gateway_key, [callers])
    return Gate(process, callers)


def test_whoever_dies_every_call_is_counted_once(server: OwnServer, workers: Processes) -> None:
    chance, answered = random.Random(20_261_126), set[str]()
    callers = _callers(server)
    between = busy = 0
    for number in range(ROUNDS):
        _until(lambda: days.made(server) == days.SLOTS, "the worker works")
        gate = _gate(server, share := _share(callers, number))
        days.take_back(server, days=chance.choice([1, 2, DAYS]))
        wanted, slots = chance.randrange(1, CALLERS * CALLS // ROUNDS), chance.randrange(1, 40)
        _until(lambda g=gate, w=wanted: g.statuses[200] >= w, "calls are answered")  # type: ignore[misc]
        _until(lambda n=slots: days.made(server) >= n, "days are made")  # type: ignore[misc]
        match number % 3:
            case 0:
                gate.kill()
            case 1:
                workers.kill(since=1)
                _start_worker(workers)
            case _:
                server.kill()
                server.start_again()
        between += days.made(server) < days.SLOTS
        busy += gate.statuses.total() < sum(map(len, share))
        gate.kill()  # whom it did not answer comes again
        answered |= gate.answered
        counted = _counted(server)
        assert answered <= counted.keys()
        assert set(counted.values()) <= {1}
        _books_agree(server)
    assert between > 0, "someone fell when days of some slots were made, and of others not"
    assert busy > 0, "someone fell while calls came in"
    gate = _gate(server, callers)
    gate.finish()
    assert gate.statuses == {200: CALLERS * CALLS}
    counted, work = _counted(server), _work(callers)
    assert len(counted) == CALLERS * CALLS + len(work)
    assert set(counted.values()) == {1}
    _until(lambda: _waiting(server) == 0, "all is rolled up, by the worker that lives")
    _until(lambda: days.made(server) == days.SLOTS, "all days are made")
    _books_agree(server)
    buckets, months = days.spread(server)
    assert buckets > DAYS
    assert months >= 2
    assert _told(server) == _expected(server, callers)


def _expected(server: OwnServer, callers: Callers) -> dict[tuple[int, str], tuple[int, int, int]]:
    """By customer and meter: what a plain loop over all that was sent counts."""
    found = {}
    for place, customer_id in enumerate(server.customer_ids):
        mine = callers[place :: len(server.customer_ids)]
        events = [(datetime.fromisoformat(each["time"]), each["data"]) for each in _work(mine)]
        calls = len(mine) * CALLS
        found[customer_id, "api.calls"] = calls, calls, calls
        for kind, name in WORK.items():
            total = plain_total(kind, [(at, data[name]) for at, data in events])
            found[customer_id, f"work.{kind}"] = total, total, len(events)
    return found


def _told(server: OwnServer) -> dict[tuple[int, str], tuple[int, int, int]]:
    """By customer and meter: the balances, what the roll-ups come to, and their events."""
    with server.cursor() as cursor:
        rows = cursor.execute(
            """
            SELECT r.customer_id, m.key,
                   (SELECT sum(used) FROM metering_balance
                     WHERE meter_id = m.id AND customer_id = r.customer_id),
                   CASE m.aggregation
                   WHEN 'max' THEN max(r.quantity)
                   WHEN 'latest' THEN (array_agg(r.quantity
                                                 ORDER BY r.latest_at DESC, r.quantity DESC))[1]
                   WHEN 'unique' THEN (SELECT count(DISTINCT member) FROM metering_rollupmember
                                        WHERE meter_id = m.id AND customer_id = r.customer_id)
                   ELSE sum(r.quantity) END,
                   sum(r.events)
              FROM metering_meter m JOIN metering_rollup r ON r.meter_id = m.id
             GROUP BY r.customer_id, m.id
            """
        ).fetchall()
    return {(one, key): (int(used), int(n), int(events)) for one, key, used, n, events in rows}
