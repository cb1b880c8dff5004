"""The life of a subscription: its first invoice, its periods, its end."""

from __future__ import annotations

import calendar
from datetime import UTC, datetime, timedelta

from billing.payments.simulator import catalog, collection, drafts, lines, methods
from billing.payments.simulator.errors import CardRefused, bad_request
from billing.payments.simulator.forms import Json
from billing.payments.simulator.presenting import listed, present
from billing.payments.simulator.world import World, merged, new_id

_DAY = 86_400
_ENDED = ("canceled", "incomplete_expired")


def start(
    world: World,
    customer: Json,
    params: Json,
    *,
    method: Json | None = None,
    authenticated: bool = False,
) -> Json:
    """Store a subscription with its first invoice, charged to `method` or the default card."""
    now = world.now()
    trial_end = params.get("trial_end")
    if "trial_period_days" in params:
        trial_end = now + params["trial_period_days"] * _DAY
    subscription = _blank(world, customer, params, trial_end)
    subscription["_items"] = [new_item(world, subscription, sent) for sent in params["items"]]
    subscription["currency"] = subscription["_items"][0]["price"]["currency"]
    if any(not item["price"]["recurring"] for item in subscription["_items"]):
        message = "The price specified is set to `type=one_time` but this field only accepts "
        raise bad_request(message + "prices with `type=recurring`.", param="items[0][price]")
    set_period(subscription, now, trial_end or _later(subscription, now, now))
    apply(world, subscription, params)
    if method is not None:
        subscription["default_payment_method"] = method["id"]
    world.store.put(subscription)
    if not trial_end:
        incomplete = params.get("payment_behavior") == "default_incomplete"
        _bill(
            world,
            subscription,
            "subscription_create",
            wait=incomplete,
            authenticated=authenticated,
        )
    world.emit("customer.subscription.created", subscription)
    return subscription


def renew(world: World, subscription: Json) -> None:
    """Do what the end of a period asks for: end, or bill the next period."""
    if subscription["status"] in _ENDED:
        return
    ends = subscription["_due_at"]
    if subscription["cancel_at_period_end"]:
        end(world, subscription)
        return
    before = {"status": subscription["status"]}
    if subscription["status"] == "trialing":
        subscription["billing_cycle_anchor"] = ends
    set_period(subscription, ends, _later(subscription, subscription["billing_cycle_anchor"], ends))
    subscription["status"] = "active"
    _bill(world, subscription, "subscription_cycle")
    world.emit("customer.subscription.updated", subscription, before)


def end(world: World, subscription: Json) -> Json:
    """End a subscription now."""
    now = world.now()
    subscription |= {
        "status": "canceled",
        "canceled_at": subscription["canceled_at"] or now,
        "ended_at": now,
        "_due_at": None,
    }
    world.store.put(subscription)
    world.emit("customer.subscription.deleted", subscription)
    return subscription


def _bill(
    world: World,
    subscription: Json,
    reason: str,
    *,
    wait: bool = False,
    authenticated: bool = False,
) -> None:
    customer = world.find("customer", subscription["customer"])
    invoice = drafts.new_draft(
        world,
        customer,
        currency=subscription["currency"],
        reason=reason,
        subscription=subscription,
    )
    invoice["auto_advance"] = not wait
    invoice["collection_method"] = subscription["collection_method"]
    for item in subscription["_items"]:
        price = item["price"]
        place = {
            "amount": (price["unit_amount"] or 0) * item["quantity"],
            "currency": price["currency"],
            "description": f"{item['quantity']} x {price['nickname'] or price['product']}",
            "period": {
                "start": item["current_period_start"],
                "end": item["current_period_end"],
            },
        }
        lines.place_subscription_item(world, invoice, item, place)
    world.emit("invoice.created", invoice)
    collection.finalize(world, invoice)
    subscription["latest_invoice"] = invoice["id"]
    if invoice["status"] == "open" and not wait and invoice["_due_at"] is not None:
        try:
            collection.collect(world, invoice, None, authenticated=authenticated)
        except CardRefused:
            first = reason == "subscription_create"
            subscription["status"] = "incomplete" if first else "past_due"
    elif invoice["status"] == "open" and wait:
        subscription["status"] = "incomplete"
    world.store.put(subscription)


def _blank(world: World, customer: Json, params: Json, trial_end: int | None) -> Json:
    now = world.now()
    unset = (
        "application",
        "application_fee_percent",
        "billing_cycle_anchor_config",
        "billing_thresholds",
        "cancel_at",
        "canceled_at",
        "days_until_due",
        "default_payment_method",
        "default_source",
        "description",
        "ended_at",
        "latest_invoice",
        "next_pending_invoice_item_invoice",
        "on_behalf_of",
        "pause_collection",
        "pending_invoice_item_interval",
        "pending_setup_intent",
        "pending_update",
        "schedule",
        "test_clock",
        "transfer_data",
        "trial_settings",
    )
    mode = params.get("billing_mode", {}).get("type", "flexible")
    return {
        "id": new_id("sub"),
        "object": "subscription",
        **dict.fromkeys(unset),
        "automatic_tax": {"disabled_reason": None, "enabled": False, "liability": None},
        "billing_cycle_anchor": now,
        "billing_mode": {"flexible": None, "type": mode},
        "billing_schedules": [],
        "cancel_at_period_end": False,
        "cancellation_details": {"comment": None, "feedback": None, "reason": None},
        "collection_method": "charge_automatically",
        "created": now,
        "currency": "usd",
        "customer": customer["id"],
        "default_tax_rates": [],
        "discounts": [],
        "invoice_settings": {"account_tax_ids": None, "issuer": {"type": "self"}},
        "livemode": False,
        "metadata": {},
        "payment_settings": {
            "payment_method_options": None,
            "payment_method_types": None,
            "save_default_payment_method": "off",
        },
        "start_date": now,
        "status": "trialing" if trial_end else "active",
        "trial_end": trial_end,
        "trial_start": now if trial_end else None,
    }


def new_item(world: World, subscription: Json, sent: Json) -> Json:
    if sent.get("price"):
        price = world.find("price", sent["price"], param="items[0][price]")
    elif "price_data" in sent:
        price = catalog.inline_price(world, sent["price_data"])
    else:
        message = "Missing required param: items[0][price]."
        raise bad_request(message, code="parameter_missing", param="items[0][price]")
    return {
        "id": new_id("si", 14),
        "object": "subscription_item",
        "billing_thresholds": None,
        "created": world.now(),
        "current_period_end": 0,
        "current_period_start": 0,
        "discounts": [],
        "metadata": merged({}, sent.get("metadata")),
        "price": present(world.store, price),
        "quantity": sent.get("quantity", 1),
        "subscription": subscription["id"],
        "tax_rates": [],
    }


def set_period(subscription: Json, starts: int, ends: int) -> None:
    for item in subscription["_items"]:
        item |= {"current_period_start": starts, "current_period_end": ends}
    url = f"/v1/subscription_items?subscription={subscription['id']}"
    subscription["items"] = listed(subscription["_items"], url)
    subscription["_due_at"] = ends


def _later(subscription: Json, anchor: int, after: int) -> int:
    """Return the first period end after `after`, counted from the anchor so month ends stay."""
    recurring = subscription["_items"][0]["price"]["recurring"]
    interval, count = recurring["interval"], recurring["interval_count"]
    start = datetime.fromtimestamp(anchor, UTC)
    if interval in ("day", "week"):
        length = timedelta(days=count * (7 if interval == "week" else 1))
        periods = int((datetime.fromtimestamp(after, UTC) - start) / length) + 1
        return int((start + periods * length).timestamp())
    months = count * (12 if interval == "year" else 1)
    periods = 1
    while (when := _add_months(start, periods * months)) <= after:
        periods += 1
    return when


def _add_months(start: datetime, months: int) -> int:
    year, month = divmod(start.year * 12 + start.month - 1 + months, 12)
    day = min(start.day, calendar.monthrange(year, month + 1)[1])
    return int(start.replace(year=year, month=month + 1, day=day).timestamp())


def apply(world: World, subscription: Json, params: Json) -> None:
    """Set what create and update have in common; items stay as they are."""
    for name, value in params.items():
        match name:
            case "metadata":
                subscription["metadata"] = merged(subscription["metadata"], value)
            case "default_payment_method" if value:
                method = methods.owned(world, value, subscription["customer"])
                subscription[name] = method["id"]
            case "cancel_at_period_end":
                ends = subscription["items"]["data"][0]["current_period_end"]
                subscription |= {
                    "cancel_at_period_end": value,
                    "cancel_at": ends if value else None,
                    "canceled_at": world.now() if value else None,
                }
            case "collection_method" | "days_until_due" | "description":
                subscription[name] = value
            case _:
                pass
