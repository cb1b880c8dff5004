"""Looking up meters."""

from __future__ import annotations

from typing import Any

from accounts.domain import ids
from metering.domain.meters import Aggregation, MeterTerms, filters_from
from metering.models import Meter


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


def terms_of(meter: Meter) -> MeterTerms:
    """The part of a meter that decides how events are counted."""
    filters: list[dict[str, Any]] = meter.filters
    return MeterTerms(
        id=meter.id,
        key=meter.key,
        event_type=meter.event_type,
        aggregation=Aggregation(meter.aggregation),
        value_property=meter.value_property,
        dimensions=tuple(meter.dimensions),
        filters=filters_from(filters),
        unit=meter.unit,
    )
