"""Retention of raw usage events, as far as billing can do without them."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from django.conf import settings

from billing.queries.retention import events_needed_from
from metering.operations import retiring


def retire_as_set(*, now: datetime) -> list[str]:
    """Export and drop the months that the settings let go; returns what was done.

    Nothing without FAREBOX_EVENTS_KEPT_MONTHS and FAREBOX_EXPORT_FOLDER. Raises as
    `metering.operations.retiring.retire`.
    """
    if not (settings.EVENTS_KEPT_MONTHS and settings.EXPORT_FOLDER):
        return []
    return retiring.retire(
        now=now,
        kept_months=settings.EVENTS_KEPT_MONTHS,
        folder=Path(settings.EXPORT_FOLDER),
        needed_from=events_needed_from(now=now),
    )
