"""Under which terms a subscription stood when: what a period must know before it can be rated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Self

from django.db.models import Prefetch, Q

from billing.domain.periods import Interval, Period, period_at
from billing.models import (
    Override,
    PlanVersion,
    Subscription,
    SubscriptionPhase,
)
from billing.queries.customer_terms import RIGHTS, cut, holding, overrides_in
from billing.queries.peers import Peers

LONGEST_WINDOW: Final = timedelta(days=366)


@dataclass(frozen=True, slots=True)
class PeriodBasis:
    """What must be known of a period beside its phases; frozen with the invoice as JSON.

    `whole`: the anchor's period that the invoiced one lies in (a first period may begin late,
    a cancellation end it early): fees are shares of it. `served`: False where not a single call
    was admitted in it, because the subscription was paused or denied for payment throughout.
    `interim`: only usage is billed, before the period ends. `began_at`: where the period began, if
    interim invoices have billed the usage up to where this invoice's begins.
    """

    anchor_at: datetime
    whole: Period
    served: bool = True
    interim: bool = False
    began_at: datetime | None = None

    def to_json(self) -> dict[str, object]:
        """The form in which an invoice keeps it."""
        data: dict[str, object] = {
            "anchor_at": self.anchor_at.isoformat(),
            "start_at": self.whole.start_at.isoformat(),
            "end_at": self.whole.end_at.isoformat(),
            "served": self.served,
        }
        if self.interim:
            data["interim"] = True
        if self.began_at is not None:
            data["began_at"] = self.began_at.isoformat()
        return data

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
            interim=bool(data.get("interim", False)),
            began_at=datetime.fromisoformat(str(data["began_at"])) if "began_at" in data else None,
        )


@dataclass(frozen=True, slots=True)
class Span:
    """The part of a period that stood under one version, with the same seats and overrides."""

    version: PlanVersion
    period: Period
    overrides: tuple[Override, ...] = ()
    seats: int = 1
    # The versions until then and since when, its own the last; none: what is included is whole.
    stood: tuple[tuple[datetime, PlanVersion], ...] = ()


def current_basis(subscription: Subscription) -> PeriodBasis:
    """The basis of the subscription's current period, as it would be frozen now."""
    whole = period_at(
        subscription.anchor_at,
        interval=Interval(subscription.version.interval),
        at=subscription.current_start_at,
    )
    denied_at = (subscription.paused_at, subscription.grace_ends_at)
    served = not any(at is not None and at <= subscription.current_start_at for at in denied_at)
    began_at = subscription.current_start_at if subscription.billed_until_at else None
    return PeriodBasis(subscription.anchor_at, whole, served, began_at=began_at)


def unbilled_period(subscription: Subscription, *, end_at: datetime | None = None) -> Period:
    """What the next invoice of the current period bills: all that interim ones have not, up to
    `end_at` or the period's end."""
    start_at = subscription.billed_until_at or subscription.current_start_at
    return Period(start_at, end_at or subscription.current_end_at)


def billed_spans(
    subscription_id: int, *, period: Period, basis: PeriodBasis, peers: Peers
) -> list[Span]:
    """The spans that an invoice of `period` is rated from: its fees count from where the period
    began, its usage from where interim invoices ended."""
    began_at = basis.began_at or period.start_at
    return spans(subscription_id, period=Period(began_at, period.end_at), peers=peers)


def spans(subscription_id: int, *, period: Period, peers: Peers) -> list[Span]:
    """The terms under which the subscription stood in `period`, in order, without a gap.

    Its customer is one of the peers.
    """
    known = [
        each
        for each in peers.ask(_phases_of, subscription_id) or ()
        if each.start_at < period.end_at
        and (each.end_at is None or each.end_at > period.start_at - LONGEST_WINDOW)
    ]
    phases = [each for each in known if each.end_at is None or each.end_at > period.start_at]
    changed = _meter_overrides(phases, period=period, peers=peers)
    turns = [at for each in changed for at in (each.starts_at, each.ends_at) if at is not None]
    return [
        Span(
            phase.version,
            piece,
            holding(changed, at=piece.start_at),
            phase.seats,
            _stood(known, until=phase),
        )
        for phase in phases
        for piece in cut(
            Period(
                max(phase.start_at, period.start_at),
                min(phase.end_at or period.end_at, period.end_at),
            ),
            at=turns,
        )
    ]


def span_at(subscription: Subscription, *, at: datetime, overrides: Sequence[Override]) -> Span:
    """The terms under which the subscription stands now, of which this is the present moment."""
    known = list(
        SubscriptionPhase.objects.filter(
            Q(end_at=None) | Q(end_at__gt=at - LONGEST_WINDOW), subscription=subscription
        )
        .select_related("version__plan", "subscription")
        .order_by("start_at")
    )
    stood = _stood(known, until=known[-1]) if known else ()
    moment = Period(at, at + timedelta(seconds=1))
    return Span(subscription.version, moment, tuple(overrides), subscription.seats, stood)


def _stood(
    known: Sequence[SubscriptionPhase], *, until: SubscriptionPhase
) -> tuple[tuple[datetime, PlanVersion], ...]:
    """What begins in a trial counts from long ago: a trial is given whole."""
    trial_end_at = until.subscription.trial_end_at
    return tuple(
        (
            each.start_at - LONGEST_WINDOW
            if trial_end_at is not None and each.start_at < trial_end_at
            else each.start_at,
            each.version,
        )
        for each in known
        if each.start_at <= until.start_at
    )


def _phases_of(customer_ids: Sequence[int]) -> dict[int, list[SubscriptionPhase]]:
    """By subscription, the oldest first. Those under one version share it, with its rights."""
    found: dict[int, list[SubscriptionPhase]] = {}
    rows = SubscriptionPhase.objects.filter(subscription__customer_id__in=customer_ids)
    rows = rows.select_related("subscription").only(
        *("version", "seats", "start_at", "end_at"),
        *("subscription__customer", "subscription__trial_end_at"),
    )
    rows = rows.prefetch_related(
        Prefetch("version", PlanVersion.objects.select_related("plan").prefetch_related(RIGHTS))
    )
    for each in rows.order_by("start_at"):
        found.setdefault(each.subscription_id, []).append(each)
    return found


def _meter_overrides(
    phases: Sequence[SubscriptionPhase], *, period: Period, peers: Peers
) -> list[Override]:
    if not phases:
        return []
    found = overrides_in(phases[0].subscription.customer_id, period=period, peers=peers)
    return [each for each in found if each.meter_id is not None]
