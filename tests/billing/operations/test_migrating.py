"""Moving customers between versions: one by one, resumable, and back until invoiced."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from accounts.models import AuditEntry
from billing.domain.plan_changes import ChangeWhen
from billing.models import Invoice, MigratedSubscription, PlanMigration, PlanVersion, Subscription
from billing.operations import catalogue, changing, checking, closing, migrating, subscribing
from billing.operations.plan_shapes import VersionTerms
from billing.operations.seating import change_seats
from metering.models import Entitlement, Meter
from tests.factories.billing import (
    ACTOR,
    NOW,
    START,
    a_plan,
    a_subscription,
    amounts,
    bill,
    calls,
    fresh,
)
from tests.factories.metering import make_meter, report

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)
NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)
DECEMBER = datetime(2026, 12, 1, tzinfo=UTC)


@pytest.fixture
def meter() -> Meter:
    return make_meter()


@pytest.fixture
def old(meter: Meter) -> PlanVersion:
    return a_plan(calls(meter, included=1_000), key="pro", fee=2_000)


def a_version(old: PlanVersion, meter: Meter, **members: Any) -> PlanVersion:
    right = calls(meter, included=members.pop("included", 500))
    terms = VersionTerms(fee=3_100, entitlements=[right])
    return catalogue.new_version(old.plan_id, terms=terms, activate=True, actor=ACTOR, now=START)


def two_customers(old: PlanVersion, meter: Meter) -> tuple[Subscription, Subscription, PlanVersion]:
    first, second = a_subscription(old), a_subscription(old)
    return first, second, a_version(old, meter)


def order(
    source: PlanVersion, target: PlanVersion, when: ChangeWhen = ChangeWhen.PERIOD_END, **more: Any
) -> PlanMigration:
    return migrating.start_migration(
        source.id, target_id=target.id, when=when, actor=ACTOR, now=NOW, **more
    )


def work(*, now: datetime = NOW, limit: int = 100) -> int:
    return migrating.advance_migrations(now=now, limit=limit)


def outcomes(migration: PlanMigration) -> list[str]:
    return list(migration.moves.order_by("id").values_list("outcome", flat=True))


def test_all_move_when_their_periods_end(old: PlanVersion, meter: Meter) -> None:
    first, second, new = two_customers(old, meter)
    migration = order(old, new)
    assert (migration.status, outcomes(migration)) == ("running", ["pending"] * 2)

    assert work() == 2

    assert (fresh(migration).status, fresh(migration).finished_at) == ("done", NOW)
    assert outcomes(migration) == ["scheduled"] * 2
    assert fresh(first).version == fresh(second).version == old
    assert work() == 0
    closing.close_due(now=NOVEMBER, limit=10)
    assert fresh(first).version == fresh(second).version == new
    assert set(Entitlement.objects.values_list("included", flat=True)) == {500}


def test_now_means_now_and_each_part_is_rated_by_its_version(
    old: PlanVersion, meter: Meter
) -> None:
    first, _, new = two_customers(old, meter)
    report(first.customer, meter, 1_100, at=START + DAY)
    migration = order(old, new, ChangeWhen.NOW, customer_ids=[first.customer_id])

    assert work() == 1

    assert outcomes(migration) == ["moved"]
    assert migration.moves.get().effective_at == NOW
    assert fresh(first).version == new
    report(first.customer, meter, 50, at=NOW + DAY)
    invoice = bill(first, now=NOVEMBER + DAY)
    # 10 of 31 days at 20.00 and 21 at 31.00; 100 units past 1,000, then 50.
    assert amounts(invoice) == [("fee", 645), ("fee", 2_100), ("usage", 100), ("usage", 50)]
    assert checking.broken_invariants(now=NOVEMBER + DAY) == []


def test_a_worker_takes_up_where_the_last_one_stopped(old: PlanVersion, meter: Meter) -> None:
    _, _, new = two_customers(old, meter)
    migration = order(old, new)
    assert work(limit=1) == 1
    assert (fresh(migration).status, outcomes(migration)) == ("running", ["scheduled", "pending"])
    assert work(limit=1) == 1
    assert fresh(migration).status == "done"


def test_a_migration_of_nobody_is_done_at_once(old: PlanVersion, meter: Meter) -> None:
    assert order(old, a_version(old, meter)).status == "done"


def test_who_left_or_cannot_change_is_told(old: PlanVersion, meter: Meter) -> None:
    gone, paused, new = two_customers(old, meter)
    waiting, cardless = a_subscription(new), a_subscription(new, card=False)
    for each in (waiting, cardless):
        Subscription.objects.filter(pk=each.pk).update(version=old)
        each.phases.update(version=old)
    other = a_plan(key="other", fee=1)
    changing.change_plan(waiting.id, plan="other", actor=ACTOR, now=NOW)
    migration = order(old, new)
    changing.change_plan(gone.id, plan="other", when=ChangeWhen.NOW, actor=ACTOR, now=NOW)
    subscribing.pause(paused.id, actor=ACTOR, now=NOW)

    assert work() == 4

    assert outcomes(migration) == ["refused", "refused", "refused", "moved"]
    told = [move.detail for move in migration.moves.order_by("id")]
    assert told[0] == "The subscription has left that version by itself."
    assert told[2] == "A change to the plan 'other' is waiting."
    assert fresh(gone).version == other
    assert fresh(paused).version == old
    assert fresh(waiting).pending_version == other
    assert fresh(cardless).status == "incomplete"  # nothing was due yet


def test_back_before_the_period_ends(old: PlanVersion, meter: Meter) -> None:
    first, _, new = two_customers(old, meter)
    migration = order(old, new)
    assert work(limit=1) == 1

    assert migrating.revert_migration(migration.id, actor=ACTOR, now=NOW).status == "reverting"
    assert migrating.revert_migration(migration.id, actor=ACTOR, now=NOW).status == "reverting"
    assert work() == 2

    assert (fresh(migration).status, outcomes(migration)) == ("reverted", ["reverted"] * 2)
    assert fresh(first).pending_version is None
    closing.close_due(now=NOVEMBER, limit=10)
    assert set(Subscription.objects.values_list("version", flat=True)) == {old.id}


def test_back_as_if_nothing_had_been(old: PlanVersion, meter: Meter) -> None:
    first, _, new = two_customers(old, meter)
    report(first.customer, meter, 900, at=START + DAY)
    migration = order(old, new, ChangeWhen.NOW)
    work()
    migrating.revert_migration(migration.id, actor=ACTOR, now=NOW + DAY)

    assert work(now=NOW + DAY) == 2

    assert outcomes(migration) == ["reverted"] * 2
    assert fresh(first).version == old
    assert first.phases.get().end_at is None
    assert set(Entitlement.objects.values_list("included", flat=True)) == {1_000}
    assert amounts(bill(first, now=NOVEMBER + DAY)) == [("fee", 2_000), ("usage", 0)]


def test_back_after_the_period_turned_and_before_it_is_issued(
    old: PlanVersion, meter: Meter
) -> None:
    first, _, new = two_customers(old, meter)
    migration = order(old, new)
    work()
    closing.close_due(now=NOVEMBER, limit=10)
    assert fresh(first).version == new

    migrating.revert_migration(migration.id, actor=ACTOR, now=NOVEMBER + DAY)
    work(now=NOVEMBER + DAY)

    assert outcomes(migration) == ["reverted"] * 2
    assert bill(first, now=DECEMBER + DAY).total == 2_000


def test_what_is_invoiced_stays(old: PlanVersion, meter: Meter) -> None:
    first, second, new = two_customers(old, meter)
    migration = order(old, new, ChangeWhen.NOW)
    work()
    bill(first, now=NOVEMBER + DAY)
    before = list(Invoice.objects.values("id", "total", "status").order_by("id"))

    migrating.revert_migration(migration.id, actor=ACTOR, now=NOVEMBER + 2 * DAY)
    work(now=NOVEMBER + 2 * DAY)

    assert outcomes(migration) == ["kept"] * 2
    assert {move.detail for move in migration.moves.all()} == {"It is invoiced."}
    assert fresh(first).version == fresh(second).version == new
    assert list(Invoice.objects.values("id", "total", "status").order_by("id")) == before


def test_who_changed_since_stays(old: PlanVersion, meter: Meter) -> None:
    first, second, new = two_customers(old, meter)
    other = a_plan(key="other", fee=1)
    migration = order(old, new, ChangeWhen.NOW)
    work()
    changing.change_plan(first.id, plan="other", when=ChangeWhen.NOW, actor=ACTOR, now=NOW + DAY)
    subscribing.cancel(second.id, when="now", actor=ACTOR, now=NOW + DAY)

    migrating.revert_migration(migration.id, actor=ACTOR, now=NOW + 2 * DAY)
    work(now=NOW + 2 * DAY)

    assert outcomes(migration) == ["kept"] * 2
    assert fresh(first).version == other
    assert fresh(second).status == "canceled"


def test_a_preview_says_what_it_costs_each_and_does_nothing(old: PlanVersion, meter: Meter) -> None:
    first, second, new = two_customers(old, meter)
    third = a_subscription(new, card=False)
    Subscription.objects.filter(pk=third.pk).update(version=old)
    report(first.customer, meter, 900, at=START + DAY)
    subscribing.pause(second.id, actor=ACTOR, now=NOW)
    given: dict[str, Any] = {"target_id": new.id, "limit": 10, "now": NOW}

    count, (moved, refused, idle) = migrating.preview_migration(
        old.id, when=ChangeWhen.NOW, **given
    )

    assert count == 3
    assert moved.after is not None
    assert (moved.before.total, moved.after.total) == (2_000, 2_745)
    assert (refused.after, bool(refused.refused)) == (None, True)
    assert (idle.before.total, idle.after and idle.after.total) == (0, 0)
    fees = [(row.next_fee_before, row.next_fee_after) for row in (moved, refused, idle)]
    assert fees == [(2_000, 3_100), (2_000, None), (2_000, 3_100)]
    _, rows = migrating.preview_migration(
        old.id, when=ChangeWhen.PERIOD_END, customer_ids=[first.customer_id], **given
    )
    assert [row.after and row.after.total for row in rows] == [2_000]  # the next one costs more
    assert not PlanMigration.objects.exists()
    assert fresh(first).version == old


def test_where_nobody_can_be_moved(old: PlanVersion, meter: Meter) -> None:
    stays = a_subscription(old)
    new = a_version(old, meter)
    yearly = a_plan(interval="year")
    euro = a_plan(currency="eur")
    for source, target, param in (
        (0, new.id, "source"),
        (old.id, 0, "target"),
        (new.id, new.id, "target"),
        (new.id, old.id, "target"),  # not on sale any more
        (old.id, yearly.id, "target"),
        (old.id, euro.id, "target"),
    ):
        with pytest.raises(migrating.MigrationRefused) as refused:
            migrating.start_migration(
                source, target_id=target, when=ChangeWhen.NOW, actor=ACTOR, now=NOW
            )
        assert refused.value.param == param
    with pytest.raises(migrating.MigrationUnknown):
        migrating.revert_migration(1, actor=ACTOR, now=NOW)
    assert not MigratedSubscription.objects.exists()
    assert fresh(stays).version == old


def test_two_workers_move_nobody_twice(old: PlanVersion, meter: Meter) -> None:
    _, _, new = two_customers(old, meter)
    migration = order(old, new)
    move = migration.moves.order_by("id").first()
    assert move is not None
    work()
    assert migrating._advance(move.id, now=NOW) is False


def test_one_that_always_fails_keeps_nobody_waiting(old: PlanVersion, meter: Meter) -> None:
    first, second, new = two_customers(old, meter)
    first.phases.all().delete()  # nothing can be done with such a subscription
    migration = order(old, new, ChangeWhen.NOW)
    assert (work(limit=1), work(limit=1)) == (1, 1)
    assert outcomes(migration) == ["refused", "moved"]
    told = migration.moves.order_by("id")[0]
    assert told.detail == "It failed (DoesNotExist): look into the log."
    assert (fresh(migration).status, fresh(first).version) == ("done", old)
    assert fresh(second).version == new


def test_seats_that_came_with_the_turn_stay(meter: Meter) -> None:
    seats = {"included": 1, "price": {"model": "per_unit", "unit_price": "10"}}
    old = a_plan(key="team", fee=2_000, seats=seats)
    subscription = a_subscription(old, seats=2)
    terms = VersionTerms(fee=5_000, seats=seats)
    new = catalogue.new_version(old.plan_id, terms=terms, activate=True, actor=ACTOR, now=START)
    migration = order(old, new)
    work()
    change_seats(subscription.id, seats=4, when=ChangeWhen.PERIOD_END, actor=ACTOR, now=NOW)
    closing.close_due(now=NOVEMBER, limit=10)
    assert (fresh(subscription).version, fresh(subscription).seats) == (new, 4)

    migrating.revert_migration(migration.id, actor=ACTOR, now=NOVEMBER + DAY)
    work(now=NOVEMBER + DAY)

    assert outcomes(migration) == ["reverted"]
    phases = subscription.phases.order_by("start_at").values_list("version", "seats", "end_at")
    assert list(phases) == [(old.id, 2, NOVEMBER), (old.id, 4, None)]
    assert (fresh(subscription).version, fresh(subscription).seats) == (old, 4)
    assert bill(subscription, now=DECEMBER + DAY).total == 2_000 + 3 * 1_000


def test_moving_back_is_audited_as_moving_is(old: PlanVersion, meter: Meter) -> None:
    first, second, new = two_customers(old, meter)
    for subscription, when in ((first, ChangeWhen.NOW), (second, ChangeWhen.PERIOD_END)):
        migration = order(old, new, when, customer_ids=[subscription.customer_id])
        work()
        migrating.revert_migration(migration.id, actor=ACTOR, now=NOW + DAY)
        work(now=NOW + DAY)
        told = AuditEntry.objects.filter(
            action="subscription.plan_changed", subject=subscription.public_id
        ).order_by("id")
        back = told[1].changes
        assert (told.count(), back["to"]) == (2, old.public_id)
        assert back["when"] == ("reverted" if when is ChangeWhen.NOW else "taken_back")
