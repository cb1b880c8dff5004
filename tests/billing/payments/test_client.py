"""The one connection: its rate, its breaker, its keys."""

from __future__ import annotations

import pytest
import stripe
from pytest_django import Settings

from billing.payments import client
from billing.payments.simulator import Simulator


class Clock:
    def __init__(self) -> None:
        self.at = 100.0

    def __call__(self) -> float:
        return self.at


def test_a_bucket_gives_its_rate_and_no_more() -> None:
    clock = Clock()
    bucket = client.Bucket(20, clock=clock)
    assert [bucket.take() for _ in range(20)] == [0.0] * 20
    assert bucket.take() == pytest.approx(0.05)
    assert bucket.take() == pytest.approx(0.10)
    clock.at += 0.1
    assert bucket.take() == pytest.approx(0.05)
    clock.at += 100
    assert [bucket.take() for _ in range(20)] == [0.0] * 20
    assert bucket.take() > 0


def test_calls_wait_for_the_rate_of_their_endpoint_and_of_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, slept = Clock(), list[float]()
    monkeypatch.setattr(client.Bucket.__init__, "__kwdefaults__", {"clock": clock})
    monkeypatch.setattr("billing.payments.client.time.sleep", slept.append)
    limiter = client.Limiter()
    for _ in range(client.ENDPOINT_PER_S + 2):
        limiter.wait("get /v1/invoices")
    assert slept == pytest.approx([1 / client.ENDPOINT_PER_S, 2 / client.ENDPOINT_PER_S])
    slept.clear()
    limiter.wait("get /v1/customers")  # another endpoint, and there is room in all
    assert slept == []
    for place in range(client.TOTAL_PER_S):
        limiter.wait(f"get /v1/place{place}")
    assert slept[-1] == pytest.approx((client.ENDPOINT_PER_S + 3) / client.TOTAL_PER_S)


def test_the_breaker_closes_after_a_minute() -> None:
    clock = Clock()
    breaker = client.Breaker(clock=clock)
    breaker.check()
    breaker.open("no such key")
    with pytest.raises(client.StripeStopped, match="no such key"):
        breaker.check()
    clock.at += client.BREAK_S
    breaker.check()


@pytest.mark.parametrize(
    ("path", "endpoint"),
    [
        ("/v1/invoices", "get /v1/invoices"),
        ("/v1/invoices/in_1AbC/lines", "get /v1/invoices/*/lines"),
        ("/v1/checkout/sessions/cs_test_a1B2", "get /v1/checkout/sessions/*"),
        ("/v1/billing_portal/sessions", "get /v1/billing_portal/sessions"),
        ("/v1/payment_methods/pm_card_visa3", "get /v1/payment_methods/*"),
    ],
)
def test_calls_are_counted_by_endpoint(path: str, endpoint: str) -> None:
    assert client._endpoint("get", path) == endpoint


def test_the_client_is_pinned_and_made_once(settings: Settings) -> None:
    settings.STRIPE_API_KEY, settings.STRIPE_API_BASE = "sk_test_x", ""
    client.forget()
    made = client.stripe_client()
    assert client.stripe_client() is made
    assert client.API_VERSION == stripe.api_version == "2026-10-28.endive"
    options = made._requestor._options
    assert (options.stripe_version, options.max_network_retries) == (client.API_VERSION, 2)
    client.forget()


@pytest.mark.parametrize("key", ["sk_live_x", "rk_live_x"])
def test_live_keys_and_debugging_do_not_mix(settings: Settings, key: str) -> None:
    settings.STRIPE_API_KEY, settings.DEBUG = key, True
    with pytest.raises(client.LiveKeyInDebug):
        client.api_key()
    settings.DEBUG = False
    assert client.api_key() == key


def test_the_simulator_needs_no_key(settings: Settings) -> None:
    settings.STRIPE_API_KEY, settings.STRIPE_API_BASE = "", "http://127.0.0.1:1"
    assert client.api_key() == client.SIMULATOR_KEY
    settings.STRIPE_API_BASE = ""
    with pytest.raises(client.StripeNotConfigured):
        client.api_key()


def test_reads_say_whether_repeating_helps(simulator: Simulator) -> None:
    with pytest.raises(client.StripeRefused) as refused:
        client.read("/v1/invoices/in_nothing1")
    assert (refused.value.status, refused.value.code) == (404, "resource_missing")
    for fault, times in [("429", 1), ("500", 3), ("drop_before", 3)]:
        simulator.fault(fault, times=times)
        with pytest.raises(client.StripeUnreachable):
            client.read("/v1/invoices")
    assert client.read("/v1/invoices")["data"] == []


def test_lists_are_read_to_their_end(simulator: Simulator) -> None:
    customer = client.post("/v1/customers", params={"name": "Ada"}, key="k1").body["id"]
    invoice = client.post("/v1/invoices", params={"customer": customer}, key="k2").body["id"]
    lines = [{"amount": amount} for amount in range(203)]
    client.post(f"/v1/invoices/{invoice}/add_lines", params={"lines": lines}, key="k3")
    read = client.read_all(f"/v1/invoices/{invoice}/lines")
    assert [line["amount"] for line in read] == list(range(203))
    assert len(simulator.requests("GET")) == 3


def test_deleting_twice_is_as_good_as_once(simulator: Simulator) -> None:
    customer = client.post("/v1/customers", params={"name": "Ada"}, key="k1").body["id"]
    invoice = client.post("/v1/invoices", params={"customer": customer}, key="k2").body["id"]
    for _ in range(2):
        client.delete(f"/v1/invoices/{invoice}")
    assert simulator.all("invoice") == []
