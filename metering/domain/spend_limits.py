"""Whether a call keeps within the customer's spend limit.

The sum is that of the usage lines which the period's invoice would have now: each meter's overage,
open holds included, rated as a whole and rounded once. A call is denied by the limit only where it
adds to the bill: what the plan includes and what grants pay for stays to be had.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from metering.domain.account import Account
from metering.domain.burndown import room
from metering.domain.spending import Curve, SpendLimit


@dataclass(frozen=True, slots=True)
class LimitReached:
    """The first meter for which there is not enough left, and how much of it there would be."""

    meter_id: int
    max_admissible: int
    resets_at: datetime


def spent(account: Account, *, at: datetime) -> int:
    """What overage has cost in the billing period so far, holds included, in minor units.

    0 for a customer without a limit: then nothing is kept to know it by.
    """
    limit = account.spend_limit
    return 0 if limit is None else _Bill(account, limit, at).minor({})


def limit_reached(
    account: Account, wanted: Sequence[tuple[int, int]], *, at: datetime
) -> LimitReached | None:
    """Say which of the quantities, by meter id, would cost more than the limit leaves; or none."""
    limit = account.spend_limit
    if limit is None or limit.cap is None:
        return None
    bill = _Bill(account, limit, at)
    more: dict[int, int] = {}
    for meter_id, quantity in wanted:
        terms = bill.priced.get(meter_id)
        if terms is None:
            continue
        free = room(account, terms, at=at).remaining
        past = quantity - free
        if past <= 0:
            continue
        if not bill.admits(more | {meter_id: past}):
            most = free + _most(bill, more, meter_id, below=past)
            return LimitReached(meter_id, most, limit.period(at)[1])
        more[meter_id] = past
    return None


class _Bill:
    """The usage lines of one period."""

    def __init__(self, account: Account, limit: SpendLimit, at: datetime) -> None:
        self.limit = limit
        self.priced = {
            terms.meter_id: terms
            for each in account.terms.values()
            for terms in each
            if terms.curve is not None and not terms.unlimited and terms.active_at(at)
        }
        period = limit.period(at)
        self.known = limit.since == period[0]
        paid = {(meter_id, second): n for meter_id, second, n in limit.paid}
        self.periods = _periods(limit, until=period[0])
        self.units = dict.fromkeys(self.priced, 0)
        self.begun = dict.fromkeys(self.priced, 0)  # in windows of which it is not known yet
        for (meter_id, window, began_at), balance in account.balances.items():
            terms = self.priced.get(meter_id)
            if terms is None or terms.window != window:
                continue
            if balance.end_at <= period[0] or began_at >= period[1]:
                continue
            taken = balance.used - balance.grant_used + balance.held - balance.grant_held
            taken -= paid.get((meter_id, int(began_at.timestamp())), 0)
            past = max(taken - terms.included_until(balance.end_at), 0)
            if began_at < period[0] and limit.since is not None and began_at < limit.since:
                past = max(past - (limit.before or {}).get(meter_id, 0), 0)
            kept = self.units if self.known or began_at >= period[0] else self.begun
            kept[meter_id] += past
        self.now = self.exact({})

    def curve(self, meter_id: int) -> Curve:
        curve = self.priced[meter_id].curve
        assert curve is not None
        return curve

    def exact(self, more: Mapping[int, int]) -> int:
        """Σ of the lines in trillionths, if so much more overage of meters came."""
        return sum(
            self.curve(meter_id).cost(units + more.get(meter_id, 0))
            for meter_id, units in self.units.items()
        )

    def minor(self, more: Mapping[int, int]) -> int:
        """Σ of the lines in minor units, each rounded, with what was carried."""
        return sum(
            (
                self.limit.rounded(self.curve(meter_id).cost(units + more.get(meter_id, 0)))
                for meter_id, units in self.units.items()
            ),
            self.limit.carried if self.known else 0,
        )

    def admits(self, more: Mapping[int, int]) -> bool:
        """Whether the bill keeps within the cap with so much more, or does not grow by it.

        Where it was not told yet what of a window the periods before have paid, all that the
        window has may cost no more than the limits of these periods together: so nobody is denied
        for what is paid, and nobody spends without bound while the workers are down.
        """
        cap = self.limit.cap or 0
        if self.minor(more) > cap and self.exact(more) > self.now:
            return False
        if not any(self.begun.values()):
            return True
        with_begun = {
            meter_id: more.get(meter_id, 0) + units for meter_id, units in self.begun.items()
        }
        return self.minor(with_begun) <= cap * self.periods or self.exact(more) <= self.now


def _periods(limit: SpendLimit, *, until: datetime) -> int:
    """How many periods there are from the one last told of to the one that begins at `until`."""
    count, at = 1, limit.since or until
    while at < until:
        count, at = count + 1, limit.period(at)[1]
    return count


def _most(bill: _Bill, more: Mapping[int, int], meter_id: int, *, below: int) -> int:
    """The largest overage under `below` that would be admitted.

    On one step of the curve more never costs less, so the last that fits is found by halving;
    the steps are tried from the top, for a volume price may make a larger quantity cheaper.
    """
    units = bill.units[meter_id]
    high = units + below - 1
    for low in bill.curve(meter_id).edges(units + 1, high) if high > units else ():
        if bill.admits({**more, meter_id: low - units}):
            while low < high:
                middle = (low + high + 1) // 2
                if bill.admits({**more, meter_id: middle - units}):
                    low = middle  # noqa: PLW2901
                else:
                    high = middle - 1
            return low - units
        high = low - 1
    return 0
