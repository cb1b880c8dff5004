"""May this call be made? The one function that says so, for the gate and for every explanation.

It reads a copy of the customer's state and changes nothing. 402 = money or plan, 429 = waiting
alone cures it, 403 = never for sale or suspended; the codes are the contract's.

Of several things that stand in the way of a call the one is named that is left when the others have
been waited for: what never ends, then the window that resets last, then open holds. So nobody is
told to wait for a minute and then hears of a month.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from msgspec import Struct

from metering.domain.account import Account
from metering.domain.agreed import offers_to
from metering.domain.burndown import Room, left_anew, room
from metering.domain.offers import Offer
from metering.domain.readings import Reading, increase
from metering.domain.spend_limits import limit_reached
from metering.domain.windows import FOREVER, RATE_UNITS

Retry = Literal["never", "after_reset", "after_in_flight"]
_LASTS: dict[Retry, int] = {"after_in_flight": 0, "after_reset": 1, "never": 2}


class Item(Struct, frozen=True, gc=False):
    """One thing asked for: a quantity of a meter, or a feature (meter_id None)."""

    name: str  # key of the meter or feature
    meter_id: int | None
    quantity: int
    reading: Reading | None = None  # of a meter that does not add up: what would be counted


class Allowed(Struct, frozen=True, gc=False):
    """The call may be made. `rooms` as they were before it; `value` of a static entitlement."""

    rooms: tuple[Room, ...]
    value: str | None = None


@dataclass(frozen=True, slots=True)
class Denied:
    """The call may not be made, and why. `max_admissible`: the most that would have been.

    Where no single window stands in the way but the spend limit, `full` is None and `resets_at`
    says when the limit begins anew.
    """

    code: str
    retry: Retry
    item: Item
    rooms: tuple[Room, ...] = ()
    full: Room | None = None  # the window that stands in the way
    max_admissible: int = 0
    resets_at: datetime | None = None

    @property
    def ends_at(self) -> datetime | None:
        """When what stands in the way begins anew: its window, or the spend limit's period."""
        return self.resets_at if self.full is None else self.full.resets_at


def decide(
    account: Account,
    items: Sequence[Item],
    *,
    now: datetime,
    offers: Sequence[Offer],
    at: datetime | None = None,
) -> Allowed | Denied:
    """Say whether all items together may be had: all or none.

    The call counts `at` the time that it names, else `now`; a window that is over by `now` never
    opens again for it. Items name each meter at most once. Nothing is changed.
    """
    at = at or now
    first = items[0]
    if account.suspended:
        return Denied("customer_suspended", "never", first)
    if account.deny_at is not None and at >= account.deny_at:
        return Denied(account.deny_code, "never", first, _rooms(account, items, at))
    rooms: list[Room] = []
    value: str | None = None
    for item in items:
        if item.meter_id is None:
            feature = account.features.get(item.name)
            if feature is None or not feature.active_at(at):
                return _missing(account, item, offers)
            value = feature.value
            continue
        measured = [
            room(account, terms, at=at)
            for terms in account.terms.get(item.meter_id, ())
            if terms.active_at(at)
        ]
        if not measured:
            return _missing(account, item, offers)
        for each in measured:
            wanted = item.quantity
            if item.reading is not None:
                wanted = increase(account, item.reading, each.terms, at=at)
            if each.admissible is not None and each.admissible < wanted:
                return _what_lasts(account, items, at=at, now=now, offers=offers)
        rooms += measured
    limit = account.spend_limit
    denied = None if limit is None else _over_limit(account, items, at=at, now=now)
    return denied or Allowed(tuple(rooms), value)


def _what_lasts(
    account: Account,
    items: Sequence[Item],
    *,
    at: datetime,
    now: datetime,
    offers: Sequence[Offer],
) -> Denied:
    """Of all that stands in the way name what is left when the rest has been waited for.

    What never ends comes before any window, a window before open holds; of equals the first item.
    """
    found: list[Denied] = []
    for item in items:
        if not _has(account, item, at):
            return _missing(account, item, offers)  # no time cures it
        found += _full(account, item, at=at, now=now)
    if account.spend_limit is not None and (over := _over_limit(account, items, at=at, now=now)):
        found.append(over)
    lasting = max(found, key=_lasts)
    # Where several stand in the way of the item, no more of it is admitted than all of them leave.
    at_most = min(each.max_admissible for each in found if each.item is lasting.item)
    return replace(lasting, rooms=_rooms(account, items, at), max_admissible=at_most)


def _has(account: Account, item: Item, at: datetime) -> bool:
    if item.meter_id is None:
        feature = account.features.get(item.name)
        return feature is not None and feature.active_at(at)
    return any(terms.active_at(at) for terms in account.terms.get(item.meter_id, ()))


def _lasts(denied: Denied) -> tuple[int, datetime]:
    """In which order denials end: the greater, the later."""
    until = denied.ends_at if denied.retry == "after_reset" else None
    return _LASTS[denied.retry], until or FOREVER


def _over_limit(
    account: Account, items: Sequence[Item], *, at: datetime, now: datetime
) -> Denied | None:
    """Say what cures it: holds that end, the next billing period, or a higher limit only."""
    wanted = [
        (item.meter_id, _most(account, item, at)) for item in items if item.meter_id is not None
    ]
    reached = limit_reached(account, wanted, at=at)
    if reached is None:
        return None
    item = next(each for each in items if each.meter_id == reached.meter_id)
    retry: Retry
    code, retry = "spend_limit_reached", "never"
    if limit_reached(account.without_holds(), wanted, at=at) is None:
        code, retry = "in_flight", "after_in_flight"
    elif reached.resets_at > now and limit_reached(account, wanted, at=reached.resets_at) is None:
        retry = "after_reset"
    return Denied(
        code,
        retry,
        item,
        _rooms(account, items, at),
        max_admissible=reached.max_admissible,
        resets_at=reached.resets_at,
    )


def _most(account: Account, item: Item, at: datetime) -> int:
    """What an item adds to the window to which it adds most."""
    reading = item.reading
    if reading is None or item.meter_id is None:
        return item.quantity
    rights = account.terms.get(item.meter_id, ())
    rises = [increase(account, reading, each, at=at) for each in rights if each.active_at(at)]
    return max(0, *rises)


def _missing(account: Account, item: Item, offers: Sequence[Offer]) -> Denied:
    if not account.sold:
        return Denied("no_subscription", "never", item)
    if any(offer.sells(item.name, item.meter_id) for offer in offers_to(account, offers)):
        return Denied("not_in_plan", "never", item)
    return Denied("not_entitled", "never", item)


def _full(account: Account, item: Item, *, at: datetime, now: datetime) -> list[Denied]:
    """Of an item's windows that do not admit it the one that lasts longest, if there is one.

    Of equals it is the one that admits least, then the one that ends last.
    """
    found: list[Denied] = []
    at_most: list[int] = []
    for measured in _rooms(account, [item], at):
        if measured.admissible is None:
            continue
        wanted, most = item.quantity, measured.admissible
        if item.reading is not None:
            wanted = increase(account, item.reading, measured.terms, at=at)
            if not isinstance(item.reading.value, str):
                most += measured.used  # the reading itself that would do
        at_most.append(most)
        if measured.admissible < wanted:
            code, retry = _why(account, item, measured, wanted=wanted, now=now)
            found.append(Denied(code, retry, item, full=measured))
    if not found:
        return []
    lasting = max(found, key=lambda each: (*_lasts(each), *_tightness(each)))
    return [replace(lasting, max_admissible=min(at_most))]


def _tightness(denied: Denied) -> tuple[int, datetime, bool]:
    full = denied.full
    assert full is not None
    return -(full.admissible or 0), full.resets_at, full.terms.window not in RATE_UNITS


def _why(
    account: Account, item: Item, full: Room, *, wanted: int, now: datetime
) -> tuple[str, Retry]:
    without_holds = full.admissible_without_holds
    if without_holds is not None and without_holds >= wanted:
        return "in_flight", "after_in_flight"
    terms, ends_at = full.terms, full.resets_at
    opens = terms.window != "lifetime" and ends_at > now and terms.active_at(ends_at)
    waits = opens and left_anew(account, terms, at=ends_at) >= item.quantity
    retry: Retry = "after_reset" if waits else "never"
    if terms.window in RATE_UNITS:
        # What no such window ever admits is not cured by waiting: that is the plan's.
        return ("rate_exceeded", retry) if waits else ("quota_exhausted", retry)
    if terms.over_is_billed:
        return "spend_limit_reached", retry
    if terms.window == "lifetime" or terms.included == 0:
        return "credits_exhausted", retry
    return "quota_exhausted", retry


def _rooms(account: Account, items: Sequence[Item], at: datetime) -> tuple[Room, ...]:
    return tuple(
        room(account, terms, at=at)
        for item in items
        if item.meter_id is not None
        for terms in account.terms.get(item.meter_id, ())
        if terms.active_at(at)
    )
