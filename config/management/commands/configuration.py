"""`python manage.py configuration`: every variable, its default, what it does."""

from __future__ import annotations

import os
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from config import environment, generated


class Command(BaseCommand):
    """Lists what the environment can give."""

    help = "List every FAREBOX_* variable: whether it is set, its default, what it does."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        """--markdown (as in docs/configuration.md) or --json."""
        form = parser.add_mutually_exclusive_group()
        form.add_argument("--markdown", action="store_true")
        form.add_argument("--json", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:  # noqa: ARG002
        """Print them; values of secrets never."""
        if options["markdown"]:
            self.stdout.write(generated.configuration_markdown(), ending="")
        elif options["json"]:
            self.stdout.write(generated.configuration_json(os.environ), ending="")
        else:
            for setting in environment.declared():
                given = os.environ.get(setting.name, "").strip()
                value = ("(hidden)" if setting.secret else given) if given else "not set"
                self.stdout.write(f"{setting.name} = {value}")
                self.stdout.write(f"    {setting.help} Takes {setting.expects}.")
                self.stdout.write(f"    Default: {setting.default!r}")
