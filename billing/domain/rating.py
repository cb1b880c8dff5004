"""Rating: what a quantity costs under a price, exactly, and how that comes about.

Quantities are billed units: what is past the included ones (:func:`overage_quantity`).
Amounts are exact ``Decimal`` in major units and are rounded once, for the whole line. Zero
units cost nothing under every price, flat parts included.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import (
    Context,
    Decimal,
    DivisionByZero,
    Inexact,
    InvalidOperation,
    Overflow,
    localcontext,
)
from typing import Final, assert_never

from billing.domain.money import round_minor
from billing.domain.prices import (
    Flat,
    Graduated,
    Package,
    Percentage,
    PerUnit,
    Price,
    Tier,
    Volume,
    decimal_text,
)

# Wide enough for any quantity that a database holds times any price that parses, over 100
# tiers. The trap turns a lost digit into an exception instead of a wrong bill.
_EXACT: Final = Context(prec=120, traps=[Inexact, InvalidOperation, DivisionByZero, Overflow])


class QuantityNegative(Exception):
    """Less than nothing was to be rated; corrections are the difference of two ratings."""

    def __init__(self, quantity: int) -> None:
        super().__init__(f"{quantity} units cannot be rated.")


@dataclass(frozen=True, slots=True)
class RatedTier:
    """One step of the explanation: units number ``from_quantity + 1`` to ``to_quantity``.

    ``quantity`` = ``to_quantity - from_quantity``; the next tier starts where this one ends.
    ``amount`` = ``quantity * unit_price + flat_price``, or for a price by package
    ``packages * unit_price``, where ``unit_price`` is the price of a package. A step with a
    ``bound`` ("minimum", "maximum") has no units: its amount, which is negative for a maximum,
    brings what the steps before it cost to that bound.
    """

    from_quantity: int
    to_quantity: int
    quantity: int
    unit_price: Decimal
    flat_price: Decimal
    amount: Decimal
    packages: int | None = None
    bound: str | None = None


@dataclass(frozen=True, slots=True)
class Rated:
    """``amount`` exact in major units, ``amount_minor`` rounded once; ``tiers`` add up to it."""

    amount: Decimal
    amount_minor: int
    tiers: tuple[RatedTier, ...]


def overage_quantity(used: int, *, included: int) -> int:
    """The billed part of ``used`` units: what is past the ``included`` free ones."""
    return max(0, used - included)


def rate(price: Price, *, quantity: int, currency: str) -> Rated:
    """What ``quantity`` billed units cost: exact, explained, rounded half up once.

    Raises :class:`QuantityNegative` and ``CurrencyUnknown``.
    """
    if quantity < 0:
        raise QuantityNegative(quantity)
    with localcontext(_EXACT):
        tiers = _rate(price, quantity=quantity) if quantity else ()
        amount = sum((tier.amount for tier in tiers), Decimal(0))
    return Rated(amount, round_minor(amount, currency=currency), tiers)


def tiers_to_json(tiers: Sequence[RatedTier]) -> list[dict[str, object]]:
    """The explanation as an invoice line carries it; decimals as strings."""
    rows: list[dict[str, object]] = []
    for tier in tiers:
        row: dict[str, object] = {
            "from_quantity": tier.from_quantity,
            "to_quantity": tier.to_quantity,
            "quantity": tier.quantity,
            "unit_price": decimal_text(tier.unit_price),
            "flat_price": decimal_text(tier.flat_price),
            "amount": decimal_text(tier.amount),
        }
        if tier.packages is not None:
            row["packages"] = tier.packages
        if tier.bound is not None:
            row["bound"] = tier.bound
        rows.append(row)
    return rows


def _rate(price: Price, *, quantity: int) -> tuple[RatedTier, ...]:
    match price:
        case PerUnit(unit_price):
            return (_tier(0, quantity, unit_price=unit_price),)
        case Graduated(tiers):
            return _rate_graduated(tiers, quantity=quantity)
        case Volume(tiers):
            return (_rate_volume(tiers, quantity=quantity),)
        case Package(package_size, package_price):
            return (_rate_package(package_size, package_price, quantity=quantity),)
        case Flat(flat):
            return (_tier(0, quantity, unit_price=Decimal(0), flat_price=flat),)
        case Percentage():
            return _rate_percentage(price, quantity=quantity)
        case _:
            assert_never(price)


def _tier(
    start: int, end: int, *, unit_price: Decimal, flat_price: Decimal = Decimal(0)
) -> RatedTier:
    amount = (end - start) * unit_price + flat_price
    return RatedTier(start, end, end - start, unit_price, flat_price, amount)


def _rate_graduated(tiers: tuple[Tier, ...], *, quantity: int) -> tuple[RatedTier, ...]:
    rated: list[RatedTier] = []
    start = 0
    for tier in tiers:
        if start == quantity:
            break
        end = quantity if tier.up_to is None else min(quantity, tier.up_to)
        rated.append(_tier(start, end, unit_price=tier.unit_price, flat_price=tier.flat_price))
        start = end
    return tuple(rated)


def _rate_volume(tiers: tuple[Tier, ...], *, quantity: int) -> RatedTier:
    tier = next(tier for tier in tiers if tier.up_to is None or quantity <= tier.up_to)
    return _tier(0, quantity, unit_price=tier.unit_price, flat_price=tier.flat_price)


def _rate_package(size: int, price: Decimal, *, quantity: int) -> RatedTier:
    packages = -(-quantity // size)
    return RatedTier(0, quantity, quantity, price, Decimal(0), packages * price, packages)


def _rate_percentage(price: Percentage, *, quantity: int) -> tuple[RatedTier, ...]:
    share = _tier(0, quantity, unit_price=price.unit_price, flat_price=price.fixed)
    if price.minimum is not None and share.amount < price.minimum:
        return share, _bound("minimum", price.minimum - share.amount, quantity=quantity)
    if price.maximum is not None and share.amount > price.maximum:
        return share, _bound("maximum", price.maximum - share.amount, quantity=quantity)
    return (share,)


def _bound(name: str, amount: Decimal, *, quantity: int) -> RatedTier:
    return RatedTier(quantity, quantity, 0, Decimal(0), amount, amount, bound=name)
