"""`python manage.py problems`: every problem that an answer can be."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from accounts.domain.problem_types import PROBLEM_TYPES
from config import generated


class Command(BaseCommand):
    """Lists the problems."""

    help = "List every problem: status, code, when, what to do."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        """--markdown (as in docs/problems.md)."""
        parser.add_argument("--markdown", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:  # noqa: ARG002
        """Print them."""
        if options["markdown"]:
            self.stdout.write(generated.problems_markdown(), ending="")
            return
        for kind in PROBLEM_TYPES.values():
            self.stdout.write(f"{kind.status} {kind.code}: {kind.when} {kind.mend}")
