"""The work of the section on roll-ups, in one process with Django. Prints figures as JSON."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import django

django.setup()

from django.db import connection  # noqa: E402

from metering.models import Meter, RollupReach  # noqa: E402
from metering.operations.partitioning import make_partitions  # noqa: E402
from metering.operations.rolling_up import make_buckets, roll_up_waiting, slot_of  # noqa: E402
from metering.queries.usage import usage, usage_total  # noqa: E402

_BATCHES, _STORED, _CUSTOMER = 300, 500_000, 7 << 22
_BATCH = """
INSERT INTO metering_usagebatch (created_at, customers, deltas)
SELECT now(), array_agg(DISTINCT customer_id), jsonb_agg(jsonb_build_array(
           customer_id, %(meter)s, %(hour)s, jsonb_build_object('model', 'gpt-' || n %% 5),
           1200 * %(each)s, %(each)s))
  FROM (SELECT batch, n, ((batch * 1000 + n)::bigint * 7919 %% 5000) << 22 AS customer_id
          FROM generate_series(1, %(batches)s) AS batch,
               generate_series(1, 1000 / %(each)s) AS n) AS delta
 GROUP BY batch
"""
_YEAR = """
INSERT INTO metering_rollup (customer_id, meter_id, start_at, dimensions, quantity, events)
SELECT %(customer)s, %(meter)s, at, jsonb_build_object('model', 'gpt-' || model),
       1200 * %(each)s::bigint, %(each)s
  FROM generate_series(%(begin)s::timestamptz, %(end)s::timestamptz - interval '1 hour',
                       '1 hour') AS at,
       generate_series(1, 10) AS model
"""
# As metering/sql/write_batch.sql, with JSON as the gate writes it.
_EVENTS = """
WITH given AS (
    SELECT (n %% 5000)::bigint << 22 AS customer_id, 'llm.completion' AS type,
           1 << 30 AS gateway_id, 1 << 30 AS api_key_id, n, gen_random_uuid()::text AS external_id
      FROM generate_series(1, %(stored)s) AS n
), origin AS (
    INSERT INTO metering_eventorigin (customer_id, id, type, gateway_id, api_key_id)
    SELECT DISTINCT customer_id, metering_origin_of(type, gateway_id, api_key_id),
           type, gateway_id, api_key_id FROM given
)
INSERT INTO metering_usageevent (customer_id, id, received_month, source, external_uuid,
                                 external_id, origin_id, occurred_at, received_at, usage,
                                 properties, fingerprint)
SELECT customer_id, gen_random_uuid(), date_trunc('month', now())::date, 'edge-1',
       metering_uuid_of(external_id),
       CASE WHEN metering_uuid_of(external_id) IS NULL THEN external_id END,
       metering_origin_of(type, gateway_id, api_key_id),
       now() - random() * interval '1 day', now(), format('{"%%s":1200}', %(meter)s)::json,
       '{"model":"gpt-4o","tokens":1200}', n::bigint * 7919
  FROM given
"""
_SIZE = """
SELECT pg_total_relation_size('metering_eventorigin') + sum(pg_total_relation_size(inhrelid))
  FROM pg_inherits
 WHERE inhparent = 'metering_usageevent'::regclass
"""


def work(rounds: int, year_events: int) -> dict[str, Any]:
    """Do all of it."""
    now = datetime.now(UTC)
    make_partitions(now=now)
    meter = Meter.objects.create(
        key="tokens", event_type="llm.completion", aggregation="sum", value_property="tokens",
        dimensions=["model"], created_at=now,
    )  # fmt: skip
    hour = int(now.timestamp()) // 3_600 * 3_600
    found: dict[str, Any] = {"stored": _STORED}
    for name, each in (("few", 10), ("many", 1)):
        rates = []
        for number in range(rounds):
            _run(_BATCH, meter=meter.id, hour=hour - 3_600 * number, each=each, batches=_BATCHES)
            rates.append(_BATCHES * 1_000 / _timed(lambda: roll_up_waiting(limit=500, rounds=40)))
        found[name] = statistics.median(rates)
    found |= _year(meter, year_events, now=now)
    before = _size()
    _run(_EVENTS, meter=meter.id, stored=_STORED)
    found["bytes"] = (_size() - before) / _STORED
    return found


def _year(meter: Meter, year_events: int, *, now: datetime) -> dict[str, Any]:
    end = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    begin, slot = end - timedelta(days=365), slot_of(_CUSTOMER)
    hours = 365 * 24 * 10
    _run(_YEAR, customer=_CUSTOMER, meter=meter.id, begin=begin, end=end,
         each=year_events // hours)  # fmt: skip
    _run("VACUUM (ANALYZE) metering_rollup")
    asked: dict[str, Any] = {"meter_id": meter.id, "start_at": begin, "end_at": end}
    grouped: dict[str, Any] = {**asked, "bucket": "day", "group_by": ["model"]}
    from_hours = _median_ms(lambda: usage(_CUSTOMER, **grouped), times=5)
    span: dict[str, Any] = {"slot": slot, "start_at": None, "end_at": end}
    days = hours / _timed(lambda: make_buckets("roll_up_days", **span))
    make_buckets("roll_up_months", **span)
    RollupReach.objects.create(slot=slot, days_to=end, months_to=end)
    _run("VACUUM (ANALYZE) metering_rollupday, metering_rollupmonth")
    return {
        "hours": hours,
        "days": days,
        "from_hours_ms": from_hours,
        "by_day_ms": _median_ms(lambda: usage(_CUSTOMER, **grouped), times=50),
        "total_ms": _median_ms(lambda: usage_total(_CUSTOMER, **asked), times=50),
    }


def _median_ms(what: Callable[[], object], *, times: int) -> float:
    return statistics.median(_timed(what) for _ in range(times)) * 1_000


def _timed(what: Callable[[], object]) -> float:
    begin = time.perf_counter()
    what()
    return time.perf_counter() - begin


def _run(statement: str, **given: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, given or None)


def _size() -> int:
    with connection.cursor() as cursor:
        cursor.execute(_SIZE)
        return int(cursor.fetchone()[0])


if __name__ == "__main__":
    sys.stdout.write(json.dumps(work(*map(int, sys.argv[1:3]))))
