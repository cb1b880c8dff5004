"""A version has prices in several currencies; a customer's currency stays once it is used."""

from typing import ClassVar

import django.db.models.deletion
from django.db import migrations, models

OFFERS = """
UPDATE metering_offer AS o SET currency = v.currency
  FROM billing_planversion AS v JOIN billing_plan AS p ON p.id = v.plan_id
 WHERE p.key = o.plan_key AND v.state = 'active'
"""
FORWARD = """
CREATE FUNCTION billing_refuse_unlike_planversion() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM billing_planversion AS base
                    WHERE base.id = NEW.base_id AND base.base_id IS NULL AND base.state = 'draft'
                      AND base.plan_id = NEW.plan_id AND base.number = NEW.number
                      AND base."interval" = NEW."interval" AND base.currency <> NEW.currency) THEN
        RAISE EXCEPTION 'prices in a further currency belong to a draft of the same plan'
            USING ERRCODE = '23514', CONSTRAINT = 'planversion_is_as_its_base';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER planversion_is_as_its_base BEFORE INSERT OR UPDATE OF base_id ON billing_planversion
    FOR EACH ROW WHEN (NEW.base_id IS NOT NULL)
    EXECUTE FUNCTION billing_refuse_unlike_planversion();

CREATE FUNCTION billing_refuse_currency_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM billing_subscription WHERE customer_id = NEW.id)
        OR EXISTS (SELECT FROM billing_invoice WHERE customer_id = NEW.id)
        OR EXISTS (SELECT FROM billing_wallet WHERE customer_id = NEW.id)
        OR EXISTS (SELECT FROM billing_credit WHERE customer_id = NEW.id)
        OR EXISTS (SELECT FROM billing_ledgerposting WHERE customer_id = NEW.id)
        OR EXISTS (SELECT FROM billing_couponredemption WHERE customer_id = NEW.id)
        OR EXISTS (SELECT FROM billing_spendlimit WHERE customer_id = NEW.id)
        OR EXISTS (SELECT FROM billing_override
                    WHERE customer_id = NEW.id AND terms ? 'price')
        OR EXISTS (SELECT FROM billing_checkoutsession
                    WHERE customer_id = NEW.id AND version_id IS NOT NULL
                      AND status IN ('pending', 'open')) THEN
        RAISE EXCEPTION 'the currency of customer % stays', NEW.id
            USING ERRCODE = '23514', CONSTRAINT = 'customer_currency_is_fixed',
                  DETAIL = 'customer_currency_is_fixed: something was sold, given or agreed in it';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER customer_currency_is_fixed BEFORE UPDATE OF currency ON accounts_customer
    FOR EACH ROW WHEN (NEW.currency IS DISTINCT FROM OLD.currency)
    EXECUTE FUNCTION billing_refuse_currency_change();
"""
BACKWARD = """
DROP FUNCTION billing_refuse_unlike_planversion CASCADE;
DROP FUNCTION billing_refuse_currency_change CASCADE;
"""


class Migration(migrations.Migration):
    dependencies: ClassVar = [
        ("accounts", "0003_heartbeats"),
        ("metering", "0012_offers_by_currency"),
        ('billing', '0013_price_simulations'),
    ]

    operations: ClassVar = [
        migrations.RemoveConstraint(
            model_name='planversion',
            name='planversion_number_is_unique_per_plan',
        ),
        migrations.RemoveConstraint(
            model_name='planversion',
            name='planversion_one_is_active',
        ),
        migrations.AddField(
            model_name='planversion',
            name='base',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.CASCADE, related_name='further', to='billing.planversion'),
        ),
        migrations.AddConstraint(
            model_name='planversion',
            constraint=models.UniqueConstraint(condition=models.Q(('base__isnull', True)), fields=('plan', 'number'), name='planversion_number_is_unique_per_plan'),
        ),
        migrations.AddConstraint(
            model_name='planversion',
            constraint=models.UniqueConstraint(fields=('plan', 'number', 'currency'), name='planversion_currency_is_unique_per_number'),
        ),
        migrations.AddConstraint(
            model_name='planversion',
            constraint=models.UniqueConstraint(condition=models.Q(('base__isnull', True), ('state', 'active')), fields=('plan',), name='planversion_one_is_active'),
        ),
        migrations.AddConstraint(
            model_name='planversion',
            constraint=models.UniqueConstraint(condition=models.Q(('state', 'active')), fields=('plan', 'currency'), name='planversion_one_is_active_in_a_currency'),
        ),
        migrations.RunSQL(OFFERS, migrations.RunSQL.noop),
        migrations.RunSQL(FORWARD, BACKWARD),
    ]
