-- Makes the days of the customers of %(slot)s (or of one of them, %(customer_id)s, and
-- of %(meters)s only): of their hours with a start in
-- [%(start_at)s, %(end_at)s), a null start being since ever. Members of unique meters have no
-- days: those of the hours are counted. Returns one row: how many days there are now.
-- The caller holds the slot's lock and raises its reach with it.
WITH made AS (
    INSERT INTO metering_rollupday
           (customer_id, meter_id, start_at, dimensions, quantity, events, latest_at)
    SELECT hour.customer_id, hour.meter_id, date_trunc('day', hour.start_at, 'UTC'),
           hour.dimensions,
           CASE
               WHEN meter.aggregation = 'max' THEN max(hour.quantity)
               WHEN meter.aggregation = 'latest' THEN (max(ARRAY[(extract(epoch FROM hour.latest_at)
                                              * 1000000)::bigint, hour.quantity]))[2]
               ELSE sum(hour.quantity) END::bigint,
           sum(hour.events)::bigint, max(hour.latest_at)
      FROM metering_rollup AS hour
      JOIN metering_meter AS meter ON meter.id = hour.meter_id AND meter.aggregation <> 'unique'
     WHERE (hour.customer_id & 63) = %(slot)s
       AND (%(customer_id)s::bigint IS NULL OR hour.customer_id = %(customer_id)s::bigint)
       AND (%(meters)s::int[] IS NULL OR hour.meter_id = ANY (%(meters)s::int[]))
       AND hour.start_at >= coalesce(%(start_at)s::timestamptz, '-infinity')
       AND hour.start_at < %(end_at)s
     GROUP BY 1, 2, 3, 4, meter.aggregation
    RETURNING 1
)
SELECT count(*) FROM made
