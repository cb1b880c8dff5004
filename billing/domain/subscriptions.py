"""States of a subscription, and what they mean for the customer's calls (its standing)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, assert_never

from billing.domain.dunning import grace_ends_at


class SubscriptionTransitionRefused(Exception):
    """A subscription in this state cannot do that."""

    def __init__(self, status: SubscriptionStatus, event: SubscriptionEvent) -> None:
        super().__init__(f"A subscription that is {status} does not take {event}.")
        self.status = status
        self.event = event


class SubscriptionStatus(StrEnum):
    """Stripe's words. Canceled is final."""

    TRIALING = "trialing"
    ACTIVE = "active"
    PAST_DUE = "past_due"  # an invoice failed, served until its grace ends
    UNPAID = "unpaid"  # an invoice failed and its grace is over
    PAUSED = "paused"
    INCOMPLETE = "incomplete"  # waits for its first payment, or for one after its trial
    CANCELED = "canceled"


class SubscriptionEvent(StrEnum):
    TRIAL_STARTED = "trial_started"  # that waited for a payment method
    ACTIVATED = "activated"  # paid for the first time, or needs no payment
    TRIAL_ENDED = "trial_ended"  # without being activated
    PAYMENT_METHOD_MISSING = "payment_method_missing"
    PAYMENT_FAILED = "payment_failed"
    PAYMENT_ACTION_REQUIRED = "payment_action_required"
    GRACE_ENDED = "grace_ended"
    PAID = "paid"  # nothing that failed is owed any more
    PAUSED = "paused"
    RESUMED = "resumed"
    CANCELED = "canceled"


_S, _E = SubscriptionStatus, SubscriptionEvent
# What a state does not list is refused. News about payments are never refused: they are
# facts, and where they do not matter to the state (a paused or canceled subscription whose
# last invoice fails), the state stays.
_PAYMENT_NEWS: Final = (_E.PAYMENT_FAILED, _E.PAYMENT_ACTION_REQUIRED, _E.GRACE_ENDED, _E.PAID)
_STAYS: Final[Mapping[SubscriptionStatus, tuple[SubscriptionEvent, ...]]] = {
    _S.TRIALING: (_E.TRIAL_STARTED, *_PAYMENT_NEWS),
    _S.ACTIVE: (
        _E.ACTIVATED,
        _E.TRIAL_ENDED,
        _E.PAYMENT_METHOD_MISSING,
        _E.GRACE_ENDED,
        _E.PAID,
        _E.RESUMED,
    ),
    _S.PAST_DUE: (_E.PAYMENT_FAILED, _E.PAYMENT_ACTION_REQUIRED, _E.PAYMENT_METHOD_MISSING),
    _S.UNPAID: (
        _E.PAYMENT_FAILED,
        _E.PAYMENT_ACTION_REQUIRED,
        _E.PAYMENT_METHOD_MISSING,
        _E.GRACE_ENDED,
    ),
    _S.PAUSED: (*_PAYMENT_NEWS, _E.PAYMENT_METHOD_MISSING, _E.PAUSED),
    _S.INCOMPLETE: (
        _E.TRIAL_ENDED,
        _E.PAYMENT_METHOD_MISSING,
        _E.PAYMENT_FAILED,
        _E.PAYMENT_ACTION_REQUIRED,
        _E.GRACE_ENDED,
    ),
    _S.CANCELED: (*_PAYMENT_NEWS, _E.PAYMENT_METHOD_MISSING, _E.CANCELED),
}
_MOVES: Final[Mapping[tuple[SubscriptionStatus, SubscriptionEvent], SubscriptionStatus]] = {
    (_S.TRIALING, _E.ACTIVATED): _S.ACTIVE,
    (_S.TRIALING, _E.TRIAL_ENDED): _S.INCOMPLETE,
    (_S.TRIALING, _E.PAYMENT_METHOD_MISSING): _S.INCOMPLETE,
    (_S.TRIALING, _E.CANCELED): _S.CANCELED,
    (_S.ACTIVE, _E.PAYMENT_FAILED): _S.PAST_DUE,
    (_S.ACTIVE, _E.PAYMENT_ACTION_REQUIRED): _S.PAST_DUE,
    # A debt cannot be paused away: past_due and unpaid are paid first.
    (_S.ACTIVE, _E.PAUSED): _S.PAUSED,
    (_S.ACTIVE, _E.CANCELED): _S.CANCELED,
    (_S.PAST_DUE, _E.PAID): _S.ACTIVE,
    (_S.PAST_DUE, _E.GRACE_ENDED): _S.UNPAID,
    (_S.PAST_DUE, _E.CANCELED): _S.CANCELED,
    (_S.UNPAID, _E.PAID): _S.ACTIVE,
    (_S.UNPAID, _E.CANCELED): _S.CANCELED,
    (_S.PAUSED, _E.RESUMED): _S.ACTIVE,
    (_S.PAUSED, _E.CANCELED): _S.CANCELED,
    (_S.INCOMPLETE, _E.TRIAL_STARTED): _S.TRIALING,
    (_S.INCOMPLETE, _E.ACTIVATED): _S.ACTIVE,
    (_S.INCOMPLETE, _E.PAID): _S.ACTIVE,
    (_S.INCOMPLETE, _E.CANCELED): _S.CANCELED,
}


def next_status(status: SubscriptionStatus, *, event: SubscriptionEvent) -> SubscriptionStatus:
    """The state after ``event``. Raises :class:`SubscriptionTransitionRefused`.

    Two things a caller must see to: PAID is for when no failed invoice is left, and a
    subscription that is resumed with a failed invoice takes PAYMENT_FAILED right after.
    """
    if event in _STAYS[status]:
        return status
    try:
        return _MOVES[status, event]
    except KeyError:
        raise SubscriptionTransitionRefused(status, event) from None


def first_status(*, trialing: bool, awaits_payment: bool) -> SubscriptionStatus:
    """The state in which a subscription is created. A trial goes first; ``awaits_payment``:
    a fee is due now and must be paid before anything is served."""
    if trialing:
        return SubscriptionStatus.TRIALING
    return SubscriptionStatus.INCOMPLETE if awaits_payment else SubscriptionStatus.ACTIVE


class StandingCode(StrEnum):
    """Why calls are refused: codes of 402 answers, and ``customer_suspended`` (403)."""

    NO_SUBSCRIPTION = "no_subscription"
    TRIAL_ENDED = "trial_ended"
    SUBSCRIPTION_INACTIVE = "subscription_inactive"
    PAYMENT_METHOD_MISSING = "payment_method_missing"
    PAYMENT_FAILED = "payment_failed"
    PAYMENT_ACTION_REQUIRED = "payment_action_required"
    CUSTOMER_SUSPENDED = "customer_suspended"


@dataclass(frozen=True, slots=True)
class SubscriptionFacts:
    """What standing depends on.

    ``payment_failed_at``: the first failure of the oldest invoice that failed and is unpaid;
    ``payment_action_required``: that invoice waits for 3-D Secure. ``needs_payment_method``:
    collected through Stripe. ``cancel_at``: when a cancellation takes effect.
    """

    status: SubscriptionStatus
    grace_days: int = 0
    trial_ends_at: datetime | None = None
    payment_failed_at: datetime | None = None
    payment_action_required: bool = False
    needs_payment_method: bool = False
    has_payment_method: bool = False
    cancel_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """What metering is told. ``code`` None: calls are served, until ``good_until`` (None: no
    end is known), from which on they are refused with ``code_after`` unless news come."""

    code: StandingCode | None = None
    good_until: datetime | None = None
    code_after: StandingCode | None = None

    @property
    def good(self) -> bool:
        return self.code is None


def standing(
    facts: SubscriptionFacts | None, *, now: datetime, customer_suspended: bool = False
) -> Standing:
    """Whether a customer with this subscription (None: with none) is served at ``now``.

    A customer is served while trialing, active, and past due within grace. Grace is decided
    by the clock here, so that it ends on time however late the sweep is.
    """
    if customer_suspended:
        return Standing(StandingCode.CUSTOMER_SUSPENDED)
    if facts is None:
        return Standing(StandingCode.NO_SUBSCRIPTION)
    match facts.status:
        case SubscriptionStatus.CANCELED | SubscriptionStatus.PAUSED:
            return Standing(StandingCode.SUBSCRIPTION_INACTIVE)
        case SubscriptionStatus.INCOMPLETE:
            return Standing(_incomplete_code(facts, now=now))
        case SubscriptionStatus.UNPAID:
            failed = facts.payment_failed_at is not None
            return Standing(_failure_code(facts) if failed else StandingCode.SUBSCRIPTION_INACTIVE)
        case SubscriptionStatus.TRIALING:
            found = _trial_standing(facts, now=now)
        case SubscriptionStatus.ACTIVE | SubscriptionStatus.PAST_DUE:
            found = _payment_standing(facts, now=now)
        case _:
            assert_never(facts.status)
    return _until_cancellation(found, cancel_at=facts.cancel_at, now=now)


def _failure_code(facts: SubscriptionFacts) -> StandingCode:
    if facts.payment_action_required:
        return StandingCode.PAYMENT_ACTION_REQUIRED
    return StandingCode.PAYMENT_FAILED


def _incomplete_code(facts: SubscriptionFacts, *, now: datetime) -> StandingCode:
    if facts.payment_action_required:
        return StandingCode.PAYMENT_ACTION_REQUIRED
    if facts.trial_ends_at is not None and facts.trial_ends_at <= now:
        return StandingCode.TRIAL_ENDED
    if facts.needs_payment_method and not facts.has_payment_method:
        return StandingCode.PAYMENT_METHOD_MISSING
    if facts.payment_failed_at is not None:
        return StandingCode.PAYMENT_FAILED
    return StandingCode.SUBSCRIPTION_INACTIVE


def _trial_standing(facts: SubscriptionFacts, *, now: datetime) -> Standing:
    converts = facts.has_payment_method or not facts.needs_payment_method
    if facts.trial_ends_at is None or converts:
        # It goes on as a paid subscription: minutes until that is written must not refuse.
        return Standing()
    if facts.trial_ends_at <= now:
        return Standing(StandingCode.TRIAL_ENDED)
    return Standing(good_until=facts.trial_ends_at, code_after=StandingCode.TRIAL_ENDED)


def _payment_standing(facts: SubscriptionFacts, *, now: datetime) -> Standing:
    if facts.payment_failed_at is None:
        return Standing()
    ends_at = grace_ends_at(facts.payment_failed_at, grace_days=facts.grace_days)
    if ends_at <= now:
        return Standing(_failure_code(facts))
    return Standing(good_until=ends_at, code_after=_failure_code(facts))


def _until_cancellation(found: Standing, *, cancel_at: datetime | None, now: datetime) -> Standing:
    if cancel_at is None or not found.good:
        return found
    if cancel_at <= now:
        return Standing(StandingCode.SUBSCRIPTION_INACTIVE)
    if found.good_until is not None and found.good_until <= cancel_at:
        return found
    return Standing(good_until=cancel_at, code_after=StandingCode.SUBSCRIPTION_INACTIVE)
