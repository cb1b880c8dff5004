"""Writing down who changed what."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

import structlog

from accounts.models import AuditEntry


@dataclass(frozen=True, slots=True)
class Audited:
    """What was changed of one subject."""

    subject: str
    customer_id: int | None = None
    changes: Mapping[str, object] = field(default_factory=dict)


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
    entry = Audited(subject, customer_id, changes or {})
    audit_all([entry], actor=actor, action=action, now=now, request_id=request_id)


def audit_all(
    entries: Iterable[Audited], *, actor: str, action: str, now: datetime, request_id: str = ""
) -> None:
    """`audit` the same action on several subjects."""
    bound = structlog.contextvars.get_contextvars().get("request_id", "")
    AuditEntry.objects.bulk_create(
        AuditEntry(
            at=now,
            actor=actor,
            action=action,
            subject=each.subject,
            customer_id=each.customer_id,
            changes=dict(each.changes),
            request_id=(request_id or str(bound))[:200],
        )
        for each in entries
    )
