"""`manage.py seed`: an example catalogue, two customers, and keys to try it all with."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from config.quickstart import state
from config.quickstart.seed import sow


class Command(BaseCommand):
    """Makes what is missing of the example; a further time it changes nothing."""

    help = "Make an example catalogue, customers and keys; keep the secrets in a file."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Where the secrets are kept."""
        parser.add_argument(
            "--state", type=Path, default=Path("quickstart-state.json"), help="file of the secrets"
        )

    def handle(self, *args: Any, **options: Any) -> None:  # noqa: ARG002
        """Sow, and remember the keys."""
        path: Path = options["state"]
        try:
            state.write(path, sow(state.read(path), now=datetime.now(UTC)))
        except state.StateUnreadable as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"The example is there; its keys are in {path}.")
