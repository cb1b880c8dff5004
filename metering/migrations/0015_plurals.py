"""What the admin calls more than one of them."""

from typing import ClassVar

from django.db import migrations


class Migration(migrations.Migration):
    dependencies: ClassVar = [("metering", "0014_no_index_twice")]
    operations: ClassVar = [
        migrations.AlterModelOptions(
            name="rollupreach", options={"verbose_name_plural": "rollup reaches"}
        ),
        migrations.AlterModelOptions(
            name="usagebatch", options={"verbose_name_plural": "usage batches"}
        ),
    ]
