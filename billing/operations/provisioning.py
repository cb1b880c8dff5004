"""Telling metering what a customer may use: the only place that does.

Whoever changes a subscription, or whether its invoices are paid, calls `provision` in the same
transaction, and the customer's next check is answered accordingly. What time alone changes (a
grace or a trial that runs out, a cancellation to come) is told ahead, as the instant from which
calls are denied, so that nobody need be awake then.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal, cast

from billing.domain import subscriptions as rules
from billing.domain.curves import curve
from billing.domain.dunning import grace_ends_at
from billing.domain.prices import parse_price
from billing.domain.subscriptions import (
    StandingCode,
    SubscriptionEvent,
    SubscriptionFacts,
    SubscriptionStatus,
)
from billing.domain.trials import TrialOutcome
from billing.models import Override, PlanEntitlement, Subscription
from billing.queries.customer_terms import overrides_at, rights_with
from billing.queries.dunning import UnpaidInvoice, oldest_failed
from billing.queries.included import blended_of, window_unit
from billing.queries.payment_methods import has_payment_method, needs_payment_method
from billing.queries.peers import Peers
from billing.queries.spans import span_at
from billing.queries.spend_limits import gate_limit, limits_spending
from billing.queries.trials import after_trial
from metering.domain.agreed import Agreed
from metering.operations.entitling import Right, StandingTerms, entitle

_UNTOLD = frozenset({"price", "rollover"})
_OWING = (SubscriptionStatus.PAST_DUE, SubscriptionStatus.UNPAID)


def provision(subscription: Subscription, *, now: datetime) -> None:
    """Bring status, rights and standing in line with the plan and the invoices; saves them.

    The customer is locked. Doing it twice changes nothing.
    """
    failed = oldest_failed(subscription.customer_id)
    _follow_payments(subscription, failed=failed, now=now)
    subscription.save()
    entitle(
        subscription.customer_id,
        rights=rights(subscription, now=now),
        standing=standing_terms(subscription, failed=failed, now=now),
        source=subscription.public_id,
        now=now,
    )


def advance_status(subscription: Subscription, *, event: SubscriptionEvent) -> None:
    """Move the status as the rules say. Raises SubscriptionTransitionRefused."""
    before = SubscriptionStatus(subscription.status)
    subscription.status = Subscription.Status(rules.next_status(before, event=event))


def rights(subscription: Subscription, *, now: datetime) -> list[Right]:
    """What the version gives, with the overrides that hold now.

    A trial bills nothing, so what it includes is all there is. What overage costs is told only
    where somebody limits the spending.
    """
    if subscription.status == Subscription.Status.CANCELED:
        return []
    trial = subscription.status == Subscription.Status.TRIALING
    version, priced = (
        subscription.version,
        limits_spending(subscription.customer_id, peers=Peers([subscription.customer_id])),
    )
    changed = overrides_at(subscription.customer_id, at=now)
    span = span_at(subscription, at=now, overrides=changed)
    found = []
    for given in rights_with(version, changed):
        blended = blended_of(given, span=span, anchor_at=subscription.anchor_at)
        found.append(
            Right(
                kind=cast("Literal['metered', 'boolean', 'static']", given.kind),
                meter_id=given.meter_id,
                feature=given.feature,
                value=given.value,
                window=window_unit(given, version=version),
                anchor_at=subscription.anchor_at,
                included=given.included,
                blended=blended.quantity if blended else None,
                blended_until=blended.until if blended else None,
                unlimited=given.unlimited,
                over="bill" if _billed(given, trial=trial) else "deny",
                overage_limit=given.overage_limit,
                curve=curve(parse_price(given.price))
                if priced and _billed(given, trial=trial) and not given.unlimited
                else None,
                rollover=given.rollover,
                starts_at=subscription.start_at,
            )
        )
    return found


def _billed(given: PlanEntitlement, *, trial: bool) -> bool:
    return given.over == "bill" and not trial


def standing_terms(
    subscription: Subscription, *, failed: UnpaidInvoice | None, now: datetime
) -> StandingTerms:
    """How the customer stands, with the instant from which that ends."""
    plan = subscription.version.plan
    facts = SubscriptionFacts(
        status=SubscriptionStatus(subscription.status),
        grace_days=subscription.version.grace_days,
        trial_ends_at=subscription.trial_end_at,
        payment_failed_at=failed.failed_at if failed else None,
        payment_action_required=failed is not None and failed.action_required,
        needs_payment_method=_needs_payment_method(subscription),
        has_payment_method=has_payment_method(subscription.customer_id),
        cancel_at=subscription.cancel_at,
    )
    found = rules.standing(facts, now=now)
    code: StandingCode | None = found.code or found.code_after
    return StandingTerms(
        plan_key=plan.key,
        plan_name=plan.name,
        deny_code=code or "",
        deny_at=now if found.code else found.good_until,
        invoice_url=failed.url if failed else "",
        spend_limit=gate_limit(subscription, now=now),
        agreed=[_agreed(each) for each in overrides_at(subscription.customer_id, at=now)],
    )


def _agreed(each: Override) -> Agreed:
    """An override as the gate keeps it: with the curve of its price, which metering cannot make."""
    terms = {name: value for name, value in each.terms.items() if name not in _UNTOLD}
    if each.terms.get("price"):
        terms["curve"] = curve(parse_price(each.terms["price"])).to_json()
    return Agreed(each.meter_id, each.feature, each.denied, terms)


def _needs_payment_method(subscription: Subscription) -> bool:
    if subscription.status == Subscription.Status.TRIALING:
        after = after_trial(subscription)
        return after.outcome in (TrialOutcome.WAITS, TrialOutcome.CANCELED)
    return needs_payment_method(subscription.version, collection=subscription.collection)


def _follow_payments(
    subscription: Subscription, *, failed: UnpaidInvoice | None, now: datetime
) -> None:
    if failed is None:
        if subscription.past_due_at is not None:
            subscription.past_due_at = subscription.grace_ends_at = None
        if subscription.status in _OWING:
            advance_status(subscription, event=SubscriptionEvent.PAID)
        return
    subscription.past_due_at = failed.failed_at
    subscription.grace_ends_at = grace_ends_at(
        failed.failed_at, grace_days=subscription.version.grace_days
    )
    if subscription.status == SubscriptionStatus.UNPAID and subscription.grace_ends_at > now:
        # What was overdue is paid, something younger is still in its grace.
        advance_status(subscription, event=SubscriptionEvent.PAID)
    advance_status(
        subscription,
        event=SubscriptionEvent.PAYMENT_ACTION_REQUIRED
        if failed.action_required
        else SubscriptionEvent.PAYMENT_FAILED,
    )
    if subscription.grace_ends_at <= now:
        advance_status(subscription, event=SubscriptionEvent.GRACE_ENDED)
