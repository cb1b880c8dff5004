"""Payment methods: cards, made from numbers on a page or from Stripe's test ids."""

from __future__ import annotations

from billing.payments.simulator import cards
from billing.payments.simulator.calls import Call, Route, page, retrieve
from billing.payments.simulator.errors import CardRefused, bad_request, no_such, wrong_state
from billing.payments.simulator.forms import Json
from billing.payments.simulator.presenting import present
from billing.payments.simulator.shapes import (
    ADDRESS,
    EXPAND,
    METADATA,
    PAGE,
    TEXT,
    Integer,
    Nested,
    Required,
    Shape,
    choice,
)
from billing.payments.simulator.world import World, merged, new_id

_ADDRESS = ("city", "country", "line1", "line2", "postal_code", "state")
_BILLING = Nested({"address": ADDRESS, "email": TEXT, "name": TEXT, "phone": TEXT})
_EXPIRY: Shape = {"exp_month": Integer(1, 12), "exp_year": Integer(2000, 2100)}
_REDISPLAY = choice("always", "limited", "unspecified")
_COMMON: Shape = {
    **EXPAND,
    "allow_redisplay": _REDISPLAY,
    "billing_details": _BILLING,
    "metadata": METADATA,
}
_CREATE: Shape = {
    **_COMMON,
    "type": Required(choice("card")),
    "card": Required(
        Nested({**_EXPIRY, "number": Required(TEXT), "cvc": TEXT}),
    ),
}


def new_method(world: World, card: cards.Card, *, month: int = 12, year: int = 0) -> Json:
    """Store a card that belongs to nobody yet."""
    return world.store.put(
        {
            "id": new_id("pm"),
            "object": "payment_method",
            "allow_redisplay": "unspecified",
            "billing_details": {
                "address": address(None),
                "email": None,
                "name": None,
                "phone": None,
                "tax_id": None,
            },
            "card": cards.details(card, month=month, year=year or _year(world) + 4),
            "created": world.now(),
            "customer": None,
            "livemode": False,
            "metadata": {},
            "type": "card",
            "_number": card.number,
            "_set_up": False,
        }
    )


def card_behind(method: Json) -> cards.Card:
    """Return the test card that a payment method stands for."""
    return cards.BY_NUMBER[method["_number"]]


def chosen(world: World, identifier: str, *, param: str = "payment_method") -> Json:
    """Return the payment method a call names; a test id such as `pm_card_visa` makes one."""
    number = cards.BY_TEST_ID.get(identifier)
    if number is None:
        return world.find("payment_method", identifier, param=param)
    past = identifier == "pm_card_expired"
    return new_method(world, cards.BY_NUMBER[number], year=_year(world) - 1 if past else 0)


def owned(world: World, identifier: str, customer: str) -> Json:
    """Return a payment method of this customer, or refuse."""
    method = world.store.get(identifier)
    if method is None or method["object"] != "payment_method" or method["customer"] != customer:
        message = (
            f"The customer does not have a payment method with the ID {identifier}. The payment "
            "method must be attached to the customer."
        )
        raise bad_request(
            message, code="resource_missing", param="invoice_settings[default_payment_method]"
        )
    return method


def attach_to(world: World, method: Json, customer: str) -> Json:
    """Give a card to a customer, as saving it does; a bank may decline that."""
    if method["customer"] == customer:
        return method
    if method["customer"] is not None:
        raise wrong_state(
            "The payment method you provided has already been attached to a customer.",
            code="payment_method_unexpected_state",
        )
    if method.get("_detached"):
        raise wrong_state(
            "This PaymentMethod was previously used without being attached to a Customer or was "
            "detached from a Customer, and may not be used again."
        )
    card = card_behind(method)
    if card.saving == "declined":
        raise CardRefused(cards.decline(card))
    return force_attach(world, method, customer)


def force_attach(world: World, method: Json, customer: str) -> Json:
    """Give a card to a customer after its bank agreed."""
    if method["customer"] is None:
        method["customer"] = customer
        world.store.put(method)
        world.emit("payment_method.attached", method)
    return method


def let_go(world: World, method: Json) -> Json:
    """Take a card from its customer for good."""
    previous = {"customer": method["customer"]}
    customer = world.store.get(method["customer"] or "")
    method |= {"customer": None, "_detached": True}
    world.store.put(method)
    world.emit("payment_method.detached", method, previous)
    if customer is not None:
        settings = customer["invoice_settings"]
        if settings["default_payment_method"] == method["id"]:
            customer["invoice_settings"] = {**settings, "default_payment_method": None}
            world.store.put(customer)
            world.emit("customer.updated", customer, {"invoice_settings": settings})
    return method


def create(world: World, call: Call) -> Json:
    """Create a card from its number."""
    sent = call.params["card"]
    card = cards.card_of(sent["number"])
    month, year = sent.get("exp_month", 12), sent.get("exp_year", 0)
    method = new_method(world, card, month=month, year=year)
    _apply(method, call.params)
    return present(world.store, world.store.put(method))


def attach(world: World, call: Call) -> Json:
    """Attach a card to a customer."""
    customer = world.find("customer", call.params["customer"], param="customer")
    if call.id in cards.BY_TEST_ID:
        method = chosen(world, call.id)
    else:
        method = world.find("payment_method", call.id)
    return present(world.store, attach_to(world, method, customer["id"]))


def detach(world: World, call: Call) -> Json:
    """Take a card from its customer."""
    method = world.find("payment_method", call.id)
    if method["customer"] is None:
        raise wrong_state(
            "The payment method you provided is not attached to a customer so detachment is "
            "impossible.",
            code="payment_method_unexpected_state",
        )
    return present(world.store, let_go(world, method))


def update(world: World, call: Call) -> Json:
    """Change billing details, metadata or the expiry of an attached card."""
    method = world.find("payment_method", call.id)
    if method["customer"] is None:
        raise wrong_state(
            "You must save this PaymentMethod to a customer before you can update it."
        )
    _apply(method, call.params)
    method["card"] = {**method["card"], **call.params.get("card", {})}
    world.store.put(method)
    world.emit("payment_method.updated", method, {})
    return present(world.store, method)


def list_all(world: World, call: Call) -> Json:
    """List the cards of a customer."""
    customer = call.params.get("customer")
    return page(world, call, "payment_method", owner=customer, fits=lambda m: bool(m["customer"]))


def list_of_customer(world: World, call: Call) -> Json:
    """List the cards of the customer in the path."""
    customer = world.find("customer", call.id)
    return page(world, call, "payment_method", owner=customer["id"])


def retrieve_of_customer(world: World, call: Call) -> Json:
    """Return one card of the customer in the path."""
    method = world.find("payment_method", call.ids[1])
    if method["customer"] != call.id:
        raise no_such("PaymentMethod", call.ids[1], param="payment_method")
    return present(world.store, method)


def address(sent: Json | None) -> Json:
    """Return a whole address hash; what was not sent is null."""
    return {name: (sent or {}).get(name) or None for name in _ADDRESS}


def _apply(method: Json, params: Json) -> None:
    if "metadata" in params:
        method["metadata"] = merged(method["metadata"], params["metadata"])
    if "allow_redisplay" in params:
        method["allow_redisplay"] = params["allow_redisplay"]
    billing = params.get("billing_details", {})
    if "address" in billing:
        billing = {**billing, "address": address(billing["address"])}
    method["billing_details"] = {**method["billing_details"], **billing}


def _year(world: World) -> int:
    return 1970 + int(world.now() / 31_556_952)


_LIST: Shape = {**PAGE, "type": choice("card"), "allow_redisplay": _REDISPLAY}
ROUTES = (
    Route("POST", "/v1/payment_methods", _CREATE, create),
    Route("GET", "/v1/payment_methods", {**_LIST, "customer": TEXT}, list_all),
    Route("GET", "/v1/payment_methods/*", EXPAND, retrieve("payment_method")),
    Route("POST", "/v1/payment_methods/*", {**_COMMON, "card": Nested(_EXPIRY)}, update),
    Route(
        "POST",
        "/v1/payment_methods/*/attach",
        {**EXPAND, "customer": Required(TEXT)},
        attach,
    ),
    Route("POST", "/v1/payment_methods/*/detach", EXPAND, detach),
    Route("GET", "/v1/customers/*/payment_methods", _LIST, list_of_customer),
    Route("GET", "/v1/customers/*/payment_methods/*", EXPAND, retrieve_of_customer),
)
