"""`manage.py stripe check`: is the connection set up right? `stripe push`: bring invoices there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Final

from django.core.management.base import BaseCommand, CommandError, CommandParser

from billing.payments import client
from billing.payments.checking import checks
from billing.payments.pushing import push_due
from billing.queries.pushing import push_states

_PIECE: Final = 20
_LEFT: Final = ("due", "later", "quarantined")


class Command(BaseCommand):
    """Ends with 1 where a check is an error, or an invoice did not get there."""

    help = "Look at the connection to Stripe (check), or push what waits to Stripe now (push)."

    def add_arguments(self, parser: CommandParser) -> None:
        """What to do, and `--json` for machines."""
        parser.add_argument("action", choices=["check", "push"])
        parser.add_argument("--json", action="store_true", help="one JSON document")

    def handle(self, *args: object, **options: object) -> None:  # noqa: ARG002
        """Do it."""
        if options["action"] == "push":
            self._push(as_json=bool(options["json"]))
        else:
            self._check(as_json=bool(options["json"]))

    def _check(self, *, as_json: bool) -> None:
        found = list(checks(now=datetime.now(UTC)))
        if as_json:
            self.stdout.write(json.dumps({"checks": [asdict(check) for check in found]}, indent=2))
        else:
            for check in found:
                self.stdout.write(f"{check.level:8} {check.code:10} {check.message}")
                if check.remedy:
                    self.stdout.write(f"{'':19} {check.remedy}")
        wrong = [check.code for check in found if check.level == "error"]
        if wrong:
            raise CommandError(f"Not right: {', '.join(wrong)}.")

    def _push(self, *, as_json: bool) -> None:
        if not client.configured():
            raise CommandError("No Stripe is set up here: set STRIPE_API_KEY.")
        before = now = push_states(at=datetime.now(UTC))
        going_on = True
        while going_on:
            try:
                going_on = push_due(now=datetime.now(UTC), limit=_PIECE) == _PIECE
            except client.LiveKeyInDebug as error:
                raise CommandError(str(error)) from error
            now = push_states(at=datetime.now(UTC))
            self.stderr.write(_sentence(before, now))
        self.stdout.write(json.dumps(_told(before, now)) if as_json else _sentence(before, now))
        if now["due"] or now["later"] or now["quarantined"] > before["quarantined"]:
            raise CommandError("Not all are there: the admin's list of invoices says why.")


def _told(before: Mapping[str, int], now: Mapping[str, int]) -> dict[str, int]:
    return {"pushed": now["pushed"] - before["pushed"], **{name: now[name] for name in _LEFT}}


def _sentence(before: Mapping[str, int], now: Mapping[str, int]) -> str:
    told = _told(before, now)
    return (
        f"{told['pushed']:,} pushed; {told['due']:,} due, {told['later']:,} wait for their next "
        f"attempt, {told['quarantined']:,} differ and wait for an operator"
    )
