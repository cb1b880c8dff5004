"""Beginning, pausing, resuming and ending a subscription."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final, Literal

from django.db import transaction
from django.db.models import Max

from accounts.operations.auditing import audit
from billing.domain.periods import Interval, calendar_anchor, period_at
from billing.domain.seats import SEATS_MAX
from billing.domain.subscriptions import SubscriptionEvent, SubscriptionStatus, first_status
from billing.models import PlanVersion, Subscription, SubscriptionPhase
from billing.operations.closing import (
    begin_period,
    catch_up,
    close_subscription_now,
    end_subscription,
    enter_version,
)
from billing.operations.locking import lock_customer
from billing.operations.provisioning import advance_status, provision
from billing.queries.catalogue import active_version
from billing.queries.payment_methods import has_payment_method, needs_payment_method
from billing.queries.period_fees import period_fee
from billing.queries.trials import trial_is_due

OLDEST_START: Final = timedelta(days=3 * 366)
SHORTEST_PHASE: Final = timedelta(seconds=1)
Status = Subscription.Status


class AlreadySubscribed(Exception):
    """The customer has a subscription that is not canceled: change its plan instead."""

    param = "customer"


class StartInvalid(Exception):
    """A subscription cannot start then: in the future, too long ago, or before another ended."""

    param = "start_at"


class SeatsInvalid(Exception):
    """The plan is not sold by seats, or not with so many."""

    param = "seats"


class SubscriptionUnknown(Exception):
    """No subscription has this id."""


def instant(at: datetime) -> datetime:
    """Boundaries of periods and phases lie on whole seconds."""
    return at.replace(microsecond=0)


def next_instant(subscription: Subscription, *, now: datetime) -> datetime:
    """The second at which a change asked for at `now` takes effect.

    Every phase and every period lasts a second at least: who takes a plan, uses it up and leaves
    it within one is charged for it.
    """
    began_at = _phase_began_at(subscription)
    billed_until_at = subscription.billed_until_at or subscription.current_start_at
    latest = max(began_at, billed_until_at)
    at = max(instant(now), latest + SHORTEST_PHASE)
    # Where the period has no second left, the phase began in its last one, and after all that
    # interim invoices have billed.
    return at if at < subscription.current_end_at else began_at


def load(subscription_id: int, *, now: datetime) -> Subscription:
    """Lock the subscription's customer and read the subscription, brought up to `now`.

    Must run inside a transaction. Raises SubscriptionUnknown.
    """
    found = Subscription.objects.filter(pk=subscription_id)
    customer_id = found.values_list("customer_id", flat=True).first()
    if customer_id is None:
        raise SubscriptionUnknown("There is no such subscription.")
    lock_customer(customer_id)
    subscription = found.select_related("version__plan", "pending_version__plan").get()
    catch_up(subscription, now=now)
    return subscription


def check_seats(seats: int, *, version: PlanVersion) -> None:
    """Raise SeatsInvalid where the version cannot be had with so many."""
    if version.seats is None:
        raise SeatsInvalid(f"The plan {version.plan.key!r} is not sold by seats.")
    if not 1 <= seats <= SEATS_MAX:
        raise SeatsInvalid(f"A subscription has 1 to {SEATS_MAX} seats.")


def subscribe(
    customer_id: int,
    *,
    plan: str,
    seats: int = 1,
    start_at: datetime | None = None,
    anchor: Literal["start", "calendar"] = "start",
    collection: Literal["stripe", "manual"] = "stripe",
    actor: str,
    now: datetime,
) -> Subscription:
    """Subscribe the customer to the active version of a plan (its key or id), from now or earlier.

    It is billed in the customer's currency, which stays the customer's from then on.
    Periods that are over by `now` are closed at once. A plan that costs something and is collected
    through Stripe waits, incomplete, until there is a payment method; a trial, which each customer
    has once in a family of plans, waits only where the plan says so. Raises AlreadySubscribed,
    CurrencyUnfit, StartInvalid, SeatsInvalid, PlanUnknown, PlanNotOnSale, CustomerUnknown.
    """
    with transaction.atomic():
        customer = lock_customer(customer_id)
        version = active_version(plan, currency=customer.currency)
        if seats != 1:
            check_seats(seats, version=version)
        start_at = _start(customer_id, start_at=start_at, now=now)
        subscription = _new(
            customer_id,
            version=version,
            seats=seats,
            start_at=start_at,
            anchor=anchor,
            collection=collection,
            now=now,
        )
        audit(
            actor=actor,
            action="subscription.created",
            subject=subscription.public_id,
            customer_id=customer_id,
            changes={"plan": version.plan.key, "start_at": start_at.isoformat()},
            now=now,
        )
        catch_up(subscription, now=now)
        provision(subscription, now=now)
    return subscription


def activate(subscription: Subscription, *, now: datetime) -> None:
    """Begin an incomplete subscription now that it can be paid; the caller provisions.

    What it was denied until now is not billed: its first period starts here, or its trial, where
    that waited for a payment method.
    """
    at = max(instant(now), _phase_began_at(subscription))
    paid_from = at
    trialing = subscription.trial_end_at is None and trial_is_due(
        subscription.customer_id, version=subscription.version, besides=subscription
    )
    if subscription.trial_end_at is None:
        # Nothing was served until now: what the first period includes counts from here.
        SubscriptionPhase.objects.filter(subscription=subscription).delete()
    own_anchor = subscription.anchor_at == (subscription.trial_end_at or subscription.start_at)
    enter_version(subscription, version=subscription.version, at=at)
    if trialing:
        advance_status(subscription, event=SubscriptionEvent.TRIAL_STARTED)
        paid_from = at + timedelta(days=subscription.version.trial_days)
        subscription.trial_end_at = paid_from
        subscription.current_start_at, subscription.current_end_at = at, paid_from
    else:
        advance_status(subscription, event=SubscriptionEvent.ACTIVATED)
    if own_anchor:
        subscription.anchor_at = paid_from
    if not trialing:
        begin_period(subscription, at=at)


def pause(subscription_id: int, *, actor: str, now: datetime) -> Subscription:
    """Deny calls from now on. The fee of the period under way is owed, later ones are not.

    Pausing twice changes nothing. Raises SubscriptionTransitionRefused: a debt is paid first.
    """
    with transaction.atomic():
        subscription = load(subscription_id, now=now)
        advance_status(subscription, event=SubscriptionEvent.PAUSED)
        if subscription.paused_at is None:
            subscription.paused_at = instant(now)
            _audit(subscription, "subscription.paused", actor=actor, now=now)
            provision(subscription, now=now)
    return subscription


def resume(subscription_id: int, *, actor: str, now: datetime) -> Subscription:
    """Serve again; the period that is under way is billed. Resuming twice changes nothing.

    Raises SubscriptionTransitionRefused.
    """
    with transaction.atomic():
        subscription = load(subscription_id, now=now)
        advance_status(subscription, event=SubscriptionEvent.RESUMED)
        if subscription.paused_at is not None:
            subscription.paused_at = None
            _audit(subscription, "subscription.resumed", actor=actor, now=now)
            provision(subscription, now=now)
    return subscription


def cancel(
    subscription_id: int, *, when: Literal["now", "period_end"], actor: str, now: datetime
) -> Subscription:
    """End the subscription at once, with its last invoice, or when its period ends.

    Either way the period under way is owed in full. Canceling twice changes nothing; "now" after
    "period_end" is sooner and wins.
    """
    with transaction.atomic():
        subscription = load(subscription_id, now=now)
        if subscription.status == Status.CANCELED:
            return subscription
        if when == "now" or subscription.status == Status.INCOMPLETE:
            at = next_instant(subscription, now=now)
            close_subscription_now(subscription, at=at, now=now)
            end_subscription(subscription, at=at, actor=actor, now=now)
            provision(subscription, now=now)
        elif subscription.cancel_at is None:
            subscription.cancel_at = subscription.current_end_at
            _audit(subscription, "subscription.cancel_scheduled", actor=actor, now=now)
            provision(subscription, now=now)
    return subscription


def keep(subscription_id: int, *, actor: str, now: datetime) -> Subscription:
    """Take back a cancellation that has not taken effect; nothing happens where there is none."""
    with transaction.atomic():
        subscription = load(subscription_id, now=now)
        if subscription.status != Status.CANCELED and subscription.cancel_at is not None:
            subscription.cancel_at = None
            _audit(subscription, "subscription.kept", actor=actor, now=now)
            provision(subscription, now=now)
    return subscription


def _phase_began_at(subscription: Subscription) -> datetime:
    return SubscriptionPhase.objects.get(subscription=subscription, end_at=None).start_at


def _start(customer_id: int, *, start_at: datetime | None, now: datetime) -> datetime:
    earlier = Subscription.objects.filter(customer_id=customer_id)
    if earlier.exclude(status=Status.CANCELED).exists():
        raise AlreadySubscribed("The customer has a subscription: change its plan instead.")
    if start_at is None:
        ended_at = earlier.aggregate(last=Max("canceled_at"))["last"]
        return max(instant(now), ended_at or instant(now))
    start_at = instant(start_at)
    if start_at > now:
        raise StartInvalid("A subscription cannot start in the future.")
    if start_at < now - OLDEST_START:
        raise StartInvalid("A subscription cannot start more than three years ago.")
    if earlier.filter(canceled_at__gt=start_at).exists():
        raise StartInvalid("The customer's earlier subscription had not ended by then.")
    return start_at


def _new(
    customer_id: int,
    *,
    version: PlanVersion,
    seats: int,
    start_at: datetime,
    anchor: Literal["start", "calendar"],
    collection: Literal["stripe", "manual"],
    now: datetime,
) -> Subscription:
    needed = needs_payment_method(version, collection=collection)
    awaits_payment = needed and not has_payment_method(customer_id)
    trialing = trial_is_due(customer_id, version=version)
    if awaits_payment and version.trial_card:
        trialing = False  # it begins when there is a payment method
    paid_from = start_at + timedelta(days=version.trial_days if trialing else 0)
    status = first_status(trialing=trialing, awaits_payment=awaits_payment)
    subscription = Subscription(
        customer_id=customer_id,
        version=version,
        seats=seats,
        status=status,
        collection=collection,
        start_at=start_at,
        anchor_at=_free_anchor(customer_id, version=version, seats=seats, at=paid_from)
        if anchor == "start"
        else calendar_anchor(paid_from, interval=Interval(version.interval)),
        trial_end_at=paid_from if trialing else None,
        created_at=now,
    )
    if status == SubscriptionStatus.TRIALING:
        subscription.current_start_at, subscription.current_end_at = start_at, paid_from
    else:
        begin_period(subscription, at=start_at)
    subscription.save(force_insert=True)
    SubscriptionPhase.objects.create(
        subscription=subscription, version=version, seats=seats, start_at=start_at
    )
    return subscription


def _free_anchor(customer_id: int, *, version: PlanVersion, seats: int, at: datetime) -> datetime:
    """Where the periods are counted from: here, or where those of the customer's last subscription
    were, if it had one until a moment ago and this one costs nothing.

    Otherwise whoever leaves a free plan and comes back has everything that it includes anew.
    """
    earlier = Subscription.objects.filter(customer_id=customer_id, canceled_at__isnull=False)
    last = earlier.select_related("version").order_by("canceled_at").last()
    if last is None or period_fee(version, seats=seats):
        return at
    interval = Interval(last.version.interval)
    assert last.canceled_at is not None
    left = period_at(last.anchor_at, interval=interval, at=last.canceled_at)
    return last.anchor_at if interval == version.interval and at < left.end_at else at


def _audit(subscription: Subscription, action: str, *, actor: str, now: datetime) -> None:
    audit(
        actor=actor,
        action=action,
        subject=subscription.public_id,
        customer_id=subscription.customer_id,
        now=now,
    )
