"""Fees of parts of periods, by the second, without a cent lost or made.

Whoever leaves a plan inside a period gets the unused rest of its fee back and pays the rest
of the new plan's fee. The unused rest is rounded, the used part is what is left of the fee:
both always add up to it. ``period`` is the whole period of the anchor, also where the
customer came into it late, so that every rest is counted against the whole fee.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from billing.domain.money import round_minor_fraction
from billing.domain.periods import Period, proration_fraction


class FeeNegative(Exception):
    """A fee is never less than nothing."""

    def __init__(self, fee: int) -> None:
        super().__init__(f"A fee of {fee} cannot be divided.")


@dataclass(frozen=True, slots=True)
class SplitFee:
    """A fee in minor units, cut at one instant; ``used + unused`` is the fee."""

    used: int
    unused: int


def split_fee(fee: int, *, period: Period, at: datetime, currency: str) -> SplitFee:
    """``fee`` (minor units) of the whole ``period``, cut at ``at``.

    Raises :class:`FeeNegative` and ``CurrencyUnknown``.
    """
    if fee < 0:
        raise FeeNegative(fee)
    rest = fee * proration_fraction(period, at=at)
    # A rest rounds up to at most the next step; a fee that is no whole number of steps
    # (an ISK fee of 12.50) must still not give back more than was paid.
    unused = min(fee, round_minor_fraction(rest, currency=currency))
    return SplitFee(used=fee - unused, unused=unused)


def rest_of_fee(fee: int, *, period: Period, at: datetime, currency: str) -> int:
    """What the part of ``period`` from ``at`` on costs: the first, short period of a
    subscription, or the charge of a plan that begins inside a period."""
    return split_fee(fee, period=period, at=at, currency=currency).unused
