-- Rolls up to %(limit)s waiting batches into hourly buckets and deletes them.
-- Returns one row: how many batches there were. Rows that another worker has claimed are skipped.
-- Buckets are written in the order of their key, so that two workers never wait for each other
-- crosswise.
WITH claimed AS (
    SELECT id FROM metering_usagebatch ORDER BY id LIMIT %(limit)s FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM metering_usagebatch AS batch USING claimed WHERE batch.id = claimed.id
    RETURNING batch.deltas
), summed AS (
    SELECT (delta ->> 0)::bigint               AS customer_id,
           (delta ->> 1)::int                  AS meter_id,
           to_timestamp((delta ->> 2)::bigint) AS start_at,
           delta -> 3                          AS dimensions,
           sum((delta ->> 4)::bigint)::bigint  AS quantity,
           sum((delta ->> 5)::bigint)::bigint  AS events
      FROM gone, jsonb_array_elements(gone.deltas) AS delta
     GROUP BY 1, 2, 3, 4
), written AS (
    INSERT INTO metering_rollup AS bucket
           (customer_id, meter_id, start_at, dimensions, quantity, events)
    SELECT customer_id, meter_id, start_at, dimensions, quantity, events
      FROM summed
     ORDER BY customer_id, meter_id, start_at, dimensions
    ON CONFLICT (customer_id, meter_id, start_at, dimensions) DO UPDATE
       SET quantity = bucket.quantity + excluded.quantity,
           events   = bucket.events + excluded.events
)
SELECT count(*) FROM gone
