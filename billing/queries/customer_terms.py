"""What a customer gets: the plan's entitlements, with what was agreed otherwise."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import copy
from datetime import datetime
from itertools import pairwise
from typing import Final

from django.db.models import Prefetch, Q, QuerySet, prefetch_related_objects

from billing.domain.periods import Period
from billing.models import Override, PlanEntitlement, PlanVersion
from billing.queries.peers import Peers
from metering.domain.windows import RATE_UNITS

Slot = tuple[str, int | None, str]
# With them a version is read once and for all: they never change while somebody stands under it.
RIGHTS: Final = Prefetch(
    "entitlements", PlanEntitlement.objects.select_related("meter").order_by("id")
)


def overrides(customer_id: int) -> QuerySet[Override]:
    """All of a customer's, over and to come; the newest first."""
    return Override.objects.filter(customer_id=customer_id).select_related("meter").order_by("-id")


def overrides_in(customer_id: int, *, period: Period, peers: Peers) -> list[Override]:
    """Those that hold in some part of the period, in the order in which they begin."""
    return [
        each
        for each in peers.ask(_overrides_of, customer_id) or ()
        if each.starts_at < period.end_at
        and (each.ends_at is None or each.ends_at > period.start_at)
        and each.starts_at != each.ends_at
    ]


def overrides_at(customer_id: int, *, at: datetime) -> list[Override]:
    """Those that hold at a moment."""
    found = overrides(customer_id).filter(Q(ends_at=None) | Q(ends_at__gt=at), starts_at__lte=at)
    return list(found.order_by("starts_at", "id"))


def holding(found: Iterable[Override], *, at: datetime) -> tuple[Override, ...]:
    """Of these overrides those that hold at the moment."""
    return tuple(
        each
        for each in found
        if each.starts_at <= at and (each.ends_at is None or at < each.ends_at)
    )


def cut(period: Period, *, at: Iterable[datetime]) -> list[Period]:
    """The period in pieces, cut at those of the moments that lie inside it."""
    inside = sorted({each for each in at if period.start_at < each < period.end_at})
    edges = [period.start_at, *inside, period.end_at]
    return [Period(start_at, end_at) for start_at, end_at in pairwise(edges)]


def slot(of: PlanEntitlement | Override) -> Slot:
    """What there is only one of: a feature, a rate window, the longer window of a meter."""
    if of.meter_id is None:
        return of.feature, None, ""
    window = of.window if isinstance(of, PlanEntitlement) else of.terms.get("window", "period")
    return "", of.meter_id, window if window in RATE_UNITS else "long"


def rights_with(version: PlanVersion, changed: Sequence[Override]) -> list[PlanEntitlement]:
    """The version's rights with the overrides in them, unsaved; what these add comes last."""
    by_slot = {slot(each): each for each in changed}
    rights = []
    prefetch_related_objects([version], RIGHTS)
    for right in version.entitlements.all():
        override = by_slot.pop(slot(right), None)
        if override is None:
            rights.append(right)
        elif not override.denied:
            rights.append(_changed(copy(right), override))
    added = (each for each in by_slot.values() if not each.denied)
    return [*rights, *(_changed(PlanEntitlement(version=version), each) for each in added)]


def _overrides_of(customer_ids: Sequence[int]) -> dict[int, list[Override]]:
    found: dict[int, list[Override]] = {}
    rows = Override.objects.filter(customer_id__in=customer_ids).select_related("meter")
    for each in rows.order_by("starts_at", "id"):
        found.setdefault(each.customer_id, []).append(each)
    return found


def _changed(right: PlanEntitlement, override: Override) -> PlanEntitlement:
    right.kind = override.kind
    right.meter, right.feature = override.meter, override.feature
    for member, value in override.terms.items():
        if member == "window" and right.pk is not None:
            continue  # the plan says in which windows its own right counts
        setattr(right, member, value)
    return right
