-- Rolls up to %(limit)s waiting batches into hourly buckets and deletes them. What belongs to days
-- and months below the customer's reach is added to those as well (metering/models/rollups.py).
-- Returns one row: how many batches there were. Rows that another worker has claimed are skipped.
-- The caller holds the locks of all slots, shared, so that no reach moves. Buckets are written in
-- the order of their key, so that two workers never wait for each other crosswise; those of maxima
-- apart, for Citus takes no look at the meter in the DO UPDATE of a distributed table.
-- A delta: [customer, meter, hour, dimensions, quantity, events, latest (microseconds), members].
WITH claimed AS (
    SELECT id FROM metering_usagebatch ORDER BY id LIMIT %(limit)s FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM metering_usagebatch AS batch USING claimed WHERE batch.id = claimed.id
    RETURNING batch.deltas
), apart AS (
    SELECT (delta ->> 0)::bigint               AS customer_id,
           (delta ->> 1)::int                  AS meter_id,
           to_timestamp((delta ->> 2)::bigint) AS start_at,
           delta -> 3                          AS dimensions,
           (delta ->> 4)::bigint               AS quantity,
           (delta ->> 5)::bigint               AS events,
           (delta ->> 6)::bigint               AS latest_us,
           nullif(delta -> 7, 'null')          AS members
      FROM gone, jsonb_array_elements(gone.deltas) AS delta
), joined AS (
    INSERT INTO metering_rollupmember (customer_id, meter_id, start_at, dimensions, member)
    SELECT DISTINCT apart.customer_id, apart.meter_id, apart.start_at, apart.dimensions, each.member
      FROM apart, jsonb_array_elements_text(apart.members) AS each (member)
     WHERE apart.members IS NOT NULL
     ORDER BY 1, 2, 3, 4, 5
    ON CONFLICT DO NOTHING
    RETURNING customer_id, meter_id, start_at, dimensions
), newcomers AS (
    SELECT customer_id, meter_id, start_at, dimensions, count(*) AS quantity
      FROM joined GROUP BY 1, 2, 3, 4
), grouped AS (
    SELECT customer_id, meter_id, start_at, dimensions,
           sum(quantity) AS quantity, max(quantity) AS peak, sum(events)::bigint AS events,
           max(ARRAY[latest_us, quantity]) FILTER (WHERE latest_us IS NOT NULL) AS latest
      FROM apart
     GROUP BY 1, 2, 3, 4
), summed AS MATERIALIZED (
    SELECT grouped.customer_id, grouped.meter_id, grouped.start_at, grouped.dimensions,
           meter.aggregation,
           CASE meter.aggregation WHEN 'max' THEN grouped.peak
                                  WHEN 'latest' THEN grouped.latest[2]
                                  WHEN 'unique' THEN coalesce(newcomers.quantity, 0)
                                  ELSE grouped.quantity END::bigint AS quantity,
           grouped.events,
           timestamptz 'epoch' + grouped.latest[1] * interval '1 microsecond' AS latest_at
      FROM grouped
      LEFT JOIN newcomers USING (customer_id, meter_id, start_at, dimensions)
      JOIN metering_meter AS meter ON meter.id = grouped.meter_id
), late AS (
    SELECT summed.customer_id, summed.meter_id, summed.aggregation, summed.dimensions,
           date_trunc('day', summed.start_at, 'UTC') AS start_at,
           summed.quantity, summed.events, summed.latest_at, reach.months_to
      FROM summed
      JOIN metering_rollupreach AS reach
        ON reach.slot = (summed.customer_id & 63) AND summed.start_at < reach.days_to
     WHERE summed.aggregation <> 'unique'
), late_by_day AS (
    SELECT customer_id, meter_id, start_at, dimensions, aggregation, months_to,
           sum(quantity) AS quantity, max(quantity) AS peak, sum(events)::bigint AS events,
           max(ARRAY[(extract(epoch FROM latest_at) * 1000000)::bigint, quantity])
               FILTER (WHERE latest_at IS NOT NULL) AS latest
      FROM late
     GROUP BY 1, 2, 3, 4, 5, 6
), late_by_month AS (
    SELECT customer_id, meter_id, date_trunc('month', start_at, 'UTC') AS start_at, dimensions,
           aggregation, sum(quantity) AS quantity, max(peak) AS peak,
           sum(events)::bigint AS events, max(latest) AS latest
      FROM late_by_day
     WHERE start_at < months_to
     GROUP BY 1, 2, 3, 4, 5
), hours AS (
    INSERT INTO metering_rollup AS bucket
           (customer_id, meter_id, start_at, dimensions, quantity, events, latest_at)
    SELECT customer_id, meter_id, start_at, dimensions, quantity, events, latest_at
      FROM summed
     WHERE aggregation <> 'max'
     ORDER BY customer_id, meter_id, start_at, dimensions
    ON CONFLICT (customer_id, meter_id, start_at, dimensions) DO UPDATE
       SET quantity = CASE
               WHEN excluded.latest_at IS NOT NULL THEN
                   CASE WHEN (bucket.latest_at, bucket.quantity)
                           > (excluded.latest_at, excluded.quantity)
                        THEN bucket.quantity ELSE excluded.quantity END
               ELSE bucket.quantity + excluded.quantity END,
           events = bucket.events + excluded.events,
           latest_at = greatest(bucket.latest_at, excluded.latest_at)
), hour_peaks AS (
    INSERT INTO metering_rollup AS bucket
           (customer_id, meter_id, start_at, dimensions, quantity, events)
    SELECT customer_id, meter_id, start_at, dimensions, quantity, events
      FROM summed
     WHERE aggregation = 'max'
     ORDER BY customer_id, meter_id, start_at, dimensions
    ON CONFLICT (customer_id, meter_id, start_at, dimensions) DO UPDATE
       SET quantity = greatest(bucket.quantity, excluded.quantity),
           events = bucket.events + excluded.events
), days AS (
    INSERT INTO metering_rollupday AS bucket
           (customer_id, meter_id, start_at, dimensions, quantity, events, latest_at)
    SELECT customer_id, meter_id, start_at, dimensions,
           CASE aggregation WHEN 'latest' THEN latest[2] ELSE quantity END::bigint,
           events, timestamptz 'epoch' + latest[1] * interval '1 microsecond'
      FROM late_by_day
     WHERE aggregation <> 'max'
     ORDER BY customer_id, meter_id, start_at, dimensions
    ON CONFLICT (customer_id, meter_id, start_at, dimensions) DO UPDATE
       SET quantity = CASE
               WHEN excluded.latest_at IS NOT NULL THEN
                   CASE WHEN (bucket.latest_at, bucket.quantity)
                           > (excluded.latest_at, excluded.quantity)
                        THEN bucket.quantity ELSE excluded.quantity END
               ELSE bucket.quantity + excluded.quantity END,
           events = bucket.events + excluded.events,
           latest_at = greatest(bucket.latest_at, excluded.latest_at)
), day_peaks AS (
    INSERT INTO metering_rollupday AS bucket
           (customer_id, meter_id, start_at, dimensions, quantity, events)
    SELECT customer_id, meter_id, start_at, dimensions, peak, events
      FROM late_by_day
     WHERE aggregation = 'max'
     ORDER BY customer_id, meter_id, start_at, dimensions
    ON CONFLICT (customer_id, meter_id, start_at, dimensions) DO UPDATE
       SET quantity = greatest(bucket.quantity, excluded.quantity),
           events = bucket.events + excluded.events
), months AS (
    INSERT INTO metering_rollupmonth AS bucket
           (customer_id, meter_id, start_at, dimensions, quantity, events, latest_at)
    SELECT customer_id, meter_id, start_at, dimensions,
           CASE aggregation WHEN 'latest' THEN latest[2] ELSE quantity END::bigint,
           events, timestamptz 'epoch' + latest[1] * interval '1 microsecond'
      FROM late_by_month
     WHERE aggregation <> 'max'
     ORDER BY customer_id, meter_id, start_at, dimensions
    ON CONFLICT (customer_id, meter_id, start_at, dimensions) DO UPDATE
       SET quantity = CASE
               WHEN excluded.latest_at IS NOT NULL THEN
                   CASE WHEN (bucket.latest_at, bucket.quantity)
                           > (excluded.latest_at, excluded.quantity)
                        THEN bucket.quantity ELSE excluded.quantity END
               ELSE bucket.quantity + excluded.quantity END,
           events = bucket.events + excluded.events,
           latest_at = greatest(bucket.latest_at, excluded.latest_at)
), month_peaks AS (
    INSERT INTO metering_rollupmonth AS bucket
           (customer_id, meter_id, start_at, dimensions, quantity, events)
    SELECT customer_id, meter_id, start_at, dimensions, peak, events
      FROM late_by_month
     WHERE aggregation = 'max'
     ORDER BY customer_id, meter_id, start_at, dimensions
    ON CONFLICT (customer_id, meter_id, start_at, dimensions) DO UPDATE
       SET quantity = greatest(bucket.quantity, excluded.quantity),
           events = bucket.events + excluded.events
)
SELECT count(*) FROM gone
