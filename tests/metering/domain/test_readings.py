"""metering.domain.readings: balances of max, latest and unique equal the total of their events."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.domain.account import Account, Grant, Terms
from metering.domain.aggregates import Counted, total_of
from metering.domain.burndown import Deltas
from metering.domain.meters import Aggregation
from metering.domain.readings import Reading, increase, take_reading

BEGIN = datetime(2026, 11, 1, tzinfo=UTC)
METER = 7
drawn_events = st.lists(st.tuples(st.integers(0, 71), st.integers(0, 9)), max_size=15)


def terms(window: str, *, unlimited: bool = False, included: int = 5, days: int = 30) -> Terms:
    return Terms(
        meter_id=METER,
        window=window,
        anchor_at=BEGIN,
        included=included,
        unlimited=unlimited,
        over_is_billed=False,
        overage_limit=None,
        starts_at=BEGIN,
        ends_at=BEGIN + timedelta(days=days),
    )


def account(*rights: Terms, granted: int = 0) -> Account:
    made = Account(customer_id=1, version=1, terms={METER: list(rights)})
    if granted:
        made.grants[METER] = [Grant(3, METER, granted, 0, 0, 10, BEGIN, None)]
    return made


def value_of(aggregation: Aggregation, number: int) -> Counted:
    return f"user-{number}" if aggregation is Aggregation.UNIQUE else number


@pytest.mark.parametrize("aggregation", list(Aggregation))
@given(drawn=drawn_events)
def test_used_of_every_window_is_the_total_of_its_events_in_any_order_of_arrival(
    aggregation: Aggregation, drawn: list[tuple[int, int]]
) -> None:
    copy, deltas = account(terms("day"), terms("month")), Deltas()
    events = [
        (BEGIN + timedelta(hours=hour), value_of(aggregation, number)) for hour, number in drawn
    ]
    for at, value in events:
        reading = Reading(aggregation, value)
        before = increase(copy, reading, copy.terms[METER][0], at=at)
        start = at.replace(hour=0)
        was = copy.balances.get((METER, "day", start))
        used = was.used if was else 0
        take_reading(copy, deltas, meter_id=METER, reading=reading, at=at)
        assert copy.balances[(METER, "day", start)].used - used == before
    for (_, window, start), balance in copy.balances.items():
        inside = [each for each in events if start <= each[0] < balance.end_at]
        total = total_of(aggregation, inside)
        assert balance.used == total.quantity
        if aggregation is Aggregation.LATEST:
            assert balance.latest_at == total.latest_at
        else:
            assert balance.latest_at is None
        if aggregation is Aggregation.UNIQUE:
            assert copy.members.get((METER, window, start), set()) == total.members
    written = {key: change.used for key, change in deltas.balances.items()}
    assert written == {key: balance.used for key, balance in copy.balances.items() if balance.used
                       or key in written}  # fmt: skip
    new = {key: set(members) for key, members in deltas.members.items()}
    assert new == copy.members
    assert all(len(set(each)) == len(each) for each in deltas.members.values())


def test_an_allocation_says_what_was_taken_and_where() -> None:
    copy, deltas = account(terms("day"), terms("month")), Deltas()
    at = BEGIN + timedelta(hours=30)
    taken = take_reading(copy, deltas, meter_id=METER, reading=Reading(Aggregation.MAX, 4), at=at)
    day = int((BEGIN + timedelta(days=1)).timestamp())
    assert taken == {"q": 4, "windows": [["day", day], ["month", int(BEGIN.timestamp())]]}


def test_what_a_maximum_or_members_rise_past_the_included_burns_grants() -> None:
    for aggregation, steps in (
        (Aggregation.MAX, [(3, {}), (8, {"3": 3}), (7, {}), (9, {"3": 1})]),
        (Aggregation.UNIQUE, [(n, {}) for n in range(5)] + [(5, {"3": 1}), (5, {}), (6, {"3": 1})]),
    ):
        copy, deltas = account(terms("month"), granted=100), Deltas()
        for number, burned in steps:
            reading = Reading(aggregation, value_of(aggregation, number))
            taken = take_reading(copy, deltas, meter_id=METER, reading=reading, at=BEGIN)
            assert taken.get("grants", {}) == burned
        total = sum(sum(burned.values()) for _, burned in steps)
        (balance,) = copy.balances.values()
        (change,) = deltas.balances.values()
        assert balance.grant_used == change.grant_used == total
        assert copy.grants[METER][0].used == deltas.grants[3][0] == total


def test_the_latest_reading_burns_nothing_for_it_may_fall_again() -> None:
    copy, deltas = account(terms("month"), granted=100), Deltas()
    for minutes, value, used in ((1, 50, 50), (3, 2, 2), (2, 90, 2), (3, 1, 2), (3, 4, 4)):
        at = BEGIN + timedelta(minutes=minutes)
        taken = take_reading(
            copy, deltas, meter_id=METER, reading=Reading(Aggregation.LATEST, value), at=at
        )
        assert "grants" not in taken
        (balance,) = copy.balances.values()
        assert balance.used == used
    assert copy.grants[METER][0].used == 0
    assert deltas.grants == {}
    assert increase(copy, Reading(Aggregation.LATEST, 1), terms("month"), at=at) == 0
    later = BEGIN + timedelta(minutes=9)
    assert increase(copy, Reading(Aggregation.LATEST, 1), terms("month"), at=later) == -3


@pytest.mark.parametrize("right", [terms("hour"), terms("month", unlimited=True)])
def test_rate_windows_and_unlimited_rights_burn_no_grants(right: Terms) -> None:
    copy, deltas = account(right, granted=100), Deltas()
    taken = take_reading(
        copy, deltas, meter_id=METER, reading=Reading(Aggregation.MAX, 50), at=BEGIN
    )
    assert "grants" not in taken
    assert copy.grants[METER][0].used == 0


def test_windows_in_which_the_right_did_not_stand_count_nothing() -> None:
    copy, deltas = account(terms("day", days=1)), Deltas()
    reading = Reading(Aggregation.UNIQUE, "ann")
    for at in (BEGIN - timedelta(days=2), BEGIN + timedelta(days=1)):
        taken = take_reading(copy, deltas, meter_id=METER, reading=reading, at=at)
        assert taken == {"q": "ann", "windows": []}
    nobody = Account(customer_id=1, version=1)
    take_reading(nobody, deltas, meter_id=METER, reading=reading, at=BEGIN)
    assert (copy.balances, copy.members, deltas) == ({}, {}, Deltas())
