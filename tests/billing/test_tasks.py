"""Every task of the beat table runs, and finds nothing to do in an empty house."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from billing import tasks
from billing.models import Invoice
from config.celery import BEAT, app
from tests.factories.billing import a_plan, a_subscription

LONG_AGO = datetime(2024, 1, 1, tzinfo=UTC)


@pytest.mark.django_db
@pytest.mark.parametrize(
    "task",
    [
        tasks.advance_subscriptions,
        tasks.close_periods,
        tasks.issue_invoices,
        tasks.migrate_customers,
        tasks.advance_dunning,
        tasks.check_invariants,
    ],
)
def test_task_runs_and_takes_unknown_arguments(task: object) -> None:
    assert callable(task)
    assert task(of_a_later_version=True) is None


def test_every_billing_task_of_the_beat_exists() -> None:
    named = {name for name in BEAT if name.startswith("billing.")}
    assert named == {name for name in app.tasks if name.startswith("billing.")}


@pytest.mark.django_db
def test_one_run_closes_more_than_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "BATCH", 2)
    version = a_plan(interval="year", now=LONG_AGO)
    for _ in range(3):
        a_subscription(version, start_at=LONG_AGO, now=LONG_AGO)
    tasks.close_periods()
    assert Invoice.objects.values("subscription").distinct().count() == 3
    tasks.issue_invoices()
    assert not Invoice.objects.filter(status="draft").exists()
