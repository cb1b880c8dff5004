"""How much was used: exact at any moment, whatever part of it has been rolled up."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, assert_never

from django.db import connection

from metering import statements
from metering.domain.meters import dimension_value, text_of
from metering.domain.windows import add_months

Bucket = Literal["hour", "day", "month", "total"]
_HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class UsagePoint:
    """Usage of one meter in `[start_at, end_at)` under one group of dimensions."""

    start_at: datetime
    end_at: datetime
    group: dict[str, str]
    quantity: int


def usage_total(customer_id: int, *, meter_id: int, start_at: datetime, end_at: datetime) -> int:
    """Σ usage events with `occurred_at` in `[start_at, end_at)`, in the meter's unit.

    Any instants are allowed; an empty or inverted span has no usage. One statement, one snapshot.
    """
    if end_at <= start_at:
        return 0
    with connection.cursor() as cursor:
        cursor.execute(
            statements.load("usage_total"),
            {"customer_id": customer_id, "meter_id": meter_id, **_parts(start_at, end_at)},
        )
        (total,) = cursor.fetchone()
    return int(total or 0)


def usage(
    customer_id: int,
    *,
    meter_id: int,
    start_at: datetime,
    end_at: datetime,
    bucket: Bucket = "total",
    group_by: Sequence[str] = (),
) -> list[UsagePoint]:
    """The same by buckets of time (UTC) and dimensions, in order; buckets without usage are absent.

    The first and last bucket are cut to the span. Events that lack a dimension are in the groups
    without it. Summed up, the points are `usage_total`.
    """
    if end_at <= start_at:
        return []
    with connection.cursor() as cursor:
        cursor.execute(
            statements.load("usage"),
            {
                "customer_id": customer_id,
                "meter_id": meter_id,
                # A millennium is enough of a bucket for all of it.
                "bucket": "millennium" if bucket == "total" else bucket,
                "dimensions": list(group_by),
                **_parts(start_at, end_at),
            },
        )
        rows: list[tuple[datetime, str | None, Any]] = cursor.fetchall()
    sums: dict[tuple[datetime, tuple[tuple[str, str], ...]], int] = defaultdict(int)
    for at, properties, quantity in rows:
        first = start_at if bucket == "total" else max(at.astimezone(UTC), start_at)
        sums[first, _group(properties, group_by)] += int(quantity)
    return [
        UsagePoint(first, min(_bucket_end(first, bucket, end_at), end_at), dict(group), quantity)
        for (first, group), quantity in sorted(sums.items())
        if quantity
    ]


def _parts(start_at: datetime, end_at: datetime) -> dict[str, datetime]:
    """The span as whole hours and the ragged edges before and after them."""
    start_at, end_at = start_at.astimezone(UTC), end_at.astimezone(UTC)
    floor = start_at.replace(minute=0, second=0, microsecond=0)
    whole_from = floor if floor == start_at else floor + _HOUR
    whole_to = max(end_at.replace(minute=0, second=0, microsecond=0), whole_from)
    return {
        "start_at": start_at,
        "head_to": min(whole_from, end_at),
        "whole_from": whole_from,
        "whole_to": whole_to,
        "end_at": end_at,
    }


def _group(stored: str | None, names: Sequence[str]) -> tuple[tuple[str, str], ...]:
    properties = json.loads(stored or "{}")
    found = []
    for name in names:
        text = text_of(properties.get(name))
        if text is not None:
            found.append((name, dimension_value(text)))
    return tuple(found)


def _bucket_end(first: datetime, bucket: Bucket, end_at: datetime) -> datetime:
    match bucket:
        case "hour":
            return first.replace(minute=0, second=0, microsecond=0) + _HOUR
        case "day":
            return first.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
        case "month":
            month = first.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
            return add_months(month, 1)
        case "total":
            return end_at
        case _:
            assert_never(bucket)
