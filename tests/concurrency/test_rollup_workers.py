"""Celery's workers on the same batches, killed in the middle: every event is counted once.

Real processes on the real broker: two workers of two processes each, and the beat. A round waits
until some of the batches are gone, kills both workers, and looks at the books as they are then.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest
from django.core.management import call_command
from django.db import connection

from config import celery
from metering.models import Meter, UsageBatch
from metering.operations.checking import broken_invariants
from metering.operations.rolling_up import roll_up_days
from metering.queries.usage import usage_total
from tests.concurrency.celery_processes import Processes
from tests.factories.metering import make_customer, make_entitlement, make_meter
from tests.metering.gate.client import dsn

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.slow,
    pytest.mark.timeout(400),
    pytest.mark.proof,
]
ROUNDS, BATCHES, PER_BATCH = 3, 3_000, 4
_PATIENCE_S = 120.0

# Events and their batches for the numbers of a round, as the gate writes them; event n is of the
# customer n % 3, lies n minutes after the beginning, and counts n % 7, as the member n % 40, n.
_FILL = """
WITH event AS (
    INSERT INTO metering_usageevent (customer_id, id, received_month, source, external_id,
                                     origin_id, occurred_at, received_at, fingerprint, usage)
    SELECT (%(customers)s::bigint[])[1 + n %% 3], gen_random_uuid(),
           date_trunc('month', now())::date, 'test', 'event-' || n, 0,
           %(begin)s::timestamptz + (n %% 9000) * interval '1 minute', now(), n,
           json_build_object(%(sum)s::text, n %% 7, %(unique)s::text, 'm' || n %% 40,
                              %(latest)s::text, n)
      FROM generate_series(%(first)s::int, %(last)s::int) AS n
    RETURNING customer_id, occurred_at, fingerprint AS n
), delta AS (
    SELECT n / %(per_batch)s AS batch, customer_id, v.*
      FROM event, LATERAL (VALUES
          (jsonb_build_array(customer_id, %(sum)s, hour_s(occurred_at), '{}'::jsonb, n %% 7, 1)),
          (jsonb_build_array(customer_id, %(unique)s, hour_s(occurred_at), '{}'::jsonb, 0, 1, NULL,
                             jsonb_build_array('m' || n %% 40))),
          (jsonb_build_array(customer_id, %(latest)s, hour_s(occurred_at), '{}'::jsonb, n, 1,
                             (extract(epoch FROM occurred_at) * 1000000)::bigint, NULL))
      ) AS v (delta)
)
INSERT INTO metering_usagebatch (created_at, customers, deltas)
SELECT now(), array_agg(DISTINCT customer_id), jsonb_agg(delta) FROM delta GROUP BY batch
"""
_BALANCES = """
UPDATE metering_balance AS b SET used = (
    SELECT sum((usage ->> b.meter_id::text)::bigint) FROM metering_usageevent AS e
     WHERE e.customer_id = b.customer_id AND e.occurred_at >= b.start_at
       AND e.occurred_at < b.end_at)
"""


@pytest.fixture
def environment(tmp_path: Path, transactional_db: None) -> Iterator[dict[str, str]]:
    """What the workers are told: this test's database, which is the broker as well."""
    parts = dict(part.split("=", 1) for part in dsn().split())
    user = ":".join(quote(parts[name], safe="") for name in ("user", "password") if name in parts)
    rest = urlencode([(name, parts[name]) for name in ("host", "port") if name in parts])
    before = celery.app.conf.broker_transport_options["conn_string"]
    celery.app.conf.broker_transport_options["conn_string"] = dsn()
    call_command("prepare_broker", verbosity=0)
    celery.app.conf.broker_transport_options["conn_string"] = before
    yield os.environ | {
        "FAREBOX_DATABASE_URL": f"postgresql://{user}@/{parts['dbname']}?{rest}",
        "FAREBOX_BILLING_TICK_S": "1",
        "FAREBOX_LOG_LEVEL": "WARNING",
    }
    with connection.cursor() as cursor:
        cursor.execute("DROP SCHEMA IF EXISTS pgmq CASCADE")


@pytest.fixture
def processes(environment: dict[str, str], tmp_path: Path) -> Iterator[Processes]:
    """None is left behind."""
    made = Processes(environment, tmp_path)
    yield made
    made.kill()


def wait_for(what: Callable[[], bool]) -> None:
    """Look until it is so."""
    deadline = time.monotonic() + _PATIENCE_S
    while not what():
        assert time.monotonic() < deadline, "the workers do not work"
        time.sleep(0.02)


def test_killed_in_the_middle_they_lose_and_double_nothing(
    processes: Processes, tmp_path: Path
) -> None:
    customers = [make_customer() for _ in range(3)]
    meters = {kind: make_meter(aggregation=kind) for kind in ("sum", "unique", "latest")}
    begin = (datetime.now(UTC) - timedelta(days=20)).replace(hour=0, minute=0, second=0)
    for customer in customers:
        make_entitlement(customer, meters["sum"], window="lifetime", included=10**9)
    ids = [customer.id for customer in customers]
    processes.start("beat", "-s", str(tmp_path / "beat"), "--pidfile=", "-l", "WARNING")
    total = 0
    for number in range(ROUNDS):
        total = _fill(ids, meters, begin=begin, first=total)
        processes.start_workers()
        few = UsageBatch.objects.count() * (ROUNDS - number) / (ROUNDS + 1)
        # In the third round the days are made while hours come in, so that late ones are added.
        if number == 2:
            roll_up_days(now=begin + timedelta(days=5, hours=3))
        wait_for(partial(_fewer_wait, few))
        processes.kill(since=1)
        assert broken_invariants(now=datetime.now(UTC), customer_ids=ids, since=begin) == []
        _expect(ids, meters, begin=begin, total=total)
    processes.start_workers()
    wait_for(lambda: not UsageBatch.objects.exists())
    roll_up_days(now=datetime.now(UTC))
    assert broken_invariants(now=datetime.now(UTC), customer_ids=ids, since=begin) == []
    _expect(ids, meters, begin=begin, total=total)


def _fewer_wait(few: float) -> bool:
    return UsageBatch.objects.count() < few


def _fill(ids: list[int], meters: dict[str, Meter], *, begin: datetime, first: int) -> int:
    last = first + BATCHES * PER_BATCH
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE OR REPLACE FUNCTION pg_temp.hour_s(at timestamptz) RETURNS bigint LANGUAGE sql"
            " AS $$ SELECT extract(epoch FROM date_trunc('hour', at, 'UTC'))::bigint $$"
        )
        cursor.execute(
            _FILL.replace("hour_s(", "pg_temp.hour_s("),
            {
                "customers": ids,
                "begin": begin,
                "first": first,
                "last": last - 1,
                "per_batch": PER_BATCH,
                **{kind: meter.id for kind, meter in meters.items()},
            },
        )
        cursor.execute(
            'INSERT INTO metering_balance (customer_id, meter_id, "window", start_at, end_at,'
            " used, grant_used, held, grant_held)"
            " SELECT customer_id, meter_id, \"window\", anchor_at, '9999-01-01Z', 0, 0, 0, 0"
            " FROM metering_entitlement ON CONFLICT DO NOTHING"
        )
        cursor.execute(_BALANCES)
    return last


def _expect(ids: list[int], meters: dict[str, Meter], *, begin: datetime, total: int) -> None:
    """What a plain loop over the numbers says."""
    for place, customer_id in enumerate(ids):
        mine = range(place, total, 3)
        expected = {
            "sum": sum(n % 7 for n in mine),
            "unique": len({n % 40 for n in mine}),
            "latest": max((n % 9_000, n) for n in mine)[1],
        }
        for kind, meter in meters.items():
            found = usage_total(
                customer_id, meter_id=meter.id, start_at=begin, end_at=begin + timedelta(days=30)
            )
            assert found == expected[kind], kind
