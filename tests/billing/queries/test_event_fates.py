"""Which invoice line an event became, or why none."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from billing.queries.event_fates import BilledFate, billed_fate
from metering.models import UsageEvent
from tests.factories.billing import START, a_plan, a_subscription, bill, calls
from tests.factories.metering import make_meter, report

pytestmark = pytest.mark.django_db
NOVEMBER = datetime(2026, 11, 3, tzinfo=UTC)
DECEMBER = datetime(2026, 12, 3, tzinfo=UTC)


def fate(event: UsageEvent) -> BilledFate:
    (meter_id,) = event.usage
    return billed_fate(
        event.customer_id,
        meter_id=int(meter_id),
        occurred_at=event.occurred_at,
        received_at=event.received_at,
    )


def test_a_late_event_is_found_on_the_adjustment() -> None:
    meter = make_meter()
    subscription = a_subscription(a_plan(calls(meter)))
    customer, at = subscription.customer, START + timedelta(days=3)
    on_time = report(customer, meter, 1_250, at=at)
    assert fate(on_time).stopped == "Its period is not invoiced yet."
    october = bill(subscription, now=NOVEMBER)
    line = fate(on_time).line
    assert line is not None
    assert (line.invoice_id, line.kind) == (october.id, "usage")
    late = report(customer, meter, 10, at=at, received_at=NOVEMBER + timedelta(days=1))
    assert fate(late).stopped == "It came after its invoice; the next one will adjust it."
    november = bill(subscription, now=DECEMBER)
    line = fate(late).line
    assert line is not None
    assert (line.invoice_id, line.kind, line.amount) == (november.id, "adjustment", 10)
    assert fate(on_time).line != line


def test_what_the_plan_does_not_bill_is_on_no_line() -> None:
    meter = make_meter()
    subscription = a_subscription(a_plan(calls(meter, price=None)))
    event = report(subscription.customer, meter, 5, at=START + timedelta(days=3))
    bill(subscription, now=NOVEMBER)
    assert fate(event) == BilledFate(None, "The plan does not bill this meter.")
