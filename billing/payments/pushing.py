"""Bringing issued invoices to Stripe, as they fall due.

Any number of workers may do this at once and die anywhere: the step log makes one invoice of it.
"""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from typing import Final

import structlog
from django.db import transaction
from django.db.models import Exists, OuterRef

from billing.models import Invoice, StripeCustomer
from billing.operations import collecting
from billing.operations.taxing import LOCATION_MISSING, await_tax
from billing.payments import client, customers, stepping
from billing.payments.invoice_push import Clock, InvoiceDiffers, TaxNotComputed, push_invoice

log = structlog.get_logger(__name__)

# For how long others leave an invoice to the worker that took it. Longer than its calls take;
# if it is not, the step log still keeps two workers from making two invoices.
LEASE: Final = timedelta(minutes=5)
STOPPED_FOR: Final = timedelta(seconds=client.BREAK_S)
UNREACHABLE_FOR: Final = timedelta(seconds=30)
# How long an invoice waits for an address; one that is given is tried at once.
ASKED_AGAIN: Final = timedelta(days=1)
TAX_FAILED_FOR: Final = timedelta(minutes=10)


def push_due(*, now: datetime, limit: int) -> int:
    """Push up to `limit` invoices whose time has come; how many were taken up.

    Those of customers from whom nothing may be collected wait. Call it outside any transaction.
    Ends early where Stripe refuses our key, and does nothing
    where no Stripe is configured. Raises LiveKeyInDebug.
    """
    if not client.configured():
        return 0
    client.api_key()
    clock = _ticking(now)
    taken = 0
    while taken < limit and (invoice := _claim(now=clock())) is not None:
        taken += 1
        if not _push(invoice, clock=clock):
            break
    return taken


def push_one(invoice_id: int, *, now: datetime) -> None:
    """Push this invoice if its time has come and no worker has it; as `push_due` does."""
    if client.configured() and (invoice := _claim(now=now, only=invoice_id)) is not None:
        _push(invoice, clock=_ticking(now))


def _push(invoice: Invoice, *, clock: Clock) -> bool:
    """Push one that was claimed; says whether others may be pushed."""
    try:
        push_invoice(invoice, clock=clock)
    except client.StripeStopped as stopped:
        log.critical("stripe_refuses_our_key", reason=str(stopped))
        _wait(invoice, until=clock() + STOPPED_FOR, problem=str(stopped))
        return False
    except stepping.StepWaits as waits:
        log.warning("invoice_push_waits", invoice=invoice.public_id, reason=str(waits))
        _wait(invoice, until=waits.retry_at, problem=waits.step.error)
    except TaxNotComputed as unknown:
        log.warning("invoice_awaits_tax", invoice=invoice.public_id, status=unknown.status)
        again = ASKED_AGAIN if unknown.status == LOCATION_MISSING else TAX_FAILED_FOR
        await_tax(
            invoice.pk,
            status=unknown.status,
            problem=str(unknown),
            until=clock() + again,
            now=clock(),
        )
    except client.StripeUnreachable as error:
        _wait(invoice, until=clock() + UNREACHABLE_FOR, problem=str(error))
    except (
        InvoiceDiffers,
        stepping.StepQuarantined,
        customers.CustomerDeletedAtStripe,
        client.StripeRefused,
    ) as problem:
        log.critical("invoice_quarantined", invoice=invoice.public_id, reason=str(problem))
        collecting.quarantine(invoice.pk, problem=str(problem)[:1000], now=clock())
    except Exception as error:
        # One that trips over a fault of ours must not keep the others from their turn.
        log.exception("invoice_push_failed", invoice=invoice.public_id)
        _wait(invoice, until=clock() + LEASE, problem=f"{type(error).__name__}: {error}")
    return True


def _ticking(now: datetime) -> Clock:
    """A clock that starts at `now` and goes on while a long round of calls is made."""
    began = time.monotonic()
    return lambda: now + timedelta(seconds=time.monotonic() - began)


def _claim(*, now: datetime, only: int | None = None) -> Invoice | None:
    held = StripeCustomer.objects.filter(customer=OuterRef("customer"), held_at__isnull=False)
    due = Invoice.objects.filter(~Exists(held), push=Invoice.Push.PENDING, next_push_at__lte=now)
    if only is not None:
        due = due.filter(pk=only)
    with transaction.atomic(durable=True):
        invoice = due.select_for_update(skip_locked=True).order_by("next_push_at").first()
        if invoice is not None:
            invoice.next_push_at = now + LEASE
            invoice.save(update_fields=["next_push_at"])
    return invoice


def _wait(invoice: Invoice, *, until: datetime, problem: str) -> None:
    pending = Invoice.objects.filter(pk=invoice.pk, push=Invoice.Push.PENDING)
    pending.update(next_push_at=until, push_problem=problem[:1000])
