"""Payment intents: one amount to collect, and how far it got."""

from __future__ import annotations

import secrets

from billing.payments.simulator import charging, methods
from billing.payments.simulator.calls import Call, Route, listing, retrieve
from billing.payments.simulator.errors import CardRefused, bad_request, wrong_state
from billing.payments.simulator.forms import Json
from billing.payments.simulator.presenting import present
from billing.payments.simulator.shapes import (
    CURRENCY,
    EXPAND,
    FLAG,
    METADATA,
    PAGE,
    RANGE,
    TEXT,
    Integer,
    Nested,
    Required,
    Shape,
    choice,
)
from billing.payments.simulator.world import World, merged, new_id

_MOST = 99_999_999
# What cannot be charged because moving it costs more, by currency, in minor units.
_MINIMUM = {"gbp": 30, "jpy": 50, "mxn": 1000, "sek": 300, "dkk": 250, "nok": 300, "hkd": 400}
_AUTOMATIC = Nested({"enabled": Required(FLAG), "allow_redirects": choice("always", "never")})
_TEXTS: Shape = dict.fromkeys(("customer", "description", "payment_method", "receipt_email"), TEXT)
_UPDATE: Shape = {
    **EXPAND,
    **_TEXTS,
    "amount": Integer(1, _MOST),
    "metadata": METADATA,
    "setup_future_usage": choice("off_session", "on_session"),
    "statement_descriptor_suffix": TEXT,
}
_CONFIRM: Shape = {
    **EXPAND,
    "error_on_requires_action": FLAG,
    "off_session": FLAG,
    "payment_method": TEXT,
    "return_url": TEXT,
}
_CREATE: Shape = {
    **_UPDATE,
    **_CONFIRM,
    "amount": Required(Integer(1, _MOST)),
    "automatic_payment_methods": _AUTOMATIC,
    "confirm": FLAG,
    "currency": Required(CURRENCY),
}
_PAYABLE = ("requires_payment_method", "requires_confirmation", "requires_action")


def minimum(currency: str) -> int:
    """Return the smallest amount that can be charged, in minor units."""
    return _MINIMUM.get(currency, 50)


def new_intent(
    world: World,
    *,
    amount: int,
    currency: str,
    customer: str | None,
    description: str | None = None,
    metadata: dict[str, str] | None = None,
) -> Json:
    """Store an intent that waits for a card."""
    identifier = new_id("pi")
    intent: Json = {
        "id": identifier,
        "object": "payment_intent",
        "amount": amount,
        "amount_capturable": 0,
        "amount_details": {"tip": {}},
        "amount_received": 0,
        "application": None,
        "application_fee_amount": None,
        "automatic_payment_methods": {"allow_redirects": "always", "enabled": True},
        "canceled_at": None,
        "cancellation_reason": None,
        "capture_method": "automatic",
        "client_secret": f"{identifier}_secret_{secrets.token_hex(12)}",
        "confirmation_method": "automatic",
        "created": world.now(),
        "currency": currency,
        "customer": customer,
        "description": description,
        "excluded_payment_method_types": None,
        "last_payment_error": None,
        "latest_charge": None,
        "livemode": False,
        "metadata": metadata or {},
        "next_action": None,
        "on_behalf_of": None,
        "payment_method": None,
        "payment_method_configuration_details": None,
        "payment_method_options": {},
        "payment_method_types": ["card"],
        "processing": None,
        "receipt_email": None,
        "review": None,
        "setup_future_usage": None,
        "shipping": None,
        "statement_descriptor": None,
        "statement_descriptor_suffix": None,
        "status": "requires_payment_method",
        "transfer_data": None,
        "transfer_group": None,
    }
    world.store.put(intent)
    world.emit("payment_intent.created", intent)
    return intent


def create(world: World, call: Call) -> Json:
    """Create an intent and, with `confirm`, charge it."""
    params = call.params
    if params["amount"] < minimum(params["currency"]):
        message = f"Amount must be at least {minimum(params['currency'])} in minor units."
        raise bad_request(message, code="amount_too_small", param="amount")
    if params.get("off_session") and not params.get("confirm"):
        message = "The parameter `off_session` can only be passed when `confirm` is true."
        raise bad_request(message, param="off_session")
    if params.get("customer"):
        world.find("customer", params["customer"], param="customer")
    intent = new_intent(
        world,
        amount=params["amount"],
        currency=params["currency"],
        customer=params.get("customer"),
    )
    _apply(world, intent, params)
    if params.get("confirm"):
        return _confirm(world, intent, params)
    return present(world.store, intent)


def update(world: World, call: Call) -> Json:
    """Change an intent that is not paid yet."""
    intent = world.find("payment_intent", call.id)
    _require(intent, _PAYABLE, "updated")
    _apply(world, intent, call.params)
    return present(world.store, intent)


def confirm(world: World, call: Call) -> Json:
    """Charge an intent."""
    intent = world.find("payment_intent", call.id)
    _require(intent, _PAYABLE, "confirmed")
    _apply(world, intent, {k: v for k, v in call.params.items() if k == "payment_method"})
    return _confirm(world, intent, call.params)


def cancel(world: World, call: Call) -> Json:
    """Give up an intent."""
    intent = world.find("payment_intent", call.id)
    _require(intent, _PAYABLE, "canceled")
    give_up(world, intent, reason=call.params.get("cancellation_reason"))
    return present(world.store, intent)


def give_up(world: World, intent: Json, *, reason: str | None = None) -> None:
    """Cancel an intent that will not be collected any more."""
    if intent["status"] not in _PAYABLE:
        return
    intent |= {"status": "canceled", "canceled_at": world.now(), "cancellation_reason": reason}
    intent["next_action"] = None
    world.store.put(intent)
    world.emit("payment_intent.canceled", intent)


def _confirm(world: World, intent: Json, params: Json) -> Json:
    if intent["payment_method"] is None:
        raise wrong_state(
            "You cannot confirm this PaymentIntent because it's missing a payment method.",
            code="payment_intent_unexpected_state",
        )
    method = world.find("payment_method", intent["payment_method"], param="payment_method")
    error = charging.attempt(world, intent, method)
    if error is None:
        return present(world.store, intent)
    waits = intent["status"] == "requires_action"
    if waits and not params.get("off_session") and not params.get("error_on_requires_action"):
        return present(world.store, intent)
    if waits:
        intent |= {"status": "requires_payment_method", "next_action": None}
        intent |= {"last_payment_error": error, "payment_method": None}
        world.store.put(intent)
        world.emit("payment_intent.payment_failed", intent)
    raise CardRefused({**error, "payment_intent": present(world.store, intent)})


def _apply(world: World, intent: Json, params: Json) -> None:
    for name in (*_TEXTS, "amount", "setup_future_usage", "statement_descriptor_suffix"):
        if name in params and name != "payment_method":
            intent[name] = params[name] or None
    if "metadata" in params:
        intent["metadata"] = merged(intent["metadata"], params["metadata"])
    if params.get("payment_method"):
        method = methods.chosen(world, params["payment_method"])
        if method["customer"] not in (None, intent["customer"]):
            raise wrong_state(
                f"The provided PaymentMethod cannot be used with this customer: {method['id']}."
            )
        intent |= {"payment_method": method["id"], "status": "requires_confirmation"}
    world.store.put(intent)


def _require(intent: Json, statuses: tuple[str, ...], verb: str) -> None:
    if intent["status"] not in statuses:
        raise wrong_state(
            f"This PaymentIntent could not be {verb} because it has a status of "
            f"{intent['status']}.",
            code="payment_intent_unexpected_state",
        )


ROUTES = (
    Route("POST", "/v1/payment_intents", _CREATE, create),
    Route(
        "GET",
        "/v1/payment_intents",
        {**PAGE, "created": RANGE, "customer": TEXT},
        listing("payment_intent"),
    ),
    Route(
        "GET",
        "/v1/payment_intents/*",
        {**EXPAND, "client_secret": TEXT},
        retrieve("payment_intent"),
    ),
    Route("POST", "/v1/payment_intents/*", _UPDATE, update),
    Route("POST", "/v1/payment_intents/*/confirm", _CONFIRM, confirm),
    Route(
        "POST",
        "/v1/payment_intents/*/cancel",
        {
            **EXPAND,
            "cancellation_reason": choice(
                "duplicate", "fraudulent", "requested_by_customer", "abandoned"
            ),
        },
        cancel,
    ),
)
