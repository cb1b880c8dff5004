"""Partitions of usage events: one for each month received, made ahead of time."""

from __future__ import annotations

from datetime import date, datetime

from django.db import connection, transaction

from metering.domain.windows import add_months

_BEHIND, _AHEAD = 1, 3


def make_partitions(*, now: datetime) -> list[str]:
    """Make sure that partitions of last month to three months ahead exist; returns their names.

    Idempotent, and safe beside itself: the database's function takes a lock of its own. Fails where
    somebody keeps the table for long; it is to be tried again later.
    """
    first = now.replace(day=1)
    months: list[date] = [add_months(first, n).date() for n in range(-_BEHIND, _AHEAD + 1)]
    with transaction.atomic(), connection.cursor() as cursor:
        # Every call would wait behind who waits for this lock: three months ahead, there is time.
        cursor.execute("SET LOCAL lock_timeout = '300ms'")
        cursor.execute(
            "SELECT metering_make_partition(month) FROM unnest(%s::date[]) AS month", [months]
        )
        return [name for (name,) in cursor.fetchall()]
