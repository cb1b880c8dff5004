"""Windows tile time, whatever the anchor."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.domain.windows import FOREVER, UNITS, add_months, anchored_window

moments = st.datetimes(
    min_value=datetime(1990, 1, 1), max_value=datetime(2100, 1, 1), timezones=st.just(UTC)
)
tiling = st.sampled_from([unit for unit in UNITS if unit != "lifetime"])


@given(anchor_at=moments, at=moments, unit=tiling)
def test_the_window_contains_its_moment(anchor_at: datetime, at: datetime, unit: str) -> None:
    start_at, end_at = anchored_window(anchor_at, unit=unit, at=at)
    assert start_at <= at < end_at


@given(anchor_at=moments, at=moments, unit=tiling)
def test_windows_follow_each_other_without_gap_or_overlap(
    anchor_at: datetime, at: datetime, unit: str
) -> None:
    start_at, end_at = anchored_window(anchor_at, unit=unit, at=at)
    assert anchored_window(anchor_at, unit=unit, at=end_at)[0] == end_at
    before = anchored_window(anchor_at, unit=unit, at=start_at - timedelta(microseconds=1))
    assert before[1] == start_at


@given(anchor_at=moments, unit=tiling)
def test_a_window_begins_at_the_anchor(anchor_at: datetime, unit: str) -> None:
    assert anchored_window(anchor_at, unit=unit, at=anchor_at)[0] == anchor_at


def test_a_lifetime_has_one_window() -> None:
    anchor_at = datetime(2026, 1, 1, tzinfo=UTC)
    for at in (anchor_at, anchor_at + timedelta(days=9_999), anchor_at - timedelta(days=1)):
        assert anchored_window(anchor_at, unit="lifetime", at=at) == (anchor_at, FOREVER)


@pytest.mark.parametrize(
    ("anchor", "at", "start", "end"),
    [
        ("2026-01-31", "2026-02-15", "2026-01-31", "2026-02-28"),
        ("2026-01-31", "2026-02-28", "2026-02-28", "2026-03-31"),
        ("2026-01-31", "2026-03-30", "2026-02-28", "2026-03-31"),
        ("2026-01-31", "2026-04-30", "2026-04-30", "2026-05-31"),
        ("2023-12-31", "2024-02-29", "2024-02-29", "2024-03-31"),
        ("2026-01-15", "2026-01-14", "2025-12-15", "2026-01-15"),
    ],
)
def test_months_end_right(anchor: str, at: str, start: str, end: str) -> None:
    days = [datetime.fromisoformat(f"{day}T00:00:00+00:00") for day in (anchor, at, start, end)]
    assert anchored_window(days[0], unit="month", at=days[1]) == (days[2], days[3])


def test_a_leap_day_is_every_year_the_last_of_february() -> None:
    anchor_at = datetime(2024, 2, 29, tzinfo=UTC)
    at = datetime(2027, 6, 1, tzinfo=UTC)
    assert anchored_window(anchor_at, unit="year", at=at) == (
        datetime(2027, 2, 28, tzinfo=UTC),
        datetime(2028, 2, 29, tzinfo=UTC),
    )
    assert add_months(anchor_at, -12) == datetime(2023, 2, 28, tzinfo=UTC)
