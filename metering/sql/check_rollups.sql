-- I4: Σ rollups + Σ waiting batches = Σ events, by meter and hour, in quantity and in number.
-- For the customers %(customers)s (bigint[]) and the hours from %(since)s (a whole hour) on.
-- Rows: customer, meter, hour, bucketed quantity, events' quantity, bucketed number, number.
-- One snapshot.
WITH bucketed AS (
    SELECT each.customer_id, each.meter_id, each.start_at,
           sum(each.quantity) AS quantity, sum(each.events) AS events
      FROM (
        SELECT customer_id, meter_id, start_at, quantity, events
          FROM metering_rollup
         WHERE customer_id = ANY (%(customers)s) AND start_at >= %(since)s
        UNION ALL
        SELECT (delta ->> 0)::bigint, (delta ->> 1)::int,
               to_timestamp((delta ->> 2)::bigint), (delta ->> 4)::bigint, (delta ->> 5)::bigint
          FROM metering_usagebatch AS batch, jsonb_array_elements(batch.deltas) AS delta
         WHERE (delta ->> 0)::bigint = ANY (%(customers)s)
           AND to_timestamp((delta ->> 2)::bigint) >= %(since)s
      ) AS each
     GROUP BY 1, 2, 3
), happened AS (
    SELECT event.customer_id, counted.key::int AS meter_id,
           date_trunc('hour', event.occurred_at, 'UTC') AS start_at,
           sum(counted.value::bigint) AS quantity, count(*) AS events
      FROM metering_usageevent AS event, jsonb_each_text(event.usage) AS counted
     WHERE event.customer_id = ANY (%(customers)s) AND event.occurred_at >= %(since)s
     GROUP BY 1, 2, 3
)
SELECT coalesce(bucketed.customer_id, happened.customer_id),
       coalesce(bucketed.meter_id, happened.meter_id),
       coalesce(bucketed.start_at, happened.start_at),
       coalesce(bucketed.quantity, 0)::bigint, coalesce(happened.quantity, 0)::bigint,
       coalesce(bucketed.events, 0)::bigint, coalesce(happened.events, 0)::bigint
  FROM bucketed
  FULL JOIN happened
    ON happened.customer_id = bucketed.customer_id AND happened.meter_id = bucketed.meter_id
   AND happened.start_at = bucketed.start_at
 WHERE (coalesce(bucketed.quantity, 0), coalesce(bucketed.events, 0))
    <> (coalesce(happened.quantity, 0), coalesce(happened.events, 0))
 ORDER BY 1, 2, 3
