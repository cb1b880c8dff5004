from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.domain.periods import Interval, Period
from billing.domain.plan_changes import (
    ChangeTiming,
    ChangeWhen,
    PlanChangeRefused,
    PlanTerms,
    change_price,
    change_timing,
    is_upgrade,
)
from billing.domain.proration import ChangeAmounts
from billing.domain.subscriptions import SubscriptionStatus

S = SubscriptionStatus
APRIL = Period(datetime(2026, 4, 1, tzinfo=UTC), datetime(2026, 5, 1, tzinfo=UTC))
MIDDLE = datetime(2026, 4, 16, tzinfo=UTC)
FREE = PlanTerms(0, Interval.MONTH, "usd")
PRO = PlanTerms(2000, Interval.MONTH, "usd")
SCALE = PlanTerms(9900, Interval.MONTH, "usd")
PRO_YEARLY = PlanTerms(20_000, Interval.YEAR, "usd")
SCALE_WEEKLY = PlanTerms(2500, Interval.WEEK, "usd")
NOW, AT_END = ChangeWhen.NOW, ChangeWhen.PERIOD_END

prorated = ChangeTiming(NOW, MIDDLE, prorate=True)
restarting = ChangeTiming(NOW, MIDDLE, restarts_period=True)
plain = ChangeTiming(NOW, MIDDLE)
at_end = ChangeTiming(AT_END, APRIL.end_at)


@pytest.mark.parametrize(
    ("old", "new", "when", "timing", "amounts"),
    [
        (PRO, SCALE, None, prorated, ChangeAmounts(1000, 4950)),
        (PRO, SCALE, NOW, prorated, ChangeAmounts(1000, 4950)),
        (PRO, SCALE, AT_END, at_end, ChangeAmounts(0, 0)),
        (SCALE, PRO, None, at_end, ChangeAmounts(0, 0)),
        # Insisting on less at once gives nothing back: no plan is used up and returned.
        (SCALE, PRO, NOW, plain, ChangeAmounts(0, 0)),
        (PRO, FREE, NOW, plain, ChangeAmounts(0, 0)),
        (PRO, PRO, None, at_end, ChangeAmounts(0, 0)),
        (FREE, PRO, None, restarting, ChangeAmounts(0, 2000)),
        (FREE, FREE, NOW, plain, ChangeAmounts(0, 0)),
        (PRO, PRO_YEARLY, None, at_end, ChangeAmounts(0, 0)),
        (PRO, PRO_YEARLY, NOW, restarting, ChangeAmounts(0, 20_000)),
        (PRO, SCALE_WEEKLY, None, restarting, ChangeAmounts(0, 2500)),
    ],
)
def test_an_active_subscription(
    old: PlanTerms,
    new: PlanTerms,
    when: ChangeWhen | None,
    timing: ChangeTiming,
    amounts: ChangeAmounts,
) -> None:
    found = change_timing(S.ACTIVE, old=old, new=new, period=APRIL, now=MIDDLE, when=when)
    assert found == timing
    assert change_price(found, old=old, new=new, period=APRIL) == amounts


@pytest.mark.parametrize("status", [S.TRIALING, S.INCOMPLETE])
@pytest.mark.parametrize("when", [None, NOW, AT_END])
def test_before_anything_was_paid_a_change_is_at_once_and_free(
    status: SubscriptionStatus, when: ChangeWhen | None
) -> None:
    found = change_timing(status, old=PRO, new=SCALE, period=APRIL, now=MIDDLE, when=when)
    assert found == plain
    assert change_price(found, old=PRO, new=SCALE, period=APRIL) == ChangeAmounts(0, 0)


@pytest.mark.parametrize("status", [S.CANCELED, S.PAUSED, S.PAST_DUE, S.UNPAID])
def test_refused_where_something_comes_first(status: SubscriptionStatus) -> None:
    with pytest.raises(PlanChangeRefused):
        change_timing(status, old=PRO, new=SCALE, period=APRIL, now=MIDDLE)


def test_the_currency_stays() -> None:
    euro = PlanTerms(2000, Interval.MONTH, "eur")
    with pytest.raises(PlanChangeRefused, match="usd, that plan in eur"):
        change_timing(S.ACTIVE, old=PRO, new=euro, period=APRIL, now=MIDDLE)


terms = st.builds(
    PlanTerms,
    fee=st.integers(0, 10**6),
    interval=st.sampled_from(Interval),
    currency=st.just("usd"),
)


@given(terms, terms)
def test_upgrades_are_an_order(one: PlanTerms, other: PlanTerms) -> None:
    assert not (is_upgrade(one, new=other) and is_upgrade(other, new=one))


@given(terms, terms, st.none() | st.sampled_from(ChangeWhen))
def test_a_change_never_gives_money_back(
    old: PlanTerms, new: PlanTerms, when: ChangeWhen | None
) -> None:
    timing = change_timing(S.ACTIVE, old=old, new=new, period=APRIL, now=MIDDLE, when=when)
    assert change_price(timing, old=old, new=new, period=APRIL).net >= 0
    assert not (timing.prorate and timing.restarts_period)
