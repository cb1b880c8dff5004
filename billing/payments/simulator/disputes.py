"""Disputes, and warnings before them: a cardholder asks the bank for the money back."""

from __future__ import annotations

from billing.payments.simulator.calls import Call, Route, listing, retrieve
from billing.payments.simulator.errors import wrong_state
from billing.payments.simulator.forms import Json
from billing.payments.simulator.presenting import present
from billing.payments.simulator.shapes import EXPAND, METADATA, PAGE, RANGE, TEXT, Nested, Shape
from billing.payments.simulator.world import World, merged, new_id

_EVIDENCE = (
    "access_activity_log",
    "cancellation_policy_disclosure",
    "customer_email_address",
    "customer_name",
    "product_description",
    "service_date",
    "uncategorized_text",
)
_UPDATE: Shape = {
    **EXPAND,
    "evidence": Nested(dict.fromkeys(_EVIDENCE, TEXT)),
    "metadata": METADATA,
}
_CLOSED = ("won", "lost")
# As at Stripe: this text in the evidence decides how the bank rules.
_VERDICTS = {"winning_evidence": "won", "losing_evidence": "lost"}


def open_dispute(world: World, charge: Json) -> Json:
    """Let the cardholder dispute a charge; the money leaves at once."""
    now = world.now()
    dispute: Json = {
        "id": new_id("du"),
        "object": "dispute",
        "amount": charge["amount"],
        "balance_transactions": [],
        "charge": charge["id"],
        "created": now,
        "currency": charge["currency"],
        "enhanced_eligibility_types": [],
        "evidence": {**dict.fromkeys(_EVIDENCE), "enhanced_evidence": {}},
        "evidence_details": {
            "due_by": now + 7 * 86_400,
            "enhanced_eligibility": {},
            "has_evidence": False,
            "past_due": False,
            "submission_count": 0,
        },
        "is_charge_refundable": False,
        "livemode": False,
        "metadata": {},
        "payment_intent": charge["payment_intent"],
        "reason": "fraudulent",
        "status": "needs_response",
    }
    world.store.put(dispute)
    charge["disputed"] = True
    world.store.put(charge)
    answer_warnings(world, charge)
    world.emit("charge.dispute.created", dispute)
    world.emit("charge.dispute.funds_withdrawn", dispute)
    return dispute


def warn(world: World, charge: Json) -> Json:
    """Let the bank report a charge as fraud; nothing happens to the money yet."""
    warning: Json = {
        "id": new_id("issfr"),
        "object": "radar.early_fraud_warning",
        "actionable": True,
        "charge": charge["id"],
        "created": world.now(),
        "fraud_type": "made_with_stolen_card",
        "livemode": False,
        "payment_intent": charge["payment_intent"],
    }
    world.store.put(warning)
    world.emit("radar.early_fraud_warning.created", warning)
    return warning


def answer_warnings(world: World, charge: Json) -> None:
    """A refund or a dispute leaves nothing to be done about a warning."""
    for warning in world.store.all("radar.early_fraud_warning"):
        if warning["charge"] == charge["id"] and warning["actionable"]:
            warning["actionable"] = False
            world.store.put(warning)
            world.emit("radar.early_fraud_warning.updated", warning, {"actionable": True})


def update(world: World, call: Call) -> Json:
    """Add evidence; `uncategorized_text` "winning_evidence" or "losing_evidence" decides."""
    dispute = _undecided(world, call.id)
    if "metadata" in call.params:
        dispute["metadata"] = merged(dispute["metadata"], call.params["metadata"])
    evidence = call.params.get("evidence", {})
    dispute["evidence"] |= evidence
    dispute["evidence_details"] |= {"has_evidence": bool(evidence)}
    verdict = _VERDICTS.get(evidence.get("uncategorized_text", ""))
    if verdict is not None:
        return _decide(world, dispute, verdict)
    dispute["status"] = "under_review" if evidence else dispute["status"]
    world.store.put(dispute)
    world.emit("charge.dispute.updated", dispute, {})
    return present(world.store, dispute)


def close(world: World, call: Call) -> Json:
    """Accept a dispute as lost."""
    return _decide(world, _undecided(world, call.id), "lost")


def _decide(world: World, dispute: Json, status: str) -> Json:
    dispute["status"] = status
    world.store.put(dispute)
    world.emit("charge.dispute.closed", dispute)
    if status == "won":
        world.emit("charge.dispute.funds_reinstated", dispute)
    return present(world.store, dispute)


def _undecided(world: World, identifier: str) -> Json:
    dispute = world.find("dispute", identifier)
    if dispute["status"] in _CLOSED:
        raise wrong_state("This dispute is already closed.")
    return dispute


ROUTES = (
    Route(
        "GET",
        "/v1/disputes",
        {**PAGE, "created": RANGE, "charge": TEXT, "payment_intent": TEXT},
        listing("dispute", "charge", "payment_intent"),
    ),
    Route(
        "GET",
        "/v1/radar/early_fraud_warnings",
        {**PAGE, "created": RANGE, "charge": TEXT, "payment_intent": TEXT},
        listing("radar.early_fraud_warning", "charge", "payment_intent"),
    ),
    Route(
        "GET",
        "/v1/radar/early_fraud_warnings/*",
        EXPAND,
        retrieve("radar.early_fraud_warning"),
    ),
    Route("GET", "/v1/disputes/*", EXPAND, retrieve("dispute")),
    Route("POST", "/v1/disputes/*", _UPDATE, update),
    Route("POST", "/v1/disputes/*/close", EXPAND, close),
)
