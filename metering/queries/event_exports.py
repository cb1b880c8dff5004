"""All of a customer's events, however many there are, page by page."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from django.db.models import Q, QuerySet

from metering.models import UsageEvent
from metering.models.hours import occurred_from
from metering.queries.corrections import InForce, as_in_force

AT_ONCE: Final = 1_000


def pages_of_events(
    found: QuerySet[UsageEvent], *, customer_id: int, received_before: datetime
) -> Iterator[list[InForce]]:
    """These events of the customer, the earliest first, with the corrections in force.

    Those received before a moment, each exactly once. Nothing stays open between two pages (no
    transaction, no cursor), so that a slow reader holds up no vacuum; a page has the corrections
    that are in force when it is read.
    """
    found = found.filter(received_at__lt=received_before)
    found = found.order_by("hour", "occurred_at", "id", "received_month")
    last: UsageEvent | None = None
    while True:
        page = list((found if last is None else found.filter(_behind(last)))[:AT_ONCE])
        if page:
            yield as_in_force(customer_id, events=page)
        if len(page) < AT_ONCE:
            return
        last = page[-1]


def _behind(last: UsageEvent) -> Q:
    same = Q(occurred_at=last.occurred_at)
    again = Q(id=last.id, received_month__gt=last.received_month)
    # The first term is implied by the others, and what the index is entered by.
    return occurred_from(last.occurred_at) & (
        Q(occurred_at__gt=last.occurred_at) | same & (Q(id__gt=last.id) | again)
    )
