"""What gateways get wrong, written where their operator sees it: beside the requests, never in one.

To note is to count in memory. A task of its own writes over a connection of its own, which is there
only while it writes; nobody waits for either.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import psycopg

from metering.domain.shapes.remains import without_keys
from metering.gate import answers
from metering.gate.misconfigured import Misconfigured
from metering.statements import load

log = logging.getLogger(__name__)
EVERY_S: Final = 60.0
_MOST: Final = 10_000  # gateways times the codes of their faults; more are not noted
_DETAIL_MAX: Final = 500
Kind = tuple[str, str]  # gateway, code


@dataclass(slots=True)
class _Note:
    """What was seen of a kind since it was last written; `count` 0: nothing."""

    last: Misconfigured
    first_at: datetime
    last_at: datetime
    due_at: float
    count: int = 0


class FaultNotes:
    """Faults by gateway and code, each written at most once in `every_s`, the first one at once.

    For one event loop. What cannot be written is tried again `every_s` later.
    """

    def __init__(
        self,
        address: str,
        *,
        statement_timeout_ms: int,
        every_s: float = EVERY_S,
        most: int = _MOST,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._address = address
        self._timeout_ms = statement_timeout_ms
        self._every_s = every_s
        self._most = most
        self._clock = clock
        self._notes: dict[Kind, _Note] = {}
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._ending = False

    def note(self, fault: Misconfigured) -> None:
        """Remember a fault, to be written soon; returns at once, whatever the database does."""
        if self._ending:
            return
        kind, now = (fault.gateway, fault.code), datetime.now(UTC)
        note = self._notes.get(kind)
        if note is None:
            if not self._has_room():
                return
            note = self._notes[kind] = _Note(fault, now, now, due_at=self._clock())
        if not note.count:
            note.first_at = now
            self._woken.set()
        note.last, note.last_at, note.count = fault, now, note.count + 1
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Write what is noted, once, and note nothing more."""
        self._ending = True
        self._woken.set()
        if self._task is not None:
            await self._task

    def _has_room(self) -> bool:
        if len(self._notes) >= self._most:
            now = self._clock()
            self._notes = {
                kind: note for kind, note in self._notes.items() if note.count or note.due_at > now
            }
        return len(self._notes) < self._most

    async def _run(self) -> None:
        """Write what is due until nothing waits any more."""
        while waiting := [kind for kind, note in self._notes.items() if note.count]:
            if self._ending:
                await self._write(waiting)
                return
            now = self._clock()
            due = [kind for kind in waiting if self._notes[kind].due_at <= now]
            if due:
                await self._write(due)
                continue
            self._woken.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(self._notes[k].due_at for k in waiting) - now):
                    await self._woken.wait()

    async def _write(self, kinds: Sequence[Kind]) -> None:
        """Write these; never raises for the database's sake."""
        notes = [self._notes[kind] for kind in kinds]
        rows, counts = [_row(note) for note in notes], [note.count for note in notes]
        try:
            async with asyncio.timeout(2 + 2 * self._timeout_ms / 1_000):
                await self._send(rows)
        except (psycopg.Error, OSError, TimeoutError) as error:
            log.warning("what gateways get wrong could not be written: %s", error)
            counts = [0] * len(notes)
        due_at = self._clock() + self._every_s
        for note, count in zip(notes, counts, strict=True):
            note.count -= count  # more may have come meanwhile
            note.due_at = due_at

    async def _send(self, rows: Sequence[dict[str, Any]]) -> None:
        options = (
            f"-c statement_timeout={self._timeout_ms} -c lock_timeout={self._timeout_ms}"
            " -c timezone=UTC"
        )
        connection = await psycopg.AsyncConnection.connect(
            self._address,
            autocommit=True,
            options=options,
            connect_timeout=2,
            application_name="farebox-fault-notes",
        )
        async with connection:
            faults = answers.encode(rows).decode()
            await connection.execute(load("note_gateway_faults"), {"faults": faults})


def _row(note: _Note) -> dict[str, Any]:
    return {
        "gateway": note.last.gateway,
        "code": note.last.code,
        "count": note.count,
        "first_at": answers.stamp(note.first_at),
        "last_at": answers.stamp(note.last_at),
        "detail": _shown(note.last.detail),
        "param": note.last.param or "",
    }


def _shown(detail: str) -> str:
    """A sentence without keys, nor what PostgreSQL or a terminal would not take: a client's path
    may be in it."""
    cut = str(without_keys(detail))[:_DETAIL_MAX]
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in cut)
