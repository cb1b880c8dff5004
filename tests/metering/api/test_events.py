"""Events and decisions over HTTP."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from django.test import Client

from accounts.domain import ids
from accounts.models import Customer
from metering.domain.told import Told, keep
from metering.models import Denial, Grant, UsageEvent
from metering.operations.rolling_up import roll_up
from tests.factories.metering import (
    make_customer,
    make_entitlement,
    make_meter,
    open_hold,
    report,
)
from tests.metering.api.calls import as_customer, get

pytestmark = pytest.mark.django_db
HOUR = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)


def test_events_are_listed_latest_first_and_paged(operator: Client, customer: Customer) -> None:
    meter, other = make_meter(), make_meter()
    made = [report(customer, meter, n, at=HOUR - timedelta(minutes=n)) for n in range(3)]
    report(customer, other, 1, at=HOUR)
    report(make_customer(), meter, 1, at=HOUR)
    seen: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = get(operator, "/events", customer="acme", meter=meter.key, limit="2", **cursor)
        assert page.status_code == 200, page.content
        seen += [each["external_id"] for each in page.json()["data"]]
        if not page.json()["has_more"]:
            break
        cursor = {"cursor": page.json()["next"]}
    assert seen == [each.external_id for each in made]
    span = {"from": (HOUR - timedelta(minutes=1)).isoformat().replace("+00:00", "Z")}
    only = get(operator, "/events", customer="acme", source="test", **span).json()["data"]
    assert len(only) == 3
    until = {"to": span["from"]}
    assert len(get(operator, "/events", customer="acme", **until).json()["data"]) == 1
    assert only[0]["usage"][0]["quantity"] in {0, 1}
    assert get(operator, "/events").json()["code"] == "parameter_missing"


def test_an_events_whole_fate(operator: Client, customer: Customer) -> None:
    meter = make_meter(dimensions=["model"])
    make_entitlement(customer, meter, included=4)
    now = datetime.now(UTC)
    given = Grant.objects.create(
        customer_id=customer.id,
        meter=meter,
        quantity=100,
        effective_at=now - timedelta(days=1),
        created_at=now,
    )
    event = report(customer, meter, 7, at=now, properties={"model": "a"})
    path = f"/events/{ids.encode_owned('evt', customer_id=customer.id, key=event.id)}"
    answer = get(operator, path)
    assert answer.status_code == 200, answer.content
    fate = answer.json()["fate"]
    assert fate["stopped"] == "It waits for the next roll-up."
    (counted,) = fate["meters"]
    assert counted["bucket"] == {
        "start_at": now.replace(minute=0, second=0, microsecond=0)
        .isoformat()
        .replace("+00:00", "Z"),
        "dimensions": {"model": "a"},
        "rolled_up": False,
    }
    assert counted["grants"] == [{"grant": ids.encode("grant", given.id), "quantity": 3}]
    (window,) = counted["windows"]
    assert (window["window"], window["used"], window["grant_used"]) == ("month", 7, 3)
    roll_up(limit=10)
    fate = get(operator, path).json()["fate"]
    assert (fate["stopped"], fate["hold"]) == (None, None)
    assert fate["meters"][0]["bucket"]["rolled_up"] is True


def test_a_settled_hold_is_part_of_the_fate(operator: Client, customer: Customer) -> None:
    meter, now = make_meter(), datetime.now(UTC)
    make_entitlement(customer, meter)
    make_entitlement(customer, meter, window="minute", ends_at=now - timedelta(days=1))
    hold, event = open_hold(customer, meter, 5, at=now), report(customer, meter, 5, at=now)
    UsageEvent.objects.filter(id=event.id).update(id=hold.id, from_hold=True)
    public = ids.encode_owned("evt", customer_id=customer.id, key=hold.id)
    body = get(operator, f"/events/{public}").json()
    assert body["from_hold"] is True
    assert body["fate"]["hold"]["id"] == public.replace("evt_", "hold_")
    assert (body["fate"]["hold"]["state"], body["fate"]["hold"]["closed_at"]) == ("open", None)
    assert [each["window"] for each in body["fate"]["meters"][0]["windows"]] == ["month"]


def test_where_an_event_stopped(operator: Client, customer: Customer) -> None:
    unentitled = report(customer, make_meter(key="free.calls"), 1)
    unmetered = report(customer, make_meter(), 1)
    UsageEvent.objects.filter(id=unmetered.id).update(usage={})

    def stopped(event: UsageEvent) -> str:
        public = ids.encode_owned("evt", customer_id=customer.id, key=event.id)
        return str(get(operator, f"/events/{public}").json()["fate"]["stopped"])

    assert stopped(unentitled) == "The customer has no entitlement to free.calls at that time."
    assert "No meter counts events of the type" in stopped(unmetered)
    nothing = ids.encode_owned("evt", customer_id=customer.id, key=UUID(int=1 << 100))
    for path in (nothing, "evt_x", "hold_x"):
        assert get(operator, f"/events/{path}").status_code == 404


def test_a_denial_explained(operator: Client, customer: Customer) -> None:
    key, at = UUID(int=7), datetime.now(UTC)
    remedies = [
        {"action": "wait", "would_admit": False},
        {"action": "upgrade", "plan": "pro", "would_admit": True},
    ]
    Denial.objects.create(
        customer_id=customer.id,
        id=key,
        code="quota_exhausted",
        meter="api.calls",
        first_at=at,
        last_at=at,
        count=3,
        requested=10,
        problem={
            "detail": "1,000 of 1,000 api.calls are used.",
            "requested": 10,
            "max_admissible": 4,
            "balances": [{"meter": "api.calls"}],
            "remedies": remedies,
        },
    )
    public = ids.encode_owned("dec", customer_id=customer.id, key=key)
    answer = get(operator, f"/decisions/{public}")
    assert answer.status_code == 200, answer.content
    body = answer.json()
    assert (body["allowed"], body["code"], body["count"]) == (False, "quota_exhausted", 3)
    assert body["rule"] == "1,000 of 1,000 api.calls are used."
    assert body["smallest_change"] == {"more": 6, "remedy": remedies[1]}
    # A row of several of which the last one's answer was not kept yet.
    assert body["last"] == {"at": body["last_at"], "problem": None}
    assert get(as_customer(customer), f"/decisions/{public}").json() == body
    assert get(as_customer(make_customer()), f"/decisions/{public}").status_code == 404
    assert get(operator, "/decisions", customer="acme").json()["data"] == [body]
    span = {"from": "2020-01-01T00:00:00Z", "to": "2020-01-02T00:00:00Z"}
    Denial.objects.update(problem={"detail": "Suspended.", "requested": 10, "remedies": []})
    assert get(operator, f"/decisions/{public}").json()["smallest_change"] is None
    Denial.objects.update(last_problem={"requested": 12})
    assert get(operator, f"/decisions/{public}").json()["last"]["problem"] == {"requested": 12}
    Denial.objects.update(count=1)
    assert get(operator, f"/decisions/{public}").json()["last"] is None
    for query in ({"code": "not_in_plan"}, span):
        assert get(operator, "/decisions", customer="acme", **query).json()["data"] == []


def test_an_admitted_call_explained(operator: Client, customer: Customer) -> None:
    meter = make_meter()
    make_entitlement(customer, meter)
    hold = open_hold(customer, meter, 5)
    event = report(customer, meter, 5)

    def seen(key: UUID) -> Any:
        public = ids.encode_owned("dec", customer_id=customer.id, key=key)
        return get(operator, f"/decisions/{public}")

    body = seen(hold.id).json()
    assert (body["allowed"], body["answer"]["mode"]) == (True, "hold")
    assert body["hold"].startswith("hold_")
    assert seen(event.id).status_code == 404  # reported, never asked
    UsageEvent.objects.filter(id=event.id).update(answer=keep(Told("consume", "", ())))
    assert seen(event.id).json()["event"].startswith("evt_")
    assert seen(UUID(int=1 << 100)).status_code == 404
