"""Backfills, and how far they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db.models import Count, Exists, Func, OuterRef, QuerySet

from metering.models import Backfill, Correction, EffectiveEvent, Meter, StagedEvent
from metering.models.hours import occurred_within


@dataclass(frozen=True, slots=True)
class Progress:
    """How many events were supplied to a backfill, and what became of them and of others.

    `voided`: were there and not supplied again; `restored`: of these, brought back when it was
    undone. `dropped`: supplied, and never counted because it was reverted while it was open.
    """

    supplied: int
    waiting: int
    added: int
    amended: int
    same: int
    refused: int
    undone: int
    voided: int
    restored: int
    dropped: int


def backfill_by_id(backfill_id: int) -> Backfill | None:
    """The backfill, if there is one."""
    return Backfill.objects.filter(id=backfill_id).first()


def progress_of(backfill_id: int) -> Progress:
    """How far it is."""
    customers, dropped = Backfill.objects.values_list("customers", "dropped").get(id=backfill_id)
    rows = StagedEvent.objects.filter(customer_id__in=customers, backfill_id=backfill_id)
    counts = dict(
        rows.values_list("outcome").annotate(events=Count("id")).values_list("outcome", "events")
    )
    supplied = StagedEvent.objects.filter(
        customer_id=OuterRef("customer_id"), backfill_id=backfill_id, id=OuterRef("event_id")
    )
    others = Correction.objects.filter(
        ~Exists(supplied), customer_id__in=customers, backfill_id=backfill_id
    )
    fixes = dict(
        others.values_list("kind").annotate(events=Count("*")).values_list("kind", "events")
    )
    outcome = StagedEvent.Outcome
    return Progress(
        supplied=sum(counts.values()),
        waiting=counts.get("", 0),
        added=counts.get(outcome.ADDED, 0),
        amended=counts.get(outcome.AMENDED, 0),
        same=counts.get(outcome.SAME, 0),
        refused=counts.get(outcome.REFUSED, 0),
        undone=counts.get(outcome.UNDONE, 0),
        voided=fixes.get(Correction.Kind.VOID, 0),
        restored=fixes.get(Correction.Kind.RESTORE, 0),
        dropped=dropped,
    )


def meters_touched(backfill: Backfill, *, customer_id: int) -> QuerySet[Meter]:
    """The meters on which the customer's usage changes when it is closed, or may change."""
    staged = StagedEvent.objects.filter(customer_id=customer_id, backfill_id=backfill.id)
    numbers = _meters_in(staged)
    if backfill.mode == Backfill.Mode.REPLACE:
        numbers |= _meters_in(
            EffectiveEvent.objects.filter(
                occurred_within(backfill.start_at, backfill.end_at),
                customer_id=customer_id,
                type=backfill.event_type,
            )
        )
    return Meter.objects.filter(id__in=numbers).order_by("key")


def _meters_in(rows: QuerySet[Any]) -> set[int]:
    keys = rows.annotate(meter=Func("usage", function="jsonb_object_keys"))
    return {int(number) for number in keys.values_list("meter", flat=True).distinct()}
