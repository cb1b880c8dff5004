"""Removing what need not be kept."""

from __future__ import annotations

from datetime import datetime, timedelta

from accounts.models import IdempotentRequest

KEPT_FOR = timedelta(days=31)


def forget_idempotent_requests(*, now: datetime, limit: int) -> int:
    """Delete up to `limit` kept answers older than 31 days and return how many."""
    old = IdempotentRequest.objects.filter(created_at__lt=now - KEPT_FOR).values("pk")[:limit]
    deleted, _ = IdempotentRequest.objects.filter(pk__in=old).delete()
    return deleted
