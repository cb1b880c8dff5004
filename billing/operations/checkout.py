"""Visits to Stripe Checkout: what they are for, and doing that exactly once."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from django.db import transaction

from accounts.operations.auditing import audit
from billing.domain.plan_changes import ChangeWhen, PlanChangeRefused
from billing.domain.subscriptions import SubscriptionStatus
from billing.models import CheckoutSession, PlanVersion, Subscription
from billing.operations.changing import change_plan, timing_of
from billing.operations.locking import lock_customer
from billing.operations.subscribing import subscribe
from billing.queries.catalogue import CurrencyUnfit, PlanNotOnSale, active_version
from billing.queries.subscriptions import current_subscription

OPEN_FOR: Final = timedelta(hours=23)  # Stripe closes the page after 24
Status = CheckoutSession.Status


class CheckoutUnknown(Exception):
    """There was no such visit to Checkout."""


class CheckoutAlready(Exception):
    """The customer is on this plan already."""

    param = "plan"


def begin_checkout(
    customer_id: int, *, plan: str | None = None, actor: str, now: datetime
) -> CheckoutSession:
    """Begin a visit that leads to `plan` (key or id), or only to another payment method.

    A visit to the same end that is still open is given again. Raises CheckoutAlready,
    PlanChangeRefused, CurrencyUnfit, PlanUnknown, PlanNotOnSale, CustomerUnknown.
    """
    with transaction.atomic():
        customer = lock_customer(customer_id)
        version = None
        if plan is not None:
            version = active_version(plan, currency=customer.currency)
            _refuse(current_subscription(customer_id), version=version, now=now)
        open_one = CheckoutSession.objects.filter(
            customer_id=customer_id,
            version=version,
            status__in=(Status.PENDING, Status.OPEN),
            created_at__gt=now - OPEN_FOR,
        ).first()
        if open_one is not None:
            return open_one
        session = CheckoutSession.objects.create(
            customer_id=customer_id, version=version, created_at=now
        )
        _audit(session, "checkout.begun", actor=actor, now=now)
    return session


def complete_checkout(session_id: int, *, now: datetime) -> CheckoutSession:
    """The customer gave a payment method: do what the visit was for, once.

    Where that is refused by now (the plan went off sale, an invoice is past due), the payment
    method stays and the plan does not change.
    """
    with transaction.atomic():
        session = _load(session_id)
        if session.status == Status.COMPLETE:
            return session
        session.status, session.completed_at = Status.COMPLETE, now
        session.save(update_fields=["status", "completed_at"])
        applied = session.version is None or _apply(session, version=session.version, now=now)
        action = "checkout.completed" if applied else "checkout.completed_without_change"
        _audit(session, action, actor="stripe", now=now)
    return session


def expire_checkout(session_id: int, *, now: datetime) -> CheckoutSession:
    """The customer did not go on; a visit that was completed stays so."""
    with transaction.atomic():
        session = _load(session_id)
        if session.status in (Status.PENDING, Status.OPEN):
            session.status = Status.EXPIRED
            session.save(update_fields=["status"])
            _audit(session, "checkout.expired", actor="stripe", now=now)
    return session


def _load(session_id: int) -> CheckoutSession:
    found = CheckoutSession.objects.filter(pk=session_id)
    customer_id = found.values_list("customer_id", flat=True).first()
    if customer_id is None:
        raise CheckoutUnknown("There was no such visit to Checkout.")
    lock_customer(customer_id)
    return found.select_related("version__plan").get()


def _refuse(subscription: Subscription | None, *, version: PlanVersion, now: datetime) -> None:
    if subscription is None:
        return
    if subscription.version_id == version.pk:
        if subscription.status != SubscriptionStatus.INCOMPLETE:
            raise CheckoutAlready(f"The customer is on {version.plan.name} already.")
        return
    timing_of(subscription, version=version, when=ChangeWhen.NOW, now=now)


def _apply(session: CheckoutSession, *, version: PlanVersion, now: datetime) -> bool:
    subscription = current_subscription(session.customer_id)
    plan, actor = version.plan.key, session.public_id
    try:
        with transaction.atomic():
            if subscription is None:
                subscribe(session.customer_id, plan=plan, actor=actor, now=now)
            else:
                change_plan(subscription.id, plan=plan, when=ChangeWhen.NOW, actor=actor, now=now)
    except (PlanChangeRefused, PlanNotOnSale, CurrencyUnfit):
        return False
    return True


def _audit(session: CheckoutSession, action: str, *, actor: str, now: datetime) -> None:
    audit(
        actor=actor,
        action=action,
        subject=session.public_id,
        customer_id=session.customer_id,
        changes={"plan": session.version.plan.key if session.version else None},
        now=now,
    )
