"""Which meters an event matches, what quantity it counts as, and under which dimensions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import assert_never

from metering.domain.prices import TOKEN_CLASSES, PriceSchedule

QUANTITY_MAX = 1_000_000_000_000_000
DIMENSIONS_MAX = 8
# The dimensions of a bucket are part of a primary key, whose rows may be 2,704 bytes at most.
DIMENSION_BYTES = 120
# A member of a unique meter is part of a key too, whole: a longer one is refused, never cut.
MEMBER_BYTES = 255


class Aggregation(StrEnum):
    """How the events of a window become one quantity."""

    COUNT = "count"
    SUM = "sum"
    MAX = "max"
    LATEST = "latest"
    UNIQUE = "unique"

    @property
    def adds_up(self) -> bool:
        """Whether the quantities of two spans of time are the quantity of both together."""
        return self is Aggregation.COUNT or self is Aggregation.SUM


class QuantityInvalid(ValueError):
    """A quantity is not a whole number from 0 to QUANTITY_MAX; `param` names the property."""

    def __init__(self, param: str, detail: str) -> None:
        super().__init__(detail)
        self.param = param
        self.detail = detail


@dataclass(frozen=True, slots=True)
class MeterFilter:
    """What an event's property must be; all conditions that are given must hold.

    `values`: its text (as `text_of` writes it) is one of these. `excluded`: it is none of these;
    what is not there passes. `exists`: it is there with a text, or is not. `at_least`, `above`,
    `at_most`, `below`: it is a number within.
    """

    property: str
    values: frozenset[str] | None = None
    excluded: frozenset[str] = frozenset()
    exists: bool | None = None
    at_least: Decimal | None = None
    above: Decimal | None = None
    at_most: Decimal | None = None
    below: Decimal | None = None

    def admits(self, properties: Mapping[str, object]) -> bool:
        """Whether an event with these properties passes."""
        value = properties.get(self.property)
        text = text_of(value)
        if self.values is not None and text not in self.values:
            return False
        if text in self.excluded or (self.exists is not None and self.exists != (text is not None)):
            return False
        return self._in_range(value)

    def _in_range(self, value: object) -> bool:
        limits = (self.at_least, self.above, self.at_most, self.below)
        if limits == (None, None, None, None):
            return True
        number = number_of(value)
        return (
            number is not None
            and (self.at_least is None or number >= self.at_least)
            and (self.above is None or number > self.above)
            and (self.at_most is None or number <= self.at_most)
            and (self.below is None or number < self.below)
        )


@dataclass(frozen=True, slots=True)
class MeterTerms:
    """What of a meter decides how events are counted.

    A meter that was changed has several, each for the events that occurred from `from_at` (ever)
    and before `until_at` (ever). `prices`: the sum is of what tokens cost, and `value_property`
    names the model.
    """

    id: int
    key: str
    event_type: str
    aggregation: Aggregation
    value_property: str
    dimensions: tuple[str, ...]
    filters: tuple[MeterFilter, ...]
    unit: str
    from_at: datetime | None = None
    until_at: datetime | None = None
    prices: PriceSchedule | None = None
    adds_up: bool = field(init=False)  # as its aggregation; written down: calls ask for it
    # Whether an event may say outright, as `quantity`, what it counts as here.
    takes_quantity: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "adds_up", self.aggregation.adds_up)
        object.__setattr__(self, "takes_quantity", self.adds_up and self.prices is None)

    def stands_at(self, moment: datetime) -> bool:
        """Whether these are the terms for what occurred at that moment."""
        return (self.from_at is None or self.from_at <= moment) and (
            self.until_at is None or moment < self.until_at
        )


def filters_from(stored: list[dict[str, object]]) -> tuple[MeterFilter, ...]:
    """Read filters as they are stored: `[{"property": "region", "in": ["eu"]}]`."""
    return tuple(
        MeterFilter(
            property=str(each["property"]),
            values=_texts(each["in"]) if "in" in each else None,
            excluded=_texts(each.get("not_in", [])),
            exists=bool(each["exists"]) if "exists" in each else None,
            at_least=number_of(each.get("gte")),
            above=number_of(each.get("gt")),
            at_most=number_of(each.get("lte")),
            below=number_of(each.get("lt")),
        )
        for each in stored
    )


def _texts(values: object) -> frozenset[str]:
    assert isinstance(values, list)
    texts = (text_of(value) for value in values)
    return frozenset(text for text in texts if text is not None)


def number_of(value: object) -> Decimal | None:
    """The number that a JSON value was written as, digit by digit; None for what is no number.

    JSON's fractions come in binary: 0.3 is compared as 0.3, not as the nearest binary fraction.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return None
    number = Decimal(repr(value) if isinstance(value, float) else value)
    return number if number.is_finite() else None


def text_of(value: object) -> str | None:
    """The text of a property for filters and dimensions; None for what has none (null, lists).

    Text as it is, `true` and `false`, numbers in digits: 1, 1.0 and 1e0 are one number, and a
    database that writes one as another changes no text.
    """
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case int():
            return repr(value)
        case float() | Decimal():
            number = number_of(value)
            return None if number is None else _digits(number)
        case _:
            return None


def _digits(number: Decimal) -> str:
    text = f"{number:f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def matches(
    meter: MeterTerms,
    *,
    type: str,  # noqa: A002
    properties: Mapping[str, object],
    at: datetime | None = None,
) -> bool:
    """Whether an event of this type with these properties counts on the meter.

    `at`: when it occurred; None where the terms are known to stand then.
    """
    if type != meter.event_type:
        return False
    if at is not None and not meter.stands_at(at):
        return False
    return all(each.admits(properties) for each in meter.filters)


def counted_of(meter: MeterTerms, properties: Mapping[str, object], *, at: datetime) -> int | str:
    """What one matching event of that moment counts as: a quantity in the meter's unit.

    On a unique meter it is a member, as text. Raises QuantityInvalid where the property is
    missing or not what the meter needs, PriceUnknown where tokens have no price.
    """
    match meter.aggregation:
        case Aggregation.COUNT:
            return 1
        case Aggregation.SUM if meter.prices is not None:
            return _cost(meter, meter.prices, properties, at)
        case Aggregation.SUM | Aggregation.MAX | Aggregation.LATEST:
            name = meter.value_property
            if name not in properties:
                doing = "sums" if meter.aggregation is Aggregation.SUM else "reads"
                raise QuantityInvalid(name, f"{meter.key} {doing} {name!r}, which is missing")
            return whole_quantity(properties[name], param=name)
        case Aggregation.UNIQUE:
            return member_of(meter, properties)
        case _:
            assert_never(meter.aggregation)


def member_of(meter: MeterTerms, properties: Mapping[str, object]) -> str:
    """The member of a unique meter that properties name; raises QuantityInvalid."""
    name = meter.value_property
    value = properties.get(name)
    if isinstance(value, bool | float) or (text := text_of(value)) is None:
        raise QuantityInvalid(
            name, f"{meter.key} counts different {name!r}: it must be a text or a whole number"
        )
    if not 1 <= len(text.encode("utf-8", "replace")) <= MEMBER_BYTES or not _storable(text):
        raise QuantityInvalid(name, f"{name} must be a text of 1 to {MEMBER_BYTES} bytes")
    return text


def _storable(text: str) -> bool:
    return "\x00" not in text and not any("\ud800" <= each <= "\udfff" for each in text)


def _cost(
    meter: MeterTerms, prices: PriceSchedule, properties: Mapping[str, object], at: datetime
) -> int:
    model = properties.get(meter.value_property)
    if not isinstance(model, str):
        raise QuantityInvalid(
            meter.value_property, f"{meter.key} prices {meter.value_property!r}, which is missing"
        )
    tokens = {
        name: whole_quantity(properties[held], param=held)
        for name, held in TOKEN_CLASSES.items()
        if properties.get(held) is not None
    }
    if not tokens:
        names = ", ".join(TOKEN_CLASSES.values())
        raise QuantityInvalid("input_tokens", f"{meter.key} prices tokens: name any of {names}")
    cost = prices.book_at(at).cost(model, tokens)
    return whole_quantity(cost, param=f"the cost on {meter.key}")


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
