"""What an admitted call was told is kept as a short text (metering/domain/told.py).

Answers that are there keep nothing of it but that there was one, which is how a check's event is
known: a repeat of an id from before is told that it was used.
"""

from typing import ClassVar

from django.db import migrations, models

FORWARD = """
ALTER TABLE metering_usageevent
    ALTER COLUMN answer TYPE text USING CASE WHEN answer IS NOT NULL THEN '' END;
ALTER TABLE metering_hold ALTER COLUMN answer TYPE text USING '',
                          ALTER COLUMN closing TYPE text USING closing::text;
"""
BACKWARD = """
ALTER TABLE metering_usageevent
    ALTER COLUMN answer TYPE jsonb USING CASE WHEN answer IS NOT NULL THEN 'null'::jsonb END;
ALTER TABLE metering_hold ALTER COLUMN answer TYPE jsonb USING 'null',
                          ALTER COLUMN closing TYPE jsonb USING closing::jsonb;
"""


class Migration(migrations.Migration):
    dependencies: ClassVar = [("metering", "0008_quarantine")]
    operations: ClassVar = [
        migrations.RunSQL(
            FORWARD,
            BACKWARD,
            state_operations=[
                migrations.AlterField("usageevent", "answer", models.TextField(null=True)),
                migrations.AlterField("hold", "answer", models.TextField()),
                migrations.AlterField("hold", "closing", models.TextField(null=True)),
            ],
        )
    ]
