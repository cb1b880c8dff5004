"""Rolls up what waits whenever the beat would have it, until it is ended: without the broker."""

from __future__ import annotations

import time

import django

django.setup()

from config.celery import BEAT  # noqa: E402
from metering.operations.rolling_up import roll_up_waiting  # noqa: E402
from metering.tasks import BATCHES_AT_ONCE, ROUNDS_AT_ONCE  # noqa: E402

EVERY_S = BEAT["metering.roll_up"]


def main() -> None:
    """Roll up as often as the beat asks, or again at once where that took longer."""
    due_at = time.monotonic()
    while True:
        roll_up_waiting(limit=BATCHES_AT_ONCE, rounds=ROUNDS_AT_ONCE)
        due_at += EVERY_S
        time.sleep(max(due_at - time.monotonic(), 0))


if __name__ == "__main__":
    main()
