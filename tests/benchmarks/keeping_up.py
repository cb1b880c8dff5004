"""Rolls up what waits, until it is ended: what the Celery worker does, without the broker."""

from __future__ import annotations

import time

import django

django.setup()

from metering.operations.rolling_up import roll_up_waiting  # noqa: E402
from metering.tasks import BATCHES_AT_ONCE, ROUNDS_AT_ONCE  # noqa: E402

_PAUSE_S = 0.05


def main() -> None:
    """Claim and roll up batches; a short pause where none waits."""
    while True:
        if not roll_up_waiting(limit=BATCHES_AT_ONCE, rounds=ROUNDS_AT_ONCE):
            time.sleep(_PAUSE_S)


if __name__ == "__main__":
    main()
