"""A gate on the test database, a gateway, and a customer with something to use."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import transaction

from accounts.models import Customer
from accounts.operations.versions import bump, bump_catalogue
from metering.models import Balance, Entitlement, Hold, Meter, Standing, UsageBatch, UsageEvent
from tests.metering.gate.client import GateProcess, make_api_key, make_gateway


@dataclass(slots=True)
class World:
    """One customer on plan `free` with 1,000 api.calls a month and 5,000 chat.tokens a month."""

    gate: GateProcess
    customer: Customer
    key: str
    calls: Meter
    tokens: Meter

    def check(self, **body: Any) -> Any:
        """POST /check for the customer, about api.calls unless said otherwise."""
        given = {"key": self.key, **body}
        if not {"meter", "items"} & given.keys():
            given["meter"] = "api.calls"
        return self.gate.check(given)

    def balance(self, meter: Meter) -> tuple[int, int]:
        """(used, held) of all windows, as the database has them."""
        rows = Balance.objects.filter(customer_id=self.customer.id, meter=meter)
        return sum(row.used for row in rows), sum(row.held for row in rows)

    def state(self) -> list[Any]:
        """Everything of the customer that a denial must leave as it was."""
        mine = {"customer_id": self.customer.id}
        return [
            sorted(Balance.objects.filter(**mine).values_list()),
            sorted(UsageEvent.objects.filter(**mine).values_list("id", "usage"), key=str),
            sorted(Hold.objects.filter(**mine).values_list("id", "state"), key=str),
            UsageBatch.objects.count(),
        ]


@pytest.fixture
def gate(transactional_db: None) -> Iterator[GateProcess]:
    """A gate that calls as the gateway edge-1."""
    process = GateProcess()
    _, process.key = make_gateway()
    yield process
    process.stop()


@pytest.fixture
def world(gate: GateProcess) -> World:
    """A customer in good standing."""
    now = datetime.now(UTC)
    calls = Meter.objects.create(
        key="api.calls", event_type="api.call", aggregation="count", created_at=now
    )
    tokens = Meter.objects.create(
        key="chat.tokens",
        event_type="llm.completion",
        aggregation="sum",
        value_property="tokens",
        dimensions=["model"],
        unit="token",
        created_at=now,
    )
    customer = make_customer()
    entitle(customer, calls, included=1_000)
    entitle(customer, tokens, included=5_000)
    with transaction.atomic():
        bump_catalogue()
    return World(gate, customer, make_api_key(customer), calls, tokens)


def make_customer(**standing: Any) -> Customer:
    """A customer on plan free."""
    from tests.factories import metering

    customer = metering.make_customer()
    given: dict[str, Any] = {"plan_key": "free", "plan_name": "Free", **standing}
    Standing.objects.create(customer=customer, updated_at=datetime.now(UTC), **given)
    return customer


def entitle(customer: Customer, meter: Meter | None, **terms: Any) -> Entitlement:
    """Give a metered right by calendar month since the start of last year, or one to a feature."""
    begin = datetime(datetime.now(UTC).year - 1, 1, 1, tzinfo=UTC)
    given: dict[str, Any] = {
        "kind": "metered",
        "window": "month",
        "anchor_at": begin,
        "starts_at": begin,
        "source": "sub_test",
        **terms,
    }
    with transaction.atomic():
        bump(customer.id)
        return Entitlement.objects.create(customer_id=customer.id, meter=meter, **given)


def change(customer: Customer, **standing: Any) -> None:
    """Change what billing says of the customer, as provisioning does."""
    with transaction.atomic():
        bump(customer.id)
        Standing.objects.filter(customer=customer).update(**standing)


def past(seconds: float) -> datetime:
    """A moment that many seconds ago."""
    return datetime.now(UTC) - timedelta(seconds=seconds)
