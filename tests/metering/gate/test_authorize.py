"""ANY /authorize: what a gateway that only forwards requests is told."""

from __future__ import annotations

import json
from urllib.parse import unquote

import pytest
from django.db import transaction

from accounts.models import Gateway, GatewayRoute
from accounts.operations.versions import bump_catalogue
from metering.gate.answers import DENIAL_BYTES_MAX
from tests.metering.gate.client import Got
from tests.metering.gate.conftest import World, entitle

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def routed(world: World) -> World:
    """The gateway knows that chats consume a call and that models are free to list."""
    with transaction.atomic():
        gateway = Gateway.objects.get()
        for position, (method, path, meter, mode) in enumerate(
            [
                ("POST", "/v1/chat/*", "api.calls", "consume"),
                ("*", "/v1/models", "api.calls", "peek"),
            ]
        ):
            GatewayRoute.objects.create(
                gateway=gateway,
                position=position,
                method=method,
                path=path,
                meter=meter,
                mode=mode,
            )
        bump_catalogue()
    return world


def authorize(world: World, path: str = "", *, method: str = "GET", **headers: str) -> Got:
    """Send a request as a gateway forwards it."""
    sent = {"authorization": f"Bearer {world.key}", "x-farebox-gateway": world.gate.key}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    sent = {name: value for name, value in sent.items() if value}
    return world.gate.send(method, f"/api/v1/authorize{path}", key="", headers=sent)


def test_allow_is_200_without_a_body_and_with_every_identity_header(routed: World) -> None:
    got = authorize(routed, x_farebox_meter="api.calls")

    assert (got.status, got.body) == (200, None)
    assert got.headers["x-farebox"] == "authorize/1"
    assert got.headers["x-farebox-customer"] == routed.customer.public_id
    assert got.headers["x-farebox-plan"] == "free"
    assert got.headers["x-farebox-hold"] == ""
    assert got.headers["x-farebox-value"] == ""
    assert got.headers["x-farebox-decision"].startswith("dec_")
    assert got.headers["ratelimit"].startswith('"api.calls.month";r=1000')


@pytest.mark.parametrize("path", ["/%7F", "/é", "/%F0%9F%98%80", '/"%0D%0A', "/%7F" * 2_000])
@pytest.mark.parametrize("short", [True, False])
def test_whatever_the_path_is_the_problem_in_a_header_can_be_sent_and_read(
    routed: World, path: str, *, short: bool
) -> None:
    routed.gate.short = short
    two_ways = f"/v1/models/..%2Fchat{path}"
    got = authorize(routed, "/nginx", x_forwarded_method="POST", x_forwarded_uri=two_ways)

    assert (got.status, got.headers["x-farebox-status"]) == (403, "422")
    assert got.headers["x-farebox-problem"].isascii()
    assert got.headers["x-farebox-problem"].isprintable()
    assert len(got.headers["x-farebox-problem"]) < DENIAL_BYTES_MAX
    assert json.loads(got.headers["x-farebox-problem"]) == got.body


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("path", ["", "/v1/chat/completions", "/nginx/what/ever", "/nginx-accel/x"])
def test_a_request_of_any_method_and_path_is_authorized(
    routed: World, method: str, path: str
) -> None:
    got = authorize(routed, path, method=method, x_farebox_meter="api.calls")

    assert (got.status, got.body) == (200, None)
    assert got.headers["x-farebox"] == "authorize/1"


@pytest.mark.parametrize(
    ("path", "method", "headers", "used"),
    [
        ("/v1/chat/completions", "POST", {}, 1),
        ("/v1/chat/completions?stream=1", "POST", {}, 1),
        ("", "GET", {"x-forwarded-method": "POST", "x-forwarded-uri": "/v1/chat/x?a=b"}, 1),
        ("/nginx", "GET", {"x-original-method": "POST", "x-original-uri": "/v1/chat/"}, 1),
        ("/nginx-accel/v1/chat/x", "POST", {}, 1),
        ("/v1/models", "GET", {}, 0),
    ],
)
def test_routes_say_what_a_request_counts_as(
    routed: World, path: str, method: str, headers: dict[str, str], used: int
) -> None:
    for _ in range(2):  # a gateway's retry of the same request counts once
        got = authorize(
            routed, path.partition("?")[0], method=method, x_request_id="r-1", **headers
        )
        assert got.status == 200
    assert routed.balance(routed.calls) == (used, 0)
    assert ("x-accel-redirect" in got.headers) == path.startswith("/nginx-accel")


@pytest.mark.parametrize(
    "path",
    [
        "/v1/ch%61t/x",
        "//v1//chat/x",
        "/v1/./chat/x",
        "/v1/models/../chat/x",
        "/../v1/chat/x",
        "/v1/chat/x/..",
        "/v1/chat/%3Fx?y",
    ],
)
def test_another_spelling_of_a_path_takes_no_other_route(routed: World, path: str) -> None:
    got = authorize(routed, x_forwarded_method="POST", x_forwarded_uri=path, x_request_id="spelled")
    assert got.status == 200
    assert routed.balance(routed.calls) == (1, 0)


def test_a_hold_hands_its_id_to_the_upstream(routed: World) -> None:
    got = authorize(
        routed,
        x_farebox_meter="chat.tokens",
        x_farebox_quantity="900",
        x_farebox_mode="hold",
        x_request_id="r-2",
    )
    hold = got.headers["x-farebox-hold"]
    settled = routed.gate.send("POST", f"/api/v1/holds/{hold}/settle", {"quantity": 300})
    assert settled.status == 200
    assert routed.balance(routed.tokens) == (300, 0)


def test_a_denial_is_the_problem_itself_and_moves_nothing(routed: World) -> None:
    routed.check(mode="consume", id="all", quantity=1_000)
    before = routed.state()

    got = authorize(routed, x_farebox_meter="api.calls")
    assert (got.status, got.body["code"]) == (402, "quota_exhausted")
    assert got.headers["x-farebox"] == "authorize/1"

    accel = authorize(routed, "/nginx-accel", x_farebox_meter="api.calls")
    assert accel.status == 402
    assert "x-accel-redirect" not in accel.headers

    nginx = authorize(routed, "/nginx", x_farebox_meter="api.calls")
    assert (nginx.status, nginx.headers["x-farebox-status"]) == (403, "402")
    assert json.loads(nginx.headers["x-farebox-problem"])["code"] == "quota_exhausted"
    assert routed.state() == before


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"authorization": ""}, 401, "key_missing"),
        ({"authorization": "", "x-api-key": "fb_key_wrong"}, 401, "key_malformed"),
        ({"authorization": "", "x-api-key": "fb_op_" + "x" * 40}, 401, "key_malformed"),
        (
            {"x-farebox-meter": "", "x-forwarded-uri": "/v1/models/..%2Fchat/x"},
            422,
            "route_unknown",
        ),
    ],
)
def test_what_a_client_sends_wrongly_is_told_to_the_client(
    routed: World, headers: dict[str, str], status: int, code: str
) -> None:
    before = routed.state()
    sent = {"x-farebox-meter": "api.calls", "x-forwarded-method": "POST"} | headers
    got = authorize(routed, "/elsewhere", **sent)
    assert (got.status, got.body["code"]) == (status, code)
    nginx = authorize(routed, "/nginx", **sent)
    assert (nginx.status, nginx.headers["x-farebox-status"]) == (403, str(status))
    assert routed.state() == before


def test_keys_where_clients_of_apis_put_them(routed: World) -> None:
    for name in ("x-api-key", "api-key"):
        got = authorize(
            routed, **{"authorization": "", name: routed.key, "x-farebox-meter": "api.calls"}
        )
        assert got.status == 200


def test_our_key_is_taken_wherever_it_stands_among_others(routed: World) -> None:
    others = {"authorization": "Bearer sk-upstream", "x-api-key": "sk-other"}
    for sent in (
        {"authorization": "Bearer sk-upstream", "x-api-key": routed.key},
        {**others, "api-key": routed.key},
        {"authorization": f"Bearer {routed.key}", "x-api-key": "sk-upstream"},
        {"authorization": "", "x-api-key": "sk-upstream", "api-key": routed.key},
        {"authorization": "Basic dXNlcjpwYXNz", "api-key": routed.key},
    ):
        assert authorize(routed, **sent, x_farebox_meter="api.calls").status == 200, sent
    got = authorize(routed, **others, x_farebox_meter="api.calls")
    assert (got.status, got.body["code"]) == (401, "key_malformed")


@pytest.mark.parametrize(
    ("path", "status", "used"),
    [
        ("/v1/chat/files%2Fone", 200, 1),
        ("/v1/chat/completions%2F..%2Fx", 200, 1),
        ("/v1/chat/a%252Fb", 200, 1),
        # An upstream may read these in two ways: neither may be had at the other's price.
        ("/v1/chat/completions%2F..%2F..%2Fmodels", 422, 0),
        ("/v1/chat/completions%2f..%2f..%2fmodels", 422, 0),
        ("/v1/models/..%2Fchat/x", 422, 0),
        ("/v1%2Fmodels", 422, 0),
        ("/v1/models%252F..%252Fchat", 503, 0),  # one reading, and no route
    ],
)
@pytest.mark.parametrize("behind", [True, False])
def test_an_encoded_slash_parts_nothing(
    routed: World, path: str, status: int, used: int, *, behind: bool
) -> None:
    sent = {"x_request_id": "slashed", "x_forwarded_method": "POST"}
    if behind:
        got = authorize(routed, path, **sent)
    else:
        got = authorize(routed, x_forwarded_uri=f"{path}?a=%2F", **sent)
    assert got.status == status
    assert got.body is None or "route_unknown" in (got.body["code"], got.body.get("fault"))
    assert routed.balance(routed.calls) == (used, 0)


def test_what_a_header_says_too_long_is_refused_before_it_is_said_again(routed: World) -> None:
    got = authorize(routed, "/nginx", x_farebox_meter="m" * 30_000)
    assert (got.status, got.body["fault"]) == (503, "parameter_invalid")
    assert len(got.body["detail"]) < 1_000
    assert authorize(routed, x_farebox_meter="m" * 200).body["fault"] == "meter_unknown"


def test_long_request_ids_that_begin_alike_are_two(routed: World) -> None:
    for end in ("one", "two", "two"):
        sent = {"x_farebox_meter": "api.calls", "x_farebox_mode": "consume"}
        assert authorize(routed, **sent, x_request_id="i" * 300 + end).status == 200
    assert routed.balance(routed.calls) == (2, 0)


@pytest.mark.parametrize("quantity", [0, 1, 5])
def test_a_route_to_a_feature(routed: World, quantity: int) -> None:
    plain: dict[str, object] = {"kind": "boolean", "window": "", "included": 0, "feature": "sso"}
    entitle(routed.customer, None, **plain)
    entitle(routed.customer, None, **plain | {"kind": "static", "feature": "region", "value": "eu"})
    with transaction.atomic():
        for position, feature in enumerate(["sso", "region"], 10):
            GatewayRoute.objects.create(
                gateway=Gateway.objects.get(), position=position, method="*", mode="peek",
                path=f"/{feature}", meter=feature, quantity=quantity,
            )  # fmt: skip
        bump_catalogue()
    for path in ("/sso", "/region"):
        got = authorize(routed, path)
        if quantity == 1:  # what a route has that says nothing of it
            assert (got.status, got.body) == (200, None)
        else:
            assert (got.status, got.body["fault"]) == (503, "quantity_invalid")


@pytest.mark.parametrize("path", ["", "/nginx", "/nginx-accel"])
@pytest.mark.parametrize(
    ("value", "header"),
    [
        ("eu-1", "eu-1"),
        ("a=1; b=[2,3]", "a=1;%20b=[2,3]"),
        ("100%", "100%25"),
        ('größer\n"', "gr%C3%B6%C3%9Fer%0A%22"),
        ("€" * 500, "%E2%82%AC" * 500),
    ],
)
def test_the_value_of_a_static_entitlement_has_a_header(
    routed: World, path: str, value: str, header: str
) -> None:
    entitle(
        routed.customer, None, kind="static", window="", included=0, feature="region", value=value
    )
    with transaction.atomic():
        GatewayRoute.objects.create(
            gateway=Gateway.objects.get(), position=10, method="*", mode="peek",
            path="/region", meter="region", quantity=1,
        )  # fmt: skip
        bump_catalogue()

    got = authorize(routed, f"{path}/region")

    assert (got.status, got.headers["x-farebox-value"]) == (200, header)
    assert unquote(header) == value == routed.check(meter="region").body["value"]


@pytest.mark.parametrize("short", [True, False])
@pytest.mark.parametrize("path", ["", "/nginx", "/nginx-accel"])
def test_a_fault_of_ours_is_no_answer_to_an_end_client(
    routed: World, path: str, *, short: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    authorize(routed, x_farebox_meter="api.calls")  # the gate is at work

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a fault of ours")

    routed.gate.short = short
    for place in ("metering.gate.checks.items_of", "metering.gate.authorize.answer_of"):
        with monkeypatch.context() as broke:
            broke.setattr(place, broken)
            got = authorize(routed, path, x_farebox_meter="api.calls")
        assert (got.status, got.body["code"]) == (503, "unavailable"), place
        assert got.headers["retry-after"] == "1"
        assert got.body["instance"] == "/api/v1/authorize"
