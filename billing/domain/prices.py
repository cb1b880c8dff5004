"""What a quantity costs, as data: six kinds of price, read from and written to JSON.

All amounts are exact ``Decimal`` in major units of the plan's currency (0.000002 USD a
token), with at most 12 places before and 12 behind the point.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Context, Decimal, Inexact, localcontext
from typing import Final, assert_never

MAX_TIERS: Final = 100
MAX_QUANTITY: Final = 2**63 - 1
_EXACT: Final = Context(prec=60, traps=[Inexact])
_DECIMAL: Final = re.compile(r"[0-9]{1,12}(\.[0-9]{1,12})?", re.ASCII)


class PriceInvalid(Exception):
    """The JSON is not a price. ``param`` is the path of the member at fault, "" for the whole
    (``tiers[1].up_to``); ``detail`` a sentence for the person who wrote it."""

    def __init__(self, param: str, detail: str) -> None:
        super().__init__(f"{param}: {detail}" if param else detail)
        self.param = param
        self.detail = detail


@dataclass(frozen=True, slots=True)
class PerUnit:
    """Each unit costs the same."""

    unit_price: Decimal


@dataclass(frozen=True, slots=True)
class Tier:
    """The units past the tier before, up to and with unit number ``up_to`` (None: no end).

    ``flat_price`` is added once as soon as the tier is used.
    """

    up_to: int | None
    unit_price: Decimal
    flat_price: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True)
class Graduated:
    """Each unit costs what its own tier says, like an income tax."""

    tiers: tuple[Tier, ...]


@dataclass(frozen=True, slots=True)
class Volume:
    """All units cost what the tier of the last unit says: the total decides."""

    tiers: tuple[Tier, ...]


@dataclass(frozen=True, slots=True)
class Package:
    """Sold in packages of ``package_size`` units; a package that is begun is paid."""

    package_size: int
    package_price: Decimal


@dataclass(frozen=True, slots=True)
class Flat:
    """One price for any quantity but zero."""

    price: Decimal


@dataclass(frozen=True, slots=True)
class Percentage:
    """So many percent of the amount that a meter of money counted, and a fixed part on top.

    ``unit_value`` is what one unit of the meter is worth in major units (a meter of cents:
    0.01). Together they are at least ``minimum`` and at most ``maximum``, each None for none;
    all of it holds for the whole quantity that is rated, not for each event.
    """

    percent: Decimal
    unit_value: Decimal
    fixed: Decimal = Decimal(0)
    minimum: Decimal | None = None
    maximum: Decimal | None = None

    @property
    def unit_price(self) -> Decimal:
        """What one unit of the meter adds; has at most 12 places, so that nothing is lost."""
        with localcontext(_EXACT):
            return (self.percent * self.unit_value).scaleb(-2)


Price = PerUnit | Graduated | Volume | Package | Flat | Percentage


def parse_price(data: object) -> Price:
    """The price that this JSON object describes (the shape of ``price`` in a plan).

    ``{"model": "per_unit", "unit_price": "0.01"}`` ·
    ``{"model": "graduated" | "volume", "tiers": [{"up_to": 1000, "unit_price": "0.01",
    "flat_price": "0"}, {"up_to": null, "unit_price": "0.005"}]}`` ·
    ``{"model": "package", "package_size": 1000, "package_price": "0.50"}`` ·
    ``{"model": "flat", "price": "5"}`` ·
    ``{"model": "percentage", "percent": "2.9", "unit_value": "0.01", "fixed": "0.30",
    "minimum": "1", "maximum": "100"}``. Prices are decimal strings, or whole numbers.

    Raises :class:`PriceInvalid` for anything else: unknown or missing members, floats,
    negatives, more than 12 decimal places, tiers that do not rise or whose last one ends, a
    minimum above the maximum.
    """
    if not isinstance(data, Mapping):
        raise PriceInvalid("", "must be an object")
    model = data.get("model")
    read = _READERS.get(model) if isinstance(model, str) else None
    if read is None:
        raise PriceInvalid("model", f"must be one of {', '.join(_READERS)}")
    return read(data)


def price_to_json(price: Price) -> dict[str, object]:
    """The inverse of :func:`parse_price`; decimals as plain strings without needless zeros."""
    match price:
        case PerUnit(unit_price):
            return {"model": "per_unit", "unit_price": decimal_text(unit_price)}
        case Graduated(tiers):
            return {"model": "graduated", "tiers": [_tier_to_json(tier) for tier in tiers]}
        case Volume(tiers):
            return {"model": "volume", "tiers": [_tier_to_json(tier) for tier in tiers]}
        case Package(package_size, package_price):
            return {
                "model": "package",
                "package_size": package_size,
                "package_price": decimal_text(package_price),
            }
        case Flat(flat):
            return {"model": "flat", "price": decimal_text(flat)}
        case Percentage():
            return _percentage_to_json(price)
        case _:
            assert_never(price)


def decimal_text(value: Decimal) -> str:
    """``value`` exactly, without exponent and without zeros at the end: ``0.000002``, ``20``."""
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _percentage_to_json(price: Percentage) -> dict[str, object]:
    members = ("percent", "unit_value", "fixed", "minimum", "maximum")
    amounts = {member: getattr(price, member) for member in members}
    texts = {name: decimal_text(amount) for name, amount in amounts.items() if amount is not None}
    return {"model": "percentage", **texts}


def _tier_to_json(tier: Tier) -> dict[str, object]:
    return {
        "up_to": tier.up_to,
        "unit_price": decimal_text(tier.unit_price),
        "flat_price": decimal_text(tier.flat_price),
    }


def _only(data: Mapping[str, object], members: frozenset[str], *, at: str = "") -> None:
    for member in data:
        if member not in members:
            raise PriceInvalid(f"{at}{member}", "is not a member of this price")


def _decimal(data: Mapping[str, object], member: str, *, at: str = "") -> Decimal:
    if member not in data:
        raise PriceInvalid(f"{at}{member}", "is required")
    value = data[member]
    # bool is an int to Python, not to a person; a float has already lost its digits.
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str) or not _DECIMAL.fullmatch(text):
        raise PriceInvalid(
            f"{at}{member}",
            "must be a decimal string such as '0.0025': not negative, at most 12 places "
            "before and 12 behind the point",
        )
    return Decimal(text)


def _count(value: object, param: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_QUANTITY:
        raise PriceInvalid(param, f"must be a whole number from 1 to {MAX_QUANTITY}")
    return value


def _read_per_unit(data: Mapping[str, object]) -> PerUnit:
    _only(data, frozenset({"model", "unit_price"}))
    return PerUnit(_decimal(data, "unit_price"))


def _read_package(data: Mapping[str, object]) -> Package:
    _only(data, frozenset({"model", "package_size", "package_price"}))
    return Package(
        _count(data.get("package_size"), "package_size"), _decimal(data, "package_price")
    )


def _read_flat(data: Mapping[str, object]) -> Flat:
    _only(data, frozenset({"model", "price"}))
    return Flat(_decimal(data, "price"))


def _read_percentage(data: Mapping[str, object]) -> Percentage:
    _only(data, frozenset({"model", "percent", "unit_value", "fixed", "minimum", "maximum"}))
    price = Percentage(
        percent=_decimal(data, "percent"),
        unit_value=_decimal(data, "unit_value"),
        fixed=_decimal(data, "fixed") if "fixed" in data else Decimal(0),
        minimum=_decimal(data, "minimum") if data.get("minimum") is not None else None,
        maximum=_decimal(data, "maximum") if data.get("maximum") is not None else None,
    )
    if not _DECIMAL.fullmatch(decimal_text(price.unit_price)):
        raise PriceInvalid(
            "percent", "a hundredth of it times unit_value must have at most 12 places on each side"
        )
    if price.minimum is not None and price.maximum is not None and price.minimum > price.maximum:
        raise PriceInvalid("maximum", "must not be less than the minimum")
    return price


def _read_graduated(data: Mapping[str, object]) -> Graduated:
    return Graduated(_read_tiers(data))


def _read_volume(data: Mapping[str, object]) -> Volume:
    return Volume(_read_tiers(data))


def _read_tiers(data: Mapping[str, object]) -> tuple[Tier, ...]:
    _only(data, frozenset({"model", "tiers"}))
    rows = data.get("tiers")
    if not isinstance(rows, list | tuple) or not 1 <= len(rows) <= MAX_TIERS:
        raise PriceInvalid("tiers", f"must be a list of 1 to {MAX_TIERS} tiers")
    tiers: list[Tier] = []
    below = 0
    for index, row in enumerate(rows):
        last = index == len(rows) - 1
        tier = _read_tier(row, at=f"tiers[{index}]", last=last, below=below)
        tiers.append(tier)
        below = tier.up_to or 0
    return tuple(tiers)


def _read_tier(row: object, *, at: str, last: bool, below: int) -> Tier:
    if not isinstance(row, Mapping):
        raise PriceInvalid(at, "must be an object")
    _only(row, frozenset({"up_to", "unit_price", "flat_price"}), at=f"{at}.")
    up_to: int | None = None
    if last:
        if row.get("up_to") is not None:
            raise PriceInvalid(f"{at}.up_to", "must be null: the last tier has no end")
    else:
        up_to = _count(row.get("up_to"), f"{at}.up_to")
        if up_to <= below:
            raise PriceInvalid(f"{at}.up_to", "must be more than the tier before it")
    return Tier(
        up_to=up_to,
        unit_price=_decimal(row, "unit_price", at=f"{at}."),
        flat_price=_decimal(row, "flat_price", at=f"{at}.") if "flat_price" in row else Decimal(0),
    )


_READERS: Final[Mapping[str, Callable[[Mapping[str, object]], Price]]] = {
    "per_unit": _read_per_unit,
    "graduated": _read_graduated,
    "volume": _read_volume,
    "package": _read_package,
    "flat": _read_flat,
    "percentage": _read_percentage,
}
