"""Having Stripe stop collecting what was voided or written off here."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import structlog
from django.db.models import Exists, OuterRef, QuerySet

from billing.domain.steps import StepKind
from billing.models import Invoice, StripeStep
from billing.payments import client, mirroring, stepping

Json = dict[str, Any]
log = structlog.get_logger(__name__)

# Our status -> the step that tells Stripe, and the end of its address.
_TELLING: Final = {
    Invoice.Status.VOID: (StepKind.VOID, "void"),
    Invoice.Status.UNCOLLECTIBLE: (StepKind.WRITE_OFF, "mark_uncollectible"),
}
# Where there is nothing left to stop.
_OVER: Final = ("paid", "void")


def retract_due(*, now: datetime, limit: int) -> int:
    """Tell Stripe of up to `limit` invoices that it may still collect; of how many it knows now.

    Money that came in meanwhile is not lost: it is applied as Stripe reports it. Call it outside
    any transaction. Ends early where Stripe refuses our key or is away.
    """
    told = 0
    for status, (kind, action) in _TELLING.items():
        for invoice in _untold(status, kind=kind)[:limit] if client.configured() else ():
            if stepping.waits(invoice.public_id, kind=kind, now=now):
                continue
            try:
                _tell(invoice, kind=kind, action=action, now=now)
                told += 1
            except (stepping.StepWaits, stepping.StepQuarantined, client.StripeRefused) as error:
                log.warning("invoice_not_retracted", invoice=invoice.public_id, reason=str(error))
            except (client.StripeStopped, client.StripeUnreachable) as error:
                log.warning("stripe_away", reason=str(error))
                return told
    return told


def _untold(status: str, *, kind: StepKind) -> QuerySet[Invoice]:
    ended = StripeStep.objects.filter(invoice=OuterRef("pk"), kind=kind.value)
    ended = ended.exclude(state=StripeStep.State.PENDING)
    at_stripe = Invoice.objects.filter(status=status, stripe_invoice__isnull=False)
    return at_stripe.exclude(Exists(ended)).order_by("id")


def _tell(invoice: Invoice, *, kind: StepKind, action: str, now: datetime) -> None:
    path = f"/v1/invoices/{invoice.stripe_invoice}"
    over = (*_OVER, invoice.status)

    def find(_: StripeStep) -> Json | None:
        found = client.read(path)
        return found if found["status"] in over else None

    call = stepping.Call(
        invoice.public_id,
        kind,
        f"{path}/{action}",
        {},
        invoice_id=invoice.pk,
        look_first=True,
    )
    step = stepping.take(call, now=now, find=find)
    if step.answer is not None and step.answer["status"] == "paid":
        mirroring.refresh(invoice, now=now)
