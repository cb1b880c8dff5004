"""Workers and webhooks at the same time, on a real database."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from threading import Event

import pytest
from django.db import OperationalError, connection, transaction

from billing.domain import ledger
from billing.domain.plan_changes import ChangeWhen
from billing.models import Invoice, LedgerPosting, PlanMigration, Subscription
from billing.operations import catalogue, checking, closing, collecting, issuing, migrating
from billing.operations.locking import lock_customer
from billing.operations.plan_shapes import VersionTerms
from billing.operations.posting import post
from billing.operations.subscribing import AlreadySubscribed, subscribe
from tests.factories.accounts import a_customer
from tests.factories.billing import ACTOR, NOW, START, a_plan, a_subscription, fresh
from tests.factories.threads import at_once, someone_waits_for_me

pytestmark = pytest.mark.django_db(transaction=True)

NOVEMBER = datetime(2026, 11, 2, tzinfo=UTC)


def test_two_workers_close_and_issue_each_period_once() -> None:
    version = a_plan()
    for _ in range(6):
        a_subscription(version)

    closed = at_once([lambda: closing.close_due(now=NOVEMBER, limit=10)] * 2)
    closing.close_due(now=NOVEMBER, limit=10)  # what a lock made them pass over
    issued = at_once([lambda: issuing.issue_due(now=NOVEMBER, limit=10)] * 2)
    issuing.issue_due(now=NOVEMBER, limit=10)

    assert 1 <= sum(closed) <= 6
    assert 1 <= sum(issued) <= 6
    invoices = Invoice.objects.order_by("number")
    assert [invoice.number for invoice in invoices] == [f"INV-{n:06d}" for n in range(1, 7)]
    assert LedgerPosting.objects.count() == 6
    assert checking.broken_invariants(now=NOVEMBER) == []


def test_worker_passes_over_a_customer_that_is_busy() -> None:
    subscription = a_subscription()
    with transaction.atomic():
        lock_customer(subscription.customer_id)
        assert at_once([lambda: closing.close_due(now=NOVEMBER, limit=10)]) == [0]
    assert closing.close_due(now=NOVEMBER, limit=10) == 1


def test_payment_that_is_told_twice_at_once_is_posted_once() -> None:
    a_subscription()
    closing.close_due(now=NOVEMBER, limit=10)
    issuing.issue_due(now=NOVEMBER, limit=10)
    invoice = Invoice.objects.get()

    def tell() -> Invoice:
        return collecting.mark_paid(
            invoice.id, amount_paid=2_000, reference="pi_1", attempt=1, now=NOVEMBER
        )

    at_once([tell] * 4)

    assert LedgerPosting.objects.filter(kind="payment_received").count() == 1
    assert fresh(invoice).amount_paid == 2_000


def test_payment_and_failure_at_once_end_paid() -> None:
    subscription = a_subscription()
    closing.close_due(now=NOVEMBER, limit=10)
    issuing.issue_due(now=NOVEMBER, limit=10)
    invoice = Invoice.objects.get()
    reports: list[Callable[[], Invoice]] = [
        lambda: collecting.mark_paid(
            invoice.id, amount_paid=2_000, reference="pi_1", attempt=2, now=NOVEMBER
        ),
        lambda: collecting.mark_payment_failed(
            invoice.id, attempt=1, code="declined", now=NOVEMBER
        ),
    ]
    at_once(reports)
    assert (fresh(invoice).status, fresh(subscription).status) == ("paid", "active")
    assert checking.broken_invariants(now=NOVEMBER) == []


def test_customer_subscribes_once() -> None:
    customer, version = a_customer(), a_plan(fee=0)

    def attempt() -> bool:
        try:
            subscribe(customer.id, plan=version.plan.key, start_at=START, actor=ACTOR, now=NOW)
        except AlreadySubscribed:
            return False
        return True

    assert sorted(at_once([attempt] * 3)) == [False, False, True]
    assert Subscription.objects.count() == 1


def test_posting_of_one_key_at_once() -> None:
    customer = a_customer()
    posting = ledger.wallet_top_up(5, currency="usd")

    def attempt() -> bool:
        return post(posting, key="k", customer_id=customer.id, occurred_at=NOW, now=NOW)

    assert sorted(at_once([attempt] * 3)) == [False, False, True]


def a_migration(when: ChangeWhen = ChangeWhen.PERIOD_END) -> PlanMigration:
    """An order to move one subscription to a new version of its plan."""
    old = a_subscription().version
    new = catalogue.new_version(
        old.plan_id, terms=VersionTerms(fee=3_000), activate=True, actor=ACTOR, now=START
    )
    return migrating.start_migration(old.id, target_id=new.id, when=when, actor=ACTOR, now=NOW)


def test_a_migration_ordered_back_while_it_is_finished_is_moved_back() -> None:
    migration = a_migration()
    migrating.advance_migrations(now=NOW, limit=10)
    PlanMigration.objects.update(status="running", finished_at=None)  # a worker died before that
    ordered = Event()

    def order_back() -> int:
        with transaction.atomic():
            migrating.revert_migration(migration.id, actor=ACTOR, now=NOW)
            ordered.set()
            for _ in range(1_000):
                if someone_waits_for_me():
                    break
            else:
                raise AssertionError("the one that finishes it waits for nobody")
        return 0

    def finish() -> int:
        assert ordered.wait(timeout=30)
        return migrating.advance_migrations(now=NOW, limit=10)

    at_once([order_back, finish])

    assert fresh(migration).status == "reverting"
    migrating.advance_migrations(now=NOW, limit=10)
    assert fresh(migration).status == "reverted"
    assert Subscription.objects.get().pending_version is None


def test_a_move_that_the_database_breaks_off_is_tried_again() -> None:
    migration = a_migration()
    move = migration.moves.get()

    def impatient() -> bool:
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("SET LOCAL lock_timeout = '10ms'")
            return migrating._advance(move.id, now=NOW)

    with transaction.atomic():
        lock_customer(move.customer_id)
        with pytest.raises(OperationalError):
            at_once([impatient])
    assert (fresh(move).due, fresh(move).outcome) == (True, "pending")
    assert migrating.advance_migrations(now=NOW, limit=10) == 1
