-- I3: held = Σ open holds, of every window and of every grant, by the holds' allocations.
-- For the customers %(customers)s (bigint[]).
-- Rows: customer, what it is of, held there, Σ of the open holds. One snapshot.
WITH part AS (
    SELECT hold.customer_id,
           meter.key::int                          AS meter_id,
           (meter.value ->> 'q')::bigint           AS quantity,
           meter.value -> 'windows'                AS windows,
           coalesce(meter.value -> 'grants', '{}') AS grants
      FROM metering_hold AS hold, jsonb_each(hold.allocation) AS meter
     WHERE hold.customer_id = ANY (%(customers)s) AND hold.state = 'open'
), held_in_windows AS (
    SELECT part.customer_id, part.meter_id, place ->> 0 AS unit,
           to_timestamp((place ->> 1)::bigint) AS start_at, sum(part.quantity) AS held
      FROM part, jsonb_array_elements(part.windows) AS place
     GROUP BY 1, 2, 3, 4
), held_of_grants AS (
    SELECT part.customer_id, burned.key::bigint AS id, sum(burned.value::bigint) AS held
      FROM part, jsonb_each_text(part.grants) AS burned
     GROUP BY 1, 2
)
SELECT coalesce(balance.customer_id, held.customer_id),
       format('meter %%s, %%s from %%s', coalesce(balance.meter_id, held.meter_id),
              coalesce(balance."window", held.unit), coalesce(balance.start_at, held.start_at)),
       coalesce(balance.held, 0)::bigint, coalesce(held.held, 0)::bigint
  FROM (SELECT * FROM metering_balance
         WHERE customer_id = ANY (%(customers)s) AND held <> 0) AS balance
  FULL JOIN held_in_windows AS held
    ON held.customer_id = balance.customer_id AND held.meter_id = balance.meter_id
   AND held.unit = balance."window" AND held.start_at = balance.start_at
 WHERE coalesce(balance.held, 0) <> coalesce(held.held, 0)
UNION ALL
SELECT coalesce(given.customer_id, held.customer_id),
       format('grant %%s', coalesce(given.id, held.id)),
       coalesce(given.held, 0)::bigint, coalesce(held.held, 0)::bigint
  FROM (SELECT * FROM metering_grant
         WHERE customer_id = ANY (%(customers)s) AND held <> 0) AS given
  FULL JOIN held_of_grants AS held
    ON held.customer_id = given.customer_id AND held.id = given.id
 WHERE coalesce(given.held, 0) <> coalesce(held.held, 0)
 ORDER BY 1, 2
