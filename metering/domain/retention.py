"""Which months of raw events nothing needs any more."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Final

from metering.domain.spans import hour_of, month_of
from metering.domain.windows import add_months

# Repeated ids are recognised for two months beside the current one (metering/gate/rows.py), and
# events may come 90 days late: fewer months than this are never kept.
KEPT_MONTHS_LEAST: Final = 3
# An event may lie a little ahead of the time at which it was received.
AHEAD: Final = timedelta(hours=1)
# How far before a moment the window may begin that lies around it.
LONGEST: Final = {
    "minute": timedelta(minutes=1),
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
    "week": timedelta(days=7),
    "month": timedelta(days=31),
    "year": timedelta(days=366),
}


def gone_until(month: date) -> datetime:
    """Before which time events may be gone once those received in that month are."""
    return add_months(datetime(month.year, month.month, 1, tzinfo=UTC), 1) + AHEAD


def retirable(
    months: Iterable[date], *, now: datetime, kept_months: int, needed_from: datetime
) -> list[date]:
    """The months of receipt that may go, oldest first.

    Kept are the current month, `kept_months` before it (KEPT_MONTHS_LEAST at least), and every
    month that may hold an event from the hour of `needed_from` on. No month goes before an older
    one, so that what is gone always is all there was before some moment.
    """
    first_kept = add_months(month_of(now), -max(kept_months, KEPT_MONTHS_LEAST)).date()
    going = []
    for month in sorted(months):
        if month >= first_kept or gone_until(month) > hour_of(needed_from):
            break
        going.append(month)
    return going


def windows_needed_from(units: Iterable[str], *, now: datetime) -> datetime:
    """Since when events may be asked for by a window of these units that lasts at `now`.

    A lifetime asks for whole hours only, which rollups have.
    """
    lengths = [LONGEST[unit] for unit in units if unit in LONGEST]
    return now - max(lengths, default=timedelta(0))
