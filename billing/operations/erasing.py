"""Erasing a customer's data on request, without breaking the books."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import transaction
from django.db.models import Q, QuerySet

from accounts.domain.ids import encode
from accounts.models import Customer
from accounts.operations.auditing import audit
from accounts.operations.erasing import erase_account
from accounts.operations.versions import bump
from billing.models import (
    BillingDetails,
    CheckoutSession,
    Invoice,
    StripeCustomer,
    StripeEvent,
    StripeStep,
    Subscription,
)
from billing.operations.locking import lock_customer
from metering.models import Hold
from metering.operations.erasing import erase_usage


class CustomerInUse(Exception):
    """The customer has something that goes on: it must end before its data can be erased."""


@dataclass(frozen=True, slots=True)
class Erased:
    """What an erasure has come to."""

    customer: str  # its public id, which stays
    events: int


def erase_customer(
    customer_id: int,
    *,
    kept_dimensions: Sequence[str] = (),
    reason: str,
    actor: str,
    now: datetime,
) -> Erased:
    """Take out of every table what says who the customer is, and who its members and users are.

    What is owed, paid and used stays, under the customer's id: invoices with lines and totals, the
    ledger, balances and rollups; texts in usage become pseudonyms nobody can go back from, but for
    the dimensions in `kept_dimensions`. The customer is suspended and its keys are revoked. One
    transaction; doing it twice harms nothing, and takes what Stripe told us and was not worked on
    the first time. Raises CustomerUnknown, and CustomerInUse while a subscription is not canceled,
    an invoice is a draft, open or on its way to Stripe, a visit to Checkout is not over, a call to
    Stripe has no answer yet, or a hold is open.
    """
    with transaction.atomic():
        customer = lock_customer(customer_id)
        _refuse_in_use(customer_id)
        bump(customer_id)
        _refuse_in_use(customer_id)  # the gate may have opened a hold until then
        subjects = [customer.public_id, *filter(None, [customer.external_id])]
        events = erase_usage(customer_id, subjects=subjects, kept_dimensions=kept_dimensions)
        _erase_stripe(customer_id)
        BillingDetails.objects.filter(customer_id=customer_id).delete()
        Invoice.objects.filter(customer_id=customer_id).update(buyer={})
        erase_account(customer_id, now=now)
        audit(
            actor=actor,
            action="customer.erased",
            subject=customer.public_id,
            customer_id=customer_id,
            changes={"reason": reason, "events": events, "kept": list(kept_dimensions)},
            now=now,
        )
    return Erased(customer.public_id, events)


def _steps(customer_id: int) -> QuerySet[StripeStep]:
    """The calls to Stripe for the customer, its visits to Checkout and its invoices."""
    sessions = CheckoutSession.objects.filter(customer_id=customer_id).values_list("id", flat=True)
    subjects = [
        encode(Customer.PREFIX, customer_id),
        *(encode(CheckoutSession.PREFIX, number) for number in sessions),
    ]
    return StripeStep.objects.filter(Q(subject__in=subjects) | Q(invoice__customer_id=customer_id))


def _refuse_in_use(customer_id: int) -> None:
    of_it = {"customer_id": customer_id}
    found = {
        "a subscription that is not canceled": Subscription.objects.filter(**of_it).exclude(
            status=Subscription.Status.CANCELED
        ),
        "an invoice that is a draft or open": Invoice.objects.filter(
            **of_it, status__in=[Invoice.Status.DRAFT, Invoice.Status.OPEN], carried_to=None
        ),
        "an invoice on its way to Stripe": Invoice.objects.filter(
            **of_it, push__in=[Invoice.Push.PENDING, Invoice.Push.QUARANTINED]
        ),
        "a visit to Checkout that is not over": CheckoutSession.objects.filter(
            **of_it, status__in=[CheckoutSession.Status.PENDING, CheckoutSession.Status.OPEN]
        ),
        "a call to Stripe without an answer": _steps(customer_id).filter(
            state=StripeStep.State.PENDING
        ),
        "an open hold": Hold.objects.filter(**of_it, state=Hold.State.OPEN),
    }
    there = [what for what, rows in found.items() if rows.exists()]
    if there:
        raise CustomerInUse(f"The customer still has {', '.join(there)}.")


def _erase_stripe(customer_id: int) -> None:
    """Forget what was said to and by Stripe about the person; what Stripe has is deleted there."""
    _steps(customer_id).filter(invoice=None).update(request={}, answer=None)
    CheckoutSession.objects.filter(customer_id=customer_id).update(url="")
    known = StripeCustomer.objects.filter(customer_id=customer_id)
    told = StripeEvent.objects.filter(processed_at__isnull=False)  # the others are yet to be read
    for stripe_customer in known.values_list("stripe_customer", flat=True):
        told.filter(
            Q(object_id=stripe_customer) | Q(payload__data__object__customer=stripe_customer)
        ).update(payload={})
    known.update(payment_method="", card_brand="", card_last4="", card_expires_on=None)
    known.update(told_name="", told_email="")  # Stripe is told the pseudonym next
