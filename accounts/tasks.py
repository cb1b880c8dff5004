"""What the beat has accounts do."""

from __future__ import annotations

from datetime import UTC, datetime

from celery import shared_task

from accounts.operations import forgetting

AT_ONCE = 5_000


@shared_task(name="accounts.forget_idempotent_requests")
def forget_idempotent_requests() -> int:
    """Delete kept answers older than 31 days; what is left over waits for the next look."""
    return forgetting.forget_idempotent_requests(now=datetime.now(UTC), limit=AT_ONCE)
