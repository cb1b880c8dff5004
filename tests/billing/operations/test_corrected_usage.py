"""Usage of a period that was invoiced is corrected: the next invoice adjusts it, once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from billing.models import BilledUsage, Invoice, Subscription
from billing.queries.invoices import invoice_preview
from metering.models import Grant, Meter, UsageEvent
from metering.operations.correcting import amend, void
from metering.operations.rolling_up import roll_up
from metering.queries.corrections import corrected_since
from tests.factories.billing import START, a_plan, a_subscription, amounts, bill, calls, fresh
from tests.factories.metering import make_meter, report

pytestmark = pytest.mark.django_db
NOVEMBER, DECEMBER = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)
GRACE = timedelta(days=2)
WHO: dict[str, Any] = {"reason": "a wrong count", "actor": "opk_1", "now": NOVEMBER + GRACE * 2}


@pytest.fixture
def meter() -> Meter:
    return make_meter(key="chat.tokens")


@pytest.fixture
def subscription(meter: Meter) -> Subscription:
    return a_subscription(a_plan(calls(meter)))


def used(subscription: Subscription, meter: Meter, quantity: int, *, day: int = 5) -> UsageEvent:
    return report(subscription.customer, meter, quantity, at=START + timedelta(days=day))


def adjusted(subscription: Subscription, *, now: datetime = DECEMBER + GRACE) -> Any:
    invoice = bill(subscription, now=now)
    (line,) = invoice.lines.filter(kind="adjustment")
    return line


def test_less_usage_takes_money_off_the_next_invoice(
    subscription: Subscription, meter: Meter
) -> None:
    event = used(subscription, meter, 1_250)
    first = bill(subscription, now=NOVEMBER + GRACE)
    assert amounts(first) == [("fee", 2_000), ("usage", 250)]
    amend(event.customer_id, event_id=event.id, quantities={meter.id: 1_050}, **WHO)
    preview = invoice_preview(fresh(subscription))
    assert preview is not None
    assert [line.amount for line in preview.lines if line.kind == "adjustment"] == [-200]
    roll_up(limit=10)
    line = adjusted(subscription)
    assert (line.amount, line.quantity) == (-200, -200)
    assert line.description == f"chat.tokens: -200 after {first.number} was issued"
    before_and_after = {name: line.detail[name] for name in line.detail if "_" in name}
    assert before_and_after == {
        "used_before": 1_250,
        "used_after": 1_050,
        "billed_after": 50,
        "amount_before": 250,
        "amount_after": 50,
    }
    assert amounts(first) == [("fee", 2_000), ("usage", 250)]  # what was issued stays
    assert BilledUsage.objects.order_by("start_at").values_list("quantity", "amount")[0] == (
        1_050,
        50,
    )
    assert UsageEvent.objects.get(id=event.id).usage == {str(meter.id): 1_250}
    third = bill(subscription, now=DECEMBER + timedelta(days=33))
    assert not third.lines.filter(kind="adjustment").exists()


def test_more_usage_is_charged_by_the_next_invoice(
    subscription: Subscription, meter: Meter
) -> None:
    event = used(subscription, meter, 900)
    bill(subscription, now=NOVEMBER + GRACE)
    amend(event.customer_id, event_id=event.id, quantities={meter.id: 1_300}, **WHO)
    line = adjusted(subscription)
    assert (line.amount, line.quantity) == (300, 400)


def test_a_void_of_a_closed_period(subscription: Subscription, meter: Meter) -> None:
    event = used(subscription, meter, 1_250)
    used(subscription, meter, 10)
    bill(subscription, now=NOVEMBER + GRACE)
    void(event.customer_id, event_id=event.id, **WHO)
    line = adjusted(subscription)
    assert (line.amount, line.quantity) == (-260, -1_250)


def test_two_corrections_between_two_invoices_are_one_adjustment(
    subscription: Subscription, meter: Meter
) -> None:
    event = used(subscription, meter, 1_250)
    bill(subscription, now=NOVEMBER + GRACE)
    amend(event.customer_id, event_id=event.id, quantities={meter.id: 5_000}, **WHO)
    amend(event.customer_id, event_id=event.id, quantities={meter.id: 1_251}, **WHO)
    assert adjusted(subscription).amount == 1


def test_a_correction_that_costs_nothing_leaves_no_line_but_is_remembered(
    subscription: Subscription, meter: Meter
) -> None:
    event = used(subscription, meter, 500)
    bill(subscription, now=NOVEMBER + GRACE)
    void(event.customer_id, event_id=event.id, **WHO)
    second = bill(subscription, now=DECEMBER + GRACE)
    assert not second.lines.filter(kind="adjustment").exists()
    assert BilledUsage.objects.get(start_at=START).quantity == 0


def test_a_draft_in_its_grace_is_issued_with_what_is_in_force(
    subscription: Subscription, meter: Meter
) -> None:
    event = used(subscription, meter, 1_250)
    from billing.operations import closing

    closing.close_due(now=NOVEMBER, limit=10)
    assert Invoice.objects.get().total == 2_250
    void(event.customer_id, event_id=event.id, **WHO)
    assert amounts(bill(subscription, now=NOVEMBER + GRACE)) == [("fee", 2_000)]


def test_what_a_grant_paid_and_no_longer_pays(subscription: Subscription, meter: Meter) -> None:
    Grant.objects.create(
        customer=subscription.customer,
        meter=meter,
        quantity=300,
        effective_at=START,
        created_at=START,
    )
    first, second = used(subscription, meter, 1_250), used(subscription, meter, 100, day=6)
    assert amounts(bill(subscription, now=NOVEMBER + GRACE)) == [("fee", 2_000), ("usage", 50)]
    void(first.customer_id, event_id=first.id, **WHO)
    assert Grant.objects.get().used == 50
    # 100 used, 50 of them by a grant, and all of it included: nothing is billed.
    assert adjusted(subscription).amount == -50
    assert second.usage == {str(meter.id): 100}


def test_an_event_of_years_ago(meter: Meter) -> None:
    long_ago = datetime(2025, 1, 1, tzinfo=UTC)
    subscription = a_subscription(a_plan(calls(meter)), start_at=long_ago, now=long_ago)
    event = report(subscription.customer, meter, 1_250, at=long_ago + timedelta(days=5))
    bill(subscription, now=NOVEMBER + GRACE)
    assert corrected_since({event.customer_id: long_ago}) == {}
    void(event.customer_id, event_id=event.id, **WHO)
    assert corrected_since({event.customer_id: long_ago}) == {event.customer_id: event.occurred_at}
    assert adjusted(subscription).amount == -250
    third = bill(subscription, now=DECEMBER + timedelta(days=33))
    assert not third.lines.filter(kind="adjustment").exists()
