"""Credit notes: less is owed on an open invoice, or money goes back on a paid one."""

from __future__ import annotations

from billing.payments.simulator import collection, refunds
from billing.payments.simulator.calls import Call, Route, listing, retrieve
from billing.payments.simulator.errors import bad_request, wrong_state
from billing.payments.simulator.forms import Json
from billing.payments.simulator.presenting import listed, present
from billing.payments.simulator.shapes import (
    EXPAND,
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

_LINE = Nested(
    {
        "type": Required(choice("invoice_line_item", "custom_line_item")),
        "amount": Integer(0),
        "description": TEXT,
        "invoice_line_item": TEXT,
        "quantity": Integer(1),
        "unit_amount": Integer(0),
    }
)
_CREATE: Shape = {
    **EXPAND,
    "amount": Integer(1),
    "credit_amount": Integer(0),
    "invoice": Required(TEXT),
    "lines": ListOf(_LINE),
    "memo": TEXT,
    "metadata": METADATA,
    "out_of_band_amount": Integer(0),
    "reason": choice("duplicate", "fraudulent", "order_change", "product_unsatisfactory"),
    "refund_amount": Integer(0),
}


def create(world: World, call: Call) -> Json:
    """Issue a credit note over `amount` or lines, in minor units."""
    params = call.params
    invoice = world.find("invoice", params["invoice"], param="invoice")
    if invoice["status"] not in ("open", "paid"):
        raise wrong_state(f"You cannot issue a credit note for a {invoice['status']} invoice.")
    note_lines = [_line(sent) for sent in params.get("lines", [])]
    amount = sum(line["amount"] for line in note_lines) or params.get("amount", 0)
    if amount <= 0:
        message = "You must pass one of `amount` or `lines`."
        raise bad_request(message, code="parameter_missing", param="amount")
    credited = (
        invoice["pre_payment_credit_notes_amount"] + invoice["post_payment_credit_notes_amount"]
    )
    if amount > invoice["total"] - credited:
        raise wrong_state("The credit notes of an invoice cannot exceed its total.")
    note = _new_note(world, invoice, params, amount=amount, note_lines=note_lines)
    if invoice["status"] == "paid":
        _give_back(world, invoice, note, params)
    else:
        _owe_less(world, invoice, note)
    world.store.put(note)
    world.emit("credit_note.created", note)
    return present(world.store, note)


def _owe_less(world: World, invoice: Json, note: Json) -> None:
    amount = note["amount"]
    invoice["pre_payment_credit_notes_amount"] += amount
    invoice["amount_due"] -= amount
    invoice["amount_remaining"] -= amount
    note |= {"type": "pre_payment", "pre_payment_amount": amount}
    world.store.put(invoice)
    world.emit("invoice.updated", invoice, {})
    if invoice["amount_remaining"] == 0:
        collection.pay(world, invoice, {"paid_out_of_band": True})


def _give_back(world: World, invoice: Json, note: Json, params: Json) -> None:
    refund = params.get("refund_amount", 0)
    credit = params.get("credit_amount", 0)
    outside = params.get("out_of_band_amount", 0)
    amount = note["amount"]
    if refund + credit + outside != amount:
        message = (
            "The sum of `refund_amount`, `credit_amount` and `out_of_band_amount` must equal the "
            f"credit note amount ({amount})."
        )
        raise bad_request(message, param="refund_amount")
    note |= {
        "type": "post_payment",
        "post_payment_amount": amount,
        "out_of_band_amount": outside or None,
    }
    if refund:
        made = refunds.give_back(world, _charge(world, invoice), amount=refund)
        note["refunds"] = [
            {
                "amount_refunded": refund,
                "payment_record_refund": None,
                "refund": made["id"],
                "type": "refund",
            }
        ]
    if credit:
        customer = world.find("customer", invoice["customer"])
        customer["balance"] -= credit
        world.store.put(customer)
    invoice["post_payment_credit_notes_amount"] += amount
    world.store.put(invoice)


def void(world: World, call: Call) -> Json:
    """Void a credit note of an open invoice: the amount is owed again."""
    note = world.find("credit_note", call.id)
    invoice = world.find("invoice", note["invoice"])
    if note["status"] == "void" or invoice["status"] != "open":
        raise wrong_state("You can only void a credit note whose invoice is open.")
    invoice["pre_payment_credit_notes_amount"] -= note["amount"]
    invoice["amount_due"] += note["amount"]
    invoice["amount_remaining"] += note["amount"]
    world.store.put(invoice)
    note |= {"status": "void", "voided_at": world.now()}
    world.store.put(note)
    world.emit("credit_note.voided", note)
    return present(world.store, note)


def _charge(world: World, invoice: Json) -> Json:
    for payment in world.store.all("invoice_payment", owner=invoice["id"]):
        if payment["status"] == "paid":
            intent = world.find("payment_intent", payment["payment"]["payment_intent"])
            return world.find("charge", intent["latest_charge"])
    raise wrong_state("This invoice has no payment that could be refunded.")


def _new_note(
    world: World, invoice: Json, params: Json, *, amount: int, note_lines: list[Json]
) -> Json:
    identifier = new_id("cn")
    earlier = [n for n in world.store.all("credit_note") if n["invoice"] == invoice["id"]]
    return {
        "id": identifier,
        "object": "credit_note",
        "amount": amount,
        "amount_shipping": 0,
        "created": world.now(),
        "currency": invoice["currency"],
        "customer": invoice["customer"],
        "customer_balance_transaction": None,
        "discount_amount": 0,
        "discount_amounts": [],
        "effective_at": world.now(),
        "invoice": invoice["id"],
        "lines": listed(note_lines, f"/v1/credit_notes/{identifier}/lines"),
        "livemode": False,
        "memo": params.get("memo") or None,
        "metadata": merged({}, params.get("metadata")),
        "number": f"{invoice['number']}-CN-{len(earlier) + 1:02d}",
        "out_of_band_amount": None,
        "pdf": f"{world.public_url}/credit_notes/{identifier}/pdf",
        "post_payment_amount": 0,
        "pre_payment_amount": 0,
        "pretax_credit_amounts": [],
        "reason": params.get("reason"),
        "refunds": [],
        "shipping_cost": None,
        "status": "issued",
        "subtotal": amount,
        "subtotal_excluding_tax": amount,
        "total": amount,
        "total_excluding_tax": amount,
        "total_taxes": [],
        "type": "pre_payment",
        "voided_at": None,
    }


def _line(sent: Json) -> Json:
    quantity = sent.get("quantity", 1)
    line: Json = {
        "id": new_id("cnli"),
        "object": "credit_note_line_item",
        "amount": sent.get("amount", quantity * sent.get("unit_amount", 0)),
        "description": sent.get("description") or None,
        "discount_amount": 0,
        "discount_amounts": [],
        "livemode": False,
        "metadata": {},
        "pretax_credit_amounts": [],
        "quantity": quantity,
        "tax_rates": [],
        "taxes": [],
        "type": sent["type"],
        "unit_amount": sent.get("unit_amount"),
        "unit_amount_decimal": str(sent["unit_amount"]) if "unit_amount" in sent else None,
    }
    if sent.get("invoice_line_item"):
        line["invoice_line_item"] = sent["invoice_line_item"]
    return line


ROUTES = (
    Route("POST", "/v1/credit_notes", _CREATE, create),
    Route(
        "GET",
        "/v1/credit_notes",
        {**PAGE, "created": RANGE, "customer": TEXT, "invoice": TEXT},
        listing("credit_note", "invoice"),
    ),
    Route("GET", "/v1/credit_notes/*", EXPAND, retrieve("credit_note")),
    Route("POST", "/v1/credit_notes/*/void", EXPAND, void),
)
