"""Checkout Sessions: a page where a customer saves a card, pays once, or subscribes."""

from __future__ import annotations

from billing.payments.simulator import (
    catalog,
    setups,
)
from billing.payments.simulator.calls import Call, Route, listing, page_of, retrieve
from billing.payments.simulator.errors import bad_request, wrong_state
from billing.payments.simulator.forms import Json
from billing.payments.simulator.presenting import present
from billing.payments.simulator.shapes import (
    CURRENCY,
    EXPAND,
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
    Text,
    choice,
)
from billing.payments.simulator.world import World, merged, new_id

_DAY = 86_400
_PRICE_DATA = Nested(
    {
        "currency": Required(CURRENCY),
        "product": TEXT,
        "product_data": Nested({"name": Required(TEXT), "description": TEXT}),
        "recurring": Nested(catalog.RECURRING),
        "unit_amount": Integer(0),
    }
)
_LINE_ITEM = Nested({"price": TEXT, "price_data": _PRICE_DATA, "quantity": Integer(1)})
_CREATE: Shape = {
    **EXPAND,
    "cancel_url": TEXT,
    "client_reference_id": Text(200),
    "currency": CURRENCY,
    "customer": TEXT,
    "customer_creation": choice("always", "if_required"),
    "customer_email": TEXT,
    "expires_at": INTEGER,
    "line_items": ListOf(_LINE_ITEM, most=100),
    "locale": TEXT,
    "metadata": METADATA,
    "mode": Required(choice("setup", "payment", "subscription")),
    "payment_intent_data": Nested(
        {
            "description": TEXT,
            "metadata": METADATA,
            "setup_future_usage": choice("off_session", "on_session"),
        }
    ),
    "return_url": TEXT,
    "setup_intent_data": Nested({"description": TEXT, "metadata": METADATA}),
    "submit_type": choice("auto", "book", "donate", "pay", "subscribe"),
    "subscription_data": Nested(
        {
            "description": TEXT,
            "metadata": METADATA,
            "trial_end": INTEGER,
            "trial_period_days": Integer(1, 730),
        }
    ),
    "success_url": TEXT,
    "ui_mode": choice("hosted_page"),
}


def create(world: World, call: Call) -> Json:
    """Open a session; `url` is the page to send the customer to."""
    params = call.params
    customer = params.get("customer") or None
    if customer:
        world.find("customer", customer, param="customer")
    mode = params["mode"]
    if mode != "setup" and not params.get("line_items"):
        message = f"`line_items` is required in `{mode}` mode."
        raise bad_request(message, code="parameter_missing", param="line_items")
    if mode == "setup" and not (customer or params.get("currency")):
        message = "You must provide `currency` or `customer` in `setup` mode."
        raise bad_request(message, code="parameter_missing", param="currency")
    if not params.get("success_url"):
        message = "Missing required param: success_url."
        raise bad_request(message, code="parameter_missing", param="success_url")
    now = world.now()
    expires = params.get("expires_at", now + _DAY)
    if not now + 1800 <= expires <= now + _DAY:
        message = "The `expires_at` timestamp must be between 30 minutes and 24 hours from now."
        raise bad_request(message, param="expires_at")
    session = _blank(world, params, customer, expires)
    if mode == "setup":
        data = params.get("setup_intent_data", {})
        setup = setups.new_setup(
            world,
            customer=customer,
            description=data.get("description"),
            metadata=data.get("metadata"),
        )
        session["setup_intent"] = setup["id"]
    else:
        _price(world, session, params["line_items"])
    world.store.put(session)
    return present(world.store, session)


def expire(world: World, call: Call) -> Json:
    """Close an open session."""
    session = world.find("checkout.session", call.id)
    if session["status"] != "open":
        raise wrong_state(
            "Only Checkout Sessions with a status in ['open'] can be expired. This Checkout "
            f"Session has a status of {session['status']}."
        )
    return present(world.store, close(world, session))


def close(world: World, session: Json) -> Json:
    """Mark a session as expired, once."""
    if session["status"] == "open":
        session |= {"status": "expired", "url": None, "_due_at": None}
        world.store.put(session)
        world.emit("checkout.session.expired", session)
    return session


def list_line_items(world: World, call: Call) -> Json:
    """List what a session sells."""
    session = world.find("checkout.session", call.id)
    return page_of(session["_line_items"], call)


def _price(world: World, session: Json, sent: list[Json]) -> None:
    recurring = session["mode"] == "subscription"
    for place, item in enumerate(sent):
        param = f"line_items[{place}][price]"
        if item.get("price"):
            price = world.find("price", item["price"], param=param)
        elif "price_data" in item:
            price = catalog.inline_price(world, item["price_data"])
        else:
            raise bad_request(f"Missing required param: {param}.", param=param)
        if bool(price["recurring"]) != recurring:
            message = f"Prices of {session['mode']} mode must{'' if recurring else ' not'} recur."
            raise bad_request(message, param=param)
        product = world.find("product", price["product"])
        amount = (price["unit_amount"] or 0) * item.get("quantity", 1)
        session["_line_items"].append(
            {
                "id": new_id("li"),
                "object": "item",
                "amount_discount": 0,
                "amount_subtotal": amount,
                "amount_tax": 0,
                "amount_total": amount,
                "currency": price["currency"],
                "description": product["name"],
                "price": present(world.store, price),
                "quantity": item.get("quantity", 1),
            }
        )
    total = sum(item["amount_total"] for item in session["_line_items"])
    session |= {
        "amount_subtotal": total,
        "amount_total": total,
        "currency": session["_line_items"][0]["currency"],
        "total_details": {"amount_discount": 0, "amount_shipping": 0, "amount_tax": 0},
    }


def _blank(world: World, params: Json, customer: str | None, expires: int) -> Json:
    identifier = new_id("cs_test", 40)
    unset = (
        "after_expiration",
        "allow_promotion_codes",
        "amount_subtotal",
        "amount_total",
        "billing_address_collection",
        "client_secret",
        "collected_information",
        "consent",
        "consent_collection",
        "customer_details",
        "invoice",
        "invoice_creation",
        "payment_intent",
        "payment_link",
        "payment_method_configuration_details",
        "recovered_from",
        "setup_intent",
        "shipping_address_collection",
        "shipping_cost",
        "subscription",
        "total_details",
    )
    asked = ("cancel_url", "client_reference_id", "currency", "customer_email", "locale")
    positions = ("after_submit", "shipping_address", "submit", "terms_of_service_acceptance")
    subscription_data = params.get("subscription_data", {})
    return {
        "id": identifier,
        "object": "checkout.session",
        **dict.fromkeys(unset),
        **{name: params.get(name) or None for name in asked},
        "automatic_tax": {"enabled": False, "liability": None, "provider": None, "status": None},
        "created": world.now(),
        "custom_fields": [],
        "custom_text": dict.fromkeys(positions),
        "customer": customer,
        "customer_creation": params.get("customer_creation"),
        "expires_at": expires,
        "livemode": False,
        "metadata": merged({}, params.get("metadata")),
        "mode": params["mode"],
        "payment_method_collection": "always" if params["mode"] == "subscription" else None,
        "payment_method_options": {},
        "payment_method_types": ["card"],
        "payment_status": "no_payment_required" if params["mode"] == "setup" else "unpaid",
        "phone_number_collection": {"enabled": False},
        "shipping_options": [],
        "status": "open",
        "submit_type": params.get("submit_type"),
        "success_url": params["success_url"],
        "ui_mode": "hosted_page",
        "url": f"{world.public_url}/checkout/{identifier}",
        "_due_at": expires,
        "_line_items": [],
        "_params": {
            "payment_intent_data": params.get("payment_intent_data", {}),
            "subscription_data": subscription_data,
            "trial": bool(subscription_data.keys() & {"trial_end", "trial_period_days"}),
        },
    }


_LIST: Shape = {
    **PAGE,
    "created": RANGE,
    "customer": TEXT,
    "payment_intent": TEXT,
    "status": choice("complete", "expired", "open"),
    "subscription": TEXT,
}
ROUTES = (
    Route("POST", "/v1/checkout/sessions", _CREATE, create),
    Route(
        "GET",
        "/v1/checkout/sessions",
        _LIST,
        listing("checkout.session", "payment_intent", "status", "subscription"),
    ),
    Route("GET", "/v1/checkout/sessions/*", EXPAND, retrieve("checkout.session")),
    Route("GET", "/v1/checkout/sessions/*/line_items", PAGE, list_line_items),
    Route("POST", "/v1/checkout/sessions/*/expire", EXPAND, expire),
)
