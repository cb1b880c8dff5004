-- The next %(limit)s events received in [%(month)s, %(end)s) (dates), in the order of their key,
-- after (%(after_customer)s, %(after_id)s); each as JSON with all its columns, and its corrections. Rows: customer, id, text. One snapshot.
SELECT event.customer_id, event.id,
       (to_jsonb(event) - 'hour' || jsonb_build_object('corrections', (
           SELECT coalesce(jsonb_agg(to_jsonb(fix) ORDER BY fix.number), '[]')
             FROM metering_correction AS fix
            WHERE fix.customer_id = event.customer_id AND fix.event_id = event.id
              AND fix.received_month = event.received_month)))::text
  FROM metering_reportedevent AS event
 WHERE event.received_month >= %(month)s AND event.received_month < %(end)s
   AND (event.customer_id, event.id) > (%(after_customer)s::bigint, %(after_id)s::uuid)
 ORDER BY event.customer_id, event.id
 LIMIT %(limit)s
