"""What gateways get wrong when they ask, for their operators to see."""

from typing import ClassVar

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies: ClassVar = [("metering", "0022_what_waits_is_measured")]
    operations: ClassVar = [
        migrations.CreateModel(
            name="GatewayFault",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("gateway", models.CharField(blank=True, max_length=100)),
                ("code", models.CharField(max_length=40, verbose_name="Fault")),
                ("count", models.BigIntegerField(verbose_name="Times")),
                ("first_at", models.DateTimeField(verbose_name="First seen")),
                ("last_at", models.DateTimeField(verbose_name="Last seen")),
                ("detail", models.CharField(max_length=500)),
                ("param", models.CharField(blank=True, max_length=100)),
            ],
            options={
                "verbose_name": "gateway that asks wrongly",
                "verbose_name_plural": "gateways that ask wrongly",
                "constraints": [
                    models.UniqueConstraint(
                        fields=["gateway", "code"], name="gatewayfault_is_kept_once"
                    )
                ],
            },
        ),
    ]
