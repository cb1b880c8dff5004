"""Meters: define and archive."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime

from django.db import IntegrityError, transaction

from accounts.operations.auditing import audit
from accounts.operations.versions import bump_catalogue
from metering.domain.meters import DIMENSIONS_MAX, Aggregation, text_of
from metering.models import Meter

_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,99}")
_PROPERTY = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]{0,63}")
_FILTERS_MAX = 8
_FILTER_VALUES_MAX = 100


class MeterKeyTaken(Exception):
    """Another meter has this key; keys are never given twice, also not of archived meters."""


class MeterDefinitionInvalid(Exception):
    """A meter cannot be defined like this; `param` names the member at fault."""

    def __init__(self, param: str, detail: str) -> None:
        super().__init__(detail)
        self.param = param
        self.detail = detail


class MeterUnknown(Exception):
    """No meter has this id or key."""


def define_meter(
    *,
    key: str,
    event_type: str,
    aggregation: str,
    value_property: str = "",
    dimensions: Sequence[str] = (),
    filters: Sequence[Mapping[str, object]] = (),
    unit: str = "call",
    display: Mapping[str, object] | None = None,
    actor: str,
    now: datetime,
) -> Meter:
    """Define a meter; from then on nothing of it changes but whether it is archived.

    Raises MeterDefinitionInvalid, or MeterKeyTaken where the key was ever used.
    """
    _check_names(key=key, event_type=event_type, unit=unit)
    _check_aggregation(aggregation, value_property)
    _check_dimensions(dimensions)
    meter = Meter(
        key=key,
        event_type=event_type,
        aggregation=aggregation,
        value_property=value_property,
        dimensions=list(dimensions),
        filters=[_checked_filter(each, position) for position, each in enumerate(filters)],
        unit=unit,
        display=dict(display or {}),
        created_at=now,
    )
    if len(filters) > _FILTERS_MAX:
        raise MeterDefinitionInvalid("filters", f"a meter has at most {_FILTERS_MAX} filters")
    with transaction.atomic():
        try:
            with transaction.atomic():
                meter.save(force_insert=True)
        except IntegrityError as error:
            raise MeterKeyTaken(f"a meter with the key {key!r} exists") from error
        bump_catalogue()
        audit(
            actor=actor,
            action="meter.created",
            subject=meter.public_id,
            changes={"key": key, "event_type": event_type, "aggregation": aggregation},
            now=now,
        )
    return meter


def archive_meter(meter_id: int, *, actor: str, now: datetime) -> Meter:
    """Take a meter out of use: events no longer match it, what was counted stays. Idempotent."""
    with transaction.atomic():
        meter = Meter.objects.select_for_update().filter(id=meter_id).first()
        if meter is None:
            raise MeterUnknown("no meter has this id")
        if meter.archived_at is None:
            meter.archived_at = now
            meter.save(update_fields=["archived_at"])
            bump_catalogue()
            audit(actor=actor, action="meter.archived", subject=meter.public_id, now=now)
    return meter


def _check_names(*, key: str, event_type: str, unit: str) -> None:
    if not _KEY.fullmatch(key):
        raise MeterDefinitionInvalid(
            "key", "a key has 1 to 100 letters, digits and . _ : -, and no blanks"
        )
    if not 1 <= len(event_type) <= 200 or "\x00" in event_type:
        raise MeterDefinitionInvalid("event_type", "an event type has 1 to 200 characters")
    if not 1 <= len(unit) <= 40 or "\x00" in unit:
        raise MeterDefinitionInvalid("unit", "a unit has 1 to 40 characters")


def _check_aggregation(aggregation: str, value_property: str) -> None:
    if aggregation not in set(Aggregation):
        known = ", ".join(Aggregation)
        raise MeterDefinitionInvalid("aggregation", f"an aggregation is one of {known}")
    if aggregation == Aggregation.COUNT and value_property:
        raise MeterDefinitionInvalid("property", "a count sums no property")
    if aggregation == Aggregation.SUM and not _PROPERTY.fullmatch(value_property):
        raise MeterDefinitionInvalid("property", "a sum needs the name of the property it sums")


def _check_dimensions(dimensions: Sequence[str]) -> None:
    if len(dimensions) > DIMENSIONS_MAX:
        raise MeterDefinitionInvalid("dimensions", f"a meter has at most {DIMENSIONS_MAX}")
    if len(set(dimensions)) != len(dimensions):
        raise MeterDefinitionInvalid("dimensions", "a dimension is named twice")
    for name in dimensions:
        if not _PROPERTY.fullmatch(name):
            raise MeterDefinitionInvalid(
                "dimensions", "a dimension is a property's name of 1 to 64 letters, digits, '_.-'"
            )


def _checked_filter(given: Mapping[str, object], position: int) -> dict[str, object]:
    param = f"filters[{position}]"
    name, values = given.get("property"), given.get("in")
    if set(given) != {"property", "in"}:
        raise MeterDefinitionInvalid(param, 'a filter is {"property": "…", "in": […]}')
    if not isinstance(name, str) or not _PROPERTY.fullmatch(name):
        raise MeterDefinitionInvalid(f"{param}.property", "a filter names a property")
    if not isinstance(values, list) or not 1 <= len(values) <= _FILTER_VALUES_MAX:
        raise MeterDefinitionInvalid(f"{param}.in", f"1 to {_FILTER_VALUES_MAX} values")
    if any(text_of(value) is None or "\x00" in str(value) for value in values):
        raise MeterDefinitionInvalid(f"{param}.in", "values are text, numbers or booleans")
    return {"property": name, "in": values}
