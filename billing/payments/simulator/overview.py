"""The simulator's front page: what is in it, and its clock."""

from __future__ import annotations

from html import escape

from billing.payments.simulator.pages import button, moment, money, page, table
from billing.payments.simulator.world import World

_SHOWN = 50


def html(world: World) -> str:
    """Return the newest customers, invoices and events, and buttons that move the clock."""
    store = world.store
    invoices = [
        [
            f'<a href="/invoices/{i["id"]}">{escape(i["number"] or i["id"])}</a>'
            if i["status"] != "draft"
            else escape(i["id"]),
            escape(i["customer_name"] or i["customer"]),
            escape(i["status"]),
            str(i["attempt_count"]),
            moment(i["next_payment_attempt"]),
            money(i["total"], i["currency"]),
        ]
        for i in store.some("invoice", owner=None, before=None, count=_SHOWN)
    ]
    customers = [
        [
            escape(c["id"]),
            escape(c["name"] or ""),
            escape(c["email"] or ""),
            "deleted" if c.get("deleted") else moment(c["created"]),
            escape(c["invoice_settings"]["default_payment_method"] or ""),
        ]
        for c in store.some("customer", owner=None, before=None, count=_SHOWN)
    ]
    events = [
        [
            escape(e["id"]),
            escape(e["type"]),
            escape(e["data"]["object"].get("id", "")),
            moment(e["created"]),
            "waiting" if e["pending_webhooks"] else "delivered or unwanted",
        ]
        for e in store.some("event", owner=None, before=None, count=_SHOWN)
    ]
    moves = " ".join(
        button("/_simulator/clock", label, advance=str(seconds))
        for label, seconds in (("1 hour", 3600), ("1 day", 86_400), ("30 days", 30 * 86_400))
    )
    amounts = ["Number", "Customer", "Status", "Attempts", "Next attempt", "Total"]
    return page(
        "Stripe simulator",
        f"<p>It is {moment(world.now())}. Let time pass: {moves}</p>"
        f"<h2>Invoices</h2>{table(amounts, invoices, amounts=(5,))}"
        "<h2>Customers</h2>"
        + table(["Id", "Name", "E-mail", "Created", "Default card"], customers)
        + "<h2>Events</h2>"
        + table(["Id", "Type", "Object", "Created", "Webhooks"], events),
        wide=True,
    )
