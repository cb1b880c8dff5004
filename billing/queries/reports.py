"""What finance downloads: usage and invoice lines of a span of time, row by row.

A row is in a report where its invoice was issued (neither draft nor void) for a period that ended
in `(start_at, end_at]`: a month's report has the periods that the month ended. Amounts are integer
minor units; summed up by invoice they are its total, to the cent. Rows stream: a report of any
size needs a constant amount of memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from django.db.models import QuerySet

from accounts.domain.ids import encode
from billing.models import Invoice, InvoiceLine

CHUNK: Final = 2_000
Row = list[str]
LINE_COLUMNS: Final = (
    "invoice", "invoice_id", "customer", "customer_id", "external_id", "status", "currency",
    "period_start", "period_end", "line_id", "kind", "meter", "quantity", "amount", "line_start",
    "line_end", "description", "invoice_total", "invoice_tax", "invoice_total_with_tax",
)  # fmt: skip
USAGE_COLUMNS: Final = (
    "customer", "customer_id", "external_id", "meter", "unit", "plan", "start", "end", "used",
    "included", "granted", "billed", "amount", "currency", "kind", "invoice",
)  # fmt: skip


def invoice_line_rows(
    *, start_at: datetime, end_at: datetime, customer_id: int | None = None
) -> Iterator[Row]:
    """The header, then every line of the span's invoices."""
    yield list(LINE_COLUMNS)
    for line in _lines(start_at, end_at, customer_id).iterator(chunk_size=CHUNK):
        invoice = line.invoice
        yield [
            invoice.number or "",
            invoice.public_id,
            *_who(invoice),
            invoice.status,
            invoice.currency,
            invoice.period_start_at.isoformat(),
            invoice.period_end_at.isoformat(),
            line.public_id,
            line.kind,
            line.meter.key if line.meter else "",
            _text(line.quantity),
            str(line.amount),
            line.start_at.isoformat(),
            line.end_at.isoformat(),
            line.description,
            str(invoice.total),
            str(invoice.tax),
            str(invoice.total_with_tax),
        ]


def usage_rows(
    *, start_at: datetime, end_at: datetime, customer_id: int | None = None
) -> Iterator[Row]:
    """The header, then what was used and billed of each meter, adjustments included.

    The amounts of an invoice here are its usage lines and the adjustments of usage.
    """
    yield list(USAGE_COLUMNS)
    metered = _lines(start_at, end_at, customer_id).filter(meter__isnull=False)
    for line in metered.iterator(chunk_size=CHUNK):
        assert line.meter is not None
        detail = line.detail
        adjusts = line.kind == InvoiceLine.Kind.ADJUSTMENT
        yield [
            *_who(line.invoice),
            line.meter.key,
            line.meter.unit,
            str(detail.get("plan", "")),
            line.start_at.isoformat(),
            line.end_at.isoformat(),
            str(line.quantity if adjusts else detail.get("used", "")),
            str(detail.get("included", "")),
            str(detail.get("granted", "")),
            "" if adjusts else _text(line.quantity),
            str(line.amount),
            line.invoice.currency,
            line.kind,
            line.invoice.number or "",
        ]


def _lines(start_at: datetime, end_at: datetime, customer_id: int | None) -> QuerySet[InvoiceLine]:
    found = InvoiceLine.objects.filter(
        invoice__period_end_at__gt=start_at,
        invoice__period_end_at__lte=end_at,
        invoice__wallet=None,  # a top-up earns nothing: the invoices that it pays do
    ).exclude(invoice__status__in=(Invoice.Status.DRAFT, Invoice.Status.VOID))
    if customer_id is not None:
        found = found.filter(invoice__customer_id=customer_id)
    return found.select_related("invoice__customer", "meter").order_by(
        "invoice__issued_at", "invoice_id", "position"
    )


def _who(invoice: Invoice) -> Row:
    customer = invoice.customer
    return [
        customer.name,
        encode(customer.PREFIX, invoice.customer_id),
        customer.external_id or "",
    ]


def _text(number: int | None) -> str:
    return "" if number is None else str(number)
