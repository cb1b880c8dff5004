"""Setup intents: saving a card for later charges."""

from __future__ import annotations

import secrets
from contextlib import suppress

from billing.payments.simulator import cards, methods
from billing.payments.simulator.calls import Call, Route, listing, retrieve
from billing.payments.simulator.errors import CardRefused, wrong_state
from billing.payments.simulator.forms import Json
from billing.payments.simulator.presenting import present
from billing.payments.simulator.shapes import (
    EXPAND,
    FLAG,
    METADATA,
    PAGE,
    RANGE,
    TEXT,
    Nested,
    Required,
    Shape,
    choice,
)
from billing.payments.simulator.world import World, merged, new_id

_CONFIRM: Shape = {**EXPAND, "payment_method": TEXT, "return_url": TEXT}
_UPDATE: Shape = {
    **EXPAND,
    "customer": TEXT,
    "description": TEXT,
    "metadata": METADATA,
    "payment_method": TEXT,
}
_CREATE: Shape = {
    **_UPDATE,
    **_CONFIRM,
    "automatic_payment_methods": Nested(
        {"enabled": Required(FLAG), "allow_redirects": choice("always", "never")}
    ),
    "confirm": FLAG,
    "usage": choice("off_session", "on_session"),
}
_OPEN = ("requires_payment_method", "requires_confirmation", "requires_action")


class NeedsAuthentication(Exception):
    """The card can only be used after its holder authenticates."""

    def __init__(self, method: Json) -> None:
        super().__init__(method["id"])
        self.method = method


def new_setup(
    world: World,
    *,
    customer: str | None,
    usage: str = "off_session",
    description: str | None = None,
    metadata: dict[str, str] | None = None,
) -> Json:
    """Store a setup intent that waits for a card."""
    identifier = new_id("seti")
    setup: Json = {
        "id": identifier,
        "object": "setup_intent",
        "application": None,
        "automatic_payment_methods": {"allow_redirects": "always", "enabled": True},
        "cancellation_reason": None,
        "client_secret": f"{identifier}_secret_{secrets.token_hex(12)}",
        "created": world.now(),
        "customer": customer,
        "description": description,
        "excluded_payment_method_types": None,
        "flow_directions": None,
        "last_setup_error": None,
        "latest_attempt": None,
        "livemode": False,
        "mandate": None,
        "metadata": metadata or {},
        "next_action": None,
        "on_behalf_of": None,
        "payment_method": None,
        "payment_method_configuration_details": None,
        "payment_method_options": {},
        "payment_method_types": ["card"],
        "single_use_mandate": None,
        "status": "requires_payment_method",
        "usage": usage,
    }
    world.store.put(setup)
    world.emit("setup_intent.created", setup)
    return setup


def save_card(world: World, setup: Json, method: Json, *, authenticated: bool) -> None:
    """Set a card up and give it to the setup's customer.

    Raises `CardRefused` when the bank declines and `NeedsAuthentication` when the cardholder
    has to act first; both leave their mark on the stored setup intent.
    """
    card = methods.card_behind(method)
    if card.saving == "declined":
        raise refuse(world, setup, method, {"type": "card_error", **cards.decline(card)})
    if card.saving == "authenticate" and not authenticated and not method["_set_up"]:
        setup |= {
            "status": "requires_action",
            "payment_method": method["id"],
            "next_action": {"type": "use_stripe_sdk", "use_stripe_sdk": {"type": "three_d_secure"}},
        }
        world.store.put(setup)
        world.emit("setup_intent.requires_action", setup)
        raise NeedsAuthentication(method)
    method["_set_up"] = True
    world.store.put(method)
    if setup["customer"]:
        methods.force_attach(world, method, setup["customer"])
    setup |= {
        "status": "succeeded",
        "payment_method": method["id"],
        "last_setup_error": None,
        "next_action": None,
    }
    world.store.put(setup)
    world.emit("setup_intent.succeeded", setup)


def refuse(world: World, setup: Json, method: Json, error: Json) -> CardRefused:
    """Mark a setup intent as refused and return the error to raise."""
    error = {**error, "payment_method": present(world.store, method)}
    setup |= {
        "status": "requires_payment_method",
        "payment_method": None,
        "last_setup_error": error,
        "next_action": None,
    }
    world.store.put(setup)
    world.emit("setup_intent.setup_failed", setup)
    return CardRefused({**error, "setup_intent": present(world.store, setup)})


def authentication_failed() -> Json:
    """Return the error of a cardholder who failed or refused 3-D Secure."""
    message = (
        "We are unable to authenticate your payment method. Please choose a different payment "
        "method and try again."
    )
    code = "setup_intent_authentication_failure"
    return {"type": "card_error", "code": code, "message": message}


def create(world: World, call: Call) -> Json:
    """Create a setup intent and, with `confirm`, save its card."""
    customer = call.params.get("customer") or None
    if customer:
        world.find("customer", customer, param="customer")
    setup = new_setup(world, customer=customer, usage=call.params.get("usage", "off_session"))
    _apply(world, setup, call.params)
    if call.params.get("confirm"):
        return _confirm(world, setup)
    return present(world.store, setup)


def update(world: World, call: Call) -> Json:
    """Change a setup intent that is still open."""
    setup = _open(world, call.id)
    _apply(world, setup, call.params)
    return present(world.store, setup)


def confirm(world: World, call: Call) -> Json:
    """Save the card of a setup intent."""
    setup = _open(world, call.id)
    _apply(world, setup, call.params)
    return _confirm(world, setup)


def cancel(world: World, call: Call) -> Json:
    """Give up a setup intent."""
    setup = _open(world, call.id)
    setup["status"] = "canceled"
    setup["cancellation_reason"] = call.params.get("cancellation_reason")
    world.store.put(setup)
    world.emit("setup_intent.canceled", setup)
    return present(world.store, setup)


def _confirm(world: World, setup: Json) -> Json:
    if setup["payment_method"] is None:
        raise wrong_state(
            "You cannot confirm this SetupIntent because it's missing a payment method.",
            code="setup_intent_unexpected_state",
        )
    method = world.find("payment_method", setup["payment_method"], param="payment_method")
    with suppress(NeedsAuthentication):
        save_card(world, setup, method, authenticated=False)
    return present(world.store, setup)


def _open(world: World, identifier: str) -> Json:
    setup = world.find("setup_intent", identifier)
    if setup["status"] not in _OPEN:
        raise wrong_state(
            f"This SetupIntent has a status of {setup['status']}.",
            code="setup_intent_unexpected_state",
        )
    return setup


def _apply(world: World, setup: Json, params: Json) -> None:
    for name in ("customer", "description"):
        if name in params:
            setup[name] = params[name] or None
    if "metadata" in params:
        setup["metadata"] = merged(setup["metadata"], params["metadata"])
    if params.get("payment_method"):
        method = methods.chosen(world, params["payment_method"])
        setup |= {"payment_method": method["id"], "status": "requires_confirmation"}
    world.store.put(setup)


ROUTES = (
    Route("POST", "/v1/setup_intents", _CREATE, create),
    Route(
        "GET",
        "/v1/setup_intents",
        {**PAGE, "created": RANGE, "customer": TEXT, "payment_method": TEXT},
        listing("setup_intent", "payment_method"),
    ),
    Route(
        "GET", "/v1/setup_intents/*", {**EXPAND, "client_secret": TEXT}, retrieve("setup_intent")
    ),
    Route("POST", "/v1/setup_intents/*", _UPDATE, update),
    Route("POST", "/v1/setup_intents/*/confirm", _CONFIRM, confirm),
    Route(
        "POST",
        "/v1/setup_intents/*/cancel",
        {
            **EXPAND,
            "cancellation_reason": choice("abandoned", "duplicate", "requested_by_customer"),
        },
        cancel,
    ),
)
