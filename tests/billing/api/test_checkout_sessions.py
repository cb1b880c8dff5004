"""Visits to Checkout that an operator begins for a customer."""

from __future__ import annotations

import pytest

from accounts.models import Customer
from billing.models import CheckoutSession
from billing.payments.simulator import Simulator
from tests.billing.api.conftest import Caller
from tests.billing.payments.conftest import running_simulator, simulator
from tests.factories.accounts import a_customer
from tests.factories.billing import a_plan

__all__ = ["running_simulator", "simulator"]
pytestmark = pytest.mark.django_db


@pytest.fixture
def customer() -> Customer:
    return a_customer(external_id="acme")


def test_a_visit_leads_to_the_plan(
    operator: Caller, customer: Customer, simulator: Simulator
) -> None:
    a_plan(key="pro")
    body = {"customer": "acme", "plan": "pro", "success_url": "https://shop.example/thanks"}
    made = operator.made("/checkout-sessions", body)
    assert (made["plan"], made["status"]) == ("pro", "open")
    assert made["url"].startswith(simulator.url)
    assert simulator.all("checkout.session")[0]["success_url"] == "https://shop.example/thanks"
    assert operator.made("/checkout-sessions", body)["url"] == made["url"]
    assert operator.seen(f"/checkout-sessions/{made['id']}") == made
    assert operator.seen("/checkout-sessions")["data"] == [made]


def test_without_a_plan_only_the_payment_method_changes(
    operator: Caller, customer: Customer, simulator: Simulator
) -> None:
    made = operator.made("/checkout-sessions", {"customer": "acme", "plan": None})
    assert made["plan"] is None
    back = simulator.all("checkout.session")[0]["success_url"]
    assert back.endswith(f"/portal/checkout/done?visit={made['id']}")


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"plan": "nothing"}, "plan"),
        ({"success_url": "javascript:alert(1)"}, "success_url"),
        ({"cancel_url": "shop.example"}, "cancel_url"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_what_makes_no_sense_is_refused(
    operator: Caller,
    customer: Customer,
    simulator: Simulator,
    change: dict[str, str],
    param: str,
) -> None:
    answer = operator.post("/checkout-sessions", {"customer": "acme"} | change)
    assert (answer.status_code, answer.json()["param"]) == (422, param)
    assert not CheckoutSession.objects.exists()
    assert not simulator.all("checkout.session")


def test_a_stripe_that_is_down_is_our_fault_and_repeatable(
    operator: Caller, customer: Customer, simulator: Simulator
) -> None:
    simulator.fault("drop_before", method="POST", path="/v1/customers", times=50)
    answer = operator.post("/checkout-sessions", {"customer": "acme"}, **{"Idempotency-Key": "k"})
    assert answer.status_code == 503, answer.content
    assert operator.seen("/checkout-sessions")["data"][0]["status"] == "pending"
    simulator.clear_faults()
