"""`manage.py prepare`: tables, broker, partitions and the example, in one process."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandParser

from accounts.operations.heartbeats import forget
from config.tasks import WORKER
from metering.operations.partitioning import make_partitions


class Command(BaseCommand):
    """What has to be there before the service starts; a further time it changes nothing."""

    help = "Migrate, prepare the broker, make partitions; with --state also sow the example."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Where the example's secrets are kept."""
        parser.add_argument("--state", type=Path, help="sow the example, its keys in this file")

    def handle(self, *args: Any, **options: Any) -> None:  # noqa: ARG002
        """Do all of it, in order."""
        call_command("migrate", verbosity=options["verbosity"], interactive=False)
        call_command("prepare_broker", stdout=self.stdout)
        make_partitions(now=datetime.now(UTC))
        forget(WORKER)  # of a worker of yesterday, which proves nothing about today's
        if options["state"] is not None:
            call_command("seed", state=options["state"], stdout=self.stdout)
