"""Decisions that were made: denials with what they saw, and holds."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from django.db.models import QuerySet

from metering.models import Denial, Hold, UsageEvent


def denial_by_id(customer_id: int, *, decision_id: UUID) -> Denial | None:
    """The denial with this id; the row stands for all the same denials of its minute."""
    return Denial.objects.filter(customer_id=customer_id, id=decision_id).first()


def admitted_by_id(customer_id: int, *, decision_id: UUID) -> Hold | UsageEvent | None:
    """What an admitted call left: the hold it opened, else the event it became; None for peeks."""
    hold = Hold.objects.filter(customer_id=customer_id, id=decision_id).first()
    if hold is not None:
        return hold
    return UsageEvent.objects.filter(customer_id=customer_id, id=decision_id).first()


def denials(
    customer_id: int, *, start_at: datetime | None = None, end_at: datetime | None = None
) -> QuerySet[Denial]:
    """Denials of a customer that were last seen in the span."""
    found = Denial.objects.filter(customer_id=customer_id)
    if start_at is not None:
        found = found.filter(last_at__gte=start_at)
    if end_at is not None:
        found = found.filter(last_at__lt=end_at)
    return found
