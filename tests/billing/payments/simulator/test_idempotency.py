"""Idempotency keys."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import stripe

from billing.payments.simulator import Simulator
from tests.billing.payments.simulator.conftest import client_of, draft


def test_the_same_key_is_answered_as_the_first_time(
    client: stripe.StripeClient, simulator: Simulator
) -> None:
    first = client.v1.customers.create({"name": "Ada"}, {"idempotency_key": "k1"})
    again = client.v1.customers.create({"name": "Ada"}, {"idempotency_key": "k1"})
    assert first.id == again.id
    assert len(simulator.all("customer")) == 1
    assert len(simulator.events("customer.created")) == 1
    assert again.last_response is not None
    assert again.last_response.headers["Idempotent-Replayed"] == "true"
    assert first.last_response is not None
    assert "Idempotent-Replayed" not in first.last_response.headers
    assert [request["replayed"] for request in simulator.requests()] == [0, 1]
    client.v1.customers.create({"name": "Ada"}, {"idempotency_key": "k2"})
    assert len(simulator.all("customer")) == 2


def test_a_key_with_other_parameters_is_an_error(
    client: stripe.StripeClient, simulator: Simulator
) -> None:
    client.v1.customers.create({"name": "Ada"}, {"idempotency_key": "k1"})
    with pytest.raises(stripe.IdempotencyError) as refused:
        client.v1.customers.create({"name": "Bob"}, {"idempotency_key": "k1"})
    assert refused.value.http_status == 400
    with pytest.raises(stripe.IdempotencyError):
        client.v1.products.create({"name": "Ada"}, {"idempotency_key": "k1"})
    assert len(simulator.all("customer")) == 1
    assert simulator.all("product") == []


def test_a_twin_in_flight_is_refused(simulator: Simulator) -> None:
    http = stripe.RequestsClient(timeout=20)
    client = client_of(simulator, http)
    simulator.fault("slow", method="POST", path="/v1/customers", seconds=1.0)

    def create() -> str:
        try:
            return client.v1.customers.create({"name": "Ada"}, {"idempotency_key": "k"}).id
        except stripe.APIError as error:
            return f"{error.http_status} {error.error and error.error.code}"

    with ThreadPoolExecutor(2) as pool:
        answers = sorted(pool.map(lambda _: create(), range(2)))
    assert answers[0] == "409 idempotency_key_in_use"
    assert answers[1].startswith("cus_")
    assert len(simulator.all("customer")) == 1


def test_a_refused_parameter_is_not_remembered(
    client: stripe.StripeClient, loose: stripe.StripeClient
) -> None:
    with pytest.raises(stripe.InvalidRequestError):
        loose.v1.customers.create({"nmae": "Ada"}, {"idempotency_key": "k"})  # type: ignore[arg-type]
    assert client.v1.customers.create({"name": "Ada"}, {"idempotency_key": "k"}).name == "Ada"


def test_a_decline_and_a_wrong_state_are_remembered(
    client: stripe.StripeClient, simulator: Simulator, customer: stripe.Customer
) -> None:
    invoice = draft(client, customer, 1000)
    client.v1.invoices.finalize_invoice(invoice.id, {"auto_advance": False})
    method = client.v1.payment_methods.attach(
        "pm_card_chargeCustomerFail", {"customer": customer.id}
    )
    for _ in range(2):
        with pytest.raises(stripe.CardError):
            client.v1.invoices.pay(
                invoice.id, {"payment_method": method.id}, {"idempotency_key": "pay"}
            )
    assert len(simulator.all("charge")) == 1
    client.v1.invoices.void_invoice(invoice.id)
    for _ in range(2):
        with pytest.raises(stripe.InvalidRequestError):
            client.v1.invoices.pay(invoice.id, None, {"idempotency_key": "late"})
    assert simulator.requests()[-1]["replayed"] == 1


def test_keys_are_forgotten_after_a_day(client: stripe.StripeClient, simulator: Simulator) -> None:
    client.v1.customers.create({"name": "Ada"}, {"idempotency_key": "k1"})
    simulator.advance(24 * 3600 + 10)
    client.v1.customers.create({"name": "Ada"}, {"idempotency_key": "k1"})
    assert len(simulator.all("customer")) == 2
