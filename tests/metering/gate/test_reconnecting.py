"""How often a gate tries again while PostgreSQL is away: at the same short pace, however long.

In a loop whose clock stands still and jumps to what comes next, so that an hour is tried out in a
moment, and no figure depends on the machine.
"""

from __future__ import annotations

import asyncio
import math
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import psycopg

from config import environment
from metering.gate.calls import Check, Reference, Waiter
from metering.gate.engine import RETRY_PAUSE_S, Engine
from metering.gate.items import Bounds, Limits
from metering.gate.store import Store
from metering.gate.wire import CheckBody, ItemBody

AWAY_S = 60.0  # at a pause of 50 ms 1,200 attempts, each of which really fails
# An attempt is over at once where nobody listens. What it may last otherwise is another matter:
# a server that hangs, or a network that swallows, is not back either.
GUARANTEED_S = 0.25


class Jumping(asyncio.SelectorEventLoop):
    """A loop whose time passes only where there is nothing to do, and then all at once."""

    def __init__(self) -> None:
        self._at = 0.0
        super().__init__()

    def time(self) -> float:
        """Seconds that were waited for so far."""
        return self._at

    def _run_once(self) -> None:
        loop: Any = self
        if not loop._ready and loop._scheduled and not loop._selector.select(0):
            self._at = max(self._at, loop._scheduled[0].when())
        super()._run_once()  # type: ignore[misc]  # of asyncio, in all its versions


class Noting(Store):
    """Notes when a connection was tried."""

    tried_at: list[float]

    def twin(self) -> Store:
        other = Noting(self._dsn, statement_timeout_ms=self._timeout_ms)
        other.tried_at = self.tried_at
        return other

    async def _new_connection(self) -> psycopg.AsyncConnection[Any]:
        self.tried_at.append(asyncio.get_running_loop().time())
        return await super()._new_connection()


def test_the_pause_between_two_attempts_does_not_grow(tmp_path: Path) -> None:
    store = Noting(f"host={tmp_path}", statement_timeout_ms=1_000)  # where nobody listens
    store.tried_at = []
    with asyncio.Runner(loop_factory=Jumping) as runner:
        runner.run(_wait_for_a_database(store))

    pauses = [after - before for before, after in pairwise(store.tried_at)]
    assert len(pauses) >= AWAY_S / RETRY_PAUSE_S - 2
    assert max(pauses) < RETRY_PAUSE_S + 1e-6
    assert RETRY_PAUSE_S <= GUARANTEED_S
    # A call that comes when PostgreSQL is back sees many attempts before it is due.
    assert environment.GATE_DEADLINE_MS.default > GUARANTEED_S * 4 * 1_000


async def _wait_for_a_database(store: Store) -> None:
    engine = Engine(
        store,
        bounds=Bounds("", timedelta(days=90), timedelta(seconds=300)),
        limits=Limits(queue=10, batch=10, copies=10),
    )
    body = CheckBody(customer="acme", meter="api.calls", mode="consume", id="one")
    call = Check(
        gateway_key=b"",
        reference=Reference(external_id="acme"),
        deadline=math.inf,
        body=body,
        asked=[ItemBody("api.calls")],
        key="00" * 16,
        waiter=Waiter(1),
    )
    engine.start()
    engine.submit([call])
    await asyncio.sleep(AWAY_S)
    assert not call.done
    await engine.stop()
    assert call.failure is not None
    assert call.failure.code == "unavailable"
