"""PostgreSQL is killed and comes back: whoever waited is admitted by the first attempt after that.

How long that takes is the pause between two attempts, which does not grow
(tests/metering/gate/test_reconnecting.py), and what the machine adds; the benchmark measures it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import psycopg
import pytest

from metering.gate.store import Store
from tests.concurrency.own_server import OwnServer
from tests.metering.gate.books import broken
from tests.metering.gate.client import GateProcess, Got

pytestmark = [pytest.mark.slow, pytest.mark.proof]
TIMES, CALLERS, FLIGHTS = 3, 24, 3
FAILED_ATTEMPTS = 20  # are waited for while it is away
PATIENCE_S = 60.0  # of calls, and of this test: for none of them is this what it waits for
_attempts: list[str] = []  # how each attempt to connect ended, in their order


class Noting(Store):
    """Notes each attempt to connect; a statement may take long, after which it would be another."""

    def __init__(self, dsn: str, *, statement_timeout_ms: int) -> None:
        super().__init__(dsn, statement_timeout_ms=max(statement_timeout_ms, 30_000))

    def twin(self) -> Store:
        return Noting(self._dsn, statement_timeout_ms=self._timeout_ms)

    async def _new_connection(self) -> psycopg.AsyncConnection[Any]:
        number = len(_attempts)
        _attempts.append("failed")
        connection = await super()._new_connection()
        _attempts[number] = "connected"
        return connection


@pytest.fixture
def gate(server: OwnServer) -> Iterator[GateProcess]:
    """A gate whose callers wait for longer than PostgreSQL is away."""
    _attempts.clear()
    made = GateProcess(deadline_s=PATIENCE_S, address=server.dsn, store=Noting)
    made.key = server.gateway_key
    yield made
    made.stop()


def test_calls_that_waited_are_admitted_by_the_first_attempt_after_the_return(
    server: OwnServer, gate: GateProcess
) -> None:
    ids: list[str] = []

    def begin(name: str) -> list[Future[Got]]:
        """So many consumes at once."""
        new = [f"{name}-{number}" for number in range(CALLERS)]
        ids.extend(new)
        asked = {"key": server.customer_key, "meter": "api.calls", "mode": "consume"}
        return [
            gate.begin(gate.request("POST", "/api/v1/check", asked | {"id": id_})) for id_ in new
        ]

    assert _statuses(begin("before")) == {200}
    for round_ in range(TIMES):
        server.kill()
        waiting = begin(f"away-{round_}")
        _await_failures()
        assert not any(each.done() for each in waiting)  # nobody is told anything yet

        server.start_again()
        begun = len(_attempts)
        after = begin(f"back-{round_}")

        assert _statuses(waiting) == {200}
        assert _statuses(after) == {200}
        assert _attempts[begun:].count("failed") == 0
        assert len(_attempts) - begun <= FLIGHTS  # each connection at its first attempt

    with server.cursor() as cursor:
        found = cursor.execute(
            "SELECT external_id, count(*) FROM metering_reportedevent"
            " WHERE external_id = ANY (%s) GROUP BY 1",
            (ids,),
        ).fetchall()
        assert dict(found) == dict.fromkeys(ids, 1)
        assert broken(server.customer_id, of=cursor) == []


def _statuses(asked: list[Future[Got]]) -> set[int]:
    return {each.result(PATIENCE_S).status for each in asked}


def _await_failures() -> None:
    """Return when so many more attempts have failed: it goes on trying."""
    wanted = len(_attempts) + FAILED_ATTEMPTS
    deadline = time.monotonic() + PATIENCE_S
    while len(_attempts) < wanted:
        assert time.monotonic() < deadline, f"only {len(_attempts)} attempts"
        time.sleep(0.01)  # between two looks
