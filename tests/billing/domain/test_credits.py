"""Which credit is used first, and that no cent is used twice."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from billing.domain.credits import AvailableCredit, draw, using_order

NOW = datetime(2026, 10, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def credit(
    number: int, left: int = 100, *, priority: int = 0, ends: int | None = None, age: int = 0
) -> AvailableCredit:
    expires_at = None if ends is None else NOW + ends * DAY
    return AvailableCredit(number, left, priority, expires_at, NOW - age * DAY)


some_credits = st.lists(
    st.builds(
        credit,
        st.integers(1, 10**6),
        st.integers(0, 10**6),
        priority=st.integers(0, 2),
        ends=st.none() | st.integers(0, 3),
        age=st.integers(0, 3),
    ),
    unique_by=lambda each: each.id,
)


def test_priority_then_expiry_then_age() -> None:
    wanted = [
        credit(5, priority=0),
        credit(3, priority=1, ends=1),
        credit(6, priority=1, ends=2),
        credit(4, priority=1, age=9),
        credit(1, priority=1, age=1),
        credit(2, priority=1, age=1),
    ]
    assert using_order(sorted(wanted, key=lambda each: each.id)) == wanted
    assert draw(wanted, amount=250) == {5: 100, 3: 100, 6: 50}


@given(some_credits, st.integers(0, 10**7))
def test_what_there_is_is_used_and_no_more(found: list[AvailableCredit], amount: int) -> None:
    drawn = draw(found, amount=amount)
    left = {each.id: each.left for each in found}
    assert sum(drawn.values()) == min(amount, sum(left.values()))
    assert all(0 < part <= left[number] for number, part in drawn.items())
    # Whatever comes before the last one that was used is used up.
    order = [each.id for each in using_order(found) if each.left]
    used = order[: len(drawn)]
    assert set(used) == set(drawn)
    assert all(drawn[number] == left[number] for number in used[:-1])


def test_a_credit_lasts_until_the_end_of_the_period() -> None:
    assert credit(1).covers(NOW)
    assert credit(1, ends=0).covers(NOW)
    assert not credit(1, ends=0).covers(NOW + DAY)
