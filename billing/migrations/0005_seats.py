"""Seats: what a version charges for each, and how many a subscription has."""

from typing import ClassVar

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies: ClassVar = [("billing", "0004_spend_limits_and_overrides")]
    operations: ClassVar = [
        migrations.AddField(
            model_name="planversion", name="seats", field=models.JSONField(blank=True, null=True)
        ),
        migrations.AddField(
            model_name="subscription", name="seats", field=models.PositiveIntegerField(default=1)
        ),
        migrations.AddField(
            model_name="subscription",
            name="pending_seats",
            field=models.PositiveIntegerField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="subscriptionphase",
            name="seats",
            field=models.PositiveIntegerField(default=1),
        ),
    ]
