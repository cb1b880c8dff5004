-- The one write of the gate: for every customer whose version is still the one decided on, all
-- that its calls change; for the others, nothing. Parts between `-- [name` and `-- ]` are left out
-- where a batch has nothing for them.
-- In:  writers_c, _v arrays: customers that are written, in their order, and the versions decided
--      on; written int: how many they are; readers_c, _v: those that are only answered; catalogue
--      bigint: the catalogue's version decided on; ids_c, _v arrays: ids that must not have been
--      used; horizon date: oldest month of receipt in which an id is looked for; rows as
--      metering/gate/rows.py names their members, those of events and balances an array a column,
--      of which one that is empty is all null, others JSON lists, the origins of events those that
--      may not be there yet; deltas JSON of the batch to be rolled up (UsageBatch),
--      counted_customers bigint[] those in it; now timestamptz, month date; apart interval: how
--      far `now` may be from the database's clock.
-- Out: one row: the catalogue's version, the customers whose version held, by how many seconds
--      `now` is ahead. A customer that is missing was changed in between, or one of its ids was
--      used before: read it again, decide again. Rows of one customer are written all or none.
--      No version: `now` is too far off, nothing was written, and nobody may be answered.
-- Guarded: raises accounts_customerversion with every write.
WITH catalogue AS (
    SELECT version FROM accounts_catalogueversion
     WHERE %(now)s::timestamptz BETWEEN now() - %(apart)s::interval AND now() + %(apart)s::interval
), used_before AS MATERIALIZED (
    SELECT 0::bigint AS customer_id WHERE false
-- [ids
    -- Scalar and not EXISTS: PostgreSQL would hash both tables whole for EXISTS ... OR EXISTS.
    UNION ALL
    SELECT n.c
      FROM unnest(%(ids_c)s::bigint[], %(ids_v)s::uuid[]) AS n (c, i)
     WHERE (SELECT true FROM metering_hold AS h
             WHERE h.customer_id = n.c AND h.id = n.i LIMIT 1)
        OR (SELECT true FROM metering_usageevent AS u
             WHERE u.customer_id = n.c AND u.id = n.i
               AND u.received_month >= %(horizon)s::date
               -- The next month too: a gate whose clock is a little ahead is there already.
               AND u.received_month <= %(month)s::date + 31
             LIMIT 1)
-- ]
)
-- [writers
, won AS (
    UPDATE accounts_customerversion AS v
       SET version = v.version + 1
      FROM unnest(%(writers_c)s::bigint[], %(writers_v)s::bigint[]) AS p (c, v)
     WHERE v.customer_id = p.c AND v.version = p.v
       AND (SELECT version FROM catalogue) = %(catalogue)s::bigint
       AND p.c NOT IN (SELECT customer_id FROM used_before)
    RETURNING v.customer_id
)
-- ]
-- [readers
, held_still AS (
    SELECT v.customer_id
      FROM unnest(%(readers_c)s::bigint[], %(readers_v)s::bigint[]) AS p (c, v)
      JOIN accounts_customerversion AS v ON v.customer_id = p.c
     WHERE v.version = p.v
       AND (SELECT version FROM catalogue) = %(catalogue)s::bigint
       AND p.c NOT IN (SELECT customer_id FROM used_before)
)
-- ]
, answered AS (
    SELECT 0::bigint AS customer_id WHERE false
-- [writers
    UNION ALL SELECT customer_id FROM won
-- ]
-- [readers
    UNION ALL SELECT customer_id FROM held_still
-- ]
)
-- [balances
, updated_balances AS (
    UPDATE metering_balance AS b
       SET used = b.used + coalesce(d.u, 0),
           grant_used = b.grant_used + coalesce(d.gu, 0),
           held = b.held + coalesce(d.h, 0),
           grant_held = b.grant_held + coalesce(d.gh, 0),
           latest_at = coalesce(d.l, b.latest_at)
      FROM unnest(
               %(balances_c)s::bigint[], %(balances_m)s::int[], %(balances_w)s::text[],
               %(balances_s)s::timestamptz[], %(balances_u)s::bigint[], %(balances_gu)s::bigint[],
               %(balances_h)s::bigint[], %(balances_gh)s::bigint[], %(balances_l)s::timestamptz[])
           AS d (c, m, w, s, u, gu, h, gh, l)
      JOIN won ON won.customer_id = d.c
     WHERE b.customer_id = d.c AND b.meter_id = d.m AND b."window" = d.w AND b.start_at = d.s
)
-- ]
-- [new_balances
, inserted_balances AS (
    INSERT INTO metering_balance (customer_id, meter_id, "window", start_at, end_at,
                                  used, grant_used, held, grant_held, latest_at)
    SELECT d.c, d.m, d.w, d.s, d.e,
           coalesce(d.u, 0), coalesce(d.gu, 0), coalesce(d.h, 0), coalesce(d.gh, 0), d.l
      FROM unnest(
               %(new_balances_c)s::bigint[], %(new_balances_m)s::int[], %(new_balances_w)s::text[],
               %(new_balances_s)s::timestamptz[], %(new_balances_e)s::timestamptz[],
               %(new_balances_u)s::bigint[], %(new_balances_gu)s::bigint[],
               %(new_balances_h)s::bigint[], %(new_balances_gh)s::bigint[],
               %(new_balances_l)s::timestamptz[])
           AS d (c, m, w, s, e, u, gu, h, gh, l)
      JOIN won ON won.customer_id = d.c
)
-- ]
-- [members
, inserted_members AS (
    INSERT INTO metering_windowmember (customer_id, meter_id, "window", start_at, member)
    SELECT d.c, d.m, d.w, d.s, d.k
      FROM json_to_recordset(%(members)s::json)
           AS d (c bigint, m int, w text, s timestamptz, k text)
      JOIN won ON won.customer_id = d.c
)
-- ]
-- [grants
, updated_grants AS (
    UPDATE metering_grant AS g
       SET used = g.used + d.u, held = g.held + d.h
      FROM json_to_recordset(%(grants)s::json) AS d (c bigint, i bigint, u bigint, h bigint)
      JOIN won ON won.customer_id = d.c
     WHERE g.customer_id = d.c AND g.id = d.i
)
-- ]
-- [origins
, inserted_origins AS (
    INSERT INTO metering_eventorigin (customer_id, id, type, gateway_id, api_key_id)
    SELECT d.c, d.i, d.t, d.g, d.k
      FROM json_to_recordset(%(origins)s::json)
           AS d (c bigint, i bigint, t text, g bigint, k bigint)
      JOIN won ON won.customer_id = d.c
    ON CONFLICT DO NOTHING
)
-- ]
-- [events
, inserted_events AS (
    INSERT INTO metering_usageevent (
        customer_id, id, received_month, source, external_uuid, external_id, origin_id,
        occurred_at, received_at, usage, properties, paid_by, fingerprint, answer, from_hold,
        late, over_hold)
    SELECT d.c, d.i, %(month)s::date, d.s, d.y, d.x, d.r,
           coalesce(d.o, %(now)s::timestamptz), %(now)s::timestamptz, d.u, d.p, d.b, d.f, d.a,
           coalesce(d.h, false), coalesce(d.l, false), coalesce(d.q, false)
      FROM unnest(
               %(events_c)s::bigint[], %(events_i)s::uuid[], %(events_s)s::text[],
               %(events_x)s::text[], %(events_y)s::uuid[], %(events_r)s::bigint[],
               %(events_o)s::timestamptz[], %(events_u)s::json[], %(events_p)s::json[],
               %(events_b)s::json[], %(events_f)s::bigint[], %(events_a)s::text[],
               %(events_h)s::boolean[], %(events_l)s::boolean[], %(events_q)s::boolean[])
           AS d (c, i, s, x, y, r, o, u, p, b, f, a, h, l, q)
      JOIN won ON won.customer_id = d.c
)
-- ]
-- [holds
, inserted_holds AS (
    INSERT INTO metering_hold (
        customer_id, id, state, source, external_id, items, allocation, properties, opened_at,
        expires_at, fingerprint, answer, gateway_id, api_key_id)
    SELECT d.c, d.i, 'open', d.s, d.x, d.n, d.y, d.p, %(now)s::timestamptz, d.e, d.f, d.a,
           d.g, d.k
      FROM json_to_recordset(%(holds)s::json)
           AS d (c bigint, i uuid, s text, x text, n jsonb, y jsonb, p jsonb, e timestamptz,
                 f bigint, a text, g bigint, k bigint)
      JOIN won ON won.customer_id = d.c
)
-- ]
-- [closings
, closed_holds AS (
    UPDATE metering_hold AS h
       SET state = d.state,
           expires_at = coalesce(d.e, h.expires_at),
           closed_at = CASE WHEN d.state = 'open' THEN NULL ELSE %(now)s::timestamptz END,
           closing = coalesce(d.a, h.closing),
           closing_fingerprint = coalesce(d.f, h.closing_fingerprint)
      FROM json_to_recordset(%(closings)s::json)
           AS d (c bigint, i uuid, state text, e timestamptz, a text, f bigint)
      JOIN won ON won.customer_id = d.c
     WHERE h.customer_id = d.c AND h.id = d.i
)
-- ]
-- [denials
, inserted_denials AS (
    INSERT INTO metering_denial AS old (
        customer_id, id, code, meter, api_key_id, gateway_id, first_at, last_at, count,
        requested, problem, last_problem)
    SELECT d.customer_id, d.id, d.code, d.meter, d.api_key_id, d.gateway_id,
           %(now)s::timestamptz, %(now)s::timestamptz, d.count, d.requested, d.problem, d.last
      FROM json_to_recordset(%(denials)s::json)
           AS d (customer_id bigint, id uuid, code text, meter text, api_key_id bigint,
                 gateway_id bigint, count bigint, requested bigint, problem jsonb, last jsonb)
     WHERE d.customer_id IN (SELECT customer_id FROM answered)
     ORDER BY d.customer_id, d.id
    ON CONFLICT (customer_id, id) DO UPDATE
       SET count = old.count + EXCLUDED.count, last_at = greatest(old.last_at, EXCLUDED.last_at),
           last_problem = CASE WHEN EXCLUDED.last_at < old.last_at THEN old.last_problem
                               ELSE coalesce(EXCLUDED.last_problem, EXCLUDED.problem) END
)
-- ]
-- [deltas
, batch AS (
    INSERT INTO metering_usagebatch (created_at, customers, deltas)
    SELECT %(now)s::timestamptz, %(counted_customers)s::bigint[], %(deltas)s::jsonb
     WHERE (SELECT count(*) FROM won) = %(written)s::int
    UNION ALL
    SELECT %(now)s::timestamptz, array_agg(DISTINCT won.customer_id), jsonb_agg(delta)
      FROM jsonb_array_elements(%(deltas)s::jsonb) AS delta
      JOIN won ON won.customer_id = (delta ->> 0)::bigint
     WHERE (SELECT count(*) FROM won) < %(written)s::int
    HAVING count(*) > 0
)
-- ]
SELECT (SELECT version FROM catalogue), ARRAY(SELECT customer_id FROM answered),
       extract(epoch FROM %(now)s::timestamptz - now())::float8
