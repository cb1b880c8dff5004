"""`manage.py redrive`: tries events in quarantine again."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from metering.operations.redriving import redrive
from metering.queries.quarantine import event_bounds, filling

AT_ONCE = 500


class Command(BaseCommand):
    """Every event that waits is tried once; run again, it harms nothing."""

    help = "Try events in quarantine again, for instance after their meter was made."

    def add_arguments(self, parser: CommandParser) -> None:
        """Who does it, for the audit."""
        parser.add_argument("--actor", default="command", help="who is named in the audit")

    def handle(self, *args: Any, **options: Any) -> None:  # noqa: ARG002
        """Try all of them, in portions."""
        now = datetime.now(UTC)
        total: Counter[str] = Counter()
        while True:
            done = redrive(limit=AT_ONCE, bounds=event_bounds(), actor=options["actor"], now=now)
            tally = Counter(counted=done.counted, duplicates=done.duplicates, refused=done.refused)
            total += tally
            if tally.total() == 0:
                break
        waits = filling()
        chosen = f", {waits.chosen:,} of them for a person to decide on" if waits.chosen else ""
        self.stdout.write(
            f"{total['counted']:,} counted, {total['duplicates']:,} duplicates, "
            f"{total['refused']:,} refused again, {waits.events:,} in quarantine{chosen}"
        )
