"""A discarded event stays for its fate: who discarded it, and why."""

from typing import Any, ClassVar

from django.db import migrations, models
from django.db.models import Q

NAME = "quarantined_event_waits_or_went_somewhere"


def drop_discarded(apps: Any, schema_editor: Any) -> None:  # noqa: ARG001
    """Drop what the version before deletes at once."""
    apps.get_model("metering", "QuarantinedEvent").objects.filter(state="discarded").delete()


class Migration(migrations.Migration):
    dependencies: ClassVar = [("metering", "0023_gateways_that_ask_wrongly")]
    operations: ClassVar = [
        migrations.AddField(
            "quarantinedevent",
            "closed_by",
            models.CharField(blank=True, db_default="", default="", max_length=100),
        ),
        migrations.AddField(
            "quarantinedevent",
            "reason",
            models.CharField(
                blank=True,
                db_default="",
                default="",
                max_length=500,
                verbose_name="Why discarded",
            ),
        ),
        migrations.AlterField(
            "quarantinedevent",
            "state",
            models.CharField(
                choices=[
                    ("waiting", "Waiting"),
                    ("counted", "Counted"),
                    ("duplicate", "Counted before"),
                    ("discarded", "Discarded"),
                ],
                db_default="waiting",
                default="waiting",
                max_length=9,
            ),
        ),
        migrations.RemoveConstraint("quarantinedevent", NAME),
        migrations.AddConstraint(
            "quarantinedevent",
            models.CheckConstraint(
                condition=Q(state="waiting", digest__isnull=False, closed_at__isnull=True)
                | Q(state="discarded", digest__isnull=True, closed_at__isnull=False)
                | (
                    ~Q(state__in=["waiting", "discarded"])
                    & Q(
                        digest__isnull=True,
                        closed_at__isnull=False,
                        customer__isnull=False,
                        event_id__isnull=False,
                    )
                ),
                name=NAME,
            ),
        ),
        migrations.RunPython(migrations.RunPython.noop, drop_discarded),
    ]
