"""Meters: define, change from a time on, archive."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from django.db import IntegrityError, transaction

from accounts.operations.auditing import audit
from accounts.operations.versions import bump_catalogue
from metering.models import Meter, MeterVersion, PriceTable
from metering.operations.meter_shapes import (
    Matching,
    MeterDefinitionInvalid,
    check_key,
    check_matching,
    check_unit,
)

__all__ = [
    "MeterArchived",
    "MeterDefinitionInvalid",
    "MeterKeyTaken",
    "MeterUnknown",
    "archive_meter",
    "change_meter",
    "define_meter",
]


class MeterKeyTaken(Exception):
    """Another meter has this key; keys are never given twice, also not of archived meters."""


class MeterUnknown(Exception):
    """No meter has this id or key."""


class MeterArchived(Exception):
    """The meter was taken out of use; it cannot be changed any more."""


def define_meter(  # noqa: PLR0913  (a meter's members, as the API names them)
    *,
    key: str,
    event_type: str,
    aggregation: str,
    value_property: str = "",
    dimensions: Sequence[str] = (),
    filters: Sequence[Mapping[str, object]] = (),
    price_table: str = "",
    unit: str = "",
    display: Mapping[str, object] | None = None,
    actor: str,
    now: datetime,
) -> Meter:
    """Define a meter; from then on its key, aggregation and unit stay what they are.

    A sum with a `price_table` (its key) is of what tokens cost, in billionths of the table's
    currency; `value_property` then names the model ("model"). Raises MeterDefinitionInvalid, or
    MeterKeyTaken where the key was ever used.
    """
    check_key(key)
    table = _price_table(price_table)
    matching = Matching(
        event_type=event_type,
        value_property=value_property or ("model" if table is not None else ""),
        dimensions=tuple(dimensions),
        filters=tuple(filters),
        price_table=table,
    )
    unit = check_unit(unit, price_table=table)
    check_matching(aggregation, matching)
    shown = dict(display or {})
    if table is not None:
        shown = shown or {"unit": table.currency.upper(), "divisor": 10**9}
    meter = Meter(
        key=key,
        aggregation=aggregation,
        unit=unit,
        display=shown,
        created_at=now,
        **_columns(matching),
    )
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


def change_meter(
    meter_id: int,
    *,
    effective_at: datetime | None = None,
    ahead: timedelta,
    event_type: str | None = None,
    value_property: str | None = None,
    dimensions: Sequence[str] | None = None,
    filters: Sequence[Mapping[str, object]] | None = None,
    price_table: str | None = None,
    actor: str,
    now: datetime,
) -> MeterVersion | None:
    """Let the meter match otherwise from a time on; what is None stays as it is then.

    Events count by the version that stands when they occurred, however late they come. The
    version begins at least `ahead` (how far an event's time may lie ahead) from now, so that none
    was counted yet that it is for; that is also when it begins unless told otherwise. Returns the
    version; the newest one where nothing would change (None where that is the meter itself).
    Raises MeterDefinitionInvalid, MeterArchived, MeterUnknown.
    """
    with transaction.atomic():
        meter = Meter.objects.select_for_update().filter(id=meter_id).first()
        if meter is None:
            raise MeterUnknown("no meter has this id")
        if meter.archived_at is not None:
            raise MeterArchived("the meter was archived: define a new one")
        newest = meter.versions.order_by("-number").first()
        before = Matching.of(newest or meter)
        given: dict[str, Any] = {
            "event_type": event_type,
            "value_property": value_property,
            "dimensions": None if dimensions is None else tuple(dimensions),
            "filters": None if filters is None else tuple(filters),
        }
        after = replace(before, **{name: each for name, each in given.items() if each is not None})
        if price_table is not None:
            after = replace(after, price_table=_price_table(price_table))
        check_matching(meter.aggregation, after)
        _check_price_table(before, after)
        if after == before:
            return newest
        begins_at = _beginning(effective_at, newest, ahead=ahead, now=now)
        version = MeterVersion.objects.create(
            meter=meter,
            number=1 + (newest.number if newest is not None else 1),
            effective_at=begins_at,
            created_at=now,
            created_by=actor,
            **_columns(after),
        )
        bump_catalogue()
        audit(
            actor=actor,
            action="meter.changed",
            subject=meter.public_id,
            changes={"version": version.number, "effective_at": begins_at.isoformat()},
            now=now,
        )
    return version


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


def _columns(matching: Matching) -> dict[str, Any]:
    return {
        "event_type": matching.event_type,
        "value_property": matching.value_property,
        "dimensions": list(matching.dimensions),
        "filters": [dict(each) for each in matching.filters],
        "price_table": matching.price_table,
    }


def _price_table(key: str) -> PriceTable | None:
    if not key:
        return None
    table = PriceTable.objects.filter(key=key).first() if "\x00" not in key else None
    if table is None:
        raise MeterDefinitionInvalid("price_table", f"there is no price table {key!r}")
    return table


def _check_price_table(before: Matching, after: Matching) -> None:
    if before.price_table == after.price_table:
        return
    if before.price_table is None or after.price_table is None:
        raise MeterDefinitionInvalid(
            "price_table", "a meter counts costs from its beginning or never: define a new one"
        )
    if before.price_table.currency != after.price_table.currency:
        raise MeterDefinitionInvalid("price_table", "the new table has another currency")


def _beginning(
    asked: datetime | None, newest: MeterVersion | None, *, ahead: timedelta, now: datetime
) -> datetime:
    first = now + ahead
    begins_at = first if asked is None else asked
    if begins_at < first:
        seconds = int(ahead.total_seconds())
        raise MeterDefinitionInvalid(
            "effective_at",
            f"a change begins at least {seconds} s from now: events may be dated that far ahead",
        )
    if newest is not None and begins_at <= newest.effective_at:
        raise MeterDefinitionInvalid(
            "effective_at", f"version {newest.number} begins at {newest.effective_at.isoformat()}"
        )
    return begins_at
