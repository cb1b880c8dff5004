"""Prices as the gate knows them: curves of whole numbers, equal to rating at every quantity."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from itertools import accumulate
from typing import assert_never

from billing.domain.prices import (
    MAX_QUANTITY,
    Flat,
    Graduated,
    Package,
    Percentage,
    PerUnit,
    Price,
    Tier,
    Volume,
)
from billing.domain.prices import decimal_text as text
from metering.domain.spending import PLACES, Curve, Step


def curve(price: Price) -> Curve:
    """What each quantity costs under the price, exactly as :func:`billing.domain.rating.rate`."""
    match price:
        case PerUnit(unit_price):
            return Curve((Step(None, 0, _whole(unit_price)),))
        case Graduated(tiers):
            return Curve(_graduated(tiers))
        case Volume(tiers):
            steps = (Step(each.up_to, _whole(each.flat_price), _whole(each.unit_price))
                     for each in tiers)  # fmt: skip
            return Curve(tuple(steps))
        case Package(package_size, package_price):
            return Curve((Step(None, 0, _whole(package_price), size=package_size),))
        case Flat(flat):
            return Curve((Step(None, _whole(flat), 0),))
        case Percentage():
            return Curve(_percentage(price))
        case _:
            assert_never(price)


def _graduated(tiers: tuple[Tier, ...]) -> tuple[Step, ...]:
    starts = [0, *(tier.up_to or 0 for tier in tiers[:-1])]
    whole = (
        (end - start) * _whole(tier.unit_price) + _whole(tier.flat_price)
        for tier, start, end in zip(tiers, starts, starts[1:], strict=False)
    )
    return tuple(
        Step(tier.up_to, before + _whole(tier.flat_price), _whole(tier.unit_price), origin=start)
        for tier, start, before in zip(tiers, starts, accumulate(whole, initial=0), strict=True)
    )


def _percentage(price: Percentage) -> tuple[Step, ...]:
    """The minimum as long as it is more, then each unit, then the maximum."""
    fixed, each = _whole(price.fixed), _whole(price.unit_price)

    def reach(bound: int) -> int:
        """The last quantity that costs no more than the bound; 0 where there is none."""
        if each == 0:
            return MAX_QUANTITY if fixed <= bound else 0
        return min(MAX_QUANTITY, max(0, (bound - fixed) // each))

    least = 0 if price.minimum is None else _whole(price.minimum)
    most = 0 if price.maximum is None else _whole(price.maximum)
    low = 0 if price.minimum is None else reach(least)
    high = MAX_QUANTITY if price.maximum is None else reach(most)
    parts = ((0, low, least, 0), (low, high, fixed, each), (high, MAX_QUANTITY, most, 0))
    steps = [Step(end, base, unit) for start, end, base, unit in parts if end > start]
    return (*steps[:-1], replace(steps[-1], up_to=None))


def _whole(amount: Decimal) -> int:
    """An amount in major units as trillionths: no price has more places."""
    digits, _, places = text(amount).partition(".")
    return int(digits + places.ljust(PLACES, "0"))
