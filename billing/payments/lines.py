"""The lines of an invoice as Stripe is told them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from django.conf import settings
from django.db.models import Q

from billing.models import Invoice, InvoiceLine, PlanVersion

Json = dict[str, Any]
NAME_MOST: Final = 250


@dataclass(frozen=True, slots=True)
class _Taxed:
    """How Stripe Tax is to take a line; empty: as its own settings say."""

    behavior: str
    code: str


def asks_tax(invoice: Invoice) -> bool:
    """Whether Stripe computes tax for it: not for a top-up, which sells nothing yet."""
    return settings.STRIPE_TAX and invoice.wallet_id is None


def lines_told(invoice: Invoice, lines: Sequence[InvoiceLine]) -> list[Json]:
    """Each line with its amount; where Stripe is to compute tax and a line is negative, which it
    refuses then, all of them as one.

    An amount, not quantity times price: Stripe must not round what we have rounded.
    """
    if not asks_tax(invoice):
        return [_line(line) | {"amount": line.amount} for line in lines]
    own = _taxed(invoice, lines)
    usual = own.get(_own_version(invoice), _default())
    if any(line.amount < 0 for line in lines):
        words = f"Invoice {invoice.number}, with what was taken off"
        told = {
            "description": words,
            "metadata": {"farebox_line": invoice.public_id},
            "period": {
                "start": int(invoice.period_start_at.timestamp()),
                "end": int(invoice.period_end_at.timestamp()),
            },
        }
        return [_priced(told, invoice.total, currency=invoice.currency, taxed=usual)]
    return [
        _priced(
            _line(line),
            line.amount,
            currency=invoice.currency,
            taxed=own.get(line.version_id, usual),
        )
        for line in lines
    ]


def told_amount(told: Json) -> int:
    """What a line charges, in minor units."""
    amount = told["price_data"]["unit_amount"] if "price_data" in told else told["amount"]
    return int(amount)


def _line(line: InvoiceLine) -> Json:
    return {
        "description": line.description,
        "metadata": {"farebox_line": line.public_id},
        "period": {"start": int(line.start_at.timestamp()), "end": int(line.end_at.timestamp())},
    }


def _priced(told: Json, amount: int, *, currency: str, taxed: _Taxed) -> Json:
    """The amount as it is, or as a price where it is said how to tax it: only a price carries
    that."""
    if not (taxed.behavior or taxed.code):
        return told | {"amount": amount}
    product = {"name": told["description"][:NAME_MOST]}
    if taxed.code:
        product["tax_code"] = taxed.code
    price: Json = {"currency": currency, "product_data": product, "unit_amount": amount}
    if taxed.behavior:
        price["tax_behavior"] = taxed.behavior
    return told | {"price_data": price, "quantity": 1}


def _taxed(invoice: Invoice, lines: Sequence[InvoiceLine]) -> dict[int | None, _Taxed]:
    """How each version that the lines are of is taxed in the invoice's currency."""
    sold = {line.version_id for line in lines} | {_own_version(invoice)}
    rows = PlanVersion.objects.filter(Q(pk__in=sold) | Q(base__in=sold), currency=invoice.currency)
    usual = _default()
    return {
        row.sold_id: _Taxed(row.tax_behavior or usual.behavior, row.tax_code or usual.code)
        for row in rows
    }


def _own_version(invoice: Invoice) -> int | None:
    return None if invoice.subscription is None else invoice.subscription.version.sold_id


def _default() -> _Taxed:
    return _Taxed(settings.STRIPE_TAX_BEHAVIOR, settings.STRIPE_TAX_CODE)
