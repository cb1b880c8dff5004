"""Forgetting who a customer was; what was done with it stays, under its id."""

from __future__ import annotations

from datetime import datetime

from django.db.models import Value
from django.db.models.functions import Coalesce

from accounts.models import ApiKey, AuditEntry, Customer, Member

NAME = "Erased"


class CustomerErased(Exception):
    """The customer was erased: the gate does not know it any more, and nothing brings it back."""


def refuse_erased(customer_id: int) -> None:
    """Raise CustomerErased where the customer was erased.

    In the transaction of the caller, who has raised the customer's version: whoever erases it
    raises it as well, so that what is said here holds until the commit.
    """
    if Customer.objects.filter(id=customer_id, erased_at__isnull=False).exists():
        raise CustomerErased(
            "The customer was erased, which is for good: the gate does not know it any more. "
            "Make a new customer."
        )


def erase_account(customer_id: int, *, now: datetime) -> None:
    """Take away name, addresses, metadata, members and what the audit says of them; lock it out.

    From the commit on the gate does not know it, by whatever name. In the transaction of the
    caller, who writes the audit entry of the erasure itself afterwards. The caller has raised the
    customer's version.
    """
    Customer.objects.filter(id=customer_id).update(
        name=NAME,
        email="",
        external_id=None,
        metadata={},
        suspended_at=Coalesce("suspended_at", Value(now)),
        erased_at=Coalesce("erased_at", Value(now)),
    )
    ApiKey.objects.filter(customer_id=customer_id).update(
        name="", revoked_at=Coalesce("revoked_at", Value(now))
    )
    Member.objects.filter(customer_id=customer_id).delete()
    AuditEntry.objects.filter(customer_id=customer_id).update(changes={})
