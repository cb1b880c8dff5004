from datetime import UTC, datetime, timedelta, timezone
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.domain.periods import (
    Interval,
    Period,
    PeriodEmpty,
    TimestampNaive,
    calendar_anchor,
    first_period,
    period_at,
    proration_fraction,
)

intervals = st.sampled_from(Interval)
instants = st.datetimes(
    min_value=datetime(1990, 1, 1),
    max_value=datetime(2090, 1, 1),
    timezones=st.just(UTC),
)


def day(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("anchor", "interval", "at", "start", "end"),
    [
        ("2026-01-31", "month", "2026-01-31", "2026-01-31", "2026-02-28"),
        ("2026-01-31", "month", "2026-02-27", "2026-01-31", "2026-02-28"),
        ("2026-01-31", "month", "2026-02-28", "2026-02-28", "2026-03-31"),
        ("2026-01-31", "month", "2026-03-31", "2026-03-31", "2026-04-30"),
        ("2026-01-31", "month", "2028-02-29", "2028-02-29", "2028-03-31"),
        ("2026-01-31", "month", "2028-02-10", "2028-01-31", "2028-02-29"),
        ("2026-01-31", "month", "2025-12-31", "2025-12-31", "2026-01-31"),
        ("2026-01-15", "month", "2025-12-14", "2025-11-15", "2025-12-15"),
        ("2026-01-30", "month", "2026-02-28", "2026-02-28", "2026-03-30"),
        ("2024-02-29", "year", "2025-02-28", "2025-02-28", "2026-02-28"),
        ("2024-02-29", "year", "2028-02-28", "2027-02-28", "2028-02-29"),
        ("2024-02-29", "year", "2028-02-29", "2028-02-29", "2029-02-28"),
        ("2024-06-01", "year", "2023-05-31", "2022-06-01", "2023-06-01"),
        ("2026-01-01", "week", "2026-01-08", "2026-01-08", "2026-01-15"),
        ("2026-01-01", "week", "2025-12-31", "2025-12-25", "2026-01-01"),
        ("2026-01-01T06:00", "day", "2026-01-02T05:59", "2026-01-01T06:00", "2026-01-02T06:00"),
        ("2026-01-01T06:00", "month", "2026-02-01T05:59", "2026-01-01T06:00", "2026-02-01T06:00"),
    ],
)
def test_periods_of_an_anchor(anchor: str, interval: str, at: str, start: str, end: str) -> None:
    found = period_at(day(anchor), interval=Interval(interval), at=day(at))
    assert found == Period(day(start), day(end))


@given(instants, intervals, instants)
def test_a_period_contains_its_instant(anchor: datetime, interval: Interval, at: datetime) -> None:
    found = period_at(anchor, interval=interval, at=at)
    assert found.contains(at)
    assert not found.contains(found.end_at)
    assert period_at(anchor, interval=interval, at=found.start_at) == found


@given(instants, intervals, instants)
def test_consecutive_periods_tile_time(anchor: datetime, interval: Interval, at: datetime) -> None:
    found = period_at(anchor, interval=interval, at=at)
    for _ in range(14):
        following = period_at(anchor, interval=interval, at=found.end_at)
        assert following.start_at == found.end_at
        last = found.end_at - timedelta(microseconds=1)
        assert period_at(anchor, interval=interval, at=last) == found
        found = following


@given(instants, intervals)
def test_the_anchor_starts_a_period(anchor: datetime, interval: Interval) -> None:
    assert period_at(anchor, interval=interval, at=anchor).start_at == anchor


@given(instants, intervals)
def test_calendar_anchor_is_the_boundary_before(at: datetime, interval: Interval) -> None:
    anchor = calendar_anchor(at, interval=interval)
    assert anchor <= at
    assert calendar_anchor(anchor, interval=interval) == anchor
    assert period_at(anchor, interval=interval, at=at).start_at == anchor


@pytest.mark.parametrize(
    ("interval", "anchor"),
    [
        (Interval.DAY, "2026-07-16"),
        (Interval.WEEK, "2026-07-13"),
        (Interval.MONTH, "2026-07-01"),
        (Interval.YEAR, "2026-01-01"),
    ],
)
def test_calendar_anchor(interval: Interval, anchor: str) -> None:
    assert calendar_anchor(day("2026-07-16T17:18:19"), interval=interval) == day(anchor)


def test_a_first_period_is_cut_short_by_the_anchor() -> None:
    start = day("2026-07-16")
    anchor = calendar_anchor(start, interval=Interval.MONTH)
    first = first_period(start, anchor_at=anchor, interval=Interval.MONTH)
    assert first == Period(start, day("2026-08-01"))
    second = first_period(first.end_at, anchor_at=anchor, interval=Interval.MONTH)
    assert second == Period(day("2026-08-01"), day("2026-09-01"))


def test_after_a_change_of_anchor_the_next_period_runs_to_the_next_boundary() -> None:
    before = Period(day("2026-07-01"), day("2026-07-20"))
    found = first_period(before.end_at, anchor_at=day("2026-01-05"), interval=Interval.MONTH)
    assert found == Period(day("2026-07-20"), day("2026-08-05"))


def test_periods_are_utc() -> None:
    abroad = datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=2)))
    found = Period(abroad, abroad + timedelta(hours=1))
    assert found.start_at.tzinfo is UTC
    assert found.start_at == datetime(2025, 12, 31, 22, tzinfo=UTC)
    assert found.seconds == 3600
    assert period_at(abroad, interval=Interval.MONTH, at=abroad).start_at == found.start_at


def test_naive_times_and_empty_periods_are_refused() -> None:
    with pytest.raises(TimestampNaive):
        Period(datetime(2026, 1, 1), day("2026-02-01"))
    with pytest.raises(TimestampNaive):
        period_at(day("2026-01-01"), interval=Interval.DAY, at=datetime(2026, 1, 1))
    with pytest.raises(PeriodEmpty):
        Period(day("2026-01-01"), day("2026-01-01"))


@given(instants, intervals, instants)
def test_proration_fraction_is_the_rest(anchor: datetime, interval: Interval, at: datetime) -> None:
    period = period_at(anchor, interval=interval, at=at)
    rest = proration_fraction(period, at=at)
    assert 0 < rest <= 1
    assert proration_fraction(period, at=period.start_at - timedelta(days=1)) == 1
    assert proration_fraction(period, at=period.end_at + timedelta(days=1)) == 0


def test_proration_fraction_counts_seconds() -> None:
    period = Period(day("2026-04-01"), day("2026-05-01"))
    at = period.end_at - timedelta(seconds=1)
    assert proration_fraction(period, at=at) == Fraction(1, 30 * 86400)
