-- Which customers' rollovers are not what their windows say any more: an event came late, a hold
-- was released, usage was corrected. The arithmetic is metering.domain.rollover.rolled_over.
-- In: now timestamptz, most bigint. Out: one row per customer; none: all are as they must be.
SELECT DISTINCT rolled.customer_id
  FROM metering_rollover AS rolled
  LEFT JOIN metering_balance AS balance
    ON balance.customer_id = rolled.customer_id AND balance.meter_id = rolled.meter_id
   AND balance."window" = rolled."window" AND balance.start_at = rolled.start_at
  LEFT JOIN metering_grant AS given
    ON given.customer_id = rolled.customer_id AND given.id = rolled.grant_id
 WHERE rolled.expires_at > %(now)s
   AND given.voided_at IS NULL
   AND coalesce(given.quantity, 0) <> greatest(
           least(rolled.most, rolled.included - coalesce(
               balance.used - balance.grant_used + balance.held - balance.grant_held, 0)),
           coalesce(given.used + given.held, 0),
           0)
 ORDER BY 1
 LIMIT %(most)s
