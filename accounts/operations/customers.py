"""Creating, changing, suspending and resuming customers."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypedDict

from django.db import IntegrityError, transaction

from accounts.models import Customer, CustomerVersion
from accounts.operations.auditing import audit
from accounts.operations.erasing import refuse_erased
from accounts.operations.versions import bump

_RESERVED = ("cus_", "fb_")


class ExternalIdTaken(Exception):
    """Another customer has this external id."""

    param = "external_id"


class ExternalIdReserved(Exception):
    """An external id may not look like an id or a key of ours: a call could mean either."""

    param = "external_id"


class CurrencyFixed(Exception):
    """The customer's currency stays: something was sold, given or agreed in it.

    A trigger on the table says so (billing's migration 0014).
    """

    param = "currency"


class CustomerChanges(TypedDict, total=False):
    """What may be changed about a customer; its currency until something is sold in it."""

    name: str
    email: str
    external_id: str | None
    currency: str
    metadata: dict[str, Any]


def create_customer(
    *,
    name: str,
    email: str = "",
    external_id: str | None = None,
    currency: str = "usd",
    metadata: Mapping[str, Any] | None = None,
    actor: str,
    now: datetime,
) -> Customer:
    """Create a customer with its version row; raises ExternalIdTaken or ExternalIdReserved."""
    customer = Customer(
        name=name,
        email=email,
        external_id=_checked(external_id),
        currency=currency,
        metadata=dict(metadata or {}),
        created_at=now,
    )
    with transaction.atomic():
        _save(customer, new=True)
        CustomerVersion.objects.create(customer=customer)
        audit(
            actor=actor,
            action="customer.created",
            subject=customer.public_id,
            customer_id=customer.id,
            changes={"name": name, "external_id": external_id, "currency": currency},
            now=now,
        )
    return customer


def change_customer(
    customer_id: int, *, changes: CustomerChanges, actor: str, now: datetime
) -> Customer:
    """Apply the changes; what is already so is left alone and not audited.

    Raises CustomerUnknown, ExternalIdTaken, ExternalIdReserved or CurrencyFixed.
    """
    _checked(changes.get("external_id"))
    with transaction.atomic():
        customer = _locked(customer_id)
        made = {
            field: [getattr(customer, field), value]
            for field, value in changes.items()
            if getattr(customer, field) != value
        }
        if not made:
            return customer
        for field, (_, value) in made.items():
            setattr(customer, field, value)
        _save(customer, new=False)
        audit(
            actor=actor,
            action="customer.changed",
            subject=customer.public_id,
            customer_id=customer.id,
            changes=made,
            now=now,
        )
    return customer


def suspend_customer(customer_id: int, *, reason: str = "", actor: str, now: datetime) -> Customer:
    """From the next call on every check of the customer is denied; doing it twice changes nothing.

    Raises CustomerUnknown.
    """
    return _set_suspended(customer_id, suspended_at=now, reason=reason, actor=actor, now=now)


def resume_customer(customer_id: int, *, actor: str, now: datetime) -> Customer:
    """Undo a suspension; doing it twice changes nothing. Raises CustomerUnknown, CustomerErased."""
    return _set_suspended(customer_id, suspended_at=None, reason="", actor=actor, now=now)


def _locked(customer_id: int) -> Customer:
    """The customer, its row locked and then its version raised: billing takes them in this order.

    Raises CustomerUnknown.
    """
    customer = Customer.objects.select_for_update(no_key=True).filter(pk=customer_id).first()
    bump(customer_id)
    assert customer is not None, "what has a version is a customer"
    return customer


def _set_suspended(
    customer_id: int, *, suspended_at: datetime | None, reason: str, actor: str, now: datetime
) -> Customer:
    with transaction.atomic():
        customer = _locked(customer_id)
        if suspended_at is None:
            refuse_erased(customer_id)
        if (customer.suspended_at is None) == (suspended_at is None):
            return customer
        customer.suspended_at = suspended_at
        customer.save(update_fields=["suspended_at"])
        audit(
            actor=actor,
            action="customer.suspended" if suspended_at else "customer.resumed",
            subject=customer.public_id,
            customer_id=customer.id,
            changes={"reason": reason} if reason else {},
            now=now,
        )
    return customer


def _checked(external_id: str | None) -> str | None:
    if external_id is not None and external_id.startswith(_RESERVED):
        raise ExternalIdReserved("An external id may not begin with cus_ or fb_.")
    return external_id


def _save(customer: Customer, *, new: bool) -> None:
    try:
        with transaction.atomic():
            customer.save(force_insert=new)
    except IntegrityError as error:
        if "external_id" in str(error):
            raise ExternalIdTaken(
                f"Another customer has the external id {customer.external_id!r}."
            ) from error
        if "customer_currency_is_fixed" in str(error):
            raise CurrencyFixed(
                "The customer's currency stays: it has a subscription, money, or terms in it. "
                "Make another customer for another currency."
            ) from error
        raise
