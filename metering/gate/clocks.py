"""Whether a gate's clock may be decided by: it must be near the database's.

Times of receipt decide in which months a repeated id is looked for, so what is written by a clock
that is months off would be counted again when that is mended. The statement that writes compares
the two clocks, so this takes no round trip of its own.
"""

from __future__ import annotations

import logging
import math
import time

from metering.gate.wire import Problem

log = logging.getLogger(__name__)
SAID_EVERY_S = 60.0


class ClockOff(Exception):
    """The clock is too far from the database's; nothing was written by it."""

    def __init__(self, ahead_s: float) -> None:
        """`ahead_s`: by how much it is ahead; negative where it is behind."""
        side = "ahead of" if ahead_s > 0 else "behind"
        sentence = f"The gate's clock is {abs(ahead_s):,.0f} s {side} the database's"
        super().__init__(sentence)
        self.problem = Problem(
            "unavailable", f"{sentence}: nothing is decided by it; retry with the same id."
        )


class ClockWatch:
    """Says in the log that the clock is off, once a minute, and that it no longer is."""

    def __init__(self) -> None:
        self._off = False
        self._said_at = -math.inf

    def is_off(self, found: ClockOff) -> None:
        """Take note of a clock that is off."""
        now = time.monotonic()
        if not self._off or now - self._said_at >= SAID_EVERY_S:
            log.error("%s; calls are answered 503 until one of them is set right", found)
            self._said_at = now
        self._off = True

    def agrees(self) -> None:
        """Take note of a clock that is right."""
        if self._off:
            log.warning("the gate's clock agrees with the database's again")
            self._off = False
