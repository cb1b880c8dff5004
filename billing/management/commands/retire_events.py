"""`manage.py retire_events`: what retention would drop, and, asked to, does drop."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from billing.queries.retention import events_needed_from
from metering.domain.retention import retirable
from metering.operations.retiring import ExportIncomplete, retire
from metering.queries.retention import months_present, windows_in_force_from


class Command(BaseCommand):
    """Without --apply it changes nothing."""

    help = "Show which months of raw usage events may go; with --apply export and drop them."

    def add_arguments(self, parser: CommandParser) -> None:
        """How many months stay, where files go, whether it is meant."""
        parser.add_argument(
            "--months", type=int, default=settings.EVENTS_KEPT_MONTHS, help="whole months that stay"
        )
        parser.add_argument(
            "--folder", default=settings.EXPORT_FOLDER, help="where the files of a month go"
        )
        parser.add_argument("--apply", action="store_true", help="export and drop")

    def handle(self, *args: Any, **options: Any) -> None:  # noqa: ARG002
        """Say what is needed since when, what may go, and what was done."""
        now = datetime.now(UTC)
        months, billing = options["months"], events_needed_from(now=now)
        windows = windows_in_force_from(now=now)
        self.stdout.write(f"billing may ask for events from {billing:%F %H:%M} on")
        self.stdout.write(f"windows of rights that stand, from {windows:%F %H:%M} on")
        if not months:
            raise CommandError("All months are kept: set FAREBOX_EVENTS_KEPT_MONTHS, or --months.")
        if not options["apply"]:
            going = retirable(
                months_present(), now=now, kept_months=months, needed_from=min(billing, windows)
            )
            self.stdout.write(f"may go: {', '.join(f'{m:%Y-%m}' for m in going) or 'nothing'}")
            return
        if not options["folder"]:
            raise CommandError("Say where the files go: FAREBOX_EXPORT_FOLDER, or --folder.")
        folder = Path(options["folder"])
        try:
            done = retire(now=now, kept_months=months, folder=folder, needed_from=billing)
        except (ExportIncomplete, OSError) as error:
            raise CommandError(str(error)) from error
        for each in done or ["nothing to do"]:
            self.stdout.write(each)
