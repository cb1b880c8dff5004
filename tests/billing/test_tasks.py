"""Every task of the beat table runs, and finds nothing to do in an empty house."""

from __future__ import annotations

import pytest

from billing import tasks
from config.celery import BEAT, app


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
