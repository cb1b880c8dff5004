"""What an operator puts right counts from the gate's next decision on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import transaction

from accounts.operations.versions import bump
from metering.models import Grant, UsageEvent
from metering.operations.checking import broken_invariants
from metering.operations.correcting import amend, void
from tests.metering.gate.books import broken
from tests.metering.gate.conftest import World

pytestmark = pytest.mark.django_db(transaction=True)


def by() -> dict[str, Any]:
    return {"reason": "counted twice", "actor": "opk_1", "now": datetime.now(UTC)}


def event(external_id: str) -> UsageEvent:
    return UsageEvent.objects.get(external_id=external_id)


def assert_books(world: World) -> None:
    assert broken(world.customer.id) == []
    now = datetime.now(UTC)
    assert broken_invariants(now=now, customer_ids=[world.customer.id]) == []


def test_what_was_counted_too_much_is_there_again(world: World) -> None:
    first = world.check(mode="consume", id="call-1", quantity=900)
    assert world.check(mode="consume", id="call-2", quantity=200).status == 402
    amend(world.customer.id, event_id=event("call-1").id, quantities={world.calls.id: 100}, **by())
    got = world.check(mode="consume", id="call-2", quantity=200)
    assert got.status == 200
    assert (got.body["balances"][0]["used"], got.body["balances"][0]["remaining"]) == (300, 700)
    void(world.customer.id, event_id=event("call-2").id, **by())
    assert world.check(mode="consume", id="call-3", quantity=900).status == 200
    assert world.check(mode="consume", id="call-4").status == 402
    # An id keeps its answer, whatever became of what it was answered for.
    again = world.check(mode="consume", id="call-1", quantity=900)
    assert (again.status, again.headers["farebox-replayed"]) == (200, "true")
    assert again.body == first.body
    assert_books(world)


def test_grants_that_the_gate_burned_are_there_again(world: World) -> None:
    with transaction.atomic():
        bump(world.customer.id)
        now = datetime.now(UTC)
        Grant.objects.create(
            customer=world.customer,
            meter=world.calls,
            quantity=500,
            effective_at=now - timedelta(days=1),
            created_at=now,
        )
    assert world.check(mode="consume", id="call-1", quantity=1_400).status == 200
    assert Grant.objects.get().used == 400
    amend(
        world.customer.id, event_id=event("call-1").id, quantities={world.calls.id: 1_100}, **by()
    )
    assert Grant.objects.get().used == 100
    assert world.check().body["balances"][0]["remaining"] == 400
    assert world.check(mode="consume", id="call-2", quantity=401).status == 402
    assert world.check(mode="consume", id="call-3", quantity=400).status == 200
    void(world.customer.id, event_id=event("call-1").id, **by())
    assert Grant.objects.get().used == 400  # what other calls were paid by stays
    assert_books(world)


def test_what_settled_a_hold_is_corrected_like_any_other(world: World) -> None:
    held = world.check(mode="hold", id="call-1", quantity=900)
    hold = held.body["hold"]["id"]
    settled = world.gate.send("POST", f"/api/v1/holds/{hold}/settle", {"quantity": 950})
    assert settled.status == 200
    void(world.customer.id, event_id=event("call-1").id, **by())
    assert world.check().body["balances"][0]["remaining"] == 1_000
    again = world.gate.send("POST", f"/api/v1/holds/{hold}/settle", {"quantity": 950})
    assert again.body == settled.body  # and it is not counted anew
    assert world.balance(world.calls) == (0, 0)
    assert_books(world)
