"""The parameters of write_batch.sql, from what a batch gathered."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from metering.domain.retention import horizon
from metering.gate.calls import Work
from metering.gate.rows import (
    Balance,
    EventRow,
    Grant,
    Member,
    Origin,
    array,
    columns,
    encode,
)


def parameters(
    works: Mapping[int, Work], *, catalogue: int, now: datetime
) -> tuple[dict[str, Any], frozenset[str], list[Origin]]:
    """Make the statement's parameters, and name the parts of it that they need.

    Rows are sorted by customer so that locks have one order. Origins come apart: most of them are
    there, and the store knows which.
    """
    ordered = [works[each] for each in sorted(works)]
    writers = [work for work in ordered if work.writes]
    readers = [work for work in ordered if not work.writes]
    seldom = [work.seldom for work in ordered if work.seldom is not None]
    balances = list(_balances(writers))
    pairs: dict[str, Sequence[tuple[int, object]]] = {
        "writers": [(work.account.customer_id, work.account.version) for work in writers],
        "readers": [(work.account.customer_id, work.account.version) for work in readers],
        "ids": [(work.account.customer_id, key) for work in ordered for key in work.new_ids],
    }
    rows: dict[str, Sequence[EventRow | Balance]] = {
        "balances": [row for row in balances if row.e is None],
        "new_balances": [row for row in balances if row.e is not None],
        "events": [row for work in writers for row in work.events],
    }
    lists: dict[str, Sequence[object]] = {
        "members": list(_members(writers)),
        "grants": list(_grants(writers)),
        "holds": [row for rare in seldom for row in rare.holds],
        "closings": [row for rare in seldom for row in rare.closings.values()],
        "denials": [rare.denials[key] for rare in seldom for key in sorted(rare.denials)],
        "deltas": list(_deltas(writers)),
    }
    today = now.date()
    made: dict[str, Any] = {
        "written": len(writers),
        "counted_customers": array([work.account.customer_id for work in writers if work.rollups]),
        "catalogue": catalogue,
        "now": now,
        "month": today.replace(day=1),
        "horizon": horizon(today),
    }
    origins = [
        Origin(work.account.customer_id, i, *origin)
        for work in writers
        for origin, i in work.origins.items()
    ]
    for name, pair in pairs.items():
        if pair:
            customers, others = zip(*pair, strict=True)
            made |= {f"{name}_c": array(customers), f"{name}_v": array(others)}
    for name, found in rows.items():
        made |= columns(name, found) if found else {}
    made |= {name: encode(found).decode() for name, found in lists.items() if found}
    parts = frozenset(name for name, found in (pairs | rows | lists).items() if found)
    return made, parts, origins


def _balances(writers: Iterable[Work]) -> Iterator[Balance]:
    """How balances change; those that have an end are new."""
    for work in writers:
        customer_id = work.account.customer_id
        for (meter_id, window, start_at), change in work.deltas.balances.items():
            yield Balance(
                customer_id,
                meter_id,
                window,
                start_at,
                change.used,
                change.grant_used,
                change.held,
                change.grant_held,
                None if change.stored else change.end_at,
                change.latest_at,
            )


def _members(writers: Iterable[Work]) -> Iterator[Member]:
    for work in writers:
        for (meter_id, window, start_at), names in work.deltas.members.items():
            for name in names:
                yield Member(work.account.customer_id, meter_id, window, start_at, name)


def _grants(writers: Iterable[Work]) -> Iterator[Grant]:
    for work in writers:
        for grant_id, (used, held) in work.deltas.grants.items():
            yield Grant(work.account.customer_id, grant_id, used, held)


def _deltas(writers: Iterable[Work]) -> Iterator[tuple[Any, ...]]:
    """What is to be rolled up, as UsageBatch has it."""
    for work in writers:
        customer_id = work.account.customer_id
        for (meter_id, start_s, _), found in work.rollups.items():
            first = customer_id, meter_id, start_s, found.dimensions, found.quantity, found.events
            if found.latest_us is not None or found.members is not None:
                yield *first, found.latest_us, found.members
            else:
                yield first
