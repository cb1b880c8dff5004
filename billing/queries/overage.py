"""How much of a meter's usage lies past what a plan includes, over any span of time.

The same arithmetic as the gate's: in each window of the right, what was used less what the plan
includes less what grants paid. A span that ends inside a window counts that window up to there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

import msgspec
from django.db import connection

from billing.queries.included import IncludedIn, window_at
from metering.models import Balance, Grant
from metering.queries.usage import UsageOf, usage_totals

_GRANTED = """
SELECT asked.place, coalesce(sum(paid.quantity::bigint), 0)
  FROM json_to_recordset(%(asked)s::json) AS asked (
           place int, customer_id bigint, meter_id text, start_at timestamptz, end_at timestamptz)
  JOIN metering_effectiveevent AS event
    ON event.customer_id = asked.customer_id
   AND event.occurred_at >= asked.start_at AND event.occurred_at < asked.end_at
   AND event.hour > asked.start_at - interval '1 hour' AND event.hour < asked.end_at
 CROSS JOIN LATERAL
       jsonb_each_text(event.paid_by -> asked.meter_id -> 'grants') AS paid (id, quantity)
 WHERE jsonb_typeof(event.paid_by -> asked.meter_id -> 'grants') = 'object'
 GROUP BY asked.place
"""


class KnownUsage:
    """What was used, and what of it grants paid: read for many spans at once, and then known."""

    def __init__(self) -> None:
        self._used: dict[UsageOf, int] = {}
        self._granted: dict[UsageOf, int] = {}

    def read(self, asked: Iterable[UsageOf]) -> None:
        """Know these as well."""
        new = {each for each in asked if each not in self._used}
        self._used |= usage_totals(new)
        self._granted |= _granted(new)

    def used(self, span: UsageOf) -> int:
        """All usage in the span."""
        if span not in self._used:
            self.read([span])
        return self._used[span]

    def granted(self, span: UsageOf) -> int:
        """What of the usage in the span was paid by grants."""
        if span not in self._granted:
            self.read([span])
        return self._granted[span]


def _granted(asked: Iterable[UsageOf]) -> dict[UsageOf, int]:
    found = dict.fromkeys(asked, 0)
    with_grants = set(
        Grant.objects.filter(
            customer_id__in={each.customer_id for each in found},
            meter_id__in={each.meter_id for each in found},
        ).values_list("customer_id", "meter_id")
    )
    places = [each for each in found if (each.customer_id, each.meter_id) in with_grants]
    if not places:
        return found
    rows = [each._asdict() | {"place": place} for place, each in enumerate(places)]
    with connection.cursor() as cursor:
        cursor.execute(_GRANTED, {"asked": msgspec.json.encode(rows).decode()})
        found |= {places[place]: int(quantity) for place, quantity in cursor.fetchall()}
    return found


class Overage:
    """Usage of one meter by one customer. `known`: where what is read is kept."""

    def __init__(
        self,
        customer_id: int,
        *,
        meter_id: int,
        anchor_at: datetime,
        known: KnownUsage | None = None,
    ) -> None:
        self._customer_id = customer_id
        self._meter_id = meter_id
        self._anchor_at = anchor_at
        self._known = KnownUsage() if known is None else known

    def used(self, start_at: datetime, end_at: datetime) -> int:
        """All usage in `[start_at, end_at)`."""
        return self._known.used(self._span(start_at, end_at))

    def granted(self, start_at: datetime, end_at: datetime) -> int:
        """What of the usage in `[start_at, end_at)` was paid by grants."""
        return self._known.granted(self._span(start_at, end_at))

    def spans_of(self, *, unit: str, start_at: datetime, end_at: datetime) -> Iterator[UsageOf]:
        """What `billed` asks for, so that it can be read before."""
        for window_start, window_end in self._windows(unit, start_at, end_at):
            yield self._span(window_start, min(window_end, end_at))
            if window_start < start_at:
                yield self._span(window_start, start_at)

    def paid_elsewhere(
        self, *, unit: str, start_at: datetime, end_at: datetime
    ) -> list[tuple[datetime, int]]:
        """What grants paid in the windows of `[start_at, end_at)` that their balances do not know,
        since it was burned under earlier terms, in other windows; by where the window begins."""
        windows = dict(self._windows(unit, start_at, end_at))
        paid = {began_at: self.granted(began_at, end) for began_at, end in windows.items()}
        if not any(paid.values()):
            return []
        known = Balance.objects.filter(
            customer_id=self._customer_id, meter_id=self._meter_id, window=unit
        ).values_list("start_at", "grant_used")
        for began_at, grant_used in known.filter(start_at__in=list(paid)):
            paid[began_at] -= grant_used
        return [(began_at, units) for began_at, units in paid.items() if units > 0]

    def billed(
        self, included: IncludedIn, *, unit: str, start_at: datetime, end_at: datetime
    ) -> int:
        """The units in `[start_at, end_at)` past what each window includes."""
        found = 0
        for window_start, window_end in self._windows(unit, start_at, end_at):
            given = included(window_start, window_end)
            found += self._past(given, window_start, min(window_end, end_at))
            found -= self._past(given, window_start, max(window_start, start_at))
        return found

    def _past(self, included: int, start_at: datetime, end_at: datetime) -> int:
        if start_at >= end_at:
            return 0
        span = self._span(start_at, end_at)
        return max(0, self._known.used(span) - included - self._known.granted(span))

    def _span(self, start_at: datetime, end_at: datetime) -> UsageOf:
        return UsageOf(self._customer_id, self._meter_id, start_at, end_at)

    def _windows(
        self, unit: str, start_at: datetime, end_at: datetime
    ) -> Iterator[tuple[datetime, datetime]]:
        at = start_at
        while at < end_at:
            window = window_at(self._anchor_at, unit=unit, at=at)
            yield window
            at = window[1]
