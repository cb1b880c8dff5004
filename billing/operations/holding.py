"""Collecting nothing off-session from a customer for a while, and their counterpart anew."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from accounts.operations.auditing import audit
from billing.domain.steps import StepKind
from billing.models import StripeCustomer, StripeStep
from billing.operations.following import follow_customer
from billing.operations.locking import lock_customer


class NotDeletedAtStripe(Exception):
    """The customer's counterpart at Stripe is there: there is nothing to link anew."""


def hold_collection(customer_id: int, *, reason: str, actor: str, now: datetime) -> None:
    """Push no invoice and charge no card of the customer until it is released.

    Until then nothing past what is included is served either. Held already, the first reason
    stays. Does nothing for who is not at Stripe. Raises CustomerUnknown.
    """
    _set_hold(customer_id, held_at=now, reason=reason, actor=actor, now=now)


def release_collection(customer_id: int, *, actor: str, now: datetime) -> None:
    """Collect as usual again; doing it twice changes nothing. Raises CustomerUnknown."""
    _set_hold(customer_id, held_at=None, reason="", actor=actor, now=now)


def link_anew(customer_id: int, *, actor: str, now: datetime) -> None:
    """Forget a counterpart that was deleted at Stripe, so that the next call makes another.

    The customer then gives a card again at Checkout. Raises NotDeletedAtStripe, CustomerUnknown.
    """
    with transaction.atomic():
        customer = lock_customer(customer_id)
        row = StripeCustomer.objects.filter(customer_id=customer_id).first()
        if row is None or row.deleted_at is None:
            raise NotDeletedAtStripe("The customer at Stripe was not deleted.")
        made = StripeStep.objects.filter(subject=customer.public_id, kind=StepKind.CUSTOMER.value)
        made.update(state=StripeStep.State.ABANDONED)  # looked for and not found: made anew
        row.delete()
        audit(
            actor=actor,
            action="customer.linked_anew",
            subject=customer.public_id,
            customer_id=customer_id,
            changes={"before": row.stripe_customer},
            now=now,
        )


def _set_hold(
    customer_id: int, *, held_at: datetime | None, reason: str, actor: str, now: datetime
) -> None:
    with transaction.atomic():
        customer = lock_customer(customer_id)
        row = StripeCustomer.objects.filter(customer_id=customer_id).first()
        if row is None or (row.held_at is None) == (held_at is None):
            return
        row.held_at, row.held_reason = held_at, reason[:300]
        row.save(update_fields=["held_at", "held_reason"])
        audit(
            actor=actor,
            action="collection.held" if held_at else "collection.released",
            subject=customer.public_id,
            customer_id=customer_id,
            changes={"reason": reason} if reason else {},
            now=now,
        )
        follow_customer(customer_id, now=now)
