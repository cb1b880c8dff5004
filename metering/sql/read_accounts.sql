-- Reads the whole metering state of the customers asked for, each as of one snapshot.
-- In:  ids bigint[], digests bytea[] (of api keys), externals text[], since timestamptz
--      (balances whose window ended before it are left out; where there is a spend limit, those
--      of a whole billing period before it are not), now timestamptz.
-- Out: one row per customer found: its columns, and JSON lists of its rights. A reference that
--      gives no row is unknown, and so is whoever was erased. Times are microseconds of Unix time,
--      or null.
-- Everything is joined on the customer's version, which Citus keeps beside the rest of it.
WITH wanted AS (
    SELECT unnest(%(ids)s::bigint[]) AS customer_id
    UNION
    SELECT customer_id FROM accounts_apikey WHERE digest = ANY (%(digests)s::bytea[])
    UNION
    SELECT id FROM accounts_customer WHERE external_id = ANY (%(externals)s::text[])
)
SELECT c.id,
       v.version,
       c.external_id,
       c.suspended_at IS NOT NULL AS suspended,
       s.customer_id IS NOT NULL AS sold,
       coalesce(s.plan_key, ''),
       coalesce(s.plan_name, ''),
       coalesce(s.deny_code, ''),
       (extract(epoch FROM s.deny_at) * 1000000)::bigint AS deny_at,
       coalesce(s.invoice_url, ''),
       (SELECT json_agg(json_build_array(
                   e.meter_id, e.feature, e.kind, e.value, e."window",
                   (extract(epoch FROM e.anchor_at) * 1000000)::bigint,
                   e.included, e.unlimited, e."over" = 'bill', e.overage_limit,
                   (extract(epoch FROM e.starts_at) * 1000000)::bigint,
                   (extract(epoch FROM e.ends_at) * 1000000)::bigint,
                   CASE WHEN s.spend_limit IS NOT NULL THEN e.curve END,
                   e.blended, (extract(epoch FROM e.blended_until) * 1000000)::bigint))
          FROM metering_entitlement AS e
         WHERE e.customer_id = v.customer_id AND (e.ends_at IS NULL OR e.ends_at > %(since)s))::text,
       (SELECT json_agg(json_build_array(
                   g.id, g.meter_id, g.quantity, g.used, g.held, g.priority,
                   (extract(epoch FROM g.effective_at) * 1000000)::bigint,
                   (extract(epoch FROM g.expires_at) * 1000000)::bigint))
          FROM metering_grant AS g
         WHERE g.customer_id = v.customer_id AND g.voided_at IS NULL
           AND (g.expires_at IS NULL OR g.expires_at > %(since)s)
           AND (g.used < g.quantity OR g.held > 0))::text,
       (SELECT json_agg(json_build_array(
                   b.meter_id, b."window",
                   (extract(epoch FROM b.start_at) * 1000000)::bigint,
                   (extract(epoch FROM b.end_at) * 1000000)::bigint,
                   b.used, b.grant_used, b.held, b.grant_held,
                   (extract(epoch FROM b.latest_at) * 1000000)::bigint))
          FROM metering_balance AS b
         WHERE b.customer_id = v.customer_id
           AND (b.end_at > %(since)s
                OR b.end_at > %(since)s::timestamptz - s.spend_period))::text,
       (SELECT json_agg(json_build_array(
                   encode(k.digest, 'hex'), k.id,
                   (extract(epoch FROM k.expires_at) * 1000000)::bigint,
                   (extract(epoch FROM k.revoked_at) * 1000000)::bigint))
          FROM accounts_apikey AS k
         WHERE k.customer_id = v.customer_id AND k.digest = ANY (%(digests)s::bytea[]))::text,
       (SELECT (extract(epoch FROM min(h.expires_at)) * 1000000)::bigint
          FROM metering_hold AS h
         WHERE h.customer_id = v.customer_id AND h.state = 'open') AS next_expiry_at,
       s.spend_limit::text,
       c.currency,
       s.agreed::text
  FROM wanted AS w
  JOIN accounts_customer AS c ON c.id = w.customer_id AND c.erased_at IS NULL
  JOIN accounts_customerversion AS v ON v.customer_id = w.customer_id
  LEFT JOIN (SELECT customer_id, plan_key, plan_name, deny_code, deny_at, invoice_url, spend_limit,
                    agreed,
                    ('3 days 1 ' || (spend_limit ->> 'window'))::interval AS spend_period
               FROM metering_standing) AS s ON s.customer_id = v.customer_id
