"""What every answer of the gate has: a request's id, what a problem is about, what a path takes."""

from __future__ import annotations

import re
import secrets
from typing import Any

import pytest

from accounts.domain import keys
from metering.gate import room
from tests.metering.gate.client import BASE_URL, GateProcess, Got
from tests.metering.gate.conftest import World

pytestmark = pytest.mark.django_db(transaction=True)
API = "/api/v1"
CALLS: dict[str, Any] = {"meter": "api.calls", "mode": "consume", "id": "one"}


def a_key(kind: keys.KeyKind) -> str:
    """A well-formed key that nobody has."""
    return keys.new_key(kind, entropy=secrets.token_bytes(32)).text


def forwarded(world: World, path: str = "/api/v1/authorize", **more: str) -> Got:
    """A request as a gateway forwards it, about a call."""
    sent = {
        "authorization": f"Bearer {world.key}",
        "x-farebox-gateway": world.gate.key,
        "x-farebox-meter": "api.calls",
    }
    sent |= {name.replace("_", "-"): value for name, value in more.items()}
    return world.gate.send("GET", path, key="", headers=sent)


@pytest.mark.parametrize(
    ("method", "path", "taken"),
    [
        *((method, "/check", "POST") for method in ("GET", "HEAD", "OPTIONS", "PUT", "DELETE")),
        ("GET", "/check/", "POST"),
        *((method, "/holds/hold_x", "GET") for method in ("POST", "HEAD", "OPTIONS", "DELETE")),
        *((method, "/holds/hold_x/settle", "POST") for method in ("GET", "HEAD", "OPTIONS")),
        ("GET", "/holds/hold_x/release/", "POST"),
        ("PATCH", "/holds/hold_x/extend", "POST"),
        ("GET", "/ingest/litellm", "POST"),
    ],
)
def test_a_method_that_a_path_does_not_take_is_405_and_says_which_it_takes(
    world: World, method: str, path: str, taken: str
) -> None:
    got = world.gate.send(method, API + path)
    assert (got.status, got.body["code"]) == (405, "method_not_allowed")
    assert got.headers["allow"] == taken
    assert got.body["instance"] == API + path


def test_a_slash_at_the_end_changes_nothing(world: World) -> None:
    before = world.state()
    assert world.gate.send("POST", "/api/v1/check/", {"key": world.key, "meter": "api.calls"}).body[
        "allowed"
    ]
    assert world.state() == before
    hold = world.check(mode="hold", id="held", quantity=5).body["hold"]["id"]
    assert world.gate.send("GET", f"{API}/holds/{hold}/").body["hold"]["state"] == "open"
    assert world.gate.send("POST", f"{API}/holds/{hold}/extend/", {"ttl": 90}).status == 200
    settled = world.gate.send("POST", f"{API}/holds/{hold}/settle/", {"quantity": 4})
    assert settled.body["hold"]["state"] == "settled"
    assert world.balance(world.calls) == (4, 0)


@pytest.mark.parametrize("short", [True, False])
def test_every_problem_says_what_it_is_about(world: World, *, short: bool) -> None:
    gate = world.gate
    gate.check({"key": world.key, "meter": "api.calls"})  # it is at work
    gate.short = short
    hold = world.check(mode="hold", id="held", quantity=5).body["hold"]["id"]
    world.check(**CALLS, quantity=1)
    odd = {"specversion": "1.0", "source": "app", "type": "api.call", "id": "e", "subject": "x"}
    asked: list[tuple[Got, int, str]] = [
        (world.check(quantity=-1), 422, "/check"),
        (world.check(meter="api.cals"), 422, "/check"),
        (world.check(**CALLS, quantity=2), 422, "/check"),
        (world.gate.check(b"{"), 400, "/check"),
        (gate.send("POST", f"{API}/check", {}, key="fb_gw_x"), 401, "/check"),
        (gate.send("GET", f"{API}/holds/hold_0"), 404, "/holds/hold_0"),
        (gate.send("GET", f"{API}/holds/h%20\"é/none"), 404, "/holds/h%20%22%C3%A9/none"),
        (gate.send("POST", f"{API}/holds/{hold}/settle", {}), 422, f"/holds/{hold}/settle"),
        (gate.send("POST", f"{API}/events", b"no"), 400, "/events"),
        (gate.send("POST", f"{API}/events", odd, headers={"content-type": "text/csv"}), 415,
         "/events"),
        (gate.send("POST", f"{API}/events/batch", {"events": 1}), 400, "/events/batch"),
        (forwarded(world, x_farebox_quantity="x"), 503, "/authorize"),
        (forwarded(world, "/api/v1/authorize/v1/chat", x_farebox_gateway="no"), 503, "/authorize"),
        (forwarded(world, "/api/v1/authorize/nginx", x_farebox_meter="none"), 503, "/authorize"),
        (forwarded(world, "/api/v1/authorize/nginx", authorization="no"), 403, "/authorize"),
        (forwarded(world, authorization="Bearer fb_key_x"), 401, "/authorize"),
    ]  # fmt: skip
    for got, status, path in asked:
        assert (got.status, got.body["instance"]) == (status, API + path)
    denied = world.check(quantity=10_000)
    assert denied.body["instance"] == f"/api/v1/decisions/{denied.body['decision']}"


def test_a_problem_in_a_batch_says_what_it_is_about(world: World) -> None:
    asked = [{}, {"key": world.key}, {"key": world.key, "meter": "no"}, {"customer": "no", **CALLS}]
    got = world.gate.check({"checks": asked})
    assert [each["status"] for each in got.body["results"]] == [422] * 4
    assert {each["instance"] for each in got.body["results"]} == {"/api/v1/check"}


def test_a_repeat_in_a_batch_is_marked(world: World) -> None:
    one = {"key": world.key, **CALLS}
    first = world.gate.check({"checks": [one, {**one, "mode": "peek"}, one]}).body["results"]
    then = world.gate.check({"checks": [one, {**one, "id": "two"}]}).body["results"]
    assert [each.get("replayed") for each in (*first, *then)] == [None, None, True, True, None]
    assert then[0] == first[2] == {**first[0], "replayed": True}
    assert world.balance(world.calls) == (2, 0)
    assert "replayed" not in world.check(**CALLS).body  # there its header says so


def test_a_refusal_in_a_storm_says_what_it_is_about(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "REFUSALS", 1e9)  # nobody waits for a refusal here
    gate = GateProcess(wait_s=0.1)
    gate.key = world.gate.key
    try:
        gate.check({"key": world.key, "meter": "api.calls"})
        engine = gate.gate._engine
        assert engine is not None
        engine.room.limit = engine.batches.limit = 0  # without a length it may be either
        for gate.short in (True, False):
            for path, about in [
                ("/check", "/check"),
                ('/check/"x', "/check/%22x"),
                ("/authorize/nginx/v1/" + "x" * 9_000, "/authorize"),
            ]:
                got = gate.send("POST", API + path)
                assert (got.status, got.body["code"]) == (503, "overloaded")
                assert got.body["instance"] == API + about
                assert got.headers["x-request-id"].startswith("req_")
    finally:
        gate.stop()


def test_a_fault_of_ours_on_the_short_way_has_all_that_a_problem_has(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world.check()  # the gate is at work

    def broken(*_: Any) -> None:
        raise RuntimeError("cannot be written")

    monkeypatch.setattr("metering.gate.endpoints.Single.answer", broken)
    world.gate.short = True
    got = world.gate.send(
        "POST",
        "/api/v1/check",
        {"key": world.key, "meter": "api.calls"},
        headers={"x-request-id": "mine"},
    )
    assert (got.status, got.body["code"]) == (500, "internal_error")
    assert got.body["type"] == f"{BASE_URL}/docs/problems/internal_error"
    assert got.body["instance"] == "/api/v1/check"
    assert got.headers["x-request-id"] == "mine"
    assert "cannot be written" in caplog.text


@pytest.mark.parametrize("sent", ["gateway-7", "a" * 200])
def test_a_sane_request_id_comes_back(world: World, sent: str) -> None:
    headers = {"x-request-id": sent}
    assert (
        world.gate.send("POST", f"{API}/check", {}, headers=headers).headers["x-request-id"] == sent
    )


@pytest.mark.parametrize("sent", ["", "a b", "a" * 201, "ä"])
def test_any_other_request_id_is_replaced(world: World, sent: str) -> None:
    got = world.gate.send("POST", f"{API}/check", {}, headers={"x-request-id": sent})
    assert re.fullmatch(r"req_[0-9a-f]{32}", got.headers["x-request-id"])


@pytest.mark.parametrize("short", [True, False])
def test_keys_that_nobody_has(world: World, *, short: bool) -> None:
    world.check()  # the gate is at work
    world.gate.short = short
    before = world.state()
    check = {"meter": "api.calls", "key": world.key}
    strange, customers = a_key(keys.KeyKind.GATEWAY), a_key(keys.KeyKind.CUSTOMER)
    path = f"{API}/holds/hold_0"
    asked: list[tuple[Got, str | None]] = [
        (world.gate.send("POST", f"{API}/check", check, key=strange), None),
        (world.gate.send("POST", f"{API}/check", {"checks": [check]}, key=strange), None),
        (world.gate.send("GET", path, key=strange), None),
        (world.gate.send("POST", f"{API}/events", [], key=strange), None),
        (world.check(key=customers), "key"),
        (forwarded(world, authorization=f"Bearer {customers}"), "key"),
        (forwarded(world, authorization="", x_api_key=customers), "key"),
    ]
    for got, param in asked:
        assert (got.status, got.body["code"], got.body.get("param")) == (401, "key_unknown", param)
        assert got.headers["www-authenticate"] == 'Bearer realm="farebox"'
    assert world.state() == before


@pytest.mark.parametrize("kind", [keys.KeyKind.OPERATOR, keys.KeyKind.GATEWAY])
def test_a_key_of_another_kind_is_no_customers(world: World, kind: keys.KeyKind) -> None:
    for got in (
        world.check(key=a_key(kind)),
        forwarded(world, authorization=f"Bearer {a_key(kind)}"),
    ):
        assert (got.status, got.body["code"]) == (403, "wrong_kind_of_key")
        assert got.body["param"] == "key"
