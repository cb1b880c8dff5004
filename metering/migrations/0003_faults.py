"""Invariants that were found broken."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('metering', '0002_usage_events'),
    ]

    operations = [
        migrations.CreateModel(
            name='Fault',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('invariant', models.CharField(max_length=4)),
                ('subject', models.CharField(max_length=100)),
                ('detail', models.CharField(max_length=500)),
                ('found_at', models.DateTimeField()),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('invariant', 'subject', 'detail'), name='fault_is_kept_once')],
            },
        ),
    ]
