"""The state of a customer, from nothing sold to everything at once."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from billing.operations import changing, collecting, crediting, subscribing
from billing.queries.customer_states import customer_state
from tests.factories.accounts import a_customer
from tests.factories.billing import ACTOR, NOW, START, a_plan, a_subscription, bill, calls, fresh
from tests.factories.metering import make_meter, report

pytestmark = pytest.mark.django_db

NOVEMBER = datetime(2026, 11, 2, tzinfo=UTC)
DAY = timedelta(days=1)


def state(customer: Any, now: datetime = NOW) -> dict[str, Any]:
    """The state, as JSON carries it."""
    read: dict[str, Any] = json.loads(json.dumps(customer_state(fresh(customer), now=now)))
    return read


def test_customer_without_anything() -> None:
    found = state(a_customer(name="Acme", external_id="acme"))
    assert found["customer"]["external_id"] == "acme"
    assert found["subscription"] is found["plan"] is found["payment_method"] is None
    assert found["next_invoice"] is None
    assert found["entitlements"] == found["open_invoices"] == found["wallets"] == []


def test_a_trial_says_what_its_end_will_bring() -> None:
    subscription = a_subscription(a_plan(trial_days=14, trial_end="cancel", key="pro"), card=False)
    found = state(subscription.customer)["subscription"]
    assert found["trial_end_at"] == "2026-10-15T00:00:00Z"
    fee = {"amount": 2_000, "currency": "usd"}
    assert found["after_trial"] == {"outcome": "canceled", "plan": "pro", "fee": fee}


def test_subscriber_sees_balances_preview_and_forecast() -> None:
    meter = make_meter(key="chat.tokens")
    lifelong = make_meter(key="projects")
    plan = a_plan(
        calls(meter, included=1_000),
        calls(lifelong, included=10, window="lifetime", price=None),
        {"feature": "sso", "type": "boolean"},
        {"feature": "region", "type": "static", "value": "eu"},
        key="pro",
    )
    subscription = a_subscription(plan)
    customer = subscription.customer
    report(customer, meter, 400, at=START + DAY)
    report(customer, lifelong, 3, at=START + DAY)
    crediting.top_up_wallet(customer.id, amount=500, reference="x", actor=ACTOR, now=NOW)

    found = state(customer)

    assert found["subscription"]["current_period"] == {
        "start_at": "2026-10-01T00:00:00Z",
        "end_at": "2026-11-01T00:00:00Z",
    }
    assert (found["plan"]["key"], found["plan"]["fee"]["amount"]) == ("pro", 2_000)
    assert found["standing"] == {"good": True, "code": None, "denied_from": None}
    tokens, _, *features = found["entitlements"]
    assert (tokens["meter"], tokens["remaining"], tokens["over"]) == ("chat.tokens", 600, "bill")
    assert [(each["feature"], each["value"]) for each in features] == [
        ("region", "eu"),
        ("sso", None),
    ]
    assert found["payment_method"] == {"brand": "visa", "last4": "4242", "expires_on": None}
    assert found["wallets"][0]["balance"] == "5.000000000000"
    assert found["next_invoice"]["total"] == {"amount": 2_000, "currency": "usd"}
    pace, lifetime = found["forecast"]
    assert (pace["used_at_end"], pace["exhausted_at"]) == (1_240, "2026-10-26T00:00:00Z")
    assert lifetime["used_at_end"] == 3


def test_debtor_sees_what_is_due() -> None:
    subscription = a_subscription()
    customer = subscription.customer
    invoice = bill(subscription, now=NOVEMBER)
    collecting.mark_pushed(
        invoice.id, stripe_invoice="in_1", hosted_url="https://pay.example/1", now=NOVEMBER
    )
    collecting.mark_payment_failed(invoice.id, attempt=1, code="card_declined", now=NOVEMBER)

    warned = state(customer, NOVEMBER)
    assert warned["standing"]["denied_from"] == "2026-11-05T00:00:00Z"
    assert warned["open_invoices"][0]["hosted_url"] == "https://pay.example/1"
    assert warned["open_invoices"][0]["amount_due"]["amount"] == 2_000
    denied = state(customer, NOVEMBER + 4 * DAY)
    assert denied["standing"] == {"good": False, "code": "payment_failed", "denied_from": None}


def test_changes_to_come_and_the_end_are_told() -> None:
    subscription = a_subscription(a_plan(fee=5_000))
    customer = subscription.customer
    changing.change_plan(
        subscription.id, plan=a_plan(fee=100, key="small").plan.key, actor=ACTOR, now=NOW
    )
    assert state(customer)["subscription"]["pending_plan"] == "small"
    subscribing.cancel(subscription.id, when="now", actor=ACTOR, now=NOW)
    over = state(customer)
    assert (over["subscription"]["status"], over["next_invoice"]) == ("canceled", None)
    assert over["standing"]["code"] == "subscription_inactive"
