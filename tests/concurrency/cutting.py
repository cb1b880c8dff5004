"""A way to PostgreSQL that breaks: it forwards bytes, and cuts connections at random places.

A cut comes before a piece of bytes that one side sent reaches the other: a statement that never
arrives, or the confirmation of a commit that is lost on its way back.
"""

from __future__ import annotations

import asyncio
import random
import threading
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit, urlunsplit

_PIECE = 65_536


class Cutter:
    """Listens in a folder as the server does in its own; cuts until it is told to stop."""

    def __init__(self, dsn: str, folder: Path, *, seed: int) -> None:
        parts = urlsplit(dsn)
        (server,) = parse_qs(parts.query)["host"]
        self._server = next(Path(server).glob(".s.PGSQL.*[0-9]"))
        self._here = folder / self._server.name
        self.dsn = urlunsplit(parts._replace(query=urlencode({"host": str(folder)})))
        self._chance = random.Random(seed)
        self.cuts = {"there": 0, "back": 0}  # by which way the lost piece was going
        self.cutting = True
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(20)

    def stop(self) -> None:
        """End all connections."""
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(20)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(20)
        self._loop.close()

    async def _listen(self) -> None:
        self._listening = await asyncio.start_unix_server(self._serve, self._here)

    async def _end(self) -> None:
        self._listening.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for each in others:
            each.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, near: asyncio.StreamReader, to_near: asyncio.StreamWriter) -> None:
        try:
            far, to_far = await asyncio.open_unix_connection(self._server)
        except OSError:
            to_near.close()
            return
        left = [self._chance.randrange(2, 80)]  # pieces until the cut, both ways together
        ways = [
            asyncio.ensure_future(self._forward(near, to_far, "there", left)),
            asyncio.ensure_future(self._forward(far, to_near, "back", left)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            to_near.close()
            to_far.close()

    async def _forward(
        self, near: asyncio.StreamReader, far: asyncio.StreamWriter, way: str, left: list[int]
    ) -> None:
        try:
            while piece := await near.read(_PIECE):
                left[0] -= 1
                if self.cutting and left[0] <= 0:
                    self.cuts[way] += 1
                    return
                far.write(piece)
                await far.drain()
        except OSError:
            return
