"""Meters and grants over HTTP."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from django.test import Client

from accounts.domain import ids
from accounts.models import AuditEntry, Customer
from metering.models import Grant, Meter, MeterVersion
from tests.factories.accounts import an_operator_key, bearer
from tests.factories.metering import (
    make_entitlement,
    make_meter,
)
from tests.metering.api.calls import get, post

pytestmark = pytest.mark.django_db
METER = {
    "key": "chat.tokens",
    "event_type": "llm.completion",
    "aggregation": "sum",
    "property": "tokens",
    "dimensions": ["model"],
    "filters": [{"property": "region", "in": ["eu"]}],
    "unit": "token",
    "display": {"unit": "1k tokens", "divisor": 1000},
}


def test_a_meter_is_defined_seen_listed_and_archived(operator: Client) -> None:
    answer = post(operator, "/meters", METER)
    assert answer.status_code == 201, answer.content
    made = answer.json()
    assert made["id"].startswith("mtr_")
    assert {name: made[name] for name in METER} == METER
    assert made["archived_at"] is None
    assert get(operator, "/meters/chat.tokens").json() == made
    assert get(operator, f"/meters/{made['id']}").json() == made
    assert get(operator, "/meters", archived="false").json()["data"] == [made]
    archived = post(operator, "/meters/chat.tokens/archive", {}).json()
    assert archived["archived_at"].endswith("Z")
    assert post(operator, "/meters/chat.tokens/archive", {}).json() == archived
    assert get(operator, "/meters", archived="false").json()["data"] == []
    assert get(operator, "/meters", event_type="llm.completion").json()["data"] == [archived]
    assert AuditEntry.objects.filter(subject=made["id"]).count() == 2


@pytest.mark.parametrize(
    ("change", "code", "param"),
    [
        ({"key": "a b"}, "parameter_invalid", "key"),
        ({"aggregation": "median"}, "parameter_invalid", "aggregation"),
        ({"property": ""}, "parameter_invalid", "property"),
        ({"dimensions": ["a", "a"]}, "parameter_invalid", "dimensions"),
        ({"filters": [{"property": "region"}]}, "parameter_invalid", "filters[0]"),
        ({"filters": [{"property": "x", "gte": "1"}]}, "parameter_invalid", "filters[0].gte"),
        (
            {"filters": [{"property": "x", "exists": "yes"}]},
            "parameter_invalid",
            "filters[0].exists",
        ),
        ({"filters": [{"property": "x", "like": "y"}]}, "parameter_unknown", "filters[0].like"),
        ({"display": {"unit": "k"}}, "parameter_missing", "display.divisor"),
        ({"filters": [{"property": "x", "in": [[]]}]}, "parameter_invalid", "filters[0].in"),
        ({"display": {"unit": "k", "divisor": 0}}, "parameter_invalid", "display.divisor"),
        ({"uint": "token"}, "parameter_unknown", "uint"),
    ],
)
def test_a_meter_that_cannot_be_is_refused_by_name(
    operator: Client, change: dict[str, object], code: str, param: str
) -> None:
    answer = post(operator, "/meters", {**METER, **change})
    assert answer.status_code == 422, answer.content
    assert (answer.json()["code"], answer.json()["param"]) == (code, param)
    assert not Meter.objects.exists()


def test_filters_are_kept_as_they_were_said(operator: Client) -> None:
    filters = [
        {"property": "region", "not_in": ["us", 7, 0.1, True]},
        {"property": "size", "gte": 0.1, "lt": 10},
        {"property": "user", "exists": True},
    ]
    answer = post(operator, "/meters", {**METER, "filters": filters})
    assert answer.status_code == 201, answer.content
    assert answer.json()["filters"] == filters
    assert get(operator, "/meters/chat.tokens").json()["filters"] == filters
    raw = json.dumps({**METER, "key": "b"}).replace('"in": ["eu"]', '"gte": 1e999')
    answer = operator.post("/api/v1/meters", raw, content_type="application/json")
    assert (answer.status_code, answer.json()["param"]) == (422, "filters[0].gte")
    assert Meter.objects.count() == 1


def test_a_change_is_a_version_with_a_time(operator: Client) -> None:
    post(operator, "/meters", METER)
    first = {
        "number": 1,
        "effective_at": None,
        "price_table": None,
        **{name: METER[name] for name in ("event_type", "property", "dimensions", "filters")},
    }
    path = "/meters/chat.tokens/versions"
    assert get(operator, path).json() == {"data": [first]}
    answer = post(operator, path, {"filters": [], "property": "total_tokens"})
    assert answer.status_code == 201, answer.content
    assert answer.json()["data"][0] == first
    second = answer.json()["data"][1]
    assert second.pop("effective_at") > datetime.now(UTC).isoformat()
    assert second == {
        "number": 2,
        "event_type": "llm.completion",
        "property": "total_tokens",
        "dimensions": ["model"],
        "filters": [],
        "price_table": None,
    }
    at = (datetime.now(UTC) + timedelta(days=2)).isoformat().replace("+00:00", "Z")
    third = post(operator, path, {"event_type": "llm.chat", "effective_at": at}).json()["data"][2]
    assert (third["number"], third["effective_at"], third["filters"]) == (3, at, [])
    assert get(operator, path).json()["data"][2] == third
    # The meter is what it was; nothing of it can be changed in place.
    assert get(operator, "/meters/chat.tokens").json()["property"] == "tokens"
    for method in ("put", "patch", "delete"):
        refused = getattr(operator, method)("/api/v1/meters/chat.tokens", "{}")
        assert refused.status_code == 405


@pytest.mark.parametrize(
    ("change", "status", "code", "param"),
    [
        ({"aggregation": "count"}, 422, "parameter_unknown", "aggregation"),
        ({"key": "other"}, 422, "parameter_unknown", "key"),
        ({"unit": "call"}, 422, "parameter_unknown", "unit"),
        ({"dimensions": ["a", "a"]}, 422, "parameter_invalid", "dimensions"),
        ({"price_table": "none"}, 422, "parameter_invalid", "price_table"),
        (
            {"event_type": "b", "effective_at": "2020-01-01T00:00:00Z"},
            422,
            "parameter_invalid",
            "effective_at",
        ),
    ],
)
def test_a_change_that_cannot_be_is_refused_by_name(
    operator: Client, change: dict[str, object], status: int, code: str, param: str
) -> None:
    post(operator, "/meters", METER)
    answer = post(operator, "/meters/chat.tokens/versions", change)
    assert (answer.status_code, answer.json()["code"], answer.json()["param"]) == (
        status,
        code,
        param,
    )
    assert not MeterVersion.objects.exists()
    assert post(operator, "/meters/none/versions", {}).status_code == 404
    assert get(operator, "/meters/none/versions").status_code == 404


def test_an_archived_meter_is_not_changed(operator: Client) -> None:
    post(operator, "/meters", METER)
    post(operator, "/meters/chat.tokens/archive", {})
    answer = post(operator, "/meters/chat.tokens/versions", {"event_type": "b"})
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
    assert not MeterVersion.objects.exists()


def test_a_meters_key_is_given_once(operator: Client) -> None:
    post(operator, "/meters", METER)
    answer = post(operator, "/meters", METER)
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
    assert get(operator, "/meters/other").status_code == 404
    assert post(operator, "/meters/other/archive", {}).status_code == 404


def test_scopes_are_needed() -> None:
    client = Client(headers=bearer(an_operator_key("meters:read")[1]))
    assert get(client, "/meters").status_code == 200
    answer = post(client, "/meters", METER)
    assert (answer.status_code, answer.json()["code"]) == (403, "scope_missing")
    for path in ("/usage", "/events", "/decisions", "/grants", "/customers/acme/entitlements"):
        assert get(client, path).status_code == 403, path
    assert get(client, "/me/usage").json()["code"] == "wrong_kind_of_key"


def test_a_grant_is_given_listed_and_voided(operator: Client, customer: Customer) -> None:
    meter = make_meter()
    make_entitlement(customer, meter, included=10)
    body = {"customer": "acme", "meter": meter.key, "quantity": 5_000, "reason": "goodwill"}
    answer = post(operator, "/grants", body, **{"Idempotency-Key": "once"})
    assert answer.status_code == 201, answer.content
    made = answer.json()
    assert made["id"].startswith("grant_")
    assert (made["customer"], made["meter"]) == (customer.public_id, meter.key)
    assert (made["quantity"], made["used"], made["priority"]) == (5_000, 0, 10)
    assert made["expires_at"] is None
    repeated = post(operator, "/grants", body, **{"Idempotency-Key": "once"})
    assert repeated.json() == made
    assert Grant.objects.count() == 1
    assert get(operator, "/grants", customer="acme").json()["data"] == [made]
    voided = post(operator, f"/grants/{made['id']}/void", {}).json()
    assert voided["voided_at"].endswith("Z")
    assert post(operator, f"/grants/{made['id']}/void", {}).json() == voided
    assert post(operator, f"/grants/{ids.encode('grant', 1)}/void", {}).status_code == 404


def test_grants_are_paged(operator: Client, customer: Customer) -> None:
    meter = make_meter()
    for quantity in (1, 2, 3):
        post(operator, "/grants", {"customer": "acme", "meter": meter.key, "quantity": quantity})
    first = get(operator, "/grants", customer="acme", limit="2").json()
    rest = get(operator, "/grants", customer="acme", limit="2", cursor=first["next"]).json()
    assert [len(first["data"]), first["has_more"]] == [2, True]
    assert [len(rest["data"]), rest["has_more"], rest["next"]] == [1, False, None]
    assert sorted(each["quantity"] for each in first["data"] + rest["data"]) == [1, 2, 3]


@pytest.mark.parametrize(
    ("change", "code", "param"),
    [
        ({"quantity": 0}, "parameter_invalid", "quantity"),
        ({"quantity": 1.5}, "parameter_invalid", "quantity"),
        ({"meter": "none"}, "meter_unknown", "meter"),
        ({"customer": "none"}, "customer_unknown", "customer"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "parameter_invalid", "expires_at"),
    ],
)
def test_a_grant_that_cannot_be_is_refused_by_name(
    operator: Client, customer: Customer, change: dict[str, object], code: str, param: str
) -> None:
    body = {"customer": "acme", "meter": make_meter().key, "quantity": 5}
    answer = post(operator, "/grants", {**body, **change})
    assert answer.status_code == 422, answer.content
    assert (answer.json()["code"], answer.json()["param"]) == (code, param)
    assert not Grant.objects.exists()
