"""Amending and voiding events over HTTP."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from django.test import Client

from accounts.domain import ids
from accounts.models import Customer
from metering.models import Correction, UsageBatch, UsageEvent
from tests.factories.metering import make_customer, make_entitlement, make_meter, report
from tests.metering.api.calls import get, post

pytestmark = pytest.mark.django_db


def path(event: UsageEvent, verb: str = "") -> str:
    public = ids.encode_owned("evt", customer_id=event.customer_id, key=event.id)
    return f"/events/{public}{verb and '/' + verb}"


def test_both_versions_are_visible(operator: Client, customer: Customer) -> None:
    meter = make_meter(key="chat.tokens")
    make_entitlement(customer, meter)
    event = report(customer, meter, 10, properties={"model": "a"})
    said = {"quantity": 7, "reason": "counted twice"}
    answer = post(operator, path(event, "amend"), said)
    assert answer.status_code == 200, answer.content
    amended = answer.json()
    counted = {"meter": "chat.tokens", "member": None}
    assert amended["usage"] == [{**counted, "quantity": 7}]
    assert (amended["number"], amended["kind"]) == (1, "amend")
    assert (amended["reason"], amended["backfill"]) == ("counted twice", None)
    assert amended["actor"].startswith("opk_")
    body = get(operator, path(event)).json()
    assert (body["corrected"], body["usage"]) == ("amend", [{**counted, "quantity": 7}])
    assert body["original"]["usage"] == [{**counted, "quantity": 10}]
    assert body["fate"]["corrections"] == [amended]
    (counts,) = body["fate"]["meters"]
    assert (counts["quantity"], counts["windows"][0]["used"]) == (7, 7)
    voided = post(operator, path(event, "void"), {"reason": "a test call"}).json()
    assert (voided["number"], voided["kind"], voided["usage"]) == (2, "void", [])
    body = get(operator, path(event)).json()
    assert (body["corrected"], body["usage"], body["fate"]["meters"]) == ("void", [], [])
    assert body["fate"]["stopped"] == "It was voided: a test call"
    assert len(body["fate"]["corrections"]) == 2
    (listed,) = get(operator, "/events", customer="acme").json()["data"]
    assert listed == {name: value for name, value in body.items() if name != "fate"}
    refused = post(operator, path(event, "amend"), said)
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")


def test_an_idempotency_key_answers_again(operator: Client, customer: Customer) -> None:
    event = report(customer, make_meter(), 10)
    said = {"quantity": 7, "reason": "counted twice"}
    first = post(operator, path(event, "amend"), said, **{"Idempotency-Key": "a"})
    post(operator, path(event, "amend"), {**said, "quantity": 8})
    again = post(operator, path(event, "amend"), said, **{"Idempotency-Key": "a"})
    assert again.json() == first.json()
    assert again["Farebox-Replayed"] == "true"
    assert Correction.objects.get(superseded_at=None).usage == {next(iter(event.usage)): 8}


def test_quantities_by_meter(operator: Client, customer: Customer) -> None:
    meter, calls = make_meter(key="chat.tokens"), make_meter(key="chat.calls")
    event = report(customer, meter, 10)
    UsageEvent.objects.filter(id=event.id).update(usage={str(meter.id): 10, str(calls.id): 1})

    def amend(**said: Any) -> Any:
        return post(operator, path(event, "amend"), {"reason": "x", **said}).json()

    assert amend(quantity=1)["param"] == "quantity"
    one = {"meter": "chat.tokens", "quantity": 3}
    assert amend(quantities=[one, one])["param"] == "quantities"
    assert amend(quantities=[one], quantity=1)["param"] == "quantity"
    assert amend(quantities=[])["param"] == "quantities"
    assert amend(quantities=[{**one, "meter": make_meter().key}])["param"] == "quantities"
    assert amend()["param"] == "quantity"
    made = amend(quantities=[one])
    assert {each["meter"]: each["quantity"] for each in made["usage"]} == {
        "chat.tokens": 3,
        "chat.calls": 1,
    }


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ({"quantity": 7}, "parameter_missing"),
        ({"quantity": 7, "reason": ""}, "parameter_invalid"),
        ({"quantity": 7.0, "reason": "x"}, "parameter_invalid"),
        ({"quantity": -1, "reason": "x"}, "parameter_invalid"),
        ({"quantity": 7, "reason": "x", "actor": "me"}, "parameter_unknown"),
        ({"properties": {"tokens": 1.5}, "reason": "x"}, "parameter_invalid"),
        ({"properties": [], "reason": "x"}, "parameter_invalid"),
    ],
)
def test_what_is_refused_moves_nothing(
    operator: Client, customer: Customer, said: dict[str, Any], code: str
) -> None:
    event = report(customer, make_meter(), 10)
    answer = post(operator, path(event, "amend"), said)
    assert (answer.status_code, answer.json()["code"]) == (422, code), answer.content
    assert not Correction.objects.exists()
    assert UsageBatch.objects.count() == 1


def test_an_event_that_is_not_there(operator: Client, customer: Customer) -> None:
    event = report(customer, make_meter(), 1)
    other = ids.encode_owned("evt", customer_id=make_customer().id, key=event.id)
    nothing = ids.encode_owned("evt", customer_id=customer.id, key=UUID(int=1 << 100))
    for public in (other, nothing, "evt_x"):
        for verb, said in (("amend", {"quantity": 1}), ("void", {})):
            answer = post(operator, f"/events/{public}/{verb}", {"reason": "x", **said})
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), public
    assert not Correction.objects.exists()


def test_events_are_found_by_their_id(operator: Client, customer: Customer) -> None:
    meter = make_meter()
    event = report(customer, meter, 1, external_id="call-7")
    UsageEvent.objects.filter(id=event.id).delete()
    from metering.domain.counting import event_key

    UsageEvent.objects.create(
        **{
            **{
                field.attname: getattr(event, field.attname)
                for field in UsageEvent._meta.concrete_fields
                if field.attname != "pk"
            },
            "id": event_key("test", "call-7"),
        }
    )
    report(customer, meter, 2)
    public = ids.encode_owned("evt", customer_id=customer.id, key=event_key("test", "call-7"))
    other = ids.encode_owned("evt", customer_id=make_customer().id, key=event.id)

    def found(**query: str) -> list[str]:
        data = get(operator, "/events", customer="acme", **query).json()["data"]
        return [each["id"] for each in data]

    assert found(id="call-7") == found(id="call-7", source="test") == found(id=public) == [public]
    assert found(id="call-7", source="other") == found(id=other) == found(id="call-8") == []
    assert found(type=meter.event_type, id="call-7") == [public]
