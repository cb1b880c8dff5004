"""The index by time of usage events: a customer's hours, in which equal ones take little room.

Whoever looks for the events of a span names the hours as well, or the index is not used; whoever
wants them in order, orders by the hour first.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db.models import DateTimeField, Func, Q

HOUR = Func(
    "occurred_at",
    template="date_bin('1 hour', %(expressions)s, '1970-01-01 00:00:00Z')",
    output_field=DateTimeField(),
)


def occurred_from(start_at: datetime) -> Q:
    """`occurred_at` at that moment or later."""
    return Q(occurred_at__gte=start_at, hour__gt=start_at - timedelta(hours=1))


def occurred_before(end_at: datetime) -> Q:
    """`occurred_at` before that moment."""
    return Q(occurred_at__lt=end_at, hour__lt=end_at)


def occurred_within(start_at: datetime, end_at: datetime) -> Q:
    """`occurred_at` in [start_at, end_at)."""
    return occurred_from(start_at) & occurred_before(end_at)
