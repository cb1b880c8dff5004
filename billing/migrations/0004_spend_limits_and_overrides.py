"""What holds for one customer besides the plan: spend limits and overrides."""

from typing import ClassVar

import accounts.models.entities
import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies: ClassVar = [
        ("accounts", "0003_heartbeats"),
        ("billing", "0003_invoice_basis"),
        ("metering", "0006_spend_limits_and_rollover"),
    ]

    operations: ClassVar = [
        migrations.CreateModel(
            name="Override",
            fields=[
                (
                    "id",
                    models.BigIntegerField(
                        default=accounts.models.entities.new_entity_id,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("metered", "Metered"),
                            ("boolean", "Boolean"),
                            ("static", "Static"),
                        ],
                        max_length=8,
                    ),
                ),
                ("feature", models.CharField(blank=True, max_length=100)),
                ("denied", models.BooleanField(default=False)),
                ("terms", models.JSONField(blank=True, default=dict)),
                ("reason", models.CharField(blank=True, max_length=200)),
                ("starts_at", models.DateTimeField()),
                ("ends_at", models.DateTimeField(blank=True, null=True)),
                ("due_at", models.DateTimeField(blank=True, null=True)),
                ("created_at", models.DateTimeField()),
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
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="metering.meter",
                    ),
                ),
            ],
            options={
                "indexes": [
                    models.Index(fields=["customer", "starts_at"], name="override_of_customer"),
                    models.Index(
                        condition=models.Q(("due_at__isnull", False)),
                        fields=["due_at"],
                        name="override_due_at",
                    ),
                ],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(
                                ("feature", ""), ("kind", "metered"), ("meter__isnull", False)
                            ),
                            models.Q(
                                models.Q(("kind", "metered"), _negated=True),
                                ("meter__isnull", True),
                                models.Q(("feature", ""), _negated=True),
                            ),
                            _connector="OR",
                        ),
                        name="override_names_a_meter_or_a_feature",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("ends_at__isnull", True),
                            ("ends_at__gte", models.F("starts_at")),
                            _connector="OR",
                        ),
                        name="override_ends_after_it_starts",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="SpendLimit",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "set_by",
                    models.CharField(
                        choices=[("customer", "The customer"), ("operator", "The operator")],
                        max_length=8,
                    ),
                ),
                ("amount", models.BigIntegerField()),
                ("updated_at", models.DateTimeField()),
                (
                    "customer",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="accounts.customer",
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(
                        fields=("customer", "set_by"), name="spendlimit_one_of_each_per_customer"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("amount__gte", 0)), name="spendlimit_is_not_negative"
                    ),
                ],
            },
        ),
    ]
