"""Backfills over HTTP: opened, filled, previewed, closed and reverted."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.test import Client

from accounts.models import Customer
from metering.models import Backfill, Meter, StagedEvent, UsageEvent
from metering.tasks import apply_backfills
from tests.factories.counted import books_of
from tests.factories.metering import NOW, make_customer, make_entitlement, make_meter
from tests.metering.api.calls import as_customer, get, post

pytestmark = pytest.mark.django_db
BEGIN = NOW - timedelta(days=200)  # real time goes on while tests run


def at(moment: datetime) -> str:
    return moment.isoformat()


@pytest.fixture
def meter(customer: Customer) -> Meter:
    found = make_meter(key="chat.tokens", event_type="llm.completion")
    make_entitlement(customer, found)
    return found


def opened(operator: Client, **members: Any) -> Any:
    said = {
        "customers": ["acme"],
        "event_type": "llm.completion",
        "mode": "add",
        "from": at(BEGIN),
        "to": at(BEGIN + timedelta(days=3)),
        "reason": "the gateway was down",
        **members,
    }
    return post(operator, "/backfills", said)


def event(number: int, tokens: Any = 10, **members: Any) -> dict[str, Any]:
    return {
        "id": f"old-{number}",
        "subject": "acme",
        "time": at(BEGIN + timedelta(hours=number)),
        "data": {"tokens": tokens},
        **members,
    }


def test_from_opened_to_reverted(operator: Client, customer: Customer, meter: Meter) -> None:
    answer = opened(operator)
    assert answer.status_code == 201, answer.content
    made = answer.json()
    assert (made["status"], made["customers"]) == ("open", [get_id(customer)])
    path = f"/backfills/{made['id']}"
    taken = post(operator, f"{path}/events", {"events": [event(1), event(2), event(2)]}).json()
    assert taken == {"accepted": 2, "duplicates": 1, "rejected": []}
    preview = post(operator, f"{path}/preview", {}).json()
    assert preview["customers"] == [
        {
            "customer": get_id(customer),
            "events": 2,
            "usage": [{"meter": "chat.tokens", "before": 0, "after": 20}],
            "open_period": None,
            "closed_periods": [],
        }
    ]
    some = post(operator, f"{path}/preview", {"customers": ["acme"]}).json()
    assert some == preview
    other = post(operator, f"{path}/preview", {"customers": [make_customer().public_id]})
    assert (other.status_code, other.json()["param"]) == (422, "customers")
    assert post(operator, f"{path}/preview", {"customers": []}).status_code == 422
    assert not UsageEvent.objects.exists()
    assert get(operator, path).json()["status"] == "open"
    assert post(operator, f"{path}/close", {}).json()["status"] == "closing"
    assert apply_backfills() == 2
    shown = get(operator, path).json()
    assert (shown["status"], shown["events"]["supplied"], shown["events"]["added"]) == (
        "closed",
        2,
        2,
    )
    assert books_of(customer, meter) == {"chat.tokens": 20}
    assert post(operator, f"{path}/preview", {}).json()["code"] == "conflict"
    assert post(operator, f"{path}/events", {"events": [event(3)]}).json()["code"] == "conflict"
    assert post(operator, f"{path}/revert", {}).json()["status"] == "reverting"
    apply_backfills()
    (listed,) = get(operator, "/backfills").json()["data"]
    assert listed == get(operator, path).json()
    assert (listed["status"], listed["events"]["undone"]) == ("reverted", 2)
    assert books_of(customer, meter) == {"chat.tokens": 0}
    assert post(operator, f"{path}/close", {}).json()["code"] == "conflict"


def get_id(customer: Customer) -> str:
    return customer.public_id


def test_each_event_has_its_own_fate(operator: Client, customer: Customer, meter: Meter) -> None:
    path = f"/backfills/{opened(operator).json()['id']}/events"
    wrong = [
        event(1, time="yesterday"),
        {name: value for name, value in event(2).items() if name != "time"},
        event(3, id=7),
        event(4, subject="nobody"),
        event(5, more=1),
        event(6, 1.5),
        event(7, time=at(NOW)),
        event(8),
    ]
    taken = post(operator, path, {"events": wrong}).json()
    assert (taken["accepted"], taken["duplicates"]) == (1, 0)
    assert [(each["index"], each["id"], each["code"]) for each in taken["rejected"]] == [
        (0, "old-1", "parameter_invalid"),
        (1, "old-2", "parameter_missing"),
        (2, None, "parameter_invalid"),
        (3, "old-4", "customer_unknown"),
        (4, "old-5", "parameter_unknown"),
        (5, "old-6", "quantity_invalid"),
        (6, "old-7", "time_out_of_range"),
    ]
    only_wrong = post(operator, path, {"events": [event(1, time="yesterday")]}).json()
    assert (only_wrong["accepted"], len(only_wrong["rejected"])) == (0, 1)
    assert StagedEvent.objects.count() == 1


@pytest.mark.parametrize(
    ("said", "param"),
    [
        ({"customers": []}, "customers"),
        ({"customers": ["nobody"]}, "customers"),
        ({"event_type": "unheard.of"}, "event_type"),
        ({"mode": "undo"}, "mode"),
        ({"to": at(BEGIN)}, "to"),
        ({"reason": ""}, "reason"),
        ({"actor": "me"}, "actor"),
    ],
)
def test_what_cannot_be_opened(
    operator: Client, customer: Customer, meter: Meter, said: dict[str, Any], param: str
) -> None:
    answer = opened(operator, **said)
    assert answer.status_code == 422
    assert answer.json()["param"].split("[", maxsplit=1)[0] == param
    assert not Backfill.objects.exists()


def test_backfills_that_are_not_there(operator: Client, customer: Customer) -> None:
    for public in ("bf_x", "bf_01hzzzzzzzzzz", make_customer().public_id):
        for verb, body in (
            ("events", {"events": [event(1)]}),
            ("close", {}),
            ("revert", {}),
            ("preview", {}),
        ):
            answer = post(operator, f"/backfills/{public}/{verb}", body)
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), answer.content
        assert get(operator, f"/backfills/{public}").status_code == 404
    assert get(as_customer(customer), "/backfills").status_code == 403
