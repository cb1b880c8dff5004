-- Open holds of one customer whose time is over, oldest first.
-- In:  customers bigint[], now timestamptz, most bigint. Out: what is needed to give them back.
SELECT h.customer_id, h.id, h.allocation::text
  FROM unnest(%(customers)s::bigint[]) AS w (customer_id)
 CROSS JOIN LATERAL (
      SELECT o.customer_id, o.id, o.allocation
        FROM metering_hold AS o
       WHERE o.customer_id = w.customer_id AND o.state = 'open' AND o.expires_at <= %(now)s
       ORDER BY o.expires_at
       LIMIT %(most)s) AS h
