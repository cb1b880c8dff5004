-- Whether a batch that waits to be rolled up counted usage of %(customer_id)s on %(meter_id)s in
-- the hour from %(bucket_s)s (Unix seconds) and was written at %(received_at)s or later: an event
-- received then is in it or was rolled up before. Returns one row, one boolean.
SELECT EXISTS (
    SELECT
      FROM metering_usagebatch AS batch, jsonb_array_elements(batch.deltas) AS delta
     WHERE batch.created_at >= %(received_at)s
       AND (delta ->> 0)::bigint = %(customer_id)s
       AND (delta ->> 1)::int = %(meter_id)s
       AND (delta ->> 2)::bigint = %(bucket_s)s
)
