"""Several gates on one customer: exact whatever the order, and whoever dies in the middle."""

from __future__ import annotations

import json
import random
import subprocess
from collections import Counter
from typing import Any

import hypothesis
import pytest
from django.db import transaction
from django.utils import timezone

from accounts.models import Customer
from accounts.operations.versions import bump_catalogue
from metering.models import Balance, Meter, UsageEvent
from tests.concurrency.gate_processes import Callers, finish, start, start_together
from tests.metering.gate.books import broken
from tests.metering.gate.client import dsn, make_api_key, make_gateway
from tests.metering.gate.conftest import entitle, make_customer

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow, pytest.mark.proof]
CHECK = "/api/v1/check"
ROUNDS = 50 if hypothesis.settings().max_examples >= 1_000 else 3


@pytest.fixture
def meter(transactional_db: None) -> Meter:
    """Something to count."""
    with transaction.atomic():
        bump_catalogue()
        return Meter.objects.create(
            key="api.calls", event_type="api.call", aggregation="count", created_at=timezone.now()
        )


def consume(key: str, id_: str, quantity: int = 1) -> list[Any]:
    """A call that consumes."""
    body = {"key": key, "meter": "api.calls", "mode": "consume", "id": id_, "quantity": quantity}
    return ["POST", CHECK, body]


def test_of_two_hundred_callers_exactly_six_are_admitted(meter: Meter) -> None:
    _, gateway_key = make_gateway()
    customers = [make_customer() for _ in range(ROUNDS)]
    for customer in customers:
        entitle(customer, meter, included=500)
    keys = [make_api_key(customer) for customer in customers]

    # Of each customer's 200 a quarter is at each gate; the gates begin at the same moment.
    shares = [
        [[consume(key, f"{gate}-{caller}", 75) for key in keys] for caller in range(50)]
        for gate in range(4)
    ]
    told = [finish(gate) for gate in start_together(dsn(), gateway_key, shares)]

    for place, customer in enumerate(customers):
        mine = [(status, body) for each in told for _, at, status, body in each if at == place]
        assert Counter(status for status, _ in mine) == {200: 6, 402: 194}
        assert all(body["max_admissible"] < 75 for status, body in mine if status == 402)
        assert Balance.objects.get(customer_id=customer.id).used == 450
        assert UsageEvent.objects.filter(customer_id=customer.id).count() == 6


def test_twins_at_four_gates_get_one_answer(meter: Meter) -> None:
    customer = make_customer()
    entitle(customer, meter, included=10**6)
    key, (_, gateway_key) = make_api_key(customer), make_gateway()
    calls = [consume(key, f"twin-{n}") for n in range(40)]

    gates = start_together(dsn(), gateway_key, [[calls], [calls], [calls], [calls]])
    told = [finish(gate) for gate in gates]

    assert {status for each in told for _, _, status, _ in each} == {200}
    bodies = [[body for _, _, _, body in sorted(each, key=lambda row: row[1])] for each in told]
    assert all(each == bodies[0] for each in bodies)
    assert Balance.objects.get(customer_id=customer.id).used == len(calls)
    assert UsageEvent.objects.count() == len(calls)


def test_random_calls_from_four_gates_leave_the_books_in_order(meter: Meter) -> None:
    chance = random.Random(20261122)
    customers = [make_customer() for _ in range(3)]
    for customer in customers:
        entitle(customer, meter, included=400)
    keys, (_, gateway_key) = [make_api_key(each) for each in customers], make_gateway()

    gates = [
        start(dsn(), gateway_key, [_random_calls(chance, keys, f"{n}") for n in range(8)])
        for _ in range(4)  # the same ids from several gates: duplicates too
    ]
    answers = [answer for gate in gates for answer in finish(gate)]

    assert {status for _, _, status, _ in answers} <= {200, 402, 404, 409, 422, 429}
    assert sum(status == 200 for _, _, status, _ in answers) > 100
    assert broken() == []
    for customer in customers:
        row = Balance.objects.get(customer_id=customer.id)
        assert row.used + row.held <= 400


def _random_calls(chance: random.Random, keys: list[str], name: str) -> list[list[Any]]:
    calls: list[list[Any]] = []
    for n in range(12):
        body: dict[str, Any] = {
            "key": chance.choice(keys),
            "meter": "api.calls",
            "quantity": chance.randrange(0, 9),
            "id": f"{name}-{chance.randrange(9)}",
        }
        match chance.randrange(4):
            case 0:
                calls.append(["POST", CHECK, body | {"mode": "consume"}])
            case 1:
                calls.append(["POST", CHECK, body | {"mode": "hold", "id": f"h-{name}-{n}"}])
                action = chance.choice(["settle", "release", "extend"])
                closing: dict[str, dict[str, int] | None] = {
                    "settle": {"quantity": chance.randrange(12)},
                    "release": None,
                    "extend": {"ttl": 90},
                }
                calls.append(["POST", f"/api/v1/holds/$hold/{action}", closing[action]])
            case 2:
                calls.append(["POST", CHECK, body | {"mode": "peek"}])
            case _:
                event: dict[str, Any] = {"specversion": "1.0", "source": "app", "type": "api.call"}
                event |= {"id": body["id"], "subject": body["key"], "data": {"quantity": 0}}
                calls.append(["POST", "/api/v1/events", [event]])
    return calls


def test_a_gate_that_is_killed_loses_and_doubles_nothing(meter: Meter) -> None:
    customer = make_customer()
    entitle(customer, meter, included=10**9)
    key, (_, gateway_key) = make_api_key(customer), make_gateway()
    callers: Callers = [[consume(key, f"{caller}-{n}") for n in range(200)] for caller in range(16)]

    answered: set[str] = set()
    for seen in (3, 40, 150):
        answered |= _answered_until_killed(start(dsn(), gateway_key, callers), callers, seen)
        counted = _counted(customer)
        assert answered <= counted.keys()
        assert set(counted.values()) == {1}
        assert broken() == []

    finish(start(dsn(), gateway_key, callers))
    counted = _counted(customer)
    assert len(counted) == 3_200
    assert set(counted.values()) == {1}
    assert Balance.objects.get(customer_id=customer.id).used == 3_200
    assert broken() == []


def _answered_until_killed(process: subprocess.Popen[str], callers: Callers, seen: int) -> set[str]:
    """Kill a gate when `seen` of its answers were read; return the ids of all that it gave."""
    answered: set[str] = set()
    with process as gate:
        assert gate.stdout is not None
        # Read on where readline() ends: communicate() would begin behind what is in its buffer.
        for line in gate.stdout:
            if line.endswith("]\n"):
                number, place, status, _body = json.loads(line)
                assert status == 200
                answered.add(callers[number][place][2]["id"])
            if len(answered) == seen:
                gate.kill()
    assert len(answered) >= seen
    return answered


def _counted(customer: Customer) -> Counter[str]:
    return Counter(
        UsageEvent.objects.filter(customer_id=customer.id).values_list("external_id", flat=True)
    )
