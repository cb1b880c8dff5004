"""What rating needs to know of a closed period, frozen with its invoice."""

from typing import ClassVar

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies: ClassVar = [("billing", "0002_guards")]
    operations: ClassVar = [
        migrations.AddField(
            model_name="invoice", name="basis", field=models.JSONField(default=dict)
        ),
    ]
