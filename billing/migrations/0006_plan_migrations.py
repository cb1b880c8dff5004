"""Orders to move customers between versions of a plan."""

import accounts.models.entities
import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('accounts', '0003_heartbeats'),
        ('billing', '0005_seats'),
    ]

    operations = [
        migrations.CreateModel(
            name='PlanMigration',
            fields=[
                ('id', models.BigIntegerField(default=accounts.models.entities.new_entity_id, editable=False, primary_key=True, serialize=False)),
                ('when', models.CharField(choices=[('now', 'At once'), ('period_end', 'When their periods end')], max_length=10)),
                ('status', models.CharField(choices=[('running', 'Running'), ('done', 'Done'), ('reverting', 'Being reverted'), ('reverted', 'Reverted')], default='running', max_length=9)),
                ('actor', models.CharField(max_length=60)),
                ('reason', models.CharField(blank=True, max_length=500)),
                ('created_at', models.DateTimeField()),
                ('finished_at', models.DateTimeField(blank=True, null=True)),
                ('source', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to='billing.planversion')),
                ('target', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to='billing.planversion')),
            ],
        ),
        migrations.CreateModel(
            name='MigratedSubscription',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('outcome', models.CharField(choices=[('pending', 'To be moved'), ('scheduled', 'Moves when its period ends'), ('moved', 'Moved'), ('refused', 'Cannot be moved'), ('reverted', 'Moved back'), ('kept', 'Cannot be moved back')], default='pending', max_length=9)),
                ('detail', models.CharField(blank=True, max_length=500)),
                ('effective_at', models.DateTimeField(blank=True, null=True)),
                ('due', models.BooleanField(default=True)),
                ('customer', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='accounts.customer')),
                ('subscription', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='billing.subscription')),
                ('migration', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='moves', to='billing.planmigration')),
            ],
        ),
        migrations.AddConstraint(
            model_name='planmigration',
            constraint=models.CheckConstraint(condition=models.Q(('source', models.F('target')), _negated=True), name='planmigration_goes_somewhere'),
        ),
        migrations.AddIndex(
            model_name='migratedsubscription',
            index=models.Index(condition=models.Q(('due', True)), fields=['migration', 'id'], name='migratedsubscription_due'),
        ),
        migrations.AddConstraint(
            model_name='migratedsubscription',
            constraint=models.UniqueConstraint(fields=('migration', 'subscription'), name='migratedsubscription_is_moved_once'),
        ),
    ]
