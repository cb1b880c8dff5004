"""The last of the denials that are one row, and what workers count for /metrics."""

from typing import ClassVar

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies: ClassVar = [("metering", "0017_agreed_terms")]
    operations: ClassVar = [
        migrations.AddField(
            model_name="denial",
            name="last_problem",
            field=models.JSONField(blank=True, null=True),
        ),
        migrations.CreateModel(
            name="Tally",
            fields=[
                ("name", models.CharField(max_length=100, primary_key=True, serialize=False)),
                ("count", models.BigIntegerField(default=0)),
            ],
        ),
    ]
