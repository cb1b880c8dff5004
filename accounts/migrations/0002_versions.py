"""The single catalogue version; room on the page for the rows that every write updates."""

from typing import ClassVar

from django.db import migrations

FORWARD = """
ALTER TABLE accounts_customerversion SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02);
INSERT INTO accounts_catalogueversion (id, version) VALUES (1, 0);
"""


class Migration(migrations.Migration):
    dependencies: ClassVar = [("accounts", "0001_initial")]
    operations: ClassVar = [migrations.RunSQL(FORWARD, migrations.RunSQL.noop)]
