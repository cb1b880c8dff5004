"""What is kept only for a time: denials."""

from __future__ import annotations

from datetime import datetime, timedelta

from metering.models import Denial

DENIALS_KEPT = timedelta(days=31)


def forget_denials(*, now: datetime) -> int:
    """Delete denials last seen more than 31 days ago; returns how many rows there were."""
    deleted, _ = Denial.objects.filter(last_at__lt=now - DENIALS_KEPT).delete()
    return deleted
