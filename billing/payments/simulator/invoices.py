"""Invoices: draft, open, paid, void, uncollectible."""

from __future__ import annotations

from billing.payments.simulator import collection, drafts, lines, methods, taxes
from billing.payments.simulator.calls import Call, Route, listing, page, retrieve
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
from billing.payments.simulator.world import World, merged

_METHOD = choice("charge_automatically", "send_invoice")
_FIELDS: Shape = {
    "default_payment_method": TEXT,
    "description": TEXT,
    "due_date": INTEGER,
    "effective_at": INTEGER,
    "footer": TEXT,
    "statement_descriptor": TEXT,
}
_UPDATE: Shape = {
    **EXPAND,
    **_FIELDS,
    "auto_advance": FLAG,
    "automatic_tax": Nested({"enabled": Required(FLAG)}),
    "collection_method": _METHOD,
    "custom_fields": ListOf(Nested({"name": Required(TEXT), "value": Required(TEXT)}), most=4),
    "days_until_due": Integer(0),
    "metadata": METADATA,
}
_CREATE: Shape = {
    **_UPDATE,
    "currency": CURRENCY,
    "customer": Required(TEXT),
    "pending_invoice_items_behavior": choice("exclude", "include"),
}
# What may still be changed once an invoice is issued.
_CHANGEABLE = ("metadata", "auto_advance", "default_payment_method", "description", "expand")
_STATUS = choice("draft", "open", "paid", "uncollectible", "void")


def create(world: World, call: Call) -> Json:
    """Create a draft; pending invoice items stay out unless asked for."""
    params = call.params
    customer = world.find("customer", params["customer"], param="customer")
    invoice = drafts.new_draft(
        world, customer, currency=params.get("currency") or customer["currency"] or "usd"
    )
    _apply(world, invoice, params)
    if invoice["auto_advance"]:
        _finalize_by_itself(world, invoice)
    if params.get("pending_invoice_items_behavior") == "include":
        lines.take_pending(world, invoice)
    lines.total_up(world, invoice)
    world.emit("invoice.created", invoice)
    return present(world.store, invoice)


def update(world: World, call: Call) -> Json:
    """Change a draft; of an issued invoice only what does not change what is owed."""
    invoice = world.find("invoice", call.id)
    if invoice["status"] != "draft":
        for name in call.params:
            if name not in _CHANGEABLE:
                message = f"Finalized invoices can't be updated in this way: {name}"
                raise wrong_state(message, code="invoice_not_editable")
    before = present(world.store, invoice)
    _apply(world, invoice, call.params)
    if invoice["auto_advance"] and invoice["status"] == "draft":
        _finalize_by_itself(world, invoice)
    elif "auto_advance" in call.params and invoice["status"] == "open":
        collection.schedule(world, invoice, world.now() if invoice["auto_advance"] else None)
    world.store.put(invoice)
    after = present(world.store, invoice)
    changed = {name: value for name, value in before.items() if after[name] != value}
    if changed:
        world.emit("invoice.updated", invoice, changed)
    return after


def delete(world: World, call: Call) -> Json:
    """Delete a draft."""
    invoice = world.find("invoice", call.id)
    if invoice["status"] != "draft":
        raise wrong_state("You can only delete draft invoices.", code="invoice_not_editable")
    world.emit("invoice.deleted", invoice)
    for line in lines.of_invoice(world, invoice):
        lines.remove_line(world, line)
    world.store.remove(invoice["id"])
    return {"id": invoice["id"], "object": "invoice", "deleted": True}


def finalize(world: World, call: Call) -> Json:
    """Number and freeze a draft."""
    invoice = world.find("invoice", call.id)
    advance = call.params.get("auto_advance")
    return present(world.store, collection.finalize(world, invoice, auto_advance=advance))


def pay(world: World, call: Call) -> Json:
    """Pay an invoice now."""
    invoice = world.find("invoice", call.id)
    return present(world.store, collection.pay(world, invoice, call.params))


def send(world: World, call: Call) -> Json:
    """Issue a draft where needed and say that it was mailed."""
    invoice = world.find("invoice", call.id)
    if invoice["status"] == "draft":
        collection.finalize(world, invoice)
    world.emit("invoice.sent", invoice)
    return present(world.store, invoice)


def void(world: World, call: Call) -> Json:
    """Cancel an issued invoice; it keeps its number."""
    invoice = world.find("invoice", call.id)
    _require(invoice, ("open", "uncollectible"), "voided")
    collection.stop(world, invoice)
    invoice |= {"status": "void", "auto_advance": False}
    invoice["status_transitions"]["voided_at"] = world.now()
    world.store.put(invoice)
    world.emit("invoice.voided", invoice)
    return present(world.store, invoice)


def mark_uncollectible(world: World, call: Call) -> Json:
    """Write an open invoice off; it can still be paid or voided."""
    invoice = world.find("invoice", call.id)
    _require(invoice, ("open",), "marked uncollectible")
    collection.schedule(world, invoice, None)
    invoice |= {"status": "uncollectible", "auto_advance": False}
    invoice["status_transitions"]["marked_uncollectible_at"] = world.now()
    world.store.put(invoice)
    world.emit("invoice.marked_uncollectible", invoice)
    return present(world.store, invoice)


def list_payments(world: World, call: Call) -> Json:
    """List what was asked and paid for invoices."""
    intent = call.params.get("payment", {}).get("payment_intent")
    status = call.params.get("status")

    def fits(payment: Json) -> bool:
        return (intent is None or payment["payment"]["payment_intent"] == intent) and (
            status is None or payment["status"] == status
        )

    return page(world, call, "invoice_payment", owner=call.params.get("invoice"), fits=fits)


def list_invoices(world: World, call: Call) -> Json:
    """List invoices, newest first."""
    wanted = call.params.get("subscription")
    if wanted is None:
        return listing("invoice", "status", "collection_method")(world, call)
    return page(
        world,
        call,
        "invoice",
        owner=call.params.get("customer"),
        fits=lambda i: bool(i["_subscription"] == wanted),
    )


def _finalize_by_itself(world: World, invoice: Json) -> None:
    # Stripe leaves an hour to edit a draft that advances by itself.
    when = world.now() + 3600
    invoice |= {"automatically_finalizes_at": when, "_due_at": when}


def _apply(world: World, invoice: Json, params: Json) -> None:
    for name, value in params.items():
        match name:
            case "metadata":
                invoice["metadata"] = merged(invoice["metadata"], value)
            case "days_until_due":
                invoice["_days_until_due"] = value
            case "default_payment_method" if value:
                invoice[name] = methods.owned(world, value, invoice["customer"])["id"]
            case "automatic_tax":
                taxes.ask(world, invoice, enabled=value["enabled"])
            case "auto_advance" | "collection_method" | "custom_fields":
                invoice[name] = value
            case _ if name in _FIELDS:
                invoice[name] = value or None
            case _:
                pass


def _require(invoice: Json, statuses: tuple[str, ...], verb: str) -> None:
    if invoice["status"] not in statuses:
        message = f"You cannot have an invoice {verb} that is {invoice['status']}."
        raise wrong_state(message)


_PAY: Shape = {
    **EXPAND,
    "forgive": FLAG,
    "off_session": FLAG,
    "paid_out_of_band": FLAG,
    "payment_method": TEXT,
}
_LIST: Shape = {
    **PAGE,
    "collection_method": _METHOD,
    "created": RANGE,
    "customer": TEXT,
    "status": _STATUS,
    "subscription": TEXT,
}
_PAYMENTS: Shape = {
    **PAGE,
    "created": RANGE,
    "invoice": TEXT,
    "payment": Nested({"type": Required(choice("payment_intent")), "payment_intent": TEXT}),
    "status": choice("canceled", "open", "paid"),
}
ROUTES = (
    Route("POST", "/v1/invoices", _CREATE, create),
    Route("GET", "/v1/invoices", _LIST, list_invoices),
    Route("GET", "/v1/invoices/*", EXPAND, retrieve("invoice")),
    Route("POST", "/v1/invoices/*", _UPDATE, update),
    Route("DELETE", "/v1/invoices/*", {}, delete),
    Route("POST", "/v1/invoices/*/finalize", {**EXPAND, "auto_advance": FLAG}, finalize),
    Route("POST", "/v1/invoices/*/pay", _PAY, pay),
    Route("POST", "/v1/invoices/*/send", EXPAND, send),
    Route("POST", "/v1/invoices/*/void", EXPAND, void),
    Route("POST", "/v1/invoices/*/mark_uncollectible", EXPAND, mark_uncollectible),
    Route("GET", "/v1/invoice_payments", _PAYMENTS, list_payments),
    Route("GET", "/v1/invoice_payments/*", EXPAND, retrieve("invoice_payment")),
)
