"""Writing down who changed what."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import structlog

from accounts.models import AuditEntry


def audit(
    *,
    actor: str,
    action: str,
    subject: str,
    customer_id: int | None = None,
    changes: Mapping[str, object] | None = None,
    now: datetime,
    request_id: str = "",
) -> None:
    """Keep one audit entry; called inside the transaction that makes the change.

    `changes` must be JSON and hold no secrets. Without `request_id` the one bound to the logs is
    taken, so that an entry leads to the lines of its request.
    """
    bound = structlog.contextvars.get_contextvars().get("request_id", "")
    AuditEntry.objects.create(
        at=now,
        actor=actor,
        action=action,
        subject=subject,
        customer_id=customer_id,
        changes=dict(changes or {}),
        request_id=(request_id or str(bound))[:200],
    )
