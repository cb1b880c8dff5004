"""How many calls are let in, so that each is answered soon; and how fast others are refused.

By Little's law, calls that are inside wait for `inside / rate` on average. While more are inside
than are answered within the wait that is allowed, the gate refuses what comes beyond that. A batch
is as many calls as it has checks; where there is room for one it is let in whole. A burst, or a
database that stalls for a moment, is no overload: what is inside must stay too much for a quarter
of a second of answers.

Refusing costs too. Of those that come faster than `REFUSALS` a second each waits for its refusal,
for a second or two at most, so that callers that ask again at once leave the time for those let in.
"""

from __future__ import annotations

import math

LEAST = 64  # calls let in, however slow their answers are
LOOK_S = 0.05  # of answers, for a rate
TOLERATED_S = 0.25
CALM_S = 1.0  # without a refusal, and the overload is over
REFUSALS = 1_000.0
REFUSAL_S = 1.0  # how far ahead refusals queue up; those beyond are spread over as much again
_GOLDEN = 0.618_033_988_75  # its multiples, without their whole parts, are spread evenly


class Room:
    """Counts who is inside. Times are seconds of one clock that does not go back."""

    def __init__(self, wait_s: float) -> None:
        self._wait_s = wait_s
        self.inside = 0
        self.limit = math.inf
        self._rate = 0.0  # calls answered a second
        self._left = 0  # since the last look
        self._looked_at = 0.0
        self._over_since: float | None = None
        self._refused_at = self._told_at = -math.inf
        self._spread = 0.0

    @property
    def full(self) -> bool:
        """Whether who comes now would wait too long."""
        return self.inside >= self.limit

    def enter(self, now: float, calls: int = 1) -> None:
        """Let some in together; they must leave together."""
        if not self.inside:  # the time in which nobody was here says nothing of how fast we are
            self._left, self._looked_at = 0, now
            self._over_since = None
            if now - self._refused_at >= CALM_S:
                self.limit = math.inf
        self.inside += calls

    def leave(self, now: float, calls: int = 1) -> None:
        """These have their answers."""
        self.inside -= calls
        self._left += calls
        if now - self._looked_at >= LOOK_S:
            self._look(now)

    def refuse(self, now: float) -> float:
        """Count one who is refused; for how many seconds that must wait before it is told."""
        if self._wait_s == math.inf:
            return 0.0
        self._refused_at = now
        told_at = max(now, self._told_at + 1 / REFUSALS)
        if told_at - now <= REFUSAL_S:
            self._told_at = told_at
            return told_at - now
        self._spread = (self._spread + _GOLDEN) % 1  # told all at once, they would ask all at once
        return REFUSAL_S * (1 + self._spread)

    def _look(self, now: float) -> None:
        rate = self._left / (now - self._looked_at)
        self._rate = (self._rate + rate) / 2
        self._left, self._looked_at = 0, now
        allowed = max(LEAST, self._rate * self._wait_s)
        if self.inside <= allowed:
            self._over_since = None
        elif self._over_since is None:
            self._over_since = now
        tight = self.limit < math.inf and now - self._refused_at < CALM_S
        if not tight and self._over_since is not None:
            tight = now - self._over_since >= TOLERATED_S
        self.limit = allowed if tight else math.inf
