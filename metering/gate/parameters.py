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
    Id,
    Member,
    Origin,
    Proposal,
    encode,
    horizon,
)

PARTS = (
    "balances", "new_balances", "members", "grants", "events", "holds", "closings", "denials",
    "deltas",
)  # fmt: skip  # of write_batch.sql


class _Rows:
    """The rows of a batch, by the part of the statement that takes them."""

    def __init__(self) -> None:
        self.proposals: list[Proposal] = []
        self.ids: list[Id] = []
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
        self.counted: list[str] = []
        self.writers = 0

    def add(self, work: Work) -> None:
        """Add what one customer's calls change."""
        customer_id, writes = work.account.customer_id, work.writes
        self.proposals.append(Proposal(customer_id, work.account.version, writes))
        for key in work.new_ids:
            self.ids.append(Id(customer_id, key))
        if work.denials:
            self.denials += [work.denials[key] for key in sorted(work.denials)]
        if not writes:
            return
        self.writers += 1
        self.origins += [Origin(customer_id, i, *key) for key, i in work.origins.items()]
        self.events += work.events
        self.holds += work.holds
        self.closings += work.closings.values()
        deltas = work.deltas
        for grant_id, (used, held) in deltas.grants.items():
            self.grants.append(Grant(customer_id, grant_id, used, held))
        for (meter_id, window, start_at), names in deltas.members.items():
            self.members += [Member(customer_id, meter_id, window, start_at, n) for n in names]
        self._add_balances(customer_id, deltas)
        self._add_buckets(customer_id, work)

    def _add_balances(self, customer_id: int, deltas: Deltas) -> None:
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
                l=change.latest_at,
            )
            if change.stored:
                self.balances.append(row)
            else:
                row.e = change.end_at
                self.new_balances.append(row)

    def _add_buckets(self, customer_id: int, work: Work) -> None:
        if work.rollups:
            self.counted.append(str(customer_id))
        for (meter_id, start_s, _), bucket in work.rollups.items():
            delta: tuple[Any, ...] = (
                *(customer_id, meter_id, start_s),
                *(bucket.dimensions, bucket.quantity, bucket.events),
            )
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
        "customers": encode(rows.proposals).decode(),
        "ids": encode(rows.ids).decode(),
        "writers": rows.writers,
        "counted_customers": f"{{{','.join(rows.counted)}}}",
        "catalogue": catalogue,
        "now": now,
        "month": today.replace(day=1),
        "horizon": horizon(today),
    }
    needed = {name: encode(found).decode() for name in PARTS if (found := getattr(rows, name))}
    return made | needed, frozenset(needed), rows.origins


def _customer(work: Work) -> int:
    return work.account.customer_id
