"""Billing thresholds: usage that comes to an amount is billed before its period ends.

An interim invoice bills the usage so far, and nothing else; the period goes on, with its tiers and
what it includes, and its last invoice bills the rest. Events that come late for what an interim
invoice billed are adjusted on the next one, as ever.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from django.db import transaction
from django.db.models import F, Q, QuerySet

from accounts.models import CustomerVersion
from accounts.operations.auditing import audit
from billing.models import Invoice, Subscription
from billing.operations.drafting import draft_period
from billing.operations.issuing import issue
from billing.operations.locking import each_in_turn
from billing.operations.plan_shapes import check_threshold
from billing.operations.subscribing import instant, load
from billing.queries.peers import Peers
from billing.queries.rated_periods import Terms, rated_usage
from billing.queries.spans import current_basis, spans, unbilled_period

# So much of the present is left to the next invoice, and of a period to its last one.
_SPARE: Final = timedelta(seconds=1)
_SERVED: Final = (Subscription.Status.ACTIVE, Subscription.Status.PAST_DUE)


def set_billing_threshold(
    subscription_id: int, *, amount: int | None, actor: str, now: datetime
) -> Subscription:
    """Bill this subscription's usage at `amount` minor units instead of at its plan's; None: as
    the plan says. Raises PlanInvalid, SubscriptionUnknown."""
    with transaction.atomic():
        subscription = load(subscription_id, now=now)
        check_threshold(amount, currency=subscription.version.currency)
        before = subscription.billing_threshold
        if amount != before:
            subscription.billing_threshold = amount
            subscription.threshold_seen = None
            subscription.save()
            audit(
                actor=actor,
                action="subscription.billing_threshold_set",
                subject=subscription.public_id,
                customer_id=subscription.customer_id,
                changes={"from": before, "to": amount},
                now=now,
            )
    return subscription


def bill_thresholds(*, now: datetime, limit: int) -> int:
    """Look at up to `limit` subscriptions with a threshold that have changed since the last look,
    and bill the usage of those that reached it; of how many."""
    claims = _watched(now=now).order_by(F("threshold_checked_at").asc(nulls_first=True), "id")
    return each_in_turn(
        list(claims.values_list("customer_id", "id")[:limit]),
        work=lambda found: _bill(found, now=now),
        what="billing at a threshold",
    )


def _watched(*, now: datetime) -> QuerySet[Subscription]:
    return Subscription.objects.filter(
        Q(billing_threshold__isnull=False) | Q(version__billing_threshold__isnull=False),
        Q(threshold_seen=None) | ~Q(threshold_seen=F("customer__version_row__version")),
        status__in=_SERVED,
        current_end_at__gt=now + 2 * _SPARE,
    )


def _bill(subscription_id: int, *, now: datetime) -> bool:
    subscription = _watched(now=now).select_related("version").filter(pk=subscription_id).first()
    if subscription is None:
        return False
    version = CustomerVersion.objects.get(customer_id=subscription.customer_id).version
    Subscription.objects.filter(pk=subscription_id).update(threshold_checked_at=now)
    least = subscription.billing_threshold or subscription.version.billing_threshold
    assert least is not None
    if _usage(subscription, end_at=subscription.current_end_at) < least:
        Subscription.objects.filter(pk=subscription_id).update(threshold_seen=version)
        return False
    at = instant(now) - _SPARE
    begun = at > (subscription.billed_until_at or subscription.current_start_at)
    # Older invoices go first, and wait for late events as long as they do.
    waits = Invoice.objects.filter(subscription=subscription, status=Invoice.Status.DRAFT).exists()
    if not begun or waits or _usage(subscription, end_at=at) < least:
        return False
    invoice = draft_period(subscription, end_at=at, interim=True, now=now)
    Subscription.objects.filter(pk=subscription_id).update(billed_until_at=at)
    issue(invoice.pk, now=now)
    return True


def _usage(subscription: Subscription, *, end_at: datetime) -> int:
    """What the usage comes to that no invoice bills yet, in minor units."""
    period = unbilled_period(subscription, end_at=end_at)
    found = spans(subscription.pk, period=period, peers=Peers([subscription.customer_id]))
    (rated,) = rated_usage([Terms(subscription.customer_id, found, current_basis(subscription))])
    return sum(each.amount for each in rated)
