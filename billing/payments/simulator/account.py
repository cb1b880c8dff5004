"""The account itself: its name, its balance, its events and webhook endpoints."""

from __future__ import annotations

import secrets
from collections import Counter

from billing.payments.simulator.calls import Call, Route, listing, page, retrieve
from billing.payments.simulator.forms import Json
from billing.payments.simulator.presenting import present
from billing.payments.simulator.shapes import (
    EXPAND,
    FLAG,
    METADATA,
    PAGE,
    RANGE,
    TEXT,
    ListOf,
    Required,
    Shape,
)
from billing.payments.simulator.world import World, merged, new_id

ACCOUNT_ID = "acct_simulator"
TAX_ID = "tax_settings"
_ENDPOINT: Shape = {
    **EXPAND,
    "description": TEXT,
    "metadata": METADATA,
    "url": TEXT,
    "enabled_events": ListOf(TEXT),
}


def show_account(world: World, _call: Call) -> Json:
    """Return the account, with what was set otherwise."""
    return _DEFAULTS | _set_otherwise(world, ACCOUNT_ID)


def show_tax_settings(world: World, _call: Call) -> Json:
    """Return that Stripe Tax is not set up, unless that was set otherwise."""
    return tax_settings(world)


def tax_settings(world: World) -> Json:
    """The settings of Stripe Tax as they stand."""
    return _TAX | _set_otherwise(world, TAX_ID)


def _set_otherwise(world: World, identifier: str) -> Json:
    stored = world.store.get(identifier) or {}
    return {name: stored[name] for name in stored.keys() - {"id", "_seq"}}


_DEFAULTS: Json = {
    "id": ACCOUNT_ID,
    "object": "account",
    "business_profile": {
        "mcc": None,
        "name": "Simulator",
        "support_email": "support@example.com",
        "url": None,
    },
    "business_type": "company",
    "charges_enabled": True,
    "country": "US",
    "created": 1_577_836_800,
    "default_currency": "usd",
    "details_submitted": True,
    "email": "simulator@example.com",
    "metadata": {},
    "payouts_enabled": True,
    "settings": {
        "branding": {
            "icon": "file_simulator1",
            "logo": None,
            "primary_color": None,
            "secondary_color": None,
        },
        "card_payments": {
            "statement_descriptor_prefix": None,
            "statement_descriptor_prefix_kana": None,
            "statement_descriptor_prefix_kanji": None,
        },
        "dashboard": {"display_name": "Simulator", "timezone": "Etc/UTC"},
        "payments": {
            "statement_descriptor": "SIMULATOR",
            "statement_descriptor_kana": None,
            "statement_descriptor_kanji": None,
        },
    },
    "type": "standard",
}


_TAX: Json = {
    "object": "tax.settings",
    "defaults": {"provider": "stripe", "tax_behavior": None, "tax_code": None},
    "head_office": None,
    "livemode": False,
    "status": "pending",
    "status_details": {"pending": {"missing_fields": ["head_office"]}},
}


def show_balance(world: World, _call: Call) -> Json:
    """Return what was charged less what was refunded, by currency; there are no fees."""
    sums: Counter[str] = Counter({"usd": 0})
    for charge in world.store.all("charge"):
        sums[charge["currency"]] += charge["amount_captured"] - charge["amount_refunded"]
    available = [{"amount": amount, "currency": name} for name, amount in sorted(sums.items())]
    return {
        "object": "balance",
        "available": available,
        "livemode": False,
        "pending": [{"amount": 0, "currency": name} for name in sorted(sums)],
    }


def list_events(world: World, call: Call) -> Json:
    """List events, newest first, by type and by whether every endpoint has them."""
    kinds = call.params.get("types") or [call.params.get("type")]
    delivered = call.params.get("delivery_success")

    def fits(event: Json) -> bool:
        if kinds != [None] and not any(_matches(event["type"], kind) for kind in kinds):
            return False
        return delivered is None or delivered == (event["pending_webhooks"] == 0)

    return page(world, call, "event", fits=fits)


def create_endpoint(world: World, call: Call) -> Json:
    """Create a webhook endpoint; only this answer tells its secret."""
    endpoint = new_endpoint(
        world,
        url=call.params["url"],
        secret="whsec_" + secrets.token_hex(16),
        enabled=call.params["enabled_events"],
    )
    endpoint["api_version"] = call.params.get("api_version")
    _apply(endpoint, call.params)
    world.store.put(endpoint)
    return {**present(world.store, endpoint), "secret": endpoint["_secret"]}


def new_endpoint(world: World, *, url: str, secret: str, enabled: list[str]) -> Json:
    """Store an endpoint that gets the enabled events from now on."""
    return world.store.put(
        {
            "id": new_id("we"),
            "object": "webhook_endpoint",
            "api_version": None,
            "application": None,
            "created": world.now(),
            "description": None,
            "enabled_events": enabled,
            "livemode": False,
            "metadata": {},
            "status": "enabled",
            "url": url,
            "_secret": secret,
        }
    )


def update_endpoint(world: World, call: Call) -> Json:
    """Change an endpoint."""
    endpoint = world.find("webhook_endpoint", call.id)
    _apply(endpoint, call.params)
    if "disabled" in call.params:
        endpoint["status"] = "disabled" if call.params["disabled"] else "enabled"
    return present(world.store, world.store.put(endpoint))


def delete_endpoint(world: World, call: Call) -> Json:
    """Delete an endpoint; what waits for it is not delivered any more."""
    endpoint = world.find("webhook_endpoint", call.id)
    world.store.remove(endpoint["id"])
    world.store.run("delete from delivery where endpoint = ?", endpoint["id"])
    return {"id": endpoint["id"], "object": "webhook_endpoint", "deleted": True}


def _apply(endpoint: Json, params: Json) -> None:
    for name in ("description", "url", "enabled_events"):
        if name in params:
            endpoint[name] = params[name] or None
    if "metadata" in params:
        endpoint["metadata"] = merged(endpoint["metadata"], params["metadata"])


def _matches(kind: str, pattern: str) -> bool:
    return kind == pattern or (pattern.endswith("*") and kind.startswith(pattern[:-1]))


_EVENTS: Shape = {
    **PAGE,
    "created": RANGE,
    "delivery_success": FLAG,
    "type": TEXT,
    "types": ListOf(TEXT, most=20),
}
_NEW_ENDPOINT: Shape = {
    **_ENDPOINT,
    "api_version": TEXT,
    "enabled_events": Required(ListOf(TEXT)),
    "url": Required(TEXT),
}
ROUTES = (
    Route("GET", "/v1/account", EXPAND, show_account),
    Route("GET", "/v1/balance", EXPAND, show_balance),
    Route("GET", "/v1/tax/settings", EXPAND, show_tax_settings),
    Route("GET", "/v1/events", _EVENTS, list_events),
    Route("GET", "/v1/events/*", EXPAND, retrieve("event")),
    Route("POST", "/v1/webhook_endpoints", _NEW_ENDPOINT, create_endpoint),
    Route("GET", "/v1/webhook_endpoints", PAGE, listing("webhook_endpoint")),
    Route("GET", "/v1/webhook_endpoints/*", EXPAND, retrieve("webhook_endpoint")),
    Route("POST", "/v1/webhook_endpoints/*", {**_ENDPOINT, "disabled": FLAG}, update_endpoint),
    Route("DELETE", "/v1/webhook_endpoints/*", {}, delete_endpoint),
)
