"""Since when billing may still ask for single usage events."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from django.conf import settings
from django.db.models import Min, Q

from billing.domain.periods import Interval, period_at
from billing.models import Invoice, PlanEntitlement, Subscription
from billing.queries.spans import PeriodBasis
from metering.domain.retention import LONGEST

_SPARE = timedelta(days=1)


def events_needed_from(*, now: datetime) -> datetime:
    """The earliest moment (UTC) of usage that an invoice yet to be issued may be rated from.

    Current periods and drafts in whole, and of issued invoices those that events may still adjust
    which come as late as the setting allows; each with the window that lies around its beginning.
    Grants on a right that counts over a lifetime are read from its beginning.
    """
    found = [now, *_current(), *_rated_again(now=now), *_lifetimes()]
    return min(found) - LONGEST["month"]


def _current() -> list[datetime]:
    rows = Subscription.objects.exclude(status=Subscription.Status.CANCELED).values_list(
        "anchor_at", "version__interval", "current_start_at"
    )
    earliest: dict[str, datetime] = {}
    for anchor_at, interval, start_at in rows.iterator():
        whole = period_at(anchor_at, interval=Interval(interval), at=start_at)
        earliest[interval] = min(earliest.get(interval, whole.start_at), whole.start_at)
    return list(earliest.values())


def _rated_again(*, now: datetime) -> list[datetime]:
    late = now - timedelta(days=settings.EVENT_MAX_AGE_DAYS) - _SPARE
    rows = (
        Invoice.objects.exclude(status=Invoice.Status.VOID)
        .filter(
            Q(status=Invoice.Status.DRAFT) | Q(period_end_at__gt=late), subscription__isnull=False
        )
        .values_list("period_start_at", "basis")
    )
    found = now
    for start_at, basis in rows.iterator():
        whole = PeriodBasis.from_json(basis).whole.start_at if basis else start_at
        found = min(found, start_at, whole)
    return [found.astimezone(UTC)]


def _lifetimes() -> list[datetime]:
    """Anchors of subscriptions to a plan that bills what is used past a lifetime's quantity."""
    versions = PlanEntitlement.objects.filter(window="lifetime", over="bill").values("version_id")
    found = Subscription.objects.exclude(status=Subscription.Status.CANCELED).filter(
        version_id__in=versions
    )
    at = found.aggregate(at=Min("anchor_at"))["at"]
    return [] if at is None else [at]
