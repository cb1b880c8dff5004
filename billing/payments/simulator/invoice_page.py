"""The hosted invoice page."""

from __future__ import annotations

from html import escape

from billing.payments.simulator import charging, collection, lines
from billing.payments.simulator.errors import CardRefused, no_such, wrong_state
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
from billing.payments.simulator.setups import NeedsAuthentication
from billing.payments.simulator.world import World


def html(world: World, identifier: str, error: str) -> str:
    """Return the page of an issued invoice."""
    invoice = _issued(world, identifier)
    body = _summary(world, invoice)
    if invoice["status"] in ("open", "uncollectible"):
        due = money(invoice["amount_remaining"], invoice["currency"])
        saved = collection.default_method(world, invoice)
        if saved is not None:
            label = f"Pay {due} with the saved card"
            body += (
                f"<h2>Saved card</h2><p>{card_name(saved)}</p>"
                + button(f"/invoices/{identifier}", label, plain=False, saved=saved["id"])
                + "<h2>Another card</h2>"
            )
        body += card_form(f"/invoices/{identifier}", f"Pay {due}", error=error)
    return page(f"Invoice {invoice['number']}", body)


def printable(world: World, identifier: str) -> str:
    """Return the invoice for printing (where Stripe has a PDF)."""
    invoice = _issued(world, identifier)
    return page(f"Invoice {invoice['number']}", _summary(world, invoice))


def submit(world: World, identifier: str, method: Json, _form: Json, *, authenticated: bool) -> str:
    """Pay with a card, just entered or saved; return to the page."""
    invoice = _issued(world, identifier)
    if invoice["status"] not in ("open", "uncollectible"):
        raise wrong_state(f"This invoice is {invoice['status']}.")
    if method.get("customer") not in (None, invoice["customer"]):
        raise wrong_state("This card belongs to somebody else.")
    try:
        collection.collect(world, invoice, method, authenticated=authenticated)
    except CardRefused as refusal:
        if refusal.error.get("code") == "invoice_payment_intent_requires_action":
            raise NeedsAuthentication(method) from None
        raise
    return f"/invoices/{identifier}"


def authentication_failed(world: World, identifier: str, _method: Json) -> str:
    """Return what to tell a cardholder who did not authenticate."""
    _issued(world, identifier)
    return str(charging.authentication_failed()["message"])


def _issued(world: World, identifier: str) -> Json:
    invoice = world.find("invoice", identifier)
    if invoice["status"] == "draft":
        raise no_such("invoice", identifier)
    return invoice


def _summary(world: World, invoice: Json) -> str:
    currency = invoice["currency"]
    rows = [
        [escape(line["description"] or ""), money(line["amount"], currency)]
        for line in lines.of_invoice(world, invoice)
    ]
    for label, field in (
        ("Total", "total"),
        ("Paid", "amount_paid"),
        ("Due", "amount_remaining"),
    ):
        rows.append(
            [f"<strong>{label}</strong>", f"<strong>{money(invoice[field], currency)}</strong>"]
        )
    facts = f"For {escape(invoice['customer_name'] or invoice['customer'])}. "
    facts += f"Status: <strong>{escape(invoice['status'])}</strong>."
    if invoice["next_payment_attempt"]:
        facts += f" Next attempt: {moment(invoice['next_payment_attempt'])}."
    return f"<p>{facts}</p>" + table(["What", "Amount"], rows, amounts=(1,))
