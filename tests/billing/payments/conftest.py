"""A simulated Stripe for each test, and the two ways in which it reaches us."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest
import stripe
from pytest_django import Settings

from accounts.models import Customer
from billing.payments import client, inbox
from billing.payments.simulator import Simulator
from tests.billing.payments.taxing import ACTIVE, live_in
from tests.contract.stripe_schema import SchemaCheckedClient, schema_available
from tests.factories.accounts import a_customer
from tests.factories.payments import give_card

Deliver = Callable[[], int]


@pytest.fixture(scope="module")
def running_simulator() -> Iterator[Simulator]:
    with Simulator() as simulator:
        yield simulator


@pytest.fixture
def simulator(
    running_simulator: Simulator, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Simulator]:
    """Stripe, empty; every request and answer is held against the published schema."""
    running_simulator.reset()
    settings.STRIPE_API_KEY = ""
    settings.STRIPE_API_BASE = running_simulator.url
    settings.STRIPE_WEBHOOK_SECRET = running_simulator.webhook_secret
    monkeypatch.setattr(stripe.HTTPClient, "INITIAL_DELAY", 0.001)
    monkeypatch.setattr(stripe.HTTPClient, "MAX_DELAY", 0.001)
    if schema_available():
        monkeypatch.setattr(client, "transport", SchemaCheckedClient)
    client.forget()
    yield running_simulator
    client.forget()


@pytest.fixture
def now() -> datetime:
    """The simulator's clock is the real one."""
    return datetime.now(UTC)


@pytest.fixture
def customer(db: None) -> Customer:
    return a_customer(email="ada@example.com")


@pytest.fixture
def deliver(simulator: Simulator, now: datetime) -> Deliver:
    """Hand over every event so far, signed, and apply what is new; how many were applied."""

    def all_of_them() -> int:
        for event in simulator.events():
            body, signature = simulator.signed(event["id"])
            inbox.store(body, signature=signature, now=datetime.now(UTC))
        return inbox.process_pending(now=datetime.now(UTC), limit=1_000)

    return all_of_them


@pytest.fixture
def taxed(simulator: Simulator, settings: Settings) -> None:
    """20 % on whatever is sold to whoever has an address."""
    settings.STRIPE_TAX = True
    simulator.set_up(tax=ACTIVE)


@pytest.fixture
def placed(customer: Customer, now: datetime) -> Customer:
    """A customer in Berlin with a card."""
    live_in(customer, now=now)
    give_card(customer, now=now)
    return customer
