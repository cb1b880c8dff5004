"""Issued invoices that wait to be pushed, and cards as the simulated Stripe knows them."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

from accounts.models import Customer
from billing.models import Invoice, InvoiceLine
from billing.payments import client, customers

PERIOD_START = datetime(2026, 10, 1, tzinfo=UTC)
PERIOD_END = datetime(2026, 11, 1, tzinfo=UTC)
_numbers = itertools.count(1)


def a_pending_invoice(
    customer: Customer, *, amounts: tuple[int, ...] = (2_000, 345), now: datetime
) -> Invoice:
    """An open invoice with one line per amount, whose push is due."""
    number = next(_numbers)
    invoice = Invoice.objects.create(
        customer=customer,
        currency=customer.currency,
        period_start_at=PERIOD_START + timedelta(days=number),
        period_end_at=PERIOD_END + timedelta(days=number),
        total=sum(amounts),
        created_at=now,
    )
    InvoiceLine.objects.bulk_create(
        InvoiceLine(
            invoice=invoice,
            position=position,
            kind=InvoiceLine.Kind.USAGE,
            description=f"Line {position}",
            amount=amount,
            start_at=PERIOD_START,
            end_at=PERIOD_END,
        )
        for position, amount in enumerate(amounts)
    )
    invoice.status, invoice.number = Invoice.Status.OPEN, f"PAY-{number:06}"
    invoice.push, invoice.issued_at, invoice.next_push_at = Invoice.Push.PENDING, now, now
    invoice.save()
    return invoice


def give_card(customer: Customer, *, test_card: str = "pm_card_visa", now: datetime) -> str:
    """Attach one of Stripe's test cards and make it the default at Stripe; its id."""
    row = customers.ensure_customer(customer, now=now)
    key = f"test-card-{next(_numbers)}-{customer.public_id}"
    path = f"/v1/payment_methods/{test_card}/attach"
    answer = client.post(path, params={"customer": row.stripe_customer}, key=key)
    assert answer.status == 200, answer
    method = str(answer.body["id"])
    customers.make_default(row, payment_method=method, now=now)
    return method
