"""In which order credit is used: by priority, then what expires sooner, then what is older."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class AvailableCredit:
    """``left`` minor units. A lower ``priority`` goes first; no expiry is later than any."""

    id: int
    left: int
    priority: int
    expires_at: datetime | None
    granted_at: datetime

    def covers(self, end_at: datetime) -> bool:
        """Whether it can be used for a period that ends then: it must last until its end."""
        return self.expires_at is None or self.expires_at >= end_at


def using_order(available: Sequence[AvailableCredit]) -> list[AvailableCredit]:
    """Sort credits in the order in which they are used."""
    return sorted(
        available,
        key=lambda credit: (
            credit.priority,
            credit.expires_at is None,
            credit.expires_at or credit.granted_at,
            credit.granted_at,
            credit.id,
        ),
    )


def draw(available: Sequence[AvailableCredit], *, amount: int) -> dict[int, int]:
    """How much of which credit pays ``amount``, as far as they reach: id -> minor units."""
    drawn = {}
    for credit in using_order(available):
        part = min(credit.left, amount)
        if part > 0:
            drawn[credit.id] = part
            amount -= part
    return drawn
