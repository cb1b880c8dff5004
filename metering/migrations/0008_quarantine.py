"""Refused events that are kept until what they were refused for is mended."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('accounts', '0003_heartbeats'),
        ('metering', '0007_rollup_levels'),
    ]

    operations = [
        migrations.CreateModel(
            name='QuarantinedEvent',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('digest', models.UUIDField(unique=True)),
                ('subject', models.CharField(blank=True, max_length=200)),
                ('source', models.CharField(max_length=200)),
                ('external_id', models.CharField(max_length=255)),
                ('type', models.CharField(max_length=200)),
                ('occurred_at', models.DateTimeField(null=True)),
                ('properties', models.JSONField()),
                ('code', models.CharField(max_length=40)),
                ('detail', models.CharField(max_length=500)),
                ('gateway_id', models.BigIntegerField(null=True)),
                ('first_at', models.DateTimeField()),
                ('last_at', models.DateTimeField()),
                ('times', models.PositiveIntegerField(default=1)),
                ('customer', models.ForeignKey(null=True, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='accounts.customer')),
            ],
        ),
    ]
