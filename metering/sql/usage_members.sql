-- As usage.sql, for a meter that counts members: which there were, each once by bucket of time and
-- dimensions. Days and months have no members of their own, so all whole hours are read.
-- Returns rows (bucket start, dimensions as JSON text, member or null, how many): where nothing is
-- grouped by, one row a bucket with the number of different members; else each member, number 1.
WITH part AS (
    SELECT start_at AS at, dimensions - %(others)s::text[] AS dimensions, member
      FROM metering_rollupmember
     WHERE customer_id = %(customer_id)s AND meter_id = %(meter_id)s
       AND start_at >= %(whole_from)s AND start_at < %(whole_to)s
    UNION ALL
    SELECT to_timestamp((delta ->> 2)::bigint), (delta -> 3) - %(others)s::text[], each.member
      FROM metering_usagebatch AS batch, jsonb_array_elements(batch.deltas) AS delta,
           jsonb_array_elements_text(nullif(delta -> 7, 'null')) AS each (member)
     WHERE (batch.customers IS NULL OR %(customer_id)s = ANY (batch.customers))
       AND (delta ->> 0)::bigint = %(customer_id)s AND (delta ->> 1)::int = %(meter_id)s
       AND to_timestamp((delta ->> 2)::bigint) >= %(whole_from)s
       AND to_timestamp((delta ->> 2)::bigint) < %(whole_to)s
    UNION ALL
    SELECT occurred_at,
           CASE WHEN %(dimensions)s::text[] = '{}' THEN '{}' ELSE (
               SELECT coalesce(jsonb_object_agg(name, event.properties -> name), '{}')
                 FROM unnest(%(dimensions)s::text[]) AS name
                WHERE event.properties ? name AND name = ANY (coalesce(
                    (SELECT version.dimensions::text[]
                       FROM metering_meterversion AS version
                      WHERE version.meter_id = %(meter_id)s
                        AND version.effective_at <= event.occurred_at
                      ORDER BY version.effective_at DESC
                      LIMIT 1), %(first)s::text[]))) END,
           usage ->> %(meter_id)s::text
      FROM metering_effectiveevent AS event
     WHERE customer_id = %(customer_id)s AND usage ? %(meter_id)s::text
       AND (occurred_at >= %(head_from)s AND occurred_at < %(head_to)s
            AND hour > %(head_from)s - interval '1 hour' AND hour < %(head_to)s
            OR occurred_at >= %(tail_from)s AND occurred_at < %(tail_to)s
            AND hour > %(tail_from)s - interval '1 hour' AND hour < %(tail_to)s)
), placed AS (
    SELECT date_trunc(%(bucket)s, at, 'UTC') AS start_at,
           CASE WHEN %(dimensions)s::text[] <> '{}' THEN dimensions ELSE '{}' END AS dimensions,
           member
      FROM part
)
SELECT start_at, dimensions::text,
       CASE WHEN %(dimensions)s::text[] <> '{}' THEN member END, count(DISTINCT member)
  FROM placed
 GROUP BY 1, 2, 3
