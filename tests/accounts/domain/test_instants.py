"""Leap seconds are read where RFC 3339 has them, and nowhere else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accounts.domain.instants import read_instant

LAST = datetime(2016, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        "2016-12-31T23:59:60Z",
        "2016-12-31T23:59:60.000Z",
        "2016-12-31 23:59:60.5Z",
        "2016-12-31T15:59:60-08:00",
        "2017-01-01T05:29:60.25+05:30",
    ],
)
def test_a_leap_second_is_the_end_of_the_second_before(text: str) -> None:
    assert read_instant(text) == LAST


def test_without_an_offset_it_stays_without_one() -> None:
    assert read_instant("2016-12-31T23:59:60") == LAST.replace(tzinfo=None)


def test_read_in_another_way() -> None:
    def read(text: str) -> datetime:
        return datetime.strptime(text, "%d/%b/%Y:%H:%M:%S %z")

    assert read_instant("31/Dec/2016:23:59:60 +0000", read=read) == LAST
    assert read_instant("01/Jan/2017:01:59:60 +0200", read=read) == LAST


@pytest.mark.parametrize(
    "text",
    [
        "2016-12-31T23:59:61Z",
        "2016-12-31T23:58:60Z",
        "2016-12-30T23:59:60Z",
        "2016-12-31T23:59:60+01:00",
        "2016-12-31T23:60:00Z",
        "2016-12-31T23:59:600Z",
        "0001-01-01T00:59:60+01:00",
    ],
)
def test_no_other_second_has_a_sixtieth(text: str) -> None:
    with pytest.raises((ValueError, OverflowError)):
        read_instant(text)


@given(
    st.datetimes(timezones=st.just(UTC)),
    st.integers(-14 * 60, 14 * 60),
)
def test_all_other_times_are_read_as_they_are(at: datetime, minutes: int) -> None:
    try:
        text = at.astimezone(timezone(timedelta(minutes=minutes))).isoformat()
    except OverflowError:
        return
    assert read_instant(text) == at


def test_an_offset_with_a_sixtieth_minute_is_no_leap_second() -> None:
    text = "2016-12-31T23:59:59+01:60"
    assert read_instant(text) == datetime.fromisoformat(text)
