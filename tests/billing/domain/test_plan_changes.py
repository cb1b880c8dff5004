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
    change_timing,
    is_upgrade,
)
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
    ("old", "new", "when", "timing"),
    [
        (PRO, SCALE, None, prorated),
        (PRO, SCALE, NOW, prorated),
        (PRO, SCALE, AT_END, at_end),
        (SCALE, PRO, None, at_end),
        # Insisting on less at once gives nothing back: no plan is used up and returned.
        (SCALE, PRO, NOW, plain),
        (PRO, FREE, NOW, plain),
        (PRO, PRO, None, at_end),
        (FREE, PRO, None, restarting),
        (FREE, FREE, NOW, plain),
        (PRO, PRO_YEARLY, None, at_end),
        (PRO, PRO_YEARLY, NOW, restarting),
        (PRO, SCALE_WEEKLY, None, restarting),
    ],
)
def test_an_active_subscription(
    old: PlanTerms,
    new: PlanTerms,
    when: ChangeWhen | None,
    timing: ChangeTiming,
) -> None:
    found = change_timing(S.ACTIVE, old=old, new=new, period=APRIL, now=MIDDLE, when=when)
    assert found == timing


@pytest.mark.parametrize("status", [S.TRIALING, S.INCOMPLETE])
@pytest.mark.parametrize("when", [None, NOW, AT_END])
def test_before_anything_was_paid_a_change_is_at_once_and_free(
    status: SubscriptionStatus, when: ChangeWhen | None
) -> None:
    found = change_timing(status, old=PRO, new=SCALE, period=APRIL, now=MIDDLE, when=when)
    assert found == plain


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
def test_time_is_given_back_only_inside_a_period_that_goes_on_at_a_dearer_plan(
    old: PlanTerms, new: PlanTerms, when: ChangeWhen | None
) -> None:
    timing = change_timing(S.ACTIVE, old=old, new=new, period=APRIL, now=MIDDLE, when=when)
    assert not timing.prorate or (new.fee > old.fee and new.interval == old.interval)
    assert not (timing.prorate and timing.restarts_period)
