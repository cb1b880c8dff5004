"""Seats: a fee for each person, beside the plan's own.

How many seats a subscription has is agreed, not measured: the customer says so, and pays by the
second from then on. Seats that are counted from events are a meter (``max``) with any price.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from billing.domain.prices import Price, PriceInvalid, parse_price, price_to_json
from billing.domain.rating import Rated, overage_quantity, rate

SEATS_MAX: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class SeatTerms:
    """``included`` seats are in the plan's fee; ``price`` counts from the first one past them,
    for a whole period."""

    included: int
    price: Price


def parse_seats(data: object) -> SeatTerms:
    """``{"included": 1, "price": {"model": "per_unit", "unit_price": "12"}}``.

    Raises ``PriceInvalid`` with the path of the member at fault.
    """
    if not isinstance(data, Mapping):
        raise PriceInvalid("", "must be an object")
    for member in data:
        if member not in ("included", "price"):
            raise PriceInvalid(str(member), "is not a member of seats")
    included = data.get("included", 0)
    whole = isinstance(included, int) and not isinstance(included, bool)
    if not whole or not 0 <= included <= SEATS_MAX:
        raise PriceInvalid("included", f"must be a whole number from 0 to {SEATS_MAX}")
    try:
        return SeatTerms(included, parse_price(data.get("price")))
    except PriceInvalid as invalid:
        param = f"price.{invalid.param}" if invalid.param else "price"
        raise PriceInvalid(param, invalid.detail) from invalid


def seats_to_json(terms: SeatTerms) -> dict[str, object]:
    """The inverse of :func:`parse_seats`."""
    return {"included": terms.included, "price": price_to_json(terms.price)}


def seat_fee(terms: SeatTerms, *, seats: int, currency: str) -> Rated:
    """What ``seats`` seats cost in a whole period beside the plan's fee, seat by seat."""
    billed = overage_quantity(seats, included=terms.included)
    return rate(terms.price, quantity=billed, currency=currency)
