"""Writing down that something still lives."""

from __future__ import annotations

from datetime import datetime

from accounts.models import Heartbeat


def beat(name: str, *, now: datetime) -> None:
    """Keep the time of the last sign of life under this name."""
    Heartbeat.objects.update_or_create(name=name, defaults={"at": now})


def forget(name: str) -> None:
    """Let it count as not alive until it gives a sign again."""
    Heartbeat.objects.filter(name=name).delete()
