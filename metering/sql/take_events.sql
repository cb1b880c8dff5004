-- What %(customer_id)s's effective events with occurred_at in [%(start_at)s, %(end_at)s), whole
-- hours, count as on the meters %(meters)s (int[]); and takes their deltas out of the batches that
-- wait to be rolled up, in the same snapshot, so that nothing is counted twice or left out. The
-- caller holds the slot's lock, so that no batch is being rolled up, and writes the buckets. Batches
-- are locked in their order: re-rolls of several slots do not wait for one another in a circle.
-- Returns rows (meter, hour, the properties that are the meter's dimensions as JSON text, sum,
-- greatest, events, [time of the latest in microseconds, the latest], members).
WITH meter AS (
    SELECT id, aggregation, dimensions FROM metering_meter WHERE id = ANY (%(meters)s)
), waiting AS MATERIALIZED (
    SELECT batch.id
      FROM metering_usagebatch AS batch
     WHERE (batch.customers IS NULL OR %(customer_id)s = ANY (batch.customers))
       AND EXISTS (
           SELECT
             FROM jsonb_array_elements(batch.deltas) AS delta
            WHERE (delta ->> 0)::bigint = %(customer_id)s
              AND (delta ->> 1)::int = ANY (%(meters)s)
              AND to_timestamp((delta ->> 2)::bigint) >= %(start_at)s
              AND to_timestamp((delta ->> 2)::bigint) < %(end_at)s)
     ORDER BY batch.id
       FOR UPDATE
), taken AS (
    UPDATE metering_usagebatch AS batch
       SET deltas = (
           SELECT coalesce(jsonb_agg(delta), '[]')
             FROM jsonb_array_elements(batch.deltas) AS delta
            WHERE NOT ((delta ->> 0)::bigint = %(customer_id)s
                       AND (delta ->> 1)::int = ANY (%(meters)s)
                       AND to_timestamp((delta ->> 2)::bigint) >= %(start_at)s
                       AND to_timestamp((delta ->> 2)::bigint) < %(end_at)s))
      FROM waiting
     WHERE batch.id = waiting.id
), counted AS (
    SELECT meter.id AS meter_id, meter.aggregation, event.occurred_at,
           (SELECT coalesce(jsonb_object_agg(name, event.properties -> name), '{}')
              FROM unnest(coalesce(
                  (SELECT version.dimensions
                     FROM metering_meterversion AS version
                    WHERE version.meter_id = meter.id AND version.effective_at <= event.occurred_at
                    ORDER BY version.effective_at DESC
                    LIMIT 1), meter.dimensions)) AS name
             WHERE event.properties ? name) AS properties,
           CASE WHEN meter.aggregation <> 'unique'
                THEN (event.usage ->> meter.id::text)::bigint END AS quantity,
           event.usage ->> meter.id::text AS member
      FROM metering_effectiveevent AS event
      JOIN meter ON event.usage ? meter.id::text
     WHERE event.customer_id = %(customer_id)s
       AND event.hour >= %(start_at)s AND event.hour < %(end_at)s
)
SELECT meter_id, date_trunc('hour', occurred_at, 'UTC'), properties::text,
       sum(quantity)::bigint, max(quantity), count(*),
       max(ARRAY[(extract(epoch FROM occurred_at) * 1000000)::bigint, quantity])
           FILTER (WHERE aggregation = 'latest'),
       array_agg(DISTINCT member) FILTER (WHERE aggregation = 'unique')
  FROM counted
 GROUP BY 1, 2, 3
