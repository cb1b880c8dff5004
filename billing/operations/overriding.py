"""Overrides: what one customer gets otherwise than its plan says.

They hold on top of whatever plan the customer is on, now and after a change. They never begin in
the past and their terms never change, so that every period stays billed as it was agreed: who
wants other terms ends one override and begins another.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from django.db import transaction
from django.db.models import F, Max, Q, QuerySet

from accounts.models import Customer
from accounts.operations.auditing import audit
from billing.models import Override, Subscription
from billing.operations.following import follow_customer
from billing.operations.locking import each_in_turn, lock_customer
from billing.operations.plan_shapes import PlanInvalid, read_override
from billing.operations.subscribing import instant
from billing.queries.customer_terms import slot

_REASON_MAX: Final = 200


class OverrideInvalid(Exception):
    """No customer can be given such terms; `param` names the member at fault."""

    def __init__(self, param: str, detail: str) -> None:
        super().__init__(detail)
        self.param = param


class OverrideOverlaps(Exception):
    """Another override of the same right holds at the same time: end that one first."""


class OverrideUnknown(Exception):
    """The customer has no such override."""


def override(
    customer_id: int,
    *,
    terms: Mapping[str, Any],
    starts_at: datetime | None = None,
    ends_at: datetime | None = None,
    reason: str = "",
    actor: str,
    now: datetime,
) -> Override:
    """Give the customer a right otherwise than its plan does, from `starts_at` (now) on.

    `terms` name a meter with those members of a plan's entitlement that are otherwise, or a
    feature; `{"denied": True}` takes the right away. One that holds already for the same right
    ends where this one begins. Raises OverrideInvalid, OverrideOverlaps, CustomerUnknown.
    """
    try:
        made = read_override(terms)
    except PlanInvalid as invalid:
        raise OverrideInvalid(invalid.param, invalid.detail) from invalid
    with transaction.atomic():
        customer = lock_customer(customer_id)
        follow_customer(customer.id, now=now)  # what is over is closed by the terms it had
        earliest = _earliest(customer, now=now)
        made.customer, made.reason, made.created_at = customer, reason[:_REASON_MAX], now
        made.starts_at = max(instant(starts_at), earliest) if starts_at else earliest
        made.ends_at = instant(ends_at) if ends_at else None
        if starts_at is not None and starts_at < instant(now):
            raise OverrideInvalid("starts_at", "An override cannot begin in the past.")
        if made.ends_at is not None and made.ends_at <= made.starts_at:
            raise OverrideInvalid("ends_at", "An override ends after it begins.")
        _make_room(made)
        made.due_at = made.starts_at
        made.save(force_insert=True)
        audit(
            actor=actor,
            action="override.created",
            subject=made.public_id,
            customer_id=customer_id,
            changes=dict(terms) | {"starts_at": made.starts_at.isoformat()},
            now=now,
        )
        _follow(customer, now=now)
    made.refresh_from_db()
    return made


def end_override(
    customer_id: int,
    *,
    override_id: int,
    ends_at: datetime | None = None,
    actor: str,
    now: datetime,
) -> Override:
    """Let an override end at `ends_at` (now); one that has not begun never will.

    What is over stays over: ending it again changes nothing. Raises OverrideUnknown,
    OverrideInvalid, OverrideOverlaps.
    """
    with transaction.atomic():
        customer = lock_customer(customer_id)
        rows = Override.objects.select_for_update(of=("self",))
        found = rows.filter(customer=customer, pk=override_id)
        ending = found.select_related("meter").first()
        if ending is None:
            raise OverrideUnknown("The customer has no such override.")
        if ending.ends_at is not None and ending.ends_at <= max(now, ending.starts_at):
            return ending
        follow_customer(customer.id, now=now)
        earliest = _earliest(customer, now=now)
        if ends_at is not None and ends_at < instant(now):
            raise OverrideInvalid("ends_at", "An override cannot end in the past.")
        at = max(instant(ends_at), earliest) if ends_at else earliest
        ending.ends_at = max(at, ending.starts_at)
        for other in _of_the_same(ending).filter(starts_at__lt=ending.ends_at):
            if slot(other) == slot(ending) and other.starts_at > ending.starts_at:
                raise OverrideOverlaps(f"{other.public_id} begins before that.")
        ending.due_at = min(ending.due_at or ending.ends_at, ending.ends_at)
        ending.save(update_fields=["ends_at", "due_at"])
        audit(
            actor=actor,
            action="override.ended",
            subject=ending.public_id,
            customer_id=customer_id,
            changes={"ends_at": ending.ends_at.isoformat()},
            now=now,
        )
        _follow(customer, now=now)
    ending.refresh_from_db()
    return ending


def apply_due(*, now: datetime, limit: int) -> int:
    """Write the entitlements of up to `limit` overrides that begin or end; how many there were."""
    due = Override.objects.filter(due_at__lte=now).order_by("due_at", "id")

    def work(override_id: int) -> bool:
        mine = Override.objects.filter(pk=override_id, due_at__lte=now).first()
        if mine is not None:
            _follow(mine.customer, now=now)
        return mine is not None

    return each_in_turn(
        list(due.values_list("customer_id", "id")[:limit]), work=work, what="an override"
    )


def _follow(customer: Customer, *, now: datetime) -> None:
    """Provision, and say when that must be done again."""
    follow_customer(customer.id, now=now)
    for each in Override.objects.filter(customer=customer, due_at__lte=now):
        ahead = (at for at in (each.starts_at, each.ends_at) if at is not None and at > now)
        each.due_at = min(ahead, default=None)
        each.save(update_fields=["due_at"])


def _earliest(customer: Customer, *, now: datetime) -> datetime:
    """The first second of which nothing is billed yet: periods may end a second ahead."""
    periods = Subscription.objects.filter(customer=customer).aggregate(
        begun=Max("current_start_at"), ended=Max("canceled_at")
    )
    begun: list[datetime] = [at for at in periods.values() if at is not None]
    return max([instant(now), *begun])


def _make_room(made: Override) -> None:
    """End the override that this one takes the place of."""
    same = _of_the_same(made)
    if made.ends_at is not None:
        same = same.filter(starts_at__lt=made.ends_at)
    for other in same:
        if slot(other) != slot(made):
            continue
        if other.starts_at > made.starts_at:
            raise OverrideOverlaps(f"{other.public_id} begins while this one would hold.")
        other.ends_at = made.starts_at
        other.save(update_fields=["ends_at"])


def _of_the_same(override: Override) -> QuerySet[Override]:
    """Other overrides of the customer that name the same thing and hold later, if only a while."""
    return Override.objects.filter(
        Q(ends_at=None) | Q(ends_at__gt=override.starts_at),
        Q(ends_at=None) | Q(ends_at__gt=F("starts_at")),
        customer=override.customer,
        meter=override.meter,
        feature=override.feature,
    ).exclude(pk=override.pk)
