"""One attempt to charge one card for one payment intent, as the bank would answer it."""

from __future__ import annotations

from billing.payments.simulator import cards, disputes, methods
from billing.payments.simulator.forms import Json
from billing.payments.simulator.presenting import present
from billing.payments.simulator.world import World, new_id

_NEEDS_CARDHOLDER = "Your card was declined. This transaction requires authentication."
_AUTHENTICATION_FAILED = (
    "We are unable to authenticate your payment method. Please choose a different payment "
    "method and try again."
)


def attempt(
    world: World, intent: Json, method: Json, *, authenticated: bool = False
) -> Json | None:
    """Charge `method`; return None when paid, else the card error.

    The intent is stored either way: `succeeded`, `requires_payment_method` after a decline, or
    `requires_action` when the cardholder has to authenticate first.
    """
    card = methods.card_behind(method)
    intent["payment_method"] = method["id"]
    match card.charging:
        case "accepted":
            return _succeed(world, intent, method)
        case "declined":
            return _decline(world, intent, method, cards.decline(card))
        case "authenticate_unless_set_up" if method["_set_up"]:
            return _succeed(world, intent, method)
        case "authenticate" | "authenticate_unless_set_up":
            if authenticated:
                return _succeed(world, intent, method)
            return _ask_cardholder(world, intent, method)


def authentication_failed() -> Json:
    """Return the error of a cardholder who failed or refused 3-D Secure."""
    code = "payment_intent_authentication_failure"
    return {"code": code, "message": _AUTHENTICATION_FAILED}


def _succeed(world: World, intent: Json, method: Json) -> Json | None:
    charge = _charge(world, intent, method, paid=True, error=None)
    intent |= {
        "status": "succeeded",
        "amount_received": intent["amount"],
        "latest_charge": charge["id"],
        "last_payment_error": None,
        "next_action": None,
    }
    world.store.put(intent)
    world.emit("charge.succeeded", charge)
    world.emit("payment_intent.succeeded", intent)
    if intent["setup_future_usage"] and intent["customer"]:
        methods.force_attach(world, method, intent["customer"])
    if methods.card_behind(method).warned:
        disputes.warn(world, charge)
    if methods.card_behind(method).disputed:
        disputes.open_dispute(world, charge)
    return None


def _decline(world: World, intent: Json, method: Json, refusal: Json) -> Json:
    charge = _charge(world, intent, method, paid=False, error=refusal)
    error = {
        "type": "card_error",
        **refusal,
        "charge": charge["id"],
        "payment_method": present(world.store, method),
    }
    # A refused card leaves the intent, so that another one can be tried.
    intent |= {
        "status": "requires_payment_method",
        "latest_charge": charge["id"],
        "last_payment_error": error,
        "next_action": None,
        "payment_method": None,
    }
    world.store.put(intent)
    world.emit("charge.failed", charge)
    world.emit("payment_intent.payment_failed", intent)
    return error


def _ask_cardholder(world: World, intent: Json, method: Json) -> Json:
    intent |= {
        "status": "requires_action",
        "next_action": {"type": "use_stripe_sdk", "use_stripe_sdk": {"type": "three_d_secure"}},
    }
    world.store.put(intent)
    world.emit("payment_intent.requires_action", intent)
    return {
        "type": "card_error",
        "code": "authentication_required",
        "decline_code": "authentication_required",
        "doc_url": "https://docs.stripe.com/error-codes#authentication-required",
        "message": _NEEDS_CARDHOLDER,
        "payment_method": present(world.store, method),
    }


def _charge(world: World, intent: Json, method: Json, *, paid: bool, error: Json | None) -> Json:
    amount = intent["amount"]
    card = {
        name: method["card"][name]
        for name in (
            "brand",
            "checks",
            "country",
            "exp_month",
            "exp_year",
            "fingerprint",
            "funding",
            "last4",
            "wallet",
        )
    }
    card |= {"mandate": None, "network": method["card"]["brand"], "three_d_secure": None}
    card |= {"installments": None}
    charge: Json = {
        "id": new_id("ch"),
        "object": "charge",
        "amount": amount,
        "amount_captured": amount if paid else 0,
        "amount_refunded": 0,
        "application": None,
        "application_fee": None,
        "application_fee_amount": None,
        "balance_transaction": None,
        "billing_details": method["billing_details"],
        "calculated_statement_descriptor": "FAREBOX SIMULATOR",
        "captured": paid,
        "created": world.now(),
        "currency": intent["currency"],
        "customer": intent["customer"],
        "description": intent["description"],
        "disputed": False,
        "failure_balance_transaction": None,
        "failure_code": error["code"] if error else None,
        "failure_message": error["message"] if error else None,
        "fraud_details": {},
        "livemode": False,
        "metadata": intent["metadata"],
        "on_behalf_of": None,
        "outcome": _outcome(error),
        "paid": paid,
        "payment_intent": intent["id"],
        "payment_method": method["id"],
        "payment_method_details": {"card": card, "type": "card"},
        "receipt_email": intent["receipt_email"],
        "receipt_number": None,
        "receipt_url": None,
        "refunded": False,
        "review": None,
        "shipping": None,
        "source_transfer": None,
        "statement_descriptor": None,
        "statement_descriptor_suffix": intent["statement_descriptor_suffix"],
        "status": "succeeded" if paid else "failed",
        "transfer_data": None,
        "transfer_group": None,
    }
    return world.store.put(charge)


def _outcome(error: Json | None) -> Json:
    return {
        "advice_code": "try_again_later" if error else None,
        "network_advice_code": None,
        "network_decline_code": None,
        "network_status": "declined_by_network" if error else "approved_by_network",
        "reason": error.get("decline_code") if error else None,
        "risk_level": "normal",
        "seller_message": error["message"] if error else "Payment complete.",
        "type": "issuer_declined" if error else "authorized",
    }
