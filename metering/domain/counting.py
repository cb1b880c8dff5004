"""What a reported event is kept under, and what it counts as; for events that come by other doors.

The gate counts the same way (metering/gate/events.py) in its own loop.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any
from uuid import UUID

import msgspec

from metering.domain.meters import MeterTerms, counted_of, matches, whole_quantity

QUANTITY = "quantity"  # the member of an event's data that says what it counts as


class TimeOutOfRange(ValueError):
    """An event's time lies too far behind the moment it was reported, or ahead of now."""


@dataclass(frozen=True, slots=True)
class TimeBounds:
    """How far an event's time may lie behind the moment it was reported, and ahead of now."""

    max_age: timedelta
    max_ahead: timedelta

    def check(self, at: datetime, *, reported_at: datetime, now: datetime) -> None:
        """Raise TimeOutOfRange where an event of the moment `at` is not taken."""
        if at > now + self.max_ahead:
            ahead = int(self.max_ahead.total_seconds())
            raise TimeOutOfRange(f"The time lies more than {ahead} s ahead.")
        if at < reported_at - self.max_age:
            days = self.max_age.days
            raise TimeOutOfRange(f"The time lies more than {days} days before it was reported.")


def event_key(source: str, external_id: str) -> UUID:
    """Under which key an event is kept: a digest of its source and id, whatever its time."""
    text = f"{source}\x1f{external_id}".encode("utf-8", "surrogatepass")
    return UUID(bytes=hashlib.blake2b(text, digest_size=16).digest())


@lru_cache(maxsize=65_536)
def event_origin(type_: str, gateway_id: int | None, api_key_id: int | None) -> int:
    """A 64-bit digest of what events of a customer have in common, as the database makes it."""
    numbers = ("" if number is None else str(number) for number in (gateway_id, api_key_id))
    text = " ".join((*numbers, type_)).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big", signed=True)


def fingerprint(type_: str, data: Mapping[str, Any] | None) -> int:
    """A 64-bit digest of what a repeat of an event's id must equal: its type, and its data."""
    text = msgspec.json.encode((type_, data or {}), order="sorted")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big", signed=True)


def usage_of(
    meters: Iterable[MeterTerms],
    *,
    type: str,  # noqa: A002
    properties: Mapping[str, Any],
    at: datetime,
) -> dict[int, int | str]:
    """Meter id -> what an event of that moment counts as; empty where no meter counts it.

    Raises QuantityInvalid where a meter matches and its quantity is missing or not a whole number.
    """
    matched = [each for each in meters if matches(each, type=type, properties=properties, at=at)]
    plain = None
    if QUANTITY in properties and not any(each.value_property == QUANTITY for each in matched):
        plain = whole_quantity(properties[QUANTITY], param=f"properties.{QUANTITY}")
    return {
        meter.id: counted_of(meter, properties, at=at)
        if plain is None or not meter.takes_quantity
        else plain
        for meter in matched
    }
