"""Stripe stops collecting from customers who are held here, and goes on once they are released."""

from __future__ import annotations

from datetime import datetime

import structlog
from django.db.models import Exists, OuterRef, Q

from billing.domain.steps import StepKind
from billing.models import Invoice, StripeStep
from billing.payments import client, stepping

log = structlog.get_logger(__name__)


def follow_holds(*, now: datetime, limit: int) -> int:
    """Tell Stripe of up to `limit` open invoices whether to collect them; of how many it was told.

    Those that it knows of already take no place among them. Call it outside any transaction. Ends
    early where Stripe refuses our key or is away.
    """
    told = 0
    asked = StripeStep.objects.filter(invoice=OuterRef("pk"), kind=StepKind.COLLECT.value)
    open_ones = Invoice.objects.filter(
        Q(customer__stripe__held_at__isnull=False) | Exists(asked),
        status=Invoice.Status.OPEN,
        push=Invoice.Push.PUSHED,
        stripe_invoice__isnull=False,
        wallet=None,  # Stripe never collects a top-up by itself
    ).select_related("customer__stripe")
    for invoice in open_ones.order_by("id") if client.configured() else ():
        if told == limit:
            break
        wanted = invoice.customer.stripe.held_at is None
        waits = stepping.waits(invoice.public_id, kind=StepKind.COLLECT, now=now)
        if waits or wanted == _told_last(invoice):
            continue
        try:
            _tell(invoice, wanted=wanted, now=now)
            told += 1
        except (stepping.StepWaits, stepping.StepQuarantined) as error:
            log.warning("collection_not_changed", invoice=invoice.public_id, reason=str(error))
        except (client.StripeStopped, client.StripeUnreachable) as error:
            log.warning("stripe_away", reason=str(error))
            break
    return told


def _told_last(invoice: Invoice) -> bool:
    """What Stripe does by the last answer; a refusal counts as one, so that it is not repeated."""
    step = stepping.latest(invoice.public_id, kind=StepKind.COLLECT)
    if step is None or step.state == StripeStep.State.PENDING:
        ended = StripeStep.objects.filter(invoice=invoice, kind=StepKind.COLLECT.value)
        step = ended.exclude(state=StripeStep.State.PENDING).order_by("-attempt").first()
    return bool(step.request["params"]["auto_advance"]) if step else True


def _tell(invoice: Invoice, *, wanted: bool, now: datetime) -> None:
    call = stepping.Call(
        invoice.public_id,
        StepKind.COLLECT,
        f"/v1/invoices/{invoice.stripe_invoice}",
        {"auto_advance": wanted},
        invoice_id=invoice.pk,
        renew=True,
    )
    stepping.take(call, now=now, find=stepping.not_found)
