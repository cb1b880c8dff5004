"""Grants: quantity given to a customer beside what its plan includes."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from accounts.domain import ids
from accounts.operations.auditing import audit
from accounts.operations.versions import bump
from metering.domain.meters import QUANTITY_MAX
from metering.models import Grant

_PRIORITY_MAX = 32_767


class GrantInvalid(Exception):
    """A grant cannot be given like this; `param` names the member at fault."""

    def __init__(self, param: str, detail: str) -> None:
        super().__init__(detail)
        self.param = param
        self.detail = detail


class GrantUnknown(Exception):
    """The customer has no grant with this id."""


def grant(
    customer_id: int,
    *,
    meter_id: int,
    quantity: int,
    priority: int = 10,
    effective_at: datetime | None = None,
    expires_at: datetime | None = None,
    reason: str = "",
    actor: str,
    now: datetime,
) -> Grant:
    """Give `quantity` of the meter's unit, from `effective_at` (now) until `expires_at` (never).

    What is already counted as overage stays overage. Raises GrantInvalid.
    """
    begins_at = effective_at or now
    if not 1 <= quantity <= QUANTITY_MAX:
        raise GrantInvalid("quantity", f"a grant is of 1 to {QUANTITY_MAX:,} units")
    if not -_PRIORITY_MAX <= priority <= _PRIORITY_MAX:
        raise GrantInvalid("priority", f"a priority lies within ±{_PRIORITY_MAX:,}")
    if expires_at is not None and expires_at <= max(begins_at, now):
        raise GrantInvalid("expires_at", "a grant expires after it begins, and in the future")
    with transaction.atomic():
        bump(customer_id)
        given = Grant.objects.create(
            customer_id=customer_id,
            meter_id=meter_id,
            quantity=quantity,
            priority=priority,
            effective_at=begins_at,
            expires_at=expires_at,
            reason=reason,
            created_at=now,
        )
        audit(
            actor=actor,
            action="grant.created",
            subject=public_id(given),
            customer_id=customer_id,
            changes={"meter": meter_id, "quantity": quantity, "reason": reason},
            now=now,
        )
    return given


def void_grant(customer_id: int, *, grant_id: int, actor: str, now: datetime) -> Grant:
    """Take back what is left of a grant; what was used or is held of it stays so. Idempotent.

    Raises GrantUnknown.
    """
    with transaction.atomic():
        bump(customer_id)
        given = Grant.objects.filter(customer_id=customer_id, id=grant_id).first()
        if given is None:
            raise GrantUnknown("the customer has no such grant")
        if given.voided_at is None:
            Grant.objects.filter(customer_id=customer_id, id=grant_id).update(voided_at=now)
            given.voided_at = now
            audit(
                actor=actor,
                action="grant.voided",
                subject=public_id(given),
                customer_id=customer_id,
                changes={"left": given.quantity - given.used - given.held},
                now=now,
            )
    return given


def public_id(given: Grant) -> str:
    """A grant's id as the API shows it."""
    return ids.encode(Grant.PREFIX, given.id)
