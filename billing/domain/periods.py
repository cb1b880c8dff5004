"""Billing periods: half-open stretches of time that tile the calendar from an anchor.

Period number *n* of a monthly subscription starts *n* months after its anchor, on the
anchor's day, or on the month's last day where the month is shorter: anchor January 31 gives
February 28 (29), March 31, April 30. Each start is counted from the anchor, never from the
start before, so that a short month does not shorten the ones behind it. All in UTC. The
arithmetic is the one of metering's windows, so that a limit per period and the bill of the
period always mean the same time.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from fractions import Fraction
from typing import assert_never

from metering.domain.windows import anchored_window


class TimestampNaive(Exception):
    """A time without a zone names no instant."""

    def __init__(self, at: datetime) -> None:
        super().__init__(f"{at.isoformat()} has no time zone.")


class PeriodEmpty(Exception):
    """A period must end after it starts."""

    def __init__(self, start_at: datetime, end_at: datetime) -> None:
        super().__init__(f"A period cannot run from {start_at} to {end_at}.")


class Interval(StrEnum):
    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    YEAR = "year"


@dataclass(frozen=True, slots=True)
class Period:
    """``[start_at, end_at)``, aware and kept in UTC; never empty."""

    start_at: datetime
    end_at: datetime

    def __post_init__(self) -> None:
        object.__setattr__(self, "start_at", _utc(self.start_at))
        object.__setattr__(self, "end_at", _utc(self.end_at))
        if self.start_at >= self.end_at:
            raise PeriodEmpty(self.start_at, self.end_at)

    def contains(self, at: datetime) -> bool:
        return self.start_at <= at < self.end_at

    @property
    def seconds(self) -> int:
        """Length in whole seconds."""
        return (self.end_at - self.start_at) // timedelta(seconds=1)


def period_at(anchor_at: datetime, *, interval: Interval, at: datetime) -> Period:
    """The period of this anchor that contains ``at`` (which may lie before the anchor)."""
    return Period(*anchored_window(_utc(anchor_at), unit=interval, at=_utc(at)))


def first_period(start_at: datetime, *, anchor_at: datetime, interval: Interval) -> Period:
    """From ``start_at`` to the next boundary of the anchor: short where they do not meet."""
    return Period(start_at, period_at(anchor_at, interval=interval, at=start_at).end_at)


def calendar_anchor(at: datetime, *, interval: Interval) -> datetime:
    """The latest calendar boundary not after ``at``: midnight UTC, of a Monday, of the first
    of a month, of January 1. As an anchor it makes periods follow the calendar."""
    midnight = _utc(at).replace(hour=0, minute=0, second=0, microsecond=0)
    match interval:
        case Interval.DAY:
            return midnight
        case Interval.WEEK:
            return midnight - timedelta(days=midnight.weekday())
        case Interval.MONTH:
            return midnight.replace(day=1)
        case Interval.YEAR:
            return midnight.replace(month=1, day=1)
        case _:
            assert_never(interval)


def proration_fraction(period: Period, *, at: datetime) -> Fraction:
    """The exact share of ``period`` that lies at or after ``at``: 1 at or before its start,
    0 at or after its end."""
    left = period.end_at - min(max(_utc(at), period.start_at), period.end_at)
    microsecond = timedelta(microseconds=1)
    return Fraction(left // microsecond, (period.end_at - period.start_at) // microsecond)


def _utc(at: datetime) -> datetime:
    if at.tzinfo is None:
        raise TimestampNaive(at)
    return at.astimezone(UTC)
