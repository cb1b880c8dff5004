"""Customers over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from accounts.models import ApiKey, AuditEntry, Customer, CustomerVersion
from tests.factories.accounts import Api, a_customer, an_api_key, an_erased_customer, operator

pytestmark = pytest.mark.django_db


@pytest.fixture
def api() -> Api:
    return operator("customers:write")


def test_a_customer_is_created_with_its_version_and_an_audit_entry(api: Api) -> None:
    body = {"name": "Acme", "external_id": "acme", "email": "a@b.example", "metadata": {"a": "b"}}
    answer = api.post("customers", body)
    assert answer.status_code == 201, answer.content
    made = answer.json()
    assert made["id"].startswith("cus_")
    assert made["created_at"].endswith("Z")
    assert {name: made[name] for name in body} == body
    assert made["currency"] == "usd"
    assert made["suspended_at"] is None
    assert CustomerVersion.objects.get(customer=Customer.objects.get()).version == 0
    entry = AuditEntry.objects.get(action="customer.created")
    assert entry.subject == made["id"]
    assert entry.actor.startswith("opk_")
    assert entry.request_id == answer["X-Request-Id"]
    for reference in (made["id"], "acme"):
        assert api.get(f"customers/{reference}").json() == made


def test_a_taken_external_id_is_a_conflict(api: Api) -> None:
    a_customer(external_id="acme")
    answer = api.post("customers", {"name": "Acme", "external_id": "acme"})
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
    assert answer.json()["param"] == "external_id"
    assert Customer.objects.count() == 1


def test_some_members_are_changed_and_the_others_stay(api: Api) -> None:
    customer = a_customer(name="Acme", email="a@b.example")
    answer = api.call("PATCH", f"customers/{customer.public_id}", {"external_id": None})
    assert answer.status_code == 200, answer.content
    assert answer.json()["external_id"] is None
    assert answer.json()["name"] == "Acme"
    refused = api.call("PATCH", f"customers/{customer.public_id}", {"currency": "euro"})
    assert (refused.status_code, refused.json()["param"]) == (422, "currency")


def test_suspending_and_resuming(api: Api) -> None:
    customer = a_customer()
    path = f"customers/{customer.public_id}"
    suspended = api.post(f"{path}/suspend", {"reason": "abuse"})
    assert suspended.status_code == 200, suspended.content
    assert suspended.json()["suspended_at"]
    assert api.post(f"{path}/suspend").json() == suspended.json()
    assert api.post(f"{path}/resume").json()["suspended_at"] is None


def test_whoever_was_erased_is_not_resumed_and_gets_no_key() -> None:
    api, customer = operator("customers:write", "keys:write"), an_erased_customer()
    told = [
        api.post(f"customers/{customer.public_id}/resume"),
        api.post("api-keys", {"customer": customer.public_id, "name": "ci", "expires_at": None}),
    ]
    for answer in told:
        assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
        assert "was erased, which is for good" in answer.json()["detail"]
    assert Customer.objects.get().suspended_at is not None
    assert not ApiKey.objects.exists()


@pytest.mark.parametrize(
    "reference",
    ["cus_0000000000000", "cus_x", "nobody", "a" * 300, "%00", "%ED%A0%80", "cus_zzzzzzzzzzzzz"],
)
def test_nobody_is_not_found(api: Api, reference: str) -> None:
    for path, call in (
        (f"customers/{reference}", api.get),
        (f"customers/{reference}/suspend", api.post),
    ):
        answer = call(path)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), path


def test_customers_are_listed_by_page_and_found(api: Api) -> None:
    made = [a_customer(email="same@b.example").public_id for _ in range(5)]
    seen: list[str] = []
    query: dict[str, str] = {"limit": "2"}
    for _ in range(3):
        body = api.get("customers", **query).json()
        seen += [row["id"] for row in body["data"]]
        query["cursor"] = body["next"]
    assert body["has_more"] is False
    assert body["next"] is None
    assert sorted(seen) == sorted(made)
    assert len(api.get("customers", email="same@b.example").json()["data"]) == 5
    customer = a_customer(external_id="x")
    assert api.get("customers", external_id="x").json()["data"][0]["id"] == customer.public_id


GOOD: dict[str, Any] = {"name": "Acme"}


@pytest.mark.parametrize(
    ("change", "code", "param"),
    [
        ({"nam": "x"}, "parameter_unknown", "nam"),
        ({"id": "cus_0000000000000"}, "parameter_unknown", "id"),
        ({"name": None}, "parameter_invalid", "name"),
        ({"name": ""}, "parameter_invalid", "name"),
        ({"name": 5}, "parameter_invalid", "name"),
        ({"name": "x" * 201}, "parameter_invalid", "name"),
        ({"name": ["x"]}, "parameter_invalid", "name"),
        ({"email": "nobody"}, "parameter_invalid", "email"),
        ({"email": 1}, "parameter_invalid", "email"),
        ({"currency": "USD"}, "parameter_invalid", "currency"),
        ({"currency": "dollar"}, "parameter_invalid", "currency"),
        ({"external_id": "cus_x"}, "parameter_invalid", "external_id"),
        ({"external_id": ""}, "parameter_invalid", "external_id"),
        ({"metadata": {"a": 1}}, "parameter_invalid", "metadata.a"),
        ({"metadata": []}, "parameter_invalid", "metadata"),
        ({"metadata": {str(i): "" for i in range(51)}}, "parameter_invalid", "metadata"),
        ({"metadata": {"a": "x\x00"}}, "parameter_invalid", "metadata.a"),
        ({"metadata": {"a": "\ud800"}}, "parameter_invalid", "metadata.a"),
        ({"name": "\x00"}, "parameter_invalid", "name"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_is_kept(
    api: Api, change: dict[str, Any], code: str, param: str
) -> None:
    answer = api.post("customers", {**GOOD, **change})
    assert answer.status_code == 422, answer.content
    assert answer["Content-Type"] == "application/problem+json"
    assert (answer.json()["code"], answer.json()["param"]) == (code, param)
    assert not Customer.objects.exists()
    assert not AuditEntry.objects.filter(action="customer.created").exists()


def test_a_missing_member_is_named(api: Api) -> None:
    answer = api.post("customers", {"email": "nobody"})
    body = answer.json()
    assert (answer.status_code, body["code"], body["param"]) == (422, "parameter_missing", "name")
    assert [each["param"] for each in body["errors"]] == ["name", "email"]


def test_a_customers_own_key_sees_its_customer() -> None:
    key, made = an_api_key()
    answer = Api(made).get("me")
    assert answer.json()["id"] == key.customer.public_id
