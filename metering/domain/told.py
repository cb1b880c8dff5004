"""What an admitted call was told, so that a repeat of its id is told the same.

Kept as one short JSON array beside the event or hold: names of members would be most of a row.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec


class BalanceTold(msgspec.Struct, frozen=True, gc=False):
    """One entry of `balances`, in the order of its members; times are RFC 3339."""

    meter: str
    window: str
    granted: int
    used: int
    held: int
    remaining: int
    overage: int
    overage_limit: int | None
    unlimited: bool
    resets_at: str | None


class Told(msgspec.Struct, frozen=True):
    """The answer to an admitted check, as far as it is not the call's own words."""

    mode: str
    plan: str
    balances: Sequence[BalanceTold]
    expires_at: str | None = None  # of the hold
    value: str | None = None  # of a static entitlement


class _Kept(msgspec.Struct, array_like=True, omit_defaults=True):
    mode: str
    plan: str
    balances: list[tuple[str, str, int, int, int, int, int, int | None, bool, str | None]]
    expires_at: str | None = None


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Kept).decode
_tuple = msgspec.structs.astuple


def keep(told: Told) -> str:
    """The text to store."""
    balances = [_tuple(each) for each in told.balances]
    return _encode((told.mode, told.plan, balances, told.expires_at)).decode()


def recall(text: str) -> Told:
    """What `keep` was given."""
    kept = _decode(text)
    balances = [BalanceTold(*each) for each in kept.balances]
    return Told(kept.mode, kept.plan, balances, kept.expires_at)


def balance_bodies(told: Told) -> list[dict[str, object]]:
    """The balances as plain mappings, for doors that do not write msgspec."""
    return [msgspec.structs.asdict(each) for each in told.balances]
