"""What a right includes in each of its windows: less than said where terms changed inside one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from billing.models import PlanEntitlement, PlanVersion
from billing.queries.customer_terms import slot
from billing.queries.spans import Span
from metering.domain.blending import Included, included_in
from metering.domain.windows import anchored_window

# The same few windows are asked for by every meter of a period, several times.
window_at = lru_cache(maxsize=4_096)(anchored_window)
IncludedIn = Callable[[datetime, datetime], int]


@dataclass(frozen=True, slots=True)
class Blended:
    """What is included in the window that ends at `until`."""

    quantity: int
    until: datetime


def window_unit(right: PlanEntitlement, *, version: PlanVersion) -> str:
    """The unit of time in which the right counts; `period` is the plan's interval."""
    return version.interval if right.window == "period" else right.window


def included_of(right: PlanEntitlement, *, span: Span, anchor_at: datetime) -> IncludedIn:
    """What the right includes in the window `[start_at, end_at)`, under the terms of the span."""
    blended = blended_of(right, span=span, anchor_at=anchor_at)

    def included(_: datetime, end_at: datetime) -> int:
        if blended is not None and end_at == blended.until:
            return blended.quantity
        return right.included

    return included


def blended_of(right: PlanEntitlement, *, span: Span, anchor_at: datetime) -> Blended | None:
    """The window in which the span's version took over, if it has a share of what is included.

    None where it took over with the window. What was agreed with a customer is whole.
    """
    if not span.stood or right.meter_id is None or right.unlimited:
        return None
    agreed = (each for each in span.overrides if each.meter_id == right.meter_id)
    if any("included" in each.terms for each in agreed):
        return None
    unit, since = window_unit(right, version=span.version), span.stood[-1][0]
    window = window_at(anchor_at.replace(microsecond=0), unit=unit, at=since)
    if since == window[0]:
        return None
    stood = [(at, _included(version, right=right)) for at, version in span.stood if at < window[1]]
    quantity = included_in(window, unit=unit, stood=stood)
    return None if quantity == right.included else Blended(quantity, window[1])


def _included(version: PlanVersion, *, right: PlanEntitlement) -> Included:
    """What a version includes of the same thing; nothing where it does not have it."""
    for each in version.entitlements.all():
        if slot(each) == slot(right):
            quantity = None if each.unlimited else each.included
            return Included(quantity, window_unit(each, version=version))
    return Included(0, version.interval)
