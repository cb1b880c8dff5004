"""Getting an issued invoice paid: finalizing, charging, retrying, giving up."""

from __future__ import annotations

from billing.payments.simulator import charging, intents, methods, taxes
from billing.payments.simulator.errors import CardRefused, wrong_state
from billing.payments.simulator.forms import Json
from billing.payments.simulator.lines import total_up
from billing.payments.simulator.presenting import present
from billing.payments.simulator.world import World, new_id

_DAY = 86_400
# When a declined invoice is tried again, in days after the first attempt.
RETRY_DAYS = (1, 3, 5, 7)
_NO_CARD = (
    "This customer has no attached payment source or default payment method. Please consider "
    "adding a default payment method."
)


def finalize(world: World, invoice: Json, *, auto_advance: bool | None = None) -> Json:
    """Number and freeze a draft; one that asks for nothing is paid at once.

    With `auto_advance` and automatic collection its first charge falls due now.
    """
    if invoice["status"] != "draft":
        raise wrong_state(
            "This invoice is already finalized, you can't re-finalize a non-draft invoice.",
            code="invoice_not_editable",
        )
    customer = world.find("customer", invoice["customer"])
    taxes.require_location(invoice, customer)
    now = world.now()
    if auto_advance is not None:
        invoice["auto_advance"] = auto_advance
    total_up(world, invoice)
    _settle_balance(invoice, customer)
    number = f"{customer['invoice_prefix']}-{customer['next_invoice_sequence']:04d}"
    invoice |= {
        "status": "open",
        "number": number,
        "effective_at": invoice["effective_at"] or now,
        "automatically_finalizes_at": None,
        "customer_name": customer["name"],
        "customer_email": customer["email"],
        "customer_address": customer["address"],
        "hosted_invoice_url": f"{world.public_url}/invoices/{invoice['id']}",
        "invoice_pdf": f"{world.public_url}/invoices/{invoice['id']}/pdf",
        "webhooks_delivered_at": now,
        "_due_at": None,
    }
    invoice["status_transitions"]["finalized_at"] = now
    if invoice["collection_method"] == "send_invoice":
        invoice["due_date"] = invoice["due_date"] or now + (invoice["_days_until_due"] or 30) * _DAY
    customer["next_invoice_sequence"] += 1
    customer["currency"] = customer["currency"] or invoice["currency"]
    world.store.put(customer)
    world.store.put(invoice)
    world.emit("invoice.finalized", invoice)
    if invoice["amount_due"] == 0:
        _mark_paid(world, invoice, amount=0)
    else:
        _expect_payment(world, invoice)
    return invoice


def _settle_balance(invoice: Json, customer: Json) -> None:
    """Apply the customer's balance; move what cannot be charged to it."""
    start = customer["balance"]
    asked = invoice["total"] + start
    due = asked if asked >= intents.minimum(invoice["currency"]) else 0
    invoice |= {
        "starting_balance": start,
        "ending_balance": 0 if due else asked,
        "amount_due": due,
        "amount_remaining": due,
    }
    customer["balance"] = invoice["ending_balance"]


def _expect_payment(world: World, invoice: Json) -> None:
    intent = intents.new_intent(
        world,
        amount=invoice["amount_due"],
        currency=invoice["currency"],
        customer=invoice["customer"],
        description=f"Invoice {invoice['number']}",
    )
    world.store.put(
        {
            "id": new_id("inpay"),
            "object": "invoice_payment",
            "amount_paid": None,
            "amount_requested": invoice["amount_due"],
            "created": world.now(),
            "currency": invoice["currency"],
            "invoice": invoice["id"],
            "is_default": True,
            "livemode": False,
            "payment": {"type": "payment_intent", "payment_intent": intent["id"]},
            "status": "open",
            "status_transitions": {"canceled_at": None, "paid_at": None},
        }
    )
    advances = invoice["auto_advance"] and invoice["collection_method"] == "charge_automatically"
    schedule(world, invoice, world.now() if advances else None)


def schedule(world: World, invoice: Json, when: int | None) -> None:
    """Say when an open invoice is charged next, if ever."""
    invoice |= {"next_payment_attempt": when, "_due_at": when}
    world.store.put(invoice)


def collect_when_due(world: World, invoice: Json) -> None:
    """Make the scheduled attempt; a decline schedules the next one."""
    if invoice["status"] != "open":
        schedule(world, invoice, None)
        return
    try:
        collect(world, invoice, None)
    except CardRefused:
        # Recorded on the invoice; nobody waits for the answer of a scheduled attempt.
        return


def collect(
    world: World, invoice: Json, method: Json | None, *, authenticated: bool = False
) -> Json:
    """Charge an open invoice once, to `method` or else to the default card.

    Raises `CardRefused` after a decline: the attempt counts, and the next one is scheduled where
    the invoice advances by itself.
    """
    payment, intent = _payment(world, invoice)
    now = world.now()
    first = invoice["_first_attempt_at"] = invoice["_first_attempt_at"] or now
    method = method or default_method(world, invoice)
    error: Json | None
    if method is None:
        error = {"code": "missing", "message": _NO_CARD}
    else:
        error = charging.attempt(world, intent, method, authenticated=authenticated)
    invoice |= {"attempted": True, "attempt_count": invoice["attempt_count"] + 1}
    if error is None:
        payment |= {"status": "paid", "amount_paid": intent["amount"]}
        payment["status_transitions"]["paid_at"] = now
        world.store.put(payment)
        world.emit("invoice_payment.paid", payment)
        return _mark_paid(world, invoice, amount=intent["amount"])
    if invoice["auto_advance"] and invoice["status"] == "open":
        later = [first + days * _DAY for days in RETRY_DAYS]
        schedule(world, invoice, next((when for when in later if when > now), None))
    world.store.put(invoice)
    if intent["status"] == "requires_action":
        world.emit("invoice.payment_action_required", invoice)
        error = {**error, "code": "invoice_payment_intent_requires_action"}
    world.emit("invoice.payment_failed", invoice)
    raise CardRefused({**error, "payment_intent": present(world.store, intent)})


def default_method(world: World, invoice: Json) -> Json | None:
    """Return the card an invoice is charged to when nobody names one."""
    customer = world.find("customer", invoice["customer"])
    subscription = world.store.get(invoice["_subscription"] or "") or {}
    for identifier in (
        invoice["default_payment_method"],
        subscription.get("default_payment_method"),
        customer["invoice_settings"]["default_payment_method"],
    ):
        method = world.store.get(identifier or "")
        if method is not None and method["customer"] == customer["id"]:
            return method
    return None


def pay(world: World, invoice: Json, params: Json) -> Json:
    """Pay an open (or uncollectible) invoice now: by card, out of band, or a draft after issue."""
    if invoice["status"] == "draft":
        finalize(world, invoice)
        if invoice["status"] == "paid":
            return invoice
    if invoice["status"] == "paid":
        raise wrong_state("Invoice is already paid")
    if invoice["status"] == "void":
        raise wrong_state("Invoice is voided and can't be paid")
    if params.get("paid_out_of_band"):
        stop(world, invoice)
        invoice["amount_paid_off_stripe"] = invoice["amount_due"]
        return _mark_paid(world, invoice, amount=invoice["amount_due"])
    method = None
    if params.get("payment_method"):
        method = methods.chosen(world, params["payment_method"])
        if method["customer"] not in (None, invoice["customer"]):
            raise wrong_state("The payment method belongs to another customer.")
    elif default_method(world, invoice) is None:
        raise wrong_state(_NO_CARD, code="resource_missing")
    return collect(world, invoice, method)


def stop(world: World, invoice: Json) -> None:
    """End the collection of an invoice: its payment and intent are canceled."""
    schedule(world, invoice, None)
    for payment in world.store.all("invoice_payment", owner=invoice["id"]):
        if payment["status"] != "open":
            continue
        payment["status"] = "canceled"
        payment["status_transitions"]["canceled_at"] = world.now()
        world.store.put(payment)
        intent = world.find("payment_intent", payment["payment"]["payment_intent"])
        intents.give_up(world, intent, reason="void_invoice")


def _payment(world: World, invoice: Json) -> tuple[Json, Json]:
    for payment in world.store.all("invoice_payment", owner=invoice["id"]):
        if payment["status"] == "open":
            intent = world.find("payment_intent", payment["payment"]["payment_intent"])
            if intent["amount"] != invoice["amount_remaining"]:
                intent["amount"] = invoice["amount_remaining"]
                payment["amount_requested"] = invoice["amount_remaining"]
            return payment, intent
    raise wrong_state("This invoice has no open payment.")


def _mark_paid(world: World, invoice: Json, *, amount: int) -> Json:
    invoice |= {
        "status": "paid",
        "attempted": True,
        "auto_advance": False,
        "amount_paid": amount,
        "amount_remaining": 0,
    }
    invoice["status_transitions"]["paid_at"] = world.now()
    schedule(world, invoice, None)
    world.emit("invoice.paid", invoice)
    world.emit("invoice.payment_succeeded", invoice)
    _restore_subscription(world, invoice)
    return invoice


def _restore_subscription(world: World, invoice: Json) -> None:
    subscription = world.store.get(invoice["_subscription"] or "")
    if subscription and subscription["status"] in ("incomplete", "past_due"):
        before = {"status": subscription["status"]}
        subscription["status"] = "active"
        world.store.put(subscription)
        world.emit("customer.subscription.updated", subscription, before)
