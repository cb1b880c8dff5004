"""Corrections beside the events they correct, backfills, and the view of what is in force."""

import accounts.models.entities
import django.contrib.postgres.fields
import django.db.models.deletion
from django.db import migrations, models


# Only the columns that usage, balances and billing are counted from.
FORWARD = """
CREATE VIEW metering_effectiveevent AS
SELECT event.customer_id, event.id, event.received_month, event.type, event.occurred_at,
       event.received_at,
       CASE WHEN fix.number IS NULL THEN event.usage      ELSE fix.usage      END AS usage,
       CASE WHEN fix.number IS NULL THEN event.properties ELSE fix.properties END AS properties,
       CASE WHEN fix.number IS NULL THEN event.paid_by    ELSE fix.paid_by    END AS paid_by,
       fix.number AS correction
  FROM metering_usageevent AS event
  LEFT JOIN metering_correction AS fix
    ON fix.customer_id = event.customer_id AND fix.event_id = event.id
   AND fix.superseded_at IS NULL
"""
BACKWARD = "DROP VIEW metering_effectiveevent"


class Migration(migrations.Migration):

    dependencies = [
        ('accounts', '0003_heartbeats'),
        ('metering', '0003_faults'),
    ]

    operations = [
        migrations.CreateModel(
            name='EffectiveEvent',
            fields=[
                ('pk', models.CompositePrimaryKey('customer_id', 'id', 'received_month', blank=True, editable=False, primary_key=True, serialize=False)),
                ('id', models.UUIDField()),
                ('received_month', models.DateField()),
                ('type', models.CharField(max_length=200)),
                ('occurred_at', models.DateTimeField()),
                ('received_at', models.DateTimeField()),
                ('usage', models.JSONField()),
                ('properties', models.JSONField(null=True)),
                ('paid_by', models.JSONField(null=True)),
                ('correction', models.PositiveSmallIntegerField(null=True)),
            ],
            options={
                'db_table': 'metering_effectiveevent',
                'managed': False,
            },
        ),
        migrations.CreateModel(
            name='Backfill',
            fields=[
                ('id', models.BigIntegerField(default=accounts.models.entities.new_entity_id, editable=False, primary_key=True, serialize=False)),
                ('mode', models.CharField(choices=[('add', 'Added to what is there'), ('replace', 'In place of what is there')], max_length=7)),
                ('status', models.CharField(choices=[('open', 'Open'), ('closing', 'Being applied'), ('closed', 'Applied'), ('reverting', 'Being undone'), ('reverted', 'Undone or dropped')], default='open', max_length=9)),
                ('event_type', models.CharField(max_length=200)),
                ('customers', django.contrib.postgres.fields.ArrayField(base_field=models.BigIntegerField(), size=None)),
                ('start_at', models.DateTimeField()),
                ('end_at', models.DateTimeField()),
                ('reason', models.CharField(max_length=500)),
                ('actor', models.CharField(max_length=60)),
                ('created_at', models.DateTimeField()),
                ('closing_at', models.DateTimeField(null=True)),
                ('closed_at', models.DateTimeField(null=True)),
                ('reverted_at', models.DateTimeField(null=True)),
                ('changed_at', models.DateTimeField()),
            ],
            options={
                'constraints': [models.CheckConstraint(condition=models.Q(('end_at__gt', models.F('start_at'))), name='backfill_range_has_a_length'), models.CheckConstraint(condition=models.Q(('reason', ''), _negated=True), name='backfill_has_a_reason')],
                'indexes': [models.Index(condition=models.Q(('status__in', ['closing', 'reverting'])), fields=['changed_at'], name='backfill_at_work')],
            },
        ),
        migrations.CreateModel(
            name='Correction',
            fields=[
                ('pk', models.CompositePrimaryKey('customer_id', 'event_id', 'number', blank=True, editable=False, primary_key=True, serialize=False)),
                ('event_id', models.UUIDField()),
                ('number', models.PositiveSmallIntegerField()),
                ('kind', models.CharField(choices=[('amend', 'Amended'), ('void', 'Voided'), ('restore', 'Restored when a backfill was undone'), ('repay', 'Paid by other grants since another event was corrected')], max_length=7)),
                ('occurred_at', models.DateTimeField()),
                ('usage', models.JSONField()),
                ('properties', models.JSONField(null=True)),
                ('paid_by', models.JSONField(null=True)),
                ('reason', models.CharField(max_length=500)),
                ('actor', models.CharField(max_length=60)),
                ('at', models.DateTimeField()),
                ('superseded_at', models.DateTimeField(null=True)),
                ('backfill_id', models.BigIntegerField(null=True)),
                ('customer', models.ForeignKey(db_constraint=False, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', to='accounts.customer')),
            ],
            options={
                'indexes': [models.Index(fields=['customer', 'at'], name='correction_customer_at'), models.Index(condition=models.Q(('backfill_id__isnull', False)), fields=['customer', 'backfill_id'], name='correction_backfill')],
                'constraints': [models.UniqueConstraint(condition=models.Q(('superseded_at__isnull', True)), fields=('customer', 'event_id'), name='correction_one_is_in_force'), models.CheckConstraint(condition=models.Q(('reason', ''), _negated=True), name='correction_has_a_reason'), models.CheckConstraint(condition=models.Q(models.Q(('kind', 'void'), _negated=True), ('usage', {}), _connector='OR'), name='correction_void_counts_nothing')],
            },
        ),
        migrations.CreateModel(
            name='StagedEvent',
            fields=[
                ('pk', models.CompositePrimaryKey('customer_id', 'backfill_id', 'id', blank=True, editable=False, primary_key=True, serialize=False)),
                ('backfill_id', models.BigIntegerField()),
                ('id', models.UUIDField()),
                ('source', models.CharField(max_length=200)),
                ('external_id', models.CharField(max_length=255)),
                ('occurred_at', models.DateTimeField()),
                ('usage', models.JSONField()),
                ('properties', models.JSONField(null=True)),
                ('fingerprint', models.BigIntegerField()),
                ('applied_at', models.DateTimeField(null=True)),
                ('outcome', models.CharField(blank=True, choices=[('added', 'Counted as a new event'), ('amended', 'Took the place of the event with its id'), ('same', 'Was there already'), ('refused', 'Its id belongs to an event that it may not replace'), ('undone', 'Taken back when the backfill was undone')], max_length=7)),
                ('customer', models.ForeignKey(db_constraint=False, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', to='accounts.customer')),
            ],
            options={
                'indexes': [models.Index(condition=models.Q(('applied_at__isnull', True)), fields=['customer', 'backfill_id', 'occurred_at'], name='stagedevent_waiting'), models.Index(fields=['customer', 'id'], name='stagedevent_customer_id')],
            },
        ),
        migrations.RunSQL(FORWARD, BACKWARD),
    ]
