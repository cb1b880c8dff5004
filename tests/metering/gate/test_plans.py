"""Pinned plans are made anew soon after tables were empty, and seldom later."""

from __future__ import annotations

import itertools
from datetime import date

from metering.gate.plans import FIRST_S, MOST_S, Plans

NOVEMBER, DECEMBER = date(2026, 11, 1), date(2026, 12, 1)


def _times(plans: Plans, *, month: date, since: int, until: int) -> list[int]:
    return [now for now in range(since, until) if plans.are_due(now, month=month)]


def test_plans_are_made_at_once_and_then_less_and_less_often() -> None:
    made = _times(Plans(), month=NOVEMBER, since=0, until=2_000)

    pauses = [after - before for before, after in itertools.pairwise(made)]
    assert made[0] == 0
    assert pauses[:4] == [FIRST_S, FIRST_S * 2, FIRST_S * 4, FIRST_S * 8]
    assert pauses == sorted(pauses)
    assert pauses[-1] == MOST_S


def test_a_new_month_begins_with_an_empty_partition() -> None:
    plans = Plans()
    _times(plans, month=NOVEMBER, since=0, until=2_000)

    anew = _times(plans, month=DECEMBER, since=2_000, until=2_100)

    assert anew[:3] == [2_000, 2_000 + FIRST_S, 2_000 + FIRST_S * 3]
