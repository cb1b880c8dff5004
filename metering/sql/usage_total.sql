-- Usage of some meters of one customer with occurred_at in a span, exact whatever part of it has
-- been rolled up: one statement is one snapshot, in which a batch is either waiting or in the
-- rollups. Returns a row (meter_id, number) for each of %(meter_ids)s that was used: by
-- %(aggregation)s, which all of them have, the sum, the greatest or the latest. Meters that count
-- members are usage_members.sql's.
-- The span comes from the coarsest level that fits each part: months in [month_from, month_to) and
-- days in [day_from, day_to) as far as they reach, hours and waiting batches in the rest of
-- [whole_from, whole_to), and the ragged edges [head_from, head_to) and [tail_from, tail_to) from
-- the events, added (sign 1) or, where the whole hour was counted, taken off (sign -1). Without
-- ragged edges the part between `-- [edge` and `-- ]` is left out, and not planned either.
WITH reach AS MATERIALIZED (
    SELECT greatest(%(day_from)s,
                    least(%(day_to)s, coalesce(max(days_to), '-infinity')))     AS days_to,
           greatest(%(month_from)s,
                    least(%(month_to)s, coalesce(max(months_to), '-infinity'))) AS months_to
      FROM metering_rollupreach
     WHERE slot = (%(customer_id)s & 63)
), part AS (
    SELECT meter_id, quantity, latest_at
      FROM metering_rollupmonth
     WHERE customer_id = %(customer_id)s AND meter_id = ANY (%(meter_ids)s)
       AND start_at >= %(month_from)s AND start_at < (SELECT months_to FROM reach)
    UNION ALL
    SELECT meter_id, quantity, latest_at
      FROM metering_rollupday
     WHERE customer_id = %(customer_id)s AND meter_id = ANY (%(meter_ids)s)
       AND start_at >= %(day_from)s
       AND start_at < (SELECT least(%(month_from)s, days_to) FROM reach)
    UNION ALL
    SELECT meter_id, quantity, latest_at
      FROM metering_rollupday
     WHERE customer_id = %(customer_id)s AND meter_id = ANY (%(meter_ids)s)
       AND start_at >= (SELECT months_to FROM reach) AND start_at < (SELECT days_to FROM reach)
    UNION ALL
    SELECT meter_id, quantity, latest_at
      FROM metering_rollup
     WHERE customer_id = %(customer_id)s AND meter_id = ANY (%(meter_ids)s)
       AND start_at >= %(whole_from)s AND start_at < %(day_from)s
    UNION ALL
    SELECT meter_id, quantity, latest_at
      FROM metering_rollup
     WHERE customer_id = %(customer_id)s AND meter_id = ANY (%(meter_ids)s)
       AND start_at >= (SELECT days_to FROM reach) AND start_at < %(whole_to)s
    UNION ALL
    SELECT (delta ->> 1)::int, (delta ->> 4)::bigint,
           timestamptz 'epoch' + (delta ->> 6)::bigint * interval '1 microsecond'
      FROM metering_usagebatch AS batch, jsonb_array_elements(batch.deltas) AS delta
     WHERE (batch.customers IS NULL OR %(customer_id)s = ANY (batch.customers))
       AND (delta ->> 0)::bigint = %(customer_id)s
       AND (delta ->> 1)::int = ANY (%(meter_ids)s)
       AND to_timestamp((delta ->> 2)::bigint) >= %(whole_from)s
       AND to_timestamp((delta ->> 2)::bigint) < %(whole_to)s
-- [edge
    UNION ALL
    SELECT counted.key::int, counted.value::bigint * %(head_sign)s, event.occurred_at
      FROM metering_effectiveevent AS event, jsonb_each_text(event.usage) AS counted
     WHERE event.customer_id = %(customer_id)s AND counted.key::int = ANY (%(meter_ids)s)
       AND event.occurred_at >= %(head_from)s AND event.occurred_at < %(head_to)s
       AND event.hour > %(head_from)s - interval '1 hour' AND event.hour < %(head_to)s
    UNION ALL
    SELECT counted.key::int, counted.value::bigint * %(tail_sign)s, event.occurred_at
      FROM metering_effectiveevent AS event, jsonb_each_text(event.usage) AS counted
     WHERE event.customer_id = %(customer_id)s AND counted.key::int = ANY (%(meter_ids)s)
       AND event.occurred_at >= %(tail_from)s AND event.occurred_at < %(tail_to)s
       AND event.hour > %(tail_from)s - interval '1 hour' AND event.hour < %(tail_to)s
-- ]
)
SELECT meter_id,
       CASE %(aggregation)s
           WHEN 'max' THEN max(quantity)
           WHEN 'latest' THEN (max(ARRAY[(extract(epoch FROM latest_at) * 1000000)::bigint,
                                         quantity]))[2]
           ELSE sum(quantity) END
  FROM part
 GROUP BY meter_id
