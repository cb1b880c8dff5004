"""Webhooks: signed, retried until accepted, listable."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import stripe

from billing.payments.simulator import Simulator
from tests.billing.payments.simulator.conftest import client_of


class Receiver:
    """An endpoint that refuses the first `refusals` deliveries and keeps the rest."""

    def __init__(self) -> None:
        self.refusals = 0
        self.attempts = 0
        self.accepted: list[tuple[bytes, str]] = []
        receiver = self
        lock = threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                with lock:
                    receiver.attempts += 1
                    refused = receiver.attempts <= receiver.refusals
                    if not refused:
                        receiver.accepted.append((body, self.headers["Stripe-Signature"]))
                self.send_response(500 if refused else 200)
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hooks/stripe?x=1"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(body) for body, _ in self.accepted]

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture
def served(receiver: Receiver) -> Iterator[Simulator]:
    with Simulator(webhook=receiver.url, first_wait=0.01) as simulator:
        yield simulator


@pytest.fixture
def caller(served: Simulator) -> Iterator[stripe.StripeClient]:
    http = stripe.RequestsClient(timeout=20)
    yield client_of(served, http)
    http.close()  # type: ignore[no-untyped-call]


def test_every_event_arrives_signed(
    caller: stripe.StripeClient, served: Simulator, receiver: Receiver
) -> None:
    created = caller.v1.customers.create({"name": "Ada"}, {"idempotency_key": "k"})
    caller.v1.products.create({"name": "calls"})
    served.wait_for_webhooks()
    assert sorted(e["type"] for e in receiver.events()) == ["customer.created", "product.created"]
    for body, header in receiver.accepted:
        assert stripe.WebhookSignature.verify_header(
            body.decode(), header, served.webhook_secret, 300
        )
        with pytest.raises(stripe.SignatureVerificationError):
            stripe.WebhookSignature.verify_header(
                body.decode() + " ", header, served.webhook_secret, 300
            )
        event = caller.construct_event(body, header, served.webhook_secret)
        assert event.api_version == "2026-10-28.endive"
    first = next(e for e in receiver.events() if e["type"] == "customer.created")
    assert first["request"]["idempotency_key"] == "k"
    assert created.last_response is not None
    assert first["request"]["id"] == created.last_response.request_id
    assert first["data"]["object"]["id"] == created.id


def test_a_refused_delivery_is_tried_again(
    caller: stripe.StripeClient, served: Simulator, receiver: Receiver
) -> None:
    receiver.refusals = 3
    caller.v1.customers.create({"name": "Ada"})
    served.wait_for_webhooks()
    assert receiver.attempts == 4
    assert len(receiver.accepted) == 1
    (event,) = caller.v1.events.list().data
    assert event.pending_webhooks == 0


def test_an_endpoint_that_is_down_gets_it_later(
    caller: stripe.StripeClient, served: Simulator, receiver: Receiver
) -> None:
    receiver.refusals = 1_000
    caller.v1.customers.create({"name": "Ada"})
    with pytest.raises(TimeoutError):
        served.wait_for_webhooks(timeout=0.05)
    assert len(caller.v1.events.list({"delivery_success": False}).data) == 1
    receiver.refusals = 0
    served.advance(3600)
    served.wait_for_webhooks()
    assert len(receiver.accepted) == 1
    assert caller.v1.events.list({"delivery_success": False}).data == []


def test_events_can_be_sent_again_and_handed_over(
    caller: stripe.StripeClient, served: Simulator, receiver: Receiver
) -> None:
    caller.v1.customers.create({"name": "Ada"})
    served.wait_for_webhooks()
    (event,) = served.events()
    served.resend(event["id"])
    served.wait_for_webhooks()
    assert [e["id"] for e in receiver.events()] == [event["id"]] * 2
    body, header = served.signed(event["id"])
    assert caller.construct_event(body, header, served.webhook_secret).id == event["id"]


def test_endpoints_are_made_over_the_api(
    client: stripe.StripeClient, simulator: Simulator, receiver: Receiver
) -> None:
    endpoint = client.v1.webhook_endpoints.create(
        {
            "url": receiver.url,
            "enabled_events": ["product.created"],
            "api_version": "2026-08-26.dahlia",
        }
    )
    assert endpoint.secret is not None
    assert client.v1.webhook_endpoints.retrieve(endpoint.id).to_dict().get("secret") is None
    client.v1.customers.create({"name": "Ada"})
    client.v1.products.create({"name": "calls"})
    simulator.wait_for_webhooks()
    ((body, header),) = receiver.accepted
    assert client.construct_event(body, header, endpoint.secret).type == "product.created"
    client.v1.webhook_endpoints.update(endpoint.id, {"disabled": True})
    client.v1.products.create({"name": "more"})
    simulator.wait_for_webhooks()
    assert len(receiver.accepted) == 1
    assert client.v1.webhook_endpoints.delete(endpoint.id).deleted
    assert endpoint.id not in [e.id for e in client.v1.webhook_endpoints.list().data]


def test_events_are_listed_by_type(client: stripe.StripeClient, simulator: Simulator) -> None:
    client.v1.customers.create({"name": "Ada"})
    product = client.v1.products.create({"name": "calls"})
    client.v1.products.update(product.id, {"name": "tokens"})
    assert len(client.v1.events.list({"type": "product.created"}).data) == 1
    assert len(client.v1.events.list({"type": "product.*"}).data) == 2
    several = client.v1.events.list({"types": ["customer.created", "product.updated"]})
    assert [event.type for event in several.data] == ["product.updated", "customer.created"]
    since = client.v1.events.list({"created": {"gt": simulator.now() + 5}})
    assert since.data == []
    one = client.v1.events.retrieve(several.data[0].id)
    assert one.data.object["name"] == "tokens"
