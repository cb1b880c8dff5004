-- Whether hours, days and months agree with the events: every row is a difference between what
-- stands there and what explains it, as (level, customer, meter, start, dimensions, is, events it
-- counts, should be, events there are). No row: all is well (I4).
-- Of the customers in %(customers)s, bigint[]; null: of all.
-- Written apart from metering/sql, which makes them and checks them in production. Every level is
-- counted from the events anew, each by its meter's aggregation: none of them from another one.
-- What waits in a batch is added to every level that has its time already. A day stands below its
-- customer's reach and nowhere else, and a month likewise; of unique meters there are hours only.
WITH asked AS (
    SELECT customer_id FROM accounts_customerversion
     WHERE %(customers)s::bigint[] IS NULL OR customer_id = ANY (%(customers)s)
), level AS (
    SELECT customer_id, 'hour' AS name, 'infinity'::timestamptz AS below FROM asked
    UNION ALL
    SELECT customer_id, 'day', days_to
      FROM asked JOIN metering_rollupreach ON slot = mod(customer_id, 64)
    UNION ALL
    SELECT customer_id, 'month', months_to
      FROM asked JOIN metering_rollupreach ON slot = mod(customer_id, 64)
), fix AS (
    SELECT DISTINCT ON (customer_id, event_id, received_month)
           customer_id, event_id, received_month, usage, properties
      FROM metering_correction JOIN asked USING (customer_id)
     ORDER BY customer_id, event_id, received_month, number DESC
), event AS (
    SELECT e.customer_id, e.occurred_at,
           CASE WHEN fix.event_id IS NULL THEN e.usage ELSE fix.usage END AS usage,
           CASE WHEN fix.event_id IS NULL THEN e.properties ELSE fix.properties END AS properties
      FROM metering_reportedevent e JOIN asked USING (customer_id)
      LEFT JOIN fix ON fix.customer_id = e.customer_id AND fix.event_id = e.id
       AND fix.received_month = e.received_month
), reading AS (
    SELECT e.customer_id, meter.id AS meter_id, meter.aggregation AS kind, e.occurred_at,
           coalesce((SELECT jsonb_object_agg(d.name, e.properties ->> d.name)
                       FROM jsonb_array_elements_text(to_jsonb(meter.dimensions)) d (name)
                      WHERE e.properties ->> d.name IS NOT NULL), '{}') AS dimensions,
           k.value AS said,
           CASE WHEN meter.aggregation <> 'unique' THEN k.value::bigint END AS n
      FROM event e, jsonb_each_text(e.usage) k JOIN metering_meter meter ON meter.id = k.key::int
), happened AS (
    SELECT level.name AS level, r.customer_id, r.meter_id, r.dimensions,
           date_trunc(level.name, r.occurred_at, 'UTC') AS start_at, count(*) AS events,
           CASE r.kind WHEN 'max' THEN max(r.n)
                       WHEN 'latest' THEN (array_agg(r.n ORDER BY r.occurred_at DESC, r.n DESC))[1]
                       WHEN 'unique' THEN count(DISTINCT r.said)
                       ELSE sum(r.n) END AS n
      FROM reading r JOIN level ON level.customer_id = r.customer_id
       AND (level.name = 'hour' OR r.kind <> 'unique')
       AND date_trunc(level.name, r.occurred_at, 'UTC') < level.below
     GROUP BY 1, 2, 3, 4, 5, r.kind
), waiting AS (
    SELECT (d ->> 0)::bigint AS customer_id, (d ->> 1)::int AS meter_id,
           to_timestamp((d ->> 2)::bigint) AS start_at, d -> 3 AS dimensions,
           (d ->> 4)::bigint AS n, (d ->> 5)::bigint AS events,
           to_timestamp((d ->> 6)::numeric / 1000000) AS latest_at,
           coalesce(nullif(d -> 7, 'null'), '[]') AS members
      FROM metering_usagebatch b, jsonb_array_elements(b.deltas) d
), stood AS (
    SELECT 'hour' AS level, customer_id, meter_id, start_at, dimensions, quantity AS n, events,
           latest_at FROM metering_rollup
    UNION ALL
    SELECT 'day', customer_id, meter_id, start_at, dimensions, quantity, events, latest_at
      FROM metering_rollupday
    UNION ALL
    SELECT 'month', customer_id, meter_id, start_at, dimensions, quantity, events, latest_at
      FROM metering_rollupmonth
    UNION ALL
    SELECT level.name, w.customer_id, w.meter_id, date_trunc(level.name, w.start_at, 'UTC'),
           w.dimensions, w.n, w.events, w.latest_at
      FROM waiting w JOIN metering_meter meter ON meter.id = w.meter_id
      JOIN level ON level.customer_id = w.customer_id
       AND (level.name = 'hour' OR meter.aggregation <> 'unique')
       AND date_trunc(level.name, w.start_at, 'UTC') < level.below
), seen AS (
    SELECT customer_id, meter_id, start_at, dimensions, count(DISTINCT member) AS n FROM (
        SELECT customer_id, meter_id, start_at, dimensions, member FROM metering_rollupmember
        UNION ALL
        SELECT customer_id, meter_id, start_at, dimensions, m.member
          FROM waiting, jsonb_array_elements_text(members) m (member)) x
     GROUP BY 1, 2, 3, 4
), bucketed AS (
    SELECT s.level, s.customer_id, s.meter_id, s.start_at, s.dimensions, sum(s.events) AS events,
           CASE meter.aggregation
           WHEN 'max' THEN max(s.n)
           WHEN 'latest' THEN (array_agg(s.n ORDER BY s.latest_at DESC NULLS LAST, s.n DESC))[1]
           WHEN 'unique' THEN coalesce(max(seen.n), 0)
           ELSE sum(s.n) END AS n
      FROM stood s JOIN asked USING (customer_id) JOIN metering_meter meter ON meter.id = s.meter_id
      LEFT JOIN seen ON meter.aggregation = 'unique' AND seen.customer_id = s.customer_id
       AND seen.meter_id = s.meter_id AND seen.start_at = s.start_at
       AND seen.dimensions = s.dimensions
     GROUP BY 1, 2, 3, 4, 5, meter.aggregation
)
SELECT level, customer_id, meter_id, start_at, dimensions,
       coalesce(b.n, 0), coalesce(b.events, 0), coalesce(h.n, 0), coalesce(h.events, 0)
  FROM bucketed b FULL JOIN happened h USING (level, customer_id, meter_id, start_at, dimensions)
 WHERE (coalesce(b.n, 0), coalesce(b.events, 0)) <> (coalesce(h.n, 0), coalesce(h.events, 0))
UNION ALL
SELECT 'members', r.customer_id, r.meter_id, r.start_at, r.dimensions, r.quantity, 0, m.n, 0
  FROM metering_rollup r JOIN asked USING (customer_id)
  JOIN metering_meter meter ON meter.id = r.meter_id AND meter.aggregation = 'unique'
 CROSS JOIN LATERAL (
       SELECT count(*) AS n FROM metering_rollupmember m
        WHERE m.customer_id = r.customer_id AND m.meter_id = r.meter_id
          AND m.start_at = r.start_at AND m.dimensions = r.dimensions) m
 WHERE r.quantity <> m.n
 ORDER BY 1, 2, 3, 4
