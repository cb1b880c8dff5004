"""Roll-up: what the gate counted becomes hourly buckets, exactly once."""

from __future__ import annotations

from django.db import connection, transaction

from metering import statements


def roll_up(*, limit: int) -> int:
    """Add up to `limit` waiting batches to the rollups, delete them, and say how many there were.

    Claim, sums and deletion are one transaction: any number of workers, and any of them dying,
    count every batch once. Batches that another worker has claimed are left to it.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statements.load("roll_up"), {"limit": limit})
        (handled,) = cursor.fetchone()
    return int(handled)


def roll_up_waiting(*, limit: int, rounds: int) -> int:
    """Roll up until less than `limit` batches wait or `rounds` are done; each round as `roll_up`.

    Returns how many batches there were.
    """
    total = 0
    for _ in range(rounds):
        handled = roll_up(limit=limit)
        total += handled
        if handled < limit:
            break
    return total
