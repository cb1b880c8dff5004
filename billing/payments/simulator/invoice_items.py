"""Invoice items: amounts on a draft, or waiting for a customer's next invoice."""

from __future__ import annotations

from billing.payments.simulator import lines
from billing.payments.simulator.calls import Call, Route, listing, retrieve
from billing.payments.simulator.forms import Json
from billing.payments.simulator.presenting import present
from billing.payments.simulator.shapes import (
    CURRENCY,
    DECIMAL,
    EXPAND,
    PAGE,
    RANGE,
    TEXT,
    Required,
    Shape,
)
from billing.payments.simulator.world import World

_ITEM: Shape = {
    **EXPAND,
    **lines.LINE,
    "currency": CURRENCY,
    "customer": Required(TEXT),
    "invoice": TEXT,
    "unit_amount_decimal": DECIMAL,
}


def create_item(world: World, call: Call) -> Json:
    """Create an invoice item on a draft, or pending for the customer's next invoice."""
    params = call.params
    customer = world.find("customer", params["customer"], param="customer")
    invoice = (
        lines.draft(world, params["invoice"], param="invoice") if params.get("invoice") else None
    )
    currency = params.get("currency") or (invoice or {}).get("currency")
    if "price_data" in params:
        currency = params["price_data"]["currency"]
    item = lines.new_item(world, customer["id"], currency, params, "")
    world.emit("invoiceitem.created", item)
    if invoice is not None:
        lines.place_on(world, invoice, item)
        lines.total_up(world, invoice)
        item = world.find("invoiceitem", item["id"])
    return present(world.store, item)


def delete_item(world: World, call: Call) -> Json:
    """Delete an invoice item that is pending or on a draft."""
    item = world.find("invoiceitem", call.id)
    invoice = lines.draft(world, item["invoice"], param="invoice") if item["invoice"] else None
    world.store.remove(item["id"])
    world.emit("invoiceitem.deleted", item)
    if invoice is not None:
        for line in lines.of_invoice(world, invoice):
            if lines.item_behind(line) == item["id"]:
                world.store.remove(line["id"])
        lines.total_up(world, invoice)
    return {"id": item["id"], "object": "invoiceitem", "deleted": True}


ROUTES = (
    Route("POST", "/v1/invoiceitems", _ITEM, create_item),
    Route(
        "GET",
        "/v1/invoiceitems",
        {**PAGE, "created": RANGE, "customer": TEXT, "invoice": TEXT},
        listing("invoiceitem", "invoice"),
    ),
    Route("GET", "/v1/invoiceitems/*", EXPAND, retrieve("invoiceitem")),
    Route("DELETE", "/v1/invoiceitems/*", {}, delete_item),
)
