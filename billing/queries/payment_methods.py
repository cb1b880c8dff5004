"""Whether a customer can be charged, and whether a plan needs that."""

from __future__ import annotations

from collections.abc import Sequence

from billing.models import Dispute, PlanVersion, StripeCustomer, Subscription


def has_payment_method(customer_id: int) -> bool:
    """Whether Stripe has something of the customer's that it can charge."""
    cards = StripeCustomer.objects.filter(customer_id=customer_id, deleted_at=None)
    return cards.exclude(payment_method="").exists()


def needs_payment_method(version: PlanVersion, *, collection: str) -> bool:
    """Whether a subscription to this version can cost anything that Stripe must collect."""
    if collection != Subscription.Collection.STRIPE:
        return False
    if version.fee > 0 or version.minimum > 0 or version.seats is not None:
        return True
    return version.entitlements.filter(over="bill", unlimited=False).exists()


def frozen(customer_ids: Sequence[int]) -> set[int]:
    """The customers to whom nothing past what is included is served: a payment is disputed, or
    nothing may be collected off-session, so that more would be owed than comes in."""
    held = StripeCustomer.objects.filter(customer_id__in=customer_ids, held_at__isnull=False)
    disputes = Dispute.objects.filter(
        customer_id__in=customer_ids, kind=Dispute.Kind.DISPUTE, closed_at=None
    )
    return {
        each for rows in (held, disputes) for each in rows.values_list("customer_id", flat=True)
    }
