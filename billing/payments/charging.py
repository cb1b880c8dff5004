"""Charging top-ups: once each, by a call of ours, since Stripe is told not to try by itself."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import structlog
from django.db.models import Exists, OuterRef

from billing.domain.steps import StepKind
from billing.models import Invoice, StripeCustomer
from billing.operations import collecting
from billing.payments import client, customers, paying, pushing, stepping

log = structlog.get_logger(__name__)

_AWAY: Final = (
    client.StripeNotConfigured,
    client.StripeStopped,
    client.StripeUnreachable,
)
_REFUSED: Final = (
    customers.CustomerDeletedAtStripe,
    client.StripeRefused,
    stepping.StepQuarantined,
)


def charge_at_once(invoice: Invoice, *, now: datetime) -> Invoice:
    """Push a top-up and charge it, as far as Stripe answers; workers do the rest.

    Returns it as it stands then. Call it outside any transaction.
    """
    pushing.push_one(invoice.pk, now=now)
    invoice.refresh_from_db()
    try:
        _charge(invoice, now=now)
    except _AWAY as error:
        log.warning("top_up_waits", invoice=invoice.public_id, reason=str(error))
    invoice.refresh_from_db()
    return invoice


def charge_due(*, now: datetime, limit: int) -> int:
    """Charge up to `limit` top-ups that are with Stripe and were not tried yet; how many.

    Those of customers from whom nothing may be collected wait. Any number of workers may do this
    at once: the step log makes one charge of it. One that fails is logged and keeps no other from
    its turn; Stripe being away ends the round. Call it outside any transaction. Raises
    LiveKeyInDebug.
    """
    held = StripeCustomer.objects.filter(customer=OuterRef("customer"), held_at__isnull=False)
    due = Invoice.objects.filter(
        ~Exists(held),
        wallet__isnull=False,
        status=Invoice.Status.OPEN,
        push=Invoice.Push.PUSHED,
        attempt_count=0,
    ).order_by("issued_at", "id")
    charged = 0
    for invoice in due[:limit] if client.configured() else ():
        if stepping.waits(invoice.public_id, kind=StepKind.PAY, now=now):
            continue
        try:
            charged += _charge(invoice, now=now)
        except _AWAY as error:
            log.warning("stripe_away", reason=str(error))
            break
        except client.LiveKeyInDebug:
            raise
        except Exception:
            log.exception("top_up_not_charged", invoice=invoice.public_id)
    return charged


def _charge(invoice: Invoice, *, now: datetime) -> bool:
    """Charge it, unless it was tried or is over; says whether Stripe gave an answer.

    Raises StripeNotConfigured, StripeStopped, StripeUnreachable.
    """
    pushed = invoice.push == Invoice.Push.PUSHED and invoice.status == Invoice.Status.OPEN
    if not pushed or invoice.attempt_count:
        return False
    try:
        paying.pay_top_up(invoice, now=now)
    except stepping.StepWaits as error:
        log.warning("top_up_waits", invoice=invoice.public_id, reason=str(error))
        return False
    except _REFUSED as error:
        log.critical("top_up_quarantined", invoice=invoice.public_id, reason=str(error))
        collecting.quarantine(invoice.pk, problem=str(error)[:1000], now=now)
    return True
