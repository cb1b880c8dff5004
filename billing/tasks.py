"""What Celery runs: each looks for pending work and does a bounded piece of it.

Losing a run loses nothing but time: the rows stay, and the next look finds them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from celery import shared_task
from django.utils import timezone

from billing.operations import (
    checking,
    closing,
    customer_credits,
    dunning,
    issuing,
    limiting,
    migrating,
    overriding,
    retelling,
    retiring,
    simulating,
    thresholds,
    topping_up,
)
from billing.payments import (
    charging,
    customers,
    holding,
    inbox,
    mirroring,
    pushing,
    reconciling,
    retracting,
)

BATCH: Final = 200
# A bit less than brokers wait before they give a message to another worker, and than a tick.
_AT_MOST_S: Final = 50


def _go_on(work: Callable[..., int]) -> None:
    """Do piece after piece while there is plenty to do, for so long at most."""
    until = time.monotonic() + _AT_MOST_S
    while work(now=timezone.now(), limit=BATCH) > BATCH // 4 and time.monotonic() < until:
        pass


@shared_task(name="billing.process_stripe_events")
def process_stripe_events(**_: object) -> None:
    """Apply what Stripe told us."""
    inbox.process_pending(now=timezone.now(), limit=BATCH)


@shared_task(name="billing.advance_subscriptions")
def advance_subscriptions(**_: object) -> None:
    """End trials that are over."""
    closing.advance_due(now=timezone.now(), limit=BATCH)


@shared_task(name="billing.close_periods")
def close_periods(**_: object) -> None:
    """Draft the invoices of periods that are over, and begin the next ones."""
    _go_on(closing.close_due)


@shared_task(name="billing.bill_thresholds")
def bill_thresholds(**_: object) -> None:
    """Bill usage that reached its threshold before its period ends."""
    thresholds.bill_thresholds(now=timezone.now(), limit=BATCH)


@shared_task(name="billing.apply_overrides")
def apply_overrides(**_: object) -> None:
    """Write entitlements anew where an override begins or ends."""
    overriding.apply_due(now=timezone.now(), limit=BATCH)


@shared_task(name="billing.retell_spend_limits")
def retell_spend_limits(**_: object) -> None:
    """Tell the gate anew what is spent, where usage was corrected."""
    limiting.retell_corrected(now=timezone.now(), limit=BATCH)


@shared_task(name="billing.retell_terms")
def retell_terms(**_: object) -> None:
    """Tell metering anew what the version before the last upgrade told it otherwise."""
    _go_on(retelling.retell)


@shared_task(name="billing.migrate_customers")
def migrate_customers(**_: object) -> None:
    """Move customers to other versions of their plans, as ordered, or back."""
    migrating.advance_migrations(now=timezone.now(), limit=BATCH)


@shared_task(name="billing.simulate_prices")
def simulate_prices(**_: object) -> None:
    """Rate past periods under other prices, as asked."""
    simulating.advance_simulations(now=timezone.now(), limit=BATCH)


@shared_task(name="billing.issue_invoices")
def issue_invoices(**_: object) -> None:
    """Issue drafts whose grace for late events is over."""
    _go_on(issuing.issue_due)


@shared_task(name="billing.expire_credits")
def expire_credits(**_: object) -> None:
    """Post what is left of credits whose time is over."""
    customer_credits.expire_due(now=timezone.now(), limit=BATCH)


@shared_task(name="billing.push_invoices")
def push_invoices(**_: object) -> None:
    """Bring issued invoices to Stripe, step by step."""
    _go_on(pushing.push_due)


@shared_task(name="billing.top_up_wallets")
def top_up_wallets(**_: object) -> None:
    """Begin the top-ups of wallets that run low."""
    topping_up.top_up_due(now=timezone.now(), limit=BATCH)


@shared_task(name="billing.end_unconfirmed_top_ups")
def end_unconfirmed_top_ups(**_: object) -> None:
    """End the top-ups that nobody confirmed within a day."""
    topping_up.end_unconfirmed(now=timezone.now(), limit=BATCH)


@shared_task(name="billing.charge_top_ups")
def charge_top_ups(**_: object) -> None:
    """Charge top-ups that are with Stripe."""
    charging.charge_due(now=timezone.now(), limit=BATCH)


@shared_task(name="billing.retract_invoices")
def retract_invoices(**_: object) -> None:
    """Have Stripe stop collecting what was voided or written off here."""
    retracting.retract_due(now=timezone.now(), limit=BATCH)


@shared_task(name="billing.follow_holds")
def follow_holds(**_: object) -> None:
    """Have Stripe stop collecting from customers who are held, and go on afterwards."""
    holding.follow_holds(now=timezone.now(), limit=BATCH)


@shared_task(name="billing.tell_customers")
def tell_customers(**_: object) -> None:
    """Tell Stripe the names and e-mail addresses of customers that changed here."""
    customers.tell_changes(now=timezone.now(), limit=BATCH)


@shared_task(name="billing.advance_dunning")
def advance_dunning(**_: object) -> None:
    """Call subscriptions unpaid whose grace is over."""
    dunning.advance(now=timezone.now(), limit=BATCH)


@shared_task(name="billing.poll_stripe_events")
def poll_stripe_events(**_: object) -> None:
    """Ask Stripe for events that never reached us."""
    inbox.poll(now=timezone.now())


@shared_task(name="billing.poll_undelivered_events")
def poll_undelivered_events(**_: object) -> None:
    """Ask Stripe for events that it gave up to deliver."""
    inbox.poll_undelivered(now=timezone.now())


@shared_task(name="billing.sweep_stripe_invoices")
def sweep_stripe_invoices(**_: object) -> None:
    """Read open invoices again whose payment no message told."""
    mirroring.sweep(now=timezone.now(), limit=BATCH)


@shared_task(name="billing.reconcile")
def reconcile(**_: object) -> None:
    """Compare the last days with Stripe; what differs is logged and shown in the admin."""
    reconciling.reconcile_lately(now=timezone.now())


@shared_task(name="billing.check_invariants")
def check_invariants(**_: object) -> None:
    """Look whether billing still holds together; what does not is logged."""
    checking.report(now=timezone.now())


@shared_task(name="billing.retire_events")
def retire_events(**_: object) -> None:
    """Export and drop months of raw usage events that no invoice needs, where that is wanted."""
    retiring.retire_as_set(now=timezone.now())
