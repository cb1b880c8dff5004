"""What is included in a window in which the terms change.

Fees are shared by the second, and so is what they include: a better plan that is had for the last
hour of a window includes that hour's share of the difference, and not a window's worth. What was
used in the window stays used. So switching to and fro gives nothing that was not paid for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction
from math import floor
from typing import Final

from metering.domain.rollover import rolls

Window = tuple[datetime, datetime]
_MICROSECOND: Final = timedelta(microseconds=1)
_DAYS: Final = {
    "day": Fraction(1),
    "week": Fraction(7),
    "month": Fraction(365, 12),
    "year": Fraction(365),
}


@dataclass(frozen=True, slots=True)
class Included:
    """What terms include in each of their windows; None: any quantity."""

    quantity: int | None
    unit: str


def blended_included(in_force: int, *, old: int, new: int, window: Window, at: datetime) -> int:
    """What a window includes in which terms with ``old`` units give way at ``at`` to ``new`` ones:
    ``in_force`` (what it included until then) plus the rest of the window's share of the
    difference, rounded half up, never below 0."""
    return _whole(in_force + (new - old) * _rest(window, at=at))


def included_in(window: Window, *, unit: str, stood: Sequence[tuple[datetime, Included]]) -> int:
    """What a window of ``unit`` includes under the last of the terms that ``stood``, each from its
    time on until the next: exact, and rounded once, so that many changes are no more than few.

    Terms of windows of another unit count with what they would include in one of this. Of terms
    that begin inside the window the first include their share of it; those that follow unlimited
    ones count in full. Nothing is shared of lifetimes and of windows of an hour or less.
    """
    in_force = Fraction(0)
    old: Fraction | None = Fraction(0)
    for at, terms in stood:
        new = _in_unit(terms, unit=unit)
        if new is not None:
            whole = old is None or at <= window[0] or not rolls(unit)
            in_force = new if whole else in_force + (new - (old or 0)) * _rest(window, at=at)
        old = new
    return _whole(in_force)


def _whole(units: Fraction) -> int:
    return max(0, floor(units + Fraction(1, 2)))


def _in_unit(terms: Included, *, unit: str) -> Fraction | None:
    if terms.quantity is None or terms.unit == unit:
        return None if terms.quantity is None else Fraction(terms.quantity)
    if terms.unit not in _DAYS or unit not in _DAYS:
        return Fraction(0)
    return terms.quantity * _DAYS[unit] / _DAYS[terms.unit]


def _rest(window: Window, *, at: datetime) -> Fraction:
    """The exact share of the window that lies at or after ``at``."""
    start_at, end_at = window
    left = end_at - min(max(at, start_at), end_at)
    return Fraction(left // _MICROSECOND, (end_at - start_at) // _MICROSECOND)
