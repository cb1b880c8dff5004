"""When a connection of the gate makes its pinned plans anew.

A plan that was made while a table or a partition was empty picks a poor index, and must not stay.
Making plans takes longer than what they are for, so it is done less and less often.
"""

from __future__ import annotations

import math
from datetime import date

FIRST_S, MOST_S = 5.0, 300.0  # between two times: twice as long after each


class Plans:
    """Of one connection. Times are seconds of one clock that does not go back."""

    def __init__(self) -> None:
        self._due_at = -math.inf
        self._pause_s = FIRST_S
        self._month: date | None = None

    def are_due(self, now: float, *, month: date) -> bool:
        """Whether to make them now, for writes into that month; who is told so does it."""
        if month != self._month:  # its partition is as empty as all were
            self._month, self._due_at, self._pause_s = month, now, FIRST_S
        if now < self._due_at:
            return False
        self._due_at = now + self._pause_s
        self._pause_s = min(2 * self._pause_s, MOST_S)
        return True
