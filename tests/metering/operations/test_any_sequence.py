"""Whatever is reported, corrected, supplied and taken back, in any order: every book agrees.

used = what the effective events come to (I1), buckets = effective events (I4), and every grant has
burned what events in force say it paid (I2).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db.models import Sum
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase

from accounts.models import Customer
from metering.models import Backfill, Balance, EffectiveEvent, Grant, Meter, UsageEvent
from metering.operations.applying import apply_backfills
from metering.operations.backfilling import Supplied, close, open_backfill, revert, supply
from metering.operations.correcting import EventVoided, amend, void
from metering.operations.rolling_up import roll_up, roll_up_days
from tests.factories.counted import books_of, happen
from tests.factories.metering import NOW, make_customer, make_entitlement, make_meter

pytestmark = pytest.mark.proof

BY: dict[str, Any] = {"actor": "opk_1", "now": NOW}
DAYS = 20
DAY = timedelta(days=1)
KINDS = ("sum", "count", "max", "latest", "unique")
number = st.integers(0, 30)
place = st.integers(0, 9)
STEP = st.one_of(
    st.tuples(st.just("happen"), st.integers(0, DAYS * 24), st.integers(0, 12), number),
    st.tuples(st.just("amend"), place, number, number),
    st.tuples(st.just("void"), place, number, number),
    st.tuples(st.just("backfill"), st.integers(0, DAYS), st.integers(1, 6), number),
    st.tuples(st.just("revert"), place, number, number),
    st.tuples(st.just("roll_up"), number, number, number),
)


class World:
    """A customer with a meter of each kind, some of whose usage grants pay."""

    def __init__(self, *, included: int, given: int) -> None:
        self.customer: Customer = make_customer()
        self.meters: list[Meter] = []
        for kind in KINDS:
            name = "" if kind == "count" else "tokens"
            meter = make_meter(
                aggregation=kind, event_type="call", value_property=name, dimensions=["model"]
            )
            self.meters.append(meter)
            make_entitlement(self.customer, meter, window="week", included=included)
            make_entitlement(self.customer, meter, window="hour", included=included)
            for priority in (1, 2):
                Grant.objects.create(
                    customer=self.customer,
                    meter=meter,
                    quantity=given,
                    priority=priority,
                    effective_at=NOW - 2 * DAYS * DAY,
                    created_at=NOW,
                )

    def _event(self, index: int) -> UsageEvent | None:
        # Ids are numbered on from one example to the next.
        events = sorted(
            UsageEvent.objects.all(),
            key=lambda each: (each.occurred_at, len(each.external_id), each.external_id),
        )
        return events[index % len(events)] if events else None

    def happen(self, hours: int, minutes: int, tokens: int) -> None:
        """An event, late or not."""
        at = NOW - timedelta(hours=hours, minutes=5 * minutes)
        happen(self.customer, *self.meters, at=at, tokens=tokens, model="ab"[tokens % 2])

    def amend(self, index: int, tokens: int, model: int) -> None:
        """Other properties, on every meter."""
        if (event := self._event(index)) is not None:
            with contextlib.suppress(EventVoided):
                amend(
                    self.customer.id,
                    event_id=event.id,
                    properties={"tokens": tokens, "model": "abc"[model % 3]},
                    reason="wrong",
                    **BY,
                )

    def void(self, index: int, _one: int, _other: int) -> None:
        """An event that was none."""
        if (event := self._event(index)) is not None:
            void(self.customer.id, event_id=event.id, reason="a test", **BY)

    def backfill(self, days: int, events: int, mode: int) -> None:
        """A few days, supplied anew or beside what is there, of which ids may be known."""
        start_at = NOW - (days + 3) * DAY
        made = open_backfill(
            mode=Backfill.Mode.REPLACE if mode % 2 else Backfill.Mode.ADD,
            event_type="call",
            customer_ids=[self.customer.id],
            start_at=start_at,
            end_at=start_at + 3 * DAY,
            reason="an outage",
            **BY,
        )
        turn = Backfill.objects.count()
        known = UsageEvent.objects.filter(occurred_at__range=(start_at, start_at + 2 * DAY))
        supplied = [
            Supplied(
                self.customer.id,
                each.source,
                each.external_id,
                each.occurred_at,
                {"tokens": mode + place},
            )
            for place, each in enumerate(known.order_by("external_id")[: events // 2])
        ] + [
            Supplied(
                self.customer.id,
                "archive",
                f"archive-{turn}-{place}",
                start_at + timedelta(hours=9 * place),
                {"tokens": mode * place % 31, "model": "b"},
            )
            for place in range(events)
        ]
        supply(made.id, events=supplied)
        close(made.id, **BY)
        apply_backfills(now=NOW, limit=1 + mode % 4, pieces=mode % 7)  # maybe not all of it

    def revert(self, index: int, pieces: int, _other: int) -> None:
        """One of the backfills is taken back, at least in part."""
        made = list(Backfill.objects.order_by("id"))
        if made:
            revert(made[index % len(made)].id, **BY)
            apply_backfills(now=NOW, limit=2, pieces=pieces % 5)

    def roll_up(self, batches: int, days: int, _other: int) -> None:
        """Some of what waits; days and months too."""
        roll_up(limit=1 + batches)
        roll_up_days(now=NOW - days % 5 * DAY)

    def check(self) -> None:
        """Every book."""
        books_of(self.customer, *self.meters)
        paid: dict[tuple[int, int], int] = {}
        for event in EffectiveEvent.objects.filter(customer_id=self.customer.id):
            for meter_id, allocation in (event.paid_by or {}).items():
                for grant_id, quantity in allocation["grants"].items():
                    key = (int(meter_id), int(grant_id))
                    paid[key] = paid.get(key, 0) + quantity
        grants = Grant.objects.filter(used__gt=0).values_list("meter_id", "id", "used")
        assert paid == {(meter_id, key): used for meter_id, key, used in grants}
        for meter in self.meters:
            taken = Balance.objects.filter(meter=meter).aggregate(taken=Sum("grant_used"))["taken"]
            assert (taken or 0) == sum(
                n for (meter_id, _), n in paid.items() if meter_id == meter.id
            )


@pytest.mark.slow
@pytest.mark.timeout(3_600)
class TestAnySequence(TestCase):
    """Every book agrees with what the events and corrections say."""

    @settings(max_examples=settings().max_examples // 6)
    @given(
        steps=st.lists(STEP, min_size=1, max_size=12),
        included=st.sampled_from([0, 5, 40]),
        given_=st.sampled_from([3, 30]),
    )
    def test_every_book_agrees(
        self, steps: list[tuple[str, int, int, int]], included: int, given_: int
    ) -> None:
        world = World(included=included, given=given_)
        for name, *numbers in steps:
            act: Callable[..., None] = getattr(world, name)
            act(*numbers)
        world.check()
        apply_backfills(now=NOW, limit=10, pieces=100)
        world.check()
