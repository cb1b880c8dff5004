"""Faults in the way of calls, as the real library meets them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.request import Request, urlopen

import pytest
import stripe

from billing.payments.simulator import Simulator
from tests.billing.payments.simulator.conftest import client_of, draft


@pytest.fixture
def patient(simulator: Simulator) -> Iterator[stripe.StripeClient]:
    """A client that retries twice, as ours does."""
    http = stripe.RequestsClient(timeout=5)
    http._sleep_time_seconds = lambda *_: 0  # type: ignore[method-assign]
    yield client_of(simulator, http, retries=2)
    http.close()  # type: ignore[no-untyped-call]


def test_a_lost_request_and_a_lost_answer_create_one_object(
    patient: stripe.StripeClient, simulator: Simulator
) -> None:
    simulator.fault("drop_before", method="POST", path="/v1/customers")
    patient.v1.customers.create({"name": "Ada"})
    assert len(simulator.all("customer")) == 1
    simulator.fault("drop_after", method="POST", path="/v1/customers")
    patient.v1.customers.create({"name": "Bob"})
    assert len(simulator.all("customer")) == 2
    assert [r["replayed"] for r in simulator.requests("POST")] == [0, 0, 1]


def test_a_connection_that_stays_lost(loose: stripe.StripeClient, simulator: Simulator) -> None:
    simulator.fault("drop_before")
    with pytest.raises(stripe.APIConnectionError):
        loose.v1.customers.create({"name": "Ada"})
    assert simulator.all("customer") == []
    simulator.fault("drop_after")
    with pytest.raises(stripe.APIConnectionError):
        loose.v1.customers.create({"name": "Ada"})
    assert len(simulator.all("customer")) == 1


@pytest.mark.parametrize(("fault", "calls"), [("409", 3), ("500", 3)])
def test_what_the_library_retries_by_itself(
    patient: stripe.StripeClient, simulator: Simulator, fault: str, calls: int
) -> None:
    simulator.fault(fault, times=2)
    patient.v1.customers.create({"name": "Ada"})
    assert len(simulator.requests("POST", "/v1/customers")) == calls
    assert len(simulator.all("customer")) == 1


def test_too_many_requests_are_left_to_us(
    patient: stripe.StripeClient, simulator: Simulator
) -> None:
    simulator.fault("429")
    with pytest.raises(stripe.RateLimitError) as refused:
        patient.v1.customers.create({"name": "Ada"}, {"idempotency_key": "k"})
    assert refused.value.headers is not None
    assert refused.value.headers["Stripe-Rate-Limited-Reason"] == "global-rate"
    assert simulator.all("customer") == []
    patient.v1.customers.create({"name": "Ada"}, {"idempotency_key": "k"})


@pytest.mark.parametrize(("fault", "made"), [("500_replay", 0), ("500_replay_after", 1)])
def test_a_stored_500_is_replayed(
    loose: stripe.StripeClient, simulator: Simulator, fault: str, made: int
) -> None:
    simulator.fault(fault)
    for _ in range(3):
        with pytest.raises(stripe.APIError) as refused:
            loose.v1.customers.create({"name": "Ada"}, {"idempotency_key": "k"})
        assert refused.value.http_status == 500
    assert len(simulator.all("customer")) == made
    assert [request["replayed"] for request in simulator.requests()] == [0, 1, 1]


def test_a_wrong_total(client: stripe.StripeClient, simulator: Simulator) -> None:
    customer = client.v1.customers.create({"name": "Ada"})
    simulator.fault("wrong_total", path="/v1/invoices/*/add_lines")
    invoice = draft(client, customer, 1000, 2000)
    assert client.v1.invoices.retrieve(invoice.id).total == 3001
    assert draft(client, customer, 1000, 2000).total == 3000


def test_slowness_runs_into_a_timeout() -> None:
    # A simulator of its own: the slow call goes on after its caller has left.
    with Simulator() as slow:
        slow.fault("slow", seconds=0.5)
        http = stripe.RequestsClient(timeout=0.1)
        with pytest.raises(stripe.APIConnectionError):
            client_of(slow, http).v1.customers.create({"name": "Ada"})
        http.close()  # type: ignore[no-untyped-call]


def test_faults_are_armed_over_http(loose: stripe.StripeClient, simulator: Simulator) -> None:
    wish = {"method": "POST", "path": "/v1/customers", "fault": "429", "times": 2}
    answer = call(simulator, "POST", "faults", wish)
    assert answer["faults"][0]["times"] == 2
    assert call(simulator, "GET", "faults")["faults"] == answer["faults"]
    with pytest.raises(stripe.RateLimitError):
        loose.v1.customers.create({"name": "Ada"})
    loose.v1.products.create({"name": "untouched"})
    assert call(simulator, "DELETE", "faults") == {"faults": []}
    loose.v1.customers.create({"name": "Ada"})
    with pytest.raises(Exception, match="400"):
        call(simulator, "POST", "faults", {"fault": "nonsense"})
    state = call(simulator, "GET", "state")
    assert state["counts"] == {"customer": 1, "event": 2, "product": 1}
    assert [r["status"] for r in state["requests"]] == [429, 200, 200]
    assert (
        call(simulator, "GET", "clock")["now"]
        <= call(simulator, "POST", "clock", {"advance": 50})["now"]
    )
    call(simulator, "POST", "reset")
    assert call(simulator, "GET", "state")["counts"] == {}


def call(simulator: Simulator, method: str, name: str, body: object = None) -> dict[str, Any]:
    data = json.dumps(body).encode() if body is not None else None
    request = Request(f"{simulator.url}/_simulator/{name}", data=data, method=method)
    with urlopen(request, timeout=10) as answer:
        found: dict[str, Any] = json.load(answer)
        return found
