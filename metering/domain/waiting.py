"""Until when to wait, and whether that alone admits the call.

Nothing is assumed of holds but what the copy knows: a hold is free when its time is over, and one
that is known only by its quantity stays.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from heapq import nsmallest

from metering.domain.account import Account, HoldState
from metering.domain.burndown import Deltas, give_back
from metering.domain.decisions import Allowed, Denied, Item, decide

MOMENTS = 64


def wait(
    account: Account,
    denied: Denied,
    items: Sequence[Item],
    *,
    at: datetime,
    now: datetime,
    closed: Collection[str],
) -> tuple[datetime | None, bool] | None:
    """Until when to wait and whether `decide` admits the call then; None: waiting cures nothing.

    Of the next `MOMENTS` at which the copy knows a hold to end, or the full window where holds
    outlast it, it is the first at which the call would be admitted. Where none is known it is the
    first end of a hold, which alone does not admit it. `closed`: holds of the copy that are given
    back already. A call that names a time names the later one then, unless its window is over.
    """
    holds = {key: each for key, each in account.holds.items() if key not in closed}
    ends_at = denied.ends_at
    dated = ends_at is not None and ends_at <= now

    def admits(moment: datetime) -> bool:
        then = without_ended(account, holds, at=moment)
        when = at if dated else moment
        return isinstance(decide(then, items, now=moment, at=when, offers=()), Allowed)

    if denied.retry == "never" or ends_at is None:
        return None
    if denied.retry == "after_reset":
        return ends_at, admits(ends_at)
    known = {each.expires_at for each in holds.values()}
    first = account.next_expiry_at
    if not dated and ends_at <= max(known, default=first or ends_at):
        known.add(ends_at)
    moments = nsmallest(MOMENTS, known)
    if not moments or not admits(moments[-1]):
        return first, False
    low, high = 0, len(moments) - 1
    while low < high:
        middle = (low + high) // 2
        if admits(moments[middle]):
            high = middle
        else:
            low = middle + 1
    return moments[low], True


def without_ended(account: Account, holds: Mapping[str, HoldState], *, at: datetime) -> Account:
    """The account when of these holds those are given back whose time is over then."""
    ended = [each for each in holds.values() if each.expires_at <= at]
    if not ended:
        return account
    then = replace(
        account,
        balances={key: replace(each) for key, each in account.balances.items()},
        grants={key: [replace(each) for each in grants] for key, grants in account.grants.items()},
    )
    for hold in ended:
        for meter_id, allocation in hold.allocation.items():
            give_back(then, Deltas(), meter_id=int(meter_id), allocation=allocation)
    return then
