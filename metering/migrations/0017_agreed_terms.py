from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("metering", "0016_hold_reach")]
    operations = [
        migrations.AddField(
            model_name="standing",
            name="agreed",
            field=models.JSONField(blank=True, null=True),
        ),
    ]
