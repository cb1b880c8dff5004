"""Changing how many seats a subscription has.

More seats hold at once and are paid by the second from then on; fewer hold from the next period on,
and whoever insists on "now" gets nothing back, as with a change of plan.
"""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from accounts.operations.auditing import audit
from billing.domain.plan_changes import ChangeWhen
from billing.models import Subscription
from billing.operations.changing import timing_of
from billing.operations.closing import enter_version
from billing.operations.following import begin_if_payable
from billing.operations.subscribing import check_seats, load, next_instant


def change_seats(
    subscription_id: int,
    *,
    seats: int,
    when: ChangeWhen | None = None,
    actor: str,
    now: datetime,
) -> Subscription:
    """Have `seats` seats, now or when the period ends; `when` None: more now, fewer later.

    Asking for the number that holds takes back a change that was waiting. Raises SeatsInvalid,
    PlanChangeRefused, SubscriptionUnknown.
    """
    with transaction.atomic():
        subscription = load(subscription_id, now=now)
        check_seats(seats, version=subscription.version)
        if seats == subscription.seats:
            waiting, subscription.pending_seats = subscription.pending_seats, None
            subscription.save()
            if waiting is not None:
                _audit(subscription, seats=seats, when="taken_back", actor=actor, now=now)
            return subscription
        timing = timing_of(
            subscription, version=subscription.version, seats=seats, when=when, now=now
        )
        _audit(subscription, seats=seats, when=timing.when, actor=actor, now=now)
        if timing.when is ChangeWhen.PERIOD_END:
            subscription.pending_seats = seats
            subscription.save()
        else:
            at = next_instant(subscription, now=now)
            enter_version(subscription, version=subscription.version, seats=seats, at=at)
            begin_if_payable(subscription, now=now)
    return subscription


def _audit(subscription: Subscription, *, seats: int, when: str, actor: str, now: datetime) -> None:
    audit(
        actor=actor,
        action="subscription.seats_changed",
        subject=subscription.public_id,
        customer_id=subscription.customer_id,
        changes={"from": subscription.seats, "to": seats, "when": str(when)},
        now=now,
    )
