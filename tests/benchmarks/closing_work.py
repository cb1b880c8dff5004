"""The work of the section on closing, in processes with Django. Prints figures as JSON.

`seed N` makes N subscriptions more whose period is over, each with usage of five meters; `close`
drafts and issues the invoices of all that wait, as the workers do.
"""

from __future__ import annotations

import json
import os
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import django

django.setup()

from django.db import connection  # noqa: E402

from billing.models import Invoice, InvoiceLine, Plan, PlanVersion  # noqa: E402
from billing.operations import catalogue, closing, issuing  # noqa: E402
from billing.operations.plan_shapes import VersionTerms  # noqa: E402
from billing.tasks import BATCH  # noqa: E402
from metering.models import Meter  # noqa: E402
from tests.benchmarks.watching import resident_mb  # noqa: E402

METERS, BUCKETS = 5, 10
START = datetime(2026, 9, 1, tzinfo=UTC)
END = datetime(2026, 10, 1, tzinfo=UTC)
NOW = END + timedelta(hours=6)
_TIERS = [
    {"up_to": 500, "unit_price": "0.01"},
    {"up_to": 2_000, "unit_price": "0.005", "flat_price": "0.10"},
    {"up_to": None, "unit_price": "0.002"},
]
_SEED = """
WITH made AS (
    INSERT INTO accounts_customer (id, name, email, currency, metadata, created_at)
    SELECT n << 22, 'Customer ' || n, '', 'usd', '{}', %(start)s
      FROM generate_series(%(first)s::bigint, %(last)s) AS n
    RETURNING id
), versions AS (
    INSERT INTO accounts_customerversion (customer_id, version) SELECT id, 0 FROM made
), subscribed AS (
    INSERT INTO billing_subscription (id, customer_id, version_id, seats, status, collection,
                                      start_at, anchor_at, current_start_at, current_end_at,
                                      created_at)
    SELECT id, id, %(version)s, 1, 'active', 'stripe', %(start)s, %(start)s, %(start)s, %(end)s,
           %(start)s FROM made
    RETURNING id
), phases AS (
    INSERT INTO billing_subscriptionphase (subscription_id, version_id, seats, start_at)
    SELECT id, %(version)s, 1, %(start)s FROM subscribed
)
INSERT INTO metering_rollup (customer_id, meter_id, start_at, dimensions, quantity, events)
SELECT made.id, meter, %(start)s::timestamptz + bucket * interval '50 hours', '{}',
       100 + (made.id >> 22) %% 97, 10
  FROM made, unnest(%(meters)s::bigint[]) AS meter, generate_series(0, %(buckets)s - 1) AS bucket
"""


def seed(first: int, last: int) -> dict[str, Any]:
    """Subscriptions number `first` to `last`, and the plan they are on."""
    meters = [_meter(number) for number in range(METERS)]
    given: dict[str, Any] = {
        "start": START, "end": END, "first": first, "last": last, "buckets": BUCKETS,
        "version": _version(meters).pk, "meters": [each.pk for each in meters],
    }  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute(_SEED, given)
        cursor.execute("VACUUM (ANALYZE)")
    return {}


def close() -> dict[str, Any]:
    """Draft and issue everything that waits, and how long that took."""
    closing.close_due(now=NOW, limit=1)
    issuing.issue_due(now=NOW, limit=1)
    before = Invoice.objects.exclude(status="draft").count()
    resident, begin = resident_mb(os.getpid()), time.perf_counter()
    while closing.close_due(now=NOW, limit=BATCH):
        pass
    closed = time.perf_counter()
    while issuing.issue_due(now=NOW, limit=BATCH):
        pass
    issued = time.perf_counter()
    count = Invoice.objects.exclude(status="draft").count() - before
    lines = InvoiceLine.objects.filter(kind="usage").count()
    assert lines == METERS * Invoice.objects.count(), "each has a line of usage for each meter"
    return {
        "invoices": count,
        "closing_s": closed - begin,
        "issuing_s": issued - closed,
        "resident_mb": resident_mb(os.getpid()),
        "grown_mb": resident_mb(os.getpid()) - resident,
    }


def _meter(number: int) -> Meter:
    return Meter.objects.get_or_create(
        key=f"meter.{number}",
        defaults={"event_type": "call", "aggregation": "count", "created_at": START},
    )[0]


def _version(meters: list[Meter]) -> PlanVersion:
    if Plan.objects.exists():
        return PlanVersion.objects.get()
    terms = VersionTerms(
        fee=2_000,
        entitlements=[
            {
                "meter": meter.key, "type": "metered", "included": 100, "over": "bill",
                "price": {"model": "graduated", "tiers": _TIERS},
            }
            for meter in meters
        ],
    )  # fmt: skip
    return catalogue.create_plan(
        key="bench", name="Bench", terms=terms, activate=True, actor="bench", now=START
    )


if __name__ == "__main__":
    what, *numbers = sys.argv[1:]
    sys.stdout.write(json.dumps(seed(*map(int, numbers)) if what == "seed" else close()))
