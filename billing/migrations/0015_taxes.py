"""Tax that Stripe computed is kept with the invoice, once; Stripe is told billing details."""

from typing import ClassVar

from django.db import migrations, models

FORWARD = """
CREATE FUNCTION billing_refuse_tax_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the tax of invoice % is taken over: it cannot change', OLD.number
        USING ERRCODE = '23514', CONSTRAINT = 'invoice_tax_is_written_once';
END $$;
CREATE TRIGGER invoice_tax_is_written_once
    BEFORE UPDATE OF tax_added, tax_included, taxes, taxed_at ON billing_invoice
    FOR EACH ROW WHEN (
        OLD.taxed_at IS NOT NULL
        AND (NEW.tax_added, NEW.tax_included, NEW.taxes, NEW.taxed_at)
            IS DISTINCT FROM (OLD.tax_added, OLD.tax_included, OLD.taxes, OLD.taxed_at))
    EXECUTE FUNCTION billing_refuse_tax_change();
"""


class Migration(migrations.Migration):
    dependencies: ClassVar = [
        ('accounts', '0003_heartbeats'),
        ('billing', '0014_several_currencies'),
    ]

    operations: ClassVar = [
        migrations.AddField(
            model_name='billingdetails',
            name='tax_exempt',
            field=models.CharField(choices=[('none', 'Taxed'), ('exempt', 'Exempt'), ('reverse', 'Reverse charge')], default='none', max_length=7),
        ),
        migrations.AddField(
            model_name='invoice',
            name='tax_added',
            field=models.BigIntegerField(db_default=0, default=0),
        ),
        migrations.AddField(
            model_name='invoice',
            name='tax_included',
            field=models.BigIntegerField(db_default=0, default=0),
        ),
        migrations.AddField(
            model_name='invoice',
            name='tax_status',
            field=models.CharField(blank=True, db_default='', max_length=50),
        ),
        migrations.AddField(
            model_name='invoice',
            name='taxed_at',
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name='invoice',
            name='taxes',
            field=models.JSONField(blank=True, db_default=models.Value([], models.JSONField()), default=list),
        ),
        migrations.AddField(
            model_name='stripecustomer',
            name='told_details_at',
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddConstraint(
            model_name='invoice',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('tax_added', 0), ('tax_included', 0)), models.Q(('tax_added__gte', 0), ('tax_included__gte', 0), ('tax_included__lte', models.F('total')), ('taxed_at__isnull', False)), _connector='OR'), name='invoice_tax_is_of_its_total'),
        ),
        migrations.AddConstraint(
            model_name='invoice',
            constraint=models.CheckConstraint(condition=models.Q(('taxed_at__isnull', True), models.Q(('status', 'draft'), _negated=True), _connector='OR'), name='invoice_taxed_is_issued'),
        ),
        migrations.RunSQL(FORWARD, "DROP FUNCTION billing_refuse_tax_change CASCADE"),
    ]
