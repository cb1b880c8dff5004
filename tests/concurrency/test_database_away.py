"""PostgreSQL is killed, cut off or hangs under load: nothing lost, nothing doubled, no hang.

`make prove` does each a hundred times.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from accounts.domain import keys
from tests.concurrency.cutting import Cutter
from tests.concurrency.own_server import OwnServer
from tests.metering.gate.books import broken
from tests.metering.gate.client import GateProcess, Got

pytestmark = [pytest.mark.slow, pytest.mark.proof]
TIMES = 100 if hypothesis.settings().max_examples >= 1_000 else 3
DEADLINE_S, STATEMENT_MS = 0.6, 400
PATIENCE_S = 30.0  # a busy machine stalls for seconds; a call that hangs takes for ever
CALLERS = 12
_numbers = itertools.count(1)


@pytest.fixture
def gates(server: OwnServer) -> Iterator[list[GateProcess]]:
    """Two gates on that server, so that they lose batches to each other as well."""
    made = [_gate(server) for _ in range(2)]
    yield made
    for gate in made:
        gate.stop()


def _gate(server: OwnServer, address: str = "") -> GateProcess:
    gate = GateProcess(
        deadline_s=DEADLINE_S,
        statement_timeout_ms=STATEMENT_MS,
        address=address or server.dsn,
    )
    gate.key = server.gateway_key
    return gate


@pytest.fixture
def load(server: OwnServer, gates: list[GateProcess]) -> Iterator[Load]:
    """Callers; the ones that a failed test leaves are let go."""
    made = Load(server)
    yield made
    made.stopping = True
    for each in made.running:
        each.cancel()


@dataclass
class Load:
    """Callers that repeat each call with the same id until it is answered 200."""

    server: OwnServer
    stopping: bool = False
    answered: dict[str, int] = field(default_factory=dict)  # id -> quantity
    statuses: Counter[int] = field(default_factory=Counter)
    wrong: list[Any] = field(default_factory=list)
    running: list[Future[None]] = field(default_factory=list)

    def begin(self, gates: list[GateProcess]) -> None:
        """Set all callers to work."""
        self.running = [gate.begin(self._call_on(gate)) for gate in gates for _ in range(CALLERS)]

    def end(self) -> None:
        """Let every caller finish what it began, however often it must be repeated."""
        self.stopping = True
        for each in self.running:
            each.result(60)

    def await_answers(self, more: int) -> None:
        """Return when so many more calls were answered 200."""
        wanted = self.statuses[200] + more
        _until(lambda: self.statuses[200] >= wanted, "calls are answered")

    def await_refusal(self) -> None:
        """Return when another call was told 503."""
        refused = self.statuses[503]
        _until(lambda: self.statuses[503] > refused, "a call is refused")

    async def _call_on(self, gate: GateProcess) -> None:
        while not self.stopping:
            number = next(_numbers)
            id_ = f"call-{number}"
            body = {"key": self.server.customer_key, "meter": "api.calls", "id": id_}
            if number % 3:
                await self._insist(gate, "/api/v1/check", body | {"mode": "consume"})
                self.answered[id_] = 1
            else:
                hold = body | {"mode": "hold", "quantity": 5, "ttl": 600}
                got = await self._insist(gate, "/api/v1/check", hold)
                path = f"/api/v1/holds/{got.body['hold']['id']}/settle"
                await self._insist(gate, path, {"quantity": 2})
                self.answered[id_] = 2

    async def _insist(self, gate: GateProcess, path: str, body: object) -> Got:
        while True:
            async with asyncio.timeout(PATIENCE_S):
                got = await gate.request("POST", path, body)
            self.statuses[got.status] += 1
            if got.status == 200:
                return got
            if got.status not in (503, 409):
                self.wrong.append(got)
            if got.status == 503 and not (
                got.body["code"] == "unavailable" and got.headers.get("retry-after") == "1"
            ):
                self.wrong.append(got)
            await asyncio.sleep(0.02)  # a caller that hurries more than Retry-After asks it to


def _until(true: Callable[[], bool], what: str, *, patience_s: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + patience_s
    while not true():
        assert time.monotonic() < deadline, f"waited {patience_s} s until {what}"
        time.sleep(0.005)


def _exact(server: OwnServer, load: Load) -> None:
    """What was answered 200 is in the books exactly once, and nothing else is."""
    assert load.wrong == []
    with server.cursor() as cursor:
        cursor.execute(
            "SELECT external_id, count(*), sum((e.value)::bigint) FROM metering_reportedevent,"
            " jsonb_each_text(usage) e WHERE external_id = ANY (%s) GROUP BY 1",
            (list(load.answered),),
        )
        found = {id_: (count, int(quantity)) for id_, count, quantity in cursor.fetchall()}
        assert found == {id_: (1, quantity) for id_, quantity in load.answered.items()}
        row = cursor.execute(
            "SELECT (SELECT count(*) FROM metering_usageevent), (SELECT sum(held)"
            " FROM metering_balance)"
        ).fetchone()
        assert row is not None
        assert row[1] == 0
        assert broken(server.customer_id, of=cursor) == []


def test_the_server_is_killed_and_started_again(
    server: OwnServer, gates: list[GateProcess], load: Load
) -> None:
    load.begin(gates)
    for _ in range(TIMES):
        load.await_answers(30)
        server.kill()
        load.await_refusal()
        server.start_again()
        load.await_answers(1)
    load.end()
    _exact(server, load)


def test_connections_are_cut(server: OwnServer, gates: list[GateProcess], load: Load) -> None:
    load.begin(gates)
    with server.cursor() as cursor:
        for _ in range(TIMES * 10):
            load.await_answers(7)
            cursor.execute(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                " WHERE application_name = 'farebox-gate'"
            )
    load.end()
    _exact(server, load)


def test_connections_are_cut_between_any_two_steps(server: OwnServer, load: Load) -> None:
    """Also between a commit and its confirmation: the repeat finds what was written."""
    with tempfile.TemporaryDirectory(prefix="farebox-cut-") as folder:
        cutter = Cutter(server.dsn, Path(folder), seed=TIMES)
        gates = [_gate(server, cutter.dsn) for _ in range(2)]
        try:
            load.begin(gates)
            _until(
                lambda: min(cutter.cuts.values()) >= TIMES,
                "connections are cut",
                patience_s=PATIENCE_S + 5 * TIMES,
            )
            cutter.cutting = False
            load.end()
        finally:
            for gate in gates:
                gate.stop()
            cutter.stop()
    _exact(server, load)


def test_a_connection_that_hangs_is_left(
    server: OwnServer, gates: list[GateProcess], load: Load
) -> None:
    load.begin(gates)
    load.await_answers(30)
    with server.cursor() as cursor:
        rows = cursor.execute(
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'farebox-gate'"
        ).fetchall()
        hanging = [pid for (pid,) in rows]
        for pid in hanging:
            os.kill(pid, signal.SIGSTOP)
        try:
            # What hangs may hold the customer's row; if it does not, a new connection serves.
            load.await_refusal()
        finally:
            for pid in hanging:
                os.kill(pid, signal.SIGCONT)
    load.await_answers(1)
    load.end()
    _exact(server, load)


def test_a_server_that_hangs_refuses_in_time_and_never_denies(
    server: OwnServer, gates: list[GateProcess], load: Load
) -> None:
    load.begin(gates)
    load.await_answers(30)
    fresh = _gate(server)
    new_key = keys.new_key(keys.KeyKind.GATEWAY, entropy=os.urandom(32)).text
    check = {"customer": "acme", "meter": "api.calls"}
    family = server.processes()
    for pid in reversed(family):  # the server first, so that it starts no others
        os.kill(pid, signal.SIGSTOP)
    try:
        for gate, key in ((gates[0], new_key), (fresh, server.gateway_key)):
            # A gate that has read nothing yet knows no keys: it cannot say that one is wrong.
            asked = [
                gate.begin(gate.request("POST", "/api/v1/check", check, key=key)) for _ in range(6)
            ]
            got = [each.result(PATIENCE_S) for each in asked]
            assert {(each.status, each.body["code"]) for each in got} == {(503, "unavailable")}
            assert {each.headers["retry-after"] for each in got} == {"1"}
        load.await_refusal()
    finally:
        for pid in family:
            os.kill(pid, signal.SIGCONT)
    load.await_answers(1)
    load.end()
    fresh.stop()
    _exact(server, load)
