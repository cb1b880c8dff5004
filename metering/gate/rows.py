"""The parameters of write_batch.sql, from what a batch gathered."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from metering.gate.answers import encode
from metering.gate.calls import Work
from metering.gate.store import horizon


def parameters(works: Iterable[Work], *, catalogue: int, now: datetime) -> dict[str, Any]:
    """Make the statement's parameters; rows are sorted by customer so that locks have one order."""
    rows: dict[str, list[Any]] = {
        name: []
        for name in (
            "customers", "ids", "balances", "new_balances", "grants", "events", "holds",
            "closings", "denials", "deltas",
        )
    }  # fmt: skip
    for work in sorted(works, key=lambda each: each.account.customer_id):
        customer_id = work.account.customer_id
        rows["customers"].append(
            {"customer_id": customer_id, "version": work.account.version, "writes": work.writes}
        )
        rows["ids"] += [{"customer_id": customer_id, "id": key} for key in work.new_ids]
        for (meter_id, window, start_at), change in work.deltas.balances.items():
            rows["balances" if change.stored else "new_balances"].append(
                {
                    "customer_id": customer_id,
                    "meter_id": meter_id,
                    "window": window,
                    "start_at": start_at,
                    "end_at": change.end_at,
                    "used": change.used,
                    "grant_used": change.grant_used,
                    "held": change.held,
                    "grant_held": change.grant_held,
                }
            )
        rows["grants"] += [
            {"customer_id": customer_id, "id": grant_id, "used": used, "held": held}
            for grant_id, (used, held) in work.deltas.grants.items()
        ]
        rows["events"] += work.events
        rows["holds"] += work.holds
        rows["closings"] += work.closings.values()
        rows["denials"] += [work.denials[key] for key in sorted(work.denials)]
        rows["deltas"] += [
            {
                "customer_id": customer_id,
                "meter_id": meter_id,
                "start_s": start_s,
                "dimensions": dimensions,
                "quantity": quantity,
                "events": events,
            }
            for (meter_id, start_s, _), (dimensions, quantity, events) in work.rollups.items()
        ]
    encoded: dict[str, Any] = {name: encode(each).decode() for name, each in rows.items()}
    today = now.date()
    return encoded | {
        "catalogue": catalogue,
        "now": now,
        "month": today.replace(day=1),
        "horizon": horizon(today),
    }
