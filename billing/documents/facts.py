"""What stands in an invoice that people read, all in words; the page and the PDF lay it out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from django.conf import settings

from billing.domain.money import Money, format_exact, format_money
from billing.domain.parties import Party
from billing.domain.taxes import InvoiceTax
from billing.models import Invoice, InvoiceLine, PaymentAttempt
from billing.queries.parties import buyer, seller
from billing.queries.peers import Peers


@dataclass(frozen=True, slots=True)
class Pair:
    """Something and its name."""

    name: str
    value: str
    strong: bool = False


@dataclass(frozen=True, slots=True)
class TierRow:
    """A tier of a price and what it took; `less`: taken off, for it was billed before."""

    units: str
    quantity: str
    price: str
    amount: str
    less: bool = False


@dataclass(frozen=True, slots=True)
class LineRow:
    """A line, what lies behind it, and its tiers."""

    description: str
    about: str
    quantity: str
    amount: str
    exact: str
    tiers: tuple[TierRow, ...]


@dataclass(frozen=True, slots=True)
class InvoiceDocument:
    """One invoice. What is frozen with it comes from it; what is not, from today."""

    title: str
    seller: Party
    buyer: Party
    facts: tuple[Pair, ...]
    lines: tuple[LineRow, ...]
    totals: tuple[Pair, ...]
    credit_notes: tuple[Pair, ...]
    payments: tuple[Pair, ...]
    footer: str


def invoice_document(invoice: Invoice) -> InvoiceDocument:
    """The document of an invoice as it stands: the same invoice, the same document."""
    return InvoiceDocument(
        title=_title(invoice),
        seller=Party.from_json(invoice.seller) if invoice.seller else seller(),
        buyer=_buyer(invoice),
        facts=tuple(_facts(invoice)),
        lines=tuple(_line(line) for line in invoice.lines.order_by("position")),
        totals=tuple(_totals(invoice)),
        credit_notes=tuple(
            Pair(note.number, f"{_money(note.amount, invoice)}: {note.reason}")
            for note in invoice.credit_notes.order_by("id")
        ),
        payments=tuple(
            Pair(_moment(each.at), _attempt(each))
            for each in invoice.attempts.order_by("-at", "-id")
        ),
        footer=settings.INVOICE_FOOTER,
    )


def _title(invoice: Invoice) -> str:
    if invoice.status == Invoice.Status.DRAFT:
        return "Draft of an invoice"
    return f"{'Top-up' if invoice.wallet_id else 'Invoice'} {invoice.number}"


def _buyer(invoice: Invoice) -> Party:
    if invoice.buyer:
        return Party.from_json(invoice.buyer)
    return buyer(invoice.customer, peers=Peers([invoice.customer_id]))


def _facts(invoice: Invoice) -> Iterable[Pair]:
    yield Pair("Status", _status(invoice))
    if invoice.wallet_id is None:
        yield Pair("Period", f"{_day(invoice.period_start_at)} to {_day(invoice.period_end_at)}")
    if invoice.basis.get("interim"):
        yield Pair("Interim", "The usage so far; the invoice of the period's end has the rest")
    if invoice.issued_at:
        yield Pair("Issued", _day(invoice.issued_at))
    if invoice.paid_at:
        yield Pair("Paid", _day(invoice.paid_at))
    elif invoice.due_at and invoice.amount_due:
        yield Pair("Due", _day(invoice.due_at))
    if invoice.carried_to is not None:
        yield Pair("Carried to", str(invoice.carried_to))
    if invoice.failure_code and invoice.amount_due:
        again = invoice.next_attempt_at
        then = f"; the next is on {_day(again)}" if again else ""
        yield Pair("Last attempt", invoice.failure_code + then)


def _status(invoice: Invoice) -> str:
    if invoice.status == Invoice.Status.OPEN and invoice.push == Invoice.Push.CARRIED:
        return "Carried forward"
    return str(invoice.get_status_display())


def _totals(invoice: Invoice) -> Iterable[Pair]:
    tax = InvoiceTax.from_json(invoice.taxes)
    if tax.added:
        yield Pair("Total without tax", _money(invoice.total, invoice))
    yield from (Pair(row.words(), _money(row.amount, invoice)) for row in tax.rows)
    yield Pair("Total", _money(invoice.total_with_tax, invoice), strong=True)
    if invoice.amount_paid:
        yield Pair("Paid", _money(invoice.amount_paid, invoice))
    if invoice.amount_due:
        yield Pair("To pay", _money(invoice.amount_due, invoice), strong=True)


def _attempt(attempt: PaymentAttempt) -> str:
    words = str(attempt.get_outcome_display())
    return f"{words} ({attempt.code})" if attempt.code else words


def _line(line: InvoiceLine) -> LineRow:
    detail, currency = line.detail, line.invoice.currency
    tiers = [_tier(tier, currency) for tier in detail.get("tiers", [])]
    tiers += [_tier(tier, currency, less=True) for tier in detail.get("tiers_before", [])]
    usage = line.kind == InvoiceLine.Kind.USAGE and "amount" in detail
    return LineRow(
        description=line.description,
        about=_about(line),
        quantity="" if line.quantity is None else f"{line.quantity:,}",
        amount=format_money(Money(line.amount, currency)),
        exact=format_exact(Decimal(detail["amount"]), currency=currency) if usage else "",
        tiers=tuple(tiers),
    )


def _about(line: InvoiceLine) -> str:
    detail = line.detail
    if "used" not in detail:
        return ""
    parts = [f"{detail['used']:,} used"]
    if detail.get("included"):
        parts.append(f"{detail['included']:,} included")
    if detail.get("granted"):
        parts.append(f"{detail['granted']:,} paid by grants")
    parts.append(f"{_day(line.start_at)} to {_day(line.end_at)}")
    return ", ".join(parts)


def _tier(tier: Mapping[str, Any], currency: str, *, less: bool = False) -> TierRow:
    def exact(text: str) -> str:
        return format_exact(Decimal(text), currency=currency)

    if "bound" in tier:
        return TierRow(f"to the {tier['bound']}", "", "", exact(tier["amount"]), less)
    units = f"{tier['from_quantity'] + 1:,} to {tier['to_quantity']:,}"
    packages = f" in {tier['packages']:,} packages" if "packages" in tier else ""
    flat = f" + {exact(tier['flat_price'])}" if tier["flat_price"] != "0" else ""
    amount = exact(tier["amount"])
    return TierRow(
        units=f"less {units}, billed before" if less else units,
        quantity=f"{tier['quantity']:,}{packages}",
        price=exact(tier["unit_price"]) + flat,
        amount=f"-{amount}" if less else amount,
        less=less,
    )


def _money(amount: int, invoice: Invoice) -> str:
    return format_money(Money(amount, invoice.currency))


def _day(at: datetime) -> str:
    return f"{at.astimezone(UTC):%-d %B %Y}"


def _moment(at: datetime) -> str:
    return f"{at.astimezone(UTC):%-d %B %Y, %H:%M} UTC"
