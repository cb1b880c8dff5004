-- Whether the books of metering are in order: every row is a difference between what stands there
-- and what explains it, as (invariant, customer, of what, is, should be). No row: all is well.
-- Of the customers in %(customers)s, bigint[]; null: of all.
-- Written apart from metering/sql, which checks the same in production: neither knows the other.
--   I1  used = sum of the effective events of the window
--   I2  no grant gives more than it has; what is paid by grants is what events say of them; whoever
--       was admitted was told a state that allows it
--   I3  held = sum of the open holds, of windows and of grants; a closed hold holds nothing
--   I4  rollups and waiting batches together = events
--   I10 the state that a denial saw explains it
-- Meters that add up only (count, sum); greatest, latest and unique ones have no sums.
WITH asked AS (
    SELECT customer_id FROM accounts_customerversion
     WHERE %(customers)s::bigint[] IS NULL OR customer_id = ANY (%(customers)s)
), adding AS (
    SELECT id, key FROM metering_meter WHERE aggregation IN ('count', 'sum')
), fix AS (
    SELECT DISTINCT ON (customer_id, event_id, received_month)
           customer_id, event_id, received_month, usage, paid_by
      FROM metering_correction JOIN asked USING (customer_id)
     ORDER BY customer_id, event_id, received_month, number DESC
), counted AS (
    SELECT e.customer_id, e.occurred_at,
           CASE WHEN fix.event_id IS NULL THEN e.usage ELSE fix.usage END AS usage,
           CASE WHEN fix.event_id IS NULL THEN e.paid_by ELSE fix.paid_by END AS paid_by
      FROM metering_reportedevent e JOIN asked USING (customer_id)
      LEFT JOIN fix ON fix.customer_id = e.customer_id AND fix.event_id = e.id
       AND fix.received_month = e.received_month
), event AS (
    SELECT e.customer_id, e.occurred_at, adding.id AS meter_id, k.value::bigint AS n,
           coalesce((SELECT sum(g.value::bigint)
                       FROM jsonb_each_text(e.paid_by -> k.key -> 'grants') g), 0) AS granted
      FROM counted e, jsonb_each_text(e.usage) k JOIN adding ON adding.id = k.key::int
), paid AS (
    SELECT e.customer_id, g.key::bigint AS grant_id, sum(g.value::bigint) AS n
      FROM counted e, jsonb_each(e.paid_by) m, jsonb_each_text(m.value -> 'grants') g
     GROUP BY 1, 2
), reserved AS (
    SELECT h.customer_id, m.key::int AS meter_id, (m.value ->> 'q')::bigint AS n,
           m.value AS allocation, (h.items ->> m.key)::bigint AS asked
      FROM metering_hold h JOIN asked USING (customer_id), jsonb_each(h.allocation) m
     WHERE h.state = 'open'
), reserved_in AS (
    SELECT r.customer_id, r.meter_id, w ->> 0 AS "window",
           to_timestamp((w ->> 1)::bigint) AS start_at, sum(r.n) AS n
      FROM reserved r, jsonb_array_elements(r.allocation -> 'windows') w GROUP BY 1, 2, 3, 4
), reserved_of AS (
    SELECT r.customer_id, g.key::bigint AS grant_id, sum(g.value::bigint) AS n
      FROM reserved r, jsonb_each_text(r.allocation -> 'grants') g GROUP BY 1, 2
), bucketed AS (
    SELECT x.customer_id, x.meter_id, sum(x.n) AS n, sum(x.events) AS events FROM (
        SELECT customer_id, meter_id, quantity AS n, events FROM metering_rollup
        UNION ALL
        SELECT (d ->> 0)::bigint, (d ->> 1)::int, (d ->> 4)::bigint, (d ->> 5)::bigint
          FROM metering_usagebatch b, jsonb_array_elements(b.deltas) d) x
      JOIN asked USING (customer_id) JOIN adding ON adding.id = x.meter_id
     GROUP BY 1, 2
), happened AS (
    SELECT customer_id, meter_id, sum(n) AS n, count(*) AS events FROM event GROUP BY 1, 2
), told AS (  -- what an admitted call was told, by window, and how much of it no grant paid
    SELECT e.customer_id, e.external_id,
           (e.usage ->> adding.id::text)::bigint
           - coalesce((SELECT sum(g.value::bigint) FROM jsonb_each_text(
                              e.paid_by -> adding.id::text -> 'grants') g), 0) AS unpaid,
           b ->> 1 AS "window", (b ->> 5)::bigint AS remaining, (b ->> 6)::bigint AS overage,
           (b ->> 7)::bigint AS overage_limit, (b ->> 8)::boolean AS unlimited
      FROM metering_reportedevent e JOIN asked USING (customer_id),
           jsonb_array_elements(CASE WHEN starts_with(e.answer, '["')
                                     THEN e.answer::jsonb -> 2 ELSE '[]' END) b JOIN adding ON adding.key = b ->> 0
     WHERE NOT e.from_hold
    UNION ALL
    SELECT h.customer_id, h.external_id,
           (h.items ->> adding.id::text)::bigint
           - coalesce((SELECT sum(g.value::bigint) FROM jsonb_each_text(
                              h.allocation -> adding.id::text -> 'grants') g), 0),
           b ->> 1, (b ->> 5)::bigint, (b ->> 6)::bigint, (b ->> 7)::bigint, (b ->> 8)::boolean
      FROM metering_hold h JOIN asked USING (customer_id),
           jsonb_array_elements(h.answer::jsonb -> 2) b JOIN adding ON adding.key = b ->> 0
), denied AS (
    SELECT d.*, problem ->> 'code' AS said, (problem ->> 'status')::int AS status,
           (problem ->> 'requested')::bigint AS wanted,
           (problem ->> 'max_admissible')::bigint AS most,
           d.code IN ('quota_exhausted', 'credits_exhausted', 'rate_exceeded', 'in_flight',
                      'spend_limit_reached') AS by_limit,
           (SELECT min((b ->> 'remaining')::bigint
                       + CASE WHEN b ->> 'overage_limit' IS NULL THEN 9 * 10::bigint ^ 15
                              ELSE greatest((b ->> 'overage_limit')::bigint
                                            - (b ->> 'overage')::bigint, 0) END)
              FROM jsonb_array_elements(problem -> 'balances') b
             WHERE b ->> 'meter' = d.meter AND NOT (b ->> 'unlimited')::boolean) AS room
      FROM metering_denial d JOIN asked USING (customer_id)
)
SELECT 'I1 used' AS invariant, b.customer_id, b.meter_id::text || ' ' || b."window" AS of_what,
       b.used::numeric AS is, coalesce(s.n, 0) AS should_be
  FROM metering_balance b JOIN asked USING (customer_id)
  JOIN adding ON adding.id = b.meter_id
  JOIN metering_entitlement r ON r.customer_id = b.customer_id AND r.meter_id = b.meter_id
   AND r."window" = b."window" AND b.end_at > r.starts_at
  LEFT JOIN LATERAL (
        SELECT sum(n) AS n FROM event
         WHERE event.customer_id = b.customer_id AND event.meter_id = b.meter_id
           AND occurred_at < b.end_at
           AND (occurred_at >= b.start_at OR b."window" = 'lifetime')) s ON true
 WHERE b.used <> coalesce(s.n, 0)
UNION ALL
SELECT 'I2 grant is overdrawn', g.customer_id, g.id::text, g.used + g.held, g.quantity
  FROM metering_grant g JOIN asked USING (customer_id) WHERE g.used + g.held > g.quantity
UNION ALL
SELECT 'I2 grant used', g.customer_id, g.id::text, g.used, coalesce(p.n, 0)
  FROM metering_grant g JOIN asked USING (customer_id)
  LEFT JOIN paid p ON p.customer_id = g.customer_id AND p.grant_id = g.id
 WHERE g.used <> coalesce(p.n, 0)
UNION ALL
SELECT 'I2 more was admitted than there was', t.customer_id, t.external_id || ' ' || t."window",
       t.overage, t.overage_limit
  FROM told t WHERE NOT t.unlimited AND t.unpaid > 0 AND t.overage > t.overage_limit
UNION ALL
SELECT 'I3 held', coalesce(b.customer_id, r.customer_id),
       coalesce(b.meter_id, r.meter_id)::text || ' ' || coalesce(b."window", r."window"),
       coalesce(b.held, 0), coalesce(r.n, 0)
  FROM (SELECT * FROM metering_balance JOIN asked USING (customer_id)) b
  FULL JOIN reserved_in r ON r.customer_id = b.customer_id AND r.meter_id = b.meter_id
   AND r."window" = b."window" AND r.start_at = b.start_at
 WHERE coalesce(b.held, 0) <> coalesce(r.n, 0)
UNION ALL
SELECT 'I3 a hold reserves what it was asked for', customer_id, meter_id::text, n, asked
  FROM reserved WHERE n IS DISTINCT FROM asked
UNION ALL
SELECT 'I3 grant held', g.customer_id, g.id::text, g.held, coalesce(r.n, 0)
  FROM metering_grant g JOIN asked USING (customer_id)
  LEFT JOIN reserved_of r ON r.customer_id = g.customer_id AND r.grant_id = g.id
 WHERE g.held <> coalesce(r.n, 0)
UNION ALL
SELECT 'I4 buckets', coalesce(h.customer_id, b.customer_id),
       coalesce(h.meter_id, b.meter_id)::text,
       coalesce(b.n, 0) * 1000000 + coalesce(b.events, 0),
       coalesce(h.n, 0) * 1000000 + coalesce(h.events, 0)
  FROM bucketed b FULL JOIN happened h USING (customer_id, meter_id)
 WHERE (coalesce(h.n, 0), coalesce(h.events, 0)) <> (coalesce(b.n, 0), coalesce(b.events, 0))
UNION ALL
SELECT 'I10 the problem is of this denial', d.customer_id, d.id::text, d.wanted, d.requested
  FROM denied d
 WHERE d.said IS DISTINCT FROM d.code OR d.wanted IS DISTINCT FROM d.requested
    OR d.problem ->> 'meter' IS DISTINCT FROM d.meter OR d.count < 1 OR d.last_at < d.first_at
UNION ALL
SELECT 'I10 status of ' || d.code, d.customer_id, d.id::text, d.status,
       CASE WHEN d.code IN ('rate_exceeded', 'in_flight') THEN 429
            WHEN d.code IN ('not_entitled', 'customer_suspended') THEN 403 ELSE 402 END
  FROM denied d
 WHERE d.status <> CASE WHEN d.code IN ('rate_exceeded', 'in_flight') THEN 429
                        WHEN d.code IN ('not_entitled', 'customer_suspended') THEN 403
                        ELSE 402 END
UNION ALL
SELECT 'I10 it would have been admitted: ' || d.code, d.customer_id, d.id::text, d.requested,
       least(d.most, d.room)
  FROM denied d
 WHERE d.by_limit AND (d.requested <= d.most OR d.room IS NULL
                       OR (d.requested <= d.room AND d.code <> 'spend_limit_reached'))
 ORDER BY 1, 2, 3
