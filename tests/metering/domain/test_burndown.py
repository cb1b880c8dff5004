"""Burning: what is included first, then grants in order; giving back restores exactly."""

from __future__ import annotations

import copy
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.domain.account import Account, Grant, HoldState, Terms
from metering.domain.burndown import Deltas, burning_order, give_back, left_after, room, take, use

NOW = datetime(2026, 11, 15, 12, tzinfo=UTC)
START = datetime(2026, 11, 1, tzinfo=UTC)
METER = 7


def terms(**fields: Any) -> Terms:
    """A limit of 100 a month, hard."""
    given_fields: dict[str, Any] = {
        "meter_id": METER,
        "window": "month",
        "anchor_at": START,
        "included": 100,
        "unlimited": False,
        "over_is_billed": False,
        "overage_limit": None,
        "starts_at": START,
        "ends_at": None,
    }
    return Terms(**(given_fields | fields))


def grant(id_: int, quantity: int, **fields: Any) -> Grant:
    """A grant without an end."""
    given_fields: dict[str, Any] = {
        "used": 0,
        "held": 0,
        "priority": 10,
        "effective_at": START,
        "expires_at": None,
    }
    return Grant(id=id_, meter_id=METER, quantity=quantity, **(given_fields | fields))


def account(*limits: Terms, grants: tuple[Grant, ...] = ()) -> Account:
    """A customer with these rights."""
    return Account(
        customer_id=1,
        version=1,
        sold=True,
        terms={METER: list(limits)},
        grants={METER: burning_order(grants)} if grants else {},
    )


def burn(of: Account, quantity: int, *, hold: bool = False, at: datetime = NOW) -> dict[str, Any]:
    """Take and return the allocation."""
    return take(of, Deltas(), meter_id=METER, quantity=quantity, at=at, hold=hold)


def hold(of: Account, quantity: int, expires_at: datetime) -> None:
    """Hold some until then, as the copy of the gate that opened the hold knows it."""
    kept = HoldState(
        state="open",
        items={str(METER): quantity},
        allocation={str(METER): burn(of, quantity, hold=True)},
        properties=None,
        opened_at=NOW,
        expires_at=expires_at,
        source="edge-1",
        external_id=f"hold {len(of.holds)}",
        fingerprint=1,
        answer="",
        api_key_id=None,
    )
    of.know_hold(kept.external_id, kept)
    of.next_expiry_at = min(expires_at, of.next_expiry_at or expires_at)


def test_included_goes_first_then_grants_in_order_then_overage() -> None:
    of = account(
        terms(),
        grants=(
            grant(1, 10),
            grant(2, 10, priority=1),
            grant(3, 10, expires_at=NOW + timedelta(days=1)),
            grant(4, 10, expires_at=NOW - timedelta(days=1)),
            grant(5, 10, effective_at=NOW + timedelta(days=1)),
        ),
    )

    allocation = burn(of, 125)

    assert allocation["grants"] == {"2": 10, "3": 10, "1": 5}
    measured = room(of, of.terms[METER][0], at=NOW)
    assert (measured.used, measured.remaining, measured.overage) == (125, 5, 0)
    burn(of, 8)
    measured = room(of, of.terms[METER][0], at=NOW)
    assert (measured.remaining, measured.overage, measured.admissible) == (0, 3, 0)
    assert measured.granted == 130


def test_an_hourly_window_burns_no_grant() -> None:
    of = account(terms(window="hour", included=5), grants=(grant(1, 10),))
    assert "grants" not in burn(of, 8)
    assert room(of, of.terms[METER][0], at=NOW).remaining == 0


def test_every_window_of_the_meter_takes_the_whole() -> None:
    of = account(terms(), terms(window="day", included=20))
    allocation = burn(of, 15)
    assert [window for window, _ in allocation["windows"]] == ["month", "day"]
    month, day = (room(of, each, at=NOW) for each in of.terms[METER])
    assert (month.remaining, day.remaining) == (85, 5)


def test_a_window_before_the_right_began_counts_nothing() -> None:
    of = account(terms())
    assert burn(of, 5, at=START - timedelta(days=3))["windows"] == []
    ended = account(terms(ends_at=START + timedelta(days=1)))
    assert burn(ended, 5)["windows"] != []  # the right stood in part of this window
    assert burn(ended, 5, at=NOW + timedelta(days=40))["windows"] == []


def test_what_an_unlimited_right_admits() -> None:
    of = account(terms(unlimited=True), grants=(grant(1, 10),))
    assert "grants" not in burn(of, 10_000)
    measured = room(of, of.terms[METER][0], at=NOW)
    assert (measured.admissible, measured.overage) == (None, 0)


def test_billed_overage_without_and_with_a_limit() -> None:
    free = account(terms(over_is_billed=True))
    assert room(free, free.terms[METER][0], at=NOW).admissible is None
    capped = account(terms(over_is_billed=True, overage_limit=50))
    burn(capped, 120)
    measured = room(capped, capped.terms[METER][0], at=NOW)
    assert (measured.admissible, measured.overage, measured.remaining) == (30, 20, 0)


def test_what_holds_stand_in_the_way_of() -> None:
    of = account(terms(), grants=(grant(1, 20),))
    burn(of, 110, hold=True)
    measured = room(of, of.terms[METER][0], at=NOW)
    assert (measured.held, measured.admissible, measured.admissible_without_holds) == (110, 10, 120)


def test_giving_back_what_was_held_in_a_window_that_is_not_in_the_copy() -> None:
    deltas = Deltas()
    of = account(terms())
    give_back(
        of, deltas, meter_id=METER, allocation={"q": 9, "windows": [["month", 1_760_000_000]]}
    )
    ((key, change),) = deltas.balances.items()
    assert key[2] == datetime.fromtimestamp(1_760_000_000, UTC)
    assert (change.held, change.used, change.stored) == (-9, 0, True)


quantities = st.integers(min_value=0, max_value=200)


@given(
    held=st.lists(quantities, max_size=6),
    sizes=st.lists(st.integers(min_value=1, max_value=60), max_size=4),
    used=quantities,
)
def test_giving_all_holds_back_restores_the_account(
    held: list[int], sizes: list[int], used: int
) -> None:
    of = account(
        terms(),
        terms(window="hour", included=30),
        grants=tuple(grant(n, size) for n, size in enumerate(sizes)),
    )
    burn(of, used)
    before = copy.deepcopy(of)
    deltas = Deltas()
    allocations = [
        take(of, deltas, meter_id=METER, quantity=quantity, at=NOW, hold=True) for quantity in held
    ]
    for allocation in reversed(allocations):
        give_back(of, deltas, meter_id=METER, allocation=allocation)

    assert of == before
    assert all((each.held, each.grant_held) == (0, 0) for each in deltas.balances.values())
    assert all(change == [0, 0] for change in deltas.grants.values())


@given(
    steps=st.lists(st.tuples(quantities, st.booleans()), max_size=12),
    sizes=st.lists(st.integers(min_value=1, max_value=60), max_size=4),
    included=quantities,
)
def test_the_books_of_a_window_always_add_up(
    steps: list[tuple[int, bool]], sizes: list[int], included: int
) -> None:
    """granted = used + held + remaining - overage, grants are never overdrawn, and I2."""
    limit = terms(included=included)
    of = account(limit, grants=tuple(grant(n, size) for n, size in enumerate(sizes)))
    for quantity, hold in steps:
        admissible = room(of, limit, at=NOW).admissible
        assert admissible is not None
        burn(of, min(quantity, admissible), hold=hold)
        measured = room(of, limit, at=NOW)
        assert measured.overage == 0
        assert measured.granted == included + sum(sizes)
        assert measured.used + measured.held + measured.remaining == measured.granted
        for each in of.grants.get(METER, ()):
            assert 0 <= each.used + each.held <= each.quantity


@pytest.mark.parametrize("grants", [(), (grant(1, 50),)], ids=["included", "granted"])
@given(quantity=st.integers(0, 300), begun=st.booleans())
def test_what_nobody_gives_back_is_burned_as_an_allocation_would(
    grants: tuple[Grant, ...], quantity: int, begun: bool
) -> None:
    starts_at = START if begun else NOW + timedelta(days=40)
    made = [
        account(terms(starts_at=starts_at), terms(window="day"), grants=copy.deepcopy(grants))
        for _ in range(2)
    ]
    deltas = [Deltas(), Deltas()]

    allocation = take(made[0], deltas[0], meter_id=METER, quantity=quantity, at=NOW, hold=False)
    burned = use(made[1], deltas[1], meter_id=METER, quantity=quantity, at=NOW)

    assert (burned or None) == allocation.get("grants")
    assert deltas[0] == deltas[1]
    assert made[0] == made[1]


MINUTES = st.integers(-40 * 1_440, 40 * 1_440)


@given(
    moments=st.lists(MINUTES, min_size=1, max_size=12),
    windows=st.lists(st.sampled_from(["minute", "hour", "day", "month", "lifetime"]), unique=True),
    begins=MINUTES,
    lasts=st.none() | st.integers(0, 3 * 1_440),
)
def test_uses_in_any_order_of_time_count_where_their_moments_lie(
    moments: list[int], windows: list[str], begins: int, lasts: int | None
) -> None:
    starts_at = NOW + timedelta(minutes=begins)
    ends_at = None if lasts is None else starts_at + timedelta(minutes=lasts)
    rights = [terms(window=each, starts_at=starts_at, ends_at=ends_at) for each in windows[:-1]]
    rights += [terms(window=each) for each in windows[-1:]]
    made = [account(*rights), account(*rights)]
    deltas = [Deltas(), Deltas()]

    for minutes in moments:
        at = NOW + timedelta(minutes=minutes)
        take(made[0], deltas[0], meter_id=METER, quantity=1, at=at, hold=False)
        use(made[1], deltas[1], meter_id=METER, quantity=1, at=at)

    assert deltas[0] == deltas[1]
    assert made[0] == made[1]


@given(
    quantity=st.integers(0, 400),
    before=st.integers(0, 200),
    held=st.integers(0, 100),
    given_late=st.booleans(),
    window=st.sampled_from(["month", "day", "minute", "lifetime"]),
)
def test_what_is_left_after_a_use_follows_from_what_was_left(
    quantity: int, before: int, held: int, given_late: bool, window: str
) -> None:
    of = account(terms(window=window, over_is_billed=True), grants=(grant(1, 50), grant(2, 60)))
    if given_late:
        late = of.grants[METER].pop()
    burn(of, before)
    burn(of, held, hold=True)
    if given_late:
        of.grants[METER].append(late)
    right = of.terms[METER][0]
    was = room(of, right, at=NOW)

    burn(of, quantity)

    now = room(of, right, at=NOW)
    assert left_after(was, quantity) == (now.remaining, now.overage)
    assert (was.granted, was.held) == (now.granted, now.held)
