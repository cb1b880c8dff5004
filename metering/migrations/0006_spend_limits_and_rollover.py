"""Spend limits with the prices they are computed by, and what rolls over from window to window."""

from typing import ClassVar

import django.db.models.deletion
from django.db import migrations, models

WINDOWS = [
    ("minute", "Minute"),
    ("hour", "Hour"),
    ("day", "Day"),
    ("week", "Week"),
    ("month", "Month"),
    ("year", "Year"),
    ("lifetime", "Lifetime"),
]


class Migration(migrations.Migration):
    dependencies: ClassVar = [
        ("accounts", "0001_initial"),
        ("metering", "0005_meter_kinds_and_prices"),
    ]
    operations: ClassVar = [
        migrations.AddField(
            model_name="standing",
            name="spend_limit",
            field=models.JSONField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="entitlement", name="curve", field=models.JSONField(null=True)
        ),
        migrations.AddField(
            model_name="entitlement", name="rollover", field=models.BigIntegerField(default=0)
        ),
        migrations.AddField(
            model_name="entitlement", name="rollable", field=models.BigIntegerField(default=0)
        ),
        migrations.AddField(
            model_name="entitlement", name="rolls_at", field=models.DateTimeField(null=True)
        ),
        migrations.AddConstraint(
            model_name="entitlement",
            constraint=models.CheckConstraint(
                condition=models.Q(("rollable__gte", 0), ("rollover__gte", 0)),
                name="entitlement_rollover_is_not_negative",
            ),
        ),
        migrations.AddIndex(
            model_name="entitlement",
            index=models.Index(
                condition=models.Q(("rollover__gt", 0)),
                fields=["rolls_at"],
                name="entitlement_rolls_at",
            ),
        ),
        migrations.RemoveConstraint(model_name="grant", name="grant_is_never_overdrawn"),
        migrations.AddConstraint(
            model_name="grant",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("quantity__gte", 0),
                    ("used__gte", 0),
                    ("held__gte", 0),
                    (
                        "used__lte",
                        django.db.models.expressions.CombinedExpression(
                            models.F("quantity"), "-", models.F("held")
                        ),
                    ),
                ),
                name="grant_is_never_overdrawn",
            ),
        ),
        migrations.CreateModel(
            name="Rollover",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "customer_id",
                        "meter_id",
                        "window",
                        "start_at",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("window", models.CharField(choices=WINDOWS, max_length=8)),
                ("start_at", models.DateTimeField()),
                ("end_at", models.DateTimeField()),
                ("expires_at", models.DateTimeField()),
                ("included", models.BigIntegerField()),
                ("most", models.BigIntegerField()),
                ("grant_id", models.BigIntegerField(null=True)),
                (
                    "customer",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="accounts.customer",
                    ),
                ),
                (
                    "meter",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="metering.meter",
                    ),
                ),
            ],
            options={
                "indexes": [models.Index(fields=["expires_at"], name="rollover_expires_at")],
            },
        ),
    ]
