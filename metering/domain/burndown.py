"""In which order quantity is burned: what the plan includes, then grants, then overage.

What the plan includes goes first because it is lost at the window's end; grants follow by
priority (lower first), then by expiry (sooner first, never last), then by age. What is left is
overage: billed where the plan says so, and counted in any case when it is reported after the fact,
because it happened.

Overage is derived, not kept: max(0, used - grant_used - included), so it depends neither on the
order in which calls arrive nor on a plan that changed in between.

An *allocation* is written on holds and events so that what was taken can be given back exactly:
`{"q": 1200, "grants": {"<grant id>": 200}, "windows": [["month", start_unix_s], …]}`.
Each window of the meter takes the whole quantity; only windows longer than an hour burn grants.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct

from metering.domain.account import Account, Balance, BalanceKey, Grant, Terms
from metering.domain.windows import RATE_UNITS


class BalanceDelta(Struct, gc=False):
    """What a batch changes in one balance row; `copy`: that balance, where it is in the copy."""

    end_at: datetime
    copy: Balance | None = None
    used: int = 0
    grant_used: int = 0
    held: int = 0
    grant_held: int = 0
    stored: bool = True  # an existing row changes; else one is made
    latest_at: datetime | None = None  # None: as it is


class Deltas(Struct):
    """What a batch changes in one customer's balances and grants, to be written as sums."""

    balances: dict[BalanceKey, BalanceDelta] = {}
    grants: dict[int, list[int]] = {}  # id -> [used, held]
    members: dict[BalanceKey, list[str]] = {}  # new ones

    def balance(self, key: BalanceKey, balance: Balance | None) -> BalanceDelta:
        """The changes of one balance row; None = it is stored, but not in the copy."""
        found = self.balances.get(key)
        if found is None:
            found = BalanceDelta(key[2])
            if balance is not None:
                found.end_at, found.copy, found.stored = balance.end_at, balance, balance.stored
            self.balances[key] = found
        return found

    def grant(self, grant_id: int) -> list[int]:
        """The changes of one grant: [used, held]."""
        return self.grants.setdefault(grant_id, [0, 0])


def burning_order(grants: Sequence[Grant]) -> list[Grant]:
    """Sort grants in the order in which they are burned."""
    return sorted(
        grants,
        key=lambda grant: (
            grant.priority,
            grant.expires_at is None,
            grant.expires_at or grant.effective_at,
            grant.id,
        ),
    )


def take(
    account: Account,
    deltas: Deltas,
    *,
    meter_id: int,
    quantity: int,
    at: datetime,
    hold: bool,
) -> dict[str, Any]:
    """Burn `quantity` of a meter at a moment and return the allocation.

    It never refuses: whether it may is `decide`'s question. With `hold` it is reserved, else used.
    The copy and `deltas` change alike.
    """
    allocation: dict[str, Any] = {"q": quantity}
    windows: list[list[object]] = []
    for terms in account.terms.get(meter_id, ()):
        window = account.window(terms, at=at)
        if not terms.counts(window):
            continue
        key, burned = _take_in(account, deltas, terms, window, quantity=quantity, at=at, hold=hold)
        if burned:
            allocation["grants"] = burned
        windows.append([terms.window, int(key[2].timestamp())])
    allocation["windows"] = windows
    return allocation


def use(
    account: Account, deltas: Deltas, *, meter_id: int, quantity: int, at: datetime
) -> dict[str, int] | None:
    """As `take` without `hold`, for those who give nothing back: return only the burned grants."""
    if meter_id not in account.grants:
        for key, balance in account.counting_at(meter_id, at):
            balance.used += quantity
            deltas.balance(key, balance).used += quantity
        return None
    found = None
    for terms in account.terms.get(meter_id, ()):
        window = account.window(terms, at=at)
        if terms.counts(window):
            _, burned = _take_in(
                account, deltas, terms, window, quantity=quantity, at=at, hold=False
            )
            found = burned or found
    return found


def _take_in(
    account: Account,
    deltas: Deltas,
    terms: Terms,
    window: tuple[datetime, datetime],
    *,
    quantity: int,
    at: datetime,
    hold: bool,
) -> tuple[BalanceKey, dict[str, int] | None]:
    """Take from one window of a right; return its key, and what was burned of grants."""
    key, balance = account.balance(terms, window=window)
    change = deltas.balance(key, balance)
    burned = None
    from_grants = 0
    meter_id = terms.meter_id
    if meter_id in account.grants and not terms.unlimited and terms.window not in RATE_UNITS:
        rest = quantity - max(min(base_left(terms, balance), quantity), 0)
        burned = burn_grants(account, deltas, meter_id=meter_id, rest=rest, at=at, hold=hold)
        from_grants = sum(burned.values())
    if hold:
        balance.held += quantity
        change.held += quantity
        balance.grant_held += from_grants
        change.grant_held += from_grants
    else:
        balance.used += quantity
        change.used += quantity
        balance.grant_used += from_grants
        change.grant_used += from_grants
    return key, burned


def give_back(
    account: Account, deltas: Deltas, *, meter_id: int, allocation: Mapping[str, Any]
) -> None:
    """Free what a hold's allocation reserved, in the windows and grants it came from."""
    burned: Mapping[str, int] = allocation.get("grants", {})
    from_grants = sum(burned.values())
    for grant_id, quantity in burned.items():
        deltas.grant(int(grant_id))[1] -= quantity
        for grant in account.grants.get(meter_id, ()):
            if grant.id == int(grant_id):
                grant.held -= quantity
    for window, start_s in allocation["windows"]:
        key = (meter_id, window, datetime.fromtimestamp(start_s, UTC))
        part = 0 if window in RATE_UNITS else from_grants
        balance = account.balances.get(key)
        # A window that is over may not be in the copy; its row is stored, and the delta reaches it.
        change = deltas.balance(key, balance)
        for side in (change,) if balance is None else (change, balance):
            side.held -= allocation["q"]
            side.grant_held -= part


class Room(Struct, frozen=True, gc=False):
    """How much more one entitlement would admit, and how its balance stands.

    granted = used + held + remaining - overage, overage being what is used or held past all that
    was given. `admissible` None = any quantity.
    """

    terms: Terms
    granted: int
    used: int
    held: int
    overage: int
    remaining: int
    admissible: int | None
    admissible_without_holds: int | None
    resets_at: datetime


def room(account: Account, terms: Terms, *, at: datetime) -> Room:
    """Measure what an entitlement would still admit at a moment; changes nothing."""
    start_at, end_at = account.window(terms, at=at)
    balance = account.balances.get((terms.meter_id, terms.window, start_at)) or Balance(end_at)
    left = base_left(terms, balance)
    from_grants = grants_held = 0
    if terms.window not in RATE_UNITS:
        for grant in account.grants.get(terms.meter_id, ()):
            from_grants += grant.available_at(at)
            grants_held += grant.held
    remaining = max(left, 0) + from_grants
    overage = 0 if terms.unlimited else max(-left, 0)
    admissible: int | None
    if terms.unlimited or (terms.over_is_billed and terms.overage_limit is None):
        admissible = without_holds = None
    else:
        limit = terms.overage_limit or 0 if terms.over_is_billed else 0
        base_held = balance.held - balance.grant_held
        admissible = max(left + limit, 0) + from_grants
        without_holds = max(left + base_held + limit, 0) + from_grants + grants_held
    used, held = balance.used, balance.held
    granted = used + held + remaining - overage
    return Room(terms, granted, used, held, overage, remaining, admissible, without_holds, end_at)


def left_anew(account: Account, terms: Terms, *, at: datetime) -> int:
    """What a window that begins then admits while nothing of it is used and no hold is open.

    Of a right that is not unlimited; with what its overage is limited to, and with the grants that
    can still be burned then.
    """
    _, end_at = terms.window_at(at)
    left = terms.included_until(end_at)
    if terms.over_is_billed:
        left += terms.overage_limit or 0
    if terms.window not in RATE_UNITS:
        for grant in account.grants.get(terms.meter_id, ()):
            left += replace(grant, held=0).available_at(at)
    return left


def left_after(before: Room, quantity: int) -> tuple[int, int]:
    """Remaining and overage when `quantity` more was used or held than `room` saw.

    True of a limited right that is the only one of its meter: another one might burn the same
    grants. What was granted stays.
    """
    over = max(quantity - before.remaining, 0)
    return before.remaining - quantity + over, before.overage + over


def base_left(terms: Terms, balance: Balance) -> int:
    """What the entitlement includes and nobody has used or held; negative = overage."""
    taken = balance.used - balance.grant_used + balance.held - balance.grant_held
    return terms.included_until(balance.end_at) - taken


def burn_grants(
    account: Account, deltas: Deltas, *, meter_id: int, rest: int, at: datetime, hold: bool
) -> dict[str, int]:
    """Burn up to `rest` of the meter's grants; return how much of each, by id."""
    burned: dict[str, int] = {}
    for grant in account.grants.get(meter_id, ()):
        if not rest:
            break
        part = min(grant.available_at(at), rest)
        if part <= 0:
            continue
        rest -= part
        burned[str(grant.id)] = part
        change = deltas.grant(grant.id)
        if hold:
            grant.held += part
            change[1] += part
        else:
            grant.used += part
            change[0] += part
    return burned
