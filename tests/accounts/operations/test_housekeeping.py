"""Heartbeats, forgetting, and the audit's own row."""

from __future__ import annotations

from datetime import timedelta

import pytest
import structlog

from accounts.models import AuditEntry, Heartbeat, IdempotentRequest
from accounts.operations.auditing import audit
from accounts.operations.forgetting import forget_idempotent_requests
from accounts.operations.heartbeats import beat, forget
from accounts.tasks import forget_idempotent_requests as forgetting_task
from config.tasks import beat_heart
from tests.factories.accounts import NOW

pytestmark = pytest.mark.django_db


def test_the_last_beat_is_kept() -> None:
    for minutes in range(3):
        beat("worker", now=NOW + timedelta(minutes=minutes))
    assert Heartbeat.objects.get().at == NOW + timedelta(minutes=2)
    forget("worker")
    assert not Heartbeat.objects.exists()


def test_the_worker_beats() -> None:
    beat_heart()
    assert Heartbeat.objects.get().name == "worker"


def test_kept_answers_are_forgotten_after_31_days_a_few_at_a_time() -> None:
    for days in range(28, 36):
        IdempotentRequest.objects.create(
            caller="opk_x", key=str(days), fingerprint=b"", created_at=NOW - timedelta(days=days)
        )
    assert forget_idempotent_requests(now=NOW, limit=3) == 3
    assert forget_idempotent_requests(now=NOW, limit=3) == 1
    assert forget_idempotent_requests(now=NOW, limit=3) == 0
    assert sorted(IdempotentRequest.objects.values_list("key", flat=True)) == [
        "28",
        "29",
        "30",
        "31",
    ]
    assert forgetting_task() >= 0


def test_an_entry_leads_to_the_logs_of_its_request() -> None:
    with structlog.contextvars.bound_contextvars(request_id="req_1"):
        audit(actor="system", action="x.bound", subject="x", now=NOW)
        audit(actor="system", action="x.given", subject="x", now=NOW, request_id="req_2")
    audit(actor="system", action="x.none", subject="x", now=NOW, changes={"a": 1})
    found = dict(AuditEntry.objects.values_list("action", "request_id"))
    assert found == {"x.bound": "req_1", "x.given": "req_2", "x.none": ""}
