"""Backfills for tests: opened for ten days ago, filled and applied."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from accounts.models import Customer
from metering.models import Backfill, Meter, StagedEvent
from metering.operations.applying import apply_backfills
from metering.operations.backfilling import Supplied, open_backfill
from tests.factories.metering import NOW

BY: dict[str, Any] = {"actor": "opk_1", "now": NOW}
DAY = timedelta(days=1)
START, END = NOW - 10 * DAY, NOW - 5 * DAY


def backfill(customer: Customer, meter: Meter, **members: Any) -> Backfill:
    given: dict[str, Any] = {
        "mode": Backfill.Mode.ADD,
        "event_type": meter.event_type,
        "customer_ids": [customer.id],
        "start_at": START,
        "end_at": END,
        "reason": "the gateway was down",
        **BY,
        **members,
    }
    return open_backfill(**given)


def event(
    customer: Customer | None, number: int, tokens: Any = 1, *, at: datetime = START, **members: Any
) -> Supplied:
    given: dict[str, Any] = {"source": "archive", "external_id": f"old-{number}", **members}
    return Supplied(
        customer_id=customer.id if customer else None,
        occurred_at=at,
        properties={"tokens": tokens},
        **given,
    )


def applied(*, limit: int = 100, pieces: int = 100) -> int:
    return apply_backfills(now=NOW, limit=limit, pieces=pieces)


def outcomes(found: Backfill) -> list[str]:
    rows = StagedEvent.objects.filter(backfill_id=found.id)
    return list(rows.order_by("external_id").values_list("outcome", flat=True))
