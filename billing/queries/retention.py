"""Since when billing may still ask for single usage events."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from django.conf import settings
from django.db.models import Min, Q, QuerySet

from billing.domain.periods import Interval, period_at
from billing.models import Invoice, Override, PlanEntitlement, Subscription
from billing.queries.spans import PeriodBasis
from metering.domain.retention import LONGEST

_SPARE = timedelta(days=1)


def events_needed_from(*, now: datetime) -> datetime:
    """The earliest moment (UTC) of usage that an invoice yet to be issued may be rated from.

    Current periods and drafts in whole, and of issued invoices those that the next ones may still
    adjust, counted back from where these begin; each with the window that lies around its
    beginning. Grants on a right that counts over a lifetime are read from its beginning.
    """
    invoices = _rated(now=now)
    found = [now, *_current(), *_periods(invoices), *_lifetimes(invoices)]
    return min(found) - LONGEST["month"]


def _living() -> QuerySet[Subscription]:
    return Subscription.objects.exclude(status=Subscription.Status.CANCELED)


def _current() -> list[datetime]:
    rows = _living().values_list("anchor_at", "version__interval", "current_start_at")
    earliest: dict[str, datetime] = {}
    for anchor_at, interval, start_at in rows.iterator():
        whole = period_at(anchor_at, interval=Interval(interval), at=start_at)
        earliest[interval] = min(earliest.get(interval, whole.start_at), whole.start_at)
    return list(earliest.values())


def _rated(*, now: datetime) -> QuerySet[Invoice]:
    """Drafts, and what those and the invoices of the current periods may adjust."""
    drafts = Invoice.objects.filter(status=Invoice.Status.DRAFT)
    starts = (
        drafts.aggregate(at=Min("period_start_at"))["at"],
        _living().aggregate(at=Min("current_start_at"))["at"],
    )
    begin = min([now, *(at for at in starts if at is not None)])
    late = begin - timedelta(days=settings.EVENT_MAX_AGE_DAYS) - _SPARE
    return Invoice.objects.exclude(status=Invoice.Status.VOID).filter(
        Q(status=Invoice.Status.DRAFT) | Q(period_end_at__gt=late), subscription__isnull=False
    )


def _periods(invoices: QuerySet[Invoice]) -> list[datetime]:
    found = []
    for start_at, basis in invoices.values_list("period_start_at", "basis").iterator():
        found.append(start_at)
        if basis:
            found.append(PeriodBasis.from_json(basis).whole.start_at)
    return [min(found).astimezone(UTC)] if found else []


def _lifetimes(invoices: QuerySet[Invoice]) -> list[datetime]:
    """Anchors of whoever is, or was, billed for what is used past a lifetime's quantity."""
    whole_life = PlanEntitlement.objects.filter(window="lifetime")
    agreed = Override.objects.filter(meter__isnull=False)
    by_plan = Q(phases__version__in=whole_life.filter(over="bill").values("version"))
    by_agreement = Q(customer__in=agreed.filter(terms__window="lifetime").values("customer")) | Q(
        phases__version__in=whole_life.values("version"),
        customer__in=agreed.filter(terms__over="bill").values("customer"),
    )
    owners = Subscription.objects.filter(by_plan | by_agreement).values("id")
    at = _living().filter(id__in=owners).aggregate(at=Min("anchor_at"))["at"]
    bases = invoices.filter(subscription__in=owners).values_list("basis", flat=True)
    found = [PeriodBasis.from_json(basis).anchor_at for basis in bases.iterator() if basis]
    return [each.astimezone(UTC) for each in (at, *found) if each is not None]
