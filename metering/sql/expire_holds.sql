-- Expires every open hold of %(customer_id)s that is overdue at %(now)s, and the hold of the id
-- %(also)s where that is open and not null, and gives back to its
-- balances and grants what the hold's allocation (metering/domain/burndown.py) took from them.
-- Returns one row: how many holds. The caller has raised the customer's version before.
WITH expired AS (
    UPDATE metering_hold SET state = 'expired', closed_at = %(now)s
     WHERE customer_id = %(customer_id)s AND state = 'open'
       AND (expires_at <= %(now)s OR id = %(also)s::uuid)
    RETURNING allocation
), part AS (
    SELECT meter.key::int                            AS meter_id,
           (meter.value ->> 'q')::bigint             AS quantity,
           meter.value -> 'windows'                  AS windows,
           coalesce(meter.value -> 'grants', '{}')   AS grants
      FROM expired, jsonb_each(expired.allocation) AS meter
), freed_grant AS (
    SELECT burned.key::bigint AS id, sum(burned.value::bigint) AS quantity
      FROM part, jsonb_each_text(part.grants) AS burned
     GROUP BY 1
), freed_window AS (
    SELECT part.meter_id,
           place ->> 0                         AS unit,
           to_timestamp((place ->> 1)::bigint) AS start_at,
           sum(part.quantity)                  AS held,
           sum(CASE WHEN place ->> 0 IN ('minute', 'hour') THEN 0 ELSE (
               SELECT coalesce(sum(burned.value::bigint), 0)
                 FROM jsonb_each_text(part.grants) AS burned
           ) END)                              AS grant_held
      FROM part, jsonb_array_elements(part.windows) AS place
     GROUP BY 1, 2, 3
), grants_written AS (
    UPDATE metering_grant AS given SET held = given.held - freed_grant.quantity
      FROM freed_grant
     WHERE given.customer_id = %(customer_id)s AND given.id = freed_grant.id
), balances_written AS (
    UPDATE metering_balance AS balance
       SET held       = balance.held - freed_window.held,
           grant_held = balance.grant_held - freed_window.grant_held
      FROM freed_window
     WHERE balance.customer_id = %(customer_id)s
       AND balance.meter_id = freed_window.meter_id
       AND balance."window" = freed_window.unit
       AND balance.start_at = freed_window.start_at
)
SELECT count(*) FROM expired
