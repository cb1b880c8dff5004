"""Usage events, partitioned by the month received, and storage settings of the hot tables.

Dedupe does not depend on time stamps: within a month the primary key refuses a repeated
(customer, digest); across months every write looks back under the customer's version.
"""

from typing import ClassVar

from django.db import migrations

FORWARD = """
CREATE TABLE metering_usageevent (
    customer_id    bigint      NOT NULL,
    id             uuid        NOT NULL,
    received_month date        NOT NULL,
    occurred_at    timestamptz NOT NULL,
    received_at    timestamptz NOT NULL,
    fingerprint    bigint      NOT NULL,
    gateway_id     bigint,
    api_key_id     bigint,
    from_hold      boolean     NOT NULL DEFAULT false,
    late           boolean     NOT NULL DEFAULT false,
    over_hold      boolean     NOT NULL DEFAULT false,
    source         text        NOT NULL,
    external_id    text        NOT NULL,
    type           text        NOT NULL,
    usage          jsonb       NOT NULL,
    properties     jsonb,
    paid_by        jsonb,
    answer         jsonb,
    PRIMARY KEY (customer_id, id, received_month)
) PARTITION BY RANGE (received_month);
CREATE INDEX usageevent_customer_occurred ON metering_usageevent (customer_id, occurred_at);

-- Makes the partition of a month, if it is not there; the task calls it ahead of time.
CREATE FUNCTION metering_make_partition(month date) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    first date := date_trunc('month', month)::date;
    name  text := 'metering_usageevent_' || to_char(first, 'YYYYMM');
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('metering_make_partition'));
    IF to_regclass(name) IS NULL THEN
        EXECUTE format(
            'CREATE TABLE %I PARTITION OF metering_usageevent FOR VALUES FROM (%L) TO (%L)',
            name, first, (first + interval '1 month')::date);
    END IF;
    RETURN name;
END $$;
SELECT metering_make_partition((date_trunc('month', now()) + n * interval '1 month')::date)
  FROM generate_series(-1, 3) AS n;

ALTER TABLE metering_balance SET (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.02);
ALTER TABLE metering_grant SET (fillfactor = 60);
ALTER TABLE metering_hold SET (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);
ALTER TABLE metering_rollup SET (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);
ALTER TABLE metering_denial SET (fillfactor = 70);
"""
BACKWARD = """
DROP TABLE metering_usageevent;
DROP FUNCTION metering_make_partition(date);
"""


class Migration(migrations.Migration):
    dependencies: ClassVar = [("metering", "0001_initial")]
    operations: ClassVar = [migrations.RunSQL(FORWARD, BACKWARD)]
