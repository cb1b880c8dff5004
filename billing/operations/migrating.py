"""Moving customers to another version of a plan: one order, one customer after the other.

An order is rows that wait. A worker takes them in turn, each in a transaction of its own, so it
may die anywhere and goes on where it stood. What was moved can be moved back as long as nothing
of it is on an issued invoice.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import OperationalError, transaction
from django.db.models import Q, QuerySet

from accounts.operations.auditing import audit
from billing.domain.invoices import InvoiceDraft
from billing.domain.plan_changes import ChangeTiming, ChangeWhen, PlanChangeRefused
from billing.models import (
    Invoice,
    MigratedSubscription,
    PlanMigration,
    PlanVersion,
    Subscription,
    SubscriptionPhase,
)
from billing.operations.changing import (
    PaymentMethodNeeded,
    audit_change,
    change_version,
    period_under,
    require_changeable,
    take_back,
)
from billing.operations.locking import each_in_turn
from billing.operations.provisioning import provision
from billing.operations.subscribing import load
from billing.queries.catalogue import CurrencyUnfit, in_currency
from billing.queries.period_fees import period_fee

logger = logging.getLogger(__name__)
Outcome, Status = MigratedSubscription.Outcome, PlanMigration.Status
_REFUSALS = (PlanChangeRefused, PaymentMethodNeeded)
_UNDER_WAY = (Status.RUNNING, Status.REVERTING)


class MigrationRefused(Exception):
    """Customers cannot be moved between these versions; `param` names the one at fault."""

    def __init__(self, param: str, detail: str) -> None:
        super().__init__(detail)
        self.param = param


class MigrationUnknown(Exception):
    """No migration has this id."""


@dataclass(frozen=True, slots=True)
class MovePreview:
    """The period under way of one subscription as it is, and as it would be; `refused` says why
    it would stay. `next_fee_before` and `next_fee_after`: the fee of a whole period afterwards, in
    minor units."""

    subscription: Subscription
    before: InvoiceDraft
    after: InvoiceDraft | None
    next_fee_before: int
    next_fee_after: int | None
    refused: str = ""


def start_migration(
    source_id: int,
    *,
    target_id: int,
    when: ChangeWhen,
    customer_ids: Sequence[int] | None = None,
    reason: str = "",
    actor: str,
    now: datetime,
) -> PlanMigration:
    """Order the subscriptions of a version, or those of some customers, to be moved to another.

    Each stays in its currency. Raises MigrationRefused: the target is on sale, in the same interval
    and in every currency in which somebody stands under the source.
    """
    with transaction.atomic():
        source, target = _versions(source_id, target_id, customer_ids=customer_ids)
        migration = PlanMigration.objects.create(
            source=source, target=target, when=when, actor=actor, reason=reason, created_at=now
        )
        MigratedSubscription.objects.bulk_create(
            (
                MigratedSubscription(
                    migration=migration, subscription_id=row[0], customer_id=row[1]
                )
                for row in _standing_under(source, customer_ids=customer_ids)
                .order_by("id")
                .values_list("id", "customer_id")
                .iterator()
            ),
            batch_size=1_000,
        )
        audit(
            actor=actor,
            action="plan_migration.started",
            subject=migration.public_id,
            changes={"from": source.public_id, "to": target.public_id, "when": str(when)},
            now=now,
        )
        _finish(migration, now=now)
    return migration


def preview_migration(
    source_id: int,
    *,
    target_id: int,
    when: ChangeWhen,
    customer_ids: Sequence[int] | None = None,
    limit: int,
    now: datetime,
) -> tuple[int, list[MovePreview]]:
    """How many subscriptions would be looked at, and what would become of the first `limit`.

    Raises MigrationRefused.
    """
    source, target = _versions(source_id, target_id, customer_ids=customer_ids)
    found = _standing_under(source, customer_ids=customer_ids).order_by("id")
    rows = [
        _preview(each, target=target, when=when, now=now)
        for each in found.select_related("version__plan", "pending_version__plan")[:limit]
    ]
    return found.count(), rows


def advance_migrations(*, now: datetime, limit: int) -> int:
    """Move, or move back, up to `limit` subscriptions that wait for it."""
    due = MigratedSubscription.objects.filter(due=True)
    claims = list(due.order_by("migration_id", "id").values_list("customer_id", "id")[:limit])
    done = each_in_turn(claims, work=lambda found: _advance(found, now=now), what="migrating")
    underway = PlanMigration.objects.filter(status__in=_UNDER_WAY)
    for migration_id in list(underway.values_list("id", flat=True)):
        with transaction.atomic():
            # Read anew under its lock: somebody may have ordered it back meanwhile.
            for migration in underway.select_for_update().filter(pk=migration_id):
                _finish(migration, now=now)
    return done


def revert_migration(migration_id: int, *, actor: str, now: datetime) -> PlanMigration:
    """Order everything to be moved back that is not invoiced; a second time changes nothing.

    Raises MigrationUnknown.
    """
    with transaction.atomic():
        migration = PlanMigration.objects.select_for_update().filter(pk=migration_id).first()
        if migration is None:
            raise MigrationUnknown("There is no such migration.")
        if migration.status in (Status.REVERTING, Status.REVERTED):
            return migration
        migration.status, migration.finished_at = Status.REVERTING, None
        migration.save()
        moved = (Outcome.PENDING, Outcome.SCHEDULED, Outcome.MOVED)
        migration.moves.filter(outcome__in=moved).update(due=True)
        audit(
            actor=actor,
            action="plan_migration.reverted",
            subject=migration.public_id,
            now=now,
        )
        _finish(migration, now=now)
    return migration


def _versions(
    source_id: int, target_id: int, *, customer_ids: Sequence[int] | None
) -> tuple[PlanVersion, PlanVersion]:
    sold = PlanVersion.objects.filter(base=None).select_related("plan")
    found = sold.in_bulk([source_id, target_id])
    source, target = found.get(source_id), found.get(target_id)
    if source is None:
        raise MigrationRefused("source", "There is no such version.")
    if target is None:
        raise MigrationRefused("target", "There is no such version.")
    if source == target:
        raise MigrationRefused("target", "This is the version that they are on.")
    if target.state != PlanVersion.State.ACTIVE:
        raise MigrationRefused("target", "Only a version that is on sale can be moved to.")
    if source.interval != target.interval:
        raise MigrationRefused("target", "The interval must be the same.")
    standing = _standing_under(source, customer_ids=customer_ids)
    try:
        for currency in standing.values_list("version__currency", flat=True).distinct():
            in_currency(target, currency=currency)
    except CurrencyUnfit as unfit:
        raise MigrationRefused("target", str(unfit)) from unfit
    return source, target


def _standing_under(
    source: PlanVersion, *, customer_ids: Sequence[int] | None
) -> QuerySet[Subscription]:
    found = Subscription.objects.filter(Q(version=source) | Q(version__base=source))
    if customer_ids is not None:
        found = found.filter(customer_id__in=customer_ids)
    return found.exclude(status=Subscription.Status.CANCELED)


def _preview(
    subscription: Subscription, *, target: PlanVersion, when: ChangeWhen, now: datetime
) -> MovePreview:
    target = in_currency(target, currency=subscription.version.currency)
    before = period_under(subscription, version=None, when=when, now=now)
    seats = subscription.pending_seats or subscription.seats
    fee = period_fee(subscription.version, seats=seats)
    try:
        _require_movable(subscription, target=target, when=when, now=now)
    except _REFUSALS as refused:
        return MovePreview(subscription, before, None, fee, None, str(refused))
    after = period_under(subscription, version=target, when=when, now=now)
    return MovePreview(subscription, before, after, fee, period_fee(target, seats=seats))


def _require_movable(
    subscription: Subscription, *, target: PlanVersion, when: ChangeWhen, now: datetime
) -> ChangeTiming:
    pending = subscription.pending_version
    if pending is not None and pending != target:
        raise PlanChangeRefused(f"A change to the plan {pending.plan.key!r} is waiting.")
    return require_changeable(subscription, version=target, when=when, now=now)


def _advance(move_id: int, *, now: datetime) -> bool:
    move = MigratedSubscription.objects.select_for_update().get(pk=move_id)
    if not move.due:
        return False
    migration = PlanMigration.objects.select_related("source__plan", "target__plan").get(
        pk=move.migration_id
    )
    back = migration.status == Status.REVERTING
    try:
        with transaction.atomic():
            subscription = load(move.subscription_id, now=now)
            (_move_back if back else _move)(move, migration, subscription, now=now)
    except OperationalError:
        raise  # a deadlock or a lost connection: the next turn may succeed
    except Exception as fault:
        # Whatever it is, it would come again, and the next ones wait behind it.
        logger.exception("migrating failed for %s", move.subscription_id)
        move.refresh_from_db()
        move.outcome = Outcome.KEPT if back else Outcome.REFUSED
        move.detail = f"It failed ({type(fault).__name__}): look into the log."
    move.due = False
    move.save()
    return True


def _move(
    move: MigratedSubscription,
    migration: PlanMigration,
    subscription: Subscription,
    *,
    now: datetime,
) -> None:
    when = ChangeWhen(migration.when)
    try:
        if subscription.version.sold_id != migration.source_id:
            raise PlanChangeRefused("The subscription has left that version by itself.")
        target = in_currency(migration.target, currency=subscription.version.currency)
        timing = _require_movable(subscription, target=target, when=when, now=now)
    except _REFUSALS as refused:
        move.outcome, move.detail = Outcome.REFUSED, str(refused)
        return
    move.effective_at = change_version(
        subscription, version=target, when=timing.when, actor=migration.actor, now=now
    )
    later = timing.when is ChangeWhen.PERIOD_END
    move.outcome = Outcome.SCHEDULED if later else Outcome.MOVED


def _move_back(
    move: MigratedSubscription,
    migration: PlanMigration,
    subscription: Subscription,
    *,
    now: datetime,
) -> None:
    pending = subscription.pending_version
    if move.outcome == Outcome.PENDING:
        move.outcome = Outcome.REVERTED
    elif pending is not None and pending.sold_id == migration.target_id:
        take_back(subscription, actor=migration.actor, now=now)
        move.outcome = Outcome.REVERTED
    elif why := _undo_phase(move, migration, subscription):
        move.outcome, move.detail = Outcome.KEPT, why
    else:
        source = in_currency(migration.source, currency=subscription.version.currency)
        audit_change(subscription, version=source, when="reverted", actor=migration.actor, now=now)
        subscription.version = source
        provision(subscription, now=now)
        move.outcome = Outcome.REVERTED


def _undo_phase(
    move: MigratedSubscription, migration: PlanMigration, subscription: Subscription
) -> str:
    """As if the subscription had stayed; says why not where that cannot be."""
    assert move.effective_at is not None
    phases = SubscriptionPhase.objects.filter(subscription=subscription)
    currency = subscription.version.currency
    source, target = (
        in_currency(each, currency=currency) for each in (migration.source, migration.target)
    )
    entered = phases.filter(version=target, start_at=move.effective_at, end_at=None).first()
    left = phases.filter(version=source, end_at=move.effective_at).first()
    if entered is None or left is None or subscription.status == Subscription.Status.CANCELED:
        return "The subscription was changed since."
    issued = Invoice.objects.filter(subscription=subscription, period_end_at__gt=entered.start_at)
    if issued.exclude(status__in=(Invoice.Status.DRAFT, Invoice.Status.VOID)).exists():
        return "It is invoiced."
    if entered.seats != left.seats:  # agreed meanwhile, and no matter of the version
        entered.version = source
        entered.save()
        return ""
    entered.delete()
    left.end_at = None
    left.save()
    return ""


def _finish(migration: PlanMigration, *, now: datetime) -> None:
    if not migration.moves.filter(due=True).exists():
        reverting = migration.status == Status.REVERTING
        migration.status = Status.REVERTED if reverting else Status.DONE
        migration.finished_at = now
        migration.save()
