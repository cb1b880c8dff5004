"""A simulator, and the real `stripe` library speaking to it under the eyes of the schema."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import stripe

from billing.payments.simulator import Simulator
from tests.contract import stripe_schema

API_VERSION = "2026-10-28.endive"
SUCCESS_URL = "https://farebox.test/done?session={CHECKOUT_SESSION_ID}"


@pytest.fixture(scope="module")
def _served() -> Iterator[Simulator]:
    with Simulator(first_wait=0.01) as simulator:
        yield simulator


@pytest.fixture
def simulator(_served: Simulator) -> Iterator[Simulator]:
    """An empty simulator; afterwards every object in it must fit Stripe's schema."""
    _served.reset()
    yield _served
    if stripe_schema.schema_available():
        for obj in _served.everything():
            stripe_schema.check_object(obj)
            if obj["object"] == "event":
                stripe_schema.check_object(obj["data"]["object"])


@pytest.fixture
def client(simulator: Simulator) -> Iterator[stripe.StripeClient]:
    """The real library, every request and answer checked where the schema is there."""
    http: Any = stripe.RequestsClient(timeout=20)
    if stripe_schema.schema_available():
        http = stripe_schema.SchemaCheckedClient()
    yield client_of(simulator, http)
    http.close()


@pytest.fixture
def loose(simulator: Simulator) -> Iterator[stripe.StripeClient]:
    """The real library unchecked, for calls that Stripe itself would refuse."""
    http = stripe.RequestsClient(timeout=20)
    yield client_of(simulator, http)
    http.close()  # type: ignore[no-untyped-call]


@pytest.fixture
def customer(client: stripe.StripeClient) -> stripe.Customer:
    """A customer without a card."""
    return client.v1.customers.create({"name": "Ada", "email": "ada@example.com"})


@pytest.fixture
def payer(client: stripe.StripeClient, customer: stripe.Customer) -> stripe.Customer:
    """A customer whose default card always works."""
    return with_card(client, customer, "pm_card_visa")


def client_of(
    simulator: Simulator, http: Any, *, key: str = "sk_test_simulated", retries: int = 0
) -> stripe.StripeClient:
    """Return a client that speaks to the simulator."""
    return stripe.StripeClient(
        key,
        base_addresses={"api": simulator.url},
        stripe_version=API_VERSION,
        http_client=http,
        max_network_retries=retries,
    )


def with_card(
    client: stripe.StripeClient, customer: stripe.Customer, test_id: str
) -> stripe.Customer:
    """Attach a test card and make it the default."""
    method = client.v1.payment_methods.attach(test_id, {"customer": customer.id})
    return client.v1.customers.update(
        customer.id, {"invoice_settings": {"default_payment_method": method.id}}
    )


def draft(client: stripe.StripeClient, customer: stripe.Customer, *amounts: int) -> stripe.Invoice:
    """Create a draft with one line per amount, as our step log does."""
    invoice = client.v1.invoices.create(
        {
            "customer": customer.id,
            "currency": "usd",
            "auto_advance": False,
            "collection_method": "charge_automatically",
            "pending_invoice_items_behavior": "exclude",
            "metadata": {"invoice": "inv_1"},
        }
    )
    if not amounts:
        return invoice
    lines: Any = [
        {
            "amount": amount,
            "description": f"line {place}",
            "period": {"start": 1_700_000_000, "end": 1_702_592_000},
            "metadata": {"line": str(place)},
        }
        for place, amount in enumerate(amounts)
    ]
    return client.v1.invoices.add_lines(invoice.id, {"lines": lines})


def issued(client: stripe.StripeClient, customer: stripe.Customer, *amounts: int) -> stripe.Invoice:
    """Issue an invoice that Stripe collects by itself, and read it again."""
    invoice = draft(client, customer, *amounts)
    client.v1.invoices.finalize_invoice(invoice.id, {"auto_advance": True})
    return client.v1.invoices.retrieve(invoice.id)


def kinds(simulator: Simulator) -> list[str]:
    """Return the types of all events, oldest first."""
    return [event["type"] for event in simulator.events()]
