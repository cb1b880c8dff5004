"""Invoices keep who billed whom; customers have billing details."""

from typing import ClassVar

import django.db.models.deletion
from django.db import migrations, models
from django.db.models import Q

BODY = """
CREATE OR REPLACE FUNCTION billing_refuse_invoice_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        IF OLD.status <> 'draft' THEN
            RAISE EXCEPTION 'invoice % is issued: it cannot be deleted', OLD.number
                USING ERRCODE = '23514', CONSTRAINT = 'invoice_issued_is_immutable';
        END IF;
        RETURN OLD;
    END IF;
    IF OLD.status <> 'draft' AND (
        NEW.status = 'draft'
        OR (NEW.number, NEW.customer_id, NEW.currency, NEW.total, NEW.period_start_at,
            NEW.period_end_at, NEW.issued_at)
           IS DISTINCT FROM
           (OLD.number, OLD.customer_id, OLD.currency, OLD.total, OLD.period_start_at,
            OLD.period_end_at, OLD.issued_at){parties}
        OR (OLD.status IN ('paid', 'void') AND NEW.status <> OLD.status)) THEN
        RAISE EXCEPTION 'invoice % is issued: it cannot change', OLD.number
            USING ERRCODE = '23514', CONSTRAINT = 'invoice_issued_is_immutable';
    END IF;
    IF OLD.status = 'draft' AND NEW.status <> 'draft' AND NEW.total <> (
        SELECT coalesce(sum(amount), 0) FROM billing_invoiceline WHERE invoice_id = NEW.id) THEN
        RAISE EXCEPTION 'invoice % does not equal the sum of its lines', NEW.number
            USING ERRCODE = '23514', CONSTRAINT = 'invoice_total_is_sum_of_lines';
    END IF;
    RETURN NEW;
END $$;
"""
PARTIES = """
        OR NEW.seller IS DISTINCT FROM OLD.seller
        OR (NEW.buyer IS DISTINCT FROM OLD.buyer AND NEW.buyer <> '{}'::jsonb)"""


class Migration(migrations.Migration):
    dependencies: ClassVar = [
        ("accounts", "0001_initial"),
        ("billing", "0007_coupons"),
    ]
    operations: ClassVar = [
        migrations.CreateModel(
            name="BillingDetails",
            fields=[
                (
                    "customer",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="billing_details",
                        serialize=False,
                        to="accounts.customer",
                    ),
                ),
                ("legal_name", models.CharField(blank=True, max_length=200)),
                ("line1", models.CharField(blank=True, max_length=200)),
                ("line2", models.CharField(blank=True, max_length=200)),
                ("city", models.CharField(blank=True, max_length=100)),
                ("state", models.CharField(blank=True, max_length=100)),
                ("postal_code", models.CharField(blank=True, max_length=20)),
                ("country", models.CharField(blank=True, max_length=2)),
                ("tax_id", models.CharField(blank=True, max_length=50)),
                ("updated_at", models.DateTimeField()),
            ],
            options={
                "verbose_name_plural": "billing details",
                "constraints": [
                    models.CheckConstraint(
                        condition=Q(country="") | Q(country__regex=r"^[A-Z]{2}$"),
                        name="billingdetails_country_is_iso",
                    )
                ],
            },
        ),
        migrations.AddField(
            model_name="invoice", name="seller", field=models.JSONField(blank=True, default=dict)
        ),
        migrations.AddField(
            model_name="invoice", name="buyer", field=models.JSONField(blank=True, default=dict)
        ),
        migrations.RunSQL(
            BODY.replace("{parties}", PARTIES), BODY.replace("{parties}", "")
        ),
    ]
