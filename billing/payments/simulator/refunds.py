"""Charges as they are read, and refunds of them."""

from __future__ import annotations

from billing.payments.simulator import disputes
from billing.payments.simulator.calls import Call, Route, listing, retrieve
from billing.payments.simulator.errors import bad_request, wrong_state
from billing.payments.simulator.forms import Json
from billing.payments.simulator.presenting import present
from billing.payments.simulator.shapes import (
    EXPAND,
    METADATA,
    PAGE,
    RANGE,
    TEXT,
    Integer,
    Shape,
    choice,
)
from billing.payments.simulator.world import World, merged, new_id

_REASON = choice("duplicate", "fraudulent", "requested_by_customer")
_CREATE: Shape = {
    **EXPAND,
    "amount": Integer(1),
    "charge": TEXT,
    "metadata": METADATA,
    "payment_intent": TEXT,
    "reason": _REASON,
}


def create(world: World, call: Call) -> Json:
    """Refund a charge, or the charge of a payment intent; all that is left by default."""
    charge = _charge(world, call.params)
    refund = give_back(
        world,
        charge,
        amount=call.params.get("amount"),
        reason=call.params.get("reason"),
        metadata=call.params.get("metadata"),
    )
    return present(world.store, refund)


def give_back(
    world: World,
    charge: Json,
    *,
    amount: int | None,
    reason: str | None = None,
    metadata: dict[str, str] | None = None,
) -> Json:
    """Store a refund of `amount` minor units; never more than is left of the charge."""
    left = charge["amount_captured"] - charge["amount_refunded"]
    if left == 0 or not charge["paid"]:
        message = f"Charge {charge['id']} has already been refunded."
        raise wrong_state(message, code="charge_already_refunded")
    wanted = left if amount is None else amount
    if wanted > left:
        message = f"Refund amount ({wanted}) is greater than unrefunded amount on charge ({left})"
        raise wrong_state(message)
    if charge["disputed"]:
        message = f"Charge {charge['id']} has been charged back; cannot issue a refund."
        raise wrong_state(message, code="charge_disputed")
    refund: Json = {
        "id": new_id("re"),
        "object": "refund",
        "amount": wanted,
        "balance_transaction": None,
        "charge": charge["id"],
        "created": world.now(),
        "currency": charge["currency"],
        "destination_details": {"card": {"type": "refund"}, "type": "card"},
        "metadata": metadata or {},
        "payment_intent": charge["payment_intent"],
        "reason": reason,
        "receipt_number": None,
        "source_transfer_reversal": None,
        "status": "succeeded",
        "transfer_reversal": None,
    }
    world.store.put(refund)
    previous = {"amount_refunded": charge["amount_refunded"], "refunded": charge["refunded"]}
    charge["amount_refunded"] += wanted
    charge["refunded"] = charge["amount_refunded"] == charge["amount_captured"]
    world.store.put(charge)
    disputes.answer_warnings(world, charge)
    world.emit("refund.created", refund)
    world.emit("charge.refunded", charge, previous)
    return refund


def fail(world: World, refund: Json) -> Json:
    """The bank could not give the money to the cardholder: it comes back to the account."""
    refund |= {"status": "failed", "failure_reason": "lost_or_stolen_card"}
    world.store.put(refund)
    charge = world.find("charge", refund["charge"])
    charge["amount_refunded"] -= refund["amount"]
    charge["refunded"] = False
    world.store.put(charge)
    world.emit("refund.failed", refund)
    return refund


def update(world: World, call: Call) -> Json:
    """Change a refund's metadata."""
    refund = world.find("refund", call.id)
    refund["metadata"] = merged(refund["metadata"], call.params.get("metadata", {}))
    world.store.put(refund)
    world.emit("refund.updated", refund, {})
    return present(world.store, refund)


def _charge(world: World, params: Json) -> Json:
    if params.get("charge"):
        return world.find("charge", params["charge"], param="charge")
    if not params.get("payment_intent"):
        message = "One of the following params should be provided: `payment_intent` or `charge`."
        raise bad_request(message, code="parameter_missing", param="payment_intent")
    intent = world.find("payment_intent", params["payment_intent"], param="payment_intent")
    if intent["status"] != "succeeded":
        message = (
            f"This PaymentIntent ({intent['id']}) does not have a successful charge to refund."
        )
        raise wrong_state(message, code="payment_intent_unexpected_state")
    return world.find("charge", intent["latest_charge"])


_LIST: Shape = {**PAGE, "created": RANGE}
ROUTES = (
    Route(
        "GET",
        "/v1/charges",
        {**_LIST, "customer": TEXT, "payment_intent": TEXT},
        listing("charge", "payment_intent"),
    ),
    Route("GET", "/v1/charges/*", EXPAND, retrieve("charge")),
    Route("POST", "/v1/refunds", _CREATE, create),
    Route(
        "GET",
        "/v1/refunds",
        {**_LIST, "charge": TEXT, "payment_intent": TEXT},
        listing("refund", "charge", "payment_intent"),
    ),
    Route("GET", "/v1/refunds/*", EXPAND, retrieve("refund")),
    Route("POST", "/v1/refunds/*", {**EXPAND, "metadata": METADATA}, update),
)
