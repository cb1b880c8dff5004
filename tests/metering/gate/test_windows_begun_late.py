"""A short window that is over counts all that was in it, whatever begins it, and in what order."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts.models import Customer
from metering.domain.spans import hour_of
from metering.models import Backfill, Balance, Meter, UsageEvent
from metering.operations.applying import apply_backfills
from metering.operations.backfilling import Supplied, close, open_backfill, revert, supply
from metering.operations.correcting import EventVoided, amend, void
from metering.operations.rerolling import reroll
from metering.operations.rolling_up import roll_up
from tests.factories.counted import books_of, standing
from tests.metering.gate.conftest import World, entitle, make_customer
from tests.metering.gate.test_aggregations import KINDS, Meters, metered

__all__ = ["metered"]  # a fixture
pytestmark = pytest.mark.django_db(transaction=True)
HOURS = 2
numbers = itertools.count()
minutes = st.integers(0, 60 * HOURS - 1)
sizes = st.integers(0, 5)
STEP = st.one_of(
    st.tuples(st.just("late"), minutes, sizes),
    st.tuples(st.just("late"), minutes, sizes),
    st.tuples(st.just("backfill"), st.lists(minutes, min_size=1, max_size=4), sizes),
    st.tuples(st.just("amend"), st.integers(0, 9), sizes),
    st.tuples(st.just("void"), st.integers(0, 9), sizes),
    st.tuples(st.just("revert"), st.integers(0, 9), sizes),
    st.tuples(st.just("reroll"), minutes, sizes),
    st.tuples(st.just("roll_up"), minutes, sizes),
)


class Past:
    """A customer of its own, with a meter of each kind by the minute and the hour, days ago."""

    def __init__(self, world: World, meters: Sequence[Meter]) -> None:
        self.world, self.meters = world, meters
        self.customer: Customer = make_customer()
        self.start_at = hour_of(datetime.now(UTC)) - timedelta(days=3)
        for meter in meters:
            for window in ("hour", "minute"):
                entitle(self.customer, meter, included=5, window=window)

    @property
    def by(self) -> dict[str, Any]:
        return {"actor": "opk_1", "now": datetime.now(UTC)}

    def late(self, minute: int, size: int) -> None:
        """An event that the gate counts now, though it happened then."""
        event = {
            "specversion": "1.0",
            "id": f"late-{next(numbers)}",
            "source": "app",
            "type": "work.done",
            "subject": self.customer.public_id,
            "time": self._at(minute).isoformat(),
            "data": _data(size),
        }
        got = self.world.gate.send("POST", "/api/v1/events", event)
        assert got.body["accepted"] == 1, got.body

    def backfill(self, at: Sequence[int], size: int) -> None:
        """Events that are supplied together, some of one minute maybe."""
        made = open_backfill(
            mode=Backfill.Mode.ADD if size % 2 else Backfill.Mode.REPLACE,
            event_type="work.done",
            customer_ids=[self.customer.id],
            start_at=self._at(min(at)),
            end_at=self._at(max(at) + 1),
            reason="an outage",
            **self.by,
        )
        supplied = [
            Supplied(
                self.customer.id, "archive", f"old-{next(numbers)}", self._at(minute), _data(more)
            )
            for more, minute in enumerate(at, start=size)
        ]
        supply(made.id, events=supplied)
        close(made.id, **self.by)
        apply_backfills(now=datetime.now(UTC), limit=2, pieces=100)

    def revert(self, place: int, _size: int) -> None:
        """A backfill that was wrong."""
        made = list(Backfill.objects.filter(customers=[self.customer.id]).order_by("id"))
        if made:
            revert(made[place % len(made)].id, **self.by)
            apply_backfills(now=datetime.now(UTC), limit=2, pieces=100)

    def amend(self, place: int, size: int) -> None:
        """An event that was another one."""
        if (event := self._event(place)) is not None:
            with contextlib.suppress(EventVoided):
                wrong: dict[str, Any] = {"reason": "wrong", **self.by}
                amend(self.customer.id, event_id=event.id, properties=_data(size), **wrong)

    def void(self, place: int, _size: int) -> None:
        """An event that was none."""
        if (event := self._event(place)) is not None:
            void(self.customer.id, event_id=event.id, reason="a test", **self.by)

    def reroll(self, minute: int, size: int) -> None:
        """Buckets made anew."""
        last = self._at(minute + 20 * size + 1)
        reroll(self.customer.id, start_at=self._at(minute), end_at=last)

    def roll_up(self, _minute: int, size: int) -> None:
        """Some of what waits."""
        roll_up(limit=1 + size)

    def check(self) -> None:
        """Every window that is kept is exact, and none that is not has anything in it."""
        books_of(self.customer, *self.meters)
        for meter in self.meters:
            rows = Balance.objects.filter(customer_id=self.customer.id, meter=meter)
            for length in (timedelta(hours=1), timedelta(minutes=1)):
                unit = "hour" if length > timedelta(minutes=1) else "minute"
                begun = set(rows.filter(window=unit).values_list("start_at", flat=True))
                needed = {
                    self.start_at + (at - self.start_at) // length * length
                    for at, counted in standing(self.customer, meter)
                    if counted != 0
                }
                assert needed <= begun, (meter.key, unit)

    def _at(self, minute: int) -> datetime:
        return self.start_at + timedelta(minutes=minute)

    def _event(self, place: int) -> UsageEvent | None:
        events = list(
            UsageEvent.objects.filter(customer_id=self.customer.id).order_by("occurred_at", "id")
        )
        return events[place % len(events)] if events else None


def _data(size: int) -> dict[str, Any]:
    return {"size": size, "user": f"u{size % 3}"}


@pytest.fixture
def meters(metered: Meters) -> list[Meter]:
    return [metered(kind) for kind in KINDS]


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=15
)
@given(steps=st.lists(STEP, min_size=1, max_size=6))
def test_every_window_counts_all_that_was_in_it(
    world: World, meters: list[Meter], steps: list[tuple[str, Any, int]]
) -> None:
    past = Past(world, meters)
    for name, where, size in steps:
        getattr(past, name)(where, size)
    past.check()


def test_a_late_event_finds_what_a_backfill_counted(world: World, meters: list[Meter]) -> None:
    past = Past(world, meters)
    past.backfill([10, 10, 70], 3)
    past.late(10, 1)
    past.check()
    summed = next(meter for meter in meters if meter.aggregation == "sum")
    hours = Balance.objects.filter(customer_id=past.customer.id, meter=summed, window="hour")
    assert list(hours.order_by("start_at").values_list("used", flat=True)) == [3 + 4 + 1, 5]


def test_a_late_reading_does_not_come_after_a_later_one_of_nothing(
    world: World, meters: list[Meter]
) -> None:
    past = Past(world, meters)
    past.backfill([20], 0)
    past.late(10, 4)
    past.check()
    latest = next(meter for meter in meters if meter.aggregation == "latest")
    hour = Balance.objects.get(customer_id=past.customer.id, meter=latest, window="hour")
    assert (hour.used, hour.latest_at) == (0, past.start_at + timedelta(minutes=20))
