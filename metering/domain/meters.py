"""Which meters an event matches, what quantity it counts as, and under which dimensions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

QUANTITY_MAX = 1_000_000_000_000_000
DIMENSIONS_MAX = 8
# The dimensions of a bucket are part of a primary key, whose rows may be 2,704 bytes at most.
DIMENSION_BYTES = 120


class Aggregation(StrEnum):
    """How the events of a window become one quantity."""

    COUNT = "count"
    SUM = "sum"


class QuantityInvalid(ValueError):
    """A quantity is not a whole number from 0 to QUANTITY_MAX; `param` names the property."""

    def __init__(self, param: str, detail: str) -> None:
        super().__init__(detail)
        self.param = param
        self.detail = detail


@dataclass(frozen=True, slots=True)
class MeterFilter:
    """Only events whose property has one of these values (as `text_of` writes them)."""

    property: str
    values: frozenset[str]


@dataclass(frozen=True, slots=True)
class MeterTerms:
    """What of a meter decides how events are counted."""

    id: int
    key: str
    event_type: str
    aggregation: Aggregation
    value_property: str
    dimensions: tuple[str, ...]
    filters: tuple[MeterFilter, ...]
    unit: str


def filters_from(stored: list[dict[str, object]]) -> tuple[MeterFilter, ...]:
    """Read filters as they are stored: `[{"property": "region", "in": ["eu"]}]`."""
    found = []
    for each in stored:
        values = each["in"]
        assert isinstance(values, list)
        texts = (text_of(value) for value in values)
        found.append(
            MeterFilter(
                str(each["property"]), frozenset(text for text in texts if text is not None)
            )
        )
    return tuple(found)


def text_of(value: object) -> str | None:
    """The text of a property for filters and dimensions; None for what has none (null, lists).

    `true` and `false`, numbers as JSON writes them, text as it is.
    """
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case _:
            return None


def matches(meter: MeterTerms, *, type: str, properties: Mapping[str, object]) -> bool:  # noqa: A002
    """Whether an event of this type with these properties counts on the meter."""
    if type != meter.event_type:
        return False
    return all(text_of(properties.get(each.property)) in each.values for each in meter.filters)


def quantity_of(meter: MeterTerms, properties: Mapping[str, object]) -> int:
    """The quantity, in the meter's unit, that one matching event counts as.

    Raises QuantityInvalid where the summed property is missing or not a whole number in range.
    """
    match meter.aggregation:
        case Aggregation.COUNT:
            return 1
        case Aggregation.SUM:
            name = meter.value_property
            if name not in properties:
                raise QuantityInvalid(name, f"{meter.key} sums {name!r}, which is missing")
            return whole_quantity(properties[name], param=name)
        case _:
            assert_never(meter.aggregation)


def whole_quantity(value: object, *, param: str) -> int:
    """Return `value` if it is a quantity; raises QuantityInvalid saying why it is not."""
    if isinstance(value, bool) or not isinstance(value, int):
        shown = "a fraction" if isinstance(value, float) else type(value).__name__
        raise QuantityInvalid(param, f"{param} must be a whole number, not {shown}")
    if value < 0:
        raise QuantityInvalid(param, f"{param} must not be negative")
    if value > QUANTITY_MAX:
        raise QuantityInvalid(param, f"{param} must be at most {QUANTITY_MAX:,}")
    return value


def dimensions_of(meter: MeterTerms, properties: Mapping[str, object]) -> dict[str, str]:
    """The dimensions under which an event is bucketed; properties without a text are left out.

    Values are cut to DIMENSION_BYTES bytes of UTF-8.
    """
    found = {}
    for name in meter.dimensions:
        text = text_of(properties.get(name))
        if text is not None:
            found[name] = dimension_value(text)
    return found


def dimension_value(text: str) -> str:
    """Cut a text to what a dimension holds, at the end of a character."""
    encoded = text.encode("utf-8", "replace").replace(b"\x00", b"?")
    return encoded[:DIMENSION_BYTES].decode("utf-8", "ignore")
