"""Any sequence of changes, usage, payments and ticks: the books hold, and bills are what they say.

The bills are computed a second time here, in plain Python from the list of events and the plans'
prices, by none of the code under test.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

import hypothesis
import pytest
from django.db import transaction
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from billing.domain.plan_changes import ChangeWhen, PlanChangeRefused
from billing.domain.subscriptions import SubscriptionTransitionRefused
from billing.models import Invoice, InvoiceLine, Subscription, SubscriptionPhase
from billing.operations import checking, closing, collecting, dunning, issuing, subscribing
from billing.operations.changing import change_plan
from metering.models import Meter
from tests.factories.accounts import a_customer
from tests.factories.billing import ACTOR, a_plan, calls, give_card
from tests.factories.metering import make_meter, report

pytestmark = [pytest.mark.django_db, pytest.mark.proof]

START = datetime(2026, 1, 31, 10, 20, 30, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@dataclass(frozen=True)
class Sold:
    """A plan, as it stands in the price list."""

    fee: int
    included: int
    interval: str = "month"
    billed: bool = True

    def cents(self, units: int) -> int:
        """What this many units past the included ones cost."""
        if self.interval == "week":
            return (units + 9) // 10 * 25
        if self.fee == 3_100:
            return min(units, 100) * 5 + max(units - 100, 0)
        return units * 2


SOLD = {
    "free": Sold(0, 100, billed=False),
    "basic": Sold(1_000, 50),
    "pro": Sold(3_100, 200),
    "weekly": Sold(700, 30, interval="week"),
}
PRICES: dict[str, dict[str, object]] = {
    "basic": {"model": "per_unit", "unit_price": "0.02"},
    "pro": {
        "model": "graduated",
        "tiers": [{"up_to": 100, "unit_price": "0.05"}, {"up_to": None, "unit_price": "0.01"}],
    },
    "weekly": {"model": "package", "package_size": 10, "package_price": "0.25"},
}
plans = st.sampled_from(sorted(SOLD))


class Lifetime(RuleBasedStateMachine):
    """One customer's subscriptions over months."""

    def __init__(self) -> None:
        super().__init__()
        self._undo = transaction.atomic()
        self._undo.__enter__()
        self.meter: Meter = make_meter()
        for key, sold in SOLD.items():
            right = calls(self.meter, included=sold.included, price=PRICES.get(key))
            a_plan(right, key=key, fee=sold.fee, interval=sold.interval)
        self.customer = a_customer()
        give_card(self.customer, now=START)
        self.now = START
        self.events: list[tuple[datetime, int]] = []

    @initialize(plan=plans)
    def begin(self, plan: str) -> None:
        self._subscribe(plan)

    @rule(quantity=st.integers(1, 300), late=st.integers(0, 200))
    def use(self, quantity: int, late: int) -> None:
        at = max(START, self.now - late * HOUR)
        report(self.customer, self.meter, quantity, at=at)
        self.events.append((at, quantity))

    @rule(hours=st.integers(1, 24 * 20))
    def wait(self, hours: int) -> None:
        self.now += timedelta(hours=hours)

    @rule()
    def tick(self) -> None:
        closing.close_due(now=self.now, limit=10)
        issuing.issue_due(now=self.now, limit=100)
        dunning.advance(now=self.now, limit=10)

    @rule(plan=plans, when=st.sampled_from([None, *ChangeWhen]))
    def change(self, plan: str, when: ChangeWhen | None) -> None:
        self._attempt(change_plan, plan=plan, when=when)

    @rule(act=st.sampled_from([subscribing.pause, subscribing.resume, subscribing.keep]))
    def pause_or_resume(self, act: Any) -> None:
        self._attempt(act)

    @rule(when=st.sampled_from(["now", "period_end"]))
    def cancel(self, when: str) -> None:
        self._attempt(subscribing.cancel, when=when)

    @rule(plan=plans)
    def come_back(self, plan: str) -> None:
        closing.close_due(now=self.now, limit=10)
        if self._subscription() is None:
            self._subscribe(plan)

    @rule(fails=st.booleans())
    def collect(self, fails: bool) -> None:
        for invoice in Invoice.objects.filter(status="open", push="pending"):
            number = invoice.attempt_count + 1
            if fails:
                collecting.mark_payment_failed(
                    invoice.id, attempt=number, code="card_declined", now=self.now
                )
            else:
                collecting.mark_paid(
                    invoice.id, amount_paid=invoice.total, reference="pi", now=self.now
                )

    @invariant()
    def books_hold(self) -> None:
        assert checking.broken_invariants(now=self.now) == []

    def teardown(self) -> None:
        try:
            self._settle_everything()
            assert checking.broken_invariants(now=self.now) == []
            for invoice in Invoice.objects.exclude(status="draft"):
                assert _sum(invoice, "fee") == _fees(invoice), invoice
            assert self._billed() == self._owed()
        finally:
            transaction.set_rollback(True)
            self._undo.__exit__(None, None, None)

    def _subscribe(self, plan: str) -> None:
        subscribing.subscribe(self.customer.id, plan=plan, actor=ACTOR, now=self.now)

    def _subscription(self) -> Subscription | None:
        found = Subscription.objects.filter(customer=self.customer).exclude(status="canceled")
        return found.first()

    def _attempt(self, act: Any, **members: Any) -> None:
        subscription = self._subscription()
        if subscription is not None:
            with contextlib.suppress(PlanChangeRefused, SubscriptionTransitionRefused):
                act(subscription.id, actor=ACTOR, now=self.now, **members)

    def _settle_everything(self) -> None:
        """Let every period so far be issued, and one more, which takes in what came late."""
        self.come_back("free")
        for _ in range(2):
            self.now += 32 * DAY
            self.tick()
            self.come_back("free")
        self.now += 32 * DAY
        self.tick()

    def _billed(self) -> int:
        lines = InvoiceLine.objects.filter(meter=self.meter).exclude(invoice__status="draft")
        return sum(line.amount for line in lines)

    def _owed(self) -> int:
        return sum(
            self._owed_of(invoice)
            for invoice in Invoice.objects.exclude(status="draft")
            if invoice.subscription_id is not None
        )

    def _owed_of(self, invoice: Invoice) -> int:
        whole_start = datetime.fromisoformat(invoice.basis["start_at"])
        owed = 0
        for start_at, end_at, sold in _phases(invoice):
            if sold.billed:
                before = max(0, self._used(whole_start, start_at) - sold.included)
                after = max(0, self._used(whole_start, end_at) - sold.included)
                owed += sold.cents(after) - sold.cents(before)
        return owed

    def _used(self, start_at: datetime, end_at: datetime) -> int:
        return sum(quantity for at, quantity in self.events if start_at <= at < end_at)


def _phases(invoice: Invoice) -> list[tuple[datetime, datetime, Sold]]:
    """[start, end) of each plan inside an invoice's period."""
    found = []
    for phase in SubscriptionPhase.objects.filter(subscription=invoice.subscription_id).order_by(
        "start_at"
    ):
        start_at = max(phase.start_at, invoice.period_start_at)
        end_at = min(phase.end_at or invoice.period_end_at, invoice.period_end_at)
        if start_at < end_at:
            found.append((start_at, end_at, SOLD[phase.version.plan.key]))
    return found


def _fees(invoice: Invoice) -> int:
    """By the second, each at the highest fee so far, up to the end of the whole period."""
    if not invoice.basis["served"]:
        return 0
    whole_start = datetime.fromisoformat(invoice.basis["start_at"])
    whole_end = datetime.fromisoformat(invoice.basis["end_at"])
    seconds = (whole_end - whole_start) // timedelta(seconds=1)
    phases, dearest, total = _phases(invoice), 0, 0
    for index, (start_at, _, sold) in enumerate(phases):
        raised = sold.fee - dearest
        if raised > 0 or index == 0:
            # The rest of the period at the new fee, less the rest at the old one.
            left = Fraction((whole_end - start_at) // timedelta(seconds=1), seconds)
            total += _half_up(max(sold.fee, dearest) * left) - _half_up(dearest * left)
            dearest = max(dearest, sold.fee)
    return total


def _half_up(amount: Fraction) -> int:
    return int(amount + Fraction(1, 2))


def _sum(invoice: Invoice, kind: str) -> int:
    return sum(line.amount for line in invoice.lines.all() if line.kind == kind)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_lifetime_is_billed_as_it_was_lived() -> None:
    run_state_machine_as_test(
        Lifetime,
        settings=hypothesis.settings(
            max_examples=max(hypothesis.settings().max_examples // 6, 5),
            stateful_step_count=14,
            deadline=None,
            suppress_health_check=list(hypothesis.HealthCheck),
        ),
    )
