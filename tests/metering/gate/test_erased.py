"""Whoever was erased is nobody to the gate: what comes late is not written down again."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from accounts.models import Customer
from billing.operations.erasing import erase_customer
from metering.models import Denial, Hold, QuarantinedEvent, UsageEvent
from tests.metering.gate.client import GateProcess, Got
from tests.metering.gate.conftest import World

pytestmark = pytest.mark.django_db(transaction=True)
SECRET = "alice"


@pytest.fixture
def keeping(world: World) -> Iterator[GateProcess]:
    """A gate that keeps refused events."""
    process = GateProcess(quarantine=10)
    process.key = world.gate.key
    yield process
    process.stop()


def report(gate: GateProcess, *subjects: str, source: str) -> Got:
    events = [
        {
            "specversion": "1.0",
            "id": f"{SECRET}-{place}",
            "source": source,
            "type": "api.call",
            "subject": subject,
            "data": {"user": SECRET},
        }
        for place, subject in enumerate(subjects)
    ]
    return gate.send("POST", "/api/v1/events", events)


def erase(world: World) -> None:
    erase_customer(world.customer.id, reason="asked", actor="opk_1", now=datetime.now(UTC))


def written(world: World) -> list[Any]:
    mine = UsageEvent.objects.filter(customer_id=world.customer.id)
    told = sorted(mine.values_list("source", "external_id", "properties"), key=str)
    return [told, list(Denial.objects.all()), list(QuarantinedEvent.objects.all()), *world.state()]


def test_nobody_erased_is_counted_or_written_down_again(world: World, keeping: GateProcess) -> None:
    Customer.objects.filter(id=world.customer.id).update(external_id=SECRET)
    cus = world.customer.public_id
    assert report(keeping, cus, world.key, SECRET, source="early").body["accepted"] == 3
    held = keeping.check({"customer": cus, "meter": "api.calls", "mode": "hold", "id": SECRET})
    hold = held.body["hold"]["id"]
    assert keeping.send("POST", f"/api/v1/holds/{hold}/release", {}).status == 200
    erase(world)
    before = written(world)
    assert SECRET not in str(before)

    late = report(keeping, cus, world.key, source="late")
    assert [each["code"] for each in late.body["rejected"]] == ["customer_unknown", "key_unknown"]
    assert not any(each.get("quarantined") for each in late.body["rejected"])
    ways: list[tuple[dict[str, str], str]] = [
        ({"customer": cus}, "customer_unknown"),
        ({"key": world.key}, "key_unknown"),
    ]
    for who, code in ways:
        for mode in ("consume", "hold", "peek"):
            asked: dict[str, Any] = {**who, "meter": "api.calls", "mode": mode}
            if mode != "peek":
                asked |= {"id": f"{SECRET}-{mode}", "properties": {"user": SECRET}}
            assert keeping.check(asked).body["code"] == code
    again = keeping.send("POST", f"/api/v1/holds/{hold}/settle", {"quantity": 1})
    assert (again.status, again.body["code"]) == (404, "not_found")
    assert Hold.objects.get().state == "released"
    assert written(world) == before


def test_an_outside_id_that_was_forgotten_is_anybodys(world: World, keeping: GateProcess) -> None:
    Customer.objects.filter(id=world.customer.id).update(external_id=SECRET)
    assert report(keeping, SECRET, source="early").body["accepted"] == 1
    erase(world)
    before = world.state()
    (refused,) = report(keeping, SECRET, source="late").body["rejected"]
    assert (refused["code"], refused["quarantined"]) == ("customer_unknown", True)
    assert QuarantinedEvent.objects.get().subject == SECRET  # a customer to come, for all we know
    assert world.state() == before
