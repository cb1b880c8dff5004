"""The clock of subscriptions: periods end, are invoiced, and the next one begins.

A period's end is one event: the draft of its invoice is made, a cancellation or a plan that was
waiting for it takes effect, the next period starts where this one ended. Everything that changes a
subscription first catches up with the clock, so that it never matters how late a worker is.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import assert_never

from django.db.models import Q, QuerySet

from accounts.operations.auditing import audit
from billing.domain.periods import Interval, first_period
from billing.domain.subscriptions import SubscriptionEvent
from billing.domain.trials import TrialOutcome
from billing.models import Invoice, PlanVersion, Subscription, SubscriptionPhase
from billing.operations.drafting import draft_period, draft_periods
from billing.operations.locking import in_batches, in_order
from billing.operations.provisioning import advance_status, provision
from billing.operations.rewriting import rewrite
from billing.queries.peers import Peers
from billing.queries.spend_limits import limited, limits_spending
from billing.queries.trials import after_trial

Status = Subscription.Status
# Their clock stands still: the first has not begun, the other is over.
_STANDING_STILL = (Status.INCOMPLETE, Status.CANCELED)


def close_due(*, now: datetime, limit: int) -> int:
    """Close up to `limit` subscriptions whose period is over: draft its invoice, begin the next."""
    due = Subscription.objects.filter(current_end_at__lte=now)
    due = due.exclude(status__in=(*_STANDING_STILL, Status.TRIALING))
    return _advance(due, now=now, limit=limit)


def advance_due(*, now: datetime, limit: int) -> int:
    """End the trials that are over, up to `limit`: as queries/trials.py says."""
    due = Subscription.objects.filter(current_end_at__lte=now, status=Status.TRIALING)
    return _advance(due, now=now, limit=limit)


def catch_up(subscription: Subscription, *, now: datetime) -> bool:
    """Let every period end that is over by `now`; says whether any was. The customer is locked."""
    return catch_up_all([subscription], now=now) == 1


def catch_up_all(subscriptions: Sequence[Subscription], *, now: datetime) -> int:
    """`catch_up` each of them, together; how many were behind. They are of different customers,
    who are all locked."""
    behind = due = [each for each in subscriptions if _is_over(each, now=now)]
    told: set[int] = set()
    while due:
        told |= _turn(due, now=now)
        due = [each for each in due if _is_over(each, now=now)]
    rewrite([each for each in behind if each.pk not in told])
    for each in behind:
        if each.pk in told:
            provision(each, now=now)
    return len(behind)


def _is_over(subscription: Subscription, *, now: datetime) -> bool:
    return subscription.status not in _STANDING_STILL and subscription.current_end_at <= now


def close_subscription_now(
    subscription: Subscription, *, at: datetime, now: datetime
) -> Invoice | None:
    """End the current period at `at`, a whole second inside it, and draft its invoice.

    The fee of the period is owed in full: otherwise one could use up what it includes in a minute
    and leave. None where there is nothing to bill: a trial, or a period that begins at `at`. The
    caller begins another period or ends the subscription.
    """
    if subscription.status in (*_STANDING_STILL, Status.TRIALING):
        return None
    if at <= subscription.current_start_at:
        return None
    invoice = draft_period(subscription, end_at=at, now=now)
    subscription.current_end_at = at
    return invoice


def begin_period(subscription: Subscription, *, at: datetime) -> None:
    """Let the period begin that starts at `at` and ends with the anchor's next boundary."""
    period = first_period(
        at,
        anchor_at=subscription.anchor_at,
        interval=Interval(subscription.version.interval),
    )
    subscription.current_start_at, subscription.current_end_at = period.start_at, period.end_at
    subscription.billed_until_at = None
    if subscription.cancel_at is not None:
        subscription.cancel_at = period.end_at


def enter_version(
    subscription: Subscription, *, version: PlanVersion, seats: int | None = None, at: datetime
) -> None:
    """From `at` on the subscription stands under `version`, with as many seats as before or
    `seats`; a change that waited for that is done."""
    end_phase(subscription, at=at)
    if seats is not None:
        subscription.seats, subscription.pending_seats = seats, None
    if version.pk != subscription.version_id:
        subscription.pending_version = None
    subscription.version = version
    SubscriptionPhase.objects.create(
        subscription=subscription, version=version, seats=subscription.seats, start_at=at
    )


def end_phase(subscription: Subscription, *, at: datetime) -> None:
    """End the current phase at `at`; one that begins there never was."""
    current = SubscriptionPhase.objects.filter(subscription=subscription, end_at=None)
    current.filter(start_at__gte=at).delete()
    current.update(end_at=at)


def end_subscription(
    subscription: Subscription, *, at: datetime, actor: str, now: datetime
) -> None:
    """Cancel as of `at`; the caller provisions."""
    advance_status(subscription, event=SubscriptionEvent.CANCELED)
    subscription.canceled_at = at
    subscription.pending_version = subscription.pending_seats = None
    end_phase(subscription, at=at)
    audit(
        actor=actor,
        action="subscription.canceled",
        subject=subscription.public_id,
        customer_id=subscription.customer_id,
        now=now,
    )


def _advance(due: QuerySet[Subscription], *, now: datetime, limit: int) -> int:
    def advance(subscription_ids: list[int]) -> int:
        rows = Subscription.objects.filter(pk__in=subscription_ids)
        rows = rows.prefetch_related("version__plan", "pending_version__plan")
        return catch_up_all(list(rows), now=now)

    def work(claims: list[tuple[int, int]]) -> int:
        alone = _to_be_told([customer_id for customer_id, _ in claims])
        return in_batches(claims, work=advance, what="closing a period", alone=alone)

    return in_order(due, by="current_end_at", limit=limit, work=work)


def _to_be_told(customer_ids: Sequence[int]) -> set[int]:
    """Customers whose metering changes as their period ends."""
    changing = Subscription.objects.filter(
        Q(cancel_at__isnull=False) | Q(pending_version__isnull=False) | Q(status=Status.TRIALING),
        customer_id__in=customer_ids,
    )
    return {*changing.values_list("customer_id", flat=True), *limited(customer_ids)}


def _turn(subscriptions: Sequence[Subscription], *, now: datetime) -> set[int]:
    """End the current periods; returns for which of them metering must be told."""
    draft_periods(
        [(each, each.current_end_at) for each in subscriptions if each.status != Status.TRIALING],
        now=now,
    )
    peers = Peers(each.customer_id for each in subscriptions)
    return {each.pk for each in subscriptions if _goes_on(each, peers=peers, now=now)}


def _goes_on(subscription: Subscription, *, peers: Peers, now: datetime) -> bool:
    """Let come what follows the current period; says whether metering must be told."""
    at = subscription.current_end_at
    trial = subscription.status == Status.TRIALING
    if subscription.cancel_at is not None and subscription.cancel_at <= at:
        end_subscription(subscription, at=at, actor="system", now=now)
        return True
    version = subscription.pending_version or subscription.version
    changes = version.pk != subscription.version_id
    if changes or subscription.pending_seats is not None:
        if version.interval != subscription.version.interval:
            subscription.anchor_at = at
        enter_version(subscription, version=version, seats=subscription.pending_seats, at=at)
    if trial:
        _end_trial(subscription, at=at, now=now)
    if subscription.status not in _STANDING_STILL:
        begin_period(subscription, at=at)
    # What the period before has paid of windows that go on is counted from its end.
    return changes or trial or limits_spending(subscription.customer_id, peers=peers)


def _end_trial(subscription: Subscription, *, at: datetime, now: datetime) -> None:
    after = after_trial(subscription)
    match after.outcome:
        case TrialOutcome.PAID:
            advance_status(subscription, event=SubscriptionEvent.ACTIVATED)
        case TrialOutcome.WAITS:
            advance_status(subscription, event=SubscriptionEvent.TRIAL_ENDED)
        case TrialOutcome.CANCELED:
            end_subscription(subscription, at=at, actor="system", now=now)
        case TrialOutcome.MOVED:
            if after.version.interval != subscription.version.interval:
                subscription.anchor_at = at
            enter_version(subscription, version=after.version, at=at)
            advance_status(subscription, event=SubscriptionEvent.ACTIVATED)
        case _:
            assert_never(after.outcome)
    audit(
        actor="system",
        action="subscription.trial_ended",
        subject=subscription.public_id,
        customer_id=subscription.customer_id,
        changes={"outcome": str(after.outcome), "plan": after.version.plan.key},
        now=now,
    )
