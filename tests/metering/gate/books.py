"""The invariants I1 to I4 of one customer's books, in SQL that shares nothing with metering/sql."""

from __future__ import annotations

from typing import Any

import psycopg
from django.db import connection

_BROKEN = """
WITH event AS (
    SELECT e.id, e.occurred_at, k.key::int AS meter_id, k.value::bigint AS n
      FROM metering_usageevent e, jsonb_each_text(e.usage) k WHERE e.customer_id = %(customer)s
), paid AS (
    SELECT g.key::bigint AS grant_id, sum(g.value::bigint) AS n
      FROM metering_usageevent e, jsonb_each(e.paid_by) m, jsonb_each_text(m.value -> 'grants') g
     WHERE e.customer_id = %(customer)s GROUP BY 1
), reserved AS (
    SELECT m.key::int AS meter_id, (m.value ->> 'q')::bigint AS n, m.value AS allocation
      FROM metering_hold h, jsonb_each(h.allocation) m
     WHERE h.customer_id = %(customer)s AND h.state = 'open'
), reserved_in AS (
    SELECT r.meter_id, w ->> 0 AS "window", to_timestamp((w ->> 1)::bigint) AS start_at,
           sum(r.n) AS n
      FROM reserved r, jsonb_array_elements(r.allocation -> 'windows') w GROUP BY 1, 2, 3
), reserved_of AS (
    SELECT g.key::bigint AS grant_id, sum(g.value::bigint) AS n
      FROM reserved r, jsonb_each_text(r.allocation -> 'grants') g GROUP BY 1
), bucketed AS (
    SELECT x.meter_id, sum(x.n) AS n, sum(x.events) AS events FROM (
        SELECT meter_id, quantity AS n, events FROM metering_rollup
         WHERE customer_id = %(customer)s
        UNION ALL
        SELECT (d ->> 1)::int, (d ->> 4)::bigint, (d ->> 5)::bigint
          FROM metering_usagebatch b, jsonb_array_elements(b.deltas) d
         WHERE (d ->> 0)::bigint = %(customer)s) x GROUP BY 1
)
SELECT 'I1 used', b.meter_id::text || ' ' || b."window", b.used, coalesce(s.n, 0)
  FROM metering_balance b
  JOIN metering_entitlement r ON r.customer_id = b.customer_id AND r.meter_id = b.meter_id
   AND r."window" = b."window" AND b.end_at > r.starts_at
  LEFT JOIN LATERAL (
        SELECT sum(n) AS n FROM event
         WHERE event.meter_id = b.meter_id AND occurred_at < b.end_at
           AND (occurred_at >= b.start_at OR b."window" = 'lifetime')) s ON true
 WHERE b.customer_id = %(customer)s AND b.used <> coalesce(s.n, 0)
UNION ALL
SELECT 'I2 grant is overdrawn', g.id::text, g.quantity, g.used + g.held
  FROM metering_grant g WHERE g.customer_id = %(customer)s AND g.used + g.held > g.quantity
UNION ALL
SELECT 'I2 grant used', g.id::text, g.used, coalesce(p.n, 0)
  FROM metering_grant g LEFT JOIN paid p ON p.grant_id = g.id
 WHERE g.customer_id = %(customer)s AND g.used <> coalesce(p.n, 0)
UNION ALL
SELECT 'I3 held', b.meter_id::text || ' ' || b."window", b.held, coalesce(r.n, 0)
  FROM metering_balance b
  LEFT JOIN reserved_in r ON r.meter_id = b.meter_id AND r."window" = b."window"
   AND r.start_at = b.start_at
 WHERE b.customer_id = %(customer)s AND b.held <> coalesce(r.n, 0)
UNION ALL
SELECT 'I3 grant held', g.id::text, g.held, coalesce(r.n, 0)
  FROM metering_grant g LEFT JOIN reserved_of r ON r.grant_id = g.id
 WHERE g.customer_id = %(customer)s AND g.held <> coalesce(r.n, 0)
UNION ALL
SELECT 'I4 buckets', coalesce(h.meter_id, b.meter_id)::text,
       coalesce(b.n, 0) * 1000000 + coalesce(b.events, 0),
       coalesce(h.n, 0) * 1000000 + coalesce(h.events, 0)
  FROM bucketed b
  FULL JOIN (SELECT meter_id, sum(n) AS n, count(*) AS events FROM event GROUP BY 1) h
    ON h.meter_id = b.meter_id
 WHERE (coalesce(h.n, 0), coalesce(h.events, 0)) <> (coalesce(b.n, 0), coalesce(b.events, 0))
"""


def broken(customer_id: int, *, of: psycopg.Cursor[Any] | None = None) -> list[Any]:
    """Every difference between the customer's books and what explains them: (what, of, is, was).

    `of` reads another database than the tests' own.
    """
    if of is not None:
        return of.execute(_BROKEN, {"customer": customer_id}).fetchall()
    with connection.cursor() as cursor:
        cursor.execute(_BROKEN, {"customer": customer_id})
        return list(cursor.fetchall())
