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
    """One thing looked at: what it is called, how it stands, and what to do ("" where it is ok)."""

    code: str
    level: Level
    message: str
    remedy: str = ""


def checks(*, now: datetime) -> Iterator[Check]:
    """Key and mode, version, webhook secret, account, tax, clock and webhook endpoint, one after
    the other; a call that cannot be made ends it."""
    try:
        key = client.api_key()
    except (client.StripeNotConfigured, client.LiveKeyInDebug) as error:
        yield Check("key", "error", str(error), "Set STRIPE_API_KEY as docs/stripe.md says.")
        return
    yield _key(key)
    yield Check("version", "ok", f"API version {client.API_VERSION}, SDK {stripe.VERSION}.")
    yield _secret()
    try:
        yield from _account(now=now)
        yield _tax()
        yield from _endpoints(live=client.is_live(key))
    except (client.StripeUnreachable, client.StripeStopped, client.StripeRefused) as error:
        message = f"Stripe did not answer as it should: {error}"
        yield Check("reachable", "error", message, _REMEDIES[type(error)])


_REMEDIES: Final[dict[type[Exception], str]] = {
    client.StripeRefused: "Give a restricted key the right to read what is refused, or use a "
    "secret key.",
    client.StripeStopped: "Make a new key (Developers, API keys), set STRIPE_API_KEY, restart web "
    "and worker.",
    client.StripeUnreachable: "Look at the network from here to Stripe, and at "
    "https://status.stripe.com.",
}


def _key(key: str) -> Check:
    kind = "live" if client.is_live(key) else "test"
    where = settings.STRIPE_API_BASE or "https://api.stripe.com"
    message = f"A {kind} key, used at {where}."
    if kind == "live" and settings.STRIPE_API_BASE:
        remedy = "Empty FAREBOX_STRIPE_API_BASE, or use a test key."
        return Check("key", "error", f"{message} That is not Stripe.", remedy)
    if key.startswith("pk_"):
        remedy = "Set STRIPE_API_KEY to a secret (sk_…) or restricted (rk_…) key."
        return Check("key", "error", "The key is a publishable one: it may not charge.", remedy)
    return Check("key", "ok", message)


def _secret() -> Check:
    secret, remedy = settings.STRIPE_WEBHOOK_SECRET, "Copy the endpoint's signing secret there."
    if not secret:
        return Check("secret", "error", "FAREBOX_STRIPE_WEBHOOK_SECRET is empty.", remedy)
    if not secret.startswith("whsec_"):
        message = "FAREBOX_STRIPE_WEBHOOK_SECRET is not a whsec_…."
        return Check("secret", "warning", message, remedy)
    return Check("secret", "ok", "A webhook secret is set; only an event can prove it right.")


def _account(*, now: datetime) -> Iterator[Check]:
    found, theirs = client.account()
    yield Check("reachable", "ok", f"Account {found['id']}.")
    yield _money(found)
    yield _branding(found)
    if theirs is None:
        message = "Stripe's answer has no Date to compare with."
        yield Check("clock", "warning", message, "Look at the proxy between here and Stripe.")
    elif abs(theirs - now) > SKEW:
        message = f"Our clock is {abs(theirs - now)} away from Stripe's."
        remedy = "Set this machine's clock by NTP: webhooks more than five minutes off are refused."
        yield Check("clock", "error", message, remedy)
    else:
        yield Check("clock", "ok", "Our clock agrees with Stripe's.")


def _money(account: Json) -> Check:
    activate = "Finish the account's activation in Stripe's Dashboard (Settings, Account status)."
    if not account.get("charges_enabled", True):
        return Check("charges", "error", "The account cannot charge cards yet.", activate)
    if not account.get("payouts_enabled", True):
        message = "The account charges cards, but its money is not paid out."
        return Check("charges", "warning", message, activate)
    return Check("charges", "ok", "The account charges cards and is paid out.")


def _branding(account: Json) -> Check:
    """What customers see on invoices, at Checkout and on their bank's statement."""
    shown = account.get("settings") or {}
    wanted = {
        "a name": (shown.get("dashboard") or {}).get("display_name"),
        "an icon": (shown.get("branding") or {}).get("icon"),
        "a statement descriptor": (shown.get("payments") or {}).get("statement_descriptor"),
        "a support address": (account.get("business_profile") or {}).get("support_email"),
    }
    missing = [what for what, value in wanted.items() if not value]
    if missing:
        message = f"Customers do not see {', '.join(missing)} of yours."
        remedy = "Set it in Stripe's Dashboard (Settings, Business and Branding)."
        return Check("branding", "warning", message, remedy)
    return Check("branding", "ok", "Name, icon, statement descriptor and support address are set.")


def _tax() -> Check:
    found = client.read("/v1/tax/settings")
    active = found["status"] == "active"
    if settings.STRIPE_TAX and not active:
        pending = (found.get("status_details") or {}).get("pending") or {}
        missing = ", ".join(pending.get("missing_fields") or ()) or "not said"
        message = f"FAREBOX_STRIPE_TAX is on, but Stripe Tax is not active (missing: {missing})."
        remedy = (
            "Finish Stripe Tax in the Dashboard (Settings, Tax), or set FAREBOX_STRIPE_TAX off."
        )
        return Check("tax", "error", message, remedy)
    if settings.STRIPE_TAX:
        behavior = settings.STRIPE_TAX_BEHAVIOR or found["defaults"].get("tax_behavior")
        if behavior not in ("exclusive", "inclusive"):
            message = "Neither here nor at Stripe it is said whether prices include tax."
            remedy = "Set FAREBOX_STRIPE_TAX_BEHAVIOR, or the default in Stripe's tax settings."
            return Check("tax", "error", message, remedy)
        return Check("tax", "ok", f"Stripe Tax computes the tax of invoices ({behavior}).")
    if active:
        message = (
            "Stripe Tax is active, but Farebox's invoices do not ask for it: what is rated is "
            "what is charged."
        )
        remedy = "Set FAREBOX_STRIPE_TAX on, or prices with tax included."
        return Check("tax", "warning", message, remedy)
    return Check("tax", "ok", "Stripe Tax is not in use; what is rated is what is charged.")


def _endpoints(*, live: bool) -> Iterator[Check]:
    wanted = settings.BASE_URL + PATH
    if live and not wanted.startswith("https://"):
        remedy = "Set FAREBOX_BASE_URL to the https:// address that customers reach."
        yield Check(
            "url", "error", f"Stripe sends live events to https:// only, not {wanted}.", remedy
        )
    listed = list(client.read_all("/v1/webhook_endpoints"))
    found = [each for each in listed if each["url"].rstrip("/") == wanted]
    if not found:
        others = ", ".join(each["url"] for each in listed[:3]) or "none"
        message = f"No webhook endpoint points at {wanted} (there are: {others})."
        remedy = (
            f"Create one with API version {client.API_VERSION} and the events of docs/stripe.md."
        )
        yield Check("endpoint", "error", message, remedy)
    for endpoint in found:
        yield _endpoint(endpoint)


def _endpoint(endpoint: Json) -> Check:
    enabled, version = set(endpoint["enabled_events"]), endpoint.get("api_version")
    missing = set() if "*" in enabled else set(HANDLERS) - enabled
    name = endpoint["id"]
    if endpoint["status"] != "enabled":
        remedy = "Enable it again in Stripe's Dashboard (Developers, Webhooks)."
        return Check("endpoint", "error", f"{name} is {endpoint['status']}.", remedy)
    if endpoint["url"].endswith("/"):
        return Check("endpoint", "error", f"{name} ends in a slash.", f"Its path is {PATH}.")
    if version not in (None, client.API_VERSION):
        remedy = (
            f"Create it anew with {client.API_VERSION}; an endpoint's version cannot be changed."
        )
        return Check("endpoint", "error", f"{name} sends API version {version}.", remedy)
    if missing:
        remedy = f"Enable these events for {name}."
        return Check(
            "endpoint", "error", f"{name} leaves out {', '.join(sorted(missing))}.", remedy
        )
    if version is None and not settings.STRIPE_API_BASE:
        message = f"{name} follows the account's default version."
        remedy = f"Create it anew, pinned to {client.API_VERSION}."
        return Check("endpoint", "warning", message, remedy)
    return Check("endpoint", "ok", f"{name} sends what we handle.")
