"""Customers."""

from __future__ import annotations

from billing.payments.simulator import methods, renewals
from billing.payments.simulator.calls import Call, Route, listing, retrieve
from billing.payments.simulator.errors import no_such
from billing.payments.simulator.forms import Json
from billing.payments.simulator.presenting import present
from billing.payments.simulator.shapes import (
    ADDRESS,
    EXPAND,
    INTEGER,
    METADATA,
    PAGE,
    RANGE,
    TEXT,
    ListOf,
    Nested,
    Shape,
    Text,
    choice,
)
from billing.payments.simulator.world import World, merged, new_id

_FIELDS = ("name", "email", "description", "phone", "business_name", "individual_name")
_COMMON: Shape = {
    **EXPAND,
    **dict.fromkeys(_FIELDS, TEXT),
    "email": Text(512),
    "address": ADDRESS,
    "balance": INTEGER,
    "invoice_prefix": TEXT,
    "invoice_settings": Nested({"default_payment_method": TEXT, "footer": TEXT}),
    "metadata": METADATA,
    "next_invoice_sequence": INTEGER,
    "preferred_locales": ListOf(TEXT),
    "shipping": Nested({"address": ADDRESS, "name": TEXT, "phone": TEXT}),
    "tax_exempt": choice("none", "exempt", "reverse"),
}


def create(world: World, call: Call) -> Json:
    """Create a customer; `payment_method` is attached to it."""
    customer = new_customer(world)
    world.store.put(customer)
    method = call.params.pop("payment_method", None)
    if method:
        methods.attach_to(world, methods.chosen(world, method), customer["id"])
        customer = world.find("customer", customer["id"])
    _apply(world, customer, call.params)
    world.store.put(customer)
    world.emit("customer.created", customer)
    return present(world.store, customer)


def new_customer(world: World) -> Json:
    """Return a customer that is not stored yet."""
    return {
        "id": new_id("cus", 14),
        "object": "customer",
        "address": None,
        "balance": 0,
        "created": world.now(),
        "currency": None,
        "default_source": None,
        "delinquent": False,
        "description": None,
        "discount": None,
        "email": None,
        "invoice_prefix": new_id("", 8)[1:].upper(),
        "invoice_settings": {
            "custom_fields": None,
            "default_payment_method": None,
            "footer": None,
            "rendering_options": None,
        },
        "livemode": False,
        "metadata": {},
        "name": None,
        "next_invoice_sequence": 1,
        "phone": None,
        "preferred_locales": [],
        "shipping": None,
        "tax_exempt": "none",
        "test_clock": None,
    }


def update(world: World, call: Call) -> Json:
    """Change what is sent, keep the rest."""
    customer = _living(world, call.id)
    before = present(world.store, customer)
    _apply(world, customer, call.params)
    world.store.put(customer)
    after = present(world.store, customer)
    changed = {name: value for name, value in before.items() if after.get(name) != value}
    if changed:
        world.emit("customer.updated", customer, changed)
    return after


def set_default_method(world: World, customer_id: str, method: str | None) -> None:
    """Make a payment method the one that invoices are charged to."""
    customer = world.find("customer", customer_id)
    old = customer["invoice_settings"]
    if old["default_payment_method"] == method:
        return
    customer["invoice_settings"] = {**old, "default_payment_method": method}
    world.store.put(customer)
    world.emit("customer.updated", customer, {"invoice_settings": old})


def delete(world: World, call: Call) -> Json:
    """Mark a customer as deleted: cards go, subscriptions end, open invoices stay."""
    customer = _living(world, call.id)
    for method in world.store.all("payment_method", owner=customer["id"]):
        methods.let_go(world, method)
    for subscription in world.store.all("subscription", owner=customer["id"]):
        if subscription["status"] != "canceled":
            renewals.end(world, subscription)
    for invoice in world.store.all("invoice", owner=customer["id"]):
        if invoice["status"] in ("draft", "open"):
            invoice |= {"auto_advance": False, "next_payment_attempt": None, "_due_at": None}
            world.store.put(invoice)
    world.emit("customer.deleted", customer)
    world.store.put({**customer, "deleted": True})
    return {"id": customer["id"], "object": "customer", "deleted": True}


def _living(world: World, identifier: str) -> Json:
    customer = world.find("customer", identifier)
    if customer.get("deleted"):
        raise no_such("customer", identifier)
    return customer


def _apply(world: World, customer: Json, params: Json) -> None:
    for name, value in params.items():
        match name:
            case "metadata":
                customer["metadata"] = merged(customer["metadata"], value)
            case "invoice_settings":
                settings = {key: text or None for key, text in value.items()}
                method = settings.get("default_payment_method")
                if method:
                    methods.owned(world, method, customer["id"])
                customer["invoice_settings"] = {**customer["invoice_settings"], **settings}
            case "address":
                customer["address"] = methods.address(value)
            case "shipping":
                customer["shipping"] = {**value, "address": methods.address(value.get("address"))}
            case "expand":
                pass
            case _:
                customer[name] = None if value == "" else value


ROUTES = (
    Route("POST", "/v1/customers", {**_COMMON, "payment_method": TEXT}, create),
    Route(
        "GET",
        "/v1/customers",
        {**PAGE, "created": RANGE, "email": TEXT},
        listing("customer", "email"),
    ),
    Route("GET", "/v1/customers/*", EXPAND, retrieve("customer")),
    Route("POST", "/v1/customers/*", _COMMON, update),
    Route("DELETE", "/v1/customers/*", {}, delete),
)
