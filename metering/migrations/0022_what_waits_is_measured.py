"""What waited before learns under which key it is counted, and how large it is.

In pieces, each by itself, for gates write meanwhile; run again after it was cut off it goes on. The
limit is then read from an index alone.
"""

import hashlib
import uuid
from typing import Any, ClassVar

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models
from django.db.models import Q
from django.db.models.expressions import RawSQL

PIECE = 500
SIZE = """
octet_length(properties::text) + 200
+ octet_length(concat(subject, source, external_id, type, detail))
"""


def measure(apps: Any, schema_editor: Any) -> None:  # noqa: ARG001
    """Say it of rows of the version before: the digest is one that only Python can make."""
    rows = apps.get_model("metering", "QuarantinedEvent").objects.filter(
        state="waiting", shape="", size=0
    )
    while piece := list(rows.only("source", "external_id").order_by("id")[:PIECE]):
        for row in piece:
            text = f"{row.source}\x1f{row.external_id}".encode("utf-8", "surrogatepass")
            row.event_id = uuid.UUID(bytes=hashlib.blake2b(text, digest_size=16).digest())
        rows.bulk_update(piece, ["event_id"])
        # Last, for it is by this that a row is known to be done.
        rows.filter(id__in=[row.id for row in piece]).update(
            size=RawSQL(SIZE, [])  # noqa: S611  # a constant
        )


class Migration(migrations.Migration):
    atomic = False
    dependencies: ClassVar = [("metering", "0021_fates_of_the_refused")]
    operations: ClassVar = [
        migrations.RunPython(measure, migrations.RunPython.noop),
        # One that was cut off leaves an index behind that is not valid.
        migrations.RunSQL(
            "DROP INDEX CONCURRENTLY IF EXISTS quarantined_waiting", migrations.RunSQL.noop
        ),
        AddIndexConcurrently(
            "quarantinedevent",
            models.Index(
                fields=["code", "size"], condition=Q(state="waiting"), name="quarantined_waiting"
            ),
        ),
    ]
