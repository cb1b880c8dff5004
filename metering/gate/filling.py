"""What a batch must read before it can be decided: copies that are missing, ids that were used."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from metering.domain.meters import Aggregation, QuantityInvalid, counted_of
from metering.gate.calls import Call, Check, Closing, Reference, Reported
from metering.gate.catalogue import Catalogue
from metering.gate.copied import Found
from metering.gate.copies import Copies
from metering.gate.items import Bounds
from metering.gate.rows import Member
from metering.gate.settling import hold_named
from metering.gate.store import Store
from metering.gate.wire import Problem


async def fill(
    batch: Sequence[Call], copies: Copies, store: Store, *, now: datetime, bounds: Bounds
) -> set[Reference]:
    """Read the customers of a batch that are not in the copies, or not far enough back.

    Each call's `copy` is the one from before the reading. Returns the references that lead to
    nobody. That cannot be told from the copies afterwards: another flight may have cleared them
    meanwhile.
    """
    asked: set[Reference] = set()
    ids: set[int] = set()
    digests: set[bytes] = set()
    externals: set[str] = set()
    since, oldest = now, now - bounds.max_age
    for call in batch:
        reference = call.reference
        account = call.copy = copies.named(reference)
        if isinstance(call, Reported):
            at = None if call.plain else _earliest(call, oldest)
        elif not isinstance(call, Check) or call.body.time is not None:
            at = _earliest(call, oldest)
        else:
            at = None
        if account is not None and (
            at is None or (account.balances_since is not None and account.balances_since <= at)
        ):
            continue
        asked.add(reference)
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
    return {each for each in asked if copies.named(each) is None}


async def look_up(
    batch: Sequence[Call], copies: Copies, store: Store, *, now: datetime
) -> dict[tuple[int, str], Found]:
    """Read what ids were used for: of holds that are not known, else where a round was lost."""
    wanted: set[tuple[int, str]] = set()
    for call in batch:
        names_no_hold = call.plain if isinstance(call, Reported) else isinstance(call, Check)
        if names_no_hold and not call.look_up:
            continue
        customer_id = copies.customer_of(call.reference)
        if customer_id is None:
            continue
        if isinstance(call, Closing):
            account = copies.of(call.reference)
            if call.look_up or account is None or call.key not in account.holds:
                wanted.add((customer_id, call.key))
        elif isinstance(call, Check):
            if call.key is not None:
                wanted.add((customer_id, call.key))
        elif isinstance(call, Reported):
            wanted |= _ids_of_events(call, customer_id)
    return await store.read_ids(wanted, today=now.date()) if wanted else {}


def _earliest(call: Call, oldest: datetime) -> datetime | None:
    """The oldest moment that a call counts at, where it says one; what is older is refused."""
    times: list[datetime | None] = []
    if isinstance(call, Check):
        times = [call.body.time]
    elif isinstance(call, Reported):
        times = [event.time for _, event, _ in call.events]
    aware = [time for time in times if time is not None and time.tzinfo is not None]
    return max(min(aware), oldest) if aware else None


def _ids_of_events(call: Reported, customer_id: int) -> set[tuple[int, str]]:
    wanted: set[tuple[int, str]] = set()
    for _, event, key in call.events:
        if call.look_up:
            wanted.add((customer_id, key))
        try:
            named = hold_named(event.data or {}, of=customer_id)
        except Problem:
            continue  # rejected when it is counted
        if named is not None:
            wanted.add((customer_id, named))
    return wanted


async def look_for_members(
    batch: Sequence[Call],
    copies: Copies,
    store: Store,
    *,
    catalogue: Catalogue,
    now: datetime,
    bounds: Bounds,
) -> None:
    """Read which members of unique meters were seen before, of those that the batch counts.

    Afterwards what is not in the `members` of the copy that a call was `looked_up_in` was not seen
    in its window.
    """
    wanted: list[Member] = []
    for call in batch:
        account = call.looked_up_in = copies.named(call.reference)
        if account is None:
            continue
        for meter_id, member, at in _members(call, catalogue, now=now, bounds=bounds):
            for terms in account.terms.get(meter_id, ()):
                start_at, _ = account.window(terms, at=at)
                if member not in account.members.get((meter_id, terms.window, start_at), ()):
                    wanted.append(
                        Member(account.customer_id, meter_id, terms.window, start_at, member)
                    )
    if not wanted:
        return
    for customer_id, key, member in await store.read_members(wanted):
        account = copies.of(Reference(customer_id=customer_id))
        if account is not None:
            account.members.setdefault(key, set()).add(member)


def _members(
    call: Call, catalogue: Catalogue, *, now: datetime, bounds: Bounds
) -> Iterator[tuple[int, str, datetime]]:
    """The members that a call counts, with their meter and moment."""
    if isinstance(call, Check):
        asked = [catalogue.meters.get(each.meter) for each in call.asked]
        said = [(call.body.properties or {}, call.body.time or now, asked)]
    elif isinstance(call, Reported):
        said = [
            (event.data or {}, event.time or now, [*catalogue.meters_by_type.get(event.type, ())])
            for _, event, _ in call.events
        ]
    else:
        return
    for properties, at, meters in said:
        if at.tzinfo is None or not now - bounds.max_age <= at <= now + bounds.max_ahead:
            continue  # refused when it is decided
        for meter in meters:
            if meter is None or meter.aggregation is not Aggregation.UNIQUE:
                continue
            try:
                member = counted_of(catalogue.meter_at(meter.id, at), properties, at=at)
            except QuantityInvalid:
                continue  # likewise
            yield meter.id, str(member), at
