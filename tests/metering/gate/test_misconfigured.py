"""A gateway that is not set up right: its operator is told why, and no client is blamed for it."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

import pytest
from django.db import transaction

from accounts.domain import keys
from accounts.models import Gateway, GatewayKey, GatewayRoute
from accounts.operations.versions import bump_catalogue
from metering.gate import metrics, misconfigured
from tests.metering.gate.client import Got
from tests.metering.gate.conftest import World

pytestmark = pytest.mark.django_db(transaction=True)
DIALECTS = ["", "/nginx", "/nginx-accel"]
SOMEBODYS = keys.new_key(keys.KeyKind.GATEWAY, entropy=b"g" * 32).text
OPERATORS = keys.new_key(keys.KeyKind.OPERATOR, entropy=b"o" * 32).text


def ask(world: World, dialect: str = "", **headers: str) -> Got:
    """Forward a request, with these headers instead of those of a gateway that is set up right."""
    sent = {
        "authorization": f"Bearer {world.key}",
        "x-farebox-gateway": world.gate.key,
        "x-farebox-meter": "api.calls",
    } | {name.replace("_", "-"): value for name, value in headers.items()}
    sent = {name: value for name, value in sent.items() if value}
    return world.gate.send("GET", f"/api/v1/authorize{dialect}/else", key="", headers=sent)


def counted(code: str) -> float:
    """How many were counted with that fault."""
    return float(metrics.MISCONFIGURED.labels(code)._value.get())


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("short", [True, False])
@pytest.mark.parametrize(
    ("headers", "fault", "param"),
    [
        ({"x_farebox_gateway": ""}, "key_missing", "X-Farebox-Gateway"),
        ({"x_farebox_gateway": "fb_gw_wrong"}, "key_malformed", "X-Farebox-Gateway"),
        ({"x_farebox_gateway": SOMEBODYS}, "key_unknown", "X-Farebox-Gateway"),
        ({"x_farebox_gateway": OPERATORS}, "wrong_kind_of_key", "X-Farebox-Gateway"),
        ({"x_farebox_meter": ""}, "route_unknown", None),
        ({"x_farebox_meter": "api.cals"}, "meter_unknown", "meter"),
        ({"x_farebox_meter": "m" * 201}, "parameter_invalid", "X-Farebox-Meter"),
        ({"x_farebox_mode": "eat"}, "parameter_invalid", "X-Farebox-Mode"),
        ({"x_farebox_mode": "consume"}, "parameter_missing", "X-Request-Id"),
        ({"x_farebox_quantity": "1.5"}, "quantity_invalid", "X-Farebox-Quantity"),
    ],
)
def test_it_is_503_with_what_is_wrong(
    world: World,
    dialect: str,
    headers: dict[str, str],
    fault: str,
    param: str | None,
    *,
    short: bool,
) -> None:
    assert ask(world).status == 200  # the gate is at work
    before, world.gate.short, seen = world.state(), short, counted(fault)

    got = ask(world, dialect, **headers)

    assert (got.status, got.body["status"]) == (503, 503)
    assert (got.body["code"], got.body["fault"]) == ("gateway_misconfigured", fault)
    assert got.body.get("param") == param
    assert got.body["type"].endswith("/docs/problems/gateway_misconfigured")
    assert got.headers["x-farebox-fault"] == fault
    assert got.headers["x-farebox"] == "authorize/1"
    assert "www-authenticate" not in got.headers
    assert "x-farebox-status" not in got.headers
    assert counted(fault) == seen + 1
    assert world.state() == before


def test_it_is_told_what_to_do(world: World) -> None:
    assert "`X-Farebox-Gateway: fb_gw_…`" in ask(world, x_farebox_gateway="").body["detail"]
    assert "'edge-1' has no route for GET /else" in ask(world, x_farebox_meter="").body["detail"]
    assert ask(world, x_farebox_meter="api.cals").body["nearest"][0] == "api.calls"


@pytest.mark.parametrize("fault", ["key_expired", "key_revoked"])
def test_a_key_of_its_own_that_is_good_no_more(world: World, fault: str) -> None:
    assert ask(world).status == 200
    now = datetime.now(UTC)
    ended = {"created_at": now - timedelta(days=2), "expires_at": now - timedelta(days=1)}
    with transaction.atomic():
        GatewayKey.objects.update(**{"revoked_at": now} if fault == "key_revoked" else ended)
        bump_catalogue()

    # The first is decided, and finds another catalogue; the next one does not get so far.
    for _ in range(2):
        got = ask(world)
        assert (got.status, got.body["fault"]) == (503, fault)
        assert "'edge-1'" in got.body["detail"]


def test_a_route_to_what_is_no_meter(world: World) -> None:
    with transaction.atomic():
        GatewayRoute.objects.create(
            gateway=Gateway.objects.get(), position=0, method="*", path="*", meter="gone"
        )
        bump_catalogue()

    got = ask(world, x_farebox_meter="", x_request_id="r-1")

    assert (got.status, got.body["fault"]) == (503, "meter_unknown")


def test_the_log_has_a_fault_once_a_minute_and_not_with_every_request(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(misconfigured, "_said_at", {})
    with caplog.at_level(logging.WARNING, "metering.gate.misconfigured"):
        for _ in range(3):
            ask(world, x_farebox_gateway=SOMEBODYS)
            ask(world, x_farebox_meter="")
    nobodys, edges = [each.getMessage() for each in caplog.records]
    assert nobodys == "a gateway is not set up right: key_unknown: No gateway has this key."
    assert edges.startswith("the gateway 'edge-1' is not set up right: route_unknown: ")
