"""`manage.py stripe check`: is the connection to Stripe set up right?"""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime

from django.core.management.base import BaseCommand, CommandError, CommandParser

from billing.payments.checking import checks


class Command(BaseCommand):
    """Prints each check, and what to do about it; ends with 1 where one of them is an error."""

    help = "Look at the connection to Stripe: key, account, tax, clock, webhook endpoint."

    def add_arguments(self, parser: CommandParser) -> None:
        """`check`, and `--json` for machines."""
        parser.add_argument("action", choices=["check"])
        parser.add_argument("--json", action="store_true", help="one JSON document")

    def handle(self, *args: object, **options: object) -> None:  # noqa: ARG002
        """Run the checks."""
        found = list(checks(now=datetime.now(UTC)))
        if options["json"]:
            self.stdout.write(json.dumps({"checks": [asdict(check) for check in found]}, indent=2))
        else:
            for check in found:
                self.stdout.write(f"{check.level:8} {check.code:10} {check.message}")
                if check.remedy:
                    self.stdout.write(f"{'':19} {check.remedy}")
        wrong = [check.code for check in found if check.level == "error"]
        if wrong:
            raise CommandError(f"Not right: {', '.join(wrong)}.")
