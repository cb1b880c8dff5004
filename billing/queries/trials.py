"""Trials: who may have one, and what comes after it."""

from __future__ import annotations

from dataclasses import dataclass

from billing.domain.trials import TrialOutcome, parse_trial_end
from billing.models import PlanVersion, Subscription, SubscriptionPhase
from billing.queries.catalogue import (
    CurrencyUnfit,
    PlanNotOnSale,
    PlanUnknown,
    active_version,
)
from billing.queries.payment_methods import has_payment_method, needs_payment_method


@dataclass(frozen=True, slots=True)
class AfterTrial:
    """What the end of the trial brings, as things are now; `version`: under which it goes on."""

    outcome: TrialOutcome
    version: PlanVersion


def trial_is_due(
    customer_id: int, *, version: PlanVersion, besides: Subscription | None = None
) -> bool:
    """Whether the customer gets the version's trial: never had a plan of its family.

    `besides`: a subscription that does not count.
    """
    if not version.trial_days:
        return False
    had = SubscriptionPhase.objects.filter(
        subscription__customer_id=customer_id, version__plan__family=version.plan.family
    )
    if besides is not None:
        had = had.exclude(subscription=besides)
    return not had.exists()


def after_trial(subscription: Subscription) -> AfterTrial:
    """What happens when the subscription's trial is over; the worker that ends it asks the same.

    A plan that should take over, but is not on sale in the currency or costs something that would
    have to be charged, does not: the subscription then waits for a payment method.
    """
    version = subscription.pending_version or subscription.version
    needed = needs_payment_method(version, collection=subscription.collection)
    if not needed or has_payment_method(subscription.customer_id):
        return AfterTrial(TrialOutcome.PAID, version)
    wanted = parse_trial_end(version.trial_end)
    if wanted.outcome is not TrialOutcome.MOVED:
        return AfterTrial(wanted.outcome, version)
    try:
        other = active_version(wanted.plan, currency=version.currency)
    except (PlanUnknown, PlanNotOnSale, CurrencyUnfit):
        return AfterTrial(TrialOutcome.WAITS, version)
    if needs_payment_method(other, collection=subscription.collection):
        return AfterTrial(TrialOutcome.WAITS, version)
    return AfterTrial(TrialOutcome.MOVED, other)
