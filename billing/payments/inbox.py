"""The inbox: what Stripe tells us is verified, kept once, answered at once, and applied later."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import stripe
import structlog
from django.conf import settings
from django.db import transaction

from billing.domain import steps
from billing.models import StripeEvent
from billing.payments import client, handlers

Json = dict[str, Any]
log = structlog.get_logger(__name__)

TOLERANCE: Final = timedelta(seconds=300)  # between the signature's clock and ours, both ways
LEASE: Final = timedelta(minutes=2)
# Events are listed in the order they were made, not in the order they became visible.
POLL_OVERLAP: Final = timedelta(hours=6)
FIRST_POLL: Final = timedelta(days=3)
KEPT_BY_STRIPE: Final = timedelta(days=30)


class SignatureInvalid(Exception):
    """The body was not signed with our endpoint's secret, or not within five minutes."""


class EventMalformed(Exception):
    """The signed body is not an event of this account in the API version that we speak."""


def store(raw: bytes, *, signature: str, now: datetime) -> StripeEvent | None:
    """Verify the raw body and keep the event; None where it was kept before.

    Raises SignatureInvalid, EventMalformed; then nothing is kept.
    """
    _verify(raw, signature=signature, now=now)
    event = _parse(raw)
    if event["api_version"] != client.API_VERSION:
        raise EventMalformed(
            f"The endpoint sends API version {event['api_version']}; create it with "
            f"{client.API_VERSION}."
        )
    if bool(event["livemode"]) != client.is_live(settings.STRIPE_API_KEY):
        raise EventMalformed("A live event for a test key, or the other way round.")
    return _keep(event, now=now)


def process_pending(*, now: datetime, limit: int) -> int:
    """Apply up to `limit` waiting events; how many were taken up.

    Call it outside any transaction; does nothing where no Stripe is configured. An event that
    fails keeps no other from its turn and comes back later; one that a refusal of our key stopped,
    by Stripe or by us while debugging, comes back as it was and ends the round.
    """
    taken = 0
    while client.configured() and taken < limit and (event := _claim(now=now)) is not None:
        taken += 1
        try:
            outcome = handlers.handle(event, now=now)
        except (client.StripeStopped, client.LiveKeyInDebug) as stopped:
            log.warning("stripe_events_wait", reason=str(stopped))
            later = now + timedelta(seconds=client.BREAK_S)
            _settle(event, attempts=event.attempts - 1, next_attempt_at=later, outcome=str(stopped))
            break
        except Exception as error:
            log.exception("stripe_event_failed", id=event.id, type=event.type)
            later = now + steps.backoff(event.attempts, key=event.id)
            problem = f"{type(error).__name__}: {error}"
            _settle(event, next_attempt_at=later, outcome=problem)
        else:
            _settle(event, processed_at=now, outcome=outcome)
    return taken


def poll(*, now: datetime) -> int:
    """Keep the events that no webhook brought; how many there were (0 without a Stripe).

    Raises StripeUnreachable, StripeRefused, StripeStopped.
    """
    if not client.configured():
        return 0
    newest = StripeEvent.objects.order_by("-created_at").values_list("created_at", flat=True)
    last = newest.first()
    since = last - POLL_OVERLAP if last else now - FIRST_POLL
    listed = client.read_all("/v1/events", created={"gte": int(since.timestamp())})
    return _keep_all(listed, now=now)


def poll_undelivered(*, now: datetime) -> int:
    """Keep the events of the last thirty days that Stripe gave up to deliver; how many.

    They may be older than what `poll` looks at, where other events have arrived since. Raises as
    `poll`.
    """
    if not client.configured():
        return 0
    filters = {"created": {"gte": int((now - KEPT_BY_STRIPE).timestamp())}}
    return _keep_all(client.read_all("/v1/events", delivery_success=False, **filters), now=now)


def _keep_all(events: Iterable[Json], *, now: datetime) -> int:
    kept = sum(
        event["type"] in handlers.HANDLERS and _keep(event, now=now) is not None for event in events
    )
    if kept:
        log.warning("stripe_events_without_webhook", count=kept)
    return kept


def _verify(raw: bytes, *, signature: str, now: datetime) -> None:
    try:
        stripe.WebhookSignature.verify_header(raw, signature, settings.STRIPE_WEBHOOK_SECRET)
        moments = [part[2:] for part in signature.split(",") if part.startswith("t=")]
        signed_at = datetime.fromtimestamp(int(moments[0]), UTC)
    except (stripe.SignatureVerificationError, ValueError, OverflowError, OSError) as error:
        raise SignatureInvalid("The signature does not verify.") from error
    if abs(now - signed_at) > TOLERANCE:
        raise SignatureInvalid("The signature is more than five minutes away from our clock.")


def _parse(raw: bytes) -> Json:
    try:
        event = json.loads(raw)
    except ValueError as error:
        raise EventMalformed("The body is not JSON.") from error
    if not isinstance(event, dict) or event.get("object") != "event":
        raise EventMalformed("The body is not an event.")
    data = event.get("data")
    shapes = {"id": str, "type": str, "created": int, "livemode": bool, "api_version": str}
    wrong = [name for name, kind in shapes.items() if not isinstance(event.get(name), kind)]
    if wrong or not isinstance(data, dict) or not isinstance(data.get("object"), dict):
        raise EventMalformed(f"The event lacks {', '.join(wrong) or 'data.object'}.")
    return event


def _keep(event: Mapping[str, Any], *, now: datetime) -> StripeEvent | None:
    row = StripeEvent(
        id=event["id"][:255],
        type=event["type"][:100],
        api_version=(event.get("api_version") or "")[:40],
        object_id=str(event["data"]["object"].get("id") or "")[:255],
        payload=event,
        created_at=datetime.fromtimestamp(event["created"], UTC),
        received_at=now,
        next_attempt_at=now,
    )
    with transaction.atomic():
        known = StripeEvent.objects.filter(pk=row.pk).exists()
        StripeEvent.objects.bulk_create([row], ignore_conflicts=True)
    return None if known else row


def _claim(*, now: datetime) -> StripeEvent | None:
    waiting = StripeEvent.objects.filter(processed_at=None, next_attempt_at__lte=now)
    with transaction.atomic(durable=True):
        oldest = waiting.order_by("next_attempt_at", "created_at")
        event = oldest.select_for_update(skip_locked=True).first()
        if event is not None:
            event.attempts += 1
            event.next_attempt_at = now + LEASE
            event.save(update_fields=["attempts", "next_attempt_at"])
    return event


def _settle(event: StripeEvent, *, outcome: str, **fields: object) -> None:
    waiting = StripeEvent.objects.filter(pk=event.pk, processed_at=None)
    waiting.update(outcome=outcome[:200], **fields)
