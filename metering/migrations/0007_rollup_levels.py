"""Rollups by day and by month, members of unique meters, and months of events that are gone."""

import django.contrib.postgres.fields
import django.contrib.postgres.indexes
import django.db.models.deletion
from django.db import migrations, models

# Buckets that are added to often keep room in their page, so that no index is touched.
FORWARD = """
ALTER TABLE metering_rollupday SET (fillfactor = 90);
ALTER TABLE metering_rollupmonth SET (fillfactor = 90);
ALTER TABLE metering_usagebatch SET (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 10000);
"""


class Migration(migrations.Migration):

    dependencies = [
        ('accounts', '0003_heartbeats'),
        ('metering', '0006_spend_limits_and_rollover'),
    ]

    operations = [
        migrations.CreateModel(
            name='RetiredMonth',
            fields=[
                ('month', models.DateField(primary_key=True, serialize=False)),
                ('events', models.BigIntegerField(default=0)),
                ('exported_to', models.CharField(blank=True, max_length=1000)),
                ('exported_at', models.DateTimeField(null=True)),
                ('detached_at', models.DateTimeField(null=True)),
                ('dropped_at', models.DateTimeField(null=True)),
            ],
        ),
        migrations.CreateModel(
            name='DailyRollup',
            fields=[
                ('pk', models.CompositePrimaryKey('customer_id', 'meter_id', 'start_at', 'dimensions', blank=True, editable=False, primary_key=True, serialize=False)),
                ('start_at', models.DateTimeField()),
                ('dimensions', models.JSONField(default=dict)),
                ('quantity', models.BigIntegerField()),
                ('events', models.BigIntegerField()),
                ('latest_at', models.DateTimeField(null=True)),
                ('customer', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', to='accounts.customer')),
                ('meter', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='metering.meter')),
            ],
            options={'db_table': 'metering_rollupday', 'abstract': False},
        ),
        migrations.CreateModel(
            name='MonthlyRollup',
            fields=[
                ('pk', models.CompositePrimaryKey('customer_id', 'meter_id', 'start_at', 'dimensions', blank=True, editable=False, primary_key=True, serialize=False)),
                ('start_at', models.DateTimeField()),
                ('dimensions', models.JSONField(default=dict)),
                ('quantity', models.BigIntegerField()),
                ('events', models.BigIntegerField()),
                ('latest_at', models.DateTimeField(null=True)),
                ('customer', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', to='accounts.customer')),
                ('meter', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='metering.meter')),
            ],
            options={'db_table': 'metering_rollupmonth', 'abstract': False},
        ),
        migrations.CreateModel(
            name='RollupMember',
            fields=[
                ('pk', models.CompositePrimaryKey('customer_id', 'meter_id', 'start_at', 'dimensions', 'member', blank=True, editable=False, primary_key=True, serialize=False)),
                ('start_at', models.DateTimeField()),
                ('dimensions', models.JSONField(default=dict)),
                ('member', models.CharField(max_length=255)),
                ('customer', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', to='accounts.customer')),
                ('meter', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='metering.meter')),
            ],
        ),
        migrations.CreateModel(
            name='RollupReach',
            fields=[
                ('slot', models.SmallIntegerField(primary_key=True, serialize=False)),
                ('days_to', models.DateTimeField(null=True)),
                ('months_to', models.DateTimeField(null=True)),
            ],
            options={
                'constraints': [
                    models.CheckConstraint(condition=models.Q(('slot__gte', 0), ('slot__lt', 64)), name='rollupreach_slot_is_one_of_64'),
                    models.CheckConstraint(condition=models.Q(('months_to__isnull', True), ('months_to__lte', models.F('days_to')), _connector='OR'), name='rollupreach_months_are_made_of_days'),
                ],
            },
        ),
        migrations.AddField(
            model_name='rollup',
            name='latest_at',
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name='usagebatch',
            name='customers',
            field=django.contrib.postgres.fields.ArrayField(base_field=models.BigIntegerField(), null=True, size=None),
        ),
        migrations.AlterField(
            model_name='rollup',
            name='customer',
            field=models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', to='accounts.customer'),
        ),
        migrations.AlterField(
            model_name='rollup',
            name='meter',
            field=models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='metering.meter'),
        ),
        migrations.AddIndex(
            model_name='rollup',
            index=django.contrib.postgres.indexes.BrinIndex(autosummarize=True, fields=['start_at'], name='rollup_start_at'),
        ),
        migrations.AddIndex(
            model_name='dailyrollup',
            index=django.contrib.postgres.indexes.BrinIndex(autosummarize=True, fields=['start_at'], name='rollupday_start_at'),
        ),
        migrations.RunSQL(FORWARD, migrations.RunSQL.noop),
    ]
