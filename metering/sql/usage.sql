-- As usage_total.sql, by bucket of time and by dimensions.
-- %(bucket)s is what date_trunc takes, in UTC; %(dimensions)s the names to group by (text[]), and
-- %(others)s those that are left out of the buckets'; %(first)s the dimensions of the meter's first
-- version: what an event is grouped by are those of the version of its time.
-- Returns one row: JSON text, an array of [bucket start in Unix seconds, dimensions as JSON text,
-- quantity, time of the latest in microseconds], which is read faster than thousands of rows; null
-- where there is none. Groups may come in parts: the dimensions of the ragged edges are the events'
-- own properties, which the caller still has to turn into text. Without ragged edges the parts
-- between `-- [edge` and `-- ]` are left out: to plan them costs more than all the rest.
WITH reach AS MATERIALIZED (
    SELECT greatest(%(day_from)s,
                    least(%(day_to)s, coalesce(max(days_to), '-infinity')))     AS days_to,
           greatest(%(month_from)s,
                    least(%(month_to)s, coalesce(max(months_to), '-infinity'))) AS months_to
      FROM metering_rollupreach
     WHERE slot = (%(customer_id)s & 63)
), bucketed AS (
    SELECT start_at AS at, dimensions, quantity, latest_at
      FROM metering_rollupmonth
     WHERE customer_id = %(customer_id)s AND meter_id = %(meter_id)s
       AND start_at >= %(month_from)s AND start_at < (SELECT months_to FROM reach)
    UNION ALL
    SELECT start_at, dimensions, quantity, latest_at
      FROM metering_rollupday
     WHERE customer_id = %(customer_id)s AND meter_id = %(meter_id)s
       AND start_at >= %(day_from)s
       AND start_at < (SELECT least(%(month_from)s, days_to) FROM reach)
    UNION ALL
    SELECT start_at, dimensions, quantity, latest_at
      FROM metering_rollupday
     WHERE customer_id = %(customer_id)s AND meter_id = %(meter_id)s
       AND start_at >= (SELECT months_to FROM reach) AND start_at < (SELECT days_to FROM reach)
    UNION ALL
    SELECT start_at, dimensions, quantity, latest_at
      FROM metering_rollup
     WHERE customer_id = %(customer_id)s AND meter_id = %(meter_id)s
       AND start_at >= %(whole_from)s AND start_at < %(day_from)s
    UNION ALL
    SELECT start_at, dimensions, quantity, latest_at
      FROM metering_rollup
     WHERE customer_id = %(customer_id)s AND meter_id = %(meter_id)s
       AND start_at >= (SELECT days_to FROM reach) AND start_at < %(whole_to)s
    UNION ALL
    SELECT to_timestamp((delta ->> 2)::bigint), delta -> 3, (delta ->> 4)::bigint,
           timestamptz 'epoch' + (delta ->> 6)::bigint * interval '1 microsecond'
      FROM metering_usagebatch AS batch, jsonb_array_elements(batch.deltas) AS delta
     WHERE (batch.customers IS NULL OR %(customer_id)s = ANY (batch.customers))
       AND (delta ->> 0)::bigint = %(customer_id)s AND (delta ->> 1)::int = %(meter_id)s
       AND to_timestamp((delta ->> 2)::bigint) >= %(whole_from)s
       AND to_timestamp((delta ->> 2)::bigint) < %(whole_to)s
)
-- [edge
, edge AS (
    SELECT occurred_at AS at, properties, (usage ->> %(meter_id)s::text)::bigint * %(head_sign)s
           AS quantity
      FROM metering_effectiveevent
     WHERE customer_id = %(customer_id)s AND usage ? %(meter_id)s::text
       AND occurred_at >= %(head_from)s AND occurred_at < %(head_to)s
       AND hour > %(head_from)s - interval '1 hour' AND hour < %(head_to)s
    UNION ALL
    SELECT occurred_at, properties, (usage ->> %(meter_id)s::text)::bigint * %(tail_sign)s
      FROM metering_effectiveevent
     WHERE customer_id = %(customer_id)s AND usage ? %(meter_id)s::text
       AND occurred_at >= %(tail_from)s AND occurred_at < %(tail_to)s
       AND hour > %(tail_from)s - interval '1 hour' AND hour < %(tail_to)s
)
-- ]
, part AS (
    SELECT at, CASE WHEN %(others)s::text[] = '{}' THEN dimensions
                    ELSE dimensions - %(others)s::text[] END AS dimensions, quantity, latest_at
      FROM bucketed
-- [edge
    UNION ALL
    SELECT at,
           CASE WHEN %(dimensions)s::text[] = '{}' THEN '{}' ELSE (
               SELECT coalesce(jsonb_object_agg(name, edge.properties -> name), '{}')
                 FROM unnest(%(dimensions)s::text[]) AS name
                WHERE edge.properties ? name AND name = ANY (coalesce(
                    (SELECT version.dimensions::text[]
                       FROM metering_meterversion AS version
                      WHERE version.meter_id = %(meter_id)s
                        AND version.effective_at <= edge.at
                      ORDER BY version.effective_at DESC
                      LIMIT 1), %(first)s::text[]))) END,
           quantity, at
      FROM edge
-- ]
), latest AS (
    SELECT date_trunc(%(bucket)s, at, 'UTC') AS start_at, dimensions, quantity,
           (extract(epoch FROM latest_at) * 1000000)::bigint AS latest_us
      FROM part
), bucket AS (
    SELECT start_at, dimensions,
           CASE %(aggregation)s WHEN 'max' THEN max(quantity)
                                WHEN 'latest' THEN (max(ARRAY[latest_us, quantity]))[2]
                                ELSE sum(quantity) END AS quantity,
           max(latest_us) AS latest_us
      FROM latest
     GROUP BY start_at, dimensions
)
SELECT json_agg(json_build_array(
           extract(epoch FROM start_at)::bigint, dimensions::text, quantity, latest_us))::text
  FROM bucket
