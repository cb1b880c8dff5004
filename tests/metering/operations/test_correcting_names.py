"""Amending by names of OpenTelemetry: as the gate would count the same data."""

from __future__ import annotations

from typing import Any

import pytest

from accounts.models import Customer
from metering.domain.shapes.tokens import with_our_names
from metering.models import Correction, Meter, UsageEvent
from metering.operations.checking import broken_invariants
from metering.operations.correcting import amend
from metering.queries.usage import usage_total
from tests.factories.counted import happen
from tests.factories.metering import NOW, make_customer, make_entitlement, make_meter, report
from tests.metering.gate.books import broken

pytestmark = pytest.mark.django_db


@pytest.fixture
def customer(db: None) -> Customer:
    return make_customer()


@pytest.fixture
def meter(customer: Customer) -> Meter:
    found = make_meter(value_property="total_tokens", dimensions=["model"])
    make_entitlement(customer, found)
    return found


def used(customer: Customer, meter: Meter) -> int:
    assert broken_invariants(now=NOW, customer_ids=[customer.id]) == []
    assert broken(customer.id) == []
    start_at = NOW.replace(day=1, hour=0)
    return usage_total(
        customer.id, meter_id=meter.id, start_at=start_at, end_at=NOW.replace(day=28)
    )


def correct(event: UsageEvent, **properties: Any) -> Correction:
    return amend(
        event.customer_id,
        event_id=event.id,
        properties=properties,
        reason="wrong count",
        actor="opk_1",
        now=NOW,
    )


def test_names_of_opentelemetry_are_amended_as_they_are_reported(
    customer: Customer, meter: Meter
) -> None:
    said: dict[str, Any] = {"gen_ai.usage.input_tokens": 5, "gen_ai.request.model": "a"}
    reported: dict[str, Any] = dict(with_our_names(said))
    event = happen(customer, meter, **reported)
    assert used(customer, meter) == 5
    # As they would be reported: with their names alone.
    made = correct(event, **said | {"gen_ai.usage.input_tokens": 7})
    assert made.properties == with_our_names(said | {"gen_ai.usage.input_tokens": 7})
    assert used(customer, meter) == 7
    assert correct(event, **said | {"gen_ai.usage.input_tokens": 7}) == made
    # As they are shown, with ours beside them, which are made anew.
    made = correct(event, **{**(made.properties or {}), "gen_ai.usage.output_tokens": 2})
    assert made.properties == with_our_names(
        said | {"gen_ai.usage.input_tokens": 7, "gen_ai.usage.output_tokens": 2}
    )
    assert used(customer, meter) == 9
    # Ours win where they say something else, as they do when they are reported.
    made = correct(event, **{**(made.properties or {}), "total_tokens": 4, "model": "b"})
    assert used(customer, meter) == 4
    made = correct(event, **{**(made.properties or {}), "gen_ai.usage.input_tokens": 1})
    assert made.properties is not None
    names = ("input_tokens", "total_tokens", "model")
    assert [made.properties[name] for name in names] == [1, 4, "b"]
    assert used(customer, meter) == 4


def test_what_a_check_said_of_itself_is_kept_as_it_is(customer: Customer, meter: Meter) -> None:
    event = report(customer, meter, 10, properties={"total_tokens": 10})
    UsageEvent.objects.filter(id=event.id).update(answer={"mode": "consume"})
    said = {"gen_ai.request.model": "a"}
    assert correct(event, **said).properties == said  # the gate takes it so, too
    assert used(customer, meter) == 10
