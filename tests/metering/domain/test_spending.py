"""metering.domain.spending: curves, and the limit whose period, cap and rounding it says."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.domain.spending import MAJOR, Curve, CurveInvalid, SpendLimit, Step
from tests.metering.domain.strategies import CENT, curves

START = datetime(2026, 11, 1, tzinfo=UTC)
amounts = st.none() | st.integers(0, 10**9)
moments = st.datetimes(datetime(2026, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))


@pytest.mark.parametrize(
    "steps",
    [
        (),
        (Step(10, 0, 1),),
        (Step(None, 0, 1), Step(None, 0, 1)),
        (Step(10, 0, 1), Step(10, 0, 2), Step(None, 0, 3)),
        (Step(20, 0, 1), Step(10, 0, 2), Step(None, 0, 3)),
        (Step(0, 0, 1), Step(None, 0, 3)),
    ],
)
def test_steps_that_do_not_rise_are_no_curve(steps: tuple[Step, ...]) -> None:
    with pytest.raises(CurveInvalid):
        Curve(steps)


def test_a_curve_by_hand() -> None:
    # Ten at 5 cents, then 1 cent each; at the edge the dearer step still holds.
    curve = Curve((Step(10, 0, 5 * CENT), Step(None, 50 * CENT, CENT, origin=10)))
    assert [curve.cost(n) // CENT for n in (-1, 0, 1, 10, 11, 110)] == [0, 0, 5, 50, 51, 150]


@given(curves(), st.integers(1, 80), st.integers(0, 80))
def test_between_edges_more_never_costs_less(curve: Curve, low: int, more: int) -> None:
    edges = curve.edges(low, low + more)
    assert edges == sorted(edges, reverse=True)
    assert edges[-1] == low
    high = low + more
    for edge in edges:
        costs = [curve.cost(n) for n in range(edge, high + 1)]
        assert costs == sorted(costs)
        high = edge - 1


@given(curves())
def test_a_curve_survives_being_stored(curve: Curve) -> None:
    assert Curve.from_json(curve.to_json()) == curve


limits = st.builds(
    SpendLimit,
    customer=amounts,
    operator=amounts,
    window=st.sampled_from(["day", "week", "month", "year"]),
    anchor_at=st.just(START),
    exponent=st.sampled_from([0, 2, 3]),
    step=st.sampled_from([1, 100]),
    since=st.none() | moments,
    carried=st.integers(-(10**6), 10**6),
    before=st.dictionaries(st.integers(1, 9), st.integers(0, 10**9), max_size=3),
)


@given(limits)
def test_a_limit_survives_being_stored(limit: SpendLimit) -> None:
    assert SpendLimit.from_json(limit.to_json()) == limit


@given(limits)
def test_raising_takes_away_the_limit_that_counts(limit: SpendLimit) -> None:
    set_ones = [each for each in (limit.customer, limit.operator) if each is not None]
    assert limit.cap == min(set_ones, default=None)
    raised = limit.raised()
    if limit.cap is None:
        assert raised.cap is None
    elif limit.set_by == "customer":
        assert limit.customer == limit.cap
        assert raised.cap == limit.operator
    else:
        assert limit.operator == limit.cap
        assert raised.cap is None


@given(limits, moments)
def test_a_period_contains_its_moment(limit: SpendLimit, at: datetime) -> None:
    start_at, end_at = limit.period(at)
    assert start_at <= at < end_at


@given(st.integers(0, 10**18), limits)
def test_rounding_is_to_what_can_be_paid_and_half_up(amount: int, limit: SpendLimit) -> None:
    rounded = limit.rounded(amount)
    unit = MAJOR // 10**limit.exponent
    assert rounded % limit.step == 0
    assert -(limit.step * unit) < 2 * (amount - rounded * unit) <= limit.step * unit or (
        2 * (rounded * unit - amount) == limit.step * unit
    )
