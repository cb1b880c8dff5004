"""Celery as Farebox configures it, with a beat that has usage rolled up every moment.

`celery -A tests.concurrency.hasty beat`: hours every 0.4 seconds, and days and months too, which
are looked at every ten minutes elsewhere. None of it expires soon: on a busy machine messages wait
longer than it is from one to the next.
"""

from __future__ import annotations

from config.celery import app

EVERY_S = 0.4
for name in ("metering.roll_up", "metering.roll_up_days"):
    app.conf.beat_schedule[name] |= {"schedule": EVERY_S, "options": {"expires": 600.0}}
