-- I4 of the coarser rollups: below its reach a day is the sum of its hours and a month of its days,
-- and a bucket of a unique meter has as many members as it says.
-- For the customers %(customers)s (bigint[]) and the hours, days and months that begin at
-- %(since_month)s or later. Rows: customer, meter, level, start, the bucket's quantity, quantity of what
-- it is made of, events, events of what it is made of. One snapshot. (Greatest and latest readings
-- are compared by their number of events only.)
WITH reach AS (
    SELECT slot, days_to, months_to FROM metering_rollupreach
), made AS (
    SELECT 'day' AS level, customer_id, meter_id, start_at, dimensions, quantity, events
      FROM metering_rollupday
     WHERE customer_id = ANY (%(customers)s) AND start_at >= %(since_month)s
    UNION ALL
    SELECT 'month', customer_id, meter_id, start_at, dimensions, quantity, events
      FROM metering_rollupmonth
     WHERE customer_id = ANY (%(customers)s) AND start_at >= %(since_month)s
    UNION ALL
    SELECT 'members', bucket.customer_id, bucket.meter_id, bucket.start_at, bucket.dimensions,
           bucket.quantity, 0
      FROM metering_rollup AS bucket
      JOIN metering_meter AS meter ON meter.id = bucket.meter_id AND meter.aggregation = 'unique'
     WHERE bucket.customer_id = ANY (%(customers)s) AND bucket.start_at >= %(since_month)s
), due AS (
    SELECT 'day' AS level, hour.customer_id, hour.meter_id,
           date_trunc('day', hour.start_at, 'UTC') AS start_at, hour.dimensions,
           sum(hour.quantity) AS quantity, sum(hour.events) AS events
      FROM metering_rollup AS hour
      JOIN metering_meter AS meter ON meter.id = hour.meter_id AND meter.aggregation <> 'unique'
      JOIN reach ON reach.slot = (hour.customer_id & 63) AND hour.start_at < reach.days_to
     WHERE hour.customer_id = ANY (%(customers)s) AND hour.start_at >= %(since_month)s
     GROUP BY 2, 3, 4, 5
    UNION ALL
    SELECT 'month', day.customer_id, day.meter_id, date_trunc('month', day.start_at, 'UTC'),
           day.dimensions, sum(day.quantity), sum(day.events)
      FROM metering_rollupday AS day
      JOIN reach ON reach.slot = (day.customer_id & 63) AND day.start_at < reach.months_to
     WHERE day.customer_id = ANY (%(customers)s) AND day.start_at >= %(since_month)s
     GROUP BY 2, 3, 4, 5
    UNION ALL
    SELECT 'members', customer_id, meter_id, start_at, dimensions, count(*), 0
      FROM metering_rollupmember
     WHERE customer_id = ANY (%(customers)s) AND start_at >= %(since_month)s
     GROUP BY 2, 3, 4, 5
), compared AS (
    SELECT level, customer_id, meter_id, start_at,
           coalesce(made.quantity, 0) AS made_quantity, coalesce(due.quantity, 0) AS due_quantity,
           coalesce(made.events, 0) AS made_events, coalesce(due.events, 0) AS due_events
      FROM made FULL JOIN due USING (level, customer_id, meter_id, start_at, dimensions)
)
SELECT compared.customer_id, compared.meter_id, compared.level, compared.start_at,
       compared.made_quantity::bigint, compared.due_quantity::bigint,
       compared.made_events::bigint, compared.due_events::bigint
  FROM compared
  JOIN metering_meter AS meter ON meter.id = compared.meter_id
 WHERE compared.made_events <> compared.due_events
    OR (compared.made_quantity <> compared.due_quantity
        AND meter.aggregation NOT IN ('max', 'latest'))
 ORDER BY 1, 2, 3, 4
