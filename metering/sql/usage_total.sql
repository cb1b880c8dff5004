-- Σ usage of one meter of one customer with occurred_at in [start_at, end_at), exact whatever part
-- of it has been rolled up: one statement is one snapshot, in which a batch is either waiting or
-- in the rollups. Returns one row, one number (null where there is none).
-- %(whole_from)s and %(whole_to)s are the whole hours inside: they come from rollups and waiting
-- batches; the ragged edges [start_at, head_to) and [whole_to, end_at) from the events themselves.
SELECT sum(part.quantity)
  FROM (
    SELECT quantity
      FROM metering_rollup
     WHERE customer_id = %(customer_id)s AND meter_id = %(meter_id)s
       AND start_at >= %(whole_from)s AND start_at < %(whole_to)s
    UNION ALL
    SELECT (delta ->> 4)::bigint
      FROM metering_usagebatch AS batch, jsonb_array_elements(batch.deltas) AS delta
     WHERE (delta ->> 0)::bigint = %(customer_id)s AND (delta ->> 1)::int = %(meter_id)s
       AND to_timestamp((delta ->> 2)::bigint) >= %(whole_from)s
       AND to_timestamp((delta ->> 2)::bigint) < %(whole_to)s
    UNION ALL
    SELECT (usage ->> %(meter_id)s::text)::bigint
      FROM metering_usageevent
     WHERE customer_id = %(customer_id)s
       AND occurred_at >= %(start_at)s AND occurred_at < %(head_to)s
    UNION ALL
    SELECT (usage ->> %(meter_id)s::text)::bigint
      FROM metering_usageevent
     WHERE customer_id = %(customer_id)s
       AND occurred_at >= %(whole_to)s AND occurred_at < %(end_at)s
  ) AS part
