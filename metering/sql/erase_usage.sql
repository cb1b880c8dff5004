-- Takes out of %(customer_id)s's usage what may say who somebody is. Texts that tell things apart
-- (ids, sources, members, values of dimensions) become pseudonyms: a digest of %(salt)s (text, kept
-- nowhere) and the text, so that what was different stays different and every count, sum and bucket
-- stays what it is. Properties go, but for those that %(kept)s (text[]) names, and so do the answers
-- kept for repeats; dimensions of these names stay as they are.
-- The caller has raised the customer's version and holds the lock of its slot; none of its batches
-- waits to be rolled up. Returns one row: how many events.
WITH events AS (
    UPDATE metering_usageevent AS event
       SET source = left(encode(sha256(convert_to(%(salt)s || event.source, 'UTF8')), 'hex'), 32),
           external_uuid = NULL,
           external_id = left(encode(sha256(convert_to(%(salt)s || coalesce(
               event.external_id, event.external_uuid::text), 'UTF8')), 'hex'), 32),
           properties = (SELECT json_object_agg(key, value) FROM json_each(event.properties)
                          WHERE key = ANY (%(kept)s::text[])),
           usage = (SELECT coalesce(json_object_agg(key, CASE json_typeof(value)
                       WHEN 'string' THEN to_json(left(encode(sha256(convert_to(
                           %(salt)s || (value #>> '{}'), 'UTF8')), 'hex'), 32))
                       ELSE value END), '{}') FROM json_each(event.usage)),
           answer = NULL
     WHERE event.customer_id = %(customer_id)s
    RETURNING 1
), corrections AS (
    UPDATE metering_correction AS fix
       SET properties = (SELECT jsonb_object_agg(key, value) FROM jsonb_each(fix.properties)
                          WHERE key = ANY (%(kept)s::text[])),
           usage = (SELECT coalesce(jsonb_object_agg(key, CASE jsonb_typeof(value)
                       WHEN 'string' THEN to_jsonb(left(encode(sha256(convert_to(
                           %(salt)s || (value #>> '{}'), 'UTF8')), 'hex'), 32))
                       ELSE value END), '{}') FROM jsonb_each(fix.usage)),
           reason = 'erased'
     WHERE fix.customer_id = %(customer_id)s
), holds AS (
    UPDATE metering_hold AS hold
       SET source = left(encode(sha256(convert_to(%(salt)s || hold.source, 'UTF8')), 'hex'), 32),
           external_id = left(encode(sha256(
               convert_to(%(salt)s || hold.external_id, 'UTF8')), 'hex'), 32),
           properties = NULL
     WHERE hold.customer_id = %(customer_id)s
), staged AS (
    DELETE FROM metering_stagedevent WHERE customer_id = %(customer_id)s
), denials AS (
    DELETE FROM metering_denial WHERE customer_id = %(customer_id)s
), hours AS (
    UPDATE metering_rollup AS bucket
       SET dimensions = (
           SELECT jsonb_object_agg(key, CASE WHEN key = ANY (%(kept)s::text[]) THEN value
                      ELSE to_jsonb(left(encode(sha256(convert_to(
                          %(salt)s || (value #>> '{}'), 'UTF8')), 'hex'), 32)) END)
             FROM jsonb_each(bucket.dimensions))
     WHERE bucket.customer_id = %(customer_id)s AND bucket.dimensions <> '{}'
), days AS (
    UPDATE metering_rollupday AS bucket
       SET dimensions = (
           SELECT jsonb_object_agg(key, CASE WHEN key = ANY (%(kept)s::text[]) THEN value
                      ELSE to_jsonb(left(encode(sha256(convert_to(
                          %(salt)s || (value #>> '{}'), 'UTF8')), 'hex'), 32)) END)
             FROM jsonb_each(bucket.dimensions))
     WHERE bucket.customer_id = %(customer_id)s AND bucket.dimensions <> '{}'
), months AS (
    UPDATE metering_rollupmonth AS bucket
       SET dimensions = (
           SELECT jsonb_object_agg(key, CASE WHEN key = ANY (%(kept)s::text[]) THEN value
                      ELSE to_jsonb(left(encode(sha256(convert_to(
                          %(salt)s || (value #>> '{}'), 'UTF8')), 'hex'), 32)) END)
             FROM jsonb_each(bucket.dimensions))
     WHERE bucket.customer_id = %(customer_id)s AND bucket.dimensions <> '{}'
), members AS (
    UPDATE metering_rollupmember AS seen
       SET member = left(encode(sha256(convert_to(%(salt)s || seen.member, 'UTF8')), 'hex'), 32),
           dimensions = (
           SELECT coalesce(jsonb_object_agg(key, CASE WHEN key = ANY (%(kept)s::text[]) THEN value
                      ELSE to_jsonb(left(encode(sha256(convert_to(
                          %(salt)s || (value #>> '{}'), 'UTF8')), 'hex'), 32)) END), '{}')
             FROM jsonb_each(seen.dimensions))
     WHERE seen.customer_id = %(customer_id)s
), windows AS (
    UPDATE metering_windowmember AS seen
       SET member = left(encode(sha256(convert_to(%(salt)s || seen.member, 'UTF8')), 'hex'), 32)
     WHERE seen.customer_id = %(customer_id)s
)
SELECT count(*) FROM events
