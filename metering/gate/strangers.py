"""Keys that no gateway is known to have: perhaps one was just made, perhaps somebody guesses.

Only the database can tell, and asking it for the catalogue costs far more than sending a key that
is well-formed. So a few look at once, and after that all who come share a look now and then.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from metering.gate.catalogue import Catalogue

AT_ONCE = 4  # looks that nobody waits for
EVERY_S = 1.0  # then one begins in this time


class Strangers:
    """Has the catalogue read for whoever is not in it, at most as often as is said above."""

    def __init__(self, read: Callable[[], Awaitable[Catalogue]], *, every_s: float) -> None:
        self._read = read
        self._every_s = every_s
        self._free_at = 0.0  # when the next look may begin
        self._next: asyncio.Task[Catalogue] | None = None  # the look that has not begun
        self._looks: set[asyncio.Task[Catalogue]] = set()

    async def look(self) -> Catalogue:
        """The catalogue as it was read after this was called; raises what reading raises.

        May be cancelled: the others of the same look go on.
        """
        if self._next is None:
            self._next = asyncio.get_running_loop().create_task(self._look())
            self._looks.add(self._next)
            self._next.add_done_callback(self._looks.discard)
        return await asyncio.shield(self._next)

    async def stop(self) -> None:
        """End the looks that are under way or not begun."""
        looks = [*self._looks]
        for look in looks:
            look.cancel()
        await asyncio.gather(*looks, return_exceptions=True)

    async def _look(self) -> Catalogue:
        now = time.monotonic()
        begin = max(self._free_at, now - (AT_ONCE - 1) * self._every_s)
        self._free_at = begin + self._every_s
        if begin > now:
            await asyncio.sleep(begin - now)
        self._next = None  # whoever comes from here on may know of a key that is made just now
        return await self._read()
