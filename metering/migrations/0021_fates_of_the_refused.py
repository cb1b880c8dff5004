"""The quarantine keeps what could not be translated, and for a while what it gave back."""

from typing import Any, ClassVar

from django.db import migrations, models

def forget_what_went(apps: Any, schema_editor: Any) -> None:  # noqa: ARG001
    """Drop what the table had no room for before."""
    rows = apps.get_model("metering", "QuarantinedEvent").objects
    rows.exclude(state="waiting", shape="").delete()


class Migration(migrations.Migration):
    dependencies: ClassVar = [("metering", "0020_last_denials_and_tallies")]
    operations: ClassVar = [
        migrations.AddField("quarantinedevent", "closed_at", models.DateTimeField(null=True)),
        migrations.AddField("quarantinedevent", "event_id", models.UUIDField(null=True)),
        migrations.AddField(
            "quarantinedevent",
            "options",
            models.JSONField(db_default=models.Value({}, models.JSONField()), default=dict),
        ),
        migrations.AddField(
            "quarantinedevent",
            "shape",
            models.CharField(blank=True, db_default="", default="", max_length=20),
        ),
        migrations.AddField(
            "quarantinedevent", "size", models.IntegerField(db_default=0, default=0)
        ),
        migrations.AddField(
            "quarantinedevent",
            "state",
            models.CharField(
                choices=[
                    ("waiting", "Waiting"),
                    ("counted", "Counted"),
                    ("duplicate", "Counted before"),
                ],
                db_default="waiting",
                default="waiting",
                max_length=9,
            ),
        ),
        migrations.AlterField(
            "quarantinedevent", "digest", models.UUIDField(null=True, unique=True)
        ),
        migrations.AlterField(
            "quarantinedevent", "external_id", models.CharField(blank=True, max_length=255)
        ),
        migrations.AlterField(
            "quarantinedevent", "type", models.CharField(blank=True, max_length=200)
        ),
        migrations.AddIndex(
            "quarantinedevent", models.Index(fields=["event_id"], name="quarantined_by_event")
        ),
        migrations.AddConstraint(
            "quarantinedevent",
            models.CheckConstraint(
                condition=models.Q(
                    closed_at__isnull=True, digest__isnull=False, state="waiting"
                )
                | (
                    ~models.Q(state="waiting")
                    & models.Q(
                        closed_at__isnull=False,
                        customer__isnull=False,
                        digest__isnull=True,
                        event_id__isnull=False,
                    )
                ),
                name="quarantined_event_waits_or_went_somewhere",
            ),
        ),
        migrations.RunPython(migrations.RunPython.noop, forget_what_went),
    ]
