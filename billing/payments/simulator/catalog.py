"""Products and prices."""

from __future__ import annotations

from decimal import Decimal

from billing.payments.simulator.calls import Call, Route, listing, page, retrieve
from billing.payments.simulator.errors import bad_request
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
    RANGE,
    TEXT,
    Integer,
    ListOf,
    Nested,
    Required,
    Shape,
    choice,
)
from billing.payments.simulator.world import World, merged, new_id

RECURRING: Shape = {
    "interval": Required(choice("day", "week", "month", "year")),
    "interval_count": Integer(1),
}
_PRODUCT: Shape = {
    **EXPAND,
    "active": FLAG,
    "description": TEXT,
    "metadata": METADATA,
    "statement_descriptor": TEXT,
    "unit_label": TEXT,
    "url": TEXT,
}
_PRODUCT_DATA = Nested({"name": Required(TEXT), "id": TEXT, "metadata": METADATA})
_PRICE: Shape = {**EXPAND, "active": FLAG, "metadata": METADATA, "nickname": TEXT}
_NEW_PRICE: Shape = {
    **_PRICE,
    "currency": Required(CURRENCY),
    "lookup_key": TEXT,
    "product": TEXT,
    "product_data": _PRODUCT_DATA,
    "recurring": Nested({**RECURRING, "usage_type": choice("licensed", "metered"), "meter": TEXT}),
    "tax_behavior": choice("exclusive", "inclusive", "unspecified"),
    "transfer_lookup_key": FLAG,
    "unit_amount": INTEGER,
    "unit_amount_decimal": DECIMAL,
}


def create_product(world: World, call: Call) -> Json:
    """Create a product."""
    product = _new_product(world, call.params["name"], call.params.get("id"))
    return present(world.store, _changed_product(world, product, call.params, "product.created"))


def update_product(world: World, call: Call) -> Json:
    """Change a product."""
    product = world.find("product", call.id)
    return present(world.store, _changed_product(world, product, call.params, "product.updated"))


def delete_product(world: World, call: Call) -> Json:
    """Delete a product that has no prices."""
    product = world.find("product", call.id)
    if any(price["product"] == product["id"] for price in world.store.all("price")):
        message = "This product cannot be deleted because it has one or more user-created prices."
        raise bad_request(message, executed=True)
    world.store.remove(product["id"])
    world.emit("product.deleted", product)
    return {"id": product["id"], "object": "product", "deleted": True}


def _new_product(world: World, name: str, identifier: str | None = None) -> Json:
    if identifier and world.store.get(identifier):
        message = f"Product already exists: {identifier}"
        raise bad_request(message, code="resource_already_exists", executed=True)
    now = world.now()
    return world.store.put(
        {
            "id": identifier or new_id("prod", 14),
            "object": "product",
            "active": True,
            "created": now,
            "default_price": None,
            "description": None,
            "images": [],
            "livemode": False,
            "marketing_features": [],
            "metadata": {},
            "name": name,
            "package_dimensions": None,
            "shippable": None,
            "statement_descriptor": None,
            "tax_code": None,
            "unit_label": None,
            "updated": now,
            "url": None,
        }
    )


def _changed_product(world: World, product: Json, params: Json, event: str) -> Json:
    for name, value in params.items():
        if name == "metadata":
            product["metadata"] = merged(product["metadata"], value)
        elif name not in ("id", "expand"):
            product[name] = None if value == "" else value
    product["updated"] = world.now()
    world.store.put(product)
    world.emit(event, product, {} if event.endswith("updated") else None)
    return product


def create_price(world: World, call: Call) -> Json:
    """Create a price of an existing product or of one made on the way."""
    params = call.params
    if params.get("lookup_key") and not params.get("transfer_lookup_key"):
        for other in world.store.all("price"):
            if other["lookup_key"] == params["lookup_key"]:
                message = f"A price (`{other['id']}`) already uses that lookup key."
                raise bad_request(message, param="lookup_key", executed=True)
    elif params.get("lookup_key"):
        for other in world.store.all("price"):
            if other["lookup_key"] == params["lookup_key"]:
                world.store.put({**other, "lookup_key": None})
    price = _new_price(world, params)
    price |= {"nickname": params.get("nickname"), "lookup_key": params.get("lookup_key")}
    price |= {"active": params.get("active", True)}
    price["metadata"] = merged({}, params.get("metadata"))
    world.store.put(price)
    world.emit("price.created", price)
    return present(world.store, price)


def inline_price(world: World, params: Json) -> Json:
    """Store the inactive price that `price_data` stands for."""
    price = _new_price(world, params)
    return world.store.put({**price, "active": False})


def _new_price(world: World, params: Json) -> Json:
    if params.get("product"):
        product = world.find("product", params["product"], param="product")
    elif params.get("product_data"):
        data = params["product_data"]
        product = _new_product(world, data["name"], data.get("id"))
        product = world.store.put({**product, "tax_code": data.get("tax_code")})
    else:
        message = "You must specify either `product` or `product_data` when creating a price."
        raise bad_request(message, code="parameter_missing", param="product")
    if "unit_amount" in params:
        unit = str(params["unit_amount"])
    elif "unit_amount_decimal" in params:
        unit = params["unit_amount_decimal"]
    else:
        message = "Prices require an `unit_amount` or `unit_amount_decimal` parameter to be set."
        raise bad_request(message, code="parameter_missing", param="unit_amount")
    whole = Decimal(unit) == Decimal(unit).to_integral_value()
    recurring = params.get("recurring")
    return {
        "id": new_id("price"),
        "object": "price",
        "active": True,
        "billing_scheme": "per_unit",
        "created": world.now(),
        "currency": params["currency"],
        "custom_unit_amount": None,
        "livemode": False,
        "lookup_key": None,
        "metadata": {},
        "nickname": None,
        "product": product["id"],
        "recurring": recurring
        and {
            "interval": recurring["interval"],
            "interval_count": recurring.get("interval_count", 1),
            "meter": recurring.get("meter"),
            "usage_type": recurring.get("usage_type", "licensed"),
        },
        "tax_behavior": params.get("tax_behavior", "unspecified"),
        "tiers_mode": None,
        "transform_quantity": None,
        "type": "recurring" if recurring else "one_time",
        "unit_amount": int(Decimal(unit)) if whole else None,
        "unit_amount_decimal": unit,
    }


def update_price(world: World, call: Call) -> Json:
    """Change a price's name, metadata or whether it can be used anew."""
    price = world.find("price", call.id)
    for name, value in call.params.items():
        if name == "metadata":
            price["metadata"] = merged(price["metadata"], value)
        elif name != "expand":
            price[name] = None if value == "" else value
    world.store.put(price)
    world.emit("price.updated", price, {})
    return present(world.store, price)


def list_prices(world: World, call: Call) -> Json:
    """List prices."""
    keys = call.params.pop("lookup_keys", None)
    if keys is None:
        return listing("price", "active", "product", "currency", "type")(world, call)
    return page(world, call, "price", fits=lambda price: price["lookup_key"] in keys)


def list_products(world: World, call: Call) -> Json:
    """List products."""
    ids = call.params.get("ids")
    active = call.params.get("active")

    def fits(product: Json) -> bool:
        return (ids is None or product["id"] in ids) and active in (None, product["active"])

    return page(world, call, "product", fits=fits)


ROUTES = (
    Route("POST", "/v1/products", {**_PRODUCT, "name": Required(TEXT), "id": TEXT}, create_product),
    Route(
        "GET",
        "/v1/products",
        {**PAGE, "active": FLAG, "created": RANGE, "ids": ListOf(TEXT)},
        list_products,
    ),
    Route("GET", "/v1/products/*", EXPAND, retrieve("product")),
    Route("POST", "/v1/products/*", {**_PRODUCT, "name": TEXT}, update_product),
    Route("DELETE", "/v1/products/*", {}, delete_product),
    Route("POST", "/v1/prices", _NEW_PRICE, create_price),
    Route(
        "GET",
        "/v1/prices",
        {
            **PAGE,
            "active": FLAG,
            "created": RANGE,
            "currency": CURRENCY,
            "lookup_keys": ListOf(TEXT, most=10),
            "product": TEXT,
            "type": choice("one_time", "recurring"),
        },
        list_prices,
    ),
    Route("GET", "/v1/prices/*", EXPAND, retrieve("price")),
    Route("POST", "/v1/prices/*", _PRICE, update_price),
)
