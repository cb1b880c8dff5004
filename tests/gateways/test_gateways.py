"""Real nginx, Caddy and Envoy with the examples of clients/gateways: what both ends see."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest

from config.quickstart.catalogue import CALLS, TOKENS
from metering.models import Hold, UsageEvent
from tests.flows.conftest import Live
from tests.gateways.conftest import Client, Edge, Got
from tests.gateways.upstream import CHUNKS, Upstream, serving

pytestmark = [pytest.mark.gateways, pytest.mark.slow]

FORGED = {
    "X-Farebox": "authorize/1",
    "X-Farebox-Customer": "cus_forged",
    "X-Farebox-Plan": "forged",
    "X-Farebox-Decision": "dec_forged",
    "X-Farebox-Hold": "hold_forged",
    "X-Farebox-Value": "forged",
    # What many applications take for the same name.
    "X_Farebox_Customer": "cus_forged",
    "X-Farebox_Customer": "cus_forged",
}
UNASKED = {
    "X-Farebox-Meter": CALLS,
    "X-Farebox-Mode": "peek",
    "X-Farebox-Quantity": "0",
    "X-Farebox-Gateway": "fb_gw_mine",
    "X-Forwarded-Uri": "/v1/models",
    "X-Forwarded-Method": "GET",
    "X-Original-Uri": "/v1/models",
    "X-Original-Method": "GET",
}


def test_an_admitted_request_arrives_as_it_was_sent_with_the_identity_farebox_gave(
    edge: Edge,
) -> None:
    body = bytes(range(256)) * 160  # 40 KB

    got = edge.client.send("POST", "/v1/things?a=1&b=%2F", body, {**FORGED, "X-Mine": "kept"})

    assert (got.status, got.body) == (200, b"served")
    (seen,) = edge.upstream.seen
    assert (seen.method, seen.path, seen.body) == ("POST", "/v1/things?a=1&b=%2F", body)
    assert seen.headers.get_all("X-Farebox-Customer") == [edge.customer["id"]]
    assert seen.headers.get_all("X-Farebox-Plan") == ["free"]
    (decision,) = seen.headers.get_all("X-Farebox-Decision", [])
    assert decision.startswith("dec_")
    assert "forged" not in str(seen.headers)
    assert not any(seen.headers.get_all("X-Farebox-Hold", []))
    assert not any(seen.headers.get_all("X-Farebox-Value", []))
    assert (seen.headers["X-Mine"], seen.headers["Authorization"]) == ("kept", None)
    assert edge.client.key not in str(seen.headers)
    assert edge.balance(CALLS) == (1, 0)


def test_a_request_counts_once_whatever_id_the_client_sends(edge: Edge) -> None:
    for _ in range(3):
        assert (
            edge.client.send("GET", "/v1/things", headers={"X-Request-Id": "ticket"}).status == 200
        )

    assert edge.balance(CALLS) == (3, 0)
    ids = [seen.headers["X-Request-Id"] for seen in edge.upstream.seen]
    assert len(set(ids)) == 3
    assert "ticket" not in ids
    assert set(UsageEvent.objects.values_list("external_id", flat=True)) == set(ids)


def test_a_client_does_not_say_what_it_is_charged_for(edge: Edge) -> None:
    assert edge.client.send("GET", "/v1/things", headers=UNASKED).status == 200
    assert edge.balance(CALLS) == (1, 0)

    for number, path in enumerate(("/v1/ch%61t/x", "//v1/chat/x", "/v1/models/../chat/x"), 1):
        assert edge.client.send("POST", path, b"{}", UNASKED).status == 200
        assert edge.balance(TOKENS) == (0, 1_000 * number), path
    assert edge.balance(CALLS) == (1, 0)


def test_what_no_route_fits_is_refused_even_under_a_dialects_name(edge: Edge) -> None:
    for path in ("/", "/elsewhere", "/nginx/elsewhere", "/nginx-accel/elsewhere"):
        got = edge.client.send("GET", path, headers=UNASKED)
        _not_the_clients_fault(got)
    assert (edge.upstream.seen, edge.balance(CALLS)) == ([], (0, 0))


def _not_the_clients_fault(got: Got) -> None:
    assert (got.status, got.headers["Content-Type"]) == (503, "application/problem+json")
    assert got.headers["WWW-Authenticate"] is None
    # Caddy hands on what Farebox says; the others have but one answer where nothing was decided.
    assert json.loads(got.body)["code"] in ("unavailable", "gateway_misconfigured")


def test_a_gateway_whose_key_is_not_good_blames_no_client(
    gateway: Callable[..., int], live: Live, upstream: Upstream
) -> None:
    port = gateway(farebox=urlsplit(live.base_url).port, key="fb_gw_of_nobody")

    _not_the_clients_fault(Client(port, "fb_key_any").send("GET", "/v1/things"))

    assert upstream.seen == []


def test_a_path_that_is_two_routes_is_the_clients_own_doing(edge: Edge) -> None:
    got = edge.client.send("POST", "/v1/models/..%2Fchat/x", b"{}")

    assert 400 <= got.status < 500  # Envoy takes no encoded slash at all
    assert (edge.upstream.seen, edge.balance(TOKENS)) == ([], (0, 0))


def test_the_value_of_a_feature_reaches_the_upstream(edge: Edge) -> None:
    region = {"type": "static", "feature": "region", "value": "größer"}
    calls = {"meter": CALLS, "type": "metered", "included": 1, "window": "month", "over": "deny"}
    farebox = edge.live.farebox
    plan = {"key": "placed", "name": "Placed", "entitlements": [region, calls], "activate": True}
    farebox.post("/plans", plan)
    farebox.post("/customers", {"external_id": "bob", "name": "bob"})
    key = farebox.post("/api-keys", {"customer": "bob", "name": "test"})["key"]
    farebox.post("/subscriptions", {"customer": "bob", "plan": "placed"})

    assert Client(edge.client.port, key).send("GET", "/region", headers=FORGED).status == 200

    (seen,) = edge.upstream.seen
    assert seen.headers.get_all("X-Farebox-Value") == ["gr%C3%B6%C3%9Fer"]


def test_a_hold_reaches_the_upstream_that_settles_it(edge: Edge) -> None:
    assert edge.client.send("POST", "/v1/chat/completions", b"{}").status == 200
    assert edge.balance(TOKENS) == (0, 1_000)
    (seen,) = edge.upstream.seen

    hold = seen.headers["X-Farebox-Hold"]
    edge.live.farebox.gate(f"/holds/{hold}/settle", {"quantity": 300})

    assert edge.balance(TOKENS) == (300, 0)
    assert Hold.objects.count() == 1


def test_402_arrives_with_its_body_and_headers_and_moves_nothing(edge: Edge) -> None:
    farebox = edge.live.farebox
    asked = {"customer": "ada", "meter": CALLS, "mode": "consume"}
    assert farebox.check(**asked, quantity=1_000, id="all").status == 200
    before = edge.books()
    expected = farebox.check(**asked, id="one more")

    got = edge.client.send("POST", "/v1/things", b"{}")

    body = json.loads(got.body)
    assert (got.status, body["code"], body["status"]) == (402, "quota_exhausted", 402)
    own = ("decision", "instance")
    assert {name: each for name, each in body.items() if name not in own} == {
        name: each for name, each in expected.body.items() if name not in own
    }
    assert got.headers["Content-Type"] == "application/problem+json"
    assert got.headers.get_all("Cache-Control") == ["no-store"]
    assert got.headers["RateLimit"].startswith('"api.calls.month";r=0;t=')
    assert got.headers["RateLimit-Policy"].startswith('"api.calls.month";q=1000')
    assert int(got.headers["Retry-After"]) > 0
    assert edge.upstream.seen == []
    assert edge.books() == before

    farebox.post("/grants", {"customer": "ada", "meter": CALLS, "quantity": 5, "reason": "test"})
    assert edge.client.send("POST", "/v1/things", b"{}").status == 200


def test_exactly_what_is_left_gets_through_to_many_at_once(edge: Edge) -> None:
    asked = {"customer": "ada", "meter": CALLS, "mode": "consume", "id": "most", "quantity": 995}
    assert edge.live.farebox.check(**asked).status == 200

    with ThreadPoolExecutor(10) as clients:
        gots = list(clients.map(lambda _: edge.client.send("POST", "/v1/things", b"{}"), range(20)))

    assert sorted(got.status for got in gots) == [200] * 5 + [402] * 15
    assert (len(edge.upstream.seen), edge.balance(CALLS)) == (5, (1_000, 0))


def test_429_says_when_to_come_back(edge: Edge) -> None:
    right = {"meter": CALLS, "type": "metered", "included": 1, "window": "hour", "over": "deny"}
    farebox = edge.live.farebox
    farebox.post(
        "/plans", {"key": "slow", "name": "Slow", "entitlements": [right], "activate": True}
    )
    farebox.post("/customers", {"external_id": "bob", "name": "bob"})
    key = farebox.post("/api-keys", {"customer": "bob", "name": "test"})["key"]
    farebox.post("/subscriptions", {"customer": "bob", "plan": "slow"})
    bob = Client(edge.client.port, key)
    assert bob.send("GET", "/v1/things").status == 200
    before = edge.books()

    got = bob.send("GET", "/v1/things")

    assert (got.status, json.loads(got.body)["code"]) == (429, "rate_exceeded")
    assert 0 < int(got.headers["Retry-After"]) <= 3_601
    assert got.headers["RateLimit"].startswith('"api.calls.hour";r=0;t=')
    assert len(edge.upstream.seen) == 1
    assert edge.books() == before


def test_401_says_which_key_to_send(edge: Edge) -> None:
    for header, code in (("", "key_missing"), ("Bearer fb_key_wrong", "key_malformed")):
        got = edge.client.send("GET", "/v1/things", headers={"Authorization": header})

        assert (got.status, json.loads(got.body)["code"]) == (401, code)
        assert got.headers.get_all("WWW-Authenticate") == ['Bearer realm="farebox"']
        assert got.headers["Content-Type"] == "application/problem+json"
    assert (edge.upstream.seen, edge.balance(CALLS)) == ([], (0, 0))


def test_403_and_the_keys_of_other_clients(edge: Edge) -> None:
    other = {"Authorization": "", "X-Api-Key": edge.client.key}
    got = edge.client.send("GET", "/v1/things", headers=other)
    assert got.status == 200
    assert edge.client.key not in str(edge.upstream.seen.pop().headers)
    edge.live.farebox.post("/customers/ada/suspend", {"reason": "test"}, status=200)
    before = edge.books()

    got = edge.client.send("GET", "/v1/things")

    assert (got.status, json.loads(got.body)["code"]) == (403, "customer_suspended")
    assert got.headers["Content-Type"] == "application/problem+json"
    assert edge.upstream.seen == []
    assert edge.books() == before


def test_a_stream_arrives_chunk_by_chunk_and_a_fault_of_the_api_stays_its_own(edge: Edge) -> None:
    with edge.client.open("POST", "/v1/stream", b"{}") as answer:
        assert answer.headers["Content-Type"] == "text/event-stream"
        for chunk in CHUNKS:
            edge.upstream.more.release()  # the next one is made only now
            assert answer.read(len(chunk)) == chunk
        assert answer.read() == b""
    assert edge.balance(CALLS) == (1, 0)

    got = edge.client.send("GET", "/v1/fails")
    assert (got.status, got.body) == (500, b"the API's own fault")


def _refused(client: Client, upstream: Upstream) -> None:
    got = client.send("POST", "/v1/things", b"{}", FORGED)
    assert got.status == 503
    assert (got.headers["Retry-After"], json.loads(got.body)["code"]) == ("1", "unavailable")
    assert got.headers["Content-Type"] == "application/problem+json"
    assert upstream.seen == []


def test_without_farebox_503_and_never_open(
    gateway: Callable[..., int], upstream: Upstream
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed_at_once:
        nobody = closed_at_once.getsockname()[1]
    _refused(Client(gateway(farebox=nobody), "fb_key_any"), upstream)


def test_a_silent_farebox_is_given_up_in_bounded_time(
    gateway: Callable[..., int], upstream: Upstream
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = Client(gateway(farebox=silent.getsockname()[1]), "fb_key_any")
        begun = time.monotonic()
        _refused(client, upstream)
        assert 2 < time.monotonic() - begun < 8


def test_another_server_that_says_200_admits_nobody(
    gateway: Callable[..., int], upstream: Upstream
) -> None:
    with serving() as stranger:
        client = Client(gateway(farebox=stranger.port), "fb_key_any")
        client.send("POST", "/v1/things", b"{}", FORGED)
        assert len(stranger.seen) == 1
    assert upstream.seen == []
