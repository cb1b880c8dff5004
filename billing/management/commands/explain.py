"""`manage.py explain INV-000001`: an invoice computed anew, with its sums."""

from __future__ import annotations

import json
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts.domain.ids import IdMalformed, decode
from billing.domain.money import Money, format_money
from billing.domain.taxes import InvoiceTax
from billing.models import Invoice
from billing.queries.explanations import ExplainedLine, Explanation, explained


class Command(BaseCommand):
    """Says how every amount comes about; exit code 1 where one does not follow."""

    help = "Compute an invoice again, from its details and from the events, and show the sums."

    def add_arguments(self, parser: CommandParser) -> None:
        """Which one, and how."""
        parser.add_argument("invoice", help="its number (INV-000001) or id (inv_…)")
        parser.add_argument("--json", action="store_true", help="JSON instead of text")

    def handle(self, *args: Any, **options: Any) -> None:  # noqa: ARG002
        """Print the sums."""
        found = explained(_invoice(options["invoice"]))
        data = [_line(each) for each in found.lines]
        whole = {"invoice": str(found.invoice), "total": found.invoice.total, "holds": found.holds}
        whole |= {"taxes": found.invoice.taxes, "total_with_tax": found.invoice.total_with_tax}
        self.stdout.write(
            json.dumps(whole | {"lines": data}, indent=2) if options["json"] else _text(found)
        )
        if not found.holds:
            sys.exit(1)


def _invoice(reference: str) -> Invoice:
    found = Invoice.objects.filter(number=reference).first()
    if found is None:
        try:
            found = Invoice.objects.filter(pk=decode(Invoice.PREFIX, reference)).first()
        except IdMalformed:
            found = None
    if found is None:
        raise CommandError(f"There is no invoice {reference!r}.")
    return found


def _line(each: ExplainedLine) -> dict[str, Any]:
    return {
        "description": each.line.description,
        "amount": each.line.amount,
        "recomputed": each.recomputed,
        "sums": list(each.sums),
        "used": each.used,
        "events": each.counted.events if each.counted else None,
        "counted": each.counted.quantity if each.counted else None,
    }


def _text(found: Explanation) -> str:
    currency = found.invoice.currency
    lines = []
    for each in found.lines:
        lines.append(f"{each.line.description}: {format_money(Money(each.line.amount, currency))}")
        if each.used is not None:
            lines.append(_usage(each))
        lines += [f"    {one}" for one in each.sums]
        if each.differs:
            lines.append(f"    ! computed again this is {each.recomputed:,} minor units")
    lines.append(f"Total: {format_money(Money(found.total, currency))}")
    for row in InvoiceTax.from_json(found.invoice.taxes).rows:
        amount, taxable = (format_money(Money(of, currency)) for of in (row.amount, row.taxable))
        lines.append(f"{row.words()}: {amount} on {taxable}, as Stripe computed it")
    if found.invoice.tax_added:
        whole = format_money(Money(found.invoice.total_with_tax, currency))
        lines.append(f"Total with tax: {whole}")
    lines.append("Every line follows from its details." if found.holds else "! This does not hold.")
    return "\n".join(lines)


def _usage(each: ExplainedLine) -> str:
    if each.counted is None:
        return f"    {each.used:,} used; the events are not kept any more"
    count = f"{each.counted.events:,} events come to {each.counted.quantity:,}"
    late = ", which the next invoice puts right" if each.changed else ""
    return f"    {each.used:,} used; today {count}{late}"
