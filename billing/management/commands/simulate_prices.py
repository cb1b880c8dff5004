"""`manage.py simulate_prices --plan-version pv_… --from 2026-01-01 --to 2026-07-01`."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts.domain.ids import IdMalformed, decode
from accounts.queries import customer_by_reference
from billing.domain.money import Money, format_money
from billing.models import PlanVersion
from billing.queries.catalogue import CurrencyUnfit, in_currency
from billing.queries.simulations import SimulatedCustomer, simulated, simulated_invoices

_PROGRESS_EVERY = 100


class Command(BaseCommand):
    """Rates past periods under another version of a plan and compares what each customer pays."""

    help = "Rate past periods under another plan version; changes nothing."

    def add_arguments(self, parser: CommandParser) -> None:
        """Under which version, when, and for whom."""
        parser.add_argument("--plan-version", required=True, help="pv_…, a draft too")
        parser.add_argument("--from", required=True, dest="start_at", help="periods from this date")
        parser.add_argument("--to", required=True, dest="end_at", help="to before this date")
        parser.add_argument("--currency", help="in which the version has a price (its first)")
        parser.add_argument("--source", help="pv_…: only subscriptions that stood under it")
        parser.add_argument(
            "--customer", action="append", metavar="ID", help="cus_… or external id; may repeat"
        )
        parser.add_argument("--json", action="store_true", help="JSON instead of text")

    def handle(self, *args: Any, **options: Any) -> None:  # noqa: ARG002
        """Print a line for each customer, and the whole; progress goes to standard error."""
        version = _version(options["plan_version"])
        try:
            version = in_currency(version, currency=options["currency"] or version.currency)
        except CurrencyUnfit as unfit:
            raise CommandError(str(unfit)) from unfit
        start_at, end_at = _day(options["start_at"]), _day(options["end_at"])
        if start_at >= end_at:
            raise CommandError("--to must be after --from.")
        found = simulated_invoices(
            version,
            start_at=start_at,
            end_at=end_at,
            customer_ids=_customers(options["customer"]),
            source=_version(options["source"]) if options["source"] else None,
        )
        rows: dict[int, SimulatedCustomer] = {}
        total = found.count()
        # By the server's cursor: memory does not grow with the customers.
        for count, invoice in enumerate(found.select_related("customer").iterator(), start=1):
            each, owner = simulated(version, invoice=invoice), invoice.customer
            row = rows.setdefault(
                owner.id, SimulatedCustomer(owner.public_id, owner.name, version.currency)
            )
            row.periods += 1
            row.before += each.before
            row.after += each.after
            if count % _PROGRESS_EVERY == 0 or count == total:
                self.stderr.write(f"{count:,} of {total:,} periods")
        report = _report(version, list(rows.values()))
        self.stdout.write(json.dumps(report, indent=2) if options["json"] else _text(report))


def _version(public_id: str) -> PlanVersion:
    try:
        number = decode(PlanVersion.PREFIX, public_id)
    except IdMalformed as error:
        raise CommandError(f"{public_id!r} is no id of a plan version (pv_…).") from error
    found = PlanVersion.objects.select_related("plan").filter(pk=number, base=None).first()
    if found is None:
        raise CommandError(f"There is no plan version {public_id!r}.")
    return found


def _customers(references: list[str] | None) -> list[int] | None:
    if references is None:
        return None
    return [_customer(reference) for reference in references]


def _customer(reference: str) -> int:
    found = customer_by_reference(reference)
    if found is None:
        raise CommandError(f"There is no customer {reference!r}.")
    return found.id


def _day(text: str) -> datetime:
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError as error:
        raise CommandError(f"{text!r} is not a date like 2026-01-31.") from error


def _report(version: PlanVersion, rows: list[SimulatedCustomer]) -> dict[str, Any]:
    return {
        "version": version.public_id,
        "plan": version.plan.key,
        "currency": version.currency,
        "periods": sum(row.periods for row in rows),
        "before": sum(row.before for row in rows),
        "after": sum(row.after for row in rows),
        "customers": [
            {
                "customer": row.customer,
                "name": row.name,
                "periods": row.periods,
                "before": row.before,
                "after": row.after,
                "difference": row.after - row.before,
            }
            for row in rows
        ],
    }


def _text(report: dict[str, Any]) -> str:
    def money(amount: int) -> str:
        return format_money(Money(amount, report["currency"]))

    lines = [
        f"{row['name']} ({row['customer']}), {row['periods']} periods: "
        f"{money(row['before'])} -> {money(row['after'])} ({row['difference']:+,})"
        for row in report["customers"]
    ]
    lines.append(
        f"Under {report['plan']} {report['version']}, {report['periods']} periods: "
        f"{money(report['before'])} -> {money(report['after'])}"
    )
    return "\n".join(lines)
