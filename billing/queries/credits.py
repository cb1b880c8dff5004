"""Credits of customers: what there is, and what a bill can use."""

from __future__ import annotations

from datetime import datetime

from django.db.models import F, QuerySet

from billing.domain.credits import AvailableCredit
from billing.models import Credit


def credits_of(customer_id: int | None = None) -> QuerySet[Credit]:
    """All of them, or a customer's, newest first, used up and expired ones included."""
    found = Credit.objects.order_by("-id")
    return found if customer_id is None else found.filter(customer_id=customer_id)


def credits_left(customer_id: int) -> QuerySet[Credit]:
    """Those of which something is left, in the order in which they are used."""
    found = Credit.objects.filter(customer_id=customer_id, amount__gt=F("used") + F("expired"))
    return found.order_by(
        "currency", "priority", F("expires_at").asc(nulls_last=True), "granted_at", "id"
    )


def usable_credits(customer_id: int, *, currency: str, end_at: datetime) -> list[AvailableCredit]:
    """What the bill of a period that ends at `end_at` can use."""
    found = [
        AvailableCredit(each.pk, each.left, each.priority, each.expires_at, each.granted_at)
        for each in credits_left(customer_id).filter(currency=currency)
    ]
    return [each for each in found if each.covers(end_at)]


def credit_available(customer_id: int, *, currency: str, end_at: datetime) -> int:
    """The sum of :func:`usable_credits`, in minor units."""
    return sum(each.left for each in usable_credits(customer_id, currency=currency, end_at=end_at))
