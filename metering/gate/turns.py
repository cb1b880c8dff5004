"""Long work of the loop in pieces: between two of them whoever asks one thing is served."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

PIECE = 64  # items: some milliseconds of work
LONG = 16 * 1_024  # bytes of a body: more takes as long to read


class Turns:
    """One piece of long work a round of the loop, whoever has it, in the order of asking.

    Without that, each of several flights and readers of large bodies has a piece in each round, and
    a single call, which takes some rounds, waits for all of them each time.
    """

    def __init__(self, are_needed: Callable[[], bool]) -> None:
        self._are_needed = are_needed
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def turn(self) -> None:
        """Return when a piece may be done."""
        if not self._are_needed():
            return
        loop = asyncio.get_running_loop()
        mine = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._next, loop)
        self._waiting.append(mine)
        await mine

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let the first go on who still waits."""
        while self._waiting:
            first = self._waiting.popleft()
            if not first.done():  # whoever was cancelled needs none
                first.set_result(None)
                break
        if self._waiting:
            loop.call_soon(self._next, loop)
