"""May this call be made? The one function that says so, for the gate and for every explanation.

It reads a copy of the customer's state and changes nothing. 402 = money or plan, 429 = waiting
alone cures it, 403 = never for sale or suspended; the codes are the contract's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from msgspec import Struct

from metering.domain.account import Account
from metering.domain.burndown import Room, room
from metering.domain.readings import Reading, increase
from metering.domain.spend_limits import limit_reached
from metering.domain.spending import Curve
from metering.domain.windows import RATE_UNITS

Retry = Literal["never", "after_reset", "after_in_flight"]


class Item(Struct, frozen=True, gc=False):
    """One thing asked for: a quantity of a meter, or a feature (meter_id None)."""

    name: str  # key of the meter or feature
    meter_id: int | None
    quantity: int
    reading: Reading | None = None  # of a meter that does not add up: what would be counted


@dataclass(frozen=True, slots=True)
class OfferTerms:
    """What a plan that is on sale would give of one meter."""

    window: str
    included: int
    unlimited: bool
    over_is_billed: bool
    overage_limit: int | None
    curve: Curve | None = None  # what overage costs


@dataclass(frozen=True, slots=True)
class Offer:
    """A plan that is on sale, as billing published it; cheapest first in lists."""

    plan_key: str
    plan_name: str
    meters: Mapping[int, OfferTerms]
    features: Mapping[str, str | None]

    def sells(self, item: Item) -> bool:
        """Whether the plan has the thing at all."""
        if item.meter_id is None:
            return item.name in self.features
        return item.meter_id in self.meters


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


def decide(
    account: Account, items: Sequence[Item], *, now: datetime, offers: Sequence[Offer]
) -> Allowed | Denied:
    """Say whether all items together may be had at `now`: all or none.

    Items name each meter at most once. Nothing is changed.
    """
    first = items[0]
    if account.suspended:
        return Denied("customer_suspended", "never", first)
    if account.deny_at is not None and now >= account.deny_at:
        return Denied(account.deny_code, "never", first, _rooms(account, items, now))
    rooms: list[Room] = []
    value: str | None = None
    for item in items:
        if item.meter_id is None:
            feature = account.features.get(item.name)
            if feature is None or not feature.active_at(now):
                return _missing(account, item, offers)
            value = feature.value
            continue
        measured = [
            room(account, terms, at=now)
            for terms in account.terms.get(item.meter_id, ())
            if terms.active_at(now)
        ]
        if not measured:
            return _missing(account, item, offers)
        for each in measured:
            wanted = item.quantity
            if item.reading is not None:
                wanted = increase(account, item.reading, each.terms, at=now)
            if each.admissible is not None and each.admissible < wanted:
                return _full(account, item, tuple(measured), items, now)
        rooms += measured
    denied = _over_limit(account, items, now) if account.spend_limit is not None else None
    return denied or Allowed(tuple(rooms), value)


def _over_limit(account: Account, items: Sequence[Item], now: datetime) -> Denied | None:
    """Say what cures it: holds that end, the next billing period, or a higher limit only."""
    wanted = [
        (item.meter_id, _most(account, item, now)) for item in items if item.meter_id is not None
    ]
    reached = limit_reached(account, wanted, at=now)
    if reached is None:
        return None
    item = next(each for each in items if each.meter_id == reached.meter_id)
    retry: Retry
    code, retry = "spend_limit_reached", "never"
    if limit_reached(account.without_holds(), wanted, at=now) is None:
        code, retry = "in_flight", "after_in_flight"
    elif limit_reached(account, wanted, at=reached.resets_at) is None:
        retry = "after_reset"
    return Denied(
        code,
        retry,
        item,
        _rooms(account, items, now),
        max_admissible=reached.max_admissible,
        resets_at=reached.resets_at,
    )


def _most(account: Account, item: Item, now: datetime) -> int:
    """What an item adds to the window to which it adds most."""
    reading = item.reading
    if reading is None or item.meter_id is None:
        return item.quantity
    rights = account.terms.get(item.meter_id, ())
    rises = [increase(account, reading, each, at=now) for each in rights if each.active_at(now)]
    return max(0, *rises)


def _missing(account: Account, item: Item, offers: Sequence[Offer]) -> Denied:
    if not account.sold:
        return Denied("no_subscription", "never", item)
    if any(offer.sells(item) for offer in offers):
        return Denied("not_in_plan", "never", item)
    return Denied("not_entitled", "never", item)


def _full(
    account: Account,
    item: Item,
    measured: tuple[Room, ...],
    items: Sequence[Item],
    now: datetime,
) -> Denied:
    """Name the window that stands in the way: the one that admits least, the longest of equals."""
    limits = [each for each in measured if each.admissible is not None]
    full = min(limits, key=lambda each: (each.admissible or 0, -_span(each, now)))
    at_most = full.admissible or 0
    if item.reading is not None and not isinstance(item.reading.value, str):
        at_most += full.used  # the reading itself that would do
    code, retry = _why(item, full)
    return Denied(code, retry, item, _rooms(account, items, now), full, at_most)


def _why(item: Item, full: Room) -> tuple[str, Retry]:
    without_holds = full.admissible_without_holds
    if without_holds is not None and without_holds >= item.quantity:
        return "in_flight", "after_in_flight"
    terms = full.terms
    whole_window = terms.included + ((terms.overage_limit or 0) if terms.over_is_billed else 0)
    waits = terms.window != "lifetime" and whole_window >= item.quantity
    retry: Retry = "after_reset" if waits else "never"
    if terms.window in RATE_UNITS:
        # A quantity larger than the window itself is not cured by waiting: that is the plan's.
        return ("rate_exceeded", retry) if waits else ("quota_exhausted", retry)
    if terms.over_is_billed:
        return "spend_limit_reached", retry
    if terms.window == "lifetime" or terms.included == 0:
        return "credits_exhausted", retry
    return "quota_exhausted", retry


def _rooms(account: Account, items: Sequence[Item], now: datetime) -> tuple[Room, ...]:
    return tuple(
        room(account, terms, at=now)
        for item in items
        if item.meter_id is not None
        for terms in account.terms.get(item.meter_id, ())
        if terms.active_at(now)
    )


def _span(measured: Room, now: datetime) -> timedelta:
    return measured.resets_at - now
