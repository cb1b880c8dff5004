"""Billing portal sessions: a page where a customer looks after cards, invoices, subscriptions."""

from __future__ import annotations

from billing.payments.simulator import customers, setups, subscriptions
from billing.payments.simulator.calls import Call, Route
from billing.payments.simulator.errors import bad_request, wrong_state
from billing.payments.simulator.forms import Json
from billing.payments.simulator.presenting import present
from billing.payments.simulator.shapes import EXPAND, FLAG, TEXT, Nested, Required, Shape, choice
from billing.payments.simulator.world import World, new_id

_FLOW = Nested(
    {
        "type": Required(choice("payment_method_update", "subscription_cancel")),
        "after_completion": Nested(
            {
                "type": Required(choice("hosted_confirmation", "portal_homepage", "redirect")),
                "redirect": Nested({"return_url": Required(TEXT)}),
                "hosted_confirmation": Nested({"custom_message": TEXT}),
            }
        ),
        "subscription_cancel": Nested({"subscription": Required(TEXT)}),
    }
)
_CREATE: Shape = {
    **EXPAND,
    "configuration": TEXT,
    "customer": Required(TEXT),
    "flow_data": _FLOW,
    "locale": TEXT,
    "return_url": TEXT,
}


def create(world: World, call: Call) -> Json:
    """Open a portal session; `url` is the page to send the customer to."""
    params = call.params
    customer = world.find("customer", params["customer"], param="customer")
    identifier = new_id("bps")
    session: Json = {
        "id": identifier,
        "object": "billing_portal.session",
        "configuration": params.get("configuration") or "bpc_simulator",
        "created": world.now(),
        "customer": customer["id"],
        "flow": _flow(params.get("flow_data")),
        "livemode": False,
        "locale": params.get("locale") or None,
        "on_behalf_of": None,
        "return_url": params.get("return_url") or None,
        "url": f"{world.public_url}/portal/{identifier}",
    }
    world.store.put(session)
    return present(world.store, session)


def add_card(world: World, session: Json, method: Json, *, authenticated: bool) -> str | None:
    """Save a card and make it the default; return where the flow wants the customer to go."""
    setup = _setup(world, session)
    setups.save_card(world, setup, method, authenticated=authenticated)
    customers.set_default_method(world, session["customer"], method["id"])
    return after_flow(session, "payment_method_update")


def cancel_subscription(world: World, session: Json, identifier: str) -> None:
    """Let a subscription of the session's customer end with its period."""
    subscription = world.find("subscription", identifier)
    if subscription["customer"] != session["customer"]:
        raise wrong_state("This subscription belongs to somebody else.")
    call = Call(path="", ids=(identifier,), params={"cancel_at_period_end": True})
    subscriptions.update(world, call)


def after_flow(session: Json, kind: str) -> str | None:
    """Return the redirect that a deep-linked flow ends with, if it has one."""
    flow = session["flow"]
    if flow is None or flow["type"] != kind:
        return None
    if flow["after_completion"]["type"] == "redirect":
        return str(flow["after_completion"]["redirect"]["return_url"])
    return None


def _setup(world: World, session: Json) -> Json:
    open_one = world.store.get(session.get("_setup", ""))
    if open_one is not None and open_one["status"] != "succeeded":
        return open_one
    setup = setups.new_setup(world, customer=session["customer"])
    session["_setup"] = setup["id"]
    world.store.put(session)
    return setup


def _flow(sent: Json | None) -> Json | None:
    if sent is None:
        return None
    after = sent.get("after_completion", {"type": "portal_homepage"})
    if after["type"] == "redirect" and "redirect" not in after:
        name = "flow_data[after_completion][redirect]"
        raise bad_request(f"Missing required param: {name}.", code="parameter_missing", param=name)
    cancel = sent.get("subscription_cancel")
    return {
        "type": sent["type"],
        "after_completion": {
            "hosted_confirmation": after.get("hosted_confirmation"),
            "redirect": after.get("redirect"),
            "type": after["type"],
        },
        "subscription_cancel": cancel and {**cancel, "retention": None},
        "subscription_update": None,
        "subscription_update_confirm": None,
    }


def create_configuration(world: World, call: Call) -> Json:
    """Create a portal configuration; what its features say is stored, the page shows them all."""
    now = world.now()
    features = call.params["features"]
    enabled = {
        name: {"enabled": features.get(name, {}).get("enabled", False)} for name in _FEATURES
    }
    configuration: Json = {
        "id": new_id("bpc"),
        "object": "billing_portal.configuration",
        "active": True,
        "application": None,
        "business_profile": {
            "headline": call.params.get("business_profile", {}).get("headline"),
            "privacy_policy_url": None,
            "terms_of_service_url": None,
        },
        "created": now,
        "default_return_url": call.params.get("default_return_url"),
        "features": {
            **enabled,
            "customer_update": {**enabled["customer_update"], "allowed_updates": []},
            "payment_method_update": {
                **enabled["payment_method_update"],
                "payment_method_configuration": None,
            },
            "subscription_cancel": {
                **enabled["subscription_cancel"],
                "cancellation_reason": {"enabled": False, "options": []},
                "mode": "at_period_end",
                "proration_behavior": "none",
            },
            "subscription_update": {
                **enabled["subscription_update"],
                "billing_cycle_anchor": None,
                "default_allowed_updates": [],
                "proration_behavior": "none",
                "schedule_at_period_end": {"conditions": []},
                "trial_update_behavior": "end_trial",
            },
        },
        "is_default": False,
        "livemode": False,
        "login_page": {"enabled": False, "url": None},
        "metadata": {},
        "name": None,
        "updated": now,
    }
    return present(world.store, world.store.put(configuration))


_FEATURES = (
    "customer_update",
    "invoice_history",
    "payment_method_update",
    "subscription_cancel",
    "subscription_update",
)
_FEATURE = Nested({"enabled": Required(FLAG)})
_CONFIGURATION: Shape = {
    **EXPAND,
    "business_profile": Nested({"headline": TEXT}),
    "default_return_url": TEXT,
    "features": Required(Nested(dict.fromkeys(_FEATURES, _FEATURE))),
}
ROUTES = (
    Route("POST", "/v1/billing_portal/sessions", _CREATE, create),
    Route("POST", "/v1/billing_portal/configurations", _CONFIGURATION, create_configuration),
)
