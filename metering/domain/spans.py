"""A span of time cut into the parts that fit months, days and hours, and its ragged edges."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from metering.domain.windows import add_months

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
_HALF = timedelta(minutes=30)


@dataclass(frozen=True, slots=True)
class Parts:
    """`[start, end)` as whole hours, of which some are whole days, of which some whole months.

    `[whole_from, whole_to)` ⊇ `[day_from, day_to)` ⊇ `[month_from, month_to)`; each may be empty.
    To the whole hours the events of the edges are added (sign 1), or, where an edge is nearly an
    hour, the whole hour is counted and what lies outside the span is taken off (sign -1).
    """

    whole_from: datetime
    whole_to: datetime
    day_from: datetime
    day_to: datetime
    month_from: datetime
    month_to: datetime
    head_from: datetime
    head_to: datetime
    head_sign: int
    tail_from: datetime
    tail_to: datetime
    tail_sign: int


def hour_of(moment: datetime) -> datetime:
    """The start of its hour, in UTC."""
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def day_of(moment: datetime) -> datetime:
    """The start of its day, in UTC."""
    return hour_of(moment).replace(hour=0)


def month_of(moment: datetime) -> datetime:
    """The start of its calendar month, in UTC."""
    return day_of(moment).replace(day=1)


def hour_after(moment: datetime) -> datetime:
    """The first whole hour that is not before it."""
    floor = hour_of(moment)
    return floor if floor == moment else floor + HOUR


def parts_of(start_at: datetime, end_at: datetime, *, adds_up: bool, coarsest: str) -> Parts:
    """Cut the span. `adds_up`: whether something can be taken off; `coarsest`: hour, day or month.

    `end_at` must be after `start_at`.
    """
    start_at, end_at = start_at.astimezone(UTC), end_at.astimezone(UTC)
    first, last = hour_after(start_at), hour_of(end_at)
    if first > last:  # within one hour
        whole_from = whole_to = first
        head, head_sign = (start_at, end_at), 1
        tail, tail_sign = (end_at, end_at), 1
    else:
        whole_from, head, head_sign = first, (start_at, first), 1
        if adds_up and first - start_at > _HALF:
            whole_from, head, head_sign = first - HOUR, (first - HOUR, start_at), -1
        whole_to, tail, tail_sign = last, (last, end_at), 1
        if adds_up and end_at - last > _HALF:
            whole_to, tail, tail_sign = last + HOUR, (end_at, last + HOUR), -1
    day_from = day_to = whole_to
    if coarsest != "hour":
        day_from = min(_day_after(whole_from), whole_to)
        day_to = max(day_of(whole_to), day_from)
    month_from = month_to = day_to
    if coarsest == "month":
        month_from = min(_month_after(day_from), day_to)
        month_to = max(month_of(day_to), month_from)
    return Parts(
        whole_from, whole_to, day_from, day_to, month_from, month_to, *head, head_sign, *tail,
        tail_sign,
    )  # fmt: skip


def _day_after(moment: datetime) -> datetime:
    floor = day_of(moment)
    return floor if floor == moment else floor + DAY


def _month_after(moment: datetime) -> datetime:
    floor = month_of(moment)
    return floor if floor == moment else add_months(floor, 1)
