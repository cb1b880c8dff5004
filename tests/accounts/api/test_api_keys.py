"""API keys over HTTP."""

from __future__ import annotations

import pytest

from accounts.models import ApiKey
from tests.factories.accounts import Api, a_customer, an_api_key, operator

pytestmark = pytest.mark.django_db


@pytest.fixture
def api() -> Api:
    return operator("keys:write", "customers:read")


def test_a_key_is_shown_once(api: Api) -> None:
    customer = a_customer(external_id="acme")
    answer = api.post("api-keys", {"customer": "acme", "name": "ci", "expires_at": None})
    assert answer.status_code == 201, answer.content
    made = answer.json()
    assert made["customer"] == customer.public_id
    assert made["key"].startswith(made["prefix"])
    assert Api(None, Authorization=f"Bearer {made['key']}").get("me").status_code == 200
    shown = api.get(f"api-keys/{made['id']}").json()
    assert "key" not in shown
    assert "digest" not in shown
    assert shown == {name: value for name, value in made.items() if name != "key"}
    assert api.get("api-keys", customer="acme").json()["data"] == [shown]


def test_rotating_with_overlap_and_revoking(api: Api) -> None:
    key, old = an_api_key()
    answer = api.post(f"api-keys/{key.public_id}/rotate", {"overlap_seconds": 60})
    assert answer.status_code == 201, answer.content
    new = answer.json()
    assert new["rotated_from"] == key.public_id
    assert Api(old).get("me").status_code == 200
    for _ in range(2):
        revoked = api.post(f"api-keys/{key.public_id}/revoke")
        assert revoked.status_code == 200
        assert revoked.json()["revoked_at"]
    assert Api(old).get("me").json()["code"] == "key_revoked"
    assert Api(None, Authorization=f"Bearer {new['key']}").get("me").status_code == 200
    again = api.post(f"api-keys/{key.public_id}/rotate")
    assert (again.status_code, again.json()["code"]) == (409, "conflict")


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"customer": "nobody", "name": "x"}, "customer_unknown", "customer"),
        ({"customer": 5, "name": "x"}, "customer_unknown", "customer"),
        ({"name": "x"}, "parameter_missing", "customer"),
    ],
)
def test_no_key_for_nobody(api: Api, body: dict[str, object], code: str, param: str) -> None:
    answer = api.post("api-keys", body)
    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert answer.json()["param"] == param
    assert not ApiKey.objects.exists()


@pytest.mark.parametrize(
    "expires_at",
    [
        "2020-01-01T00:00:00Z",
        "2030-01-01",
        "2030-01-01T00:00:00",
        "2030-13-01T00:00:00Z",
        "9999-12-31T23:59:59-01:00",
        1893456000,
    ],
)
def test_no_key_for_odd_times(api: Api, expires_at: object) -> None:
    customer = a_customer().public_id
    answer = api.post("api-keys", {"customer": customer, "name": "x", "expires_at": expires_at})
    assert (answer.status_code, answer.json()["code"]) == (422, "parameter_invalid")
    assert answer.json()["param"] == "expires_at"
    assert not ApiKey.objects.exists()


@pytest.mark.parametrize("overlap", [-1, "60", 1.5, True, 10**30, None])
def test_odd_overlaps_rotate_nothing(api: Api, overlap: object) -> None:
    key, _ = an_api_key()
    answer = api.post(f"api-keys/{key.public_id}/rotate", {"overlap_seconds": overlap})
    assert (answer.status_code, answer.json()["param"]) == (422, "overlap_seconds")
    assert ApiKey.objects.count() == 1


def test_keys_that_are_not_there(api: Api) -> None:
    for path in ("api-keys/key_0000000000000/revoke", "api-keys/cus_x/rotate"):
        assert api.post(path).status_code == 404
    assert api.get("api-keys/key_0000000000000").status_code == 404


def test_a_customer_sees_its_own_keys_only() -> None:
    key, made = an_api_key()
    an_api_key()
    mine = Api(made)
    assert [row["id"] for row in mine.get("me/api-keys").json()["data"]] == [key.public_id]
    assert mine.get(f"me/api-keys/{key.public_id}").json()["id"] == key.public_id
