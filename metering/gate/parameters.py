"""The parameters of write_batch.sql, from what a batch gathered."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from msgspec.structs import astuple

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
    works: Mapping[int, Work], *, catalogue: int, now: datetime, apart: timedelta
) -> tuple[dict[str, Any], frozenset[str], list[Origin]]:
    """Make the statement's parameters, and name the parts of it that they need.

    Rows are sorted by customer so that locks have one order. Origins come apart: most of them are
    there, and the store knows which.
    """
    ordered = [works[each] for each in sorted(works)]
    writers: list[Work] = []
    readers: list[Work] = []
    for work in ordered:
        (writers if work.writes else readers).append(work)
    seldom = [work.seldom for work in ordered if work.seldom is not None]
    balances, new_balances = _balances(writers)
    pairs: dict[str, tuple[Sequence[int], Sequence[object]]] = {
        "writers": _versions(writers),
        "readers": _versions(readers),
        "ids": (
            [work.account.customer_id for work in ordered for _ in work.new_ids],
            [key for work in ordered for key in work.new_ids],
        ),
    }
    rows: dict[str, tuple[type[EventRow | Balance], Sequence[Sequence[object]]]] = {
        "balances": (Balance, balances),
        "new_balances": (Balance, new_balances),
        "events": (EventRow, [astuple(row) for work in writers for row in work.events]),
    }
    lists: dict[str, Sequence[object]] = {
        "members": list(_members(writers)),
        "grants": list(_grants(writers)),
        "holds": [row for rare in seldom for row in rare.holds],
        "closings": [row for rare in seldom for row in rare.closings.values()],
        "denials": [rare.denials[key] for rare in seldom for key in sorted(rare.denials)],
        "deltas": _deltas(writers),
    }
    today = now.date()
    made: dict[str, Any] = {
        "written": len(writers),
        "counted_customers": array([work.account.customer_id for work in writers if work.rollups]),
        "catalogue": catalogue,
        "now": now,
        "apart": apart,
        "month": today.replace(day=1),
        "horizon": horizon(today),
    }
    origins = [
        Origin(work.account.customer_id, i, *origin)
        for work in writers
        for origin, i in work.origins.items()
    ]
    for name, (customers, others) in pairs.items():
        if customers:
            made |= {f"{name}_c": array(customers), f"{name}_v": array(others)}
    for name, (kind, found) in rows.items():
        made |= columns(name, kind, found) if found else {}
    made |= {name: encode(listed).decode() for name, listed in lists.items() if listed}
    parts = [name for name, (customers, _) in pairs.items() if customers]
    parts += [name for name, (_, found) in rows.items() if found]
    parts += [name for name, listed in lists.items() if listed]
    return made, frozenset(parts), origins


def _versions(works: Iterable[Work]) -> tuple[list[int], list[int]]:
    """Customers, and the versions that they were decided on."""
    accounts = [work.account for work in works]
    return [each.customer_id for each in accounts], [each.version for each in accounts]


def _balances(
    writers: Iterable[Work],
) -> tuple[list[tuple[object, ...]], list[tuple[object, ...]]]:
    """What changes in balances that are stored, and what new ones are, as `Balance` has it."""
    stored: list[tuple[object, ...]] = []
    new: list[tuple[object, ...]] = []
    for work in writers:
        customer_id = work.account.customer_id
        for (meter_id, window, start_at), change in work.deltas.balances.items():
            row = (
                customer_id, meter_id, window, start_at,
                change.used, change.grant_used, change.held, change.grant_held,
            )  # fmt: skip
            if change.stored:
                stored.append((*row, None, change.latest_at))
            else:
                new.append((*row, change.end_at, change.latest_at))
    return stored, new


def _members(writers: Iterable[Work]) -> Iterator[Member]:
    for work in writers:
        for (meter_id, window, start_at), names in work.deltas.members.items():
            for name in names:
                yield Member(work.account.customer_id, meter_id, window, start_at, name)


def _grants(writers: Iterable[Work]) -> Iterator[Grant]:
    for work in writers:
        for grant_id, (used, held) in work.deltas.grants.items():
            yield Grant(work.account.customer_id, grant_id, used, held)


def _deltas(writers: Iterable[Work]) -> list[tuple[object, ...]]:
    """What is to be rolled up, as UsageBatch has it."""
    made: list[tuple[object, ...]] = []
    for work in writers:
        customer_id = work.account.customer_id
        for (meter_id, start_s, _), found in work.rollups.items():
            row = customer_id, meter_id, start_s, found.dimensions, found.quantity, found.events
            if found.latest_us is None and found.members is None:
                made.append(row)
            else:
                made.append((*row, found.latest_us, found.members))
    return made
