"""Is the connection to Stripe set up right? Looks, and changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

import stripe
from django.conf import settings

from billing.payments import client
from billing.payments.handlers import HANDLERS

Json = dict[str, Any]
Level = Literal["ok", "warning", "error"]
SKEW: Final = timedelta(seconds=60)
PATH: Final = "/api/v1/stripe/webhook"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at: what it is called, how it stands, and what to do about it."""

    code: str
    level: Level
    message: str


def checks(*, now: datetime) -> Iterator[Check]:
    """Keys, reachability, clock, webhook secret and endpoint, one after the other; a call that
    cannot be made ends it."""
    try:
        key = client.api_key()
    except (client.StripeNotConfigured, client.LiveKeyInDebug) as error:
        yield Check("key", "error", str(error))
        return
    kind = "live" if client.is_live(key) else "test"
    where = settings.STRIPE_API_BASE or "https://api.stripe.com"
    yield Check("key", "ok", f"A {kind} key, used at {where}.")
    yield Check("version", "ok", f"API version {client.API_VERSION}, SDK {stripe.VERSION}.")
    yield _secret()
    try:
        yield from _account(now=now)
        yield from _endpoints()
    except (client.StripeUnreachable, client.StripeStopped, client.StripeRefused) as error:
        yield Check("reachable", "error", f"Stripe did not answer as it should: {error}")


def _secret() -> Check:
    secret = settings.STRIPE_WEBHOOK_SECRET
    if not secret:
        return Check("secret", "error", "FAREBOX_STRIPE_WEBHOOK_SECRET is empty.")
    if not secret.startswith("whsec_"):
        return Check("secret", "warning", "FAREBOX_STRIPE_WEBHOOK_SECRET is not a whsec_….")
    return Check("secret", "ok", "A webhook secret is set; only an event can prove it right.")


def _account(*, now: datetime) -> Iterator[Check]:
    found, theirs = client.account()
    yield Check("reachable", "ok", f"Account {found['id']}.")
    if not found.get("charges_enabled", True):
        yield Check("charges", "error", "The account cannot charge cards yet.")
    if theirs is None:
        yield Check("clock", "warning", "Stripe's answer has no Date to compare with.")
    elif abs(theirs - now) > SKEW:
        yield Check("clock", "error", f"Our clock is {abs(theirs - now)} away from Stripe's.")
    else:
        yield Check("clock", "ok", "Our clock agrees with Stripe's.")


def _endpoints() -> Iterator[Check]:
    wanted = settings.BASE_URL + PATH
    found = [each for each in client.read_all("/v1/webhook_endpoints") if each["url"] == wanted]
    if not found:
        yield Check("endpoint", "error", f"No webhook endpoint points at {wanted}.")
    for endpoint in found:
        yield _endpoint(endpoint)


def _endpoint(endpoint: Json) -> Check:
    enabled, version = set(endpoint["enabled_events"]), endpoint.get("api_version")
    missing = set() if "*" in enabled else set(HANDLERS) - enabled
    if endpoint["status"] != "enabled":
        return Check("endpoint", "error", f"{endpoint['id']} is {endpoint['status']}.")
    if version not in (None, client.API_VERSION):
        wrong = f"{endpoint['id']} sends {version}; create it with {client.API_VERSION}."
        return Check("endpoint", "error", wrong)
    if missing:
        return Check("endpoint", "error", f"{endpoint['id']} leaves out {sorted(missing)}.")
    if version is None and not settings.STRIPE_API_BASE:
        unpinned = f"{endpoint['id']} follows the account's default version; pin it."
        return Check("endpoint", "warning", unpinned)
    return Check("endpoint", "ok", f"{endpoint['id']} sends what we handle.")
