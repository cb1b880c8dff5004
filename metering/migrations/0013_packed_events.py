"""Usage events take less room; how they are read is a view that is written like a table.

What a customer's events have in common is written once; ids that are UUIDs take 16 bytes; JSON is
kept as text; a partition's key needs no month, and the index by time has the hour. The partitions
are written anew one by one, in one transaction: no call is answered meanwhile.
docs/decisions/0016-packed-events.md has the numbers.
"""

from typing import ClassVar

from django.db import migrations, models

PACKED = """
CREATE FUNCTION metering_uuid_of(id text) RETURNS uuid LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN id LIKE '________-____-____-____-____________'
                 AND translate(id, '0123456789abcdef', '') = '----' THEN id::uuid END
$$;
-- As metering.domain.counting.event_origin.
CREATE FUNCTION metering_origin_of(type text, gateway_id bigint, api_key_id bigint)
RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT ('x' || left(encode(sha256(convert_to(coalesce(gateway_id::text, '') || ' '
                || coalesce(api_key_id::text, '') || ' ' || type, 'UTF8')), 'hex'), 16)
           )::bit(64)::bigint
$$;
ALTER INDEX usageevent_customer_occurred RENAME TO usageevent_customer_occurred_old;
ALTER TABLE metering_usageevent RENAME TO metering_usageevent_old;
CREATE TABLE metering_usageevent (
    customer_id    bigint      NOT NULL,
    id             uuid        NOT NULL,
    occurred_at    timestamptz NOT NULL,
    received_at    timestamptz NOT NULL,
    fingerprint    bigint      NOT NULL,
    origin_id      bigint      NOT NULL,
    received_month date        NOT NULL,
    from_hold      boolean     NOT NULL DEFAULT false,
    late           boolean     NOT NULL DEFAULT false,
    over_hold      boolean     NOT NULL DEFAULT false,
    external_uuid  uuid,
    external_id    text,
    source         text        NOT NULL,
    usage          json        NOT NULL,
    properties     json,
    paid_by        json,
    answer         text,
    CONSTRAINT usageevent_has_one_external_id
         CHECK ((external_uuid IS NULL) <> (external_id IS NULL))
) PARTITION BY RANGE (received_month);
CREATE INDEX usageevent_customer_hour ON metering_usageevent
       (customer_id, date_bin('1 hour', occurred_at, '1970-01-01 00:00:00Z'));

-- Makes the partition of a month, if it is not there; the task calls it ahead of time.
CREATE OR REPLACE FUNCTION metering_make_partition(month date) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    first date := date_trunc('month', month)::date;
    name  text := 'metering_usageevent_' || to_char(first, 'YYYYMM');
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('metering_make_partition'));
    IF to_regclass(name) IS NULL THEN
        EXECUTE format(
            'CREATE TABLE %I PARTITION OF metering_usageevent (PRIMARY KEY (customer_id, id))'
            ' FOR VALUES FROM (%L) TO (%L)',
            name, first, (first + interval '1 month')::date);
    END IF;
    RETURN name;
END $$;

INSERT INTO metering_eventorigin (customer_id, id, type, gateway_id, api_key_id)
SELECT DISTINCT customer_id, metering_origin_of(type, gateway_id, api_key_id),
       type, gateway_id, api_key_id
  FROM metering_usageevent_old;
DO $$
DECLARE
    part text;
BEGIN
    FOR part IN SELECT child.relname FROM pg_inherits
                  JOIN pg_class AS child ON child.oid = inhrelid
                 WHERE inhparent = 'metering_usageevent_old'::regclass ORDER BY 1
    LOOP
        EXECUTE format('ALTER TABLE %I RENAME TO %I', part, part || '_old');
        PERFORM metering_make_partition(to_date(right(part, 6), 'YYYYMM'));
        EXECUTE format($copy$
            INSERT INTO metering_usageevent
            SELECT customer_id, id, occurred_at, received_at, fingerprint,
                   metering_origin_of(type, gateway_id, api_key_id), received_month,
                   from_hold, late, over_hold, metering_uuid_of(external_id),
                   CASE WHEN metering_uuid_of(external_id) IS NULL THEN external_id END,
                   source, usage::json, properties::json, paid_by::json, answer
              FROM %I $copy$, part || '_old');
        EXECUTE format('DROP TABLE %I', part || '_old');
    END LOOP;
END $$;
DROP TABLE metering_usageevent_old;
"""
VIEWS = """
CREATE VIEW metering_reportedevent AS
SELECT event.customer_id, event.id, event.received_month, event.source,
       coalesce(event.external_id, event.external_uuid::text) AS external_id,
       origin.type, event.occurred_at, event.received_at,
       date_bin('1 hour', event.occurred_at, '1970-01-01 00:00:00Z') AS hour,
       event.usage::jsonb AS usage, event.properties::jsonb AS properties,
       event.paid_by::jsonb AS paid_by, event.fingerprint, event.answer,
       origin.gateway_id, origin.api_key_id, event.from_hold, event.late, event.over_hold
  FROM metering_usageevent AS event
  LEFT JOIN metering_eventorigin AS origin
    ON origin.customer_id = event.customer_id AND origin.id = event.origin_id;

CREATE FUNCTION metering_write_event() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        DELETE FROM metering_usageevent
         WHERE customer_id = OLD.customer_id AND id = OLD.id
           AND received_month = OLD.received_month;
        IF NOT FOUND THEN
            RETURN NULL;
        ELSIF TG_OP = 'DELETE' THEN
            RETURN OLD;
        END IF;
    END IF;
    INSERT INTO metering_eventorigin (customer_id, id, type, gateway_id, api_key_id)
    VALUES (NEW.customer_id, metering_origin_of(NEW.type, NEW.gateway_id, NEW.api_key_id),
            NEW.type, NEW.gateway_id, NEW.api_key_id)
    ON CONFLICT DO NOTHING;
    INSERT INTO metering_usageevent
    VALUES (NEW.customer_id, NEW.id, NEW.occurred_at, NEW.received_at, NEW.fingerprint,
            metering_origin_of(NEW.type, NEW.gateway_id, NEW.api_key_id), NEW.received_month,
            coalesce(NEW.from_hold, false), coalesce(NEW.late, false),
            coalesce(NEW.over_hold, false), metering_uuid_of(NEW.external_id),
            CASE WHEN metering_uuid_of(NEW.external_id) IS NULL THEN NEW.external_id END,
            NEW.source, NEW.usage::json, NEW.properties::json, NEW.paid_by::json, NEW.answer);
    NEW.hour := date_bin('1 hour', NEW.occurred_at, '1970-01-01 00:00:00Z');
    RETURN NEW;
END $$;
CREATE TRIGGER metering_write_event INSTEAD OF INSERT OR UPDATE OR DELETE
    ON metering_reportedevent FOR EACH ROW EXECUTE FUNCTION metering_write_event();

CREATE VIEW metering_effectiveevent AS
SELECT event.customer_id, event.id, event.received_month, event.type, event.occurred_at,
       event.received_at, event.hour,
       CASE WHEN fix.number IS NULL THEN event.usage      ELSE fix.usage      END AS usage,
       CASE WHEN fix.number IS NULL THEN event.properties ELSE fix.properties END AS properties,
       CASE WHEN fix.number IS NULL THEN event.paid_by    ELSE fix.paid_by    END AS paid_by,
       fix.number AS correction
  FROM metering_reportedevent AS event
  LEFT JOIN metering_correction AS fix
    ON fix.customer_id = event.customer_id AND fix.event_id = event.id
   AND fix.superseded_at IS NULL
   AND fix.received_month = event.received_month;
"""
FORWARD = f"DROP VIEW metering_effectiveevent;{PACKED}{VIEWS}"
BACKWARD = """
CREATE TABLE metering_unpacked AS SELECT * FROM metering_reportedevent;
DROP VIEW metering_effectiveevent;
DROP VIEW metering_reportedevent;
DROP TABLE metering_usageevent;
DELETE FROM metering_eventorigin;
DROP FUNCTION metering_write_event();
DROP FUNCTION metering_uuid_of(text);
DROP FUNCTION metering_origin_of(text, bigint, bigint);
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
    answer         text,
    PRIMARY KEY (customer_id, id, received_month)
) PARTITION BY RANGE (received_month);
CREATE INDEX usageevent_customer_occurred ON metering_usageevent (customer_id, occurred_at);
CREATE OR REPLACE FUNCTION metering_make_partition(month date) RETURNS text LANGUAGE plpgsql AS $$
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
SELECT metering_make_partition(month)
  FROM (SELECT (date_trunc('month', now()) + n * interval '1 month')::date AS month
          FROM generate_series(-1, 3) AS n
        UNION SELECT received_month FROM metering_unpacked) AS needed;
INSERT INTO metering_usageevent (
       customer_id, id, received_month, occurred_at, received_at, fingerprint, gateway_id,
       api_key_id, from_hold, late, over_hold, source, external_id, type, usage, properties,
       paid_by, answer)
SELECT customer_id, id, received_month, occurred_at, received_at, fingerprint, gateway_id,
       api_key_id, from_hold, late, over_hold, source, external_id, type, usage, properties,
       paid_by, answer FROM metering_unpacked;
DROP TABLE metering_unpacked;
CREATE VIEW metering_effectiveevent AS
SELECT event.customer_id, event.id, event.received_month, event.type, event.occurred_at,
       event.received_at,
       CASE WHEN fix.number IS NULL THEN event.usage      ELSE fix.usage      END AS usage,
       CASE WHEN fix.number IS NULL THEN event.properties ELSE fix.properties END AS properties,
       CASE WHEN fix.number IS NULL THEN event.paid_by    ELSE fix.paid_by    END AS paid_by,
       fix.number AS correction
  FROM metering_usageevent AS event
  LEFT JOIN metering_correction AS fix
    ON fix.customer_id = event.customer_id AND fix.event_id = event.id
   AND fix.superseded_at IS NULL
   AND fix.received_month = event.received_month;
"""


class Migration(migrations.Migration):
    dependencies: ClassVar = [
        ("accounts", "0003_heartbeats"),
        ("metering", "0012_offers_by_currency"),
    ]
    operations: ClassVar = [
        migrations.CreateModel(
            name="EventOrigin",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "customer_id",
                        "id",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("id", models.BigIntegerField()),
                ("type", models.CharField(max_length=200)),
                ("gateway_id", models.BigIntegerField(null=True)),
                ("api_key_id", models.BigIntegerField(null=True)),
                (
                    "customer",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=models.DO_NOTHING,
                        related_name="+",
                        to="accounts.customer",
                    ),
                ),
            ],
        ),
        migrations.RunSQL(FORWARD, BACKWARD),
        migrations.AlterModelTable(name="usageevent", table="metering_reportedevent"),
    ]
