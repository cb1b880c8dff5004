"""Counting from the events themselves, to show that a number is right."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connection

from metering import statements
from metering.queries.retention import gone_before


@dataclass(frozen=True, slots=True)
class Recount:
    """How many events count on the meter, and what they come to in its unit."""

    events: int
    quantity: int


def recounted(
    customer_id: int, *, meter_id: int, start_at: datetime, end_at: datetime
) -> Recount | None:
    """What the effective events with `occurred_at` in `[start_at, end_at)` come to, each read.

    None where some of them may have been dropped by now.
    """
    gone = gone_before()
    if gone is not None and start_at < gone:
        return None
    asked: dict[str, Any] = {
        "customer_id": customer_id,
        "meter_id": meter_id,
        "start_at": start_at,
        "end_at": end_at,
    }
    with connection.cursor() as cursor:
        cursor.execute(statements.load("recount"), asked)
        row = cursor.fetchone()
    return Recount(*row) if row else Recount(0, 0)
