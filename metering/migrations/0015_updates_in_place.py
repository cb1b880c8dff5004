"""The view of events is updated in place.

A deleted and inserted row loses what another transaction writes into it at the same time; an update
in place waits for it, and changes only what its own statement changes.
"""

from django.db import migrations

COLUMNS = {
    "customer_id": "{0}.customer_id",
    "id": "{0}.id",
    "occurred_at": "{0}.occurred_at",
    "received_at": "{0}.received_at",
    "fingerprint": "{0}.fingerprint",
    "origin_id": "metering_origin_of({0}.type, {0}.gateway_id, {0}.api_key_id)",
    "received_month": "{0}.received_month",
    "from_hold": "coalesce({0}.from_hold, false)",
    "late": "coalesce({0}.late, false)",
    "over_hold": "coalesce({0}.over_hold, false)",
    "external_uuid": "metering_uuid_of({0}.external_id)",
    "external_id": "CASE WHEN metering_uuid_of({0}.external_id) IS NULL THEN {0}.external_id END",
    "source": "{0}.source",
    "usage": "{0}.usage::json",
    "properties": "{0}.properties::json",
    "paid_by": "{0}.paid_by::json",
    "answer": "{0}.answer",
}
SEEN = {
    "origin_id": "({0}.type, {0}.gateway_id, {0}.api_key_id)",
    "external_uuid": "{0}.external_id",
    "external_id": "{0}.external_id",
    "usage": "{0}.usage",
    "properties": "{0}.properties",
    "paid_by": "{0}.paid_by",
}


def changed(name: str) -> str:
    """A column's assignment: what it was, as long as this statement says nothing else."""
    seen = SEEN.get(name, "{0}." + name)
    differs = f"{seen.format('NEW')} IS DISTINCT FROM {seen.format('OLD')}"
    return f"{name} = CASE WHEN {differs} THEN {COLUMNS[name].format('NEW')} ELSE event.{name} END"


ORIGIN = """
    INSERT INTO metering_eventorigin (customer_id, id, type, gateway_id, api_key_id)
    VALUES (NEW.customer_id, metering_origin_of(NEW.type, NEW.gateway_id, NEW.api_key_id),
            NEW.type, NEW.gateway_id, NEW.api_key_id)
    ON CONFLICT DO NOTHING;"""
INSERT = f"""
    INSERT INTO metering_usageevent ({", ".join(COLUMNS)})
    VALUES ({", ".join(each.format("NEW") for each in COLUMNS.values())});
    NEW.hour := date_bin('1 hour', NEW.occurred_at, '1970-01-01 00:00:00Z');
    RETURN NEW;"""  # noqa: S608 - made of what stands in this file
MINE = "customer_id = OLD.customer_id AND id = OLD.id AND received_month = OLD.received_month"
HEAD = "CREATE OR REPLACE FUNCTION metering_write_event() RETURNS trigger LANGUAGE plpgsql AS $$"
FORWARD = f"""{HEAD}
BEGIN
    IF TG_OP = 'DELETE' THEN
        DELETE FROM metering_usageevent WHERE {MINE};
        RETURN CASE WHEN FOUND THEN OLD END;
    END IF;{ORIGIN}
    IF TG_OP = 'UPDATE' THEN
        UPDATE metering_usageevent AS event SET {", ".join(map(changed, COLUMNS))}
         WHERE {MINE};
        IF NOT FOUND THEN
            RETURN NULL;
        END IF;
        NEW.hour := date_bin('1 hour', NEW.occurred_at, '1970-01-01 00:00:00Z');
        RETURN NEW;
    END IF;{INSERT}
END $$;
"""  # noqa: S608
BACKWARD = f"""{HEAD}
BEGIN
    IF TG_OP <> 'INSERT' THEN
        DELETE FROM metering_usageevent WHERE {MINE};
        IF NOT FOUND THEN
            RETURN NULL;
        ELSIF TG_OP = 'DELETE' THEN
            RETURN OLD;
        END IF;
    END IF;{ORIGIN}{INSERT}
END $$;
"""  # noqa: S608


class Migration(migrations.Migration):
    dependencies = [("metering", "0014_no_index_twice")]
    operations = [migrations.RunSQL(FORWARD, BACKWARD)]
