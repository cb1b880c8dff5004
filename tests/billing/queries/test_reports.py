"""Reports agree with the invoices to the cent; events know where they were billed."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from billing.models import Invoice
from billing.operations import collecting
from billing.queries.event_fates import BilledFate, billed_fate
from billing.queries.reports import invoice_line_rows, usage_rows
from metering.models import Meter
from tests.factories.billing import NOW, START, a_plan, a_subscription, bill, calls
from tests.factories.metering import make_meter, report

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)
NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)
DECEMBER = datetime(2026, 12, 1, tzinfo=UTC)


def table(rows: Iterator[list[str]]) -> list[dict[str, str]]:
    """The rows, written as CSV and read again."""
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return list(csv.DictReader(io.StringIO(text.getvalue())))


@pytest.fixture
def meter() -> Meter:
    return make_meter(key="chat.tokens")


def test_totals_equal_the_invoices(meter: Meter) -> None:
    subscriptions = [a_subscription(a_plan(calls(meter, included=10 * n))) for n in range(1, 4)]
    for number, subscription in enumerate(subscriptions):
        report(subscription.customer, meter, 100 + number, at=NOW)
    bill(subscriptions[0], now=NOVEMBER + DAY)
    report(subscriptions[0].customer, meter, 50, at=NOW)  # late
    voided = Invoice.objects.get(subscription=subscriptions[2])
    collecting.void(voided.id, now=NOVEMBER + DAY)
    bill(subscriptions[0], now=DECEMBER + DAY)

    lines = table(invoice_line_rows(start_at=START, end_at=NOVEMBER))
    usage = table(usage_rows(start_at=START, end_at=NOVEMBER))

    issued = Invoice.objects.filter(period_end_at=NOVEMBER).exclude(status="void")
    assert {line["invoice"] for line in lines} == {invoice.number for invoice in issued}
    assert sum(int(line["amount"]) for line in lines) == sum(each.total for each in issued)
    by_usage = [int(line["amount"]) for line in lines if line["kind"] == "usage"]
    assert [int(row["amount"]) for row in usage] == by_usage
    assert [(row["used"], row["included"], row["billed"]) for row in usage] == [
        ("100", "10", "90"),
        ("101", "20", "81"),
    ]
    november = table(usage_rows(start_at=NOVEMBER, end_at=DECEMBER))
    assert [(row["kind"], row["used"], row["amount"]) for row in november] == [
        ("adjustment", "50", "50")
    ]
    one = subscriptions[1].customer
    assert len(table(invoice_line_rows(start_at=START, end_at=DECEMBER, customer_id=one.id))) == 3


def test_event_knows_its_line_or_why_there_is_none(meter: Meter) -> None:
    other = make_meter(key="seats")
    subscription = a_subscription(a_plan(calls(meter, included=10), calls(other, price=None)))
    customer = subscription.customer

    def fate(meter: Meter, at: datetime, received_at: datetime | None = None) -> BilledFate:
        return billed_fate(
            customer.id, meter_id=meter.id, occurred_at=at, received_at=received_at or at
        )

    assert fate(meter, NOW) == BilledFate(None, "Its period is not invoiced yet.")
    report(customer, meter, 40, at=NOW)
    first = bill(subscription, now=NOVEMBER + DAY)
    billed = fate(meter, NOW)
    assert billed.line is not None
    assert billed.line.invoice == first
    assert fate(other, NOW).stopped == "The plan does not bill this meter."

    late = NOVEMBER + 2 * DAY
    report(customer, meter, 5, at=NOW, received_at=late)
    assert fate(meter, NOW, late).stopped == (
        "It came after its invoice; the next one will adjust it."
    )
    second = bill(subscription, now=DECEMBER + DAY)
    adjusted = fate(meter, NOW, late)
    assert adjusted.line is not None
    assert (adjusted.line.invoice, adjusted.line.kind) == (second, "adjustment")
