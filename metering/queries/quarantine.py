"""Events in quarantine, and the bounds by which they are tried again."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.db.models import QuerySet

from metering.domain.counting import TimeBounds
from metering.models import QuarantinedEvent


def quarantined_events(
    *, code: str | None = None, type_: str | None = None, source: str | None = None
) -> QuerySet[QuarantinedEvent]:
    """The events that were refused and kept: all, or those that are as asked."""
    asked = {"code": code, "type": type_, "source": source}
    return QuarantinedEvent.objects.filter(**{k: v for k, v in asked.items() if v is not None})


def event_bounds() -> TimeBounds:
    """The operator's bounds on the time of an event."""
    return TimeBounds(
        max_age=timedelta(days=settings.EVENT_MAX_AGE_DAYS),
        max_ahead=timedelta(seconds=settings.EVENT_MAX_AHEAD_S),
    )
