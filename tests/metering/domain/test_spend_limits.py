"""metering.domain.spend_limits: a call is denied exactly where it would cost more than is left."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.domain.account import Account, Balance
from metering.domain.burndown import Deltas
from metering.domain.decisions import Allowed, Denied, Item, decide
from metering.domain.meters import Aggregation
from metering.domain.offers import Offer, OfferTerms
from metering.domain.readings import Reading, take_reading
from metering.domain.remedies import remedies
from metering.domain.spend_limits import limit_reached, spent
from metering.domain.spending import Curve, SpendLimit, Step
from tests.metering.domain.strategies import CENT, curves
from tests.metering.domain.test_burndown import METER, NOW, START, account, burn, grant, hold, terms

OTHER = 8
DECEMBER = START.replace(month=12)
CENT_EACH = Curve((Step(None, 0, CENT),))
DAY = timedelta(days=1)


def limit(customer: int | None = 10, operator: int | None = None, **fields: Any) -> SpendLimit:
    given_fields: dict[str, Any] = {"window": "month", "anchor_at": START, "since": START}
    return SpendLimit(customer, operator, **(given_fields | fields))


def limited(
    *, cap: int = 10, included: int = 5, curve: Curve = CENT_EACH, **fields: Any
) -> Account:
    """A cent for each past what is included, and no more than so many cents of them."""
    of = account(terms(included=included, over_is_billed=True, curve=curve, **fields))
    of.spend_limit = limit(cap)
    return of


def ask(of: Account, quantity: int, *, at: datetime = NOW) -> Allowed | Denied:
    return decide(of, [Item("calls", METER, quantity)], now=at, offers=())


def test_a_reading_is_limited_by_what_it_rises() -> None:
    of = limited()
    reading = Reading(Aggregation.MAX, 15)
    assert isinstance(decide(of, [Item("peak", METER, 15, reading)], now=NOW, offers=()), Allowed)
    take_reading(of, Deltas(), meter_id=METER, reading=reading, at=NOW)
    again = [Item("peak", METER, 15, reading)]
    assert isinstance(decide(of, again, now=NOW, offers=()), Allowed)
    more = [Item("peak", METER, 16, Reading(Aggregation.MAX, 16))]
    denied = decide(of, more, now=NOW, offers=())
    assert isinstance(denied, Denied)
    assert denied.code == "spend_limit_reached"


class TestByHand:
    def test_what_is_included_and_the_cap_together_are_all_there_is(self) -> None:
        of = limited()
        assert isinstance(ask(of, 15), Allowed)
        denied = ask(of, 16)
        assert isinstance(denied, Denied)
        assert (denied.code, denied.retry, denied.max_admissible) == (
            "spend_limit_reached",
            "never",
            15,
        )
        assert (denied.full, denied.resets_at) == (None, DECEMBER)
        burn(of, 12)
        assert spent(of, at=NOW) == 7
        denied = ask(of, 4)
        assert isinstance(denied, Denied)
        assert (denied.retry, denied.max_admissible) == ("after_reset", 3)

    def test_nothing_is_denied_that_costs_nothing(self) -> None:
        of = limited(cap=0)
        assert isinstance(ask(of, 5), Allowed)
        burn(of, 5)
        assert isinstance(ask(of, 1), Denied)
        of.grants[METER] = [grant(1, 3)]
        assert isinstance(ask(of, 3), Allowed)
        assert isinstance(ask(of, 4), Denied)

    def test_holds_are_spent_and_cure_by_ending(self) -> None:
        of = limited()
        burn(of, 10, hold=True)
        assert spent(of, at=NOW) == 5
        denied = ask(of, 11)
        assert isinstance(denied, Denied)
        assert (denied.code, denied.retry) == ("in_flight", "after_in_flight")
        of.next_expiry_at = NOW + DAY
        (wait,) = remedies(of, denied, [Item("calls", METER, 11)], now=NOW, offers=())
        assert (wait.action, wait.would_admit, wait.at) == ("wait", False, NOW + DAY)
        of = limited()
        hold(of, 10, NOW + DAY)
        (wait,) = remedies(of, denied, [Item("calls", METER, 11)], now=NOW, offers=())
        assert (wait.action, wait.would_admit, wait.at) == ("wait", True, NOW + DAY)

    def test_items_share_the_limit(self) -> None:
        of = limited(included=0)
        of.terms[OTHER] = [replace(of.terms[METER][0], meter_id=OTHER)]
        items = [Item("calls", METER, 6), Item("tokens", OTHER, 5)]
        denied = decide(of, items, now=NOW, offers=())
        assert isinstance(denied, Denied)
        assert (denied.item, denied.max_admissible) == (items[1], 4)
        assert isinstance(decide(of, [items[0], Item("tokens", OTHER, 4)], now=NOW, offers=()),
                          Allowed)  # fmt: skip

    def test_what_has_no_price_has_no_limit(self) -> None:
        of = limited(cap=0)
        of.terms[OTHER] = [terms(meter_id=OTHER, included=50)]
        assert isinstance(decide(of, [Item("x", OTHER, 50)], now=NOW, offers=()), Allowed)
        assert limit_reached(of, [(OTHER, 50)], at=NOW) is None
        unlimited = limited(cap=0, unlimited=True)
        assert isinstance(ask(unlimited, 10**9), Allowed)

    def test_without_a_limit_nothing_is_spent_or_denied(self) -> None:
        of = limited()
        burn(of, 500)
        of.spend_limit = None
        assert spent(of, at=NOW) == 0
        assert limit_reached(of, [(METER, 10**9)], at=NOW) is None
        of.spend_limit = limit(None, None)
        assert limit_reached(of, [(METER, 10**9)], at=NOW) is None

    def test_what_was_carried_counts(self) -> None:
        of = limited()
        of.spend_limit = limit(10, carried=4)
        assert spent(of, at=NOW) == 4
        assert isinstance(ask(of, 11), Allowed)
        assert isinstance(ask(of, 12), Denied)

    def test_a_new_period_begins_with_nothing_spent(self) -> None:
        of = limited()
        of.spend_limit = limit(10, carried=10)
        assert isinstance(ask(of, 6), Denied)
        assert isinstance(ask(of, 15, at=DECEMBER), Allowed)
        assert spent(of, at=DECEMBER) == 0

    def test_daily_windows_of_the_period_add_up(self) -> None:
        of = limited(window="day", included=5)
        for day in (1, 2, 3):
            start_at = START + day * DAY
            of.balances[METER, "day", start_at] = Balance(start_at + DAY, used=7)
        assert spent(of, at=NOW) == 6
        assert isinstance(ask(of, 9), Allowed)
        assert isinstance(ask(of, 10), Denied)

    def test_windows_of_earlier_terms_are_not_counted_again(self) -> None:
        of = limited()
        of.balances[METER, "day", START] = Balance(START + DAY, used=500)
        of.balances[OTHER, "month", START] = Balance(DECEMBER, used=500)
        assert spent(of, at=NOW) == 0

    def test_a_volume_that_grows_cheaper_admits_what_lowers_the_bill(self) -> None:
        volume = Curve((Step(10, 0, 10 * CENT), Step(None, 0, CENT)))
        of = limited(cap=20, included=0, curve=volume)
        assert isinstance(ask(of, 3), Denied)
        assert isinstance(ask(of, 11), Allowed)
        denied = ask(of, 21)
        assert isinstance(denied, Denied)
        assert denied.max_admissible == 20
        burn(of, 9)  # reported after the fact: 90 cents, past the limit
        assert isinstance(ask(of, 1), Denied)
        assert isinstance(ask(of, 2), Allowed)


class TestWindowsThatBeganBefore:
    def weekly(self, *, before: dict[int, int] | None) -> Account:
        """A week from October 29 to November 5, of which 8 past the included fell into October."""
        of = limited(
            window="week", anchor_at=START - 3 * DAY, included=5, starts_at=START - 9 * DAY
        )
        of.spend_limit = limit(10, before=before)
        of.balances[METER, "week", START - 3 * DAY] = Balance(START + 4 * DAY, used=15)
        return of

    def test_what_the_period_before_has_paid_is_not_spent_again(self) -> None:
        at = START + DAY
        assert spent(self.weekly(before={METER: 8}), at=at) == 2
        assert isinstance(ask(self.weekly(before={METER: 8}), 8, at=at), Allowed)
        assert isinstance(ask(self.weekly(before={METER: 8}), 9, at=at), Denied)

    def test_more_than_there_was_is_never_owed(self) -> None:
        assert spent(self.weekly(before={METER: 99, OTHER: 5}), at=START + DAY) == 0

    def test_before_it_is_told_the_limits_of_both_periods_bound_both(self) -> None:
        of, at = self.weekly(before=None), START + DAY
        october = START.replace(month=10)
        of.spend_limit = limit(10, since=october)
        assert spent(of, at=at) == 0
        assert isinstance(ask(of, 10, at=at), Allowed)  # 10 cents of the week are there already
        denied = ask(of, 11, at=at)
        assert isinstance(denied, Denied)
        assert denied.max_admissible == 10
        burn(of, 10, at=at)
        assert isinstance(ask(of, 1, at=at), Denied)

    def test_of_a_lifetime_what_was_paid_before_is_known(self) -> None:
        october = START.replace(month=10)
        of = limited(window="lifetime", included=5, starts_at=october - 90 * DAY)
        of.spend_limit = limit(10, since=october, before={METER: 500})
        of.terms[METER] = [replace(of.terms[METER][0], anchor_at=october - 90 * DAY)]
        of.balances = {
            (METER, "lifetime", october - 90 * DAY): Balance(START + 9_999 * DAY, used=510)
        }
        assert isinstance(ask(of, 10), Allowed)
        assert isinstance(ask(of, 11), Denied)
        later = START.replace(year=2027, month=1) + DAY  # three periods nobody told of
        assert isinstance(ask(of, 10, at=later), Allowed)
        assert isinstance(ask(of, 36, at=later), Denied)


@st.composite
def accounts(draw: st.DrawFn) -> Account:
    """Two priced meters with usage, holds and grants, and a limit that may be passed already."""
    of = limited(included=draw(st.integers(0, 20)), curve=draw(curves()))
    second = draw(curves())
    of.terms[OTHER] = [
        replace(of.terms[METER][0], meter_id=OTHER, included=draw(st.integers(0, 9)), curve=second)
    ]
    for meter_id in (METER, OTHER):
        of.grants[meter_id] = [
            replace(grant(meter_id, draw(st.integers(0, 15))), meter_id=meter_id)
        ]
        burn(of, draw(st.integers(0, 40)), hold=draw(st.booleans()))
    of.spend_limit = limit(
        draw(st.none() | st.integers(0, 200)),
        draw(st.integers(0, 200)),
        carried=draw(st.integers(0, 30)),
        step=draw(st.sampled_from([1, 10])),
    )
    return of


def bill(of: Account, more: dict[int, int], *, exact: bool = False) -> int:
    """The period's usage lines, written another way: nothing but sums of curves."""
    assert of.spend_limit is not None
    total = 0 if exact else of.spend_limit.carried
    for meter_id, (right,) in of.terms.items():
        row = of.balances.get((meter_id, "month", START), Balance(DECEMBER))
        base = row.used + row.held - row.grant_used - row.grant_held
        grants = sum(each.quantity - each.used - each.held for each in of.grants[meter_id])
        free = max(right.included - base, 0) + grants
        units = max(base - right.included, 0) + max(more.get(meter_id, 0) - free, 0)
        assert right.curve is not None
        cost = right.curve.cost(units)
        total += cost if exact else of.spend_limit.rounded(cost)
    return total


@given(accounts(), st.integers(1, 90), st.integers(1, 40))
def test_denied_is_what_would_pass_the_limit_and_add_to_the_bill(
    of: Account, quantity: int, also: int
) -> None:
    assert of.spend_limit is not None
    assert spent(of, at=NOW) == bill(of, {})
    cap = of.spend_limit.cap
    assert cap is not None

    def fits(more: dict[int, int]) -> bool:
        return bill(of, more) <= cap or bill(of, more, exact=True) <= bill(of, {}, exact=True)

    reached = limit_reached(of, [(METER, quantity)], at=NOW)
    assert (reached is None) == fits({METER: quantity})
    if reached is not None:
        admitted = [n for n in range(quantity) if fits({METER: n})]
        assert reached.max_admissible == max(admitted, default=0)
    both = limit_reached(of, [(METER, quantity), (OTHER, also)], at=NOW)
    if both is not None and reached is None:
        assert both.meter_id == OTHER
        assert not fits({METER: quantity, OTHER: also})


class TestRemedies:
    def ways(self, of: Account, quantity: int, *offers: Offer) -> dict[str, tuple[bool, Any]]:
        items = [Item("calls", METER, quantity)]
        denied = decide(of, items, now=NOW, offers=offers)
        assert isinstance(denied, Denied)
        return {
            each.action: (each.would_admit, each.path)
            for each in remedies(of, denied, items, now=NOW, offers=offers)
        }

    def test_the_customers_own_limit_is_raised_on_its_page(self) -> None:
        of = limited()
        burn(of, 15)
        ways = self.ways(of, 1)
        assert ways == {"raise_spend_limit": (True, "/portal/spend-limit"), "wait": (True, None)}

    def test_the_operators_limit_has_no_page(self) -> None:
        of = limited()
        of.spend_limit = limit(None, 10)
        burn(of, 15)
        assert self.ways(of, 1)["raise_spend_limit"] == (True, None)

    def test_of_two_limits_the_next_one_may_still_be_in_the_way(self) -> None:
        of = limited()
        of.spend_limit = limit(10, 12)
        assert self.ways(of, 17)["raise_spend_limit"] == (True, "/portal/spend-limit")
        assert self.ways(of, 18)["raise_spend_limit"] == (False, "/portal/spend-limit")

    def test_an_overage_cap_is_raised_at_the_portal(self) -> None:
        of = account(terms(included=0, over_is_billed=True, overage_limit=0))
        assert self.ways(of, 1)["raise_spend_limit"] == (True, "/portal")

    # Half of the window is left, and with it half of what the other plan includes more.
    @pytest.mark.parametrize(("included", "helps"), [(25, False), (26, True)])
    def test_an_upgrade_helps_where_what_was_spent_leaves_room(
        self, included: int, helps: bool
    ) -> None:
        of = limited()
        burn(of, 15)
        more = OfferTerms("month", included, False, True, None, curve=CENT_EACH)
        ways = self.ways(of, 1, Offer("pro", "Pro", {METER: [more]}, {}))
        assert ways["upgrade"] == (helps, "/portal/plans/pro")

    def test_an_upgrade_is_judged_in_the_period_that_holds(self) -> None:
        of = limited()
        burn(of, 15)
        of.spend_limit = limit(10, since=START - 30 * DAY, carried=10_000)
        more = OfferTerms("month", 28, False, True, None, curve=CENT_EACH)
        assert self.ways(of, 1, Offer("pro", "Pro", {METER: [more]}, {}))["upgrade"][0]
