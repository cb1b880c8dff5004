"""What time does to an invoice that is not paid."""

from __future__ import annotations

from datetime import datetime

from billing.models import Subscription
from billing.operations.following import follow_customer
from billing.operations.locking import each_in_turn


def advance(*, now: datetime, limit: int) -> int:
    """Call subscriptions unpaid whose grace is over, up to `limit`; returns how many.

    Their calls are denied since the very end of the grace, of which metering knew ahead.
    """
    over = Subscription.objects.filter(
        status=Subscription.Status.PAST_DUE, grace_ends_at__lte=now
    ).order_by("grace_ends_at", "id")

    def work(subscription_id: int) -> bool:
        still = over.filter(pk=subscription_id).exists()
        follow_customer(Subscription.objects.get(pk=subscription_id).customer_id, now=now)
        return still

    return each_in_turn(
        list(over.values_list("customer_id", "id")[:limit]), work=work, what="dunning"
    )
