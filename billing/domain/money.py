"""Money of invoices: whole minor units of a known currency, and the one rounding rule.

An amount is an ``int`` in the currency's minor unit (cents; yen). Prices are exact
``Decimal`` in major units and become an amount in :func:`round_minor`, nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import total_ordering
from types import MappingProxyType
from typing import Final


class CurrencyUnknown(Exception):
    """The currency is not in the table: amounts in it would be off by powers of ten."""

    def __init__(self, code: object) -> None:
        super().__init__(f"{code!r} is not a currency that can be invoiced here.")
        self.code = code


class CurrencyMismatch(Exception):
    """Two amounts of different currencies were added or compared."""

    def __init__(self, left: str, right: str) -> None:
        super().__init__(f"Amounts in {left} and {right} cannot be put together.")
        self.left = left
        self.right = right


class WeightsInvalid(Exception):
    """An amount can only be shared out over weights that are not negative and not all zero."""


@dataclass(frozen=True, slots=True)
class Currency:
    """How amounts of one currency are written and charged.

    ``exponent``: one major unit is ``10 ** exponent`` minor units.
    ``minimum_charge``: the least amount that Stripe charges, in minor units.
    ``step``: every amount must be a multiple of it (1 for most; Stripe wants the last digit
    of three-decimal currencies to be 0, and whole major units of ISK and UGX).
    """

    code: str
    exponent: int
    minimum_charge: int
    step: int = 1
    symbol: str | None = None

    def admits(self, amount: int) -> bool:
        """Whether ``amount`` (minor units) can be paid at all: a multiple of ``step``."""
        return amount % self.step == 0


def _table(rows: Iterable[Currency]) -> Mapping[str, Currency]:
    return MappingProxyType({row.code: row for row in rows})


# Exponents and steps as Stripe's API wants them, which is ISO 4217 but for ISK and UGX (kept
# at two decimals there for old integrations). Minimums: Stripe's published table where it
# names the currency; for the others a round amount safely above 0.50 USD.
CURRENCIES: Final[Mapping[str, Currency]] = _table(
    (
        Currency("aed", 2, 200),
        Currency("ars", 2, 150_000),
        Currency("aud", 2, 50, symbol="A$"),
        Currency("bgn", 2, 100),
        Currency("bhd", 3, 250, step=10),
        Currency("bif", 0, 2_000),
        Currency("brl", 2, 350, symbol="R$"),
        Currency("cad", 2, 70, symbol="CA$"),
        Currency("chf", 2, 50),
        Currency("clp", 0, 600),
        Currency("cny", 2, 400),
        Currency("cop", 2, 300_000),
        Currency("crc", 2, 30_000),
        Currency("czk", 2, 1_500),
        Currency("djf", 0, 100),
        Currency("dkk", 2, 250),
        Currency("eur", 2, 50, symbol="€"),
        Currency("gbp", 2, 30, symbol="£"),
        Currency("gnf", 0, 5_000),
        Currency("hkd", 2, 400, symbol="HK$"),
        Currency("huf", 2, 17_500),
        Currency("idr", 2, 1_000_000),
        Currency("ils", 2, 200, symbol="₪"),
        Currency("inr", 2, 5_000, symbol="₹"),
        Currency("isk", 2, 8_000, step=100),
        Currency("jod", 3, 500, step=10),
        Currency("jpy", 0, 50),
        Currency("kes", 2, 8_000),
        Currency("kmf", 0, 250),
        Currency("krw", 0, 1_000),
        Currency("kwd", 3, 200, step=10),
        Currency("mad", 2, 600),
        Currency("mga", 0, 2_500),
        Currency("mxn", 2, 1_000, symbol="MX$"),
        Currency("myr", 2, 250),
        Currency("ngn", 2, 100_000),
        Currency("nok", 2, 600),
        Currency("nzd", 2, 100, symbol="NZ$"),
        Currency("omr", 3, 250, step=10),
        Currency("pen", 2, 200),
        Currency("php", 2, 3_500),
        Currency("pln", 2, 250),
        Currency("pyg", 0, 5_000),
        Currency("qar", 2, 250),
        Currency("ron", 2, 300),
        Currency("rwf", 0, 1_000),
        Currency("sar", 2, 200),
        Currency("sek", 2, 600),
        Currency("sgd", 2, 75, symbol="S$"),
        Currency("thb", 2, 2_000),
        Currency("tnd", 3, 2_000, step=10),
        Currency("try", 2, 3_000),
        Currency("twd", 2, 2_000),
        Currency("uah", 2, 2_500),
        Currency("ugx", 2, 250_000, step=100),
        Currency("usd", 2, 50, symbol="$"),
        Currency("uyu", 2, 2_500),
        Currency("vnd", 0, 15_000),
        Currency("vuv", 0, 100),
        Currency("xaf", 0, 400),
        Currency("xof", 0, 400),
        Currency("xpf", 0, 75),
        Currency("zar", 2, 1_200),
    )
)


def currency_of(code: str) -> Currency:
    """The row of the table for a lowercase ISO 4217 code. Raises :class:`CurrencyUnknown`."""
    try:
        return CURRENCIES[code]
    except (KeyError, TypeError):
        raise CurrencyUnknown(code) from None


@total_ordering
@dataclass(frozen=True, slots=True)
class Money:
    """``amount`` minor units of ``currency``; negative where it is owed the other way.

    Adds, subtracts and compares (``<`` …) within one currency only and raises
    :class:`CurrencyMismatch` otherwise; equality across currencies is simply false.
    """

    amount: int
    currency: str

    def __post_init__(self) -> None:
        currency_of(self.currency)

    def _same(self, other: Money) -> int:
        if other.currency != self.currency:
            raise CurrencyMismatch(self.currency, other.currency)
        return other.amount

    def __add__(self, other: Money) -> Money:
        return Money(self.amount + self._same(other), self.currency)

    def __sub__(self, other: Money) -> Money:
        return Money(self.amount - self._same(other), self.currency)

    def __neg__(self) -> Money:
        return Money(-self.amount, self.currency)

    def __lt__(self, other: Money) -> bool:
        return self.amount < self._same(other)


def round_minor(value: Decimal, *, currency: str) -> int:
    """``value`` major units as a payable amount in minor units: the one rounding rule.

    Half goes up, that is away from zero, and negatives are the mirror image of positives
    (0.005 USD is 1 cent, -0.005 USD is -1 cent), so that a credit of a charge is exactly its
    opposite. Rounds to the currency's ``step``. Raises :class:`CurrencyUnknown`.
    """
    units, parts = value.as_integer_ratio()
    known = currency_of(currency)
    return _round(units * 10**known.exponent, parts=parts, step=known.step)


def round_minor_fraction(amount: Fraction, *, currency: str) -> int:
    """The rule of :func:`round_minor` for a fraction that is already in *minor* units."""
    return _round(amount.numerator, parts=amount.denominator, step=currency_of(currency).step)


def _round(amount: int, *, parts: int, step: int) -> int:
    """`amount / parts` to whole steps, half away from zero."""
    rounded = (2 * abs(amount) + parts * step) // (2 * parts * step) * step
    return rounded if amount >= 0 else -rounded


def allocate(amount: int, *, weights: Sequence[int]) -> list[int]:
    """Share ``amount`` out in proportion to ``weights`` without losing or making a cent.

    Largest remainder; where remainders are equal, the earlier share gets the cent. A negative
    amount is shared out as the mirror image of the positive one, weight 0 gets nothing.
    Raises :class:`WeightsInvalid` for a negative weight or where all weights are zero.
    """
    total = sum(weights)
    if total == 0 or any(weight < 0 for weight in weights):
        raise WeightsInvalid("Weights must not be negative and not all be zero.")
    sign = -1 if amount < 0 else 1
    parts = [divmod(abs(amount) * weight, total) for weight in weights]
    shares = [whole for whole, _ in parts]
    by_remainder = sorted(range(len(parts)), key=lambda index: -parts[index][1])
    for index in by_remainder[: abs(amount) - sum(shares)]:
        shares[index] += 1
    return [sign * share for share in shares]


def format_money(money: Money) -> str:
    """For people, in English: ``$19.99``, ``-$0.50``, ``1,999 JPY``, ``1.500 KWD``."""
    currency = currency_of(money.currency)
    major, minor = divmod(abs(money.amount), 10**currency.exponent)
    digits = f"{major:,}" + (f".{minor:0{currency.exponent}d}" if currency.exponent else "")
    sign = "-" if money.amount < 0 else ""
    if currency.symbol is not None:
        return f"{sign}{currency.symbol}{digits}"
    return f"{sign}{digits} {money.currency.upper()}"


def format_exact(amount: Decimal, *, currency: str) -> str:
    """An exact amount in major units for people, with at least the currency's places:
    ``$0.000002``, ``$0.50``, ``1,999 JPY``."""
    kind = currency_of(currency)
    places = max(kind.exponent, -int(amount.normalize().as_tuple().exponent))
    digits = f"{abs(amount):,.{places}f}"
    sign = "-" if amount < 0 else ""
    if kind.symbol is not None:
        return f"{sign}{kind.symbol}{digits}"
    return f"{sign}{digits} {currency.upper()}"
