"""Subscriptions, as they stand."""

from __future__ import annotations

from django.db.models import QuerySet

from billing.models import Subscription


def subscriptions(
    *, customer_id: int | None = None, status: str | None = None
) -> QuerySet[Subscription]:
    """All of them, or those of one customer or in one state; the newest first."""
    found = Subscription.objects.select_related("version__plan", "pending_version__plan")
    if customer_id is not None:
        found = found.filter(customer_id=customer_id)
    if status is not None:
        found = found.filter(status=status)
    return found.order_by("-id")


def current_subscription(customer_id: int) -> Subscription | None:
    """The one that is not canceled, if there is one."""
    found = subscriptions(customer_id=customer_id)
    return found.exclude(status=Subscription.Status.CANCELED).first()
