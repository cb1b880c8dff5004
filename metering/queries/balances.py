"""Balances and entitlements of a customer, as people and programs are shown them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from metering.domain.account import Account
from metering.domain.burndown import Room, room
from metering.models import Meter
from metering.queries.standing import account_of


@dataclass(frozen=True, slots=True)
class BalanceView:
    """One meter in one window. Quantities in the meter's unit; open holds count in `held`.

    granted = what the plan and grants give for this window; remaining = what of it is free;
    overage = what is used or held past it.
    """

    meter: str  # key
    meter_id: int
    unit: str
    window: str
    start_at: datetime
    resets_at: datetime
    included: int
    granted: int
    used: int
    held: int
    remaining: int
    overage: int
    overage_limit: int | None
    over: str  # "deny" | "bill"
    unlimited: bool


@dataclass(frozen=True, slots=True)
class FeatureView:
    """A boolean (value None) or static right."""

    feature: str
    value: str | None
    starts_at: datetime
    ends_at: datetime | None


@dataclass(frozen=True, slots=True)
class EntitlementsView:
    """All a customer may use at a moment, and whether it is denied everything."""

    plan: str
    plan_name: str
    suspended: bool
    deny_code: str  # the 402 code that every check gets now; empty: none
    deny_at: datetime | None
    balances: list[BalanceView]
    features: list[FeatureView]


def balances(customer_id: int, *, now: datetime) -> list[BalanceView]:
    """The balances of every window that counts now, by meter, the longest window first."""
    return _balances(account_of(customer_id, now=now), now=now)


def entitlements(customer_id: int, *, now: datetime) -> EntitlementsView:
    """The rights that stand now, with their balances."""
    account = account_of(customer_id, now=now)
    denied = account.deny_at is not None and account.deny_at <= now
    return EntitlementsView(
        plan=account.plan_key,
        plan_name=account.plan_name,
        suspended=account.suspended,
        deny_code=account.deny_code if denied else "",
        deny_at=account.deny_at,
        balances=_balances(account, now=now),
        features=[
            FeatureView(each.key, each.value, each.starts_at, each.ends_at)
            for _, each in sorted(account.features.items())
            if each.active_at(now)
        ],
    )


def _balances(account: Account, *, now: datetime) -> list[BalanceView]:
    meters = Meter.objects.in_bulk(list(account.terms))
    rooms = [
        room(account, terms, at=now)
        for each in account.terms.values()
        for terms in each
        if terms.active_at(now)
    ]
    views = [_view(meters[measured.terms.meter_id], measured, now=now) for measured in rooms]
    return sorted(views, key=lambda view: (view.meter, view.start_at - view.resets_at))


def _view(meter: Meter, measured: Room, *, now: datetime) -> BalanceView:
    terms = measured.terms
    start_at, _ = terms.window_at(now)
    return BalanceView(
        meter=meter.key,
        meter_id=meter.id,
        unit=meter.unit,
        window=terms.window,
        start_at=start_at,
        resets_at=measured.resets_at,
        included=terms.included_until(measured.resets_at),
        granted=measured.granted,
        used=measured.used,
        held=measured.held,
        remaining=measured.remaining,
        overage=measured.overage,
        overage_limit=terms.overage_limit,
        over="bill" if terms.over_is_billed else "deny",
        unlimited=terms.unlimited,
    )
