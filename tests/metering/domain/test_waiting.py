"""Waiting: which window is named, until when to wait, and that no wait is promised in vain."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.domain.account import Account
from metering.domain.decisions import Allowed, Denied, Item, decide
from metering.domain.meters import Aggregation
from metering.domain.readings import Reading
from metering.domain.remedies import Remedy, remedies
from metering.domain.waiting import MOMENTS, without_ended
from tests.metering.domain.test_burndown import (
    METER,
    NOW,
    account,
    burn,
    grant,
    hold,
    terms,
)
from tests.metering.domain.test_spend_limits import CENT_EACH, OTHER
from tests.metering.domain.test_spend_limits import limit as spend_limit

SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
NEXT_MONTH = datetime(2026, 12, 1, tzinfo=NOW.tzinfo)


def calls(quantity: int) -> list[Item]:
    """Some calls."""
    return [Item("calls", METER, quantity)]


def deny(of: Account, items: Sequence[Item], *, at: datetime = NOW) -> tuple[Denied, Remedy | None]:
    """The denial, and the wait that it proposes."""
    denied = decide(of, items, now=NOW, at=at, offers=())
    assert isinstance(denied, Denied)
    ways = remedies(of, denied, items, now=NOW, at=at, offers=())
    waits = [each for each in ways if each.action == "wait"]
    assert len(waits) == (denied.retry != "never")
    return denied, waits[0] if waits else None


def both(month: int, minute: int) -> Account:
    """A month and a minute of calls."""
    return account(terms(window="minute", included=minute), terms(included=month))


# --- which window is named --------------------------------------------------------------------


def test_a_minute_that_is_full_hides_no_month() -> None:
    of = both(1_000, 100)
    burn(of, 897, at=NOW - 2 * MINUTE)
    burn(of, 98)
    denied, wait = deny(of, calls(50))
    assert (denied.code, denied.retry, denied.max_admissible) == (
        "quota_exhausted", "after_reset", 2,
    )  # fmt: skip
    assert wait == Remedy("wait", would_admit=True, at=NEXT_MONTH)


def test_what_no_window_ever_admits_is_not_waited_for() -> None:
    of = both(1_000, 10)
    burn(of, 997, at=NOW - 2 * MINUTE)
    denied, wait = deny(of, calls(50))
    assert (denied.code, denied.retry, denied.max_admissible) == ("quota_exhausted", "never", 3)
    assert denied.full is not None
    assert denied.full.terms.window == "minute"
    assert wait is None


def test_an_item_that_lasts_longer_is_named_before_the_first() -> None:
    of = both(1_000, 10)
    of.terms[OTHER] = [terms(meter_id=OTHER, included=0)]
    burn(of, 10)
    denied, wait = deny(of, [*calls(1), Item("tokens", OTHER, 1)])
    assert (denied.code, denied.item.name, wait) == ("credits_exhausted", "tokens", None)
    del of.terms[OTHER]
    for missing in (Item("tokens", OTHER, 1), Item("sso", None, 0)):
        assert deny(of, [*calls(1), missing])[0].code == "not_entitled"
        assert deny(of, [missing, *calls(1)])[0].code == "not_entitled"


def test_a_spend_limit_that_lasts_longer_is_named_before_a_minute() -> None:
    of = account(
        terms(window="minute", included=10),
        terms(included=0, over_is_billed=True, curve=CENT_EACH),
    )
    of.spend_limit = spend_limit(8)
    burn(of, 8)
    denied, wait = deny(of, calls(5))
    assert (denied.code, denied.full, denied.max_admissible) == ("spend_limit_reached", None, 0)
    assert wait == Remedy("wait", would_admit=True, at=NEXT_MONTH)


def test_what_a_grant_gives_in_the_next_window_is_counted() -> None:
    of = account(terms(), grants=(grant(1, 30),))
    burn(of, 100)
    denied, wait = deny(of, calls(130))
    assert (denied.retry, wait) == ("after_reset", Remedy("wait", would_admit=True, at=NEXT_MONTH))
    of.grants[METER] = [grant(1, 30, expires_at=NOW + MINUTE)]
    assert deny(of, calls(130))[0].retry == "never"


def test_a_right_that_ends_before_its_window_does_is_not_waited_for() -> None:
    of = account(terms(ends_at=NOW + MINUTE))
    burn(of, 100)
    assert deny(of, calls(1))[0].retry == "never"


@pytest.mark.parametrize(("value", "asked"), [(13, 12), (30, 12)])
def test_of_readings_the_greatest_that_would_do_is_told(value: int, asked: int) -> None:
    of = account(terms(included=20), terms(window="day", included=12))
    burn(of, 5, at=NOW - 2 * timedelta(days=1))
    burn(of, 4)
    reading = Reading(Aggregation.LATEST, value)
    denied = decide(of, [Item("disk", METER, value, reading)], now=NOW, offers=())
    assert isinstance(denied, Denied)
    assert denied.max_admissible == asked


def test_of_members_one_more_does_not_fit() -> None:
    of = account(terms(included=2), terms(window="day", included=5))
    burn(of, 2)
    reading = Reading(Aggregation.UNIQUE, "ada")
    denied, wait = deny(of, [Item("users", METER, 1, reading)])
    assert (denied.code, denied.max_admissible) == ("quota_exhausted", 0)
    assert wait == Remedy("wait", would_admit=True, at=NEXT_MONTH)


def test_an_item_that_fits_is_not_in_the_way() -> None:
    of = both(1_000, 10)
    of.terms[OTHER] = [terms(meter_id=OTHER, included=3)]
    burn(of, 10)
    for items in ([*calls(1), Item("tokens", OTHER, 3)], [Item("tokens", OTHER, 3), *calls(1)]):
        denied, _ = deny(of, items)
        assert (denied.item.name, denied.code) == ("calls", "rate_exceeded")


# --- calls that name a time -------------------------------------------------------------------


def test_a_window_that_is_over_never_opens_again() -> None:
    of = both(1_000, 10)
    earlier = NOW - 10 * MINUTE
    burn(of, 10, at=earlier)
    denied, wait = deny(of, calls(1), at=earlier)
    assert (denied.code, denied.retry, wait) == ("quota_exhausted", "never", None)
    assert isinstance(decide(of, calls(1), now=NOW, offers=()), Allowed)
    burn(of, 990, at=NOW - 5 * MINUTE)  # the month is full too: what never opens is named
    denied, wait = deny(of, calls(1), at=earlier)
    assert denied.full is not None
    assert (denied.full.terms.window, wait) == ("minute", None)


def test_a_time_in_the_window_that_is_now_may_be_waited_for() -> None:
    of = account(terms(window="hour", included=10))
    burn(of, 10)
    _, wait = deny(of, calls(1), at=NOW)
    assert wait == Remedy("wait", would_admit=True, at=NOW + timedelta(hours=1))


def test_a_hold_that_ends_frees_a_window_that_is_over() -> None:
    of = account(terms(window="minute", included=10))
    at = of.terms[METER][0].window_at(NOW)[0]
    hold(of, 10, NOW + MINUTE)
    denied = decide(of, calls(1), now=NOW + 2 * MINUTE, at=at, offers=())
    assert isinstance(denied, Denied)
    assert denied.code == "in_flight"
    (wait,) = remedies(of, denied, calls(1), now=NOW + 2 * MINUTE, at=at, offers=())
    assert wait == Remedy("wait", would_admit=True, at=NOW + MINUTE)


def test_a_spend_limit_of_a_period_that_is_over_stays_reached() -> None:
    of = account(terms(included=0, over_is_billed=True, curve=CENT_EACH))
    of.spend_limit = spend_limit(8)
    burn(of, 8)
    denied = decide(of, calls(1), now=NEXT_MONTH + MINUTE, at=NOW, offers=())
    assert isinstance(denied, Denied)
    assert (denied.code, denied.retry) == ("spend_limit_reached", "never")


# --- holds ------------------------------------------------------------------------------------


def test_the_hold_that_frees_enough_is_waited_for_and_not_the_first() -> None:
    of = account(terms())
    hold(of, 10, NOW + 5 * SECOND)
    hold(of, 60, NOW + 60 * MINUTE)
    hold(of, 30, NOW + 90 * MINUTE)
    assert deny(of, calls(10))[1] == Remedy("wait", would_admit=True, at=NOW + 5 * SECOND)
    assert deny(of, calls(50))[1] == Remedy("wait", would_admit=True, at=NOW + 60 * MINUTE)
    assert deny(of, calls(71))[1] == Remedy("wait", would_admit=True, at=NOW + 90 * MINUTE)


def test_holds_that_are_not_known_free_nothing() -> None:
    of = account(terms())
    hold(of, 10, NOW + 5 * SECOND)
    burn(of, 90, hold=True)  # another gate's
    assert deny(of, calls(10))[1] == Remedy("wait", would_admit=True, at=NOW + 5 * SECOND)
    assert deny(of, calls(11))[1] == Remedy("wait", would_admit=False, at=NOW + 5 * SECOND)


def test_holds_that_were_closed_a_moment_ago_are_not_given_back_twice() -> None:
    of = account(terms(), grants=(grant(1, 10),))
    burn(of, 100)
    hold(of, 10, NOW + MINUTE)
    denied, wait = deny(of, calls(10))
    assert wait == Remedy("wait", would_admit=True, at=NOW + MINUTE)
    (wait,) = remedies(of, denied, calls(10), now=NOW, offers=(), closed={"hold 0"})
    assert not wait.would_admit


def test_a_window_that_ends_before_its_holds_do_is_waited_for() -> None:
    of = account(terms(window="minute", included=10))
    hold(of, 10, NOW + 60 * MINUTE)
    assert deny(of, calls(1))[1] == Remedy("wait", would_admit=True, at=NOW + MINUTE)
    of.holds.clear()
    assert deny(of, calls(1))[1] == Remedy("wait", would_admit=True, at=NOW + MINUTE)


def test_no_more_than_so_many_holds_are_looked_at() -> None:
    of = account(terms(included=MOMENTS + 1))
    for n in range(MOMENTS + 1):
        hold(of, 1, NOW + (n + 1) * SECOND)
    found = deny(of, calls(MOMENTS))[1]
    assert found == Remedy("wait", would_admit=True, at=NOW + MOMENTS * SECOND)
    found = deny(of, calls(MOMENTS + 1))[1]
    assert found == Remedy("wait", would_admit=False, at=NOW + SECOND)


@given(
    month=st.integers(0, 60),
    minute=st.none() | st.integers(0, 30),
    limit=st.none() | st.integers(0, 20),
    billed=st.booleans(),
    cap=st.none() | st.integers(0, 30),
    granted=st.integers(0, 20),
    used=st.integers(0, 40),
    holds=st.lists(st.tuples(st.integers(1, 20), st.integers(1, 7_200)), max_size=4),
    unknown=st.integers(0, 10),
    ago=st.sampled_from([0, 0, 10, 90]),
    asked=st.integers(1, 70),
)
def test_a_wait_that_would_admit_does_and_every_wait_leaves_less_in_the_way(
    *,
    month: int,
    minute: int | None,
    limit: int | None,
    billed: bool,
    cap: int | None,
    granted: int,
    used: int,
    holds: list[tuple[int, int]],
    unknown: int,
    ago: int,
    asked: int,
) -> None:
    of = account(
        terms(included=month, over_is_billed=billed, overage_limit=limit, curve=CENT_EACH),
        grants=(grant(1, granted),) if granted else (),
    )
    if minute is not None:
        of.terms[METER].append(terms(window="minute", included=minute))
    if cap is not None:
        of.spend_limit = spend_limit(cap)
    at = NOW + 30 * SECOND - ago * SECOND
    now = NOW + 30 * SECOND
    burn(of, used, at=at)
    for quantity, ttl in holds:
        hold(of, quantity, now + ttl * SECOND)
    burn(of, unknown, hold=True)
    items = calls(asked)
    denied = decide(of, items, now=now, at=at, offers=())
    if isinstance(denied, Allowed):
        return
    before = deepcopy(replace(of, windows={}))
    waits = [
        each
        for each in remedies(of, denied, items, now=now, at=at, offers=())
        if each.action == "wait"
    ]
    assert replace(of, windows={}) == before
    assert len(waits) == (denied.retry != "never")
    for wait in waits:
        if wait.at is None:
            assert (denied.code, wait.would_admit, holds) == ("in_flight", False, [])
            continue
        assert wait.at > now
        over = denied.ends_at is not None and denied.ends_at <= now
        then = decide(
            without_ended(of, of.holds, at=wait.at),
            items,
            now=wait.at,
            at=at if over else wait.at,
            offers=(),
        )
        assert isinstance(then, Allowed) == wait.would_admit
        if isinstance(then, Denied):
            # Only what is held is left: what was waited for, or more of it than ended.
            assert then.code == "in_flight"
            if denied.code == "in_flight":
                assert then.max_admissible >= denied.max_admissible
