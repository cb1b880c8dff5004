"""Whatever was used and is supplied: what is foreseen is what closing the backfill makes of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase

from accounts.models import CustomerVersion
from billing.domain.invoices import InvoiceDraft
from billing.models import Subscription
from billing.operations import foreseeing
from billing.operations.foreseeing import foresee
from billing.queries.invoices import invoice_preview
from metering.models import (
    Backfill,
    Balance,
    Correction,
    Grant,
    Meter,
    Rollup,
    RollupMember,
    StagedEvent,
    UsageBatch,
    UsageEvent,
    WindowMember,
)
from metering.operations.applying import apply_backfills
from metering.operations.backfilling import Supplied, close, open_backfill, supply
from metering.operations.granting import grant
from metering.operations.rolling_up import roll_up
from metering.queries.usage import usage_total
from tests.factories.billing import START, a_plan, a_subscription, bill, calls, fresh
from tests.factories.counted import happen
from tests.factories.metering import make_meter

NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)
NOW = NOVEMBER + timedelta(days=20)
BY: dict[str, Any] = {"actor": "opk_1", "now": NOW}
KINDS = ("sum", "max", "latest", "unique")
hours = st.integers(0, 50 * 24 - 1)
usage = st.lists(st.tuples(hours, st.integers(0, 60)), max_size=8)
# When, how much, and whether it is one of those that happened, with its id.
supplied = st.lists(st.tuples(hours, st.integers(0, 60), st.booleans()), max_size=9)


class World:
    """A customer with a meter of each kind, past what is included; October is invoiced."""

    def __init__(self, used: list[tuple[int, int]], *, given: int) -> None:
        self.meters: list[Meter] = [
            make_meter(aggregation=kind, event_type="call") for kind in KINDS
        ]
        plan = a_plan(*(calls(each, included=20) for each in self.meters))
        self.subscription: Subscription = a_subscription(plan)
        for each in self.meters if given else ():
            grant(self.customer.id, meter_id=each.id, quantity=given, actor="opk_1", now=START)
        self.happened = [
            happen(self.customer, *self.meters, at=self.at(hour), tokens=tokens)
            for hour, tokens in sorted(used)
        ]
        roll_up(limit=100)
        bill(self.subscription, now=NOVEMBER + timedelta(days=2))

    @property
    def customer(self) -> Any:
        return self.subscription.customer

    @staticmethod
    def at(hour: int) -> datetime:
        return START + timedelta(hours=hour, minutes=7)

    def fill(
        self, events: list[tuple[int, int, bool]], *, mode: Backfill.Mode, days: int
    ) -> Backfill:
        made = open_backfill(
            mode=mode,
            event_type="call",
            customer_ids=[self.customer.id],
            start_at=START + timedelta(days=days),
            end_at=NOW,
            reason="the gateway was down",
            **BY,
        )
        rows = [self._supplied(number, *each) for number, each in enumerate(events)]
        if rows:
            supply(made.id, events=rows)
        return made

    def _supplied(self, number: int, hour: int, tokens: int, known: bool) -> Supplied:
        source, external_id, at = "archive", f"old-{number}", self.at(hour)
        if known and self.happened:
            event = self.happened[number % len(self.happened)]
            source, external_id, at = event.source, event.external_id, event.occurred_at
        return Supplied(self.customer.id, source, external_id, at, {"tokens": tokens})

    def totals(self, made: Backfill) -> dict[int, int]:
        return {
            meter.id: usage_total(
                self.customer.id, meter_id=meter.id, start_at=made.start_at, end_at=made.end_at
            )
            for meter in self.meters
        }

    def invoice(self) -> InvoiceDraft | None:
        return invoice_preview(fresh(self.subscription))

    def state(self) -> list[Any]:
        tables = (
            *(UsageEvent, Correction, StagedEvent, Backfill, Balance, Grant, WindowMember),
            *(Rollup, RollupMember, UsageBatch, CustomerVersion),
        )
        return [sorted(map(str, model.objects.values())) for model in tables]


@pytest.mark.traced
class TestWhatIsForeseenComes(TestCase):
    @settings(max_examples=12, deadline=None, phases=[Phase.explicit, Phase.generate])
    @example(
        used=[(482, 6), (1198, 55)],
        events=[
            *((212, 42, False), (87, 47, False), (446, 54, True), (620, 48, False)),
            *((514, 4, False), (70, 5, True), (322, 58, False), (329, 25, False)),
            (307, 31, False),
        ],
        mode=Backfill.Mode.REPLACE,
        days=7,
        given_=15,
        piece=2,
    )
    @given(
        used=usage,
        events=supplied,
        mode=st.sampled_from(Backfill.Mode),
        days=st.integers(0, 40),
        given_=st.sampled_from([0, 15]),
        piece=st.integers(1, 4),
    )
    def test_whatever_it_is(
        self,
        used: list[tuple[int, int]],
        events: list[tuple[int, int, bool]],
        mode: Backfill.Mode,
        days: int,
        given_: int,
        piece: int,
    ) -> None:
        world = World(used, given=given_)
        made = world.fill(events, mode=mode, days=days)
        before, invoice, totals = world.state(), world.invoice(), world.totals(made)
        with patch.object(foreseeing, "PIECE", piece):
            (found,) = foresee(made.id, now=NOW)
        assert world.state() == before
        assert found.before == invoice
        close(made.id, **BY)
        assert apply_backfills(now=NOW, limit=piece, pieces=100) == found.events
        assert world.invoice() == found.after
        after = world.totals(made)
        told = {each.meter.id: (each.before, each.after) for each in found.usage}
        assert told.items() <= {key: (totals[key], after[key]) for key in totals}.items()
        assert {key for key in totals if totals[key] != after[key]} <= told.keys()
