-- I1: used = what the effective events of the window come to: their sum, the greatest, the latest or
-- the number of different ones, by the meter's aggregation. For the customers %(customers)s
-- (bigint[]) and the windows that end after %(since)s; of windows of an hour or less only those that
-- last at %(now)s, and none that began before %(gone)s, before which events were dropped.
-- Rows: customer, meter, window, anchor, start, end, used, what the events come to. One snapshot.
-- The caller leaves out rows whose window is not one of the entitlement's.
SELECT balance.customer_id, balance.meter_id, balance."window", entitlement.anchor_at,
       balance.start_at, balance.end_at, balance.used, coalesce(counted.quantity, 0)::bigint
  FROM metering_balance AS balance
  JOIN metering_entitlement AS entitlement
    ON entitlement.customer_id = balance.customer_id AND entitlement.kind = 'metered'
   AND entitlement.meter_id = balance.meter_id AND entitlement."window" = balance."window"
   AND balance.end_at > entitlement.starts_at
   AND (entitlement.ends_at IS NULL OR balance.start_at < entitlement.ends_at)
  JOIN metering_meter AS meter ON meter.id = balance.meter_id
 CROSS JOIN LATERAL (
    SELECT CASE meter.aggregation
               WHEN 'max' THEN max(reading.quantity)
               WHEN 'latest' THEN (max(ARRAY[(extract(epoch FROM event.occurred_at)
                                              * 1000000)::bigint, reading.quantity]))[2]
               WHEN 'unique' THEN count(DISTINCT event.usage ->> meter.id::text)
               ELSE sum(reading.quantity) END AS quantity
      FROM metering_effectiveevent AS event
     CROSS JOIN LATERAL (
         SELECT CASE WHEN meter.aggregation <> 'unique'
                     THEN (event.usage ->> meter.id::text)::bigint END AS quantity
     ) AS reading
     WHERE event.customer_id = balance.customer_id AND event.usage ? meter.id::text
       AND event.hour < balance.end_at AND event.occurred_at < balance.end_at
       AND (event.occurred_at >= balance.start_at OR balance."window" = 'lifetime')
 ) AS counted
 WHERE balance.customer_id = ANY (%(customers)s)
   AND balance.end_at > CASE WHEN balance."window" IN ('minute', 'hour')
                             THEN %(now)s::timestamptz ELSE %(since)s::timestamptz END
   AND (%(gone)s::timestamptz IS NULL
        OR (balance.start_at >= %(gone)s::timestamptz AND balance."window" <> 'lifetime'))
   AND balance.used <> coalesce(counted.quantity, 0)
 ORDER BY 1, 2, 3, 5
