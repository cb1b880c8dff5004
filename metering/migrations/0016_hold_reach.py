"""How far the deleting of closed holds has come."""

import uuid
from typing import ClassVar

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies: ClassVar = [("metering", "0015_updates_in_place")]
    operations: ClassVar = [
        migrations.CreateModel(
            name="HoldReach",
            fields=[
                ("id", models.SmallIntegerField(primary_key=True, serialize=False)),
                ("before", models.DateTimeField()),
                ("after_customer", models.BigIntegerField(default=0)),
                ("after_hold", models.UUIDField(default=uuid.UUID(int=0))),
                ("done", models.BooleanField(default=False)),
            ],
        ),
    ]
