"""The simulator's clock: real time plus an offset that can be moved."""

from __future__ import annotations

import time

from billing.payments.simulator.store import Store


class Clock:
    """Unix seconds that tick like the real ones and can be moved; the offset is stored."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._offset = int(store.setting("clock_offset") or 0)

    def now(self) -> int:
        """Return the simulated time in Unix seconds."""
        return int(time.time()) + self._offset

    def set_to(self, now: int) -> None:
        """Make `now` the present."""
        self._offset = now - int(time.time())
        self._store.set_setting("clock_offset", str(self._offset))

    def follow_real_time(self) -> None:
        """Forget every move."""
        self._offset = 0
        self._store.set_setting("clock_offset", "0")
