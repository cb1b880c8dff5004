"""`manage.py stripe check` says what is wrong, and only looks."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
import stripe
from django.core.management import CommandError, call_command
from pytest_django import Settings

from billing.payments import client
from billing.payments.checking import PATH, checks
from billing.payments.simulator import Simulator

Levels = Callable[[], dict[str, str]]


@pytest.fixture
def levels(
    simulator: Simulator, settings: Settings, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> Levels:
    settings.BASE_URL = "https://farebox.test"
    # The published schema lists older API versions only, so it refuses ours for an endpoint.
    monkeypatch.setattr(client, "transport", lambda: stripe.RequestsClient(timeout=5))
    client.forget()
    for endpoint in client.read_all("/v1/webhook_endpoints"):
        client.delete(f"/v1/webhook_endpoints/{endpoint['id']}")
    return lambda: {check.code: check.level for check in checks(now=now)}


def an_endpoint(**params: object) -> None:
    given = {"url": f"https://farebox.test{PATH}", "enabled_events": ["*"], **params}
    answer = client.post("/v1/webhook_endpoints", params=given, key=f"endpoint-{params}")
    assert answer.status == 200


def test_all_is_well(levels: Levels) -> None:
    an_endpoint(api_version=client.API_VERSION)
    found = levels()
    assert set(found.values()) == {"ok"}
    expected = {"key", "version", "secret", "reachable", "charges", "branding"}
    assert set(found) == expected | {"tax", "clock", "endpoint"}


@pytest.mark.parametrize(
    ("fields", "tax", "code", "level"),
    [
        ({"charges_enabled": False}, {}, "charges", "error"),
        ({"payouts_enabled": False}, {}, "charges", "warning"),
        ({"business_profile": None}, {}, "branding", "warning"),
        ({"settings": None}, {}, "branding", "warning"),
        ({}, {"status": "active"}, "tax", "warning"),
    ],
)
def test_each_fault_of_the_account_is_named(
    levels: Levels,
    simulator: Simulator,
    fields: dict[str, object],
    tax: dict[str, object],
    code: str,
    level: str,
) -> None:
    an_endpoint(api_version=client.API_VERSION)
    simulator.set_up(tax=tax, **fields)
    found = levels()
    assert found.pop(code) == level
    assert set(found.values()) == {"ok"}


def test_what_is_not_right_says_what_to_do(levels: Levels, simulator: Simulator) -> None:
    simulator.set_up(charges_enabled=False, settings=None, tax={"status": "active"})
    found = list(checks(now=datetime.now(UTC) + timedelta(hours=1)))
    assert sum(check.level != "ok" for check in found) == 5
    assert all((check.remedy == "") == (check.level == "ok") for check in found)


def test_a_key_of_the_wrong_kind(levels: Levels, settings: Settings) -> None:
    settings.STRIPE_API_KEY = "pk_test_x"
    assert levels()["key"] == "error"
    settings.STRIPE_API_KEY = "sk_live_x"
    assert levels()["key"] == "error"  # a live key does not belong to the simulator


def test_each_fault_is_named(levels: Levels, settings: Settings, now: datetime) -> None:
    assert levels()["endpoint"] == "error"
    an_endpoint(api_version="2024-06-20")
    assert levels()["endpoint"] == "error"
    (endpoint,) = client.read_all("/v1/webhook_endpoints")
    path = f"/v1/webhook_endpoints/{endpoint['id']}"
    assert client.post(path, params={"disabled": True}, key="disable").status == 200
    assert levels()["endpoint"] == "error"
    settings.STRIPE_WEBHOOK_SECRET = ""
    assert levels()["secret"] == "error"
    settings.STRIPE_WEBHOOK_SECRET = "secret"
    assert levels()["secret"] == "warning"
    later = {check.code: check.level for check in checks(now=now + timedelta(hours=1))}
    assert later["clock"] == "error"


def test_an_endpoint_must_send_what_is_handled(levels: Levels) -> None:
    an_endpoint(enabled_events=["invoice.paid"])
    assert levels()["endpoint"] == "error"


def test_a_refused_key_and_none(levels: Levels, settings: Settings) -> None:
    settings.STRIPE_API_KEY = "sk_test_invalid"
    assert levels()["reachable"] == "error"
    settings.STRIPE_API_KEY = settings.STRIPE_API_BASE = ""
    assert levels() == {"key": "error"}


def test_the_command_tells_and_fails(simulator: Simulator) -> None:
    told = StringIO()
    with pytest.raises(CommandError, match="endpoint"):
        call_command("stripe", "check", "--json", stdout=told)
    assert {check["code"] for check in json.loads(told.getvalue())["checks"]} >= {"key", "clock"}
    told = StringIO()
    with pytest.raises(CommandError):
        call_command("stripe", "check", stdout=told)
    assert "Account acct_simulator" in told.getvalue()
    assert "Create one with API version" in told.getvalue()
