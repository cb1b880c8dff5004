"""metering.domain.spans: a span cut into its parts loses nothing and doubles nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.domain.spans import (
    Parts,
    day_of,
    hour_after,
    hour_of,
    month_of,
    parts_of,
)

moments = st.datetimes(datetime(2025, 11, 1), datetime(2026, 4, 1), timezones=st.just(UTC))
near_hours = st.builds(
    lambda hour, minutes: (
        datetime(2026, 1, 30, tzinfo=UTC) + timedelta(hours=hour, minutes=minutes)
    ),
    st.integers(0, 80),
    st.sampled_from([0, 1, 29, 30, 31, 59]),
)


def seconds(start: datetime, end: datetime) -> int:
    return int((end - start) / timedelta(microseconds=1))


@given(
    pair=st.tuples(moments, moments) | st.tuples(near_hours, near_hours),
    adds_up=st.booleans(),
    coarsest=st.sampled_from(["hour", "day", "month"]),
)
def test_the_parts_are_the_span(
    pair: tuple[datetime, datetime], adds_up: bool, coarsest: str
) -> None:
    start, end = min(pair), max(pair)
    if start == end:
        end += timedelta(microseconds=1)
    parts = parts_of(start, end, adds_up=adds_up, coarsest=coarsest)
    assert parts.whole_from <= parts.day_from <= parts.month_from
    assert parts.month_from <= parts.month_to <= parts.day_to <= parts.whole_to
    _check_borders(parts)
    covered = seconds(parts.whole_from, parts.whole_to)
    covered += parts.head_sign * seconds(parts.head_from, parts.head_to)
    covered += parts.tail_sign * seconds(parts.tail_from, parts.tail_to)
    assert covered == seconds(start, end)
    if not adds_up:
        assert (parts.head_sign, parts.tail_sign) == (1, 1)
        assert start <= parts.whole_from <= parts.whole_to <= hour_after(end)
    for edge_from, edge_to in (
        (parts.head_from, parts.head_to),
        (parts.tail_from, parts.tail_to),
    ):
        assert timedelta(0) <= edge_to - edge_from < timedelta(hours=1)
        if adds_up and parts.whole_from < parts.whole_to:
            assert edge_to - edge_from <= timedelta(minutes=30)
    if coarsest == "hour":
        assert parts.day_from == parts.day_to
    if coarsest != "month":
        assert parts.month_from == parts.month_to


def _check_borders(parts: Parts) -> None:
    assert hour_of(parts.whole_from) == parts.whole_from
    assert hour_of(parts.whole_to) == parts.whole_to
    if parts.day_from < parts.day_to:
        assert day_of(parts.day_from) == parts.day_from
        assert day_of(parts.day_to) == parts.day_to
    if parts.month_from < parts.month_to:
        assert month_of(parts.month_from) == parts.month_from
        assert month_of(parts.month_to) == parts.month_to


def test_a_span_worked_by_hand() -> None:
    at = datetime(2026, 1, 30, 22, 10, tzinfo=UTC)
    until = datetime(2026, 3, 2, 3, 50, tzinfo=UTC)
    parts = parts_of(at, until, adds_up=True, coarsest="month")
    assert (parts.whole_from, parts.head_from, parts.head_to, parts.head_sign) == (
        at.replace(minute=0), at.replace(minute=0), at, -1,
    )  # fmt: skip
    assert (parts.whole_to, parts.tail_from, parts.tail_to, parts.tail_sign) == (
        until.replace(hour=4, minute=0), until, until.replace(hour=4, minute=0), -1,
    )  # fmt: skip
    assert (parts.day_from.day, parts.day_to.day) == (31, 2)
    assert (parts.month_from, parts.month_to) == (
        datetime(2026, 2, 1, tzinfo=UTC),
        datetime(2026, 3, 1, tzinfo=UTC),
    )


@pytest.mark.parametrize("hours", [-11, 0, 5])
def test_hours_and_days_are_those_of_utc(hours: int) -> None:
    moment = datetime(2026, 3, 1, 0, 30, 5, 7, tzinfo=UTC)
    there = moment.astimezone(timezone(timedelta(hours=hours)))
    assert hour_of(there) == datetime(2026, 3, 1, tzinfo=UTC)
    assert day_of(there) == month_of(there) == datetime(2026, 3, 1, tzinfo=UTC)
    assert hour_after(there) == datetime(2026, 3, 1, 1, tzinfo=UTC)
    assert hour_after(hour_of(there)) == hour_of(there)
