"""Forgetting who a customer was; what was done with it stays, under its id."""

from __future__ import annotations

from datetime import datetime

from django.db.models import Value
from django.db.models.functions import Coalesce

from accounts.models import ApiKey, AuditEntry, Customer, Member

NAME = "Erased"


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
