"""The parameters of write_batch.sql, from what a batch gathered."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from metering.domain.burndown import Deltas
from metering.gate.calls import Work
from metering.gate.rows import (
    Balance,
    ClosingRow,
    DenialRow,
    EventRow,
    Grant,
    HoldRow,
    Member,
    Origin,
    array,
    columns,
    encode,
    horizon,
)

# The parts of write_batch.sql: rows that go as arrays, and as JSON lists.
COLUMNS = ("balances", "new_balances", "events")
LISTS = ("members", "grants", "holds", "closings", "denials", "deltas")


class _Rows:
    """The rows of a batch, by the part of the statement that takes them."""

    def __init__(self) -> None:
        self.customers: list[int] = []
        self.versions: list[int] = []
        self.written: list[bool] = []
        self.ids: list[str] = []
        self.owners: list[int] = []  # of these ids
        self.balances: list[Balance] = []
        self.new_balances: list[Balance] = []
        self.members: list[Member] = []
        self.grants: list[Grant] = []
        self.origins: list[Origin] = []
        self.events: list[EventRow] = []
        self.holds: list[HoldRow] = []
        self.closings: list[ClosingRow] = []
        self.denials: list[DenialRow] = []
        self.deltas: list[tuple[Any, ...]] = []
        self.counted: list[int] = []

    def add(self, work: Work) -> None:
        """Add what one customer's calls change."""
        customer_id, writes = work.account.customer_id, work.writes
        self.customers.append(customer_id)
        self.versions.append(work.account.version)
        self.written.append(writes)
        for key in work.new_ids:
            self.ids.append(key)
            self.owners.append(customer_id)
        if work.denials:
            self.denials += [work.denials[key] for key in sorted(work.denials)]
        if not writes:
            return
        for origin, i in work.origins.items():
            self.origins.append(Origin(customer_id, i, *origin))
        self.events += work.events
        if work.closings or work.holds:
            self.holds += work.holds
            self.closings += work.closings.values()
        self._add_deltas(customer_id, work.deltas)
        if work.rollups:
            self._add_buckets(customer_id, work)

    def _add_deltas(self, customer_id: int, deltas: Deltas) -> None:
        for (meter_id, window, start_at), change in deltas.balances.items():
            row = Balance(
                customer_id,
                meter_id,
                window,
                start_at,
                change.used,
                change.grant_used,
                change.held,
                change.grant_held,
                None,
                change.latest_at,
            )
            if change.stored:
                self.balances.append(row)
            else:
                row.e = change.end_at
                self.new_balances.append(row)
        if deltas.grants or deltas.members:
            for grant_id, (used, held) in deltas.grants.items():
                self.grants.append(Grant(customer_id, grant_id, used, held))
            for (meter_id, window, start_at), names in deltas.members.items():
                self.members += [Member(customer_id, meter_id, window, start_at, n) for n in names]

    def _add_buckets(self, customer_id: int, work: Work) -> None:
        self.counted.append(customer_id)
        for (meter_id, start_s, _), bucket in work.rollups.items():
            delta: tuple[Any, ...] = (
                customer_id, meter_id, start_s, bucket.dimensions, bucket.quantity, bucket.events,
            )  # fmt: skip
            if bucket.latest_us is not None or bucket.members is not None:
                delta += (bucket.latest_us, bucket.members)
            self.deltas.append(delta)


def parameters(
    works: Iterable[Work], *, catalogue: int, now: datetime
) -> tuple[dict[str, Any], frozenset[str], list[Origin]]:
    """Make the statement's parameters, and name the parts of it that they need.

    Rows are sorted by customer so that locks have one order. Origins come apart: most of them are
    there, and the store knows which.
    """
    rows = _Rows()
    for work in sorted(works, key=_customer):
        rows.add(work)
    today = now.date()
    made: dict[str, Any] = {
        "customers_c": array(rows.customers),
        "customers_v": array(rows.versions),
        "customers_w": array(rows.written),
        "ids_c": array(rows.owners),
        "ids_i": array(rows.ids),
        "writers": sum(rows.written),
        "counted_customers": array(rows.counted),
        "catalogue": catalogue,
        "now": now,
        "month": today.replace(day=1),
        "horizon": horizon(today),
    }
    parts = {name for name in (*COLUMNS, *LISTS) if getattr(rows, name)}
    for name in parts:
        found = getattr(rows, name)
        made |= columns(name, found) if name in COLUMNS else {name: encode(found).decode()}
    return made, frozenset(parts), rows.origins


def _customer(work: Work) -> int:
    return work.account.customer_id
