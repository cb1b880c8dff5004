"""Usage as a plain Python dictionary counts it: no database, and none of our code."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

Value = int | str
Counts = list[tuple[datetime, Value]]  # when it occurred, what it counts as


def plain_total(aggregation: str, counts: Iterable[tuple[datetime, Value]]) -> int:
    """What a meter of that kind makes of them; 0 of none."""
    found = list(counts)
    if aggregation == "unique":
        return len({value for _, value in found})
    if aggregation == "max":
        return max((int(value) for _, value in found), default=0)
    if aggregation == "latest":
        return int(max(found)[1]) if found else 0
    return sum(int(value) for _, value in found)
