"""Looking up meters."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from typing import Any

from django.db.models import Q

from accounts.domain import ids
from metering.domain.meters import Aggregation, MeterTerms, filters_from
from metering.domain.prices import PriceSchedule
from metering.models import Meter, MeterVersion
from metering.queries.prices import price_schedule


def meter_by_reference(text: str) -> Meter | None:
    """The meter with this public id (`mtr_…`) or this key, archived ones included."""
    if text.startswith(f"{Meter.PREFIX}_"):
        try:
            number = ids.decode(Meter.PREFIX, text)
        except ids.IdMalformed:
            pass  # a key may begin like an id
        else:
            return Meter.objects.filter(id=number).first() if number < 1 << 31 else None
    return Meter.objects.filter(key=text).first() if "\x00" not in text else None


def dimensions_of_all(meter: Meter) -> list[str]:
    """The dimensions of every version of the meter, each once, those of earlier versions first."""
    later = meter.versions.order_by("number").values_list("dimensions", flat=True)
    return list(dict.fromkeys(name for names in (meter.dimensions, *later) for name in names))


def terms_since(event_type: str, start_at: datetime) -> list[MeterTerms]:
    """The terms by which events of this type counted at `start_at` or later.

    Those of a meter that was archived since end with its archiving; one that was archived by then
    has none.
    """
    of_type = Q(event_type=event_type) | Q(versions__event_type=event_type)
    in_use = Q(archived_at=None) | Q(archived_at__gt=start_at)
    meters = {each.id: each for each in Meter.objects.filter(of_type, in_use).distinct()}
    found = []
    for terms in all_terms(meters.values()):
        archived_at = meters[terms.id].archived_at
        if archived_at is None or (terms.until_at is not None and terms.until_at <= archived_at):
            found.append(terms)
        elif terms.from_at is None or terms.from_at < archived_at:
            found.append(replace(terms, until_at=archived_at))
    return found


def terms_of(meter: Meter, *, at: datetime | None = None) -> MeterTerms:
    """The part of a meter that decides how events of that moment are counted (None: the first)."""
    found = all_terms([meter])
    return next((each for each in found if at is not None and each.stands_at(at)), found[0])


def all_terms(meters: Iterable[Meter]) -> list[MeterTerms]:
    """The terms of these meters, every version of each, the first first.

    Of one meter's terms exactly one `stands_at` any moment; `matches(…, at=…)` finds it.
    """
    chosen = list(meters)
    changes: dict[int, list[MeterVersion]] = {}
    for version in MeterVersion.objects.filter(meter__in=chosen).order_by("effective_at"):
        changes.setdefault(version.meter_id, []).append(version)
    found = []
    schedules: dict[int, PriceSchedule] = {}
    for meter in chosen:
        steps: list[Meter | MeterVersion] = [meter, *changes.get(meter.id, ())]
        starts = [None, *(each.effective_at for each in changes.get(meter.id, ()))]
        for step, from_at, until_at in zip(steps, starts, [*starts[1:], None], strict=True):
            table = step.price_table_id
            if table is not None and table not in schedules:
                schedules[table] = price_schedule(table)
            filters: list[dict[str, Any]] = step.filters
            found.append(
                MeterTerms(
                    id=meter.id,
                    key=meter.key,
                    event_type=step.event_type,
                    aggregation=Aggregation(meter.aggregation),
                    value_property=step.value_property,
                    dimensions=tuple(step.dimensions),
                    filters=filters_from(filters),
                    unit=meter.unit,
                    from_at=from_at,
                    until_at=until_at,
                    prices=None if table is None else schedules[table],
                )
            )
    return found
