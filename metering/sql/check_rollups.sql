-- I4: rollups + waiting batches = effective events, by meter and hour, in quantity and in number;
-- of meters that keep the greatest, the latest or the different readings, merged as those are.
-- For the customers %(customers)s (bigint[]) and the hours from %(since)s (a whole hour) on.
-- Rows: customer, meter, hour, bucketed quantity, events' quantity, bucketed number, number.
-- One snapshot.
WITH waiting AS MATERIALIZED (
    SELECT (delta ->> 0)::bigint AS customer_id, (delta ->> 1)::int AS meter_id,
           to_timestamp((delta ->> 2)::bigint) AS start_at, (delta ->> 4)::bigint AS quantity,
           (delta ->> 5)::bigint AS events, (delta ->> 6)::bigint AS latest_us,
           nullif(delta -> 7, 'null') AS members
      FROM metering_usagebatch AS batch, jsonb_array_elements(batch.deltas) AS delta
     WHERE (batch.customers IS NULL OR batch.customers && %(customers)s)
       AND (delta ->> 0)::bigint = ANY (%(customers)s)
       AND to_timestamp((delta ->> 2)::bigint) >= %(since)s
), member AS (
    SELECT customer_id, meter_id, start_at, count(DISTINCT member) AS quantity
      FROM (SELECT customer_id, meter_id, start_at, member
              FROM metering_rollupmember
             WHERE customer_id = ANY (%(customers)s) AND start_at >= %(since)s
            UNION ALL
            SELECT waiting.customer_id, waiting.meter_id, waiting.start_at, each.member
              FROM waiting, jsonb_array_elements_text(waiting.members) AS each (member)) AS seen
     GROUP BY 1, 2, 3
), bucketed AS (
    SELECT each.customer_id, each.meter_id, each.start_at, sum(each.events) AS events,
           CASE meter.aggregation
               WHEN 'max' THEN max(each.quantity)
               WHEN 'latest' THEN (max(ARRAY[each.latest_us, each.quantity]))[2]
               WHEN 'unique' THEN max(member.quantity)
               ELSE sum(each.quantity) END AS quantity
      FROM (
        SELECT customer_id, meter_id, start_at, quantity, events,
               (extract(epoch FROM latest_at) * 1000000)::bigint AS latest_us
          FROM metering_rollup
         WHERE customer_id = ANY (%(customers)s) AND start_at >= %(since)s
        UNION ALL
        SELECT customer_id, meter_id, start_at, quantity, events, latest_us FROM waiting
      ) AS each
      LEFT JOIN member USING (customer_id, meter_id, start_at)
      JOIN metering_meter AS meter ON meter.id = each.meter_id
     GROUP BY 1, 2, 3, meter.aggregation
), happened AS (
    SELECT event.customer_id, meter.id AS meter_id,
           event.hour AS start_at, count(*) AS events,
           CASE meter.aggregation
               WHEN 'max' THEN max(reading.quantity)
               WHEN 'latest' THEN (max(ARRAY[(extract(epoch FROM event.occurred_at)
                                              * 1000000)::bigint, reading.quantity]))[2]
               WHEN 'unique' THEN count(DISTINCT counted.value)
               ELSE sum(reading.quantity) END AS quantity
      FROM metering_effectiveevent AS event
     CROSS JOIN LATERAL jsonb_each_text(event.usage) AS counted
      JOIN metering_meter AS meter ON meter.id = counted.key::int
     CROSS JOIN LATERAL (
         SELECT CASE WHEN meter.aggregation <> 'unique' THEN counted.value::bigint END AS quantity
     ) AS reading
     WHERE event.customer_id = ANY (%(customers)s) AND event.hour >= %(since)s
     GROUP BY 1, 2, 3, meter.aggregation
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
