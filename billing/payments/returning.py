"""The customer comes back from Checkout: what the visit was for is done before any webhook."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from django.conf import settings

from billing.models import CheckoutSession
from billing.payments import client, customers, handlers, stepping
from billing.payments.checkout import StripePageUnavailable

_UNAVAILABLE: Final = (
    client.StripeNotConfigured,
    client.StripeRefused,
    client.StripeStopped,
    client.StripeUnreachable,
    customers.CustomerDeletedAtStripe,
    stepping.StepQuarantined,
    stepping.StepWaits,
)


def complete_from_return(visit: CheckoutSession, *, now: datetime) -> CheckoutSession:
    """The visit as it stands after Stripe was asked: complete where the page there is.

    The same as the webhook does, which may come before, at the same time or later. Call it
    outside any transaction. Raises StripePageUnavailable; the webhook then completes the visit.
    """
    if visit.stripe_session and visit.status == CheckoutSession.Status.OPEN:
        try:
            handlers.complete_visit(visit.stripe_session, now=now)
        except _UNAVAILABLE as error:
            visit.refresh_from_db()
            if visit.status != CheckoutSession.Status.COMPLETE:
                raise StripePageUnavailable(str(error)) from error
    visit.refresh_from_db()
    return visit


def return_address(visit: CheckoutSession) -> str:
    """Where the customer comes back to from Checkout: the page that completes the visit."""
    return f"{settings.BASE_URL}/portal/checkout/done?visit={visit.public_id}"
