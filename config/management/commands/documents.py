"""`python manage.py documents`: writes the generated documents, or checks that they are fresh."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from config import generated


class Command(BaseCommand):
    """Keeps docs/configuration.md, docs/problems.md and docs/openapi.json in step with the code."""

    help = "Write the generated documents anew; --check only says which are stale."

    def add_arguments(self, parser: CommandParser) -> None:
        """--check writes nothing."""
        parser.add_argument("--check", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:  # noqa: ARG002
        """Write or check; a stale document under --check ends with 1."""
        if not options["check"]:
            for name in generated.write_documents():
                self.stdout.write(f"written: {name}")
            return
        stale = generated.stale_documents()
        if stale:
            raise CommandError(f"stale: {', '.join(stale)}; write anew with `make docs`.")
        self.stdout.write("The generated documents are as the code makes them.")
