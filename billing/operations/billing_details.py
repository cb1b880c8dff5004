"""Who a customer's invoices are made out to."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from django.db import transaction

from accounts.operations.auditing import audit
from billing.domain.countries import COUNTRIES
from billing.models import BillingDetails
from billing.operations.locking import lock_customer
from billing.operations.taxing import push_awaiting_tax
from billing.queries.parties import DETAIL_FIELDS, billing_details

MOST: Final = {
    field.name: field.max_length or 0
    for field in BillingDetails._meta.concrete_fields  # noqa: SLF001  (Django's own)
    if field.name in DETAIL_FIELDS
}


class BillingDetailsInvalid(Exception):
    """A detail cannot be what was given; `param` names it."""

    def __init__(self, param: str, detail: str) -> None:
        super().__init__(detail)
        self.param = param


def set_billing_details(
    customer_id: int,
    *,
    details: Mapping[str, str],
    tax_exempt: str | None = None,
    actor: str,
    now: datetime,
) -> dict[str, str]:
    """Set the details that are given, leave the others; answers all of them.

    `tax_exempt` is for an operator to say. Invoices that are issued keep what they say; those that
    waited for an address to be taxed are tried again. What is set to what it is changes nothing.
    The audit names the fields, and not what they hold. Raises BillingDetailsInvalid,
    CustomerUnknown.
    """
    asked = {field: " ".join(text.split()) for field, text in details.items()}
    _check(asked)
    if tax_exempt is not None:
        if tax_exempt not in BillingDetails.TaxExempt.values:
            raise BillingDetailsInvalid("tax_exempt", "none, exempt or reverse.")
        asked["tax_exempt"] = tax_exempt
    with transaction.atomic():
        customer = lock_customer(customer_id)
        before = billing_details(customer_id)
        after = before | asked
        changed = sorted(field for field in after if before[field] != after[field])
        if changed:
            BillingDetails.objects.update_or_create(
                customer_id=customer_id, defaults={**after, "updated_at": now}
            )
            audit(
                actor=actor,
                action="billing_details.changed",
                subject=customer.public_id,
                customer_id=customer_id,
                changes={"fields": changed},
                now=now,
            )
            push_awaiting_tax(customer_id, now=now)
    return after


def _check(asked: Mapping[str, str]) -> None:
    for field, text in asked.items():
        if field not in DETAIL_FIELDS:
            raise BillingDetailsInvalid(field, f"There is no billing detail {field!r}.")
        if len(text) > MOST[field]:
            raise BillingDetailsInvalid(field, f"At most {MOST[field]} characters.")
    country = asked.get("country", "")
    if country and country not in COUNTRIES:
        raise BillingDetailsInvalid(
            "country",
            "There is no such country: give the two capital letters of ISO 3166, such as DE, "
            "or GB for the United Kingdom.",
        )
