"""Pages of Stripe we send customers to: Checkout to give a card, the portal to look after it."""

from __future__ import annotations

import secrets
from datetime import datetime
from typing import Any, Final

import structlog
from django.db import transaction

from accounts.models import Customer
from billing.domain.steps import StepKind
from billing.models import CheckoutSession, StripeStep
from billing.payments import client, customers, stepping

Json = dict[str, Any]
PAGES: Final = "/v1/checkout/sessions"
log = structlog.get_logger(__name__)


class StripePageUnavailable(Exception):
    """Stripe did not open the page; the customer may try again in a moment."""


class CheckoutClosed(Exception):
    """This visit is over: it was completed or it expired. Begin another one."""


def open_checkout(
    session: CheckoutSession, *, success_url: str, cancel_url: str, now: datetime
) -> str:
    """The address of the page on which the customer gives a payment method.

    The same visit opens one page, however often it is asked for. Call it outside any
    transaction. Raises StripePageUnavailable, CheckoutClosed.
    """
    match session.status:
        case CheckoutSession.Status.OPEN:
            return session.url
        case CheckoutSession.Status.PENDING:
            answer = _open(session, success_url=success_url, cancel_url=cancel_url, now=now)
        case _:
            raise CheckoutClosed(f"This visit to Checkout is {session.status}.")
    opened = {"stripe_session": answer["id"], "url": answer["url"] or ""}
    with transaction.atomic(durable=True):
        # A webhook may have completed it already: only a visit that is still pending is opened.
        pending = CheckoutSession.objects.filter(pk=session.pk, status="pending")
        pending.update(status=CheckoutSession.Status.OPEN, **opened)
    session.refresh_from_db()
    return str(answer["url"] or "")


def _open(session: CheckoutSession, *, success_url: str, cancel_url: str, now: datetime) -> Json:
    try:
        row = customers.ensure_customer(session.customer, now=now)
        reference = {"farebox_checkout": session.public_id}
        params: Json = {
            "cancel_url": cancel_url,
            "client_reference_id": session.public_id,
            "currency": session.customer.currency,
            "customer": row.stripe_customer,
            "metadata": reference,
            "mode": "setup",
            "setup_intent_data": {"metadata": reference},
            "success_url": success_url,
        }
        call = stepping.Call(session.public_id, StepKind.CHECKOUT, PAGES, params)
        step = stepping.take(call, now=now, find=_find_opened)
    except _UNAVAILABLE as error:
        raise _unavailable(error) from error
    assert step.answer is not None
    return dict(step.answer)


def _find_opened(step: StripeStep) -> Json | None:
    pages = client.read_all(PAGES, customer=step.request["params"]["customer"])
    for page in pages:
        if page.get("client_reference_id") == step.subject and page["status"] != "expired":
            return page
    return None


def open_portal(customer: Customer, *, return_url: str, now: datetime) -> str:
    """The address of the page on which the customer changes cards and sees receipts.

    Each call opens a new short-lived one. Raises StripePageUnavailable.
    """
    try:
        row = customers.ensure_customer(customer, now=now)
        answer = client.post(
            "/v1/billing_portal/sessions",
            params={"customer": row.stripe_customer, "return_url": return_url},
            key=f"farebox:{customer.public_id}:portal:{secrets.token_hex(12)}",
        )
    except _UNAVAILABLE as error:
        raise _unavailable(error) from error
    if answer.status is None or answer.status >= 300:
        raise _unavailable(answer)
    return str(answer.body["url"])


def _unavailable(reason: object) -> StripePageUnavailable:
    """What happened is for the log; the customer can only try again."""
    log.warning("stripe_page_unavailable", reason=str(reason))
    return StripePageUnavailable("Stripe did not open its page; try again in a moment.")


_UNAVAILABLE: Final = (
    client.LiveKeyInDebug,
    client.StripeNotConfigured,
    client.StripeRefused,
    client.StripeStopped,
    client.StripeUnreachable,
    customers.CustomerDeletedAtStripe,
    stepping.StepQuarantined,
    stepping.StepWaits,
)
