"""Events in quarantine for tests, as the gate keeps them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from metering.domain.counting import event_key
from metering.models import QuarantinedEvent
from tests.factories.metering import NOW

EARLIER = NOW - timedelta(hours=2)


def quarantined(number: int = 1, **fields: Any) -> QuarantinedEvent:
    """An event of `later` that was refused two hours ago because no meter counted it."""
    given: dict[str, Any] = {
        "digest": UUID(int=number),
        "event_id": event_key("app", f"event-{number}"),
        "size": 300,
        "subject": "later",
        "source": "app",
        "external_id": f"event-{number}",
        "type": "new.thing",
        "properties": {"tokens": 5, "model": "m-1"},
        "code": "meter_unknown",
        "detail": "No meter counts it.",
        "first_at": EARLIER,
        "last_at": EARLIER,
        **fields,
    }
    return QuarantinedEvent.objects.create(**given)
