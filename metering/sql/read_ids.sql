-- Looks up ids (of holds and events: digests of source and external id) that may have been used.
-- In:  ids JSON [{c: customer, i: id}], horizon date (oldest month of receipt looked at).
-- Out: per id found: the hold's row where there is one, and the event's where there is one.
--      No row: the id is free.
SELECT n.c, n.i,
       h.state,
       h.items::text, h.allocation::text, h.properties::text,
       (extract(epoch FROM h.opened_at) * 1000000)::bigint,
       (extract(epoch FROM h.expires_at) * 1000000)::bigint,
       h.source, h.external_id, h.fingerprint, h.answer, h.api_key_id,
       h.closing, h.closing_fingerprint,
       e.fingerprint AS event_fingerprint, e.answer AS event_answer,
       e.id IS NOT NULL AS event_found
  FROM json_to_recordset(%(ids)s::json) AS n (c bigint, i uuid)
  LEFT JOIN LATERAL (  -- with LIMIT, so that no plan ever reads the table whole
      SELECT o.id, o.state, o.items, o.allocation, o.properties, o.opened_at, o.expires_at,
             o.source, o.external_id, o.fingerprint, o.answer, o.closing, o.closing_fingerprint,
             o.api_key_id
        FROM metering_hold AS o
       WHERE o.customer_id = n.c AND o.id = n.i
       LIMIT 1) AS h ON true
  LEFT JOIN LATERAL (
      SELECT u.id, u.fingerprint, u.answer
        FROM metering_usageevent AS u
       WHERE u.customer_id = n.c AND u.id = n.i AND u.received_month >= %(horizon)s
       LIMIT 1) AS e ON true
 WHERE h.id IS NOT NULL OR e.id IS NOT NULL
