"""`manage.py gateway_faults`: says what gateways get wrong when they ask, and what to do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from metering.queries.gateway_faults import gateway_faults


class Command(BaseCommand):
    """Reads only. Ends with 1 where a gateway asked wrongly; what strangers do is no fault."""

    help = "Check whether gateways ask wrongly, and say what to do."

    def add_arguments(self, parser: CommandParser) -> None:
        """How far to look back."""
        parser.add_argument("--hours", type=int, default=24, help="seen in the last so many hours")

    def handle(self, *args: Any, **options: Any) -> None:  # noqa: ARG002
        """Show them, the last first."""
        since = datetime.now(UTC) - timedelta(hours=options["hours"])
        faults, found = 0, list(gateway_faults(since=since))
        for row in found:
            advice = row.advice
            faults += bool(row.gateway) and not advice.anybody
            times = "once" if row.count == 1 else f"{row.count:,} times"
            self.stdout.write(
                f"{row.gateway or 'unknown gateway'}: {row.code}, {times} since "
                f"{row.first_at:%Y-%m-%d %H:%M}, last {row.last_at:%Y-%m-%d %H:%M} UTC\n"
                f"  {advice.means} {row.detail}\n"
                f"  {advice.mend}"
            )
        if faults:
            raise CommandError(f"{faults} to mend: see docs/gateways.md.")
        self.stdout.write("Nothing else is wrong." if found else "No gateway asks wrongly.")
