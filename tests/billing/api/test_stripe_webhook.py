"""The address Stripe speaks to: keeps what is signed, refuses the rest, wakes a worker."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
import stripe
from django.test import Client
from pytest_django import DjangoCaptureOnCommitCallbacks, Settings

from billing import tasks
from billing.models import StripeEvent
from billing.payments import client as payments_client

pytestmark = pytest.mark.django_db
URL = "/api/v1/stripe/webhook"
SECRET = "whsec_for_tests"
EVENT = {
    "id": "evt_1",
    "object": "event",
    "api_version": payments_client.API_VERSION,
    "created": 1_790_000_000,
    "data": {"object": {"id": "in_1", "object": "invoice"}},
    "livemode": False,
    "type": "invoice.paid",
}


@pytest.fixture(autouse=True)
def _secret(settings: Settings) -> None:
    settings.STRIPE_WEBHOOK_SECRET = SECRET
    settings.STRIPE_API_KEY = "sk_test_x"


def deliver(client: Client, body: bytes, *, signature: str | None = None) -> Any:
    at = int(datetime.now(UTC).timestamp())
    if signature is None:
        sign = stripe.WebhookSignature.generate_signature_header
        signature = sign(body.decode(errors="replace"), SECRET, at)
    return client.post(
        URL, body, content_type="application/json", headers={"Stripe-Signature": signature}
    )


def test_a_signed_event_is_kept_and_a_worker_woken(
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    woken: list[str] = []
    monkeypatch.setattr(tasks.process_stripe_events, "delay", lambda: woken.append("now"))
    body = json.dumps(EVENT).encode()
    for known in (False, True):
        with django_capture_on_commit_callbacks(execute=True):
            answer = deliver(client, body)
        assert answer.status_code == 200
        assert answer.json() == {"received": True, "known": known}
    assert woken == ["now"]
    assert StripeEvent.objects.get().pk == "evt_1"


def test_a_broker_that_is_away_loses_nothing(
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    def away() -> None:
        raise ConnectionRefusedError

    monkeypatch.setattr(tasks.process_stripe_events, "delay", away)
    with django_capture_on_commit_callbacks(execute=True):
        assert deliver(client, json.dumps(EVENT).encode()).status_code == 200
    assert StripeEvent.objects.count() == 1


@pytest.mark.parametrize(
    ("body", "signature", "status", "code"),
    [
        (json.dumps(EVENT).encode(), "t=1,v1=00", 400, "signature_invalid"),
        (json.dumps(EVENT).encode(), "", 400, "signature_invalid"),
        (b"\xff\xfe", "t=1,v1=00", 400, "signature_invalid"),
        (b"{}", None, 400, "body_malformed"),
        (json.dumps({**EVENT, "api_version": "2019-01-01"}).encode(), None, 400, "body_malformed"),
        (b" " * 262_145, None, 413, "body_too_large"),
    ],
)
def test_what_does_not_verify_is_refused_whole(
    client: Client, body: bytes, signature: str | None, status: int, code: str
) -> None:
    answer = deliver(client, body, signature=signature)
    assert answer.status_code == status
    assert answer["Content-Type"] == "application/problem+json"
    assert answer.json()["code"] == code
    assert not StripeEvent.objects.exists()


def test_only_post_is_known(client: Client) -> None:
    answer = client.get(URL)
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
