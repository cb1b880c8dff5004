-- Reads the prices of some versions of price tables; those of an active version never change.
-- In: versions bigint[]. Out: rows (version, model, token class, price per token as a whole number
-- of 10^-18 of the currency's main unit, as text). No row: no such version.
SELECT version_id, model, token_class, (price * 1000000000000000000)::numeric(40, 0)::text
  FROM metering_tokenprice
 WHERE version_id = ANY (%(versions)s::bigint[])
