from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.domain.subscriptions import (
    Standing,
    StandingCode,
    SubscriptionEvent,
    SubscriptionFacts,
    SubscriptionStatus,
    SubscriptionTransitionRefused,
    first_status,
    next_status,
    standing,
)

S, E, C = SubscriptionStatus, SubscriptionEvent, StandingCode
NOW = datetime(2026, 4, 16, 12, tzinfo=UTC)
DAY = timedelta(days=1)

# One row per state: where each event leads, "same" where it stays, absent where refused.
TABLE: dict[SubscriptionStatus, dict[SubscriptionEvent, SubscriptionStatus]] = {
    S.TRIALING: {
        E.TRIAL_STARTED: S.TRIALING,
        E.ACTIVATED: S.ACTIVE,
        E.TRIAL_ENDED: S.INCOMPLETE,
        E.PAYMENT_METHOD_MISSING: S.INCOMPLETE,
        E.PAYMENT_FAILED: S.TRIALING,
        E.PAYMENT_ACTION_REQUIRED: S.TRIALING,
        E.GRACE_ENDED: S.TRIALING,
        E.PAID: S.TRIALING,
        E.CANCELED: S.CANCELED,
    },
    S.ACTIVE: {
        E.ACTIVATED: S.ACTIVE,
        E.TRIAL_ENDED: S.ACTIVE,
        E.PAYMENT_METHOD_MISSING: S.ACTIVE,
        E.PAYMENT_FAILED: S.PAST_DUE,
        E.PAYMENT_ACTION_REQUIRED: S.PAST_DUE,
        E.GRACE_ENDED: S.ACTIVE,
        E.PAID: S.ACTIVE,
        E.PAUSED: S.PAUSED,
        E.RESUMED: S.ACTIVE,
        E.CANCELED: S.CANCELED,
    },
    S.PAST_DUE: {
        E.PAYMENT_METHOD_MISSING: S.PAST_DUE,
        E.PAYMENT_FAILED: S.PAST_DUE,
        E.PAYMENT_ACTION_REQUIRED: S.PAST_DUE,
        E.GRACE_ENDED: S.UNPAID,
        E.PAID: S.ACTIVE,
        E.CANCELED: S.CANCELED,
    },
    S.UNPAID: {
        E.PAYMENT_METHOD_MISSING: S.UNPAID,
        E.PAYMENT_FAILED: S.UNPAID,
        E.PAYMENT_ACTION_REQUIRED: S.UNPAID,
        E.GRACE_ENDED: S.UNPAID,
        E.PAID: S.ACTIVE,
        E.CANCELED: S.CANCELED,
    },
    S.PAUSED: {
        E.PAYMENT_METHOD_MISSING: S.PAUSED,
        E.PAYMENT_FAILED: S.PAUSED,
        E.PAYMENT_ACTION_REQUIRED: S.PAUSED,
        E.GRACE_ENDED: S.PAUSED,
        E.PAID: S.PAUSED,
        E.PAUSED: S.PAUSED,
        E.RESUMED: S.ACTIVE,
        E.CANCELED: S.CANCELED,
    },
    S.INCOMPLETE: {
        E.TRIAL_STARTED: S.TRIALING,
        E.ACTIVATED: S.ACTIVE,
        E.TRIAL_ENDED: S.INCOMPLETE,
        E.PAYMENT_METHOD_MISSING: S.INCOMPLETE,
        E.PAYMENT_FAILED: S.INCOMPLETE,
        E.PAYMENT_ACTION_REQUIRED: S.INCOMPLETE,
        E.GRACE_ENDED: S.INCOMPLETE,
        E.PAID: S.ACTIVE,
        E.CANCELED: S.CANCELED,
    },
    S.CANCELED: {
        E.PAYMENT_METHOD_MISSING: S.CANCELED,
        E.PAYMENT_FAILED: S.CANCELED,
        E.PAYMENT_ACTION_REQUIRED: S.CANCELED,
        E.GRACE_ENDED: S.CANCELED,
        E.PAID: S.CANCELED,
        E.CANCELED: S.CANCELED,
    },
}


@pytest.mark.parametrize(("status", "event"), list(product(S, E)))
def test_states(status: SubscriptionStatus, event: SubscriptionEvent) -> None:
    if event in TABLE[status]:
        assert next_status(status, event=event) == TABLE[status][event]
        return
    with pytest.raises(SubscriptionTransitionRefused) as refused:
        next_status(status, event=event)
    assert (refused.value.status, refused.value.event) == (status, event)


@given(st.lists(st.sampled_from(E)))
def test_canceled_is_never_left(events: list[SubscriptionEvent]) -> None:
    for event in events:
        try:
            assert next_status(S.CANCELED, event=event) == S.CANCELED
        except SubscriptionTransitionRefused:
            continue


@given(st.sampled_from(S), st.sampled_from(E))
def test_telling_an_event_twice_changes_nothing_more(
    status: SubscriptionStatus, event: SubscriptionEvent
) -> None:
    try:
        once = next_status(status, event=event)
    except SubscriptionTransitionRefused:
        return
    assert next_status(once, event=event) == once


def test_first_status() -> None:
    assert first_status(trialing=True, awaits_payment=True) == S.TRIALING
    assert first_status(trialing=False, awaits_payment=True) == S.INCOMPLETE
    assert first_status(trialing=False, awaits_payment=False) == S.ACTIVE


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (None, Standing(C.NO_SUBSCRIPTION)),
        (SubscriptionFacts(S.ACTIVE), Standing()),
        (SubscriptionFacts(S.CANCELED), Standing(C.SUBSCRIPTION_INACTIVE)),
        (SubscriptionFacts(S.PAUSED), Standing(C.SUBSCRIPTION_INACTIVE)),
        (SubscriptionFacts(S.UNPAID), Standing(C.SUBSCRIPTION_INACTIVE)),
        (SubscriptionFacts(S.UNPAID, payment_failed_at=NOW), Standing(C.PAYMENT_FAILED)),
        (
            SubscriptionFacts(S.UNPAID, payment_failed_at=NOW, payment_action_required=True),
            Standing(C.PAYMENT_ACTION_REQUIRED),
        ),
        (SubscriptionFacts(S.INCOMPLETE), Standing(C.SUBSCRIPTION_INACTIVE)),
        (
            SubscriptionFacts(S.INCOMPLETE, payment_action_required=True),
            Standing(C.PAYMENT_ACTION_REQUIRED),
        ),
        (
            SubscriptionFacts(S.INCOMPLETE, trial_ends_at=NOW, needs_payment_method=True),
            Standing(C.TRIAL_ENDED),
        ),
        (
            SubscriptionFacts(S.INCOMPLETE, trial_ends_at=NOW + DAY, needs_payment_method=True),
            Standing(C.PAYMENT_METHOD_MISSING),
        ),
        (
            SubscriptionFacts(
                S.INCOMPLETE,
                needs_payment_method=True,
                has_payment_method=True,
                payment_failed_at=NOW,
            ),
            Standing(C.PAYMENT_FAILED),
        ),
        (SubscriptionFacts(S.TRIALING), Standing()),
        (
            SubscriptionFacts(S.TRIALING, trial_ends_at=NOW + DAY, needs_payment_method=True),
            Standing(good_until=NOW + DAY, code_after=C.TRIAL_ENDED),
        ),
        (
            SubscriptionFacts(S.TRIALING, trial_ends_at=NOW, needs_payment_method=True),
            Standing(C.TRIAL_ENDED),
        ),
        (
            SubscriptionFacts(
                S.TRIALING, trial_ends_at=NOW, needs_payment_method=True, has_payment_method=True
            ),
            Standing(),
        ),
        (SubscriptionFacts(S.TRIALING, trial_ends_at=NOW), Standing()),
        (SubscriptionFacts(S.PAST_DUE, grace_days=3), Standing()),
        (
            SubscriptionFacts(S.PAST_DUE, grace_days=3, payment_failed_at=NOW - 2 * DAY),
            Standing(good_until=NOW + DAY, code_after=C.PAYMENT_FAILED),
        ),
        (
            SubscriptionFacts(S.PAST_DUE, grace_days=3, payment_failed_at=NOW - 3 * DAY),
            Standing(C.PAYMENT_FAILED),
        ),
        (
            SubscriptionFacts(S.PAST_DUE, grace_days=0, payment_failed_at=NOW),
            Standing(C.PAYMENT_FAILED),
        ),
        (
            SubscriptionFacts(
                S.PAST_DUE, payment_failed_at=NOW - DAY, payment_action_required=True
            ),
            Standing(C.PAYMENT_ACTION_REQUIRED),
        ),
        (
            SubscriptionFacts(S.ACTIVE, cancel_at=NOW + DAY),
            Standing(good_until=NOW + DAY, code_after=C.SUBSCRIPTION_INACTIVE),
        ),
        (SubscriptionFacts(S.ACTIVE, cancel_at=NOW), Standing(C.SUBSCRIPTION_INACTIVE)),
        (
            SubscriptionFacts(
                S.PAST_DUE, grace_days=1, payment_failed_at=NOW, cancel_at=NOW + 2 * DAY
            ),
            Standing(good_until=NOW + DAY, code_after=C.PAYMENT_FAILED),
        ),
        (
            SubscriptionFacts(
                S.PAST_DUE, grace_days=3, payment_failed_at=NOW, cancel_at=NOW + 2 * DAY
            ),
            Standing(good_until=NOW + 2 * DAY, code_after=C.SUBSCRIPTION_INACTIVE),
        ),
        (
            SubscriptionFacts(S.PAST_DUE, payment_failed_at=NOW, cancel_at=NOW + DAY),
            Standing(C.PAYMENT_FAILED),
        ),
    ],
)
def test_standing(facts: SubscriptionFacts | None, expected: Standing) -> None:
    assert standing(facts, now=NOW) == expected
    assert standing(facts, now=NOW).good == (expected.code is None)
    suspended = standing(facts, now=NOW, customer_suspended=True)
    assert suspended == Standing(C.CUSTOMER_SUSPENDED)


maybe_instants = st.none() | st.integers(-10, 10).map(lambda days: NOW + days * DAY)
all_facts = st.builds(
    SubscriptionFacts,
    status=st.sampled_from(S),
    grace_days=st.integers(0, 7),
    trial_ends_at=maybe_instants,
    payment_failed_at=maybe_instants,
    payment_action_required=st.booleans(),
    needs_payment_method=st.booleans(),
    has_payment_method=st.booleans(),
    cancel_at=maybe_instants,
)


@given(all_facts)
def test_a_standing_says_when_it_ends_and_keeps_its_word(facts: SubscriptionFacts) -> None:
    found = standing(facts, now=NOW)
    assert (found.good_until is None) == (found.code_after is None)
    if found.good_until is None:
        # Nothing but news can change it: not good becomes good by waiting either.
        later = standing(facts, now=NOW + 100 * DAY)
        assert later.good or not found.good
        assert later == found or not found.good
        return
    assert found.good
    assert found.good_until > NOW
    just_before = standing(facts, now=found.good_until - timedelta(microseconds=1))
    assert just_before == found
    assert standing(facts, now=found.good_until).code == found.code_after


@given(all_facts)
def test_a_refusal_has_one_reason_and_no_end(facts: SubscriptionFacts) -> None:
    found = standing(facts, now=NOW)
    if not found.good:
        assert found.good_until is None
        assert standing(replace(facts, status=S.ACTIVE, cancel_at=None), now=NOW).good == (
            standing(replace(facts, status=S.PAST_DUE, cancel_at=None), now=NOW).good
        )
