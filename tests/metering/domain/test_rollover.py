"""metering.domain.rollover: what goes on from one window into the next."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.domain.rollover import rolled_over, rolls
from metering.domain.windows import UNITS

numbers = st.integers(0, 10**12)


@given(included=numbers, most=numbers, used=numbers)
def test_what_goes_on_was_included_and_is_unused(included: int, most: int, used: int) -> None:
    gone_on = rolled_over(included=included, most=most, used=used)
    assert 0 <= gone_on <= min(most, included)
    assert gone_on + used <= max(included, used)


@given(included=numbers, most=numbers, used=numbers, late=numbers)
def test_late_usage_takes_back_only_what_nobody_took(
    included: int, most: int, used: int, late: int
) -> None:
    before = rolled_over(included=included, most=most, used=used)
    for taken in (0, before // 2, before):
        after = rolled_over(included=included, most=most, used=used + late, taken=taken)
        assert taken <= after <= before


@pytest.mark.parametrize(
    ("included", "most", "used", "expected"),
    [(100, 50, 0, 50), (100, 50, 70, 30), (100, 50, 130, 0), (100, 0, 0, 0), (10, 50, 4, 6)],
)
def test_by_hand(included: int, most: int, used: int, expected: int) -> None:
    assert rolled_over(included=included, most=most, used=used) == expected


def test_only_windows_that_end_and_are_long_enough_roll() -> None:
    assert [unit for unit in UNITS if rolls(unit)] == ["day", "week", "month", "year"]
