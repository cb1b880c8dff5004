"""When a change of plan takes effect, and whether time is given back for it.

The rules keep one promise: no sequence of changes gives more than was paid. Time is credited
only where a dearer plan of the same interval takes over inside the period, since then the
period and what was used in it go on. Elsewhere the customer may still insist on "now", but
gets nothing back: otherwise one could use up a plan in a minute and return it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from fractions import Fraction
from typing import Final

from billing.domain.periods import Interval, Period
from billing.domain.subscriptions import SubscriptionStatus


class PlanChangeRefused(Exception):
    """The plan cannot be changed in this state, or to that plan."""


class ChangeWhen(StrEnum):
    NOW = "now"
    PERIOD_END = "period_end"


@dataclass(frozen=True, slots=True)
class PlanTerms:
    """What matters of a plan here; ``fee`` per interval, in minor units."""

    fee: int
    interval: Interval
    currency: str


@dataclass(frozen=True, slots=True)
class ChangeTiming:
    """``effective_at``: from when on the new plan holds. ``prorate``: credit the rest of the
    old fee and charge the rest of the new. ``restarts_period``: the period is closed at
    ``effective_at`` and a whole one of the new plan, charged in full, begins there. A change
    at the period's end has neither: the next period is simply one of the new plan (with a new
    anchor there, where the interval is another)."""

    when: ChangeWhen
    effective_at: datetime
    prorate: bool = False
    restarts_period: bool = False


_REFUSALS: Final = {
    SubscriptionStatus.CANCELED: "A canceled subscription cannot change its plan.",
    SubscriptionStatus.PAUSED: "Resume the subscription before changing its plan.",
    SubscriptionStatus.PAST_DUE: "Pay the open invoice before changing the plan.",
    SubscriptionStatus.UNPAID: "Pay the open invoice before changing the plan.",
}
_DAYS: Final = {
    Interval.DAY: Fraction(1),
    Interval.WEEK: Fraction(7),
    Interval.MONTH: Fraction(365, 12),
    Interval.YEAR: Fraction(365),
}


def is_upgrade(old: PlanTerms, *, new: PlanTerms) -> bool:
    """Whether the new plan's fee is higher, by the day where the intervals differ."""
    return new.fee / _DAYS[new.interval] > old.fee / _DAYS[old.interval]


def change_timing(
    status: SubscriptionStatus,
    *,
    old: PlanTerms,
    new: PlanTerms,
    period: Period,
    now: datetime,
    when: ChangeWhen | None = None,
) -> ChangeTiming:
    """How a change asked for at ``now`` is carried out. ``when`` None: as is best for the
    customer: an upgrade now, anything else at the end of the period that is paid for.

    While trialing or incomplete a change is at once and free: nothing was paid yet. From a
    plan without fee, and to another interval, "now" begins a new period. Raises
    :class:`PlanChangeRefused`.
    """
    if status in _REFUSALS:
        raise PlanChangeRefused(_REFUSALS[status])
    if old.currency != new.currency:
        raise PlanChangeRefused(
            f"The subscription is in {old.currency}, that plan in {new.currency}."
        )
    if status in (SubscriptionStatus.TRIALING, SubscriptionStatus.INCOMPLETE):
        return ChangeTiming(ChangeWhen.NOW, now)
    upgrade = is_upgrade(old, new=new)
    if when is None:
        when = ChangeWhen.NOW if upgrade else ChangeWhen.PERIOD_END
    if when is ChangeWhen.PERIOD_END:
        return ChangeTiming(when, period.end_at)
    restarts = new.interval != old.interval or (old.fee == 0 and new.fee > 0)
    return ChangeTiming(when, now, prorate=upgrade and not restarts, restarts_period=restarts)
