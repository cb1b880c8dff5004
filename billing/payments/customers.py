"""A customer's counterpart at Stripe, and the payment method it is charged on."""

from __future__ import annotations

import calendar
from datetime import date, datetime, timedelta
from typing import Any

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import F, Q

from accounts.domain.ids import IdMalformed, decode
from accounts.models import Customer
from billing.domain.steps import StepKind
from billing.domain.taxes import tax_id_kind
from billing.models import BillingDetails, Invoice, StripeCustomer, StripeStep
from billing.operations import collecting
from billing.payments import client, stepping
from billing.queries.parties import ADDRESS_FIELDS

Json = dict[str, Any]
log = structlog.get_logger(__name__)


class CustomerDeletedAtStripe(Exception):
    """Somebody deleted the customer at Stripe: nothing can be charged until it is linked anew."""


def ensure_customer(customer: Customer, *, now: datetime) -> StripeCustomer:
    """The customer's row, after making its counterpart at Stripe where there is none.

    Any number of callers at once make one. Raises CustomerDeletedAtStripe, StepWaits,
    StepQuarantined, StripeStopped.
    """
    known = StripeCustomer.objects.filter(customer=customer).first()
    if known is None:
        step = stepping.take(_create(customer), now=now, find=_find_created)
        assert step.answer is not None
        with transaction.atomic(durable=True):
            told = step.request.get("params", {})
            known, _ = StripeCustomer.objects.get_or_create(
                customer=customer,
                defaults={
                    "stripe_customer": step.answer["id"],
                    "told_name": told.get("name", ""),
                    "told_email": told.get("email", ""),
                    "updated_at": now,
                },
            )
    if known.deleted_at is not None:
        raise CustomerDeletedAtStripe(f"{known.stripe_customer} was deleted at Stripe.")
    if settings.STRIPE_TAX:
        tell_details(known, even_refused=True, now=now)  # never tax at an address of before
    return known


def tell_details(row: StripeCustomer, *, even_refused: bool = False, now: datetime) -> bool:
    """Tell Stripe the customer's billing address, tax status and tax id, if they changed since.

    What tax depends on; what was erased here goes there too. A tax id that Stripe does not take is
    left out. What Stripe refused counts as told, unless `even_refused`: it is told again once it
    changes. Raises StepWaits, StepQuarantined, StripeStopped, StripeUnreachable.
    """
    kept = BillingDetails.objects.filter(customer=row.customer_id).first()
    details = kept or BillingDetails(customer=row.customer)
    told = row.told_details_at == details.updated_at
    if told and not (even_refused and _details_refused(row)):
        return False
    sent = {
        "address": {name: getattr(details, name) for name in ADDRESS_FIELDS},
        "tax_exempt": str(details.tax_exempt),
    }
    path = f"/v1/customers/{row.stripe_customer}"
    call = stepping.Call(row.customer.public_id, StepKind.CUSTOMER_DETAILS, path, sent, renew=True)
    known = StripeCustomer.objects.filter(pk=row.pk)
    try:
        stepping.take(call, now=now, find=stepping.not_found)
    except stepping.StepQuarantined:
        known.update(told_details_at=details.updated_at)
        raise
    try:
        _tell_tax_id(row, details=details, now=now)
    except stepping.StepQuarantined as refused:
        log.warning("tax_id_not_told", customer=row.customer.public_id, reason=str(refused))
    row.told_details_at = details.updated_at
    known.update(told_details_at=details.updated_at)
    return True


def _details_refused(row: StripeCustomer) -> bool:
    """Whether Stripe holds other details than ours, because it took ours for wrong."""
    last = stepping.latest(row.customer.public_id, kind=StepKind.CUSTOMER_DETAILS)
    return last is not None and last.state == StripeStep.State.QUARANTINED


def _tell_tax_id(row: StripeCustomer, *, details: BillingDetails, now: datetime) -> None:
    """Leave Stripe with the one tax id that the customer has."""
    path = f"/v1/customers/{row.stripe_customer}/tax_ids"
    kind = tax_id_kind(details.country) if details.tax_id else None
    value = "".join(details.tax_id.split())
    there = list(client.read_all(path))
    same = [each for each in there if (each["type"], each["value"]) == (kind, value)]
    for each in there:
        if each not in same:
            client.delete(f"{path}/{each['id']}")
    if kind is not None and not same:
        call = stepping.Call(
            row.customer.public_id,
            StepKind.TAX_ID,
            path,
            {"type": kind, "value": value},
            renew=True,
        )
        stepping.take(call, now=now, find=stepping.not_found)


def tell_changes(*, now: datetime, limit: int) -> int:
    """Tell Stripe of names, e-mail addresses and, where it computes tax, billing details that
    changed, up to `limit`; returns how many.

    One that Stripe refuses is told again once it changes. Call it outside any transaction. Ends
    early where Stripe refuses our key or is away.
    """
    same = Q(told_name=F("customer__name"), told_email=F("customer__email"))
    erased = Q(customer__billing_details__isnull=True, told_details_at__isnull=False)
    same &= ~erased
    if settings.STRIPE_TAX:
        details = F("customer__billing_details__updated_at")
        same &= Q(customer__billing_details__isnull=True) | Q(told_details_at=details)
    changed = StripeCustomer.objects.filter(~same, deleted_at=None).select_related("customer")
    told = 0
    for row in changed.order_by("updated_at")[:limit] if client.configured() else ():
        subject = row.customer.public_id
        if stepping.waits(subject, kind=StepKind.CUSTOMER_UPDATE, now=now):
            continue
        sent = {"name": row.customer.name, "email": row.customer.email}
        try:
            _tell_name(row, sent=sent, now=now)
            if settings.STRIPE_TAX or not hasattr(row.customer, "billing_details"):
                tell_details(row, now=now)
        except stepping.StepQuarantined as refused:
            log.warning("details_not_told", customer=subject, reason=str(refused))
        except stepping.StepWaits as waits:
            log.warning("customer_not_told", customer=subject, reason=str(waits))
            continue
        except (client.StripeStopped, client.StripeUnreachable) as error:
            log.warning("stripe_away", reason=str(error))
            break
        known = StripeCustomer.objects.filter(pk=row.pk)
        known.update(told_name=sent["name"], told_email=sent["email"])
        told += 1
    return told


def _tell_name(row: StripeCustomer, *, sent: Json, now: datetime) -> None:
    """One that Stripe refuses keeps nothing else back."""
    subject, path = row.customer.public_id, f"/v1/customers/{row.stripe_customer}"
    call = stepping.Call(subject, StepKind.CUSTOMER_UPDATE, path, sent, renew=True)
    try:
        stepping.take(call, now=now, find=stepping.not_found)
    except stepping.StepQuarantined as refused:
        log.warning("customer_not_told", customer=subject, reason=str(refused))


def _create(customer: Customer) -> stepping.Call:
    params: Json = {"name": customer.name, "metadata": {"farebox_customer": customer.public_id}}
    if customer.email:
        params["email"] = customer.email
    return stepping.Call(customer.public_id, StepKind.CUSTOMER, "/v1/customers", params)


def _find_created(step: StripeStep) -> Json | None:
    for candidate in client.read_all("/v1/customers", created=created_since(step)):
        if candidate.get("metadata", {}).get("farebox_customer") == step.subject:
            return candidate
    return None


def created_since(step: StripeStep) -> Json:
    """The `created` filter of a list that must contain what this step made."""
    since = (step.first_sent_at or step.created_at) - timedelta(hours=1)
    return {"gte": int(since.timestamp())}


def counterpart(stripe_customer: str, *, now: datetime) -> StripeCustomer | None:
    """Our row for Stripe's customer; made here where a webhook outran the answer that tells us.
    None for a customer that is not ours."""
    known = StripeCustomer.objects.filter(stripe_customer=stripe_customer).first()
    if known is not None or not stripe_customer:
        return known
    found = client.read(f"/v1/customers/{stripe_customer}")
    try:
        customer_id = decode("cus", str((found.get("metadata") or {}).get("farebox_customer")))
    except IdMalformed:
        return None
    customer = Customer.objects.filter(pk=customer_id).first()
    if customer is None:
        return None
    with transaction.atomic(durable=True):
        row, _ = StripeCustomer.objects.get_or_create(
            customer=customer, defaults={"stripe_customer": stripe_customer, "updated_at": now}
        )
    return row if row.stripe_customer == stripe_customer else None


def make_default(row: StripeCustomer, *, payment_method: str, now: datetime) -> None:
    """Have Stripe charge this method from now on, and take over its card's particulars.

    Raises StepWaits, StepQuarantined, StripeStopped, StripeUnreachable, StripeRefused.
    """
    found = client.read(f"/v1/customers/{row.stripe_customer}")
    if found.get("deleted"):
        _mark_deleted(row, now=now)
        return
    if found["invoice_settings"]["default_payment_method"] != payment_method:
        _set_default(row, payment_method=payment_method, now=now)
    method = client.read(f"/v1/payment_methods/{payment_method}")
    _take_over(row, method=method, now=now)


def refresh(row: StripeCustomer, *, now: datetime) -> None:
    """Read the customer from Stripe and take over what it would be charged on.

    A customer without a default gets the newest method attached to it, so that a card added in
    the portal is used without another click.
    """
    found = client.read(f"/v1/customers/{row.stripe_customer}")
    if found.get("deleted"):
        _mark_deleted(row, now=now)
        return
    default = found["invoice_settings"]["default_payment_method"]
    if default is not None:
        method = client.read(f"/v1/payment_methods/{default}")
    else:
        attached = client.read_all(f"/v1/customers/{row.stripe_customer}/payment_methods")
        method = next(attached, {})
        if method:
            _set_default(row, payment_method=method["id"], now=now)
    _take_over(row, method=method, now=now)


def _set_default(row: StripeCustomer, *, payment_method: str, now: datetime) -> None:
    call = stepping.Call(
        row.customer.public_id,
        StepKind.DEFAULT_METHOD,
        f"/v1/customers/{row.stripe_customer}",
        {"invoice_settings": {"default_payment_method": payment_method}},
        renew=True,
    )
    stepping.take(call, now=now, find=stepping.not_found)


def _mark_deleted(row: StripeCustomer, *, now: datetime) -> None:
    """Nothing can be charged any more: what is still to be paid is for an operator to decide."""
    if row.deleted_at is None:
        words = f"{row.stripe_customer} was deleted at Stripe: nobody can be charged for it."
        unpaid = Invoice.objects.filter(customer=row.customer_id, status=Invoice.Status.OPEN)
        for invoice in unpaid.filter(push__in=(Invoice.Push.PENDING, Invoice.Push.PUSHED)):
            collecting.quarantine(invoice.pk, problem=words, now=now)
    with transaction.atomic(durable=True):
        StripeCustomer.objects.filter(pk=row.pk, deleted_at=None).update(deleted_at=now)
    _take_over(row, method={}, now=now)


def _take_over(row: StripeCustomer, *, method: Json, now: datetime) -> None:
    card = method.get("card") or {}
    collecting.payment_method_changed(
        row.customer_id,
        payment_method=method.get("id", ""),
        brand=card.get("brand") or method.get("type", ""),
        last4=card.get("last4") or "",
        expires_on=_last_day(card["exp_year"], card["exp_month"]) if card else None,
        now=now,
    )


def _last_day(year: int, month: int) -> date:
    """A card is good until the end of the month printed on it."""
    return date(year, month, calendar.monthrange(year, month)[1])
