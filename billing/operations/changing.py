"""Changing the plan of a subscription.

A dearer plan takes over at once and shares the period's fee by the second; a cheaper one takes
over when the period ends, and whoever insists on "now" gets nothing back. Inside a period the
subscription keeps its anchor, so windows and what was used in them go on: changing mints nothing.
Only a plan of another interval ends the period and begins one of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from django.db import transaction

from accounts.operations.auditing import audit
from billing.domain.invoices import InvoiceDraft
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
from billing.models import PlanVersion, Subscription
from billing.operations.closing import begin_period, close_subscription_now, enter_version
from billing.operations.following import begin_if_payable
from billing.operations.subscribing import SHORTEST_PHASE, load, next_instant
from billing.queries.catalogue import active_version
from billing.queries.payment_methods import has_payment_method, needs_payment_method
from billing.queries.peers import Peers
from billing.queries.period_fees import period_fee
from billing.queries.rated_periods import PeriodTerms, rated_period
from billing.queries.spans import billed_spans, current_basis, unbilled_period

Status = Subscription.Status
_NOTHING_DUE_YET = (Status.TRIALING, Status.INCOMPLETE)


class PaymentMethodNeeded(Exception):
    """That plan is charged through Stripe: the customer gives a payment method first."""

    param = "plan"


@dataclass(frozen=True, slots=True)
class ChangePreview:
    """What a change would do. `invoice`: the period under way as it would be billed, as far as
    usage is known; `next_fee`: the fee of a whole period afterwards, in minor units."""

    when: ChangeWhen
    effective_at: datetime
    restarts_period: bool
    invoice: InvoiceDraft
    next_fee: int


def change_plan(
    subscription_id: int,
    *,
    plan: str,
    when: ChangeWhen | None = None,
    actor: str,
    now: datetime,
) -> Subscription:
    """Change to the active version of `plan` (key or id), now or when the period ends.

    `when` None: a dearer plan now, another at the period's end. Changing to the version that holds
    takes back a change that was waiting. Raises PlanChangeRefused, PaymentMethodNeeded,
    CurrencyUnfit, PlanUnknown, PlanNotOnSale, SubscriptionUnknown.
    """
    with transaction.atomic():
        subscription = load(subscription_id, now=now)
        version = active_version(plan, currency=subscription.version.currency)
        if version.pk == subscription.version_id:
            take_back(subscription, actor=actor, now=now)
            return subscription
        timing = require_changeable(subscription, version=version, when=when, now=now)
        change_version(subscription, version=version, when=timing.when, actor=actor, now=now)
    return subscription


def require_changeable(
    subscription: Subscription, *, version: PlanVersion, when: ChangeWhen | None, now: datetime
) -> ChangeTiming:
    """How a change is carried out. Raises PlanChangeRefused, PaymentMethodNeeded."""
    timing = timing_of(subscription, version=version, when=when, now=now)
    _require_payment_method(subscription, version=version)
    return timing


def change_version(
    subscription: Subscription, *, version: PlanVersion, when: ChangeWhen, actor: str, now: datetime
) -> datetime:
    """Change a subscription that is locked and may be changed; says from when on that holds."""
    audit_change(subscription, version=version, when=when, actor=actor, now=now)
    if when is ChangeWhen.PERIOD_END:
        subscription.pending_version = version
        subscription.save()
        return subscription.current_end_at
    return _change_now(subscription, version=version, now=now)


def period_under(
    subscription: Subscription, *, version: PlanVersion | None, when: ChangeWhen, now: datetime
) -> InvoiceDraft:
    """The period under way as it would be billed, as far as usage is known, if the subscription
    changed to `version` (None: stayed as it is); empty where none is billed yet."""
    if subscription.status in _NOTHING_DUE_YET:
        period = Period(subscription.current_start_at, subscription.current_end_at)
        return InvoiceDraft(subscription.version.currency, period, ())
    at = subscription.current_end_at
    if version is not None and when is ChangeWhen.NOW:
        at = _takes_over_at(subscription, version=version, now=now)
    return _invoice_with(
        subscription, version=version or subscription.version, at=at, restarts=False
    )


def preview_change(
    subscription_id: int, *, plan: str, when: ChangeWhen | None = None, now: datetime
) -> ChangePreview:
    """What `change_plan` would do, without doing it. Raises what it raises."""
    with transaction.atomic():
        subscription = load(subscription_id, now=now)
        version = active_version(plan, currency=subscription.version.currency)
        timing = timing_of(subscription, version=version, when=when, now=now)
        _require_payment_method(subscription, version=version)
        restarts = timing.when is ChangeWhen.NOW and _restarts(subscription, version=version)
        at = subscription.current_end_at
        if timing.when is ChangeWhen.NOW:
            at = _takes_over_at(subscription, version=version, now=now)
        return ChangePreview(
            when=timing.when,
            effective_at=at,
            restarts_period=restarts,
            invoice=_invoice_with(subscription, version=version, at=at, restarts=restarts),
            next_fee=period_fee(version, seats=subscription.seats),
        )


def timing_of(
    subscription: Subscription,
    *,
    version: PlanVersion,
    seats: int | None = None,
    when: ChangeWhen | None,
    now: datetime,
) -> ChangeTiming:
    """How a change of the version, or of the seats, would be carried out.

    Raises PlanChangeRefused.
    """
    seats = subscription.seats if seats is None else seats
    return change_timing(
        SubscriptionStatus(subscription.status),
        old=_terms(subscription.version, seats=subscription.seats),
        new=_terms(version, seats=seats),
        period=Period(subscription.current_start_at, subscription.current_end_at),
        now=now,
        when=when,
    )


def take_back(subscription: Subscription, *, actor: str, now: datetime) -> None:
    """Take back a change that waits for the period's end; nothing happens where there is none."""
    if subscription.pending_version is not None:
        subscription.pending_version = None
        subscription.save()
        audit_change(
            subscription, version=subscription.version, when="taken_back", actor=actor, now=now
        )


def audit_change(
    subscription: Subscription, *, version: PlanVersion, when: str, actor: str, now: datetime
) -> None:
    """Note that the subscription goes from its version to `version`."""
    audit(
        actor=actor,
        action="subscription.plan_changed",
        subject=subscription.public_id,
        customer_id=subscription.customer_id,
        changes={
            "from": subscription.version.public_id,
            "to": version.public_id,
            "plan": version.plan.key,
            "when": str(when),
        },
        now=now,
    )


def _terms(version: PlanVersion, *, seats: int) -> PlanTerms:
    fee = period_fee(version, seats=seats)
    return PlanTerms(fee, Interval(version.interval), version.currency)


def _restarts(subscription: Subscription, *, version: PlanVersion) -> bool:
    other = version.interval != subscription.version.interval
    return other and subscription.status not in _NOTHING_DUE_YET


def _takes_over_at(subscription: Subscription, *, version: PlanVersion, now: datetime) -> datetime:
    """From when on a change that is asked for now holds; never later than now, since the gate
    admits by the new plan at once, and what it admits must be billed by the same.

    A dearer plan takes the place of one that was taken in this very second. Raises
    PlanChangeRefused for another, which cannot: whoever took a plan has it for a second.
    """
    at = next_instant(subscription, now=now)
    if at <= now or subscription.status in _NOTHING_DUE_YET:
        return at
    dearer = is_upgrade(
        _terms(subscription.version, seats=subscription.seats),
        new=_terms(version, seats=subscription.seats),
    )
    if not dearer or at - SHORTEST_PHASE > now:
        raise PlanChangeRefused("The plan was changed in this very second: wait for the next.")
    return at - SHORTEST_PHASE


def _require_payment_method(subscription: Subscription, *, version: PlanVersion) -> None:
    if subscription.status in _NOTHING_DUE_YET:
        return
    needed = needs_payment_method(version, collection=subscription.collection)
    if needed and not has_payment_method(subscription.customer_id):
        raise PaymentMethodNeeded(
            f"The plan {version.plan.key!r} is charged through Stripe: give a payment method first."
        )


def _change_now(subscription: Subscription, *, version: PlanVersion, now: datetime) -> datetime:
    at = _takes_over_at(subscription, version=version, now=now)
    restarts = _restarts(subscription, version=version)
    if restarts:
        close_subscription_now(subscription, at=at, now=now)
        subscription.anchor_at = at
    enter_version(subscription, version=version, at=at)
    if restarts or subscription.status == Status.INCOMPLETE:
        begin_period(subscription, at=at)
    begin_if_payable(subscription, now=now)
    return at


def _invoice_with(
    subscription: Subscription, *, version: PlanVersion, at: datetime, restarts: bool
) -> InvoiceDraft:
    period, basis = unbilled_period(subscription), current_basis(subscription)
    peers = Peers([subscription.customer_id])
    found = billed_spans(subscription.id, period=period, basis=basis, peers=peers)
    if not restarts and period.start_at < at < period.end_at:
        last = found.pop()
        if last.period.start_at < at:
            found.append(replace(last, period=Period(last.period.start_at, at)))
        stood = (*last.stood, (at, version))
        found.append(replace(last, version=version, period=Period(at, period.end_at), stood=stood))
    asked = PeriodTerms(subscription.customer_id, found, basis, period)
    return rated_period(asked, peers=peers).draft
