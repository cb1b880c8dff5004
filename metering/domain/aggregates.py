"""How events become the quantity of a window or bucket, whatever the order they arrive in.

Every aggregation is a commutative monoid: totals of parts, merged in any order, are the total of
the whole. That is what lets any number of workers roll up, days be made of hours, and a window be
recounted from its events after a correction.

* count, sum: the sum.
* max: the greatest reading; 0 without one.
* latest: the reading with the greatest time; of several at the same instant the greatest.
* unique: the number of different members, which are kept, all of them: there is no estimate.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import assert_never

from metering.domain.meters import Aggregation

Counted = int | str  # what an event counts as: a quantity, or the member of a unique meter


@dataclass(frozen=True, slots=True)
class Total:
    """The events of a window or bucket. `latest_at` only of latest, `members` only of unique."""

    quantity: int = 0
    events: int = 0
    latest_at: datetime | None = None
    members: frozenset[str] = frozenset()


def total_of(aggregation: Aggregation, counted: Iterable[tuple[datetime, Counted]]) -> Total:
    """The total of events given as (occurred_at, what it counts as); their order is of no matter.

    What an event counts as is what `metering.domain.meters.counted_of` gave, and `usage` keeps.
    """
    found = list(counted)
    if aggregation is Aggregation.UNIQUE:
        members = frozenset(str(value) for _, value in found)
        return Total(len(members), len(found), members=members)
    readings = [(at, int(value)) for at, value in found]
    match aggregation:
        case Aggregation.COUNT | Aggregation.SUM:
            return Total(sum(value for _, value in readings), len(readings))
        case Aggregation.MAX:
            return Total(max((value for _, value in readings), default=0), len(readings))
        case Aggregation.LATEST:
            if not readings:
                return Total()
            at, value = max(readings)
            return Total(value, len(readings), latest_at=at)
        case _:
            assert_never(aggregation)


def merged(aggregation: Aggregation, one: Total, other: Total) -> Total:
    """The total of both parts together."""
    events = one.events + other.events
    match aggregation:
        case Aggregation.COUNT | Aggregation.SUM:
            return Total(one.quantity + other.quantity, events)
        case Aggregation.MAX:
            return Total(max(one.quantity, other.quantity), events)
        case Aggregation.LATEST:
            last = max((each for each in (one, other) if each.latest_at), key=_recency, default=one)
            return Total(last.quantity, events, latest_at=last.latest_at)
        case Aggregation.UNIQUE:
            members = one.members | other.members
            return Total(len(members), events, members=members)
        case _:
            assert_never(aggregation)


def _recency(total: Total) -> tuple[datetime, int]:
    assert total.latest_at is not None
    return total.latest_at, total.quantity
