-- The earliest moment whose usage was put right since a time: %(customers)s and %(since)s are arrays
-- of the same length. Returns (customer_id, moment) where there is one. Of a backfill that is still
-- being applied more may come at any moment.
SELECT asked.customer_id, least(fixed.first, supplied.first)
  FROM unnest(%(customers)s::bigint[], %(since)s::timestamptz[]) AS asked (customer_id, since)
 CROSS JOIN LATERAL (
    SELECT min(occurred_at) AS first
      FROM metering_correction
     WHERE customer_id = asked.customer_id AND at >= asked.since
 ) AS fixed
 CROSS JOIN LATERAL (
    SELECT min(start_at) AS first
      FROM metering_backfill
     WHERE customers @> ARRAY[asked.customer_id] AND closing_at IS NOT NULL
       AND (closed_at IS NULL OR closed_at >= asked.since)
 ) AS supplied
 WHERE least(fixed.first, supplied.first) IS NOT NULL
