"""Invoice lines and the invoice items behind them."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal

from billing.payments.simulator import catalog, taxes
from billing.payments.simulator.calls import Call, Route, page_of
from billing.payments.simulator.errors import bad_request, wrong_state
from billing.payments.simulator.forms import Json
from billing.payments.simulator.presenting import present
from billing.payments.simulator.shapes import (
    CURRENCY,
    DECIMAL,
    EXPAND,
    FLAG,
    INTEGER,
    METADATA,
    PAGE,
    PERIOD,
    TEXT,
    Integer,
    ListOf,
    Nested,
    Required,
    Shape,
    choice,
)
from billing.payments.simulator.world import World, merged, new_id

MOST_LINES = 250
_PRICE_DATA: Shape = {
    "currency": Required(CURRENCY),
    "product": TEXT,
    "tax_behavior": choice("exclusive", "inclusive", "unspecified"),
    "unit_amount": INTEGER,
    "unit_amount_decimal": DECIMAL,
}
_PRODUCT_DATA = Nested({"name": Required(TEXT), "description": TEXT, "tax_code": TEXT})
LINE: Shape = {
    "amount": INTEGER,
    "description": TEXT,
    "discountable": FLAG,
    "metadata": METADATA,
    "period": PERIOD,
    "price_data": Nested(_PRICE_DATA),
    "pricing": Nested({"price": TEXT}),
    "quantity": Integer(0),
    "quantity_decimal": DECIMAL,
}
_NEW_LINE: Shape = {
    **LINE,
    "price_data": Nested({**_PRICE_DATA, "product_data": _PRODUCT_DATA}),
}
_ADD: Shape = {
    **EXPAND,
    "invoice_metadata": METADATA,
    "lines": Required(ListOf(Nested(_NEW_LINE), most=MOST_LINES)),
}


def of_invoice(world: World, invoice: Json) -> list[Json]:
    """Return the lines of an invoice in the order they were added."""
    return list(reversed(world.store.all("line_item", owner=invoice["id"])))


def total_up(world: World, invoice: Json) -> Json:
    """Bring a draft's totals in step with its lines."""
    found = of_invoice(world, invoice)
    subtotal = sum(line["amount"] for line in found)
    added, included = taxes.compute(world, invoice, found)
    total = subtotal + added
    due = max(total, 0)
    invoice |= {
        "subtotal": subtotal,
        "subtotal_excluding_tax": subtotal - included,
        "total": total,
        "total_excluding_tax": subtotal - included,
        "amount_due": due,
        "amount_remaining": due,
    }
    return world.store.put(invoice)


def add_lines(world: World, call: Call) -> Json:
    """Add lines to a draft, all or none."""
    invoice = draft(world, call.id)
    sent = call.params["lines"]
    if len(of_invoice(world, invoice)) + len(sent) > MOST_LINES:
        raise wrong_state(f"An invoice can have at most {MOST_LINES} invoice items.")
    for place, params in enumerate(sent):
        item = new_item(world, invoice["customer"], invoice["currency"], params, f"lines[{place}]")
        place_on(world, invoice, item)
    if "invoice_metadata" in call.params:
        invoice["metadata"] = merged(invoice["metadata"], call.params["invoice_metadata"])
    total_up(world, invoice)
    world.emit("invoice.updated", invoice, {})
    return present(world.store, invoice)


def remove_lines(world: World, call: Call) -> Json:
    """Take lines off a draft."""
    invoice = draft(world, call.id)
    on_it = {line["id"]: line for line in of_invoice(world, invoice)}
    for removal in call.params["lines"]:
        line = on_it.get(removal["id"])
        if line is None:
            raise bad_request(f"No such line item: '{removal['id']}'", param="lines")
        remove_line(world, line)
    return present(world.store, total_up(world, invoice))


def list_lines(world: World, call: Call) -> Json:
    """List an invoice's lines in the order they were added."""
    invoice = world.find("invoice", call.id)
    lines = [present(world.store, line) for line in of_invoice(world, invoice)]
    return page_of(lines, call)


def take_pending(world: World, invoice: Json) -> None:
    """Put the customer's pending invoice items of the same currency on a new draft."""
    for item in reversed(world.store.all("invoiceitem", owner=invoice["customer"])):
        if item["invoice"] is None and item["currency"] == invoice["currency"]:
            place_on(world, invoice, item)


def place_on(world: World, invoice: Json, item: Json) -> None:
    """Make an item a line of a draft."""
    if item["currency"] != invoice["currency"]:
        raise wrong_state("The currency of the invoice item differs from the invoice's.")
    item["invoice"] = invoice["id"]
    world.store.put(item)
    parent: Json = {
        "type": "invoice_item_details",
        "invoice_item_details": {
            "invoice_item": item["id"],
            "proration": False,
            "proration_details": {"credited_items": None},
            "subscription": None,
        },
        "subscription_item_details": None,
    }
    _put_line(world, invoice, item, parent)


def place_subscription_item(world: World, invoice: Json, item: Json, place: Json) -> None:
    """Make one period of a subscription item a line: `place` has amount, description, period."""
    parent: Json = {
        "type": "subscription_item_details",
        "invoice_item_details": None,
        "subscription_item_details": {
            "invoice_item": None,
            "proration": False,
            "proration_details": {"credited_items": None},
            "subscription": item["subscription"],
            "subscription_item": item["id"],
        },
    }
    filled = {
        "discountable": True,
        "metadata": item["metadata"],
        "pricing": _pricing(item["price"]),
        "quantity": item["quantity"],
        "quantity_decimal": str(item["quantity"]),
    }
    _put_line(world, invoice, {**filled, **place}, parent)


def _put_line(world: World, invoice: Json, item: Json, parent: Json) -> None:
    amount = item["amount"]
    if "wrong_total" in world.faults_now:
        world.faults_now.discard("wrong_total")
        amount += 1
    copied = ("currency", "description", "discountable", "metadata", "period", "pricing")
    world.store.put(
        {
            "id": new_id("il"),
            "object": "line_item",
            **{name: item[name] for name in copied},
            "amount": amount,
            "discount_amounts": [],
            "discounts": [],
            "invoice": invoice["id"],
            "livemode": False,
            "parent": parent,
            "pretax_credit_amounts": [],
            "quantity": item["quantity"],
            "quantity_decimal": item["quantity_decimal"],
            "subtotal": amount,
            "taxes": [],
        }
    )


def remove_line(world: World, line: Json) -> None:
    """Remove a line together with the invoice item behind it."""
    item = item_behind(line)
    if item is not None:
        world.store.remove(item)
    world.store.remove(line["id"])


def item_behind(line: Json) -> str | None:
    details = line["parent"]["invoice_item_details"]
    return details["invoice_item"] if details else None


def draft(world: World, identifier: str, *, param: str | None = None) -> Json:
    """Return an invoice that can still be edited, or refuse."""
    invoice = world.find("invoice", identifier, param=param)
    if invoice["status"] != "draft":
        raise wrong_state(
            "This invoice is no longer editable: it is not a draft any more.",
            code="invoice_not_editable",
        )
    return invoice


def new_item(world: World, customer: str, currency: str | None, params: Json, within: str) -> Json:
    amount, pricing, currency = _priced(world, params, currency, within)
    quantity = params.get("quantity", 1)
    now = world.now()
    return world.store.put(
        {
            "id": new_id("ii"),
            "object": "invoiceitem",
            "amount": amount,
            "currency": currency,
            "customer": customer,
            "date": now,
            "description": params.get("description") or None,
            "discountable": params.get("discountable", True),
            "discounts": [],
            "invoice": None,
            "livemode": False,
            "metadata": merged({}, params.get("metadata")),
            "net_amount": amount,
            "parent": None,
            "period": params.get("period") or {"start": now, "end": now},
            "pricing": pricing,
            "proration": False,
            "quantity": quantity,
            "quantity_decimal": params.get("quantity_decimal", str(quantity)),
            "tax_rates": [],
            "test_clock": None,
        }
    )


def _priced(
    world: World, params: Json, currency: str | None, within: str
) -> tuple[int, Json | None, str]:
    price: Json | None = None
    if "pricing" in params:
        price = world.find("price", params["pricing"].get("price", ""), param="pricing[price]")
    elif "price_data" in params:
        price = catalog.inline_price(world, params["price_data"])
    quantity = Decimal(str(params.get("quantity_decimal", params.get("quantity", 1))))
    if price is not None:
        return _times(quantity, price["unit_amount_decimal"]), _pricing(price), price["currency"]
    if currency is None:
        raise bad_request(
            "Missing required param: currency.", code="parameter_missing", param="currency"
        )
    if "unit_amount_decimal" in params:
        return _times(quantity, params["unit_amount_decimal"]), None, currency
    if "amount" in params:
        return params["amount"], None, currency
    name = f"{within}[amount]" if within else "amount"
    raise bad_request(f"Missing required param: {name}.", code="parameter_missing", param=name)


def _times(quantity: Decimal, unit: str) -> int:
    return int((quantity * Decimal(unit)).to_integral_value(ROUND_HALF_UP))


def _pricing(price: Json) -> Json:
    return {
        "type": "price_details",
        "price_details": {"price": price["id"], "product": price["product"]},
        "unit_amount_decimal": price["unit_amount_decimal"],
    }


_REMOVAL = Nested({"id": Required(TEXT), "behavior": TEXT})
ROUTES = (
    Route("POST", "/v1/invoices/*/add_lines", _ADD, add_lines),
    Route(
        "POST",
        "/v1/invoices/*/remove_lines",
        {**EXPAND, "lines": Required(ListOf(_REMOVAL))},
        remove_lines,
    ),
    Route("GET", "/v1/invoices/*/lines", PAGE, list_lines),
)
