"""Whether a worker's clock may be worked by: it must be near the database's, as a gate's must.

A worker whose clock is far off would close periods, expire grants and holds, charge and delete too
early or too late. So each task compares the two before it begins, and is left undone where they are
too far apart: its rows stay, and a worker whose clock is right finds them.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

import structlog
from celery import Task
from django.db import connection
from django.db.models import F

from config import environment as env

log = structlog.get_logger(__name__)
# What asks for no time: sums are the same whenever they are made.
TIMELESS: Final = frozenset({"metering.roll_up"})
REFUSED: Final = "clock_refused_tasks"
WORKER_OFF: Final = "worker_clock_off"


def ahead_of_database() -> timedelta:
    """By how much this process's clock is ahead of the database's; negative where it is behind."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        (theirs,) = cursor.fetchone()
    found: timedelta = datetime.now(UTC) - theirs
    return found


def too_far_apart(ahead: timedelta) -> str:
    """How far the clock is off, where that is more than FAREBOX_CLOCKS_APART_S; else ""."""
    seconds = ahead.total_seconds()
    if abs(seconds) <= env.CLOCKS_APART_S.read():
        return ""
    return f"{abs(seconds):,.0f} s {'ahead of' if seconds > 0 else 'behind'} the database's"


class GuardedTask(Task):  # type: ignore[type-arg]  # generic for the type checker only
    """A task that is not begun by a clock that is too far off; it answers None then."""

    abstract = True

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Do it, or say in the log, /readyz and /metrics that it was not done."""
        if self.name not in TIMELESS:
            ahead = ahead_of_database()
            if off := too_far_apart(ahead):
                self._refuse(off, ahead)
                return None
        return super().__call__(*args, **options)

    def _refuse(self, off: str, ahead: timedelta) -> None:
        from accounts.operations.heartbeats import beat
        from metering.models import Tally

        log.error(
            "task.refused",
            task=self.name,
            clock=off,
            help="Set right the clock of this worker's machine, or of the database's; it goes on "
            "by itself. Until then nothing is done by it.",
        )
        beat(WORKER_OFF, now=datetime.now(UTC) - ahead)
        Tally.objects.get_or_create(name=REFUSED)
        Tally.objects.filter(name=REFUSED).update(count=F("count") + 1)
