"""Stripe Tax, in so far as it can be tried here: one plain rate for whoever has an address."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal

from billing.payments.simulator import account
from billing.payments.simulator.calls import Call, Route, page
from billing.payments.simulator.errors import bad_request, no_such
from billing.payments.simulator.forms import Json
from billing.payments.simulator.shapes import EXPAND, PAGE, TEXT, Required
from billing.payments.simulator.world import World, new_id

PERCENT = 20
_REASONS = {"exempt": "customer_exempt", "reverse": "reverse_charge"}


def ask(world: World, invoice: Json, *, enabled: bool) -> None:
    """Have tax computed for a draft, or not; refused where the account has no tax settings."""
    if enabled and account.tax_settings(world)["status"] != "active":
        message = "You must have a valid head office address to enable automatic tax calculation."
        raise bad_request(message, param="automatic_tax[enabled]")
    invoice["automatic_tax"] = {**invoice["automatic_tax"], "enabled": enabled}


def compute(world: World, invoice: Json, lines: Sequence[Json]) -> tuple[int, int]:
    """Bring the tax of a draft in step with its lines; what is added, and what is included."""
    asked = invoice["automatic_tax"]
    if not asked["enabled"]:
        return 0, 0
    if any(line["amount"] < 0 for line in lines):
        raise bad_request("Negative amounts cannot be added to automatic tax invoices.")
    customer = world.find("customer", invoice["customer"])
    known = bool((customer["address"] or {}).get("country"))
    asked |= {"status": "complete" if known else "requires_location_inputs", "provider": "stripe"}
    invoice["total_taxes"] = []
    if not known:
        return 0, 0
    taxable: Counter[str] = Counter()
    for line in lines:
        taxable[_behavior(world, line)] += line["amount"]
    sums: Counter[str] = Counter()
    exempt = customer["tax_exempt"]
    for behavior, amount in sorted(taxable.items()):
        whole = 100 if behavior == "exclusive" else 100 + PERCENT
        rate = 0 if exempt in _REASONS else PERCENT
        tax = int((Decimal(amount) * rate / whole).to_integral_value(ROUND_HALF_UP))
        sums[behavior] += tax
        invoice["total_taxes"].append(
            {
                "amount": tax,
                "tax_behavior": behavior,
                "tax_rate_details": None,
                "taxability_reason": _REASONS.get(exempt, "standard_rated"),
                "taxable_amount": amount - (tax if behavior == "inclusive" else 0),
                "type": "tax_rate_details",
            }
        )
    return sums["exclusive"], sums["inclusive"]


def require_location(invoice: Json, customer: Json) -> None:
    """Refuse to finalize what cannot be taxed."""
    if invoice["automatic_tax"]["enabled"] and not (customer["address"] or {}).get("country"):
        raise bad_request(
            "The customer's location isn't recognized. Set a valid customer address in order to "
            "automatically calculate tax.",
            code="customer_tax_location_invalid",
        )


def _behavior(world: World, line: Json) -> str:
    details = (line["pricing"] or {}).get("price_details")
    said = world.find("price", details["price"])["tax_behavior"] if details else "unspecified"
    if said == "unspecified":
        said = account.tax_settings(world)["defaults"]["tax_behavior"]
    return str(said or "exclusive")


def add_tax_id(world: World, call: Call) -> Json:
    """Keep a tax id of a customer."""
    customer = world.find("customer", call.id)
    if len(call.params["value"]) < 4:
        raise bad_request("Invalid value for tax id.", code="tax_id_invalid", param="value")
    return world.store.put(
        {
            "id": new_id("txi"),
            "object": "tax_id",
            "country": None,
            "created": world.now(),
            "customer": customer["id"],
            "livemode": False,
            "owner": {"type": "customer", "customer": customer["id"]},
            "type": call.params["type"],
            "value": call.params["value"],
            "verification": None,
        },
    )


def list_tax_ids(world: World, call: Call) -> Json:
    """List a customer's tax ids."""
    return page(world, call, "tax_id", owner=call.id)


def delete_tax_id(world: World, call: Call) -> Json:
    """Remove a tax id."""
    found = world.find("tax_id", call.ids[1])
    if found["customer"] != call.id:
        raise no_such("tax_id", found["id"])
    world.store.remove(found["id"])
    return {"id": found["id"], "object": "tax_id", "deleted": True}


ROUTES = (
    Route(
        "POST",
        "/v1/customers/*/tax_ids",
        {**EXPAND, "type": Required(TEXT), "value": Required(TEXT)},
        add_tax_id,
    ),
    Route("GET", "/v1/customers/*/tax_ids", PAGE, list_tax_ids),
    Route("DELETE", "/v1/customers/*/tax_ids/*", {}, delete_tax_id),
)
