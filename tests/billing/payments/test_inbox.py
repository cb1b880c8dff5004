"""What comes in by webhook is verified, kept once and applied later; what did not come is asked."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

import pytest
import stripe
from pytest_django import Settings

from accounts.models import Customer
from billing.models import Invoice, StripeEvent
from billing.payments import client, inbox
from billing.payments.pushing import push_due
from billing.payments.simulator import Simulator
from tests.factories.payments import a_pending_invoice, give_card
from tests.factories.threads import at_once

SECRET = "whsec_for_tests"


@pytest.fixture
def secret(settings: Settings) -> str:
    settings.STRIPE_API_KEY, settings.STRIPE_API_BASE = "sk_test_x", ""
    settings.STRIPE_WEBHOOK_SECRET = SECRET
    return SECRET


def an_event(**members: Any) -> dict[str, Any]:
    return {
        "id": "evt_1",
        "object": "event",
        "api_version": client.API_VERSION,
        "created": 1_790_000_000,
        "data": {"object": {"id": "in_1", "object": "invoice"}},
        "livemode": False,
        "type": "invoice.paid",
        **members,
    }


def signed(event: object, *, at: datetime, secret: str = SECRET) -> tuple[bytes, str]:
    body = event if isinstance(event, str) else json.dumps(event)
    sign = stripe.WebhookSignature.generate_signature_header
    return body.encode(), sign(body, secret, int(at.timestamp()))


def store(event: object, *, now: datetime, at: datetime | None = None) -> StripeEvent | None:
    body, signature = signed(event, at=at or now)
    return inbox.store(body, signature=signature, now=now)


@pytest.mark.django_db
def test_an_event_is_kept_once(secret: str, now: datetime) -> None:
    kept = store(an_event(), now=now)
    assert kept is not None
    assert (kept.pk, kept.type, kept.object_id) == ("evt_1", "invoice.paid", "in_1")
    assert store(an_event(), now=now + timedelta(seconds=9)) is None
    row = StripeEvent.objects.get()
    assert (row.received_at, row.processed_at) == (now, None)
    assert row.payload == an_event()


@pytest.mark.django_db(transaction=True)
def test_an_event_that_comes_several_times_at_once_is_kept_once(secret: str, now: datetime) -> None:
    at_once([lambda: store(an_event(), now=now)] * 4)
    assert StripeEvent.objects.count() == 1


@pytest.mark.django_db
@pytest.mark.parametrize("seconds", [-299, 0, 299])
def test_signatures_of_the_last_five_minutes_verify(
    secret: str, now: datetime, seconds: int
) -> None:
    assert store(an_event(), now=now, at=now + timedelta(seconds=seconds)) is not None


@pytest.mark.django_db
@pytest.mark.parametrize("seconds", [-302, 302, 10**9])
def test_old_and_future_signatures_are_refused(secret: str, now: datetime, seconds: int) -> None:
    with pytest.raises(inbox.SignatureInvalid):
        store(an_event(), now=now, at=now + timedelta(seconds=seconds))
    assert not StripeEvent.objects.exists()


@pytest.mark.django_db
def test_only_the_signed_bytes_are_believed(secret: str, now: datetime, settings: Settings) -> None:
    body, signature = signed(an_event(), at=now)
    attempts = [
        (body.replace(b"in_1", b"in_2"), signature),
        (body + b" ", signature),
        (b"\xff" + body, signature),
        (body, ""),
        (body, "t=x,v1=y"),
        (body, "t=99999999999999999999," + signature.split(",")[1]),
        (body, signed(an_event(), at=now, secret="whsec_other")[1]),
    ]
    for tampered, header in attempts:
        with pytest.raises(inbox.SignatureInvalid):
            inbox.store(tampered, signature=header, now=now)
    settings.STRIPE_WEBHOOK_SECRET = ""
    with pytest.raises(inbox.SignatureInvalid):
        inbox.store(*signed(an_event(), at=now)[:1], signature=signature, now=now)
    assert not StripeEvent.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize(
    "event",
    [
        "not JSON",
        [],
        {"object": "event"},
        {"object": "charge"},
        an_event(id=7),
        an_event(created="today"),
        an_event(data={}),
        an_event(data={"object": None}),
        an_event(api_version=None),
        an_event(api_version="2020-08-27"),
        an_event(livemode=True),
    ],
)
def test_what_is_no_event_of_ours_is_refused(secret: str, now: datetime, event: object) -> None:
    with pytest.raises(inbox.EventMalformed):
        store(event, now=now)
    assert not StripeEvent.objects.exists()


@pytest.mark.django_db
def test_an_event_that_fails_comes_back_and_holds_up_no_other(
    simulator: Simulator, customer: Customer, now: datetime
) -> None:
    give_card(customer, now=now)
    invoice = a_pending_invoice(customer, now=now)
    push_due(now=now, limit=1)
    for event in simulator.events():
        body, signature = simulator.signed(event["id"])
        inbox.store(body, signature=signature, now=now)
    simulator.fault("500", method="GET", path="/v1/invoices/*", times=30)

    assert inbox.process_pending(now=now, limit=100) == len(simulator.events())
    failed = StripeEvent.objects.filter(processed_at=None)
    assert {event.type for event in failed} >= {"invoice.paid", "invoice.finalized"}
    assert {event.attempts for event in failed} == {1}
    assert all("StripeUnreachable" in event.outcome for event in failed)
    assert all(event.next_attempt_at > now for event in failed)
    invoice.refresh_from_db()
    assert invoice.status == Invoice.Status.OPEN

    simulator.clear_faults()
    inbox.process_pending(now=now + timedelta(minutes=1), limit=100)
    assert not StripeEvent.objects.filter(processed_at=None).exists()
    invoice.refresh_from_db()
    assert invoice.status == Invoice.Status.PAID


@pytest.mark.parametrize(
    ("key", "debug"),
    [
        pytest.param("sk_test_revoked", False, id="by Stripe"),
        pytest.param("sk_live_x", True, id="by us, a live one while debugging"),
    ],
)
@pytest.mark.django_db
def test_a_refused_key_fails_no_event(
    simulator: Simulator,
    customer: Customer,
    now: datetime,
    settings: Settings,
    key: str,
    debug: bool,
) -> None:
    give_card(customer, now=now)
    assert inbox.poll(now=now) > 1
    settings.STRIPE_API_KEY, settings.DEBUG = key, debug
    assert inbox.process_pending(now=now, limit=100) == 1
    assert {event.attempts for event in StripeEvent.objects.all()} == {0}

    settings.STRIPE_API_KEY, settings.DEBUG = "", False
    client.forget()
    inbox.process_pending(now=now + timedelta(minutes=2), limit=100)
    assert not StripeEvent.objects.filter(processed_at=None).exists()


@pytest.mark.django_db
def test_a_poll_keeps_what_no_webhook_brought(
    simulator: Simulator, customer: Customer, now: datetime
) -> None:
    give_card(customer, now=now)
    invoice = a_pending_invoice(customer, now=now)
    push_due(now=now, limit=1)
    (paid,) = simulator.events("invoice.paid")
    body, signature = simulator.signed(paid["id"])
    inbox.store(body, signature=signature, now=now)

    kept = inbox.poll(now=now)
    assert kept == StripeEvent.objects.count() - 1
    assert kept > 0
    assert inbox.poll(now=now) == 0
    inbox.process_pending(now=now, limit=100)
    invoice.refresh_from_db()
    assert invoice.status == Invoice.Status.PAID


@pytest.mark.django_db
def test_what_stripe_gave_up_to_deliver_is_kept_however_old_it_is(
    simulator: Simulator, customer: Customer, now: datetime
) -> None:
    """Newer events have arrived since, so that polling looks at the last hours alone."""
    endpoint = {"url": "http://127.0.0.1:9/nobody", "enabled_events": ["*"]}
    made = client.post("/v1/webhook_endpoints", params=endpoint, key="endpoint").body
    try:
        give_card(customer, now=now)
        event = an_event(created=int((now + timedelta(days=9)).timestamp()))
        body, signature = signed(event, at=now, secret=simulator.webhook_secret)
        assert inbox.store(body, signature=signature, now=now) is not None
        later = now + timedelta(days=9)
        assert inbox.poll(now=later) == 0
        assert inbox.poll_undelivered(now=now + timedelta(days=31)) == 0
        kept = inbox.poll_undelivered(now=later)
        assert kept == StripeEvent.objects.count() - 1 > 0
        assert inbox.poll_undelivered(now=later) == 0
    finally:
        client.delete(f"/v1/webhook_endpoints/{made['id']}")


@pytest.mark.django_db
def test_without_a_stripe_nothing_is_asked(now: datetime, settings: Settings) -> None:
    settings.STRIPE_API_KEY = settings.STRIPE_API_BASE = ""
    assert inbox.poll(now=now) == 0
    assert inbox.poll_undelivered(now=now) == 0
    assert inbox.process_pending(now=now, limit=1) == 0
