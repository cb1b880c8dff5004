-- As usage_total.sql, of several customers, meters and spans: one statement is one snapshot for all
-- of them. %(asked)s is JSON, a row for each customer and span: its `place`, `customer_id`,
-- `meter_ids` (all of which add up) and the parts of the span. Returns a row (place, meter_id,
-- number) for each meter that was used.
-- Batches that wait are taken apart once, whoever asks.
WITH asked AS MATERIALIZED (
    SELECT asked.*,
           greatest(day_from, least(day_to, coalesce(reach.days_to, '-infinity')))         AS days_to,
           greatest(month_from, least(month_to, coalesce(reach.months_to, '-infinity'))) AS months_to
      FROM json_to_recordset(%(asked)s::json) AS asked (
               place int, customer_id bigint, meter_ids int[],
               whole_from timestamptz, whole_to timestamptz,
               day_from timestamptz, day_to timestamptz,
               month_from timestamptz, month_to timestamptz,
               head_from timestamptz, head_to timestamptz, head_sign int,
               tail_from timestamptz, tail_to timestamptz, tail_sign int)
      LEFT JOIN metering_rollupreach AS reach ON reach.slot = (asked.customer_id & 63)
), waiting AS MATERIALIZED (
    SELECT (delta ->> 0)::bigint AS customer_id, (delta ->> 1)::int AS meter_id,
           to_timestamp((delta ->> 2)::bigint) AS start_at, (delta ->> 4)::bigint AS quantity
      FROM metering_usagebatch AS batch, jsonb_array_elements(batch.deltas) AS delta
     WHERE batch.customers IS NULL OR batch.customers && ARRAY(SELECT customer_id FROM asked)
), part AS (
    SELECT asked.place, found.meter_id, found.quantity
      FROM asked
     CROSS JOIN LATERAL (
        SELECT meter_id, quantity
          FROM metering_rollupmonth
         WHERE customer_id = asked.customer_id AND meter_id = ANY (asked.meter_ids)
           AND start_at >= asked.month_from AND start_at < asked.months_to
        UNION ALL
        SELECT meter_id, quantity
          FROM metering_rollupday
         WHERE customer_id = asked.customer_id AND meter_id = ANY (asked.meter_ids)
           AND start_at >= asked.day_from AND start_at < least(asked.month_from, asked.days_to)
        UNION ALL
        SELECT meter_id, quantity
          FROM metering_rollupday
         WHERE customer_id = asked.customer_id AND meter_id = ANY (asked.meter_ids)
           AND start_at >= asked.months_to AND start_at < asked.days_to
        UNION ALL
        SELECT meter_id, quantity
          FROM metering_rollup
         WHERE customer_id = asked.customer_id AND meter_id = ANY (asked.meter_ids)
           AND start_at >= asked.whole_from AND start_at < asked.day_from
        UNION ALL
        SELECT meter_id, quantity
          FROM metering_rollup
         WHERE customer_id = asked.customer_id AND meter_id = ANY (asked.meter_ids)
           AND start_at >= asked.days_to AND start_at < asked.whole_to
        UNION ALL
        SELECT counted.key::int, counted.value::bigint * edge.sign
          FROM (VALUES (asked.head_from, asked.head_to, asked.head_sign),
                       (asked.tail_from, asked.tail_to, asked.tail_sign))
               AS edge (from_at, to_at, sign)
          JOIN metering_effectiveevent AS event
            ON event.occurred_at >= edge.from_at AND event.occurred_at < edge.to_at
           AND event.hour > edge.from_at - interval '1 hour' AND event.hour < edge.to_at
         CROSS JOIN LATERAL jsonb_each_text(event.usage) AS counted
         WHERE event.customer_id = asked.customer_id
           AND counted.key::int = ANY (asked.meter_ids)
     ) AS found
    UNION ALL
    SELECT asked.place, waiting.meter_id, waiting.quantity
      FROM waiting
      JOIN asked ON asked.customer_id = waiting.customer_id
                AND waiting.meter_id = ANY (asked.meter_ids)
                AND waiting.start_at >= asked.whole_from AND waiting.start_at < asked.whole_to
)
SELECT place, meter_id, sum(quantity)
  FROM part
 GROUP BY place, meter_id
