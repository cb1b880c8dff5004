"""Gateways over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from accounts.models import Gateway, GatewayKey
from tests.factories.accounts import Api, a_gateway, operator

pytestmark = pytest.mark.django_db
ROUTE = {
    "method": "*",
    "path": "/v1/chat/*",
    "meter": "api.calls",
    "quantity": 1,
    "mode": "consume",
}


@pytest.fixture
def api() -> Api:
    return operator("gateways:write")


def test_a_gateway_is_created_with_a_key_shown_once(api: Api) -> None:
    answer = api.post("gateways", {"name": "edge-1", "kind": "litellm", "routes": [ROUTE]})
    assert answer.status_code == 201, answer.content
    made = answer.json()
    assert made["key"].startswith("fb_gw_")
    assert made["routes"] == [ROUTE]
    shown = api.get(f"gateways/{made['id']}").json()
    assert shown == {name: value for name, value in made.items() if name != "key"}
    assert api.get("gateways").json()["data"] == [shown]
    again = api.post("gateways", {"name": "edge-1"})
    assert (again.status_code, again.json()["code"]) == (409, "conflict")


def test_routes_have_defaults_and_are_replaced_whole(api: Api) -> None:
    gateway, _ = a_gateway()
    path = f"gateways/{gateway.public_id}"
    answer = api.call("PUT", f"{path}/routes", {"routes": [{"path": "/*", "meter": "api.calls"}]})
    assert answer.status_code == 200, answer.content
    assert answer.json()["routes"] == [{**ROUTE, "path": "/*"}]
    assert api.call("PUT", f"{path}/routes", {"routes": []}).json()["routes"] == []


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"path": "nowhere"}, "routes[1].path"),
        ({"method": "get"}, "routes[1].method"),
        ({"quantity": "1"}, "routes[1].quantity"),
        ({"quantity": -1}, "routes[1].quantity"),
        ({"quantity": 1.0}, "routes[1].quantity"),
        ({"mode": "take"}, "routes[1].mode"),
        ({"meter": "no blanks"}, "routes[1].meter"),
        ({"metre": "x"}, "routes[1].metre"),
    ],
)
def test_the_member_of_a_route_at_fault_is_named(
    api: Api, change: dict[str, Any], param: str
) -> None:
    answer = api.post("gateways", {"name": "edge-1", "routes": [ROUTE, {**ROUTE, **change}]})
    assert answer.status_code == 422, answer.content
    assert answer.json()["param"] == param
    assert not Gateway.objects.exists()


def test_further_keys_rotation_and_the_end(api: Api) -> None:
    gateway, _ = a_gateway()
    path = f"gateways/{gateway.public_id}"
    answer = api.post(f"{path}/keys", {"name": "second"})
    assert answer.status_code == 201, answer.content
    second = answer.json()
    assert len(api.get(f"{path}/keys").json()["data"]) == 2
    rotated = api.post(f"{path}/keys/{second['id']}/rotate", {"overlap_seconds": 5})
    assert rotated.status_code == 201, rotated.content
    revoked = api.post(f"{path}/keys/{second['id']}/revoke")
    assert revoked.json()["revoked_at"]
    for _ in range(2):
        assert api.post(f"{path}/disable").json()["disabled_at"]


def test_a_key_is_reached_through_its_own_gateway_only(api: Api) -> None:
    one, _ = a_gateway()
    other, _ = a_gateway()
    key = GatewayKey.objects.get(gateway=one)
    for verb in ("rotate", "revoke"):
        answer = api.post(f"gateways/{other.public_id}/keys/{key.public_id}/{verb}")
        assert answer.status_code == 404
    key.refresh_from_db()
    assert key.revoked_at is None
    assert api.get("gateways/gw_0000000000000").status_code == 404
    assert api.get("gateways/edge-1").status_code == 404


def test_a_disabled_gateways_key_is_refused(api: Api) -> None:
    gateway, made = a_gateway()
    assert Api(made).get("customers").json()["code"] == "wrong_kind_of_key"
    api.post(f"gateways/{gateway.public_id}/disable")
    answer = Api(made).get("customers")
    assert (answer.status_code, answer.json()["code"]) == (401, "key_revoked")
