"""Corrections name the month of their event; backfills remember how far they are.

An id that comes again after its repeats are known is another event. Without the month a correction
of the first one would have changed the second one too.
"""

from typing import ClassVar

from django.db import migrations, models
from django.db.models import Q

FILL = """
UPDATE metering_correction AS fix
   SET received_month = coalesce(
       (SELECT max(event.received_month) FROM metering_usageevent AS event
         WHERE event.customer_id = fix.customer_id AND event.id = fix.event_id
           AND event.received_at <= fix.at),
       date_trunc('month', fix.occurred_at, 'UTC')::date)
"""
VIEW = """
CREATE OR REPLACE VIEW metering_effectiveevent AS
SELECT event.customer_id, event.id, event.received_month, event.type, event.occurred_at,
       event.received_at,
       CASE WHEN fix.number IS NULL THEN event.usage      ELSE fix.usage      END AS usage,
       CASE WHEN fix.number IS NULL THEN event.properties ELSE fix.properties END AS properties,
       CASE WHEN fix.number IS NULL THEN event.paid_by    ELSE fix.paid_by    END AS paid_by,
       fix.number AS correction
  FROM metering_usageevent AS event
  LEFT JOIN metering_correction AS fix
    ON fix.customer_id = event.customer_id AND fix.event_id = event.id
   AND fix.superseded_at IS NULL{of_the_month}
"""


class Migration(migrations.Migration):
    dependencies: ClassVar = [("metering", "0009_kept_answers")]
    operations: ClassVar = [
        migrations.AddField(
            model_name="backfill",
            name="customers_done",
            field=models.PositiveIntegerField(default=0),
        ),
        migrations.AddField(
            model_name="backfill",
            name="dropped",
            field=models.PositiveIntegerField(default=0),
        ),
        migrations.AddField(
            model_name="correction",
            name="received_month",
            field=models.DateField(null=True),
        ),
        migrations.RunSQL(FILL, migrations.RunSQL.noop),
        migrations.AlterField(
            model_name="correction",
            name="received_month",
            field=models.DateField(),
        ),
        migrations.RemoveConstraint(
            model_name="correction",
            name="correction_one_is_in_force",
        ),
        migrations.AddConstraint(
            model_name="correction",
            constraint=models.UniqueConstraint(
                condition=Q(("superseded_at__isnull", True)),
                fields=("customer", "event_id", "received_month"),
                name="correction_one_is_in_force",
            ),
        ),
        migrations.RunSQL(
            VIEW.replace("{of_the_month}", "\n   AND fix.received_month = event.received_month"),
            VIEW.replace("{of_the_month}", ""),
        ),
    ]
