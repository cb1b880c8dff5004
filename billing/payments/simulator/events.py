"""Events: immutable snapshots of what happened, queued for every endpoint that wants them."""

from __future__ import annotations

import secrets
import time

from billing.payments.simulator.forms import Json
from billing.payments.simulator.presenting import present
from billing.payments.simulator.store import Store


def announce(
    store: Store,
    *,
    kind: str,
    obj: Json,
    previous: Json | None,
    now: int,
    api_version: str,
    request: Json,
) -> Json:
    """Store one event about `obj` as it is now and queue one delivery per endpoint."""
    data: Json = {"object": present(store, obj)}
    if previous is not None:
        data["previous_attributes"] = previous
    wanted = [e for e in store.all("webhook_endpoint") if _wants(e, kind)]
    event: Json = {
        "id": "evt_" + secrets.token_hex(12),
        "object": "event",
        "api_version": api_version,
        "created": now,
        "data": data,
        "livemode": False,
        "pending_webhooks": len(wanted),
        "request": request,
        "type": kind,
    }
    store.put(event)
    for endpoint in wanted:
        queue(store, event=event["id"], endpoint=endpoint["id"])
    return event


def queue(store: Store, *, event: str, endpoint: str) -> None:
    """Have `event` delivered to `endpoint` as soon as somebody wakes the courier."""
    store.run(
        "insert into delivery (event, endpoint, next_at) values (?, ?, ?)",
        event,
        endpoint,
        time.time(),
    )


def _wants(endpoint: Json, kind: str) -> bool:
    enabled = endpoint["enabled_events"]
    return endpoint["status"] == "enabled" and ("*" in enabled or kind in enabled)
