-- usage_total.sql for several meters of one customer at once, all of which add up (sum, count):
-- one statement, one snapshot. Returns a row (meter_id, number) for each of %(meter_ids)s that was
-- used. The parts of the span are those of usage_total.sql.
WITH reach AS MATERIALIZED (
    SELECT greatest(%(day_from)s,
                    least(%(day_to)s, coalesce(max(days_to), '-infinity')))     AS days_to,
           greatest(%(month_from)s,
                    least(%(month_to)s, coalesce(max(months_to), '-infinity'))) AS months_to
      FROM metering_rollupreach
     WHERE slot = (%(customer_id)s & 63)
), part AS (
    SELECT meter_id, quantity
      FROM metering_rollupmonth
     WHERE customer_id = %(customer_id)s AND meter_id = ANY (%(meter_ids)s)
       AND start_at >= %(month_from)s AND start_at < (SELECT months_to FROM reach)
    UNION ALL
    SELECT meter_id, quantity
      FROM metering_rollupday
     WHERE customer_id = %(customer_id)s AND meter_id = ANY (%(meter_ids)s)
       AND start_at >= %(day_from)s
       AND start_at < (SELECT least(%(month_from)s, days_to) FROM reach)
    UNION ALL
    SELECT meter_id, quantity
      FROM metering_rollupday
     WHERE customer_id = %(customer_id)s AND meter_id = ANY (%(meter_ids)s)
       AND start_at >= (SELECT months_to FROM reach) AND start_at < (SELECT days_to FROM reach)
    UNION ALL
    SELECT meter_id, quantity
      FROM metering_rollup
     WHERE customer_id = %(customer_id)s AND meter_id = ANY (%(meter_ids)s)
       AND start_at >= %(whole_from)s AND start_at < %(day_from)s
    UNION ALL
    SELECT meter_id, quantity
      FROM metering_rollup
     WHERE customer_id = %(customer_id)s AND meter_id = ANY (%(meter_ids)s)
       AND start_at >= (SELECT days_to FROM reach) AND start_at < %(whole_to)s
    UNION ALL
    SELECT (delta ->> 1)::int, (delta ->> 4)::bigint
      FROM metering_usagebatch AS batch, jsonb_array_elements(batch.deltas) AS delta
     WHERE (batch.customers IS NULL OR %(customer_id)s = ANY (batch.customers))
       AND (delta ->> 0)::bigint = %(customer_id)s
       AND (delta ->> 1)::int = ANY (%(meter_ids)s)
       AND to_timestamp((delta ->> 2)::bigint) >= %(whole_from)s
       AND to_timestamp((delta ->> 2)::bigint) < %(whole_to)s
    UNION ALL
    SELECT counted.key::int, counted.value::bigint * %(head_sign)s
      FROM metering_effectiveevent AS event, jsonb_each_text(event.usage) AS counted
     WHERE event.customer_id = %(customer_id)s AND counted.key::int = ANY (%(meter_ids)s)
       AND event.occurred_at >= %(head_from)s AND event.occurred_at < %(head_to)s
    UNION ALL
    SELECT counted.key::int, counted.value::bigint * %(tail_sign)s
      FROM metering_effectiveevent AS event, jsonb_each_text(event.usage) AS counted
     WHERE event.customer_id = %(customer_id)s AND counted.key::int = ANY (%(meter_ids)s)
       AND event.occurred_at >= %(tail_from)s AND event.occurred_at < %(tail_to)s
)
SELECT meter_id, sum(quantity) FROM part GROUP BY meter_id
