"""How much was used: exact at any moment, whatever part of it has been rolled up."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from datetime import UTC, datetime
from typing import Any, Final, Literal, NamedTuple, assert_never

import msgspec
from django.db import connection

from metering import statements
from metering.domain.meters import Aggregation, dimension_value, text_of
from metering.domain.spans import DAY, HOUR, Parts, day_of, hour_of, month_of, parts_of
from metering.domain.windows import add_months
from metering.models import Meter, MeterVersion
from metering.queries.retention import gone_before

Bucket = Literal["hour", "day", "month", "total"]
Group = tuple[tuple[str, str], ...]
_PARTS: Final = tuple(each.name for each in fields(Parts))
_SPANS_AT_ONCE: Final = 1_000
# Start in Unix seconds, dimensions as JSON, quantity, time of the latest in microseconds.
_BUCKETS = msgspec.json.Decoder(list[tuple[int, str, int, int | None]])


class EventsGone(Exception):
    """An edge of the span lies in an hour whose events were dropped: ask for whole hours there."""

    param = "from"


class UsageOf(NamedTuple):
    """The usage of one meter by one customer in `[start_at, end_at)`."""

    customer_id: int
    meter_id: int
    start_at: datetime
    end_at: datetime


class UsagePoint(NamedTuple):
    """Usage of one meter in `[start_at, end_at)` under one group of dimensions."""

    start_at: datetime
    end_at: datetime
    group: Mapping[str, str]
    quantity: int


def usage_total(customer_id: int, *, meter_id: int, start_at: datetime, end_at: datetime) -> int:
    """What the effective events with `occurred_at` in `[start_at, end_at)` count as, in units.

    Their sum, the greatest, the latest or the number of different ones, by the meter's
    aggregation; 0 without any. Any instants are allowed; an empty or inverted span has no usage.
    One statement, one snapshot. Raises EventsGone.
    """
    if end_at <= start_at:
        return 0
    asked = _asked(customer_id, meter_id, start_at, end_at, bucket="total", group_by=())
    if asked["aggregation"] is Aggregation.UNIQUE:
        return sum(number for _, _, _, number in _rows("usage_members", asked))
    asked["meter_ids"] = [meter_id]
    return sum(int(total) for _, total in _rows("usage_total", asked))


def usage_totals(asked: Iterable[UsageOf]) -> dict[UsageOf, int]:
    """`usage_total` of each: those of meters that add up by one statement for a thousand spans of
    customers, whatever number of meters they have. Raises EventsGone."""
    found = dict.fromkeys(asked, 0)
    inside = [each for each in found if each.start_at < each.end_at]
    kinds = dict(
        Meter.objects.filter(id__in={each.meter_id for each in inside}).values_list(
            "id", "aggregation"
        )
    )
    spans: dict[tuple[int, datetime, datetime], list[int]] = {}
    for each in inside:
        customer_id, meter_id, start_at, end_at = each
        if Aggregation(kinds[meter_id]).adds_up:
            spans.setdefault((customer_id, start_at, end_at), []).append(meter_id)
        else:
            found[each] = usage_total(
                customer_id, meter_id=meter_id, start_at=start_at, end_at=end_at
            )
    places = list(spans.items())
    for first in range(0, len(places), _SPANS_AT_ONCE):
        piece = places[first : first + _SPANS_AT_ONCE]
        for place, meter_id, total in _totals(piece):
            (customer_id, start_at, end_at), _ = piece[place]
            found[UsageOf(customer_id, meter_id, start_at, end_at)] = int(total)
    return found


def _totals(
    places: Sequence[tuple[tuple[int, datetime, datetime], list[int]]],
) -> list[tuple[Any, ...]]:
    known: dict[tuple[datetime, datetime], Parts] = {}
    asked = []
    for place, ((customer_id, start_at, end_at), meter_ids) in enumerate(places):
        parts = known.get((start_at, end_at))
        if parts is None:
            parts = parts_of(start_at, end_at, adds_up=True, coarsest="month")
            known[start_at, end_at] = parts
        row = {name: getattr(parts, name) for name in _PARTS}
        asked.append({"place": place, "customer_id": customer_id, "meter_ids": meter_ids, **row})
    with connection.cursor() as cursor:
        cursor.execute(
            statements.load("usage_totals"), {"asked": msgspec.json.encode(asked).decode()}
        )
        rows = list(cursor.fetchall())
    refuse_what_is_gone(
        edge
        for parts in known.values()
        for edge in ((parts.head_from, parts.head_to), (parts.tail_from, parts.tail_to))
    )
    return rows


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
    without it. Where a meter sums or counts, the points sum up to `usage_total`. Raises EventsGone.
    """
    if end_at <= start_at:
        return []
    asked = _asked(customer_id, meter_id, start_at, end_at, bucket=bucket, group_by=group_by)
    start_at, end_at = start_at.astimezone(UTC), end_at.astimezone(UTC)
    if asked["aggregation"] is Aggregation.UNIQUE:
        sums = _members(_rows("usage_members", asked), group_by)
    else:
        ((buckets,),) = _rows("usage", asked)
        sums = _merged(buckets or b"[]", group_by, asked["aggregation"])
    spans = {
        at: _span(at, bucket, start_at=start_at, end_at=end_at)
        for at in sorted({at for at, _ in sums})
    }
    points = sorted((at, group, quantity) for (at, group), quantity in sums.items() if quantity)
    groups = {group: dict(group) for _, group in sums}
    return [UsagePoint(*spans[at], groups[group], number) for at, group, number in points]


def _asked(
    customer_id: int,
    meter_id: int,
    start_at: datetime,
    end_at: datetime,
    *,
    bucket: Bucket,
    group_by: Sequence[str],
) -> dict[str, Any]:
    """The parameters of the statements."""
    aggregation, first = Meter.objects.values_list("aggregation", "dimensions").get(id=meter_id)
    kind = Aggregation(aggregation)
    named = set(first)
    if group_by:
        for later in MeterVersion.objects.filter(meter_id=meter_id):
            named |= set(later.dimensions)
    parts = parts_of(
        start_at,
        end_at,
        adds_up=kind.adds_up,
        coarsest="month" if bucket == "total" else bucket,
    )
    return {
        "customer_id": customer_id,
        "meter_id": meter_id,
        "aggregation": kind,
        # A millennium is enough of a bucket for all of it.
        "bucket": "millennium" if bucket == "total" else bucket,
        "dimensions": list(group_by),
        "others": sorted(named - set(group_by)),
        "first": first,
        **asdict(parts),
    }


def refuse_what_is_gone(edges: Iterable[tuple[datetime, datetime]]) -> None:
    """Raises EventsGone where events of one of these parts of hours may have been dropped.

    To be called after the statement that reads them: what was dropped in between is known only
    then.
    """
    asked = [edge for edge in edges if edge[0] < edge[1]]
    if not asked:
        return
    gone = gone_before()
    for first, last in asked:
        if gone is not None and first < gone:
            raise EventsGone(
                f"The events before {gone:%Y-%m-%d} are dropped: {first:%FT%T}Z to {last:%FT%T}Z"
                " can be told in whole hours only."
            )


def _rows(name: str, asked: dict[str, Any]) -> list[tuple[Any, ...]]:
    ends = [(asked["head_from"], asked["head_to"]), (asked["tail_from"], asked["tail_to"])]
    parts = frozenset({"edge"}) if any(first < last for first, last in ends) else frozenset[str]()
    with connection.cursor() as cursor:
        cursor.execute(statements.load(name, parts), asked)
        rows = list(cursor.fetchall())
    refuse_what_is_gone(ends)
    return rows


def _merged(
    buckets: str | bytes, group_by: Sequence[str], aggregation: Aggregation
) -> dict[tuple[int, Group], int]:
    """One quantity by bucket and group; the groups may come in several parts."""
    group_of = _grouping(group_by)
    found: dict[tuple[int, Group], tuple[int, int]] = {}
    for at, properties, quantity, latest_us in _BUCKETS.decode(buckets):
        key, this = (at, group_of(properties)), (latest_us or 0, quantity)
        earlier = found.setdefault(key, this)
        if earlier is this:
            continue
        if aggregation is Aggregation.LATEST:
            found[key] = max(earlier, this)
        elif aggregation is Aggregation.MAX:
            found[key] = (0, max(earlier[1], quantity))
        else:
            found[key] = (0, earlier[1] + quantity)
    return {key: quantity for key, (_, quantity) in found.items()}


def _members(
    rows: Iterable[tuple[datetime, str, str | None, int]], group_by: Sequence[str]
) -> dict[tuple[int, Group], int]:
    if not group_by:
        return {(int(at.timestamp()), ()): number for at, _, _, number in rows}
    group_of = _grouping(group_by)
    found: dict[tuple[int, Group], set[str | None]] = {}
    for at, properties, member, _ in rows:
        found.setdefault((int(at.timestamp()), group_of(properties)), set()).add(member)
    return {key: len(members) for key, members in found.items()}


def _grouping(names: Sequence[str]) -> Callable[[str], Group]:
    """What turns properties into the group they are in; the same text is read only once."""
    known: dict[str, Group] = {}

    def group_of(stored: str) -> Group:
        group = known.get(stored)
        if group is None:
            properties = json.loads(stored)
            texts = ((name, text_of(properties.get(name))) for name in names)
            group = tuple((name, dimension_value(text)) for name, text in texts if text is not None)
            known[stored] = group
        return group

    return group_of


def _span(
    at_s: int, bucket: Bucket, *, start_at: datetime, end_at: datetime
) -> tuple[datetime, datetime]:
    """The bucket that begins then (Unix seconds), cut to the span."""
    at = datetime.fromtimestamp(at_s, UTC)
    match bucket:
        case "hour":
            first = hour_of(at)
            last = first + HOUR
        case "day":
            first = day_of(at)
            last = first + DAY
        case "month":
            first = month_of(at)
            last = add_months(first, 1)
        case "total":
            first, last = start_at, end_at
        case _:
            assert_never(bucket)
    return max(first, start_at), min(last, end_at)
