"""The doors of spend limits and overrides: the operator's, and the customer's own."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import Client

from accounts.models import AuditEntry, Customer
from billing.models import Override, SpendLimit
from billing.operations.limiting import set_spend_limit
from metering.models import Entitlement
from tests.billing.api.conftest import Caller
from tests.factories.accounts import a_customer, an_api_key, bearer
from tests.factories.billing import a_plan, a_subscription, calls
from tests.factories.metering import make_meter

NONE: dict[str, object] = {
    "currency": "usd",
    "limit": None,
    "set_by": None,
    "set_by_customer": None,
    "set_by_operator": None,
    "spent": None,
    "remaining": None,
    "resets_at": None,
    "admits": [],
}


@pytest.fixture
def customer(db: None) -> Customer:
    found = a_customer()
    meter = make_meter(key="chat.tokens")
    now = datetime.now(UTC)
    a_subscription(a_plan(calls(meter, included=100)), customer=found, start_at=now, now=now)
    return found


@pytest.fixture
def own(customer: Customer) -> Caller:
    return Caller(Client(headers=bearer(an_api_key(customer)[1])))


def put(caller: Caller, path: str, body: object) -> Any:
    return caller.client.put(f"/api/v1{path}", json.dumps(body), content_type="application/json")


def delete(caller: Caller, path: str) -> Any:
    return caller.client.delete(f"/api/v1{path}")


class TestSpendLimits:
    def test_the_operators_and_the_customers_own(
        self, operator: Caller, own: Caller, customer: Customer
    ) -> None:
        path = f"/customers/{customer.public_id}/spend-limit"
        assert operator.seen(path) == NONE
        first = put(operator, path, {"amount": 500}).json()
        assert (first["limit"], first["set_by"], first["spent"], first["remaining"]) == (
            500,
            "operator",
            0,
            500,
        )
        assert first["admits"] == [{"meter": "chat.tokens", "quantity": 600}]
        second = put(own, "/me/spend-limit", {"amount": 20}).json()
        assert (second["limit"], second["set_by"]) == (20, "customer")
        assert (second["set_by_customer"], second["set_by_operator"]) == (20, 500)
        assert second["admits"] == [{"meter": "chat.tokens", "quantity": 120}]
        assert own.seen("/me/spend-limit") == second
        for higher in ({"amount": 21}, {"amount": 10_000}):
            refused = put(own, "/me/spend-limit", higher)
            assert (refused.status_code, refused.json()["param"]) == (409, "amount")
            assert "/portal/spend-limit" in refused.json()["detail"]
        assert delete(own, "/me/spend-limit").status_code == 405
        assert own.seen("/me/spend-limit") == second
        assert put(own, "/me/spend-limit", {"amount": 5}).json()["set_by_customer"] == 5
        set_spend_limit(
            customer.pk, amount=None, set_by="customer", actor="mem_1", now=datetime.now(UTC)
        )
        assert operator.seen(path) == first
        assert delete(operator, path).json() == NONE
        assert not SpendLimit.objects.exists()

    @pytest.mark.parametrize("amount", [-1, 1.5, "5", None, True])
    def test_what_is_no_amount_is_422(
        self, operator: Caller, customer: Customer, amount: object
    ) -> None:
        path = f"/customers/{customer.public_id}/spend-limit"
        answer = put(operator, path, {"amount": amount})
        assert (answer.status_code, answer.json()["param"]) == (422, "amount")
        assert not SpendLimit.objects.exists()

    def test_what_the_currency_does_not_have_is_422(self, operator: Caller, db: None) -> None:
        path = f"/customers/{a_customer(currency='isk').public_id}/spend-limit"
        answer = put(operator, path, {"amount": 150})
        assert (answer.status_code, answer.json()["param"]) == (422, "amount")
        assert not SpendLimit.objects.exists()

    def test_nobody_is_404(self, operator: Caller) -> None:
        assert put(operator, "/customers/nobody/spend-limit", {"amount": 5}).status_code == 404
        assert not AuditEntry.objects.filter(action="spend_limit.set").exists()


class TestOverrides:
    def test_one_is_agreed_on_seen_and_ended(self, operator: Caller, customer: Customer) -> None:
        path = f"/customers/{customer.public_id}/overrides"
        until = (datetime.now(UTC) + timedelta(days=9)).isoformat()
        given = {"meter": "chat.tokens", "included": 5_000, "reason": "pilot", "ends_at": until}
        made = operator.made(path, given)
        assert made["id"].startswith("ovr_")
        assert (made["meter"], made["feature"], made["denied"]) == ("chat.tokens", None, False)
        assert (made["terms"], made["reason"]) == ({"included": 5_000}, "pilot")
        assert Entitlement.objects.get().included == 5_000
        assert operator.seen(path)["data"] == [made]
        assert operator.seen(f"{path}/{made['id']}") == made
        ended = operator.made(f"{path}/{made['id']}/end")
        assert ended["ends_at"] < made["ends_at"]

    def test_prices_are_agreed_on_too(self, operator: Caller, customer: Customer) -> None:
        price = {"model": "per_unit", "unit_price": "0.0050"}
        made = operator.made(
            f"/customers/{customer.public_id}/overrides", {"meter": "chat.tokens", "price": price}
        )
        assert made["terms"]["price"]["unit_price"] == "0.005"
        assert made["terms"]["over"] == "bill"

    @pytest.mark.parametrize(
        ("given", "param"),
        [
            ({}, "feature"),
            ({"meter": "no.such", "included": 5}, "meter"),
            ({"feature": "sso", "included": 5}, "included"),
            ({"feature": "sso", "starts_at": "2020-01-01T00:00:00Z"}, "starts_at"),
            ({"feature": "sso", "colour": "red"}, "colour"),
        ],
    )
    def test_what_nobody_can_have_is_422(
        self, operator: Caller, customer: Customer, given: dict[str, Any], param: str
    ) -> None:
        answer = operator.post(f"/customers/{customer.public_id}/overrides", given)
        assert (answer.status_code, answer.json()["param"]) == (422, param)
        assert not Override.objects.exists()

    def test_one_that_would_run_into_another_is_409(
        self, operator: Caller, customer: Customer
    ) -> None:
        path = f"/customers/{customer.public_id}/overrides"
        later = (datetime.now(UTC) + timedelta(days=9)).isoformat()
        operator.made(path, {"feature": "sso", "starts_at": later})
        assert operator.post(path, {"feature": "sso"}).status_code == 409
        assert Override.objects.count() == 1

    def test_of_others_there_are_none(self, operator: Caller, customer: Customer) -> None:
        made = operator.made(f"/customers/{customer.public_id}/overrides", {"feature": "sso"})
        other = f"/customers/{a_customer().public_id}/overrides"
        assert operator.seen(other)["data"] == []
        assert operator.get(f"{other}/{made['id']}").status_code == 404
        assert operator.post(f"{other}/{made['id']}/end").status_code == 404
        assert operator.get(f"{other}/nonsense").status_code == 404
        assert Override.objects.get().ends_at is None
