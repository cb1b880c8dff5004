"""What the beat has metering do; each task is one call."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from celery import shared_task
from django.conf import settings

from metering.operations import (
    applying,
    checking,
    expiring,
    forgetting,
    partitioning,
    redriving,
    rolling_over,
    rolling_up,
)

BATCHES_AT_ONCE, ROUNDS_AT_ONCE = 500, 40
CUSTOMERS_AT_ONCE = 200
HOLDS_AT_ONCE, HOLD_PIECES_AT_ONCE = 2_000, 25
PIECES_AT_ONCE = 40


@shared_task(name="metering.roll_up")
def roll_up() -> int:
    """Turn waiting batches into hourly buckets."""
    return rolling_up.roll_up_waiting(limit=BATCHES_AT_ONCE, rounds=ROUNDS_AT_ONCE)


@shared_task(name="metering.roll_up_days")
def roll_up_days() -> int:
    """Make days of the hours, and months of the days, that are over."""
    return rolling_up.roll_up_days(now=datetime.now(UTC))


@shared_task(name="metering.expire_holds")
def expire_holds() -> int:
    """Free what forgotten holds reserved."""
    return expiring.expire_holds(now=datetime.now(UTC), limit=CUSTOMERS_AT_ONCE)


@shared_task(name="metering.roll_over")
def roll_over() -> int:
    """Let what windows left unused go on into the next ones."""
    return rolling_over.roll_over(now=datetime.now(UTC), limit=CUSTOMERS_AT_ONCE)


@shared_task(name="metering.apply_backfills")
def apply_backfills() -> int:
    """Let closed backfills count, and take reverted ones back, piece by piece."""
    return applying.apply_backfills(
        now=datetime.now(UTC), limit=applying.PIECE, pieces=PIECES_AT_ONCE
    )


@shared_task(name="metering.make_partitions")
def make_partitions() -> None:
    """Make the partitions of the months to come."""
    partitioning.make_partitions(now=datetime.now(UTC))


@shared_task(name="metering.forget_denials")
def forget_denials() -> int:
    """Delete denials older than 31 days."""
    return forgetting.forget_denials(now=datetime.now(UTC))


@shared_task(name="metering.forget_gateway_faults")
def forget_gateway_faults() -> int:
    """Delete what gateways got wrong and no longer do."""
    return forgetting.forget_gateway_faults(now=datetime.now(UTC))


@shared_task(name="metering.forget_holds")
def forget_holds() -> int:
    """Delete closed holds whose ids are no longer remembered, piece by piece."""
    return forgetting.forget_holds(
        now=datetime.now(UTC), limit=HOLDS_AT_ONCE, pieces=HOLD_PIECES_AT_ONCE
    )


@shared_task(name="metering.forget_quarantined")
def forget_quarantined() -> int:
    """Delete refused events that nobody mended in time."""
    return redriving.forget_quarantined(
        now=datetime.now(UTC), kept=timedelta(days=settings.QUARANTINE_DAYS)
    )


@shared_task(name="metering.check_invariants")
def check_invariants() -> int:
    """Look for what must not be; each fault is logged, and counted by /metrics while it stands."""
    return len(checking.check_invariants(now=datetime.now(UTC), limit=CUSTOMERS_AT_ONCE))
