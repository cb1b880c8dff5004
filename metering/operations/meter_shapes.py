"""What a meter may look like: every member of a definition checked, faults named."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from metering.domain.meters import DIMENSIONS_MAX, Aggregation, number_of, text_of
from metering.models import Meter, MeterVersion, PriceTable

_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,99}")
_PROPERTY = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]{0,63}")
_FILTERS_MAX = 8
_FILTER_VALUES_MAX = 100
_LISTS = ("in", "not_in")
_LIMITS = ("gte", "gt", "lte", "lt")
_CONDITIONS = (*_LISTS, "exists", *_LIMITS)


class MeterDefinitionInvalid(Exception):
    """A meter cannot be defined like this; `param` names the member at fault."""

    def __init__(self, param: str, detail: str) -> None:
        super().__init__(detail)
        self.param = param
        self.detail = detail


@dataclass(frozen=True, slots=True, kw_only=True)
class Matching:
    """The part of a meter that a new version may say anew: what it matches and reads."""

    event_type: str
    value_property: str
    dimensions: tuple[str, ...]
    filters: tuple[Mapping[str, object], ...]
    price_table: PriceTable | None

    @classmethod
    def of(cls, stored: Meter | MeterVersion) -> Matching:
        """What a meter or a version of it says."""
        return cls(
            event_type=stored.event_type,
            value_property=stored.value_property,
            dimensions=tuple(stored.dimensions),
            filters=tuple(stored.filters),
            price_table=stored.price_table,
        )


def check_key(key: str) -> None:
    """Raise MeterDefinitionInvalid where the key cannot be one."""
    if not _KEY.fullmatch(key):
        raise MeterDefinitionInvalid(
            "key", "a key has 1 to 100 letters, digits and . _ : -, and no blanks"
        )


def check_unit(unit: str, *, price_table: PriceTable | None) -> str:
    """The unit a meter counts in: as given, else what goes without saying; raises."""
    if price_table is not None:
        nano = f"nano-{price_table.currency}"
        if unit not in ("", nano):
            raise MeterDefinitionInvalid("unit", f"a meter of costs counts in {nano}")
        return nano
    if len(unit) > 40 or "\x00" in unit:
        raise MeterDefinitionInvalid("unit", "a unit has at most 40 characters")
    return unit or "call"


def check_matching(aggregation: str, matching: Matching) -> None:
    """Raise MeterDefinitionInvalid where a meter of that aggregation cannot match like this."""
    if not 1 <= len(matching.event_type) <= 200 or "\x00" in matching.event_type:
        raise MeterDefinitionInvalid("event_type", "an event type has 1 to 200 characters")
    _check_aggregation(aggregation, matching)
    _check_dimensions(matching.dimensions)
    if len(matching.filters) > _FILTERS_MAX:
        raise MeterDefinitionInvalid("filters", f"a meter has at most {_FILTERS_MAX} filters")
    for position, each in enumerate(matching.filters):
        _check_filter(each, f"filters[{position}]")


def _check_aggregation(aggregation: str, matching: Matching) -> None:
    if aggregation not in set(Aggregation):
        known = ", ".join(Aggregation)
        raise MeterDefinitionInvalid("aggregation", f"an aggregation is one of {known}")
    if matching.price_table is not None and aggregation != Aggregation.SUM:
        raise MeterDefinitionInvalid("price_table", "only a sum can be of what tokens cost")
    name = matching.value_property
    if aggregation == Aggregation.COUNT:
        if name:
            raise MeterDefinitionInvalid("property", "a count reads no property")
    elif not _PROPERTY.fullmatch(name):
        wanted = "that names the model" if matching.price_table is not None else "that it reads"
        raise MeterDefinitionInvalid(
            "property", f"a meter of {aggregation} needs the name of the property {wanted}"
        )


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


def _check_filter(given: Mapping[str, object], param: str) -> None:
    name = given.get("property")
    conditions = set(given) - {"property"}
    if not conditions or not conditions <= set(_CONDITIONS) or "property" not in given:
        known = ", ".join(_CONDITIONS)
        raise MeterDefinitionInvalid(
            param, f'a filter is {{"property": "…"}} with any of the conditions {known}'
        )
    if not isinstance(name, str) or not _PROPERTY.fullmatch(name):
        raise MeterDefinitionInvalid(f"{param}.property", "a filter names a property")
    for each in _LISTS:
        if each in given:
            _check_values(given[each], f"{param}.{each}")
    if "exists" in given and not isinstance(given["exists"], bool):
        raise MeterDefinitionInvalid(f"{param}.exists", "it is true or false")
    for each in _LIMITS:
        if each in given and number_of(given[each]) is None:
            raise MeterDefinitionInvalid(f"{param}.{each}", "a limit of a range is a number")


def _check_values(values: object, param: str) -> None:
    if not isinstance(values, list) or not 1 <= len(values) <= _FILTER_VALUES_MAX:
        raise MeterDefinitionInvalid(param, f"1 to {_FILTER_VALUES_MAX} values")
    if any(text_of(value) is None or "\x00" in str(value) for value in values):
        raise MeterDefinitionInvalid(param, "values are text, numbers or booleans")
