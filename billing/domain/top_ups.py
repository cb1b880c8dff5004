"""When a wallet is topped up by itself, and by how much.

All amounts are in minor units of the wallet's one currency; a balance may have fractions of them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Final

from billing.domain.money import Money, currency_of, format_money

AMOUNT_MAX: Final = 10**9  # a typing error must not empty a bank account


class TopUpInvalid(Exception):
    """A wallet cannot be topped up like that; `param` names the member at fault."""

    def __init__(self, param: str, detail: str) -> None:
        super().__init__(f"{param}: {detail}")
        self.param = param
        self.detail = detail


class TopUpStatus(StrEnum):
    """How far a top-up has come; the first two are under way."""

    PENDING = "pending"
    ACTION_REQUIRED = "action_required"  # the bank waits for the customer to confirm
    PAID = "paid"
    FAILED = "failed"
    CANCELED = "canceled"


@dataclass(frozen=True, slots=True)
class AutoTopUpTerms:
    """Below ``threshold`` the wallet gets ``amount``; all that it got by itself in a calendar
    month (UTC) is ``monthly_cap`` at most."""

    threshold: int
    amount: int
    monthly_cap: int


def request_key_of_form(form: str, *, amount: int) -> str | None:
    """Names the request that a form made: the same for one that is sent twice, so that it charges
    once. ``form``: what only this form says; None where it says nothing."""
    return hashlib.sha256(f"form:{form}:{amount}".encode()).hexdigest() if form else None


def check_amount(amount: int, *, currency: str, param: str = "amount") -> None:
    """Raises :class:`TopUpInvalid` for what Stripe would not charge, and for far too much."""
    known = currency_of(currency)
    if amount < known.minimum_charge:
        least = _shown(known.minimum_charge, currency)
        raise TopUpInvalid(param, f"must be at least {least}")
    if amount > AMOUNT_MAX:
        raise TopUpInvalid(param, f"must be at most {_shown(AMOUNT_MAX, currency)}")
    if not known.admits(amount):
        raise TopUpInvalid(param, f"must be a multiple of {_shown(known.step, currency)}")


def check_terms(terms: AutoTopUpTerms, *, currency: str) -> None:
    """Raises :class:`TopUpInvalid` for terms that could never do what they say."""
    check_amount(terms.amount, currency=currency)
    if not 0 < terms.threshold <= AMOUNT_MAX:
        most = _shown(AMOUNT_MAX, currency)
        raise TopUpInvalid("threshold", f"must be more than nothing and at most {most}")
    if terms.monthly_cap < terms.amount:
        raise TopUpInvalid("monthly_cap", "must be at least the amount of one top-up")


def automatic_amount(terms: AutoTopUpTerms, *, balance: Decimal, topped_up: int) -> int:
    """What to top up now, 0 for nothing: the whole amount, or nothing where the cap leaves less.

    ``topped_up``: what the wallet got by itself in this month, with what is under way.
    """
    if balance >= terms.threshold or topped_up + terms.amount > terms.monthly_cap:
        return 0
    return terms.amount


def status_of_top_up(invoice_status: str, *, amount_paid: int, failure_code: str) -> TopUpStatus:
    """Where a top-up stands, from its invoice. Money that came in counts whatever else was told."""
    if invoice_status == "paid" or amount_paid:
        return TopUpStatus.PAID
    if invoice_status == "void":
        return TopUpStatus.FAILED if failure_code else TopUpStatus.CANCELED
    return TopUpStatus.ACTION_REQUIRED if failure_code else TopUpStatus.PENDING


def month_of(at: datetime) -> datetime:
    """The beginning of the calendar month (UTC) that ``at`` is in."""
    utc = at.astimezone(UTC)
    return datetime(utc.year, utc.month, 1, tzinfo=UTC)


def _shown(amount: int, currency: str) -> str:
    return format_money(Money(amount, currency))
