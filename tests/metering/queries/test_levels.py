"""Hours, days, months and what still waits: together the true number, at any moment.

What is true is said by a plain list of the events and a few lines of Python beside it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase

from accounts.models import Customer
from metering.domain.meters import Aggregation
from metering.models import (
    DailyRollup,
    Meter,
    MeterVersion,
    MonthlyRollup,
    Rollup,
    RollupMember,
)
from metering.operations.checking import broken_invariants
from metering.operations.rerolling import reroll
from metering.operations.rolling_up import roll_up, roll_up_days, slot_of
from metering.queries.usage import Bucket, usage, usage_total
from tests.factories.metering import make_customer, make_meter
from tests.factories.usage import count_on

pytestmark = pytest.mark.proof

BEGIN = datetime(2026, 8, 30, 22, tzinfo=UTC)
CHANGE = datetime(2026, 10, 1, tzinfo=UTC)  # from here on the meters have another dimension
END = datetime(2026, 11, 3, 2, tzinfo=UTC)
LONG = int((END - BEGIN).total_seconds())

# Whole hours and days are as likely as anything between: edges are where spans go wrong.
MOMENTS = st.one_of(
    st.integers(0, LONG * 4).map(lambda quarters: timedelta(seconds=quarters / 4)),
    st.integers(0, LONG // 3_600).map(lambda hours: timedelta(hours=hours)),
    st.integers(0, LONG // 86_400).map(lambda days: timedelta(days=days, hours=2)),
).map(lambda after: BEGIN + after)
SPANS = st.tuples(MOMENTS, MOMENTS)


@dataclass(frozen=True, slots=True)
class Happened:
    """One event, as the list of truth keeps it."""

    at: datetime
    counted: int
    model: str | None
    region: str | None


EVENTS = st.builds(
    Happened,
    at=MOMENTS,
    counted=st.integers(0, 6),
    model=st.sampled_from(["a", "b", None]),
    region=st.sampled_from(["eu", None]),
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("report"), st.lists(EVENTS, min_size=1, max_size=4)),
        st.tuples(st.just("roll up"), st.integers(1, 5)),
        st.tuples(st.just("days"), MOMENTS),
        st.tuples(st.just("again"), MOMENTS),
    ),
    min_size=2,
    max_size=8,
)


@dataclass
class Books:
    """Two customers with the same events; of one of them buckets are made anew now and then."""

    meter: Meter
    plain: Customer
    again: Customer
    happened: list[Happened] = field(default_factory=list)

    def do(self, step: tuple[str, Any]) -> None:
        match step:
            case "report", events:
                for each in events:
                    self._report(each)
            case "roll up", limit:
                roll_up(limit=limit)
            case "days", now:
                roll_up_days(now=now, slots={slot_of(self.plain.id), slot_of(self.again.id)})
            case "again", start_at:
                reroll(self.again.id, start_at=start_at, end_at=start_at + timedelta(days=30))
            case _:
                raise AssertionError(step)

    def _report(self, each: Happened) -> None:
        self.happened.append(each)
        counted = f"m{each.counted}" if self.meter.aggregation == "unique" else each.counted
        properties = {"model": each.model, "region": each.region}
        for customer in (self.plain, self.again):
            count_on(customer, self.meter, counted, at=each.at, properties=properties)

    def true(self, events: Iterable[Happened]) -> int:
        """What these events are together."""
        found = list(events)
        match self.meter.aggregation:
            case "count" | "sum":
                return sum(each.counted for each in found)
            case "max":
                return max((each.counted for each in found), default=0)
            case "latest":
                return max(((each.at, each.counted) for each in found), default=(None, 0))[1]
            case _:
                return len({each.counted for each in found})

    def within(self, span: tuple[datetime, datetime]) -> list[Happened]:
        return [each for each in self.happened if span[0] <= each.at < span[1]]


def books_of(aggregation: str) -> Books:
    meter = make_meter(aggregation=aggregation, dimensions=["model"])
    MeterVersion.objects.create(
        meter=meter,
        number=2,
        event_type=meter.event_type,
        value_property=meter.value_property,
        dimensions=["region"],
        filters=[],
        effective_at=CHANGE,
        created_at=BEGIN,
        created_by="opk_1",
    )
    return Books(meter, make_customer(), make_customer())


def start_of(at: datetime, bucket: Bucket) -> datetime | None:
    match bucket:
        case "hour":
            return at.replace(minute=0, second=0, microsecond=0)
        case "day":
            return at.replace(hour=0, minute=0, second=0, microsecond=0)
        case "month":
            return at.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        case _:
            return None


def group_of(each: Happened, names: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """The dimension that the meter had at the time, where it is asked for and the event has it."""
    known = {"model": each.model} if each.at < CHANGE else {"region": each.region}
    return tuple((name, value) for name in names if (value := known.get(name)) is not None)


def expect_the_truth(books: Books, span: tuple[datetime, datetime]) -> None:
    inside = books.within(span)
    for customer in (books.plain, books.again):
        place = {"meter_id": books.meter.id, "start_at": span[0], "end_at": span[1]}
        assert usage_total(customer.id, **place) == books.true(inside)  # type: ignore[arg-type]


def expect_the_points(
    books: Books, span: tuple[datetime, datetime], bucket: Bucket, names: Sequence[str]
) -> None:
    parts: defaultdict[tuple[Any, ...], list[Happened]] = defaultdict(list)
    for each in books.within(span):
        at = start_of(each.at, bucket)
        first = span[0] if at is None else max(at, span[0])
        parts[first, group_of(each, names)].append(each)
    expected = {key: total for key, events in parts.items() if (total := books.true(events))}
    for customer in (books.plain, books.again):
        points = usage(
            customer.id,
            meter_id=books.meter.id,
            start_at=span[0],
            end_at=span[1],
            bucket=bucket,
            group_by=names,
        )
        found = {
            (each.start_at, tuple((name, each.group[name]) for name in names if name in each.group))
            : each.quantity
            for each in points
        }  # fmt: skip
        assert found == expected
        assert len(found) == len(points)


def buckets_of(customer: Customer) -> dict[str, list[tuple[Any, ...]]]:
    """Every bucket of a customer, whatever its level."""
    columns = ["start_at", "dimensions", "quantity", "events", "latest_at"]
    found = {
        table.__name__: sorted(
            table.objects.filter(customer_id=customer.id).values_list(*columns), key=str
        )
        for table in (Rollup, DailyRollup, MonthlyRollup)
    }
    members = RollupMember.objects.filter(customer_id=customer.id)
    found["members"] = sorted(members.values_list("start_at", "dimensions", "member"), key=str)
    return found


class TestLevels(TestCase):
    """Reports, roll-ups, days, months and re-rolls in any order."""

    @settings(max_examples=25)
    @given(
        aggregation=st.sampled_from([each.value for each in Aggregation]),
        steps=STEPS,
        data=st.data(),
    )
    def test_usage_is_the_truth_after_every_step(
        self, aggregation: str, steps: list[tuple[str, Any]], data: st.DataObject
    ) -> None:
        books = books_of(aggregation)
        for step in steps:
            books.do(step)
            expect_the_truth(books, (BEGIN, END + timedelta(days=1)))
            expect_the_truth(books, data.draw(SPANS))
            expect_the_points(
                books,
                data.draw(SPANS),
                data.draw(st.sampled_from(get_args(Bucket))),
                data.draw(st.sampled_from([[], ["model"], ["region", "model"]])),
            )

    @settings(max_examples=25)
    @given(aggregation=st.sampled_from([each.value for each in Aggregation]), steps=STEPS)
    def test_made_anew_is_what_was_added_up_little_by_little(
        self, aggregation: str, steps: list[tuple[str, Any]]
    ) -> None:
        books = books_of(aggregation)
        for step in steps:
            books.do(step)
        while roll_up(limit=100):
            pass
        roll_up_days(now=END, slots={slot_of(books.plain.id), slot_of(books.again.id)})
        assert buckets_of(books.plain) == buckets_of(books.again)
        for month in range(3):
            start_at = BEGIN + timedelta(days=31 * month)
            reroll(books.again.id, start_at=start_at, end_at=start_at + timedelta(days=31))
        assert buckets_of(books.plain) == buckets_of(books.again)
        customers = [books.plain.id, books.again.id]
        assert broken_invariants(now=END, customer_ids=customers, since=BEGIN) == []
