"""The worker's sign of life."""

from __future__ import annotations

from datetime import UTC, datetime

from celery import shared_task

from accounts.operations.heartbeats import beat

WORKER = "worker"


@shared_task(name="config.beat_heart")
def beat_heart() -> None:
    """Write that beat, broker and worker all work; /readyz reads it."""
    beat(WORKER, now=datetime.now(UTC))
