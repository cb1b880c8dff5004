"""metering.domain.aggregates: totals that do not depend on the order of arrival."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from functools import partial, reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.domain.aggregates import Counted, Total, merged, total_of
from metering.domain.meters import Aggregation

NOW = datetime(2026, 11, 15, 12, tzinfo=UTC)
Events = list[tuple[datetime, Counted]]
# Few different times and values, so that ties are common.
moments = st.integers(0, 4).map(lambda n: NOW + timedelta(seconds=n))
numbers = st.lists(st.tuples(moments, st.integers(0, 5)), max_size=12)
each_aggregation = pytest.mark.parametrize("aggregation", list(Aggregation))


def events_of(aggregation: Aggregation, drawn: list[tuple[datetime, int]]) -> Events:
    if aggregation is Aggregation.UNIQUE:
        return [(at, f"user-{value}") for at, value in drawn]
    if aggregation is Aggregation.COUNT:
        return [(at, 1) for at, _ in drawn]
    return list(drawn)


@each_aggregation
@given(drawn=numbers, seed=st.integers(0, 1_000))
def test_parts_in_any_order_make_the_whole(
    aggregation: Aggregation, drawn: list[tuple[datetime, int]], seed: int
) -> None:
    events = events_of(aggregation, drawn)
    whole = total_of(aggregation, events)
    order = random.Random(seed)
    shuffled = order.sample(events, len(events))
    assert total_of(aggregation, shuffled) == whole
    places = [order.randrange(4) for _ in shuffled]
    parts = [
        total_of(aggregation, [e for e, at in zip(shuffled, places, strict=True) if at == part])
        for part in range(4)
    ]
    assert reduce(partial(merged, aggregation), parts) == whole
    assert reduce(partial(merged, aggregation), reversed(parts)) == whole
    assert merged(aggregation, whole, Total()) == merged(aggregation, Total(), whole) == whole


def test_totals_worked_by_hand() -> None:
    later, last = NOW + timedelta(seconds=1), NOW + timedelta(seconds=2)
    readings: Events = [(last, 4), (NOW, 9), (last, 6), (later, 7), (last, 5)]
    assert total_of(Aggregation.COUNT, [(NOW, 1)] * 3) == Total(3, 3)
    assert total_of(Aggregation.SUM, readings) == Total(31, 5)
    assert total_of(Aggregation.MAX, readings) == Total(9, 5)
    assert total_of(Aggregation.LATEST, readings) == Total(6, 5, latest_at=last)
    members: Events = [(NOW, "a"), (later, "b"), (last, "a")]
    assert total_of(Aggregation.UNIQUE, members) == Total(2, 3, members=frozenset("ab"))


@each_aggregation
def test_nothing_is_nothing(aggregation: Aggregation) -> None:
    assert total_of(aggregation, []) == Total()
    assert merged(aggregation, Total(), Total()) == Total()
