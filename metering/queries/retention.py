"""Months of raw events: which there are, which are gone, since when they are asked for."""

from __future__ import annotations

from datetime import UTC, date, datetime

from django.db import connection

from metering.domain.retention import gone_until, windows_needed_from
from metering.models import Entitlement, RetiredMonth

_PARTITIONS = """
SELECT to_date(right(child.relname, 6), 'YYYYMM')
  FROM pg_inherits AS link
  JOIN pg_class AS child ON child.oid = link.inhrelid
 WHERE link.inhparent = 'metering_usageevent'::regclass
 ORDER BY 1
"""


def months_present() -> list[date]:
    """The months of receipt whose events are there, oldest first."""
    with connection.cursor() as cursor:
        cursor.execute(_PARTITIONS)
        return [month for (month,) in cursor.fetchall()]


def gone_before() -> datetime | None:
    """Before which time (UTC) events may have been dropped; None: none were."""
    last = RetiredMonth.objects.filter(detached_at__isnull=False).order_by("-month").first()
    return None if last is None else gone_until(last.month)


def windows_in_force_from(*, now: datetime) -> datetime:
    """Since when events may be asked for by the windows of rights that stand (UTC)."""
    units = Entitlement.objects.filter(kind="metered").values_list("window", flat=True).distinct()
    return windows_needed_from(units, now=now.astimezone(UTC))
