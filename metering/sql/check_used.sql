-- I1: used = Σ events of the window. For the customers %(customers)s (bigint[]) and the windows
-- that end after %(since)s; of windows of an hour or less only those that last at %(now)s.
-- Rows: customer, meter, window, anchor, start, end, used, Σ events. One snapshot. The caller
-- leaves out rows whose window is not one of the entitlement's.
SELECT balance.customer_id, balance.meter_id, balance."window", entitlement.anchor_at,
       balance.start_at, balance.end_at, balance.used, coalesce(counted.quantity, 0)::bigint
  FROM metering_balance AS balance
  JOIN metering_entitlement AS entitlement
    ON entitlement.customer_id = balance.customer_id AND entitlement.kind = 'metered'
   AND entitlement.meter_id = balance.meter_id AND entitlement."window" = balance."window"
   AND balance.end_at > entitlement.starts_at
   AND (entitlement.ends_at IS NULL OR balance.start_at < entitlement.ends_at)
 CROSS JOIN LATERAL (
    SELECT sum((event.usage ->> balance.meter_id::text)::bigint) AS quantity
      FROM metering_usageevent AS event
     WHERE event.customer_id = balance.customer_id
       AND event.occurred_at < balance.end_at
       AND (event.occurred_at >= balance.start_at OR balance."window" = 'lifetime')
 ) AS counted
 WHERE balance.customer_id = ANY (%(customers)s)
   AND balance.end_at > CASE WHEN balance."window" IN ('minute', 'hour')
                             THEN %(now)s::timestamptz ELSE %(since)s::timestamptz END
   AND balance.used <> coalesce(counted.quantity, 0)
 ORDER BY 1, 2, 3, 5
