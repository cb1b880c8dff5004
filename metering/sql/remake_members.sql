-- Makes the members of one window of a unique meter of one customer anew, from its effective events
-- and, where those were dropped, from the hours that lie in it whole; returns one row: how many.
-- In: customer_id, meter_id, "window"; the window's start_at, as balances name it; [from_at, end_at)
-- its events, of it [whole_from, whole_to) the whole hours.
-- The caller has raised the customer's version.
WITH seen AS MATERIALIZED (
    SELECT event.usage ->> %(meter_id)s::text AS member
      FROM metering_effectiveevent AS event
     WHERE event.customer_id = %(customer_id)s AND event.usage ? %(meter_id)s::text
       AND event.occurred_at >= %(from_at)s AND event.occurred_at < %(end_at)s
       AND event.hour > %(from_at)s - interval '1 hour' AND event.hour < %(end_at)s
    UNION
    SELECT member FROM metering_rollupmember
     WHERE customer_id = %(customer_id)s AND meter_id = %(meter_id)s
       AND start_at >= %(whole_from)s AND start_at < %(whole_to)s
), gone AS (
    DELETE FROM metering_windowmember AS old
     WHERE old.customer_id = %(customer_id)s AND old.meter_id = %(meter_id)s
       AND old."window" = %(window)s AND old.start_at = %(start_at)s
       AND old.member NOT IN (SELECT member FROM seen)
), come AS (
    INSERT INTO metering_windowmember (customer_id, meter_id, "window", start_at, member)
    SELECT %(customer_id)s, %(meter_id)s, %(window)s, %(start_at)s, member FROM seen
    ON CONFLICT DO NOTHING
)
SELECT count(*) FROM seen
