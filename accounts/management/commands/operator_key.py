"""`python manage.py operator_key --name … --scopes …`: the first key of an installation."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts.domain.scopes import SCOPES, ScopeUnknown
from accounts.operations.keys import issue_operator_key


class Command(BaseCommand):
    """Issues an operator key to whoever has the shell."""

    help = "Issue an operator key and print it, this once."

    def add_arguments(self, parser: CommandParser) -> None:
        """Name, scopes, and for how long."""
        parser.add_argument("--name", required=True, help="what people will know it by")
        parser.add_argument(
            "--scopes", default="admin", help=f"separated by commas, of: {', '.join(SCOPES)}"
        )
        parser.add_argument("--days", type=int, help="how long it lives (default: until revoked)")

    def handle(self, *args: Any, **options: Any) -> None:  # noqa: ARG002
        """Print the key alone on standard output, and what it is on standard error."""
        now = datetime.now(UTC)
        days = options["days"]
        if days is not None and not 1 <= days <= 36_500:
            raise CommandError("--days is 1 to 36,500.")
        scopes = [each.strip() for each in options["scopes"].split(",") if each.strip()]
        try:
            key, made = issue_operator_key(
                name=options["name"],
                scopes=scopes,
                expires_at=now + timedelta(days=days) if days else None,
                actor="shell",
                now=now,
            )
        except ScopeUnknown as error:
            raise CommandError(str(error)) from error
        self.stderr.write(f"{key.public_id} with {', '.join(key.scopes)}; it is shown this once:")
        self.stdout.write(made.text)
