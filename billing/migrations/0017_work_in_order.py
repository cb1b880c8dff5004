"""Periods to close and drafts to issue are found in their order, without looking at all of them."""

from typing import ClassVar

from django.db import migrations, models
from django.db.models import Q


class Migration(migrations.Migration):
    dependencies: ClassVar = [("billing", "0016_tax_of_plans")]
    operations: ClassVar = [
        migrations.RemoveIndex("subscription", "subscription_period_end"),
        migrations.AddIndex(
            "subscription",
            models.Index(
                fields=["current_end_at", "id"],
                condition=~Q(status="canceled"),
                name="subscription_period_end",
            ),
        ),
        migrations.AddIndex(
            "invoice",
            models.Index(
                fields=["period_end_at", "id"], condition=Q(status="draft"), name="invoice_draft"
            ),
        ),
    ]
