"""How stored objects look outside: private fields gone, lists filled, ids expanded."""

from __future__ import annotations

from typing import Any

from billing.payments.simulator.errors import bad_request
from billing.payments.simulator.forms import Json
from billing.payments.simulator.store import Store

_LINES_SHOWN = 10


def present(store: Store, obj: Json) -> Json:
    """Return a stored object as the API shows it."""
    if obj.get("deleted"):
        return {"id": obj["id"], "object": obj["object"], "deleted": True}
    shown = {name: value for name, value in obj.items() if not name.startswith("_")}
    if obj["object"] == "invoice":
        lines = list(reversed(store.all("line_item", owner=obj["id"])))
        shown["lines"] = listed(lines[:_LINES_SHOWN], f"/v1/invoices/{obj['id']}/lines")
        shown["lines"]["has_more"] = len(lines) > _LINES_SHOWN
        shown["lines"]["total_count"] = len(lines)
    return shown


def listed(objects: list[Json], url: str) -> Json:
    """Wrap objects as one complete list."""
    return {"object": "list", "data": objects, "has_more": False, "url": url}


def expand(store: Store, body: Json, paths: list[str]) -> Json:
    """Replace the ids at `paths` (`customer`, `data.customer`, `payments`) by their objects."""
    for path in paths:
        if path.count(".") > 4:
            raise bad_request("You cannot expand more than 4 levels.", param="expand")
        _expand(store, body, path.split("."), path)
    return body


def _expand(store: Store, here: Any, steps: list[str], path: str) -> None:
    if isinstance(here, list):
        for item in here:
            _expand(store, item, steps, path)
        return
    if not isinstance(here, dict) or not steps:
        return
    name, *rest = steps
    if name not in here:
        filled = _hidden_list(store, here, name)
        if filled is None:
            raise bad_request(f"This property cannot be expanded ({path}).", param="expand")
        here[name] = filled
    value = here[name]
    if isinstance(value, str):
        found = store.get(value)
        if found is not None:
            here[name] = present(store, found)
    _expand(store, here[name], rest, path)


def _hidden_list(store: Store, obj: Json, name: str) -> Json | None:
    match obj.get("object"), name:
        case "invoice", "payments":
            payments = store.all("invoice_payment", owner=obj["id"])
            return listed([present(store, p) for p in payments], "/v1/invoice_payments")
        case "checkout.session", "line_items":
            stored = store.get(obj["id"]) or {}
            url = f"/v1/checkout/sessions/{obj['id']}/line_items"
            return listed(stored.get("_line_items", []), url)
        case "charge", "refunds":
            refunds = [r for r in store.all("refund") if r["charge"] == obj["id"]]
            return listed(refunds, f"/v1/charges/{obj['id']}/refunds")
        case _:
            return None
