"""Prices of a plan's version in further currencies, as data: each as complete as the first.

``{"eur": {"fee": 1900, "minimum": 0, "billing_threshold": None, "seat_price": {…},
"meters": {"tokens": {…}}, "tax_behavior": "inclusive"}}``: amounts in minor units of the currency,
prices in its major units; how tax is taken may be said otherwise, and else is as in the first.
What is not money (what is included, windows, limits in units) a version has only once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from billing.domain.money import CURRENCIES

_AMOUNTS: Final = ("fee", "minimum", "billing_threshold")
_MEMBERS: Final = (*_AMOUNTS, "seat_price", "meters", "tax_behavior")
_PRICED: Final = (*_AMOUNTS, "seat_price")
_BOUNDS: Final = ("fixed", "minimum", "maximum")  # of a percentage


class FurtherPricesInvalid(Exception):
    """A currency does not price what the version sells; ``param`` is the path of the first member
    at fault, ``detail`` names them all."""

    def __init__(self, param: str, detail: str) -> None:
        super().__init__(f"{param}: {detail}")
        self.param = param
        self.detail = detail


@dataclass(frozen=True, slots=True)
class SoldFor:
    """What a version sells for money in its first currency; prices in their JSON."""

    currency: str
    fee: int = 0
    minimum: int = 0
    billing_threshold: int | None = None
    seat_price: Mapping[str, Any] | None = None
    meters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def prices(self) -> dict[str, object]:
        """Whatever has a price, by its path."""
        named = {name: getattr(self, name) for name in _PRICED}
        return named | {f"meters.{key}": price for key, price in self.meters.items()}


def check_further(sold: SoldFor, prices: Mapping[str, object]) -> None:
    """Refuse currencies that miss a price which the first has, or have one which it misses.

    Whether the prices hold together themselves is not looked at. Raises FurtherPricesInvalid.
    """
    found = [_given(currency, given, sold=sold) for currency, given in prices.items()]
    missing = [path for each in found for path in _missing(each, sold=sold)]
    if missing:
        raise FurtherPricesInvalid(
            missing[0],
            f"has a price in {sold.currency} and needs one in each currency; missing: "
            + ", ".join(missing),
        )
    for each in found:
        _refuse_others(each, sold=sold)


@dataclass(frozen=True, slots=True)
class _Given:
    currency: str
    prices: Mapping[str, Any]  # by path, as SoldFor has them


def _given(currency: str, data: object, *, sold: SoldFor) -> _Given:
    at = f"prices.{currency}"
    if currency not in CURRENCIES:
        raise FurtherPricesInvalid(at, f"{currency!r} cannot be invoiced here")
    if currency == sold.currency:
        raise FurtherPricesInvalid(at, "is the currency that the version itself is in")
    if not isinstance(data, Mapping):
        raise FurtherPricesInvalid(at, "must be an object")
    for member in data:
        if member not in _MEMBERS:
            raise FurtherPricesInvalid(f"{at}.{member}", f"is none of {', '.join(_MEMBERS)}")
    meters = data.get("meters", {})
    if not isinstance(meters, Mapping):
        raise FurtherPricesInvalid(f"{at}.meters", "must map meters to their prices")
    whole = {name: data[name] for name in _PRICED if name in data}
    return _Given(currency, whole | {f"meters.{key}": price for key, price in meters.items()})


def _missing(given: _Given, *, sold: SoldFor) -> Iterator[str]:
    """An amount of zero has to be said, where the first currency asks for money."""
    for path, price in sold.prices().items():
        if price and given.prices.get(path) is None:
            yield f"prices.{given.currency}.{path}"


def _refuse_others(given: _Given, *, sold: SoldFor) -> None:
    known = sold.prices()
    for path, price in given.prices.items():
        at = f"prices.{given.currency}.{path}"
        first = known.get(path)
        if price and not first:
            raise FurtherPricesInvalid(at, f"has no price in {sold.currency}")
        if isinstance(price, Mapping) and isinstance(first, Mapping):
            _compare(price, first, at=at, currency=sold.currency)


def _compare(price: Mapping[str, Any], first: Mapping[str, Any], *, at: str, currency: str) -> None:
    model = first["model"]
    if price.get("model") != model:
        raise FurtherPricesInvalid(f"{at}.model", f"is {model} in {currency}: it is so in each")
    for bound in _BOUNDS if model == "percentage" else ():
        if bool(_amount(price, bound)) != bool(_amount(first, bound)):
            raise FurtherPricesInvalid(
                f"{at}.{bound}", f"stands in one of {currency} and this currency, not in both"
            )


def _amount(price: Mapping[str, Any], bound: str) -> object:
    given = price.get(bound)
    return None if bound == "fixed" and given == "0" else given
