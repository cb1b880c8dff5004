"""What a coupon takes off the bill of a period, to the cent.

Percentages are of what is left after the coupons before, rounded once; amounts take what is there
and no more. So a bill is never brought below zero.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Final

from billing.domain.money import Money, allocate, currency_of, format_money, round_minor_fraction
from billing.domain.prices import decimal_text

PERIODS_MAX: Final = 1_200
_CODE: Final = re.compile(r"[A-Z0-9][A-Z0-9_-]{0,39}")


class CouponInvalid(Exception):
    """A coupon cannot say this; ``param`` names the member at fault."""

    def __init__(self, param: str, detail: str) -> None:
        super().__init__(f"{param}: {detail}")
        self.param = param
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Discount:
    """``percent`` (over 0, at most 100, two places) or ``amounts`` (minor units by currency)."""

    percent: Decimal | None = None
    amounts: Mapping[str, int] | None = None

    def of(self, base: int, *, currency: str) -> int:
        """What it takes off ``base`` minor units: from 0 to ``base``, 0 in other currencies."""
        if base <= 0:
            return 0
        if self.percent is not None:
            share = Fraction(base) * Fraction(self.percent) * Fraction(1, 100)
            return min(base, round_minor_fraction(share, currency=currency))
        return min(base, (self.amounts or {}).get(currency, 0))

    def words(self, *, currency: str) -> str:
        """For people: ``20% off``, ``$5.00 off``."""
        if self.percent is not None:
            return f"{decimal_text(self.percent)}% off"
        return f"{format_money(Money((self.amounts or {}).get(currency, 0), currency))} off"


@dataclass(frozen=True, slots=True)
class Taken:
    """What one discount takes off ``base``, and of which charges: ``shares`` add up to it."""

    base: int
    amount: int
    shares: tuple[int, ...]


def code_of(text: str) -> str:
    """The code as it is kept: capitals, digits, ``_`` and ``-``. Raises :class:`CouponInvalid`."""
    code = text.strip().upper()
    if not _CODE.fullmatch(code):
        raise CouponInvalid("code", "1 to 40 letters, digits, '-' and '_'")
    return code


def check_discount(discount: Discount) -> None:
    """Raises :class:`CouponInvalid` where the terms are not one percentage or some amounts."""
    percent, amounts = discount.percent, discount.amounts
    if (percent is None) == (not amounts):
        raise CouponInvalid("percent", "say either a percentage or amounts by currency")
    if percent is not None and (
        not 0 < percent <= 100 or percent != percent.quantize(Decimal("0.01"))
    ):
        raise CouponInvalid("percent", "must be over 0 and at most 100, with up to two places")
    for code, amount in (amounts or {}).items():
        if amount <= 0 or not currency_of(code).admits(amount):
            step = currency_of(code).step
            raise CouponInvalid(f"amounts.{code}", f"must be a multiple of {step}, above zero")


def take_off(
    charges: Sequence[int], *, discounts: Sequence[tuple[Discount, Sequence[bool]]], currency: str
) -> list[Taken]:
    """What each discount takes off, one after the other. ``charges``: minor units; with each
    discount, which of them it is for. Negative charges lessen what is there to be discounted.

    What is taken off a charge never exceeds it, and all of it together never the sum.
    """
    left = list(charges)
    taken = []
    for discount, chosen in discounts:
        wanted = sum(amount for amount, counts in zip(left, chosen, strict=True) if counts)
        base = max(0, min(wanted, sum(left)))
        amount = discount.of(base, currency=currency)
        weights = [max(each, 0) if counts else 0 for each, counts in zip(left, chosen, strict=True)]
        shares = allocate(amount, weights=weights) if amount else [0] * len(left)
        left = [each - share for each, share in zip(left, shares, strict=True)]
        taken.append(Taken(base, amount, tuple(shares)))
    return taken


def applies(
    periods: int | None,
    *,
    index: int,
    redeemed_at: datetime,
    ended_at: datetime | None,
    end_at: datetime,
) -> bool:
    """Whether a coupon counts in the period that ends at ``end_at``: one of the first ``periods``
    (None: all) that end after it was redeemed, of which this is number ``index`` from 0; and not
    where it was taken back before that period was over."""
    if end_at <= redeemed_at or (ended_at is not None and ended_at < end_at):
        return False
    return periods is None or index < periods
