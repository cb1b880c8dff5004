"""The doors of top-ups: the operator's, and the customer's own."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from django.test import Client

from accounts.api.idempotency import ABANDONED_AFTER
from accounts.models import AuditEntry, Customer, IdempotentRequest
from billing.domain.top_ups import AutoTopUpTerms
from billing.models import AutoTopUp, Invoice
from billing.operations import collecting, topping_up
from billing.payments.simulator import Simulator
from tests.billing.api.conftest import Caller
from tests.billing.payments.conftest import running_simulator, simulator
from tests.factories.accounts import a_customer, an_api_key, bearer
from tests.factories.payments import give_card
from tests.factories.top_ups import subscribed

__all__ = ["running_simulator", "simulator"]

pytestmark = pytest.mark.django_db
TERMS = {"threshold": 1_000, "amount": 2_000, "monthly_cap": 5_000}
ACTOR = "opk_test"


@pytest.fixture
def customer(simulator: Simulator, db: None) -> Customer:
    found = a_customer(email="ada@example.com")
    give_card(found, now=datetime.now(UTC))
    return found


@pytest.fixture
def own(customer: Customer) -> Caller:
    return Caller(Client(headers=bearer(an_api_key(customer)[1])))


def put(caller: Caller, path: str, body: object) -> Any:
    return caller.client.put(f"/api/v1{path}", json.dumps(body), content_type="application/json")


def test_an_operator_charges_a_top_up(
    simulator: Simulator, operator: Caller, own: Caller, customer: Customer
) -> None:
    path = f"/customers/{customer.public_id}/top-ups"
    found = operator.made(path, {"amount": 2_500})
    assert (found["status"], found["amount"], found["automatic"]) == ("paid", 2_500, False)
    assert operator.seen(path)["data"] == own.seen("/me/top-ups")["data"] == [found]
    (wallet,) = operator.seen("/wallets", customer=customer.public_id)["data"]
    assert (wallet["id"], wallet["balance"]) == (found["wallet"], "25")
    assert operator.seen(f"/invoices/{found['id']}")["wallet"] == wallet["id"]
    assert own.post("/me/top-ups", {"amount": 500}).status_code == 405
    entries = AuditEntry.objects.filter(action="top_up.begun")
    assert [entry.customer_id for entry in entries] == [customer.pk]

    again = {"Idempotency-Key": "once"}
    answers = [operator.post(path, {"amount": 500}, **again).json() for _ in range(2)]
    assert answers[0] == answers[1]
    assert len(simulator.all("charge")) == 2


@pytest.mark.parametrize("lost", ["killed", "answered 500"])
def test_a_request_whose_answer_was_lost_charges_once(
    simulator: Simulator, operator: Caller, customer: Customer, lost: str
) -> None:
    path, key = f"/customers/{customer.public_id}/top-ups", {"Idempotency-Key": "once"}
    first = operator.post(path, {"amount": 500}, **key).json()
    claims = IdempotentRequest.objects.all()
    if lost == "killed":  # the claim is committed, its answer is not
        claims.update(status=None, body=None, created_at=datetime.now(UTC) - ABANDONED_AFTER)
    else:
        claims.delete()
    again = operator.post(path, {"amount": 500}, **key)
    assert (again.status_code, again.json()) == (201, first)
    claims.delete()
    other = operator.post(path, {"amount": 600}, **key)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert first["id"] in other.json()["detail"]
    assert [each["amount"] for each in simulator.all("charge")] == [500]
    assert Invoice.objects.count() == 1


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"amount": 10}, 422, "parameter_invalid"),
        ({"amount": 0}, 422, "parameter_invalid"),
        ({"amount": "20"}, 422, "parameter_invalid"),
        ({}, 422, "parameter_missing"),
    ],
)
def test_amounts_that_are_refused(
    simulator: Simulator,
    operator: Caller,
    customer: Customer,
    body: object,
    status: int,
    code: str,
) -> None:
    answer = operator.post(f"/customers/{customer.public_id}/top-ups", body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.json()["param"] == "amount"
    assert not Invoice.objects.exists()
    assert simulator.all("charge") == []


def test_what_is_under_way_is_waited_for_or_canceled(operator: Caller, customer: Customer) -> None:
    begun = topping_up.begin_top_up(
        customer.pk, amount=900, actor=ACTOR, now=datetime.now(UTC)
    ).public_id
    path = f"/customers/{customer.public_id}/top-ups"
    refused = operator.post(path, {"amount": 500})
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    assert begun in refused.json()["detail"]
    assert operator.made(f"{path}/{begun}/cancel")["status"] == "canceled"
    assert operator.made(path, {"amount": 500})["status"] == "paid"
    other = a_customer()
    stranger = operator.post(f"/customers/{other.public_id}/top-ups/{begun}/cancel")
    assert stranger.status_code == 404
    without_card = operator.post(f"/customers/{other.public_id}/top-ups", {"amount": 500})
    assert without_card.status_code == 409
    assert "add one first" in without_card.json()["detail"]


def test_an_operator_sets_automatic_top_ups(
    operator: Caller, own: Caller, customer: Customer
) -> None:
    path = f"/customers/{customer.public_id}/auto-top-up"
    never = operator.seen(path)
    assert (never["enabled"], never["threshold"], never["balance"]) == (False, None, "0")
    found = put(operator, path, TERMS).json()
    assert found == operator.seen(path) == own.seen("/me/auto-top-up")
    assert {name: found[name] for name in TERMS} == TERMS
    assert (found["enabled"], found["topped_up"], found["suppressed_at"]) == (True, 0, None)

    refused = put(operator, path, {**TERMS, "monthly_cap": 1_999})
    assert (refused.status_code, refused.json()["param"]) == (422, "monthly_cap")

    now = datetime.now(UTC)
    assert topping_up.top_up_due(now=now, limit=1) == 0  # not subscribed to anything
    subscribed(customer, now=now)
    assert topping_up.top_up_due(now=now, limit=1) == 1
    top_up = Invoice.objects.get()
    collecting.mark_payment_failed(top_up.pk, attempt=1, code="card_declined", now=now)
    stopped = own.seen("/me/auto-top-up")
    assert stopped["suppressed_code"] == "card_declined"
    assert stopped["suppressed_by"] == top_up.public_id
    assert put(operator, path, TERMS).json()["suppressed_at"] is None
    assert operator.client.delete(f"/api/v1{path}").json()["enabled"] is False


def test_a_customers_key_lowers_them_and_switches_off(own: Caller, customer: Customer) -> None:
    path = "/me/auto-top-up"
    refused = put(own, path, TERMS)
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    assert not AutoTopUp.objects.exists()
    now = datetime.now(UTC)
    terms = AutoTopUpTerms(**TERMS)
    topping_up.set_auto_top_up(customer.pk, terms=terms, actor=ACTOR, now=now)
    assert put(own, path, {**TERMS, "monthly_cap": 2_000}).json()["monthly_cap"] == 2_000
    assert put(own, path, TERMS).status_code == 409
    assert AutoTopUp.objects.get().monthly_cap == 2_000
    assert own.client.delete(f"/api/v1{path}").json()["enabled"] is False
