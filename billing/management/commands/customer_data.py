"""`manage.py customer_data export|erase CUSTOMER`: what the law lets a customer ask for."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts.models import Customer
from accounts.operations.auditing import audit
from accounts.queries import customer_by_reference
from billing.operations.erasing import CustomerInUse, erase_customer
from billing.queries.customer_data import customer_data


class Command(BaseCommand):
    """Both are audited."""

    help = "Export all that is kept of a customer as JSON lines, or erase who it is."

    def add_arguments(self, parser: CommandParser) -> None:
        """What to do, with whom."""
        parser.add_argument("what", choices=["export", "erase"])
        parser.add_argument("customer", help="cus_… or the external id")
        parser.add_argument("--to", type=Path, help="export: the file (default: standard output)")
        parser.add_argument("--reason", default="", help="erase: why, for the audit")
        parser.add_argument(
            "--keep", action="append", default=[], help="erase: a dimension that is not personal"
        )
        parser.add_argument("--actor", default="command", help="who is named in the audit")

    def handle(self, *args: Any, **options: Any) -> None:  # noqa: ARG002
        """Do it."""
        customer = customer_by_reference(options["customer"])
        if customer is None:
            raise CommandError("There is no such customer.")
        now = datetime.now(UTC)
        if options["what"] == "export":
            self._export(customer, options["to"], actor=options["actor"], now=now)
            return
        if not options["reason"]:
            raise CommandError("Say why: --reason.")
        try:
            done = erase_customer(
                customer.id,
                kept_dimensions=options["keep"],
                reason=options["reason"],
                actor=options["actor"],
                now=now,
            )
        except CustomerInUse as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{done.customer} is erased; {done.events:,} events have pseudonyms.")

    def _export(self, customer: Customer, to: Path | None, *, actor: str, now: datetime) -> None:
        audit(
            actor=actor,
            action="customer.exported",
            subject=customer.public_id,
            customer_id=customer.id,
            now=now,
        )
        if to is None:
            for text in customer_data(customer.id):
                self.stdout.write(text)
            return
        with to.open("w", encoding="utf-8") as file:
            rows = sum(1 for text in customer_data(customer.id) if file.write(f"{text}\n"))
        self.stdout.write(f"{rows:,} rows in {to}")
