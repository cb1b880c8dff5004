"""Re-roll: buckets of a range made anew from the events that are in force."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import connection, transaction

from metering import statements
from metering.domain.meters import Aggregation, dimension_value, text_of
from metering.domain.spans import DAY, day_of, hour_after, hour_of, month_of
from metering.domain.windows import add_months
from metering.models import (
    DailyRollup,
    Meter,
    MonthlyRollup,
    Rollup,
    RollupMember,
    RollupReach,
)
from metering.operations.rolling_up import lock_slot, make_buckets, slot_of
from metering.queries.retention import gone_before

SPAN_MAX = timedelta(days=31)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ROWS_AT_ONCE = 2_000


class RangeInvalid(Exception):
    """A range cannot be rolled up anew: it is too long, or its events are gone."""


def reroll(
    customer_id: int,
    *,
    meter_ids: Sequence[int] | None = None,
    start_at: datetime,
    end_at: datetime,
) -> int:
    """Make a customer's buckets of a range anew from its effective events, of whatever kind.

    The range is widened to whole hours and may be 31 days long; without `meter_ids` it is for all
    meters. What waits to be rolled up for the range is taken out of its batches, for it is counted
    now; afterwards the buckets are what rolling up every event once had made of them. Days and
    months follow. One transaction; returns how many hourly buckets there are now. Raises
    RangeInvalid.
    """
    first, last = hour_of(start_at), hour_after(end_at)
    if not timedelta(0) <= last - first <= SPAN_MAX + DAY:
        raise RangeInvalid(f"A range ends after it begins, and is {SPAN_MAX.days} days at most.")
    with transaction.atomic():
        lock_slot(slot_of(customer_id))
        gone = gone_before()
        if gone is not None and first < gone:
            raise RangeInvalid(f"The events before {gone:%F %T}Z are dropped.")
        meters = dict(
            Meter.objects.filter(**({} if meter_ids is None else {"id__in": meter_ids}))
            .order_by("id")
            .values_list("id", "aggregation")
        )
        place: dict[str, Any] = {"customer_id": customer_id, "meter_id__in": list(meters)}
        buckets = _buckets(customer_id, meters, start_at=first, end_at=last)
        here = place | {"start_at__gte": first, "start_at__lt": last}
        for table in (Rollup, RollupMember):
            table.objects.filter(**here).delete()
        Rollup.objects.bulk_create(
            [bucket for bucket, _ in buckets.values()], batch_size=_ROWS_AT_ONCE
        )
        RollupMember.objects.bulk_create(
            [
                RollupMember(
                    customer_id=customer_id,
                    meter_id=bucket.meter_id,
                    start_at=bucket.start_at,
                    dimensions=bucket.dimensions,
                    member=member,
                )
                for bucket, members in buckets.values()
                for member in sorted(members)
            ],
            batch_size=_ROWS_AT_ONCE,
        )
        _remake_levels(customer_id, list(meters), start_at=first, end_at=last)
    return len(buckets)


def _buckets(
    customer_id: int, meters: dict[int, str], *, start_at: datetime, end_at: datetime
) -> dict[tuple[int, datetime, str], tuple[Rollup, set[str]]]:
    """The buckets of the range with their members, by meter, hour and dimensions."""
    found: dict[tuple[int, datetime, str], tuple[Rollup, set[str]]] = {}
    with connection.cursor() as cursor:
        cursor.execute(
            statements.load("take_events"),
            {
                "customer_id": customer_id,
                "meters": list(meters),
                "start_at": start_at,
                "end_at": end_at,
            },
        )
        rows: Iterable[tuple[Any, ...]] = cursor.fetchall()
    for meter_id, at, properties, *sums in rows:
        dimensions = _dimensions(json.loads(properties))
        key = (meter_id, at, json.dumps(dimensions, sort_keys=True))
        if key not in found:
            bucket = Rollup(
                customer_id=customer_id,
                meter_id=meter_id,
                start_at=at,
                dimensions=dimensions,
                quantity=0,
                events=0,
            )
            found[key] = (bucket, set())
        _add(*found[key], Aggregation(meters[meter_id]), *sums)
    return found


def _dimensions(properties: dict[str, object]) -> dict[str, str]:
    texts = ((name, text_of(value)) for name, value in properties.items())
    return {name: dimension_value(text) for name, text in texts if text is not None}


def _add(  # noqa: PLR0917  (a row of the statement)
    bucket: Rollup,
    members: set[str],
    aggregation: Aggregation,
    total: int | None,
    greatest: int | None,
    events: int,
    latest: tuple[int, int] | None,
    seen: list[str] | None,
) -> None:
    """Merge a row into its bucket: several sets of properties may have the same dimensions."""
    bucket.events += events
    match aggregation:
        case Aggregation.UNIQUE:
            members.update(seen or ())
            bucket.quantity = len(members)
        case Aggregation.LATEST:
            assert latest is not None
            at = _EPOCH + timedelta(microseconds=latest[0])
            if bucket.latest_at is None or (at, latest[1]) > (bucket.latest_at, bucket.quantity):
                bucket.latest_at, bucket.quantity = at, latest[1]
        case Aggregation.MAX:
            bucket.quantity = max(bucket.quantity, greatest or 0)
        case _:
            bucket.quantity += total or 0


def _remake_levels(
    customer_id: int, meters: list[int], *, start_at: datetime, end_at: datetime
) -> None:
    """Make the days and months anew that the range touches, as far as they reach."""
    slot = slot_of(customer_id)
    reach = RollupReach.objects.filter(slot=slot).first()
    if reach is None or reach.days_to is None or reach.months_to is None:
        return
    levels = (
        (
            DailyRollup,
            "roll_up_days",
            day_of(start_at),
            day_of(end_at - _TICK) + DAY,
            reach.days_to,
        ),
        (
            MonthlyRollup,
            "roll_up_months",
            month_of(start_at),
            add_months(month_of(end_at - _TICK), 1),
            reach.months_to,
        ),
    )
    for table, statement, first, last, reaches_to in levels:
        table.objects.filter(
            customer_id=customer_id,
            meter_id__in=meters,
            start_at__gte=first,
            start_at__lt=min(last, reaches_to),
        ).delete()
        make_buckets(
            statement,
            slot=slot,
            start_at=first,
            end_at=min(last, reaches_to),
            customer_id=customer_id,
            meter_ids=meters,
        )


_TICK = timedelta(microseconds=1)
