"""What happens when a Checkout page is completed with a card."""

from __future__ import annotations

from billing.payments.simulator import (
    cards,
    charging,
    customers,
    intents,
    methods,
    renewals,
    setups,
)
from billing.payments.simulator.errors import CardRefused
from billing.payments.simulator.forms import Json
from billing.payments.simulator.presenting import present
from billing.payments.simulator.setups import NeedsAuthentication
from billing.payments.simulator.world import World


def complete(world: World, session: Json, method: Json, form: Json, *, authenticated: bool) -> str:
    """Act on the card entered on the page; return where the customer goes next.

    Raises `CardRefused` when the bank says no and `NeedsAuthentication` when the cardholder has
    to act first; the session stays open for another try.
    """
    match session["mode"]:
        case "setup":
            setup = world.find("setup_intent", session["setup_intent"])
            setups.save_card(world, setup, method, authenticated=authenticated)
        case "payment":
            _pay(world, session, method, form, authenticated=authenticated)
        case _:
            _subscribe(world, session, method, form, authenticated=authenticated)
    customer = world.store.get(session["customer"] or "") or {}
    session |= {
        "status": "complete",
        "url": None,
        "payment_status": "no_payment_required" if session["mode"] == "setup" else "paid",
        "customer_details": {
            "address": methods.address(None),
            "business_name": None,
            "email": customer.get("email") or form.get("email") or None,
            "individual_name": None,
            "name": form.get("name") or customer.get("name"),
            "phone": None,
            "tax_exempt": "none",
            "tax_ids": [],
        },
        "_due_at": None,
    }
    if session["mode"] == "subscription" and session["_params"].get("trial"):
        session["payment_status"] = "no_payment_required"
    world.store.put(session)
    world.emit("checkout.session.completed", session)
    return str(session["success_url"]).replace("{CHECKOUT_SESSION_ID}", session["id"])


def _pay(world: World, session: Json, method: Json, form: Json, *, authenticated: bool) -> None:
    data = session["_params"]["payment_intent_data"]
    saving = data.get("setup_future_usage")
    customer = session["customer"]
    if customer is None and (saving or session["customer_creation"] == "always"):
        customer = _customer(world, session, form)["id"]
    if session["payment_intent"]:
        intent = world.find("payment_intent", session["payment_intent"])
    else:
        intent = intents.new_intent(
            world,
            amount=session["amount_total"],
            currency=session["currency"],
            customer=customer,
            description=data.get("description"),
            metadata=data.get("metadata"),
        )
    intent |= {"setup_future_usage": saving, "customer": customer}
    session["payment_intent"] = intent["id"]
    world.store.put(session)
    error = charging.attempt(world, intent, method, authenticated=authenticated)
    if error is None:
        return
    if intent["status"] == "requires_action":
        raise NeedsAuthentication(method)
    raise CardRefused({**error, "payment_intent": present(world.store, intent)})


def _subscribe(
    world: World, session: Json, method: Json, form: Json, *, authenticated: bool
) -> None:
    # The bank's answer decides before anything starts, as on Stripe's page.
    card = methods.card_behind(method)
    if "authenticate" in (card.saving, card.charging) and not authenticated:
        raise NeedsAuthentication(method)
    if card.charging == "declined":
        raise CardRefused(cards.decline(card))
    method["_set_up"] = True
    world.store.put(method)
    customer = world.store.get(session["customer"] or "") or _customer(world, session, form)
    methods.force_attach(world, method, customer["id"])
    data = session["_params"]["subscription_data"]
    items = [
        {"price": item["price"]["id"], "quantity": item["quantity"]}
        for item in session["_line_items"]
    ]
    subscription = renewals.start(
        world, customer, {**data, "items": items}, method=method, authenticated=authenticated
    )
    session |= {"subscription": subscription["id"], "invoice": subscription["latest_invoice"]}


def _customer(world: World, session: Json, form: Json) -> Json:
    customer = customers.new_customer(world)
    customer |= {
        "email": session["customer_email"] or form.get("email") or None,
        "name": form.get("name") or None,
    }
    world.store.put(customer)
    world.emit("customer.created", customer)
    session["customer"] = customer["id"]
    return customer
