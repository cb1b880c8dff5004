"""What events count as now: the corrections beside them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import QuerySet

from metering import statements
from metering.models import Correction, UsageEvent


@dataclass(frozen=True, slots=True)
class InForce:
    """An event and the correction in force, if there is one; what it counts as and who pays."""

    event: UsageEvent
    correction: Correction | None

    @property
    def _counted(self) -> UsageEvent | Correction:
        return self.event if self.correction is None else self.correction

    @property
    def usage(self) -> dict[str, int | str]:
        """`{"<meter id>": what it counts as}`; empty where the event is void."""
        return dict(self._counted.usage)

    @property
    def properties(self) -> dict[str, Any] | None:
        """The properties in force."""
        found: dict[str, Any] | None = self._counted.properties
        return found

    @property
    def paid_by(self) -> dict[str, Any] | None:
        """Which grants pay, as the event keeps it."""
        found: dict[str, Any] | None = self._counted.paid_by
        return found

    @property
    def void(self) -> bool:
        """Whether the event counts as nothing for good."""
        return self.correction is not None and self.correction.kind == Correction.Kind.VOID


def in_force(customer_id: int, *, event_ids: Iterable[UUID]) -> dict[UUID, InForce]:
    """The events with these ids, those that exist, with the corrections in force.

    Of an id that came again after its repeats are known it is the last event.
    """
    found = UsageEvent.objects.filter(customer_id=customer_id, id__in=list(event_ids))
    found = found.order_by("received_month")
    return {each.event.id: each for each in as_in_force(customer_id, events=list(found))}


def as_in_force(customer_id: int, *, events: Sequence[UsageEvent]) -> list[InForce]:
    """These events of the customer, in their order, with the corrections in force."""
    fixes = {
        (each.event_id, each.received_month): each
        for each in Correction.objects.filter(
            customer_id=customer_id, event_id__in=[each.id for each in events], superseded_at=None
        )
    }
    return [InForce(event, fixes.get((event.id, event.received_month))) for event in events]


def corrections_of(event: UsageEvent) -> QuerySet[Correction]:
    """Every correction of an event, the first one first."""
    return Correction.objects.filter(
        customer_id=event.customer_id, event_id=event.id, received_month=event.received_month
    ).order_by("number")


def corrected_since(asked: Mapping[int, datetime]) -> dict[int, datetime]:
    """By customer the earliest moment whose usage was put right at the time asked for it or later;
    customers of whom nothing was are left out."""
    given: dict[str, Any] = {"customers": list(asked), "since": list(asked.values())}
    with connection.cursor() as cursor:
        cursor.execute(statements.load("corrected_since"), given)
        return dict(cursor.fetchall())
