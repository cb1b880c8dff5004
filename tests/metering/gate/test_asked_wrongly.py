"""Checks that are asked wrongly, and callers that may not ask: never a 402, nothing moves."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from django.db import transaction

from accounts.models import ApiKey, GatewayKey
from accounts.operations.versions import bump, bump_catalogue
from tests.metering.gate.client import make_api_key, make_gateway
from tests.metering.gate.conftest import World, past

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize(
    ("body", "status", "code", "param"),
    [
        ({"meter": "api.cals"}, 422, "meter_unknown", "meter"),
        ({"quantity": 1.5}, 422, "quantity_invalid", "quantity"),
        ({"quantity": -1}, 422, "quantity_invalid", "quantity"),
        ({"quantity": "3"}, 422, "quantity_invalid", "quantity"),
        ({"quantity": 10**15 + 1}, 422, "quantity_invalid", "quantity"),
        ({"qantity": 1}, 422, "parameter_unknown", "qantity"),
        ({"mode": "eat"}, 422, "parameter_invalid", "mode"),
        ({"mode": "consume"}, 422, "parameter_missing", "id"),
        ({"mode": "hold", "id": "x", "ttl": 0}, 422, "parameter_invalid", "ttl"),
        (
            {"mode": "hold", "id": "x", "time": "2026-01-01T00:00:00Z"},
            422,
            "parameter_invalid",
            "time",
        ),
        (
            {"mode": "consume", "id": "x", "time": "2026-01-01T00:00:00"},
            422,
            "parameter_invalid",
            "time",
        ),
        (
            {"mode": "consume", "id": "x", "time": "2020-01-01T00:00:00Z"},
            422,
            "time_out_of_range",
            "time",
        ),
        (
            {"mode": "consume", "id": "x", "time": "2090-01-01T00:00:00Z"},
            422,
            "time_out_of_range",
            "time",
        ),
        ({"key": None}, 422, "parameter_missing", "key"),
        ({"customer": "acme"}, 422, "parameter_invalid", "customer"),
        ({"key": "fb_key_typo"}, 401, "key_malformed", "key"),
        ({"items": [{"meter": "a"}, {"meter": "a"}]}, 422, "parameter_invalid", "items"),
        ({"items": [{"meter": f"m{n}"} for n in range(17)]}, 422, "too_many_items", "items"),
        ({"items": []}, 422, "parameter_invalid", "items"),
        ({"meter": "api.calls", "items": [{"meter": "a"}]}, 422, "parameter_invalid", "items"),
        ({"mode": "consume", "id": "a\x00b"}, 422, "parameter_invalid", None),
        ({"mode": "consume", "id": "a\\\x00b"}, 422, "parameter_invalid", None),
    ],
)
def test_what_is_asked_wrongly_is_never_a_402(
    world: World, body: dict[str, object], status: int, code: str, param: str | None
) -> None:
    before = world.state()

    got = world.check(**body)

    assert (got.status, got.body["code"], got.body.get("param")) == (status, code, param)
    assert got.headers["content-type"] == "application/problem+json"
    assert world.state() == before


def test_a_text_that_only_looks_like_u_0000_is_taken(world: World) -> None:
    got = world.check(mode="consume", id="a\\u0000b", properties={"path": "\\\\u0000"})
    assert got.status == 200


def test_bodies_that_are_no_check(world: World) -> None:
    for raw in (b"", b"{", b"[]", b"\xff\xfe", b"null", b'{"checks": 3}'):
        got = world.gate.check(raw)
        assert got.status in (400, 422), raw
    got = world.gate.send("POST", "/api/v1/check", b"{}", headers={"content-length": str(10**8)})
    assert (got.status, got.body["code"]) == (413, "body_too_large")
    got = world.gate.send("POST", "/api/v1/check", b"{}", headers={"content-type": "text/xml"})
    assert (got.status, got.body["code"]) == (415, "media_type_unsupported")
    assert world.gate.send("GET", "/api/v1/check").status == 405


def test_the_nearest_meter_is_offered(world: World) -> None:
    got = world.check(meter="api.cals")
    assert got.body["nearest"][0] == "api.calls"
    assert "api.calls" in got.body["detail"]


@pytest.mark.parametrize(
    ("body", "param", "nearest"),
    [
        ({"quntity": 1}, "quntity", ["quantity"]),
        ({"propertys": {}}, "propertys", ["properties"]),
        ({"items": [{"meter": "api.calls"}, {"metre": "a"}]}, "items[1].metre", ["meter"]),
        ({"colour": "red"}, "colour", None),
        ({"q" * 100_000: 1}, "q" * 100_000, None),
    ],
)
def test_the_nearest_member_is_offered(
    world: World, body: dict[str, object], param: str, nearest: list[str] | None
) -> None:
    got = world.check(**body)
    assert (got.status, got.body["code"], got.body["param"]) == (422, "parameter_unknown", param)
    assert got.body.get("nearest") == nearest
    assert got.body["detail"].endswith(f" Nearest: {nearest[0]}." if nearest else ".")
    (batched,) = world.gate.check({"checks": [{"key": world.key, **body}]}).body["results"]
    assert (batched["param"], batched.get("nearest")) == (param, nearest)


def test_the_nearest_member_of_a_settle_is_offered(world: World) -> None:
    hold = world.check(mode="hold", id="held", quantity=5).body["hold"]["id"]
    for body, nearest in (
        ({"quantities": 3}, ["quantity"]),
        ({"items": [{"meter": "api.calls", "quntity": 3}]}, ["quantity"]),
    ):
        got = world.gate.send("POST", f"/api/v1/holds/{hold}/settle", body)
        assert (got.status, got.body["code"]) == (422, "parameter_unknown")
        assert got.body["nearest"] == nearest


def test_the_nearest_meter_of_its_hold_is_offered_to_a_settle(world: World) -> None:
    hold = world.check(mode="hold", id="held", quantity=5).body["hold"]["id"]
    before = world.state()
    for name, nearest, said in (
        ("api.cals", ["api.calls"], "Nearest: api.calls."),
        ("chat.tokens", [], "It has api.calls."),  # a meter, but none of the hold
    ):
        items = [{"meter": name, "quantity": 3}]
        got = world.gate.send("POST", f"/api/v1/holds/{hold}/settle", {"items": items})
        assert (got.status, got.body["code"], got.body["param"]) == (
            422,
            "meter_unknown",
            "items.meter",
        )
        assert got.body["nearest"] == nearest
        assert got.body["detail"] == f"The hold has no {name!r}. {said}"
    assert world.state() == before


def test_customers_by_id_external_id_and_key(world: World) -> None:
    with transaction.atomic():
        bump(world.customer.id)
        world.customer.external_id = "acme"
        world.customer.save()
    for name in ("acme", world.customer.public_id):
        got = world.gate.check({"customer": name, "meter": "api.calls"})
        assert got.status == 200
        assert got.body["customer"] == world.customer.public_id
    got = world.gate.check({"customer": "nobody", "meter": "api.calls"})
    assert (got.status, got.body["code"]) == (422, "customer_unknown")

    with transaction.atomic():
        bump(world.customer.id)
        world.customer.external_id = "acme-2"
        world.customer.save()
    assert world.gate.check({"customer": "acme", "meter": "api.calls"}).status == 422
    assert world.gate.check({"customer": "acme-2", "meter": "api.calls"}).status == 200


def test_a_customers_key_takes_effect_and_loses_it_at_once(world: World) -> None:
    key = make_api_key(world.customer)
    assert world.gate.check({"key": key, "meter": "api.calls"}).status == 200

    with transaction.atomic():
        bump(world.customer.id)
        ApiKey.objects.filter(customer=world.customer).update(revoked_at=datetime.now(UTC))
    got = world.gate.check({"key": key, "meter": "api.calls"})
    assert (got.status, got.body["code"]) == (401, "key_revoked")

    expired = make_api_key(world.customer, created_at=past(60), expires_at=past(5))
    got = world.gate.check({"key": expired, "meter": "api.calls"})
    assert (got.status, got.body["code"]) == (401, "key_expired")


def test_a_gateways_key_takes_effect_and_loses_it_at_once(world: World) -> None:
    _, key = make_gateway("edge-2")
    body = {"key": world.key, "meter": "api.calls"}
    assert world.gate.send("POST", "/api/v1/check", body, key=key).status == 200

    with transaction.atomic():
        GatewayKey.objects.filter(gateway__name="edge-2").update(revoked_at=datetime.now(UTC))
        bump_catalogue()
    got = world.gate.send("POST", "/api/v1/check", body, key=key)
    assert (got.status, got.body["code"]) == (401, "key_revoked")
    assert got.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    ("key", "status", "code"),
    [
        ("", 401, "key_missing"),
        ("fb_gw_short", 401, "key_malformed"),
        ("something else", 401, "key_malformed"),
    ],
)
def test_callers_that_are_not_gateways(world: World, key: str, status: int, code: str) -> None:
    got = world.gate.send("POST", "/api/v1/check", {"meter": "api.calls"}, key=key)
    assert (got.status, got.body["code"]) == (status, code)


def test_a_customers_key_is_not_a_gateways(world: World) -> None:
    got = world.gate.send("POST", "/api/v1/check", {"meter": "api.calls"}, key=world.key)
    assert (got.status, got.body["code"]) == (403, "wrong_kind_of_key")
