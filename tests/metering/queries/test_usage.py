"""metering.queries.usage: exact, whatever has been rolled up."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase

from metering.operations.rolling_up import roll_up
from metering.queries.usage import Bucket, UsagePoint, usage, usage_total
from tests.factories.metering import NOW, make_customer, make_meter, report

MOMENTS = st.integers(min_value=0, max_value=50 * 3_600 * 4).map(
    lambda quarters: datetime(2026, 10, 31, 3, tzinfo=UTC) + timedelta(milliseconds=250 * quarters)
)
EVENTS = st.lists(
    st.tuples(MOMENTS, st.integers(0, 100), st.sampled_from(["a", "b", None, True, 3])), max_size=10
)


class TestUsage(TestCase):
    """Totals and points equal a plain sum over the events."""

    @settings(max_examples=15)
    @given(
        events=EVENTS,
        rolled=st.integers(0, 10),
        spans=st.lists(st.tuples(MOMENTS, MOMENTS), max_size=3),
    )
    def test_equals_a_plain_sum(
        self,
        events: list[tuple[datetime, int, object]],
        rolled: int,
        spans: list[tuple[datetime, datetime]],
    ) -> None:
        customer, other = make_customer(), make_customer()
        meter, second = make_meter(dimensions=["model"]), make_meter()
        for at, quantity, model in events:
            report(customer, meter, quantity, at=at, properties={"model": model})
        report(other, meter, 1_000)
        report(customer, second, 10_000)
        if rolled:
            roll_up(limit=rolled)
        for start_at, end_at in spans:
            inside = [each for each in events if start_at <= each[0] < end_at]
            expected = sum(quantity for _, quantity, _ in inside)
            total = usage_total(customer.id, meter_id=meter.id, start_at=start_at, end_at=end_at)
            assert total == expected
            for bucket in get_args(Bucket):
                points = usage(
                    customer.id,
                    meter_id=meter.id,
                    start_at=start_at,
                    end_at=end_at,
                    bucket=bucket,
                    group_by=["model"],
                )
                assert sum(point.quantity for point in points) == expected
                assert _by_group(points) == _expected_groups(inside)
                for point in points:
                    assert start_at <= point.start_at < point.end_at <= end_at
                starts = [(point.start_at, sorted(point.group.items())) for point in points]
                assert starts == sorted(starts)


def _by_group(points: list[UsagePoint]) -> Counter[str | None]:
    found: Counter[str | None] = Counter()
    for point in points:
        found[point.group.get("model")] += point.quantity
    return found


def _expected_groups(events: list[tuple[datetime, int, object]]) -> Counter[str | None]:
    found: Counter[str | None] = Counter()
    texts: dict[object, str | None] = {True: "true", 3: "3", None: None}
    for _, quantity, model in events:
        if quantity:
            found[model if isinstance(model, str) else texts[model]] += quantity
    return found


@pytest.mark.django_db
def test_buckets_are_cut_to_the_span() -> None:
    customer, meter = make_customer(), make_meter()
    for hours in (0, 1, 24):
        report(customer, meter, 10, at=NOW + timedelta(hours=hours))
    start_at, end_at = NOW, NOW + timedelta(hours=25)

    def points(bucket: Bucket) -> list[tuple[datetime, datetime, int]]:
        found = usage(
            customer.id, meter_id=meter.id, start_at=start_at, end_at=end_at, bucket=bucket
        )
        return [(each.start_at, each.end_at, each.quantity) for each in found]

    midnight = datetime(2026, 11, 16, tzinfo=UTC)
    assert points("total") == [(start_at, end_at, 30)]
    assert points("month") == [(start_at, end_at, 30)]
    assert points("day") == [(start_at, midnight, 20), (midnight, end_at, 10)]
    assert points("hour")[0] == (start_at, NOW.replace(hour=13, minute=0), 10)
    assert len(points("hour")) == 3


@pytest.mark.django_db
def test_an_empty_span_has_no_usage() -> None:
    customer, meter = make_customer(), make_meter()
    report(customer, meter, 10)
    assert usage_total(customer.id, meter_id=meter.id, start_at=NOW, end_at=NOW) == 0
    assert usage(customer.id, meter_id=meter.id, start_at=NOW, end_at=NOW) == []
