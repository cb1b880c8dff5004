"""Windows: half-open spans `[start, end)` in which a limit counts, anchored and in UTC.

Months and years are counted from the anchor itself, never from the previous window, so that a
start on the 31st gives 28 Feb, 31 Mar, 30 Apr … and not ever shorter months.
"""

from __future__ import annotations

from calendar import monthrange
from datetime import UTC, datetime, timedelta
from typing import Literal, get_args

Unit = Literal["minute", "hour", "day", "week", "month", "year", "lifetime"]
UNITS: tuple[Unit, ...] = get_args(Unit)
FOREVER = datetime(9999, 1, 1, tzinfo=UTC)
# A window of an hour or less: waiting alone cures a full one, so it is answered 429.
RATE_UNITS: frozenset[str] = frozenset({"minute", "hour"})
_LENGTH: dict[str, timedelta] = {
    "minute": timedelta(minutes=1),
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
    "week": timedelta(weeks=1),
}
_MONTHS = {"month": 1, "year": 12}


def add_months(moment: datetime, months: int) -> datetime:
    """Return the moment `months` later; a day the month lacks becomes its last day."""
    index = moment.year * 12 + (moment.month - 1) + months
    year, month = divmod(index, 12)
    day = min(moment.day, monthrange(year, month + 1)[1])
    return moment.replace(year=year, month=month + 1, day=day)


def anchored_window(anchor_at: datetime, *, unit: str, at: datetime) -> tuple[datetime, datetime]:
    """Return the window of `unit`, counted from the anchor, that contains `at` (before it too).

    Windows of one anchor and unit tile time without gap or overlap. A lifetime has one window,
    from the anchor on; what happened before the anchor still belongs to it.
    """
    if unit == "lifetime":
        return anchor_at, FOREVER
    length = _LENGTH.get(unit)
    if length is not None:
        start = anchor_at + (at - anchor_at) // length * length
        return start, start + length
    step = _MONTHS[unit]
    months = (at.year - anchor_at.year) * 12 + at.month - anchor_at.month
    count = months // step * step
    if add_months(anchor_at, count) > at:
        count -= step
    return add_months(anchor_at, count), add_months(anchor_at, count + step)
