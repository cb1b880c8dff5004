"""Subscriptions over HTTP."""

from __future__ import annotations

import pytest
from django.test import Client

from accounts.models import Customer
from billing.models import Subscription
from tests.billing.api.conftest import Caller
from tests.factories.accounts import a_customer, an_api_key, bearer
from tests.factories.billing import a_plan, a_subscription, calls, give_card
from tests.factories.metering import make_meter

pytestmark = pytest.mark.django_db


@pytest.fixture
def customer() -> Customer:
    return a_customer(external_id="acme")


def test_a_subscription_starts_now_or_earlier(operator: Caller, customer: Customer) -> None:
    a_plan(key="pro", fee=0)
    body = {"customer": "acme", "plan": "pro", "start_at": None, "anchor": "calendar"}
    made = operator.made("/subscriptions", body)
    assert made["id"].startswith("sub_")
    assert (made["customer"], made["plan"], made["status"]) == (
        customer.public_id,
        "pro",
        "active",
    )
    assert made["current_period"]["end_at"] > made["current_period"]["start_at"]
    assert operator.seen(f"/subscriptions/{made['id']}") == made
    assert operator.seen("/subscriptions", customer="acme", status="active")["data"] == [made]
    assert operator.seen("/subscriptions", status="canceled")["data"] == []
    again = operator.post("/subscriptions", body)
    assert again.status_code == 409
    assert Subscription.objects.count() == 1


def test_a_paid_plan_waits_for_a_payment_method(operator: Caller, customer: Customer) -> None:
    a_plan(key="pro")
    body = {"customer": "acme", "plan": "pro"}
    assert operator.made("/subscriptions", body)["status"] == "incomplete"


def test_manual_collection_needs_no_payment_method(operator: Caller, customer: Customer) -> None:
    a_plan(key="pro")
    body = {"customer": "acme", "plan": "pro", "collection": "manual"}
    made = operator.made("/subscriptions", body)
    assert (made["status"], made["collection"]) == ("active", "manual")


@pytest.mark.parametrize(
    ("change", "param", "code"),
    [
        ({"customer": "nobody"}, "customer", "customer_unknown"),
        ({"plan": "nothing"}, "plan", "parameter_invalid"),
        ({"start_at": "tomorrow"}, "start_at", "parameter_invalid"),
        ({"start_at": "2999-01-01T00:00:00Z"}, "start_at", "parameter_invalid"),
        ({"anchor": "moon"}, "anchor", "parameter_invalid"),
        ({"chairs": 3}, "chairs", "parameter_unknown"),
        ({"seats": 3}, "seats", "parameter_invalid"),
    ],
)
def test_what_makes_no_sense_is_refused(
    operator: Caller, customer: Customer, change: dict[str, str], param: str, code: str
) -> None:
    a_plan(key="pro")
    answer = operator.post("/subscriptions", {"customer": "acme", "plan": "pro"} | change)
    assert answer.status_code == 422, answer.content
    assert (answer.json()["code"], answer.json()["param"]) == (code, param)
    assert not Subscription.objects.exists()


def test_a_change_is_previewed_then_made(operator: Caller, customer: Customer) -> None:
    give_card(customer)
    a_plan(key="pro", fee=2_000)
    a_plan(key="scale", fee=9_000)
    body = {"customer": "acme", "plan": "pro", "anchor": "calendar"}
    made = operator.made("/subscriptions", body)
    path = f"/subscriptions/{made['id']}/change"
    preview = operator.made(f"{path}/preview", {"plan": "scale", "when": "now"})
    assert (preview["when"], preview["next_fee"]) == ("now", 9_000)
    assert (
        sum(line["amount"] for line in preview["invoice"]["lines"]) == preview["invoice"]["total"]
    )
    assert operator.seen(f"/subscriptions/{made['id']}") == made
    changed = operator.made(path, {"plan": "scale", "when": "now"})
    assert changed["plan"] == "scale"
    assert changed["current_period"] == made["current_period"]


def test_a_cheaper_plan_waits_for_the_period_to_end(operator: Caller, customer: Customer) -> None:
    give_card(customer)
    a_plan(key="pro", fee=2_000)
    a_plan(key="free", fee=0)
    made = operator.made("/subscriptions", {"customer": "acme", "plan": "pro"})
    path = f"/subscriptions/{made['id']}/change"
    changed = operator.made(path, {"plan": "free", "when": "period_end"})
    assert (changed["plan"], changed["pending_plan"]) == ("pro", "free")
    assert operator.made(path, {"plan": "pro"})["pending_plan"] is None
    refused = operator.post(path, {"plan": "pro", "when": "later"})
    assert (refused.status_code, refused.json()["param"]) == (422, "when")


def test_pause_resume_cancel_keep(operator: Caller, customer: Customer) -> None:
    give_card(customer)
    a_plan(key="pro")
    made = operator.made("/subscriptions", {"customer": "acme", "plan": "pro"})
    path = f"/subscriptions/{made['id']}"
    assert operator.made(f"{path}/pause")["status"] == "paused"
    assert operator.made(f"{path}/pause")["status"] == "paused"
    assert operator.made(f"{path}/resume")["status"] == "active"
    ending = operator.made(f"{path}/cancel", {"when": "period_end"})
    assert (ending["status"], ending["cancel_at"]) == ("active", made["current_period"]["end_at"])
    assert operator.made(f"{path}/keep")["cancel_at"] is None
    assert operator.made(f"{path}/cancel", {"when": "now"})["status"] == "canceled"
    assert operator.post(f"{path}/resume").status_code == 409


def test_the_state_of_a_customer_is_the_same_for_both_callers(
    operator: Caller, customer: Customer
) -> None:
    meter = make_meter(key="chat.tokens")
    a_subscription(a_plan(calls(meter), key="pro"), customer=customer)
    state = operator.seen("/customers/acme/state")
    assert state["customer"]["id"] == customer.public_id
    assert state["plan"]["key"] == "pro"
    assert state["subscription"]["status"] == "active"
    assert state["standing"]["good"] is True
    assert state["entitlements"][0]["meter"] == "chat.tokens"
    assert state["payment_method"]["last4"] == "4242"
    assert state["next_invoice"]["total"]["currency"] == "usd"
    mine = Client(headers=bearer(an_api_key(customer)[1])).get("/api/v1/me/state").json()
    assert mine.pop("at")
    assert state.pop("at")
    mine.pop("forecast")
    state.pop("forecast")
    assert mine == state


def test_a_key_sees_its_own_customer_only(operator: Caller, customer: Customer) -> None:
    other = a_customer(external_id="other")
    body = Client(headers=bearer(an_api_key(other)[1])).get("/api/v1/me/state").json()
    assert body["customer"]["id"] == other.public_id
    assert body["subscription"] is None


def test_seats_are_asked_for_and_changed(operator: Caller, customer: Customer) -> None:
    seats = {"included": 1, "price": {"model": "per_unit", "unit_price": "10"}}
    plan = operator.made(
        "/plans", {"key": "team", "name": "Team", "fee": 0, "seats": seats, "activate": True}
    )
    assert plan["version"]["seats"] == seats
    give_card(customer)
    made = operator.made("/subscriptions", {"customer": "acme", "plan": "team", "seats": 3})
    assert (made["seats"], made["pending_seats"]) == (3, None)

    path = f"/subscriptions/{made['id']}/seats"
    assert operator.made(path, {"seats": 5})["seats"] == 5
    assert operator.made(path, {"seats": 4})["pending_seats"] == 4
    assert operator.made(path, {"seats": 4, "when": "now"})["seats"] == 4
    refused = operator.post(path, {"seats": 0})
    assert (refused.status_code, refused.json()["param"]) == (422, "seats")
    assert operator.seen(f"/subscriptions/{made['id']}")["seats"] == 4


def test_a_billing_threshold_is_set_shown_and_taken_back(operator: Caller) -> None:
    operator.made("/customers", {"external_id": "thresh", "name": "T"})
    plan = operator.made(
        "/plans",
        {"key": "early", "name": "E", "fee": 0, "billing_threshold": 5_000, "activate": True},
    )
    assert plan["version"]["billing_threshold"] == 5_000
    made = operator.made("/subscriptions", {"customer": "thresh", "plan": "early"})
    assert (made["billing_threshold"], made["billed_until_at"]) == (None, None)
    path = f"/subscriptions/{made['id']}/billing-threshold"
    assert operator.made(path, {"amount": 700})["billing_threshold"] == 700
    refused = operator.post(path, {"amount": 7})
    assert (refused.status_code, refused.json()["param"]) == (422, "billing_threshold")
    assert operator.made(path, {"amount": None})["billing_threshold"] is None
