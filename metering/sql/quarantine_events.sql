-- Keeps refused events, in a transaction that holds the quarantine's advisory lock.
-- In:  events JSON [{digest, place, subject, customer, key, source, external_id, type, occurred_at,
--      properties, code, detail}]; key is the hexadecimal digest of an API key where the event
--      named its customer by one, subject is empty then; customer is the number where it named it
--      by its id; most int: rows there may be;
--      gateway_id bigint; now timestamptz.
-- Out: the digests of those that are kept, whether they were there already or there was room.
--      Nothing is kept of a customer that was erased.
WITH asked AS MATERIALIZED (
    SELECT d.*, k.customer_id
      FROM json_to_recordset(%(events)s::json)
           AS d (digest uuid, place int, subject text, customer bigint, key text, source text,
                 external_id text, type text, occurred_at timestamptz, properties jsonb, code text,
                 detail text)
      LEFT JOIN accounts_apikey AS k ON k.digest = decode(d.key, 'hex')
      LEFT JOIN accounts_customer AS c ON c.id = coalesce(k.customer_id, d.customer)
     WHERE (d.key IS NULL OR k.customer_id IS NOT NULL) AND c.erased_at IS NULL
), known AS (
    UPDATE metering_quarantinedevent AS q
       SET code = a.code, detail = a.detail, last_at = %(now)s::timestamptz,
           times = q.times + 1, type = a.type, occurred_at = a.occurred_at,
           properties = a.properties
      FROM asked AS a
     WHERE q.digest = a.digest
    RETURNING q.digest
), added AS (
    INSERT INTO metering_quarantinedevent (
        digest, customer_id, subject, source, external_id, type, occurred_at, properties, code,
        detail, gateway_id, first_at, last_at, times)
    SELECT a.digest, a.customer_id, a.subject, a.source, a.external_id, a.type, a.occurred_at,
           a.properties, a.code, a.detail, %(gateway_id)s::bigint, %(now)s::timestamptz,
           %(now)s::timestamptz, 1
      FROM asked AS a
     WHERE a.digest NOT IN (SELECT digest FROM known)
     ORDER BY a.place
     LIMIT greatest(%(most)s::bigint - (SELECT count(*) FROM metering_quarantinedevent), 0)
    ON CONFLICT (digest) DO NOTHING
    RETURNING digest
)
SELECT digest FROM known UNION ALL SELECT digest FROM added
