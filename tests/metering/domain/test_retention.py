"""metering.domain.retention: what goes is old, needed by nobody, and all of it."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.domain.retention import (
    AHEAD,
    CLOCKS_DIFFER,
    KEPT_MONTHS_LEAST,
    LONGEST,
    gone_until,
    holds_kept_from,
    horizon,
    retirable,
    windows_needed_from,
)
from metering.domain.windows import UNITS, add_months, anchored_window

NOW = datetime(2026, 11, 15, 12, 30, tzinfo=UTC)
MONTHS = [add_months(datetime(2025, 12, 1, tzinfo=UTC), n).date() for n in range(15)]


def test_as_many_months_stay_as_are_asked_for() -> None:
    going = retirable(MONTHS, now=NOW, kept_months=6, needed_from=NOW)
    assert going == MONTHS[:5]
    assert going[-1] == date(2026, 4, 1)


def test_never_fewer_than_repeats_and_late_events_need() -> None:
    assert retirable(MONTHS, now=NOW, kept_months=0, needed_from=NOW)[-1] == date(2026, 7, 1)


@pytest.mark.parametrize(
    ("needed_from", "last"),
    [
        (datetime(2026, 3, 1, 2, tzinfo=UTC), date(2026, 2, 1)),
        (datetime(2026, 3, 1, 1, 59, tzinfo=UTC), date(2026, 2, 1)),
        # An event of this hour may have been received in February, a little ahead of its time.
        (datetime(2026, 3, 1, 0, 59, tzinfo=UTC), date(2026, 1, 1)),
        (datetime(2026, 1, 1, 1, tzinfo=UTC), date(2025, 12, 1)),
    ],
)
def test_what_an_invoice_may_ask_for_stays(needed_from: datetime, last: date) -> None:
    assert retirable(MONTHS, now=NOW, kept_months=3, needed_from=needed_from)[-1] == last


def test_nothing_goes_that_is_needed_from_the_beginning() -> None:
    needed_from = datetime(2025, 12, 3, tzinfo=UTC)
    assert retirable(MONTHS, now=NOW, kept_months=3, needed_from=needed_from) == []


@given(
    months=st.lists(st.sampled_from(MONTHS), unique=True),
    kept=st.integers(0, 12),
    needed_days=st.integers(0, 400),
)
def test_what_goes_is_the_oldest_and_ends_before_all_that_is_needed(
    months: list[date], kept: int, needed_days: int
) -> None:
    needed_from = NOW - timedelta(days=needed_days)
    going = retirable(months, now=NOW, kept_months=kept, needed_from=needed_from)
    assert going == sorted(months)[: len(going)]
    for month in going:
        received_until = add_months(datetime(month.year, month.month, 1, tzinfo=UTC), 1)
        assert received_until + AHEAD == gone_until(month) <= needed_from
        assert received_until <= add_months(NOW, -KEPT_MONTHS_LEAST)


@given(
    anchor=st.datetimes(datetime(2020, 1, 1), datetime(2028, 1, 1), timezones=st.just(UTC)),
    at=st.datetimes(datetime(2020, 1, 1), datetime(2028, 1, 1), timezones=st.just(UTC)),
    unit=st.sampled_from([unit for unit in UNITS if unit != "lifetime"]),
)
def test_a_window_begins_no_earlier_than_its_longest(
    anchor: datetime, at: datetime, unit: str
) -> None:
    start_at, _ = anchored_window(anchor, unit=unit, at=at)
    assert windows_needed_from([unit, "lifetime"], now=at) == at - LONGEST[unit] <= start_at


def test_without_windows_nothing_is_asked_for() -> None:
    assert windows_needed_from(["lifetime"], now=NOW) == NOW


@given(now=st.datetimes(datetime(2020, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)))
def test_a_hold_is_forgotten_no_sooner_than_the_id_of_its_event(now: datetime) -> None:
    last = holds_kept_from(now) - timedelta(microseconds=1)
    for clock in (now - CLOCKS_DIFFER, now, now + CLOCKS_DIFFER):
        assert last.date() < horizon(clock.date())
    # And no more than a month and a day later.
    assert (now - holds_kept_from(now)).days <= 31 + 30 + 31 + CLOCKS_DIFFER.days
