"""Rollover: what a window leaves unused goes on into the next one, once.

It goes on as a grant that stands as long as the next window, so nothing about it is special to the
gate. `Rollover` remembers from which window it came; as long as it can be used, what changes about
that window afterwards (late events, released holds) changes the grant, but never below what was
already used of it.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import connection, transaction

from accounts.models import CustomerVersion
from accounts.operations.versions import bump
from metering import statements
from metering.domain.rollover import PRIORITY, rolled_over
from metering.domain.windows import anchored_window
from metering.models import Balance, Entitlement, Grant, Rollover

_INSTANT = timedelta(microseconds=1)
Window = tuple[datetime, datetime]


def roll_over(*, now: datetime, limit: int) -> int:
    """Roll the windows that are over, and put right what came late, for `limit` customers each.

    Returns how many customers there were. One transaction per customer; one that somebody else is
    writing at is left for the next time.
    """
    due = Entitlement.objects.filter(rollover__gt=0, rolls_at__lte=now)
    customers = due.order_by("rolls_at").values_list("customer_id", flat=True)[:limit]
    done = sum(_roll_over_of(customer_id, now=now) for customer_id in dict.fromkeys(customers))
    with connection.cursor() as cursor:
        cursor.execute(statements.load("changed_rollovers"), {"now": now, "most": limit})
        changed = [int(row[0]) for row in cursor.fetchall()]
    return done + sum(_put_right(customer_id, now=now) for customer_id in changed)


def roll_over_due(customer_id: int, *, now: datetime) -> None:
    """Roll the customer's windows that are over by `now`; twice changes nothing.

    The caller has raised the customer's version before.
    """
    due = Entitlement.objects.filter(customer_id=customer_id, rollover__gt=0, rolls_at__lte=now)
    for entitlement in due.order_by("id"):
        _roll(entitlement, now=now)


def _roll_over_of(customer_id: int, *, now: datetime) -> bool:
    with transaction.atomic():
        if not _claimed(customer_id):
            return False
        bump(customer_id)
        roll_over_due(customer_id, now=now)
    return True


def _put_right(customer_id: int, *, now: datetime) -> bool:
    with transaction.atomic():
        if not _claimed(customer_id):
            return False
        bump(customer_id)
        for rollover in Rollover.objects.filter(customer_id=customer_id, expires_at__gt=now):
            _follow(rollover, now=now)
    return True


def _claimed(customer_id: int) -> bool:
    rows = CustomerVersion.objects.select_for_update(skip_locked=True)
    return rows.filter(customer_id=customer_id).first() is not None


def _roll(entitlement: Entitlement, *, now: datetime) -> None:
    """Roll window after window until the current one; only what can still be used goes on."""
    at, rollable = entitlement.rolls_at, entitlement.rollable
    assert at is not None
    while at <= now:
        before, after = _window(entitlement, at - _INSTANT), _window(entitlement, at)
        stands = entitlement.ends_at is None or entitlement.ends_at > at
        if after[1] > now and stands and not entitlement.unlimited:
            _go_on(entitlement, before, rollable=rollable, expires_at=after[1], now=now)
        at, rollable = after[1], entitlement.included
    Entitlement.objects.filter(customer_id=entitlement.customer_id, id=entitlement.id).update(
        rolls_at=at, rollable=rollable
    )


def _go_on(
    entitlement: Entitlement, window: Window, *, rollable: int, expires_at: datetime, now: datetime
) -> None:
    meter_id = entitlement.meter_id
    assert meter_id is not None
    own = Rollover.objects.filter(customer_id=entitlement.customer_id, meter_id=meter_id)
    own.filter(expires_at__lte=now).delete()
    rollover, made = Rollover.objects.get_or_create(
        customer_id=entitlement.customer_id,
        meter_id=meter_id,
        window=entitlement.window,
        start_at=window[0],
        defaults={
            "end_at": window[1],
            "expires_at": expires_at,
            "included": rollable,
            "most": entitlement.rollover,
        },
    )
    if made:
        _follow(rollover, now=now)


def _follow(rollover: Rollover, *, now: datetime) -> None:
    """Make the grant what its window says.

    The caller has raised the customer's version before.
    """
    given = None
    if rollover.grant_id is not None:
        given = Grant.objects.get(customer_id=rollover.customer_id, id=rollover.grant_id)
    if given is not None and given.voided_at is not None:
        return
    quantity = rolled_over(
        included=rollover.included,
        most=rollover.most,
        used=_taken(rollover),
        taken=given.used + given.held if given is not None else 0,
    )
    if given is not None:
        given.quantity = quantity
        given.save(update_fields=["quantity"])
    elif quantity:
        made = Grant.objects.create(
            customer_id=rollover.customer_id,
            meter_id=rollover.meter_id,
            quantity=quantity,
            priority=PRIORITY,
            effective_at=rollover.end_at,
            expires_at=rollover.expires_at,
            reason=f"Rolled over from {rollover.start_at:%F}",
            created_at=now,
        )
        Rollover.objects.filter(pk=rollover.pk).update(grant_id=made.id)


def _taken(rollover: Rollover) -> int:
    """What its window took of what it included, open holds with it."""
    row = Balance.objects.filter(
        customer_id=rollover.customer_id,
        meter_id=rollover.meter_id,
        window=rollover.window,
        start_at=rollover.start_at,
    ).first()
    return 0 if row is None else row.used - row.grant_used + row.held - row.grant_held


def _window(entitlement: Entitlement, at: datetime) -> Window:
    return anchored_window(entitlement.anchor_at, unit=entitlement.window, at=at)
