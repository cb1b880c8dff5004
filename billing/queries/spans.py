"""Under which terms a subscription stood when: what a period must know before it can be rated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from django.db.models import Q

from billing.domain.periods import Interval, Period, period_at
from billing.models import (
    Override,
    PlanVersion,
    Subscription,
    SubscriptionPhase,
)
from billing.queries.customer_terms import cut, holding, overrides_in


@dataclass(frozen=True, slots=True)
class PeriodBasis:
    """What must be known of a period beside its phases; frozen with the invoice as JSON.

    `whole`: the anchor's period that the invoiced one lies in (a first period may begin late,
    a cancellation end it early): fees are shares of it. `served`: False where not a single call
    was admitted in it, because the subscription was paused or denied for payment throughout.
    """

    anchor_at: datetime
    whole: Period
    served: bool = True

    def to_json(self) -> dict[str, object]:
        """The form in which an invoice keeps it."""
        return {
            "anchor_at": self.anchor_at.isoformat(),
            "start_at": self.whole.start_at.isoformat(),
            "end_at": self.whole.end_at.isoformat(),
            "served": self.served,
        }

    @classmethod
    def from_json(cls, data: dict[str, object]) -> Self:
        """The inverse of `to_json`."""
        return cls(
            anchor_at=datetime.fromisoformat(str(data["anchor_at"])),
            whole=Period(
                datetime.fromisoformat(str(data["start_at"])),
                datetime.fromisoformat(str(data["end_at"])),
            ),
            served=bool(data["served"]),
        )


@dataclass(frozen=True, slots=True)
class Span:
    """The part of a period that stood under one version, with the same seats and overrides."""

    version: PlanVersion
    period: Period
    overrides: tuple[Override, ...] = ()
    seats: int = 1


def current_basis(subscription: Subscription) -> PeriodBasis:
    """The basis of the subscription's current period, as it would be frozen now."""
    whole = period_at(
        subscription.anchor_at,
        interval=Interval(subscription.version.interval),
        at=subscription.current_start_at,
    )
    denied_at = (subscription.paused_at, subscription.grace_ends_at)
    served = not any(at is not None and at <= subscription.current_start_at for at in denied_at)
    return PeriodBasis(subscription.anchor_at, whole, served)


def spans(subscription_id: int, *, period: Period) -> list[Span]:
    """The terms under which the subscription stood in `period`, in order, without a gap."""
    phases = list(
        SubscriptionPhase.objects.filter(
            Q(end_at=None) | Q(end_at__gt=period.start_at),
            subscription_id=subscription_id,
            start_at__lt=period.end_at,
        )
        .select_related("version__plan", "subscription")
        .order_by("start_at")
    )
    changed = _meter_overrides(phases, period=period)
    turns = [at for each in changed for at in (each.starts_at, each.ends_at) if at is not None]
    return [
        Span(phase.version, piece, holding(changed, at=piece.start_at), phase.seats)
        for phase in phases
        for piece in cut(
            Period(
                max(phase.start_at, period.start_at),
                min(phase.end_at or period.end_at, period.end_at),
            ),
            at=turns,
        )
    ]


def _meter_overrides(phases: Sequence[SubscriptionPhase], *, period: Period) -> list[Override]:
    if not phases:
        return []
    found = overrides_in(phases[0].subscription.customer_id, period=period)
    return [each for each in found if each.meter_id is not None]
