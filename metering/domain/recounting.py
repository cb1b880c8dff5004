"""Counting an event differently after the fact: what was taken is given back, then taken anew.

What a grant had paid returns to that grant, in the window where it was paid; what the event counts
as now is burned in the order that holds for every call, at the moment at which it happened. What
other events were paid by stays as it is.

Where a meter does not add up, an event alone does not say what it takes away: its window is counted
anew from the events in force, and `share_out` says what grants pay of it then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

from metering.domain.account import Account, BalanceKey
from metering.domain.aggregates import Counted
from metering.domain.burndown import Deltas, take
from metering.domain.meters import Aggregation
from metering.domain.readings import Reading, take_reading
from metering.domain.windows import RATE_UNITS

Usage = Mapping[str, Counted]  # "<meter id>" -> what it counts as, as events keep it
PaidBy = Mapping[str, Mapping[str, Any]]  # "<meter id>" -> allocation, where grants paid


class Recounted(NamedTuple):
    """Who pays now, and the meters whose windows must be counted anew from their events."""

    paid_by: dict[str, Any] | None
    anew: list[int]


def recount(
    account: Account,
    deltas: Deltas,
    *,
    at: datetime,
    before: Usage,
    paid_by: PaidBy | None,
    after: Usage,
    kinds: Mapping[int, Aggregation],
) -> Recounted:
    """Let an event of the moment `at` count as `after` instead of `before`.

    The copy and `deltas` change alike. A meter whose quantity stays keeps what paid for it. `kinds`
    are the aggregations of the meters; what a reading that goes had burned stays with the event
    until its window is counted.
    """
    paid: dict[str, Any] = {}
    anew = []
    for key in sorted({*before, *after}, key=int):
        meter_id, earlier = int(key), (paid_by or {}).get(key)
        stays = key in before and key in after and before[key] == after[key]
        if not stays and kinds[meter_id].adds_up:
            earlier = _take_anew(account, deltas, meter_id, at, before.get(key), earlier, after)
        elif not stays and key in before:
            anew.append(meter_id)
        elif not stays:
            reading = Reading(kinds[meter_id], after[key])
            earlier = take_reading(account, deltas, meter_id=meter_id, reading=reading, at=at)
        if earlier is not None and "grants" in earlier:
            paid[key] = earlier
    return Recounted(paid or None, anew)


def give_back_grants(
    account: Account,
    deltas: Deltas,
    *,
    meter_id: int,
    allocation: Mapping[str, Any],
    at: datetime,
) -> None:
    """Return what an event of that moment had burned, in the windows where that was written."""
    burned: Mapping[str, int] = allocation["grants"]
    for grant_id, quantity in burned.items():
        deltas.grant(int(grant_id))[0] -= quantity
        for grant in account.grants.get(meter_id, ()):
            if grant.id == int(grant_id):
                grant.used -= quantity
    rest = sum(burned.values())
    for key in _windows_of(account, meter_id=meter_id, allocation=allocation, at=at):
        # A window of an earlier plan may not be in the copy; its row is stored, and has it all.
        balance = account.balances.get(key)
        part = rest if balance is None else min(rest, balance.grant_used)
        rest -= part
        change = deltas.balance(key, balance)
        for side in (change,) if balance is None else (change, balance):
            side.grant_used -= part


@dataclass(frozen=True, slots=True)
class Payer:
    """An event of a window for which grants were burned: how much of each, by id.

    `counts`: whether it still counts on the meter; `touched`: whether it is being corrected.
    """

    event_id: UUID
    at: datetime
    counts: bool
    touched: bool
    grants: Mapping[str, int]


class Shares(NamedTuple):
    """What each event pays from now on, and how much of each grant returns to it."""

    paid: dict[UUID, dict[str, int]]
    returned: dict[str, int]


def share_out(
    payers: Sequence[Payer], *, wanted: int, order: Sequence[str], heir: UUID | None
) -> Shares:
    """Let grants pay `wanted` of a window, if they paid as much, and no more.

    What is too much returns from events that no longer count, then from those being corrected,
    then from the others, the latest first; of each the grant that was burned last (`order` is that
    of burning). What is left with events that no longer count goes to `heir`, which is in the
    window wherever something is wanted.
    """
    paid = {payer.event_id: dict(payer.grants) for payer in payers}
    returned: dict[str, int] = {}
    surplus = max(sum(sum(each.values()) for each in paid.values()) - wanted, 0)
    rank = {grant_id: place for place, grant_id in enumerate(order)}
    turns = sorted(payers, key=lambda payer: (payer.at, payer.event_id), reverse=True)
    for payer in sorted(turns, key=lambda payer: (payer.counts, not payer.touched)):
        held = paid[payer.event_id]
        for grant_id in sorted(held, key=lambda each: rank.get(each, len(rank)), reverse=True):
            part = min(held[grant_id], surplus)
            surplus -= part
            _move(held, grant_id, -part)
            _move(returned, grant_id, part)
    for payer in payers:
        if not payer.counts and heir is not None:
            for grant_id, quantity in paid[payer.event_id].items():
                _move(paid.setdefault(heir, {}), grant_id, quantity)
            paid[payer.event_id] = {}
    return Shares(paid, returned)


def _move(held: dict[str, int], grant_id: str, quantity: int) -> None:
    held[grant_id] = held.get(grant_id, 0) + quantity
    if not held[grant_id]:
        del held[grant_id]


def _take_anew(  # noqa: PLR0917  (of one event and meter)
    account: Account,
    deltas: Deltas,
    meter_id: int,
    at: datetime,
    before: Counted | None,
    earlier: Mapping[str, Any] | None,
    after: Usage,
) -> dict[str, Any] | None:
    if before is not None:
        _give_back_used(account, deltas, meter_id=meter_id, quantity=int(before), at=at)
    if earlier is not None:
        give_back_grants(account, deltas, meter_id=meter_id, allocation=earlier, at=at)
    if (quantity := after.get(str(meter_id))) is None:
        return None
    return take(account, deltas, meter_id=meter_id, quantity=int(quantity), at=at, hold=False)


def _give_back_used(
    account: Account, deltas: Deltas, *, meter_id: int, quantity: int, at: datetime
) -> None:
    for terms in account.terms.get(meter_id, ()):
        window = account.window(terms, at=at)
        if not terms.counts(window):
            continue
        key, balance = account.balance(terms, window=window)
        for side in (balance, deltas.balance(key, balance)):
            side.used -= quantity


def _windows_of(
    account: Account, *, meter_id: int, allocation: Mapping[str, Any], at: datetime
) -> list[BalanceKey]:
    """Where grants were burned: as the allocation says, else where the copy shows that it was.

    Calls of a gateway do not say it: then it was in the window of the present terms, or, where
    those have changed since, in the one that was right at the time.
    """
    if "windows" in allocation:
        named: Sequence[tuple[str, int]] = allocation["windows"]
        return [
            (meter_id, unit, datetime.fromtimestamp(start_s, UTC))
            for unit, start_s in named
            if unit not in RATE_UNITS
        ]
    present = {
        (meter_id, terms.window, account.window(terms, at=at)[0])
        for terms in account.terms.get(meter_id, ())
    }
    held = [
        key
        for key, balance in account.balances.items()
        if key[0] == meter_id
        and key[1] not in RATE_UNITS
        and (key[1] == "lifetime" or key[2] <= at < balance.end_at)
    ]
    return sorted(held, key=lambda key: (key not in present, key))
