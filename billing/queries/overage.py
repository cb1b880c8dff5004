"""How much of a meter's usage lies past what a plan includes, over any span of time.

The same arithmetic as the gate's: in each window of the right, what was used less what the plan
includes less what grants paid. A span that ends inside a window counts that window up to there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from django.db import connection

from billing.domain.periods import Period
from billing.queries.included import IncludedIn
from metering.domain.windows import anchored_window
from metering.models import Balance, Grant
from metering.queries.usage import usage_total, usage_totals

_GRANTED = """
SELECT coalesce(sum(paid.quantity::bigint), 0)
  FROM metering_effectiveevent AS event
 CROSS JOIN LATERAL jsonb_each_text(event.paid_by -> %(meter)s -> 'grants') AS paid (id, quantity)
 WHERE event.customer_id = %(customer_id)s
   AND event.occurred_at >= %(start_at)s AND event.occurred_at < %(end_at)s
   AND jsonb_typeof(event.paid_by -> %(meter)s -> 'grants') = 'object'
"""


def overages(
    customer_id: int, *, meter_ids: Sequence[int], spans: Iterable[Period], anchor_at: datetime
) -> dict[int, Overage]:
    """The overage of several meters, of which the usage of these spans is read at once."""
    if not meter_ids:
        return {}
    granted = Grant.objects.filter(customer_id=customer_id, meter_id__in=meter_ids)
    with_grants = set(granted.values_list("meter_id", flat=True))
    known = {
        (span.start_at, span.end_at): usage_totals(
            customer_id, meter_ids=meter_ids, start_at=span.start_at, end_at=span.end_at
        )
        for span in spans
    }
    return {
        meter_id: Overage(
            customer_id,
            meter_id=meter_id,
            anchor_at=anchor_at,
            has_grants=meter_id in with_grants,
            totals={span: totals[meter_id] for span, totals in known.items()},
        )
        for meter_id in meter_ids
    }


class Overage:
    """Usage of one meter by one customer; remembers every total, so that none is read twice.

    `totals`, `has_grants`: what is known already.
    """

    def __init__(
        self,
        customer_id: int,
        *,
        meter_id: int,
        anchor_at: datetime,
        totals: dict[tuple[datetime, datetime], int] | None = None,
        has_grants: bool | None = None,
    ) -> None:
        self._customer_id = customer_id
        self._meter_id = meter_id
        self._anchor_at = anchor_at
        self._totals = {} if totals is None else totals
        self._paid: dict[tuple[datetime, datetime], int] = {}
        self._has_grants = has_grants

    def used(self, start_at: datetime, end_at: datetime) -> int:
        """All usage in `[start_at, end_at)`."""
        span = (start_at, end_at)
        if start_at >= end_at:
            return 0
        if span not in self._totals:
            self._totals[span] = usage_total(
                self._customer_id, meter_id=self._meter_id, start_at=start_at, end_at=end_at
            )
        return self._totals[span]

    def granted(self, start_at: datetime, end_at: datetime) -> int:
        """What of the usage in `[start_at, end_at)` was paid by grants."""
        if self._has_grants is None:
            self._has_grants = Grant.objects.filter(
                customer_id=self._customer_id, meter_id=self._meter_id
            ).exists()
        if not self._has_grants or start_at >= end_at:
            return 0
        span = (start_at, end_at)
        if span not in self._paid:
            with connection.cursor() as cursor:
                cursor.execute(
                    _GRANTED,
                    {
                        "customer_id": self._customer_id,
                        "meter": str(self._meter_id),
                        "start_at": start_at,
                        "end_at": end_at,
                    },
                )
                self._paid[span] = int(cursor.fetchone()[0])
        return self._paid[span]

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
        if start_at >= end_at:
            return 0
        found = 0
        for window_start, window_end in self._windows(unit, start_at, end_at):
            given = included(window_start, window_end)
            found += self._past(given, window_start, min(window_end, end_at))
            found -= self._past(given, window_start, max(window_start, start_at))
        return found

    def _past(self, included: int, start_at: datetime, end_at: datetime) -> int:
        return max(0, self.used(start_at, end_at) - included - self.granted(start_at, end_at))

    def _windows(
        self, unit: str, start_at: datetime, end_at: datetime
    ) -> Iterator[tuple[datetime, datetime]]:
        at = start_at
        while at < end_at:
            window = anchored_window(self._anchor_at, unit=unit, at=at)
            yield window
            at = window[1]
