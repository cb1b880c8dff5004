"""What a batch must read before it can be decided: copies that are missing, ids that were used."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from metering.gate.calls import Call, Check, Closing, Reported
from metering.gate.copies import Copies, names
from metering.gate.events import hold_key
from metering.gate.store import Found, Store
from metering.gate.wire import Problem


async def fill(batch: Sequence[Call], copies: Copies, store: Store, *, now: datetime) -> None:
    """Read the customers of a batch that are not in the copies, or not far enough back."""
    ids: set[int] = set()
    digests: set[bytes] = set()
    externals: set[str] = set()
    since = now
    for call in batch:
        reference = call.reference
        at = _earliest(call)
        account = copies.of(reference)
        # A name may have gone from the customer that it led to when last read to another one.
        known = account is not None and names(reference, account)
        covered = at is None or (
            account is not None
            and account.balances_since is not None
            and account.balances_since <= at
        )
        if known and covered:
            continue
        since = min(since, at or now)
        if reference.digest is not None:
            digests.add(reference.digest)
        if reference.external_id is not None:
            externals.add(reference.external_id)
        if reference.customer_id is not None:
            ids.add(reference.customer_id)
    if ids or digests or externals:
        for account in await store.read_accounts(
            ids=ids, digests=digests, externals=externals, since=since
        ):
            copies.keep(account)


async def look_up(
    batch: Sequence[Call], copies: Copies, store: Store, *, now: datetime
) -> dict[tuple[int, UUID], Found]:
    """Read what ids were used for: always of holds to be closed, else where a round was lost."""
    wanted: set[tuple[int, UUID]] = set()
    for call in batch:
        customer_id = copies.customer_of(call.reference)
        if customer_id is None:
            continue
        if isinstance(call, Closing):
            wanted.add((customer_id, call.key))
        elif isinstance(call, Check):
            if call.look_up and call.key is not None:
                wanted.add((customer_id, call.key))
        elif isinstance(call, Reported):
            wanted |= _ids_of_events(call, customer_id)
    return await store.read_ids(wanted, today=now.date()) if wanted else {}


def _earliest(call: Call) -> datetime | None:
    """The oldest moment that a call counts at, where it says one."""
    times: list[datetime | None] = []
    if isinstance(call, Check):
        times = [call.body.time]
    elif isinstance(call, Reported):
        times = [event.time for _, event, _ in call.events]
    aware = [time for time in times if time is not None and time.tzinfo is not None]
    return min(aware, default=None)


def _ids_of_events(call: Reported, customer_id: int) -> set[tuple[int, UUID]]:
    wanted: set[tuple[int, UUID]] = set()
    for _, event, key in call.events:
        if call.look_up:
            wanted.add((customer_id, key))
        hold = (event.data or {}).get("hold")
        if hold is not None:
            try:
                owner, held = hold_key(hold)
            except Problem:
                continue  # rejected when it is counted
            if owner == customer_id:
                wanted.add((customer_id, held))
    return wanted
