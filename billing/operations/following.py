"""Letting the customer's subscription follow what happened to its invoices and payment method."""

from __future__ import annotations

from datetime import datetime

from billing.models import Subscription
from billing.operations.closing import catch_up
from billing.operations.provisioning import provision
from billing.operations.subscribing import activate
from billing.queries.payment_methods import has_payment_method, needs_payment_method
from billing.queries.subscriptions import current_subscription, subscriptions


def caught_up(customer_id: int, *, now: datetime) -> Subscription | None:
    """The subscription the customer has, or had last, brought up to `now`."""
    found = current_subscription(customer_id) or subscriptions(customer_id=customer_id).first()
    if found is not None:
        catch_up(found, now=now)
    return found


def follow_customer(customer_id: int, *, now: datetime) -> None:
    """Bring the subscription's status and what metering knows in line; the customer is locked."""
    subscription = caught_up(customer_id, now=now)
    if subscription is not None:
        provision(subscription, now=now)


def begin_if_payable(subscription: Subscription, *, now: datetime) -> None:
    """Begin a subscription that waited for a payment method, if it has one now or needs none."""
    needed = needs_payment_method(subscription.version, collection=subscription.collection)
    payable = not needed or has_payment_method(subscription.customer_id)
    if subscription.status == Subscription.Status.INCOMPLETE and payable:
        activate(subscription, now=now)
    provision(subscription, now=now)
