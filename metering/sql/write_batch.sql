-- The one write of the gate: for every customer whose version is still the one decided on, all
-- that its calls change; for the others, nothing.
-- In:  customers JSON [{customer_id, version, writes}] sorted by id: what was decided on;
--      catalogue bigint: the catalogue's version decided on; ids JSON [{customer_id, id}]: ids
--      that must not have been used; horizon date: oldest month of receipt in which an id is
--      looked for; and JSON lists of rows: balances, new_balances, grants, events, holds,
--      closings, denials, deltas. now timestamptz, month date.
-- Out: one row: the catalogue's version, the customers whose version held. A customer that is
--      missing was changed in between, or one of its ids was used before: read it again, decide
--      again. Rows of one customer are written all or none.
-- Guarded: raises accounts_customerversion with every write.
WITH catalogue AS (
    SELECT version FROM accounts_catalogueversion
), proposal AS MATERIALIZED (
    SELECT p.customer_id, p.version, p.writes
      FROM json_to_recordset(%(customers)s::json)
           AS p (customer_id bigint, version bigint, writes boolean)
     WHERE (SELECT version FROM catalogue) = %(catalogue)s::bigint
), used_before AS MATERIALIZED (
    -- Scalar and not EXISTS: PostgreSQL would hash both tables whole for EXISTS ... OR EXISTS.
    SELECT DISTINCT n.customer_id
      FROM json_to_recordset(%(ids)s::json) AS n (customer_id bigint, id uuid)
     WHERE (SELECT true FROM metering_hold AS h
             WHERE h.customer_id = n.customer_id AND h.id = n.id LIMIT 1)
        OR (SELECT true FROM metering_usageevent AS u
             WHERE u.customer_id = n.customer_id AND u.id = n.id
               AND u.received_month >= %(horizon)s::date LIMIT 1)
), won AS (
    UPDATE accounts_customerversion AS v
       SET version = v.version + 1
      FROM proposal AS p
     WHERE p.writes AND v.customer_id = p.customer_id AND v.version = p.version
       AND p.customer_id NOT IN (SELECT customer_id FROM used_before)
    RETURNING v.customer_id
), held_still AS (
    SELECT v.customer_id
      FROM proposal AS p
      JOIN accounts_customerversion AS v ON v.customer_id = p.customer_id
     WHERE NOT p.writes AND v.version = p.version
       AND p.customer_id NOT IN (SELECT customer_id FROM used_before)
), updated_balances AS (
    UPDATE metering_balance AS b
       SET used = b.used + d.used,
           grant_used = b.grant_used + d.grant_used,
           held = b.held + d.held,
           grant_held = b.grant_held + d.grant_held
      FROM json_to_recordset(%(balances)s::json)
           AS d (customer_id bigint, meter_id int, "window" text, start_at timestamptz,
                 used bigint, grant_used bigint, held bigint, grant_held bigint)
      JOIN won ON won.customer_id = d.customer_id
     WHERE b.customer_id = d.customer_id AND b.meter_id = d.meter_id
       AND b."window" = d."window" AND b.start_at = d.start_at
), inserted_balances AS (
    INSERT INTO metering_balance (customer_id, meter_id, "window", start_at, end_at,
                                  used, grant_used, held, grant_held)
    SELECT d.customer_id, d.meter_id, d."window", d.start_at, d.end_at,
           d.used, d.grant_used, d.held, d.grant_held
      FROM json_to_recordset(%(new_balances)s::json)
           AS d (customer_id bigint, meter_id int, "window" text, start_at timestamptz,
                 end_at timestamptz, used bigint, grant_used bigint, held bigint,
                 grant_held bigint)
      JOIN won ON won.customer_id = d.customer_id
), updated_grants AS (
    UPDATE metering_grant AS g
       SET used = g.used + d.used, held = g.held + d.held
      FROM json_to_recordset(%(grants)s::json)
           AS d (customer_id bigint, id bigint, used bigint, held bigint)
      JOIN won ON won.customer_id = d.customer_id
     WHERE g.customer_id = d.customer_id AND g.id = d.id
), inserted_events AS (
    INSERT INTO metering_usageevent (
        customer_id, id, received_month, source, external_id, type, occurred_at, received_at,
        usage, properties, paid_by, fingerprint, answer, gateway_id, api_key_id, from_hold,
        late, over_hold)
    SELECT d.customer_id, d.id, %(month)s::date, d.source, d.external_id, d.type, d.occurred_at,
           %(now)s::timestamptz, d.usage, d.properties, d.paid_by, d.fingerprint, d.answer,
           d.gateway_id, d.api_key_id, d.from_hold, d.late, d.over_hold
      FROM json_to_recordset(%(events)s::json)
           AS d (customer_id bigint, id uuid, source text, external_id text, type text,
                 occurred_at timestamptz, usage jsonb, properties jsonb, paid_by jsonb,
                 fingerprint bigint, answer jsonb, gateway_id bigint, api_key_id bigint,
                 from_hold boolean, late boolean, over_hold boolean)
      JOIN won ON won.customer_id = d.customer_id
), inserted_holds AS (
    INSERT INTO metering_hold (
        customer_id, id, state, source, external_id, items, allocation, properties, opened_at,
        expires_at, fingerprint, answer, gateway_id, api_key_id)
    SELECT d.customer_id, d.id, 'open', d.source, d.external_id, d.items, d.allocation,
           d.properties, %(now)s::timestamptz, d.expires_at, d.fingerprint, d.answer,
           d.gateway_id, d.api_key_id
      FROM json_to_recordset(%(holds)s::json)
           AS d (customer_id bigint, id uuid, source text, external_id text, items jsonb,
                 allocation jsonb, properties jsonb, expires_at timestamptz, fingerprint bigint,
                 answer jsonb, gateway_id bigint, api_key_id bigint)
      JOIN won ON won.customer_id = d.customer_id
), closed_holds AS (
    UPDATE metering_hold AS h
       SET state = d.state,
           expires_at = coalesce(d.expires_at, h.expires_at),
           closed_at = CASE WHEN d.state = 'open' THEN NULL ELSE %(now)s::timestamptz END,
           closing = coalesce(d.closing, h.closing),
           closing_fingerprint = coalesce(d.closing_fingerprint, h.closing_fingerprint)
      FROM json_to_recordset(%(closings)s::json)
           AS d (customer_id bigint, id uuid, state text, expires_at timestamptz, closing jsonb,
                 closing_fingerprint bigint)
      JOIN won ON won.customer_id = d.customer_id
     WHERE h.customer_id = d.customer_id AND h.id = d.id
), inserted_denials AS (
    INSERT INTO metering_denial AS old (
        customer_id, id, code, meter, api_key_id, gateway_id, first_at, last_at, count,
        requested, problem)
    SELECT d.customer_id, d.id, d.code, d.meter, d.api_key_id, d.gateway_id,
           %(now)s::timestamptz, %(now)s::timestamptz, d.count, d.requested, d.problem
      FROM json_to_recordset(%(denials)s::json)
           AS d (customer_id bigint, id uuid, code text, meter text, api_key_id bigint,
                 gateway_id bigint, count bigint, requested bigint, problem jsonb)
     WHERE d.customer_id IN (SELECT customer_id FROM won
                             UNION ALL SELECT customer_id FROM held_still)
     ORDER BY d.customer_id, d.id
    ON CONFLICT (customer_id, id) DO UPDATE
       SET count = old.count + EXCLUDED.count, last_at = EXCLUDED.last_at
), batch AS (
    INSERT INTO metering_usagebatch (created_at, deltas)
    SELECT %(now)s::timestamptz,
           jsonb_agg(jsonb_build_array(d.customer_id, d.meter_id, d.start_s, d.dimensions,
                                       d.quantity, d.events))
      FROM json_to_recordset(%(deltas)s::json)
           AS d (customer_id bigint, meter_id int, start_s bigint, dimensions jsonb,
                 quantity bigint, events bigint)
      JOIN won ON won.customer_id = d.customer_id
    HAVING count(*) > 0
)
SELECT (SELECT version FROM catalogue),
       ARRAY(SELECT customer_id FROM won UNION ALL SELECT customer_id FROM held_still)
