"""Requests without ASGI: taken where they are one call, and answered as on the usual way."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import transaction

from accounts.models import GatewayKey
from accounts.operations.versions import bump_catalogue
from metering.gate.wire import Problem
from metering.models import UsageEvent
from tests.metering.gate.client import GateProcess, Got
from tests.metering.gate.conftest import World

pytestmark = pytest.mark.django_db(transaction=True)
EVENT = {"specversion": "1.0", "source": "app", "type": "api.call"}


def taken(
    gate: GateProcess, method: str, path: str, body: Any = None, **headers: str
) -> Got | None:
    """What a request is answered on the short way; None where that was not taken."""
    sent = {"authorization": f"Bearer {gate.key}", "content-type": "application/json"} | headers
    fields = [(name.replace("_", "-").encode(), value.encode()) for name, value in sent.items()]
    raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    return gate.run(gate._taken(method.encode(), path.encode(), fields, raw))


def both(gate: GateProcess, method: str, path: str, body: Any = None, **headers: str) -> Got:
    """What a request is answered on either way: the same but for its own id."""
    gate.short = False
    while True:  # answers tell of seconds, and a denial's id of its minute: ask both within one
        begun = int(time.time())
        short = taken(gate, method, path, body, **headers)
        usual = gate.send(
            method, path, body, headers={k.replace("_", "-"): v for k, v in headers.items()}
        )
        if int(time.time()) == begun:
            break
    assert short is not None
    ids = {short.headers.pop("x-request-id"), usual.headers.pop("x-request-id")}
    assert usual.headers.pop("content-length", "0").isdigit()
    assert len(ids) == 2 or ids == {headers.get("x_request_id")}
    assert (short.status, short.body, short.headers) == (usual.status, usual.body, usual.headers)
    return short


def test_repeats_denials_holds_events_and_forwarded_requests_are_answered_alike(
    world: World,
) -> None:
    gate = world.gate
    check = {"key": world.key, "meter": "api.calls", "mode": "consume"}
    gate.check(check | {"id": "one", "quantity": 2})
    assert both(gate, "POST", "/api/v1/check", check | {"id": "one", "quantity": 2}).status == 200
    assert both(gate, "POST", "/api/v1/check", check | {"id": "two", "quantity": 999}).status == 402
    assert both(gate, "POST", "/api/v1/check", check | {"id": "one", "quantity": 3}).status == 422
    opened = gate.check(check | {"mode": "hold", "id": "held", "quantity": 5})
    hold = f"/api/v1/holds/{opened.body['hold']['id']}"
    assert both(gate, "GET", hold).body["hold"]["state"] == "open"
    gate.send("POST", f"{hold}/settle", {"quantity": 4})
    assert both(gate, "POST", f"{hold}/settle", {"quantity": 4}).body["balances"]
    assert both(gate, "POST", f"{hold}/release").status == 409
    event = EVENT | {"id": "told", "subject": world.key}
    gate.send("POST", "/api/v1/events", event)
    assert both(gate, "POST", "/api/v1/events", event).body["duplicates"] == 1
    assert both(gate, "POST", "/api/v1/events", [event]).body["duplicates"] == 1
    assert both(gate, "POST", "/api/v1/events", event | {"id": "x", "type": "no"}).body["rejected"]
    who = {"authorization": f"Bearer {world.key}", "x_farebox_gateway": gate.key}
    asks = who | {"x_farebox_meter": "api.calls", "x_farebox_mode": "consume"}
    for dialect in ("", "/nginx", "/nginx-accel"):
        full = asks | {"x_request_id": f"full{dialect}", "x_farebox_quantity": "1000"}
        assert both(gate, "GET", f"/api/v1/authorize{dialect}", **full).status in (402, 403)
        some = asks | {"x_request_id": f"some{dialect}"}
        gate.send(
            "GET", "/api/v1/authorize", headers={k.replace("_", "-"): v for k, v in some.items()}
        )
        assert both(gate, "GET", f"/api/v1/authorize{dialect}/v1/chat", **some).status == 200


def test_what_is_no_single_call_is_left_to_the_usual_way_and_nothing_of_it_is_done(
    world: World,
) -> None:
    gate = world.gate
    assert gate.check({"key": world.key, "meter": "api.calls"}).status == 200  # it is at work
    before = world.state()
    check = {"key": world.key, "meter": "api.calls", "mode": "consume", "id": "never"}
    event = EVENT | {"id": "never", "subject": world.key}
    lago = {"event": {"transaction_id": "t", "external_subscription_id": "s", "code": "api.call"}}
    refused: list[tuple[str, str, Any, dict[str, str]]] = [
        ("POST", "/api/v1/check", {"checks": [check]}, {}),
        ("POST", "/api/v1/check", check | {"colour": "red"}, {}),
        ("POST", "/api/v1/check", b"no JSON", {}),
        ("POST", "/api/v1/check", check, {"content_type": "text/csv"}),
        ("POST", "/api/v1/check", check, {"authorization": "Bearer fb_gw_wrong"}),
        ("POST", "/api/v1/check?x=1", check, {}),
        ("POST", "/api/v1/check%20", check, {}),
        ("GET", "/api/v1/check", None, {}),
        ("HEAD", "/api/v1/authorize", None, {"x_farebox_gateway": gate.key}),
        ("POST", "/api/v1/authorize", b"body", {"content_length": "4"}),
        ("POST", "/api/v1/authorize", b"body", {"transfer_encoding": "chunked"}),
        ("GET", "/api/v1/authorize", None, {"x_farebox_gateway": gate.key}),  # of no customer
        ("GET", "/api/v1/authorized", None, {"x_farebox_gateway": gate.key}),
        ("GET", "/api/v1/holds/hold_none", None, {}),
        ("POST", "/api/v1/events", [event, event], {}),
        ("POST", "/api/v1/events", event | {"specversion": "0.3"}, {}),
        ("POST", "/api/v1/events", event | {"subject": "fb_key_none"}, {}),
        ("POST", "/api/v1/events", lago, {}),
        ("GET", "/api/v1/events", None, {}),
        ("POST", "/api/v1/events/batch", {"events": []}, {}),
    ]
    for method, path, body, headers in refused:
        assert taken(gate, method, path, body, **headers) is None, (method, path, body, headers)
    assert world.state() == before


def test_before_the_first_request_nothing_is_taken(world: World) -> None:
    assert taken(world.gate, "POST", "/api/v1/check", {"key": world.key, "meter": "x"}) is None


@pytest.mark.parametrize(
    ("field", "code"), [("revoked_at", "key_revoked"), ("expires_at", "key_expired")]
)
def test_a_gateway_whose_key_was_revoked_or_has_expired_is_not_heard(
    world: World, field: str, code: str
) -> None:
    gate = world.gate
    check = {"key": world.key, "meter": "api.calls"}
    assert gate.check(check).status == 200
    assert taken(gate, "POST", "/api/v1/check", check) is not None
    with transaction.atomic():
        GatewayKey.objects.update(**{field: datetime.now(UTC)})
        bump_catalogue()
    for _ in range(2):  # decided on what the database has now, then on what was read again
        told = taken(gate, "POST", "/api/v1/check", check)
        assert told is not None
        assert (told.status, told.body["code"]) == (401, code)
    gate.short = False
    assert gate.check(check).body["code"] == code
    asks = {"x_farebox_gateway": gate.key, "x_farebox_meter": "api.calls"}
    who = {"authorization": f"Bearer {world.key}"}
    assert taken(gate, "GET", "/api/v1/authorize/nginx", **asks, **who) is None


def test_events_are_left_to_who_can_keep_them_where_there_is_a_quarantine(world: World) -> None:
    gate = GateProcess(quarantine=10)
    gate.key = world.gate.key
    event = EVENT | {"id": "kept", "subject": world.key, "type": "unknown"}
    try:
        gate.check({"key": world.key, "meter": "api.calls"})
        assert taken(gate, "POST", "/api/v1/events", event) is None
        assert gate.send("POST", "/api/v1/events", event).body["rejected"][0]["quarantined"]
    finally:
        gate.stop()
    assert not UsageEvent.objects.exists()


def test_while_too_much_waits_a_request_is_refused_and_nothing_of_it_is_done(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("metering.gate.room.REFUSALS", 1e9)  # nobody waits for a refusal here
    gate = GateProcess(queue=1, wait_s=1)
    gate.key = world.gate.key
    check = {"key": world.key, "meter": "api.calls", "mode": "consume"}

    async def crowd() -> list[Got | None]:
        fields = [(b"authorization", f"Bearer {gate.key}".encode())]
        bodies = [json.dumps(check | {"id": f"{n}"}).encode() for n in range(5)]
        each = [gate._taken(b"POST", b"/api/v1/check", fields, body) for body in bodies]
        return await asyncio.gather(*each)

    try:
        assert gate.check(check | {"id": "first"}).status == 200
        told = gate.run(crowd())
        codes = sorted(each.status for each in told if each is not None)
        assert codes == [200, 503, 503, 503, 503]
        room = gate.gate._engine.room  # type: ignore[union-attr]
        assert room.inside == 0
        before = world.state()
        room.limit = 0
        refused = both(gate, "POST", "/api/v1/check", check | {"id": "late"})
        assert (refused.status, refused.body["code"]) == (503, "overloaded")
        assert refused.headers["retry-after"] == "1"
        assert taken(gate, "POST", "/api/v1/checks", check) is None  # not the gate's
        assert world.state() == before
    finally:
        gate.stop()


def test_an_answer_that_cannot_be_made_is_a_fault_of_that_request_alone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = world.gate
    check = {"key": world.key, "meter": "api.calls"}
    assert gate.check(check).status == 200

    def fails(*_: object) -> None:
        raise Problem("internal_error", "no answer")

    monkeypatch.setattr("metering.gate.endpoints.answer_of", fails)
    told = taken(gate, "POST", "/api/v1/check", check)
    assert told is not None
    assert (told.status, told.body["code"]) == (500, "internal_error")
    monkeypatch.undo()
    assert taken(gate, "POST", "/api/v1/check", check).status == 200  # type: ignore[union-attr]
