-- I2: granted − used − held ≥ 0: no window takes more from grants than grants gave, and no grant
-- gives more than it has. (Overage itself is no fault: what was reported after the fact happened.)
-- For the customers %(customers)s (bigint[]). Rows: customer, meter, Σ used of grants, Σ paid by
-- grants in windows. One snapshot.
SELECT coalesce(given.customer_id, taken.customer_id),
       coalesce(given.meter_id, taken.meter_id),
       coalesce(given.used, 0)::bigint,
       coalesce(taken.used, 0)::bigint
  FROM (SELECT customer_id, meter_id, sum(used) AS used
          FROM metering_grant WHERE customer_id = ANY (%(customers)s)
         GROUP BY 1, 2) AS given
  FULL JOIN
       (SELECT customer_id, meter_id, sum(grant_used) AS used
          FROM metering_balance WHERE customer_id = ANY (%(customers)s)
         GROUP BY 1, 2) AS taken
    ON taken.customer_id = given.customer_id AND taken.meter_id = given.meter_id
 WHERE coalesce(given.used, 0) <> coalesce(taken.used, 0)
 ORDER BY 1, 2
