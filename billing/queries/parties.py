"""Who bills and who is billed, as things stand today; issued invoices keep their own day's."""

from __future__ import annotations

from collections.abc import Sequence

from django.conf import settings

from accounts.models import Customer
from billing.domain.parties import Party, address_lines
from billing.models import BillingDetails
from billing.queries.peers import Peers

ADDRESS_FIELDS = ("line1", "line2", "postal_code", "city", "state", "country")
DETAIL_FIELDS = ("legal_name", *ADDRESS_FIELDS, "tax_id")


def seller() -> Party:
    """The operator, from its settings."""
    lines = (line.strip() for line in settings.SELLER_ADDRESS.split("|"))
    return Party(
        name=settings.SELLER_NAME,
        address=tuple(line for line in lines if line),
        tax_id=settings.SELLER_TAX_ID,
        email=settings.SELLER_EMAIL,
    )


def billing_details(customer_id: int) -> dict[str, str]:
    """The customer's billing details by field, each empty where it was not given, and whether it
    is exempt from tax (`tax_exempt`)."""
    return _details(customer_id, peers=Peers([customer_id]))


def _details(customer_id: int, *, peers: Peers) -> dict[str, str]:
    found = peers.ask(_details_of, customer_id)
    return dict.fromkeys(DETAIL_FIELDS, "") | {"tax_exempt": "none"} | (found or {})


def _details_of(customer_ids: Sequence[int]) -> dict[int, dict[str, str]]:
    rows = BillingDetails.objects.filter(customer_id__in=customer_ids)
    told = rows.values("customer_id", *DETAIL_FIELDS, "tax_exempt")
    return {each.pop("customer_id"): each for each in told}


def buyer(customer: Customer, *, peers: Peers) -> Party:
    """The customer, by its billing details where it gave any."""
    details = _details(customer.pk, peers=peers)
    return Party(
        name=details["legal_name"] or customer.name,
        address=address_lines(**{field: details[field] for field in ADDRESS_FIELDS}),
        tax_id=details["tax_id"],
        email=customer.email,
    )
