"""Subscriptions, simply: flat prices, renewed and charged as the clock passes their periods."""

from __future__ import annotations

from billing.payments.simulator import catalog, renewals
from billing.payments.simulator.calls import Call, Route, page, retrieve
from billing.payments.simulator.errors import wrong_state
from billing.payments.simulator.forms import Json
from billing.payments.simulator.presenting import present
from billing.payments.simulator.shapes import (
    CURRENCY,
    EXPAND,
    FLAG,
    INTEGER,
    METADATA,
    PAGE,
    RANGE,
    TEXT,
    Integer,
    ListOf,
    Nested,
    Required,
    Shape,
    choice,
)
from billing.payments.simulator.world import World

_DAY = 86_400
_PRICE_DATA = Nested(
    {
        "currency": Required(CURRENCY),
        "product": Required(TEXT),
        "recurring": Required(Nested(catalog.RECURRING)),
        "unit_amount": INTEGER,
    }
)
_ITEM: Shape = {"price": TEXT, "price_data": _PRICE_DATA, "quantity": Integer(0)}
_COMMON: Shape = {
    **EXPAND,
    "cancel_at_period_end": FLAG,
    "collection_method": choice("charge_automatically", "send_invoice"),
    "days_until_due": Integer(0),
    "default_payment_method": TEXT,
    "description": TEXT,
    "metadata": METADATA,
    "off_session": FLAG,
    "payment_behavior": choice(
        "allow_incomplete", "default_incomplete", "error_if_incomplete", "pending_if_incomplete"
    ),
    "proration_behavior": choice("always_invoice", "create_prorations", "none"),
}
_CREATE: Shape = {
    **_COMMON,
    "billing_mode": Nested({"type": Required(choice("classic", "flexible"))}),
    "currency": CURRENCY,
    "customer": Required(TEXT),
    "items": Required(ListOf(Nested({**_ITEM, "metadata": METADATA}), most=20)),
    "trial_end": INTEGER,
    "trial_period_days": Integer(1, 730),
}
_UPDATE: Shape = {
    **_COMMON,
    "items": ListOf(Nested({**_ITEM, "id": TEXT, "deleted": FLAG}), most=20),
}
_ENDED = ("canceled", "incomplete_expired")


def create(world: World, call: Call) -> Json:
    """Start a subscription and charge its first period (or let a trial run)."""
    customer = world.find("customer", call.params["customer"], param="customer")
    return present(world.store, renewals.start(world, customer, call.params))


def update(world: World, call: Call) -> Json:
    """Change a subscription; new quantities and prices count from the next invoice on."""
    subscription = _living(world, call.id)
    before = present(world.store, subscription)
    renewals.apply(world, subscription, call.params)
    if "items" in call.params:
        _replace_items(world, subscription, call.params["items"])
    world.store.put(subscription)
    after = present(world.store, subscription)
    changed = {name: value for name, value in before.items() if after[name] != value}
    if changed:
        world.emit("customer.subscription.updated", subscription, changed)
    return after


def cancel(world: World, call: Call) -> Json:
    """Cancel a subscription at once."""
    return present(world.store, renewals.end(world, _living(world, call.id)))


def list_all(world: World, call: Call) -> Json:
    """List subscriptions; canceled ones only when asked for."""
    status = call.params.get("status")
    price = call.params.get("price")

    def fits(subscription: Json) -> bool:
        if price and all(i["price"]["id"] != price for i in subscription["items"]["data"]):
            return False
        if status is None:
            return subscription["status"] not in _ENDED
        return bool(status in ("all", subscription["status"]))

    return page(world, call, "subscription", owner=call.params.get("customer"), fits=fits)


def _replace_items(world: World, subscription: Json, sent: list[Json]) -> None:
    first = subscription["_items"][0]
    starts, ends = first["current_period_start"], first["current_period_end"]
    items = {item["id"]: item for item in subscription["_items"]}
    for change in sent:
        old = items.get(change.get("id", ""))
        if old is not None and change.get("deleted"):
            del items[old["id"]]
        elif old is not None:
            if "price" in change or "price_data" in change:
                old["price"] = renewals.new_item(world, subscription, change)["price"]
            old["quantity"] = change.get("quantity", old["quantity"])
        else:
            new = renewals.new_item(world, subscription, change)
            items[new["id"]] = new
    if not items:
        raise wrong_state("A subscription must have at least one item.")
    subscription["_items"] = list(items.values())
    renewals.set_period(subscription, starts, ends)


def _living(world: World, identifier: str) -> Json:
    subscription = world.find("subscription", identifier)
    if subscription["status"] in _ENDED:
        raise wrong_state("A canceled subscription can't be changed.")
    return subscription


_STATUSES = ("active", "past_due", "unpaid", "canceled", "incomplete", "trialing", "paused")
ROUTES = (
    Route("POST", "/v1/subscriptions", _CREATE, create),
    Route(
        "GET",
        "/v1/subscriptions",
        {
            **PAGE,
            "created": RANGE,
            "customer": TEXT,
            "price": TEXT,
            "status": choice(*_STATUSES, "all", "ended"),
        },
        list_all,
    ),
    Route("GET", "/v1/subscriptions/*", EXPAND, retrieve("subscription")),
    Route("POST", "/v1/subscriptions/*", _UPDATE, update),
    Route(
        "DELETE",
        "/v1/subscriptions/*",
        {**EXPAND, "invoice_now": FLAG, "prorate": FLAG},
        cancel,
    ),
)
