"""Plans are offered by currency; billing says which one those that are published are in."""

from typing import ClassVar

from django.db import migrations, models

KEEP = "CREATE TABLE metering_offer_kept AS TABLE metering_offer"
PUT_BACK = """
INSERT INTO metering_offer (plan_key, plan_name, rank, terms, currency)
SELECT plan_key, plan_name, rank, terms, 'usd' FROM metering_offer_kept;
DROP TABLE metering_offer_kept;
"""


class Migration(migrations.Migration):
    dependencies: ClassVar = [
        ("metering", "0011_blended_entitlements"),
    ]
    operations: ClassVar = [
        migrations.RunSQL(KEEP, migrations.RunSQL.noop),
        migrations.DeleteModel("Offer"),
        migrations.CreateModel(
            name="Offer",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("plan_key", models.CharField(max_length=100)),
                ("currency", models.CharField(default="usd", max_length=3)),
                ("plan_name", models.CharField(max_length=200)),
                ("rank", models.BigIntegerField(default=0)),
                ("terms", models.JSONField(default=dict)),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(
                        fields=("plan_key", "currency"), name="offer_plan_is_unique_per_currency"
                    )
                ],
            },
        ),
        migrations.RunSQL(PUT_BACK, migrations.RunSQL.noop),
    ]
