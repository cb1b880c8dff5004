"""What is included where terms change inside a window: shares of time, and nothing minted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.domain.blending import Included, blended_included, included_in

START, END = datetime(2026, 4, 1, tzinfo=UTC), datetime(2026, 5, 1, tzinfo=UTC)
APRIL = (START, END)
DAY = timedelta(days=1)
units = st.integers(0, 10**12)
moments = st.integers(0, 30 * 86_400).map(lambda second: START + timedelta(seconds=second))


@given(units, units, moments)
def test_included_units_are_blended_by_time(old: int, new: int, at: datetime) -> None:
    blended = blended_included(old, old=old, new=new, window=APRIL, at=at)
    assert min(old, new) <= blended <= max(old, new)


def test_a_better_plan_for_the_last_day_includes_a_day_of_it() -> None:
    last_day = END - DAY
    assert blended_included(1000, old=1000, new=31_000, window=APRIL, at=last_day) == 2000
    assert blended_included(0, old=31_000, new=1000, window=APRIL, at=START) == 0


def month(quantity: int | None) -> Included:
    return Included(quantity, "month")


@pytest.mark.parametrize(
    ("stood", "included"),
    [
        ([], 0),
        ([(START, month(3000))], 3000),
        ([(START - 9 * DAY, month(3000))], 3000),
        ([(START + 15 * DAY, month(3000))], 1500),  # began in the middle
        ([(START, month(3000)), (START + 15 * DAY, month(6000))], 4500),
        ([(START, month(3000)), (START + 15 * DAY, month(0))], 1500),
        ([(START, month(3000)), (START + 10 * DAY, month(6000)), (END - DAY, month(3000))], 4900),
        ([(START, month(None)), (START + 15 * DAY, month(3000))], 3000),
        ([(START, month(3000)), (START + DAY, month(None)), (END - DAY, month(3000))], 3000),
        ([(START, month(3000)), (START + DAY, month(None))], 3000),
        # 100 a day are 3041 a month; a lifetime is no span of time.
        ([(START, Included(100, "day")), (START + 15 * DAY, month(6082))], 4562),
        ([(START, Included(100, "lifetime")), (START + 15 * DAY, month(3000))], 1500),
    ],
)
def test_what_a_month_includes(stood: list[tuple[datetime, Included]], included: int) -> None:
    assert included_in(APRIL, unit="month", stood=stood) == included


@pytest.mark.parametrize("unit", ["lifetime", "hour", "minute"])
def test_what_is_no_share_of_time_is_whole(unit: str) -> None:
    stood = [(START, Included(5, unit)), (START + DAY, Included(7, unit))]
    assert included_in(APRIL, unit=unit, stood=stood) == 7


changes = st.lists(st.tuples(moments, st.integers(0, 10**6)), min_size=1, max_size=12).map(
    lambda found: sorted(found, key=lambda each: each[0])
)


@given(changes)
def test_no_sequence_includes_more_than_the_time_at_the_best_terms_so_far(
    found: list[tuple[datetime, int]],
) -> None:
    """As fees are charged: the dearest terms so far until the window's end."""
    stood = [(at, month(quantity)) for at, quantity in found]
    worth, best = 0.0, 0
    for (at, quantity), (until, _) in zip(found, [*found[1:], (END, 0)], strict=True):
        best = max(best, quantity)
        rest = (END - at) if until == END else (until - at)
        worth += best * (rest / (END - START))
    assert included_in(APRIL, unit="month", stood=stood) <= worth + 1
