"""Which months of raw events nothing needs any more."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Final

from metering.domain.spans import hour_of, month_of
from metering.domain.windows import add_months

# How many months of receipt a repeated id is recognised in, besides the current one: 59 days at
# least.
DEDUPE_MONTHS: Final = 2
# Events may come 90 days late as well: fewer months than this are never kept.
KEPT_MONTHS_LEAST: Final = 3
# By how much the clocks of gates and workers may differ where one deletes what another one reads.
CLOCKS_DIFFER: Final = timedelta(days=1)
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


def horizon(today: date) -> date:
    """The oldest month of receipt in which a repeated id is still recognised."""
    index = today.year * 12 + today.month - 1 - DEDUPE_MONTHS
    return date(index // 12, index % 12 + 1, 1)


def holds_kept_from(now: datetime) -> datetime:
    """Before which time a hold must have closed to be forgotten: before every month of `horizon`.

    So the event that it was settled with is no longer looked for either, by whatever clock.
    """
    month = horizon((now - CLOCKS_DIFFER).date())
    return datetime(month.year, month.month, 1, tzinfo=UTC)


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
