-- What the events themselves say, whatever was rolled up: how many effective events of the customer
-- %(customer_id)s with `occurred_at` in [%(start_at)s, %(end_at)s) count on the meter %(meter_id)s,
-- and what they come to: their sum, the greatest, the latest or the number of different ones, by the
-- meter's aggregation. One row (events, quantity). Reads every event of the span.
SELECT count(*),
       coalesce(CASE meter.aggregation
           WHEN 'max' THEN max(reading.quantity)
           WHEN 'latest' THEN (max(ARRAY[(extract(epoch FROM event.occurred_at) * 1000000)::bigint,
                                         reading.quantity]))[2]
           WHEN 'unique' THEN count(DISTINCT event.usage ->> meter.id::text)
           ELSE sum(reading.quantity) END, 0)::bigint
  FROM metering_meter AS meter
  JOIN metering_effectiveevent AS event
    ON event.customer_id = %(customer_id)s AND event.usage ? meter.id::text
   AND event.occurred_at >= %(start_at)s AND event.occurred_at < %(end_at)s
   AND event.hour > %(start_at)s - interval '1 hour' AND event.hour < %(end_at)s
 CROSS JOIN LATERAL (
     SELECT CASE WHEN meter.aggregation <> 'unique'
                 THEN (event.usage ->> meter.id::text)::bigint END AS quantity
 ) AS reading
 WHERE meter.id = %(meter_id)s
 GROUP BY meter.aggregation
