"""Meters that keep the greatest, the latest or the different values; meter versions; prices."""

import django.contrib.postgres.fields
import django.db.models.deletion
from django.db import migrations, models

AGGREGATIONS = [
    ('count', 'Count of events'),
    ('sum', 'Sum of a property'),
    ('max', 'Greatest value of a property'),
    ('latest', 'Latest value of a property'),
    ('unique', 'Number of different values of a property'),
]
WINDOWS = [
    ('minute', 'Minute'), ('hour', 'Hour'), ('day', 'Day'), ('week', 'Week'), ('month', 'Month'),
    ('year', 'Year'), ('lifetime', 'Lifetime'),
]
CLASSES = [
    (name, name)
    for name in (
        'input', 'output', 'cached_input', 'cache_write', 'reasoning', 'audio_input',
        'audio_output',
    )
]


class Migration(migrations.Migration):

    dependencies = [
        ('metering', '0004_corrections'),
    ]

    operations = [
        migrations.CreateModel(
            name='PriceTable',
            fields=[
                ('id', models.AutoField(primary_key=True, serialize=False)),
                ('key', models.CharField(max_length=100, unique=True)),
                ('name', models.CharField(blank=True, max_length=200)),
                ('currency', models.CharField(default='usd', max_length=3)),
                ('created_at', models.DateTimeField()),
            ],
        ),
        migrations.CreateModel(
            name='PriceTableVersion',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('number', models.PositiveIntegerField()),
                ('source', models.CharField(blank=True, max_length=200)),
                ('sha256', models.CharField(max_length=64)),
                ('created_at', models.DateTimeField()),
                ('created_by', models.CharField(max_length=60)),
                ('effective_at', models.DateTimeField(blank=True, null=True)),
                ('activated_at', models.DateTimeField(blank=True, null=True)),
                ('table', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='versions', to='metering.pricetable')),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('table', 'number'), name='pricetableversion_number'), models.UniqueConstraint(fields=('table', 'effective_at'), name='pricetableversion_begins_alone'), models.CheckConstraint(condition=models.Q(models.Q(('activated_at__isnull', True), ('effective_at__isnull', True)), models.Q(('activated_at__isnull', False), ('effective_at__isnull', False)), _connector='OR'), name='pricetableversion_is_draft_or_active')],
            },
        ),
        migrations.CreateModel(
            name='TokenPrice',
            fields=[
                ('pk', models.CompositePrimaryKey('version_id', 'model', 'token_class', blank=True, editable=False, primary_key=True, serialize=False)),
                ('model', models.CharField(max_length=200)),
                ('token_class', models.CharField(choices=CLASSES, max_length=20)),
                ('price', models.DecimalField(decimal_places=18, max_digits=25)),
                ('version', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='prices', to='metering.pricetableversion')),
            ],
            options={
                'constraints': [models.CheckConstraint(condition=models.Q(('price__gte', 0)), name='tokenprice_is_not_negative')],
            },
        ),
        migrations.RemoveConstraint(
            model_name='meter',
            name='meter_sum_names_a_property',
        ),
        migrations.AlterField(
            model_name='meter',
            name='aggregation',
            field=models.CharField(choices=AGGREGATIONS, max_length=8),
        ),
        migrations.AddField(
            model_name='meter',
            name='price_table',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='metering.pricetable'),
        ),
        migrations.AddConstraint(
            model_name='meter',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('aggregation', 'count'), ('value_property', '')), models.Q(models.Q(('aggregation', 'count'), _negated=True), models.Q(('value_property', ''), _negated=True)), _connector='OR'), name='meter_all_but_a_count_name_a_property'),
        ),
        migrations.AddConstraint(
            model_name='meter',
            constraint=models.CheckConstraint(condition=models.Q(('price_table__isnull', True), ('aggregation', 'sum'), _connector='OR'), name='meter_only_sums_are_priced'),
        ),
        migrations.CreateModel(
            name='MeterVersion',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('number', models.PositiveIntegerField()),
                ('effective_at', models.DateTimeField()),
                ('event_type', models.CharField(max_length=200)),
                ('value_property', models.CharField(blank=True, max_length=100)),
                ('dimensions', django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=100), blank=True, default=list, size=None)),
                ('filters', models.JSONField(blank=True, default=list)),
                ('created_at', models.DateTimeField()),
                ('created_by', models.CharField(max_length=60)),
                ('meter', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='versions', to='metering.meter')),
                ('price_table', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='metering.pricetable')),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('meter', 'number'), name='meterversion_number'), models.UniqueConstraint(fields=('meter', 'effective_at'), name='meterversion_begins_alone'), models.CheckConstraint(condition=models.Q(('number__gte', 2)), name='meterversion_follows_first')],
            },
        ),
        migrations.AddField(
            model_name='balance',
            name='latest_at',
            field=models.DateTimeField(null=True),
        ),
        migrations.CreateModel(
            name='WindowMember',
            fields=[
                ('pk', models.CompositePrimaryKey('customer_id', 'meter_id', 'window', 'start_at', 'member', blank=True, editable=False, primary_key=True, serialize=False)),
                ('window', models.CharField(choices=WINDOWS, max_length=8)),
                ('start_at', models.DateTimeField()),
                ('member', models.CharField(max_length=255)),
                ('customer', models.ForeignKey(db_constraint=False, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', to='accounts.customer')),
                ('meter', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='metering.meter')),
            ],
        ),
    ]
