"""What happens after a payment has failed: grace, and when to look again.

Stripe decides when a card is tried again (Smart Retries); we only follow: an invoice that
failed leaves the customer served until its grace ends, and a sweep re-reads it from Stripe
soon after each attempt that Stripe announced, in case the webhook never comes.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

# A webhook usually needs seconds; by then the sweep would only ask in vain.
ATTEMPT_SETTLES_IN: Final = timedelta(minutes=15)
# Without an announced attempt: often enough to notice a payment whose webhooks were all lost.
SWEEP_EVERY: Final = timedelta(hours=24)


class DunningStage(StrEnum):
    """Where an unpaid invoice stands."""

    GRACE = "grace"  # served as if paid
    OVERDUE = "overdue"  # grace is over, Stripe still tries
    EXHAUSTED = "exhausted"  # grace is over and no further attempt comes


@dataclass(frozen=True, slots=True)
class FailedPayment:
    """An invoice whose payment failed and has not succeeded since.

    ``failed_at``: the first failure. ``next_attempt_at``: as Stripe announced it, None: none.
    ``checked_at``: when we last re-read it.
    """

    failed_at: datetime
    grace_days: int
    next_attempt_at: datetime | None
    checked_at: datetime


def grace_ends_at(failed_at: datetime, *, grace_days: int) -> datetime:
    """The first instant at which the customer is no longer served. Counted from the first
    failure: further failures do not prolong it."""
    return failed_at + timedelta(days=grace_days)


def in_grace(failed_at: datetime, *, grace_days: int, now: datetime) -> bool:
    return now < grace_ends_at(failed_at, grace_days=grace_days)


def stage(failed: FailedPayment, *, now: datetime) -> DunningStage:
    """Grace goes first: while it lasts it does not matter whether attempts are left."""
    if in_grace(failed.failed_at, grace_days=failed.grace_days, now=now):
        return DunningStage.GRACE
    return DunningStage.OVERDUE if failed.next_attempt_at else DunningStage.EXHAUSTED


def next_sweep_at(failed: FailedPayment) -> datetime:
    """When our sweep should re-read this invoice: shortly after Stripe's announced attempt,
    and at the latest a day after the last look. An attempt that was announced for a time
    before the last look is over and announces nothing."""
    latest = failed.checked_at + SWEEP_EVERY
    if failed.next_attempt_at is None:
        return latest
    expected = failed.next_attempt_at + ATTEMPT_SETTLES_IN
    return min(expected, latest) if expected > failed.checked_at else latest


def sweep_due(failed: FailedPayment, *, now: datetime) -> bool:
    return next_sweep_at(failed) <= now
