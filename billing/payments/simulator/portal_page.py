"""The billing portal page."""

from __future__ import annotations

from html import escape

from billing.payments.simulator import customers, methods, portal, setups
from billing.payments.simulator.errors import wrong_state
from billing.payments.simulator.forms import Json
from billing.payments.simulator.pages import (
    button,
    card_form,
    card_name,
    moment,
    money,
    page,
    table,
)
from billing.payments.simulator.world import World


def html(world: World, identifier: str, error: str) -> str:
    """Return the page of a session."""
    session = world.find("billing_portal.session", identifier)
    customer = world.find("customer", session["customer"])
    body = (
        f"<h2>Cards</h2>{_cards(world, session, customer)}<h2>Add a card</h2>"
        + card_form(f"/portal/{identifier}", "Save and use from now on", error=error)
        + f"<h2>Invoices</h2>{_invoices(world, customer)}"
        + f"<h2>Subscriptions</h2>{_subscriptions(world, session, customer)}"
    )
    if session["return_url"]:
        body += f'<p class="actions"><a href="{escape(session["return_url"])}">Return</a></p>'
    return page(f"Billing for {customer['name'] or customer['email'] or customer['id']}", body)


def submit(world: World, identifier: str, method: Json, _form: Json, *, authenticated: bool) -> str:
    """Save a card as the default; return where to go next."""
    session = world.find("billing_portal.session", identifier)
    onwards = portal.add_card(world, session, method, authenticated=authenticated)
    return onwards or f"/portal/{identifier}"


def authentication_failed(world: World, identifier: str, method: Json) -> str:
    """Record that the cardholder did not authenticate; return what to tell them."""
    session = world.find("billing_portal.session", identifier)
    setup = world.find("setup_intent", session["_setup"])
    return str(setups.refuse(world, setup, method, setups.authentication_failed()))


def act(world: World, identifier: str, action: str, form: Json) -> str:
    """Do what a button of the page says: `default`, `remove` or `cancel`."""
    session = world.find("billing_portal.session", identifier)
    if action == "cancel":
        portal.cancel_subscription(world, session, form.get("subscription", ""))
        return portal.after_flow(session, "subscription_cancel") or f"/portal/{identifier}"
    method = world.find("payment_method", form.get("payment_method", ""))
    if method["customer"] != session["customer"]:
        raise wrong_state("This card belongs to somebody else.")
    if action == "default":
        customers.set_default_method(world, session["customer"], method["id"])
    elif action == "remove":
        methods.let_go(world, method)
    return f"/portal/{identifier}"


def _cards(world: World, session: Json, customer: Json) -> str:
    default = customer["invoice_settings"]["default_payment_method"]
    rows = []
    for method in world.store.all("payment_method", owner=customer["id"]):
        here = f"/portal/{session['id']}"
        use = button(f"{here}/default", "Use this card", payment_method=method["id"])
        remove = button(f"{here}/remove", "Remove", payment_method=method["id"])
        shown = "<strong>In use</strong>" if method["id"] == default else use
        rows.append([card_name(method), shown, remove])
    return table(["Card", "", ""], rows)


def _invoices(world: World, customer: Json) -> str:
    rows = []
    for invoice in world.store.all("invoice", owner=customer["id"]):
        if invoice["status"] == "draft":
            continue
        link = f'<a href="/invoices/{invoice["id"]}">{escape(invoice["number"])}</a>'
        amount = money(invoice["total"], invoice["currency"])
        rows.append([link, moment(invoice["created"]), escape(invoice["status"]), amount])
    return table(["Number", "Date", "Status", "Total"], rows, amounts=(3,))


def _subscriptions(world: World, session: Json, customer: Json) -> str:
    rows = []
    for subscription in world.store.all("subscription", owner=customer["id"]):
        ends = moment(subscription["items"]["data"][0]["current_period_end"])
        status = escape(subscription["status"])
        leave = ""
        if subscription["cancel_at_period_end"]:
            status += f", ends {ends}"
        elif subscription["status"] != "canceled":
            here = f"/portal/{session['id']}/cancel"
            leave = button(here, "Cancel at period end", subscription=subscription["id"])
        rows.append([subscription["id"], status, ends, leave])
    return table(["Subscription", "Status", "Period ends", ""], rows)
