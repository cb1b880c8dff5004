"""Corrections: an event is amended or voided, and everything that was counted from it follows.

The event itself is never changed. A correction stands beside it with who and why; several may
follow one another, and a void is the last.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Q, QuerySet

from accounts.domain import ids
from accounts.operations.auditing import audit
from accounts.operations.versions import bump
from metering.domain.aggregates import Counted
from metering.domain.counting import usage_of
from metering.domain.meters import QuantityInvalid, whole_quantity
from metering.domain.prices import PriceUnknown
from metering.domain.recounting import Usage
from metering.domain.shapes.tokens import renewed
from metering.models import Correction, Meter, UsageEvent
from metering.operations.recounting import Recounting
from metering.operations.repaying import REASON_MAX, supersede
from metering.queries.corrections import InForce, in_force
from metering.queries.meters import all_terms


class EventUnknown(Exception):
    """The customer has no event with this id."""


class EventVoided(Exception):
    """The event is void, and stays so."""


class CorrectionInvalid(Exception):
    """An event cannot be corrected like this; `param` names the member at fault."""

    def __init__(self, param: str, detail: str) -> None:
        super().__init__(detail)
        self.param = param
        self.detail = detail


def amend(
    customer_id: int,
    *,
    event_id: UUID,
    quantities: Mapping[int, int] | None = None,
    properties: Mapping[str, Any] | None = None,
    reason: str,
    actor: str,
    now: datetime,
) -> Correction:
    """Let an event count as something else from now on; returns the correction.

    `quantities`: meter id -> quantity, of meters that the event counts on. `properties` replace
    the event's: an event that was reported is counted anew by them, as if it were reported now,
    names of OpenTelemetry included; what a check charged keeps its quantities. Usage, balances,
    grants and open invoices follow in the same transaction, and invoices that were issued by an
    adjustment on the next. The same amendment twice in a row is one. Raises
    EventUnknown, EventVoided, CorrectionInvalid.
    """
    _check_reason(reason)
    if quantities is None and properties is None:
        raise CorrectionInvalid("quantity", "an amendment changes a quantity or the properties")
    with transaction.atomic():
        bump(customer_id)  # from here on nobody else writes this customer's metering
        standing = _standing(customer_id, event_id)
        if standing.void:
            raise EventVoided("The event is void; report the usage as a new event.")
        after = standing.properties
        if properties is not None:
            properties = _named(standing, properties)
            after = properties or None
        usage = _usage(standing, quantities=quantities, properties=properties)
        current = standing.correction
        if current is not None and (current.usage, current.properties) == (usage, after):
            return current
        return _correct(
            standing,
            kind=Correction.Kind.AMEND,
            usage=usage,
            properties=after,
            reason=reason,
            actor=actor,
            now=now,
        )


def void(customer_id: int, *, event_id: UUID, reason: str, actor: str, now: datetime) -> Correction:
    """Let an event count as nothing for good; returns the correction. Twice changes nothing.

    Raises EventUnknown, CorrectionInvalid.
    """
    _check_reason(reason)
    with transaction.atomic():
        bump(customer_id)
        standing = _standing(customer_id, event_id)
        if standing.void:
            assert standing.correction is not None
            return standing.correction
        return _correct(
            standing,
            kind=Correction.Kind.VOID,
            usage={},
            properties=standing.properties,
            reason=reason,
            actor=actor,
            now=now,
        )


def moments(standing: InForce, usage: Usage) -> list[tuple[int, datetime]]:
    """Where a change of an event to `usage` is felt: its meters, at its time."""
    return [(int(key), standing.event.occurred_at) for key in {*standing.usage, *usage}]


def put(
    standing: InForce,
    *,
    books: Recounting,
    kind: Correction.Kind,
    usage: Usage,
    properties: Mapping[str, Any] | None,
    reason: str,
    actor: str,
    now: datetime,
    backfill_id: int | None = None,
) -> Correction:
    """Write a correction into the books, which the caller writes afterwards, and beside its event.

    In the caller's transaction, in which it has raised the customer's version.
    """
    paid_by = books.change(
        at=standing.event.occurred_at,
        before=standing.usage,
        paid_by=standing.paid_by,
        properties_before=standing.properties,
        after=usage,
        properties=properties,
        event_id=standing.event.id,
    )
    return supersede(
        standing,
        kind=kind,
        usage=usage,
        properties=properties,
        paid_by=paid_by,
        reason=reason,
        actor=actor,
        backfill_id=backfill_id,
        now=now,
    )


def public_id(event: UsageEvent) -> str:
    """An event's id as the API shows it."""
    return ids.encode_owned(UsageEvent.PREFIX, customer_id=event.customer_id, key=event.id)


def _check_reason(reason: str) -> None:
    if not 1 <= len(reason.strip()) <= REASON_MAX or "\x00" in reason:
        raise CorrectionInvalid("reason", f"a correction says why, in 1 to {REASON_MAX} characters")


def _standing(customer_id: int, event_id: UUID) -> InForce:
    found = in_force(customer_id, event_ids=[event_id]).get(event_id)
    if found is None:
        raise EventUnknown("The customer has no such event.")
    return found


def _named(standing: InForce, properties: Mapping[str, Any]) -> dict[str, Any]:
    """The properties under our names too, as the gate puts them; not those of a check."""
    if standing.event.answer is not None:
        return dict(properties)
    return renewed(properties, before=standing.properties or {})


def _usage(
    standing: InForce,
    *,
    quantities: Mapping[int, int] | None,
    properties: Mapping[str, Any] | None,
) -> dict[str, Counted]:
    event, usage = standing.event, standing.usage
    try:
        # What a check charged was asked for by meter and quantity, not by properties.
        if properties is not None and event.answer is None and not event.from_hold:
            counted = usage_of(
                all_terms(_meters_of(event)),
                type=event.type,
                properties=properties,
                at=event.occurred_at,
            )
            usage = {str(meter_id): each for meter_id, each in counted.items()}
        for meter_id, quantity in (quantities or {}).items():
            if str(meter_id) not in usage:
                raise CorrectionInvalid("quantities", "the event does not count on that meter")
            if isinstance(usage[str(meter_id)], str):
                raise CorrectionInvalid("quantities", "a member is corrected by its property")
            usage[str(meter_id)] = whole_quantity(quantity, param="quantity")
    except QuantityInvalid as error:
        raise CorrectionInvalid(error.param, error.detail) from error
    except PriceUnknown as error:
        raise CorrectionInvalid("properties", error.detail) from error
    return usage


def _meters_of(event: UsageEvent) -> QuerySet[Meter]:
    """The meters that may count an event: of its type in any version, those in use or its own."""
    of_type = Q(event_type=event.type) | Q(versions__event_type=event.type)
    in_use = Q(archived_at=None) | Q(id__in=[int(key) for key in event.usage])
    return Meter.objects.filter(of_type, in_use).distinct()


def _correct(
    standing: InForce,
    *,
    kind: Correction.Kind,
    usage: Usage,
    properties: Mapping[str, Any] | None,
    reason: str,
    actor: str,
    now: datetime,
) -> Correction:
    event = standing.event
    books = Recounting(event.customer_id, moments=moments(standing, usage))
    made = put(
        standing,
        books=books,
        kind=kind,
        usage=usage,
        properties=properties,
        reason=reason,
        actor=actor,
        now=now,
    )
    books.write(now=now)
    audit(
        actor=actor,
        action="event.voided" if kind == Correction.Kind.VOID else "event.amended",
        subject=public_id(event),
        customer_id=event.customer_id,
        changes={"before": standing.usage, "after": dict(usage), "reason": reason},
        now=now,
    )
    # What pays is known only now.
    return Correction.objects.get(
        customer_id=event.customer_id, event_id=event.id, number=made.number
    )
