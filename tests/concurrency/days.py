"""Days and months of a server of one's own: taken back, to be made again, and how far they are."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import psycopg

from tests.concurrency.own_server import OwnServer

SLOTS = 64
_TAKE_BACK = """
SELECT pg_advisory_xact_lock(hashtext('metering_rollup'), slot)
  FROM generate_series(0, 63) AS slot ORDER BY slot;
DELETE FROM metering_rollupday WHERE start_at >= '{since}';
DELETE FROM metering_rollupmonth WHERE start_at >= date_trunc('month', '{since}'::timestamptz);
UPDATE metering_rollupreach
   SET days_to = least(days_to, '{since}'),
       months_to = least(months_to, date_trunc('month', '{since}'::timestamptz))
"""


def take_back(server: OwnServer, *, days: int) -> None:
    """Let all be as it was that many days ago, when the days since then were not over."""
    since = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    since -= timedelta(days=days)
    with psycopg.connect(server.dsn) as connection, connection.cursor() as cursor:
        cursor.execute("SET TIME ZONE 'UTC'")
        for statement in _TAKE_BACK.format(since=since.isoformat()).split(";"):
            cursor.execute(statement.encode())


def made(server: OwnServer) -> int:
    """Of how many slots all days and months that are over are made."""
    over = (datetime.now(UTC) - timedelta(hours=2)).date()
    with server.cursor() as cursor:
        row = cursor.execute(
            "SELECT count(*) FROM metering_rollupreach"
            " WHERE days_to AT TIME ZONE 'UTC' = %(over)s"
            "   AND months_to AT TIME ZONE 'UTC' = date_trunc('month', %(over)s::date)",
            {"over": over},
        ).fetchone()
    assert row is not None
    return int(row[0])


def spread(server: OwnServer) -> tuple[int, int]:
    """How many buckets of days there are, and how many months."""
    with server.cursor() as cursor:
        row = cursor.execute(
            "SELECT (SELECT count(*) FROM metering_rollupday),"
            " (SELECT count(DISTINCT start_at) FROM metering_rollupmonth)"
        ).fetchone()
    assert row is not None
    return int(row[0]), int(row[1])
