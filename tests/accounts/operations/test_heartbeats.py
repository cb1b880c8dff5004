"""Signs of life."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from accounts.models import Heartbeat
from accounts.operations.heartbeats import beat, forget

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
pytestmark = pytest.mark.django_db


def test_only_the_last_sign_of_each_name_is_kept() -> None:
    beat("worker", now=NOW)
    beat("other", now=NOW)

    beat("worker", now=NOW + timedelta(seconds=15))

    kept = dict(Heartbeat.objects.values_list("name", "at"))
    assert kept == {"worker": NOW + timedelta(seconds=15), "other": NOW}


def test_what_is_forgotten_counts_as_not_alive() -> None:
    beat("worker", now=NOW)
    beat("other", now=NOW)

    forget("worker")
    forget("worker")

    assert list(Heartbeat.objects.values_list("name", flat=True)) == ["other"]
