"""`manage.py reconcile`: does Stripe have the money that we have?"""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime, time

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils.dateparse import parse_date, parse_datetime

from billing.domain.reconciliation import Difference
from billing.payments import client
from billing.payments.reconciling import Comparison, compare, keep

DIFFERS, NOT_COMPARED = 1, 2


class Command(BaseCommand):
    """Prints each difference; exits with 1 where there is one, with 2 where it cannot compare."""

    help = "Compare every invoice, payment, refund and dispute of a span with Stripe."

    def add_arguments(self, parser: CommandParser) -> None:
        """The span, and what to do with what is found."""
        parser.add_argument("--from", dest="start", required=True, help="a date or a time (UTC)")
        parser.add_argument("--to", dest="end", help="a date or a time, not in it; default: now")
        parser.add_argument("--json", action="store_true", help="one JSON document")
        parser.add_argument("--keep", action="store_true", help="show it in the admin as well")

    def handle(self, *args: object, **options: str | None) -> None:  # noqa: ARG002
        """Compare and print."""
        now = datetime.now(UTC)
        start_at = _moment(options["start"] or "")
        end_at = _moment(options["end"]) if options["end"] else now
        if end_at <= start_at:
            raise CommandError("--to is not after --from.", returncode=NOT_COMPARED)
        try:
            comparison = compare(start_at, end_at, now=now)
        except _AWAY as error:
            words = f"Stripe cannot be asked: {error}"
            raise CommandError(words, returncode=NOT_COMPARED) from error
        if options["keep"]:
            keep(comparison, now=now)
        self.stdout.write(_document(comparison) if options["json"] else _text(comparison))
        if comparison.found:
            raise CommandError(f"{len(comparison.found)} differ.", returncode=DIFFERS)


_AWAY = (
    client.LiveKeyInDebug,
    client.StripeNotConfigured,
    client.StripeRefused,
    client.StripeStopped,
    client.StripeUnreachable,
)


def _moment(text: str) -> datetime:
    try:
        day, moment = parse_date(text), parse_datetime(text)
    except ValueError:
        day = moment = None
    if day is not None and len(text) <= len("2026-11-01"):
        moment = datetime.combine(day, time())
    if moment is None:
        words = f"{text!r} is not a date or time such as 2026-11-01 or 2026-11-01T12:00Z."
        raise CommandError(words, returncode=NOT_COMPARED)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _document(comparison: Comparison) -> str:
    shown = {
        "from": comparison.start_at.isoformat(),
        "to": comparison.end_at.isoformat(),
        "compared": comparison.counts,
        "differences": [asdict(each) for each in comparison.found],
    }
    return json.dumps(shown, indent=2)


def _text(comparison: Comparison) -> str:
    counts = ", ".join(f"{count} {kind}s" for kind, count in comparison.counts.items())
    return "\n".join([*map(_line, comparison.found), f"Compared {counts}."])


def _line(found: Difference) -> str:
    what = f"{found.kind:8} {found.how:14} {found.stripe_id} {found.subject}"
    return f"{what}: here {found.here or 'nothing'}, at Stripe {found.there or 'nothing'}"
