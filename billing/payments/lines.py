"""The lines of an invoice as Stripe is told them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.conf import settings

from billing.models import Invoice, InvoiceLine

Json = dict[str, Any]


def lines_told(invoice: Invoice, lines: Sequence[InvoiceLine]) -> list[Json]:
    """Each line with its amount; where Stripe is to compute tax and a line is negative, which it
    refuses then, all of them as one."""
    if settings.STRIPE_TAX and any(line.amount < 0 for line in lines):
        words = f"Invoice {invoice.number}, with what was taken off"
        whole = (invoice.period_start_at, invoice.period_end_at)
        return [_told(invoice, invoice.public_id, words, amount=invoice.total, period=whole)]
    return [
        _told(
            invoice,
            line.public_id,
            line.description,
            amount=line.amount,
            period=(line.start_at, line.end_at),
        )
        for line in lines
    ]


def told_amount(told: Json) -> int:
    """What a line charges, in minor units."""
    amount = told["price_data"]["unit_amount"] if "price_data" in told else told["amount"]
    return int(amount)


def _told(
    invoice: Invoice,
    line_id: str,
    description: str,
    *,
    amount: int,
    period: tuple[datetime, datetime],
) -> Json:
    """An amount, not quantity times price: Stripe must not round what we have rounded."""
    start_at, end_at = period
    told: Json = {
        "description": description,
        "metadata": {"farebox_line": line_id},
        "period": {"start": int(start_at.timestamp()), "end": int(end_at.timestamp())},
    }
    behavior, code = settings.STRIPE_TAX_BEHAVIOR, settings.STRIPE_TAX_CODE
    if not settings.STRIPE_TAX or not (behavior or code):
        return told | {"amount": amount}
    # Only a price carries how it is taxed.
    product = {"name": description[:250]} | ({"tax_code": code} if code else {})
    price = {"currency": invoice.currency, "product_data": product, "unit_amount": amount}
    if behavior:
        price["tax_behavior"] = behavior
    return told | {"price_data": price, "quantity": 1}
