"""Roll-up: what the gate counted becomes hourly buckets, exactly once; hours become days, months.

Locks: who adds to buckets holds the locks of all slots shared, who rewrites buckets of a slot or
raises its reach holds the lock of that slot alone. They last as long as the transaction, so a
worker that dies leaves none behind.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from django.db import connection, transaction

from metering import statements
from metering.models import RollupReach
from metering.models.rollups import SLOTS

# Late events that come within these hours after midnight still find the day open, which is
# cheaper than adding them to it afterwards.
DAY_GRACE = timedelta(hours=2)
_EVERY_SLOT = (
    "SELECT pg_advisory_xact_lock_shared(hashtext('metering_rollup'), slot)"
    " FROM generate_series(0, %s) AS slot"
)
_ONE_SLOT = (
    "SELECT pg_advisory_xact_lock(hashtext('metering_rollup'), %s)"
    " WHERE to_regclass('pg_temp.metering_rollup') IS NULL"  # a trial's buckets are its own
)


def slot_of(customer_id: int) -> int:
    """The slot a customer's coarser buckets are made with; the statements reckon it as well."""
    return customer_id & (SLOTS - 1)


def lock_slot(slot: int) -> None:
    """Keep everybody else from the buckets of a slot until the end of this transaction."""
    with connection.cursor() as cursor:
        cursor.execute(_ONE_SLOT, [slot])


def roll_up(*, limit: int) -> int:
    """Add up to `limit` waiting batches to the rollups, delete them, and say how many there were.

    Claim, sums and deletion are one transaction: any number of workers, and any of them dying,
    count every batch once. Batches that another worker has claimed are left to it.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_EVERY_SLOT, [SLOTS - 1])
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


def roll_up_days(*, now: datetime, slots: Iterable[int] = range(SLOTS)) -> int:
    """Make the days and months that are over out of hours; returns how many buckets were made.

    A day is over two hours after midnight (UTC). Each slot of customers is one transaction that
    raises its reach with the buckets it makes, so it is done once by whoever comes first; run
    again, or by many at once, it makes nothing.
    """
    days_to = (now - DAY_GRACE).replace(hour=0, minute=0, second=0, microsecond=0)
    return sum(_raise_reach(slot, days_to=days_to) for slot in slots)


def _raise_reach(slot: int, *, days_to: datetime) -> int:
    if RollupReach.objects.filter(slot=slot, days_to__gte=days_to).exists():
        return 0
    months_to = days_to.replace(day=1)
    with transaction.atomic():
        lock_slot(slot)
        reach = RollupReach.objects.filter(slot=slot).first() or RollupReach(slot=slot)
        if reach.days_to is not None and reach.days_to >= days_to:
            return 0  # another worker came first
        made = make_buckets("roll_up_days", slot=slot, start_at=reach.days_to, end_at=days_to)
        if reach.months_to is None or reach.months_to < months_to:
            made += make_buckets(
                "roll_up_months", slot=slot, start_at=reach.months_to, end_at=months_to
            )
        reach.days_to, reach.months_to = days_to, months_to
        reach.save()
    return made


def make_buckets(
    statement: str,
    *,
    slot: int,
    start_at: datetime | None,
    end_at: datetime,
    customer_id: int | None = None,
    meter_ids: list[int] | None = None,
) -> int:
    """Make the days or months of a span, of one customer and some meters or of the whole slot.

    The caller holds the slot's lock; there must be no buckets in the span yet.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            statements.load(statement),
            {
                "slot": slot,
                "start_at": start_at,
                "end_at": end_at,
                "customer_id": customer_id,
                "meters": meter_ids,
            },
        )
        (made,) = cursor.fetchone()
    return int(made)
