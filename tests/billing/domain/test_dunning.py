from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.domain.dunning import (
    ATTEMPT_SETTLES_IN,
    SWEEP_EVERY,
    DunningStage,
    FailedPayment,
    grace_ends_at,
    in_grace,
    next_sweep_at,
    stage,
    sweep_due,
)

FAILED_AT = datetime(2026, 4, 1, 9, tzinfo=UTC)
DAY = timedelta(days=1)
INSTANT = timedelta(microseconds=1)


def failed(
    *, next_attempt_at: datetime | None = None, checked_at: datetime = FAILED_AT
) -> FailedPayment:
    return FailedPayment(FAILED_AT, 3, next_attempt_at, checked_at)


def test_grace_is_half_open() -> None:
    end = grace_ends_at(FAILED_AT, grace_days=3)
    assert end == datetime(2026, 4, 4, 9, tzinfo=UTC)
    assert in_grace(FAILED_AT, grace_days=3, now=end - INSTANT)
    assert not in_grace(FAILED_AT, grace_days=3, now=end)
    assert not in_grace(FAILED_AT, grace_days=0, now=FAILED_AT)


@pytest.mark.parametrize(
    ("days", "next_attempt_at", "expected"),
    [
        (2, None, DunningStage.GRACE),
        (2, FAILED_AT + 5 * DAY, DunningStage.GRACE),
        (3, FAILED_AT + 5 * DAY, DunningStage.OVERDUE),
        (3, None, DunningStage.EXHAUSTED),
    ],
)
def test_stages(days: int, next_attempt_at: datetime | None, expected: DunningStage) -> None:
    assert stage(failed(next_attempt_at=next_attempt_at), now=FAILED_AT + days * DAY) == expected


def test_the_sweep_looks_soon_after_an_announced_attempt() -> None:
    attempt = FAILED_AT + timedelta(hours=5)
    payment = failed(next_attempt_at=attempt)
    assert next_sweep_at(payment) == attempt + ATTEMPT_SETTLES_IN
    assert not sweep_due(payment, now=attempt)
    assert sweep_due(payment, now=attempt + ATTEMPT_SETTLES_IN)


@pytest.mark.parametrize("days", [None, 4, -1])
def test_the_sweep_looks_daily_in_any_case(days: int | None) -> None:
    attempt = None if days is None else FAILED_AT + days * DAY
    assert next_sweep_at(failed(next_attempt_at=attempt)) == FAILED_AT + SWEEP_EVERY


@given(st.none() | st.integers(-(10**6), 10**6), st.integers(0, 10**6))
def test_the_next_look_lies_within_a_day_of_the_last(
    attempt_in: int | None, checked_in: int
) -> None:
    attempt = None if attempt_in is None else FAILED_AT + timedelta(seconds=attempt_in)
    checked = FAILED_AT + timedelta(seconds=checked_in)
    due = next_sweep_at(failed(next_attempt_at=attempt, checked_at=checked))
    assert checked < due <= checked + SWEEP_EVERY
