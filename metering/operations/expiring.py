"""Holds that were forgotten: expire them and give back what they reserved."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from django.db import connection, transaction
from django.db.models import F

from accounts.operations.versions import bump
from metering import statements
from metering.models import Hold, Tally

SWEPT = "swept_holds"


def expire_holds(*, now: datetime, limit: int) -> int:
    """Expire the overdue holds of up to `limit` customers; returns how many holds there were.

    One transaction per customer, begun by raising its version: a settle at the same moment either
    came first, and then the hold is no longer open here, or finds it expired. How many there were
    is counted at the end: a worker that is killed before leaves those of this call uncounted.
    """
    overdue = Hold.objects.filter(state=Hold.State.OPEN, expires_at__lte=now)
    customers = overdue.values_list("customer_id", flat=True).distinct().order_by("customer_id")
    found = sum(_expire_of(customer_id, now=now) for customer_id in list(customers[:limit]))
    if found:
        Tally.objects.get_or_create(name=SWEPT)
        Tally.objects.filter(name=SWEPT).update(count=F("count") + found)
    return found


def _expire_of(customer_id: int, *, now: datetime) -> int:
    with transaction.atomic():
        bump(customer_id)
        return give_back(customer_id, now=now)


def give_back(customer_id: int, *, also: UUID | None = None, now: datetime) -> int:
    """Expire the customer's overdue holds, and another open one; returns how many there were.

    In the transaction of the caller. The caller has raised the customer's version.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            statements.load("expire_holds"),
            {"customer_id": customer_id, "also": also, "now": now},
        )
        (expired,) = cursor.fetchone()
    return int(expired)
