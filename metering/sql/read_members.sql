-- Which of these members of unique meters were seen before in their window of a right.
-- In:  members JSON [{c: customer, m: meter, w: window, s: its start, k: member}].
-- Out: those that were seen, as (customer, meter, window, start in microseconds, member).
SELECT n.c, n.m, n.w, (extract(epoch FROM n.s) * 1000000)::bigint, n.k
  FROM json_to_recordset(%(members)s::json)
       AS n (c bigint, m int, w text, s timestamptz, k text)
 WHERE (SELECT true FROM metering_windowmember AS seen
         WHERE seen.customer_id = n.c AND seen.meter_id = n.m AND seen."window" = n.w
           AND seen.start_at = n.s AND seen.member = n.k LIMIT 1)
