"""What people see and click: Checkout, the portal, the hosted invoice, and the overview."""

from __future__ import annotations

import re
from dataclasses import dataclass

from billing.payments.simulator import (
    cards,
    checkout_page,
    invoice_page,
    methods,
    overview,
    portal_page,
)
from billing.payments.simulator.api import Request
from billing.payments.simulator.errors import CardRefused, Refusal
from billing.payments.simulator.forms import Json, decode
from billing.payments.simulator.pages import authentication, page
from billing.payments.simulator.setups import NeedsAuthentication
from billing.payments.simulator.world import World

_EXPIRY = re.compile(r"\s*(\d{1,2})\s*/\s*(\d{2}|\d{4})\s*")
_DOORS = {"checkout": checkout_page, "portal": portal_page, "invoices": invoice_page}


@dataclass(frozen=True, slots=True)
class Shown:
    """An HTML answer, or a redirect when `location` is set."""

    status: int
    html: str = ""
    location: str | None = None


def answer(world: World, request: Request) -> Shown:
    """Answer a click. A refused card shows the page again with the reason."""
    form = decode(request.text) if request.method == "POST" else {}
    with world.store.unit():
        match request.method, request.path.strip("/").split("/"):
            case "GET", [""]:
                return Shown(200, overview.html(world))
            case "GET", [door, identifier] if door in _DOORS:
                return _show(world, door, identifier, "")
            case "POST", [door, identifier] if door in _DOORS:
                return _enter(world, door, identifier, form)
            case "GET", [door, identifier, "authenticate"] if door in _DOORS:
                method = decode(request.query).get("payment_method", "")
                return Shown(200, authentication(request.path, method))
            case "POST", [door, identifier, "authenticate"] if door in _DOORS:
                return _authenticate(world, door, identifier, form)
            case "POST", ["portal", identifier, action]:
                return _redirect(portal_page.act(world, identifier, action, form))
            case "GET", ["invoices", identifier, "pdf"]:
                return Shown(200, invoice_page.printable(world, identifier))
            case _:
                return Shown(404, page("Not found", "<p>There is nothing here.</p>"))


def _show(world: World, door: str, identifier: str, error: str) -> Shown:
    try:
        html = _DOORS[door].html(world, identifier, error)
    except Refusal:
        return Shown(404, page("Not found", "<p>This link is not valid.</p>"))
    return Shown(402 if error else 200, html)


def _enter(world: World, door: str, identifier: str, form: Json) -> Shown:
    try:
        saved = world.store.get(form.get("saved", "")) if door == "invoices" else None
        method = saved or _read_card(world, form)
        return _redirect(_DOORS[door].submit(world, identifier, method, form, authenticated=False))
    except NeedsAuthentication as asked:
        where = f"/{door}/{identifier}/authenticate?payment_method={asked.method['id']}"
        return _redirect(where)
    except CardRefused as refusal:
        return _show(world, door, identifier, str(refusal))
    except Refusal as refusal:
        return Shown(400, page("That did not work", f"<p>{refusal}</p>"))


def _authenticate(world: World, door: str, identifier: str, form: Json) -> Shown:
    method = world.store.get(form.get("payment_method", ""))
    if method is None or method["object"] != "payment_method":
        return _show(world, door, identifier, "Please enter your card again.")
    if form.get("outcome") != "complete":
        error = _DOORS[door].authentication_failed(world, identifier, method)
        return _show(world, door, identifier, error)
    try:
        return _redirect(_DOORS[door].submit(world, identifier, method, form, authenticated=True))
    except CardRefused as refusal:
        return _show(world, door, identifier, str(refusal))
    except Refusal as refusal:
        return Shown(400, page("That did not work", f"<p>{refusal}</p>"))


def _read_card(world: World, form: Json) -> Json:
    card = cards.card_of(form.get("card_number", ""))
    match = _EXPIRY.fullmatch(form.get("expiry", "12 / 34"))
    if match is None or not 1 <= int(match[1]) <= 12:
        message = "Your card's expiration date is invalid."
        raise CardRefused({"code": "invalid_expiry_month", "message": message})
    year = int(match[2]) % 100 + 2000
    method = methods.new_method(world, card, month=int(match[1]), year=year)
    if form.get("name"):
        method["billing_details"]["name"] = form["name"]
        world.store.put(method)
    return method


def _redirect(location: str) -> Shown:
    return Shown(303, location=location)
