-- Adds what a process of the gate saw of gateways that ask wrongly.
-- In:  faults JSON [{gateway, code, count, first_at, last_at, detail, param}], each gateway and code
--      once; the gateway is a name, empty where none is known.
--      What a process saw "later than now", by a clock that is ahead, it saw now.
-- Out: nothing. Rows are locked in their order, so that processes do not wait in a circle.
INSERT INTO metering_gatewayfault AS f (gateway, code, count, first_at, last_at, detail, param)
SELECT gateway, code, count, least(first_at, clock_timestamp()),
       least(last_at, clock_timestamp()), detail, param
  FROM json_to_recordset(%(faults)s::json)
       AS d (gateway text, code text, count bigint, first_at timestamptz, last_at timestamptz,
             detail text, param text)
 ORDER BY gateway, code
    ON CONFLICT (gateway, code) DO UPDATE
   SET count = f.count + excluded.count,
       first_at = least(f.first_at, excluded.first_at),
       last_at = CASE WHEN f.last_at BETWEEN excluded.last_at AND clock_timestamp()
                      THEN f.last_at ELSE excluded.last_at END,
       detail = CASE WHEN f.last_at BETWEEN excluded.last_at AND clock_timestamp()
                     THEN f.detail ELSE excluded.detail END,
       param = CASE WHEN f.last_at BETWEEN excluded.last_at AND clock_timestamp()
                    THEN f.param ELSE excluded.param END
