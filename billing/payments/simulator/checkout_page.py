"""The Checkout page."""

from __future__ import annotations

from html import escape

from billing.payments.simulator import charging, completion, setups
from billing.payments.simulator.errors import wrong_state
from billing.payments.simulator.forms import Json
from billing.payments.simulator.pages import card_form, money, page, table
from billing.payments.simulator.world import World

_TITLES = {"setup": "Save your card", "payment": "Pay", "subscription": "Subscribe"}


def html(world: World, identifier: str, error: str) -> str:
    """Return the page of a session."""
    session = world.find("checkout.session", identifier)
    if session["status"] == "expired":
        return page("This link has expired", _back(session))
    if session["status"] == "complete":
        return page("All done", "<p>This was completed already.</p>" + _back(session))
    customer = world.store.get(session["customer"] or "")
    title = _TITLES[session["mode"]]
    who = f"<p>For {escape(_called(customer))}.</p>" if customer else ""
    needs_email = customer is None and session["customer_email"] is None
    label = title
    if session["mode"] != "setup":
        label = f"{title} {money(session['amount_total'], session['currency'])}"
    form = card_form(f"/checkout/{identifier}", label, with_email=needs_email, error=error)
    return page(title, who + _items(session) + form + _back(session))


def submit(world: World, identifier: str, method: Json, form: Json, *, authenticated: bool) -> str:
    """Complete the session with a card; return the success URL."""
    session = world.find("checkout.session", identifier)
    if session["status"] != "open":
        raise wrong_state(f"This Checkout Session is {session['status']}.")
    return completion.complete(world, session, method, form, authenticated=authenticated)


def authentication_failed(world: World, identifier: str, method: Json) -> str:
    """Record that the cardholder did not authenticate; return what to tell them."""
    session = world.find("checkout.session", identifier)
    if session["setup_intent"]:
        setup = world.find("setup_intent", session["setup_intent"])
        return str(setups.refuse(world, setup, method, setups.authentication_failed()))
    return str(charging.authentication_failed()["message"])


def _items(session: Json) -> str:
    if not session["_line_items"]:
        return ""
    rows = [
        [
            escape(item["description"]),
            str(item["quantity"]),
            money(item["amount_total"], item["currency"]),
        ]
        for item in session["_line_items"]
    ]
    total = money(session["amount_total"], session["currency"])
    rows.append(["<strong>Total</strong>", "", f"<strong>{total}</strong>"])
    return table(["What", "Quantity", "Amount"], rows, amounts=(1, 2))


def _back(session: Json) -> str:
    if not session["cancel_url"]:
        return ""
    return f'<p><a href="{escape(session["cancel_url"])}">Back</a></p>'


def _called(customer: Json) -> str:
    return str(customer["name"] or customer["email"] or customer["id"])
