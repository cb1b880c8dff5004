-- Makes the months of the customers of %(slot)s (or of one of them, %(customer_id)s, and
-- of %(meters)s only): of their days with a start in
-- [%(start_at)s, %(end_at)s), a null start being since ever.
-- Returns one row: how many months there are now.
-- The caller holds the slot's lock and raises its reach with it.
WITH made AS (
    INSERT INTO metering_rollupmonth
           (customer_id, meter_id, start_at, dimensions, quantity, events, latest_at)
    SELECT day.customer_id, day.meter_id, date_trunc('month', day.start_at, 'UTC'),
           day.dimensions,
           CASE
               WHEN meter.aggregation = 'max' THEN max(day.quantity)
               WHEN meter.aggregation = 'latest' THEN (max(ARRAY[(extract(epoch FROM day.latest_at)
                                              * 1000000)::bigint, day.quantity]))[2]
               ELSE sum(day.quantity) END::bigint,
           sum(day.events)::bigint, max(day.latest_at)
      FROM metering_rollupday AS day
      JOIN metering_meter AS meter ON meter.id = day.meter_id
     WHERE (day.customer_id & 63) = %(slot)s
       AND (%(customer_id)s::bigint IS NULL OR day.customer_id = %(customer_id)s::bigint)
       AND (%(meters)s::int[] IS NULL OR day.meter_id = ANY (%(meters)s::int[]))
       AND day.start_at >= coalesce(%(start_at)s::timestamptz, '-infinity')
       AND day.start_at < %(end_at)s
     GROUP BY 1, 2, 3, 4, meter.aggregation
    RETURNING 1
)
SELECT count(*) FROM made
