"""The work of the section on closing, in processes with Django. Prints figures as JSON.

`seed FIRST LAST` makes subscriptions whose period is over, each with usage of five meters; `close`
drafts the invoices of all that wait and `issue` issues them, as workers do; `check` looks at them.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import django

django.setup()

from django.db import connection  # noqa: E402

from billing.models import Invoice, InvoiceLine, Plan, PlanVersion, Subscription  # noqa: E402
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


def work(what: str) -> dict[str, Any]:
    """`close` or `issue` until nothing is left, beside others that do the same; what it took."""
    go_on = {"close": closing.close_due, "issue": issuing.issue_due}[what]
    left = {
        "close": Subscription.objects.filter(current_end_at__lte=NOW),
        "issue": Invoice.objects.filter(status="draft"),
    }[what]
    go_on(now=NOW, limit=1)
    resident, cpu_s, began_at = resident_mb(os.getpid()), time.process_time(), time.time()
    done = 0
    with connection.execute_wrapper(_counting):
        # Nothing done: the others hold all of this piece, but there is more behind it.
        while (found := go_on(now=NOW, limit=BATCH)) or left.exists():
            done += found
    return {
        "done": done,
        "began_at": began_at,
        "ended_at": time.time(),
        "cpu_s": time.process_time() - cpu_s,
        "statements": _told["statements"],
        "resident_mb": resident_mb(os.getpid()),
        "grown_mb": resident_mb(os.getpid()) - resident,
    }


_told = {"statements": 0}


def _counting(execute: Callable[..., Any], *asked: Any) -> Any:
    _told["statements"] += 1
    return execute(*asked)


def check() -> dict[str, Any]:
    """Nothing was left out, and each invoice is whole."""
    invoices = Invoice.objects.count()
    assert Subscription.objects.count() == invoices
    assert Invoice.objects.exclude(status="draft").count() == invoices
    assert InvoiceLine.objects.filter(kind="usage").count() == METERS * invoices
    numbers = Invoice.objects.order_by("number").values_list("number", flat=True)
    assert numbers.last() == f"INV-{invoices:06d}", "numbers have no gaps"
    return {}


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
    if what == "seed":
        found = seed(*map(int, numbers))
    else:
        found = check() if what == "check" else work(what)
    sys.stdout.write(json.dumps(found))
