"""Entitlements: billing tells metering what a customer may use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from django.db import transaction

from accounts.operations.versions import bump, bump_catalogue
from metering.domain.agreed import Agreed
from metering.domain.meters import Aggregation
from metering.domain.rollover import rolls
from metering.domain.spending import Curve, SpendLimit
from metering.domain.windows import RATE_UNITS, anchored_window
from metering.models import Balance, Entitlement, Meter, Offer, Standing
from metering.operations.recounting_windows import count_window
from metering.operations.rolling_over import roll_over_due
from metering.queries.retention import gone_before

# How many windows of a new right are looked at: a year of days, decades of months.
_WINDOWS_MAX = 400
_INSTANT = timedelta(microseconds=1)
Slot = tuple[str, int | None, str]


class RightsContradict(Exception):
    """Two rights are to the same feature, or to one meter in windows that exclude each other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Right:
    """What a plan gives a customer: a metered right to a meter, or a feature.

    Quantities in the meter's unit. `window` and `anchor_at` (whole seconds; less is cut off) say
    in which spans of time `included` counts; in the one that ends at `blended_until` it is
    `blended` instead. `[starts_at, ends_at)` is when the right stands.
    """

    kind: Literal["metered", "boolean", "static"]
    anchor_at: datetime
    starts_at: datetime
    ends_at: datetime | None = None
    meter_id: int | None = None
    feature: str = ""
    value: str = ""
    window: str = "month"
    included: int = 0
    blended: int | None = None
    blended_until: datetime | None = None
    unlimited: bool = False
    over: Literal["deny", "bill"] = "deny"
    overage_limit: int | None = None
    curve: Curve | None = None
    rollover: int = 0


@dataclass(frozen=True, slots=True)
class StandingTerms:
    """What billing says of a customer; from `deny_at` on every check is denied with `deny_code`.

    `spend_limit`: how much overage may cost, by the curves of the rights. `agreed`: what of the
    rights holds on any plan.
    """

    plan_key: str = ""
    plan_name: str = ""
    deny_code: str = ""
    deny_at: datetime | None = None
    invoice_url: str = ""
    spend_limit: SpendLimit | None = None
    agreed: Sequence[Agreed] = ()


@dataclass(frozen=True, slots=True)
class OfferTerms:
    """A plan on sale in a currency; `terms` as metering.models.Offer describes them."""

    plan_key: str
    plan_name: str
    rank: int
    terms: Mapping[str, Any]
    currency: str = "usd"


def entitle(
    customer_id: int,
    *,
    rights: Sequence[Right],
    standing: StandingTerms,
    source: str,
    now: datetime,
) -> None:
    """Replace all that subscriptions gave the customer by these rights, and set its standing.

    From the next check on they count, and in each of their windows what was used before counts
    with them: `used` = Σ events of the window, so that changing plans gives nothing anew. What an
    operator gave stays and wins over a right to the same thing. Doing it twice changes nothing
    but the version. Raises RightsContradict, CustomerUnknown.
    """
    _refuse_contradictions(rights)
    with transaction.atomic():
        bump(customer_id)  # from here on nobody else writes this customer's metering
        roll_over_due(customer_id, now=now)  # what is over rolls by the terms it stood under
        earlier = {
            _slot(each): each
            for each in Entitlement.objects.filter(
                customer_id=customer_id, source__startswith="sub_"
            )
        }
        taken = set()
        for own in Entitlement.objects.filter(customer_id=customer_id).exclude(
            source__startswith="sub_"
        ):
            taken.add(_slot(own))
        Entitlement.objects.filter(customer_id=customer_id, source__startswith="sub_").delete()
        for right in rights:
            entitlement = _entitlement(customer_id, right, source=source)
            slot = _slot(entitlement)
            if slot in taken:
                continue
            before = earlier.get(slot)
            goes_on = _go_on(entitlement, before, now=now)
            if entitlement.kind == Entitlement.Kind.METERED and rolls(entitlement.window):
                _prepare_rollover(entitlement, before, first=not earlier, now=now)
            entitlement.save(force_insert=True)
            if entitlement.kind == Entitlement.Kind.METERED:
                _count_used(entitlement, only_current=goes_on, now=now)
        Standing.objects.update_or_create(
            customer_id=customer_id,
            defaults={
                "plan_key": standing.plan_key,
                "plan_name": standing.plan_name,
                "deny_code": standing.deny_code,
                "deny_at": standing.deny_at,
                "invoice_url": standing.invoice_url,
                "spend_limit": standing.spend_limit and standing.spend_limit.to_json(),
                "agreed": [each.to_json() for each in standing.agreed] or None,
                "updated_at": now,
            },
        )


def publish_offers(offers: Sequence[OfferTerms]) -> None:
    """Replace the plans on sale, of which remedies speak, by these."""
    with transaction.atomic():
        bump_catalogue()
        Offer.objects.all().delete()
        Offer.objects.bulk_create(
            Offer(
                plan_key=each.plan_key,
                plan_name=each.plan_name,
                rank=each.rank,
                terms=dict(each.terms),
                currency=each.currency,
            )
            for each in offers
        )


def _refuse_contradictions(rights: Sequence[Right]) -> None:
    seen: set[Slot] = set()
    for right in rights:
        slot = _slot(right)
        if slot in seen:
            raise RightsContradict(f"two rights to {right.feature or right.meter_id}")
        seen.add(slot)


def _slot(of: Right | Entitlement) -> Slot:
    """What there can be only one of: a feature, a rate window, the longer window of a meter."""
    if of.kind != "metered":
        return of.feature, None, ""
    return "", of.meter_id, of.window if of.window in RATE_UNITS else "long"


def _entitlement(customer_id: int, right: Right, *, source: str) -> Entitlement:
    return Entitlement(
        customer_id=customer_id,
        kind=right.kind,
        meter_id=right.meter_id,
        feature=right.feature,
        value=right.value,
        window=right.window,
        # Allocations name windows by whole seconds.
        anchor_at=right.anchor_at.replace(microsecond=0),
        included=right.included,
        blended=right.blended,
        blended_until=right.blended_until,
        unlimited=right.unlimited,
        over=right.over,
        overage_limit=right.overage_limit,
        curve=right.curve and right.curve.to_json(),
        rollover=right.rollover,
        starts_at=right.starts_at,
        ends_at=right.ends_at,
        source=source,
    )


def _go_on(entitlement: Entitlement, before: Entitlement | None, *, now: datetime) -> bool:
    """Let the right go on from an earlier one to the same; say whether all is counted already.

    With the same windows it begins where that one began, so that late usage still finds them.
    """
    if before is None:
        return False
    entitlement.id = before.id
    if entitlement.kind != Entitlement.Kind.METERED:
        return False
    if (before.window, before.anchor_at) != (entitlement.window, entitlement.anchor_at):
        return False
    counted_since = before.starts_at <= entitlement.starts_at
    entitlement.starts_at = min(entitlement.starts_at, before.starts_at)
    _, end_at = _window(entitlement, at=now)
    return counted_since and (before.ends_at is None or before.ends_at >= end_at)


def _prepare_rollover(
    entitlement: Entitlement, before: Entitlement | None, *, first: bool, now: datetime
) -> None:
    """Say when the current window rolls on, and how many included units may be left of it.

    Of the terms that a window stood under the smallest count, and what a change of plan brings in
    the middle of a window leaves nothing: who takes a larger plan for a minute keeps none of it.
    """
    _, entitlement.rolls_at = _window(entitlement, at=now)
    anew = before is not None and before.anchor_at != entitlement.anchor_at
    entitlement.rollable = entitlement.included if first or anew else 0
    if before is not None and not anew and before.window == entitlement.window:
        counted = before.rollable if before.rolls_at == entitlement.rolls_at else before.included
        entitlement.rollable = min(counted, entitlement.included)


def _count_used(entitlement: Entitlement, *, only_current: bool, now: datetime) -> None:
    """Make the balances of the right's windows say what happened in them, members and all.

    The caller has raised the customer's version.
    """
    assert entitlement.meter_id is not None
    rows = Balance.objects.filter(
        customer_id=entitlement.customer_id,
        meter_id=entitlement.meter_id,
        window=entitlement.window,
    )
    kind = Meter.objects.values_list("aggregation", flat=True).get(id=entitlement.meter_id)
    for start_at, end_at in _windows(entitlement, only_current=only_current, now=now):
        counted = count_window(
            entitlement.customer_id,
            key=(entitlement.meter_id, entitlement.window, start_at),
            kind=Aggregation(kind),
            end_at=end_at,
        )
        values = {"used": counted.used, "latest_at": counted.latest_at}
        row = rows.filter(start_at=start_at)
        if not row.update(**values) and (counted.used or start_at <= now < end_at):
            Balance.objects.create(
                customer_id=entitlement.customer_id,
                meter_id=entitlement.meter_id,
                window=entitlement.window,
                start_at=start_at,
                end_at=end_at,
                **values,
            )


def _windows(
    entitlement: Entitlement, *, only_current: bool, now: datetime
) -> Iterator[tuple[datetime, datetime]]:
    """The windows to count, newest first: of a new right also those that began before this one.

    Windows of an hour or less are not counted for what is over: nobody asks for them again. Nor is
    a window that is over and of which events were dropped: it cannot be told any more.
    """
    start_at, end_at = _window(entitlement, at=max(entitlement.starts_at, now))
    if only_current or entitlement.window in {*RATE_UNITS, "lifetime"}:
        yield start_at, end_at
        return
    yield _window(entitlement, at=end_at)  # clocks of gateways may be ahead
    gone = gone_before()
    for _ in range(_WINDOWS_MAX):
        if gone is not None and start_at < gone and end_at <= now:
            return
        yield start_at, end_at
        if start_at <= entitlement.starts_at:
            return
        start_at, end_at = _window(entitlement, at=start_at - _INSTANT)


def _window(entitlement: Entitlement, *, at: datetime) -> tuple[datetime, datetime]:
    return anchored_window(entitlement.anchor_at, unit=entitlement.window, at=at)
