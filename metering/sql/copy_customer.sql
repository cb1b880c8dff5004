-- Copies what operations change of a customer, but for its events, into the tables of a trial
-- (metering/operations/trying_out.py): all as of one snapshot, however many calls go on meanwhile.
-- Batches come without their numbers, which those written in the trial have from 1 on.
-- In:  customer_id.
-- Out: one row: the customer's version, null where there is no such customer.
WITH balances AS (
    INSERT INTO trial_metering_balance
    SELECT * FROM metering_balance WHERE customer_id = %(customer_id)s
), members AS (
    INSERT INTO trial_metering_windowmember
    SELECT * FROM metering_windowmember WHERE customer_id = %(customer_id)s
), grants AS (
    INSERT INTO trial_metering_grant
    SELECT * FROM metering_grant WHERE customer_id = %(customer_id)s
), hours AS (
    INSERT INTO trial_metering_rollup
    SELECT * FROM metering_rollup WHERE customer_id = %(customer_id)s
), hours_members AS (
    INSERT INTO trial_metering_rollupmember
    SELECT * FROM metering_rollupmember WHERE customer_id = %(customer_id)s
), days AS (
    INSERT INTO trial_metering_rollupday
    SELECT * FROM metering_rollupday WHERE customer_id = %(customer_id)s
), months AS (
    INSERT INTO trial_metering_rollupmonth
    SELECT * FROM metering_rollupmonth WHERE customer_id = %(customer_id)s
), reach AS (
    INSERT INTO trial_metering_rollupreach
    SELECT * FROM metering_rollupreach WHERE slot = (%(customer_id)s & 63)
), batches AS (
    INSERT INTO trial_metering_usagebatch (id, created_at, customers, deltas)
    SELECT -id, created_at, customers, deltas
      FROM metering_usagebatch
     WHERE customers IS NULL OR %(customer_id)s = ANY (customers)
), versions AS (
    INSERT INTO trial_accounts_customerversion
    SELECT * FROM accounts_customerversion WHERE customer_id = %(customer_id)s
    RETURNING version
)
SELECT max(version) FROM versions
