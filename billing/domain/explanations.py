"""Invoice lines computed again from what is frozen with them, and the sums in words.

Nothing but the line itself is needed: whoever has the invoice can follow it by hand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from billing.domain.discounts import Discount
from billing.domain.invoices import LineKind
from billing.domain.periods import Period
from billing.domain.prices import parse_price
from billing.domain.proration import rest_of_fee
from billing.domain.rating import rate


@dataclass(frozen=True, slots=True)
class LineFacts:
    """A line as it stands on its invoice. ``whole``: the period of the anchor that fees are
    shares of."""

    kind: LineKind
    amount: int
    quantity: int | None
    period: Period
    detail: Mapping[str, Any]
    currency: str
    whole: Period


@dataclass(frozen=True, slots=True)
class Recomputed:
    """``amount`` in minor units, computed anew; None where the line is no result of a sum, such
    as a credit. ``sums``: the arithmetic, a step each."""

    amount: int | None
    sums: tuple[str, ...]


def recompute(line: LineFacts) -> Recomputed:
    """The amount of a line from its own details."""
    match line.kind:
        case LineKind.USAGE:
            return _usage(line)
        case LineKind.FEE if "fee" in line.detail:
            return _fee(line)
        case LineKind.MINIMUM:
            least, spent = int(line.detail["minimum"]), int(line.detail["spent"])
            return Recomputed(least - spent, (f"{least:,} - {spent:,} = {least - spent:,}",))
        case LineKind.DISCOUNT if "taken" in line.detail:
            return _discount(line)
        case LineKind.ADJUSTMENT if "amount_after" in line.detail:
            before, after = int(line.detail["amount_before"]), int(line.detail["amount_after"])
            return Recomputed(after - before, (f"{after:,} - {before:,} = {after - before:,}",))
        case _:
            return Recomputed(None, ())


def _usage(line: LineFacts) -> Recomputed:
    price = parse_price(line.detail["price"])
    before = int(line.detail.get("billed_before", 0))
    units = before + (line.quantity or 0)
    now = rate(price, quantity=units, currency=line.currency).amount_minor
    was = rate(price, quantity=before, currency=line.currency).amount_minor
    sums = _tiers(line.detail["tiers"])
    if before:
        sums += [f"less, for the {before:,} units that were billed before:"]
        sums += _tiers(line.detail["tiers_before"])
        sums += [f"{now:,} - {was:,} = {now - was:,}"]
    return Recomputed(now - was, tuple(sums))


def _tiers(tiers: Sequence[Mapping[str, Any]]) -> list[str]:
    return [_tier(tier) for tier in tiers]


def _tier(tier: Mapping[str, Any]) -> str:
    if "bound" in tier:
        return f"to the {tier['bound']}: {tier['amount']}"
    if "packages" in tier:
        counted = f"{tier['packages']:,} packages x {tier['unit_price']}"
    else:
        counted = f"{tier['quantity']:,} x {tier['unit_price']}"
    flat = f" + {tier['flat_price']}" if tier["flat_price"] != "0" else ""
    return f"{counted}{flat} = {tier['amount']}"


def _fee(line: LineFacts) -> Recomputed:
    fee = int(line.detail["fee"])
    left = [
        rest_of_fee(fee, period=line.whole, at=at, currency=line.currency)
        for at in (line.period.start_at, line.period.end_at)
    ]
    amount = left[0] - left[1]
    sums = [_tier(tier) for tier in line.detail.get("tiers", [])]
    if line.period != line.whole:
        share = f"{line.period.seconds:,} of {line.whole.seconds:,} seconds"
        sums.append(f"{fee:,} for {share}: {left[0]:,} - {left[1]:,} = {amount:,}")
    return Recomputed(amount, tuple(sums))


def _discount(line: LineFacts) -> Recomputed:
    base, before = int(line.detail["base"]), int(line.detail.get("before", 0))
    if "percent" in line.detail:
        discount = Discount(percent=Decimal(line.detail["percent"]))
        words = f"{line.detail['percent']}% of {base:,}"
    else:
        discount = Discount(amounts={line.currency: int(line.detail["most"])})
        words = f"{line.detail['most']:,}, at most {base:,}"
    taken = discount.of(base, currency=line.currency)
    sums = [f"{words} = {taken:,}"]
    if before:
        sums.append(f"less {before:,} taken off before: {taken - before:,}")
    return Recomputed(before - taken, tuple(sums))
