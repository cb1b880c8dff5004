"""What counts on meters that do not add up: readings, of which a balance keeps one, or members.

`used` of a balance then is the aggregate itself: the greatest reading of the window, the latest
one, or the number of different members. What a reading changes depends on what the window has seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, assert_never

from metering.domain.account import Account, Balance, BalanceKey, Terms
from metering.domain.aggregates import Counted
from metering.domain.burndown import Deltas, base_left, burn_grants
from metering.domain.meters import Aggregation
from metering.domain.windows import RATE_UNITS


@dataclass(frozen=True, slots=True)
class Reading:
    """What one event counts as on a meter of max, latest or unique."""

    aggregation: Aggregation
    value: Counted  # the member, of unique


def increase(account: Account, reading: Reading, terms: Terms, *, at: datetime) -> int:
    """By how much `used` of the right's window would rise; negative where it would fall."""
    start_at, end_at = account.window(terms, at=at)
    key = (terms.meter_id, terms.window, start_at)
    balance = account.balances.get(key) or Balance(end_at)
    return _rise(account, reading, key, balance, at)


def take_reading(
    account: Account, deltas: Deltas, *, meter_id: int, reading: Reading, at: datetime
) -> dict[str, Any]:
    """Count a reading of that moment in every window of the meter; return the allocation.

    Grants are burned by what a maximum or a number of members rises past what is included; the
    latest reading may fall again and burns none. The copy and `deltas` change alike.
    """
    allocation: dict[str, Any] = {"q": reading.value}
    windows: list[list[object]] = []
    for terms in account.terms.get(meter_id, ()):
        window = account.window(terms, at=at)
        if not terms.counts(window):
            continue
        key, balance = account.balance(terms, window=window)
        windows.append([terms.window, int(key[2].timestamp())])
        newest = _is_newest(reading, balance, at)
        rise = _rise(account, reading, key, balance, at)
        if not rise and not newest:
            continue
        from_grants = 0
        if _burns(reading, terms):
            rest = rise - max(min(base_left(terms, balance), rise), 0)
            burned = burn_grants(account, deltas, meter_id=meter_id, rest=rest, at=at, hold=False)
            if burned:
                allocation["grants"] = burned
                from_grants = sum(burned.values())
        for side in (balance, deltas.balance(key, balance)):
            side.used += rise
            side.grant_used += from_grants
            side.latest_at = at if newest else side.latest_at
        if reading.aggregation is Aggregation.UNIQUE:
            account.members.setdefault(key, set()).add(str(reading.value))
            deltas.members.setdefault(key, []).append(str(reading.value))
    allocation["windows"] = windows
    return allocation


def _rise(
    account: Account, reading: Reading, key: BalanceKey, balance: Balance, at: datetime
) -> int:
    match reading.aggregation:
        case Aggregation.MAX:
            return max(int(reading.value) - balance.used, 0)
        case Aggregation.LATEST:
            newest = _is_newest(reading, balance, at)
            return int(reading.value) - balance.used if newest else 0
        case Aggregation.UNIQUE:
            return 0 if reading.value in account.members.get(key, ()) else 1
        case Aggregation.COUNT | Aggregation.SUM:
            return int(reading.value)
        case _:
            assert_never(reading.aggregation)


def _is_newest(reading: Reading, balance: Balance, at: datetime) -> bool:
    """Whether this becomes the latest reading; of two at the same instant the greater one is."""
    if reading.aggregation is not Aggregation.LATEST:
        return False
    return balance.latest_at is None or (balance.latest_at, balance.used) < (at, int(reading.value))


def _burns(reading: Reading, terms: Terms) -> bool:
    lasting = reading.aggregation is not Aggregation.LATEST
    return lasting and not terms.unlimited and terms.window not in RATE_UNITS
