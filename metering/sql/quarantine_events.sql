-- Keeps refused events, in a transaction that holds the quarantine's advisory lock.
-- In:  events JSON [{digest, place, subject, customer, key, source, external_id, event_id, type,
--      occurred_at, properties, shape, options, code, detail}]; key is the hexadecimal digest of an
--      API key where the event named its customer by one, subject is empty then; customer is the
--      number where it named it by its id; most_events and most_bytes: what may wait;
--      for_a_person text[]: codes of which half of either may wait, for anybody can bring about
--      as many as he likes, and no run takes them away; gateway_id bigint; now timestamptz.
-- Out: of each the digest, its number where it is kept, and else what was full: events or bytes.
--      A repeat that no longer fits is not kept: the first one stays as it is.
--      Nothing is kept, or told, of a customer that was erased.
WITH asked AS MATERIALIZED (
    SELECT d.*, coalesce(c.id, named.id) AS customer_id,
           octet_length(d.properties::text) + octet_length(d.options::text) + 200
           + octet_length(concat(d.subject, d.source, d.external_id, d.type, d.detail)) AS size
      FROM json_to_recordset(%(events)s::json)
           AS d (digest uuid, place int, subject text, customer bigint, key text, source text,
                 external_id text, event_id uuid, type text, occurred_at timestamptz,
                 properties jsonb, shape text, options jsonb, code text, detail text)
      LEFT JOIN accounts_apikey AS k ON k.digest = decode(d.key, 'hex')
      LEFT JOIN accounts_customer AS c ON c.id = coalesce(k.customer_id, d.customer)
      LEFT JOIN accounts_customer AS named ON named.external_id = d.subject
           AND d.subject <> '' AND d.customer IS NULL
     WHERE c.erased_at IS NULL
), there AS MATERIALIZED (  -- from quarantined_waiting alone
    SELECT count(*) AS events, coalesce(sum(size), 0) AS bytes,
           count(*) FILTER (WHERE code = ANY(%(for_a_person)s::text[])) AS chosen_events,
           coalesce(sum(size) FILTER (WHERE code = ANY(%(for_a_person)s::text[])), 0)
               AS chosen_bytes,
           (%(most_events)s::bigint + 1) / 2 AS half_events,
           (%(most_bytes)s::bigint + 1) / 2 AS half_bytes
      FROM metering_quarantinedevent
     WHERE state = 'waiting'
), growth AS MATERIALIZED (
    SELECT coalesce(sum(greatest(a.size - q.size, 0)), 0) AS bytes
      FROM asked AS a JOIN metering_quarantinedevent AS q ON q.digest = a.digest
), known AS (
    UPDATE metering_quarantinedevent AS q
       SET code = a.code, detail = a.detail, last_at = %(now)s::timestamptz,
           times = q.times + 1, event_id = a.event_id, type = a.type, occurred_at = a.occurred_at,
           properties = a.properties, size = a.size,
           customer_id = coalesce(a.customer_id, q.customer_id)
      FROM asked AS a, there, growth
     WHERE q.digest = a.digest
       AND (growth.bytes = 0 OR there.bytes + growth.bytes <= %(most_bytes)s::bigint)
    RETURNING q.digest, q.id
), fresh AS MATERIALIZED (
    SELECT a.*, a.code = ANY(%(for_a_person)s::text[]) AS chosen,
           row_number() OVER alike AS nth_alike, sum(a.size) OVER alike AS so_far_alike
      FROM asked AS a
     WHERE NOT EXISTS (SELECT FROM metering_quarantinedevent AS q WHERE q.digest = a.digest)
    WINDOW alike AS (PARTITION BY a.code = ANY(%(for_a_person)s::text[]) ORDER BY a.place)
), fitting AS MATERIALIZED (
    SELECT f.*, row_number() OVER (ORDER BY f.place) AS nth,
           sum(f.size) OVER (ORDER BY f.place) AS so_far
      FROM fresh AS f, there
     WHERE NOT f.chosen
        OR (f.nth_alike + there.chosen_events <= there.half_events
            AND f.so_far_alike + there.chosen_bytes <= there.half_bytes)
), added AS (
    INSERT INTO metering_quarantinedevent (
        digest, state, customer_id, subject, source, external_id, event_id, type, occurred_at,
        properties, shape, options, size, code, detail, gateway_id, first_at, last_at, times)
    SELECT f.digest, 'waiting', f.customer_id, f.subject, f.source, f.external_id, f.event_id,
           f.type, f.occurred_at, f.properties, f.shape, f.options, f.size, f.code, f.detail,
           %(gateway_id)s::bigint, %(now)s::timestamptz, %(now)s::timestamptz, 1
      FROM fitting AS f, there, growth
     WHERE f.nth + there.events <= %(most_events)s::bigint
       AND f.so_far + there.bytes + growth.bytes <= %(most_bytes)s::bigint
    ON CONFLICT (digest) DO NOTHING
    RETURNING digest, id
)
SELECT a.digest, coalesce(known.id, added.id),
       CASE WHEN coalesce(fits.nth + there.events > %(most_events)s::bigint,
                          f.nth_alike + there.chosen_events > there.half_events)
            THEN 'events' ELSE 'bytes' END
  FROM asked AS a
 CROSS JOIN there
  LEFT JOIN known ON known.digest = a.digest
  LEFT JOIN added ON added.digest = a.digest
  LEFT JOIN fresh AS f ON f.digest = a.digest
  LEFT JOIN fitting AS fits ON fits.digest = a.digest
