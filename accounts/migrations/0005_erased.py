"""Since when nobody knows who a customer was; of those erased before, as the audit has it."""

from typing import ClassVar

from django.db import migrations, models

FORWARD = """
UPDATE accounts_customer AS c
   SET erased_at = a.at
  FROM (SELECT customer_id, min(at) AS at FROM accounts_auditentry
         WHERE action = 'customer.erased' AND customer_id IS NOT NULL GROUP BY 1) AS a
 WHERE a.customer_id = c.id;
UPDATE accounts_customerversion AS v
   SET version = v.version + 1
  FROM accounts_customer AS c
 WHERE c.id = v.customer_id AND c.erased_at IS NOT NULL;
"""


class Migration(migrations.Migration):
    dependencies: ClassVar = [("accounts", "0004_plural")]
    operations: ClassVar = [
        migrations.AddField(
            "customer", "erased_at", models.DateTimeField(null=True, blank=True)
        ),
        migrations.RunSQL(FORWARD, migrations.RunSQL.noop),
    ]
