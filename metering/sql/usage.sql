-- As usage_total.sql, by bucket of time and by dimensions.
-- %(bucket)s is what date_trunc takes, in UTC; %(dimensions)s the names to group by (text[]).
-- Returns rows (bucket start, dimensions as JSON text, quantity); the dimensions of the ragged
-- edges are the events' own properties, which the caller still has to turn into text.
WITH part AS (
    SELECT start_at AS at, dimensions AS properties, quantity
      FROM metering_rollup
     WHERE customer_id = %(customer_id)s AND meter_id = %(meter_id)s
       AND start_at >= %(whole_from)s AND start_at < %(whole_to)s
    UNION ALL
    SELECT to_timestamp((delta ->> 2)::bigint), delta -> 3, (delta ->> 4)::bigint
      FROM metering_usagebatch AS batch, jsonb_array_elements(batch.deltas) AS delta
     WHERE (delta ->> 0)::bigint = %(customer_id)s AND (delta ->> 1)::int = %(meter_id)s
       AND to_timestamp((delta ->> 2)::bigint) >= %(whole_from)s
       AND to_timestamp((delta ->> 2)::bigint) < %(whole_to)s
    UNION ALL
    SELECT occurred_at, properties, (usage ->> %(meter_id)s::text)::bigint
      FROM metering_usageevent
     WHERE customer_id = %(customer_id)s AND usage ? %(meter_id)s::text
       AND occurred_at >= %(start_at)s AND occurred_at < %(head_to)s
    UNION ALL
    SELECT occurred_at, properties, (usage ->> %(meter_id)s::text)::bigint
      FROM metering_usageevent
     WHERE customer_id = %(customer_id)s AND usage ? %(meter_id)s::text
       AND occurred_at >= %(whole_to)s AND occurred_at < %(end_at)s
)
SELECT date_trunc(%(bucket)s, part.at, 'UTC') AS start_at,
       (SELECT jsonb_object_agg(name, part.properties -> name)
          FROM unnest(%(dimensions)s::text[]) AS name
         WHERE part.properties ? name)::text  AS dimensions,
       sum(part.quantity)                     AS quantity
  FROM part
 GROUP BY 1, 2
 ORDER BY 1, 2
