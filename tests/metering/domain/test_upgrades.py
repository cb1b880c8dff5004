"""What a customer may do on another plan: all its windows count, and what was used stays used."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from metering.domain.account import Account
from metering.domain.decisions import Allowed, Denied, Item, decide
from metering.domain.offers import Offer, OfferTerms
from metering.domain.remedies import remedies
from metering.domain.upgrades import on_plan
from tests.metering.domain.test_burndown import METER, NOW, account, burn, terms

MINUTE = timedelta(minutes=1)
ONE = [Item("calls", METER, 1)]


def gives(included: int, window: str) -> OfferTerms:
    """So many in each window and no more."""
    return OfferTerms(window, included, unlimited=False, over_is_billed=False, overage_limit=None)


def plan(*offered: OfferTerms) -> Offer:
    """A plan that gives calls in these windows."""
    return Offer("pro", "Pro", {METER: offered}, {})


def upgrade(of: Account, offer: Offer, quantity: int = 1) -> bool:
    """Whether the denial says that the plan would admit the call."""
    items = [Item("calls", METER, quantity)]
    denied = decide(of, items, now=NOW, offers=[offer])
    assert isinstance(denied, Denied)
    found = remedies(of, denied, items, now=NOW, offers=[offer])
    (way,) = [each for each in found if each.action == "upgrade"]
    return way.would_admit


def test_a_plan_with_the_same_minute_does_not_help() -> None:
    of = account(terms(included=1_000), terms(window="minute", included=10))
    burn(of, 10)
    assert not upgrade(of, plan(gives(10_000, "month"), gives(10, "minute")))
    assert upgrade(of, plan(gives(10_000, "month"), gives(11, "minute")))
    assert upgrade(of, plan(gives(10_000, "month")))
    burn(of, 900, at=NOW - MINUTE)
    assert not upgrade(of, plan(gives(500, "month"), gives(11, "minute")))


def test_a_right_that_is_over_says_nothing_of_the_window() -> None:
    old = terms(window="day", anchor_at=NOW - timedelta(hours=1), ends_at=NOW - MINUTE)
    of = account(old, terms())
    burn(of, 100)
    there = on_plan(of, plan(gives(10, "day")), now=NOW, at=NOW)
    assert there.terms[METER][0].anchor_at == NOW


def test_what_another_plan_makes_of_windows_is_not_remembered() -> None:
    of = account(terms())
    burn(of, 100)
    assert upgrade(of, plan(gives(10, "day")))
    assert (METER, "day") not in of.windows


def test_a_plan_counts_for_a_call_of_an_earlier_time() -> None:
    of = account(terms(window="minute", included=10))
    at = NOW - 10 * MINUTE
    burn(of, 10, at=at)
    denied = decide(of, ONE, now=NOW, at=at, offers=())
    assert isinstance(denied, Denied)
    for included, helps in ((10, False), (11, True)):
        offers = [plan(gives(included, "minute"))]
        (way,) = remedies(of, denied, ONE, now=NOW, at=at, offers=offers)
        assert (way.action, way.would_admit) == ("upgrade", helps)


@given(
    month=st.integers(0, 40),
    minute=st.integers(0, 20),
    offered_month=st.integers(0, 60),
    offered_minute=st.none() | st.integers(0, 30),
    used=st.integers(0, 50),
    asked=st.integers(1, 30),
)
def test_a_plan_that_would_admit_leaves_no_window_in_the_way(
    *,
    month: int,
    minute: int,
    offered_month: int,
    offered_minute: int | None,
    used: int,
    asked: int,
) -> None:
    of = account(terms(included=month), terms(window="minute", included=minute))
    burn(of, used)
    items = [Item("calls", METER, asked)]
    if isinstance(decide(of, items, now=NOW, offers=()), Allowed):
        return
    offered = [gives(offered_month, "month")]
    if offered_minute is not None:
        offered.append(gives(offered_minute, "minute"))
    # The customer as it would be read after the change: all but half of the month is over.
    shared = max(0, month + (offered_month - month + 1) // 2)
    after = replace(
        of,
        windows={},
        terms={METER: [terms(included=shared)]},
    )
    if offered_minute is not None:
        after.terms[METER].append(terms(window="minute", included=offered_minute))
    admitted = isinstance(decide(after, items, now=NOW, offers=()), Allowed)
    near = abs(shared - used - asked) <= 1  # half a day makes a call more or less
    assert near or upgrade(of, plan(*offered), asked) == admitted
