"""What a check asks for, in the terms of the catalogue; and when it counts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from metering.domain.aggregates import Counted
from metering.domain.decisions import Item
from metering.domain.meters import Aggregation, MeterTerms, QuantityInvalid, counted_of
from metering.domain.prices import PriceUnknown
from metering.domain.readings import Reading
from metering.gate.calls import Check
from metering.gate.catalogue import Catalogue
from metering.gate.wire import ItemBody, Problem


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the gate was set up with and decisions need."""

    base_url: str
    max_age: timedelta
    max_ahead: timedelta
    clocks_apart: timedelta = timedelta(minutes=5)  # ours and the database's, at most


@dataclass(frozen=True, slots=True)
class Limits:
    """How much the engine takes at once and keeps; how many flights there are at most at a time."""

    queue: int
    batch: int
    copies: int
    flights: int = 4
    wait_s: float = math.inf  # how long calls may wait on average before others are refused


def items_of(call: Check, catalogue: Catalogue, *, at: datetime) -> list[Item]:
    """What a check asks for, in the catalogue's terms; raises Problem where it asks wrongly."""
    return [
        _item(asked, meter, call, catalogue, at=at)
        if (meter := catalogue.meters.get(asked.meter)) is not None
        else _feature(asked, call, catalogue)
        for asked in call.asked
    ]


def _item(
    asked: ItemBody, meter: MeterTerms, call: Check, catalogue: Catalogue, *, at: datetime
) -> Item:
    if meter.takes_quantity:
        return Item(asked.meter, meter.id, 1 if asked.quantity is None else asked.quantity)
    meter = catalogue.meter_at(meter.id, at)
    value: Counted = asked.quantity or 0
    if asked.quantity is None or meter.aggregation is Aggregation.UNIQUE:
        value = counted(meter, call.body.properties or {}, at=at)
    if meter.adds_up:
        return Item(asked.meter, meter.id, int(value))
    if call.body.mode == "hold":
        raise Problem(
            "parameter_invalid",
            f"{asked.meter} does not add up: it can be consumed, but not held.",
            param="mode",
        )
    reading = Reading(meter.aggregation, value)
    if meter.aggregation is not Aggregation.UNIQUE:
        return Item(asked.meter, meter.id, int(value), reading)
    if asked.quantity not in (None, 1):
        raise Problem(
            "quantity_invalid",
            f"{asked.meter} counts different members, one a call.",
            param="quantity",
        )
    return Item(asked.meter, meter.id, 1, reading)


def counted(meter: MeterTerms, properties: Mapping[str, Any], *, at: datetime) -> Counted:
    """What an event with these properties counts as on a meter; raises Problem."""
    try:
        return counted_of(meter, properties, at=at)
    except QuantityInvalid as error:
        raise Problem("quantity_invalid", error.detail, param=error.param) from error
    except PriceUnknown as error:
        raise Problem("price_unknown", error.detail, nearest=error.nearest) from error


def _feature(asked: ItemBody, call: Check, catalogue: Catalogue) -> Item:
    if asked.meter not in catalogue.features:
        near = catalogue.nearest(asked.meter)
        hint = f" Nearest: {', '.join(near)}." if near else ""
        raise Problem(
            "meter_unknown",
            f"There is no meter or feature {asked.meter!r}.{hint}",
            param="meter",
            nearest=near,
        )
    if asked.quantity is not None:
        raise Problem(
            "quantity_invalid",
            f"{asked.meter} is a feature: it takes no quantity.",
            param="quantity",
        )
    if call.body.mode != "peek":
        raise Problem(
            "parameter_invalid",
            f"{asked.meter} is a feature: it can only be peeked at.",
            param="mode",
        )
    return Item(asked.meter, None, 0)


def occurred_at(time: datetime | None, *, now: datetime, bounds: Bounds) -> datetime:
    """The moment something counts at; raises Problem for one too old or in the future."""
    if time is None:
        return now
    if time > now + bounds.max_ahead:
        ahead = int(bounds.max_ahead.total_seconds())
        raise Problem(
            "time_out_of_range", f"The time lies more than {ahead} s ahead.", param="time"
        )
    if time < now - bounds.max_age:
        raise Problem(
            "time_out_of_range",
            f"The time lies more than {bounds.max_age.days} days back.",
            param="time",
        )
    return time
